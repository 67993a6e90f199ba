//! B3: chains of next hops, and mail that goes round in circles.

use testbed::net::free_address;
use testbed::proseware::{INSIDE, WORK};
use testbed::{Destination, Rules};

use crate::house::House;

const FROM: &str = "terri@proseware.example";

#[test]
fn the_next_hop_after_the_first_is_tried_when_it_refuses_the_connection_or_says_not_now() {
    let closing = |text: &'static str| {
        Destination::with_rules(Rules {
            greeting: Some(Box::new(|_| Some(text.to_owned()))),
            ..Rules::default()
        })
    };
    let (busy, later) = (closing("421 4.3.2 closing"), closing("450 4.3.2 not now"));
    let last = Destination::start();
    let hops = [free_address(), busy.address(), later.address(), last.address()];
    let house = House::start_with(|configuration| {
        let hops: Vec<_> = hops.iter().map(|hop| format!("\"{hop}\"")).collect();
        let route = format!(
            "\n[[route]]\nrecipient_domains = [\"chain.example\"]\nnext_hops = [{}]\ntls = \"off\"\n",
            hops.join(", ")
        );
        configuration.tenants[0].1.push_str(&route);
    });
    house.connect(INSIDE).deliver(FROM, &["bob@chain.example"], b"Subject: x\r\n\r\ny\r\n");
    assert_eq!(last.wait_for(1)[0].recipients, ["bob@chain.example"]);
    assert_eq!((busy.connections(), later.connections()), (1, 1), "each was asked once");
    house.nothing_went_elsewhere();
}

#[test]
fn a_message_that_has_been_everywhere_or_here_twice_in_a_row_is_a_loop() {
    let house = House::start();
    let elsewhere = "Received: from a by b.example; Mon, 23 Nov 2026 00:00:00 +0000\r\n";
    let here = "Received: from a by relay.proseware.example; Mon, 23 Nov 2026 00:00:00 +0000\r\n";
    for (fields, is_loop) in [
        (elsewhere.repeat(50), false),
        (elsewhere.repeat(51), true),
        (format!("{here}{elsewhere}{here}"), false),
        (here.repeat(2), true),
    ] {
        let mut work = house.connect(WORK);
        work.command("MAIL FROM:<bob@adatum.example>", 250);
        work.command("RCPT TO:<kim@proseware.example>", 250);
        work.command("DATA", 354);
        work.send(format!("{fields}Subject: x\r\n\r\ny\r\n.\r\n"));
        let reply = work.expect(if is_loop { 554 } else { 250 });
        assert!(!is_loop || reply.lines[0].starts_with("5.4.6 "), "{reply:?}");
    }
    assert_eq!(house.denials(&["reason=\"loop_detected\""]), 2);
}

#[test]
fn the_hops_of_one_message_are_not_those_of_the_next_on_its_connection() {
    let house = House::start();
    let hops = "Received: from a by b.example; Mon, 23 Nov 2026 00:00:00 +0000\r\n".repeat(30);
    let mut dialog = house.connect(INSIDE);
    for _ in 0..3 {
        dialog.deliver(FROM, &["bob@adatum.example"], format!("{hops}Subject: x\r\n\r\ny\r\n").as_bytes());
    }
}
