//! Whether the message is from whom its header says (DESIGN.md C2): each checked field is
//! held against the senders of who relays, as the envelope sender was.
//!
//! Mail of strangers for relay domains is not checked, nor is that of a tenant's network for them:
//! no insider gets less than a stranger.

use std::fmt;

use mail::header::{self, HeaderError};
use mail::{Reason, Verdict};
use policy::{Decision, HeaderChecks, HeaderField, IdentityIx, Remedy, Rule, Snapshot, TenantIx};

use crate::headers::Found;
use crate::refusal::{Detail, Refusal};

/// Who answers for the header of a message, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Authorship {
    author: Option<Author>,
    seen: [bool; HeaderField::ALL.len()],
    problem: Option<Problem>,
}

#[derive(Clone, Copy, Debug)]
struct Author {
    tenant: TenantIx,
    identity: Option<IdentityIx>,
    checks: HeaderChecks,
}

/// What is wrong with a header.
#[derive(Debug)]
pub(crate) enum Problem {
    Missing,
    Twice(HeaderField),
    /// Too long, or its name is not written as a name must be.
    Malformed(HeaderField),
    Unreadable(HeaderField, HeaderError),
    Foreign(HeaderField, Box<str>),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no From"),
            Self::Twice(field) => write!(f, "there is more than one {}", field.name()),
            Self::Malformed(field) => write!(f, "{} is too long, or malformed", field.name()),
            Self::Unreadable(field, error) => write!(f, "{}: {error}", field.name()),
            Self::Foreign(field, address) => {
                write!(f, "{} holds <{address}>, which is not yours", field.name())
            }
        }
    }
}

impl Authorship {
    /// A recipient was accepted: gives what is to be found in the header, where it is not known yet.
    pub(crate) fn recipient_accepted(
        &mut self,
        snapshot: &Snapshot,
        login: Option<IdentityIx>,
        accepted: &Decision,
    ) -> Option<HeaderChecks> {
        let author = match login {
            Some(login) => Some((snapshot.identity_tenant(login), Some(login))),
            None if accepted.rule == Rule::Sender => {
                accepted.tenant.map(|tenant| (tenant, accepted.identity))
            }
            None => None,
        };
        let (tenant, identity) = author.filter(|_| self.author.is_none())?;
        let checks = snapshot.header_checks(tenant);
        self.author = Some(Author { tenant, identity, checks });
        Some(checks)
    }

    /// A checked field has gone by.
    pub(crate) fn see(&mut self, snapshot: &Snapshot, found: Found<'_>) {
        let (Some(author), None) = (self.author, &self.problem) else { return };
        let field = found.field;
        self.problem = if std::mem::replace(&mut self.seen[field as usize], true) {
            Some(Problem::Twice(field))
        } else {
            found
                .value
                .map_or(Some(Problem::Malformed(field)), |value| check_field(snapshot, author, field, value))
        };
    }

    /// Why the message is refused for its header, as far as that went by.
    pub(crate) fn refusal(&mut self) -> Option<Refusal> {
        let (author, problem) = (self.author?, self.problem.take()?);
        let verdict = Verdict::Deny(Reason::HeaderFromNotOwned);
        let decision =
            Decision::refusal(Rule::HeaderFrom, Some(author.tenant), verdict, Remedy::OwnHeaderFrom);
        let decision = Decision { identity: author.identity, ..decision };
        Some(Refusal::new(decision).because(Detail::Header(problem)))
    }

    /// The header is over: what is missing in it is wrong too.
    pub(crate) fn end(&mut self) {
        let wants_from = self.author.is_some_and(|author| author.checks.from);
        if wants_from && !self.seen[HeaderField::From as usize] && self.problem.is_none() {
            self.problem = Some(Problem::Missing);
        }
    }
}

fn check_field(snapshot: &Snapshot, author: Author, field: HeaderField, value: &[u8]) -> Option<Problem> {
    let mut foreign = None;
    let read = header::addresses(value, |address| {
        if !snapshot.owns_header_address(author.tenant, author.identity, address) {
            foreign.get_or_insert(address);
        }
    });
    match (read, foreign) {
        (Err(error), _) => Some(Problem::Unreadable(field, error)),
        (Ok(()), Some(address)) => Some(Problem::Foreign(field, address.text().into())),
        (Ok(()), None) => None,
    }
}
