//! What only the whole program shows: that its parts are given what was written for them, and time to end.

use std::process::Command;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use testbed::net::{PATIENCE, eventually};
use testbed::{Configuration, Destination, Dialog, Gateway, Rules};

const GATEPOST: &str = env!("CARGO_BIN_EXE_gatepost");
const FROM: &str = "terri@proseware.example";
const TO: &str = "bob@adatum.example";
const CONTENT: &[u8] = b"From: terri@proseware.example\r\nSubject: hello\r\n\r\nthe words of terri\r\n";

/// A destination that answers the last dot when it is told to, and says when it has seen one.
fn slow_destination() -> (Destination, Receiver<()>, SyncSender<()>) {
    let (saw, seen) = sync_channel(10);
    let (go, going) = sync_channel(10);
    let going = Arc::new(Mutex::new(going));
    let message = move |_: &str| {
        let _ = saw.send(());
        let _ = going.lock().expect("no thread panics with it").recv();
        None
    };
    let rules = Rules { message: Some(Box::new(message)), ..Rules::default() };
    (Destination::with_rules(rules), seen, go)
}

#[test]
fn a_stop_waits_for_the_transaction_and_the_delivery_under_way() {
    let (destination, seen, go) = slow_destination();
    let mut configuration = Configuration::relay(destination.address());
    configuration.workers = 1;
    let mut gateway = Gateway::start(GATEPOST, configuration);
    let mut client = Dialog::hello(gateway.smtp());
    client.deliver(FROM, &[TO], CONTENT);
    seen.recv_timeout(PATIENCE).expect("the message is on its way");
    client.command(&format!("MAIL FROM:<{FROM}>"), 250);
    client.command(&format!("RCPT TO:<{TO}>"), 250);
    client.command("DATA", 354);
    client.send("From: terri@proseware.example\r\n");

    gateway.signal("TERM");
    let is_draining = || gateway.output().contains("\"draining\"");
    assert!(eventually(PATIENCE, is_draining), "{}", gateway.output());
    // A client that comes now is told so: the stop has come to the workers.
    let is_closed = || std::net::TcpStream::connect(gateway.smtp()).is_err();
    assert!(eventually(PATIENCE, is_closed));
    client.send("\r\nthe end of it\r\n.\r\n");
    client.expect(250);
    client.expect(421);
    go.send(()).expect("the destination waits");
    let status = gateway.wait_end(PATIENCE).unwrap_or_else(|| panic!("no end: {}", gateway.output()));
    assert_eq!(status.code(), Some(0));
    assert_eq!(destination.count(), 1, "the delivery under way came to its end");

    // Its outcome was noted, and what was taken last is there.
    go.send(()).expect("the destination is there");
    gateway.restart();
    assert_eq!(destination.wait_for(2).len(), 2);
    gateway.wait_metric("gatepost_spool_messages", 0.0);
    assert!(gateway.terminate().success());
    assert_eq!(destination.count(), 2);
}

/// A gateway with one message that its destination puts off again and again.
struct PutOff {
    gateway: Gateway,
    _destination: Destination,
}

impl PutOff {
    fn start(retry: &str) -> Self {
        let recipient = |_: &str| Some("451 4.2.0 not yet".to_owned());
        let destination =
            Destination::with_rules(Rules { recipient: Some(Box::new(recipient)), ..Rules::default() });
        let mut configuration = Configuration::relay(destination.address());
        configuration.node_extra = format!("[retry]\n{retry}\n\n[admin]\nsocket = \"admin.sock\"\n");
        let gateway = Gateway::start(GATEPOST, configuration);
        Dialog::hello(gateway.smtp()).deliver(FROM, &[TO], CONTENT);
        Self { gateway, _destination: destination }
    }

    fn spool(&self, words: &[&str]) -> String {
        let config = self.gateway.config_path();
        let output = Command::new(GATEPOST).arg("spool").args(words).arg("--config").arg(config).output();
        String::from_utf8(output.expect("gatepost was built").stdout).expect("it prints text")
    }

    /// How long after its `attempts`th attempt, and after its arrival, the message is tried again, in seconds.
    fn next_try(&self, attempts: u64) -> (f64, f64) {
        let mut found = None;
        let is_there = eventually(PATIENCE, || {
            let list = self.spool(&["list", "--json"]);
            let message = list.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).next();
            found = message.filter(|message| {
                let recipient = &message["recipients"][0];
                recipient["attempts"] == attempts && recipient["not_before"].is_string()
            });
            found.is_some()
        });
        assert!(is_there, "{}\n{}", self.spool(&["list", "--json"]), self.gateway.output());
        let message = found.expect("it is there");
        let output = self.gateway.output();
        let deferred = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let deferred: Vec<Value> = deferred.filter(|record| record["event"] == "deferred").collect();
        let tried = seconds(&deferred[attempts as usize - 1]["time"]);
        let (next, arrived) =
            (seconds(&message["recipients"][0]["not_before"]), seconds(&message["arrived"]));
        (next - tried, next - arrived)
    }
}

/// A time of RFC 3339 in seconds, within a day or so of the others of a test.
fn seconds(time: &Value) -> f64 {
    let time = time.as_str().expect("a time");
    let (date, clock) = time.split_once('T').expect("date and time");
    let day: f64 = date.rsplit('-').next().expect("a day").parse().expect("a number");
    let clock = clock.trim_end_matches('Z').split(':').map(|part| part.parse::<f64>().expect("a number"));
    day * 86_400.0 + clock.fold(0.0, |sum, part| sum * 60.0 + part)
}

#[test]
fn retries_begin_with_first_double_up_to_longest_and_are_cut_at_expire() {
    let put_off = PutOff::start("first = \"10m\"\nlongest = \"30m\"\nexpire = \"5d\"");
    for (attempts, wait) in [(1, 600.0), (2, 1200.0), (3, 1800.0), (4, 1800.0)] {
        let (after, _) = put_off.next_try(attempts);
        // Up to a fifth is added at random, and times are shown in seconds.
        assert!((wait - 2.0..=wait * 1.2 + 2.0).contains(&after), "{after} s after attempt {attempts}");
        put_off.spool(&["retry", "--all"]);
    }
    let put_off = PutOff::start("first = \"10m\"\nlongest = \"30m\"\nexpire = \"7m\"");
    let (_, age) = put_off.next_try(1);
    assert!((418.0..=422.0).contains(&age), "{age} s after its arrival");
}

/// The threads of a process by name: how far each stands below others, and by which policy it is scheduled.
fn threads_of(pid: u32) -> Vec<(String, i32, u32)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let told = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    // The name stands in brackets; what follows it begins with the third field (proc_pid_stat(5)).
    let parts = told.filter_map(|stat| {
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some((name.to_owned(), fields[19 - 3].parse().ok()?, fields[41 - 3].parse().ok()?))
    });
    parts.collect()
}

#[test]
fn slow_work_gives_way_to_mail_and_to_health() {
    const OTHER: u32 = 0;
    const BATCH: u32 = 3;
    // A sandbox may forbid it, and the gateway does without.
    let is_granted = std::thread::spawn(|| ring::turns::give_way().is_ok());
    if !is_granted.join().expect("it does not panic") {
        return;
    }
    let next_hop = testbed::net::free_address();
    let mut configuration = testbed::proseware::configuration(next_hop, next_hop);
    configuration.workers = 1;
    let gateway = Gateway::start(GATEPOST, configuration);
    let stand = |names: [&str; 2], meant: &dyn Fn(i32, u32) -> bool| {
        eventually(PATIENCE, || {
            let threads = threads_of(gateway.pid());
            names.iter().all(|name| {
                let named = threads.iter().find(|thread| thread.0 == *name);
                named.is_some_and(|&(_, niceness, policy)| meant(niceness, policy))
            })
        })
    };
    // Linux keeps fifteen characters of a name.
    let slow = ["gatepost-verify", "gatepost-ticket"];
    assert!(stand(slow, &|niceness, policy| niceness >= 10 && policy == BATCH));
    let prompt = ["worker-0", "gatepost-contro"];
    assert!(stand(prompt, &|niceness, policy| niceness < 10 && policy == OTHER));
}
