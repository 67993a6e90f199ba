//! Loopback ports and waiting with a deadline.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;
use std::time::{Duration, Instant};

static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// How long anything in a test may take before the test is declared dead.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Ports below the range from which the kernel gives connections theirs: a port of that range may be
/// taken by a client's own end while a gateway restarts.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A loopback address with a free port, never the same twice in one process.
///
/// # Panics
/// When loopback has no port left.
#[must_use]
pub fn free_address() -> SocketAddr {
    free_listener().local_addr().expect("a bound listener has an address")
}

/// A listener on such an address. Who can listen here rather than bind the address again does so: a
/// process that is just being started holds a copy of every descriptor until its exec.
///
/// # Panics
/// When loopback has no port left.
#[must_use]
pub fn free_listener() -> TcpListener {
    // Processes that test at the same time begin at different places.
    let start = (std::process::id().wrapping_mul(37) % u32::from(PORTS.end - PORTS.start)) as u16;
    let mut given = GIVEN.lock().expect("no test panics while it holds this");
    let (port, listener) = (0..PORTS.end - PORTS.start)
        .map(|step| PORTS.start + (start + step) % (PORTS.end - PORTS.start))
        // Not even tried when it is given: its owner may be about to bind it.
        .filter(|port| !given.contains(port))
        .find_map(|port| Some((port, TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?)))
        .expect("loopback has a free port");
    given.insert(port);
    listener
}

/// Asks `condition` until it holds or `patience` is over; says whether it held.
pub fn eventually(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        // What is asked lives in another process, which has no way to call back.
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_for_a_port_never_takes_one_that_was_given() {
        let mine = free_address();
        let looking = std::thread::spawn(|| (0..200).for_each(|_| _ = free_address()));
        while !looking.is_finished() {
            TcpListener::bind(mine).unwrap_or_else(|error| panic!("{mine}: {error}"));
        }
        looking.join().expect("loopback has two hundred free ports");
    }
}
