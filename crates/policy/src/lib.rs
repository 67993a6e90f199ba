//! Who may send what through the gateway, and why: pure functions over an immutable [`Snapshot`].
//!
//! A snapshot is compiled from a [`Source`] and answers two questions, at MAIL and at RCPT, without
//! allocating. Every answer names the rule that decided; asked through [`Snapshot::explain`], it
//! also names the configuration line behind each rule and the smallest change that would turn it.
//! Nothing here does I/O or reads a clock. What cannot be compiled is reported as a list of
//! [`CompileError`]s, all of them at once.

mod compile;
mod decide;
mod decision;
mod explain;
mod facts;
mod front;
mod header;
mod limits;
mod lists;
mod logins;
mod names;
mod network;
mod next_hop;
mod nobody;
mod patterns;
mod presented;
mod proof;
mod reach;
mod remedy;
mod reply;
mod responsible;
mod rule;
mod senders;
mod snapshot;
mod source;
mod trie;
mod witness;

pub use compile::{CompileError, PREFIX_BITS_MIN_V4, PREFIX_BITS_MIN_V6, canonical};
pub use decision::Decision;
pub use explain::{Explanation, NoTrace, Outcome, Step, Trace};
pub use facts::{Facts, Listener, Role, TlsPolicy};
pub use header::{HeaderChecks, HeaderField};
pub use limits::{
    Allowance, Allowances, Containment, Counted, Limits, NodeLimits, Period, RateLimit, Threshold, Whom,
};
pub use lists::Listed;
pub use network::{NetworkMatch, parse_network};
pub use next_hop::{NextHop, NextHopError, SMTP_PORT};
pub use proof::width::{is_too_wide, is_translated};
pub use proof::{Doors, Opening, Proof};
pub use reach::Reach;
pub use remedy::Remedy;
pub use reply::{ReplyFacts, contact_is_url};
pub use rule::Rule;
pub use snapshot::{IdentityIx, Route, RouteIx, ScramShape, Snapshot, Tenant, TenantIx};
pub use source::{
    BlockAllow, CONNECTIONS_DEFAULT, GrantTerms, IdentitySource, ListSource, ListsSource, LoginRequired,
    Origin, RecipientsSource, RelayDomainSource, ReservedSendersSource, RouteSource, RouteTls,
    SenderRulesSource, Source, Sourced, TenantSource,
};
pub use witness::Witness;
