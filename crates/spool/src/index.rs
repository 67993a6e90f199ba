//! What stays in memory for each queued message: where its record lies and who still waits for it.

use std::collections::HashMap;

use mail::{MessageId, UnixMillis};

use crate::place::GENERATION_MASK;
use crate::{HELD, MessageKey, Outcome};

/// What the spool keeps for each queued message of up to 64 recipients; more take two bits each. The
/// schedule above it has the rest of the 128 bytes a message may cost.
pub const MEMORY_PER_MESSAGE_BYTES_MAX: usize = 80;

const _: () = assert!(size_of::<Slot>() <= MEMORY_PER_MESSAGE_BYTES_MAX);

/// The segment of a message whose group is not yet on its way.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// One queued message.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Index of its segment.
    pub(crate) segment: u32,
    /// Where its record lies: in the segment once its group is sealed, in the group before.
    pub(crate) offset: u32,
    pub(crate) length: u32,
    /// Its offset in its group's buffer, while that is in memory.
    pub(crate) in_group: u32,
    /// The number of its group among those kept in memory.
    pub(crate) group: u64,
    pub(crate) recipients: Recipients,
    pub(crate) deferral: Deferral,
    /// Outcome records of it that are not durable yet.
    pub(crate) outcomes_open: u16,
    pub(crate) id: [u8; 10],
    /// It has a body in a file of its own: see [`Index::large`].
    pub(crate) is_large: bool,
    /// Another segment may still hold a record of it, from which compaction copied this one.
    pub(crate) is_copy: bool,
}

impl Entry {
    pub(crate) fn id(&self) -> MessageId {
        MessageId::from_bytes(self.id)
    }
}

/// The latest that was noted of a message's attempts, for the record's next copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deferral {
    /// Seconds since 1970; 0 for none, [`HELD_S`] while an operator holds the message.
    until_s: u32,
    pub(crate) attempts: u16,
    /// An attempt was noted and nothing after it.
    pub(crate) is_under_way: bool,
    /// Something was noted that the next copy must say again.
    pub(crate) is_noted: bool,
}

const HELD_S: u32 = u32::MAX;

impl Deferral {
    pub(crate) fn until(until: UnixMillis, attempts: u16) -> Self {
        let until_s = if until == HELD {
            HELD_S
        } else {
            // Rounded up: never before the time that was noted.
            u32::try_from(until.0.div_ceil(1000)).map_or(HELD_S - 1, |until| until.min(HELD_S - 1))
        };
        Self { until_s, attempts, is_under_way: false, is_noted: true }
    }

    pub(crate) fn time(self) -> UnixMillis {
        if self.until_s == HELD_S { HELD } else { UnixMillis(u64::from(self.until_s) * 1000) }
    }
}

/// The recipients that have no outcome yet, and those whose outcome was no delivery.
#[derive(Debug)]
pub(crate) enum Recipients {
    Few { pending: u64, failed: u64 },
    Many(Box<Many>),
}

#[derive(Debug)]
pub(crate) struct Many {
    pending: Box<[u64]>,
    failed: Box<[u64]>,
}

impl Recipients {
    pub(crate) fn pending(count: usize) -> Self {
        let word = |count: usize| if count >= 64 { u64::MAX } else { (1 << count) - 1 };
        if count <= 64 {
            return Self::Few { pending: word(count), failed: 0 };
        }
        let pending: Box<[u64]> = (0..count.div_ceil(64)).map(|index| word(count - index * 64)).collect();
        let failed = vec![0; pending.len()].into();
        Self::Many(Box::new(Many { pending, failed }))
    }

    /// Notes an outcome; false when the recipient had one already.
    pub(crate) fn settle(&mut self, recipient: u16, outcome: Outcome) -> bool {
        let (index, bit) = place(recipient);
        let (pending, failed) = match self {
            Self::Few { pending, failed } => (std::slice::from_mut(pending), std::slice::from_mut(failed)),
            Self::Many(many) => (&mut *many.pending, &mut *many.failed),
        };
        let (Some(pending), Some(failed)) = (pending.get_mut(index), failed.get_mut(index)) else {
            return false;
        };
        let was_pending = *pending & bit != 0;
        if was_pending && outcome != Outcome::Delivered {
            *failed |= bit;
        }
        *pending &= !bit;
        was_pending
    }

    pub(crate) fn is_pending(&self, recipient: u16) -> bool {
        let (index, bit) = place(recipient);
        self.words().0.get(index).is_some_and(|word| word & bit != 0)
    }

    /// What became of a recipient that is not pending; expiry is remembered as failure.
    pub(crate) fn outcome(&self, recipient: u16) -> Option<Outcome> {
        let (index, bit) = place(recipient);
        let (pending, failed) = self.words();
        (pending.get(index)? & bit == 0).then_some(())?;
        Some(if failed[index] & bit == 0 { Outcome::Delivered } else { Outcome::Failed })
    }

    pub(crate) fn all_settled(&self) -> bool {
        self.words().0.iter().all(|&word| word == 0)
    }

    fn words(&self) -> (&[u64], &[u64]) {
        match self {
            Self::Few { pending, failed } => (std::slice::from_ref(pending), std::slice::from_ref(failed)),
            Self::Many(many) => (&many.pending, &many.failed),
        }
    }
}

fn place(recipient: u16) -> (usize, u64) {
    (usize::from(recipient / 64), 1 << (recipient % 64))
}

#[derive(Debug)]
struct Slot {
    entry: Option<Entry>,
    generation: u32,
}

/// The queued messages of a shard.
#[derive(Debug, Default)]
pub(crate) struct Index {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The numbers of the bodies that lie in files of their own: few have one.
    large: HashMap<u32, u64>,
}

impl Index {
    /// `large`: the number of its body's file, where it has one.
    pub(crate) fn insert(&mut self, entry: Entry, large: Option<u64>) -> MessageKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { entry: None, generation: 0 });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.entry = Some(entry);
        if let Some(number) = large {
            self.large.insert(index, number);
        }
        MessageKey(u64::from(slot.generation) << 32 | u64::from(index))
    }

    pub(crate) fn get(&self, key: MessageKey) -> Option<&Entry> {
        let slot = self.slots.get(key.0 as u32 as usize)?;
        slot.entry.as_ref().filter(|_| u64::from(slot.generation) == key.0 >> 32)
    }

    pub(crate) fn get_mut(&mut self, key: MessageKey) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(key.0 as u32 as usize)?;
        slot.entry.as_mut().filter(|_| u64::from(slot.generation) == key.0 >> 32)
    }

    /// Also gives the number of its body's file, where it has one.
    pub(crate) fn remove(&mut self, key: MessageKey) -> Option<(Entry, Option<u64>)> {
        let is_large = self.get(key)?.is_large;
        let index = key.0 as u32;
        let large = if is_large { self.large.remove(&index) } else { None };
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(index);
        Some((slot.entry.take()?, large))
    }

    /// The bodies that lie in files of their own, and the messages that name them.
    pub(crate) fn large_bodies(&self) -> impl Iterator<Item = (u64, MessageId)> {
        let named = self.large.iter();
        named.filter_map(|(&slot, &number)| Some((number, self.slots[slot as usize].entry.as_ref()?.id())))
    }

    /// Slots, those that are free included: where a walk through all messages ends.
    pub(crate) fn slot_count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The message in a slot, with its key.
    pub(crate) fn at(&self, slot: u32) -> Option<(MessageKey, &Entry)> {
        let Slot { entry, generation } = self.slots.get(slot as usize)?;
        Some((MessageKey(u64::from(*generation) << 32 | u64::from(slot)), entry.as_ref()?))
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_settled_once() {
        for count in [1, 63, 64, 65, 10_000] {
            let mut recipients = Recipients::pending(count);
            assert!(!recipients.settle(count as u16, Outcome::Delivered));
            for recipient in 0..count as u16 {
                assert!(!recipients.all_settled());
                assert!(recipients.is_pending(recipient) && recipients.outcome(recipient).is_none());
                let outcome = if recipient % 3 == 0 { Outcome::Failed } else { Outcome::Delivered };
                assert!(recipients.settle(recipient, outcome));
                assert!(!recipients.settle(recipient, Outcome::Expired));
                assert_eq!(recipients.outcome(recipient), Some(outcome));
            }
            assert!(recipients.all_settled());
        }
    }

    #[test]
    fn a_deferral_is_never_shortened() {
        for (until, kept) in [(0, 0), (1, 1000), (1000, 1000), (1_795_390_496_123, 1_795_390_497_000)] {
            assert_eq!(Deferral::until(UnixMillis(until), 3).time(), UnixMillis(kept));
        }
        assert_eq!(Deferral::until(HELD, 3).time(), HELD);
        assert_ne!(Deferral::until(UnixMillis(u64::MAX - 1), 3).time(), HELD);
    }
}
