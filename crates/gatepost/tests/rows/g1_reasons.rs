//! G1: every denial names its reason in the reply, in the log, in the metric and in the ticket, and the
//! reply says what the sender can do.

use std::fmt::Write as _;
use std::net::IpAddr;

use testbed::Dialog;
use testbed::dialog::Reply;
use testbed::proseware::{AUTH_PLAIN, CONTACT, HOTEL, INSIDE, LOGIN, PUBLIC_URL};

use crate::g2_explanations::{open_to_questions, ticket_of, why};
use crate::house::{House, Secure};

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";
/// `AUTH PLAIN` with a wrong password.
const AUTH_WRONG: &str = "AUTH PLAIN AHRlcnJpQHByb3Nld2FyZS5leGFtcGxlAHdyb25n";

/// How a reason is met with: the refusal, over a socket.
type Provoke = fn(&House) -> Reply;

/// Reason and the rule that gives it; the label of the tenant concerned; how to meet with it.
const REASONS: [(&str, &str, &str, Provoke); 13] = [
    ("relay_not_permitted", "responsibility", "none", |house| recipient(house, HOTEL, KIM, BOB, 550)),
    ("routing_syntax", "routing_syntax", "none", |house| {
        recipient(house, HOTEL, KIM, "bob%adatum.example@proseware.example", 550)
    }),
    ("recipient_unknown", "recipient", "proseware", |house| {
        recipient(house, HOTEL, KIM, "nobody@listed.example", 550)
    }),
    ("sender_not_owned", "sender", "proseware", |house| {
        recipient(house, INSIDE, "kim@fabrikam.example", BOB, 553)
    }),
    ("second_tenant", "one_tenant", "fabrikam", |house| {
        let mut dialog = begin(house, INSIDE, KIM);
        dialog.command(&format!("RCPT TO:<{LOGIN}>"), 250);
        dialog.command("RCPT TO:<ann@fabrikam.example>", 452)
    }),
    ("too_many_recipients", "recipient_count", "proseware", |house| {
        let mut dialog = begin(house, INSIDE, KIM);
        for number in 0..3 {
            dialog.command(&format!("RCPT TO:<user{number}@adatum.example>"), 250);
        }
        dialog.command(&format!("RCPT TO:<{BOB}>"), 452)
    }),
    ("message_too_large", "message_size", "proseware", |house| {
        message(house, format!("Subject: large\r\n\r\n{}", "all too much\r\n".repeat(500)), 552)
    }),
    ("bare_newline", "line_ending", "proseware", |house| {
        message(house, "Subject: x\r\n\r\none\ntwo\r\n", 550)
    }),
    ("loop_detected", "loop", "proseware", |house| {
        message(house, format!("{}Subject: x\r\n\r\nround\r\n", "Received: by a\r\n".repeat(60)), 554)
    }),
    ("login_required", "login", "none", |house| {
        let mut client = Secure::start(HOTEL, house.submission, &house.gateway);
        client.command(&format!("MAIL FROM:<{KIM}>"), 530)
    }),
    ("tls_required", "tls", "none", |house| {
        Dialog::hello_from(HOTEL, house.submission).command(&format!("MAIL FROM:<{KIM}>"), 530)
    }),
    ("tls_required", "tls", "none", |house| {
        Dialog::hello_from(HOTEL, house.submission).command(AUTH_PLAIN, 538)
    }),
    ("login_failed", "credential", "none", |house| {
        Secure::start(HOTEL, house.submission, &house.gateway).command(AUTH_WRONG, 535)
    }),
];

#[track_caller]
fn begin(house: &House, source: IpAddr, from: &str) -> Dialog {
    let mut dialog = house.connect(source);
    dialog.command(&format!("MAIL FROM:<{from}>"), 250);
    dialog
}

#[track_caller]
fn recipient(house: &House, source: IpAddr, from: &str, to: &str, code: u16) -> Reply {
    begin(house, source, from).command(&format!("RCPT TO:<{to}>"), code)
}

#[track_caller]
fn message(house: &House, content: impl AsRef<str>, code: u16) -> Reply {
    let mut dialog = begin(house, INSIDE, KIM);
    dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
    dialog.command("DATA", 354);
    dialog.send(format!("{}.\r\n", content.as_ref()));
    dialog.expect(code)
}

/// The house with limits that are soon reached, and a second tenant.
fn house() -> House {
    House::start_with(|configuration| {
        open_to_questions(configuration);
        let next_hop = configuration.next_hop;
        let proseware = &mut configuration.tenants[0].1;
        write!(
            proseware,
            "\n[[relay_domain]]\ndomains = [\"listed.example\"]\nnext_hops = [\"{next_hop}\"]\ntls = \"off\"\n\
             recipients = \"../listed.txt\"\n\n\
             [limits]\nrecipients_per_message = 3\nmessage_size = \"4KiB\"\n"
        )
        .expect("a string takes what is written to it");
        let fabrikam = format!(
            "name = \"fabrikam\"\nsenders = [\"@fabrikam.example\"]\n\n[[relay_domain]]\n\
             domains = [\"fabrikam.example\"]\nnext_hops = [\"{next_hop}\"]\ntls = \"off\"\n"
        );
        configuration.tenants.push(("fabrikam".into(), fabrikam));
        configuration.files.push(("listed.txt".into(), "terri@listed.example\n".into()));
    })
}

#[test]
fn every_reason_is_in_the_reply_the_log_the_metric_and_the_ticket() {
    let house = house();
    for (reason, rule, tenant, provoke) in REASONS {
        let labels = [&*format!("reason=\"{reason}\""), &*format!("tenant=\"{tenant}\"")];
        let before = house.denials(&labels);
        let reply = provoke(&house);
        let ticket = assert_reply_helps(reason, &reply);
        assert_eq!(house.denials(&labels), before + 1, "{reason} is counted for {tenant}");
        assert_log_tells(&house, reason, rule, &ticket);
        let record = why(&house, &ticket);
        assert_eq!(record["reason"], reason, "{record}");
        assert_eq!(record["rule"], rule, "{record}");
        let decided = record["steps"].as_array().expect("rules are listed").last().expect("one decided");
        assert_eq!((&decided["rule"], &decided["outcome"]), (&rule.into(), &"deny".into()), "{record}");
        assert!(record["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{reason}: {record}");
        assert_eq!(record["code"].as_str().map(|code| &code[..1]), Some(&reply.code.to_string()[..1]));
    }
    house.gateway.wait_metric("gatepost_tickets_dropped_total", 0.0);
}

/// The last line of a refusal: what can be done, whom to ask, the ticket and its page.
#[track_caller]
fn assert_reply_helps(reason: &str, reply: &Reply) -> String {
    let ticket = ticket_of(reply);
    let last = reply.lines.last().expect("a reply has a line");
    let (help, rest) =
        last.split_once("; ticket ").unwrap_or_else(|| panic!("{reason}: {last:?} does not help"));
    let (_, advice) = help.split_once(' ').expect("a status stands first");
    assert!(advice.len() > 10 && advice.contains(CONTACT), "{reason}: {advice:?}");
    assert_eq!(rest, format!("{ticket} {PUBLIC_URL}/{}", ticket.replace('-', "")), "{reason}");
    ticket
}

#[track_caller]
fn assert_log_tells(house: &House, reason: &str, rule: &str, ticket: &str) {
    let mut record = None;
    testbed::net::eventually(testbed::net::PATIENCE, || {
        record = house.gateway.output().lines().find(|line| line.contains(ticket)).map(str::to_owned);
        record.is_some()
    });
    let record = record.unwrap_or_else(|| panic!("{reason}: no log record has the ticket {ticket}"));
    for word in
        ["\"event\":\"relay_denied\"", &format!("\"reason\":\"{reason}\""), &format!("\"rule\":\"{rule}\"")]
    {
        assert!(record.contains(word), "{record} lacks {word}");
    }
}

#[test]
fn the_denied_recipients_of_one_transaction_share_a_ticket_that_lists_them() {
    let house = House::start_with(open_to_questions);
    let mut dialog = begin(&house, HOTEL, KIM);
    let mut tickets: Vec<_> = (0..25)
        .map(|number| ticket_of(&dialog.command(&format!("RCPT TO:<user{number}@adatum.example>"), 550)))
        .collect();
    tickets.dedup();
    let [ticket] = tickets.as_slice() else { panic!("more than one ticket: {tickets:?}") };
    let record = why(&house, ticket);
    assert_eq!(record["recipient_count"], 25, "{record}");
    assert_eq!(record["recipients"].as_array().map(Vec::len), Some(20), "{record}");
    assert_eq!(record["recipients"][19], "user19@adatum.example");
}

#[test]
fn a_storm_of_denials_has_few_tickets_and_every_one_of_them_can_be_looked_up() {
    let house = House::start_with(open_to_questions);
    let mut tickets = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let mut dialog = house.connect(HOTEL);
        for _ in 0..19 {
            dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
            tickets.insert(ticket_of(&dialog.command(&format!("RCPT TO:<{BOB}>"), 550)));
            dialog.command("RSET", 250);
        }
    }
    assert_eq!(house.denials(&["reason=\"relay_not_permitted\""]), 190);
    assert!(tickets.len() < 190, "{} tickets for 190 denials of one address", tickets.len());
    for ticket in &tickets {
        assert_eq!(why(&house, ticket)["reason"], "relay_not_permitted");
    }
    house.gateway.wait_metric("gatepost_tickets_dropped_total", 0.0);
}
