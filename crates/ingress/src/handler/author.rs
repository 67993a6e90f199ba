//! Whether the message is from whom its header says (DESIGN.md C2): each checked field is
//! held against the senders of who relays, as the envelope sender was.
//!
//! Mail of strangers for relay domains is not checked, nor is that of a tenant's network for them:
//! no insider gets less than a stranger.

use std::fmt;

use mail::header::{self, HeaderError};
use mail::{Reason, Reply, Verdict};
use policy::{Decision, HeaderChecks, HeaderField, IdentityIx, Remedy, Rule, Snapshot, TenantIx};
use ring::Ring;

use crate::handler::SessionHandler;
use crate::headers::Found;

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

#[derive(Debug)]
enum Problem {
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
    /// Forgets the message.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

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
                .map_or(Some(Problem::Malformed(field)), |value| judge_field(snapshot, author, field, value))
        };
    }

    /// Whether the header is refused already.
    pub(crate) fn is_refused(&self) -> bool {
        self.problem.is_some()
    }

    /// The header is over: whether it is refused.
    pub(crate) fn end(&mut self) -> bool {
        let wants_from = self.author.is_some_and(|author| author.checks.from);
        if wants_from && !self.seen[HeaderField::From as usize] && self.problem.is_none() {
            self.problem = Some(Problem::Missing);
        }
        self.is_refused()
    }
}

fn judge_field(snapshot: &Snapshot, author: Author, field: HeaderField, value: &[u8]) -> Option<Problem> {
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

impl<R: Ring> SessionHandler<'_, '_, R> {
    /// Refuses a message for its header.
    pub(crate) fn refuse_header(&mut self, reply: &mut Reply) {
        let authorship = std::mem::take(&mut self.client.transaction.authorship);
        // The envelope lends its text to the denial and has it back afterwards.
        let envelope = std::mem::take(&mut self.client.transaction.envelope);
        if let (Some(author), Some(problem)) = (authorship.author, &authorship.problem) {
            let verdict = Verdict::Deny(Reason::HeaderFromNotOwned);
            let tenant = Some(author.tenant);
            let decision = Decision::refusal(Rule::HeaderFrom, tenant, verdict, Remedy::OwnHeaderFrom);
            let decision = Decision { identity: author.identity, ..decision };
            let from = envelope.reverse_path().text();
            self.refuse_with(&decision, Some(format_args!("{problem}")), (from, ""), reply);
        }
        self.client.transaction.envelope = envelope;
    }
}
