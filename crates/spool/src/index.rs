//! What stays in memory for each queued message: where its record lies and who still waits for it.

use std::collections::HashMap;

use mail::{MessageId, UnixMillis};
use ring::{Arena, Handle};

use crate::record::Fields;
use crate::replies::{Replies, ReplyIx};
use crate::{HELD, MessageKey, Outcome};

/// What the spool keeps for each queued message of up to 32 recipients; more take two bits each. The
/// schedule above it has the rest of the 128 bytes a message may cost.
pub const MEMORY_PER_MESSAGE_BYTES_MAX: usize = 64;

const _: () = assert!(Arena::<Entry>::ENTRY_BYTES <= MEMORY_PER_MESSAGE_BYTES_MAX);

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
    /// The number of its group among those kept in memory: see [`crate::hot::Hot`].
    pub(crate) group: u32,
    pub(crate) recipients: Recipients,
    pub(crate) deferral: Deferral,
    /// Outcome records of it that are not durable yet.
    pub(crate) outcomes_open: u16,
    /// What was last said of its recipients, for the same.
    pub(crate) reply: ReplyIx,
    pub(crate) id: [u8; 10],
    /// It has a body in a separate file: see [`Index::large`].
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
    Few { pending: u32, failed: u32 },
    Many(Box<Many>),
}

#[derive(Debug)]
pub(crate) struct Many {
    pending: Box<[u32]>,
    failed: Box<[u32]>,
}

impl Recipients {
    pub(crate) fn pending(count: usize) -> Self {
        let word = |count: usize| if count >= BITS { u32::MAX } else { (1 << count) - 1 };
        if count <= BITS {
            return Self::Few { pending: word(count), failed: 0 };
        }
        let pending: Box<[u32]> = (0..count.div_ceil(BITS)).map(|index| word(count - index * BITS)).collect();
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

    /// Those without an outcome, ascending.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = u16> + Clone {
        let words = (0_usize..).step_by(BITS).zip(self.words().0);
        words.flat_map(|(first, &word)| {
            let bits = (0..BITS).filter(move |bit| word & 1 << bit != 0);
            bits.map(move |bit| (first + bit) as u16)
        })
    }

    fn words(&self) -> (&[u32], &[u32]) {
        match self {
            Self::Few { pending, failed } => (std::slice::from_ref(pending), std::slice::from_ref(failed)),
            Self::Many(many) => (&many.pending, &many.failed),
        }
    }
}

/// Recipients of one word.
const BITS: usize = u32::BITS as usize;

fn place(recipient: u16) -> (usize, u32) {
    let recipient = usize::from(recipient);
    (recipient / BITS, 1 << (recipient % BITS))
}

/// The queued messages of a shard.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: Arena<Entry>,
    /// The numbers of the bodies that lie in files of their own, by the messages' slots: few have one.
    large: HashMap<u32, u64>,
    pub(crate) replies: Replies,
}

impl Index {
    /// `large`: the number of its body's file, where it has one.
    pub(crate) fn insert(&mut self, entry: Entry, large: Option<u64>) -> MessageKey {
        let handle = self.entries.insert(entry);
        if let Some(number) = large {
            self.large.insert(handle.index(), number);
        }
        MessageKey(handle.to_bits())
    }

    pub(crate) fn get(&self, key: MessageKey) -> Option<&Entry> {
        self.entries.get(Handle::from_bits(key.0))
    }

    pub(crate) fn get_mut(&mut self, key: MessageKey) -> Option<&mut Entry> {
        self.entries.get_mut(Handle::from_bits(key.0))
    }

    /// Notes what the fields of a record say to its recipients.
    pub(crate) fn note_said(
        &mut self,
        key: MessageKey,
        fields: Fields<'_>,
        recipients: impl Iterator<Item = u16> + Clone,
    ) {
        let Some(entry) = self.entries.get_mut(Handle::from_bits(key.0)) else { return };
        entry.reply = self.replies.note(entry.reply, fields, recipients, entry.recipients.waiting());
    }

    /// Also gives the number of its body's file, where it has one.
    pub(crate) fn remove(&mut self, key: MessageKey) -> Option<(Entry, Option<u64>)> {
        let handle = Handle::from_bits(key.0);
        let entry = self.entries.remove(handle)?;
        self.replies.release(entry.reply);
        let large = if entry.is_large { self.large.remove(&handle.index()) } else { None };
        Some((entry, large))
    }

    /// The bodies that lie in separate files, and the messages that name them.
    pub(crate) fn large_bodies(&self) -> impl Iterator<Item = (u64, MessageId)> {
        let named = self.large.iter();
        named.filter_map(|(&slot, &number)| Some((number, self.at(slot)?.1.id())))
    }

    /// Slots, those that are free included: where a walk through all messages ends.
    pub(crate) fn slot_count(&self) -> u32 {
        self.entries.end()
    }

    /// The message in a slot, with its key.
    pub(crate) fn at(&self, slot: u32) -> Option<(MessageKey, &Entry)> {
        let (handle, entry) = self.entries.at(slot)?;
        Some((MessageKey(handle.to_bits()), entry))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_settled_once() {
        for count in [1, 31, 32, 33, 64, 10_000] {
            let mut recipients = Recipients::pending(count);
            assert!(!recipients.settle(count as u16, Outcome::Delivered));
            for recipient in 0..count as u16 {
                assert!(!recipients.all_settled());
                assert_eq!(recipients.outcome(recipient), None);
                assert_eq!(recipients.waiting().next(), Some(recipient));
                assert_eq!(recipients.waiting().count(), count - usize::from(recipient));
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
