//! A destination: an SMTP server of few lines that answers as a closure says and keeps what it took.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ring::sim::{SimRing, World};
use ring::{Completion, Instant, ListenOptions, Listener, Output, Ring, Socket, Token};

/// Gives the reply to a command line, "" for the usual one. It is asked with "CONNECT" for the greeting
/// and with "." for the end of a body. Where `{}` stands in it, it is the usual one's place.
///
/// Instead of a reply: "drop" closes the connection, "reset" breaks it, "mute" says nothing. Before a
/// reply: "cut:" closes the connection right behind it, without its line end; "close:" with it; and
/// "late:SECONDS:" keeps it back; "drip:SECONDS:" gives a byte of it at a time, so far apart, and "tail:SECONDS:" its first line at once; "deaf:" takes
/// no more bytes from then on. What the other end says after its STARTTLS was answered 220 is not read.
pub(crate) type Behave = Box<dyn FnMut(&str) -> String>;

/// More connections than any scene is for: what else would come of a storm is a test without an end.
const STORM: u32 = 20_000;

/// A message that was answered 250.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// In wire form, without the final dot.
    pub(crate) body: Vec<u8>,
}

#[derive(Default)]
struct Peer {
    socket: Option<Socket>,
    input: Vec<u8>,
    /// What of the input is known to hold no end.
    searched: usize,
    output: Vec<u8>,
    sending: bool,
    in_body: bool,
    /// It closes when what it said is on its way, as after a 421 (RFC 5321 section 3.8).
    is_leaving: bool,
    /// What it says then.
    late: VecDeque<(Instant, String)>,
    /// It has promised a handshake.
    is_sealed: bool,
    from: String,
    to: Vec<String>,
}

pub(crate) struct Destination {
    ring: SimRing,
    listener: Listener,
    behave: Behave,
    peers: HashMap<u32, Peer>,
    pub(crate) connections: u32,
    pub(crate) open_max: usize,
    pub(crate) taken: Vec<Taken>,
}

impl Destination {
    pub(crate) fn start(world: &World, ip: IpAddr, behave: Behave) -> Self {
        let mut ring = world.host(ip);
        let options = ListenOptions { address: SocketAddr::new(ip, 25), shared: false, backlog: 64 };
        let (listener, _) = ring.listen(options, Token::fixed(9, 0, 0)).expect("it listens");
        ring.accept(listener);
        Self { ring, listener, behave, peers: HashMap::new(), connections: 0, open_max: 0, taken: Vec::new() }
    }

    /// Takes no connection from now on.
    pub(crate) fn close_listener(&mut self) {
        self.ring.close_listener(self.listener);
    }

    pub(crate) fn turn(&mut self) {
        let mut completions = Vec::new();
        let late = |peer: &Peer| peer.late.front().map(|(at, _)| *at);
        let deadline = self.peers.values().filter_map(late).min();
        self.ring.turn(deadline, &mut completions).expect("a simulated ring turns");
        let now = self.ring.now();
        let is_due = |peer: &Peer| late(peer).is_some_and(|at| at <= now);
        let due: Vec<u32> = self.peers.iter().filter(|(_, p)| is_due(p)).map(|(key, _)| *key).collect();
        for key in due {
            let peer = self.peers.get_mut(&key).expect("just found");
            let (_, said) = peer.late.pop_front().expect("just found");
            peer.output.extend_from_slice(said.as_bytes());
            self.flush(key);
        }
        for completion in completions {
            match completion {
                Completion::Accepted { socket, .. } => {
                    self.connections += 1;
                    assert!(self.connections < STORM, "a storm of connections");
                    let key = self.connections;
                    self.peers.insert(key, Peer { socket: Some(socket), ..Peer::default() });
                    self.open_max = self.open_max.max(self.peers.len());
                    self.ring.receive(socket, Token::fixed(9, 1, key));
                    self.answer(key, "CONNECT", "220 destination.example ready");
                    self.flush(key);
                }
                Completion::Received { token, chunk } => {
                    let peer = self.peers.get_mut(&token.handle.index());
                    if let Some(peer) = peer.filter(|peer| !peer.is_sealed) {
                        peer.input.extend_from_slice(self.ring.chunk(&chunk));
                    }
                    self.ring.release(chunk);
                    self.hear(token.handle.index());
                    self.flush(token.handle.index());
                }
                Completion::Ended { token, .. } => self.close(token.handle.index()),
                Completion::Sent { token, .. } => {
                    if let Some(peer) = self.peers.get_mut(&token.handle.index()) {
                        peer.sending = false;
                        if peer.is_leaving && peer.output.is_empty() {
                            self.close(token.handle.index());
                        }
                    }
                    self.flush(token.handle.index());
                }
                other => panic!("a destination did not expect {other:?}"),
            }
        }
    }

    fn close(&mut self, key: u32) {
        if let Some(socket) = self.peers.remove(&key).and_then(|peer| peer.socket) {
            self.ring.close(socket);
        }
    }

    fn hear(&mut self, key: u32) {
        while let Some(peer) = self.peers.get_mut(&key) {
            let end: &[u8] = if peer.in_body { b"\r\n.\r\n" } else { b"\r\n" };
            let from = peer.searched.saturating_sub(end.len());
            let found = peer.input[from..].windows(end.len()).position(|window| window == end);
            let Some(at) = found.map(|at| from + at) else {
                peer.searched = peer.input.len();
                return;
            };
            peer.searched = 0;
            let taken: Vec<u8> = peer.input.drain(..at + end.len()).collect();
            if std::mem::take(&mut peer.in_body) {
                let body = taken[..at + 2].to_vec();
                let message = Taken { from: peer.from.clone(), to: std::mem::take(&mut peer.to), body };
                if self.answer(key, ".", "250 2.0.0 taken") {
                    self.taken.push(message);
                }
            } else {
                let line = String::from_utf8(taken[..at].to_vec()).expect("commands are text");
                self.command(key, &line);
            }
        }
    }

    fn command(&mut self, key: u32, line: &str) {
        let verb = line.split([' ', ':']).next().unwrap_or("").to_ascii_uppercase();
        let path = line.split(['<', '>']).nth(1).unwrap_or("").to_owned();
        match verb.as_str() {
            "EHLO" => {
                self.answer(
                    key,
                    line,
                    "250-destination.example\r\n250-PIPELINING\r\n250-SIZE\r\n250 8BITMIME",
                );
            }
            "MAIL" => {
                if self.answer(key, line, "250 2.1.0 ok")
                    && let Some(peer) = self.peers.get_mut(&key)
                {
                    peer.from = path;
                    peer.to.clear();
                }
            }
            "RCPT" => {
                if self.answer(key, line, "250 2.1.5 ok")
                    && let Some(peer) = self.peers.get_mut(&key)
                {
                    peer.to.push(path);
                }
            }
            "DATA" => {
                let usual = match self.peers.get(&key) {
                    Some(peer) if peer.to.is_empty() => "554 5.5.1 no recipients",
                    _ => "354 go on",
                };
                if self.answer(key, line, usual)
                    && let Some(peer) = self.peers.get_mut(&key)
                {
                    peer.in_body = true;
                }
            }
            "STARTTLS" => {
                let is_sealed = self.answer(key, line, "220 2.0.0 go on");
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.is_sealed = is_sealed;
                }
            }
            "QUIT" => drop(self.answer(key, line, "221 2.0.0 bye")),
            _ => drop(self.answer(key, line, "250 2.0.0 ok")),
        }
    }

    /// Answers as told, or as usual; gives whether that was a yes.
    fn answer(&mut self, key: u32, line: &str, usual: &str) -> bool {
        let told = (self.behave)(line).replace("{}", usual);
        let Some(peer) = self.peers.get_mut(&key) else { return false };
        let (how, reply) = match told.split_once(':') {
            Some((how @ ("cut" | "close" | "deaf"), reply)) => (how, reply),
            Some((how @ ("late" | "drip" | "tail"), rest)) => {
                let (seconds, reply) = rest.split_once(':').expect("late:SECONDS:REPLY");
                let wait = Duration::from_secs(seconds.parse().expect("a number"));
                let mut at = self.ring.now();
                let (first, rest) = reply.split_once("\r\n").filter(|_| how == "tail").unwrap_or(("", reply));
                if how == "tail" {
                    peer.output.extend_from_slice(format!("{first}\r\n").as_bytes());
                }
                let rest = format!("{rest}\r\n");
                let pieces = if how == "late" { vec![&*rest] } else { rest.split("").collect() };
                peer.late.clear();
                for piece in pieces {
                    at = at.after(wait);
                    peer.late.push_back((at, piece.to_owned()));
                }
                return reply.starts_with(['2', '3']);
            }
            _ if matches!(&*told, "drop" | "reset" | "mute") => (&*told, ""),
            _ if told.is_empty() => ("", usual),
            _ => ("", &*told),
        };
        match (how, peer.socket) {
            ("drop", _) => self.close(key),
            ("reset", Some(socket)) => {
                self.ring.reset(socket);
                self.peers.remove(&key);
            }
            ("mute", _) => {}
            _ => {
                if let ("deaf", Some(socket)) = (how, peer.socket) {
                    self.ring.pause(socket);
                }
                peer.is_leaving |= reply.starts_with("421") || matches!(how, "cut" | "close");
                peer.output.extend_from_slice(reply.as_bytes());
                if how != "cut" {
                    peer.output.extend_from_slice(b"\r\n");
                }
            }
        }
        reply.starts_with(['2', '3'])
    }

    fn flush(&mut self, key: u32) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if let (Some(socket), false, false) = (peer.socket, peer.sending, peer.output.is_empty()) {
            peer.sending = true;
            let output = Output::Owned(std::mem::take(&mut peer.output));
            self.ring.send(socket, output, Token::fixed(9, 1, key));
        }
    }
}
