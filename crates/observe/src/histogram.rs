use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in seconds: from a fast disk's write to a day of retries.
pub(crate) const SECONDS: [f64; 23] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0,
];

/// Upper bounds in messages of one commit group.
pub(crate) const MESSAGES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Observations counted in fixed buckets, by one thread.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One for each bound and one for what lies above; not cumulative.
    buckets: Box<[AtomicU64]>,
    /// In thousandths of a thousandth of the unit, so that whole microseconds and messages add up exactly.
    sum_micro: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_micro: AtomicU64::new(0),
        }
    }

    pub(crate) fn observe_duration(&self, duration: Duration) {
        let micro = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.observe(duration.as_secs_f64(), micro);
    }

    pub(crate) fn observe_count(&self, count: u64) {
        self.observe(count as f64, count.saturating_mul(1_000_000));
    }

    fn observe(&self, value: f64, micro: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micro.fetch_add(micro, Ordering::Relaxed);
    }

    /// Adds this histogram's counts to a total.
    pub(crate) fn add_to(&self, total: &mut Total) {
        total.bounds = self.bounds;
        total.buckets.resize(self.buckets.len(), 0);
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        total.sum += self.sum_micro.load(Ordering::Relaxed) as f64 / 1e6;
    }
}

/// The histograms of all workers together.
#[derive(Debug, Default)]
pub(crate) struct Total {
    pub(crate) bounds: &'static [f64],
    pub(crate) buckets: Vec<u64>,
    pub(crate) sum: f64,
}
