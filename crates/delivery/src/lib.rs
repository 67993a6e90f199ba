//! Mail out: connections, attempts, outcomes and bounces of one worker. The shell around the [`scheduler`].
//!
//! The scheduler says what is next, in numbers; here are the names, sockets, bytes and texts to these.
//!
//! ```text
//! spool, ring, DNS, operator ──▶ what happened ──▶ Schedule::tell ──▶ scheduler
//!                                                                       │
//!           sockets, spool, DNS ◀── Delivery::act ◀── Delivery::work ◀──┘ poll
//! ```
//!
//! Whatever happens is told, and does nothing else of itself; `Delivery::work` is the one loop that does what the
//! scheduler says to it, until that has nothing more to say and no session has. What a destination answers is in the
//! spool's log at once, a bounce in the same group as the outcome that causes it. A site that is down is one
//! fact with one back-off. Nothing is given up before its time: whatever fails here for reasons of
//! our own is tried again. No I/O but through the ring.

mod addresses;
mod connection;
mod connections;
mod desk;
mod dsn;
mod events;
mod exchange;
mod fit;
mod intake;
mod operator;
mod outcome;
mod replies;
mod report;
mod routes;
mod schedule;
mod site;
mod tasks;
mod tls;
mod transaction;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use commons::{MxFailure, MxHost, ResolveFailure, SnapshotCache, WorkerLink};
use mail::{QueueState, Reply, Status, UnixMillis};
use observe::{EventLog, WorkerMetrics};
use ring::{Completion, Handle, Instant, Ring};
use scheduler::{Action, DomainIx};
use spool::{Event, LoadError, MessageKey, Recovered, Spool, StoredMessage};

pub use events::EVENTS;
pub use scheduler::{MESSAGE_BYTES_MAX, RECIPIENT_BYTES_MAX, Retry};
pub use tls::ClientTlsConfigs;

use connections::Connections;
use desk::{Desk, Load};
use operator::Operator;

// With what the spool keeps, a queued message stays within 128 bytes, and so does each recipient (DESIGN.md S7).
const _: () = assert!(MESSAGE_BYTES_MAX + spool::MEMORY_PER_MESSAGE_BYTES_MAX <= 128);
const _: () = assert!(RECIPIENT_BYTES_MAX <= 128);

/// The room number of delivery in a [`ring::Token`].
pub const ROOM: u8 = 3;

/// Timers are this coarse: the shortest of them is a retry after seconds.
const TICK: Duration = Duration::from_millis(100);

/// What the scheduler has to do at once takes so many of its turns in one of ours.
const TICKS_PER_TURN_MAX: usize = 64;

/// What delivery is told at the start.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// Our name, in EHLO and in bounces.
    pub hostname: Arc<str>,
    /// The worker's number, which is its shard's too.
    pub worker: u8,
    /// When to try again and when to give up.
    pub retry: Retry,
    /// How to speak TLS to next hops.
    pub tls: ClientTlsConfigs,
    /// Connections of this worker at once, all sites together: what its descriptors allow.
    pub connections_max: usize,
    /// Hosts that MX records name are connected to wherever they lie, in private networks too.
    pub private_destinations: bool,
    /// Random: strangers who choose names do not choose where these meet in a table.
    pub seed: u64,
}

/// The rooms that a turn of delivery works with.
pub struct Context<'a, R> {
    /// The worker's ring.
    pub ring: &'a mut R,
    /// The worker's shard.
    pub spool: &'a mut Spool,
    /// The way to the control plane, and to what all workers share.
    pub link: &'a WorkerLink,
    /// The published configuration.
    pub snapshots: &'a mut SnapshotCache,
    /// The worker's counters.
    pub metrics: &'a WorkerMetrics,
    /// The worker's log.
    pub log: &'a mut EventLog,
}

impl<R: Ring> Context<'_, R> {
    fn unix_now(&self) -> UnixMillis {
        UnixMillis(self.ring.unix_millis())
    }

    fn random(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.ring.random(&mut bytes);
        u32::from_le_bytes(bytes)
    }
}

/// All that goes out from one worker.
#[derive(Debug)]
pub struct Delivery {
    desk: Desk,
    connections: Connections,
    operator: Operator,
    /// The spool takes nothing more: outcomes that wait for it wait for the next life of the shard.
    is_latched: bool,
}

impl Delivery {
    /// A delivery with nothing to do.
    #[must_use]
    pub fn new(settings: DeliverySettings) -> Self {
        Self {
            desk: Desk::new(settings),
            connections: Connections::new(),
            operator: Operator::default(),
            is_latched: false,
        }
    }

    /// Takes up a message that has become durable, a bounce of ours too.
    pub fn enqueue<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: MessageKey, message: StoredMessage) {
        self.desk.committed(cx, key, &message);
        self.work(cx);
    }

    /// Takes up what a former life of the shard left.
    pub fn recovered<R: Ring>(&mut self, cx: &mut Context<'_, R>, recovered: &Recovered) {
        self.desk.recovered(cx, recovered);
        self.work(cx);
    }

    /// Takes a completion of this room's.
    pub fn complete<R: Ring>(&mut self, cx: &mut Context<'_, R>, completion: Completion) {
        self.connections.complete(cx, &mut self.desk, completion);
        self.work(cx);
    }

    /// Takes an event of the spool's that answers a request of this room's ([`Event::Loaded`],
    /// [`Event::Piece`], [`Event::PieceFailed`]), or says that there is room again ([`Event::Room`],
    /// [`Event::Returned`]) or never will be; the others are none of its business.
    pub fn spool_event<R: Ring>(&mut self, cx: &mut Context<'_, R>, event: Event) {
        let Self { desk, connections, .. } = self;
        match event {
            Event::Loaded { request, result } => self.loaded(cx, request, result),
            Event::Piece { request, buffer, range, last } => {
                connections.piece(cx, desk, request, (buffer, range, last));
            }
            Event::PieceFailed { request, error } => connections.piece_failed(cx, desk, request, &error),
            Event::Room | Event::Returned => desk.settle_stranded(cx),
            // What is sent from now on could not be noted, and would be sent again after the restart.
            Event::Latched { .. } => {
                self.is_latched = true;
                desk.schedule.tell(cx, scheduler::Event::Drain);
            }
            _ => {}
        }
        self.work(cx);
    }

    /// The spool has read a message, or cannot.
    fn loaded<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        request: Handle,
        result: Result<StoredMessage, LoadError>,
    ) {
        match self.desk.loads.remove(request) {
            Some(Load::Attempt(connection)) => self.connections.begin(cx, &mut self.desk, connection, result),
            Some(Load::Task(task, job)) => self.desk.task_loaded(cx, task, job, result),
            Some(Load::Body(_)) | None => {}
        }
    }

    /// The resolver's answer to question `key`: addresses for `ttl`, or why there are none.
    pub fn resolved<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: u32,
        result: Result<Vec<IpAddr>, ResolveFailure>,
        ttl: Duration,
    ) {
        self.connections.resolved(key, result, ttl, cx.ring.now());
        self.work(cx);
    }

    /// The resolver's answer to the question of domain `key`: the hosts that take its mail for
    /// `ttl`, or why there are none.
    pub fn mx_hosts<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: u32,
        result: Result<Vec<MxHost>, MxFailure>,
        ttl: Duration,
    ) {
        self.desk.hosts_found(cx, DomainIx(key), result, ttl);
        self.work(cx);
    }

    /// Does what is due, and offers the spool again what it was too busy to take.
    pub fn tick<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        let Self { desk, connections, operator, .. } = self;
        let now = cx.ring.now();
        desk.settle_again(cx);
        if cx.link.lease_came_free() {
            desk.schedule.tell(cx, scheduler::Event::LeaseFree);
        }
        connections.look_at_deadlines(cx, desk);
        for _ in 0..TICKS_PER_TURN_MAX {
            if desk.schedule.next_deadline().is_none_or(|at| at > now) {
                break;
            }
            desk.schedule.tell(cx, scheduler::Event::Tick);
        }
        operator.operate(cx, desk);
        self.work(cx);
        report::queue(cx.metrics, self.desk.schedule.view());
        cx.metrics.set_quarantined(self.quarantined_messages());
    }

    /// Begins no more: what is under way is finished, the rest stays in the spool.
    pub fn drain<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        self.desk.schedule.tell(cx, scheduler::Event::Drain);
        self.work(cx);
    }

    /// No connection is open, nothing is being read and no outcome waits for the spool.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let is_settled = self.is_latched || self.desk.outcomes.are_settled();
        self.connections.all.is_empty() && self.desk.loads.is_empty() && is_settled
    }

    /// A recipient is being tried, is due, or may be until then.
    #[must_use]
    pub fn has_work_before(&self, until: Instant) -> bool {
        let view = self.desk.schedule.view();
        let comes = view.recipients_in(QueueState::Deferred) > 0
            && self.next_deadline().is_some_and(|deadline| deadline <= until);
        view.recipients_due() > 0 || view.recipients_in(QueueState::Active) > 0 || comes
    }

    /// Messages that have a recipient without an outcome.
    #[must_use]
    pub fn queued_messages(&self) -> usize {
        self.desk.schedule.view().message_count() as usize
    }

    /// Those of them that are damaged and will not be tried.
    #[must_use]
    pub fn quarantined_messages(&self) -> u64 {
        self.desk.quarantined.len() as u64
    }

    /// Sites that are known: those with mail or a connection, and of late.
    #[must_use]
    pub fn site_count(&self) -> usize {
        self.desk.schedule.view().site_count() as usize
    }

    /// When [`Delivery::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.operator.goes_on() {
            return Some(Instant::default());
        }
        let Desk { schedule, outcomes, .. } = &self.desk;
        let deadlines =
            [schedule.next_deadline(), outcomes.next_deadline(), self.connections.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Does what the scheduler says, and lets sessions speak, until none of them has anything to say.
    fn work<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        loop {
            if let Some(action) = self.desk.schedule.poll() {
                self.act(cx, action);
            } else if let Some(connection) = self.connections.busy.pop_front() {
                self.connections.converse(cx, &mut self.desk, connection);
            } else {
                return;
            }
        }
    }

    /// Does one thing that the scheduler says.
    fn act<R: Ring>(&mut self, cx: &mut Context<'_, R>, action: Action) {
        let Self { desk, connections, .. } = self;
        match action {
            Action::Learn(site) => desk.learn(cx, site),
            Action::Forget(site) => desk.forget(site),
            Action::ForgetDomain(domain) => drop(desk.refusals.remove(&domain)),
            Action::Resolve(domain) => desk.ask_hosts(cx, domain),
            Action::Lease(site) => desk.lease(cx, site),
            Action::ReturnLease(site) => desk.release_lease(cx, site),
            Action::StopWaiting(site) => desk.site(site).shared.stop_waiting(desk.settings.worker),
            Action::Open(connection, site) => connections.open(cx, desk, connection, site),
            Action::TryNext(connection) => connections.connect(cx, desk, connections.handle(connection)),
            Action::GiveUp(connection) => connections.give_up(cx, desk, connections.handle(connection)),
            Action::Start(connection, job) => {
                connections.start(cx, desk, connections.handle(connection), job);
            }
            Action::Quit(connection) => connections.quit(cx, desk, connections.handle(connection)),
            Action::Run(task, job) => desk.run(cx, task, job),
            Action::Deferred { job, until, attempts } => desk.note_deferred(cx, job, until, attempts),
            Action::Stalled(site) => desk.site(site).shared.stall(),
            Action::Unstalled(site) => desk.site(site).shared.unstall(),
        }
    }
}

/// A reply of our own making, where a destination gave none.
fn own_reply(detail: u16, text: impl std::fmt::Display) -> Reply {
    Reply::new(451, Some(Status::new(4, 4, detail)), text)
}
