//! The records of an attempt and of a deferral.

use mail::UnixMillis;

use super::fields::{self, Fields, List};
use super::tags::{REQUIRED, kind, schedule as tag};
use super::{Foreign, Said, said};

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheduled {
    Attempt,
    Deferred,
}

impl Scheduled {
    pub(crate) fn kind(self) -> u8 {
        match self {
            Self::Attempt => kind::ATTEMPT,
            Self::Deferred => kind::DEFERRED,
        }
    }
}

/// Appends the fields of an attempt or a deferral.
pub(crate) fn put_schedule(
    out: &mut Vec<u8>,
    recipients: &[u16],
    time: UnixMillis,
    attempts: u16,
    said: &[Said],
) {
    fields::put(out, tag::TIME, &[&time.0.to_le_bytes()]);
    fields::put(out, tag::ATTEMPTS, &[&attempts.to_le_bytes()]);
    fields::put_list(out, tag::RECIPIENTS, recipients.iter().copied());
    said::put_said(out, said, recipients.len());
}

/// An attempt or a deferral.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule<'a> {
    fields: Fields<'a>,
    time: UnixMillis,
    attempts: u16,
    recipients: List<'a>,
}

impl<'a> Schedule<'a> {
    /// # Errors
    /// What is not understood of it.
    pub(crate) fn parse(fields: Fields<'a>, kind: u8) -> Result<Self, Foreign> {
        let (mut time, mut attempts, mut recipients) = (None, None, None);
        for field in fields.filter(|field| field.tag & REQUIRED != 0) {
            let tag = field.tag;
            let wrong = Foreign::Value { kind, tag };
            let is_first = match tag {
                tag::TIME => time.replace(fields::u64_of(field.value).ok_or(wrong)?).is_none(),
                tag::ATTEMPTS => attempts.replace(fields::u16_of(field.value).ok_or(wrong)?).is_none(),
                tag::RECIPIENTS => recipients.replace(fields::list(field.value).ok_or(wrong)?).is_none(),
                _ => return Err(Foreign::Unknown { kind, tag }),
            };
            if !is_first {
                return Err(wrong);
            }
        }
        let missing = |tag| Foreign::Missing { kind, tag };
        Ok(Self {
            fields,
            time: UnixMillis(time.ok_or(missing(tag::TIME))?),
            attempts: attempts.ok_or(missing(tag::ATTEMPTS))?,
            recipients: recipients.unwrap_or_default(),
        })
    }

    pub(crate) fn time(&self) -> UnixMillis {
        self.time
    }

    pub(crate) fn attempts(&self) -> u16 {
        self.attempts
    }

    pub(crate) fn recipients(&self) -> List<'a> {
        self.recipients
    }

    /// The fields that tell what was said, and others.
    pub(crate) fn fields(&self) -> Fields<'a> {
        self.fields
    }
}
