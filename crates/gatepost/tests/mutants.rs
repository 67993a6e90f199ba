//! Builds with a planted mistake, which the simulation must catch.

use spool::mutant::{Mutant, choose};

#[path = "simulation/mod.rs"]
mod simulation;

/// So many worlds are enough to lose something by an early 250.
const SEEDS: std::ops::Range<u64> = 0..1000;

#[test]
fn an_acknowledgement_before_the_write_completes_loses_mail() {
    choose(Some(Mutant::EarlyAck));
    // In some worlds the mutant trips over itself, as it reads what it has not written: that is no verdict.
    std::panic::set_hook(Box::new(|_| {}));
    let caught = SEEDS.into_iter().find(|&seed| {
        let run = std::panic::catch_unwind(|| simulation::run(seed, false));
        run.is_ok_and(|run| !run.report.lost.is_empty())
    });
    let _ = std::panic::take_hook();
    let seed = caught.unwrap_or_else(|| panic!("no acknowledged message was lost in {SEEDS:?}"));
    println!("seed {seed} loses acknowledged mail");
}
