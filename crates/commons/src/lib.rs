//! What all workers share, and nothing else: the published [`Snapshot`], and
//!
//! - [`Limits`]: what limits count and whom they hold,
//! - the link: queues to and from the control plane ([`WorkerLink`], [`ControlLink`]),
//! - [`Sites`]: leases and health of destinations,
//! - [`Places`] and [`Unfinished`]: who holds connections and the bytes of unfinished messages.
//!
//! Everything here is an atomic, an immutable value behind an atomic pointer, or a bounded lock-free
//! queue: no call waits. A question that finds no room comes back to its asker, who tells its
//! client to come again. Nothing here knows who answers.

mod limits;
mod link;
mod places;
mod sites;
mod table;
mod wakers;

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use arc_swap::ArcSwap;
use crossbeam::queue::SegQueue;
use policy::Snapshot;

pub use limits::{
    Account, CONNECTION_COUNTS_MAX, Charged, ConnectionCounts, ConnectionLease, Contained, GRANTS_MAX,
    GRANTS_PER_ADDRESS_MAX, Grant, GrantedIdentities, Grants, INCIDENTS_MAX, Key, LOGIN_FAILURES_MAX,
    LOGIN_SUCCESSES_MAX, Limits, NoRoom, Over, RATES_MAX, Rate, RateTable, SUSPENSIONS_MAX, Sender, Subject,
    Suspension, Suspensions, TooManySuspensions, Use, machine,
};
pub use link::{
    Answer, CHECKS_MAX, ControlLink, DENIALS_MAX, DENIED_RECIPIENTS_MAX, Denial, ExchangeFailure, Exchanger,
    FAILING_SITES_MAX, FailingSite, Listing, Login, QUESTIONS_MAX, QUEUE_PAGE_MESSAGES_MAX,
    QUEUE_PAGE_RECIPIENTS_MAX, QUEUE_REQUESTS_MAX, Question, QueueAct, QueueActed, QueueAnswer, QueueBusy,
    QueuePage, QueuePageRequest, QueueRequest, QueueTask, QueuedMessage, QueuedRecipient, RecipientFinding,
    ResolveFailure, VERIFICATIONS_MAX, Verification, WorkerLink,
};
pub use places::{
    CONNECTIONS_PER_STRANGER, Hold, Holder, NoPlace, OverBudget, Place, Places, Shares, Unfinished,
};
pub use sites::{Site, SiteFailure, Sites};

use link::Link;
use wakers::Wakers;

/// Workers of one gateway at most: as many as the bits in which a site remembers who waits for it.
pub const WORKERS_MAX: usize = 64;

/// The room itself; one for the whole program, shared by reference.
pub struct Commons {
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Out of force, and held by transactions that began with them or by a worker that has not had
    /// its turn since: an idle one takes up the latest.
    retired: SegQueue<Arc<Snapshot>>,
    limits: Limits,
    sites: Sites,
    link: Link,
    states: Box<[AtomicU8]>,
    draining: AtomicBool,
}

impl Commons {
    /// The shared room of `workers` workers that begin with `snapshot`, their links in order, and
    /// the control plane's.
    ///
    /// # Panics
    /// Without workers, or with more than [`WORKERS_MAX`].
    #[must_use]
    pub fn new(workers: usize, snapshot: Snapshot) -> (Arc<Self>, Vec<WorkerLink>, ControlLink) {
        assert!((1..=WORKERS_MAX).contains(&workers), "between 1 and {WORKERS_MAX} workers");
        let wakers = Arc::new(Wakers::new(workers));
        let commons = Arc::new(Self {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            retired: SegQueue::new(),
            limits: Limits::default(),
            sites: Sites::new(wakers.clone()),
            link: Link::new(workers, wakers),
            states: (0..workers).map(|_| AtomicU8::new(WorkerState::Recovering as u8)).collect(),
            draining: AtomicBool::new(false),
        });
        let links = (0..workers).map(|worker| WorkerLink::new(commons.clone(), worker as u8)).collect();
        let control = ControlLink::new(commons.clone());
        (commons, links, control)
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.states.len()
    }

    /// The published configuration; a worker reads it through a [`SnapshotCache`] instead.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// A worker's own view of the published configuration.
    #[must_use]
    pub fn snapshot_cache(&self) -> SnapshotCache {
        SnapshotCache(arc_swap::Cache::new(self.snapshot.clone()))
    }

    /// Puts another configuration in force, between two commands of every session, and tells the
    /// workers. The one before stays allocated, even when its last user lets go of it, until
    /// [`Commons::free_retired`]: to free a million entries is no work for a worker.
    pub fn publish(&self, snapshot: Snapshot) {
        self.retired.push(self.snapshot.swap(Arc::new(snapshot)));
        self.tell_all(|| Answer::SnapshotChanged);
    }

    /// Frees the configurations that are not used any more, on the thread that calls; says how many
    /// are still in use.
    pub fn free_retired(&self) -> usize {
        let retired: Vec<_> = std::iter::from_fn(|| self.retired.pop()).collect();
        // Out of force and held by no other, it cannot come to be held again.
        for in_use in retired.into_iter().filter(|snapshot| Arc::strong_count(snapshot) > 1) {
            self.retired.push(in_use);
        }
        self.retired.len()
    }

    /// Asks every worker to end: no new mail, and what is under way comes to its end.
    pub fn drain(&self) {
        if !self.draining.swap(true, Ordering::AcqRel) {
            self.tell_all(|| Answer::Drain);
        }
    }

    /// True once [`Commons::drain`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// What limits count and hold, over all workers.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The destinations, as all workers see them.
    #[must_use]
    pub fn sites(&self) -> &Sites {
        &self.sites
    }

    /// Denials that cannot be looked up: there was no record for them.
    #[must_use]
    pub fn tickets_dropped(&self) -> u64 {
        self.link.denials_dropped()
    }

    /// What worker `worker` is about, for readiness.
    pub fn set_state(&self, worker: u8, state: WorkerState) {
        self.states[usize::from(worker)].store(state as u8, Ordering::Release);
    }

    /// What worker `worker` is about.
    #[must_use]
    pub fn state(&self, worker: u8) -> WorkerState {
        WorkerState::from_number(self.states[usize::from(worker)].load(Ordering::Acquire))
    }

    /// Whether mail is taken.
    ///
    /// # Errors
    /// Why it is not, the worst first.
    pub fn readiness(&self) -> Result<(), NotReady> {
        if self.is_draining() {
            Err(NotReady::Draining)
        } else if self.has_latched() {
            Err(NotReady::Latched)
        } else if self.is_any(WorkerState::Vanished) {
            Err(NotReady::Vanished)
        } else if self.is_any(WorkerState::Recovering) {
            Err(NotReady::Recovering)
        } else {
            Ok(())
        }
    }

    /// Whether a durable write of some worker failed, so that only a restart helps.
    #[must_use]
    pub fn has_latched(&self) -> bool {
        self.is_any(WorkerState::Latched)
    }

    fn is_any(&self, state: WorkerState) -> bool {
        self.states.iter().any(|worker| worker.load(Ordering::Acquire) == state as u8)
    }

    fn tell_all(&self, answer: impl Fn() -> Answer) {
        for worker in 0..self.workers() as u8 {
            self.link.tell(worker, answer());
        }
    }
}

impl fmt::Debug for Commons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commons").field("workers", &self.workers()).finish_non_exhaustive()
    }
}

/// A number that differs from start to start: what keeps strangers from choosing what meets in a table.
fn seed() -> u64 {
    std::hash::RandomState::new().hash_one(0)
}

/// A worker's view of the published configuration: a read costs one comparison while nothing changes.
pub struct SnapshotCache(arc_swap::Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>);

impl SnapshotCache {
    /// The configuration in force. A caller that needs it for longer than a command clones the `Arc`.
    pub fn load(&mut self) -> &Arc<Snapshot> {
        self.0.load()
    }
}

impl fmt::Debug for SnapshotCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotCache")
    }
}

/// What a worker is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WorkerState {
    /// Reading its shard; its listeners are not open yet.
    Recovering,
    /// Taking mail.
    Ready,
    /// Its shard's storage failed: it takes no mail until a restart recovers it.
    Latched,
    /// Files of its shards bear their names no longer: it takes no mail until they do, and delivers what it has.
    Vanished,
}

impl WorkerState {
    fn from_number(number: u8) -> Self {
        [Self::Recovering, Self::Ready, Self::Latched, Self::Vanished][usize::from(number)]
    }

    /// The word for it in `status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recovering => "recovering",
            Self::Ready => "ready",
            Self::Latched => "latched",
            Self::Vanished => "vanished",
        }
    }
}

/// Why the gateway takes no mail now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// The spool is being read.
    Recovering,
    /// The spool's storage failed.
    Latched,
    /// The spool's files were deleted, replaced, renamed or unmounted.
    Vanished,
    /// It was asked to end.
    Draining,
}

impl NotReady {
    /// The word for it in `/readyz`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recovering => "recovering",
            Self::Latched => "latched",
            Self::Vanished => "vanished",
            Self::Draining => "draining",
        }
    }
}

#[cfg(test)]
mod tests;
