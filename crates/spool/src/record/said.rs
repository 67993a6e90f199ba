//! What was last said of recipients, in a deferral and in an outcome: all of it optional.
//!
//! A reply is to the recipients that the list before it names, or to all of the record where there is none. What
//! is malformed in it is passed over: no delivery depends on it.

use std::sync::Arc;

use mail::{LastReply, Status};

use super::fields::{self, Field, Fields, List};
use super::tags::said as tag;

/// Bytes of a reply's text that are kept on disk.
pub(crate) const TEXT_BYTES_MAX: usize = 120;

/// Bytes of a next hop's name: the longest domain, and a port.
const NEXT_HOP_BYTES_MAX: usize = 262;

/// Replies that are read of a record: it has no more recipients.
const REPLIES_MAX: usize = 1 << 16;

/// A reply, and to whom of a record's recipients it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Their indexes in the envelope.
    pub recipients: Vec<u16>,
    /// What was said to each of them.
    pub reply: LastReply,
}

impl Said {
    /// Puts those together to whom the same was said.
    pub fn grouped(said: impl IntoIterator<Item = (u16, LastReply)>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for (recipient, reply) in said {
            match groups.iter_mut().find(|group| group.reply == reply) {
                Some(group) => group.recipients.push(recipient),
                None => groups.push(Self { recipients: vec![recipient], reply }),
            }
        }
        groups
    }
}

/// Appends what was said, in a record of so many recipients.
pub(crate) fn put_said(out: &mut Vec<u8>, said: &[Said], recipients: usize) {
    for Said { recipients: to, reply } in said {
        if to.len() != recipients || said.len() > 1 {
            fields::put_list(out, tag::TO, to.iter().copied());
        }
        let text = reply.cut_text(TEXT_BYTES_MAX);
        fields::put(out, tag::REPLY, &[&reply.code.to_le_bytes(), text.as_bytes()]);
        if let Some(Status { class, subject, detail }) = reply.status {
            let parts: [&[u8]; 3] = [&[class], &subject.to_le_bytes(), &detail.to_le_bytes()];
            fields::put(out, tag::STATUS, &parts);
        }
        if let Some(hop) = &reply.next_hop {
            let end = hop.floor_char_boundary(NEXT_HOP_BYTES_MAX);
            fields::put(out, tag::NEXT_HOP, &[hop[..end].as_bytes()]);
        }
    }
}

/// Appends those of a record's fields that tell what was said.
pub(crate) fn copy_said(out: &mut Vec<u8>, fields: Fields<'_>) {
    for Field { tag, value, .. } in fields.filter(is_said) {
        fields::put(out, tag, &[value]);
    }
}

/// The same without the texts: of many replies the codes are few.
pub(crate) fn copy_codes(out: &mut Vec<u8>, fields: Fields<'_>) {
    for Field { tag, value, .. } in fields.filter(is_said) {
        let kept = if tag == tag::REPLY { &value[..value.len().min(size_of::<u16>())] } else { value };
        fields::put(out, tag, &[kept]);
    }
}

fn is_said(field: &Field<'_>) -> bool {
    matches!(field.tag, tag::TO..=tag::NEXT_HOP)
}

/// What was said, in the order of the record; without a list it is to all of its recipients.
pub(crate) fn read(fields: Fields<'_>) -> Vec<(Option<List<'_>>, Arc<LastReply>)> {
    let mut said: Vec<(Option<List<'_>>, LastReply)> = Vec::new();
    let mut to = None;
    // A list belongs to one reply, what follows a reply to that one.
    let mut is_open = false;
    for Field { tag, value, .. } in fields.filter(is_said) {
        match (tag, said.last_mut().filter(|_| is_open)) {
            (tag::TO, _) => {
                to = Some(fields::list(value).unwrap_or_default());
                is_open = false;
            }
            (tag::REPLY, _) => {
                // What is said to all is said alone.
                let fits = said.len() < REPLIES_MAX && (to.is_some() || said.is_empty());
                let reply = reply_of(value).filter(|_| fits);
                is_open = reply.is_some();
                said.extend(reply.map(|reply| (to.take(), reply)));
                to = None;
            }
            (tag::STATUS, Some((_, reply))) => reply.status = status_of(value),
            (tag::NEXT_HOP, Some((_, reply))) => reply.next_hop = str::from_utf8(value).ok().map(Into::into),
            _ => {}
        }
    }
    said.into_iter().map(|(to, reply)| (to, Arc::new(reply))).collect()
}

fn reply_of(value: &[u8]) -> Option<LastReply> {
    let (code, text) = value.split_first_chunk()?;
    let text = str::from_utf8(text).ok()?.into();
    Some(LastReply { next_hop: None, code: u16::from_le_bytes(*code), status: None, text })
}

fn status_of(value: &[u8]) -> Option<Status> {
    let (&class, rest) = value.split_first()?;
    let (subject, detail) = rest.split_at_checked(size_of::<u16>())?;
    Some(Status::new(class, fields::u16_of(subject)?, fields::u16_of(detail)?))
}
