//! Connections from the wish for one until the socket is closed: next hops and their addresses in
//! order, the ring's completions, output, and the timeouts of RFC 5321 section 4.5.3.2.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use commons::{Question, ResolveFailure};
use mail::Reply;
use policy::{Reach, RouteTls};
use ring::{Arena, Completion, Handle, Instant, Output, Ring, Token, Wheel};
use rustls::pki_types::ServerName;
use scheduler::{ConnectionIx, Event, SiteIx};
use smtp::client::{ClientTls, Failure, Phase as SessionPhase, Session};

use crate::addresses::{Addresses, Lookup};
use crate::connection::{Body, Connection, Flight, Phase, Task, Then, Walk, Wire};
use crate::desk::Desk;
use crate::{ClientTlsConfigs, Context, ROOM, TICK, own_reply};

const CONNECT: u8 = 0;
const RECEIVE: u8 = 1;
const SEND: u8 = 2;

/// What an output buffer keeps between uses.
const SPARE_BYTES_MAX: usize = 16 << 10;

/// A body goes through TLS in pieces of this size, so that its ciphertext is never in memory as a whole.
const TLS_PIECE_BYTES: usize = 64 << 10;

/// All connections of a worker.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) all: Arena<Connection>,
    /// The handle of each, by its number in the schedule.
    handles: Vec<Handle>,
    addresses: Addresses,
    wheel: Wheel<u32>,
    /// Those that may have something to say, or go on with an answer.
    pub(crate) busy: VecDeque<Handle>,
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self {
            all: Arena::default(),
            handles: Vec::new(),
            addresses: Addresses::default(),
            wheel: Wheel::new(TICK),
            busy: VecDeque::new(),
        }
    }

    /// When the first deadline is to be looked at.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next()
    }

    /// The connection of a number that the schedule has not been told is closed.
    pub(crate) fn handle(&self, number: ConnectionIx) -> Handle {
        self.handles[number.0 as usize]
    }

    /// An open connection that is there.
    pub(crate) fn wire(&mut self, key: Handle) -> Option<&mut Wire> {
        self.all.get_mut(key)?.wire()
    }

    /// Begins a connection to a site, for which a lease was taken.
    pub(crate) fn open<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        number: ConnectionIx,
        site: SiteIx,
    ) {
        let order = desk.site(site).order(cx.ring.now(), || cx.random());
        let key = self.all.insert(Connection::new(number, site, Walk::new(order)));
        let place = number.0 as usize;
        if place >= self.handles.len() {
            self.handles.resize(place + 1, key);
        }
        self.handles[place] = key;
        self.connect(cx, desk, key);
    }

    /// Connects to the present address, or to the next that there is.
    pub(crate) fn connect<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk, key: Handle) {
        let now = cx.ring.now();
        loop {
            let connection = &mut self.all[key];
            let Some(hop) = connection.walk.hop() else { return self.give_up(cx, desk, key) };
            let (worker, is_closed) = (desk.settings.worker, desk.settings.private_destinations);
            let site = desk.site_mut(connection.site);
            let next_hop = &site.hop(hop).next_hop;
            match self.addresses.look_up(&next_hop.host, now) {
                Lookup::Known(addresses) if connection.walk.address < addresses.len() => {
                    let to = SocketAddr::new(addresses[connection.walk.address], next_hop.port);
                    // The owner of MX records has no business in networks behind us; the operator, who writes routes, does.
                    let is_stranger = site.is_strangers() && !is_closed;
                    if is_stranger && Reach::of(to.ip()) != Reach::Public {
                        connection.failure = behind_us(&next_hop.host, to.ip());
                        connection.walk.next_address();
                        continue;
                    }
                    connection.hop_name = Some(site.hop(hop).name.clone());
                    connection.phase = Phase::Connecting(cx.ring.connect(to, None, token(CONNECT, key)));
                    return self.arm(key, now);
                }
                Lookup::Known(_) => {}
                Lookup::Failed(why) => {
                    let text = format_args!("the addresses of {} could not be had: {why}", next_hop.host);
                    connection.failure = own_reply(4, text);
                    connection.hop_name = Some(site.hop(hop).name.clone());
                }
                Lookup::Asked(question) => return self.await_addresses(key, question, now),
                Lookup::Unknown(question) => {
                    let host = next_hop.host.clone();
                    if cx.link.ask(Question::Resolve { worker, key: question, host }).is_ok() {
                        self.addresses.asked(question, now);
                        return self.await_addresses(key, question, now);
                    }
                    connection.failure = own_reply(3, "the resolver has too much to do");
                }
            }
            site.avoid(hop, now);
            connection.walk.next_hop();
        }
    }

    fn await_addresses(&mut self, key: Handle, question: u32, now: Instant) {
        self.addresses.wait(question, key);
        self.all[key].phase = Phase::Resolving(question);
        self.arm(key, now);
    }

    /// The answer to a question has come: those that waited for it go on.
    pub(crate) fn resolved(
        &mut self,
        question: u32,
        result: Result<Vec<IpAddr>, ResolveFailure>,
        ttl: Duration,
        now: Instant,
    ) {
        self.busy.extend(self.addresses.answered(question, result, ttl, now));
    }

    /// The present address cannot be used.
    pub(crate) fn address_failed<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        key: Handle,
        failure: Reply,
    ) {
        let connection = &mut self.all[key];
        connection.failure = failure;
        if let Phase::Resolving(_) = connection.phase {
            connection.walk.next_hop();
            let key = self.leave_address(cx, key);
            return self.connect(cx, desk, key);
        }
        connection.walk.next_address();
        self.tell_address_failed(cx, desk, key);
    }

    fn tell_address_failed<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk, key: Handle) {
        let key = self.leave_address(cx, key);
        let connection = self.all[key].number;
        desk.schedule.tell(cx, Event::AddressFailed { connection });
    }

    /// Closes the socket of a connection that goes on without it. It has another handle from now on: what was under
    /// way on that socket, or was asked for its sake, comes too late.
    fn leave_address<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) -> Handle {
        let connection = &mut self.all[key];
        if let Some(socket) = connection.take_socket() {
            cx.ring.close(socket);
        }
        connection.patience.awaited = None;
        if let Some((timer, _)) = connection.patience.timer.take() {
            self.wheel.cancel(timer);
        }
        let number = connection.number;
        let renewed = self.all.renew(key);
        self.handles[number.0 as usize] = renewed;
        renewed
    }

    /// The attempt is over: its site has failed.
    pub(crate) fn give_up<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk, key: Handle) {
        let connection = &mut self.all[key];
        let (site, failure) = (connection.site, std::mem::take(&mut connection.failure));
        if let Some(hop) = connection.walk.hop() {
            desk.site_mut(site).avoid(hop, cx.ring.now());
        }
        desk.site_failed(cx, site, connection.hop_name.take().as_deref(), failure);
        self.close(cx, desk, key);
    }

    /// Takes a completion of the ring's.
    pub(crate) fn complete<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        completion: Completion,
    ) {
        // What comes too late finds no connection of its handle: each of these looks for it.
        match completion {
            Completion::Connected { token, result: Ok(_) } => self.connected(cx, desk, token.handle),
            Completion::Connected { token, result: Err(error) } => {
                if let Some(connection) = self.all.get_mut(token.handle) {
                    // After an error the socket is closed already.
                    connection.phase = Phase::Between;
                    let reply = own_reply(1, format_args!("cannot connect: {error}"));
                    self.address_failed(cx, desk, token.handle, reply);
                }
            }
            Completion::Received { token, chunk } => {
                if let Some(wire) = self.wire(token.handle) {
                    wire.session.receive(cx.ring.chunk(&chunk));
                    self.busy.push_back(token.handle);
                }
                cx.ring.release(chunk);
            }
            Completion::Ended { token, result: Ok(()) } => {
                self.lost(token.handle, own_reply(2, "the next hop ended the connection"));
            }
            Completion::Ended { token, result: Err(error) } => self.lost(token.handle, broke(&error)),
            Completion::Sent { token, result, output } => self.sent(token.handle, result, output),
            Completion::Accepted { .. }
            | Completion::AcceptPaused { .. }
            | Completion::File { .. }
            | Completion::Woken => {}
        }
    }

    fn connected<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &Desk, key: Handle) {
        let Some(connection) = self.all.get_mut(key) else { return };
        let (&Phase::Connecting(socket), Some(hop)) = (&connection.phase, connection.walk.hop()) else {
            return;
        };
        let site = desk.site(connection.site);
        let host = &site.hop(hop).next_hop.host;
        let tls = tls_for(&desk.settings.tls, site.tls, host, connection.walk.cleartext);
        let session = Session::new(&desk.settings.hostname, tls);
        connection.phase = Phase::Open(Box::new(Wire::new(socket, session)));
        cx.ring.receive(socket, token(RECEIVE, key));
        self.busy.push_back(key);
    }

    fn sent(&mut self, key: Handle, result: std::io::Result<()>, output: Output) {
        let Some(wire) = self.wire(key) else { return };
        if std::mem::replace(&mut wire.flight, Flight::Nothing) == Flight::Piece {
            wire.pieces = wire.pieces.wrapping_add(1);
        }
        if let Output::Owned(mut buffer) = output {
            buffer.clear();
            buffer.shrink_to(SPARE_BYTES_MAX);
            wire.spare = buffer;
        }
        match result {
            Ok(()) => self.busy.push_back(key),
            // What the peer said before it went is still on its way: the end of receiving tells.
            Err(_) if wire.session.phase() != SessionPhase::Closed => {}
            Err(error) => self.lost(key, broke(&error)),
        }
    }

    /// Sends what there is to be sent: the session's output first, then the next piece of the body.
    pub(crate) fn flush<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk, key: Handle) {
        let Some(wire) = self.wire(key).filter(|wire| wire.flight == Flight::Nothing) else { return };
        let (socket, token) = (wire.socket, token(SEND, key));
        let mut flight = Flight::Words;
        if wire.session.output().is_empty() {
            let Wire { session, task: Task::Sending(transaction), .. } = wire else { return };
            match std::mem::replace(&mut transaction.body, Body::None) {
                Body::None => return,
                Body::Reading(read) => return transaction.body = Body::Reading(read),
                Body::Piece { range, then, .. } if range.is_empty() => {
                    return self.next_piece(cx, desk, key, then);
                }
                Body::Piece { buffer, range, then } if session.is_plaintext() => {
                    if then != Then::End {
                        let rest = range.end..range.end;
                        transaction.body = Body::Piece { buffer: buffer.clone(), range: rest, then };
                    }
                    wire.flight = Flight::Piece;
                    return cx.ring.send(socket, Output::Shared(buffer, range), token);
                }
                Body::Piece { buffer, range, then } => {
                    let end = range.end.min(range.start + TLS_PIECE_BYTES);
                    session.write_body(&buffer[range.start..end]);
                    flight = Flight::Piece;
                    if end < range.end || then != Then::End {
                        transaction.body = Body::Piece { buffer, range: end..range.end, then };
                    }
                }
            }
        }
        let output = std::mem::replace(wire.session.output(), std::mem::take(&mut wire.spare));
        if !output.is_empty() {
            wire.flight = flight;
            cx.ring.send(socket, Output::Owned(output), token);
        }
    }

    /// An open connection is of no more use, as far as the ring or a timer can tell.
    fn lost(&mut self, key: Handle, reply: Reply) {
        if let Some(wire) = self.wire(key) {
            wire.end.get_or_insert(reply);
            self.busy.push_back(key);
        }
    }

    /// The session has ended itself.
    pub(crate) fn failed<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        key: Handle,
        failure: &Failure,
    ) {
        let connection = &mut self.all[key];
        let reply = match failure.reply() {
            Some(reply) => reply.clone(),
            None => own_reply(2, failure),
        };
        // RFC 7435: opportunistic means that no TLS is better than no mail, and once is enough to know.
        let may_be_clear =
            desk.site(connection.site).tls == RouteTls::Opportunistic && !connection.walk.cleartext;
        let is_greeting = connection.wire().is_some_and(|wire| matches!(wire.task, Task::Greeting));
        if is_greeting && may_be_clear && matches!(failure, Failure::Tls(_)) {
            connection.walk.cleartext = true;
            connection.failure = reply;
            return self.tell_address_failed(cx, desk, key);
        }
        self.ended(cx, desk, key, reply, failure.reply().is_some());
    }

    /// An open connection has come to its end; `heard_from` says that `reply` is the next hop's own.
    pub(crate) fn ended<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        key: Handle,
        reply: Reply,
        heard_from: bool,
    ) {
        let Some(wire) = self.wire(key) else { return };
        match wire.task {
            Task::Greeting => self.address_failed(cx, desk, key, reply),
            Task::Idle => {
                // A peer may end a connection that waits, once it has carried a message.
                if self.all[key].messages == 0 {
                    self.site_failed(cx, desk, key, reply);
                }
                self.close(cx, desk, key);
            }
            Task::Quitting | Task::Over => self.close(cx, desk, key),
            Task::Loading(_) => self.unbegun(cx, desk, key, reply, false),
            Task::Sending(_) => self.interrupted(cx, desk, key, reply, heard_from),
        }
    }

    /// A connection that was open has ended in a way that is a failure of its site.
    pub(crate) fn site_failed<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        key: Handle,
        reply: Reply,
    ) {
        let connection = &self.all[key];
        if let Some(hop) = connection.walk.hop() {
            desk.site_mut(connection.site).avoid(hop, cx.ring.now());
        }
        desk.site_failed(cx, connection.site, connection.hop_name.as_deref(), reply);
    }

    /// Ends a connection that carries no message: by QUIT, which closes it once that is answered, where it is ready.
    pub(crate) fn quit<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk, key: Handle) {
        match self.wire(key) {
            Some(wire) if matches!(wire.task, Task::Idle) => {
                wire.task = Task::Quitting;
                wire.session.quit();
                self.arm(key, cx.ring.now());
                self.flush(cx, desk, key);
            }
            Some(_) | None => self.close(cx, desk, key),
        }
    }

    /// Closes a connection and gives its lease back.
    pub(crate) fn close<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk, key: Handle) {
        let Some(mut connection) = self.all.remove(key) else { return };
        if let Some(wire) = connection.wire() {
            wire.abandon_body(cx);
        }
        if let Some(socket) = connection.take_socket() {
            cx.ring.close(socket);
        }
        if let Some((timer, _)) = connection.patience.timer {
            self.wheel.cancel(timer);
        }
        desk.release_lease(cx, connection.site);
        desk.schedule.tell(cx, Event::Closed { connection: connection.number });
    }

    /// Something happened: if it is the end of what was awaited, what is awaited next has its own time.
    pub(crate) fn arm(&mut self, key: Handle, now: Instant) {
        let connection = &mut self.all[key];
        let (step, timeout) = (Some(connection.step()), connection.timeout());
        let patience = &mut connection.patience;
        if std::mem::replace(&mut patience.awaited, step) == step {
            return;
        }
        patience.deadline = now.after(timeout);
        // A timer that fires early looks at the deadline and goes on; only one that would be late is replaced.
        match patience.timer {
            Some((_, at)) if at <= patience.deadline => return,
            Some((timer, _)) => drop(self.wheel.cancel(timer)),
            None => {}
        }
        let timer = self.wheel.insert(patience.deadline, key.index());
        patience.timer = Some((timer, patience.deadline));
    }

    /// Ends what has been waited for long enough.
    pub(crate) fn look_at_deadlines<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk) {
        let now = cx.ring.now();
        while let Some(place) = self.wheel.expired(now) {
            let Some((key, _)) = self.all.at(place) else { continue };
            let patience = &mut self.all[key].patience;
            if patience.deadline > now {
                let timer = self.wheel.insert(patience.deadline, place);
                patience.timer = Some((timer, patience.deadline));
                continue;
            }
            patience.timer = None;
            // Whatever comes of it, what is awaited next is something else.
            patience.awaited = None;
            self.timed_out(cx, desk, key);
        }
    }

    fn timed_out<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk, key: Handle) {
        let connection = &mut self.all[key];
        let reply = own_reply(2, "the next hop did not answer in time");
        match &connection.phase {
            Phase::Between => {}
            Phase::Resolving(_) | Phase::Connecting(_) => self.address_failed(cx, desk, key, reply),
            Phase::Open(wire) => match wire.task {
                Task::Idle => {
                    let connection = connection.number;
                    desk.schedule.tell(cx, Event::Unused { connection });
                }
                Task::Quitting => self.close(cx, desk, key),
                Task::Greeting | Task::Loading(_) | Task::Sending(_) | Task::Over => self.lost(key, reply),
            },
        }
    }
}

/// The token of an operation on the present socket of a connection.
fn token(kind: u8, handle: Handle) -> Token {
    Token { room: ROOM, part: 0, kind, handle }
}

fn broke(error: &std::io::Error) -> Reply {
    own_reply(2, format_args!("the connection broke: {error}"))
}

/// Why a host that MX records name is not connected to.
fn behind_us(host: &str, address: IpAddr) -> Reply {
    let text = format_args!(
        "{host} is at {address}, which is no public address; [delivery] private_destinations = true permits it"
    );
    own_reply(4, text)
}

/// What a session to `host` does about TLS.
fn tls_for(configs: &ClientTlsConfigs, tls: RouteTls, host: &str, cleartext: bool) -> ClientTls {
    // A next hop's host is a name or an address; either is a name to TLS. What is neither gets no certificate.
    let name = ServerName::try_from(host.to_owned()).ok();
    match (tls, name) {
        (RouteTls::Off, _) => ClientTls::Off,
        (RouteTls::Opportunistic, _) if cleartext => ClientTls::Off,
        (RouteTls::Opportunistic, None) => ClientTls::Off,
        (RouteTls::Opportunistic, Some(name)) => {
            ClientTls::StartTls { config: configs.opportunistic.clone(), name, required: false }
        }
        (RouteTls::Required, name) => {
            let name = name.unwrap_or_else(|| ServerName::try_from("invalid").expect("a plain name"));
            ClientTls::StartTls { config: configs.required.clone(), name, required: true }
        }
    }
}
