//! What a check says no with, as a plain value: the decision, the words for it, and whom its records name.
//!
//! A check returns it and does no more: nothing is told or counted. `handler::denial` alone makes reply, ticket, log
//! record and metric of it. Details stay numbers and shared names until they are told: a check builds no text.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use commons::{Listing, NoPlace, Over, OverBudget, called};
use mail::{Reason, Status, UnixMillis};
use policy::{Decision, IdentityIx, Snapshot, TenantIx, Whom};

use crate::handler::author::Problem;

/// Why something is not taken.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) decision: Decision,
    pub(crate) words: Words,
    pub(crate) names: Names,
}

/// What the first line of the reply says.
#[derive(Debug)]
pub(crate) enum Words {
    /// What it says of each refusal for this reason, and this beside it.
    Usual(Detail),
    /// This.
    Own { code: u16, status: Status, text: Detail },
    /// What stands in the reply already.
    Said,
}

/// What the running gateway knows beside the decision. It is put in words where it is told.
#[derive(Debug)]
pub(crate) enum Detail {
    None,
    Text(&'static str),
    RecipientsMax(u32),
    OctetsMax(u64),
    /// Unfinished messages hold too much.
    OverBudget(OverBudget),
    /// When a suspension ends; `None` where it must be lifted.
    SuspendedUntil(Option<UnixMillis>),
    /// A limit over time has no room.
    Limit(Over, Who),
    /// The same of connections.
    ConnectionRate(Over, Who),
    /// So many connections at the same time are all that one may have.
    Connections(Whom, u32, Who),
    /// When a login is looked at again.
    LockedMinutes(u64),
    /// What is wrong with the header.
    Header(Problem),
    /// The block list.
    List(Arc<str>),
    /// The DNS list, and what it says.
    DnsList(Arc<Listing>),
}

/// The tenant and the login that a use is charged to, where there are any.
pub(crate) type Who = (Option<TenantIx>, Option<IdentityIx>);

/// Whom the records of a refusal name beside the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// No sender and no recipient.
    Client,
    /// The sender of the transaction under way, where there is one.
    Transaction,
    /// Whom the command names: its sender at MAIL, sender and recipient at RCPT, and the sender after that.
    Command,
}

/// Why a client is turned away before it can say anything.
#[derive(Debug)]
pub(crate) enum TurnedAway {
    /// There is no place for it: it has no ticket, so that a storm of connections costs little.
    NoPlace(NoPlace),
    Refused(Refusal),
}

impl From<NoPlace> for TurnedAway {
    fn from(refused: NoPlace) -> Self {
        Self::NoPlace(refused)
    }
}

impl From<Refusal> for TurnedAway {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Refusal {
    /// As `decision` says.
    pub(crate) fn new(decision: Decision) -> Self {
        Self { decision, words: Words::Usual(Detail::None), names: Names::Command }
    }

    /// For a reason about which no decision was asked; `tenant` is whose client, or whose message, it is.
    pub(crate) fn for_reason(reason: Reason, tenant: Option<TenantIx>) -> Self {
        Self { names: Names::Transaction, ..Self::new(Decision::refusal_for(reason, tenant)) }
    }

    /// Of what the spool does not take now.
    pub(crate) fn of_spool(refusal: spool::Refusal, tenant: Option<TenantIx>) -> Self {
        let (reason, detail) = match refusal {
            spool::Refusal::Full => (Reason::SpoolFull, Detail::None),
            spool::Refusal::Busy => (Reason::SpoolFull, Detail::Text("room is being made")),
            spool::Refusal::Latched => (Reason::SpoolFailed, Detail::None),
            spool::Refusal::Vanished => (Reason::SpoolFailed, Detail::Text("its files have vanished")),
        };
        Self::for_reason(reason, tenant).because(detail)
    }

    /// The same, with what the decision alone does not know.
    pub(crate) fn because(self, detail: Detail) -> Self {
        Self { words: Words::Usual(detail), ..self }
    }

    /// The same in other words than the usual.
    pub(crate) fn in_words(self, code: u16, status: Status, text: Detail) -> Self {
        Self { words: Words::Own { code, status, text }, ..self }
    }

    /// The same, naming whom it concerns.
    pub(crate) fn naming(self, names: Names) -> Self {
        Self { names, ..self }
    }
}

impl Detail {
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// In words for the client at `address`, by the configuration that it is in.
    pub(crate) fn told<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        address: IpAddr,
        now: UnixMillis,
    ) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| match self {
            Self::None => Ok(()),
            Self::Text(text) => f.write_str(text),
            Self::RecipientsMax(limit) => write!(f, "at most {limit}"),
            Self::OctetsMax(limit) => write!(f, "at most {limit} octets"),
            Self::OverBudget(over) => write_over_budget(f, *over),
            Self::SuspendedUntil(Some(until)) => write!(f, "until {}", clock(*until, now)),
            Self::SuspendedUntil(None) => f.write_str("until the suspension is lifted"),
            Self::Limit(over, charged) | Self::ConnectionRate(over, charged) => {
                if matches!(self, Self::ConnectionRate(..)) {
                    f.write_str("too many connections: ")?;
                }
                let name = called(over.whom, *charged, snapshot, address);
                write!(f, "{name} may use {}; free again at {}", over.limit, clock(over.frees, now))
            }
            Self::Connections(whom, limit, charged) => {
                let name = called(*whom, *charged, snapshot, address);
                write!(f, "too many connections: {name} may have {limit} at the same time")
            }
            Self::LockedMinutes(minutes) => {
                let plural = if *minutes == 1 { "" } else { "s" };
                write!(f, "try again in {minutes} minute{plural}")
            }
            Self::Header(problem) => write!(f, "{problem}"),
            Self::List(name) => f.write_str(name),
            Self::DnsList(listing) => match &listing.text {
                Some(text) => write!(f, "{}, {text}", listing.list),
                None => f.write_str(&listing.list),
            },
        })
    }
}

fn write_over_budget(f: &mut fmt::Formatter<'_>, over: OverBudget) -> fmt::Result {
    const MIB: u64 = 1 << 20;
    let (whose, bytes) = match over {
        OverBudget::Client(bytes) => ("this client", bytes),
        OverBudget::Strangers(bytes) => ("all clients without a login", bytes),
        OverBudget::All(bytes) => ("all clients", bytes),
    };
    write!(f, "unfinished messages of {whose} may hold {} MiB", bytes / MIB)
}

/// A time to come as a person reads it: `12:34:56Z (in 7 s)`, with the date where it is not today.
fn clock(time: UnixMillis, now: UnixMillis) -> impl fmt::Display {
    const DAY_MILLIS: u64 = 86_400_000;
    fmt::from_fn(move |f| {
        // Rounded up: at the second that is told, it has come.
        let seconds = time.0.div_ceil(1000);
        let whole = UnixMillis(seconds * 1000);
        if whole.0 / DAY_MILLIS == now.0 / DAY_MILLIS {
            let of_day = seconds % 86_400;
            write!(f, "{:02}:{:02}:{:02}Z", of_day / 3600, of_day % 3600 / 60, of_day % 60)?;
        } else {
            write!(f, "{}", whole.rfc5322())?;
        }
        write!(f, " (in {} s)", time.since(now).div_ceil(1000))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_by_the_clock_and_by_the_wait() {
        let now = UnixMillis(1_795_390_496_789);
        assert_eq!(clock(now.plus(6_500), now).to_string(), "23:35:04Z (in 7 s)");
        assert_eq!(
            clock(now.plus(3_600_000), now).to_string(),
            "Mon, 23 Nov 2026 00:34:57 +0000 (in 3600 s)"
        );
    }
}
