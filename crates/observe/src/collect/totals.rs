use super::{Registry, Source};
use mail::QueueState;

use crate::metrics::{DeliveryOutcome, WorkerMetrics};

/// What has happened since the start, and what is now, over all workers: for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages that got their final 250.
    pub accepted: u64,
    /// Requests that were denied or deferred.
    pub denied: u64,
    /// Recipients by how an attempt for them ended, in the order of the outcomes.
    pub deliveries: Vec<(DeliveryOutcome, u64)>,
    /// Queued recipients by where they stand.
    pub queue: Vec<(QueueState, u64)>,
    /// Since when the oldest queued message is there; `None` when none is.
    pub oldest_message_age_seconds: Option<u64>,
    /// Messages in the spool.
    pub spool_messages: u64,
    /// Bytes that the spool's files take.
    pub spool_bytes: u64,
    /// Queued messages that are damaged.
    pub quarantined_messages: u64,
    /// Places in segments that are damaged.
    pub damaged_places: u64,
    /// Open connections of each listener, in the order of the configuration.
    pub connections: Vec<(Box<str>, u64)>,
    /// Reloads that were refused.
    pub reload_failures: u64,
    /// Log records that found no room.
    pub log_lines_dropped: u64,
}

impl Registry {
    /// Everything at a glance.
    #[must_use]
    pub fn totals(&self) -> Totals {
        use std::sync::atomic::Ordering::Relaxed;
        let source: &Source = &self.source;
        let count = |of: &dyn Fn(&WorkerMetrics) -> u64| source.workers.iter().map(|worker| of(worker)).sum();
        let deliveries = DeliveryOutcome::ALL.into_iter().map(|outcome| {
            let slots = source.tenants.len();
            let total = count(&|worker| {
                (0..slots)
                    .map(|slot| worker.deliveries.get(WorkerMetrics::delivery_index(slot, outcome)))
                    .sum()
            });
            (outcome, total)
        });
        let queue = QueueState::ALL
            .into_iter()
            .map(|state| (state, count(&|worker| worker.queue.get(state as usize))));
        let connections = source.listeners.iter().enumerate().map(|(listener, name)| {
            // Closed first, as in the metric.
            let closed = count(&|worker| worker.closed.get(listener));
            let opened: u64 = count(&|worker| worker.opened.get(listener));
            (name.clone(), opened.saturating_sub(closed))
        });
        Totals {
            accepted: count(&|worker| worker.accepted.sum()),
            denied: count(&|worker| worker.denials.sum()),
            deliveries: deliveries.collect(),
            queue: queue.collect(),
            oldest_message_age_seconds: source.oldest_message_age_seconds(),
            spool_messages: source.sum(|worker| &worker.spool_messages),
            spool_bytes: source.sum(|worker| &worker.spool_bytes),
            quarantined_messages: source.sum(|worker| &worker.quarantined_messages),
            damaged_places: source.sum(|worker| &worker.damaged_places),
            connections: connections.collect(),
            reload_failures: source.reload_failures.load(Relaxed),
            log_lines_dropped: source.lines_dropped.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use mail::Reason;

    use super::*;

    #[test]
    fn totals_add_up_over_workers_listeners_and_tenants() {
        let registry = Registry::new(2, &["smtp", "submission"], 4);
        registry.set_policy(1, ["proseware"].into_iter());
        for worker in 0..2 {
            let worker = registry.worker(worker);
            worker.message_accepted(0, "proseware");
            worker.message_accepted(1, "proseware");
            worker.denied(0, None, Reason::RelayNotPermitted);
            worker.delivery_ended("proseware", DeliveryOutcome::Deferred);
            worker.connection_opened(1);
            worker.set_queue(QueueState::Ready, 3);
            worker.set_spool(4, 4096);
        }
        registry.worker(0).connection_closed(1);
        let totals = registry.totals();
        assert_eq!(
            (totals.accepted, totals.denied, totals.spool_messages, totals.spool_bytes),
            (4, 2, 8, 8192)
        );
        assert_eq!(totals.connections, [("smtp".into(), 0), ("submission".into(), 1)]);
        assert!(totals.deliveries.contains(&(DeliveryOutcome::Deferred, 2)));
        assert!(totals.queue.contains(&(QueueState::Ready, 6)));
    }
}
