//! E3: places for connections. However many strangers hold however many, tenants are served.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use testbed::gateway::http_get;
use testbed::net::{PATIENCE, eventually};
use testbed::proseware::{AUTH_PLAIN, HOTEL, INSIDE, LOGIN, WORK};
use testbed::{Dialog, tools};

use crate::house::{House, Secure};

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";
const BODY: &[u8] = b"Subject: places\r\n\r\nHello.\r\n";
/// So few descriptors that a crowd of a thousand wants more than there are.
const FEW_DESCRIPTORS: [&str; 2] = ["prlimit", "--nofile=1024:1024"];
const ADDRESSES: u16 = 1000;

/// In no tenant's network, each another.
fn stranger(number: u16) -> IpAddr {
    Ipv4Addr::new(127, 9, (number >> 8) as u8, number as u8).into()
}

fn connect_from(source: IpAddr, address: SocketAddr) -> TcpStream {
    Dialog::connect_from(source, address).into_stream()
}

/// The sum of a metric's samples with this label.
fn metric(house: &House, name: &str, label: &str) -> u64 {
    let (_, text) = http_get(house.gateway.configuration().metrics, "/metrics").expect("metrics are served");
    let samples = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

fn readiness(house: &House) -> (u16, String) {
    http_get(house.gateway.configuration().metrics, "/readyz").expect("readiness is told")
}

/// A client of the tenant's network delivers, and one from nowhere logs in and delivers.
#[track_caller]
fn is_served(house: &House, times: usize) {
    for _ in 0..times {
        house.connect(INSIDE).deliver(KIM, &[BOB], BODY);
        let mut roaming = Secure::start(WORK, house.submission, &house.gateway);
        roaming.command(AUTH_PLAIN, 235);
        roaming.command(&format!("MAIL FROM:<{LOGIN}>"), 250);
        roaming.command("QUIT", 221);
    }
}

#[test]
fn one_address_has_its_number_of_connections_and_is_told_of_it() {
    let house = House::start_with(|configuration| {
        configuration.node_extra.push_str("\n[limits.client]\nconnections = 5\n");
    });
    let mut held: Vec<Dialog> = (0..5).map(|_| house.connect(HOTEL)).collect();
    for listener in [house.gateway.smtp(), house.submission] {
        let mut one_more = Dialog::connect_from(HOTEL, listener);
        let reply = one_more.expect(421);
        assert_eq!(reply.lines, [format!("4.7.0 too many connections: {HOTEL} may have 5 at the same time")]);
        one_more.expect_end();
    }
    house.connect(WORK);
    house.connect(INSIDE);
    assert_eq!(metric(&house, "gatepost_connections_shed_total", "cause=\"address\""), 2);
    assert_eq!(house.denials(&["tenant=\"none\"", "reason=\"connection_limit\""]), 2);
    held.pop().expect("there are five").command("QUIT", 221);
    let frees = eventually(PATIENCE, || {
        Dialog::connect_from(HOTEL, house.gateway.smtp()).reply().unwrap().code == 220
    });
    assert!(frees, "a connection that ended is still counted");
}

#[test]
fn whoever_has_logged_in_no_longer_counts_for_its_address() {
    let house = House::start_with(|configuration| {
        configuration.node_extra.push_str("\n[limits.client]\nconnections = 3\n");
    });
    let logins: Vec<Secure> = (0..6)
        .map(|_| {
            let mut roaming = Secure::start(HOTEL, house.submission, &house.gateway);
            roaming.command(AUTH_PLAIN, 235);
            roaming
        })
        .collect();
    assert_eq!(metric(&house, "gatepost_places_held", "up_to=\"stranger\""), 0);
    assert_eq!(metric(&house, "gatepost_places_held", "up_to=\"login\""), logins.len() as u64);
}

#[test]
fn a_peer_that_speaks_for_others_counts_as_whom_it_speaks_for() {
    let filter = IpAddr::V4(Ipv4Addr::new(127, 0, 6, 1));
    let house = House::start_with(|configuration| {
        let section = format!("\n[xclient]\nfrom = [\"{filter}\"]\n[limits.client]\nconnections = 1\n");
        configuration.node_extra.push_str(&section);
    });
    // Of IPv6 one customer has all of a /64.
    for clients in [
        [("203.0.113.5", 220), ("203.0.113.6", 220), ("203.0.113.5", 421)],
        [("IPV6:2001:db8:1::5", 220), ("IPV6:2001:db8:1:1::5", 220), ("IPV6:2001:db8:1::9:6", 421)],
    ] {
        let mut introduced: Vec<Dialog> = (0..3).map(|_| house.connect(filter)).collect();
        for (dialog, (address, code)) in introduced.iter_mut().zip(clients) {
            dialog.command(&format!("XCLIENT ADDR={address}"), code);
        }
    }
    house.connect(filter);
}

#[test]
fn one_stranger_that_holds_all_it_can_silences_no_listener() {
    let Some(_) = tools::find("prlimit", "one_stranger_that_holds_all_it_can_silences_no_listener") else {
        return;
    };
    let house = House::start_under(&FEW_DESCRIPTORS, |_| {});
    let listeners = [house.gateway.smtp(), house.submission];
    let held: Vec<TcpStream> = (0..400).map(|number| connect_from(HOTEL, listeners[number % 2])).collect();
    is_served(&house, 3);
    house.connect(WORK);
    let its_own = metric(&house, "gatepost_places_held", "up_to=\"stranger\"");
    assert!((2..=50).contains(&its_own), "{its_own} of {} connections have a place", held.len());
    assert_eq!(readiness(&house).0, 200);
}

#[test]
fn a_thousand_addresses_at_every_port_keep_no_tenant_out_and_the_operator_sees_them() {
    let test = "a_thousand_addresses_at_every_port_keep_no_tenant_out_and_the_operator_sees_them";
    let Some(_) = tools::find("prlimit", test) else { return };
    rlimit::increase_nofile_limit(8192).expect("this test may hold its connections");
    let mut implicit = None;
    let house = House::start_under(&FEW_DESCRIPTORS, |configuration| {
        implicit = Some(configuration.listen("submissions", "submission", "implicit"));
    });
    let listeners = [house.gateway.smtp(), house.submission, implicit.expect("a listener was added")];
    let mut held = Vec::new();
    for round in 0..2 {
        for number in 0..ADDRESSES {
            held.push(connect_from(stranger(number), listeners[usize::from(number + round) % 3]));
        }
        is_served(&house, 5);
    }
    // Another stranger is greeted too: a client that has been silent gives way.
    house.connect(stranger(ADDRESSES)).deliver("ann@adatum.example", &[LOGIN], BODY);
    let strangers = |what: &str| metric(&house, what, "up_to=\"stranger\"");
    assert!(strangers("gatepost_places_held") <= strangers("gatepost_places_max"));
    assert!(metric(&house, "gatepost_connections_shed_total", "cause=\"displaced\"") > 0);
    // Who gives way is told so, unless the greeting itself is still on its way.
    let mut heard = vec![Vec::new(); held.len()];
    held.iter().for_each(|stream| stream.set_nonblocking(true).expect("a socket may not wait"));
    let is_told = || {
        held.iter_mut().zip(&mut heard).any(|(stream, heard)| {
            // What is not there yet is an error, and what is, is kept.
            let _ = stream.read_to_end(heard);
            String::from_utf8_lossy(heard).contains("\r\n421 4.3.2 connections are short, ")
        })
    };
    assert!(eventually(PATIENCE, is_told), "no client that gave way was told so");
    let (code, text) = readiness(&house);
    assert!(code == 200 && text.contains("connections are short: strangers hold "), "{text}");
    let shed =
        |output: &str| output.lines().filter(|line| line.contains("\"event\":\"connections_shed\"")).count();
    assert!(eventually(PATIENCE, || shed(&house.gateway.output()) > 0), "nothing is logged");
    assert!(shed(&house.gateway.output()) < 20, "a record a connection");
    assert!(house.elsewhere.wait_for(10).len() >= 10);
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let test = "the_soft_limit_of_descriptors_is_raised_to_the_hard_one";
    let Some(_) = tools::find("prlimit", test) else { return };
    let house = House::start_under(&["prlimit", "--nofile=512:4096"], |_| {});
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", house.gateway.pid())).expect("it runs");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("it has a limit");
    let numbers: Vec<u64> = files.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers, [4096, 4096], "{files}");
    let places = metric(&house, "gatepost_places_max", "up_to=\"login\"");
    assert!((1000..4096).contains(&places), "{places} places");
}
