//! Peers that mean no good, or cannot do better: each costs bounded memory, hears why, and is cut.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use testbed::dialog::Reply;
use testbed::net::PATIENCE;
use testbed::random::Random;
use testbed::{Configuration, Destination, Dialog, Gateway};

/// What the gateway may hold at its peak, whatever is sent to it.
const MEMORY_BYTES_MAX: u64 = 150 << 20;

/// Commands that a session takes without end.
const CYCLE: &[u8] = b"MAIL FROM:<kim@proseware.example>\r\nRCPT TO:<bob@adatum.example>\r\nRSET\r\n";

fn start() -> (Gateway, Destination) {
    let destination = Destination::start();
    let configuration = Configuration::relay(destination.address());
    (Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration), destination)
}

/// Sends `bytes_max` bytes of `pieces` on a separate connection until the gateway has cut it;
/// returns the replies, after the greeting, and how much it took.
fn pour(gateway: &Gateway, bytes_max: u64, mut pieces: impl FnMut() -> Vec<u8> + Send) -> (Vec<Reply>, u64) {
    let mut stream = TcpStream::connect(gateway.smtp()).expect("the gateway listens");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set on a socket");
    let mut dialog = Dialog::over(stream.try_clone().expect("a socket can be duplicated"));
    dialog.expect(220);
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let mut sent = 0;
            while sent < bytes_max {
                let piece = pieces();
                match stream.write_all(&piece) {
                    Ok(()) => sent += piece.len() as u64,
                    Err(error) => {
                        let is_stuck = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                        assert!(!is_stuck, "the gateway neither reads on nor cuts: {error}");
                        break;
                    }
                }
            }
            // Nothing else will come; a connection that was cut has no side left to close.
            let _ = stream.shutdown(Shutdown::Write);
            sent
        });
        let replies = std::iter::from_fn(|| dialog.reply()).collect();
        (replies, sender.join().expect("the sender does not panic"))
    })
}

/// The last thing said is a 421 with a reason, the gateway is within its memory, and serves others.
#[track_caller]
fn was_told_and_cut(replies: &[Reply], gateway: &Gateway, destination: &Destination) {
    let last = replies.last().expect("the gateway says something");
    assert_eq!(last.code, 421, "{replies:?}");
    assert!(last.lines[0].starts_with("4."), "{last:?}");
    still_serves(gateway, destination);
}

#[track_caller]
fn still_serves(gateway: &Gateway, destination: &Destination) {
    let peak = gateway.peak_bytes();
    assert!(peak < MEMORY_BYTES_MAX, "the gateway held {} MiB", peak >> 20);
    let served = destination.count();
    Dialog::hello(gateway.smtp()).deliver(
        "kim@proseware.example",
        &["bob@adatum.example"],
        b"Subject: x\r\n\r\n",
    );
    destination.wait_for(served + 1);
}

#[test]
fn garbage_is_answered_and_cut() {
    let (gateway, destination) = start();
    for seed in 0..8 {
        let mut random = Random::new(seed);
        let (replies, _) =
            pour(&gateway, 4 << 20, || (0..512).flat_map(|_| random.bits().to_le_bytes()).collect());
        assert!(
            replies[..replies.len() - 1].iter().all(|reply| (500..600).contains(&reply.code)),
            "{replies:?}"
        );
        was_told_and_cut(&replies, &gateway, &destination);
    }
}

#[test]
fn a_hundred_megabytes_without_a_newline_are_cut() {
    const SENT: u64 = 100_000_000;
    let (gateway, destination) = start();
    let (replies, taken) = pour(&gateway, SENT, || vec![b'x'; 64 << 10]);
    assert_eq!(replies[0].code, 500, "{replies:?}");
    assert!(taken < SENT, "it was read to its end");
    was_told_and_cut(&replies, &gateway, &destination);
}

#[test]
fn a_million_noops_are_cut() {
    const SENT: u64 = 6_000_000;
    let (gateway, destination) = start();
    let (replies, taken) = pour(&gateway, SENT, || b"NOOP\r\n".repeat(10_000));
    assert!(replies[..replies.len() - 1].iter().all(|reply| reply.code == 250), "{:?}", replies.first());
    assert!(taken < SENT, "a million NOOPs were read");
    was_told_and_cut(&replies, &gateway, &destination);
}

#[test]
fn a_login_that_is_never_finished_is_cut() {
    let destination = Destination::start();
    let mut configuration = testbed::proseware::configuration(destination.address(), destination.address());
    let submission = testbed::proseware::listen_for_clear_logins(&mut configuration);
    let gateway = Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration);
    let mut dialog = Dialog::hello(submission);
    dialog.command("AUTH PLAIN", 334);
    // Larger than any answer; the gateway may cut while it is still being sent.
    let _ = dialog.try_send(vec![b'A'; 8 << 20]);
    let replies: Vec<_> = std::iter::from_fn(|| dialog.reply()).collect();
    assert_eq!(replies.last().map(|reply| reply.code), Some(421), "{replies:?}");
    assert!(gateway.peak_bytes() < MEMORY_BYTES_MAX);
}

/// A client that goes on asking and reads nothing: the gateway stops reading too. What it said is
/// all there when the client reads after all.
#[test]
fn a_client_that_never_reads_is_held_back_in_bounded_memory() {
    // Most that sockets of both sides hold on their way, and then some.
    const TAKEN_BYTES_MAX: u64 = 64 << 20;
    let (gateway, destination) = start();
    let mut stuck: Vec<Dialog> = (0..4)
        .map(|_| {
            let dialog = Dialog::hello(gateway.smtp());
            let mut stream = dialog.share();
            stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a timeout can be set on a socket");
            let piece = CYCLE.repeat(100);
            let mut taken = 0;
            while stream.write_all(&piece).is_ok() {
                taken += piece.len() as u64;
                assert!(taken < TAKEN_BYTES_MAX, "the gateway reads on and on");
            }
            dialog
        })
        .collect();
    still_serves(&gateway, &destination);
    for dialog in &mut stuck {
        dialog.share().shutdown(Shutdown::Write).expect("the connection is still there");
        let replies: Vec<_> = std::iter::from_fn(|| dialog.reply()).collect();
        assert!(replies.len() > 1000, "only {} replies", replies.len());
        // The write that timed out ended somewhere within a line.
        assert!(replies[..replies.len() - 1].iter().all(|reply| reply.code == 250), "{:?}", replies.last());
    }
    still_serves(&gateway, &destination);
}

#[test]
fn clients_that_do_not_read_do_not_keep_the_gateway_from_ending() {
    let (mut gateway, _destination) = start();
    let mut dialog = Dialog::hello(gateway.smtp());
    let mut stream = dialog.share();
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a timeout can be set on a socket");
    let piece = CYCLE.repeat(100);
    while stream.write_all(&piece).is_ok() {}
    assert!(gateway.terminate().success());
    assert!(dialog.reply().is_some(), "what was said before is there");
}
