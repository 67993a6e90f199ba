//! Relay control over real sockets: the six situations (DESIGN.md G5), the classic open-relay cases, and what a
//! denied sender is told.

use std::net::IpAddr;

use testbed::Dialog;
use testbed::dialog::Reply;
use testbed::proseware::{AUTH_PLAIN, CONTACT, HOTEL, INSIDE, LOGIN, PUBLIC_URL, WORK};

use crate::house::{House, Secure};

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";
const BODY: &[u8] = b"Subject: relay control\r\n\r\nHello.\r\n";

/// The row ends in an acceptance, and the mail in the tenant's mailboxes.
#[track_caller]
fn is_taken_in(house: &House, source: IpAddr, from: &str) {
    house.connect(source).deliver(from, &[LOGIN], BODY);
    assert_eq!(house.own_mail.wait_for(1)[0].recipients, [LOGIN]);
    assert_eq!(house.elsewhere.count(), 0);
}

/// The row ends in a denial that tells how to log in, and nothing leaves.
#[track_caller]
fn is_denied(house: &House, source: IpAddr, from: &str) {
    let mut dialog = house.connect(source);
    dialog.command(&format!("MAIL FROM:<{from}>"), 250);
    let reply = dialog.command(&format!("RCPT TO:<{BOB}>"), 550);
    assert_stranger_is_told(&reply, BOB, source, house.submission.port());
    dialog.command("DATA", 554);
    let labels = ["listener=\"smtp\"", "reason=\"relay_not_permitted\"", "tenant=\"none\""];
    assert_eq!(house.denials(&labels), 1);
    house.nothing_went_elsewhere();
}

/// The two lines of a refusal (DESIGN.md G1): what is denied; what to do, whom to ask, the ticket.
#[track_caller]
fn assert_stranger_is_told(reply: &Reply, to: &str, client: IpAddr, submission_port: u16) {
    let [first, second] = reply.lines.as_slice() else { panic!("not two lines: {reply:?}") };
    assert_eq!(*first, format!("5.7.1 <{to}>: relaying not permitted for {client}"));
    let advice = format!("5.7.1 sign in on port {submission_port}, or write to {CONTACT}; ticket ");
    let ticket = second.strip_prefix(&advice).unwrap_or_else(|| panic!("{second:?} lacks {advice:?}"));
    let (ticket, url) = ticket.split_once(' ').expect("the page of the ticket follows it");
    assert_eq!(ticket.split('-').map(str::len).collect::<Vec<_>>(), [4, 4, 4, 1], "{ticket}");
    assert_eq!(url, format!("{PUBLIC_URL}/{}", ticket.replace('-', "")));
}

#[test]
fn inside_to_the_own_domain_is_accepted() {
    is_taken_in(&House::start(), INSIDE, KIM);
}

#[test]
fn inside_to_elsewhere_is_accepted_because_the_network_is_the_tenants() {
    let house = House::start();
    house.connect(INSIDE).deliver(KIM, &[BOB], BODY);
    let arrivals = house.elsewhere.wait_for(1);
    assert_eq!(
        (arrivals[0].reverse_path.as_str(), arrivals[0].recipients.as_slice()),
        (KIM, &[BOB.to_owned()][..])
    );
    assert_eq!(house.own_mail.count(), 0);
}

#[test]
fn at_work_to_the_own_domain_is_accepted_as_from_any_server() {
    is_taken_in(&House::start(), WORK, KIM);
}

#[test]
fn at_work_to_elsewhere_is_denied_and_told_to_log_in() {
    is_denied(&House::start(), WORK, KIM);
}

#[test]
fn in_a_hotel_to_the_own_domain_is_accepted() {
    is_taken_in(&House::start(), HOTEL, KIM);
}

#[test]
fn in_a_hotel_to_elsewhere_is_denied_and_told_to_log_in() {
    is_denied(&House::start(), HOTEL, KIM);
}

#[test]
fn in_a_hotel_to_elsewhere_is_accepted_after_a_login_over_tls() {
    let house = House::start();
    let mut client = Secure::start(HOTEL, house.submission, &house.gateway);
    client.command(AUTH_PLAIN, 235);
    client.command(&format!("MAIL FROM:<{LOGIN}>"), 250);
    client.command(&format!("RCPT TO:<{BOB}>"), 250);
    client.command("DATA", 354);
    client.command(&format!("{}.", String::from_utf8_lossy(BODY)), 250);
    assert_eq!(house.elsewhere.wait_for(1)[0].recipients, [BOB]);
}

#[test]
fn a_login_does_not_send_as_an_address_that_it_does_not_own() {
    let house = House::start();
    let mut client = Secure::start(HOTEL, house.submission, &house.gateway);
    client.command(AUTH_PLAIN, 235);
    client.command(&format!("MAIL FROM:<{KIM}>"), 250);
    let reply = client.command(&format!("RCPT TO:<{BOB}>"), 553);
    assert_eq!(reply.lines[0], format!("5.7.1 <{KIM}>: you may not send as this address"));
    let labels = ["listener=\"submission\"", "reason=\"sender_not_owned\"", "tenant=\"proseware\""];
    assert_eq!(house.denials(&labels), 1);
    house.nothing_went_elsewhere();
}

#[test]
fn a_submission_listener_takes_nothing_before_tls_and_a_login() {
    let house = House::start();
    let mut clear = Dialog::hello_from(INSIDE, house.submission);
    clear.command(AUTH_PLAIN, 538);
    clear.command(&format!("MAIL FROM:<{KIM}>"), 530);
    let mut client = Secure::start(INSIDE, house.submission, &house.gateway);
    client.command(&format!("MAIL FROM:<{KIM}>"), 530);
    client.command("AUTH PLAIN AHRlcnJpQHByb3Nld2FyZS5leGFtcGxlAHdyb25n", 535);
    client.command(&format!("MAIL FROM:<{KIM}>"), 530);
    assert_eq!(house.denials(&["reason=\"login_required\""]), 2);
    assert_eq!(house.denials(&["reason=\"login_failed\"", "tenant=\"none\""]), 1);
}

#[test]
fn a_denied_recipient_does_not_take_the_others_with_it() {
    let house = House::start();
    let mut dialog = house.connect(HOTEL);
    dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
    dialog.command(&format!("RCPT TO:<{BOB}>"), 550);
    dialog.command(&format!("RCPT TO:<{LOGIN}>"), 250);
    dialog.command("DATA", 354);
    dialog.send([BODY, b".\r\n"].concat());
    dialog.expect(250);
    assert_eq!(house.own_mail.wait_for(1)[0].recipients, [LOGIN]);
    house.nothing_went_elsewhere();
}

/// MAIL FROM and RCPT TO of `cases/open-relay.md`, with D, S, I and O filled in.
const OPEN_RELAY: [(&str, &str); 20] = [
    ("", "t@adatum.example"),
    ("f@adatum.example", "t@adatum.example"),
    ("f@relay.proseware.example", "t@adatum.example"),
    ("f@[127.0.0.1]", "t@adatum.example"),
    ("f@[127.0.0.1]", "t%adatum.example@[127.0.0.1]"),
    ("f@[127.0.0.1]", "t%adatum.example@relay.proseware.example"),
    ("f@[127.0.0.1]", "\"t@adatum.example\""),
    ("f@[127.0.0.1]", "\"t%adatum.example\""),
    ("f@[127.0.0.1]", "t@adatum.example@[127.0.0.1]"),
    ("f@[127.0.0.1]", "\"t@adatum.example\"@[127.0.0.1]"),
    ("f@[127.0.0.1]", "t@adatum.example@relay.proseware.example"),
    ("f@[127.0.0.1]", "@[127.0.0.1]:t@adatum.example"),
    ("f@[127.0.0.1]", "@relay.proseware.example:t@adatum.example"),
    ("f@[127.0.0.1]", "adatum.example!t"),
    ("f@[127.0.0.1]", "adatum.example!t@[127.0.0.1]"),
    ("f@[127.0.0.1]", "adatum.example!t@relay.proseware.example"),
    ("f@localhost", "t@adatum.example"),
    ("f", "t@adatum.example"),
    ("f@proseware.example", "t@adatum.example"),
    ("f@proseware.example", "t%adatum.example@proseware.example"),
];

#[test]
fn a_stranger_relays_by_none_of_the_classic_open_relay_cases() {
    let house = House::start();
    for (row, (from, to)) in (1..).zip(OPEN_RELAY) {
        let mut dialog = house.connect(HOTEL);
        if !ask(&mut dialog, row, &format!("MAIL FROM:<{from}>")) {
            continue;
        }
        // A row that is accepted runs through DATA: it may end in the mailbox t of the relay domain.
        if ask(&mut dialog, row, &format!("RCPT TO:<{to}>")) && ask(&mut dialog, row, "DATA") {
            dialog.send([BODY, b".\r\n"].concat());
            dialog.reply().expect("a message is answered");
        }
    }
    house.nothing_went_elsewhere();
    let boxes: Vec<_> =
        house.own_mail.arrivals().into_iter().flat_map(|arrival| arrival.recipients).collect();
    assert!(boxes.iter().all(|mailbox| mailbox == "t@proseware.example"), "{boxes:?}");
    assert!(house.denials(&["reason=\"relay_not_permitted\"", "tenant=\"none\""]) >= 6);
    assert!(house.denials(&["reason=\"routing_syntax\""]) >= 10);
}

#[test]
fn the_tenants_own_network_is_refused_routing_tricks_too() {
    let house = House::start();
    for (row, (_, to)) in (1..).zip(OPEN_RELAY).filter(|(_, (_, to))| *to != "t@adatum.example") {
        let mut dialog = house.connect(INSIDE);
        dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
        assert!(!ask(&mut dialog, row, &format!("RCPT TO:<{to}>")), "row {row}: {to} was accepted");
    }
    house.nothing_went_elsewhere();
}

/// Whether `line` is accepted; a refusal must be final and say why.
#[track_caller]
fn ask(dialog: &mut Dialog, row: u32, line: &str) -> bool {
    dialog.send(format!("{line}\r\n"));
    let reply = dialog.reply().unwrap_or_else(|| panic!("row {row}: {line}: the connection ended"));
    let is_final = reply.code >= 500 && reply.lines[0].starts_with("5.");
    assert!(reply.is_positive() || is_final, "row {row}: {line}: {reply:?}");
    reply.is_positive()
}
