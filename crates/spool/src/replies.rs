//! What was last said of the recipients of queued messages, for the next copies of their records: once, however
//! many messages it was said of.

use std::collections::HashMap;
use std::sync::Arc;

use mail::LastReply;
use ring::Slab;

use crate::record::{self, Fields, List, Said};

/// Different texts that a shard keeps; of more only the codes.
const TEXTS_MAX: usize = 4096;

/// The same with the codes that are kept alone.
const KEPT_MAX: usize = TEXTS_MAX + 1024;

/// Bytes that all of them take: what was said of a message with many recipients may be long.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// The same with the codes.
const BYTES_MAX: usize = TEXT_BYTES_MAX + (1 << 20);

const _: () = assert!(KEPT_MAX < ReplyIx::NONE.0 as usize);

/// What was said of the recipients of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplyIx(u16);

impl ReplyIx {
    /// Nothing was said, or it is not known.
    pub(crate) const NONE: Self = Self(u16::MAX);
}

impl Default for ReplyIx {
    fn default() -> Self {
        Self::NONE
    }
}

#[derive(Clone, Debug)]
struct Kept {
    /// As it stands in a record: see [`crate::record::put_said`]. Without a list it is to all who wait.
    fields: Arc<[u8]>,
    messages: u32,
}

/// What a shard keeps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replies {
    kept: Slab<Kept>,
    places: HashMap<Arc<[u8]>, ReplyIx>,
    bytes: usize,
}

impl Replies {
    /// Keeps what the fields of a record say, in place of what was known of the message.
    ///
    /// `recipients` are those of the record; `waiting`, ascending, all who wait.
    pub(crate) fn note(
        &mut self,
        known: ReplyIx,
        fields: Fields<'_>,
        recipients: impl Iterator<Item = u16> + Clone,
        waiting: impl Iterator<Item = u16> + Clone,
    ) -> ReplyIx {
        let mut new = Vec::new();
        record::copy_said(&mut new, fields);
        if new.is_empty() {
            return known;
        }
        let is_of_all = waiting.clone().count() == recipients.clone().count();
        if !is_of_all {
            new = self.merged(known, fields, recipients, waiting);
        }
        let kept = self.keep(&new);
        self.release(known);
        kept
    }

    /// What was known of those who wait, with what is said now.
    fn merged(
        &self,
        known: ReplyIx,
        fields: Fields<'_>,
        recipients: impl Iterator<Item = u16>,
        waiting: impl Iterator<Item = u16> + Clone,
    ) -> Vec<u8> {
        let recipients: Vec<u16> = recipients.collect();
        let mut replies: HashMap<u16, Arc<LastReply>> = HashMap::new();
        let before = record::read_said(self.fields(known)).into_iter();
        replies.extend(told(before, waiting.clone()));
        replies.extend(told(record::read_said(fields).into_iter(), recipients.iter().copied()));
        let said =
            waiting.filter_map(|recipient| Some((recipient, replies.get(&recipient)?.as_ref().clone())));
        let mut merged = Vec::new();
        // No record has so many recipients: each reply has its list.
        record::put_said(&mut merged, &Said::grouped(said), usize::MAX);
        merged
    }

    fn keep(&mut self, fields: &[u8]) -> ReplyIx {
        if let Some(known) = self.find(fields) {
            return known;
        }
        if self.kept.len() < TEXTS_MAX as u32 && self.bytes + fields.len() <= TEXT_BYTES_MAX {
            return self.add(fields);
        }
        let mut codes = Vec::new();
        record::copy_codes(&mut codes, Fields::of_checked(fields));
        match self.find(&codes) {
            Some(known) => known,
            None if self.kept.len() < KEPT_MAX as u32 && self.bytes + codes.len() <= BYTES_MAX => {
                self.add(&codes)
            }
            None => ReplyIx::NONE,
        }
    }

    fn find(&mut self, fields: &[u8]) -> Option<ReplyIx> {
        let known = *self.places.get(fields)?;
        self.kept[u32::from(known.0)].messages += 1;
        Some(known)
    }

    fn add(&mut self, fields: &[u8]) -> ReplyIx {
        let fields: Arc<[u8]> = fields.into();
        self.bytes += fields.len();
        let index = self.kept.insert(Kept { fields: Arc::clone(&fields), messages: 1 });
        let index = ReplyIx(u16::try_from(index).expect("fewer are kept"));
        self.places.insert(fields, index);
        index
    }

    /// The message is gone.
    pub(crate) fn release(&mut self, index: ReplyIx) {
        let Some(kept) = self.kept.get_mut(u32::from(index.0)).filter(|_| index != ReplyIx::NONE) else {
            return;
        };
        kept.messages -= 1;
        if kept.messages == 0
            && let Some(kept) = self.kept.remove(u32::from(index.0))
        {
            self.bytes -= kept.fields.len();
            self.places.remove(&kept.fields);
        }
    }

    fn fields(&self, index: ReplyIx) -> Fields<'_> {
        let kept = self.kept.get(u32::from(index.0)).filter(|_| index != ReplyIx::NONE);
        Fields::of_checked(kept.map_or(&[], |kept| &kept.fields))
    }

    /// What was last said of those of a message who wait.
    pub(crate) fn of(&self, index: ReplyIx, waiting: impl Iterator<Item = u16> + Clone) -> Vec<Said> {
        let replies: HashMap<_, _> = self.told(index, waiting.clone()).collect();
        Said::grouped(
            waiting.filter_map(|recipient| Some((recipient, replies.get(&recipient)?.as_ref().clone()))),
        )
    }

    /// The same for each, with those who wait no longer where they were named.
    pub(crate) fn told(
        &self,
        index: ReplyIx,
        waiting: impl Iterator<Item = u16> + Clone,
    ) -> impl Iterator<Item = (u16, Arc<LastReply>)> {
        told(record::read_said(self.fields(index)).into_iter(), waiting)
    }
}

/// Each recipient with what was said to it; what was said to all was said to `all`.
pub(crate) fn told<'a>(
    said: impl Iterator<Item = (Option<List<'a>>, Arc<LastReply>)>,
    all: impl Iterator<Item = u16> + Clone,
) -> impl Iterator<Item = (u16, Arc<LastReply>)> {
    said.flat_map(move |(to, reply)| {
        let all = to.is_none().then(|| all.clone());
        let to = to.into_iter().flatten().chain(all.into_iter().flatten());
        to.map(move |recipient| (recipient, Arc::clone(&reply)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let reply =
            LastReply { next_hop: Some("mx.example:25".into()), code: 450, status: None, text: text.into() };
        record::put_said(&mut out, &[Said { recipients: vec![0], reply }], 1);
        out
    }

    fn note(replies: &mut Replies, known: ReplyIx, text: &str) -> ReplyIx {
        replies.note(known, Fields::of_checked(&fields(text)), [0].into_iter(), [0].into_iter())
    }

    fn text(replies: &Replies, index: ReplyIx) -> Option<String> {
        let told: Vec<_> = replies.told(index, [0].into_iter()).collect();
        told.first().map(|(_, reply)| reply.told_to(""))
    }

    #[test]
    fn a_reply_is_kept_once_and_as_long_as_a_message_has_it() {
        let mut replies = Replies::default();
        let (one, other) =
            (note(&mut replies, ReplyIx::NONE, "busy"), note(&mut replies, ReplyIx::NONE, "busy"));
        assert_eq!((one, replies.kept.len()), (other, 1));
        let one = note(&mut replies, one, "full");
        assert_eq!(
            (text(&replies, one), text(&replies, other)),
            (Some("450 full".into()), Some("450 busy".into()))
        );
        assert_eq!(replies.note(one, Fields::of_checked(&[]), [0].into_iter(), [0].into_iter()), one);
        [one, other, ReplyIx::NONE].into_iter().for_each(|index| replies.release(index));
        assert!(replies.kept.is_empty() && replies.places.is_empty() && replies.bytes == 0);
    }

    #[test]
    fn of_more_replies_than_are_kept_the_code_is_known() {
        let mut replies = Replies::default();
        let all: Vec<_> =
            (0..2 * TEXTS_MAX).map(|number| note(&mut replies, ReplyIx::NONE, &number.to_string())).collect();
        assert_eq!(replies.kept.len() as usize, TEXTS_MAX + 1);
        assert_eq!(text(&replies, all[TEXTS_MAX - 1]), Some(format!("450 {}", TEXTS_MAX - 1)));
        assert_eq!(text(&replies, all[TEXTS_MAX]), Some("450".to_owned()));
        all.into_iter().for_each(|index| replies.release(index));
        assert!(replies.kept.is_empty() && replies.bytes == 0);
    }

    #[test]
    fn long_ones_are_no_more_than_they_may_take() {
        let mut replies = Replies::default();
        let recipients = 0..20_000_u16;
        for number in 0..200 {
            let reply = |to| LastReply {
                next_hop: None,
                code: number,
                status: None,
                text: format!("{}", to % 2).into(),
            };
            let said = Said::grouped(recipients.clone().map(|to| (to, reply(to))));
            let mut out = Vec::new();
            record::put_said(&mut out, &said, usize::from(recipients.end));
            replies.note(ReplyIx::NONE, Fields::of_checked(&out), recipients.clone(), recipients.clone());
            assert!(replies.bytes <= BYTES_MAX);
        }
        assert!(replies.bytes > TEXT_BYTES_MAX / 2, "they are kept at all");
    }
}
