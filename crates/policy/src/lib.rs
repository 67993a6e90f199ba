//! Who may send what through the gateway, and why: pure functions over an immutable [`Snapshot`].
//!
//! A snapshot is compiled from a [`Source`] and answers two questions, at MAIL and at RCPT, without
//! allocating. Every answer names the rule that decided; asked through [`Snapshot::explain`], it
//! also names the configuration line behind each rule and the smallest change that would turn it.
//! Nothing here does I/O or reads a clock. What cannot be compiled is reported as a list of
//! [`CompileError`]s, all of them at once.

mod advice;
mod checks;
mod compile;
mod decide;
mod decision;
mod explain;
mod facts;
mod front;
mod header;
mod index;
mod limits;
mod listed;
mod lists;
mod logins;
mod names;
mod network;
mod next_hop;
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
mod stand_in;
mod trace;
mod trie;
mod witness;

pub use checks::{HeaderChecks, HeaderField};
pub use compile::{CompileError, PREFIX_BITS_MIN_V4, PREFIX_BITS_MIN_V6};
pub use decision::Decision;
pub use explain::{Explanation, Step};
pub use facts::{Facts, Listener, Role, TlsPolicy};
pub use index::{IdentityIx, RouteIx, TenantIx};
pub use limits::{
    Allowance, Allowances, Containment, Counted, Limits, NodeLimits, Period, RateLimit, Threshold, Whom,
};
pub use listed::Listed;
pub use network::{NetworkMatch, canonical, parse_network};
pub use next_hop::{NextHop, NextHopError, SMTP_PORT};
pub use proof::width::{is_too_wide, is_translated};
pub use proof::{Doors, Opening, Proof};
pub use reach::Reach;
pub use remedy::Remedy;
pub use reply::{ReplyFacts, contact_is_url};
pub use rule::Rule;
pub use snapshot::{Route, Snapshot, Tenant};
pub use source::{
    BlockAllow, CONNECTIONS_DEFAULT, GrantTerms, IdentitySource, ListSource, ListsSource, LoginRequired,
    Origin, RecipientsSource, RelayDomainSource, ReservedSendersSource, RouteSource, RouteTls,
    SenderRulesSource, Source, Sourced, TenantSource,
};
pub use stand_in::{ScramShape, StandIn};
pub use trace::{NoTrace, Outcome, Trace};
pub use witness::Witness;
