mod files;

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread;

use super::*;
use crate::scratch::Scratch;
use crate::{AlignedBuffer, BLOCK_BYTES, Durability, SharedBuffer};

const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Long enough for a loaded machine; a test that gets there has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn ring() -> UringRing {
    UringRing::new(UringOptions::default()).expect("this host allows io_uring")
}

fn token(key: u32) -> Token {
    Token::fixed(1, 2, key)
}

fn listening(ring: &mut UringRing) -> (Listener, SocketAddr) {
    let options = ListenOptions { address: LOCAL, shared: false, backlog: 512 };
    let (listener, address) = ring.listen(options, token(1000)).expect("listens");
    ring.accept(listener);
    (listener, address)
}

/// Turns until `take` has what it waits for.
fn until<T>(ring: &mut UringRing, mut take: impl FnMut(&mut UringRing, Completion) -> Option<T>) -> T {
    let deadline = Instant(sys::monotonic_nanos()).after(PATIENCE);
    let mut completions = Vec::new();
    loop {
        ring.turn(Some(deadline), &mut completions).expect("turns");
        assert!(ring.now() < deadline, "nothing came");
        let mut found = None;
        for completion in completions.drain(..) {
            match take(ring, completion) {
                Some(value) => assert!(found.replace(value).is_none(), "one answer a turn"),
                None => continue,
            }
        }
        if let Some(found) = found {
            return found;
        }
    }
}

/// Everything that a few turns without waiting report.
fn what_comes(ring: &mut UringRing) -> Vec<Completion> {
    let mut completions = Vec::new();
    for _ in 0..5 {
        ring.turn(Some(Instant(0)), &mut completions).expect("turns");
    }
    completions
}

fn accepted(ring: &mut UringRing) -> Socket {
    until(ring, |_, completion| match completion {
        Completion::Accepted { socket, .. } => Some(socket),
        other => panic!("unexpected {other:?}"),
    })
}

/// A client of std's and the ring's end of its connection.
fn connection(ring: &mut UringRing) -> (TcpStream, Socket) {
    let (listener, address) = listening(ring);
    let client = TcpStream::connect(address).expect("connects");
    let socket = accepted(ring);
    ring.close_listener(listener);
    (client, socket)
}

#[test]
fn many_connections_are_echoed_at_once() {
    const CLIENTS: usize = 200;
    const ROUNDS: usize = 10;
    let mut ring = ring();
    let (_, address) = listening(&mut ring);
    let clients: Vec<_> = (0..4)
        .map(|part| {
            thread::spawn(move || {
                let mut streams: Vec<_> =
                    (0..CLIENTS / 4).map(|_| TcpStream::connect(address).expect("connects")).collect();
                for round in 0..ROUNDS {
                    let said = format!("{part} says {round}, {}", "x".repeat(part * round * 100));
                    streams.iter_mut().for_each(|stream| stream.write_all(said.as_bytes()).expect("writes"));
                    for stream in &mut streams {
                        let mut heard = vec![0; said.len()];
                        stream.read_exact(&mut heard).expect("reads");
                        assert!(heard == said.as_bytes(), "an echo");
                    }
                }
            })
        })
        .collect();

    let mut open: HashMap<u32, (Socket, Vec<u8>, bool)> = HashMap::new();
    let mut next = 0;
    let mut ends = 0;
    until(&mut ring, |ring, completion| {
        match completion {
            Completion::Accepted { socket, peer, local, .. } => {
                assert_eq!(local, address);
                assert!(peer.ip().is_loopback() && peer.port() != 0);
                ring.receive(socket, token(next));
                open.insert(next, (socket, Vec::new(), false));
                next += 1;
            }
            Completion::Received { token: which, chunk } => {
                let (socket, waiting, sending) =
                    open.get_mut(&which.handle.index()).expect("a known connection");
                waiting.extend_from_slice(ring.chunk(&chunk));
                ring.release(chunk);
                if !*sending {
                    *sending = true;
                    ring.send(*socket, Output::Owned(std::mem::take(waiting)), which);
                }
            }
            Completion::Sent { token: which, result, .. } => {
                result.expect("sends");
                let (socket, waiting, sending) =
                    open.get_mut(&which.handle.index()).expect("a known connection");
                *sending = !waiting.is_empty();
                if *sending {
                    ring.send(*socket, Output::Owned(std::mem::take(waiting)), which);
                }
            }
            Completion::Ended { token: which, result } => {
                result.expect("an orderly end");
                ring.close(open.remove(&which.handle.index()).expect("a known connection").0);
                ends += 1;
            }
            other => panic!("unexpected {other:?}"),
        }
        (ends == CLIENTS).then_some(())
    });
    clients.into_iter().for_each(|client| client.join().expect("no client fails"));
}

#[test]
fn a_paused_socket_hears_nothing_until_it_receives_again() {
    let mut ring = ring();
    let (mut client, socket) = connection(&mut ring);
    ring.receive(socket, token(1));
    what_comes(&mut ring);
    ring.pause(socket);
    what_comes(&mut ring);
    client.write_all(b"first").expect("writes");
    assert!(what_comes(&mut ring).is_empty());
    ring.receive(socket, token(2));
    ring.pause(socket);
    // Before the kernel can tell of the cancellation.
    ring.receive(socket, token(3));
    let mut heard = Vec::new();
    until(&mut ring, |ring, completion| match completion {
        Completion::Received { token: which, chunk } => {
            assert_eq!(which, token(3));
            heard.extend_from_slice(ring.chunk(&chunk));
            ring.release(chunk);
            (heard == b"first").then_some(())
        }
        other => panic!("unexpected {other:?}"),
    });
}

#[test]
fn every_byte_arrives_once_while_buffers_run_out() {
    let options = UringOptions { receive_buffers: 4, receive_buffer_bytes: 1024, ..UringOptions::default() };
    let mut ring = UringRing::new(options).expect("this host allows io_uring");
    let (mut client, socket) = connection(&mut ring);
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 253) as u8).collect();
    let expected = bytes.clone();
    let writer = thread::spawn(move || client.write_all(&bytes).expect("writes"));
    ring.receive(socket, token(1));
    let mut heard = Vec::new();
    let mut held = Vec::new();
    until(&mut ring, |ring, completion| match completion {
        Completion::Received { chunk, .. } => {
            heard.extend_from_slice(ring.chunk(&chunk));
            held.push(chunk);
            // Held until all of them are out, so that the kernel finds none.
            if held.len() == 4 {
                held.drain(..).for_each(|chunk| ring.release(chunk));
            }
            None
        }
        Completion::Ended { result, .. } => {
            result.expect("an orderly end");
            Some(())
        }
        other => panic!("unexpected {other:?}"),
    });
    assert!(heard == expected, "in order and whole");
    writer.join().expect("the writer is done");
}

#[test]
fn a_ring_without_buffers_waits_instead_of_spinning() {
    let options = UringOptions { receive_buffers: 1, receive_buffer_bytes: 1024, ..UringOptions::default() };
    let mut ring = UringRing::new(options).expect("this host allows io_uring");
    let (mut client, socket) = connection(&mut ring);
    ring.receive(socket, token(1));
    client.write_all(&[7; 3000]).expect("writes");
    let chunk = until(&mut ring, |_, completion| match completion {
        Completion::Received { chunk, .. } => Some(chunk),
        other => panic!("unexpected {other:?}"),
    });
    assert!(what_comes(&mut ring).is_empty());
    ring.release(chunk);
    assert!(matches!(what_comes(&mut ring)[..], [Completion::Received { .. }]));
}

#[test]
fn a_large_send_goes_out_whole_to_a_slow_reader() {
    let mut ring = ring();
    let (mut client, socket) = connection(&mut ring);
    let mut buffer = AlignedBuffer::zeroed(20 << 20);
    buffer.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 241) as u8);
    let shared: SharedBuffer = Rc::new(buffer);
    ring.send(socket, Output::Shared(Rc::clone(&shared), 100..shared.len() - 100), token(1));
    assert!(what_comes(&mut ring).is_empty(), "the reader has not begun");
    let expected = shared[100..shared.len() - 100].to_vec();
    let reader = thread::spawn(move || {
        let mut piece = [0; 10_000];
        let mut at = 0;
        while at < expected.len() {
            let count = client.read(&mut piece).expect("reads");
            assert!(count > 0 && piece[..count] == expected[at..at + count], "in order");
            at += count;
        }
    });
    until(&mut ring, |_, completion| match completion {
        Completion::Sent { result, output, .. } => {
            result.expect("sends");
            assert_eq!(output.bytes().len(), shared.len() - 200);
            Some(())
        }
        other => panic!("unexpected {other:?}"),
    });
    reader.join().expect("the reader got everything");
}

#[test]
fn a_socket_closed_with_everything_under_way_is_not_heard_of_again() {
    let mut ring = ring();
    let (mut client, socket) = connection(&mut ring);
    ring.receive(socket, token(1));
    ring.send(socket, Output::Owned(vec![1; 20 << 20]), token(2));
    assert!(what_comes(&mut ring).is_empty());
    ring.close(socket);
    // All of these are for a handle that is stale.
    ring.close(socket);
    ring.receive(socket, token(3));
    ring.send(socket, Output::Owned(vec![1]), token(4));
    assert!(what_comes(&mut ring).is_empty());
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    assert!(rest.len() < 20 << 20, "the connection is over");

    let (_client, again) = connection(&mut ring);
    assert_eq!(again.0.index(), socket.0.index(), "the slot is used again");
    assert_ne!(again, socket);
    ring.close(socket);
    ring.send(again, Output::Owned(b"alive".to_vec()), token(5));
    until(&mut ring, |_, completion| {
        matches!(completion, Completion::Sent { result: Ok(()), .. }).then_some(())
    });
}

#[test]
fn the_last_reply_reaches_a_peer_that_was_still_talking() {
    let mut ring = ring();
    let (mut client, socket) = connection(&mut ring);
    client.write_all(&[b'x'; 50_000]).expect("writes");
    ring.send(socket, Output::Owned(b"421 closing".to_vec()), token(1));
    until(&mut ring, |_, completion| matches!(completion, Completion::Sent { .. }).then_some(()));
    ring.close(socket);
    what_comes(&mut ring);
    let mut heard = String::new();
    client.read_to_string(&mut heard).expect("no reset");
    assert_eq!(heard, "421 closing");
}

#[test]
fn what_is_submitted_leaves_before_the_next_turn() {
    let mut ring = ring();
    let (mut client, socket) = connection(&mut ring);
    client.set_read_timeout(Some(PATIENCE)).expect("takes a timeout");
    ring.send(socket, Output::Owned(b"250 2.0.0 kept\r\n".to_vec()), token(1));
    ring.submit();
    let mut heard = [0; 16];
    client.read_exact(&mut heard).expect("hears it although no turn has come");
    assert_eq!(&heard, b"250 2.0.0 kept\r\n");
    assert!(matches!(what_comes(&mut ring)[..], [Completion::Sent { .. }]));
}

/// The bytes are there before the write is asked for; the turn that has both tells of the file first.
#[test]
fn what_the_disk_finished_comes_first() {
    let directory = Scratch::new();
    let mut ring = ring();
    let mode = OpenMode { write: true, create_new: true, direct: false };
    let file = ring.open(&directory.path("file"), mode).expect("opens");
    let (mut client, socket) = connection(&mut ring);
    ring.receive(socket, token(1));
    let is_file = |completion: &Completion| matches!(completion, Completion::File { .. });
    for _ in 0..100 {
        assert!(what_comes(&mut ring).is_empty(), "nothing is under way");
        client.write_all(b"NOOP\r\n").expect("writes");
        ring.write_file(
            file,
            0,
            AlignedBuffer::zeroed(BLOCK_BYTES),
            0..BLOCK_BYTES,
            Durability::Buffered,
            token(2),
        );
        ring.submit();
        thread::sleep(Duration::from_millis(20));
        let mut completions = Vec::new();
        ring.turn(Some(Instant(0)), &mut completions).expect("turns");
        let came_at_once = completions.len();
        while completions.len() < 2 {
            ring.turn(None, &mut completions).expect("turns");
        }
        let first = is_file(&completions[0]);
        for completion in completions {
            if let Completion::Received { chunk, .. } = completion {
                ring.release(chunk);
            }
        }
        if came_at_once == 2 {
            assert!(first, "the file first");
            return;
        }
    }
    panic!("the disk was never done within 20 ms");
}

#[test]
fn an_orderly_end_leaves_the_other_direction_open() {
    let mut ring = ring();
    let (mut client, socket) = connection(&mut ring);
    client.shutdown(Shutdown::Write).expect("shuts down");
    ring.receive(socket, token(1));
    until(&mut ring, |_, completion| {
        matches!(completion, Completion::Ended { result: Ok(()), .. }).then_some(())
    });
    ring.send(socket, Output::Owned(b"bye".to_vec()), token(1));
    until(&mut ring, |_, completion| {
        matches!(completion, Completion::Sent { result: Ok(()), .. }).then_some(())
    });
    ring.close(socket);
    what_comes(&mut ring);
    let mut heard = String::new();
    client.read_to_string(&mut heard).expect("reads");
    assert_eq!(heard, "bye");
}

#[test]
fn a_connection_is_opened_from_the_source_that_was_asked_for() {
    let mut ring = ring();
    let server = TcpListener::bind(LOCAL).expect("binds");
    let to = server.local_addr().expect("has an address");
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let socket = ring.connect(to, Some(source), token(7));
    let local = until(&mut ring, |_, completion| match completion {
        Completion::Connected { token: which, result } => {
            assert_eq!(which, token(7));
            Some(result.expect("connects"))
        }
        other => panic!("unexpected {other:?}"),
    });
    let (mut stream, peer) = server.accept().expect("accepts");
    assert_eq!((peer, peer.ip()), (local, source));
    ring.send(socket, Output::Owned(b"EHLO".to_vec()), token(7));
    until(&mut ring, |_, completion| matches!(completion, Completion::Sent { .. }).then_some(()));
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).expect("reads");
    assert_eq!(&heard, b"EHLO");
}

#[test]
fn a_connection_that_cannot_be_made_says_why() {
    let mut ring = ring();
    let no_listener = {
        let listener = TcpListener::bind(LOCAL).expect("binds");
        listener.local_addr().expect("has an address")
    };
    let failure = |completion| match completion {
        Completion::Connected { result, .. } => Some(result.expect_err("no socket listens").kind()),
        other => panic!("unexpected {other:?}"),
    };
    ring.connect(no_listener, None, token(1));
    assert_eq!(until(&mut ring, |_, completion| failure(completion)), io::ErrorKind::ConnectionRefused);
    let not_ours = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    ring.connect(no_listener, Some(not_ours), token(1));
    assert_eq!(until(&mut ring, |_, completion| failure(completion)), io::ErrorKind::AddrNotAvailable);
    let closed_at_once = ring.connect(no_listener, Some(not_ours), token(1));
    ring.close(closed_at_once);
    assert!(what_comes(&mut ring).is_empty());
}

#[test]
fn a_listener_that_stopped_accepts_again_when_asked() {
    let mut ring = ring();
    let (listener, address) = listening(&mut ring);
    what_comes(&mut ring);
    ring.stop_accepting(listener);
    what_comes(&mut ring);
    let _client = TcpStream::connect(address).expect("the backlog takes it");
    assert!(what_comes(&mut ring).is_empty());
    ring.accept(listener);
    accepted(&mut ring);
    ring.close_listener(listener);
    what_comes(&mut ring);
    assert!(TcpStream::connect(address).is_err(), "no socket listens any more");
}

#[test]
fn a_port_with_a_listener_is_not_free() {
    let mut ring = ring();
    let options = ListenOptions { address: LOCAL, shared: true, backlog: 1 };
    let (_, address) = ring.listen(options, token(1)).expect("listens");
    ring.listen(ListenOptions { address, ..options }, token(2)).expect("another worker shares it");
    assert_eq!(port_is_free(address).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
    port_is_free(LOCAL).expect("any port is free");
}

#[test]
fn a_wake_from_another_thread_ends_the_wait() {
    let mut ring = ring();
    let waker = ring.waker();
    for _ in 0..50 {
        let waker = waker.clone();
        let other = thread::spawn(move || (0..3).for_each(|_| waker.wake()));
        until(&mut ring, |_, completion| matches!(completion, Completion::Woken).then_some(()));
        other.join().expect("the other thread is done");
        // What was left over of its three calls.
        assert!(what_comes(&mut ring).len() <= 1);
    }
}

#[test]
fn a_turn_ends_at_its_deadline_with_nothing() {
    let mut ring = ring();
    let mut completions = Vec::new();
    let deadline = ring.now().after(Duration::from_millis(20));
    ring.turn(Some(deadline), &mut completions).expect("turns");
    assert!(ring.now() >= deadline && completions.is_empty());
    assert!(ring.unix_millis() > 1_600_000_000_000);
}

#[test]
fn more_operations_than_the_ring_has_places_all_end() {
    let directory = Scratch::new();
    let options = UringOptions { submissions: 8, completions: 16, ..UringOptions::default() };
    let mut ring = UringRing::new(options).expect("this host allows io_uring");
    let path = directory.path("segment");
    let file = ring.open(&path, OpenMode { write: true, create_new: true, direct: false }).expect("opens");
    for key in 0..300 {
        let at = u64::from(key) * BLOCK_BYTES as u64;
        let buffer = AlignedBuffer::zeroed(BLOCK_BYTES);
        ring.write_file(file, at, buffer, 0..BLOCK_BYTES, Durability::Buffered, token(key));
    }
    let mut left = 300;
    until(&mut ring, |_, completion| match completion {
        Completion::File { result, .. } => {
            assert_eq!(result.expect("writes"), BLOCK_BYTES);
            left -= 1;
            (left == 0).then_some(())
        }
        other => panic!("unexpected {other:?}"),
    });
    assert_eq!(ring.length(file).expect("has a length"), 300 * BLOCK_BYTES as u64);
}

#[test]
fn randomness_differs_every_time() {
    let mut ring = ring();
    let (mut first, mut second) = ([0; 300], [0; 300]);
    ring.random(&mut first);
    ring.random(&mut second);
    assert_ne!(first, second);
    assert_ne!(first[..32], first[256..288]);
}

#[test]
fn a_ring_that_cannot_be_made_says_what_to_raise() {
    let text = |number| RingError::from_io(io::Error::from_raw_os_error(number)).to_string();
    assert!(text(libc::ENOMEM).contains("RLIMIT_MEMLOCK"));
    assert!(text(libc::EMFILE).contains("RLIMIT_NOFILE"));
    assert!(text(libc::ENOSYS).contains("Linux 6.1"));
    let refused = text(libc::EPERM);
    assert!(refused.contains("seccomp") || refused.contains("kernel.io_uring_disabled"));
}
