//! Medians over many batches: on a machine that others use too, the mean says who was there.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

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

/// Measures `call` on `keys` and prints medians over batches with their middle half: for calls one
/// after the other, and for calls each of which waits for the answer to the one before it, so that
/// the processor overlaps nothing.
pub(crate) fn each<K>(effort: Effort, name: &str, keys: &[K], mut call: impl FnMut(&K) -> usize) {
    let batches = effort.of(keys.len() * 4) / BATCH + 1;
    let (free, waiting) =
        (medians::<false, K>(batches, keys, &mut call), medians::<true, K>(batches, keys, &mut call));
    println!("{name:<56} {free:<24} waiting {waiting}");
}

fn medians<const WAITING: bool, K>(batches: usize, keys: &[K], call: &mut impl FnMut(&K) -> usize) -> String {
    // Zero, which only we know.
    let mask = black_box(0);
    let (mut at, mut answer) = (0, 0);
    let mut nanos: Vec<f64> = (0..batches)
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..BATCH {
                at = if at + 1 < keys.len() { at + 1 } else { 0 };
                let key = if WAITING { at + (answer & mask) } else { at };
                answer = black_box(call(&keys[key]));
            }
            begin.elapsed().as_nanos() as f64 / BATCH as f64
        })
        .collect();
    nanos.sort_unstable_by(f64::total_cmp);
    let quantile = |part: f64| nanos[((nanos.len() - 1) as f64 * part) as usize];
    format!("{:>7.1} ns ({:.0} to {:.0})", quantile(0.5), quantile(0.25), quantile(0.75))
}

/// Measures one long run of `work`, by the clock and in processor time of this thread.
pub(crate) fn once<T>(name: &str, work: impl FnOnce() -> T) -> T {
    once_by(ClockId::ThreadCPUTime, name, work)
}

/// The same for work of many threads, in processor time of all of them.
pub(crate) fn once_by_all<T>(name: &str, work: impl FnOnce() -> T) -> T {
    once_by(ClockId::ProcessCPUTime, name, work)
}

fn once_by<T>(clock: ClockId, name: &str, work: impl FnOnce() -> T) -> T {
    let (begin, processor) = (Instant::now(), time_of(clock));
    let made = work();
    let (time, processor) = (begin.elapsed(), time_of(clock) - processor);
    println!("{name:<58} {:>8.3} ms  ({:.3} of the processor)", millis(time), millis(processor));
    made
}

/// Processor time of this thread.
pub(crate) fn processor_time() -> Duration {
    time_of(ClockId::ThreadCPUTime)
}

fn time_of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Prints a duration as [`once`] does.
pub(crate) fn shown(name: &str, time: Duration) {
    println!("{name:<58} {:>8.3} ms", millis(time));
}
