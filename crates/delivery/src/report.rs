//! What is counted and logged of deliveries.

use std::time::Duration;

use commons::{Sender, SiteFailure};
use mail::{Address, MessageId, QueueState, Reply, SuspensionCause, UnixMillis};
use observe::{DeliveryOutcome, EventLog, WorkerMetrics};
use ring::Ring;
use spool::{LoadError, MessageKey, Outcome, StoredMessage};

use crate::Context;
use crate::queue::Queue;
use crate::site::Site;

/// The end of an attempt for one recipient.
pub(crate) struct Fact<'a> {
    pub(crate) address: Address<'a>,
    pub(crate) next_hop: Option<&'a str>,
    pub(crate) reply: &'a Reply,
    /// `None`: deferred.
    pub(crate) outcome: Option<Outcome>,
}

/// An attempt ended for one recipient of `message`.
pub(crate) fn attempt<R: Ring>(cx: &mut Context<'_, R>, message: &StoredMessage, fact: &Fact<'_>) {
    let now = cx.unix_now();
    let (event, outcome) = match fact.outcome {
        Some(Outcome::Delivered) => ("delivered", DeliveryOutcome::Delivered),
        Some(Outcome::Failed) => ("failed", DeliveryOutcome::Failed),
        Some(Outcome::Expired) => ("expired", DeliveryOutcome::Expired),
        None => ("deferred", DeliveryOutcome::Deferred),
    };
    cx.metrics.delivery_ended(message.tenant(), outcome);
    if outcome == DeliveryOutcome::Delivered {
        cx.metrics.observe_delivery(Duration::from_millis(now.since(message.arrived())));
    }
    cx.log
        .event(event, now)
        .display("message", message.id())
        .str("tenant", message.tenant())
        .str("from", message.reverse_path().text())
        .str("to", fact.address.text())
        .maybe_str("next_hop", fact.next_hop)
        .display("reply", fact.reply)
        .end();
}

/// `count` recipients of `message` refused it for good: too many of them, and its sender is suspended
/// (DESIGN.md E4).
pub(crate) fn count_failures<R: Ring>(cx: &mut Context<'_, R>, message: &StoredMessage, count: usize) {
    let sender = match (message.identity(), message.client()) {
        ("", None) => return,
        ("", Some(ip)) => Sender::Client(ip),
        (login, _) => Sender::Login(login),
    };
    let (now, cause) = (cx.unix_now(), SuspensionCause::Bounces);
    for _ in 0..count {
        let snapshot = cx.snapshots.load();
        let Some(contained) = cx.link.commons().limits().incident(snapshot, sender, cause, now) else {
            continue;
        };
        let tenant = &snapshot.tenant(contained.tenant).name;
        cx.metrics.contained(tenant, cause);
        let record = cx.log.event("contained", now).str("tenant", tenant);
        let record = match sender {
            Sender::Login(login) => record.str("login", login),
            Sender::Client(ip) => record.ip("client", ip),
        };
        record
            .str("cause", cause.as_str())
            .number("more_than", u64::from(contained.threshold.count))
            .number("within_seconds", contained.threshold.within.as_secs())
            .display("until", contained.until.rfc3339())
            .end();
    }
}

/// A bounce was written about `message`.
pub(crate) fn bounced(log: &mut EventLog, message: &StoredMessage, bounce: MessageId, now: UnixMillis) {
    log.event("bounced", now)
        .display("message", message.id())
        .str("tenant", message.tenant())
        .str("to", message.reverse_path().text())
        .display("bounce", bounce)
        .end();
}

/// No sender is told of the failure of a notification.
pub(crate) fn bounce_suppressed(log: &mut EventLog, message: &StoredMessage, now: UnixMillis) {
    log.event("bounce_suppressed", now)
        .display("message", message.id())
        .str("tenant", message.tenant())
        .end();
}

/// A site could not be reached, or a connection to it failed.
pub(crate) fn site_unavailable(log: &mut EventLog, now: UnixMillis, site: &Site, failure: &SiteFailure) {
    log.event("site_unavailable", now)
        .str("next_hop", &site.key)
        .display("reply", &failure.reply)
        .number("waiting_jobs", site.waiting.len() as u64)
        .number("failures", u64::from(failure.failures))
        .display("since", failure.since.rfc3339())
        .number("retry_seconds", failure.next_try.since(now).div_ceil(1000))
        .end();
}

/// A site that had failed works again.
pub(crate) fn site_available(log: &mut EventLog, now: UnixMillis, site: &Site, failure: &SiteFailure) {
    log.event("site_available", now)
        .str("next_hop", &site.key)
        .number("failed_seconds", now.since(failure.since) / 1000)
        .end();
}

/// A stored message could not be read.
pub(crate) fn unreadable(log: &mut EventLog, now: UnixMillis, key: MessageKey, error: &LoadError) {
    log.event("message_unreadable", now).number("key", key.0).display("error", error).end();
}

/// A queued message is damaged.
pub(crate) fn quarantined(log: &mut EventLog, now: UnixMillis, id: MessageId, why: impl std::fmt::Display) {
    log.event("message_quarantined", now).display("message", id).display("error", why).end();
}

/// An operator wanted something done about a queued message, and it was.
pub(crate) fn ordered(log: &mut EventLog, now: UnixMillis, act: &str, id: MessageId, by: &str) {
    log.event("queue_act", now).str("act", act).display("message", id).str("by", by).end();
}

/// How many recipients are queued, by where they stand, and since when.
pub(crate) fn queue(metrics: &WorkerMetrics, queue: &Queue) {
    for state in QueueState::ALL {
        metrics.set_queue(state, queue.recipients_shown(state));
    }
    metrics.set_oldest_arrival(queue.oldest());
}
