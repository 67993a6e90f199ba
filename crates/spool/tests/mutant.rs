//! The tests bite: a shard that acknowledges before its write has ended loses mail in a power cut.
#![cfg(feature = "mutants")]

mod harness;

use harness::*;
use spool::Event;
use spool::mutant::{Mutant, choose};

#[test]
fn an_early_acknowledgement_is_caught_by_a_power_cut() {
    choose(Some(Mutant::EarlyAck));
    let lost = (0..50).filter(|&seed| {
        let mut bench = Bench::new(seed);
        bench.append(1, 1, 5000).unwrap();
        let acknowledged = bench.turn().iter().any(|event| matches!(event, Event::Committed { .. }));
        assert!(acknowledged);
        bench.crash().recovered_ids().is_empty()
    });
    assert!(lost.count() > 5);
}
