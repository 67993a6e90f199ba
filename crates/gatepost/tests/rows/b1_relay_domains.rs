//! B1: mail for a relay domain comes in from anyone, and never goes out by another way.

use testbed::proseware::{HOTEL, INSIDE, LOGIN};

use crate::house::House;
use crate::tenant::{or_write, worded, write_keys};

const OWN: &str = "RCPT TO:<terri@proseware.example>";

#[test]
fn a_strangers_mail_under_the_tenants_own_name_is_taken_by_default() {
    let house = House::start();
    for from in ["kim@proseware.example", "x@adatum.example", ""] {
        house.connect(HOTEL).deliver(from, &[LOGIN], b"Subject: b1\r\n\r\nx\r\n");
    }
    house.own_mail.wait_for(3);
    assert_eq!(house.elsewhere.connections(), 0);
}

#[test]
fn a_tenant_may_deny_strangers_its_own_senders_and_no_others() {
    let house =
        House::start_with(|configuration| write_keys(configuration, "own_senders_from_strangers = \"deny\""));
    let mut stranger = house.connect(HOTEL);
    stranger.command("MAIL FROM:<kim@proseware.example>", 250);
    let reply = stranger.command(OWN, 553);
    let port = house.submission.port();
    assert_eq!(
        worded(&reply),
        format!(
            "553 5.7.1 <kim@proseware.example>: you may not send as this address\n\
             5.7.1 sign in on port {port}, {}",
            or_write()
        )
    );
    assert_eq!(house.denials(&["reason=\"sender_not_owned\"", "tenant=\"proseware\""]), 1);
    for (source, from) in [(HOTEL, "x@adatum.example"), (HOTEL, ""), (INSIDE, "kim@proseware.example")] {
        let mut dialog = house.connect(source);
        dialog.command(&format!("MAIL FROM:<{from}>"), 250);
        dialog.command(OWN, 250);
    }
}

#[test]
fn a_domain_literal_is_a_relay_domain_where_one_is_written_so_and_a_trick_elsewhere() {
    let house = House::start_with(|configuration| {
        let file = &mut configuration.tenants[0].1;
        *file = file.replace("[\"proseware.example\"]", "[\"proseware.example\", \"[192.0.2.1]\"]");
    });
    house.connect(HOTEL).deliver(
        "x@adatum.example",
        &["postmaster@[192.0.2.1]"],
        b"Subject: b1\r\n\r\nx\r\n",
    );
    assert_eq!(house.own_mail.wait_for(1)[0].recipients, ["postmaster@[192.0.2.1]"]);
    let mut dialog = house.connect(HOTEL);
    dialog.command("MAIL FROM:<x@adatum.example>", 250);
    dialog.command("RCPT TO:<postmaster@[192.0.2.2]>", 550);
    let reply = dialog.command("RCPT TO:<c%adatum.example@[192.0.2.1]>", 550);
    assert_eq!(
        worded(&reply),
        format!(
            "550 5.1.3 <c%adatum.example@[192.0.2.1]>: the percent hack is refused\n\
             5.1.3 write the recipient as name@domain, {}",
            or_write()
        )
    );
}
