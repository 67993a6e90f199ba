//! What lies where in a segment of a spool, read anew from `crates/spool/FORMAT.md`.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::message;

/// The unit in which a segment is written, in bytes.
pub const BLOCK: usize = 4096;
const HEADER: usize = 64;
const MAGIC: &[u8] = b"GPGROUP\n";
const GROUP_BYTES_AT: usize = 12;
const GROUP_RECORDS_CRC_AT: usize = 48;
const GROUP_CRC_AT: usize = 60;
const RECORD_HEADER: usize = 22;
const RECORD_CRC_AT: usize = 4;
const RECORD_KIND_AT: usize = 8;
const RECORD_FIELDS_BYTES_AT: usize = 9;

/// The type of a message's record.
pub const MESSAGE: u8 = 0x81;
/// The type of a deferral.
pub const DEFERRED: u8 = 0x83;
/// The type of an outcome.
pub const OUTCOME: u8 = 0x84;

/// What [`graft`] puts into a record.
pub const GRAFTED: &[u8] = b"not before tomorrow";

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
        let end = segment.len().min(at + HEADER + word(segment, at + GROUP_BYTES_AT));
        Group { bytes: at..end, serials: serials(&segment[at..end]) }
    });
    groups.collect()
}

/// Gives the first record of type `kind` in the last group of a segment a field of tag `tag` and some value, in
/// front of its own: as a later version would write it.
///
/// # Panics
/// When that group has no such record, or takes a block more with the field.
pub fn graft(segment: &mut [u8], kind: u8, tag: u8) {
    let at = (BLOCK..segment.len()).step_by(BLOCK).rfind(|&at| segment[at..].starts_with(MAGIC));
    let at = at.expect("the segment has a group");
    let end = at + HEADER + word(segment, at + GROUP_BYTES_AT);
    let (mut records, mut from, mut is_done) = (Vec::new(), at + HEADER, false);
    while from < end {
        let record = &segment[from..from + word(segment, from)];
        from += record.len();
        let is_it = !is_done && record[RECORD_KIND_AT] == kind;
        is_done |= is_it;
        records.extend(if is_it { with_field(record, tag) } else { record.to_vec() });
    }
    assert!(is_done, "the group has such a record");
    assert!(HEADER + records.len() <= (end - at).next_multiple_of(BLOCK), "the group takes a block more");
    segment[at + HEADER..at + HEADER + records.len()].copy_from_slice(&records);
    put_word(segment, at + GROUP_BYTES_AT, records.len() as u32);
    put_word(segment, at + GROUP_RECORDS_CRC_AT, crc32c::crc32c(&records));
    let crc = crc32c::crc32c(&segment[at..at + GROUP_CRC_AT]);
    put_word(segment, at + GROUP_CRC_AT, crc);
}

/// The record with one field more.
fn with_field(record: &[u8], tag: u8) -> Vec<u8> {
    let field = [&[tag, GRAFTED.len() as u8][..], GRAFTED].concat();
    let mut longer = [&record[..RECORD_HEADER], &field, &record[RECORD_HEADER..]].concat();
    // Three bytes, with the first of the id behind them.
    let first_of_id = record[RECORD_FIELDS_BYTES_AT + 3];
    let fields = (word(record, RECORD_FIELDS_BYTES_AT) & 0xff_ffff) + field.len();
    put_word(&mut longer, RECORD_FIELDS_BYTES_AT, fields as u32);
    longer[RECORD_FIELDS_BYTES_AT + 3] = first_of_id;
    let (length, crc) = (longer.len() as u32, crc32c::crc32c(&longer[RECORD_KIND_AT..]));
    put_word(&mut longer, 0, length);
    put_word(&mut longer, RECORD_CRC_AT, crc);
    longer
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

fn put_word(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
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
