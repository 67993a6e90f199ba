//! Loopback ports and waiting with a deadline.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;
use std::time::{Duration, Instant};

static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// How long anything in a test may take before the test is declared dead.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A loopback address with a port nobody listens on, never the same twice in one process.
///
/// # Panics
/// When loopback has no port left.
#[must_use]
pub fn free_address() -> SocketAddr {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        // The kernel may hand the same ephemeral port to two tests: the first keeps it.
        if GIVEN.lock().expect("no test panics while it holds this").insert(address.port()) {
            return address;
        }
    }
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
