//! What lies where in a segment of a spool, read anew from `crates/spool/FORMAT.md`.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::message;

/// The unit in which a segment is written, in bytes.
pub const BLOCK: usize = 4096;
const HEADER: usize = 64;
const MAGIC: &[u8] = b"GPGROUP\n";

/// One group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its header and records, without the padding.
    pub bytes: Range<usize>,
    /// The serial numbers of the ledger's messages in it.
    pub serials: BTreeSet<u64>,
}

/// The groups of a segment, those of a former life of it and what is left of damaged ones included: whatever
/// begins a block as a group does.
#[must_use]
pub fn groups(segment: &[u8]) -> Vec<Group> {
    let blocks = (BLOCK..segment.len()).step_by(BLOCK);
    let begins = blocks.filter(|&at| at + HEADER <= segment.len() && segment[at..].starts_with(MAGIC));
    let groups = begins.map(|at| {
        let word = segment[at + 12..at + 16].try_into().expect("four bytes");
        let end = segment.len().min(at + HEADER + u32::from_le_bytes(word) as usize);
        Group { bytes: at..end, serials: serials(&segment[at..end]) }
    });
    groups.collect()
}

/// The serial numbers of the ledger's messages in `bytes`.
#[must_use]
pub fn serials(bytes: &[u8]) -> BTreeSet<u64> {
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
