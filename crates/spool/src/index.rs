//! What stays in memory for each queued message: where its record lies and who still waits for it.

use mail::MessageId;

use crate::MessageKey;

/// What the spool keeps for each queued message of up to 64 recipients; more take a bit each. The
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
    /// Its large file; 0 for none.
    pub(crate) large: u64,
    pub(crate) pending: Pending,
    pub(crate) id: [u8; 10],
    /// Outcome records of it that are not durable yet.
    pub(crate) outcomes_open: u16,
}

impl Entry {
    pub(crate) fn id(&self) -> MessageId {
        MessageId::from_bytes(self.id)
    }
}

/// The recipients that have no outcome yet.
#[derive(Debug)]
pub(crate) enum Pending {
    Few(u64),
    Many(Box<[u64]>),
}

impl Pending {
    pub(crate) fn all(recipients: usize) -> Self {
        let word = |count: usize| if count >= 64 { u64::MAX } else { (1 << count) - 1 };
        if recipients <= 64 {
            return Self::Few(word(recipients));
        }
        Self::Many((0..recipients.div_ceil(64)).map(|index| word(recipients - index * 64)).collect())
    }

    /// Takes a recipient out; false when it was not in.
    pub(crate) fn clear(&mut self, recipient: u16) -> bool {
        let (word, bit) = (usize::from(recipient / 64), 1 << (recipient % 64));
        let Some(word) = self.words_mut().get_mut(word) else { return false };
        let was = *word & bit != 0;
        *word &= !bit;
        was
    }

    pub(crate) fn contains(&self, recipient: u16) -> bool {
        let words = self.words();
        words.get(usize::from(recipient / 64)).is_some_and(|word| word & 1 << (recipient % 64) != 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words().iter().all(|&word| word == 0)
    }

    fn words(&self) -> &[u64] {
        match self {
            Self::Few(word) => std::slice::from_ref(word),
            Self::Many(words) => words,
        }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Few(word) => std::slice::from_mut(word),
            Self::Many(words) => words,
        }
    }
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
}

impl Index {
    pub(crate) fn insert(&mut self, entry: Entry) -> MessageKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { entry: None, generation: 0 });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.entry = Some(entry);
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

    pub(crate) fn remove(&mut self, key: MessageKey) -> Option<Entry> {
        self.get(key)?;
        let index = key.0 as u32;
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        slot.entry.take()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_leaves_once() {
        for recipients in [1, 63, 64, 65, 10_000] {
            let mut pending = Pending::all(recipients);
            assert!(!pending.clear(recipients as u16));
            for recipient in 0..recipients as u16 {
                assert!(!pending.is_empty());
                assert!(pending.clear(recipient));
                assert!(!pending.clear(recipient));
            }
            assert!(pending.is_empty());
        }
    }
}
