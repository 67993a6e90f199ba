//! The container that every record is: fields one after the other, each a tag, a length and a value.

use super::tags;

/// Bits of a length in one of its bytes; the highest bit says that another one follows.
const LENGTH_BITS: u32 = 7;
const LENGTH_MORE: u8 = 1 << LENGTH_BITS;

/// Bytes of a length: more than any record needs.
const LENGTH_BYTES_MAX: u32 = 4;

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) tag: u8,
    pub(crate) value: &'a [u8],
    /// Where it begins among the fields, and where its value ends.
    pub(crate) at: usize,
    pub(crate) end: usize,
}

/// Fields that were found whole, and where the next one begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// `None` where the bytes are not fields from end to end.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut at = 0;
        while at < bytes.len() {
            at = field_at(bytes, at)?.end;
        }
        Some(Self::of_checked(bytes))
    }

    /// The fields in bytes that were found whole before.
    pub(crate) fn of_checked(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let field = field_at(self.bytes, self.at)?;
        self.at = field.end;
        Some(field)
    }
}

/// The field that begins there; `None` where there is none that is whole.
fn field_at(bytes: &[u8], at: usize) -> Option<Field<'_>> {
    let tag = *bytes.get(at)?;
    let (mut value_at, mut length) = (at + 1, 0);
    for place in 0..LENGTH_BYTES_MAX {
        let byte = *bytes.get(value_at)?;
        value_at += 1;
        length |= usize::from(byte & !LENGTH_MORE) << (LENGTH_BITS * place);
        if byte & LENGTH_MORE == 0 {
            let end = value_at + length;
            let value = bytes.get(value_at..end)?;
            return (tag != tags::NONE).then_some(Field { tag, value, at, end });
        }
    }
    None
}

/// Appends a field whose value is these parts, one after the other.
pub(crate) fn put(out: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    put_head(out, tag, parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Appends a field whose value is the indexes of recipients; none where there are none.
pub(crate) fn put_list(out: &mut Vec<u8>, tag: u8, recipients: impl Iterator<Item = u16> + Clone) {
    let count = recipients.clone().count();
    if count > 0 {
        put_head(out, tag, count * size_of::<u16>());
        recipients.for_each(|recipient| out.extend_from_slice(&recipient.to_le_bytes()));
    }
}

/// Appends the tag of a field, and the length of its value.
fn put_head(out: &mut Vec<u8>, tag: u8, mut length: usize) {
    out.push(tag);
    while length >= usize::from(LENGTH_MORE) {
        out.push(length as u8 | LENGTH_MORE);
        length >>= LENGTH_BITS;
    }
    out.push(length as u8);
}

/// The indexes in the value of such a field; `None` where it is none.
pub(crate) fn list(value: &[u8]) -> Option<List<'_>> {
    value.len().is_multiple_of(size_of::<u16>()).then_some(List { rest: value })
}

/// Indexes of recipients.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct List<'a> {
    rest: &'a [u8],
}

impl Iterator for List<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        let (recipient, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u16::from_le_bytes(*recipient))
    }
}

/// A number of this many bytes; `None` where the value has another length.
pub(crate) fn u64_of(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_le_bytes)
}

/// The same of two bytes.
pub(crate) fn u16_of(value: &[u8]) -> Option<u16> {
    value.try_into().ok().map(u16::from_le_bytes)
}
