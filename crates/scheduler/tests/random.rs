//! Random events: the scheduler says the same as one that walks everything, action by action.
//!
//! `GATEPOST_SCHEDULER_SEEDS` sets how many sequences. A failure names its seed and step, and a
//! sequence is a function of its seed.

mod driver;
mod reference;

use driver::Driver;

/// Sequences; each has its own number of events.
const SEEDS: u64 = 10_000;

#[test]
fn random_sequences_of_events_equal_the_reference() {
    let seeds = std::env::var("GATEPOST_SCHEDULER_SEEDS").ok().and_then(|count| count.parse().ok());
    let mut events = 0;
    for seed in 0..seeds.unwrap_or(SEEDS) {
        let mut driver = Driver::new(seed);
        for _ in 0..driver.length() {
            driver.step();
        }
        events += driver.events;
    }
    println!("{events} events");
}

#[test]
fn whatever_went_before_everything_ends_once_nothing_fails() {
    for seed in 0..500 {
        let mut driver = Driver::new(seed);
        for _ in 0..driver.length() {
            driver.step();
        }
        driver.finish();
    }
}
