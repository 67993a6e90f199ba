//! Peers that wear out the gateway's patience, in simulated time: minutes pass in a moment.

#![allow(dead_code, unreachable_pub, reason = "the simulation's gateway is used in part")]

#[path = "simulation/control.rs"]
mod control;
#[path = "simulation/gateway.rs"]
mod gateway;
#[path = "simulation/guard.rs"]
mod guard;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use gateway::{Gateway, Tuning};
use observe::EventLog;
use ring::sim::{SimOptions, World};
use ring::{Completion, Output, Ring, Token};
use testbed::random::Random;

const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1));
const PORT: u16 = 25;
const SUBMISSION_PORT: u16 = 587;
const SEALED_PORT: u16 = 465;
const SENDER: &str = "app@proseware.example";
const PASSWORD: &str = "open sesame";

/// Longer than any timeout of RFC 5321 section 4.5.3.2.
const LONG: Duration = Duration::from_secs(15 * 60);

/// Connects, sends `words` and reads only when `is_reading`; returns what it read in fifteen minutes.
fn talk(words: &[u8], is_reading: bool) -> String {
    let (heard, is_open) = converse(PORT, words, &Drip { words: &[], bytes: 1, every: LONG }, is_reading);
    assert!(!is_open, "the connection is still open after {LONG:?}");
    heard
}

/// What is said a little at a time.
struct Drip<'a> {
    /// Again and again.
    words: &'a [u8],
    bytes: usize,
    every: Duration,
}

/// The same, and then says more and more; tells also whether the connection is open after fifteen minutes.
fn converse(port: u16, words: &[u8], drip: &Drip<'_>, is_reading: bool) -> (String, bool) {
    const TOKEN: Token = Token::fixed(0, 0, 0);
    let world = World::new(1, SimOptions::default());
    let tuning = Tuning {
        workers: 1,
        segment_bytes: 256 << 10,
        capacity_bytes: 64 << 20,
        hot_bytes_max: 1 << 20,
        places: 64,
        tls: policy::RouteTls::Off,
    };
    let mut gateway = Gateway::start(&world, tuning, EventLog::discarding, Random::new(1))
        .expect("a gateway starts on an empty disk");
    let mut client = world.host(CLIENT);
    let socket = client.connect(SocketAddr::new(GATEWAY, port), None, TOKEN);
    let (mut heard, mut completions, mut was_taken) = (Vec::new(), Vec::new(), false);
    let end = world.now().after(LONG);
    let mut rest = drip.words.iter().copied().cycle();
    let (mut next, mut is_sending) = (world.now().after(drip.every), false);
    while world.now() < end {
        gateway.turn();
        client.turn(Some(next), &mut completions).expect("a simulated ring turns");
        for completion in completions.drain(..) {
            match completion {
                Completion::Connected { result, .. } => {
                    result.expect("the gateway listens");
                    if !words.is_empty() {
                        client.send(socket, Output::Owned(words.to_vec()), TOKEN);
                        is_sending = true;
                    }
                    if is_reading {
                        client.receive(socket, TOKEN);
                    }
                }
                Completion::Received { chunk, .. } => {
                    heard.extend_from_slice(client.chunk(&chunk));
                    client.release(chunk);
                }
                Completion::Sent { .. } => is_sending = false,
                _ => {}
            }
        }
        if next <= world.now() {
            next = world.now().after(drip.every);
            let more: Vec<u8> = rest.by_ref().take(drip.bytes).collect();
            if !more.is_empty() && !is_sending {
                client.send(socket, Output::Owned(more), TOKEN);
                is_sending = true;
            }
        }
        was_taken |= !gateway.workers[0].ingress.is_idle();
        if !world.step_until(end) {
            break;
        }
    }
    assert!(was_taken, "the gateway never took the connection");
    let is_open = !gateway.workers[0].ingress.is_idle();
    (String::from_utf8_lossy(&heard).into_owned(), is_open)
}

/// The beginning of a record that is longer than all that is said of it.
#[test]
fn a_handshake_has_one_minute_whether_it_is_silent_or_drips() {
    const RECORD: &[u8] = b"\x16\x03\x03\x3f\x7f\x01\x00\x3f\x7b\x03\x03";
    let every = Duration::from_secs(5);
    for (words, drip) in [(&b""[..], &b""[..]), (b"\x16", b""), (RECORD, b"x")] {
        let (_, is_open) = converse(SEALED_PORT, words, &Drip { words: drip, bytes: 1, every }, true);
        assert!(!is_open, "{words:?} and {drip:?} live for ever");
    }
}

#[test]
fn a_client_that_never_reads_its_replies_is_cut_after_a_while() {
    let cycle = format!("MAIL FROM:<{SENDER}>\r\nRCPT TO:<bob@far.example>\r\nRSET\r\n");
    talk(format!("EHLO client.example\r\n{}", cycle.repeat(20_000)).as_bytes(), false);
}

#[test]
fn a_client_that_falls_silent_is_told_so_and_cut() {
    let greeting = "EHLO client.example\r\n";
    let data =
        format!("{greeting}MAIL FROM:<{SENDER}>\r\nRCPT TO:<bob@far.example>\r\nDATA\r\nSubject: x\r\n");
    for words in ["", "EHL", greeting, &data] {
        let heard = talk(words.as_bytes(), true);
        let last = heard.lines().last().expect("it was greeted");
        assert!(last.starts_with("421 4.4.2 "), "{words:?}: {heard}");
    }
}

const IN_DATA: &str = "EHLO client.example\r\nMAIL FROM:<app@proseware.example>\r\n\
                       RCPT TO:<bob@far.example>\r\nDATA\r\nSubject: x\r\n\r\n";

#[test]
fn a_byte_every_50_seconds_is_no_reason_to_wait_on() {
    let every = Duration::from_secs(50);
    for (words, drip, last) in [
        ("", "EHLO a.client.with.a.long.name.example", "no whole command came"),
        ("EHLO client.example\r\n", "NOOP and so on and on", "no whole command came"),
        (
            "EHLO client.example\r\nAUTH LOGIN\r\n",
            "dGVycmlAcHJvc2V3YXJlLmV4YW1wbGU=",
            "no whole command came",
        ),
        (IN_DATA, "a line.\r\n", "too little of the message came"),
    ] {
        let drip = Drip { words: drip.as_bytes(), bytes: 1, every };
        let (heard, is_open) = converse(PORT, words.as_bytes(), &drip, true);
        assert!(!is_open, "{words:?} lives for ever");
        let told =
            heard.lines().last().is_some_and(|line| line.starts_with("421 4.4.2 ") && line.contains(last));
        assert!(told, "{words:?}: {heard}");
    }
}

#[test]
fn a_slow_message_and_a_command_now_and_then_are_waited_for() {
    let every = Duration::from_secs(20);
    for (words, drip) in [
        (IN_DATA, Drip { words: b"a line of thirty-two octets, yes\r\n", bytes: 2048, every }),
        ("EHLO client.example\r\n", Drip { words: b"NOOP\r\n", bytes: 6, every: Duration::from_secs(280) }),
    ] {
        let (heard, is_open) = converse(PORT, words.as_bytes(), &drip, true);
        assert!(is_open && !heard.contains("421"), "{words:?}: {heard}");
    }
}
