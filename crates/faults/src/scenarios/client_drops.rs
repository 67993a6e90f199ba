//! The client drops, resets or stalls at each byte of a transaction; what was not ended must never be delivered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use testbed::{Dialog, Fingerprint, Outcome, Sent, message};

use crate::Plan;
use crate::stand::{PATIENCE, Setup, Stand};

/// Of the message that is broken off: every step is met, and a byte costs a connection.
const BODY_BYTES: usize = 600;

/// How a client goes.
#[derive(Clone, Copy)]
enum Ending {
    /// It closes, having read all replies.
    Close,
    /// It closes with a reply unread: the gateway sees a reset.
    Reset,
    /// It says nothing more and goes at the end of the scenario.
    Stall,
}

/// One connection for each byte in each cycle; three cycles end each byte in each way.
pub(crate) fn run(plan: &Plan) -> String {
    let mut stand = Stand::start(plan, Setup::at(plan.work.join("spool")));
    let client = stand.client(plan.seed, |options| options.sessions = 2);
    let (mut sent, mut stalled, mut serial) = (Vec::new(), Vec::new(), FIRST_SERIAL);
    for cycle in 0..plan.cycles as usize {
        let mut cut = 0;
        loop {
            let ending = [Ending::Close, Ending::Reset, Ending::Stall][(cut + cycle) % 3];
            let (bytes, whole, open) = break_off(stand.gateway.smtp(), serial, cut, ending);
            stalled.extend(open);
            // The gateway must not be short of connections for this: a few at a time stall.
            if stalled.len() > STALLED_MAX {
                stalled.remove(0);
            }
            let outcome = if bytes == whole { Outcome::Unknown } else { Outcome::Refused };
            sent.push(record(serial, outcome));
            serial += 1;
            if bytes == whole {
                break;
            }
            cut += 1;
        }
    }
    let connections = serial - FIRST_SERIAL;
    let wanted = client.acknowledged() + 20;
    assert!(client.wait_acknowledged(wanted, PATIENCE), "no mail is taken:\n{}", stand.output());
    drop(stalled);
    Dialog::hello(stand.gateway.smtp()).command("QUIT", 221);
    sent.extend(client.stop());
    let verdict = stand.verdict(sent);
    verdict.assert_kept();
    assert_eq!(verdict.duplicated(), 0, "something was delivered twice without a crash: {verdict}");
    format!("{connections} connections broken off, one for each byte of a transaction; {verdict}")
}

/// Far from those of the clients that go on.
const FIRST_SERIAL: u64 = 5_000_000_000;
const STALLED_MAX: usize = 20;

fn recipient(serial: u64) -> String {
    format!("r0.{serial}@large.example")
}

fn record(serial: u64, outcome: Outcome) -> Sent {
    Sent {
        serial,
        reverse_path: "ledger@proseware.example".into(),
        recipients: vec![recipient(serial)],
        fingerprint: Fingerprint::of(&message::content(serial, 1, BODY_BYTES)),
        outcome,
    }
}

/// Speaks the first `cut` bytes of a transaction and goes; gives how many were sent, how many there are,
/// and the connection if it stays.
fn break_off(
    target: SocketAddr,
    serial: u64,
    cut: usize,
    ending: Ending,
) -> (usize, usize, Option<TcpStream>) {
    let steps = [
        b"EHLO ledger.proseware.example\r\n".to_vec(),
        b"MAIL FROM:<ledger@proseware.example> BODY=8BITMIME\r\n".to_vec(),
        format!("RCPT TO:<{}>\r\n", recipient(serial)).into_bytes(),
        b"DATA\r\n".to_vec(),
        message::to_wire(&message::content(serial, 1, BODY_BYTES)),
    ];
    let whole = steps.iter().map(Vec::len).sum();
    let mut dialog = Dialog::connect(target);
    dialog.expect(220);
    let mut left = cut.min(whole);
    for step in &steps {
        let now = left.min(step.len());
        dialog.send(&step[..now]);
        left -= now;
        if now < step.len() || left == 0 {
            break;
        }
        let reply = dialog.reply().expect("the gateway goes on as long as the client does");
        assert!(reply.is_positive(), "an honest step was refused: {} {:?}", reply.code, reply.lines);
    }
    let mut stream = dialog.into_stream();
    match ending {
        Ending::Close => {
            // What the gateway says to a command that ended just here is read, so that the end is orderly.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
            (cut.min(whole), whole, None)
        }
        Ending::Reset => {
            // A reply to this stays unread: closing then resets.
            if cut < whole {
                return (cut, whole, None);
            }
            let _ = stream.write_all(b"NOOP\r\n");
            (whole, whole, None)
        }
        Ending::Stall => (cut.min(whole), whole, Some(stream)),
    }
}
