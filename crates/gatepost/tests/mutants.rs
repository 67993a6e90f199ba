//! Builds with a planted mistake, which the simulation must catch.

#[path = "simulation/mod.rs"]
mod simulation;

/// So many worlds are enough to lose something by an early 250.
const SEEDS: std::ops::Range<u64> = 0..300;

#[test]
fn an_acknowledgement_before_the_write_completes_loses_mail() {
    let loses = |seed| !simulation::run(seed, false).report.lost.is_empty();
    assert!(SEEDS.into_iter().any(loses), "no acknowledged message was lost in {SEEDS:?}");
}
