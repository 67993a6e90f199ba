//! A destination that speaks SMTP by itself, keeps a ledger, and fails in every way a destination can.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ring::sim::{SimRing, World};
use ring::{Completion, Instant, ListenOptions, Listener, Ring, Token};
use rustls::ServerConfig;
use testbed::Arrival;
use testbed::random::Random;

use super::guard::Guard;
use super::hostile::{Hostility, Misdeed, Moment, READY};
use super::peer::Peer;

/// Recipients that begin with this are refused for good.
pub const REJECTED: &str = "reject-";

const LISTENER: u8 = 0;
const CONNECTION: u8 = 1;

/// A message that this destination took, and what it knows of the sender's knowledge.
pub struct Taken {
    pub arrival: Arrival,
    /// When its connection was accepted.
    pub connected: Instant,
    /// When the last dot came.
    pub at: Instant,
    /// When the sender had certainly read the 250: it said something after it.
    pub confirmed: Option<Instant>,
    /// The TLS that was offered, and whether it was used.
    pub guard: Guard,
    pub is_sealed: bool,
}

/// A destination host.
pub struct Destination {
    ip: IpAddr,
    ring: SimRing,
    listener: Listener,
    random: Random,
    connections: BTreeMap<u32, Inbound>,
    next: u32,
    pub taken: Vec<Taken>,
    /// So much likelier than usual does it fail.
    unruliness: u64,
    /// It means harm.
    hostility: Option<Hostility>,
    /// Transactions that may have come to an end, as far as the sender can tell.
    pub ended: u64,
    /// Takes nothing at all.
    pub is_closed: bool,
    /// Takes everything that it would ever take, at once.
    pub is_calm: bool,
    pub guard: Guard,
    /// Its TLS, and that which it has when all is calm.
    tls: Option<Arc<ServerConfig>>,
    good_tls: Option<Arc<ServerConfig>>,
}

struct Inbound {
    peer: Peer,
    connected: Instant,
    in_data: bool,
    /// Where the search for the last dot goes on.
    scanned: usize,
    /// The TLS that it was offered.
    guard: Guard,
    tls: Option<Arc<ServerConfig>>,
    /// The TLS that it has promised, until it has said so.
    promised_tls: Option<Arc<ServerConfig>>,
    /// What it does in place of the handshake that it has promised.
    handshake: Option<Misdeed>,
    /// MAIL was taken: a transaction has begun.
    has_sender: bool,
    reverse_path: String,
    recipients: Vec<String>,
    /// Taken and perhaps not known to the sender.
    unconfirmed: Vec<usize>,
    /// A reply that is held back.
    held: Option<(Instant, String)>,
    /// Another that comes then, whatever is said meanwhile.
    one_more: Option<(Instant, &'static str)>,
    /// Its replies are no longer what they should be: what the sender knows cannot be said.
    is_out_of_step: bool,
}

impl Inbound {
    /// When it says what it keeps back.
    fn moments(&self) -> impl Iterator<Item = Instant> {
        let held = self.held.as_ref().map(|(at, _)| *at);
        held.into_iter().chain(self.one_more.map(|(at, _)| at))
    }
}

impl Destination {
    pub fn new(world: &World, ip: IpAddr, mut random: Random, unruliness: u64, is_hostile: bool) -> Self {
        let (ring, listener) = listening(world, ip);
        let hostility = is_hostile.then(|| Hostility::of(&mut random));
        Self {
            ip,
            ring,
            listener,
            random,
            connections: BTreeMap::new(),
            next: 0,
            taken: Vec::new(),
            unruliness,
            hostility,
            ended: 0,
            is_closed: false,
            is_calm: false,
            guard: Guard::Absent,
            tls: None,
            good_tls: None,
        }
    }

    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Its name is `name`, and it does so about TLS; `is_mended` says that it does well when all is calm.
    pub fn be_guarded(&mut self, guard: Guard, name: &'static str, is_mended: bool) {
        (self.guard, self.tls) = (guard, guard.config(name));
        self.good_tls = if is_mended { Guard::Good.config(name) } else { None };
    }

    /// Loses power and is back at once; what it took, it keeps.
    pub fn crash(&mut self, world: &World) {
        world.crash(self.ip);
        self.connections.clear();
        (self.ring, self.listener) = listening(world, self.ip);
    }

    pub fn turn(&mut self) {
        let mut completions = Vec::new();
        let deadline = self.connections.values().flat_map(Inbound::moments).min();
        self.ring.turn(deadline, &mut completions).expect("a simulated ring turns");
        for completion in completions {
            self.complete(completion);
        }
        let now = self.ring.now();
        let due = |inbound: &Inbound| inbound.moments().any(|at| at <= now);
        let keys: Vec<u32> = self.connections.iter().filter(|(_, i)| due(i)).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(inbound) = self.connections.get_mut(&key) {
                if let Some((_, reply)) = inbound.held.take_if(|(at, _)| *at <= now) {
                    inbound.peer.say(reply.as_bytes());
                }
                if let Some((_, reply)) = inbound.one_more.take_if(|(at, _)| *at <= now) {
                    inbound.peer.say(reply.as_bytes());
                }
            }
            self.converse(key);
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { socket, .. } => {
                let key = self.next;
                self.next += 1;
                let token = Token::fixed(0, CONNECTION, key);
                self.ring.receive(socket, token);
                let refuses = self.misbehaves(20) || self.is_closed;
                let (guard, tls) = match self.is_calm && self.good_tls.is_some() {
                    true => (Guard::Good, self.good_tls.clone()),
                    false => (self.guard, self.tls.clone()),
                };
                let inbound = Inbound {
                    peer: Peer::new(socket, token),
                    guard,
                    tls,
                    promised_tls: None,
                    handshake: None,
                    connected: self.ring.now(),
                    in_data: false,
                    scanned: 0,
                    has_sender: false,
                    reverse_path: String::new(),
                    recipients: Vec::new(),
                    unconfirmed: Vec::new(),
                    held: None,
                    one_more: None,
                    is_out_of_step: false,
                };
                self.connections.insert(key, inbound);
                if refuses {
                    self.say(key, Moment::Greeting, "421 4.3.2 not now\r\n");
                    self.leave(key);
                } else {
                    self.say(key, Moment::Greeting, "220 far.example ESMTP\r\n");
                }
                self.converse(key);
            }
            Completion::Received { token, chunk } => match self.connections.get_mut(&token.handle.index()) {
                Some(inbound) => {
                    inbound.peer.received(&mut self.ring, chunk);
                    self.converse(token.handle.index());
                }
                None => self.ring.release(chunk),
            },
            Completion::Ended { token, result } => {
                if result.is_ok() {
                    self.confirm(token.handle.index());
                }
                self.close(token.handle.index());
            }
            Completion::Sent { token, .. } => {
                if let Some(inbound) = self.connections.get_mut(&token.handle.index()) {
                    inbound.peer.sent();
                }
                self.converse(token.handle.index());
            }
            Completion::AcceptPaused { .. } => self.ring.accept(self.listener),
            _ => {}
        }
    }

    /// One time in `of`, unless calm.
    fn misbehaves(&mut self, of: u64) -> bool {
        let wants = self.random.below((of / self.unruliness).max(2)) == 0;
        // What always does the same harm does no other: a site that fails as it should rests.
        let is_steady = matches!(self.hostility, Some(Hostility::Always(..)));
        wants && !self.is_calm && !is_steady
    }

    fn close(&mut self, key: u32) {
        if let Some(inbound) = self.connections.remove(&key) {
            self.ring.close(inbound.peer.socket);
        }
    }

    /// Closes once everything was said.
    fn leave(&mut self, key: u32) {
        if let Some(inbound) = self.connections.get_mut(&key) {
            inbound.peer.close_when_said();
        }
    }

    /// Gives a reply, unless it means harm.
    fn say(&mut self, key: u32, moment: Moment, reply: &str) {
        let hostility = self.hostility.filter(|_| !self.is_calm);
        let misdeed = hostility.and_then(|hostility| hostility.act(&mut self.random, moment));
        let now = self.ring.now();
        let Some(inbound) = self.connections.get_mut(&key) else { return };
        let Some(misdeed) = misdeed else { return inbound.peer.say(reply.as_bytes()) };
        inbound.is_out_of_step = true;
        inbound.unconfirmed.clear();
        match misdeed {
            Misdeed::OneMore(other) => {
                inbound.peer.say(reply.as_bytes());
                inbound.peer.say(other.as_bytes());
            }
            Misdeed::Twice => inbound.peer.say(reply.repeat(2).as_bytes()),
            Misdeed::OneMoreLater(other, time) => {
                inbound.peer.say(reply.as_bytes());
                inbound.one_more = Some((now.after(time), other));
            }
            Misdeed::Late(time) => inbound.held = Some((now.after(time), reply.to_owned())),
            Misdeed::Missing => {}
            Misdeed::Cut(bytes) => inbound.peer.say(&reply.as_bytes()[..bytes.min(reply.len())]),
            Misdeed::CutAndClose(bytes) => {
                inbound.peer.say(&reply.as_bytes()[..bytes.min(reply.len())]);
                inbound.peer.close_when_said();
            }
            Misdeed::Close => {
                inbound.peer.say(reply.as_bytes());
                inbound.peer.close_when_said();
            }
            Misdeed::Nonsense => inbound.peer.say(b"hello\r\n"),
            Misdeed::Drop => self.close(key),
            Misdeed::Reset => {
                self.ring.reset(inbound.peer.socket);
                self.connections.remove(&key);
            }
        }
    }

    /// The sender has gone on after a 250: it has read it.
    fn confirm(&mut self, key: u32) {
        let now = self.ring.now();
        if let Some(inbound) = self.connections.get_mut(&key) {
            for taken in inbound.unconfirmed.drain(..) {
                self.taken[taken].confirmed = Some(now);
            }
        }
    }

    fn converse(&mut self, key: u32) {
        while let Some(inbound) = self.connections.get_mut(&key) {
            if inbound.held.is_some() {
                break;
            }
            if inbound.in_data {
                let Some(content) = inbound.peer.content(&mut inbound.scanned) else {
                    // In the middle of a message.
                    if self.misbehaves(300) {
                        return self.close(key);
                    }
                    break;
                };
                if !self.last_dot(key, &content) {
                    return self.close(key);
                }
            } else {
                if let Some(config) = inbound.promised_tls.take() {
                    inbound.peer.start_tls(config);
                }
                if let Some(misdeed) = inbound.handshake {
                    if !inbound.peer.input().is_empty() {
                        self.break_handshake(key, misdeed);
                    }
                    break;
                }
                let Some(line) = inbound.peer.line() else { break };
                self.confirm(key);
                if self.misbehaves(150) {
                    return self.close(key);
                }
                self.command(key, &line);
            }
        }
        if let Some(inbound) = self.connections.get_mut(&key)
            && inbound.peer.pump(&mut self.ring)
        {
            self.close(key);
        }
    }

    fn command(&mut self, key: u32, line: &str) {
        let (refuses_mail, refuses_one, refuses_data) =
            (self.misbehaves(30) || self.is_closed, self.misbehaves(20), self.misbehaves(40));
        let pipelines = self.random.below(4) > 0;
        let is_hostile = self.hostility.is_some();
        let Some(inbound) = self.connections.get_mut(&key) else { return };
        let upper = line.to_ascii_uppercase();
        let offers_tls = inbound.guard != Guard::Absent && !inbound.peer.is_sealed();
        if upper == "STARTTLS" && offers_tls {
            return self.promise_tls(key);
        }
        let (moment, reply) = if upper.starts_with("EHLO") {
            let reply = if offers_tls {
                "250-far.example\r\n250-STARTTLS\r\n250 8BITMIME\r\n"
            } else if pipelines {
                "250-far.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n"
            } else {
                "250-far.example\r\n250 8BITMIME\r\n"
            };
            (Moment::Hello, reply)
        } else if upper.starts_with("MAIL FROM:") {
            inbound.recipients.clear();
            inbound.has_sender = !refuses_mail;
            self.ended += u64::from(refuses_mail);
            let reply = if refuses_mail {
                "451 4.3.0 not now\r\n"
            } else {
                inbound.reverse_path = path(line);
                "250 2.1.0 ok\r\n"
            };
            (Moment::Mail, reply)
        } else if upper.starts_with("RCPT TO:") {
            let recipient = path(line);
            let reply = if !inbound.has_sender {
                if is_hostile { "451 4.5.1 no sender\r\n" } else { "503 5.5.1 no sender\r\n" }
            } else if recipient.starts_with(REJECTED) {
                "550 5.1.1 no such user\r\n"
            } else if refuses_one && !is_hostile {
                "450 4.2.1 greylisted\r\n"
            } else {
                inbound.recipients.push(recipient);
                "250 2.1.5 ok\r\n"
            };
            self.ended += u64::from(!reply.starts_with('2'));
            (Moment::Recipient, reply)
        } else if upper == "DATA" {
            let reply = if inbound.recipients.is_empty() {
                if is_hostile { "451 4.5.1 no recipients\r\n" } else { "503 5.5.1 no recipients\r\n" }
            } else if refuses_data {
                inbound.has_sender = false;
                inbound.recipients.clear();
                "451 4.3.0 not now\r\n"
            } else {
                (inbound.in_data, inbound.scanned) = (true, 0);
                "354 go on\r\n"
            };
            self.ended += u64::from(!reply.starts_with('3'));
            (Moment::Data, reply)
        } else if upper == "RSET" {
            inbound.has_sender = false;
            inbound.recipients.clear();
            (Moment::Reset, "250 2.0.0 ok\r\n")
        } else if upper == "QUIT" {
            (Moment::Quit, "221 2.0.0 bye\r\n")
        } else {
            (Moment::Hello, if is_hostile { "451 4.5.1 what?\r\n" } else { "502 5.5.1 what?\r\n" })
        };
        self.say(key, moment, reply);
        if moment == Moment::Quit {
            self.leave(key);
        }
    }

    /// Answers STARTTLS: a handshake follows, or what becomes of it.
    fn promise_tls(&mut self, key: u32) {
        let hostility = self.hostility.filter(|_| !self.is_calm);
        let misdeed = hostility.and_then(|hostility| hostility.act(&mut self.random, Moment::Handshake));
        self.say(key, Moment::StartTls, READY);
        let Some(inbound) = self.connections.get_mut(&key) else { return };
        // What came too early is no part of the handshake (RFC 3207 section 4.2).
        inbound.peer.input().clear();
        match (misdeed, inbound.tls.clone()) {
            (None, Some(config)) => inbound.promised_tls = Some(config),
            (None, None) => inbound.handshake = Some(Misdeed::Nonsense),
            (misdeed, _) => inbound.handshake = misdeed,
        }
    }

    /// The handshake was begun, and this end does not go on with it.
    fn break_handshake(&mut self, key: u32, misdeed: Misdeed) {
        let Some(inbound) = self.connections.get_mut(&key) else { return };
        match misdeed {
            Misdeed::Drop => self.close(key),
            Misdeed::Reset => {
                self.ring.reset(inbound.peer.socket);
                self.connections.remove(&key);
            }
            misdeed => misdeed.break_handshake(&mut inbound.peer),
        }
    }

    /// The last dot came. False: the connection dies without a word.
    fn last_dot(&mut self, key: u32, content: &[u8]) -> bool {
        let (refuses, dies, ends, waits) =
            (self.misbehaves(20), self.misbehaves(25), self.misbehaves(40), self.misbehaves(8));
        let delay = Duration::from_millis(self.random.below(8000));
        let now = self.ring.now();
        let Some(inbound) = self.connections.get_mut(&key) else { return false };
        (inbound.in_data, inbound.has_sender) = (false, false);
        let recipients = std::mem::take(&mut inbound.recipients);
        self.ended += 1;
        // A sender who is out of step may end a message that it never began.
        let is_none = self.hostility.is_some()
            && [&b"RSET\r\n"[..], b"MAIL FROM:"].iter().any(|command| content.starts_with(command))
            || content.is_empty();
        if refuses || is_none {
            self.say(key, Moment::LastDot, "452 4.3.1 no room\r\n");
            return true;
        }
        if !inbound.is_out_of_step {
            inbound.unconfirmed.push(self.taken.len());
        }
        let arrival = Arrival::new(&inbound.reverse_path, &recipients, content);
        let (guard, is_sealed) = (inbound.guard, inbound.peer.is_sealed());
        let connected = inbound.connected;
        self.taken.push(Taken { arrival, connected, at: now, confirmed: None, guard, is_sealed });
        if dies {
            return false;
        }
        let reply = "250 2.0.0 taken\r\n";
        if waits {
            inbound.held = Some((now.after(delay), reply.to_owned()));
        } else {
            self.say(key, Moment::LastDot, reply);
            if ends {
                self.leave(key);
            }
        }
        true
    }
}

fn listening(world: &World, ip: IpAddr) -> (SimRing, Listener) {
    let mut ring = world.host(ip);
    let options = ListenOptions { address: SocketAddr::new(ip, 25), shared: false, backlog: 128 };
    let (listener, _) = ring.listen(options, Token::fixed(0, LISTENER, 0)).expect("the port is free");
    ring.accept(listener);
    (ring, listener)
}

/// What stands between the angle brackets.
fn path(line: &str) -> String {
    let inner = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map(|(path, _)| path.to_owned()).unwrap_or_default()
}
