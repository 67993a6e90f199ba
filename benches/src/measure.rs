//! Medians over many batches: on a machine that others use too, the mean says who was there.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::table::{LARGEST, Size};

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Everything once, on a small table.
    Smoke,
    /// The sizes that are promised.
    Full,
}

impl Effort {
    /// `full`, or what is enough to see that it works.
    pub(crate) fn of(self, full: usize) -> usize {
        match self {
            Self::Smoke => full.min(1000),
            Self::Full => full,
        }
    }

    /// The largest table, or one like it.
    pub(crate) fn largest(self) -> Size {
        match self {
            Self::Smoke => LARGEST.part(500),
            Self::Full => LARGEST,
        }
    }
}

/// Calls in one batch: long beside the clock, short beside a scheduler's slice.
const BATCH: usize = 2048;

/// Measures `call` on `keys`, one call after the other, each waiting for the answer to the one
/// before it; prints the median over batches and the middle half. What the processor could overlap
/// it may not, as it could not between the commands of a session.
pub(crate) fn each<K>(effort: Effort, name: &str, keys: &[K], mut call: impl FnMut(&K) -> usize) -> f64 {
    let batches = effort.of(keys.len() * 4) / BATCH + 1;
    let zero = black_box(0);
    let (mut at, mut chain) = (0, 0);
    let mut nanos: Vec<f64> = (0..batches)
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..BATCH {
                at = if at + 1 < keys.len() { at + 1 } else { 0 };
                chain = call(&keys[at + (chain & zero)]);
            }
            begin.elapsed().as_nanos() as f64 / BATCH as f64
        })
        .collect();
    black_box(chain);
    nanos.sort_unstable_by(f64::total_cmp);
    let quantile = |part: f64| nanos[((nanos.len() - 1) as f64 * part) as usize];
    let median = quantile(0.5);
    println!("{name:<58} {median:>8.1} ns  ({:.1} to {:.1})", quantile(0.25), quantile(0.75));
    median
}

/// Measures one long run of `work`.
pub(crate) fn once<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let made = work();
    shown(name, begin.elapsed());
    made
}

/// Prints a duration as [`once`] does.
pub(crate) fn shown(name: &str, time: Duration) {
    println!("{name:<58} {:>8.3} ms", time.as_secs_f64() * 1e3);
}
