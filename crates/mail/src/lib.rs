//! The values of the trade: addresses, envelopes, replies, verdicts and their reasons, ids, limits.
//!
//! Plain data that every other room speaks in. Nothing here does I/O or reads a clock; parsing
//! happens once, at the edge, and what has a type here is valid from then on.

mod address;
mod cause;
mod encoding;
mod envelope;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod header;
mod id;
mod last_reply;
pub mod limits;
mod printable;
mod queue_state;
mod reason;
mod reply;
mod scram;
mod time;

pub use address::{Address, AddressError, ForwardPath, ReversePath, RoutingTrick, is_host_name};
pub use cause::SuspensionCause;
pub use envelope::Envelope;
pub use id::{MessageId, ParseIdError, Ticket};
pub use last_reply::{LastReply, RECIPIENT_MARK};
pub use printable::{Printable, is_unprintable, write_escaped};
pub use queue_state::QueueState;
pub use reason::Reason;
pub use reply::{Reply, Status};
pub use scram::ScramVerifier;
pub use time::UnixMillis;

/// What the gateway says to a request: yes, never, or not now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Taken.
    Accept,
    /// A permanent no (5yz), with its reason.
    Deny(Reason),
    /// A temporary no (4yz), with its reason.
    Defer(Reason),
}

impl Verdict {
    /// True for [`Verdict::Accept`].
    #[must_use]
    pub fn is_accept(self) -> bool {
        matches!(self, Self::Accept)
    }

    /// The reason of a denial or deferral.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Accept => None,
            Self::Deny(reason) | Self::Defer(reason) => Some(reason),
        }
    }
}
