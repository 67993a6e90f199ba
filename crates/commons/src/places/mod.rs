//! Places for connections: who holds them, over all workers.
//!
//! A connection holds a [`Place`] from its acceptance to its end. Of all places some are kept for tenants'
//! networks, and some of those for clients that have logged in, so that strangers, however many, never hold them
//! all; and one stranger's address (of IPv6: each /64) holds a bounded number. Whose place goes to a newcomer
//! when there is none is the workers' to say: here is only counted. No lock, no wait; memory is fixed.

mod shares;
mod unfinished;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mail::UnixMillis;

pub use shares::{Holder, Shares};
pub use unfinished::{Hold, OverBudget, Unfinished};

use crate::{ConnectionCounts, ConnectionLease, Key};

/// Connections of one stranger's address at the same time, where none is configured: what one mail server
/// behind one address needs, and Postfix gives.
pub const CONNECTIONS_PER_STRANGER: u32 = 50;

/// Strangers' addresses are an eighth of their places at most, so that eight of them do not hold all.
const STRANGER_PARTS: u64 = 8;
/// One stranger may have as many at least: a client opens a few at once.
const PER_STRANGER_MIN: u32 = 4;
/// The part of all places that only logins may hold.
const LOGIN_PARTS: u64 = 8;
/// Places are short for a holder when less than this part of what it may hold is left.
const SHORT_PARTS: u64 = 8;
/// `/readyz` tells of a shortage for as long after it.
const TOLD_MILLIS: u64 = 60_000;
/// Addresses that are counted for each place: so many that a crowd finds a slot for all.
const COUNTS_PER_PLACE: u64 = 2;

/// All places, and who holds them.
#[derive(Debug)]
pub struct Places {
    shares: Shares,
    addresses: Arc<ConnectionCounts>,
    /// When a connection found none the last time; 0 for never.
    missed: AtomicU64,
}

/// Why there is no place for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// Its address has as many as it may.
    Address(u32),
    /// All are held that this holder and those before it may hold.
    Full(Holder),
}

/// A connection's place, until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the place back"]
pub struct Place {
    of: Arc<Places>,
    holder: Holder,
    address: Key,
    /// Counts it for its address, until it has logged in.
    counted: Option<ConnectionLease>,
}

impl Places {
    /// So many places: half of them for strangers at most, and an eighth for logins alone.
    #[must_use]
    pub fn new(all: u32) -> Self {
        let all = u64::from(all);
        Self::with_ceilings(all / 2, all - all / LOGIN_PARTS, all)
    }

    /// Places of which strangers may hold `strangers`, tenants' networks and strangers `networks`.
    ///
    /// # Panics
    /// When a ceiling is lower than the one before it.
    #[must_use]
    pub fn with_ceilings(strangers: u64, networks: u64, all: u64) -> Self {
        Self {
            shares: Shares::new(strangers, networks, all),
            addresses: Arc::new(ConnectionCounts::new((all * COUNTS_PER_PLACE) as usize)),
            missed: AtomicU64::new(0),
        }
    }

    /// What one stranger's address may hold where nothing is written.
    #[must_use]
    pub fn per_stranger(&self) -> u32 {
        let part = self.shares.ceiling(Holder::Stranger) / STRANGER_PARTS;
        CONNECTIONS_PER_STRANGER.min(u32::try_from(part).unwrap_or(u32::MAX).max(PER_STRANGER_MIN))
    }

    /// A place for a connection from `address`, which may hold `address_max`.
    ///
    /// # Errors
    /// Why there is none; nothing is taken.
    pub fn take(self: &Arc<Self>, holder: Holder, address: Key, address_max: u32) -> Result<Place, NoPlace> {
        let counted = self.addresses.take(address, address_max).ok_or(NoPlace::Address(address_max))?;
        self.shares.take(holder, 1).map_err(NoPlace::Full)?;
        Ok(Place { of: Arc::clone(self), holder, address, counted: Some(counted) })
    }

    /// Connections from `address`.
    #[must_use]
    pub fn held_by(&self, address: Key) -> u64 {
        self.addresses.open(address)
    }

    /// Places that `holder` and those before it hold.
    #[must_use]
    pub fn held_up_to(&self, holder: Holder) -> u64 {
        self.shares.held_up_to(holder)
    }

    /// Places that `holder` and those before it may hold.
    #[must_use]
    pub fn ceiling(&self, holder: Holder) -> u64 {
        self.shares.ceiling(holder)
    }

    /// Few places are left for `holder`: a client that does nothing with one should not keep it for long.
    #[must_use]
    pub fn is_short(&self, holder: Holder) -> bool {
        Holder::ALL[holder as usize..].iter().any(|&level| {
            let ceiling = self.shares.ceiling(level);
            self.shares.held_up_to(level) + ceiling / SHORT_PARTS >= ceiling
        })
    }

    /// A connection found no place, or the place of another: remembered for `/readyz`.
    pub fn missed(&self, now: UnixMillis) {
        self.missed.store(now.0, Ordering::Relaxed);
    }

    /// For whom places are short, or were within the last minute.
    #[must_use]
    pub fn shortage(&self, now: UnixMillis) -> Option<Holder> {
        let is_fresh = now.0.saturating_sub(self.missed.load(Ordering::Relaxed)) < TOLD_MILLIS;
        let short = Holder::ALL.into_iter().rev().find(|&holder| self.is_short(holder));
        short.or(is_fresh.then_some(Holder::Stranger))
    }
}

impl Place {
    /// Who holds it.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// Connections from its address, this one among them; 0 where it has logged in.
    #[must_use]
    pub fn held_by_address(&self) -> u64 {
        if self.counted.is_some() { self.of.held_by(self.address) } else { 0 }
    }

    /// The client has logged in: its place counts among those that only logins may hold, and no longer for its
    /// address, behind which others may be.
    pub fn log_in(&mut self) {
        let rises = self.of.shares.pass(self.holder, Holder::Login, 1);
        debug_assert_eq!(rises, Ok(()), "to rise takes nothing from anyone");
        self.holder = Holder::Login;
        self.counted = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.shares.give(self.holder, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Key = Key::from_bits(0x1234_5678_9ABC_DEF0);

    /// A key of an address.
    fn address(number: u64) -> Key {
        Key::from_bits((number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    #[test]
    fn an_address_has_its_number_and_gives_it_back() {
        let places = Arc::new(Places::new(100));
        let held: Vec<_> = (0..3).map(|_| places.take(Holder::Stranger, ONE, 3).expect("a place")).collect();
        assert_eq!(places.take(Holder::Stranger, ONE, 3).unwrap_err(), NoPlace::Address(3));
        assert_eq!((places.held_by(ONE), held[0].held_by_address()), (3, 3));
        drop(places.take(Holder::Stranger, address(1), 3).expect("another address has its own"));
        drop(held);
        assert_eq!((places.held_by(ONE), places.held_up_to(Holder::Login)), (0, 0));
    }

    #[test]
    fn strangers_leave_places_to_networks_and_those_leave_some_to_logins() {
        let places = Arc::new(Places::new(16));
        let fill = |holder| {
            let take = |number| places.take(holder, address(number + 1000 * holder as u64), u32::MAX).ok();
            (0..100).map_while(take).collect::<Vec<Place>>()
        };
        let mut strangers = fill(Holder::Stranger);
        let networks = fill(Holder::Network);
        let logins = fill(Holder::Login);
        assert_eq!((strangers.len(), networks.len(), logins.len()), (8, 6, 2));
        let refused = |holder| places.take(holder, ONE, u32::MAX).unwrap_err();
        assert_eq!(refused(Holder::Stranger), NoPlace::Full(Holder::Stranger));
        assert_eq!(refused(Holder::Network), NoPlace::Full(Holder::Network));
        assert_eq!(refused(Holder::Login), NoPlace::Full(Holder::Login));
        assert_eq!(places.held_by(ONE), 0, "what was refused counts for no address");
        drop(logins);
        // A client that logs in makes room for another that would.
        strangers[0].log_in();
        assert_eq!((strangers[0].holder(), places.held_by(address(0))), (Holder::Login, 0));
        let next = places.take(Holder::Stranger, ONE, 1).expect("one has logged in");
        drop((strangers, networks, next));
        assert_eq!(Holder::ALL.map(|holder| places.held_up_to(holder)), [0; 3]);
    }

    #[test]
    fn a_stranger_may_hold_fifty_and_never_more_than_an_eighth() {
        assert_eq!(Places::new(10_000).per_stranger(), 50);
        assert_eq!(Places::new(400).per_stranger(), 25);
        assert_eq!(Places::new(20).per_stranger(), 4);
    }

    #[test]
    fn places_are_short_when_an_eighth_is_left_and_that_is_told_for_a_minute_after_one_was_missed() {
        let noon = UnixMillis(1_795_390_496_000);
        let places = Arc::new(Places::new(32));
        let take = |number| places.take(Holder::Stranger, address(number), 1).expect("a place");
        let mut held: Vec<_> = (0..13).map(take).collect();
        assert_eq!((places.is_short(Holder::Stranger), places.shortage(noon)), (false, None));
        held.push(take(13));
        assert!(places.is_short(Holder::Stranger) && !places.is_short(Holder::Network));
        assert_eq!(places.shortage(noon), Some(Holder::Stranger));
        places.missed(noon);
        drop(held);
        assert_eq!(places.shortage(noon.plus(59_000)), Some(Holder::Stranger));
        assert_eq!(places.shortage(noon.plus(60_000)), None);
    }
}
