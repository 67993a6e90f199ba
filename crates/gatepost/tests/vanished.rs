//! The spool's files vanish under a running gateway: it promises nothing more, and saves what it can.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use testbed::folder::remove_in_use;
use testbed::http::http_get;
use testbed::net::{PATIENCE, eventually, free_address};
use testbed::{Configuration, Destination, Dialog, Gateway, Rules};

const GATEPOST: &str = env!("CARGO_BIN_EXE_gatepost");
const WORKERS: u32 = 2;
const FROM: &str = "terri@proseware.example";
const TO: &str = "bob@adatum.example";
const CONTENT: &[u8] = b"From: terri@proseware.example\r\nSubject: hello\r\n\r\nthe words of terri\r\n";

struct Stage {
    gateway: Gateway,
    spool: PathBuf,
}

impl Stage {
    fn start(next_hop: std::net::SocketAddr, retry: &str) -> Self {
        let mut configuration = Configuration::relay(next_hop);
        configuration.workers = WORKERS;
        configuration.node_extra = format!("[retry]\n{retry}\n");
        let gateway = Gateway::start(GATEPOST, configuration);
        let spool = gateway.directory().join("spool");
        Self { gateway, spool }
    }

    /// Accepts a message and says what its id is.
    fn send(&self) -> String {
        let reply = Dialog::hello(self.gateway.smtp()).deliver(FROM, &[TO], CONTENT);
        let id = reply.text().split_whitespace().last().expect("it says its id").to_owned();
        assert_eq!(reply.code, 250, "{}", reply.text());
        id
    }

    fn readiness(&self) -> Option<(u16, String)> {
        http_get(self.gateway.configuration().metrics, "/readyz")
    }

    #[track_caller]
    fn wait_vanished(&self) {
        let is_seen =
            || self.readiness().is_some_and(|(code, body)| code == 503 && body.contains("vanished"));
        assert!(eventually(PATIENCE, is_seen), "{:?}\n{}", self.readiness(), self.gateway.output());
        // Each worker looks for itself.
        let have_seen = || self.logged("spool_vanished").len() == WORKERS as usize;
        assert!(eventually(PATIENCE, have_seen), "{}", self.gateway.output());
    }

    #[track_caller]
    fn assert_takes_no_mail(&self) {
        let mut dialog = Dialog::hello(self.gateway.smtp());
        let reply = dialog.command(&format!("MAIL FROM:<{FROM}>"), 451);
        assert!(reply.text().contains("4.3.0"), "{}", reply.text());
    }

    fn logged(&self, event: &str) -> Vec<Value> {
        let output = self.gateway.output();
        let records = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.filter(|record| record["event"] == event).collect()
    }
}

#[test]
fn a_deleted_spool_takes_no_mail_and_delivers_what_it_has_promised() {
    let next_hop = free_address();
    let mut stage = Stage::start(next_hop, "first = \"200ms\"\nlongest = \"1s\"");
    let before: Vec<String> = (0..5).map(|_| stage.send()).collect();
    remove_in_use(&stage.spool).expect("the spool can be removed");
    stage.wait_vanished();
    stage.assert_takes_no_mail();
    let (code, body) = http_get(stage.gateway.configuration().metrics, "/healthz").expect("it answers");
    assert_eq!((code, &*body), (200, "ok\n"), "a restart would lose what can still be saved");
    let vanished = stage.logged("spool_vanished");
    assert!(!vanished.is_empty() && vanished.iter().all(|one| one["file"].is_string()), "{vanished:?}");

    let mut dialog = Dialog::hello(stage.gateway.smtp());
    let reply = dialog.command(&format!("MAIL FROM:<{FROM}> SIZE=2000000"), 451);
    assert!(reply.text().contains("4.3.0"), "{}", reply.text());
    drop(dialog);

    let destination = Destination::at(next_hop, Rules::default());
    assert_eq!(destination.wait_for(before.len()).len(), before.len());
    stage.gateway.wait_metric("gatepost_spool_messages", 0.0);
    assert!(stage.gateway.terminate().success());
    assert_eq!(stage.logged("message_lost"), [] as [Value; 0]);
}

#[test]
fn a_stop_goes_on_trying_what_the_next_start_would_not_find() {
    let next_hop = free_address();
    let mut stage = Stage::start(next_hop, "first = \"200ms\"\nlongest = \"1s\"");
    (0..5).for_each(|_| drop(stage.send()));
    remove_in_use(&stage.spool).expect("the spool can be removed");
    stage.wait_vanished();
    stage.gateway.signal("TERM");
    assert!(eventually(PATIENCE, || !stage.logged("draining").is_empty()), "{}", stage.gateway.output());
    let destination = Destination::at(next_hop, Rules::default());
    let status = stage.gateway.wait_end(PATIENCE).expect("it ends");
    assert_eq!((status.code(), destination.count()), (Some(0), 5));
    assert_eq!(stage.logged("message_lost"), [] as [Value; 0]);
}

#[test]
fn a_stop_waits_for_what_is_due_soon() {
    let is_open = Arc::new(AtomicBool::new(false));
    let opens = is_open.clone();
    let recipient = move |_: &str| (!opens.load(Ordering::Acquire)).then(|| "451 4.2.0 not yet".to_owned());
    let destination =
        Destination::with_rules(Rules { recipient: Some(Box::new(recipient)), ..Rules::default() });
    let mut stage = Stage::start(destination.address(), "first = \"3s\"\nlongest = \"3s\"");
    stage.send();
    assert!(eventually(PATIENCE, || !stage.logged("deferred").is_empty()), "{}", stage.gateway.output());
    remove_in_use(&stage.spool).expect("the spool can be removed");
    stage.wait_vanished();
    stage.gateway.signal("TERM");
    assert!(eventually(PATIENCE, || !stage.logged("draining").is_empty()), "{}", stage.gateway.output());
    is_open.store(true, Ordering::Release);
    let status = stage.gateway.wait_end(PATIENCE).expect("it ends");
    assert_eq!((status.code(), destination.count()), (Some(0), 1), "{}", stage.gateway.output());
    assert_eq!(stage.logged("message_lost"), [] as [Value; 0]);
}

#[test]
fn what_is_lost_at_the_end_is_named() {
    let rules =
        Rules { recipient: Some(Box::new(|_| Some("451 4.2.0 not yet".to_owned()))), ..Rules::default() };
    let destination = Destination::with_rules(rules);
    let mut stage = Stage::start(destination.address(), "first = \"10m\"\nlongest = \"1h\"");
    let promised: BTreeSet<String> = (0..5).map(|_| stage.send()).collect();
    fs::rename(&stage.spool, stage.spool.with_file_name("elsewhere")).expect("the spool can be renamed");
    stage.wait_vanished();
    stage.assert_takes_no_mail();
    assert!(stage.gateway.terminate().success());
    let lost = stage.logged("message_lost");
    let named = lost.iter().map(|record| record["message"].as_str().expect("it is named").to_owned());
    assert_eq!(named.collect::<BTreeSet<_>>(), promised);
    let sums = stage.logged("messages_lost");
    let sum: u64 = sums.iter().filter_map(|record| record["messages"].as_u64()).sum();
    assert_eq!(sum, promised.len() as u64);
}

/// Even where it could not be seen: between two looks.
#[test]
fn files_that_vanish_just_before_the_end_are_missed_there() {
    let rules =
        Rules { recipient: Some(Box::new(|_| Some("451 4.2.0 not yet".to_owned()))), ..Rules::default() };
    let destination = Destination::with_rules(rules);
    let mut stage = Stage::start(destination.address(), "first = \"10m\"\nlongest = \"1h\"");
    let promised = stage.send();
    remove_in_use(&stage.spool).expect("the spool can be removed");
    stage.gateway.terminate();
    let lost = stage.logged("message_lost");
    assert_eq!(lost.iter().map(|record| record["message"].clone()).collect::<Vec<_>>(), [&*promised]);
}

#[test]
fn files_that_come_back_are_taken_into_service_again() {
    let destination = Destination::start();
    let stage = Stage::start(destination.address(), "first = \"1s\"");
    let aside = stage.spool.with_file_name("elsewhere");
    fs::rename(&stage.spool, &aside).expect("the spool can be renamed");
    stage.wait_vanished();
    fs::rename(&aside, &stage.spool).expect("the spool can be renamed");
    let is_ready = || stage.readiness().is_some_and(|(code, _)| code == 200);
    assert!(eventually(PATIENCE, is_ready), "{:?}\n{}", stage.readiness(), stage.gateway.output());
    stage.send();
    assert_eq!(destination.wait_for(1).len(), 1);
}
