//! The events of the control plane: signals, configuration, the admin API, grants, tickets.

use std::fmt::Display;
use std::net::IpAddr;
use std::path::Path;

use mail::SuspensionCause;
use observe::{AdminMetrics, Registry, Word};

observe::facts! {
    /// What an operator did about a suspension.
    pub(crate) struct SuspensionChange<'a> {
        /// The tenant; empty for a stranger's address.
        tenant: &'a str,
        /// The login, where it is about one.
        login: Option<&'a str>,
        /// The address, where it is about one.
        client: Option<IpAddr>,
        /// `operator`.
        cause: SuspensionCause,
        /// Who asked: the name of the token, or the user on the socket.
        by: &'a str,
    }
}

observe::events! {
    pub const EVENTS;

    /// The gateway ends: it takes no more connections, and finishes what is under way.
    pub(crate) struct Draining = "draining" {
        /// Why: `signal`.
        reason: Word,
    }

    /// The gateway ends at once, since a second signal came.
    pub(crate) struct Killed = "killed" {
        /// Why: `second signal`.
        reason: Word,
    }

    /// A new configuration is in force.
    pub(crate) struct PolicyReloaded<'a> = "policy_reloaded" {
        /// Its number.
        generation: u64,
        /// How many tenants it has.
        tenants: u64,
        /// How many warnings there are about it.
        warnings: u64,
        /// The parts of the configuration that only a restart takes up.
        needs_a_restart: &'a str,
    }
    metric "gatepost_policy_generation"

    /// A warning about the new configuration. Follows `policy_reloaded`, for the first hundred.
    pub(crate) struct PolicyWarning<'a> = "policy_warning" {
        /// File, line and remedy.
        warning: &'a str,
    }

    /// A new configuration was refused. The one before stays in force.
    pub(crate) struct PolicyReloadFailed<'a> = "policy_reload_failed" {
        /// The number of the one that stays.
        generation: u64,
        /// How many errors there are.
        errors: u64,
        /// The first of them.
        error: &'a str,
    }
    metric "gatepost_policy_reload_failures_total"
    counts |_failed, registry: &Registry| { registry.reload_failed(); }

    /// An error of the refused configuration. Follows `policy_reload_failed`, for the first hundred.
    pub(crate) struct PolicyError<'a> = "policy_error" {
        /// File, line and remedy.
        error: &'a str,
    }

    /// A certificate has ended, or ends within 14 days. Written at the start and at each reload.
    pub(crate) struct CertificateExpiry<'a> = "certificate_expiry" {
        /// The file of the certificate.
        file: &'a Path,
        /// When it ends, in seconds since 1970.
        unix_seconds: u64,
        /// The same, in words.
        warning: &'a str,
    }
    metric "gatepost_certificate_expiry_timestamp_seconds"

    /// No name server could be found. Written at the start.
    pub(crate) struct ResolverUnconfigured<'a> = "resolver_unconfigured" {
        /// Why not.
        error: &'a str,
    }

    /// An operator suspended a tenant, a login or an address.
    pub(crate) struct Suspended<'a> = "suspended" (SuspensionChange<'a>)

    /// An operator ended a suspension.
    pub(crate) struct Resumed<'a> = "resumed" (SuspensionChange<'a>)

    /// The copy of the suspensions on disk could not be brought up to date. It is tried again.
    pub(crate) struct SuspensionsNotKept<'a> = "suspensions_not_kept" {
        /// What the system said.
        error: &'a dyn Display,
    }

    /// A mailbox server reported a login, and its address may relay for a while.
    pub(crate) struct GrantOpened<'a> = "grant_opened" {
        /// The tenant of the login.
        tenant: &'a str,
        /// The login.
        login: &'a str,
        /// The address that may relay.
        client: IpAddr,
        /// For how long.
        seconds: u64,
        /// Whether there was a grant already.
        renewed: bool,
        /// Who reported: the name of the token.
        by: &'a str,
    }
    metric "gatepost_grants_opened_total"
    counts |_opened, metrics: &AdminMetrics| { metrics.grant_opened(); }

    /// A mailbox server reported a login, and it opened no grant.
    pub(crate) struct GrantRefused<'a> = "grant_refused" {
        /// The login.
        login: &'a str,
        /// The address.
        client: IpAddr,
        /// Why, as in `unknown_login`, `not_enabled`, `suspended` or `private_address`.
        reason: Word,
        /// Who reported: the name of the token.
        by: &'a str,
    }
    metric "gatepost_grants_refused_total"
    counts |refused, metrics: &AdminMetrics| { metrics.grant_refused(refused.reason.0); }

    /// A grant was ended before its time.
    pub(crate) struct GrantRevoked<'a> = "grant_revoked" {
        /// The tenant of the login.
        tenant: &'a str,
        /// The login.
        login: &'a str,
        /// The address that may not relay any more.
        client: IpAddr,
        /// Who ended it: the name of the token, the user on the socket, or `reload`.
        by: &'a str,
    }

    /// An operator asked something of the queue, and it is done. What was done to each message has a `queue_act`.
    pub(crate) struct QueueOrdered<'a> = "queue_order" {
        /// What: `hold`, `release`, `retry`, `bounce` or `remove`.
        act: Word,
        /// Who asked: the name of the token, or the user on the socket.
        by: &'a str,
        /// The messages that were meant, in words.
        selection: &'a str,
        /// What a bounce tells the sender.
        reason: Option<&'a str>,
        /// Messages to which it was done.
        done: u64,
        /// Messages that were so already.
        unchanged: u64,
        /// Messages that were on their way just then.
        under_way: u64,
        /// Why it ended early, if it did.
        failure: Option<&'a str>,
    }

    /// Requests to the admin API had no token that opens it. At most one record a second.
    pub(crate) struct AdminUnauthorized = "admin_unauthorized" {
        /// How many since the last record.
        requests: u64,
        /// Where the latest came from; missing on the socket.
        client: Option<IpAddr>,
    }
    metric "gatepost_admin_unauthorized_total"

    /// Connections to a port of HTTP were ended to make room for new ones. At most one record a minute and port.
    pub(crate) struct HttpPlacesShort = "http_places_short" {
        /// Which: `metrics`, `tickets`, `admin` or `admin_socket`.
        port: Word,
        /// How many since the last record.
        connections_ended: u64,
        /// Whose connection was ended last; missing on the socket.
        client: Option<IpAddr>,
    }
    metric "gatepost_http_displaced_total"

    /// The file of the tickets was damaged. It is moved aside, and a new one begun.
    pub(crate) struct TicketsDamaged<'a> = "tickets_damaged" {
        /// Where the damaged file lies.
        moved_to: &'a Path,
    }

    /// Tickets could not be written to their file, and cannot be looked up.
    pub(crate) struct TicketsNotKept<'a> = "tickets_not_kept" {
        /// How many.
        tickets: u64,
        /// What the system said.
        error: &'a dyn Display,
    }
    metric "gatepost_tickets_dropped_total"
}

#[cfg(test)]
mod tests;
