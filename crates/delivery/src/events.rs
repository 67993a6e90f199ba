//! The events of mail that goes out.

use std::fmt::Display;

use mail::{MessageId, Reply, UnixMillis};
use observe::{DeliveryOutcome, Word, WorkerMetrics};

observe::facts! {
    /// An attempt that ended, for one recipient of a message.
    pub(crate) struct Attempt<'a> {
        /// The message.
        message: MessageId,
        /// Its tenant.
        tenant: &'a str,
        /// Its sender; empty for the null sender.
        from: &'a str,
        /// The recipient.
        to: &'a str,
        /// The host that was asked last, where one was.
        next_hop: Option<&'a str>,
        /// What it said, or our own words where it said nothing.
        reply: &'a Reply,
    }
}

observe::events! {
    pub const EVENTS;

    /// The next hop took a message for a recipient.
    pub(crate) struct Delivered<'a> = "delivered" (Attempt<'a>)
    metric "gatepost_deliveries_total"
    counts |attempt, metrics: &WorkerMetrics| {
        metrics.delivery_ended(attempt.0.tenant, DeliveryOutcome::Delivered);
    }

    /// A message could not be delivered to a recipient for now. It is tried again.
    pub(crate) struct Deferred<'a> = "deferred" (Attempt<'a>)
    metric "gatepost_deliveries_total"
    counts |attempt, metrics: &WorkerMetrics| {
        metrics.delivery_ended(attempt.0.tenant, DeliveryOutcome::Deferred);
    }

    /// The next hop refused a message for a recipient for good, or an operator had it bounced.
    pub(crate) struct Failed<'a> = "failed" (Attempt<'a>)
    metric "gatepost_deliveries_total"
    counts |attempt, metrics: &WorkerMetrics| {
        metrics.delivery_ended(attempt.0.tenant, DeliveryOutcome::Failed);
    }

    /// A message waited for too long, and is given up for a recipient.
    pub(crate) struct Expired<'a> = "expired" (Attempt<'a>)
    metric "gatepost_deliveries_total"
    counts |attempt, metrics: &WorkerMetrics| {
        metrics.delivery_ended(attempt.0.tenant, DeliveryOutcome::Expired);
    }

    /// The sender of a message is told that it was not delivered.
    pub(crate) struct Bounced<'a> = "bounced" {
        /// The message that was not delivered.
        message: MessageId,
        /// Its tenant.
        tenant: &'a str,
        /// Its sender, who gets the bounce message.
        to: &'a str,
        /// The bounce message.
        bounce: MessageId,
    }

    /// A message with the null sender was not delivered: it is a notification itself, and no sender is told.
    pub(crate) struct BounceSuppressed<'a> = "bounce_suppressed" {
        /// The message that was not delivered.
        message: MessageId,
        /// Its tenant.
        tenant: &'a str,
    }

    /// A site failed: none of its hosts could be reached, or a connection to it broke. Written once a try.
    pub(crate) struct SiteUnavailable<'a> = "site_unavailable" {
        /// The domain or the next hops that make the site.
        next_hop: &'a str,
        /// What it said last, or our own words where it said nothing.
        reply: &'a Reply,
        /// Messages of this worker that wait for it.
        waiting_jobs: u64,
        /// How often it has failed in a row.
        failures: u64,
        /// When it failed first.
        since: UnixMillis,
        /// When it is tried next, from now.
        retry_seconds: u64,
    }
    metric "gatepost_failing_sites"

    /// A site that had failed works again.
    pub(crate) struct SiteAvailable<'a> = "site_available" {
        /// The domain or the next hops that make the site.
        next_hop: &'a str,
        /// How long it failed.
        failed_seconds: u64,
    }
    metric "gatepost_failing_sites"

    /// A stored message could not be read. It is tried again, unless it has left the queue.
    pub(crate) struct MessageUnreadable<'a> = "message_unreadable" {
        /// Its place in the spool.
        key: u64,
        /// Why.
        error: &'a dyn Display,
    }

    /// A queued message is damaged. It stays in the spool and is not delivered.
    pub(crate) struct MessageQuarantined<'a> = "message_quarantined" {
        /// The message.
        message: MessageId,
        /// What is wrong with it.
        error: &'a dyn Display,
    }
    metric "gatepost_spool_quarantined"

    /// What an operator asked of a queued message was done to it. Each `queue_order` has one for each message.
    pub(crate) struct QueueActed<'a> = "queue_act" {
        /// What was done: `hold`, `release`, `retry`, `bounce` or `remove`.
        act: Word,
        /// The message.
        message: MessageId,
        /// Who asked: the name of the token, or the user on the socket.
        by: &'a str,
    }
}

#[cfg(test)]
mod tests;
