//! Clients that speak SMTP by themselves and remember what they were promised.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ring::sim::{SimRing, World};
use ring::{Completion, Instant, Ring, Token};
use testbed::random::Random;
use testbed::{Fingerprint, Outcome, Sent, message};

use super::destination::REJECTED;
use super::peer::Peer;
use super::{LOGIN_PLAIN, SENDER};

/// From the connection to the greeting, and from there to the end of a login, at most, where service is expected:
/// some round trips, and a proof that takes 1.5 s at most.
const SERVICE_MAX: Duration = Duration::from_secs(4);

/// A client gives up on a silent gateway after this.
const PATIENCE: Duration = Duration::from_secs(900);

/// Where accidents happen: mostly in a dialogue or in a small message.
const ACCIDENT_BYTES: [u64; 3] = [60, 600, 8000];

/// What the gateway should make of a host's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In the network of a tenant.
    Trusted,
    /// Elsewhere, with a login.
    Roaming,
    /// Elsewhere, without one: must not get anything accepted.
    Stranger,
}

/// What the clients of a host do.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    pub kind: Kind,
    pub clients: u64,
    /// What each of them wants to hand over.
    pub messages_max: u64,
    /// What one client begins at most, refused transactions included: a run ends.
    pub attempts_max: u32,
    pub body_bytes_max: u64,
    /// One of so many messages is larger than what the spool keeps in its log; 0: none.
    pub large_one_in: u64,
    /// Some recipients are such as a destination refuses for good, and some messages are 8-bit, for which it
    /// must say that it takes them.
    pub has_refusable: bool,
    /// One of so many connections drops, stalls or resets at some byte; 0: none.
    pub accident_one_in: u64,
    /// The longest a client waits before it comes again.
    pub pause_max: Duration,
}

impl Habits {
    /// One well-behaved client of this kind with a message or two.
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            clients: 1,
            messages_max: 2,
            attempts_max: 60,
            body_bytes_max: 200,
            large_one_in: 0,
            has_refusable: true,
            accident_one_in: 0,
            pause_max: Duration::from_secs(3),
        }
    }
}

/// What happens to a connection at a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accident {
    Drop,
    Reset,
    /// Nothing more is said, until the gateway has had enough.
    Stall,
}

/// All clients of one host.
pub struct Clients {
    ring: SimRing,
    gateway: SocketAddr,
    random: Random,
    seed: u64,
    serial: u64,
    habits: Habits,
    clients: Vec<Client>,
    pub sent: Vec<Sent>,
    /// MAIL that was answered with 452.
    pub turned_away: u64,
    pub acknowledged: u64,
    /// Messages said to their end whose client was told to come again.
    pub put_off: u64,
    /// Each is to be greeted, and to log in, whatever others do.
    pub expects_service: bool,
    /// What a stranger should not have got, and what others should have.
    pub faults: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Connects when the moment has come.
    Away(Instant),
    Connecting,
    Greeting,
    Hello,
    Login,
    Envelope,
    /// Half a message was said; the rest comes then.
    Half(Instant),
    LastDot,
    Leaving,
    Done,
}

#[derive(Clone, Debug)]
enum Command {
    Mail,
    Recipient(String),
    Data,
}

struct Client {
    state: State,
    peer: Option<Peer>,
    left: u64,
    attempts: u32,
    /// Of the transaction: its commands, how many were said and how many answered.
    commands: Vec<Command>,
    said: usize,
    answered: usize,
    pipelines: bool,
    accepted: Vec<String>,
    serial: u64,
    reverse_path: &'static str,
    body: Vec<u8>,
    rest: Vec<u8>,
    /// Where the message stands in the ledger.
    entry: usize,
    patience: Instant,
    /// When it connected.
    since: Instant,
    accident: Accident,
}

impl Clients {
    pub fn new(world: &World, ip: IpAddr, gateway: SocketAddr, seed: u64, habits: Habits) -> Self {
        let mut random = Random::new(seed);
        let ring = world.host(ip);
        let now = ring.now();
        let clients = (0..habits.clients)
            .map(|_| Client {
                state: State::Away(now.after(Duration::from_micros(random.below(500_000)))),
                peer: None,
                left: 1 + random.below(habits.messages_max),
                attempts: 0,
                commands: Vec::new(),
                said: 0,
                answered: 0,
                pipelines: random.below(2) == 0,
                accepted: Vec::new(),
                serial: 0,
                reverse_path: SENDER,
                body: Vec::new(),
                rest: Vec::new(),
                entry: 0,
                patience: now,
                since: now,
                accident: Accident::Drop,
            })
            .collect();
        // Serial numbers of the hosts of a run do not meet.
        let serial = habits.kind as u64 * 1_000_000;
        Self {
            ring,
            gateway,
            random,
            seed,
            serial,
            habits,
            clients,
            sent: Vec::new(),
            turned_away: 0,
            acknowledged: 0,
            put_off: 0,
            expects_service: false,
            faults: Vec::new(),
        }
    }

    /// From the next connection on.
    pub fn have_no_accidents(&mut self) {
        self.habits.accident_one_in = 0;
    }

    /// Nothing new is begun.
    pub fn begin_nothing_new(&mut self) {
        for client in &mut self.clients {
            client.left = 0;
            if matches!(client.state, State::Away(_)) {
                client.state = State::Done;
            }
        }
    }

    pub fn is_done(&self) -> bool {
        self.clients.iter().all(|client| client.state == State::Done)
    }

    pub fn turn(&mut self) {
        let mut completions = Vec::new();
        let deadline = self.clients.iter().filter_map(Client::deadline).min();
        self.ring.turn(deadline, &mut completions).expect("a simulated ring turns");
        for completion in completions {
            self.complete(completion);
        }
        let now = self.ring.now();
        for key in 0..self.clients.len() {
            if self.clients[key].deadline().is_some_and(|at| at <= now) {
                self.due(key);
            }
        }
    }

    fn due(&mut self, key: usize) {
        let now = self.ring.now();
        let client = &mut self.clients[key];
        match client.state {
            State::Away(_) => {
                let token = Token::fixed(0, 0, key as u32);
                // People who are nowhere at home are each somewhere else.
                let is_roaming = self.habits.kind == Kind::Roaming;
                let source = is_roaming.then(|| Ipv4Addr::new(10, 9, 1, key as u8).into());
                let socket = self.ring.connect(self.gateway, source, token);
                let mut peer = Peer::new(socket, token);
                let one_in = self.habits.accident_one_in;
                if one_in > 0 && self.random.below(one_in) == 0 {
                    let within = ACCIDENT_BYTES[self.random.below(3) as usize];
                    peer.fall_silent_after(self.random.below(within) as usize);
                    client.accident =
                        [Accident::Drop, Accident::Reset, Accident::Stall][self.random.below(3) as usize];
                }
                client.peer = Some(peer);
                client.patience = now.after(PATIENCE);
                client.since = now;
                client.state = State::Connecting;
            }
            State::Half(_) => {
                let rest = std::mem::take(&mut client.rest);
                self.finish(key, &rest);
                self.converse(key);
            }
            State::Done => {}
            state => {
                if self.expects_service {
                    self.faults
                        .push(format!("a client of a tenant waited {PATIENCE:?} in vain, in {state:?}"));
                }
                self.leave(key);
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Connected { token, result } => {
                let key = token.handle.index() as usize;
                let Some(peer) = self.clients[key].peer.as_mut() else { return };
                if result.is_err() {
                    if self.expects_service {
                        self.faults.push("a client of a tenant could not connect".to_owned());
                    }
                    self.clients[key].peer = None;
                    return self.leave(key);
                }
                self.ring.receive(peer.socket, token);
                self.clients[key].state = State::Greeting;
            }
            Completion::Received { token, chunk } => {
                match self.clients[token.handle.index() as usize].peer.as_mut() {
                    Some(peer) => {
                        peer.received(&mut self.ring, chunk);
                        self.converse(token.handle.index() as usize);
                    }
                    None => self.ring.release(chunk),
                }
            }
            Completion::Ended { token, .. } => self.leave(token.handle.index() as usize),
            Completion::Sent { token, .. } => {
                if let Some(peer) = self.clients[token.handle.index() as usize].peer.as_mut() {
                    peer.sent();
                }
                self.converse(token.handle.index() as usize);
            }
            _ => {}
        }
    }

    /// The connection is over; comes again when something is left to say.
    fn leave(&mut self, key: usize) {
        let wait = Duration::from_micros(self.random.below(self.habits.pause_max.as_micros() as u64));
        let client = &mut self.clients[key];
        if let Some(peer) = client.peer.take() {
            self.ring.close(peer.socket);
        }
        let is_done = client.left == 0 || client.attempts >= self.habits.attempts_max;
        client.state = if is_done { State::Done } else { State::Away(self.ring.now().after(wait)) };
        // A refused connection is an attempt too, or a dead gateway would be tried for ever.
        client.attempts = client.attempts.saturating_add(1);
    }

    fn converse(&mut self, key: usize) {
        let now = self.ring.now();
        while let Some(peer) = self.clients[key].peer.as_mut() {
            let Some(code) = peer.reply() else { break };
            self.clients[key].patience = now.after(PATIENCE);
            self.heard(key, code);
        }
        let accident = self.clients[key].accident;
        let Some(peer) = self.clients[key].peer.as_mut() else { return };
        if peer.pump(&mut self.ring) {
            return self.leave(key);
        }
        if peer.has_fallen_silent() {
            match accident {
                Accident::Drop => self.leave(key),
                Accident::Reset => {
                    self.ring.reset(peer.socket);
                    self.leave(key);
                }
                Accident::Stall => {}
            }
        }
    }

    fn say(&mut self, key: usize, text: &str) {
        if let Some(peer) = self.clients[key].peer.as_mut() {
            peer.say(text.as_bytes());
        }
    }

    /// A client that is to be served is greeted and logged in soon, and not turned away before.
    fn judge_service(&mut self, key: usize, code: u16) {
        let (state, since) = (self.clients[key].state, self.clients[key].since);
        let waited = self.ring.now().since(since);
        let is_beginning = matches!(state, State::Greeting | State::Hello | State::Login);
        if is_beginning && (code >= 400 || waited > SERVICE_MAX) {
            self.faults.push(format!("a client of a tenant had {code} after {waited:?}, in {state:?}"));
        }
    }

    fn heard(&mut self, key: usize, code: u16) {
        if self.expects_service {
            self.judge_service(key, code);
        }
        match self.clients[key].state {
            State::Greeting if code == 220 => {
                self.say(key, "EHLO client.example\r\n");
                self.clients[key].state = State::Hello;
            }
            State::Hello if code == 250 && self.habits.kind == Kind::Roaming => {
                self.say(key, LOGIN_PLAIN);
                self.clients[key].state = State::Login;
            }
            State::Hello if code == 250 => self.next(key),
            State::Login if code == 235 => self.next(key),
            State::Envelope => self.envelope(key, code),
            State::LastDot => self.verdict(key, code),
            _ => self.leave(key),
        }
    }

    /// Begins the next transaction, or says goodbye.
    fn next(&mut self, key: usize) {
        let is_over = self.clients[key].left == 0 || self.clients[key].attempts >= self.habits.attempts_max;
        if is_over || self.random.below(10) == 0 {
            self.say(key, "QUIT\r\n");
            self.clients[key].state = State::Leaving;
            return;
        }
        self.serial += 1;
        let large = self.habits.large_one_in > 0 && self.random.below(self.habits.large_one_in) == 0;
        let body_bytes = if large {
            (1 << 20) + self.random.below(1 << 18)
        } else {
            self.random.below(self.habits.body_bytes_max)
        };
        let recipients = 1 + self.random.below(4);
        // It has no recipient that is refused for good: a notification's failure is not reported.
        let is_notification = self.random.below(16) == 0 && self.habits.kind == Kind::Trusted;
        let mut commands = vec![Command::Mail];
        for number in 0..recipients {
            let rejected = self.random.below(12) == 0 && !is_notification && self.habits.has_refusable;
            let domain = ["far.example", "other.example", "third.example"][self.random.below(3) as usize];
            let prefix = if rejected { REJECTED } else { "" };
            commands.push(Command::Recipient(format!("{prefix}u{number}@{domain}")));
        }
        commands.push(Command::Data);
        let client = &mut self.clients[key];
        client.attempts += 1;
        client.serial = self.serial;
        client.reverse_path = if is_notification { "" } else { SENDER };
        client.body = message::content(self.serial, self.seed, body_bytes as usize);
        if !self.habits.has_refusable {
            client.body.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
        }
        (client.said, client.answered) = (0, 0);
        client.commands = commands;
        client.accepted.clear();
        client.state = State::Envelope;
        self.say_envelope(key);
    }

    fn say_envelope(&mut self, key: usize) {
        let client = &mut self.clients[key];
        let until = if client.pipelines { client.commands.len() } else { client.said + 1 };
        while client.said < until.min(client.commands.len()) {
            let text = match &client.commands[client.said] {
                Command::Mail => format!("MAIL FROM:<{}>\r\n", client.reverse_path),
                Command::Recipient(recipient) => format!("RCPT TO:<{recipient}>\r\n"),
                Command::Data => "DATA\r\n".to_owned(),
            };
            client.said += 1;
            if let Some(peer) = client.peer.as_mut() {
                peer.say(text.as_bytes());
            }
        }
    }

    fn envelope(&mut self, key: usize, code: u16) {
        if code == 421 || code == 0 {
            return self.leave(key);
        }
        let client = &mut self.clients[key];
        let command = client.commands[client.answered].clone();
        client.answered += 1;
        match command {
            Command::Recipient(recipient) if code == 250 => {
                client.accepted.push(recipient);
                if self.habits.kind == Kind::Stranger {
                    self.faults.push("a stranger's recipient was accepted".to_owned());
                }
            }
            Command::Data if code == 354 => return self.content(key),
            Command::Data => {
                // Nothing was taken: a stranger's message is done with, another's comes again.
                if self.habits.kind == Kind::Stranger {
                    client.left = client.left.saturating_sub(1);
                }
                return self.next_after_refusal(key);
            }
            Command::Mail if code == 452 => self.turned_away += 1,
            Command::Mail | Command::Recipient(_) => {}
        }
        self.say_envelope(key);
    }

    fn next_after_refusal(&mut self, key: usize) {
        self.say(key, "QUIT\r\n");
        self.clients[key].state = State::Leaving;
    }

    /// Says the message, in one go, in two, or only a part of it.
    fn content(&mut self, key: usize) {
        let wire = message::to_wire(&self.clients[key].body);
        let half = self.random.below(wire.len() as u64 - 3) as usize;
        match self.random.below(20) {
            0 => {
                self.record(key, Outcome::Refused);
                let client = &mut self.clients[key];
                if let Some(peer) = client.peer.as_mut() {
                    peer.say(&wire[..half]);
                    peer.close_when_said();
                }
                client.state = State::Leaving;
            }
            1 | 2 => {
                let wait = Duration::from_micros(self.random.below(4_000_000));
                let client = &mut self.clients[key];
                if let Some(peer) = client.peer.as_mut() {
                    peer.say(&wire[..half]);
                }
                client.rest = wire[half..].to_vec();
                client.state = State::Half(self.ring.now().after(wait));
            }
            _ => self.finish(key, &wire),
        }
    }

    /// Says what ends in the last dot: from here on the gateway may have the message.
    fn finish(&mut self, key: usize, wire: &[u8]) {
        let is_whole = match self.clients[key].peer.as_mut() {
            Some(peer) => {
                peer.say(wire);
                !peer.is_cut_short()
            }
            None => true,
        };
        self.record(key, if is_whole { Outcome::Unknown } else { Outcome::Refused });
        self.clients[key].state = State::LastDot;
    }

    fn record(&mut self, key: usize, outcome: Outcome) {
        let client = &mut self.clients[key];
        client.entry = self.sent.len();
        self.sent.push(Sent {
            serial: client.serial,
            reverse_path: client.reverse_path.to_owned(),
            recipients: client.accepted.clone(),
            fingerprint: Fingerprint::of(&client.body),
            outcome,
        });
    }

    fn verdict(&mut self, key: usize, code: u16) {
        let client = &mut self.clients[key];
        match code {
            250 => {
                self.sent[client.entry].outcome = Outcome::Acknowledged;
                self.acknowledged += 1;
                client.left = client.left.saturating_sub(1);
                self.next(key);
            }
            500..600 => {
                self.sent[client.entry].outcome = Outcome::Refused;
                self.faults.push(format!("message {} was refused with {code}", client.serial));
                self.leave(key);
            }
            451 => {
                self.put_off += 1;
                self.leave(key);
            }
            _ => self.leave(key),
        }
    }
}

impl Client {
    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Away(at) | State::Half(at) => Some(at),
            State::Done => None,
            _ => Some(self.patience),
        }
    }
}
