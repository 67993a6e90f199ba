//! Connections from their acceptance to their end: each session's I/O, and the patience with its peer.
//!
//! A peer has a time for each whole step (a command with its answer, a handshake, some kilobytes of a message):
//! what completes none does not lengthen it.

use std::net::SocketAddr;
use std::time::Duration;

use commons::{Holder, Key};
use mail::{Reply, Status};
use observe::ShedCause;
use ring::{Handle, Instant, Output, Ring, Socket, Token};
use smtp::server::{Phase, Resume, Session, Step};

use crate::connection::{Client, Connection, Waiting};
use crate::handler::denial;
use crate::handler::{self, SessionHandler};
use crate::seats::Guest;
use crate::{Context, Ingress, RECEIVE, ROOM, SEND, Timer};

/// Between two commands (RFC 5321 section 4.5.3.2.7).
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
/// For each step of a message (RFC 5321 section 4.5.3.2.5).
const DATA_TIMEOUT: Duration = Duration::from_secs(180);
/// For a handshake as a whole: some round trips of the slowest line.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// What a client is told that comes, or stays, while the gateway drains.
const SHUTTING_DOWN: &str = "shutting down; try again later";
/// For a proxy's header to come whole: the proxy sends it at once, for every client.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Refused recipients of transactions without any other that one turn looks at, over all
/// connections: a fifth of a millisecond, which is what a storm of them adds to everyone's wait.
pub(crate) const IN_VAIN_A_TURN_MAX: u32 = 64;
/// The same for one connection at a time: enough that its replies fill a segment or two.
const IN_VAIN_A_VISIT_MAX: u32 = 32;
/// A listed proxy whose client is not known yet: the operator answers for it.
const PROXY: Guest = Guest { holder: Holder::Network, address: Key::from_bits(0), address_max: u32::MAX };
/// Connections that one turn looks at after a reload: some microseconds.
const RENEWED_A_TURN_MAX: u32 = 64;
/// Before a listener that ran out of descriptors accepts again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often places are looked after that are short.
const PLACES_INTERVAL: Duration = Duration::from_secs(1);
/// Connections that one look ends: what that costs is spread over the turns.
const ENDED_A_LOOK_MAX: usize = 256;

/// How long a client has for its next step.
fn patience(phase: Phase) -> Duration {
    match phase {
        Phase::Header => HEADER_TIMEOUT,
        Phase::Handshake => HANDSHAKE_TIMEOUT,
        Phase::Data => DATA_TIMEOUT,
        Phase::Command | Phase::Waiting | Phase::Closing => COMMAND_TIMEOUT,
    }
}

impl Ingress {
    pub(crate) fn accepted<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        listener: usize,
        socket: Socket,
        peer: SocketAddr,
    ) {
        let peer = handler::canonical(peer.ip());
        let settings = self.shared.settings.listeners[listener].session.clone();
        let key = self.connections.next();
        let mut client = Client::new(key, listener, peer, cx.snapshots.load().clone());
        let now = cx.ring.now();
        let mut handler = self.shared.handler(&mut client, cx);
        let session = if self.draining {
            self.reply.set(421, Some(Status::new(4, 3, 2)), format_args!("{SHUTTING_DOWN}"));
            Session::refuse(settings, &self.reply)
        } else if handler.settings.peers.is_proxy(peer) {
            match handler.seats.take(key, PROXY, now) {
                Ok(()) => Session::behind_proxy(settings),
                Err(refused) => {
                    handler.turn_away(refused, &mut self.reply);
                    Session::refuse(settings, &self.reply)
                }
            }
        } else {
            handler.client.xclient = handler.settings.peers.xclient_rights(peer);
            if handler.admit(&mut self.reply) {
                Session::new(settings)
            } else {
                handler.seats.leave(key);
                Session::refuse(settings, &self.reply)
            }
        };
        let deadline = now.after(patience(session.phase()));
        self.connections.insert(Box::new(Connection {
            socket,
            session,
            client,
            receiving: false,
            sending: false,
            ended: false,
            deadline,
            timer: self.wheel.insert(deadline, Timer::Connection(key)),
            yielding: false,
            spare: Vec::new(),
        }));
        cx.metrics.connection_opened(listener);
        self.settle(cx, key);
        self.watch_places(now);
        if !self.accept_stopped && self.leaving() >= self.shared.settings.leaving_max {
            self.accept_stopped = true;
            for &listener in &self.listeners {
                cx.ring.stop_accepting(listener);
            }
        }
    }

    /// Connections without a place: they are told so, and go.
    fn leaving(&self) -> usize {
        self.connections.len() as usize - self.shared.seats.taken()
    }

    /// Sees to it that places are looked after as long as they are short, or there is something to tell of them.
    fn watch_places(&mut self, now: Instant) {
        if !self.watches_places && (self.shared.seats.are_short() || self.shared.seats.shed.has_news()) {
            self.watches_places = true;
            self.wheel.insert(now.after(PLACES_INTERVAL), Timer::Places);
        }
    }

    /// Ends the connections of those who do nothing while places are short, and tells of those who found none.
    pub(crate) fn look_after_places<R: Ring>(&mut self, cx: &mut Context<'_, R>, now: Instant) {
        for _ in 0..ENDED_A_LOOK_MAX {
            let Some(key) = self.shared.seats.next_overdue(now) else { break };
            self.end_for_want_of_places(cx, key, ShedCause::Silent);
        }
        self.shared.seats.report(cx);
        self.watches_places = false;
        self.watch_places(now);
    }

    /// Tells those whose places are others' now.
    pub(crate) fn end_displaced<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        while let Some(key) = self.shared.seats.next_displaced() {
            self.shared.seats.places().missed(cx.now());
            self.end_for_want_of_places(cx, key, ShedCause::Displaced);
        }
        if self.shared.seats.shed.has_news() {
            self.watch_places(cx.ring.now());
        }
    }

    fn end_for_want_of_places<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, cause: ShedCause) {
        let Some(connection) = self.connection(key) else { return };
        let Client { address, listener, .. } = connection.client;
        cx.metrics.connection_shed(listener, cause);
        self.shared.seats.shed.add(cause, address);
        let text = "connections are short, and nothing came over this one for a while; try again later";
        self.end(cx, key, (4, 3, 2), text);
    }

    /// Says a last word and ends a connection; one whose peer does not read ends without it.
    fn end<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: Handle,
        (class, subject, detail): (u8, u16, u16),
        text: &str,
    ) {
        let Some(connection) = self.connection(key) else { return };
        if connection.sending {
            // It does not read what it is told: there is no telling it anything more.
            connection.ended = true;
            connection.sending = false;
            return self.drive(cx, key, |session, handler| {
                session.peer_ended(handler);
                // The ring still has what was said before; closing takes it back.
                session.output().clear();
            });
        }
        self.reply.set(421, Some(Status::new(class, subject, detail)), format_args!("{text}"));
        let reply = std::mem::take(&mut self.reply);
        self.drive(cx, key, |session, handler| session.close_with(&reply, handler));
        self.reply = reply;
    }

    pub(crate) fn accept_paused<R: Ring>(&mut self, cx: &mut Context<'_, R>, error: &std::io::Error) {
        if !self.accept_paused {
            cx.log.event("accept_paused", cx.now()).display("error", error).end();
            self.accept_paused = true;
            self.wheel.insert(cx.ring.now().after(ACCEPT_PAUSE), Timer::Accept);
        }
    }

    pub(crate) fn resume_accepting<R: Ring>(&mut self, ring: &mut R) {
        if !self.accept_paused && !self.accept_stopped {
            for &listener in &self.listeners {
                ring.accept(listener);
            }
        }
    }

    pub(crate) fn connection(&mut self, key: Handle) -> Option<&mut Connection> {
        self.connections.get_mut(key).map(|connection| &mut **connection)
    }

    /// Lets the handler of connection `key` word `self.reply`, outside of a call of its session.
    pub(crate) fn handle<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: Handle,
        work: impl FnOnce(&mut SessionHandler<'_, '_, R>, &mut Reply),
    ) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let mut handler = self.shared.handler(&mut connection.client, cx);
        work(&mut handler, &mut self.reply);
    }

    /// Lets a session work, with its handler; then moves its I/O on.
    pub(crate) fn drive<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: Handle,
        work: impl FnOnce(&mut Session, &mut SessionHandler<'_, '_, R>),
    ) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let before = (connection.session.steps(), connection.session.carried());
        let allowance = self.allowance.min(IN_VAIN_A_VISIT_MAX);
        connection.session.set_allowance(allowance);
        let Connection { session, client, .. } = &mut **connection;
        work(session, &mut self.shared.handler(client, cx));
        self.allowance -= allowance - connection.session.allowance();
        let now = cx.ring.now();
        if connection.session.steps() != before.0 {
            connection.deadline = now.after(patience(connection.session.phase()));
            if self.wheel.due(connection.timer).is_some_and(|due| connection.deadline < due) {
                self.wheel.cancel(connection.timer);
                connection.timer = self.wheel.insert(connection.deadline, Timer::Connection(key));
            }
        }
        if connection.session.carried() != before.1 {
            self.shared.seats.carried(key, now);
        }
        if connection.session.yields() && !std::mem::replace(&mut connection.yielding, true) {
            self.yielding.push_back(key);
        }
        self.settle(cx, key);
    }

    /// Those whose recipients are all refused have their turn, each a little, after everyone else.
    pub(crate) fn hear_in_vain<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        self.allowance = IN_VAIN_A_TURN_MAX;
        for _ in 0..self.yielding.len() {
            if self.allowance == 0 {
                return;
            }
            let Some(key) = self.yielding.pop_front() else { return };
            if let Some(connection) = self.connection(key)
                && std::mem::take(&mut connection.yielding)
            {
                self.drive(cx, key, |session, handler| session.receive(&[], handler));
            }
        }
    }

    /// After a reload the connections that nothing is said on take the new configuration up, a few in
    /// each turn: a client that stays connected and silent keeps none in memory.
    pub(crate) fn renew_idle<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        let Some(start) = self.renewing else { return };
        let end = self.connections.end().min(start + RENEWED_A_TURN_MAX);
        let latest = cx.snapshots.load();
        for index in start..end {
            if let Some((key, _)) = self.connections.at(index) {
                self.connections[key].renew_if_idle(latest);
            }
        }
        self.renewing = (end < self.connections.end()).then_some(end);
    }

    pub(crate) fn resume_message<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let reply = std::mem::take(&mut self.reply);
        self.drive(cx, key, |session, handler| session.resume(Resume::Message(&reply), handler));
        self.reply = reply;
    }

    /// Hands a finished message to the spool (again), outside of a call of its session.
    pub(crate) fn store<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if !matches!(connection.client.waiting, Waiting::Room | Waiting::Large) {
            return;
        }
        connection.client.waiting = Waiting::Nothing;
        let mut handler = self.shared.handler(&mut connection.client, cx);
        if handler.store(&mut self.reply) == Step::Refuse {
            self.resume_message(cx, key);
        }
    }

    /// Brings a connection's I/O in line with its session: sends, receives, pauses or closes.
    pub(crate) fn settle<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        // Before a reply goes: the reader of a ticket in it can look it up.
        connection.client.hand_over_denial(cx.link);
        if !connection.session.has_transaction() {
            denial::end_fold(&mut connection.client, &mut self.shared.folds, cx);
        }
        // What has ended just now may have held a configuration that is out of force.
        connection.renew_if_idle(cx.snapshots.load());
        if let Some(name) = connection.session.tls_name()
            && connection.client.tls_name.is_empty()
        {
            connection.client.tls = true;
            connection.client.tls_name.push_str(name);
        }
        let waiting = connection.client.waiting != Waiting::Nothing;
        self.shared.seats.set_busy(key, waiting);
        if self.draining
            && !waiting
            && !connection.session.has_transaction()
            && !connection.session.is_closing()
        {
            self.reply.set(421, Some(Status::new(4, 3, 2)), format_args!("{SHUTTING_DOWN}"));
            let Connection { session, client, .. } = &mut **connection;
            let handler = &mut self.shared.handler(client, cx);
            session.close_with(&self.reply, handler);
        }
        if !connection.sending && !connection.session.output().is_empty() {
            let empty = std::mem::take(&mut connection.spare);
            let output = std::mem::replace(connection.session.output(), empty);
            connection.sending = true;
            let token = Token { room: ROOM, part: 0, kind: SEND, handle: key };
            cx.ring.send(connection.socket, Output::Owned(output), token);
        }
        let closing = connection.session.is_closing() || connection.ended;
        if closing && !connection.sending && !waiting {
            return self.close(cx, key);
        }
        let wanted = connection.session.wants_input() && !closing;
        if wanted != connection.receiving && !connection.ended {
            connection.receiving = wanted;
            if wanted {
                cx.ring.receive(connection.socket, Token { room: ROOM, part: 0, kind: RECEIVE, handle: key });
            } else {
                cx.ring.pause(connection.socket);
            }
        }
    }

    pub(crate) fn sent<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, ok: bool, output: Output) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.sending = false;
        connection.ended |= !ok;
        if let Output::Owned(mut buffer) = output {
            const KEPT_BYTES_MAX: usize = 16 << 10;
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES_MAX);
            connection.spare = buffer;
        }
        // A session stops at its output bound; now that the output was taken it goes on.
        self.drive(cx, key, |session, handler| session.receive(&[], handler));
    }

    pub(crate) fn peer_ended<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.ended = true;
            self.drive(cx, key, |session, handler| session.peer_ended(handler));
        }
    }

    pub(crate) fn check_deadline<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let is_due = connection.deadline <= now;
        let next = if is_due { now.after(COMMAND_TIMEOUT) } else { connection.deadline };
        connection.timer = self.wheel.insert(next, Timer::Connection(key));
        if !is_due {
            return;
        }
        if connection.client.waiting != Waiting::Nothing {
            return;
        }
        let text = match connection.session.phase() {
            Phase::Header if !connection.sending => {
                return self.drive(cx, key, |session, handler| session.header_overdue(handler));
            }
            Phase::Data => "timeout: too little of the message came in three minutes",
            _ => "timeout: no whole command came in five minutes",
        };
        self.end(cx, key, (4, 4, 2), text);
    }

    fn close<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let Some(mut connection) = self.connections.remove(key) else { return };
        denial::end_fold(&mut connection.client, &mut self.shared.folds, cx);
        self.wheel.cancel(connection.timer);
        self.shared.seats.leave(key);
        cx.ring.close(connection.socket);
        cx.metrics.connection_closed(connection.client.listener);
        if self.accept_stopped && self.leaving() <= self.shared.settings.leaving_max / 2 {
            self.accept_stopped = false;
            self.resume_accepting(cx.ring);
        }
    }
}
