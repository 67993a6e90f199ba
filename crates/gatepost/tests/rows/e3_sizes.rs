//! E3: how large a message may be, and what unfinished ones may hold of the disk.

use std::net::{IpAddr, Ipv4Addr};

use testbed::Dialog;
use testbed::net::{PATIENCE, eventually};
use testbed::proseware::{HOTEL, INSIDE, LOGIN, WORK};

use crate::house::House;

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";
/// A stranger who writes to the tenant.
const ANN: &str = "ann@adatum.example";
const MIB: u64 = 1 << 20;

/// Unfinished messages may hold 16 MiB, and 8 MiB those of strangers or of one client.
fn house() -> House {
    House::start_with(|configuration| {
        configuration.spool_extra = "unfinished = \"16MiB\"\nunfinished_per_client = \"8MiB\"\n".into();
    })
}

fn stranger(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 9, 0, number).into()
}

/// A client that has declared a message, and begun it.
fn in_data(house: &House, source: IpAddr, (from, to): (&str, &str), bytes: u64) -> Dialog {
    let mut dialog = house.connect(source);
    dialog.command(&format!("MAIL FROM:<{from}> SIZE={bytes}"), 250);
    dialog.command(&format!("RCPT TO:<{to}>"), 250);
    dialog.command("DATA", 354);
    dialog.send("Subject: large\r\n\r\n");
    dialog
}

fn send(dialog: &mut Dialog, bytes: u64) {
    let line = "a line of sixty-four octets, as most of the lines of a mail are.\r\n";
    let chunk = line.repeat(1000);
    for _ in 0..bytes / chunk.len() as u64 {
        dialog.send(&chunk);
    }
}

#[test]
fn what_is_declared_takes_nothing_from_anyone() {
    let house = house();
    let declared: Vec<Dialog> =
        (0..8).map(|number| in_data(&house, stranger(number), (ANN, LOGIN), 8 * MIB - 1)).collect();
    for (source, path) in [(HOTEL, (ANN, LOGIN)), (INSIDE, (KIM, BOB))] {
        let mut dialog = in_data(&house, source, path, 3 * MIB);
        send(&mut dialog, 2 * MIB);
        dialog.send(".\r\n");
        dialog.expect(250);
    }
    drop(declared);
}

#[test]
fn strangers_together_leave_half_to_tenants_and_give_all_back() {
    let house = house();
    // Both have begun before either has sent: what they declare fits.
    let mut holders: Vec<Dialog> =
        (0..2).map(|number| in_data(&house, stranger(number), (ANN, LOGIN), 5 * MIB)).collect();
    holders.iter_mut().for_each(|dialog| send(dialog, 7 * MIB / 2));
    let asks = |source, from: &str| {
        let mut dialog = house.connect(source);
        dialog.send(format!("MAIL FROM:<{from}> SIZE={}\r\n", 4 * MIB));
        let reply = dialog.reply().expect("MAIL is answered");
        (reply.code, reply.text())
    };
    let refused = eventually(PATIENCE, || asks(WORK, ANN).0 == 452);
    assert!(refused, "strangers may hold more than their half");
    let (_, text) = asks(WORK, ANN);
    assert!(text.contains("4.3.1") && text.contains("all clients without a login may hold 8 MiB"), "{text}");
    let mut tenants = in_data(&house, INSIDE, (KIM, BOB), 8 * MIB - 1);
    send(&mut tenants, 6 * MIB);
    tenants.send(".\r\n");
    tenants.expect(250);
    drop(holders);
    assert!(eventually(PATIENCE, || asks(WORK, ANN).0 == 250), "the budget is never free again");
}

#[test]
fn what_can_never_fit_is_refused_for_good() {
    let house = house();
    let mut dialog = house.connect(INSIDE);
    for size in ["8388609", "67108865", "18446744073709551615", "18446744073709551616", &"9".repeat(40)] {
        let reply = dialog.command(&format!("MAIL FROM:<{KIM}> SIZE={size}"), 552);
        let told = "5.3.4 the message is larger than the limit: at most 8388608 octets";
        assert_eq!(reply.lines[0], told, "{size}");
    }
    dialog.command(&format!("MAIL FROM:<{KIM}> SIZE=8388608"), 250);
    // Who did not say it is told at the end.
    dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
    dialog.command("DATA", 354);
    send(&mut dialog, 9 * MIB);
    dialog.send(".\r\n");
    let reply = dialog.expect(552);
    assert_eq!(reply.lines[0], "5.3.4 the message is larger than the limit: at most 8388608 octets");
}

#[test]
fn the_node_says_how_large_a_message_may_be_and_a_tenant_may_say_less() {
    let announced = |house: &House| {
        let mut dialog = Dialog::connect_from(INSIDE, house.gateway.smtp());
        dialog.expect(220);
        dialog.command("EHLO client.example", 250)
    };
    let reply = announced(&House::start());
    assert!(reply.lines.iter().any(|line| line == "SIZE 67108864"), "{reply:?}");
    let house = House::start_with(|configuration| {
        configuration.node_extra.push_str("\n[limits]\nmessage_size = \"1MiB\"\n");
        configuration.tenants[0].1.push_str("\n[limits]\nmessage_size = \"256KiB\"\n");
    });
    let reply = announced(&house);
    assert!(reply.lines.iter().any(|line| line == "SIZE 1048576"), "{reply:?}");
    house.connect(INSIDE).command(&format!("MAIL FROM:<{KIM}> SIZE=262145"), 552);
    house.connect(INSIDE).command(&format!("MAIL FROM:<{KIM}> SIZE=262144"), 250);
    house.connect(HOTEL).command(&format!("MAIL FROM:<{ANN}> SIZE=1048577"), 552);
    house.connect(HOTEL).command(&format!("MAIL FROM:<{ANN}> SIZE=1048576"), 250);
}
