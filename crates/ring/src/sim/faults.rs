//! What a disk has been told to do wrong: fail, freeze, lose its power at a change, not read a
//! sector, or give back other bytes than it took.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::disk::{HostDisk, InodeId};
use super::inode::SECTOR_BYTES;
use super::random::Random;
use crate::Instant;

/// How often a sector is chosen anew in the hope of one that is not all zeros.
const CHOICES_MAX: usize = 64;

/// A bit that flipped.
#[derive(Clone, Debug)]
pub struct Rot {
    /// In which file.
    pub path: PathBuf,
    /// In which byte of it.
    pub at: usize,
    /// What the file held before.
    pub before: Vec<u8>,
}

/// What becomes of a change of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is made.
    Goes,
    /// EIO, and what is on the disk then is unknown.
    Fails,
    /// The power goes while it is made.
    Dies,
}

#[derive(Debug, Default)]
pub(super) struct DiskFaults {
    /// The change that fails, counted down to 1 and then gone.
    pub(super) fails_in: Option<u64>,
    /// The change at which the power goes, likewise.
    pub(super) dies_in: Option<u64>,
    /// No operation ends before.
    pub(super) frozen_until: Option<Instant>,
    /// Power cuts so far.
    pub(super) power_cuts: u64,
    /// Sectors that cannot be read until they are written again.
    unreadable: BTreeSet<(InodeId, u64)>,
}

impl DiskFaults {
    /// Counts one change, and says what becomes of it.
    pub(super) fn count(&mut self) -> Turn {
        let dies = count_down(&mut self.dies_in);
        let fails = count_down(&mut self.fails_in);
        match (dies, fails) {
            (true, _) => Turn::Dies,
            (_, true) => Turn::Fails,
            _ => Turn::Goes,
        }
    }

    /// Whether a sector of these bytes of a file cannot be read.
    pub(super) fn prevents_read(&self, inode: InodeId, offset: u64, bytes: u64) -> bool {
        let (first, end) = (offset / SECTOR_BYTES, (offset + bytes).div_ceil(SECTOR_BYTES));
        bytes > 0 && self.unreadable.range((inode, first)..(inode, end)).next().is_some()
    }

    /// Sectors that are written whole can be read again.
    pub(super) fn written(&mut self, inode: InodeId, offset: u64, bytes: u64) {
        let (first, end) = (offset.div_ceil(SECTOR_BYTES), (offset + bytes) / SECTOR_BYTES);
        if !self.unreadable.is_empty() && first < end {
            self.unreadable.retain(|(of, sector)| *of != inode || !(first..end).contains(sector));
        }
    }

    pub(super) fn read_again(&mut self) {
        self.unreadable.clear();
    }
}

fn count_down(counter: &mut Option<u64>) -> bool {
    match counter {
        Some(0 | 1) => {
            *counter = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

/// Damage to what lies on the disk.
impl HostDisk {
    /// Makes up to `count` sectors unreadable; gives the files.
    pub(super) fn spoil(
        &mut self,
        count: u64,
        is_meant: &dyn Fn(&Path) -> bool,
        random: &mut Random,
    ) -> Vec<PathBuf> {
        let chosen = self.choose_sectors(count, is_meant, random);
        self.faults.unreadable.extend(chosen.iter().map(|(_, inode, sector)| (*inode, *sector)));
        chosen.into_iter().map(|(path, ..)| path).collect()
    }

    /// Flips a bit in up to `count` sectors; says where, and what was there before.
    pub(super) fn rot(
        &mut self,
        count: u64,
        is_meant: &dyn Fn(&Path) -> bool,
        random: &mut Random,
    ) -> Vec<Rot> {
        let chosen = self.choose_sectors(count, is_meant, random);
        let mut rotten = Vec::new();
        for (path, inode, sector) in &chosen {
            let at = (sector * SECTOR_BYTES + random.below(SECTOR_BYTES)) as usize;
            rotten.push(Rot { path: path.clone(), at, before: self.content(*inode).to_vec() });
        }
        for (rot, (_, inode, _)) in rotten.iter().zip(&chosen) {
            self.flip(*inode, rot.at, 1 << random.below(8));
        }
        rotten
    }

    /// Sectors of files with a name, rather such as hold something.
    fn choose_sectors(
        &self,
        count: u64,
        is_meant: &dyn Fn(&Path) -> bool,
        random: &mut Random,
    ) -> Vec<(PathBuf, InodeId, u64)> {
        let files = self.named_files(is_meant);
        let mut chosen = Vec::new();
        for _ in 0..count {
            for _ in 0..CHOICES_MAX {
                let Some((path, inode)) = files.get(random.below(files.len() as u64) as usize) else { break };
                let content = self.content(*inode);
                let sector = random.below((content.len() as u64).div_ceil(SECTOR_BYTES));
                let start = (sector * SECTOR_BYTES) as usize;
                let end = content.len().min(start + SECTOR_BYTES as usize);
                if content[start..end].iter().any(|byte| *byte != 0) {
                    chosen.push((path.clone(), *inode, sector));
                    break;
                }
            }
        }
        chosen
    }
}
