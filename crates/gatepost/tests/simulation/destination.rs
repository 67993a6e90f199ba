//! A destination that speaks SMTP by itself, keeps a ledger, and fails in every way a destination can.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ring::sim::{SimRing, World};
use ring::{Completion, Instant, ListenOptions, Listener, Ring, Token};
use testbed::Arrival;
use testbed::random::Random;

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
    /// Takes nothing at all.
    pub is_closed: bool,
    /// Takes everything that it would ever take, at once.
    pub is_calm: bool,
}

struct Inbound {
    peer: Peer,
    connected: Instant,
    in_data: bool,
    /// Where the search for the last dot goes on.
    scanned: usize,
    /// MAIL was taken: a transaction has begun.
    has_sender: bool,
    reverse_path: String,
    recipients: Vec<String>,
    /// Taken and perhaps not known to the sender.
    unconfirmed: Vec<usize>,
    /// A reply that is held back.
    held: Option<(Instant, &'static str)>,
}

impl Destination {
    pub fn new(world: &World, ip: IpAddr, random: Random, unruliness: u64) -> Self {
        let (ring, listener) = listening(world, ip);
        Self {
            ip,
            ring,
            listener,
            random,
            connections: BTreeMap::new(),
            next: 0,
            taken: Vec::new(),
            unruliness,
            is_closed: false,
            is_calm: false,
        }
    }

    /// Loses power and is back at once; what it took, it keeps.
    pub fn crash(&mut self, world: &World) {
        world.crash(self.ip);
        self.connections.clear();
        (self.ring, self.listener) = listening(world, self.ip);
    }

    pub fn turn(&mut self) {
        let mut completions = Vec::new();
        let deadline = self.connections.values().filter_map(|inbound| inbound.held.map(|(at, _)| at)).min();
        self.ring.turn(deadline, &mut completions).expect("a simulated ring turns");
        for completion in completions {
            self.complete(completion);
        }
        let now = self.ring.now();
        let due = |inbound: &Inbound| inbound.held.is_some_and(|(at, _)| at <= now);
        let keys: Vec<u32> = self.connections.iter().filter(|(_, i)| due(i)).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(inbound) = self.connections.get_mut(&key)
                && let Some((_, reply)) = inbound.held.take()
            {
                inbound.peer.say(reply.as_bytes());
            }
            self.converse(key);
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { socket, .. } => {
                let key = self.next;
                self.next += 1;
                let token = Token { room: 0, kind: CONNECTION, key };
                self.ring.receive(socket, token);
                let mut peer = Peer::new(socket, token);
                if self.misbehaves(20) || self.is_closed {
                    peer.say(b"421 4.3.2 not now\r\n");
                    peer.close_when_said();
                } else {
                    peer.say(b"220 far.example ESMTP\r\n");
                }
                let inbound = Inbound {
                    peer,
                    connected: self.ring.now(),
                    in_data: false,
                    scanned: 0,
                    has_sender: false,
                    reverse_path: String::new(),
                    recipients: Vec::new(),
                    unconfirmed: Vec::new(),
                    held: None,
                };
                self.connections.insert(key, inbound);
                self.converse(key);
            }
            Completion::Received { token, chunk } => match self.connections.get_mut(&token.key) {
                Some(inbound) => {
                    inbound.peer.received(&mut self.ring, chunk);
                    self.converse(token.key);
                }
                None => self.ring.release(chunk),
            },
            Completion::Ended { token, result } => {
                if result.is_ok() {
                    self.confirm(token.key);
                }
                self.close(token.key);
            }
            Completion::Sent { token, .. } => {
                if let Some(inbound) = self.connections.get_mut(&token.key) {
                    inbound.peer.sent();
                }
                self.converse(token.key);
            }
            Completion::AcceptPaused { .. } => self.ring.accept(self.listener),
            _ => {}
        }
    }

    /// One time in `of`, unless calm.
    fn misbehaves(&mut self, of: u64) -> bool {
        let wants = self.random.below((of / self.unruliness).max(2)) == 0;
        wants && !self.is_calm
    }

    fn close(&mut self, key: u32) {
        if let Some(inbound) = self.connections.remove(&key) {
            self.ring.close(inbound.peer.socket);
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
                let Some(content) = content(inbound) else {
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
        let Some(inbound) = self.connections.get_mut(&key) else { return };
        let upper = line.to_ascii_uppercase();
        let reply: &str = if upper.starts_with("EHLO") {
            if pipelines {
                "250-far.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n"
            } else {
                "250-far.example\r\n250 8BITMIME\r\n"
            }
        } else if upper.starts_with("MAIL FROM:") {
            inbound.recipients.clear();
            inbound.has_sender = !refuses_mail;
            if refuses_mail {
                "451 4.3.0 not now\r\n"
            } else {
                inbound.reverse_path = path(line);
                "250 2.1.0 ok\r\n"
            }
        } else if upper.starts_with("RCPT TO:") {
            let recipient = path(line);
            if !inbound.has_sender {
                "503 5.5.1 no sender\r\n"
            } else if recipient.starts_with(REJECTED) {
                "550 5.1.1 no such user\r\n"
            } else if refuses_one {
                "450 4.2.1 greylisted\r\n"
            } else {
                inbound.recipients.push(recipient);
                "250 2.1.5 ok\r\n"
            }
        } else if upper == "DATA" {
            if inbound.recipients.is_empty() {
                "503 5.5.1 no recipients\r\n"
            } else if refuses_data {
                inbound.has_sender = false;
                inbound.recipients.clear();
                "451 4.3.0 not now\r\n"
            } else {
                (inbound.in_data, inbound.scanned) = (true, 0);
                "354 go on\r\n"
            }
        } else if upper == "RSET" {
            inbound.has_sender = false;
            inbound.recipients.clear();
            "250 2.0.0 ok\r\n"
        } else if upper == "QUIT" {
            inbound.peer.close_when_said();
            "221 2.0.0 bye\r\n"
        } else if upper == "NOOP" {
            "250 2.0.0 ok\r\n"
        } else {
            "502 5.5.1 what?\r\n"
        };
        inbound.peer.say(reply.as_bytes());
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
        if refuses {
            inbound.peer.say(b"452 4.3.1 no room\r\n");
            return true;
        }
        inbound.unconfirmed.push(self.taken.len());
        let arrival = Arrival::new(&inbound.reverse_path, &recipients, content);
        self.taken.push(Taken { arrival, connected: inbound.connected, at: now, confirmed: None });
        if dies {
            return false;
        }
        let reply = "250 2.0.0 taken\r\n";
        if waits {
            inbound.held = Some((now.after(delay), reply));
        } else {
            inbound.peer.say(reply.as_bytes());
            if ends {
                inbound.peer.close_when_said();
            }
        }
        true
    }
}

fn listening(world: &World, ip: IpAddr) -> (SimRing, Listener) {
    let mut ring = world.host(ip);
    let options = ListenOptions { address: SocketAddr::new(ip, 25), shared: false, backlog: 128 };
    let (listener, _) =
        ring.listen(options, Token { room: 0, kind: LISTENER, key: 0 }).expect("the port is free");
    ring.accept(listener);
    (ring, listener)
}

/// What stands between the angle brackets.
fn path(line: &str) -> String {
    let inner = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map(|(path, _)| path.to_owned()).unwrap_or_default()
}

/// The content, once its last dot is there, without dot-stuffing (RFC 5321 section 4.5.2).
fn content(inbound: &mut Inbound) -> Option<Vec<u8>> {
    let scanned = inbound.scanned;
    let input = inbound.peer.input();
    let end = if input.starts_with(b".\r\n") {
        0
    } else {
        let found = input[scanned..].windows(5).position(|window| window == b"\r\n.\r\n");
        match found {
            Some(at) => scanned + at + 2,
            None => {
                inbound.scanned = input.len().saturating_sub(4);
                return None;
            }
        }
    };
    let wire: Vec<u8> = input.drain(..end + 3).collect();
    let mut content = Vec::with_capacity(end);
    for line in wire[..end].split_inclusive(|byte| *byte == b'\n') {
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    Some(content)
}
