//! D1: recipient domains that go by MX, asked of a real name server.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use testbed::dns::NameServer;
use testbed::dns::scripted::{Kind, Said, Scripted};
use testbed::net::{PATIENCE, eventually};
use testbed::proseware::{INSIDE, WORK};
use testbed::{Destination, Rules, tools};

use crate::house::House;

const FROM: &str = "terri@proseware.example";
const CONTENT: &[u8] = b"Subject: by MX\r\n\r\nhello\r\n";

/// A house whose mail for others goes by the records of `server`.
fn house_by_mx(server: &NameServer) -> House {
    House::start_with(|configuration| {
        configuration.by_mx = true;
        configuration.node_extra.push_str(&server.section());
    })
}

/// Port 25 of 127.0.4.`last`, where mail by MX arrives; `None` where only root could listen there.
fn port_25(last: u8, test: &str) -> Option<SocketAddr> {
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 4, last), 25));
    match TcpListener::bind(address) {
        Ok(_) => Some(address),
        Err(error) => {
            tools::skip(test, &format!("cannot listen on {address}: {error}"));
            None
        }
    }
}

#[test]
fn a_domain_that_does_not_exist_or_takes_no_mail_is_denied_and_a_dns_failure_is_not() {
    const TEST: &str = "d1_recipient_domains";
    let zone = "adatum IN MX 10 mx.adatum\nmx.adatum IN A 127.0.4.1\nnomail IN MX 0 .\nempty IN TXT x\n\
                plain IN A 127.0.4.1";
    let Some(server) = NameServer::start(TEST, zone) else { return };
    let house = house_by_mx(&server);
    let mut inside = house.connect(INSIDE);
    inside.command(&format!("MAIL FROM:<{FROM}>"), 250);
    inside.command("RCPT TO:<bob@adatum.example>", 250);
    for _ in 0..2 {
        for domain in ["missing.example", "deep.Missing.example", "empty.example"] {
            let reply = inside.command(&format!("RCPT TO:<bob@{domain}>"), 550);
            let told = format!("5.1.2 <bob@{domain}>: the recipient's domain has no DNS entry");
            assert_eq!(reply.lines[0], told);
            assert!(reply.lines[1].contains("check the spelling of the domain"), "{reply:?}");
        }
        let reply = inside.command("RCPT TO:<bob@nomail.example>", 556);
        assert!(reply.lines[0].starts_with("5.1.10 <bob@nomail.example>: "), "{reply:?}");
    }
    inside.command("RCPT TO:<bob@broken.example>", 250);
    inside.command("RCPT TO:<bob@plain.example>", 250);
    inside.command("RSET", 250);
    assert_eq!(house.denials(&["reason=\"recipient_domain_missing\"", "tenant=\"proseware\""]), 6);
    assert_eq!(house.denials(&["reason=\"recipient_domain_no_mail\""]), 2);

    // A stranger is told that it may not relay, whatever the domain; a relay domain is never asked for.
    let mut work = house.connect(WORK);
    work.command(&format!("MAIL FROM:<{FROM}>"), 250);
    let reply = work.command("RCPT TO:<bob@missing.example>", 550);
    assert!(reply.lines[0].contains("relaying not permitted"), "{reply:?}");
    work.command("RCPT TO:<kim@proseware.example>", 250);
}

#[test]
fn a_name_server_that_is_down_delays_the_mail_and_denies_nobody() {
    const TEST: &str = "d1_name_server_down";
    let zone = "adatum IN MX 10 mx.adatum\nmx.adatum IN A 127.0.4.2";
    let Some(mut server) = NameServer::start(TEST, zone) else { return };
    let Some(address) = port_25(2, TEST) else { return };
    server.stop();
    let house = house_by_mx(&server);
    house.connect(INSIDE).deliver(FROM, &["bob@adatum.example"], CONTENT);
    house.gateway.wait_metric("gatepost_queue_recipients", 1.0);
    let destination = Destination::at(address, Rules::default());
    server.restart();
    assert_eq!(destination.wait_for(1)[0].recipients, ["bob@adatum.example"]);
    house.nothing_went_elsewhere();
}

#[test]
fn mail_goes_to_the_best_host_that_answers_and_waits_for_one_that_does() {
    const TEST: &str = "d1_preference";
    let zone = "adatum IN MX 10 mx1.adatum\nadatum IN MX 20 mx2.adatum\nmx1.adatum IN A 127.0.4.3\n\
                mx2.adatum IN A 127.0.4.4\nplain IN A 127.0.4.4\ndown IN MX 5 mx.down\nmx.down IN A 127.0.4.5";
    let Some(server) = NameServer::start(TEST, zone) else { return };
    let (Some(first), Some(second), Some(late)) = (port_25(3, TEST), port_25(4, TEST), port_25(5, TEST))
    else {
        return;
    };
    let house = house_by_mx(&server);
    let second = Destination::at(second, Rules::default());
    house.connect(INSIDE).deliver(FROM, &["bob@adatum.example"], CONTENT);
    second.wait_for(1);
    house.connect(INSIDE).deliver(FROM, &["kim@plain.example"], CONTENT);
    second.wait_for(2);
    let best = Destination::at(first, Rules::default());
    house.connect(INSIDE).deliver(FROM, &["bob@down.example"], CONTENT);
    house.gateway.wait_metric("gatepost_queue_recipients", 1.0);
    let late = Destination::at(late, Rules::default());
    late.wait_for(1);
    // Another gateway knows nothing yet of the host that did not answer.
    let other = house_by_mx(&server);
    other.connect(INSIDE).deliver(FROM, &["bob@adatum.example"], CONTENT);
    best.wait_for(1);
    assert_eq!(second.count(), 2);
}

#[test]
fn a_domain_with_an_address_whose_server_says_nothing_of_mx_gets_its_mail() {
    const TEST: &str = "d1_bare_answers";
    let Some(address) = port_25(6, TEST) else { return };
    let server = Scripted::start(|name, kind| match (name, kind) {
        ("plain.example", Kind::A) => Said::A(Ipv4Addr::new(127, 0, 4, 6)),
        // As some servers answer for any type that they do not have: without SOA.
        _ => Said::BareNothing,
    });
    let house = House::start_with(|configuration| {
        configuration.by_mx = true;
        configuration.node_extra.push_str(&server.section());
    });
    let destination = Destination::at(address, Rules::default());
    house.connect(INSIDE).deliver(FROM, &["bob@plain.example"], CONTENT);
    destination.wait_for(1);
    // Nothing proves that the other does not exist: its mail is taken, and waits.
    house.connect(INSIDE).deliver(FROM, &["bob@empty.example"], CONTENT);
    house.gateway.wait_metric("gatepost_queue_recipients", 1.0);
}

#[test]
fn mail_by_mx_goes_to_loopback_only_where_that_is_permitted() {
    const TEST: &str = "d1_private_destinations";
    let Some(address) = port_25(7, TEST) else { return };
    let server = Scripted::start(|_, kind| match kind {
        Kind::Mx => Said::Mx("mx.adatum.example".into()),
        Kind::A => Said::A(Ipv4Addr::new(127, 0, 4, 7)),
        _ => Said::Nothing,
    });
    let start = |is_permitted: bool| {
        House::start_with(|configuration| {
            configuration.by_mx = true;
            configuration.node_extra.push_str(&server.section());
            if !is_permitted {
                let permitted = "private_destinations = true";
                assert!(configuration.node_extra.contains(permitted));
                configuration.node_extra = configuration.node_extra.replace(permitted, "");
            }
        })
    };
    let destination = Destination::at(address, Rules::default());
    let house = start(false);
    house.connect(INSIDE).deliver(FROM, &["bob@adatum.example"], CONTENT);
    let told = || house.gateway.output().contains("mx.adatum.example is at 127.0.4.7, which is no public");
    assert!(eventually(PATIENCE, told), "{}", house.gateway.output());
    assert_eq!(destination.connections(), 0);
    let house = start(true);
    house.connect(INSIDE).deliver(FROM, &["bob@adatum.example"], CONTENT);
    destination.wait_for(1);
}
