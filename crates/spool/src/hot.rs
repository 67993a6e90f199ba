//! Groups that stay in memory after their write, so that mail is sent from where it was received.

use std::collections::VecDeque;
use std::rc::Rc;

use ring::SharedBuffer;

use crate::group::Pool;

#[derive(Debug)]
struct HotGroup {
    buffer: SharedBuffer,
    /// Messages of it that are still queued.
    live: u32,
}

/// The latest groups, oldest first, under a budget of bytes.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    groups: VecDeque<Option<HotGroup>>,
    /// The number of the first in `groups`.
    first: u64,
    bytes: usize,
    bytes_max: usize,
    /// No longer kept for their messages, but somebody still reads them: reused when he is done.
    lent: Vec<SharedBuffer>,
}

/// Buffers that are remembered while others hold them; the rest is left to the allocator.
const LENT_MAX: usize = 64;

impl Hot {
    pub(crate) fn new(bytes_max: usize) -> Self {
        // Number 0 is no group: entries that were recovered say so.
        Self { first: 1, bytes_max, ..Self::default() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a group of `live` messages; gives its number.
    pub(crate) fn push(&mut self, buffer: SharedBuffer, live: u32) -> u64 {
        let number = self.first + self.groups.len() as u64;
        self.bytes += buffer.len();
        self.groups.push_back(Some(HotGroup { buffer, live }));
        number
    }

    pub(crate) fn get(&self, number: u64) -> Option<&SharedBuffer> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.groups.get(index)?.as_ref().map(|group| &group.buffer)
    }

    /// A message of the group is done.
    pub(crate) fn release(&mut self, number: u64, pool: &mut Pool) {
        let Some(index) = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok()) else {
            return;
        };
        let Some(Some(group)) = self.groups.get_mut(index) else { return };
        group.live = group.live.saturating_sub(1);
        if group.live == 0 {
            self.evict(index, pool);
            self.trim();
        }
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
            self.first += 1;
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
