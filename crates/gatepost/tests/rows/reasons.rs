//! The reasons that no row has for itself, each with the reply that the page of reasons shows.

use testbed::dialog::Reply;
use testbed::proseware::{HOTEL, INSIDE, LOGIN};

use crate::house::House;
use crate::tenant::{or_write, worded, write_sections};

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";

/// Sends these bytes as the message, and gives the answer to its end.
fn send(house: &House, content: &[u8]) -> Reply {
    let mut dialog = house.connect(INSIDE);
    dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
    dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
    dialog.command("DATA", 354);
    dialog.send(content);
    dialog.reply().expect("a message is answered")
}

#[test]
fn bare_newline_is_told_to_whoever_could_smuggle_a_second_message() {
    let house = House::start();
    let expected = format!(
        "550 5.6.11 the message holds a bare CR, a bare LF or a NUL, which could smuggle a second message\n\
         5.6.11 end every line with CR LF, {}",
        or_write()
    );
    for content in
        [&b"Subject: x\r\n\r\na\nb\r\n.\r\n"[..], b"Subject: x\r\n\r\na\rb\r\n.\r\n", b"a\0b\r\n.\r\n"]
    {
        assert_eq!(worded(&send(&house, content)), expected);
    }
    assert_eq!(house.denials(&["reason=\"bare_newline\"", "tenant=\"proseware\""]), 3);
    house.nothing_went_elsewhere();
}

#[test]
fn loop_detected_is_told_after_fifty_hops_or_twice_by_us() {
    let house = House::start();
    let many = "Received: from a by b; Mon, 24 Nov 2026 12:00:00 +0000\r\n".repeat(51);
    let twice = "Received: from a by relay.proseware.example; Mon\r\n".repeat(2);
    for header in [many, twice] {
        let reply = send(&house, format!("{header}\r\nx\r\n.\r\n").as_bytes());
        let contact = or_write().replace("or write", "write");
        assert_eq!(worded(&reply), format!("554 5.4.6 the message has been here before\n5.4.6 {contact}"));
    }
    house.nothing_went_elsewhere();
}

#[test]
fn message_too_large_and_too_many_recipients_name_the_limit() {
    let house = House::start_with(|configuration| {
        write_sections(configuration, "\n[limits]\nmessage_size = 1000\nrecipients_per_message = 1\n");
    });
    let too_large = format!(
        "552 5.3.4 the message is larger than the limit: at most 1000 octets\n\
         5.3.4 send a smaller message, {}",
        or_write()
    );
    let long = format!("Subject: x\r\n\r\n{}.\r\n", "0123456789\r\n".repeat(100));
    assert_eq!(worded(&send(&house, long.as_bytes())), too_large);
    let mut dialog = house.connect(INSIDE);
    assert_eq!(worded(&dialog.command(&format!("MAIL FROM:<{KIM}> SIZE=1001"), 552)), too_large);
    dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
    dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
    let reply = dialog.command("RCPT TO:<ann@adatum.example>", 452);
    let expected = format!(
        "452 4.5.3 <ann@adatum.example>: too many recipients in one transaction: at most 1\n\
         4.5.3 send to the others in a new transaction, {}",
        or_write()
    );
    assert_eq!(worded(&reply), expected);
}

#[test]
fn second_tenant_is_told_to_come_in_a_transaction_of_its_own() {
    let house = House::start_with(|configuration| {
        let hop = configuration.next_hop;
        let contoso = format!(
            "name = \"contoso\"\nsenders = [\"@contoso.example\"]\n\n[[relay_domain]]\n\
             domains = [\"contoso.example\"]\nnext_hops = [\"{hop}\"]\ntls = \"off\"\n"
        );
        configuration.tenants.push(("contoso".into(), contoso));
    });
    let mut dialog = house.connect(HOTEL);
    dialog.command("MAIL FROM:<x@adatum.example>", 250);
    dialog.command(&format!("RCPT TO:<{LOGIN}>"), 250);
    let reply = dialog.command("RCPT TO:<ann@contoso.example>", 452);
    let expected = format!(
        "452 4.5.3 <ann@contoso.example>: needs a transaction of its own\n\
         4.5.3 send to it again in a new transaction, {}",
        or_write()
    );
    assert_eq!(worded(&reply), expected);
    dialog.command("RSET", 250);
    dialog.command("MAIL FROM:<x@adatum.example>", 250);
    dialog.command("RCPT TO:<ann@contoso.example>", 250);
}

#[test]
fn recipient_unknown_and_routing_syntax_say_what_to_check() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let list = folder.path().join("recipients.txt");
    std::fs::write(&list, "terri\n").expect("the folder can be written");
    let house = House::start_with(|configuration| {
        let file = &mut configuration.tenants[0].1;
        let listed = format!("[[relay_domain]]\nrecipients = {:?}\n", list.display().to_string());
        *file = file.replace("[[relay_domain]]\n", &listed);
    });
    let mut dialog = house.connect(HOTEL);
    dialog.command("MAIL FROM:<x@adatum.example>", 250);
    let reply = dialog.command("RCPT TO:<nobody@proseware.example>", 550);
    let expected = format!(
        "550 5.1.1 <nobody@proseware.example>: no such recipient here\n\
         5.1.1 check the spelling of the address, {}",
        or_write()
    );
    assert_eq!(worded(&reply), expected);
    let reply = dialog.command("RCPT TO:<@a.example:terri@proseware.example>", 550);
    let expected = format!(
        "550 5.1.3 <@a.example:terri@proseware.example>: a source route is refused\n\
         5.1.3 write the recipient as name@domain, {}",
        or_write()
    );
    assert_eq!(worded(&reply), expected);
    dialog.command(&format!("RCPT TO:<{LOGIN}>"), 250);
}
