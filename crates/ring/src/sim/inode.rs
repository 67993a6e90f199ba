//! One file on a disk: what its programs see, what is durable of it, and what a power cut leaves of the rest.

use std::ops::Range;

use super::random::Random;

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;

/// A change of a file that a crash may still undo.
#[derive(Debug)]
pub(super) enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Extend { length: u64 },
}

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) content: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// In order, each with the moment (an event sequence) at which it was made.
    pub(super) changes: Vec<(u64, Change)>,
    /// Open handles and operations in flight: it lives without a name as long as there are any.
    pub(super) holds: u32,
}

/// What a power cut left of one write.
enum Fate {
    Lost,
    Kept,
    Torn,
}

impl Fate {
    fn choose(random: &mut Random) -> Self {
        match random.below(3) {
            0 => Self::Lost,
            1 => Self::Kept,
            _ => Self::Torn,
        }
    }
}

impl Inode {
    /// Each change that was not durable is lost, kept or torn.
    pub(super) fn lose_some(&mut self, random: &mut Random) {
        for (_, change) in std::mem::take(&mut self.changes) {
            match change {
                Change::Write { offset, bytes } => survive(&mut self.durable, offset, &bytes, random),
                Change::Extend { length } => {
                    if random.coin() {
                        extend(&mut self.durable, length);
                    }
                }
            }
        }
    }
}

pub(super) fn extend(content: &mut Vec<u8>, length: u64) {
    if length > content.len() as u64 {
        content.resize(length as usize, 0);
    }
}

pub(super) fn overlay(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    extend(content, offset + bytes.len() as u64);
    content[offset as usize..][..bytes.len()].copy_from_slice(bytes);
}

/// Puts onto `durable` what the seed leaves of a write.
pub(super) fn survive(durable: &mut Vec<u8>, offset: u64, bytes: &[u8], random: &mut Random) {
    match Fate::choose(random) {
        Fate::Lost => {}
        Fate::Kept => overlay(durable, offset, bytes),
        Fate::Torn => {
            let end = offset + bytes.len() as u64;
            let mut at = offset;
            while at < end {
                let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                if random.coin() {
                    overlay(durable, at, &bytes[(at - offset) as usize..(next - offset) as usize]);
                }
                at = next;
            }
        }
    }
}

/// What is left of a change outside `range`, piece by piece.
pub(super) fn cut(change: Change, range: Range<u64>, mut keep: impl FnMut(Change)) {
    let Change::Write { offset, bytes } = change else {
        return keep(change);
    };
    let end = offset + bytes.len() as u64;
    if range.end <= offset || end <= range.start {
        return keep(Change::Write { offset, bytes });
    }
    if offset < range.start {
        keep(Change::Write { offset, bytes: bytes[..(range.start - offset) as usize].to_vec() });
    }
    if range.end < end {
        keep(Change::Write { offset: range.end, bytes: bytes[(range.end - offset) as usize..].to_vec() });
    }
}
