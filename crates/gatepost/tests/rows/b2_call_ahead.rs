//! B2: recipients of a relay domain that its next hop is asked for.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use testbed::net::{PATIENCE, eventually};
use testbed::proseware::{HOTEL, INSIDE, WORK};
use testbed::{Configuration, Destination, Gateway, Rules};

use testbed::{Dialog, proseware};

const FROM: &str = "bob@adatum.example";

/// A gateway that asks its tenant's mail server, and the questions that were put there.
fn gateway(
    refusal: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) -> (Gateway, Destination, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let rules = Rules {
        recipient: Some(Box::new(move |to| {
            count.fetch_add(1, Ordering::SeqCst);
            refusal(to)
        })),
        ..Rules::default()
    };
    let server = Destination::with_rules(rules);
    let mut configuration = proseware::configuration(server.address(), server.address());
    ask_ahead(&mut configuration);
    (Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration), server, asked)
}

fn ask_ahead(configuration: &mut Configuration) {
    let tenant = &mut configuration.tenants[0].1;
    *tenant = tenant.replace("[[relay_domain]]\n", "[[relay_domain]]\nrecipients = \"call-ahead\"\n");
}

fn begin(gateway: &Gateway, source: std::net::IpAddr) -> Dialog {
    let mut dialog = Dialog::hello_from(source, gateway.smtp());
    dialog.command(&format!("MAIL FROM:<{FROM}>"), 250);
    dialog
}

#[test]
fn the_next_hop_says_who_is_known_and_is_asked_once() {
    let knows =
        |to: &str| (!to.contains("kim") && !to.contains("postmaster")).then(|| "550 5.1.1 who?".into());
    let (gateway, server, asked) = gateway(knows);
    for source in [WORK, INSIDE, HOTEL] {
        let mut client = begin(&gateway, source);
        client.command("RCPT TO:<kim@proseware.example>", 250);
        let reply = client.command("RCPT TO:<Nobody@proseware.example>", 550);
        assert_eq!(reply.lines[0], "5.1.1 <Nobody@proseware.example>: no such recipient here");
        client.command("RCPT TO:<KIM@Proseware.example>", 250);
    }
    assert_eq!(
        asked.load(Ordering::SeqCst),
        2,
        "each recipient once, for every client and however it is written"
    );
    assert_eq!(server.count(), 0, "it was given no message");
}

#[test]
fn a_next_hop_that_is_down_denies_nobody() {
    let (gateway, server, _) = gateway(|_| None);
    drop(server);
    let reply = begin(&gateway, WORK).command("RCPT TO:<kim@proseware.example>", 451);
    assert!(reply.lines[1].contains("try again later"), "{reply:?}");
    let mut inside = Dialog::hello_from(INSIDE, gateway.smtp());
    inside.deliver("terri@proseware.example", &["kim@proseware.example"], b"Subject: x\r\n\r\ny\r\n");
    gateway.wait_metric("gatepost_queue_recipients", 1.0);
}

#[test]
fn a_next_hop_that_refuses_everybody_or_defers_knows_nobody() {
    for refusal in ["550 5.1.1 nobody here", "550 5.7.1 not from you", "450 4.2.0 later"] {
        let (gateway, _server, _) = gateway(move |_| Some(refusal.to_owned()));
        begin(&gateway, WORK).command("RCPT TO:<kim@proseware.example>", 451);
        begin(&gateway, INSIDE).command("RCPT TO:<kim@proseware.example>", 250);
    }
}

/// Holds questions back until it is opened.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    held: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.held.fetch_add(1, Ordering::SeqCst);
        let is_open = self.is_open.lock().expect("no thread panics with it");
        drop(self.opened.wait_while(is_open, |is_open| !*is_open));
    }

    fn open(&self) {
        *self.is_open.lock().expect("no thread panics with it") = true;
        self.opened.notify_all();
    }
}

/// A gateway whose next hop knows kim and lee, and does not answer about guesses before the gate is opened.
fn gateway_with_gate() -> (Gateway, Destination, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let holds = gate.clone();
    let (gateway, server, _) = gateway(move |to| {
        if to.starts_with("guess") {
            holds.pass();
        }
        let knows = ["kim", "lee", "postmaster"].iter().any(|name| to.starts_with(name));
        (!knows).then(|| "550 5.1.1 who?".into())
    });
    begin(&gateway, WORK).command("RCPT TO:<kim@proseware.example>", 250);
    (gateway, server, gate)
}

/// Connects and names a recipient, and does not wait for the answer.
fn guess(gateway: &Gateway, source: IpAddr, number: usize) -> Dialog {
    let mut guesser = begin(gateway, source);
    guesser.send(format!("RCPT TO:<guess{number}@proseware.example>\r\n"));
    guesser
}

#[test]
fn guessing_strangers_hold_up_neither_who_is_known_nor_a_tenants_own_senders() {
    let (gateway, _server, gate) = gateway_with_gate();
    let guesser = |number: usize| guess(&gateway, IpAddr::from([127, 0, 3, number as u8]), number);
    let mut guessers: Vec<Dialog> = (1..=20).map(guesser).collect();
    assert!(eventually(PATIENCE, || gate.held.load(Ordering::SeqCst) > 0));
    for source in [WORK, HOTEL, INSIDE] {
        begin(&gateway, source).command("RCPT TO:<kim@proseware.example>", 250);
    }
    // Asked for now: a place is kept for those for whom a tenant answers.
    begin(&gateway, INSIDE).command("RCPT TO:<nobody@proseware.example>", 550);
    // All the others were let go before the next hop has said a word.
    for guesser in &mut guessers {
        let reply = guesser.reply().expect("an answer");
        assert_eq!(reply.code, 451, "{reply:?}");
    }
    gate.open();
}

#[test]
fn one_address_has_few_questions_at_a_next_hop_at_once() {
    let (gateway, _server, gate) = gateway_with_gate();
    let mut guessers: Vec<Dialog> = (1..=10).map(|number| guess(&gateway, HOTEL, number)).collect();
    for guesser in &mut guessers {
        assert_eq!(guesser.reply().expect("an answer").code, 451);
    }
    assert_eq!(gate.held.load(Ordering::SeqCst), 2);
    begin(&gateway, WORK).command("RCPT TO:<lee@proseware.example>", 250);
    gate.open();
}
