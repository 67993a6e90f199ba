//! Connections of one login, network or address at the same time, over all workers.

use std::array;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::key::{Key, Spread};
use super::tenants::ConnectionLease;

/// A subject is in one of these slots, or nowhere.
const WAYS: usize = 8;
/// A slot's low bits count; a million connections are more than one gateway's descriptors.
const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// A fixed table of counts by [`Key`]: one atomic each, 8 bytes.
///
/// A slot belongs to its subject while it counts anything, and to anyone else after. Where all slots
/// that a subject could have are taken, its connection is not counted and passes: so many subjects
/// at once are past what limits of single ones can hold.
pub struct ConnectionCounts {
    sets: Box<[Set]>,
    spread: Spread,
}

#[derive(Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

impl ConnectionCounts {
    /// A table of at least `slots` slots, and of at most eight times a million.
    #[must_use]
    pub(crate) fn new(slots: usize) -> Self {
        let sets = slots.div_ceil(WAYS).next_power_of_two();
        Self { sets: (0..sets).map(|_| Set::default()).collect(), spread: Spread::random() }
    }

    /// One more for `key`, unless that would pass `limit`.
    pub fn take(self: &Arc<Self>, key: Key, limit: u32) -> Option<ConnectionLease> {
        let slot = self.spread.of(key);
        let (tag, set) = (tag(slot), self.set(slot));
        loop {
            let seen: [u64; WAYS] = array::from_fn(|way| set.0[way].load(Ordering::Acquire));
            let is_mine = |slot: u64| slot & !COUNT_MAX == tag && slot & COUNT_MAX > 0;
            let open: u64 = seen.iter().filter(|&&slot| is_mine(slot)).map(|slot| slot & COUNT_MAX).sum();
            if open >= u64::from(limit).min(COUNT_MAX) {
                return None;
            }
            let way = seen.iter().position(|&slot| is_mine(slot));
            let Some(way) = way.or_else(|| seen.iter().position(|slot| slot & COUNT_MAX == 0)) else {
                return Some(ConnectionLease::uncounted());
            };
            let counted = tag | ((seen[way] & COUNT_MAX) + 1);
            if set.0[way].compare_exchange(seen[way], counted, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Some(ConnectionLease::slot(self.clone(), slot, way as u8));
            }
        }
    }

    /// Connections that `key` has open.
    #[must_use]
    pub fn open(&self, key: Key) -> u64 {
        let slot = self.spread.of(key);
        let counts = self.set(slot).0.iter().map(|count| count.load(Ordering::Acquire));
        counts.filter(|count| count & !COUNT_MAX == tag(slot)).map(|count| count & COUNT_MAX).sum()
    }

    /// One less.
    pub(super) fn release(&self, slot: u64, way: u8) {
        let before = self.set(slot).0[usize::from(way)].fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & COUNT_MAX > 0, "a lease is given back once");
    }

    fn set(&self, slot: u64) -> &Set {
        &self.sets[(slot & COUNT_MAX) as usize & (self.sets.len() - 1)]
    }
}

/// The upper bits of what a key is spread to; the lower ones choose the set.
fn tag(slot: u64) -> u64 {
    slot & !COUNT_MAX
}

impl fmt::Debug for ConnectionCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionCounts").field("slots", &(self.sets.len() * WAYS)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::from_bits(0x1234_5678_9ABC_DEF0);

    #[test]
    fn a_subject_has_its_number_and_no_more() {
        let counts = Arc::new(ConnectionCounts::new(64));
        let leases: Vec<_> = (0..3).map(|_| counts.take(KEY, 3).expect("there is room")).collect();
        assert!(counts.take(KEY, 3).is_none());
        assert!(counts.take(Key::from_bits(!KEY.bits()), 3).is_some(), "another subject has its own");
        assert_eq!(counts.open(KEY), 3);
        drop(leases);
        assert_eq!(counts.open(KEY), 0);
        assert!(counts.take(KEY, 1).is_some());
    }

    #[test]
    fn a_slot_that_counts_nothing_is_anyones_and_one_that_counts_is_kept() {
        let counts = Arc::new(ConnectionCounts::new(1));
        let held = counts.take(KEY, 9);
        for other in 1..1000_u64 {
            drop(counts.take(Key::from_bits(other << 32), 9).expect("there is a slot"));
        }
        assert_eq!(counts.open(KEY), 1);
        let full: Vec<_> = (1..100_u64).map(|other| counts.take(Key::from_bits(other << 32), 9)).collect();
        assert!(full.iter().all(Option::is_some), "where nothing can be counted, nothing is refused");
        drop((held, full));
        assert!((1..100_u64).all(|other| counts.open(Key::from_bits(other << 32)) == 0));
    }

    #[test]
    fn threads_share_one_number() {
        let counts = Arc::new(ConnectionCounts::new(64));
        let taken: usize = std::thread::scope(|scope| {
            let take = || {
                let leases: Vec<_> = (0..100).filter_map(|_| counts.take(KEY, 150)).collect();
                let taken = leases.len();
                std::mem::forget(leases);
                taken
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no thread fails")).sum()
        });
        assert_eq!((taken, counts.open(KEY)), (150, 150));
    }
}
