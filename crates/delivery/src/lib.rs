//! Mail out: schedule, connections, attempts, outcomes and bounces of one worker.
//!
//! Recipients of a message are grouped by the site that their route, or their domain's MX records,
//! lead to; each group waits as a job for a connection, and a connection for a lease. What a destination answers is in the spool's log
//! at once, a bounce in the same group as the outcome that causes it. A site that is down is one
//! fact with one back-off. Nothing is given up before its time: whatever fails here for reasons of
//! our own is tried again. No I/O but through the ring.

mod addresses;
mod ages;
mod connection;
mod connections;
mod dsn;
mod events;
mod exchange;
mod fit;
mod operator;
mod outcome;
mod queue;
mod replies;
mod report;
mod schedule;
mod site;
mod tally;
mod tls;
mod transaction;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use commons::{ExchangeFailure, Exchanger, ResolveFailure, SnapshotCache, WorkerLink};
use mail::{LastReply, Reply, UnixMillis};
use observe::{EventLog, WorkerMetrics};
use ring::{Arena, Completion, Handle, Instant, Ring, Wheel};
use spool::{Event, MessageKey, Recovered, Spool, StoredMessage};

pub use events::EVENTS;
pub use queue::{MESSAGE_BYTES_MAX, RECIPIENT_BYTES_MAX};
pub use scheduler::Retry;
pub use tls::ClientTlsConfigs;

use addresses::Addresses;
use connection::Connection;
use operator::Operation;
use outcome::Settlement;
use queue::{JobIx, Queue, SiteIx, State};
use schedule::{Errand, Load};
use site::Sites;

/// The room number of delivery in a [`ring::Token`].
pub const ROOM: u8 = 3;

/// Timers are this coarse: the shortest of them is a retry after seconds.
const TICK: Duration = Duration::from_millis(100);

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

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
enum Timer {
    /// Look at the deadline of the connection in this place. Its timer goes with it, so that the place is enough.
    Connection(u32),
    /// A deferred job is due.
    Job(JobIx),
    /// A site's back-off is over, or a lease may be free.
    Site(SiteIx),
    /// Offer outcomes to the spool again.
    Outcomes,
}

/// All that goes out from one worker.
#[derive(Debug)]
pub struct Delivery {
    settings: DeliverySettings,
    queue: Queue,
    sites: Sites,
    addresses: Addresses,
    connections: Arena<Box<Connection>>,
    wheel: Wheel<Timer>,
    loads: Arena<Load>,
    errands: VecDeque<Errand>,
    errands_loading: usize,
    /// Outcomes that the spool was too busy to take.
    unsettled: VecDeque<Settlement>,
    /// Those whose bounce has no place while the spool's files have vanished.
    stranded: Vec<Settlement>,
    /// Connections whose session may have something to say.
    busy: VecDeque<Handle>,
    id_counter: Option<u32>,
    draining: bool,
    /// What an operator wants, while it is being done.
    operation: Option<Operation>,
    /// Jobs that are being read to be bounced by an operator, and what he says of it.
    bouncing: usize,
    bounce_reason: Box<str>,
    /// Messages that are damaged.
    quarantined: u64,
    /// The spool takes nothing more: outcomes that wait for it wait for the next life of the shard.
    latched: bool,
    /// Buffers that are used again: recipients being grouped, indexes, outcomes.
    grouping: Vec<(SiteIx, u16)>,
    indexes: Vec<u16>,
    outcomes: Vec<(u16, spool::Outcome)>,
    last_replies: Vec<LastReply>,
}

impl Delivery {
    /// A delivery with nothing to do.
    #[must_use]
    pub fn new(settings: DeliverySettings) -> Self {
        Self {
            settings,
            queue: Queue::default(),
            sites: Sites::default(),
            addresses: Addresses::default(),
            connections: Arena::default(),
            wheel: Wheel::new(TICK),
            loads: Arena::default(),
            errands: VecDeque::new(),
            errands_loading: 0,
            unsettled: VecDeque::new(),
            stranded: Vec::new(),
            busy: VecDeque::new(),
            id_counter: None,
            draining: false,
            operation: None,
            bouncing: 0,
            bounce_reason: Box::default(),
            quarantined: 0,
            latched: false,
            grouping: Vec::new(),
            indexes: Vec::new(),
            outcomes: Vec::new(),
            last_replies: Vec::new(),
        }
    }

    /// Takes up a message that has become durable, a bounce of ours too.
    pub fn enqueue<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: MessageKey, message: StoredMessage) {
        let pending = message.recipient_count();
        let queued = self.queue.add_message(key, message.arrived(), pending as u32);
        self.indexes.clear();
        self.indexes.extend(0..u16::try_from(pending).expect("the spool numbers recipients with 16 bits"));
        self.group(cx, queued, &message, 0);
        self.work(cx);
    }

    /// Takes up what a former life of the shard left. Its mail is read and sorted little by little.
    pub fn recovered<R: Ring>(&mut self, cx: &mut Context<'_, R>, recovered: &Recovered) {
        self.take_up(cx, recovered);
        self.run_errands(cx);
    }

    /// Takes a completion of this room's.
    pub fn complete<R: Ring>(&mut self, cx: &mut Context<'_, R>, completion: Completion) {
        self.connection_completion(cx, completion);
        self.work(cx);
    }

    /// Takes an event of the spool's that answers a request of this room's ([`Event::Loaded`],
    /// [`Event::Piece`], [`Event::PieceFailed`]), or says that there is room again ([`Event::Room`],
    /// [`Event::Returned`]) or never will be; the others are none of its business.
    pub fn spool_event<R: Ring>(&mut self, cx: &mut Context<'_, R>, event: Event) {
        match event {
            Event::Loaded { request, result } => self.loaded(cx, request, result),
            Event::Piece { request, buffer, range, last } => self.piece(cx, request, buffer, range, last),
            Event::PieceFailed { request, error } => self.piece_failed(cx, request, &error),
            Event::Room | Event::Returned => self.settle_stranded(cx),
            // What is sent from now on could not be noted, and would be sent again after the restart.
            Event::Latched { .. } => {
                self.latched = true;
                self.draining = true;
                self.close_unused(cx);
            }
            _ => {}
        }
        self.work(cx);
    }

    /// The resolver's answer to question `key`: addresses for `ttl`, or why there are none.
    pub fn resolved<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: u32,
        result: Result<Vec<IpAddr>, ResolveFailure>,
        ttl: Duration,
    ) {
        self.addresses.answered(key, result, ttl, cx.ring.now());
        self.connect_resolved(cx, key);
        self.work(cx);
    }

    /// The resolver's answer to the question of site `key`: the hosts that take its domain's mail for
    /// `ttl`, or why there are none.
    pub fn exchangers<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: u32,
        result: Result<Vec<Exchanger>, ExchangeFailure>,
        ttl: Duration,
    ) {
        self.exchangers_found(cx, SiteIx(key), result, ttl);
        self.work(cx);
    }

    /// Fires what is due, and offers the spool again what it was too busy to take.
    pub fn tick<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        let now = cx.ring.now();
        self.settle_again(cx);
        self.serve_starved(cx);
        while let Some(timer) = self.wheel.expired(now) {
            match timer {
                Timer::Connection(connection) => self.check_deadline(cx, connection, now),
                Timer::Job(job) => self.job_due(cx, job),
                Timer::Site(site) => self.site_due(cx, site),
                // Was done above; an outcome that still waits has set another timer.
                Timer::Outcomes => {}
            }
        }
        self.operate(cx);
        self.work(cx);
        report::queue(cx.metrics, &self.queue);
        cx.metrics.set_quarantined(self.quarantined);
    }

    /// Begins no more: what is under way is finished, the rest stays in the spool.
    pub fn drain<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        self.draining = true;
        self.close_unused(cx);
        self.work(cx);
    }

    /// No connection is open, nothing is being read and no outcome waits for the spool.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.connections.is_empty() && self.loads.is_empty() && (self.latched || self.unsettled.is_empty())
    }

    /// A recipient is being tried, is due, or may be until then.
    #[must_use]
    pub fn has_work_before(&self, until: Instant) -> bool {
        let is_due = |state| self.queue.recipients_in(state) > 0;
        let comes = self.queue.recipients_in(State::Deferred) > 0
            && self.next_deadline().is_some_and(|deadline| deadline <= until);
        is_due(State::Ready) || is_due(State::Active) || comes
    }

    /// Messages that have a recipient without an outcome.
    #[must_use]
    pub fn queued_messages(&self) -> usize {
        self.queue.message_count()
    }

    /// Those of them that are damaged and will not be tried.
    #[must_use]
    pub fn quarantined_messages(&self) -> u64 {
        self.quarantined
    }

    /// Sites that are known: those of routes, and domains with mail or of late.
    #[must_use]
    pub fn site_count(&self) -> usize {
        self.sites.count()
    }

    /// When [`Delivery::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.operation.as_ref().is_some_and(Operation::goes_on) {
            Some(Instant::default())
        } else {
            self.wheel.next()
        }
    }

    /// Lets sessions speak until none has anything to say.
    fn work<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        while let Some(connection) = self.busy.pop_front() {
            self.converse(cx, connection);
        }
    }

    /// A reply of our own making, where a destination gave none.
    fn own_reply(detail: u16, text: impl std::fmt::Display) -> Reply {
        Reply::new(451, Some(mail::Status::new(4, 4, detail)), text)
    }
}
