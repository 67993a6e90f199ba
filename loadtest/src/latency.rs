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

pub(crate) fn run(gatepost: &Path) -> Result<(), String> {
    for is_gatepost in [true, false] {
        for sessions in SESSIONS {
            // Postfix has 300 processes at most here.
            if !is_gatepost && sessions > 300 {
                continue;
            }
            let server = match is_gatepost {
                true => Server::gatepost(gatepost, None),
                false => Server::postfix(None)?,
            };
            let address = server.address();
            drive(address, sessions, None, Duration::from_secs(1));
            let most = drive(address, sessions, None, PHASE).len() as f64 / PHASE.as_secs_f64();
            let mut times = drive(address, sessions, Some(most / 2.0), PHASE);
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

/// Sends from `sessions` connections for `duration`, together `rate` messages a second or as many as
/// they can; gives the time of each from its last dot to its 250.
fn drive(address: SocketAddr, sessions: usize, rate: Option<f64>, duration: Duration) -> Vec<Duration> {
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
    threads
        .into_iter()
        .flat_map(|thread| thread.expect("a thread starts").join().expect("mail is taken"))
        .collect()
}

fn session(
    address: SocketAddr,
    number: usize,
    sessions: usize,
    rate: Option<f64>,
    duration: Duration,
    go: &AtomicBool,
) -> Vec<Duration> {
    stay_beside();
    let mut dialog = Dialog::hello(address);
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
        dialog.command("MAIL FROM:<app@proseware.example>", 250);
        dialog.command("RCPT TO:<someone@far.example>", 250);
        dialog.command("DATA", 354);
        let sent = Instant::now();
        dialog.send(&body);
        dialog.expect(250);
        times.push(sent.elapsed());
    }
    times
}
