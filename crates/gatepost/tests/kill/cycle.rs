//! SIGKILL under load, again and again, and the ledgers afterwards.

use std::time::Duration;

use testbed::net::eventually;
use testbed::{Configuration, Destination, Gateway, Ledger, LedgerClient, LoadOptions, Report};

/// Acknowledgements between two kills: enough that groups are being filled and written at any moment.
const ACKNOWLEDGED_A_LIFE: u64 = 150;
/// How long anything may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills and restarts a gateway, run by `wrapper`, under load `cycles` times, lets it deliver what it has, and compares the ledgers.
pub(crate) fn kill_under_load(cycles: u64, wrapper: &[&str]) -> Report {
    let destination = Destination::start();
    let configuration = Configuration::relay(destination.address());
    let wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
    let mut gateway = Gateway::start_under(env!("CARGO_BIN_EXE_gatepost"), configuration, wrapper);
    let client = LedgerClient::start(LoadOptions::new(gateway.smtp()));
    for cycle in 1..=cycles {
        let before = client.acknowledged();
        assert!(
            client.wait_acknowledged(before + ACKNOWLEDGED_A_LIFE, PATIENCE),
            "no mail is taken in life {cycle}:\n{}",
            gateway.output()
        );
        gateway.kill();
        gateway.restart();
    }
    let sent = client.stop();
    let report =
        || Ledger { sent: sent.clone(), arrivals: destination.arrivals(), ..Ledger::default() }.check();
    // What the mutant has lost never comes: then the wait ends when nothing is queued any more.
    eventually(PATIENCE, || report().lost.is_empty() || gateway.metric("gatepost_spool_messages") == 0.0);
    report()
}
