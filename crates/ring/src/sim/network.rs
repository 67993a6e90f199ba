//! Connections between hosts: latencies, streams in random pieces, windows, refusals and resets.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::course::{Course, Event, NetworkEvent, Owner, Ready};
use super::disk::errno;
use super::endpoint::{Endpoint, Sending};
use crate::{Completion, Handle, Instant, ListenOptions, Listener, Output, Socket, Token};

/// Between processes of one host.
const LOOPBACK_LATENCY: (Duration, Duration) = (Duration::from_micros(5), Duration::from_micros(60));
/// From handing bytes to the kernel to hearing of it.
const SEND_LATENCY: (Duration, Duration) = (Duration::from_micros(1), Duration::from_micros(30));
/// Until a connection to a host that is off is given up (as an ARP entry fails).
const UNREACHABLE_AFTER: Duration = Duration::from_secs(3);
/// A SYN that found the backlog full is sent again after 1 s, doubling, so many times.
const SYN_ATTEMPTS_MAX: u32 = 6;
const EPHEMERAL_PORTS: std::ops::Range<u16> = 32_768..60_999;

#[derive(Debug)]
struct ListenerState {
    ring: u32,
    ip: IpAddr,
    address: SocketAddr,
    shared: bool,
    backlog: usize,
    token: Token,
    accepting: bool,
    waiting: VecDeque<u32>,
}

/// The connections of all hosts.
#[derive(Debug, Default)]
pub(super) struct Network {
    endpoints: BTreeMap<u32, Endpoint>,
    listeners: BTreeMap<u32, ListenerState>,
    /// Connections that were asked for, by the host they were to go to.
    pub(super) connects: BTreeMap<IpAddr, u64>,
}

/// What a ring asks for.
impl Network {
    pub(super) fn listen(
        &mut self,
        course: &mut Course,
        ring: u32,
        options: ListenOptions,
        token: Token,
    ) -> io::Result<(Listener, SocketAddr)> {
        let ip = course.rings.get(&ring).ok_or_else(|| errno(libc::ENETDOWN))?.ip;
        let mut address = options.address;
        let asked = address.ip();
        if asked != ip && !asked.is_unspecified() && !asked.is_loopback() {
            return Err(errno(libc::EADDRNOTAVAIL));
        }
        if address.port() == 0 {
            address.set_port(ephemeral_port(course));
        }
        let overlaps = |other: SocketAddr| {
            other.port() == address.port()
                && (other.ip() == asked || other.ip().is_unspecified() || asked.is_unspecified())
        };
        let taken = |other: &ListenerState| {
            other.ip == ip && overlaps(other.address) && !(other.shared && options.shared)
        };
        if self.listeners.values().any(taken) {
            return Err(errno(libc::EADDRINUSE));
        }
        let id = course.next_id();
        let listener = ListenerState {
            ring,
            ip,
            address,
            shared: options.shared,
            backlog: options.backlog as usize,
            token,
            accepting: false,
            waiting: VecDeque::new(),
        };
        self.listeners.insert(id, listener);
        Ok((Listener(id), address))
    }

    pub(super) fn set_accepting(
        &mut self,
        course: &mut Course,
        ring: u32,
        listener: Listener,
        accepting: bool,
    ) {
        if let Some(state) = self.listeners.get_mut(&listener.0).filter(|state| state.ring == ring) {
            state.accepting = accepting;
            self.accept_waiting(course, listener.0);
        }
    }

    pub(super) fn close_listener(&mut self, course: &mut Course, ring: u32, listener: u32) {
        if self.listeners.get(&listener).is_none_or(|state| state.ring != ring) {
            return;
        }
        let Some(state) = self.listeners.remove(&listener) else { return };
        let mut orphans: Vec<u32> = state.waiting.into();
        for (owner, ready) in course.rings.get(&ring).iter().flat_map(|ring| &ring.ready) {
            if let (Ready::Other(Completion::Accepted { socket, .. }), true) =
                (ready, *owner == Owner::Listener(listener))
            {
                orphans.push(socket.0.index());
            }
        }
        course.swallow(ring, Owner::Listener(listener));
        for orphan in orphans {
            self.cut(course, orphan);
        }
    }

    pub(super) fn connect(
        &mut self,
        course: &mut Course,
        ring: u32,
        to: SocketAddr,
        source: Option<IpAddr>,
        token: Token,
    ) -> Socket {
        let id = course.next_id();
        *self.connects.entry(to.ip()).or_default() += 1;
        let own = course.rings.get(&ring).map(|ring| ring.ip);
        if let Some(own) = own {
            let ip = source.unwrap_or(if to.ip().is_loopback() { to.ip() } else { own });
            let local = SocketAddr::new(ip, ephemeral_port(course));
            let mut endpoint = Endpoint::new(ring, local, to, course.now);
            endpoint.connecting = Some(token);
            self.endpoints.insert(id, endpoint);
            if course.random.chance(course.options.descriptor_error_probability) {
                let now = course.now;
                schedule_refusal(course, now, id, libc::EMFILE);
                return Socket(Handle::of(id, ring));
            }
            let at = arrival(course, ring, to.ip());
            course.schedule(at, Event::Network(NetworkEvent::Syn { client: id, attempt: 0 }));
        }
        Socket(Handle::of(id, ring))
    }

    pub(super) fn receive(&mut self, course: &mut Course, socket: Socket, token: Token) {
        if let Some(endpoint) = self.endpoint(socket) {
            endpoint.receiving = Some(token);
            self.deliver(course, socket.0.index());
        }
    }

    pub(super) fn pause(&mut self, socket: Socket) {
        if let Some(endpoint) = self.endpoint(socket) {
            endpoint.receiving = None;
        }
    }

    pub(super) fn send(&mut self, course: &mut Course, socket: Socket, output: Output, token: Token) {
        let Some(endpoint) = self.endpoint(socket) else { return };
        assert!(endpoint.sending.is_none(), "a send of this socket is still under way");
        if endpoint.peer.is_none() && endpoint.broken.is_none() {
            endpoint.broken = Some(libc::ENOTCONN);
        }
        endpoint.sending = Some(Sending { token, output, at: 0 });
        if endpoint.broken.is_some() {
            self.fail_send(course, socket.0.index());
        } else {
            self.pump(course, socket.0.index());
        }
    }

    pub(super) fn close(&mut self, course: &mut Course, socket: Socket) {
        course.swallow(socket.0.generation(), Owner::Socket(socket.0.index()));
        if self.endpoint(socket).is_none() {
            return;
        }
        let Some(endpoint) = self.endpoints.remove(&socket.0.index()) else { return };
        let Some(peer) = endpoint.peer.filter(|_| endpoint.broken.is_none()) else { return };
        let at = arrival(course, endpoint.ring, endpoint.remote.ip()).max(endpoint.last_arrival);
        course.schedule(at, Event::Network(NetworkEvent::Fin { to: peer }));
        if let Some(peer) = self.endpoints.get_mut(&peer) {
            peer.last_word = at;
        }
        // What is unread will never be taken: its sender hears so, after our last byte.
        if !endpoint.arrived.is_empty() {
            course.schedule(at, Event::Network(NetworkEvent::Reset { to: peer }));
        }
    }

    /// Sends the end of our stream and goes on receiving.
    pub(super) fn end_sending(&mut self, course: &mut Course, socket: Socket) {
        let Some(endpoint) = self.endpoint(socket).filter(|endpoint| endpoint.broken.is_none()) else {
            return;
        };
        endpoint.broken = Some(libc::EPIPE);
        let id = socket.0.index();
        self.fail_send(course, id);
        let Some(endpoint) = self.endpoints.remove(&id) else { return };
        let at = arrival(course, endpoint.ring, endpoint.remote.ip()).max(endpoint.last_arrival);
        if let Some(peer) = endpoint.peer {
            course.schedule(at, Event::Network(NetworkEvent::Fin { to: peer }));
        }
        self.endpoints.insert(id, endpoint);
    }

    /// The owner of this end breaks the connection.
    pub(super) fn reset_by(&mut self, course: &mut Course, socket: Socket) {
        course.swallow(socket.0.generation(), Owner::Socket(socket.0.index()));
        if self.endpoint(socket).is_some() {
            self.cut(course, socket.0.index());
        }
    }

    /// The power of this ring's host is gone: its peers hear resets.
    pub(super) fn cut_connections(&mut self, course: &mut Course, ring: u32) {
        self.listeners.retain(|_, listener| listener.ring != ring);
        for id in self.endpoints_of(ring) {
            self.cut(course, id);
        }
    }

    /// The process of this ring ended: the kernel closes what it had.
    pub(super) fn close_connections(&mut self, course: &mut Course, ring: u32) {
        let listeners = self.listeners.iter().filter(|(_, listener)| listener.ring == ring);
        for id in listeners.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.close_listener(course, ring, id);
        }
        for id in self.endpoints_of(ring) {
            self.close(course, Socket(Handle::of(id, ring)));
        }
    }
}

/// How it goes on.
impl Network {
    fn endpoint(&mut self, socket: Socket) -> Option<&mut Endpoint> {
        self.endpoints.get_mut(&socket.0.index()).filter(|endpoint| endpoint.ring == socket.0.generation())
    }

    fn endpoints_of(&self, ring: u32) -> Vec<u32> {
        self.endpoints.iter().filter(|(_, endpoint)| endpoint.ring == ring).map(|(id, _)| *id).collect()
    }

    /// Ends an endpoint without a word to its owner; the peer hears a reset.
    fn cut(&mut self, course: &mut Course, id: u32) {
        let Some(endpoint) = self.endpoints.remove(&id) else { return };
        if let Some(peer) = endpoint.peer.filter(|_| endpoint.broken != Some(libc::ECONNRESET)) {
            let at = arrival(course, endpoint.ring, endpoint.remote.ip()).max(endpoint.last_arrival);
            course.schedule(at, Event::Network(NetworkEvent::Reset { to: peer }));
        }
    }

    pub(super) fn event(&mut self, course: &mut Course, event: NetworkEvent) {
        match event {
            NetworkEvent::Syn { client, attempt } => self.handshake(course, client, attempt),
            NetworkEvent::Refused { client, code } => self.connect_failed(course, client, code),
            NetworkEvent::Established { client, server } => self.connected(course, client, server),
            NetworkEvent::Piece { from, to, bytes } => {
                course.note(&[1, u64::from(to), bytes.len() as u64]);
                course.note_bytes(&bytes);
                match self.endpoints.get_mut(&to) {
                    Some(endpoint) if endpoint.end.is_none() => {
                        endpoint.arrived.push_back(bytes);
                        self.deliver(course, to);
                    }
                    Some(_) => {}
                    None => self.answer_with_reset(course, from),
                }
            }
            NetworkEvent::Fin { to } => {
                course.note(&[2, u64::from(to)]);
                if let Some(endpoint) = self.endpoints.get_mut(&to) {
                    endpoint.end.get_or_insert(0);
                    self.deliver(course, to);
                }
            }
            NetworkEvent::Reset { to } => self.reset(course, to),
            NetworkEvent::Window { to, bytes } => {
                if let Some(endpoint) = self.endpoints.get_mut(&to) {
                    endpoint.in_flight_bytes = endpoint.in_flight_bytes.saturating_sub(bytes);
                    self.pump(course, to);
                }
            }
            NetworkEvent::SendDone { socket } => self.send_done(course, socket),
        }
    }

    fn handshake(&mut self, course: &mut Course, client: u32, attempt: u32) {
        let Some(endpoint) = self.endpoints.get(&client) else { return };
        let (ring, local, to) = (endpoint.ring, endpoint.local, endpoint.remote);
        let Some(own) = course.rings.get(&ring).map(|ring| ring.ip) else { return };
        let host = if to.ip().is_loopback() { own } else { to.ip() };
        let (now, back) = (course.now, arrival(course, ring, to.ip()));
        if !course.rings.values().any(|ring| ring.ip == host) {
            return schedule_refusal(course, now.after(UNREACHABLE_AFTER), client, libc::EHOSTUNREACH);
        }
        let reaches = |listener: &ListenerState| {
            let address = listener.address;
            let ip_fits = address.ip() == to.ip() || address.ip().is_unspecified();
            listener.ip == host && address.port() == to.port() && ip_fits
        };
        let candidates: Vec<u32> =
            self.listeners.iter().filter(|(_, listener)| reaches(listener)).map(|(id, _)| *id).collect();
        if candidates.is_empty() || course.random.chance(course.options.refuse_probability) {
            return schedule_refusal(course, back, client, libc::ECONNREFUSED);
        }
        // As SO_REUSEPORT does, whether or not that one is accepting.
        let chosen = candidates[course.random.below(candidates.len() as u64) as usize];
        let server = course.next_id();
        let Some(listener) = self.listeners.get_mut(&chosen) else { return };
        if listener.waiting.len() > listener.backlog {
            if attempt == SYN_ATTEMPTS_MAX {
                return schedule_refusal(course, now, client, libc::ETIMEDOUT);
            }
            let again = now.after(Duration::from_secs(1 << attempt));
            let event = NetworkEvent::Syn { client, attempt: attempt + 1 };
            return course.schedule(again, Event::Network(event));
        }
        listener.waiting.push_back(server);
        let mut endpoint = Endpoint::new(listener.ring, to, local, back);
        endpoint.peer = Some(client);
        self.endpoints.insert(server, endpoint);
        course.note(&[3, u64::from(client), u64::from(server)]);
        course.schedule(back, Event::Network(NetworkEvent::Established { client, server }));
        self.accept_waiting(course, chosen);
    }

    fn connect_failed(&mut self, course: &mut Course, client: u32, code: i32) {
        if let Some(endpoint) = self.endpoints.remove(&client)
            && let Some(token) = endpoint.connecting
        {
            course.note(&[4, u64::from(client), code as u64]);
            let completion = Completion::Connected { token, result: Err(errno(code)) };
            course.push_ready(endpoint.ring, Owner::Socket(client), Ready::Other(completion));
        }
    }

    fn connected(&mut self, course: &mut Course, client: u32, server: u32) {
        let Some(endpoint) = self.endpoints.get_mut(&client) else {
            // Closed meanwhile: the server's end goes too.
            return self.reset(course, server);
        };
        endpoint.peer = Some(server);
        let ring = endpoint.ring;
        if let Some(token) = endpoint.connecting.take() {
            let completion = Completion::Connected { token, result: Ok(endpoint.local) };
            course.push_ready(ring, Owner::Socket(client), Ready::Other(completion));
        }
    }

    fn accept_waiting(&mut self, course: &mut Course, id: u32) {
        loop {
            let fails = course.options.accept_error_probability;
            let Some(listener) = self.listeners.get_mut(&id) else { return };
            if !listener.accepting || listener.waiting.is_empty() {
                return;
            }
            let (ring, token) = (listener.ring, listener.token);
            if course.random.chance(fails) {
                listener.accepting = false;
                let completion = Completion::AcceptPaused { token, error: errno(libc::EMFILE) };
                return course.push_ready(ring, Owner::None, Ready::Other(completion));
            }
            let Some(socket) = listener.waiting.pop_front() else { return };
            let Some(endpoint) = self.endpoints.get(&socket) else { continue };
            let completion = Completion::Accepted {
                token,
                socket: Socket(Handle::of(socket, ring)),
                peer: endpoint.remote,
                local: endpoint.local,
            };
            course.push_ready(ring, Owner::Listener(id), Ready::Other(completion));
        }
    }

    /// Hands what has arrived to a receiver.
    fn deliver(&mut self, course: &mut Course, id: u32) {
        loop {
            let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
            let (Some(token), ring) = (endpoint.receiving, endpoint.ring) else { return };
            if let Some(bytes) = endpoint.arrived.pop_front() {
                let (peer, remote, taken) = (endpoint.peer, endpoint.remote.ip(), bytes.len());
                course.push_ready(ring, Owner::Socket(id), Ready::Received { token, bytes });
                if let Some(peer) = peer {
                    let at = arrival(course, ring, remote);
                    course.schedule(at, Event::Network(NetworkEvent::Window { to: peer, bytes: taken }));
                }
            } else {
                if let Some(code) = endpoint.end {
                    endpoint.receiving = None;
                    let result = if code == 0 { Ok(()) } else { Err(errno(code)) };
                    let completion = Completion::Ended { token, result };
                    course.push_ready(ring, Owner::Socket(id), Ready::Other(completion));
                }
                return;
            }
        }
    }

    /// What `id` sent came to an end that is gone.
    fn answer_with_reset(&mut self, course: &mut Course, id: u32) {
        let Some(endpoint) = self.endpoints.get(&id) else { return };
        let (ring, remote, last_word) = (endpoint.ring, endpoint.remote.ip(), endpoint.last_word);
        let at = arrival(course, ring, remote).max(last_word);
        course.schedule(at, Event::Network(NetworkEvent::Reset { to: id }));
    }

    /// The connection is broken for this end; what had arrived can still be read.
    fn reset(&mut self, course: &mut Course, id: u32) {
        course.note(&[5, u64::from(id)]);
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.end.get_or_insert(libc::ECONNRESET);
            endpoint.broken = Some(libc::ECONNRESET);
            self.fail_send(course, id);
            self.deliver(course, id);
        }
    }

    fn fail_send(&mut self, course: &mut Course, id: u32) {
        if let Some(endpoint) = self.endpoints.get_mut(&id)
            && let Some(Sending { token, output, .. }) = endpoint.sending.take()
        {
            let ring = endpoint.ring;
            let code = endpoint.broken.unwrap_or(libc::EPIPE);
            let completion = Completion::Sent { token, result: Err(errno(code)), output };
            course.push_ready(ring, Owner::Socket(id), Ready::Other(completion));
        }
    }

    /// Moves bytes of a send into the window, piece by piece.
    fn pump(&mut self, course: &mut Course, id: u32) {
        loop {
            let window = course.options.window_bytes;
            let most = match course.random.below(8) {
                0 => 8,
                1 | 2 => 256,
                _ => course.options.piece_bytes_max,
            };
            let piece = course.random.up_to(most.min(course.options.piece_bytes_max));
            let Some(endpoint) = self.endpoints.get_mut(&id) else { return };
            let (ring, remote, last) = (endpoint.ring, endpoint.remote.ip(), endpoint.last_arrival);
            let (Some(peer), Some(sending)) = (endpoint.peer, &mut endpoint.sending) else { return };
            let rest = &sending.output.bytes()[sending.at..];
            if rest.is_empty() {
                let at = course.now.after(course.random.between(SEND_LATENCY));
                return course.schedule(at, Event::Network(NetworkEvent::SendDone { socket: id }));
            }
            let count = piece.min(rest.len()).min(window.saturating_sub(endpoint.in_flight_bytes));
            if count == 0 {
                return;
            }
            let bytes = rest[..count].to_vec();
            sending.at += count;
            endpoint.in_flight_bytes += count;
            let at = arrival(course, ring, remote).max(last);
            endpoint.last_arrival = at;
            if course.random.chance(course.options.reset_probability) {
                course.schedule(at, Event::Network(NetworkEvent::Reset { to: peer }));
                return self.reset(course, id);
            }
            course.schedule(at, Event::Network(NetworkEvent::Piece { from: id, to: peer, bytes }));
        }
    }

    fn send_done(&mut self, course: &mut Course, id: u32) {
        if let Some(endpoint) = self.endpoints.get_mut(&id)
            && let Some(done) = endpoint.sending.take_if(|sending| sending.at == sending.output.bytes().len())
        {
            let ring = endpoint.ring;
            let completion = Completion::Sent { token: done.token, result: Ok(()), output: done.output };
            course.push_ready(ring, Owner::Socket(id), Ready::Other(completion));
        }
    }
}

fn ephemeral_port(course: &mut Course) -> u16 {
    let span = u64::from(EPHEMERAL_PORTS.end - EPHEMERAL_PORTS.start);
    EPHEMERAL_PORTS.start + (course.next_sequence() % span) as u16
}

/// When what leaves the process of this ring now is at a host.
fn arrival(course: &mut Course, ring: u32, to: IpAddr) -> Instant {
    let is_local = to.is_loopback() || course.rings.get(&ring).is_some_and(|ring| ring.ip == to);
    let range = if is_local { LOOPBACK_LATENCY } else { course.options.network_latency };
    course.now.after(course.random.between(range) + course.stall())
}

fn schedule_refusal(course: &mut Course, at: Instant, client: u32, code: i32) {
    course.schedule(at, Event::Network(NetworkEvent::Refused { client, code }));
}
