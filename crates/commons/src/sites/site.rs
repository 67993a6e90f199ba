use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use mail::{Reply, UnixMillis};

use crate::wakers::Wakers;

/// A destination site as all workers see it: its connection leases and its health.
///
/// The back-off is computed by the worker that saw the failure; here it is remembered, so that a
/// destination that is down is one fact and not one per worker or connection.
#[derive(Debug)]
pub struct Site {
    leases: AtomicU32,
    /// A bit for each worker that waits for a lease.
    waiting: AtomicU64,
    failure: ArcSwapOption<SiteFailure>,
    /// Queues in which mail waits for it while it fails.
    stalled: AtomicU32,
    /// Sites of the whole program for which mail waits while they fail.
    failing: Arc<AtomicUsize>,
    wakers: Arc<Wakers>,
}

/// What is wrong with a site that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteFailure {
    /// What it said last, or what happened to the connection in words of ours.
    pub reply: Reply,
    /// The next hop that was tried last, where one was.
    pub next_hop: Option<Box<str>>,
    /// The first failure of those in a row.
    pub since: UnixMillis,
    /// No connection is opened before.
    pub next_try: UnixMillis,
    /// How many there were in a row.
    pub failures: u32,
    /// A connection that was there before carries mail all the same; only new ones wait yet.
    is_over: bool,
}

impl SiteFailure {
    /// How long the site rests yet at `now`. A rest longer than `longest` was set before the wall clock
    /// was set back, and counts for nothing.
    #[must_use]
    pub fn rest(&self, now: UnixMillis, longest: Duration) -> Duration {
        let rest = Duration::from_millis(self.next_try.since(now));
        if rest <= longest { rest } else { Duration::ZERO }
    }
}

impl Site {
    pub(crate) fn new(wakers: Arc<Wakers>, failing: Arc<AtomicUsize>) -> Self {
        Self {
            leases: AtomicU32::new(0),
            waiting: AtomicU64::new(0),
            failure: ArcSwapOption::empty(),
            stalled: AtomicU32::new(0),
            failing,
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
        self.wait(worker);
        // One may have come back between the two: its giver did not see us wait.
        let acquired = self.acquire(limit);
        if acquired {
            self.stop_waiting(worker);
        }
        acquired
    }

    /// `worker` waits for a lease, without asking for one now.
    pub fn wait(&self, worker: u8) {
        self.waiting.fetch_or(1 << worker, Ordering::AcqRel);
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

    /// What is wrong with the site; `None` when mail goes out.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<SiteFailure>> {
        self.failure.load_full().filter(|failure| !failure.is_over)
    }

    /// How long no connection is to be opened yet; see [`SiteFailure::rest`].
    #[must_use]
    pub fn rest(&self, now: UnixMillis, longest: Duration) -> Duration {
        self.failure.load().as_ref().map_or(Duration::ZERO, |failure| failure.rest(now, longest))
    }

    /// The site failed as a whole, as `reply` says, and rests for `wait` of the number of failures in a
    /// row. A site that rests already has failed once, whatever number of connections sees it. Gives
    /// what is wrong now, and whether it is news.
    pub fn failed(
        &self,
        reply: &Reply,
        next_hop: Option<&str>,
        now: UnixMillis,
        longest: Duration,
        wait: impl Fn(u32) -> Duration,
    ) -> (Arc<SiteFailure>, bool) {
        loop {
            let known = self.failure.load_full();
            if let Some(known) = known.as_ref().filter(|known| !known.rest(now, longest).is_zero()) {
                return (known.clone(), false);
            }
            let failures = known.as_ref().map_or(0, |known| known.failures).saturating_add(1);
            let news = Arc::new(SiteFailure {
                reply: reply.clone(),
                next_hop: next_hop.map(Into::into),
                since: known.as_ref().filter(|known| !known.is_over).map_or(now, |known| known.since),
                next_try: now.plus(wait(failures).as_millis() as u64),
                failures,
                is_over: false,
            });
            let found = self.failure.compare_and_swap(&known, Some(news.clone()));
            if found.as_ref().map(Arc::as_ptr) == known.as_ref().map(Arc::as_ptr) {
                return (news, true);
            }
        }
    }

    /// A transaction came to its end: what failed before is over, and is given once. Until a rest is
    /// over no further connection is opened, but it is over after `shortest` now.
    pub fn succeeded(
        &self,
        now: UnixMillis,
        longest: Duration,
        shortest: Duration,
    ) -> Option<Arc<SiteFailure>> {
        // A store is worth avoiding: the line is shared by all workers, and success is the usual case.
        let known = self.failure.load_full()?;
        let rest = known.rest(now, longest);
        let left = if rest.is_zero() {
            None
        } else if known.is_over {
            return None;
        } else {
            let next_try = now.plus(rest.min(shortest).as_millis() as u64);
            Some(Arc::new(SiteFailure { next_try, failures: 0, is_over: true, ..(*known).clone() }))
        };
        let found = self.failure.compare_and_swap(&Some(known.clone()), left);
        let was_known = found.as_ref().is_some_and(|found| Arc::ptr_eq(found, &known));
        (was_known && !known.is_over).then_some(known)
    }

    /// Mail waits for it in one more queue while it fails.
    pub fn stall(&self) {
        if self.stalled.fetch_add(1, Ordering::AcqRel) == 0 {
            self.failing.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// In one of those queues no mail waits for it any more, or it works again.
    pub fn unstall(&self) {
        let before = self.stalled.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "what stalls ends once");
        if before == 1 {
            self.failing.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Ends the rest: an operator wants the site tried whatever failed there before.
    pub fn try_now(&self) {
        self.failure.rcu(|failure| {
            failure.as_deref().map(|failure| {
                Arc::new(SiteFailure { next_try: UnixMillis(0), failures: 0, ..failure.clone() })
            })
        });
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
