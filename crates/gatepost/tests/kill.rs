//! A 250 is kept through SIGKILL.

#[path = "kill/cycle.rs"]
mod cycle;

#[test]
fn every_acknowledged_message_survives_twenty_kills_under_load() {
    let report = cycle::kill_under_load(20, &[]);
    println!("{report}");
    report.assert_kept();
}
