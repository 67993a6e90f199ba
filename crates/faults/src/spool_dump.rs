//! What a spool holds, as `gatepost spool` says it without the gateway running.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testbed::ledger::Delivery;

/// The recipients of messages of the ledger that are queued.
///
/// # Panics
/// When the spool cannot be read.
#[track_caller]
pub(crate) fn queued(gatepost: &Path, config: &Path) -> BTreeSet<Delivery> {
    let (success, said) = spool(gatepost, config, "list");
    assert!(success, "gatepost spool list failed: {said}");
    let mut queued = BTreeSet::new();
    for line in said.lines() {
        let message: Value = serde_json::from_str(line).expect("--json gives one object a line");
        for recipient in message["recipients"].as_array().expect("every message has recipients") {
            if is_queued(recipient["state"].as_str().expect("every recipient has a state")) {
                let address = recipient["address"].as_str().expect("an address is text");
                queued.extend(serial_of(address).map(|serial| (serial, address.to_owned())));
            }
        }
    }
    queued
}

/// Whether a recipient without an outcome is in this state.
///
/// # Panics
/// On a word that is not known: a check that misses everyone must not pass.
fn is_queued(state: &str) -> bool {
    match state {
        "ready" | "deferred" | "held" | "queued" => true,
        "delivered" | "failed" | "expired" | "quarantined" => false,
        other => panic!("gatepost spool list knows a state that the checker does not: {other:?}"),
    }
}

/// Whether no message is queued, bounces included.
pub(crate) fn is_empty(gatepost: &Path, config: &Path) -> bool {
    let (success, said) = spool(gatepost, config, "list");
    // What lies in damaged places is listed too, and is not queued.
    let is_queued = |line: &str| !line.contains("\"queued\":false");
    success && !said.lines().any(is_queued)
}

/// Whether nothing in the spool is damaged, and what the verification says.
pub(crate) fn is_sound(gatepost: &Path, config: &Path) -> (bool, String) {
    spool(gatepost, config, "verify")
}

fn spool(gatepost: &Path, config: &Path, what: &str) -> (bool, String) {
    let output = Command::new(gatepost)
        .args(["spool", what, "--json", "--config"])
        .arg(config)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", gatepost.display()));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The serial number in an address that the ledger's client made (`r0.17@far.example`).
pub(crate) fn serial_of(address: &str) -> Option<u64> {
    address.split_once('@')?.0.split_once('.')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledgers_own_recipients_are_known_by_their_address() {
        assert_eq!(serial_of("r2.417@far.example"), Some(417));
        assert_eq!(serial_of("ledger@proseware.example"), None);
    }
}
