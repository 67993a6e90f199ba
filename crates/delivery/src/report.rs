//! What is counted and logged of deliveries.

use std::time::Duration;

use commons::{Sender, SiteFailure};
use mail::{Address, MessageId, QueueState, Reply, SuspensionCause, UnixMillis};
use observe::{Contained, EventLog, Word, WorkerMetrics};
use ring::Ring;
use scheduler::View;
use spool::{LoadError, MessageKey, Outcome, StoredMessage};

use crate::Context;
use crate::events::{
    Attempt, BounceSuppressed, Bounced, Deferred, Delivered, Expired, Failed, MessageQuarantined,
    MessageUnreadable, QueueActed, SiteAvailable, SiteUnavailable,
};
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
    let attempt = Attempt {
        message: message.id(),
        tenant: message.tenant(),
        from: message.reverse_path().text(),
        to: fact.address.text(),
        next_hop: fact.next_hop,
        reply: fact.reply,
    };
    match fact.outcome {
        Some(Outcome::Delivered) => {
            cx.metrics.observe_delivery(Duration::from_millis(now.since(message.arrived())));
            cx.log.record_and_count(&Delivered(attempt), cx.metrics, now);
        }
        Some(Outcome::Failed) => cx.log.record_and_count(&Failed(attempt), cx.metrics, now),
        Some(Outcome::Expired) => cx.log.record_and_count(&Expired(attempt), cx.metrics, now),
        None => cx.log.record_and_count(&Deferred(attempt), cx.metrics, now),
    }
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
        let (login, client) = match sender {
            Sender::Login(login) => (Some(login), None),
            Sender::Client(ip) => (None, Some(ip)),
        };
        let contained = Contained {
            tenant: &snapshot.tenant(contained.tenant).name,
            login,
            client,
            cause,
            more_than: u64::from(contained.threshold.count),
            within_seconds: contained.threshold.within.as_secs(),
            until: contained.until,
        };
        cx.log.record_and_count(&contained, cx.metrics, now);
    }
}

/// A bounce was written about `message`.
pub(crate) fn bounced(log: &mut EventLog, message: &StoredMessage, bounce: MessageId, now: UnixMillis) {
    let to = message.reverse_path().text();
    log.record(&Bounced { message: message.id(), tenant: message.tenant(), to, bounce }, now);
}

/// No sender is told of the failure of a notification.
pub(crate) fn bounce_suppressed(log: &mut EventLog, message: &StoredMessage, now: UnixMillis) {
    log.record(&BounceSuppressed { message: message.id(), tenant: message.tenant() }, now);
}

/// A site could not be reached, or a connection to it failed; `jobs` of this worker are due there.
pub(crate) fn site_unavailable(
    log: &mut EventLog,
    now: UnixMillis,
    site: &Site,
    jobs: u32,
    failure: &SiteFailure,
) {
    let unavailable = SiteUnavailable {
        next_hop: &site.name,
        reply: &failure.reply,
        waiting_jobs: u64::from(jobs),
        failures: u64::from(failure.failures),
        since: failure.since,
        retry_seconds: failure.next_try.since(now).div_ceil(1000),
    };
    log.record(&unavailable, now);
}

/// A site that had failed works again.
pub(crate) fn site_available(log: &mut EventLog, now: UnixMillis, site: &Site, failure: &SiteFailure) {
    let failed_seconds = now.since(failure.since) / 1000;
    log.record(&SiteAvailable { next_hop: &site.name, failed_seconds }, now);
}

/// A stored message could not be read.
pub(crate) fn unreadable(log: &mut EventLog, now: UnixMillis, key: MessageKey, error: &LoadError) {
    log.record(&MessageUnreadable { key: key.0, error }, now);
}

/// A queued message is damaged.
pub(crate) fn quarantined(log: &mut EventLog, now: UnixMillis, id: MessageId, why: impl std::fmt::Display) {
    log.record(&MessageQuarantined { message: id, error: &why }, now);
}

/// An operator wanted something done about a queued message, and it was.
pub(crate) fn ordered(log: &mut EventLog, now: UnixMillis, act: &'static str, id: MessageId, by: &str) {
    log.record(&QueueActed { act: Word(act), message: id, by }, now);
}

/// How many recipients are queued, by where they stand, and since when.
pub(crate) fn queue(metrics: &WorkerMetrics, view: View<'_>) {
    for state in QueueState::ALL {
        metrics.set_queue(state, view.recipients_in(state));
    }
    metrics.set_oldest_arrival(view.oldest());
}
