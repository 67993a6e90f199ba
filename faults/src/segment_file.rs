//! Where the groups of a segment lie, read anew from `crates/spool/FORMAT.md`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use testbed::ledger::Delivery;
use testbed::message;

const BLOCK: usize = 4096;
const HEADER: usize = 64;
const MAGIC: &[u8] = b"GPGROUP\n";

/// One group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// Its header and records, without the padding.
    pub(crate) bytes: Range<usize>,
    /// The serial numbers of the ledger's messages in it.
    pub(crate) serials: BTreeSet<u64>,
}

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
        let (mut groups, mut at) = (Vec::new(), BLOCK);
        while at + HEADER <= bytes.len() && bytes[at..].starts_with(MAGIC) {
            let word = bytes[at + 12..at + 16].try_into().expect("four bytes");
            let end = at + HEADER + u32::from_le_bytes(word) as usize;
            groups.push(Group { bytes: at..end, serials: serials(&bytes[at..end]) });
            at = end.next_multiple_of(BLOCK);
        }
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

fn serials(bytes: &[u8]) -> BTreeSet<u64> {
    let field = format!("{}: ", message::SERIAL_FIELD).into_bytes();
    let starts = bytes.windows(field.len()).enumerate().filter(|(_, window)| *window == field);
    let digits = |at: usize| bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    starts
        .filter_map(|(at, _)| {
            let at = at + field.len();
            std::str::from_utf8(&bytes[at..at + digits(at)]).ok()?.parse().ok()
        })
        .collect()
}
