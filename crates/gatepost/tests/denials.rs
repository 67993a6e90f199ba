//! A storm of denials: few lines in the log, an exact sum, and a ticket that answers for each of them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use serde_json::Value;
use testbed::net::{PATIENCE, eventually, free_address};
use testbed::{Configuration, Dialog, Gateway, proseware};

const GATEPOST: &str = env!("CARGO_BIN_EXE_gatepost");
/// Transactions, and denied recipients of each: more lines, one by one, than a client has in a while.
const TRANSACTIONS: usize = 40;
const DENIED: usize = 50;

/// A client that connects by loopback is a stranger; `kim@proseware.example` may be written.
fn gateway() -> Gateway {
    let mut configuration = Configuration::relay(free_address());
    configuration.workers = 1;
    let tenant = "name = \"proseware\"\nnetworks = [\"192.0.2.0/24\"]\nsenders = [\"@proseware.example\"]\n\n\
                  [[relay_domain]]\ndomains = [\"proseware.example\"]\nnext_hops = [\"127.0.0.1:1\"]\n";
    configuration.tenants = vec![("proseware".into(), tenant.into())];
    configuration.node_extra = "[admin]\nsocket = \"admin.sock\"\n".into();
    Gateway::start(GATEPOST, configuration)
}

/// The tickets of a storm, one a denial: each transaction has one recipient that is taken.
fn storm(gateway: &Gateway) -> Vec<String> {
    let mut tickets = Vec::new();
    let mut dialog = Dialog::hello(gateway.smtp());
    for transaction in 0..TRANSACTIONS {
        dialog.command("MAIL FROM:<ann@far.example>", 250);
        dialog.command("RCPT TO:<kim@proseware.example>", 250);
        for number in 0..DENIED {
            let to = format!("bob{}@adatum.example", transaction * DENIED + number);
            let reply = dialog.command(&format!("RCPT TO:<{to}>"), 550).text();
            let ticket = reply.split("ticket ").nth(1).expect("each denial has a ticket");
            tickets.push(ticket.split_whitespace().next().expect("it is a word").to_owned());
        }
        dialog.command("RSET", 250);
    }
    dialog.command("QUIT", 221);
    tickets
}

fn logged(gateway: &Gateway) -> Vec<Value> {
    let output = gateway.output();
    let records = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_denial =
        |record: &Value| record["event"] == "relay_denied" || record["event"] == "relay_denials_folded";
    records.filter(is_denial).collect()
}

#[test]
fn a_storm_of_denials_costs_few_lines_an_exact_sum_and_no_ticket() {
    let mut gateway = gateway();
    let tickets = storm(&gateway);
    let denials = (TRANSACTIONS * DENIED) as u64;
    assert_eq!(tickets.len() as u64, denials);
    gateway.wait_metric("gatepost_relay_denials_total", denials as f64);
    gateway.terminate();

    let records = logged(&gateway);
    let (sums, single): (Vec<_>, Vec<_>) =
        records.iter().partition(|record| record["event"] == "relay_denials_folded");
    let summed: u64 = sums.iter().map(|sum| sum["denials"].as_u64().expect("a number")).sum();
    assert_eq!(single.len() as u64 + summed, denials, "the sum is exact");
    assert!(records.len() as u64 * 5 < denials, "{} lines for {denials} denials", records.len());
    let of = |of: &str| sums.iter().filter(|sum| sum["of"] == of).count();
    assert!(of("transaction") > 0 && of("client") > 0, "{sums:?}");
    let known: BTreeSet<&str> = tickets.iter().map(String::as_str).collect();
    for sum in &sums {
        let reasons = format!("relay_not_permitted {}", sum["denials"]);
        assert_eq!((&sum["reasons"], &sum["client"]), (&reasons.into(), &"127.0.0.1".into()));
        for end in ["first_ticket", "last_ticket"] {
            assert!(known.contains(sum[end].as_str().expect("a ticket")), "{sum}");
        }
    }
    let first = single.first().expect("the first have a line each");
    assert_eq!(
        (&first["to"], &first["ticket"]),
        (&"bob0@adatum.example".into(), &tickets[0].as_str().into())
    );

    // The tickets' file is read: each of them answers, and none of the denials is missing.
    let mut told = 0;
    for ticket in known {
        let mut why = Command::new(GATEPOST);
        why.args(["why", ticket, "--json", "--config"]).arg(gateway.config_path());
        let why = why.output().expect("gatepost was built");
        let record: Value = serde_json::from_slice(&why.stdout).unwrap_or_default();
        assert_eq!(record["reason"], "relay_not_permitted", "{ticket}: {record}");
        told += record["recipient_count"].as_u64().unwrap_or(0) + record["repeated"].as_u64().unwrap_or(0);
    }
    assert_eq!(told, denials);
}

/// Those whose recipients are all refused wait for their turns; the turns come.
#[test]
fn a_client_that_is_told_no_at_once_and_without_end_hears_each_no() {
    let gateway = gateway();
    let mut dialog = Dialog::hello(gateway.smtp());
    dialog.command("MAIL FROM:<ann@far.example>", 250);
    dialog.send("RCPT TO:<bob@adatum.example>\r\n".repeat(DENIED * TRANSACTIONS));
    (0..DENIED * TRANSACTIONS).for_each(|_| drop(dialog.expect(550)));
    dialog.command("QUIT", 221);
}

#[test]
fn a_sum_is_told_while_the_gateway_runs_and_its_client_is_gone() {
    let gateway = gateway();
    let tickets = storm(&gateway);
    let denials = tickets.len() as u64;
    let is_told = || {
        let records = logged(&gateway);
        let of = |record: &Value| record["denials"].as_u64().unwrap_or(1);
        records.iter().map(of).sum::<u64>() == denials
    };
    assert!(eventually(PATIENCE, is_told), "{} records", logged(&gateway).len());
}

/// More guesses than strangers have lines for, each from an address of its own.
const GUESSES: usize = 1500;

#[test]
fn guesses_from_ever_new_addresses_cost_few_lines_an_exact_sum_and_name_the_login() {
    let mut configuration = proseware::configuration(free_address(), free_address());
    configuration.workers = 1;
    let listener = proseware::listen_for_clear_logins(&mut configuration);
    let mut gateway = Gateway::start(GATEPOST, configuration);
    // `terri@proseware.example` with a wrong password: the first few are verified, then the login is locked.
    const GUESS: &str = "AUTH PLAIN AHRlcnJpQHByb3Nld2FyZS5leGFtcGxlAGd1ZXNz";
    for number in 0..GUESSES {
        let source = IpAddr::V4(Ipv4Addr::new(127, 77, (number / 250) as u8, 1 + (number % 250) as u8));
        let mut dialog = Dialog::hello_from(source, listener);
        dialog.send(format!("{GUESS}\r\n"));
        let code = dialog.reply().expect("each guess is answered").code;
        assert!(code == 535 || code == 454, "guess {number}: {code}");
    }
    gateway.wait_metric("gatepost_relay_denials_total", GUESSES as f64);
    gateway.terminate();

    let output = gateway.output();
    let records: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |event: &'static str| records.iter().filter(move |record| record["event"] == event);
    let number = |record: &Value, key: &str| record[key].as_u64().expect("a number");
    let lines = of("relay_denied").count() as u64;
    let folded: u64 = of("relay_denials_folded").map(|sum| number(sum, "denials")).sum();
    assert!(folded > 0, "{lines} lines for {GUESSES} guesses");
    assert_eq!(lines + folded, GUESSES as u64, "the sum is exact");
    let failures: u64 = of("login_failures_folded").map(|sum| number(sum, "failures")).sum();
    assert_eq!(failures, folded, "what has no line is known by its login");
    for sum in of("login_failures_folded") {
        assert_eq!(sum["login"], proseware::LOGIN);
        let ends = ["first_client", "last_client"].map(|end| sum[end].as_str().expect("an address"));
        assert!(ends[0] != ends[1] && ends.iter().all(|end| end.starts_with("127.77.")), "{sum}");
    }
}
