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

/// A loopback address with a port nobody listens on, never the same twice in one process.
///
/// # Panics
/// When loopback has no port left.
#[must_use]
pub fn free_address() -> SocketAddr {
    // Processes that test at the same time begin at different places.
    let start = (std::process::id().wrapping_mul(37) % u32::from(PORTS.end - PORTS.start)) as u16;
    let mut given = GIVEN.lock().expect("no test panics while it holds this");
    (0..PORTS.end - PORTS.start)
        .map(|step| PORTS.start + (start + step) % (PORTS.end - PORTS.start))
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && given.insert(port))
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .expect("loopback has a free port")
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
