//! From the last dot to the 250, at half of what the server can do: for 1, 50 and 1,000 sessions.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testbed::Dialog;

use crate::meter::millis_at;
use crate::servers::Server;
use crate::storm::stay_beside;

const SESSIONS: [usize; 3] = [1, 50, 1000];
const PHASE: Duration = Duration::from_secs(5);

/// How long servers are driven before that, and how long a rate is tried.
const WARM_UP: Duration = Duration::from_secs(1);
/// What a message takes in the spool at most: its blocks, where each is a separate group, and its outcome.
const SPOOL_BYTES_A_MESSAGE: f64 = 16384.0;
/// The least that a spool of many segments can be made of.
const CAPACITY_MIN: f64 = (1u64 << 30) as f64;

pub(crate) fn run(gatepost: &Path) -> Result<(), String> {
    for is_gatepost in [true, false] {
        for sessions in SESSIONS {
            // Postfix has 300 processes at most here.
            if !is_gatepost && sessions > 300 {
                continue;
            }
            let server = match is_gatepost {
                true => spacious(gatepost, sessions)?,
                false => Server::postfix(None)?,
            };
            let address = server.address();
            drive(address, sessions, None, WARM_UP)?;
            let most = drive(address, sessions, None, PHASE)?.len() as f64 / PHASE.as_secs_f64();
            let mut times = drive(address, sessions, Some(most / 2.0), PHASE)?;
            times.sort_unstable();
            println!(
                "{}, {sessions:>4} sessions: {most:.0} a second at most; at half of it p50 {:.2} ms, p99 {:.2} ms \
                 ({} messages)",
                if is_gatepost { "Gatepost" } else { "Postfix" },
                millis_at(&times, 0.5),
                millis_at(&times, 0.99),
                times.len()
            );
        }
    }
    Ok(())
}

/// A gateway whose spool holds what will come, which nothing takes away: a first one says how much that is.
fn spacious(gatepost: &Path, sessions: usize) -> Result<Server, String> {
    let sent = drive(Server::gatepost(gatepost, None).address(), sessions, None, WARM_UP)?;
    let capacity = capacity(sent.len() as f64 / WARM_UP.as_secs_f64());
    Ok(Server::gatepost_with(gatepost, None, |configuration| {
        configuration.capacity = format!("{capacity}B");
    }))
}

/// What the spool must hold of `rate` messages a second: twice that, since the first second is slow.
fn capacity(rate: f64) -> u64 {
    let seconds = (WARM_UP + PHASE + PHASE).as_secs_f64();
    (2.0 * rate * seconds * SPOOL_BYTES_A_MESSAGE).max(CAPACITY_MIN) as u64
}

/// Sends from `sessions` connections for `duration`, together `rate` messages a second or as many as
/// they can; gives the time of each from its last dot to its 250, or what the first was told instead.
fn drive(
    address: SocketAddr,
    sessions: usize,
    rate: Option<f64>,
    duration: Duration,
) -> Result<Vec<Duration>, String> {
    let go = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..sessions)
        .map(|number| {
            let go = Arc::clone(&go);
            thread::Builder::new()
                .stack_size(256 << 10)
                .spawn(move || session(address, number, sessions, rate, duration, &go))
        })
        .collect();
    go.store(true, Ordering::Release);
    let outcomes = threads.into_iter().map(|thread| {
        let thread = thread.map_err(|error| format!("no thread: {error}"))?;
        thread.join().map_err(|_| "a session panicked".to_owned())?
    });
    // All of them are awaited, also after one has failed.
    let outcomes: Vec<_> = outcomes.collect();
    outcomes.into_iter().try_fold(Vec::new(), |mut times, outcome| {
        times.extend(outcome?);
        Ok(times)
    })
}

fn session(
    address: SocketAddr,
    number: usize,
    sessions: usize,
    rate: Option<f64>,
    duration: Duration,
    go: &AtomicBool,
) -> Result<Vec<Duration>, String> {
    stay_beside();
    let mut dialog = Dialog::connect(address);
    ask(&mut dialog, "", 220)?;
    ask(&mut dialog, "EHLO client.example\r\n", 250)?;
    let body = format!(
        "Subject: timed\r\n\r\n{}.\r\n",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n".repeat(64)
    );
    while !go.load(Ordering::Acquire) {
        thread::yield_now();
    }
    let begin = Instant::now();
    let interval = rate.map(|rate| Duration::from_secs_f64(sessions as f64 / rate));
    let mut times = Vec::new();
    let mut due =
        interval.map_or(Duration::ZERO, |interval| interval.mul_f64(number as f64 / sessions as f64));
    while begin.elapsed() < duration {
        if let Some(interval) = interval {
            if let Some(wait) = due.checked_sub(begin.elapsed()) {
                thread::park_timeout(wait);
            }
            due += interval;
        }
        ask(&mut dialog, "MAIL FROM:<app@proseware.example>\r\n", 250)?;
        ask(&mut dialog, "RCPT TO:<someone@far.example>\r\n", 250)?;
        ask(&mut dialog, "DATA\r\n", 354)?;
        let sent = Instant::now();
        ask(&mut dialog, &body, 250)?;
        times.push(sent.elapsed());
    }
    Ok(times)
}

/// Sends `text`; the reply must have `code`. A refusal ends the measurement and not the process: the servers are to
/// be stopped.
fn ask(dialog: &mut Dialog, text: &str, code: u16) -> Result<(), String> {
    let reply = dialog.try_send(text).then(|| dialog.reply()).flatten();
    match reply {
        Some(reply) if reply.code == code => Ok(()),
        Some(reply) => Err(format!("the server said {} {}", reply.code, reply.text())),
        None => Err("the server ended a connection".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testbed::{Destination, Rules};

    #[test]
    fn the_spool_holds_what_a_fast_machine_sends_in_the_time() {
        assert_eq!(capacity(10.0), 1 << 30);
        // 100,000 messages a second for eleven seconds, in blocks of 8 KiB.
        assert!(capacity(100_000.0) > 100_000 * 11 * 8192);
    }

    #[test]
    fn a_refusal_ends_the_measurement_with_what_was_said() {
        let full = Rules { mail: Some(Box::new(|_| Some("452 4.3.1 full".into()))), ..Rules::default() };
        let server = Destination::with_rules(full);
        let outcome = drive(server.address(), 2, None, WARM_UP);
        assert_eq!(outcome, Err("the server said 452 4.3.1 full".to_owned()));
    }
}
