mod totals;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use mail::{QueueState, Reason, SuspensionCause, UnixMillis};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use crate::admin::AdminMetrics;
use crate::histogram::{Histogram, Total};
use crate::http::HttpMetrics;
use crate::metrics::{DeliveryOutcome, PeerFault, ShedCause, WorkerMetrics};
use crate::tenants::TenantSlots;

pub use totals::Totals;

/// Everything that is counted, and the text of `/metrics`.
///
/// Names keep their meaning (DESIGN.md N1). Every label's values are bounded: listeners and
/// reasons by what they are, tenants by the number given to [`Registry::new`].
pub struct Registry {
    prometheus: prometheus::Registry,
    admin: AdminMetrics,
    http: HttpMetrics,
    source: Arc<Source>,
}

impl Registry {
    /// A registry for these workers and listeners (by name, in order), which shows `tenants_shown_max` tenants by name.
    #[must_use]
    pub fn new(workers: usize, listeners: &[&str], tenants_shown_max: usize) -> Self {
        let tenants = Arc::new(TenantSlots::new(tenants_shown_max));
        let source = Arc::new(Source {
            workers: (0..workers)
                .map(|_| Arc::new(WorkerMetrics::new(listeners.len(), tenants.clone())))
                .collect(),
            listeners: listeners.iter().map(|&name| name.into()).collect(),
            tenants,
            generation: AtomicU64::new(0),
            reload_failures: AtomicU64::new(0),
            lines_dropped: Arc::new(AtomicU64::new(0)),
            tickets_dropped: AtomicU64::new(0),
            places: Places::default(),
            failing_sites: AtomicU64::new(0),
            backend: ArcSwapOption::empty(),
            certificate_expiry: ArcSwapOption::empty(),
            descriptions: FAMILIES
                .iter()
                .map(|family| {
                    let labels = family.labels.iter().map(|&label| label.to_owned()).collect();
                    Desc::new(family.name.to_owned(), family.help.to_owned(), labels, Default::default())
                        .expect("the names in the table are valid")
                })
                .collect(),
        });
        let prometheus = prometheus::Registry::new();
        prometheus.register(Box::new(Shared(source.clone()))).expect("each name stands once in the table");
        let admin = AdminMetrics::new(&prometheus);
        let http = HttpMetrics::new(&prometheus);
        Self { prometheus, admin, http, source }
    }

    /// The counts of worker `worker`, for its thread.
    #[must_use]
    pub fn worker(&self, worker: usize) -> Arc<WorkerMetrics> {
        self.source.workers[worker].clone()
    }

    /// The counts of the admin API and of grants.
    #[must_use]
    pub fn admin(&self) -> &AdminMetrics {
        &self.admin
    }

    /// The counts of the ports of HTTP.
    #[must_use]
    pub fn http(&self) -> &HttpMetrics {
        &self.http
    }

    /// A configuration is in force: its generation, and its tenants' names.
    pub fn set_policy<'a>(&self, generation: u64, tenants: impl Iterator<Item = &'a str> + Clone) {
        self.source.tenants.add(tenants);
        self.source.generation.store(generation, Ordering::Relaxed);
    }

    /// A reload was refused.
    pub fn reload_failed(&self) {
        self.source.reload_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// So many denials so far have a ticket that cannot be looked up.
    pub fn set_tickets_dropped(&self, tickets: u64) {
        self.source.tickets_dropped.store(tickets, Ordering::Relaxed);
    }

    /// Connections that hold a place now, and how many may, of strangers, of tenants' networks and strangers, and
    /// of all.
    pub fn set_places(&self, held: [u64; 3], max: [u64; 3]) {
        let Places { held: held_now, max: max_now } = &self.source.places;
        for (slot, value) in held_now.iter().chain(max_now).zip(held.into_iter().chain(max)) {
            slot.store(value, Ordering::Relaxed);
        }
    }

    /// So many sites fail while mail waits for them.
    pub fn set_failing_sites(&self, sites: usize) {
        self.source.failing_sites.store(sites as u64, Ordering::Relaxed);
    }

    /// Which backend the rings use.
    pub fn set_backend(&self, backend: &'static str) {
        self.source.backend.store(Some(Arc::new(backend)));
    }

    /// When the certificate ends that these listeners present, in seconds since 1970.
    pub fn set_certificate_expiry<'a>(&self, listeners: impl Iterator<Item = &'a str>, unix_seconds: u64) {
        let listeners = listeners.map(|name| (name.into(), unix_seconds)).collect();
        self.source.certificate_expiry.store(Some(Arc::new(listeners)));
    }

    /// The counter of dropped log lines, for the log.
    pub(crate) fn lines_dropped(&self) -> Arc<AtomicU64> {
        self.source.lines_dropped.clone()
    }

    /// The text of `/metrics`, in the prometheus text format 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.prometheus.gather(), &mut text)
            .expect("writing to memory does not fail, and every family has a value");
        String::from_utf8(text).expect("the encoder writes text")
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("workers", &self.source.workers.len()).finish_non_exhaustive()
    }
}

/// One metric name.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    values: fn(&Source) -> Vec<Metric>,
}

const FAMILIES: [Family; 24] = [
    Family {
        name: "gatepost_relay_denials_total",
        help: "Requests that were denied or deferred, by reason.",
        kind: MetricType::COUNTER,
        labels: &["listener", "tenant", "reason"],
        values: Source::denials,
    },
    Family {
        name: "gatepost_messages_accepted_total",
        help: "Messages that got their final 250.",
        kind: MetricType::COUNTER,
        labels: &["listener", "tenant"],
        values: Source::accepted,
    },
    Family {
        name: "gatepost_acceptance_seconds",
        help: "From the last dot to the 250.",
        kind: MetricType::HISTOGRAM,
        labels: &[],
        values: |source| source.histogram(|worker| &worker.acceptance),
    },
    Family {
        name: "gatepost_commit_seconds",
        help: "One durable write of the spool.",
        kind: MetricType::HISTOGRAM,
        labels: &[],
        values: |source| source.histogram(|worker| &worker.commit),
    },
    Family {
        name: "gatepost_commit_messages",
        help: "Messages in one durable write of the spool.",
        kind: MetricType::HISTOGRAM,
        labels: &[],
        values: |source| source.histogram(|worker| &worker.commit_messages),
    },
    Family {
        name: "gatepost_spool_messages",
        help: "Messages in the spool.",
        kind: MetricType::GAUGE,
        labels: &[],
        values: |source| vec![gauge(&[], source.sum(|worker| &worker.spool_messages))],
    },
    Family {
        name: "gatepost_spool_bytes",
        help: "Bytes that the spool's files take.",
        kind: MetricType::GAUGE,
        labels: &[],
        values: |source| vec![gauge(&[], source.sum(|worker| &worker.spool_bytes))],
    },
    Family {
        name: "gatepost_spool_quarantined",
        help: "What is damaged in the spool and never delivered: queued messages, and places in segments.",
        kind: MetricType::GAUGE,
        labels: &["what"],
        values: |source| {
            let (messages, places) = (
                source.sum(|worker| &worker.quarantined_messages),
                source.sum(|worker| &worker.damaged_places),
            );
            vec![gauge(&[("what", "messages")], messages), gauge(&[("what", "places")], places)]
        },
    },
    Family {
        name: "gatepost_deliveries_total",
        help: "Attempts that ended, by recipient and outcome.",
        kind: MetricType::COUNTER,
        labels: &["tenant", "outcome"],
        values: Source::deliveries,
    },
    Family {
        name: "gatepost_containments_total",
        help: "Senders that were suspended by what they did.",
        kind: MetricType::COUNTER,
        labels: &["tenant", "cause"],
        values: Source::containments,
    },
    Family {
        name: "gatepost_delivery_seconds",
        help: "From our 250 to the destination's.",
        kind: MetricType::HISTOGRAM,
        labels: &[],
        values: |source| source.histogram(|worker| &worker.delivery),
    },
    Family {
        name: "gatepost_queue_recipients",
        help: "Recipients that are not delivered yet.",
        kind: MetricType::GAUGE,
        labels: &["state"],
        values: Source::queue,
    },
    Family {
        name: "gatepost_oldest_message_age_seconds",
        help: "Since when the oldest message is queued that is not delivered yet, held ones included; 0 when none is.",
        kind: MetricType::GAUGE,
        labels: &[],
        values: |source| vec![gauge(&[], source.oldest_message_age_seconds().unwrap_or_default())],
    },
    Family {
        name: "gatepost_failing_sites",
        help: "Destination sites that fail while mail waits for them.",
        kind: MetricType::GAUGE,
        labels: &[],
        values: |source| vec![gauge(&[], source.failing_sites.load(Ordering::Relaxed))],
    },
    Family {
        name: "gatepost_policy_generation",
        help: "The number of the configuration in force.",
        kind: MetricType::GAUGE,
        labels: &[],
        values: |source| vec![gauge(&[], source.generation.load(Ordering::Relaxed))],
    },
    Family {
        name: "gatepost_policy_reload_failures_total",
        help: "Reloads that were refused; the configuration before stays in force.",
        kind: MetricType::COUNTER,
        labels: &[],
        values: |source| vec![counter(&[], source.reload_failures.load(Ordering::Relaxed))],
    },
    Family {
        name: "gatepost_connections",
        help: "Open connections of clients.",
        kind: MetricType::GAUGE,
        labels: &["listener", "state"],
        values: Source::connections,
    },
    Family {
        name: "gatepost_places_held",
        help: "Connections that hold a place: of strangers, of tenants' networks and strangers, of all.",
        kind: MetricType::GAUGE,
        labels: &["up_to"],
        values: |source| places(&source.places.held),
    },
    Family {
        name: "gatepost_places_max",
        help: "Connections that may hold a place: of strangers, of tenants' networks and strangers, of all.",
        kind: MetricType::GAUGE,
        labels: &["up_to"],
        values: |source| places(&source.places.max),
    },
    Family {
        name: "gatepost_connections_shed_total",
        help: "Connections turned away, or ended before their time, for want of places.",
        kind: MetricType::COUNTER,
        labels: &["listener", "cause"],
        values: Source::shed,
    },
    Family {
        name: "gatepost_peer_faults_total",
        help: "PROXY headers and XCLIENT commands that were wrong, missing, or from a peer that is not listed.",
        kind: MetricType::COUNTER,
        labels: &["listener", "fault"],
        values: Source::peer_faults,
    },
    Family {
        name: "gatepost_possible_duplicates_total",
        help: "Messages whose connection broke between their last byte and the reply.",
        kind: MetricType::COUNTER,
        labels: &[],
        values: |source| vec![counter(&[], source.sum(|worker| &worker.duplicates))],
    },
    Family {
        name: "gatepost_log_lines_dropped_total",
        help: "Log records that found no room because the output could not keep up.",
        kind: MetricType::COUNTER,
        labels: &[],
        values: |source| vec![counter(&[], source.lines_dropped.load(Ordering::Relaxed))],
    },
    Family {
        name: "gatepost_tickets_dropped_total",
        help: "Denials whose ticket cannot be looked up, because its keeper could not keep up or its file failed.",
        kind: MetricType::COUNTER,
        labels: &[],
        values: |source| vec![counter(&[], source.tickets_dropped.load(Ordering::Relaxed))],
    },
];

/// Only once the rings are made, so that it never names a backend that is not in use.
const BACKEND: Family = Family {
    name: "gatepost_io_backend",
    help: "1 for the backend in use.",
    kind: MetricType::GAUGE,
    labels: &["backend"],
    values: |source| source.backend.load().iter().map(|backend| gauge(&[("backend", backend)], 1)).collect(),
};

/// Only of listeners that present a certificate.
const CERTIFICATE_EXPIRY: Family = Family {
    name: "gatepost_certificate_expiry_timestamp_seconds",
    help: "When the certificate in use ends, in seconds since 1970.",
    kind: MetricType::GAUGE,
    labels: &["listener"],
    values: |source| {
        let expiry = source.certificate_expiry.load();
        let listeners = expiry.as_deref().into_iter().flatten();
        listeners.map(|(listener, seconds)| gauge(&[("listener", listener)], *seconds)).collect()
    },
};

/// What the collector reads.
struct Source {
    workers: Box<[Arc<WorkerMetrics>]>,
    listeners: Box<[Box<str>]>,
    tenants: Arc<TenantSlots>,
    generation: AtomicU64,
    reload_failures: AtomicU64,
    lines_dropped: Arc<AtomicU64>,
    tickets_dropped: AtomicU64,
    places: Places,
    failing_sites: AtomicU64,
    backend: ArcSwapOption<&'static str>,
    /// By listener.
    certificate_expiry: ArcSwapOption<Vec<(Box<str>, u64)>>,
    descriptions: Vec<Desc>,
}

/// What was said of the places for connections last.
#[derive(Default)]
struct Places {
    held: [AtomicU64; 3],
    max: [AtomicU64; 3],
}

fn places(values: &[AtomicU64; 3]) -> Vec<Metric> {
    let labelled = ["stranger", "network", "login"].into_iter().zip(values);
    labelled.map(|(holder, value)| gauge(&[("up_to", holder)], value.load(Ordering::Relaxed))).collect()
}

impl Source {
    fn sum(&self, value: impl Fn(&WorkerMetrics) -> &AtomicU64) -> u64 {
        self.workers.iter().map(|worker| value(worker).load(Ordering::Relaxed)).sum()
    }

    /// `None` when nothing is queued.
    fn oldest_message_age_seconds(&self) -> Option<u64> {
        let oldest = self.workers.iter().map(|worker| worker.oldest_arrival.load(Ordering::Relaxed)).min()?;
        let now = UnixMillis::from(SystemTime::now());
        (oldest < u64::MAX).then(|| now.since(UnixMillis(oldest)) / 1000)
    }

    fn histogram(&self, of: impl Fn(&WorkerMetrics) -> &Histogram) -> Vec<Metric> {
        let mut total = Total::default();
        for worker in &self.workers {
            of(worker).add_to(&mut total);
        }
        let mut cumulative = 0;
        let mut histogram = prometheus::proto::Histogram::default();
        let buckets = total
            .bounds
            .iter()
            .zip(&total.buckets)
            .map(|(&bound, count)| {
                cumulative += count;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(bound);
                bucket.set_cumulative_count(cumulative);
                bucket
            })
            .collect();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(total.buckets.iter().sum());
        histogram.set_sample_sum(total.sum);
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        vec![metric]
    }

    /// Those that happened, and for each listener the one that every gateway has, so that its rate is defined.
    fn denials(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        let tenants = self.tenants.labels();
        for (listener, name) in self.listeners.iter().enumerate() {
            for (slot, tenant) in &tenants {
                for reason in Reason::ALL {
                    let count = self
                        .workers
                        .iter()
                        .map(|worker| worker.denials.get(worker.denial_index(listener, *slot, reason)))
                        .sum();
                    let always = *slot == 0 && reason == Reason::RelayNotPermitted;
                    if count > 0 || always {
                        let labels = [("listener", &**name), ("tenant", tenant), ("reason", reason.as_str())];
                        metrics.push(counter(&labels, count));
                    }
                }
            }
        }
        metrics
    }

    fn accepted(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        let tenants = self.tenants.labels();
        for (listener, name) in self.listeners.iter().enumerate() {
            for (slot, tenant) in &tenants {
                let count = self
                    .workers
                    .iter()
                    .map(|worker| worker.accepted.get(worker.accepted_index(listener, *slot)))
                    .sum();
                metrics.push(counter(&[("listener", name), ("tenant", tenant)], count));
            }
        }
        metrics
    }

    fn deliveries(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for (slot, tenant) in self.tenants.labels() {
            for outcome in DeliveryOutcome::ALL {
                let index = WorkerMetrics::delivery_index(slot, outcome);
                let count = self.workers.iter().map(|worker| worker.deliveries.get(index)).sum();
                metrics.push(counter(&[("tenant", &tenant), ("outcome", outcome.as_str())], count));
            }
        }
        metrics
    }

    fn containments(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for (slot, tenant) in self.tenants.labels() {
            for cause in SuspensionCause::ALL.into_iter().filter(|&cause| cause != SuspensionCause::Operator)
            {
                let index = WorkerMetrics::containment_index(slot, cause);
                let count = self.workers.iter().map(|worker| worker.containments.get(index)).sum();
                metrics.push(counter(&[("tenant", &tenant), ("cause", cause.as_str())], count));
            }
        }
        metrics
    }

    fn queue(&self) -> Vec<Metric> {
        QueueState::ALL
            .into_iter()
            .map(|state| {
                let count = self.workers.iter().map(|worker| worker.queue.get(state as usize)).sum();
                gauge(&[("state", state.as_str())], count)
            })
            .collect()
    }

    fn shed(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for (listener, name) in self.listeners.iter().enumerate() {
            for cause in ShedCause::ALL {
                let index = WorkerMetrics::shed_index(listener, cause);
                let count = self.workers.iter().map(|worker| worker.shed.get(index)).sum();
                metrics.push(counter(&[("listener", name), ("cause", cause.as_str())], count));
            }
        }
        metrics
    }

    fn peer_faults(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for (listener, name) in self.listeners.iter().enumerate() {
            for fault in PeerFault::ALL {
                let index = WorkerMetrics::peer_fault_index(listener, fault);
                let count = self.workers.iter().map(|worker| worker.peer_faults.get(index)).sum();
                metrics.push(counter(&[("listener", name), ("fault", fault.as_str())], count));
            }
        }
        metrics
    }

    fn connections(&self) -> Vec<Metric> {
        (self.listeners.iter().enumerate())
            .map(|(listener, name)| {
                // Closed first: a connection that opens and closes meanwhile must not make it negative.
                let closed: u64 = self.workers.iter().map(|worker| worker.closed.get(listener)).sum();
                let opened: u64 = self.workers.iter().map(|worker| worker.opened.get(listener)).sum();
                gauge(&[("listener", name), ("state", "open")], opened.saturating_sub(closed))
            })
            .collect()
    }
}

/// The registry owns its collectors; this one is shared with ours.
struct Shared(Arc<Source>);

impl Collector for Shared {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        FAMILIES
            .iter()
            .chain([&BACKEND, &CERTIFICATE_EXPIRY])
            .map(|family| {
                let mut collected = MetricFamily::default();
                collected.set_name(family.name.to_owned());
                collected.set_help(family.help.to_owned());
                collected.set_field_type(family.kind);
                collected.set_metric((family.values)(&self.0));
                collected
            })
            .collect()
    }
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|&(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}

fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut metric = labelled(labels);
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut metric = labelled(labels);
    let mut gauge = Gauge::default();
    gauge.set_value(value as f64);
    metric.set_gauge(gauge);
    metric
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Tools rely on these (DESIGN.md N1).
    const NAMES: [&str; 22] = [
        "gatepost_relay_denials_total",
        "gatepost_messages_accepted_total",
        "gatepost_acceptance_seconds",
        "gatepost_commit_seconds",
        "gatepost_commit_messages",
        "gatepost_spool_messages",
        "gatepost_spool_bytes",
        "gatepost_spool_quarantined",
        "gatepost_deliveries_total",
        "gatepost_containments_total",
        "gatepost_delivery_seconds",
        "gatepost_queue_recipients",
        "gatepost_oldest_message_age_seconds",
        "gatepost_failing_sites",
        "gatepost_policy_generation",
        "gatepost_policy_reload_failures_total",
        "gatepost_connections",
        "gatepost_possible_duplicates_total",
        "gatepost_io_backend",
        "gatepost_log_lines_dropped_total",
        "gatepost_tickets_dropped_total",
        "gatepost_http_displaced_total",
    ];

    #[test]
    fn every_name_of_the_interface_is_there_from_the_start() {
        let registry = Registry::new(2, &["smtp", "submission"], 4);
        registry.set_backend("io_uring");
        let text = registry.text();
        for name in NAMES {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name} is missing from\n{text}");
        }
    }

    #[test]
    fn workers_add_up() {
        let registry = Registry::new(2, &["smtp"], 4);
        registry.set_policy(3, ["proseware", "adatum"].into_iter());
        for worker in 0..2 {
            let worker = registry.worker(worker);
            worker.denied(0, None, Reason::RelayNotPermitted);
            worker.denied(0, Some("adatum"), Reason::SenderNotOwned);
            worker.message_accepted(0, "proseware");
            worker.delivery_ended("proseware", DeliveryOutcome::Delivered);
            worker.connection_opened(0);
            worker.observe_commit(Duration::from_micros(300), 5);
            worker.set_queue(QueueState::Deferred, 7);
            worker.set_spool(10, 4096);
        }
        registry.worker(0).connection_closed(0);
        let text = registry.text();
        for line in [
            r#"gatepost_relay_denials_total{listener="smtp",tenant="none",reason="relay_not_permitted"} 2"#,
            r#"gatepost_relay_denials_total{listener="smtp",tenant="adatum",reason="sender_not_owned"} 2"#,
            r#"gatepost_messages_accepted_total{listener="smtp",tenant="proseware"} 2"#,
            r#"gatepost_deliveries_total{tenant="proseware",outcome="delivered"} 2"#,
            r#"gatepost_connections{listener="smtp",state="open"} 1"#,
            r#"gatepost_commit_seconds_bucket{le="0.00025"} 0"#,
            r#"gatepost_commit_seconds_bucket{le="0.0005"} 2"#,
            r#"gatepost_commit_seconds_bucket{le="+Inf"} 2"#,
            "gatepost_commit_seconds_sum 0.0006",
            r#"gatepost_commit_messages_bucket{le="8"} 2"#,
            r#"gatepost_queue_recipients{state="deferred"} 14"#,
            "gatepost_spool_messages 20",
            "gatepost_spool_bytes 8192",
            "gatepost_policy_generation 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing from\n{text}");
        }
    }

    #[test]
    fn the_oldest_message_of_all_workers_gives_the_age_and_none_gives_nothing() {
        let registry = Registry::new(3, &["smtp"], 4);
        registry.set_failing_sites(2);
        let value = |name: &str| {
            let text = registry.text();
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<u64>().ok()).expect("it is there")
        };
        assert_eq!((value("gatepost_oldest_message_age_seconds"), value("gatepost_failing_sites")), (0, 2));
        assert_eq!(registry.totals().oldest_message_age_seconds, None);
        let now = UnixMillis::from(SystemTime::now());
        for (worker, hours) in [(0, 1), (1, 3)] {
            registry.worker(worker).set_oldest_arrival(Some(UnixMillis(now.0 - hours * 3_600_000)));
        }
        let age = value("gatepost_oldest_message_age_seconds");
        assert!((10_800..14_400).contains(&age), "{age}");
    }

    #[test]
    fn tenants_past_the_bound_fold_into_other_and_keep_their_slot_over_a_reload() {
        let registry = Registry::new(1, &["smtp"], 2);
        registry.set_policy(1, ["a", "b", "c"].into_iter());
        registry.set_policy(2, ["c", "b"].into_iter());
        for tenant in ["a", "b", "c", "d"] {
            registry.worker(0).message_accepted(0, tenant);
        }
        let text = registry.text();
        for (tenant, count) in [("a", 1), ("b", 1), ("other", 2), ("none", 0)] {
            let line =
                format!("gatepost_messages_accepted_total{{listener=\"smtp\",tenant=\"{tenant}\"}} {count}");
            assert!(text.contains(&line), "{line} is missing from\n{text}");
        }
        assert!(!text.contains("tenant=\"c\""));
    }
}
