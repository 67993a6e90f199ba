//! A gateway whose number of workers changes while mail is queued: shards that lose their worker are
//! drained by another and removed, and made anew when they have one again.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;
use testbed::net::{PATIENCE, eventually, free_address};
use testbed::{Configuration, Destination, Gateway, Ledger, LedgerClient, LoadOptions, Sent};

/// Messages that are queued by four workers: enough that the kernel gives each of them some connections.
const QUEUED: u64 = 80;

fn restart(gateway: &mut Gateway, workers: u32) {
    let configuration = gateway.configuration().clone();
    gateway.rewrite(Configuration { workers, ..configuration });
    gateway.restart();
}

fn send(gateway: &Gateway, first_serial: u64, messages: u64) -> Vec<Sent> {
    let options = LoadOptions {
        messages_max: Some(messages),
        messages_per_connection_max: 1,
        first_serial,
        ..LoadOptions::new(gateway.smtp())
    };
    LedgerClient::start(options).finish()
}

/// The shards that hold mail, and how many messages there are, as the command line tells.
fn listed(gateway: &Gateway) -> (BTreeSet<u64>, usize) {
    let output = Command::new(env!("CARGO_BIN_EXE_gatepost"))
        .args(["spool", "list", "--json", "--config"])
        .arg(gateway.config_path())
        .output()
        .expect("the program is there");
    let text = String::from_utf8(output.stdout).expect("what is printed is text");
    let messages: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    let shards = messages.iter().map(|one| one["shard"].as_u64().expect("it has a shard")).collect();
    (shards, messages.len())
}

fn shards(gateway: &Gateway) -> Vec<String> {
    let entries = fs::read_dir(gateway.directory().join("spool")).expect("there is a spool");
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("shard-")).collect();
    names.sort();
    names
}

#[test]
fn mail_of_workers_that_are_no_more_is_delivered_once_and_their_shards_go() {
    let mut configuration = Configuration::relay(free_address());
    configuration.workers = 4;
    configuration.capacity = "2GiB".into();
    configuration.node_extra.push_str("\n[admin]\nsocket = \"admin.sock\"\n");
    let mut gateway = Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration);
    let mut sent = send(&gateway, 1, QUEUED);
    let (held_by, count) = listed(&gateway);
    assert_eq!(count as u64, QUEUED);
    assert!(held_by.iter().any(|shard| *shard >= 2), "only {held_by:?} hold mail");
    gateway.terminate();

    // Two workers, and no destination takes the mail yet: what is adopted waits, and new mail goes to their own.
    restart(&mut gateway, 2);
    assert_eq!(listed(&gateway), (held_by.clone(), QUEUED as usize));
    sent.extend(send(&gateway, 1000, 20));
    let (now_held_by, count) = listed(&gateway);
    assert_eq!(count as u64, QUEUED + 20);
    assert!(now_held_by.difference(&held_by).all(|shard| *shard < 2), "{now_held_by:?}");
    gateway.kill();

    // One worker, and the destination is there.
    let destination =
        Destination::at(gateway.configuration().next_hop, testbed::destination::Rules::default());
    restart(&mut gateway, 1);
    let is_drained = eventually(PATIENCE, || shards(&gateway) == ["shard-000"]);
    assert!(is_drained, "{:?} are left: {}", shards(&gateway), gateway.output());
    gateway.wait_metric("gatepost_spool_messages", 0.0);
    for &shard in held_by.iter().filter(|shard| **shard > 0) {
        let said = format!("\"shard\":{shard}}}");
        let is_told = eventually(PATIENCE, || {
            let output = gateway.output();
            output.lines().any(|line| line.contains("spool_shard_removed") && line.ends_with(&said))
        });
        assert!(is_told, "shard {shard}: {}", gateway.output());
    }
    gateway.terminate();

    // And back: the shards are made anew.
    restart(&mut gateway, 4);
    assert_eq!(shards(&gateway), ["shard-000", "shard-001", "shard-002", "shard-003"]);
    sent.extend(send(&gateway, 2000, 20));
    gateway.wait_metric("gatepost_spool_messages", 0.0);
    assert!(destination.wait_until(PATIENCE, |arrivals| arrivals.len() >= sent.len()));
    let ledger = Ledger { sent, arrivals: destination.arrivals(), ..Ledger::default() };
    ledger.check().assert_exact();
}
