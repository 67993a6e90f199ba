//! How far a read or write of a file has come: the kernel may serve any part of what it is asked for.

use std::io;
use std::ops::Range;

use crate::BLOCK_BYTES;

/// A read or write that is done step by step. Both backends ask it what the next step is, and tell it
/// what came of the last one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    offset: u64,
    length: usize,
    direct: bool,
    done: usize,
}

impl Transfer {
    /// Of `length` bytes at `offset` of a file; `direct`: one that takes whole blocks alone.
    pub(crate) fn new(offset: u64, length: usize, direct: bool) -> Self {
        Self { offset, length, direct, done: 0 }
    }

    /// Where in the file the next step begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset + self.done as u64
    }

    /// What is left of the bytes, counted from the first of them.
    pub(crate) fn rest(&self) -> Range<usize> {
        self.done..self.length
    }

    /// A step wrote `count` bytes. Gives what the write comes to, or `None` when it goes on.
    pub(crate) fn wrote(&mut self, count: usize) -> Option<io::Result<usize>> {
        let whole = self.whole(count);
        self.done += whole;
        if self.done == self.length {
            Some(Ok(self.length))
        } else if whole == 0 {
            Some(Err(io::ErrorKind::WriteZero.into()))
        } else {
            None
        }
    }

    /// A step read `count` bytes. Gives how many there are in all, or `None` when it goes on. A step that
    /// brings nothing, or of a direct file no whole block, has met the file's end.
    pub(crate) fn read(&mut self, count: usize) -> Option<usize> {
        let whole = self.whole(count);
        self.done += if whole == 0 { count } else { whole };
        (whole == 0 || self.done == self.length).then_some(self.done)
    }

    /// How much of a step stands: a direct file goes on at a whole block.
    fn whole(&self, count: usize) -> usize {
        if self.direct && self.done + count < self.length { count - count % BLOCK_BYTES } else { count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: usize = 4 * BLOCK_BYTES;

    #[test]
    fn a_transfer_goes_on_where_the_last_step_ended() {
        let mut transfer = Transfer::new(1000, LENGTH, false);
        assert!(transfer.wrote(700).is_none());
        assert_eq!((transfer.offset(), transfer.rest()), (1700, 700..LENGTH));
        assert!(transfer.read(1).is_none());
        assert_eq!((transfer.offset(), transfer.rest()), (1701, 701..LENGTH));
        assert_eq!(transfer.wrote(LENGTH - 701).expect("ends").expect("is whole"), LENGTH);
    }

    #[test]
    fn a_direct_transfer_goes_on_at_a_block() {
        let mut transfer = Transfer::new(4096, LENGTH, true);
        assert!(transfer.wrote(BLOCK_BYTES + 512).is_none());
        assert_eq!((transfer.offset(), transfer.rest()), (8192, BLOCK_BYTES..LENGTH));
        assert!(transfer.read(BLOCK_BYTES + 3584).is_none());
        assert_eq!(transfer.rest(), 2 * BLOCK_BYTES..LENGTH);
        assert_eq!(transfer.wrote(2 * BLOCK_BYTES).expect("ends").expect("is whole"), LENGTH);
    }

    #[test]
    fn nothing_read_is_the_end_and_nothing_written_an_error() {
        let mut transfer = Transfer::new(0, LENGTH, false);
        assert!(transfer.read(5).is_none());
        assert_eq!(transfer.read(0), Some(5));
        let stuck = transfer.wrote(0).expect("ends").expect_err("fails");
        assert_eq!(stuck.kind(), io::ErrorKind::WriteZero);
        let mut direct = Transfer::new(0, LENGTH, true);
        assert!(direct.read(BLOCK_BYTES + 100).is_none(), "perhaps only a part was served");
        assert_eq!(direct.read(100), Some(BLOCK_BYTES + 100));
        direct.wrote(100).expect("ends").expect_err("no block of it");
    }
}
