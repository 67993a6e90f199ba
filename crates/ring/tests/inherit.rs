//! A listening socket that was there before its ring.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ring::uring::{UringOptions, UringRing, listen_before};
use ring::{Completion, Instant, ListenOptions, Ring as _, Token};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const PATIENCE: Duration = Duration::from_secs(30);
const TOKEN: Token = Token::fixed(1, 1, 9);

fn ring() -> UringRing {
    UringRing::new(UringOptions::default()).expect("this host allows io_uring")
}

fn what_comes(ring: &mut UringRing) -> Vec<Completion> {
    let mut completions = Vec::new();
    ring.turn(Some(ring.now().after(PATIENCE)), &mut completions).expect("turns");
    completions
}

#[test]
fn an_inherited_listener_brings_those_who_wait_and_goes_on_accepting() {
    let options = ListenOptions { address: ANY, shared: true, backlog: 16 };
    let inherited = listen_before(options).expect("listens");
    let address = inherited.local_addr().expect("it is bound");
    let _early = TcpStream::connect(address).expect("the backlog takes it");

    let mut ring = ring();
    ring.inherit(ANY, inherited);
    let (listener, found) = ring.listen(options, TOKEN).expect("listens");
    assert_eq!(found, address, "another socket");
    ring.accept(listener);
    assert!(matches!(what_comes(&mut ring)[..], [Completion::Accepted { token: TOKEN, .. }]));
    let mut late = TcpStream::connect(address).expect("it listens");
    let [Completion::Accepted { socket, .. }] = what_comes(&mut ring)[..] else { panic!("no client came") };
    ring.close(socket);
    // What is asked of the ring goes to the kernel with the next turn, which has nothing to wait for.
    ring.turn(Some(Instant(0)), &mut Vec::new()).expect("turns");
    late.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    assert_eq!(late.read(&mut [0]).expect("an orderly end"), 0);

    let (_, another) = ring.listen(options, TOKEN).expect("listens");
    assert_ne!(another, address, "it is inherited once");
}

#[test]
fn a_listener_inherits_only_what_was_opened_for_its_address() {
    let options = ListenOptions { address: ANY, shared: true, backlog: 16 };
    let inherited = listen_before(options).expect("listens");
    let address = inherited.local_addr().expect("it is bound");
    let mut ring = ring();
    ring.inherit(address, inherited);
    let (_, other) = ring.listen(options, TOKEN).expect("listens");
    assert_ne!(other, address);
}
