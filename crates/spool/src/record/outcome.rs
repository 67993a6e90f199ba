//! The record of what became of some recipients.

use super::fields::{self, Fields, List};
use super::tags::{REQUIRED, kind, outcome as tag};
use super::{Foreign, Said, said};
use crate::Outcome;

const ALL: [(u8, Outcome); 3] =
    [(tag::DELIVERED, Outcome::Delivered), (tag::FAILED, Outcome::Failed), (tag::EXPIRED, Outcome::Expired)];

/// Appends the fields of an outcome record.
pub(crate) fn put_outcomes(out: &mut Vec<u8>, outcomes: &[(u16, Outcome)], said: &[Said]) {
    for (tag, wanted) in ALL {
        let of_it = outcomes.iter().filter(|(_, outcome)| *outcome == wanted);
        fields::put_list(out, tag, of_it.map(|(recipient, _)| *recipient));
    }
    said::put_said(out, said, outcomes.len());
}

/// What became of some recipients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcomes<'a> {
    fields: Fields<'a>,
}

impl<'a> Outcomes<'a> {
    /// # Errors
    /// What is not understood of it.
    pub(crate) fn parse(fields: Fields<'a>) -> Result<Self, Foreign> {
        let kind = kind::OUTCOME;
        let mut seen = [false; ALL.len()];
        for field in fields.filter(|field| field.tag & REQUIRED != 0) {
            let tag = field.tag;
            let place = ALL.iter().position(|(known, _)| *known == tag);
            let place = place.ok_or(Foreign::Unknown { kind, tag })?;
            let is_twice = std::mem::replace(&mut seen[place], true);
            fields::list(field.value).filter(|_| !is_twice).ok_or(Foreign::Value { kind, tag })?;
        }
        Ok(Self { fields })
    }

    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (u16, Outcome)> + Clone + use<'a> {
        let lists = self.fields.filter_map(|field| Some((outcome_of(field.tag)?, list_of(field.value))));
        lists.flat_map(|(outcome, list)| list.map(move |recipient| (recipient, outcome)))
    }

    /// The fields that tell what was said, and others.
    pub(crate) fn fields(&self) -> Fields<'a> {
        self.fields
    }
}

fn outcome_of(tag: u8) -> Option<Outcome> {
    ALL.into_iter().find(|(known, _)| *known == tag).map(|(_, outcome)| outcome)
}

fn list_of(value: &[u8]) -> List<'_> {
    fields::list(value).unwrap_or_default()
}
