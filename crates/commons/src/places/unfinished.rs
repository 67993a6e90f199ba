//! What unfinished messages hold on disk: counted per client and in all, over all workers.
//!
//! What has arrived of a body is counted until its message is queued or given up; what a client only says it
//! will send takes nothing from anyone. Strangers together have half, so that a tenant's message always finds
//! room beside theirs. Dropping a [`Hold`] gives everything back. Counters and nothing else: no lock.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Holder, Shares};

/// Counters of clients. Clients that share one share a budget: rare, since few clients have large
/// messages on their way at once, and never too generous.
const CLIENTS: usize = 1 << 14;

/// The budgets, and what is taken of them.
#[derive(Debug)]
pub struct Unfinished {
    client_bytes_max: u64,
    shares: Shares,
    clients: Box<[AtomicU64]>,
}

/// Which budget a message does not fit in; the number is that budget in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverBudget {
    /// That of its client.
    Client(u64),
    /// That of all strangers together.
    Strangers(u64),
    /// That of all clients together.
    All(u64),
}

/// What one message holds, until this is dropped.
#[derive(Debug)]
pub struct Hold {
    of: Arc<Unfinished>,
    client: usize,
    holder: Holder,
    bytes: u64,
}

impl Unfinished {
    /// Budgets in bytes, for all clients together and for each.
    #[must_use]
    pub fn new(bytes_max: u64, client_bytes_max: u64) -> Self {
        Self {
            client_bytes_max,
            shares: Shares::new(bytes_max / 2, bytes_max, bytes_max),
            clients: (0..CLIENTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Begins to count a message of `client`, which is one address, or one that stands for an IPv6 /64.
    #[must_use]
    pub fn hold(self: &Arc<Self>, client: IpAddr, holder: Holder) -> Hold {
        Hold { of: Arc::clone(self), client: slot(client), holder, bytes: 0 }
    }

    /// The largest message of a `holder` that could ever find room.
    #[must_use]
    pub fn largest(&self, holder: Holder) -> u64 {
        self.client_bytes_max.min(self.shares.ceiling(holder))
    }

    /// Whether there is room for `bytes` of `client` now; takes none.
    ///
    /// # Errors
    /// The budget in which they do not fit.
    pub fn fits(&self, client: IpAddr, holder: Holder, bytes: u64) -> Result<(), OverBudget> {
        let held = self.clients[slot(client)].load(Ordering::Relaxed);
        if held.saturating_add(bytes) > self.client_bytes_max {
            return Err(OverBudget::Client(self.client_bytes_max));
        }
        let is_full =
            |level: Holder| self.shares.held_up_to(level).saturating_add(bytes) > self.shares.ceiling(level);
        match Holder::ALL[holder as usize..].iter().find(|&&level| is_full(level)) {
            Some(&level) => Err(self.over(level)),
            None => Ok(()),
        }
    }

    /// What is held in all, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shares.held_up_to(Holder::Login)
    }

    fn over(&self, level: Holder) -> OverBudget {
        match level {
            Holder::Stranger => OverBudget::Strangers(self.shares.ceiling(level)),
            Holder::Network | Holder::Login => OverBudget::All(self.shares.ceiling(level)),
        }
    }
}

fn slot(client: IpAddr) -> usize {
    let mut hasher = DefaultHasher::new();
    client.hash(&mut hasher);
    (hasher.finish() % CLIENTS as u64) as usize
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
        let client_bytes_max = self.of.client_bytes_max;
        let client = &self.of.clients[self.client];
        if !add(client, more, client_bytes_max) {
            return Err(OverBudget::Client(client_bytes_max));
        }
        if let Err(level) = self.of.shares.take(self.holder, more) {
            client.fetch_sub(more, Ordering::Relaxed);
            return Err(self.of.over(level));
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.of.clients[self.client].fetch_sub(self.bytes, Ordering::Relaxed);
        self.of.shares.give(self.holder, self.bytes);
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
        let mut first = budgets.hold(ONE, Holder::Network);
        let mut second = budgets.hold(ONE, Holder::Network);
        let mut foreign = budgets.hold(OTHER, Holder::Login);
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
        let mut hold = budgets.hold(ONE, Holder::Network);
        assert_eq!((hold.grow_to(30), hold.grow_to(20), budgets.bytes()), (Ok(()), Ok(()), 30));
        assert_eq!(hold.grow_to(u64::MAX), Err(OverBudget::Client(60)));
        drop(hold);
        assert_eq!(budgets.bytes(), 0);
        assert_eq!(budgets.hold(ONE, Holder::Network).grow_to(60), Ok(()));
    }

    #[test]
    fn strangers_together_have_half_and_what_is_asked_takes_nothing() {
        let budgets = Arc::new(Unfinished::new(100, 60));
        let stranger = |client| budgets.hold(client, Holder::Stranger);
        assert_eq!((budgets.largest(Holder::Stranger), budgets.largest(Holder::Network)), (50, 60));
        for _ in 0..9 {
            assert_eq!(budgets.fits(ONE, Holder::Stranger, 50), Ok(()));
        }
        let mut first = stranger(ONE);
        assert_eq!((first.grow_to(40), budgets.bytes()), (Ok(()), 40));
        let over = Err(OverBudget::Strangers(50));
        assert_eq!((budgets.fits(OTHER, Holder::Stranger, 11), stranger(OTHER).grow_to(11)), (over, over));
        assert_eq!(budgets.fits(ONE, Holder::Stranger, 21), Err(OverBudget::Client(60)));
        assert_eq!(budgets.fits(OTHER, Holder::Network, 61), Err(OverBudget::Client(60)));
        let mut tenants = budgets.hold(OTHER, Holder::Network);
        assert_eq!((budgets.fits(OTHER, Holder::Network, 60), tenants.grow_to(60)), (Ok(()), Ok(())));
        assert_eq!(budgets.fits(OTHER, Holder::Network, u64::MAX), Err(OverBudget::Client(60)));
        drop((first, tenants));
        assert_eq!(budgets.bytes(), 0);
    }
}
