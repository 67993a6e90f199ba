//! F2: who may say for whom he speaks, by a PROXY header or by XCLIENT, and what becomes of it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use testbed::gateway::http_get;
use testbed::net::eventually;
use testbed::proseware::{AUTH_PLAIN, INSIDE, LOGIN, WORK, listen_for_clear_logins};
use testbed::{Configuration, Dialog};

use crate::g2_explanations::{open_to_questions, ticket_of, why};
use crate::house::House;

/// A listed load balancer.
const BALANCER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 4, 4));
/// A listed load balancer that the tenant's network holds too.
const INNER_BALANCER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 44));
/// A host that may send XCLIENT.
const FILTER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 4, 5));
/// Strangers' hosts behind them.
const STRANGER: &str = "203.0.113.9";
const STRANGER_V6: &str = "2001:db8::9";

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn start(xclient: &str) -> House {
    House::start_with(|configuration| {
        configuration.node_extra.push_str(&format!(
            "\n[proxy_protocol]\nfrom = [\"{BALANCER}\", \"{INNER_BALANCER}\"]\n\n[xclient]\n\
             from = [\"{FILTER}\", \"203.0.113.200\"]\n{xclient}\n"
        ));
    })
}

/// Lets `proxy` say for whom it speaks.
pub(crate) fn list_proxy(configuration: &mut Configuration, proxy: IpAddr) {
    configuration.node_extra.push_str(&format!("\n[proxy_protocol]\nfrom = [\"{proxy}\"]\n"));
}

/// A connection from `peer` whose first bytes are `header`.
pub(crate) fn connect(house: &House, peer: IpAddr, header: impl AsRef<[u8]>) -> Dialog {
    let mut dialog = Dialog::connect_from(peer, house.gateway.smtp());
    dialog.send(header);
    dialog
}

pub(crate) fn v1(client: impl std::fmt::Display) -> String {
    let family = if client.to_string().contains(':') { "TCP6" } else { "TCP4" };
    let server = if family == "TCP6" { "::1" } else { "127.0.0.1" };
    format!("PROXY {family} {client} {server} 40001 25\r\n")
}

fn v2(client: IpAddr) -> Vec<u8> {
    let mut header = V2_SIGNATURE.to_vec();
    match client {
        IpAddr::V4(client) => {
            header.extend([0x21, 0x11, 0, 12]);
            header.extend(client.octets());
            header.extend([127, 0, 0, 1]);
        }
        IpAddr::V6(client) => {
            header.extend([0x21, 0x21, 0, 36]);
            header.extend(client.octets());
            header.extend([0; 16]);
        }
    }
    header.extend([0x9c, 0x41, 0, 25]);
    header
}

/// Asks to relay; the whole answer.
pub(crate) fn relays(dialog: &mut Dialog) -> Result<(), String> {
    dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
    dialog.send(format!("RCPT TO:<{BOB}>\r\n"));
    let reply = dialog.reply().expect("a recipient is answered");
    dialog.command("RSET", 250);
    if reply.is_positive() { Ok(()) } else { Err(reply.text()) }
}

pub(crate) fn greeted(mut dialog: Dialog) -> Dialog {
    dialog.expect(220);
    dialog.command("EHLO client.example", 250);
    dialog
}

/// Peer faults counted as `fault`.
#[track_caller]
fn expect_faults(house: &House, fault: &str, count: u64) {
    let sample = format!("gatepost_peer_faults_total{{listener=\"smtp\",fault=\"{fault}\"}} {count}");
    let address = house.gateway.configuration().metrics;
    let mut metrics = String::new();
    let is_there = eventually(testbed::net::PATIENCE, || {
        metrics = http_get(address, "/metrics").map_or_else(String::new, |(_, body)| body);
        let labels = [format!("fault=\"{fault}\""), "listener=\"smtp\"".to_owned()];
        metrics.lines().any(|line| {
            line.starts_with("gatepost_peer_faults_total{")
                && labels.iter().all(|label| line.contains(label))
                && line.ends_with(&format!(" {count}"))
        })
    });
    assert!(is_there, "{sample} is not in\n{metrics}");
}

/// The connection ends, and nothing was said on it.
#[track_caller]
fn ends_without_a_word(mut dialog: Dialog) {
    assert_eq!(String::from_utf8_lossy(&dialog.expect_end()), "");
}

#[test]
fn f2_the_client_of_a_listed_proxy_is_judged_by_its_own_address() {
    let house = start("");
    let inside: IpAddr = INSIDE;
    for header in [v1(inside).into_bytes(), v2(inside)] {
        assert_eq!(relays(&mut greeted(connect(&house, BALANCER, header))), Ok(()));
    }
    for stranger in [STRANGER, STRANGER_V6] {
        for header in [v1(stranger).into_bytes(), v2(stranger.parse().unwrap())] {
            // Also where the proxy's own address would open the relay.
            for balancer in [BALANCER, INNER_BALANCER] {
                let reply = relays(&mut greeted(connect(&house, balancer, &header))).unwrap_err();
                assert!(reply.contains(&format!("relaying not permitted for {stranger}")), "{reply}");
            }
        }
    }
    house.nothing_went_elsewhere();
}

#[test]
fn f2_the_trace_and_the_log_name_the_client_and_the_log_its_proxy() {
    let house = start("");
    let mut dialog = greeted(connect(&house, BALANCER, v1(INSIDE)));
    dialog.deliver(KIM, &[LOGIN], b"Subject: through a proxy\r\n\r\nhello\r\n");
    assert_eq!(house.own_mail.wait_for(1)[0].recipients, [LOGIN]);
    let client = format!("\"client\":\"{INSIDE}\",\"proxy\":\"{BALANCER}\"");
    assert!(eventually(testbed::net::PATIENCE, || house.gateway.output().contains(&client)));
}

#[test]
fn f2_a_header_without_an_address_makes_a_stranger() {
    let house = start("");
    let local = [V2_SIGNATURE, &[0x20, 0, 0, 0]].concat();
    let local_with_addresses = [V2_SIGNATURE, &[0x20, 0x11, 0, 12], &[127; 12]].concat();
    let unspecified = [V2_SIGNATURE, &[0x21, 0, 0, 0]].concat();
    let headers: [&[u8]; 5] =
        [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN 127.0.1.5 x\r\n", &local, &local_with_addresses, &unspecified];
    for header in headers {
        let mut dialog = greeted(connect(&house, INNER_BALANCER, header));
        assert!(relays(&mut dialog).unwrap_err().contains("relaying not permitted"));
        dialog.deliver(KIM, &[LOGIN], b"Subject: from anyone\r\n\r\nhello\r\n");
    }
    assert_eq!(house.denials(&["reason=\"relay_not_permitted\"", "tenant=\"none\""]), 5);
    assert_eq!(house.own_mail.wait_for(5).len(), 5);
    house.nothing_went_elsewhere();
}

#[test]
fn f2_a_header_from_anyone_else_ends_the_connection() {
    let house = start("");
    for peer in [WORK, INSIDE, FILTER] {
        for header in [v1(INSIDE).into_bytes(), v2(INSIDE)] {
            let mut dialog = connect(&house, peer, [&header[..], b"EHLO client.example\r\n"].concat());
            let said = dialog.expect_end();
            let said = String::from_utf8_lossy(&said);
            assert!(said.is_empty() || said == "220 relay.proseware.example ESMTP Gatepost\r\n", "{said}");
        }
    }
    expect_faults(&house, "header_unlisted", 6);
}

#[test]
fn f2_a_client_behind_a_proxy_cannot_send_a_header_of_its_own() {
    let house = start("");
    let mut dialog = connect(&house, BALANCER, v1(STRANGER));
    dialog.expect(220);
    dialog.send(v1(INSIDE));
    ends_without_a_word(dialog);
    expect_faults(&house, "header_unlisted", 1);
}

#[test]
fn f2_a_missing_header_from_a_listed_peer_ends_the_connection() {
    let house = start("");
    // It speaks without one.
    ends_without_a_word(connect(&house, BALANCER, "EHLO client.example\r\n"));
    expect_faults(&house, "header_missing", 1);
    // It says nothing: nothing is greeted, and its time is short.
    let mut silent = Dialog::connect_from(INNER_BALANCER, house.gateway.smtp());
    assert!(silent.is_silent(Duration::from_millis(300)), "greeted before the header");
    // One byte at a time is no more time.
    let mut slow = connect(&house, BALANCER, "PROXY TCP4 ");
    assert!(slow.is_silent(Duration::from_millis(300)), "greeted before the header was whole");
    let _ = slow.try_send("1");
    ends_without_a_word(silent);
    ends_without_a_word(slow);
    expect_faults(&house, "header_missing", 3);
    assert!(house.gateway.output().contains("\"event\":\"proxy_header\""));
}

#[test]
fn f2_a_malformed_header_from_a_listed_peer_ends_the_connection() {
    let house = start("");
    let cut_short = [V2_SIGNATURE, &[0x21, 0x11, 0, 4, 127, 0, 1, 5]].concat();
    for header in [&b"PROXY TCP4 127.0.1.5\r\n"[..], b"PROXY TCP4 127.0.1.5 ::1 1 25\r\n", &cut_short] {
        ends_without_a_word(connect(&house, BALANCER, header));
    }
    expect_faults(&house, "header_malformed", 3);
    ends_without_a_word(connect(&house, BALANCER, format!("PROXY UNKNOWN {}\r\n", "x".repeat(200))));
    ends_without_a_word(connect(&house, BALANCER, [V2_SIGNATURE, &[0x20, 0, 0xff, 0xff]].concat()));
    expect_faults(&house, "header_too_long", 2);
}

#[test]
fn f2_a_peer_that_only_looks_whether_the_port_is_open_is_no_fault() {
    let house = start("");
    drop(Dialog::connect_from(BALANCER, house.gateway.smtp()));
    ends_without_a_word(connect(&house, BALANCER, "EHLO client.example\r\n"));
    // What came later is counted; what came before it was not.
    expect_faults(&house, "header_missing", 1);
}

#[test]
fn f2_a_header_ahead_of_tls_is_taken_in_any_pieces() {
    let mut tls = None;
    let house = House::start_with(|configuration| {
        tls = Some(configuration.listen("submissions", "submission", "implicit"));
        list_proxy(configuration, BALANCER);
    });
    let address = tls.unwrap();
    for cut in [0, 5, 20] {
        let mut dialog = Dialog::connect_from(BALANCER, address);
        let header = v2(WORK);
        dialog.send(&header[..cut]);
        let mut stream = Ahead { stream: dialog.into_stream(), header: header[cut..].to_vec() };
        let mut connection = house.tls_client();
        // The rest of the header goes in one piece with the ClientHello.
        connection.complete_io(&mut stream).expect("the handshake succeeds");
        let mut tls = rustls::Stream::new(&mut connection, &mut stream);
        let mut greeting = [0; 4];
        tls.read_exact(&mut greeting).expect("a greeting comes");
        assert_eq!(&greeting, b"220 ");
    }
    // Without a header there is no handshake either.
    let mut bare = Dialog::connect_from(BALANCER, address);
    bare.send([0x16, 3, 1]);
    ends_without_a_word(bare);
}

/// Sends a header with the first bytes that are written.
struct Ahead {
    stream: std::net::TcpStream,
    header: Vec<u8>,
}

impl Write for Ahead {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.header.is_empty() {
            return self.stream.write(bytes);
        }
        let mut all = std::mem::take(&mut self.header);
        all.extend_from_slice(bytes);
        self.stream.write_all(&all)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }
}

#[test]
fn f2_the_limit_on_connections_counts_for_the_tenant_that_the_header_names() {
    let house = House::start_with(|configuration| {
        list_proxy(configuration, BALANCER);
        configuration.tenants[0].1.push_str("\n[limits]\nconnections = 1\n");
    });
    let first = greeted(connect(&house, BALANCER, v1(INSIDE)));
    connect(&house, BALANCER, v1(INSIDE)).expect(421);
    greeted(connect(&house, BALANCER, v1(STRANGER)));
    drop(first);
    assert!(eventually(testbed::net::PATIENCE, || {
        connect(&house, BALANCER, v1(INSIDE)).reply().is_some_and(|reply| reply.code == 220)
    }));
}

#[test]
fn f2_xclient_from_a_listed_host_says_for_whom_it_speaks() {
    let house = start("");
    let mut dialog = Dialog::connect_from(FILTER, house.gateway.smtp());
    dialog.expect(220);
    let offers = dialog.command("EHLO filter.example", 250);
    assert!(offers.lines.iter().any(|line| line == "XCLIENT NAME ADDR PORT PROTO HELO"), "{offers:?}");
    relays(&mut dialog).unwrap_err();
    dialog.command(&format!("XCLIENT ADDR={INSIDE} NAME=app.proseware.example HELO=app PROTO=ESMTP"), 220);
    // It begins anew.
    dialog.command(&format!("MAIL FROM:<{KIM}>"), 503);
    dialog.command("EHLO filter.example", 250);
    assert_eq!(relays(&mut dialog), Ok(()));
    let told = |words: &str| {
        let mut dialog = Dialog::hello_from(FILTER, house.gateway.smtp());
        dialog.command("XCLIENT ADDR=nobody", 501);
        dialog.command(words, 220);
        dialog.command("EHLO filter.example", 250);
        relays(&mut dialog)
    };
    assert!(told(&format!("XCLIENT ADDR=IPV6:{STRANGER_V6}")).unwrap_err().contains(STRANGER_V6));
    told("XCLIENT ADDR=[UNAVAILABLE]").unwrap_err();
    house.nothing_went_elsewhere();
}

#[test]
fn f2_xclient_counts_once_and_is_not_taken_from_the_client_that_it_named() {
    let house = start("login = true");
    let mut dialog = Dialog::hello_from(FILTER, house.gateway.smtp());
    dialog.command(&format!("XCLIENT ADDR={STRANGER}"), 220);
    let offers = dialog.command("EHLO client.example", 250);
    assert!(!offers.text().contains("XCLIENT"), "{offers:?}");
    for claim in [format!("ADDR={INSIDE}"), format!("LOGIN={LOGIN}")] {
        dialog.command(&format!("XCLIENT {claim}"), 550);
    }
    assert!(relays(&mut dialog).unwrap_err().contains(STRANGER));
    house.nothing_went_elsewhere();
}

#[test]
fn f2_xclient_for_a_client_that_is_turned_away_ends_the_session() {
    let house = House::start_with(|configuration| {
        configuration.node_extra.push_str(&format!("\n[xclient]\nfrom = [\"{FILTER}\"]\n"));
        configuration.tenants[0].1.push_str("\n[limits]\nconnections = 1\n");
    });
    let first = Dialog::hello_from(INSIDE, house.gateway.smtp());
    let mut dialog = Dialog::hello_from(FILTER, house.gateway.smtp());
    dialog.command(&format!("XCLIENT ADDR={INSIDE}"), 421);
    ends_without_a_word(dialog);
    drop(first);
    // What spoke for the tenant's client counted as one of its connections, and counts no longer.
    for _ in 0..2 {
        assert!(eventually(testbed::net::PATIENCE, || {
            let mut dialog = Dialog::hello_from(FILTER, house.gateway.smtp());
            dialog.send(format!("XCLIENT ADDR={INSIDE}\r\n"));
            dialog.reply().is_some_and(|reply| reply.code == 220)
        }));
    }
}

#[test]
fn f2_xclient_is_matched_against_the_address_that_proxy_gave() {
    let house = start("");
    let mut dialog = greeted(connect(&house, BALANCER, v1("203.0.113.200")));
    dialog.command(&format!("XCLIENT ADDR={INSIDE}"), 220);
    dialog.command("EHLO filter.example", 250);
    assert_eq!(relays(&mut dialog), Ok(()));
    // The proxy's own right, or another client's, is not this client's.
    let mut dialog = greeted(connect(&house, BALANCER, v1(STRANGER)));
    dialog.command(&format!("XCLIENT ADDR={INSIDE}"), 550);
    let mut dialog = greeted(connect(&house, BALANCER, "PROXY UNKNOWN\r\n"));
    dialog.command(&format!("XCLIENT ADDR={INSIDE}"), 550);
    expect_faults(&house, "xclient_unlisted", 2);
}

#[test]
fn f2_xclient_from_anyone_else_is_refused_and_counted() {
    let house = start("login = true");
    for peer in [WORK, INSIDE] {
        let mut dialog = Dialog::connect_from(peer, house.gateway.smtp());
        dialog.expect(220);
        let offers = dialog.command("EHLO client.example", 250);
        assert!(!offers.text().contains("XCLIENT"), "{offers:?}");
        let reply = dialog.command(&format!("XCLIENT ADDR={INSIDE} LOGIN={LOGIN}"), 550);
        assert!(reply.lines[0].starts_with("5.7.0 "), "{reply:?}");
        // What was known of it before still holds.
        assert_eq!(relays(&mut dialog).is_ok(), peer == INSIDE);
    }
    expect_faults(&house, "xclient_unlisted", 2);
}

#[test]
fn f2_a_login_by_xclient_is_a_right_of_its_own() {
    let house = start("");
    let mut dialog = Dialog::hello_from(FILTER, house.gateway.smtp());
    dialog.command(&format!("XCLIENT ADDR={STRANGER} LOGIN={LOGIN}"), 550);
    // Nothing of it was taken.
    assert!(relays(&mut dialog).unwrap_err().contains(&FILTER.to_string()));
    expect_faults(&house, "xclient_login", 1);
}

#[test]
fn f2_a_login_by_xclient_is_one_that_exists_and_one_clients() {
    let mut clear: Option<SocketAddr> = None;
    let house = House::start_with(|configuration| {
        open_to_questions(configuration);
        clear = Some(listen_for_clear_logins(configuration));
        let lists = format!("\n[xclient]\nfrom = [\"{FILTER}\"]\nlogin = true\n");
        configuration.node_extra.push_str(&lists);
    });
    let mut dialog = Dialog::connect_from(FILTER, clear.unwrap());
    dialog.expect(220);
    let offers = dialog.command("EHLO filter.example", 250);
    assert!(offers.text().contains("XCLIENT NAME ADDR PORT PROTO HELO LOGIN"), "{offers:?}");
    let reply = dialog.command(&format!("XCLIENT ADDR={STRANGER} LOGIN=nobody+40proseware.example"), 550);
    let told = why(&house, &ticket_of(&reply));
    assert_eq!(
        (&told["reason"], &told["client"]),
        (&"login_failed".into(), &STRANGER.to_string().into()),
        "{told}"
    );
    dialog.command(&format!("XCLIENT ADDR={STRANGER} LOGIN={}", LOGIN.replace('@', "+40")), 220);
    dialog.command("EHLO filter.example", 250);
    dialog.command(AUTH_PLAIN, 503);
    // As this login, and as no other.
    dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
    dialog.command(&format!("RCPT TO:<{BOB}>"), 553);
    dialog.command("RSET", 250);
    dialog.command(&format!("MAIL FROM:<{LOGIN}>"), 250);
    dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
    dialog.command("RSET", 250);
    // The next client has a separate connection, and is a stranger until it is said who it is.
    dialog.command("XCLIENT ADDR=203.0.113.10", 550);
    let mut dialog = Dialog::hello_from(FILTER, clear.unwrap());
    dialog.command("XCLIENT ADDR=203.0.113.10", 220);
    dialog.command("EHLO filter.example", 250);
    dialog.command(&format!("MAIL FROM:<{LOGIN}>"), 530);
}
