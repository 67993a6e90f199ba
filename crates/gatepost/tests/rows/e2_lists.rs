//! E2: block and allow lists in files, of the node and of a tenant, read again by a reload.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use tempfile::TempDir;
use testbed::Dialog;
use testbed::proseware::{CONTACT, HOTEL, INSIDE, LOGIN, WORK};

use crate::house::House;
use crate::tenant::{worded, write_sections};

const OWN: &str = "RCPT TO:<terri@proseware.example>";
const OUT: &str = "RCPT TO:<bob@adatum.example>";

/// `[lists]`: its keys, each with a file in `folder`.
fn section(folder: &TempDir, keys: &[(&str, &str)]) -> String {
    let line = |(key, name): &(&str, &str)| format!("{key} = {:?}\n", folder.path().join(name));
    format!("\n[lists]\n{}", keys.iter().map(line).collect::<String>())
}

/// A house with lists of the node's and of the tenant's, and the folder of their files.
fn house() -> (House, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for (name, entries) in [
        ("clients.txt", "# nobody\n"),
        ("friends.txt", "127.0.3.9\n"),
        ("spammers.txt", "spam@adatum.example\n@evil.example\n*.worse.example\n"),
        ("partners.txt", "press@evil.example\ndesk.bulk.example\n"),
        ("traps.txt", "trap@adatum.example\n@fabrikam.example\n"),
        ("reached.txt", "postmaster@fabrikam.example\n"),
        ("refused.txt", "127.0.2.0/24 # the office next door\n"),
        ("welcome.txt", "127.0.2.8\n"),
        ("unwanted.txt", "news@adatum.example\n*.bulk.example\n"),
        ("wanted.txt", "daily.bulk.example\nspam@adatum.example\n"),
        ("left.txt", "gone@proseware.example\nleft.example\n"),
        ("postmasters.txt", "kim@proseware.example\nstaff@left.example\ntrap@adatum.example\n"),
    ] {
        fs::write(folder.path().join(name), entries).expect("the folder can be written");
    }
    let node = [
        ("blocked_clients", "clients.txt"),
        ("allowed_clients", "friends.txt"),
        ("blocked_senders", "spammers.txt"),
        ("allowed_senders", "partners.txt"),
        ("blocked_recipients", "traps.txt"),
        ("allowed_recipients", "reached.txt"),
    ];
    let own = [
        ("blocked_clients", "refused.txt"),
        ("allowed_clients", "welcome.txt"),
        ("blocked_senders", "unwanted.txt"),
        ("allowed_senders", "wanted.txt"),
        ("blocked_recipients", "left.txt"),
        ("allowed_recipients", "postmasters.txt"),
    ];
    let house = House::start_with(|configuration| {
        configuration.node_extra.push_str(&section(&folder, &node));
        write_sections(configuration, &section(&folder, &own));
    });
    (house, folder)
}

/// Blocks this client at the node, by a reload.
fn block(house: &House, folder: &TempDir, entries: &str) {
    fs::write(folder.path().join("clients.txt"), entries).expect("the folder can be written");
    let generation = house.gateway.metric("gatepost_policy_generation");
    house.gateway.signal("HUP");
    house.gateway.wait_metric("gatepost_policy_generation", generation + 1.0);
}

fn denial(first: &str) -> String {
    format!("554 5.7.1 {first}\n5.7.1 write to {CONTACT}; ticket T")
}

#[test]
fn a_blocked_client_is_refused_at_the_connection_from_the_reload_on() {
    let (house, folder) = house();
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 66));
    let mut before = house.connect(source);
    before.command("MAIL FROM:<kim@proseware.example>", 250);
    before.command(OWN, 250);
    block(&house, &folder, "127.0.1.64/28\n127.0.3.0/24\n");
    let blocked = denial("127.0.1.66 is on a block list: clients");
    let mut after = Dialog::connect_from(source, house.gateway.smtp());
    assert_eq!(worded(&after.expect(554)), blocked);
    // At once: neither the transaction under way nor a new one on the old connection goes on.
    let reply = before.command("RCPT TO:<kim@proseware.example>", 554);
    assert_eq!(worded(&reply), denial("<kim@proseware.example>: 127.0.1.66 is on a block list: clients"));
    before.command("RSET", 250);
    assert_eq!(worded(&before.command("MAIL FROM:<kim@proseware.example>", 554)), blocked);
    assert_eq!(house.denials(&["reason=\"client_blocked\"", "tenant=\"none\""]), 2);
    // Whom an allow list names is on no list; the others of its range are.
    house.connect(HOTEL).command("MAIL FROM:<x@adatum.example>", 250);
    Dialog::connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 3, 10)), house.gateway.smtp()).expect(554);
    block(&house, &folder, "# nobody\n");
    house.connect(source).command("MAIL FROM:<kim@proseware.example>", 250);
}

#[test]
fn a_tenants_blocked_client_is_refused_for_its_mail() {
    let (house, _folder) = house();
    let mut dialog = house.connect(WORK);
    dialog.command("MAIL FROM:<x@adatum.example>", 250);
    let reply = dialog.command(OWN, 554);
    assert_eq!(worded(&reply), denial(&format!("<{LOGIN}>: {WORK} is on a block list: refused")));
    // One of the same range is on the tenant's own allow list.
    let mut dialog = house.connect(IpAddr::V4(Ipv4Addr::new(127, 0, 2, 8)));
    dialog.command("MAIL FROM:<x@adatum.example>", 250);
    dialog.command(OWN, 250);
    assert_eq!(house.denials(&["reason=\"client_blocked\"", "tenant=\"proseware\""]), 1);
}

#[test]
fn a_blocked_sender_is_refused_and_others_of_other_domains_are_not() {
    let (house, _folder) = house();
    for (from, list) in [
        ("spam@adatum.example", Some("spammers")),
        ("\"spam\"@adatum.example", Some("spammers")),
        ("ham@adatum.example", None),
        ("any@Evil.example", Some("spammers")),
        ("any@sub.evil.example", None),
        ("any@deep.sub.worse.example", Some("spammers")),
        ("any@worse.example", None),
        ("", None),
        // The node's allow list takes it off the node's list; a tenant's does not.
        ("press@Evil.example", None),
        ("spam@Adatum.example", Some("spammers")),
        // The tenant's own list, and both allow lists.
        ("any@daily.bulk.example", None),
        ("any@desk.bulk.example", None),
        ("news@adatum.example", Some("unwanted")),
        ("\"n\\ews\"@adatum.example", Some("unwanted")),
        ("any@sub.bulk.example", Some("unwanted")),
        ("any@bulk.example", None),
    ] {
        let mut dialog = house.connect(HOTEL);
        dialog.command(&format!("MAIL FROM:<{from}>"), 250);
        let reply = dialog.command(OWN, if list.is_some() { 554 } else { 250 });
        if let Some(list) = list {
            let first = format!("<{from}>: this sender is on a block list: {list}");
            assert_eq!(worded(&reply), denial(&first));
        }
    }
}

#[test]
fn a_blocked_recipient_is_refused_and_does_not_take_the_others_with_it() {
    let (house, _folder) = house();
    let mut dialog = house.connect(INSIDE);
    dialog.command("MAIL FROM:<kim@proseware.example>", 250);
    for (to, list) in [
        ("trap@adatum.example", "traps"),
        ("\"trap\"@adatum.example", "traps"),
        ("gone@proseware.example", "left"),
        ("any@left.example", "left"),
    ] {
        let reply = dialog.command(&format!("RCPT TO:<{to}>"), 554);
        assert_eq!(worded(&reply), denial(&format!("<{to}>: this recipient is on a block list: {list}")));
    }
    dialog.command(OUT, 250);
    dialog.command(OWN, 250);
    // Whom an allow list names is reached, but for a tenant's against the node's list (above).
    dialog.command("RCPT TO:<staff@left.example>", 250);
    dialog.command("RCPT TO:<any@fabrikam.example>", 554);
    dialog.command("RCPT TO:<postmaster@Fabrikam.example>", 250);
    // Only where it would be taken otherwise: a stranger hears what it always hears.
    let mut stranger = house.connect(HOTEL);
    stranger.command("MAIL FROM:<x@adatum.example>", 250);
    stranger.command("RCPT TO:<trap@adatum.example>", 550);
}

#[test]
fn what_is_sent_to_an_allowed_recipient_no_list_of_the_same_keeper_refuses() {
    let (house, _folder) = house();
    // A client on the tenant's block list, and a sender on it: the tenant wants their mail to this one.
    let mut dialog = house.connect(WORK);
    dialog.command("MAIL FROM:<news@adatum.example>", 250);
    dialog.command("RCPT TO:<kim@proseware.example>", 250);
    dialog.command(OWN, 554);
    // The node's list is not the tenant's to lift.
    dialog.command("RSET", 250);
    dialog.command("MAIL FROM:<spam@adatum.example>", 250);
    let reply = dialog.command("RCPT TO:<kim@proseware.example>", 554);
    let first = "<spam@adatum.example>: this sender is on a block list: spammers";
    assert_eq!(worded(&reply), denial(first));
    // An allow list opens nothing: a stranger relays to no address.
    let mut stranger = house.connect(HOTEL);
    stranger.command("MAIL FROM:<press@evil.example>", 250);
    stranger.command("RCPT TO:<postmaster@fabrikam.example>", 550);
}
