//! What all workers share, and nothing else: the published [`Snapshot`], the leases and health of
//! destination sites, the places for connections and who holds them, the grants of mailbox logins, what is
//! left of limits, who is suspended, the denials of which tickets are kept, and the queues to and from the
//! control plane.
//!
//! Everything here is an atomic, an immutable value behind an atomic pointer, or a bounded lock-free
//! queue: no call waits. A question that finds no room comes back to its asker, who tells its
//! client to come again. Nothing here knows who answers.

mod account;
mod containment;
mod counts;
mod denials;
mod finding;
mod grants;
mod link;
mod machine;
mod places;
mod queue;
mod rates;
mod shares;
mod site;
mod suspensions;
mod table;
mod tenants;
mod unfinished;

use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use crossbeam::queue::SegQueue;
use policy::{Snapshot, TenantIx, Whom};
use ring::Waker;

pub use account::{Account, Over, Use};
pub use containment::{Contained, Sender};
pub use counts::ConnectionCounts;
pub use denials::{DENIALS_MAX, DENIED_RECIPIENTS_MAX, Denial};
pub use finding::{ExchangeFailure, Exchanger, Listing, RecipientFinding};
pub use grants::{GRANTS_MAX, GRANTS_PER_ADDRESS_MAX, Grant, GrantedIdentities, Grants, NoRoom};
pub use link::{
    Answer, CHECKS_MAX, ControlLink, Login, QUESTIONS_MAX, Question, ResolveFailure, VERIFICATIONS_MAX,
    Verification, WorkerLink,
};
pub use machine::machine;
pub use places::{CONNECTIONS_PER_STRANGER, NoPlace, Place, Places};
pub use queue::{
    FAILING_SITES_MAX, FailingSite, QUEUE_PAGE_MESSAGES_MAX, QUEUE_PAGE_RECIPIENTS_MAX, QUEUE_REQUESTS_MAX,
    QueueAct, QueueActed, QueueAnswer, QueueBusy, QueuePage, QueuePageRequest, QueueRequest, QueueTask,
    QueuedMessage, QueuedRecipient,
};
pub use rates::{Rate, RateTable};
pub use shares::{Holder, Shares};
pub use site::{Site, SiteFailure};
pub use suspensions::{SUSPENSIONS_MAX, Subject, Suspension, Suspensions, TooManySuspensions};
pub use tenants::ConnectionLease;
pub use unfinished::{Hold, OverBudget, Unfinished};

use denials::Denials;
use link::Queues;
use queue::QueueDesk;
use table::Table;
use tenants::Connections;

/// Workers of one gateway at most: as many as the bits in which a site remembers who waits for it.
pub const WORKERS_MAX: usize = 64;

/// Limits that were charged and have not rested since, at most, before those nearest to free are
/// forgotten: 4 MiB, and a dozen limits of each of 20,000 busy senders.
pub const RATES_MAX: usize = 1 << 18;

/// Logins, networks and addresses whose connections are counted at the same time: 1 MiB.
pub const CONNECTION_COUNTS_MAX: usize = 1 << 17;

/// Addresses and logins whose last login failed, before those nearest to free are forgotten: 1 MiB.
/// Apart from the others, so that an army of guessers displaces only guessers.
pub const LOGIN_FAILURES_MAX: usize = 1 << 16;

/// Pairs of an address and a login that succeeded within a day, before those nearest to the end of it
/// are forgotten: 1 MiB.
pub const LOGIN_SUCCESSES_MAX: usize = 1 << 16;

/// Senders whose denials, bounces and failed logins are counted, before those with the fewest are
/// forgotten: 256 KiB.
pub const INCIDENTS_MAX: usize = 1 << 14;

/// The room itself; one for the whole program, shared by reference.
pub struct Commons {
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Out of force, and held by transactions that began with them or by a worker that has not had
    /// its turn since: an idle one takes up the latest.
    retired: SegQueue<Arc<Snapshot>>,
    sites: Table<Site>,
    failing_site_count: Arc<AtomicUsize>,
    connections: Table<Connections>,
    denials: Denials,
    grants: Grants,
    connection_counts: Arc<ConnectionCounts>,
    rates: RateTable,
    login_failures: RateTable,
    login_successes: RateTable,
    incidents: RateTable,
    suspensions: Suspensions,
    queues: Queues,
    desk: QueueDesk,
    wakers: Arc<Wakers>,
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
        let commons = Arc::new(Self {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            retired: SegQueue::new(),
            sites: Table::default(),
            failing_site_count: Arc::default(),
            connections: Table::default(),
            denials: Denials::default(),
            grants: Grants::default(),
            connection_counts: Arc::new(ConnectionCounts::new(CONNECTION_COUNTS_MAX)),
            rates: RateTable::new(RATES_MAX, seed()),
            login_failures: RateTable::new(LOGIN_FAILURES_MAX, seed()),
            login_successes: RateTable::new(LOGIN_SUCCESSES_MAX, seed()),
            incidents: RateTable::new(INCIDENTS_MAX, seed()),
            suspensions: Suspensions::default(),
            queues: Queues::new(workers),
            desk: QueueDesk::new(workers),
            wakers: Arc::new(Wakers::new(workers)),
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

    /// The site of this key, made when it is asked for the first time.
    #[must_use]
    pub fn site(&self, key: &str) -> Arc<Site> {
        self.sites.get_or_insert(key, || Site::new(self.wakers.clone(), self.failing_site_count.clone()))
    }

    /// Sites for which mail waits while they fail, each counted once.
    #[must_use]
    pub fn failing_site_count(&self) -> usize {
        self.failing_site_count.load(Ordering::Acquire)
    }

    /// The sites that fail, by key, with what is wrong. One for which no mail waits any more may be
    /// among them, as it was when it was last tried. No work for a worker.
    #[must_use]
    pub fn failing_sites(&self) -> Vec<(Box<str>, Arc<SiteFailure>)> {
        let mut failing = self.sites.filter_map(Site::failure);
        failing.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        failing
    }

    /// Counts a connection for its tenant; `None` at the tenant's limit. A stranger's connection
    /// (no tenant) counts for none and always passes here.
    #[must_use]
    pub fn connect_tenant(&self, snapshot: &Snapshot, tenant: Option<TenantIx>) -> Option<ConnectionLease> {
        let Some(tenant) = tenant else { return Some(ConnectionLease::nobody()) };
        let tenant = snapshot.tenant(tenant);
        self.connections
            .get_or_insert(&tenant.name, Connections::default)
            .take(tenant.limits.allowance(Whom::Tenant).connections_max)
    }

    /// What mailbox logins have opened: the control plane writes, workers read.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Connections at the same time of logins, networks and addresses, by [`RateTable::key`].
    #[must_use]
    pub fn connection_counts(&self) -> &Arc<ConnectionCounts> {
        &self.connection_counts
    }

    /// What limits were charged: messages, recipients, bytes, connections.
    #[must_use]
    pub fn rates(&self) -> &RateTable {
        &self.rates
    }

    /// What failed logins were charged.
    #[must_use]
    pub fn login_failures(&self) -> &RateTable {
        &self.login_failures
    }

    /// From where logins succeeded, as charges that flow off.
    #[must_use]
    pub fn login_successes(&self) -> &RateTable {
        &self.login_successes
    }

    /// What senders were charged for denials, bounces and failed logins.
    pub(crate) fn incidents(&self) -> &RateTable {
        &self.incidents
    }

    /// Who is suspended.
    #[must_use]
    pub fn suspensions(&self) -> &Suspensions {
        &self.suspensions
    }

    /// Denials that cannot be looked up: there was no record for them.
    #[must_use]
    pub fn tickets_dropped(&self) -> u64 {
        self.denials.dropped()
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
            self.queues.tell(worker, answer());
            self.wakers.wake(worker);
        }
    }
}

impl fmt::Debug for Commons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commons").field("workers", &self.workers()).finish_non_exhaustive()
    }
}

/// What keeps strangers from choosing keys that meet in one set of a table.
fn seed() -> [u64; 2] {
    let state = std::hash::RandomState::new();
    [state.hash_one(0), state.hash_one(1)]
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

/// The wake-ups of all planes, known once their threads run.
#[derive(Debug)]
pub(crate) struct Wakers {
    workers: Box<[OnceLock<Waker>]>,
    /// Of each worker: a lease came back for which it waited, and it has not looked since.
    leases_free: Box<[AtomicBool]>,
    control: OnceLock<Waker>,
    tickets: OnceLock<Waker>,
}

impl Wakers {
    fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| OnceLock::new()).collect(),
            leases_free: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            control: OnceLock::new(),
            tickets: OnceLock::new(),
        }
    }

    /// A lease came back for which a worker waits: wakes it.
    pub(crate) fn lease_free(&self, worker: u8) {
        self.leases_free[usize::from(worker)].store(true, Ordering::Release);
        self.wake(worker);
    }

    /// Wakes a worker; one that has not attached yet looks at its queue when it does.
    pub(crate) fn wake(&self, worker: u8) {
        if let Some(waker) = self.workers[usize::from(worker)].get() {
            waker.wake();
        }
    }

    fn wake_tickets(&self) {
        if let Some(waker) = self.tickets.get() {
            waker.wake();
        }
    }

    fn wake_control(&self) {
        if let Some(waker) = self.control.get() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests;
