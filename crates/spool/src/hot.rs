//! Groups that stay in memory after their write, so that mail is sent from where it was received.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use ring::SharedBuffer;

use crate::group::Pool;
use crate::index::Entry;

#[derive(Debug)]
struct HotGroup {
    buffer: SharedBuffer,
    /// Where it lies: its segment, and from where to where in it.
    segment: u32,
    range: Range<u64>,
    /// Messages of it that are still queued.
    live: u32,
}

/// The latest groups, oldest first, under a budget of bytes.
///
/// They are counted round and round; what is asked for is found by its place as well, so that no reader
/// is given a group that took up the number of his.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    groups: VecDeque<Option<HotGroup>>,
    /// The number of the first in `groups`.
    first: u32,
    bytes: usize,
    bytes_max: usize,
    /// No longer kept for their messages, but still read: reused when that is done.
    lent: Vec<SharedBuffer>,
}

impl HotGroup {
    /// Where the record of a message begins in the group, if it lies there.
    fn start_of(&self, entry: &Entry) -> Option<usize> {
        let offset = u64::from(entry.offset);
        let is_here = entry.segment == self.segment && self.range.contains(&offset);
        is_here.then(|| (offset - self.range.start) as usize)
    }
}

/// A larger group is not lent for a record of less than half of it.
const LENT_BYTES_MAX: usize = 32 << 10;

/// Buffers that are remembered while others hold them; the rest is left to the allocator.
const LENT_MAX: usize = 64;

impl Hot {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a group of `live` messages, which lies in a segment from where to where `range` says; gives its number.
    pub(crate) fn push(&mut self, buffer: SharedBuffer, segment: u32, range: Range<u64>, live: u32) -> u32 {
        let number = self.first.wrapping_add(self.groups.len() as u32);
        self.bytes += buffer.len();
        self.groups.push_back(Some(HotGroup { buffer, segment, range, live }));
        number
    }

    /// The buffer in which the record of a message is, and where it begins there: its group, or a copy where the
    /// group is much larger. A reader may keep it for as long as a slow peer takes, and what he keeps is in no
    /// budget.
    pub(crate) fn get(&mut self, entry: &Entry, pool: &mut Pool) -> Option<(SharedBuffer, usize)> {
        let group = self.groups.get(self.index(entry.group))?.as_ref()?;
        let (start, length) = (group.start_of(entry)?, entry.length as usize);
        if group.buffer.len() <= LENT_BYTES_MAX.max(2 * length) {
            return Some((group.buffer.clone(), start));
        }
        let record = group.buffer.get(start..start + length)?;
        let mut copy = pool.take(length);
        copy[..length].copy_from_slice(record);
        let copy = SharedBuffer::new(copy);
        self.lend(copy.clone(), pool);
        Some((copy, 0))
    }

    /// A message is done, or lies elsewhere now.
    pub(crate) fn release(&mut self, entry: &Entry, pool: &mut Pool) {
        let index = self.index(entry.group);
        let Some(Some(group)) = self.groups.get_mut(index) else { return };
        if group.start_of(entry).is_none() {
            return;
        }
        group.live = group.live.saturating_sub(1);
        if group.live == 0 {
            self.evict(index, pool);
            self.trim();
        }
    }

    fn index(&self, number: u32) -> usize {
        number.wrapping_sub(self.first) as usize
    }

    /// Drops the oldest groups until the budget holds; the newest, whose write may be under way, stays.
    pub(crate) fn fit(&mut self, pool: &mut Pool) {
        self.collect(pool);
        while self.bytes > self.bytes_max && self.groups.len() > 1 {
            self.evict(0, pool);
            self.trim();
        }
    }

    /// Takes a buffer that a reader may still hold.
    pub(crate) fn lend(&mut self, buffer: SharedBuffer, pool: &mut Pool) {
        match Rc::try_unwrap(buffer) {
            Ok(buffer) => pool.give_back(buffer),
            Err(buffer) if self.lent.len() < LENT_MAX => self.lent.push(buffer),
            Err(_) => {}
        }
    }

    fn evict(&mut self, index: usize, pool: &mut Pool) {
        if let Some(group) = self.groups[index].take() {
            self.bytes -= group.buffer.len();
            self.lend(group.buffer, pool);
        }
    }

    fn trim(&mut self) {
        while let Some(None) = self.groups.front() {
            self.groups.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    fn collect(&mut self, pool: &mut Pool) {
        let mut index = 0;
        while index < self.lent.len() {
            if Rc::strong_count(&self.lent[index]) == 1 {
                if let Ok(buffer) = Rc::try_unwrap(self.lent.swap_remove(index)) {
                    pool.give_back(buffer);
                }
            } else {
                index += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Deferral, Recipients};
    use crate::replies::ReplyIx;
    use ring::{AlignedBuffer, BLOCK_BYTES};

    fn entry(segment: u32, offset: u32, group: u32) -> Entry {
        Entry {
            segment,
            offset,
            length: 100,
            group,
            recipients: Recipients::pending(1),
            deferral: Deferral::default(),
            outcomes_open: 0,
            reply: ReplyIx::NONE,
            id: [0; 10],
            is_large: false,
            is_copy: false,
        }
    }

    #[test]
    fn groups_are_counted_round_and_a_message_finds_none_but_its_own() {
        let (mut hot, mut pool) = (Hot::new(usize::MAX), Pool::default());
        hot.first = u32::MAX;
        let block = BLOCK_BYTES as u64;
        let mut push = |segment, at: u64| {
            let buffer = Rc::new(AlignedBuffer::zeroed(BLOCK_BYTES));
            hot.push(buffer, segment, at..at + block, 1)
        };
        let groups = [push(7, 0), push(7, block), push(8, 0)];
        assert_eq!(groups, [u32::MAX, 0, 1]);
        let (own, later) = (entry(7, BLOCK_BYTES as u32 + 64, 0), entry(7, 2 * BLOCK_BYTES as u32, 0));
        let of_other_segment = entry(9, BLOCK_BYTES as u32 + 64, 0);
        let get = |hot: &mut Hot, entry| hot.get(entry, &mut Pool::default());
        assert_eq!(get(&mut hot, &own).map(|(_, start)| start), Some(64));
        assert!(get(&mut hot, &later).is_none() && get(&mut hot, &of_other_segment).is_none());
        hot.release(&later, &mut pool);
        assert!(get(&mut hot, &own).is_some(), "another message's end is none of this group's");
        hot.release(&own, &mut pool);
        assert!(get(&mut hot, &own).is_none());
        assert_eq!((hot.first, hot.bytes()), (u32::MAX, 2 * BLOCK_BYTES));
        hot.release(&entry(7, 64, u32::MAX), &mut pool);
        assert_eq!((hot.first, hot.bytes()), (1, BLOCK_BYTES));
    }

    #[test]
    fn a_slow_reader_of_a_small_message_keeps_no_large_group() {
        let (mut hot, mut pool) = (Hot::new(usize::MAX), Pool::default());
        let mut push = |bytes: usize| {
            let mut buffer = AlignedBuffer::zeroed(bytes);
            buffer[64..164].fill(b'x');
            hot.push(Rc::new(buffer), 7, 0..bytes as u64, 1)
        };
        let groups = [push(LENT_BYTES_MAX), push(1 << 20)];
        let [(small, at), (copy, copied_to)] =
            groups.map(|group| hot.get(&entry(7, 64, group), &mut pool).expect("it is there"));
        assert_eq!((small.len(), &small[at..at + 100]), (LENT_BYTES_MAX, &[b'x'; 100][..]));
        assert_eq!(copy[copied_to..copied_to + 100], [b'x'; 100]);
        assert!(copy.len() <= LENT_BYTES_MAX, "{} bytes are kept for 100", copy.len());
    }
}
