//! Strangers who mean no mail: they hold what connections they can, at every port, and come again when one ends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ring::sim::{SimRing, World};
use ring::{Completion, Instant, Ring, Token};
use testbed::random::Random;

use super::peer::Peer;
use super::{GATEWAY, PORT, SUBMISSION_PORT};

/// Between two bytes of those who send one at a time: less than any patience of the gateway's.
const BYTE_INTERVAL: Duration = Duration::from_secs(50);
/// Until a client that was cut comes again.
const AGAIN_MAX: Duration = Duration::from_secs(20);

/// What one of them does with its connections.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// Says nothing.
    Silent,
    /// Says this, one byte after the other.
    Slow(&'static [u8]),
    /// Says this at once, and nothing more.
    Half(&'static [u8]),
    /// Asks at once for more recipients than the gateway refuses in a turn, and reads what it is told.
    Vain,
}

/// Recipients that are asked for in vain.
const VAIN: usize = 200;

const HABITS: [Habit; 6] = [
    Habit::Silent,
    Habit::Vain,
    Habit::Slow(b"EHLO a.client.with.a.long.name.and.much.time.example\r\n"),
    Habit::Half(b"EHLO client.example\r\n"),
    Habit::Half(b"EHLO client.example\r\nAUTH LOGIN\r\n"),
    Habit::Slow(b"EHLO c\r\nAUTH PLAIN AGFwcABvcGVuIHNlc2FtZQAAAAAAAAAAAAAA\r\n"),
];

/// All of them; one ring serves them, for the world lets it speak from any address.
pub struct Strangers {
    ring: SimRing,
    random: Random,
    connections: Vec<Connection>,
    is_over: bool,
}

struct Connection {
    from: IpAddr,
    habit: Habit,
    peer: Option<Peer>,
    is_connected: bool,
    /// What of a slow one's words has been said.
    said: usize,
    /// When it comes again, or says its next byte.
    next: Option<Instant>,
}

impl Strangers {
    /// As many `addresses`, each of which wants to hold so many connections.
    pub fn new(world: &World, addresses: u64, each: u64, mut random: Random) -> Self {
        let ring = world.host(Ipv4Addr::new(10, 66, 0, 0).into());
        let now = ring.now();
        let connections = (0..addresses * each)
            .map(|number| {
                let address = number % addresses;
                Connection {
                    from: Ipv4Addr::new(10, 66, (address >> 8) as u8, address as u8).into(),
                    habit: HABITS[random.below(HABITS.len() as u64) as usize],
                    peer: None,
                    is_connected: false,
                    said: 0,
                    next: Some(now.after(Duration::from_micros(random.below(3_000_000)))),
                }
            })
            .collect();
        Self { ring, random, connections, is_over: false }
    }

    /// They let go, so that the world comes to rest.
    pub fn end(&mut self) {
        self.is_over = true;
        for connection in &mut self.connections {
            if let Some(peer) = connection.peer.take() {
                self.ring.close(peer.socket);
            }
            connection.next = None;
        }
    }

    pub fn turn(&mut self) {
        let mut completions = Vec::new();
        let deadline = self.connections.iter().filter_map(|connection| connection.next).min();
        self.ring.turn(deadline, &mut completions).expect("a simulated ring turns");
        for completion in completions {
            self.complete(completion);
        }
        let now = self.ring.now();
        for key in 0..self.connections.len() {
            if self.connections[key].next.is_some_and(|at| at <= now) {
                self.due(key, now);
            }
        }
    }

    fn due(&mut self, key: usize, now: Instant) {
        let token = Token::fixed(0, 0, key as u32);
        let port = if self.random.below(2) == 0 { PORT } else { SUBMISSION_PORT };
        let connection = &mut self.connections[key];
        connection.next = None;
        match (&mut connection.peer, connection.habit) {
            (None, _) => {
                let to = SocketAddr::new(GATEWAY, port);
                let socket = self.ring.connect(to, Some(connection.from), token);
                connection.peer = Some(Peer::new(socket, token));
                (connection.is_connected, connection.said) = (false, 0);
            }
            (Some(peer), Habit::Slow(words)) if connection.said < words.len() => {
                peer.say(&words[connection.said..=connection.said]);
                connection.said += 1;
                connection.next = Some(now.after(BYTE_INTERVAL));
                let _ = peer.pump(&mut self.ring);
            }
            (Some(_), _) => {}
        }
    }

    fn complete(&mut self, completion: Completion) {
        let now = self.ring.now();
        match completion {
            Completion::Connected { token, result } => {
                let connection = &mut self.connections[token.handle.index() as usize];
                let Some(peer) = &mut connection.peer else { return };
                if result.is_err() {
                    connection.peer = None;
                    return self.come_again(token.handle.index() as usize);
                }
                connection.is_connected = true;
                self.ring.receive(peer.socket, token);
                match connection.habit {
                    Habit::Silent => {}
                    Habit::Half(words) => peer.say(words),
                    Habit::Vain => {
                        peer.say(b"EHLO client.example\r\nMAIL FROM:<ann@elsewhere.example>\r\n");
                        peer.say("RCPT TO:<bob@adatum.example>\r\n".repeat(VAIN).as_bytes());
                    }
                    Habit::Slow(_) => connection.next = Some(now.after(BYTE_INTERVAL)),
                }
                let _ = peer.pump(&mut self.ring);
            }
            Completion::Received { chunk, .. } => self.ring.release(chunk),
            Completion::Sent { token, .. } => {
                if let Some(peer) = &mut self.connections[token.handle.index() as usize].peer {
                    peer.sent();
                    let _ = peer.pump(&mut self.ring);
                }
            }
            Completion::Ended { token, .. } => {
                if let Some(peer) = self.connections[token.handle.index() as usize].peer.take() {
                    self.ring.close(peer.socket);
                }
                self.come_again(token.handle.index() as usize);
            }
            _ => {}
        }
    }

    fn come_again(&mut self, key: usize) {
        if !self.is_over {
            let wait = Duration::from_micros(self.random.below(AGAIN_MAX.as_micros() as u64));
            self.connections[key].next = Some(self.ring.now().after(wait));
        }
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.connections
            .iter()
            .filter(|connection| connection.is_connected && connection.peer.is_some())
            .count()
    }
}
