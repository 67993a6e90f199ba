//! Connections from the wish for one until the socket is closed: next hops and their addresses in
//! order, the ring's completions, output, and the timeouts of RFC 5321 section 4.5.3.2.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use commons::Question;
use mail::Reply;
use policy::{Reach, RouteTls};
use ring::{Completion, Handle, Instant, Output, Ring, Token};
use rustls::pki_types::ServerName;
use smtp::client::{ClientTls, Failure, Session};

use crate::addresses::Lookup;
use crate::connection::{ADDRESSES_TRIED_MAX, Body, Connection, Phase, Then};
use crate::queue::SiteIx;
use crate::site::Site;
use crate::{Context, Delivery, ROOM, Timer};

const CONNECT: u8 = 0;
const RECEIVE: u8 = 1;
const SEND: u8 = 2;

/// What an output buffer keeps between uses.
const SPARE_BYTES_MAX: usize = 16 << 10;

/// A lease that another worker waits for is left to it so long: until its thread has woken up.
const YIELD: Duration = Duration::from_millis(10);

/// A body goes through TLS in pieces of this size, so that its ciphertext is never in memory as a whole.
const TLS_PIECE_BYTES: usize = 64 << 10;

impl Delivery {
    /// Begins a connection to a site, for which a lease was taken.
    pub(crate) fn open<R: Ring>(&mut self, cx: &mut Context<'_, R>, index: SiteIx) {
        self.shuffle_exchangers(cx, index);
        let site = self.sites.get_mut(index);
        site.opening += 1;
        site.connections += 1;
        let session = Session::new(&self.settings.hostname, ClientTls::Off);
        let connection = Connection::new(index, site.first_hop(cx.ring.now()), session);
        let key = self.connections.insert(Box::new(connection));
        self.connect_next(cx, key);
    }

    /// Connects to the present address, or to the next that there is.
    fn connect_next<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let now = cx.ring.now();
        loop {
            let connection = &mut self.connections[key];
            let site = self.sites.get_mut(connection.site);
            if connection.hops_tried >= site.hops.len() {
                return self.give_up(cx, key);
            }
            let hop = connection.hop(site.hops.len());
            if connection.tried >= ADDRESSES_TRIED_MAX {
                site.avoid(hop, now);
                return self.give_up(cx, key);
            }
            let next_hop = &site.hops[hop].next_hop;
            match self.addresses.look_up(&next_hop.host, now) {
                Lookup::Known(addresses) if connection.address < addresses.len() => {
                    let to = SocketAddr::new(addresses[connection.address], next_hop.port);
                    // The owner of MX records has no business in networks behind us; the operator, who writes routes, does.
                    let is_stranger = site.exchange.is_some() && !self.settings.private_destinations;
                    if is_stranger && Reach::of(to.ip()) != Reach::Public {
                        connection.failure = behind_us(&next_hop.host, to.ip());
                        connection.address += 1;
                        continue;
                    }
                    let tls = tls_for(&self.settings.tls, site, &next_hop.host, connection.cleartext);
                    connection.session = Session::new(&self.settings.hostname, tls);
                    connection.phase = Phase::Connecting;
                    connection.hop_name = Some(site.hops[hop].name.clone());
                    connection.tried += 1;
                    connection.socket = Some(cx.ring.connect(to, None, token(CONNECT, key)));
                    return self.arm(key, now);
                }
                Lookup::Known(_) => {}
                Lookup::Failed(why) => {
                    let text = format_args!("the addresses of {} could not be had: {why}", next_hop.host);
                    connection.failure = Self::own_reply(4, text);
                    connection.hop_name = Some(site.hops[hop].name.clone());
                }
                Lookup::Asked(question) => {
                    connection.phase = Phase::Resolving(question);
                    return self.arm(key, now);
                }
                Lookup::Unknown(question) => {
                    let host = next_hop.host.clone();
                    let asked = Question::Resolve { worker: self.settings.worker, key: question, host };
                    if cx.link.ask(asked).is_ok() {
                        connection.phase = Phase::Resolving(question);
                        self.addresses.asked(question, now);
                        return self.arm(key, now);
                    }
                    connection.failure = Self::own_reply(3, "the resolver has too much to do");
                }
            }
            site.avoid(hop, now);
            connection.next_hop();
        }
    }

    /// The answer to question `question` has come.
    pub(crate) fn connect_resolved<R: Ring>(&mut self, cx: &mut Context<'_, R>, question: u32) {
        let waiting: Vec<Handle> = (self.connections.iter())
            .filter(|(_, connection)| connection.phase == Phase::Resolving(question))
            .map(|(key, _)| key)
            .collect();
        for key in waiting {
            self.connect_next(cx, key);
        }
    }

    /// The present address cannot be used.
    pub(crate) fn address_failed<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, failure: Reply) {
        let key = self.leave_address(cx, key);
        let connection = &mut self.connections[key];
        connection.failure = failure;
        if let Phase::Resolving(_) = connection.phase {
            connection.next_hop();
        } else {
            connection.address += 1;
            connection.cleartext = false;
        }
        self.connect_next(cx, key);
    }

    /// Closes the socket of a connection that goes on without it. It has another handle from now on: what was under
    /// way on that socket, or was asked for its sake, comes too late.
    fn leave_address<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) -> Handle {
        let connection = &mut self.connections[key];
        if let Some(socket) = connection.socket.take() {
            cx.ring.close(socket);
        }
        connection.sending = false;
        connection.awaited = None;
        if let Some((timer, _)) = connection.timer.take() {
            self.wheel.cancel(timer);
        }
        self.connections.renew(key)
    }

    /// Every address of every next hop was tried.
    fn give_up<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let connection = &mut self.connections[key];
        let (site, failure) = (connection.site, std::mem::take(&mut connection.failure));
        let next_hop = connection.hop_name.take();
        self.site_failed(cx, site, next_hop.as_deref(), failure);
        self.close(cx, key);
    }

    /// Takes a completion of the ring's.
    pub(crate) fn connection_completion<R: Ring>(&mut self, cx: &mut Context<'_, R>, completion: Completion) {
        // What comes too late finds no connection of its handle: each of these looks for it.
        match completion {
            Completion::Connected { token, result: Ok(_) } => self.connected(cx, token.handle),
            Completion::Connected { token, result: Err(error) } => {
                if let Some(connection) = self.connections.get_mut(token.handle) {
                    // After an error the socket is closed already.
                    connection.socket = None;
                    self.address_failed(
                        cx,
                        token.handle,
                        Self::own_reply(1, format_args!("cannot connect: {error}")),
                    );
                }
            }
            Completion::Received { token, chunk } => {
                if let Some(connection) = self.connections.get_mut(token.handle) {
                    connection.session.receive(cx.ring.chunk(&chunk));
                    self.busy.push_back(token.handle);
                }
                cx.ring.release(chunk);
            }
            Completion::Ended { token, result } => match result {
                Ok(()) => {
                    self.lost(cx, token.handle, Self::own_reply(2, "the next hop ended the connection"))
                }
                Err(error) => {
                    self.lost(
                        cx,
                        token.handle,
                        Self::own_reply(2, format_args!("the connection broke: {error}")),
                    );
                }
            },
            Completion::Sent { token, result, output } => self.sent(cx, token.handle, result, output),
            Completion::Accepted { .. }
            | Completion::AcceptPaused { .. }
            | Completion::File { .. }
            | Completion::Woken => {}
        }
    }

    fn connected<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(socket) = connection.socket else { return };
        connection.phase = Phase::Opening;
        cx.ring.receive(socket, token(RECEIVE, key));
        self.busy.push_back(key);
    }

    fn sent<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: Handle,
        result: std::io::Result<()>,
        output: Output,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.sending = false;
        if std::mem::take(&mut connection.sends_body) {
            connection.pieces = connection.pieces.wrapping_add(1);
        }
        if let Output::Owned(mut buffer) = output {
            buffer.clear();
            buffer.shrink_to(SPARE_BYTES_MAX);
            connection.spare = buffer;
        }
        match result {
            Ok(()) => self.busy.push_back(key),
            // What the peer said before it went is still on its way: the end of receiving tells.
            Err(_) if connection.session.phase() != smtp::client::Phase::Closed => {}
            Err(error) => {
                self.lost(cx, key, Self::own_reply(2, format_args!("the connection broke: {error}")))
            }
        }
    }

    /// Sends what there is to be sent: the session's output first, then the next piece of the body.
    pub(crate) fn flush<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(socket) = connection.socket.filter(|_| !connection.sending) else { return };
        let token = token(SEND, key);
        if connection.session.output().is_empty() {
            match std::mem::replace(&mut connection.body, Body::None) {
                Body::None => return,
                Body::Reading(read) => {
                    connection.body = Body::Reading(read);
                    return;
                }
                Body::Piece { range, then, .. } if range.is_empty() => return self.next_piece(cx, key, then),
                Body::Piece { buffer, range, then } if connection.session.is_plaintext() => {
                    connection.body =
                        Body::Piece { buffer: buffer.clone(), range: range.end..range.end, then };
                    if then == Then::End {
                        connection.body = Body::None;
                    }
                    (connection.sending, connection.sends_body) = (true, true);
                    return cx.ring.send(socket, Output::Shared(buffer, range), token);
                }
                Body::Piece { buffer, range, then } => {
                    let end = range.end.min(range.start + TLS_PIECE_BYTES);
                    connection.session.write_body(&buffer[range.start..end]);
                    connection.sends_body = true;
                    if end < range.end || then != Then::End {
                        connection.body = Body::Piece { buffer, range: end..range.end, then };
                    }
                }
            }
        }
        let spare = std::mem::take(&mut connection.spare);
        let output = std::mem::replace(connection.session.output(), spare);
        if !output.is_empty() {
            connection.sending = true;
            cx.ring.send(socket, Output::Owned(output), token);
        }
    }

    /// The connection is of no more use, as far as the ring or a timer can tell.
    pub(crate) fn lost<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, reply: Reply) {
        // What was received before the end is heard first: it may hold the answer that counts.
        self.converse(cx, key);
        let Some(connection) = self.connections.get_mut(key) else { return };
        match connection.phase {
            Phase::Resolving(_) | Phase::Connecting | Phase::Opening => self.address_failed(cx, key, reply),
            Phase::Idle => self.idle_ended(cx, key, reply),
            Phase::Quitting => self.close(cx, key),
            Phase::Loading => self.unbegun(cx, key, reply),
            Phase::Sending => self.interrupted(cx, key, reply, false),
        }
    }

    /// The peer has ended a connection that waited for a message, which it may once it has carried one.
    fn idle_ended<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, reply: Reply) {
        if self.connections[key].messages == 0 {
            self.site_of_connection_failed(cx, key, reply);
        }
        self.close(cx, key);
    }

    /// The session has ended itself.
    pub(crate) fn failed<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, failure: &Failure) {
        let connection = &mut self.connections[key];
        let reply = match failure.reply() {
            Some(reply) => reply.clone(),
            None => Self::own_reply(2, failure),
        };
        match connection.phase {
            // RFC 7435: opportunistic means that no TLS is better than no mail, and once is enough to know.
            Phase::Opening
                if self.sites.get(connection.site).tls == RouteTls::Opportunistic
                    && matches!(failure, Failure::Tls(_))
                    && !connection.cleartext =>
            {
                connection.cleartext = true;
                let key = self.leave_address(cx, key);
                self.connect_next(cx, key);
            }
            Phase::Resolving(_) | Phase::Connecting | Phase::Opening => self.address_failed(cx, key, reply),
            Phase::Idle => self.idle_ended(cx, key, reply),
            Phase::Quitting => self.close(cx, key),
            Phase::Loading => self.unbegun(cx, key, reply),
            Phase::Sending => self.interrupted(cx, key, reply, failure.reply().is_some()),
        }
    }

    /// Says QUIT; the connection closes when it is answered.
    pub(crate) fn quit<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let connection = &mut self.connections[key];
        connection.phase = Phase::Quitting;
        connection.session.quit();
        self.arm(key, cx.ring.now());
        self.flush(cx, key);
    }

    /// Closes a connection and gives its lease back.
    pub(crate) fn close<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        self.abandon_body(cx, key);
        let Some(connection) = self.connections.remove(key) else { return };
        if let Some(socket) = connection.socket {
            cx.ring.close(socket);
        }
        if let Some((timer, _)) = connection.timer {
            self.wheel.cancel(timer);
        }
        let site = self.sites.get_mut(connection.site);
        site.opening -= usize::from(connection.is_opening());
        site.idle.retain(|&idle| idle != key);
        site.connections -= 1;
        if site.shared.is_wanted(self.settings.worker) {
            site.yields_until = cx.ring.now().after(YIELD);
        }
        site.shared.release(self.settings.worker);
        self.serve(cx, connection.site);
        self.rest(connection.site);
    }

    /// Closes what carries no message: the gateway is draining.
    pub(crate) fn close_unused<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        let keys: Vec<Handle> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            let connection = &self.connections[key];
            if connection.is_opening() {
                self.close(cx, key);
            } else if connection.phase == Phase::Idle {
                let site = self.sites.get_mut(connection.site);
                site.idle.retain(|&idle| idle != key);
                self.quit(cx, key);
            }
        }
    }

    /// Something happened: if it is the end of what was awaited, what is awaited next has its own time.
    pub(crate) fn arm(&mut self, key: Handle, now: Instant) {
        let connection = &mut self.connections[key];
        let step = Some(connection.step());
        if std::mem::replace(&mut connection.awaited, step) == step {
            return;
        }
        connection.deadline = now.after(connection.timeout());
        // A timer that fires early looks at the deadline and goes on; only one that would be late is replaced.
        match connection.timer {
            Some((_, at)) if at <= connection.deadline => return,
            Some((timer, _)) => drop(self.wheel.cancel(timer)),
            None => {}
        }
        let timer = self.wheel.insert(connection.deadline, Timer::Connection(key.index()));
        connection.timer = Some((timer, connection.deadline));
    }

    pub(crate) fn check_deadline<R: Ring>(&mut self, cx: &mut Context<'_, R>, place: u32, now: Instant) {
        let Some((key, _)) = self.connections.at(place) else { return };
        let connection = &mut self.connections[key];
        connection.timer = None;
        if connection.deadline <= now {
            // Whatever comes of it, what is awaited next is something else.
            connection.awaited = None;
        } else {
            let timer = self.wheel.insert(connection.deadline, Timer::Connection(key.index()));
            connection.timer = Some((timer, connection.deadline));
            return;
        }
        match connection.phase {
            Phase::Idle => {
                let site = self.sites.get_mut(connection.site);
                site.idle.retain(|&idle| idle != key);
                self.quit(cx, key);
            }
            Phase::Quitting => self.close(cx, key),
            _ => self.lost(cx, key, Self::own_reply(2, "the next hop did not answer in time")),
        }
    }
}

/// The token of an operation on the present socket of a connection.
fn token(kind: u8, handle: Handle) -> Token {
    Token { room: ROOM, part: 0, kind, handle }
}

/// Why a host that MX records name is not connected to.
fn behind_us(host: &str, address: IpAddr) -> Reply {
    let text = format_args!(
        "{host} is at {address}, which is no public address; [delivery] private_destinations = true permits it"
    );
    Delivery::own_reply(4, text)
}

/// What a session to `host` does about TLS.
fn tls_for(configs: &crate::ClientTlsConfigs, site: &Site, host: &str, cleartext: bool) -> ClientTls {
    // A next hop's host is a name or an address; either is a name to TLS. What is neither gets no certificate.
    let name = ServerName::try_from(host.to_owned()).ok();
    match (site.tls, name) {
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
