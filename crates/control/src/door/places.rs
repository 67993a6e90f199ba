//! The places of one port: whose turn it is at each, and who goes when they run short.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use commons::machine;
use tokio::sync::Notify;

/// What a peer has to say a whole request, or to take its answer: a scrape takes milliseconds.
const PEER_TURN_MAX: Duration = Duration::from_secs(10);

/// Answers must be taken at this pace at least, a fifth of what a bad mobile link manages.
const ANSWER_BYTES_A_SECOND: u64 = 64 << 10;

/// What we take for an answer, at the longest: requests have a shorter limit.
const OUR_TURN_MAX: Duration = Duration::from_secs(60);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// On a unix socket: the user, where the system tells.
    User(Option<u32>),
    /// On the network.
    Address(IpAddr),
}

/// A bounded number of connections. There is room for the next one always: when they run short, one that
/// is held goes.
pub(super) struct Places {
    room: usize,
    held: HashMap<u64, Held>,
    /// How many each peer holds.
    holders: HashMap<Peer, usize>,
    next: u64,
}

/// A connection that has a place.
struct Held {
    holder: Peer,
    turn: Turn,
    /// When the turn began.
    since: Instant,
    /// When it is over at the latest.
    until: Instant,
    end: Arc<Notify>,
}

/// Who has to do something next. A peer that gets bytes through one by one, but no whole request, is as
/// silent as any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// We have a whole head of a request, and owe the answer.
    Ours,
    /// The peer owes a request, or has an answer to take.
    Peers,
}

impl Places {
    pub(super) fn new(room: usize) -> Self {
        Self { room, held: HashMap::new(), holders: HashMap::new(), next: 0 }
    }

    /// A place for a connection of `peer`, with its key and its end, and whose place it was if it was held.
    pub(super) fn take(&mut self, peer: Peer, now: Instant) -> (u64, Arc<Notify>, Option<Peer>) {
        let displaced = if self.held.len() >= self.room { self.displace() } else { None };
        let (key, holder, end) = (self.next, peer.holder(), Arc::new(Notify::new()));
        self.next += 1;
        *self.holders.entry(holder).or_default() += 1;
        let until = now + PEER_TURN_MAX;
        self.held.insert(key, Held { holder, turn: Turn::Peers, since: now, until, end: end.clone() });
        (key, end, displaced)
    }

    /// Ends the connection that can best be missed: of the peer that holds the most, the one that has kept us
    /// waiting longest; one that waits for us only where there is no other.
    pub(super) fn displace(&mut self) -> Option<Peer> {
        let cost = |held: &Held| (self.holders[&held.holder], held.turn, std::cmp::Reverse(held.since));
        let (&key, _) = self.held.iter().max_by_key(|(key, held)| (cost(held), std::cmp::Reverse(**key)))?;
        self.end(key)
    }

    /// Ends every connection whose turn has taken too long.
    pub(super) fn end_overdue(&mut self, now: Instant) {
        let overdue = self.held.iter().filter(|(_, held)| held.until <= now);
        for key in overdue.map(|(&key, _)| key).collect::<Vec<_>>() {
            self.end(key);
        }
    }

    /// The head of a request is there.
    pub(super) fn asked(&mut self, key: u64, now: Instant) {
        self.pass(key, Turn::Ours, now, OUR_TURN_MAX);
    }

    /// An answer of so many bytes is on its way.
    pub(super) fn answered(&mut self, key: u64, bytes: u64, now: Instant) {
        let limit = PEER_TURN_MAX + Duration::from_secs(bytes / ANSWER_BYTES_A_SECOND);
        self.pass(key, Turn::Peers, now, limit);
    }

    fn pass(&mut self, key: u64, turn: Turn, now: Instant, limit: Duration) {
        // One that has just been displaced may not know yet.
        if let Some(held) = self.held.get_mut(&key) {
            (held.turn, held.since, held.until) = (turn, now, now + limit);
        }
    }

    fn end(&mut self, key: u64) -> Option<Peer> {
        let held = self.held.get(&key)?;
        // It remembers: a task that does not wait yet will not wait.
        held.end.notify_one();
        self.leave(key)
    }

    /// A connection is over.
    pub(super) fn leave(&mut self, key: u64) -> Option<Peer> {
        let held = self.held.remove(&key)?;
        if let Some(count) = self.holders.get_mut(&held.holder) {
            *count -= 1;
            if *count == 0 {
                self.holders.remove(&held.holder);
            }
        }
        Some(held.holder)
    }
}

impl Peer {
    /// All that is counted as this peer.
    pub(crate) fn holder(self) -> Self {
        match self {
            Self::Address(address) => Self::Address(machine(address)),
            user => user,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Peer = Peer::Address(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const B: Peer = Peer::Address(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    /// Takes a place a second after the one before.
    fn take(places: &mut Places, peers: &[Peer], from: Instant) -> Vec<u64> {
        let times = (0..).map(|second| from + Duration::from_secs(second));
        peers.iter().zip(times).map(|(&peer, now)| places.take(peer, now).0).collect()
    }

    fn left(places: &Places) -> Vec<u64> {
        let mut keys: Vec<_> = places.held.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn the_longest_silent_goes_first_and_a_request_under_way_last() {
        let (mut places, now) = (Places::new(4), Instant::now());
        let keys = take(&mut places, &[A; 4], now);
        places.asked(keys[0], now);
        places.answered(keys[1], 10, now + Duration::from_secs(9));
        assert_eq!(places.take(A, now).2, Some(A));
        assert_eq!(left(&places), [0, 1, 3, 4], "2 was silent longest of those that owe us something");
        for (displaced, kept) in [(4, [0, 1, 3, 5]), (3, [0, 1, 5, 6]), (1, [0, 5, 6, 7])] {
            places.take(A, now + Duration::from_secs(100));
            assert_eq!(left(&places), kept, "{displaced} goes");
        }
        for key in [5, 6, 7] {
            places.asked(key, now + Duration::from_secs(101));
        }
        places.take(A, now);
        assert_eq!(left(&places), [5, 6, 7, 8], "where all wait for us, one that has waited longest goes");
    }

    #[test]
    fn a_peer_with_few_connections_keeps_them_whatever_another_does() {
        let (mut places, now) = (Places::new(4), Instant::now());
        take(&mut places, &[B, A, A, A], now);
        for _ in 0..100 {
            assert_eq!(places.take(A, now + Duration::from_secs(9)).2, Some(A));
        }
        assert!(places.held.contains_key(&0));
        assert_eq!(places.holders[&B], 1);
    }

    #[test]
    fn all_of_an_ipv6_64_is_one_peer() {
        let (mut places, now) = (Places::new(3), Instant::now());
        let of = |text: &str| Peer::Address(text.parse().unwrap());
        take(&mut places, &[B, of("2001:db8::1"), of("2001:db8::2")], now);
        assert_eq!(places.take(of("2001:db8::3"), now).2, Some(of("2001:db8::")));
    }

    #[test]
    fn turns_end_in_time_and_a_long_answer_has_longer() {
        let (mut places, now) = (Places::new(4), Instant::now());
        let keys = take(&mut places, &[A; 3], now);
        places.asked(keys[1], now);
        places.answered(keys[2], 5 * ANSWER_BYTES_A_SECOND, now);
        let after = |limit: Duration| now + limit - Duration::from_millis(1);
        places.end_overdue(after(PEER_TURN_MAX));
        assert_eq!(left(&places), [0, 1, 2]);
        places.end_overdue(now + PEER_TURN_MAX);
        assert_eq!(left(&places), [1, 2]);
        places.end_overdue(now + PEER_TURN_MAX + Duration::from_secs(5));
        assert_eq!(left(&places), [1]);
        places.end_overdue(now + OUR_TURN_MAX);
        assert_eq!(left(&places), [0; 0]);
        assert!(places.holders.is_empty());
    }
}
