//! Records of `FORMAT.md`: a header, fields, and of a message the content. Written into an open group, read back
//! as views on its bytes.

mod fields;
mod foreign;
mod message;
mod outcome;
mod said;
mod schedule;
mod tags;
#[cfg(test)]
mod tests;

use mail::MessageId;

use crate::format::u32_at;

pub(crate) use fields::{Fields, List};
pub use foreign::Foreign;
pub(crate) use message::{Body, LargeBody, Layout, MessageView, content, put_message};
pub(crate) use outcome::{Outcomes, put_outcomes};
pub use said::Said;
pub(crate) use said::{copy_codes, copy_said, put_said, read as read_said};
pub(crate) use schedule::{Schedule, Scheduled, put_schedule};
pub(crate) use tags::kind;

// Where what stands in the header of every record.
const LENGTH_AT: usize = 0;
const CRC_AT: usize = 4;
pub(crate) const KIND_AT: usize = 8;
const FIELDS_BYTES_AT: usize = 9;
const ID_AT: usize = 12;

/// The header of a record: its length, its CRC, its type, the length of its fields, the message's id.
pub(crate) const HEADER_BYTES: usize = 22;

/// The length of the fields has 24 bits.
const FIELDS_BYTES_MAX: usize = (1 << 24) - 1;

/// A record, as it lies in a valid group.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Record<'a> {
    Message(MessageView<'a>),
    Attempt(Schedule<'a>),
    Deferred(Schedule<'a>),
    Outcome(Outcomes<'a>),
    /// It is not understood: its message is refused.
    Foreign(Foreign),
    /// It is of a type that is not known and may be passed over.
    Other,
}

impl Record<'_> {
    /// Why its message must not be delivered by this version.
    pub(crate) fn foreign(&self) -> Option<Foreign> {
        match self {
            Self::Message(message) => message.foreign(),
            Self::Foreign(foreign) => Some(*foreign),
            _ => None,
        }
    }
}

/// How long a record of these fields and this content will be; `None` where the format has no room for them.
pub(crate) fn record_bytes(fields: &[u8], content_bytes: usize) -> Option<usize> {
    (fields.len() <= FIELDS_BYTES_MAX).then_some(HEADER_BYTES + fields.len() + content_bytes)
}

/// How much of a record of these fields a footer repeats.
pub(crate) fn outline_bytes(fields: &[u8]) -> usize {
    HEADER_BYTES + fields.len()
}

/// Writes the header of the record that fills `record`, whose fields and content are in their places.
pub(crate) fn write_header(record: &mut [u8], kind: u8, id: MessageId, fields_bytes: usize) {
    let length = record.len() as u32;
    record[KIND_AT..HEADER_BYTES].fill(0);
    record[FIELDS_BYTES_AT..ID_AT]
        .copy_from_slice(&(fields_bytes as u32).to_le_bytes()[..ID_AT - FIELDS_BYTES_AT]);
    record[KIND_AT] = kind;
    record[ID_AT..HEADER_BYTES].copy_from_slice(&id.to_bytes());
    let crc = crc32c::crc32c(&record[KIND_AT..]);
    record[LENGTH_AT..CRC_AT].copy_from_slice(&length.to_le_bytes());
    record[CRC_AT..KIND_AT].copy_from_slice(&crc.to_le_bytes());
}

/// The length that a record's header claims.
pub(crate) fn length_of(record: &[u8]) -> usize {
    u32_at(record, LENGTH_AT) as usize
}

/// Whether a record fills these bytes.
pub(crate) fn is_whole(record: &[u8]) -> bool {
    record.len() >= HEADER_BYTES && length_of(record) == record.len()
}

/// The id in a record; `None` where the bytes are too few.
pub(crate) fn id_of(record: &[u8]) -> Option<MessageId> {
    record.get(ID_AT..HEADER_BYTES)?.try_into().ok().map(MessageId::from_bytes)
}

/// The length a record claims, when a whole one with a right CRC stands at the start of `bytes`.
pub(crate) fn sound_length(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    let length = length_of(bytes);
    (HEADER_BYTES..=bytes.len()).contains(&length).then_some(())?;
    (u32_at(bytes, CRC_AT) == crc32c::crc32c(&bytes[KIND_AT..length])).then_some(length)
}

/// How much of a whole record a footer repeats: all but a message's content.
pub(crate) fn outline_length(record: &[u8]) -> usize {
    let fields = u32_at(record, FIELDS_BYTES_AT) as usize & FIELDS_BYTES_MAX;
    (HEADER_BYTES + fields).min(record.len())
}

/// The fields of a record, whole or without its content; `None` where its lengths contradict each other.
fn fields_of(record: &[u8]) -> Option<&[u8]> {
    let end =
        HEADER_BYTES + (u32_at(record.get(..HEADER_BYTES)?, FIELDS_BYTES_AT) as usize & FIELDS_BYTES_MAX);
    (end <= length_of(record)).then_some(())?;
    record.get(HEADER_BYTES..end)
}

/// Whether a whole record is an outcome.
pub(crate) fn is_outcome(record: &[u8]) -> bool {
    record[KIND_AT] == kind::OUTCOME
}

/// Reads a record, whole or as a footer repeats it, without a message's content; `None` when it is no record.
pub(crate) fn parse(bytes: &[u8]) -> Option<(MessageId, Record<'_>)> {
    let id = id_of(bytes)?;
    let fields = || Fields::parse(fields_of(bytes)?);
    let record = match bytes[KIND_AT] {
        kind::MESSAGE => Ok(Record::Message(MessageView::parse(bytes)?)),
        kind @ kind::ATTEMPT => Schedule::parse(fields()?, kind).map(Record::Attempt),
        kind @ kind::DEFERRED => Schedule::parse(fields()?, kind).map(Record::Deferred),
        kind::OUTCOME => Outcomes::parse(fields()?).map(Record::Outcome),
        kind => {
            fields()?;
            if kind & tags::REQUIRED == 0 { Ok(Record::Other) } else { Err(Foreign::Kind(kind)) }
        }
    };
    Some((id, record.unwrap_or_else(Record::Foreign)))
}
