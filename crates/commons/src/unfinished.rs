//! What unfinished messages hold on disk: counted per client and in all, over all workers.
//!
//! A body is counted from the moment it is known to go to a file until its message is queued or
//! given up; dropping its [`Hold`] gives everything back. Counters and nothing else: no lock.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of clients. Clients that share one share a budget: rare, since few clients have large
/// messages on their way at once, and never too generous.
const CLIENTS: usize = 1 << 14;

/// The budgets, and what is taken of them.
#[derive(Debug)]
pub struct Unfinished {
    bytes_max: u64,
    client_bytes_max: u64,
    bytes: AtomicU64,
    clients: Box<[AtomicU64]>,
}

/// Which budget a message does not fit in; the number is that budget in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverBudget {
    /// That of its client.
    Client(u64),
    /// That of all clients together.
    All(u64),
}

/// What one message holds, until this is dropped.
#[derive(Debug)]
pub struct Hold {
    of: Arc<Unfinished>,
    client: usize,
    bytes: u64,
}

impl Unfinished {
    /// Budgets in bytes, for all clients together and for each.
    #[must_use]
    pub fn new(bytes_max: u64, client_bytes_max: u64) -> Self {
        Self {
            bytes_max,
            client_bytes_max,
            bytes: AtomicU64::new(0),
            clients: (0..CLIENTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Begins to count a message of `client`, which is one address, or one that stands for an IPv6 /64.
    #[must_use]
    pub fn hold(self: &Arc<Self>, client: IpAddr) -> Hold {
        let mut hasher = DefaultHasher::new();
        client.hash(&mut hasher);
        let client = (hasher.finish() % CLIENTS as u64) as usize;
        Hold { of: Arc::clone(self), client, bytes: 0 }
    }

    /// What is held in all, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Hold {
    /// Holds `bytes` in all, if that is more than before.
    ///
    /// # Errors
    /// The budget in which they do not fit; what was held stays held.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), OverBudget> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let Unfinished { bytes_max, client_bytes_max, .. } = *self.of;
        let client = &self.of.clients[self.client];
        if !add(client, more, client_bytes_max) {
            return Err(OverBudget::Client(client_bytes_max));
        }
        if !add(&self.of.bytes, more, bytes_max) {
            client.fetch_sub(more, Ordering::Relaxed);
            return Err(OverBudget::All(bytes_max));
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.of.clients[self.client].fetch_sub(self.bytes, Ordering::Relaxed);
        self.of.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Counters guard no other memory: relaxed is enough.
fn add(counter: &AtomicU64, more: u64, max: u64) -> bool {
    let sum = |now: u64| now.checked_add(more).filter(|&sum| sum <= max);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn a_client_has_its_own_budget_and_all_have_one_together() {
        let budgets = Arc::new(Unfinished::new(100, 60));
        let mut first = budgets.hold(ONE);
        let mut second = budgets.hold(ONE);
        let mut foreign = budgets.hold(OTHER);
        assert_eq!(first.grow_to(50), Ok(()));
        assert_eq!(second.grow_to(11), Err(OverBudget::Client(60)));
        assert_eq!(second.grow_to(10), Ok(()));
        assert_eq!(foreign.grow_to(41), Err(OverBudget::All(100)));
        assert_eq!(foreign.grow_to(40), Ok(()), "what was refused is not held");
        assert_eq!(budgets.bytes(), 100);
        drop(first);
        assert_eq!((budgets.bytes(), second.grow_to(60)), (50, Ok(())));
    }

    #[test]
    fn a_hold_never_shrinks_and_gives_all_back() {
        let budgets = Arc::new(Unfinished::new(100, 60));
        let mut hold = budgets.hold(ONE);
        assert_eq!((hold.grow_to(30), hold.grow_to(20), budgets.bytes()), (Ok(()), Ok(()), 30));
        assert_eq!(hold.grow_to(u64::MAX), Err(OverBudget::Client(60)));
        drop(hold);
        assert_eq!(budgets.bytes(), 0);
        assert_eq!(budgets.hold(ONE).grow_to(60), Ok(()));
    }
}
