use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use mail::UnixMillis;

use crate::Wakers;

/// A destination site as all workers see it: its connection leases and its health.
///
/// The back-off is computed by whoever saw the failure; here it is only remembered, so that a
/// destination that is down is one fact and not one per worker.
#[derive(Debug)]
pub struct Site {
    leases: AtomicU32,
    /// A bit for each worker that waits for a lease.
    waiting: AtomicU64,
    failures: AtomicU32,
    not_before: AtomicU64,
    wakers: Arc<Wakers>,
}

impl Site {
    pub(crate) fn new(wakers: Arc<Wakers>) -> Self {
        Self {
            leases: AtomicU32::new(0),
            waiting: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            not_before: AtomicU64::new(0),
            wakers,
        }
    }

    /// Takes a lease for one connection; false when `limit` of them are out.
    #[must_use]
    pub fn acquire(&self, limit: u32) -> bool {
        self.leases
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |out| (out < limit).then(|| out + 1))
            .is_ok()
    }

    /// Takes a lease, or notes that `worker` waits for one: it is woken when one is given back, and
    /// then asks again. Holders see [`Site::is_wanted`] and yield at their next message boundary.
    #[must_use]
    pub fn acquire_or_wait(&self, limit: u32, worker: u8) -> bool {
        if self.acquire(limit) {
            return true;
        }
        self.waiting.fetch_or(1 << worker, Ordering::AcqRel);
        // One may have come back between the two: whoever gave it did not see us wait.
        let acquired = self.acquire(limit);
        if acquired {
            self.stop_waiting(worker);
        }
        acquired
    }

    /// `worker` has nothing left for this site.
    pub fn stop_waiting(&self, worker: u8) {
        self.waiting.fetch_and(!(1 << worker), Ordering::AcqRel);
    }

    /// Another worker than `worker` waits for a lease.
    #[must_use]
    pub fn is_wanted(&self, worker: u8) -> bool {
        self.waiting.load(Ordering::Acquire) & !(1 << worker) != 0
    }

    /// Gives a lease of `worker`'s back, and wakes the next worker that waits for one, in turn.
    pub fn release(&self, worker: u8) {
        let before = self.leases.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "a lease is given back once");
        let next = self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| {
            next_after(waiting, worker).map(|next| waiting & !(1 << next))
        });
        if let Ok(waiting) = next
            && let Some(next) = next_after(waiting, worker)
        {
            self.wakers.wake(next);
        }
    }

    /// Leases that are out.
    #[must_use]
    pub fn leases(&self) -> u32 {
        self.leases.load(Ordering::Acquire)
    }

    /// The site answered as it should: whatever failed before is over.
    pub fn succeeded(&self) {
        // A store is worth avoiding: the line is shared by all workers, and success is the usual case.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Release);
        }
        if self.not_before.load(Ordering::Relaxed) != 0 {
            self.not_before.store(0, Ordering::Release);
        }
    }

    /// The site failed as a whole; gives the number of failures in a row, this one included, from
    /// which the caller computes when to try again and says so with [`Site::back_off`].
    pub fn failed(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1)
    }

    /// Nobody tries before `until`; the latest one asked for holds.
    pub fn back_off(&self, until: UnixMillis) {
        self.not_before.fetch_max(until.0, Ordering::AcqRel);
    }

    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Acquire)
    }

    /// The moment before which nobody tries; 0 when the site is well.
    #[must_use]
    pub fn not_before(&self) -> UnixMillis {
        UnixMillis(self.not_before.load(Ordering::Acquire))
    }
}

/// The waiting worker that comes after `worker` in the round; `worker` itself comes last.
fn next_after(waiting: u64, worker: u8) -> Option<u8> {
    if waiting == 0 {
        return None;
    }
    let turn = (u32::from(worker) + 1) % u64::BITS;
    Some(((waiting.rotate_right(turn).trailing_zeros() + turn) % u64::BITS) as u8)
}
