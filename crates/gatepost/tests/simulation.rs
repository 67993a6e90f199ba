//! The whole gateway, a thousand times over, each time in another world; every run is a function of
//! its seed and is replayed by it.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[path = "simulation/mod.rs"]
mod simulation;

/// What CI runs.
const SEEDS: Range<u64> = 0..1000;
/// As many as the smallest machine that runs CI has cores.
const THREADS: usize = 2;
/// Failures that are shown; the rest is counted.
const SHOWN_MAX: usize = 10;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn range(name: &str) -> Option<Range<u64>> {
    let text = std::env::var(name).ok()?;
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    Some(range.unwrap_or_else(|| panic!("{name} is a range as in 0..1000, not {text:?}")))
}

/// The failure of a seed, in words, if it fails.
fn failure(seed: u64, is_verbose: bool) -> Option<String> {
    match std::panic::catch_unwind(AssertUnwindSafe(|| simulation::run(seed, is_verbose))) {
        Ok(run) if run.is_kept() => None,
        Ok(run) => Some(format!("{} {:?}", run.report, run.faults)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Some(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned())
        }
    }
}

#[test]
fn every_acknowledged_message_survives_crashes_and_faults() {
    if let Some(seed) = number("GATEPOST_SIM_SEED") {
        let failure = failure(seed, true);
        assert_eq!(failure, None, "seed {seed} fails");
        return;
    }
    let seeds = range("GATEPOST_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Some(failure) = failure(seed, false) {
                        failures.lock().expect("nobody panics with it").push((seed, failure));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("nobody panicked with it");
    failures.sort();
    for (seed, failure) in failures.iter().take(SHOWN_MAX) {
        eprintln!("seed {seed}: {failure}\n  replay it: cargo xtask sim --seed {seed}");
    }
    assert!(failures.is_empty(), "{} of {} seeds fail", failures.len(), seeds.count());
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in 0..12 {
        let (first, second) = (simulation::run(seed, false), simulation::run(seed, false));
        assert_eq!((first.digest, first.events), (second.digest, second.events), "seed {seed}");
        assert_eq!(first.report, second.report, "seed {seed}");
    }
}
