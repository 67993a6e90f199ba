//! How long a client waits for a reply while something else goes on: what a worker's longest turns cost others.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testbed::Dialog;

use crate::meter::millis_at;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(1);

/// Of one connection: a gateway cuts a client that asks for nothing else for too long.
const NOOPS: usize = 500;

/// The times that NOOPs took, sorted.
#[derive(Debug)]
pub(crate) struct Replies(Vec<Duration>);

impl fmt::Display for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(times) = self;
        let [median, p99, longest] = [0.5, 0.99, 1.0].map(|part| millis_at(times, part));
        write!(f, "p50 {median:.2} ms, p99 {p99:.2} ms, longest {longest:.2} ms of {}", times.len())
    }
}

/// Does `work` while a client of the gateway at `address` asks for nothing, again and again.
pub(crate) fn beside<T>(address: SocketAddr, work: impl FnOnce() -> T) -> (T, Replies) {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| ask(address, &is_done));
        let outcome = work();
        is_done.store(true, Ordering::Release);
        let mut times = asking.join().expect("the client of NOOPs panicked");
        times.sort_unstable();
        (outcome, Replies(times))
    })
}

fn ask(address: SocketAddr, is_done: &AtomicBool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !is_done.load(Ordering::Acquire) {
        let mut client = Dialog::hello(address);
        for _ in 0..NOOPS {
            if is_done.load(Ordering::Acquire) {
                break;
            }
            let begin = Instant::now();
            client.command("NOOP", 250);
            times.push(begin.elapsed());
            thread::park_timeout(PAUSE);
        }
        client.command("QUIT", 221);
    }
    times
}
