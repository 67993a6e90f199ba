//! Mail in: listeners, connections, admission and back-pressure of one worker.
//!
//! Each connection joins a sans-I/O SMTP session to the ring and to the handler, which asks `policy` and
//! hands what is accepted to the spool. Nothing is answered 250 before the spool says that it is
//! durable. A peer costs bounded memory: it is not read from while its session waits, while its
//! output is not taken, or while the spool is behind; and bounded time and places: see `seats`. Fails towards
//! the client with 421, 451 or 452, never silently.

mod connection;
mod connections;
mod events;
mod findings;
mod folds;
mod guesses;
mod handler;
mod headers;
mod leases;
mod refusal;
mod seats;
mod shed;
mod transaction;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use commons::{Places, SnapshotCache, Unfinished, WorkerLink};
use mail::{Reason, Reply, Status, UnixMillis};
use observe::{EventLog, WorkerMetrics};
use ring::{Arena, Completion, Handle, Instant, ListenOptions, Listener, Ring, Token, Wheel};
use spool::Spool;

pub use events::EVENTS;
pub use handler::proxy::Peers;

use connection::Connection;
use events::Accepted;
use findings::Findings;
use folds::{Folds, Pen};
use handler::Shared;
use seats::Seats;
use transaction::Transaction;

pub use handler::login::LoginSettings;

/// The room number of ingress in a [`Token`].
pub const ROOM: u8 = 1;

/// Connections of one listener that wait to be accepted, where descriptors suffice for so many at once.
pub const BACKLOG: u32 = 1024;

const LISTENER: u8 = 0;
const RECEIVE: u8 = 1;
const SEND: u8 = 2;

/// Timers are this coarse: a timeout of minutes needs no better.
const TICK: Duration = Duration::from_millis(250);
/// Between two tellings of how often tickets were given again: they are given again within a second.
const REPEATED_INTERVAL: Duration = Duration::from_secs(1);

/// What ingress is told at the start.
pub struct Settings {
    /// Our name, in greetings and trace fields.
    pub hostname: Arc<str>,
    /// The worker's number, which is its shard's too.
    pub worker: u8,
    /// Places for connections, common to all workers.
    pub places: Arc<Places>,
    /// Connections of this worker without a place that are being told so: past it none is accepted until some have
    /// gone. A few descriptors, in hand for them.
    pub leaving_max: usize,
    /// Connections of one listener that wait to be accepted.
    pub backlog: u32,
    /// Whom a denied sender may write to.
    pub contact: Option<Box<str>>,
    /// The port on which a stranger may log in.
    pub submission_port: Option<u16>,
    /// Where tickets can be looked up.
    pub public_url: Option<Box<str>>,
    /// Peers that speak for others.
    pub peers: Peers,
    /// How logins are taken.
    pub login: LoginSettings,
    /// Whether there are DNS lists on which strangers are looked up.
    pub dns_lists: bool,
    /// What large messages may hold before they are queued; common to all workers.
    pub unfinished: Arc<Unfinished>,
    /// The listeners, in the order of the configuration.
    pub listeners: Vec<ListenerSettings>,
}

/// One listener.
pub struct ListenerSettings {
    /// Its role, as policy sees it.
    pub policy: policy::Listener,
    /// Its sessions' settings.
    pub session: Arc<smtp::server::Settings>,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The rooms that a turn of ingress works with.
pub struct Context<'a, R> {
    /// The worker's ring.
    pub ring: &'a mut R,
    /// The worker's shard.
    pub spool: &'a mut Spool,
    /// The way to the control plane.
    pub link: &'a WorkerLink,
    /// The published configuration.
    pub snapshots: &'a mut SnapshotCache,
    /// The worker's counters.
    pub metrics: &'a WorkerMetrics,
    /// The worker's log.
    pub log: &'a mut EventLog,
}

impl<R: Ring> Context<'_, R> {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.ring.unix_millis())
    }

    fn pen(&mut self) -> Pen<'_> {
        Pen { now: self.ring.now(), unix_now: UnixMillis(self.ring.unix_millis()), log: self.log }
    }
}

/// All that comes in at one worker.
pub struct Ingress {
    shared: Shared,
    listeners: Vec<Listener>,
    connections: Arena<Box<Connection>>,
    /// Received bytes on their way into a session; one buffer for all.
    scratch: Vec<u8>,
    reply: Reply,
    wheel: Wheel<Timer>,
    /// Those whose recipients are all refused, in the order of their turns.
    yielding: VecDeque<Handle>,
    /// Recipients in vain that may still be looked at in this turn.
    allowance: u32,
    /// [`Timer::Places`] is set.
    watches_places: bool,
    /// When the records of tickets that were given again are to be told of it.
    repeated_due: Option<Instant>,
    /// The first connection that has not been asked to take up the latest configuration.
    renewing: Option<u32>,
    accept_paused: bool,
    /// Too many are being told that there is no place.
    accept_stopped: bool,
    draining: bool,
}

/// What a timer is for.
#[derive(Clone, Copy)]
enum Timer {
    /// Look at a connection's deadline.
    Connection(Handle),
    Accept,
    /// Look after places that are short.
    Places,
}

impl Ingress {
    /// No socket listens before [`Ingress::open`].
    pub fn new<R: Ring>(settings: Settings, ring: &mut R) -> Self {
        let (mut seed, mut fold_seed) = ([0; 4], [0; 8]);
        ring.random(&mut seed);
        ring.random(&mut fold_seed);
        Self {
            shared: Shared {
                counter: u32::from_le_bytes(seed),
                parked: VecDeque::new(),
                findings: Findings::default(),
                seats: Seats::new(Arc::clone(&settings.places)),
                folds: Folds::new(u64::from_le_bytes(fold_seed)),
                settings,
            },
            listeners: Vec::new(),
            connections: Arena::default(),
            scratch: Vec::with_capacity(16 << 10),
            reply: Reply::default(),
            wheel: Wheel::new(TICK),
            yielding: VecDeque::new(),
            allowance: connections::IN_VAIN_A_TURN_MAX,
            watches_places: false,
            repeated_due: None,
            renewing: None,
            accept_paused: false,
            accept_stopped: false,
            draining: false,
        }
    }

    /// Opens the listeners and begins to accept: the spool is recovered. They are `shared` where other workers
    /// listen at the same addresses.
    ///
    /// # Errors
    /// The address that could not be bound, and why.
    pub fn open<R: Ring>(&mut self, ring: &mut R, shared: bool) -> Result<(), ListenError> {
        for (index, listener) in self.shared.settings.listeners.iter().enumerate() {
            let options =
                ListenOptions { address: listener.address, shared, backlog: self.shared.settings.backlog };
            let token = Token::fixed(ROOM, LISTENER, index as u32);
            let (handle, _) = ring
                .listen(options, token)
                .map_err(|error| ListenError { address: listener.address, error })?;
            self.listeners.push(handle);
        }
        for &listener in &self.listeners {
            ring.accept(listener);
        }
        Ok(())
    }

    /// When [`Ingress::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        // A connection that waits for a turn has it at once, after the others.
        let waits_for_a_turn = !self.yielding.is_empty() || self.renewing.is_some();
        if waits_for_a_turn {
            return Some(Instant::default());
        }
        [self.wheel.next(), self.shared.folds.next_deadline(), self.repeated_due].into_iter().flatten().min()
    }

    /// No client is connected.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.connections.is_empty()
    }

    /// Takes a completion of this room's.
    pub fn complete<R: Ring>(&mut self, cx: &mut Context<'_, R>, completion: Completion) {
        match completion {
            Completion::Accepted { token, socket, peer, .. } => {
                self.accepted(cx, token.handle.index() as usize, socket, peer)
            }
            Completion::AcceptPaused { error, .. } => self.accept_paused(cx, &error),
            Completion::Received { token, chunk } => {
                self.scratch.clear();
                self.scratch.extend_from_slice(cx.ring.chunk(&chunk));
                cx.ring.release(chunk);
                let scratch = std::mem::take(&mut self.scratch);
                self.drive(cx, token.handle, |session, handler| session.receive(&scratch, handler));
                self.scratch = scratch;
            }
            Completion::Ended { token, .. } => self.peer_ended(cx, token.handle),
            Completion::Sent { token, result, output } => self.sent(cx, token.handle, result.is_ok(), output),
            Completion::Connected { .. } | Completion::File { .. } | Completion::Woken => {}
        }
        self.end_displaced(cx);
    }

    /// The message of connection `key` is durable: its 250 may go.
    pub fn committed<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let client = &mut connection.client;
        let Some(message) = client.transaction.committing() else {
            // It was told to come again when another write failed, while this group was under way.
            debug_assert!(cx.spool.stats().latched, "the client of a durable message waits for its 250");
            return;
        };
        let (id, ended_at) = (message.id, message.ended_at);
        let tenant = &client.snapshot.tenant(message.responsible.tenant).name;
        let accepted = Accepted {
            message: id,
            client: client.address,
            proxy: client.proxy(),
            tenant,
            login: client.charged(),
            from: client.buffers.envelope.reverse_path().text(),
            recipients: client.buffers.envelope.recipient_count() as u64,
            bytes: message.bytes,
        };
        cx.log.record(&accepted, UnixMillis(cx.ring.unix_millis()));
        if connection.ended {
            client.forget_message();
            return self.settle(cx, key);
        }
        cx.metrics.message_accepted(client.listener, tenant);
        cx.metrics.observe_acceptance(cx.ring.now().since(ended_at));
        client.forget_message();
        self.reply.set(250, Some(Status::new(2, 0, 0)), format_args!("queued as {id}"));
        self.resume_message(cx, key);
    }

    /// The group with room has gone: those that waited for room try again, in their order.
    pub fn room<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        for _ in 0..self.shared.parked.len() {
            let Some(key) = self.shared.parked.pop_front() else { return };
            if self.is_parked(key) {
                self.store(cx, key);
            }
        }
    }

    /// The spool has latched: every client that waits for it is told to come again.
    pub fn latched<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        self.shared.parked.clear();
        for index in 0..self.connections.end() {
            if let Some((key, _)) = self.connections.at(index) {
                self.put_off(cx, key, spool::Refusal::Latched);
            }
        }
    }

    /// The spool's files have vanished: a client that waits for room in it is told to come again. Bodies on their way are
    /// refused at their end, and of each group on its way the spool says what becomes of it.
    pub fn vanished<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        while let Some(key) = self.shared.parked.pop_front() {
            if self.is_parked(key) {
                self.put_off(cx, key, spool::Refusal::Vanished);
            }
        }
    }

    fn is_parked(&mut self, key: Handle) -> bool {
        self.connection(key).is_some_and(|connection| connection.client.transaction.is_parked())
    }

    /// The message of connection `key` was withdrawn: its client is told to come again.
    pub fn withdrawn<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let connection = self.connection(key);
        if connection.is_some_and(|connection| connection.client.transaction.committing().is_some()) {
            self.put_off(cx, key, spool::Refusal::Vanished);
        }
    }

    /// What connection `key` waits for the spool with, if it does, will not become durable.
    fn put_off<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, refusal: spool::Refusal) {
        let Some(connection) = self.connection(key) else { return };
        match &connection.client.transaction {
            Transaction::Message(_) if connection.ended => {
                self.handle(cx, key, |handler, _| handler.end_transaction());
                self.settle(cx, key);
            }
            Transaction::Message(_) => self.refuse_message(cx, key, refusal),
            Transaction::Body(incoming) if incoming.is_paused => {
                self.give_body_up(cx, key, Reason::SpoolFailed);
            }
            _ => {}
        }
    }

    /// Answers a whole message that the spool does not take after all.
    fn refuse_message<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, refusal: spool::Refusal) {
        self.handle(cx, key, |handler, reply| {
            handler.give_up(handler.client.refusal_of_spool(refusal));
            handler.end_given_up(reply);
        });
        self.resume_message(cx, key);
    }

    /// Another configuration is in force: idle connections take it up within the next turns.
    pub fn snapshot_changed(&mut self) {
        self.renewing = Some(0);
    }

    /// Fires what is due.
    pub fn tick<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        self.hear_in_vain(cx);
        self.renew_idle(cx);
        let now = cx.ring.now();
        while let Some(timer) = self.wheel.expired(now) {
            match timer {
                Timer::Accept => {
                    self.accept_paused = false;
                    self.resume_accepting(cx.ring);
                }
                Timer::Connection(key) => self.check_deadline(cx, key, now),
                Timer::Places => self.look_after_places(cx, now),
            }
        }
        self.shared.folds.write_due(&mut cx.pen());
        if self.repeated_due.is_some_and(|due| due <= now) {
            cx.link.settle_repeated(cx.now());
            self.repeated_due = None;
        }
        if self.repeated_due.is_none() && cx.link.owes_repeated() {
            self.repeated_due = Some(now.after(REPEATED_INTERVAL));
        }
    }

    /// The end: what the log has still to be told of denials.
    pub fn close_log<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        for index in 0..self.connections.end() {
            let Some((key, _)) = self.connections.at(index) else { continue };
            let Connection { client, denials, .. } = &mut *self.connections[key];
            denials.end_fold(client, &mut self.shared.folds, cx);
        }
        self.shared.folds.write_all(&mut cx.pen());
        cx.link.settle_repeated(UnixMillis(u64::MAX));
    }

    /// Accepts no more; idle clients are told 421, the others finish their message first.
    pub fn drain<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        self.draining = true;
        for listener in self.listeners.drain(..) {
            cx.ring.close_listener(listener);
        }
        for index in 0..self.connections.end() {
            if let Some((key, _)) = self.connections.at(index) {
                self.settle(cx, key);
            }
        }
    }
}

/// A listener that cannot be opened.
#[derive(Debug)]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub error: std::io::Error,
}

impl std::fmt::Display for ListenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.error)
    }
}

impl std::error::Error for ListenError {}
