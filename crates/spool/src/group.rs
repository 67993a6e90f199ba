//! The group that gathers records, and the pool of buffers that groups are made of.

use mail::MessageId;
use ring::{AlignedBuffer, Handle};

use crate::format::{GroupHeader, HEADER_BYTES, padded};
use crate::{MessageKey, record};

/// Buffers grow through these sizes, so that one that comes back fits the next group.
const CLASS_BYTES: [usize; 7] = [16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20, 17 << 20];

/// Idle buffers of a shard; past this they go back to the allocator.
const POOL_BYTES_MAX: usize = 16 << 20;

/// Buffers that wait for their next use.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Vec<AlignedBuffer>,
    idle_bytes: usize,
}

impl Pool {
    /// A buffer of at least `bytes`; its content is whatever it was.
    pub(crate) fn take(&mut self, bytes: usize) -> AlignedBuffer {
        let class = class_of(bytes);
        // The smallest that fits: a large one is worth keeping for a large group.
        let fitting = (0..self.idle.len())
            .filter(|&index| self.idle[index].len() >= bytes && self.idle[index].len() <= class)
            .min_by_key(|&index| self.idle[index].len());
        match fitting {
            Some(index) => {
                let buffer = self.idle.swap_remove(index);
                self.idle_bytes -= buffer.len();
                buffer
            }
            None => AlignedBuffer::zeroed(class),
        }
    }

    pub(crate) fn give_back(&mut self, buffer: AlignedBuffer) {
        if !buffer.is_empty() && self.idle_bytes + buffer.len() <= POOL_BYTES_MAX {
            self.idle_bytes += buffer.len();
            self.idle.push(buffer);
        }
    }
}

fn class_of(bytes: usize) -> usize {
    CLASS_BYTES.into_iter().find(|&class| class >= bytes).unwrap_or_else(|| padded(bytes as u64) as usize)
}

/// The bytes of a group that is still open.
#[derive(Debug, Default)]
pub(crate) struct GroupBuffer {
    buffer: AlignedBuffer,
    /// Header and records so far.
    length: usize,
    records: u32,
    /// What a footer will repeat of its records.
    outline_bytes: usize,
}

impl GroupBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Its length on disk if `bytes` more of records came in.
    pub(crate) fn disk_bytes_with(&self, bytes: usize) -> u64 {
        padded((self.length.max(HEADER_BYTES) + bytes) as u64)
    }

    /// How many records it has, and what a footer will repeat of them.
    pub(crate) fn outlines(&self) -> (usize, usize) {
        (self.records as usize, self.outline_bytes)
    }

    /// Puts a record that was read from a segment.
    pub(crate) fn put_copy(&mut self, record: &[u8]) -> usize {
        let start = self.length;
        self.put(record);
        self.records += 1;
        self.outline_bytes += record::outline_length(record);
        start
    }

    /// Makes room for `bytes` more, so that putting them does not grow the buffer piecemeal.
    pub(crate) fn reserve(&mut self, bytes: usize, pool: &mut Pool) {
        self.length = self.length.max(HEADER_BYTES);
        let needed = padded((self.length + bytes) as u64) as usize;
        if needed > self.buffer.len() {
            let mut larger = pool.take(needed);
            larger[..self.buffer.len().min(self.length)]
                .copy_from_slice(&self.buffer[..self.length.min(self.buffer.len())]);
            pool.give_back(std::mem::replace(&mut self.buffer, larger));
        }
    }

    /// Puts a record of these fields, and of a message its content; gives where it begins and its length.
    pub(crate) fn put_record(
        &mut self,
        kind: u8,
        id: MessageId,
        fields: &[u8],
        content: &[&[u8]],
    ) -> (usize, usize) {
        let start = self.length;
        self.length += record::HEADER_BYTES;
        self.put(fields);
        content.iter().for_each(|part| self.put(part));
        record::write_header(&mut self.buffer[start..self.length], kind, id, fields.len());
        self.records += 1;
        self.outline_bytes += record::outline_bytes(fields);
        (start, self.length - start)
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.buffer[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }

    /// The bytes of a record that was put.
    #[cfg(any(test, feature = "mutants"))]
    pub(crate) fn bytes(&self, start: usize, length: usize) -> &[u8] {
        &self.buffer[start..start + length]
    }

    /// Writes header and padding and gives the buffer away; the next group starts empty.
    pub(crate) fn seal(&mut self, header: GroupHeader) -> (AlignedBuffer, GroupHeader) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let (length, records) = (self.length, self.records);
        (self.length, self.records, self.outline_bytes) = (0, 0, 0);
        let mut header = GroupHeader {
            length: (length - HEADER_BYTES) as u32,
            records,
            records_crc: crc32c::crc32c(&buffer[HEADER_BYTES..length]),
            ..header
        };
        buffer[length..padded(length as u64) as usize].fill(0);
        header.crc = header.write(&mut buffer);
        (buffer, header)
    }
}

/// The records of a sealed group: where each begins and its bytes.
pub(crate) fn records<'a>(group: &'a [u8], header: &GroupHeader) -> impl Iterator<Item = (usize, &'a [u8])> {
    let end = HEADER_BYTES + header.length as usize;
    let mut at = HEADER_BYTES;
    std::iter::from_fn(move || {
        (at < end).then_some(())?;
        let start = at;
        at += record::length_of(&group[start..]);
        Some((start, &group[start..at]))
    })
}

/// What the end of a group's write means for the index.
#[derive(Debug, Default)]
pub(crate) struct GroupEffects {
    /// Messages in it, each with the waiter for its 250.
    pub(crate) messages: Vec<(MessageKey, Option<Handle>)>,
    /// Messages, committed before, about which it holds an outcome.
    pub(crate) outcomes: Vec<MessageKey>,
    /// Messages, committed before, that it holds or releases: those records outlive their segment's other use.
    pub(crate) holds: Vec<MessageKey>,
    /// Whom each of its records is about, in their order; none of ours for a copied outcome.
    pub(crate) records: Vec<Option<MessageKey>>,
    /// Messages of which it holds a copy, with the place of the copy in the group.
    pub(crate) copies: Vec<(MessageKey, u32)>,
    /// The segment from which it holds copied outcomes.
    pub(crate) emptied: Option<u32>,
    /// A client waits for it, or it must not be lost: it is written without delay.
    pub(crate) urgent: bool,
}

impl GroupEffects {
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.outcomes.clear();
        self.holds.clear();
        self.records.clear();
        self.copies.clear();
        self.emptied = None;
        self.urgent = false;
    }
}
