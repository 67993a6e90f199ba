//! C2: the header From of who relays is theirs too, where the tenant turns it on.

use std::net::{IpAddr, SocketAddr};

use testbed::Dialog;
use testbed::dialog::Reply;
use testbed::proseware::{HOTEL, INSIDE, LOGIN, listen_for_clear_logins};

use crate::house::House;
use crate::tenant::{auth, or_write, worded, write_keys};

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";

fn house() -> (House, SocketAddr) {
    let mut clear = None;
    let house = House::start_with(|configuration| {
        write_keys(
            configuration,
            "check_header_from = true\ncheck_reply_to = true\ncheck_sender_header = true",
        );
        clear = Some(listen_for_clear_logins(configuration));
    });
    (house, clear.expect("the listener was added"))
}

/// Sends a message with this header, in pieces of `step` bytes; gives the answer to its end.
fn send(dialog: &mut Dialog, (from, to): (&str, &str), header: &str, body: &str, step: usize) -> Reply {
    dialog.command(&format!("MAIL FROM:<{from}>"), 250);
    dialog.command(&format!("RCPT TO:<{to}>"), 250);
    dialog.command("DATA", 354);
    for piece in format!("{header}\r\n{body}\r\n.\r\n").as_bytes().chunks(step) {
        dialog.send(piece);
    }
    dialog.reply().expect("a message is answered")
}

fn network(house: &House, source: IpAddr, to: &str, header: &str) -> Reply {
    send(&mut house.connect(source), (KIM, to), header, "x", usize::MAX)
}

#[test]
fn a_message_from_an_address_of_the_sender_goes_and_one_from_anothers_is_refused() {
    let (house, clear) = house();
    for (header, problem) in [
        ("From: kim@proseware.example\r\n", None),
        ("Subject: x\r\nfrom: \"Kim, at home\"\r\n <Ann@Proseware.example>\r\n", None),
        ("From: kim@proseware.example, ann@proseware.example\r\n", None),
        ("From: kim@proseware.example\r\nReply-To: ann@proseware.example\r\n", None),
        ("From: boss@adatum.example\r\n", Some("From holds <boss@adatum.example>, which is not yours")),
        (
            "From: kim@proseware.example, boss@adatum.example\r\n",
            Some("From holds <boss@adatum.example>, which is not yours"),
        ),
        (
            "From: kim@proseware.example\r\nReply-To: <boss@adatum.example>\r\n",
            Some("Reply-To holds <boss@adatum.example>, which is not yours"),
        ),
        (
            "From: kim@proseware.example\r\nSender: <boss@adatum.example>\r\n",
            Some("Sender holds <boss@adatum.example>, which is not yours"),
        ),
        ("Subject: x\r\n", Some("there is no From")),
        (
            "From: kim@proseware.example\r\nFrom: ann@proseware.example\r\n",
            Some("there is more than one From"),
        ),
        (
            "From: kim@proseware.example\r\nFrom : boss@adatum.example\r\n",
            Some("there is more than one From"),
        ),
        (
            "From: boss@adatum.example <kim@proseware.example>\r\n",
            Some("From: addresses are not parted by commas"),
        ),
        (" From: kim@proseware.example\r\n", Some("From is too long, or malformed")),
    ] {
        let reply = network(&house, INSIDE, BOB, header);
        let expected = problem.map_or_else(
            || "250".to_owned(),
            |problem| {
                format!(
                    "550 5.7.1 you may not send with this header: {problem}\n\
                     5.7.1 write one From field, with an address of your own, {}",
                    or_write()
                )
            },
        );
        match problem {
            None => assert_eq!(reply.code, 250, "{header:?}: {reply:?}"),
            Some(_) => assert_eq!(worded(&reply), expected, "{header:?}"),
        }
    }
    assert_eq!(house.denials(&["reason=\"header_from_not_owned\"", "tenant=\"proseware\""]), 9);
    // A login answers with its own list, wherever its mail goes.
    let mut login = Dialog::hello_from(HOTEL, clear);
    login.command(&auth(LOGIN), 235);
    for (to, from, code) in [(BOB, LOGIN, 250), (BOB, KIM, 550), (KIM, KIM, 550), (KIM, LOGIN, 250)] {
        let reply = send(&mut login, (LOGIN, to), &format!("From: {from}\r\n"), "x", usize::MAX);
        assert_eq!(reply.code, code, "{to} {from}");
    }
    assert_eq!(house.elsewhere.wait_for(5).len(), 5);
}

#[test]
fn a_strangers_mail_for_a_relay_domain_is_not_checked_and_neither_is_the_networks_own() {
    let (house, _) = house();
    for source in [HOTEL, INSIDE] {
        assert_eq!(network(&house, source, LOGIN, "From: boss@adatum.example\r\n").code, 250);
        assert_eq!(network(&house, source, LOGIN, "Subject: x\r\n").code, 250);
    }
    house.own_mail.wait_for(4);
}

#[test]
fn the_header_counts_however_the_message_is_cut_and_however_long_it_is() {
    let (house, _) = house();
    let long = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n".repeat(40_000);
    for (from, code) in [("kim@proseware.example", 250), ("boss@adatum.example", 550)] {
        for (body, step) in [("x", 1), ("x", 3), (long.as_str(), 100_000)] {
            let header = format!("Subject: x\r\nFrom: Kim\r\n\t<{from}>\r\n");
            let mut dialog = house.connect(INSIDE);
            assert_eq!(send(&mut dialog, (KIM, BOB), &header, body, step).code, code, "{from} by {step}");
            // The session goes on.
            dialog.command("NOOP", 250);
        }
    }
    let over_long = format!("From: {} <kim@proseware.example>\r\n", "Kim\r\n ".repeat(4000));
    assert_eq!(network(&house, INSIDE, BOB, &over_long).code, 550);
    assert_eq!(house.elsewhere.wait_for(3).len(), 3);
}
