//! The footer of a segment: what a recovery would read its groups for, at its end, so that it need not.
//!
//! While a segment is written, a [`Summary`] gathers the outlines of its records. When the segment is
//! full, those that no longer matter are left out, a little each turn, and the rest is written behind
//! its groups. A footer is no promise: without it, or with a damaged one, the groups are read.

use mail::MessageId;
use ring::{AlignedBuffer, BLOCK_BYTES};

use crate::MessageKey;
use crate::format::{Trailer, padded, u32_at};
use crate::index::Index;
use crate::record::{self, Record};

/// Before each record of a footer: its offset in the segment and the length of its outline.
const LINE_BYTES: usize = 8;

/// Records that are judged in one turn of a worker.
const JUDGED_PER_TURN: usize = 2048;

/// What a record says about its message, for the choice of what a footer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// It is the message, or speaks of one that lies in the same segment: worthless when that is done.
    Here(MessageKey),
    /// An outcome of a message of which another segment holds a record: it outlives the message.
    Elsewhere,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    about: About,
    /// Where its outline ends in the summary's bytes.
    end: u32,
    keep: bool,
}

/// The outlines of the records of one segment.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    lines: Vec<Line>,
    bytes: Vec<u8>,
    /// Records that [`Summary::judge`] has not looked at yet.
    unjudged: usize,
}

impl Summary {
    pub(crate) fn clear(&mut self) {
        self.lines.clear();
        self.bytes.clear();
    }

    /// Takes in a record of a group that is on its way.
    pub(crate) fn note(&mut self, about: About, offset: u64, record: &[u8]) {
        let outline = &record[..record::outline_length(record)];
        self.note_outline(about, offset, outline);
    }

    /// The same for what a footer repeats.
    pub(crate) fn note_outline(&mut self, about: About, offset: u64, outline: &[u8]) {
        self.bytes.extend_from_slice(&(offset as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(outline.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(outline);
        self.lines.push(Line { about, end: self.bytes.len() as u32, keep: true });
    }

    /// What footer and trailer would take now, with `more` bytes of outlines in `records` more records.
    pub(crate) fn disk_bytes(&self, records: usize, more: usize) -> u64 {
        padded((self.bytes.len() + records * LINE_BYTES + more) as u64) + BLOCK_BYTES as u64
    }

    /// The segment is full: begins to judge its records.
    pub(crate) fn seal(&mut self) {
        self.unjudged = self.lines.len();
    }

    /// Judges some more records; true when all are. From the last to the first: what is said of a
    /// message is judged before the message, so that no footer has a message without its outcomes.
    pub(crate) fn judge(&mut self, index: &Index) -> bool {
        let from = self.unjudged.saturating_sub(JUDGED_PER_TURN);
        for line in &mut self.lines[from..self.unjudged] {
            line.keep = match line.about {
                About::Here(key) => index.get(key).is_some(),
                About::Elsewhere => true,
            };
        }
        self.unjudged = from;
        from == 0
    }

    /// The same at once.
    pub(crate) fn judge_all(&mut self, index: &Index) {
        self.seal();
        while !self.judge(index) {}
    }

    /// Footer and trailer, as they end the segment, and their length; `trailer` gets its own length and CRC here.
    pub(crate) fn write(
        &self,
        mut trailer: Trailer,
        take: impl FnOnce(usize) -> AlignedBuffer,
    ) -> (AlignedBuffer, u64) {
        let mut start = 0;
        let kept = self.lines.iter().filter_map(|line| {
            let bytes = start as usize..line.end as usize;
            start = line.end;
            line.keep.then_some(bytes)
        });
        let kept: Vec<_> = kept.collect();
        let length: usize = kept.iter().map(|bytes| bytes.len()).sum();
        let whole = padded(length as u64) as usize;
        let mut buffer = take(whole + BLOCK_BYTES);
        let mut at = 0;
        for bytes in kept {
            let next = at + bytes.len();
            buffer[at..next].copy_from_slice(&self.bytes[bytes]);
            at = next;
        }
        buffer[length..whole].fill(0);
        trailer.length = length as u32;
        trailer.footer_crc = crc32c::crc32c(&buffer[..length]);
        trailer.write(&mut buffer[whole..whole + BLOCK_BYTES]);
        (buffer, (whole + BLOCK_BYTES) as u64)
    }
}

/// One record of a footer.
pub(crate) struct Outline<'a> {
    pub(crate) id: MessageId,
    pub(crate) record: Record<'a>,
    /// Where the record lies in the segment.
    pub(crate) offset: u64,
    /// The record without a message's content.
    pub(crate) bytes: &'a [u8],
}

/// The records of a footer whose CRC was right; `None` when they are no footer of this version all the same.
pub(crate) fn read(footer: &[u8]) -> Option<Vec<Outline<'_>>> {
    let mut outlines = Vec::new();
    let mut rest = footer;
    while !rest.is_empty() {
        let (outline, length) = first(rest)?;
        outlines.push(outline);
        rest = &rest[length..];
    }
    Some(outlines)
}

/// The first record of (the rest of) a footer, and the bytes that it takes there; `None` where there is none.
pub(crate) fn first(footer: &[u8]) -> Option<(Outline<'_>, usize)> {
    let line = footer.get(..LINE_BYTES)?;
    let (offset, length) = (u32_at(line, 0), u32_at(line, 4) as usize);
    let bytes = footer.get(LINE_BYTES..LINE_BYTES.checked_add(length)?)?;
    let (id, record) = record::parse(bytes).filter(|_| record::outline_length(bytes) == bytes.len())?;
    Some((Outline { id, record, offset: u64::from(offset), bytes }, LINE_BYTES + length))
}
