//! What everything in a world shares: time, chance, what is to come, and the processes that hear of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::SimOptions;
use super::random::Random;
use crate::{Completion, Instant, Token};

/// The wall clock when a world begins: 2026-01-01 00:00:00 UTC, in milliseconds since 1970.
pub(super) const EPOCH_UNIX_MILLIS: u64 = 1_767_225_600_000;

/// The monotonic clock when a world begins: not zero, so that a moment before it can be named.
pub(super) const START: Instant = Instant(1_000_000_000);

/// Whose completion it is: with its object it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Socket(u32),
    Listener(u32),
    File(u32),
    /// It stays, whatever is closed.
    None,
}

#[derive(Debug)]
pub(super) enum Ready {
    /// Becomes a chunk of the ring when it is handed over.
    Received {
        token: Token,
        bytes: Vec<u8>,
    },
    Other(Completion),
}

#[derive(Debug)]
pub(super) struct RingState {
    pub(super) ip: IpAddr,
    pub(super) ready: VecDeque<(Owner, Ready)>,
    /// When the harness should turn this ring.
    pub(super) due: Option<Instant>,
    pub(super) woken: Arc<AtomicBool>,
    /// The harness was told of it: a ring that it leaves alone does not hold time up.
    pub(super) is_wake_told: bool,
}

#[derive(Debug)]
pub(super) enum Event {
    Network(NetworkEvent),
    /// The end of the operation of this number.
    Disk(u32),
}

#[derive(Debug)]
pub(super) enum NetworkEvent {
    /// A request to connect reaches the host of `to`.
    Syn {
        client: u32,
        attempt: u32,
    },
    /// The client hears that no server is there.
    Refused {
        client: u32,
        code: i32,
    },
    /// The client hears that the connection stands.
    Established {
        client: u32,
        server: u32,
    },
    Piece {
        from: u32,
        to: u32,
        bytes: Vec<u8>,
    },
    Fin {
        to: u32,
    },
    Reset {
        to: u32,
    },
    /// The peer took so many bytes: there is room again.
    Window {
        to: u32,
        bytes: usize,
    },
    /// The last byte of a send is in the window.
    SendDone {
        socket: u32,
    },
}

/// What a step of time came to.
pub(super) enum Step {
    /// Nothing is due.
    Over,
    /// A ring is.
    Due,
    Event(Event),
}

#[derive(Debug)]
pub(super) struct Course {
    pub(super) now: Instant,
    pub(super) wall_jumps_millis: i64,
    /// The last number given to an event or an object.
    pub(super) sequence: u64,
    pub(super) digest: u64,
    pub(super) random: Random,
    pub(super) options: SimOptions,
    events: BTreeMap<(Instant, u64), Event>,
    pub(super) rings: BTreeMap<u32, RingState>,
}

impl RingState {
    pub(super) fn new(ip: IpAddr, now: Instant, woken: Arc<AtomicBool>) -> Self {
        Self { ip, ready: VecDeque::new(), due: Some(now), woken, is_wake_told: false }
    }
}

impl Course {
    pub(super) fn new(seed: u64, options: SimOptions) -> Self {
        Self {
            now: START,
            wall_jumps_millis: 0,
            sequence: 0,
            digest: 0xcbf2_9ce4_8422_2325,
            random: Random::new(seed),
            options,
            events: BTreeMap::new(),
            rings: BTreeMap::new(),
        }
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub(super) fn next_id(&mut self) -> u32 {
        u32::try_from(self.next_sequence()).expect("a simulation has fewer than 2^32 events")
    }

    pub(super) fn unix_millis(&self) -> u64 {
        let elapsed = self.now.since(START).as_millis() as u64;
        (EPOCH_UNIX_MILLIS + elapsed).saturating_add_signed(self.wall_jumps_millis)
    }

    pub(super) fn schedule(&mut self, at: Instant, event: Event) {
        let sequence = self.next_sequence();
        self.events.insert((at, sequence), event);
    }

    /// FNV-1a over whatever happens.
    pub(super) fn note(&mut self, facts: &[u64]) {
        for fact in facts {
            self.digest = (self.digest ^ fact).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }

    pub(super) fn note_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// A stall that the seed may add to a latency.
    pub(super) fn stall(&mut self) -> Duration {
        if self.random.chance(self.options.stall_probability) {
            self.random.between((Duration::ZERO, self.options.stall_max))
        } else {
            Duration::ZERO
        }
    }

    pub(super) fn push_ready(&mut self, ring: u32, owner: Owner, ready: Ready) {
        let now = self.now;
        if let Some(ring) = self.rings.get_mut(&ring) {
            ring.ready.push_back((owner, ready));
            ring.due = Some(now);
        }
    }

    /// Takes back what was not handed over yet of an object that is closed.
    pub(super) fn swallow(&mut self, ring: u32, owner: Owner) {
        if let Some(ring) = self.rings.get_mut(&ring) {
            ring.ready.retain(|(of, _)| *of != owner);
        }
    }

    /// Goes on to what is due next, but not beyond `limit`.
    pub(super) fn step(&mut self, limit: Option<Instant>) -> Step {
        let now = self.now;
        for ring in self.rings.values_mut() {
            if ring.woken.load(Ordering::Acquire) && !ring.is_wake_told {
                (ring.due, ring.is_wake_told) = (Some(now), true);
            }
        }
        let due = self.rings.values().filter_map(|ring| ring.due).min();
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        let next = match (due, event) {
            (Some(due), Some(event)) => Some(due.min(event)),
            (due, event) => due.or(event),
        };
        let Some(next) = next.filter(|next| limit.is_none_or(|limit| *next <= limit)) else {
            self.now = self.now.max(limit.unwrap_or(self.now));
            return Step::Over;
        };
        self.now = self.now.max(next);
        if due.is_some_and(|due| due <= next) {
            let now = self.now;
            for ring in self.rings.values_mut() {
                ring.due = ring.due.filter(|due| *due > now);
            }
            return Step::Due;
        }
        let ((at, sequence), event) = self.events.pop_first().expect("an event is next where no ring is");
        self.note(&[at.0, sequence]);
        Step::Event(event)
    }
}
