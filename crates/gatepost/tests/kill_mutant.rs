//! A gateway that acknowledges before its write has completed must be caught by the same cycles.

#[path = "kill/cycle.rs"]
mod cycle;

#[test]
fn an_early_acknowledgement_is_caught_by_kills_under_load() {
    let caught =
        (0..5).any(|_| !cycle::kill_under_load(10, &["env", "GATEPOST_MUTANT=early-ack"]).lost.is_empty());
    assert!(caught, "fifty kills did not catch a gateway that acknowledges too early");
}
