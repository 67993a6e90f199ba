//! Peers that wear out the gateway's patience, in simulated time: minutes pass in a moment.

#![allow(dead_code, unreachable_pub, reason = "the simulation's gateway is used in part")]

#[path = "simulation/control.rs"]
mod control;
#[path = "simulation/gateway.rs"]
mod gateway;

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
const SENDER: &str = "app@proseware.example";
const PASSWORD: &str = "open sesame";

/// Longer than any timeout of RFC 5321 section 4.5.3.2.
const LONG: Duration = Duration::from_secs(15 * 60);

/// Connects, sends `words` and reads only when `is_reading`; returns what it read in fifteen minutes.
fn talk(words: &[u8], is_reading: bool) -> String {
    const TOKEN: Token = Token { room: 0, kind: 0, key: 0 };
    let world = World::new(1, SimOptions::default());
    let tuning =
        Tuning { workers: 1, segment_bytes: 256 << 10, capacity_bytes: 64 << 20, hot_bytes_max: 1 << 20 };
    let mut gateway = Gateway::start(&world, tuning, EventLog::discarding, Random::new(1))
        .expect("a gateway starts on an empty disk");
    let mut client = world.host(CLIENT);
    let socket = client.connect(SocketAddr::new(GATEWAY, PORT), None, TOKEN);
    let (mut heard, mut completions, mut was_taken) = (Vec::new(), Vec::new(), false);
    let end = world.now().after(LONG);
    while world.now() < end {
        gateway.turn();
        client.turn(None, &mut completions).expect("a simulated ring turns");
        for completion in completions.drain(..) {
            match completion {
                Completion::Connected { result, .. } => {
                    result.expect("the gateway listens");
                    client.send(socket, Output::Owned(words.to_vec()), TOKEN);
                    if is_reading {
                        client.receive(socket, TOKEN);
                    }
                }
                Completion::Received { chunk, .. } => {
                    heard.extend_from_slice(client.chunk(&chunk));
                    client.release(chunk);
                }
                _ => {}
            }
        }
        was_taken |= !gateway.workers[0].ingress.is_idle();
        if !world.step_until(end) {
            break;
        }
    }
    assert!(was_taken, "the gateway never took the connection");
    assert!(gateway.workers[0].ingress.is_idle(), "the connection is still open after {LONG:?}");
    String::from_utf8(heard).expect("replies are text")
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
