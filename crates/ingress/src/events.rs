//! The events of mail that comes in.

use std::fmt::Display;
use std::net::IpAddr;

use mail::{MessageId, Reason, Ticket};
use observe::{Listener, PeerFault, Word, WorkerMetrics};

observe::facts! {
    /// What a peer got wrong about whom it speaks for.
    pub(crate) struct WrongIntroduction<'a> {
        /// The listener.
        listener: Listener<'a>,
        /// The address that the connection itself has.
        peer: IpAddr,
        /// What was wrong: a value of `fault` in `gatepost_peer_faults_total`.
        reason: PeerFault,
    }
}

observe::events! {
    pub const EVENTS;

    /// A client has logged in.
    pub(crate) struct LoggedIn<'a> = "login" {
        /// Its address.
        client: IpAddr,
        /// The peer that spoke for the client (PROXY header or XCLIENT), where one did.
        proxy: Option<IpAddr>,
        /// The login.
        login: &'a str,
    }

    /// A message is durable, and its client gets the final 250.
    pub(crate) struct Accepted<'a> = "accepted" {
        /// The message.
        message: MessageId,
        /// The client that sent it.
        client: IpAddr,
        /// The peer that spoke for the client (PROXY header or XCLIENT), where one did.
        proxy: Option<IpAddr>,
        /// The tenant that it belongs to.
        tenant: &'a str,
        /// The login that it is charged to; empty without one.
        login: &'a str,
        /// Its sender; empty for the null sender.
        from: &'a str,
        /// How many recipients it has.
        recipients: u64,
        /// How long it is as it was sent, without our own header field.
        bytes: u64,
    }
    metric "gatepost_messages_accepted_total"

    /// A request was denied or deferred. Of many for one transaction or client, the first have a record each.
    pub(crate) struct RelayDenied<'a> = "relay_denied" {
        /// The listener.
        listener: Listener<'a>,
        /// The client.
        client: IpAddr,
        /// The peer that spoke for the client (PROXY header or XCLIENT), where one did.
        proxy: Option<IpAddr>,
        /// The tenant that is concerned; empty for a stranger.
        tenant: &'a str,
        /// The login that was used or tried; empty without one.
        login: &'a str,
        /// The sender; empty where none was given.
        from: &'a str,
        /// The recipient; empty where it is about the session or the message.
        to: &'a str,
        /// Why.
        reason: Reason,
        /// The rule that decided.
        rule: Word,
        /// Which limit, list or suspension decided, and when it frees, in words.
        detail: Option<std::fmt::Arguments<'a>>,
        /// The ticket that the client was told.
        ticket: Ticket,
    }
    metric "gatepost_relay_denials_total"
    counts |denied, metrics: &WorkerMetrics| {
        metrics.denied(denied.listener.index, Some(denied.tenant), denied.reason);
    }

    /// Denials that have no record each, summed up: at the end of a transaction, or every ten seconds.
    pub(crate) struct RelayDenialsFolded<'a> = "relay_denials_folded" {
        /// What they share: a `transaction`, a `client`, or all `strangers` or clients of `tenants`.
        of: Word,
        /// The client, an address or an IPv6 /64; missing where it is about many.
        client: Option<IpAddr>,
        /// How many they are.
        denials: u64,
        /// Each reason with its number, as in `relay_not_permitted 9985, routing_syntax 5`.
        reasons: &'a dyn Display,
        /// The first ticket.
        first_ticket: Option<Ticket>,
        /// The last ticket.
        last_ticket: Option<Ticket>,
    }
    metric "gatepost_relay_denials_total"

    /// Failed logins of one login that exists, which had no record each. Written every ten seconds.
    pub(crate) struct LoginFailuresFolded<'a> = "login_failures_folded" {
        /// The login.
        login: &'a str,
        /// How often it failed.
        failures: u64,
        /// Each reason with its number, as in `login_failed 12`.
        reasons: &'a dyn Display,
        /// The first ticket.
        first_ticket: Option<Ticket>,
        /// The last ticket.
        last_ticket: Option<Ticket>,
        /// Where the first came from.
        first_client: IpAddr,
        /// Where the last came from.
        last_client: IpAddr,
    }
    metric "gatepost_relay_denials_total"

    /// Clients were turned away, or their connections ended, for want of places. At most one record every ten seconds.
    pub(crate) struct ConnectionsShed = "connections_shed" {
        /// The latest of them.
        client: IpAddr,
        /// How many since the last record, because their address has as many connections as it may.
        address: u64,
        /// How many, because there was no place.
        full: u64,
        /// How many, because a newcomer took their place.
        displaced: u64,
        /// How many, because they did nothing for too long.
        silent: u64,
        /// Places that strangers hold now.
        strangers: u64,
        /// Places that strangers may hold.
        strangers_max: u64,
        /// Places that all clients hold now.
        connections: u64,
        /// Places that all clients may hold.
        connections_max: u64,
    }
    metric "gatepost_connections_shed_total"

    /// The system gives no more connections. A listener pauses for a moment.
    pub(crate) struct AcceptPaused<'a> = "accept_paused" {
        /// What the system said.
        error: &'a dyn Display,
    }

    /// A PROXY header was wrong or missing, or came from a peer that is not listed.
    pub(crate) struct ProxyHeaderWrong<'a> = "proxy_header" (WrongIntroduction<'a>)
    metric "gatepost_peer_faults_total"
    counts |wrong, metrics: &WorkerMetrics| {
        metrics.peer_fault(wrong.0.listener.index, wrong.0.reason);
    }

    /// XCLIENT came from a peer that is not listed, or gave a login without the right to.
    pub(crate) struct XClientRefused<'a> = "xclient" (WrongIntroduction<'a>)
    metric "gatepost_peer_faults_total"
    counts |wrong, metrics: &WorkerMetrics| {
        metrics.peer_fault(wrong.0.listener.index, wrong.0.reason);
    }
}

#[cfg(test)]
mod tests;
