//! Segments on disk, to be damaged and restored.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use testbed::ledger::Delivery;
use testbed::segment::{self, BLOCK, Group};

/// A segment as it lies on disk.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    /// Its path.
    pub(crate) path: PathBuf,
    /// What it holds.
    pub(crate) bytes: Vec<u8>,
    /// Its groups in order.
    pub(crate) groups: Vec<Group>,
}

impl SegmentFile {
    /// The segments of the first shard of the spool in `spool` that hold a group, in the order of their names.
    pub(crate) fn all(spool: &Path) -> Vec<Self> {
        let names = fs::read_dir(spool.join("shard-000")).expect("the spool can be read");
        let mut paths: Vec<_> = names.map(|entry| entry.expect("the spool can be read").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        paths.sort();
        paths.into_iter().map(Self::read).filter(|segment| !segment.groups.is_empty()).collect()
    }

    fn read(path: PathBuf) -> Self {
        let bytes = fs::read(&path).expect("the spool can be read");
        let (mut groups, mut at) = (segment::groups(&bytes), BLOCK);
        // What comes after a gap is of a former life.
        groups.retain(|group| {
            let follows = group.bytes.start == at;
            at = if follows { group.bytes.end.next_multiple_of(BLOCK) } else { at };
            follows
        });
        Self { path, bytes, groups }
    }

    /// The end of what is not zero.
    pub(crate) fn used(&self) -> usize {
        self.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    }

    /// Writes `bytes` at `at` into the file, and nowhere else.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        let file = File::options().write(true).open(&self.path).expect("the spool can be written");
        file.write_all_at(bytes, at as u64).expect("the spool can be written");
    }

    /// Writes back what it held when it was read, in `range`.
    pub(crate) fn restore(&self, range: Range<usize>) {
        self.write(range.start, &self.bytes[range]);
    }
}

/// Those of `queued` that are of one of the `serials`.
pub(crate) fn of(queued: &BTreeSet<Delivery>, serials: &BTreeSet<u64>) -> BTreeSet<Delivery> {
    queued.iter().filter(|(serial, _)| serials.contains(serial)).cloned().collect()
}
