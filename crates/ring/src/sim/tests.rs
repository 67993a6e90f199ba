use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::course::{EPOCH_UNIX_MILLIS, START};
use super::*;
use crate::{AlignedBuffer, Completion, Disk, Durability, File, ListenOptions, Output, Ring, Socket, Token};

mod crashes;
mod faults;
mod locks;
mod short;

const LISTEN: Token = Token::fixed(1, 0, 0);
const SERVER: Token = Token::fixed(1, 1, 0);
const CLIENT: Token = Token::fixed(3, 0, 0);
const FILE: Token = Token::fixed(2, 0, 0);
const NEW: OpenMode = OpenMode { write: true, create_new: true, direct: false };
const OLD: OpenMode = OpenMode { write: true, create_new: false, direct: false };

fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

fn listen_on(ring: &mut SimRing, port: u16) -> crate::Listener {
    let address = SocketAddr::new(ip(1), port);
    let options = ListenOptions { address, shared: false, backlog: 16 };
    let (listener, bound) = ring.listen(options, LISTEN).expect("listens");
    assert_eq!(bound, address);
    ring.accept(listener);
    listener
}

fn connect(ring: &mut SimRing, port: u16) -> Socket {
    ring.connect(SocketAddr::new(ip(1), port), None, CLIENT)
}

fn turn(ring: &mut SimRing) -> Vec<Completion> {
    let mut completions = Vec::new();
    ring.turn(None, &mut completions).expect("a simulated ring turns");
    completions
}

/// Steps until `ring` has something.
fn wait(world: &World, ring: &mut SimRing) -> Vec<Completion> {
    loop {
        let completions = turn(ring);
        if !completions.is_empty() {
            return completions;
        }
        assert!(world.step(), "the world rests and the ring waits for something");
    }
}

/// What an echo saw.
#[derive(Debug, PartialEq, Eq)]
struct EchoRun {
    echoed: Vec<u8>,
    pieces: usize,
    client_end: Option<bool>,
    send_results: Vec<bool>,
    digest: u64,
}

/// Sends `bytes` to an echo server on another host and closes when they have all come back.
fn echo(seed: u64, options: SimOptions, bytes: &[u8]) -> EchoRun {
    let world = World::new(seed, options);
    let (mut server, mut client) = (world.host(ip(1)), world.host(ip(2)));
    let _listener = listen_on(&mut server, 25);
    let socket = connect(&mut client, 25);
    let mut run =
        EchoRun { echoed: Vec::new(), pieces: 0, client_end: None, send_results: Vec::new(), digest: 0 };
    let mut accepted = None;
    let (mut waiting, mut sending) = (Vec::new(), false);
    loop {
        for completion in turn(&mut server) {
            match completion {
                Completion::Accepted { socket, peer, local, .. } => {
                    assert_eq!((peer.ip(), local), (ip(2), SocketAddr::new(ip(1), 25)));
                    server.receive(socket, SERVER);
                    accepted = Some(socket);
                }
                Completion::Received { chunk, .. } => {
                    waiting.extend_from_slice(server.chunk(&chunk));
                    server.release(chunk);
                }
                Completion::Sent { .. } => sending = false,
                Completion::Ended { .. } => server.close(accepted.take().expect("accepted before it ended")),
                other => panic!("the server did not expect {other:?}"),
            }
            if let (Some(socket), false, false) = (accepted, sending, waiting.is_empty()) {
                sending = true;
                server.send(socket, Output::Owned(std::mem::take(&mut waiting)), SERVER);
            }
        }
        for completion in turn(&mut client) {
            match completion {
                Completion::Connected { result, .. } => {
                    result.expect("the server listens");
                    client.receive(socket, CLIENT);
                    client.send(socket, Output::Owned(bytes.to_vec()), CLIENT);
                }
                Completion::Received { chunk, .. } => {
                    run.echoed.extend_from_slice(client.chunk(&chunk));
                    run.pieces += 1;
                    client.release(chunk);
                    if run.echoed.len() == bytes.len() {
                        client.close(socket);
                    }
                }
                Completion::Sent { result, .. } => run.send_results.push(result.is_ok()),
                Completion::Ended { result, .. } => run.client_end = Some(result.is_ok()),
                other => panic!("the client did not expect {other:?}"),
            }
        }
        if !world.step() {
            break;
        }
    }
    assert_eq!((server.chunks_lent(), client.chunks_lent()), (0, 0));
    run.digest = world.digest();
    run
}

fn pattern(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n * 31 % 251) as u8).collect()
}

#[test]
fn an_echo_between_hosts_arrives_whole_and_in_pieces() {
    let bytes = pattern(500_000);
    let run = echo(1, SimOptions::default(), &bytes);
    assert!(run.echoed == bytes, "the bytes come back as they were");
    assert!(run.pieces > 10);
    assert_eq!(run.send_results, [true]);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let bytes = pattern(50_000);
    let options = SimOptions { stall_probability: 0.05, ..SimOptions::default() };
    assert_eq!(echo(7, options.clone(), &bytes), echo(7, options, &bytes));
}

#[test]
fn different_seeds_give_different_runs() {
    let digests: BTreeSet<u64> =
        (0..20).map(|seed| echo(seed, SimOptions::default(), b"one line\r\n").digest).collect();
    assert_eq!(digests.len(), 20);
}

#[test]
fn a_broken_connection_is_told_to_both_ends() {
    let options = SimOptions { reset_probability: 0.2, ..SimOptions::default() };
    let bytes = pattern(400_000);
    let broken = (0..20).map(|seed| echo(seed, options.clone(), &bytes)).filter(|run| run.echoed != bytes);
    let mut count = 0;
    for run in broken {
        count += 1;
        assert!(bytes.starts_with(&run.echoed), "what arrived is a beginning of what was sent");
        assert_eq!(run.client_end, Some(false));
    }
    assert!(count > 10, "{count} of 20 broke");
}

#[test]
fn no_listener_refuses_and_a_missing_host_is_unreachable() {
    let world = World::new(3, SimOptions::default());
    let (_server, mut client) = (world.host(ip(1)), world.host(ip(2)));
    let _socket = connect(&mut client, 25);
    let _nowhere = client.connect(SocketAddr::new(ip(9), 25), None, CLIENT);
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        for completion in wait(&world, &mut client) {
            let Completion::Connected { result: Err(error), .. } = completion else { panic!("connected") };
            kinds.push(error.kind());
        }
    }
    assert_eq!(kinds, [std::io::ErrorKind::ConnectionRefused, std::io::ErrorKind::HostUnreachable]);
}

#[test]
fn a_port_is_taken_unless_both_share_it() {
    let world = World::new(3, SimOptions::default());
    let (mut one, mut two) = (world.host(ip(1)), world.host(ip(1)));
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 25);
    let shared = ListenOptions { address, shared: true, backlog: 16 };
    let (listener, _) = one.listen(shared, LISTEN).expect("listens");
    two.listen(shared, LISTEN).expect("shares");
    let alone = ListenOptions { address: SocketAddr::new(ip(1), 25), ..shared };
    let alone = ListenOptions { shared: false, ..alone };
    let error = two.listen(alone, LISTEN).expect_err("the port is taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    drop(two);
    one.close_listener(listener);
    one.listen(alone, LISTEN).expect("free again");
}

/// A connected pair: server's and client's sockets.
fn pair(world: &World, server: &mut SimRing, client: &mut SimRing) -> (Socket, Socket) {
    listen_on(server, 25);
    let near = connect(client, 25);
    let accepted = wait(world, server);
    let [Completion::Accepted { socket, .. }] = accepted[..] else { panic!("{accepted:?}") };
    assert!(matches!(wait(world, client)[..], [Completion::Connected { result: Ok(_), .. }]));
    (socket, near)
}

#[test]
fn a_sender_waits_for_a_peer_that_does_not_read() {
    let world = World::new(5, SimOptions { window_bytes: 1000, ..SimOptions::default() });
    let (mut server, mut client) = (world.host(ip(1)), world.host(ip(2)));
    let (far, near) = pair(&world, &mut server, &mut client);
    client.send(near, Output::Owned(pattern(5000)), CLIENT);
    while world.step() {
        assert!(turn(&mut client).is_empty(), "the window is full");
    }
    server.receive(far, SERVER);
    let (mut received, mut sent) = (0, false);
    while received < 5000 || !sent {
        for completion in turn(&mut server) {
            let Completion::Received { chunk, .. } = completion else { panic!("{completion:?}") };
            received += server.chunk(&chunk).len();
            server.release(chunk);
        }
        sent |= matches!(turn(&mut client)[..], [Completion::Sent { result: Ok(()), .. }]);
        assert!(world.step());
    }
}

#[test]
fn what_was_sent_before_a_close_arrives_and_then_the_end() {
    let world = World::new(6, SimOptions::default());
    let (mut server, mut client) = (world.host(ip(1)), world.host(ip(2)));
    let (far, near) = pair(&world, &mut server, &mut client);
    // Input that the server never reads must not cost the client the reply.
    client.send(near, Output::Owned(b"NOOP\r\n".to_vec()), CLIENT);
    server.send(far, Output::Owned(b"421 bye\r\n".to_vec()), SERVER);
    assert!(matches!(wait(&world, &mut server)[..], [Completion::Sent { result: Ok(()), .. }]));
    server.close(far);
    while world.step() {
        turn(&mut client);
    }
    client.receive(near, CLIENT);
    let mut reply = Vec::new();
    'reading: loop {
        for completion in wait(&world, &mut client) {
            match completion {
                Completion::Received { chunk, .. } => {
                    reply.extend_from_slice(client.chunk(&chunk));
                    client.release(chunk);
                }
                Completion::Ended { result, .. } => break 'reading result.expect("an orderly end"),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(reply, b"421 bye\r\n");
}

#[test]
fn a_half_closed_client_still_gets_its_reply() {
    let world = World::new(8, SimOptions::default());
    let (mut server, mut client) = (world.host(ip(1)), world.host(ip(2)));
    let (far, near) = pair(&world, &mut server, &mut client);
    client.end_sending(near);
    server.receive(far, SERVER);
    assert!(matches!(wait(&world, &mut server)[..], [Completion::Ended { result: Ok(()), .. }]));
    server.send(far, Output::Owned(b"!".to_vec()), SERVER);
    client.receive(near, CLIENT);
    let completion = wait(&world, &mut client).pop();
    let Some(Completion::Received { chunk, .. }) = completion else { panic!("{completion:?}") };
    assert_eq!(client.chunk(&chunk), b"!");
    client.release(chunk);
}

#[test]
fn nothing_is_heard_of_what_was_closed() {
    let world = World::new(9, SimOptions::default());
    let (mut server, mut client) = (world.host(ip(1)), world.host(ip(2)));
    let (far, near) = pair(&world, &mut server, &mut client);
    client.receive(near, CLIENT);
    server.send(far, Output::Owned(b"hello".to_vec()), SERVER);
    // The bytes are there and not handed over yet.
    for _ in 0..10 {
        world.step();
        turn(&mut server);
    }
    client.close(near);
    client.close(near);
    while world.step() {
        assert!(turn(&mut client).is_empty());
    }
}

#[test]
fn a_crash_resets_the_peers_and_silences_the_ring() {
    let world = World::new(10, SimOptions::default());
    let (mut server, mut client) = (world.host(ip(1)), world.host(ip(2)));
    let (_far, near) = pair(&world, &mut server, &mut client);
    client.receive(near, CLIENT);
    world.crash(ip(1));
    let ended = wait(&world, &mut client);
    assert!(matches!(ended[..], [Completion::Ended { result: Err(_), .. }]), "{ended:?}");
    assert!(server.list(Path::new("/")).is_err());
    assert!(turn(&mut server).is_empty());
    drop(server);
    listen_on(&mut world.host(ip(1)), 25);
}

#[test]
fn a_waker_and_a_deadline_end_the_wait() {
    let world = World::new(11, SimOptions::default());
    let mut ring = world.host(ip(1));
    turn(&mut ring);
    assert!(!world.step(), "nothing will ever happen");
    let waker = ring.waker();
    waker.wake();
    waker.wake();
    assert!(world.step());
    assert!(matches!(turn(&mut ring)[..], [Completion::Woken]));

    waker.wake();
    assert!(world.step(), "said once");
    assert!(!world.step(), "a ring that is left alone does not hold time up");
    assert!(matches!(turn(&mut ring)[..], [Completion::Woken]));

    let deadline = world.now().after(Duration::from_secs(60));
    ring.turn(Some(deadline), &mut Vec::new()).expect("turns");
    assert!(!world.step_until(world.now().after(Duration::from_secs(1))));
    assert!(world.step());
    turn(&mut ring);
    assert_eq!(ring.now(), deadline);
    assert_eq!(ring.unix_millis(), EPOCH_UNIX_MILLIS + 60_000);
}

fn write(ring: &mut SimRing, file: File, offset: u64, byte: u8, durability: Durability) {
    let mut buffer = AlignedBuffer::zeroed(4096);
    buffer.fill(byte);
    ring.write_file(file, offset, buffer, 0..4096, durability, FILE);
}

fn file_result(world: &World, ring: &mut SimRing) -> std::io::Result<usize> {
    match wait(world, ring).pop() {
        Some(Completion::File { token: FILE, result, .. }) => result,
        other => panic!("not the end of a file operation: {other:?}"),
    }
}

/// A file of zeros in `/spool`, durable with its name.
fn durable_file(ring: &mut SimRing, blocks: u64) -> File {
    ring.create_directory(Path::new("/spool")).expect("creates");
    let file = ring.open(Path::new("/spool/log"), NEW).expect("opens");
    ring.allocate(file, blocks * 4096).expect("allocates");
    ring.sync(file).expect("syncs");
    ring.sync_directory(Path::new("/spool")).expect("syncs");
    file
}

/// The file's blocks after a crash.
fn blocks_after_crash(world: &World) -> Vec<Vec<u8>> {
    world.crash(ip(1));
    let mut ring = world.host(ip(1));
    let file = ring.open(Path::new("/spool/log"), OLD).expect("the name is durable");
    let mut bytes = vec![0; ring.length(file).expect("has a length") as usize];
    ring.read_at(file, 0, &mut bytes).expect("reads");
    bytes.chunks(4096).map(<[u8]>::to_vec).collect()
}
