//! `gatepost probe`: on this gateway, on a Postfix that is closed and one that is open, and on servers
//! whose replies are easily mistaken.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use testbed::destination::Judge;
use testbed::postfix::{Postfix, Settings};
use testbed::proseware::{HOTEL, INSIDE};
use testbed::{Destination, Rules, tools};

use crate::house::House;

/// What a probe came to: its exit code, and what it printed.
struct Probed {
    code: i32,
    text: String,
}

impl Probed {
    /// How many cases came to `outcome`.
    fn count(&self, outcome: &str) -> usize {
        self.text.matches(&format!("\"outcome\":\"{outcome}\"")).count()
    }
}

/// Probes as a stranger.
fn probe(server: SocketAddr, further: &[&str]) -> Probed {
    let output = Command::new(env!("CARGO_BIN_EXE_gatepost"))
        .env("COLUMNS", "1000")
        .args(["probe", &server.to_string(), "--foreign", "adatum.example", "--timeout", "20"])
        .args(further)
        .stdin(Stdio::null())
        .output()
        .expect("gatepost runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Probed { code: output.status.code().expect("it ends by itself"), text }
}

fn stranger<'a>(further: &[&'a str]) -> Vec<&'a str> {
    [&["--source", "127.0.3.9", "--own", "proseware.example", "--json"], further].concat()
}

#[test]
fn g4_the_probe_finds_this_gateway_closed_to_strangers() {
    assert_eq!(HOTEL.to_string(), "127.0.3.9");
    let house = House::start();
    let probed = probe(house.gateway.smtp(), &stranger(&[]));
    assert_eq!((probed.code, probed.count("denied")), (0, 20), "{}", probed.text);
    assert!(probed.text.contains("\"server_name\":\"relay.proseware.example\""), "{}", probed.text);
    house.nothing_went_elsewhere();

    let people = probe(house.gateway.smtp(), &["--source", "127.0.3.9", "--own", "proseware.example"]);
    assert_eq!(people.code, 0);
    for words in ["No case passed.", "denied: 20 cases", "  13  <f@[127.0.0.1]>"] {
        assert!(people.text.contains(words), "{words:?} is not in\n{}", people.text);
    }
}

#[test]
fn nothing_that_a_probe_prints_breaks_inside_a_word_at_eighty_columns() {
    let house = House::start();
    for own in [&["--own", "proseware.example"][..], &[]] {
        let output = Command::new(env!("CARGO_BIN_EXE_gatepost"))
            .env_remove("COLUMNS")
            .args(["probe", &house.gateway.smtp().to_string(), "--foreign", "adatum.example"])
            .args(["--source", "127.0.3.9"])
            .args(own)
            .stdin(Stdio::null())
            .output()
            .expect("gatepost runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("No case passed."), "{output:?}");
        assert_eq!(testbed::terminal::misfits(&text), [""; 0], "{text}");
    }
}

#[test]
fn g4_the_probe_says_that_it_was_run_from_inside() {
    let house = House::start();
    let source = INSIDE.to_string();
    let probed = probe(house.gateway.smtp(), &["--source", &source, "--own", "proseware.example"]);
    assert_eq!(probed.code, 1, "{}", probed.text);
    assert!(probed.text.contains("passed: 1 case: accepted for a domain"), "{}", probed.text);
    assert!(probed.text.contains(&format!("the server may trust {source}")), "{}", probed.text);
}

#[test]
fn g4_a_submission_port_asks_for_tls_and_then_to_log_in() {
    let house = House::start();
    let probed = probe(house.submission, &stranger(&[]));
    // A sender without a domain is no address, with TLS or without.
    assert_eq!((probed.code, probed.count("tls_required")), (2, 19), "{}", probed.text);
    let probed = probe(house.submission, &stranger(&["--tls", "starttls"]));
    assert_eq!((probed.code, probed.count("login_required")), (0, 19), "{}", probed.text);
    assert_eq!(probed.count("denied"), 1);
}

/// A Postfix that receives for the tenant's domain, and relays for `networks`.
fn postfix(networks: &str, elsewhere: SocketAddr) -> Postfix {
    let main =
        format!("mynetworks = {networks}\nrelay_domains = proseware.example\nsmtpd_error_sleep_time = 0\n");
    Postfix::start(Settings { relay_to: Some(elsewhere), main: &main, wrapper: &[] })
        .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn g4_a_postfix_with_its_defaults_is_closed() {
    if tools::find("postfix", "probing a Postfix").is_none() {
        return;
    }
    let elsewhere = Destination::start();
    let postfix = postfix("127.0.1.0/24", elsewhere.address());
    let probed = probe(postfix.address(), &stranger(&[]));
    assert_eq!((probed.code, probed.count("passed")), (0, 0), "{}", probed.text);
    assert!(probed.count("denied") >= 17, "{}", probed.text);
    assert_eq!(elsewhere.count(), 0);
}

#[test]
fn g4_a_postfix_that_trusts_everyone_is_open() {
    if tools::find("postfix", "probing an open Postfix").is_none() {
        return;
    }
    let elsewhere = Destination::with_rules(Rules { keep_content: true, ..Rules::default() });
    let postfix = postfix("0.0.0.0/0", elsewhere.address());
    let probed = probe(postfix.address(), &stranger(&[]));
    assert_eq!(probed.code, 1, "{}", probed.text);
    assert!(probed.count("passed") >= 5, "{}", probed.text);
    assert_eq!(elsewhere.count(), 0, "nothing is sent that was not asked for");

    let delivered = probe(postfix.address(), &stranger(&["--deliver"]));
    assert_eq!(delivered.code, 1, "{}", delivered.text);
    assert!(delivered.text.contains("\"stage\":\"message\""), "{}", delivered.text);
    let arrived = elsewhere.wait_for(1);
    assert_eq!(arrived[0].recipients, ["t@adatum.example"]);
    let message = String::from_utf8_lossy(&elsewhere.contents()[0]).into_owned();
    assert!(message.contains("Subject: gatepost probe ") && message.contains("relays mail for strangers"));
}

fn rule(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Option<Judge> {
    Some(Box::new(answer))
}

/// A server that answers recipients as `recipient` says.
fn server(recipient: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Destination {
    Destination::with_rules(Rules { recipient: rule(recipient), ..Rules::default() })
}

fn no(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn g4_a_server_that_decides_nothing_now_is_not_called_closed() {
    let greylisting = server(|_| no("450 4.2.0 greylisted, come again"));
    let probed = probe(greylisting.address(), &stranger(&["--server-name", "mx.example"]));
    assert_eq!((probed.code, probed.count("deferred")), (2, 20), "{}", probed.text);
    let picky = server(|_| no("550 5.1.2 no such domain"));
    let probed = probe(picky.address(), &stranger(&["--server-name", "mx.example"]));
    assert_eq!((probed.code, probed.count("domain_refused")), (2, 20), "{}", probed.text);
}

#[test]
fn g4_a_server_that_takes_every_name_of_its_own_is_not_called_open() {
    // As qmail does, which looks at the domain alone: what is before the last @ is a name to it.
    let receives = |recipient: &str| match recipient.rsplit_once('@') {
        Some((_, "proseware.example" | "mx.example")) => None,
        _ => no("553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"),
    };
    let probed = probe(server(receives).address(), &stranger(&["--server-name", "mx.example"]));
    assert_eq!((probed.code, probed.count("passed")), (0, 0), "{}", probed.text);
    assert!(probed.count("unclear") >= 2, "{}", probed.text);
}

#[test]
fn g4_the_percent_hack_is_found_where_other_names_are_refused() {
    let percent_hack = |recipient: &str| match recipient.rsplit_once('@') {
        Some((name, "proseware.example")) if name.contains('%') => None,
        _ => no("550 5.1.1 no such user"),
    };
    let probed = probe(server(percent_hack).address(), &stranger(&["--server-name", "mx.example"]));
    assert_eq!((probed.code, probed.count("passed"), probed.count("denied")), (1, 1, 19), "{}", probed.text);
}

#[test]
fn g4_a_refusal_of_the_message_itself_shows_only_by_delivering() {
    let late = || Rules { message: rule(|_| no("554 5.7.1 relaying denied")), ..Rules::default() };
    let server = Destination::with_rules(late());
    let probed = probe(server.address(), &stranger(&["--server-name", "mx.example"]));
    assert_eq!(probed.code, 1, "{}", probed.text);
    let probed = probe(server.address(), &stranger(&["--server-name", "mx.example", "--deliver"]));
    assert_eq!((probed.code, probed.count("passed")), (0, 0), "{}", probed.text);
}

#[test]
fn g4_a_server_that_is_not_there_or_does_not_talk_is_no_answer() {
    let nobody = probe(testbed::net::free_address(), &stranger(&[]));
    assert_eq!(nobody.code, 2);
    assert!(nobody.text.contains("cannot speak to 127.0.0.1:"), "{}", nobody.text);
    let greeting = rule(|_| no("554 5.7.1 your address is blocked"));
    let silent = Destination::with_rules(Rules { greeting, ..Rules::default() });
    let blocked = probe(silent.address(), &stranger(&[]));
    assert_eq!(blocked.code, 2);
    assert!(blocked.text.contains("does not talk to this client: 554 5.7.1"), "{}", blocked.text);
    let wrong = probe(silent.address(), &["--own", "not a domain"]);
    assert_eq!(wrong.code, 2);
}
