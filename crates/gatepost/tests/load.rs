//! Postfix's smtp-source and smtp-sink on either side of the gateway.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testbed::net::{eventually, free_address};
use testbed::{Configuration, Gateway, tools};

const MESSAGES: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn smtp_source_is_delivered_whole_and_once() {
    let test = "smtp_source_is_delivered_whole_and_once";
    let (Some(source), Some(sink)) = (tools::find("smtp-source", test), tools::find("smtp-sink", test))
    else {
        return;
    };
    let address = free_address();
    // As root it wants to be told whom to become.
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let user: &[&str] = if is_root { &["-u", "nobody"] } else { &[] };
    let directory = tempfile::tempdir().expect("a temporary folder can be made");
    let counts = directory.path().join("counts");
    let counters = File::create(&counts).expect("the test folder can be written");
    let mut destination = Command::new(sink)
        .args(user)
        .args(["-c", "-4", "-m", "1000", &address.to_string(), "1000"])
        .stdout(counters)
        .stderr(Stdio::null())
        .spawn()
        .expect("smtp-sink starts");
    assert!(eventually(PATIENCE, || std::net::TcpStream::connect(address).is_ok()));
    let gateway = Gateway::start(env!("CARGO_BIN_EXE_gatepost"), Configuration::relay(address));
    for (round, connections) in [(1, &["-d"][..]), (2, &[][..])] {
        let status = Command::new(&source)
            .args(connections)
            .args(["-s", "50", "-m", &MESSAGES.to_string(), "-l", "4096"])
            .args(["-f", "source@proseware.example", "-t", "sink@far.example"])
            .arg(format!("inet:{}", gateway.smtp()))
            .status()
            .expect("smtp-source starts");
        assert!(status.success(), "smtp-source {connections:?}: {status}");
        let total = (round * MESSAGES) as f64;
        assert!(gateway.metric("gatepost_messages_accepted_total") >= total, "every message got its 250");
        gateway.wait_metric("gatepost_deliveries_total", total);
        assert!(eventually(PATIENCE, || received(&counts) >= round * MESSAGES), "smtp-sink lacks mail");
    }
    assert_eq!(gateway.metric("gatepost_messages_accepted_total"), (2 * MESSAGES) as f64);
    gateway.wait_metric("gatepost_spool_messages", 0.0);
    assert_eq!(received(&counts), 2 * MESSAGES, "smtp-sink received one message twice");
    destination.kill().expect("smtp-sink is ours");
    let _ = destination.wait();
}

/// The messages that smtp-sink has counted: the last `mesg=` of its running counters.
fn received(counts: &Path) -> u64 {
    let text = std::fs::read_to_string(counts).unwrap_or_default();
    // The last counter may be half written.
    let complete = text.rsplit_once('\r').map_or("", |(complete, _)| complete);
    let last = complete.rsplit_once("mesg=").map_or("0", |(_, count)| count);
    last.parse().unwrap_or(0)
}
