//! How fast a subject may go on: the generic cell rate algorithm over a table of atomics.
//!
//! One time per subject says everything: the theoretical arrival time, when all that was charged has
//! flowed off. A charge moves it on by its share of the period, and conforms while it is no further
//! ahead than the burst. The table has a fixed number of slots and never allocates, waits or fails:
//! when a set of slots is full, the subject that is nearest to free is forgotten, so that a flood of
//! newcomers displaces newcomers and not a client at its limit.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mail::UnixMillis;

use super::key::{Key, Spread};

/// Slots of a set: a subject is in one of these, or nowhere. Keys and times of a set fill two cache lines.
const WAYS: usize = 8;

const NANOS_A_MILLI: u64 = 1_000_000;

/// Debts are forgotten past this many bursts. More is owed only after a message much larger than
/// the burst, or when the clock went back; neither may lock a subject out for longer.
const DEBT_BURSTS_MAX: u64 = 16;

/// So much in so long, and no more than `burst` at once.
///
/// In the long run at most `amount` is charged in every `per`; in any single `per`, at most
/// `amount + burst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// The period; a millisecond at least.
    pub per: Duration,
    /// What flows off in a period: messages, recipients, bytes, connections; 0 lets nothing pass.
    pub amount: u64,
    /// What a rested subject may charge at once.
    pub burst: u64,
}

impl Rate {
    /// `amount` in every `per`, all of it at once if the subject has rested: what people mean by
    /// "6000 a minute" when their jobs run on the minute.
    #[must_use]
    pub const fn new(amount: u64, per: Duration) -> Self {
        Self { per, amount, burst: amount }
    }

    /// How long `amount` takes to flow off, in nanoseconds, rounded up: never more than allowed.
    fn nanos(&self, amount: u64) -> u64 {
        let nanos = (self.per.as_nanos() * u128::from(amount)).div_ceil(u128::from(self.amount.max(1)));
        // Half of the range, so that a time plus a span never wraps; 292 years.
        nanos.min(u128::from(u64::MAX / 2)) as u64
    }

    /// The time to charge from: `arrival` is what the slot says.
    fn base(&self, arrival: u64, now: u64) -> u64 {
        arrival.clamp(now, self.latest(now))
    }

    /// The arrival time after `amount` more.
    fn charged(&self, amount: u64, base: u64, now: u64) -> u64 {
        base.saturating_add(self.nanos(amount)).min(self.latest(now))
    }

    fn latest(&self, now: u64) -> u64 {
        now.saturating_add(self.nanos(self.burst).saturating_mul(DEBT_BURSTS_MAX))
    }

    /// When `amount` conforms, in nanoseconds: at `now` or before if it does already. More than the
    /// burst conforms once nothing is owed, or it never would.
    fn conforms_at(&self, amount: u64, base: u64) -> u64 {
        if self.amount == 0 {
            return u64::MAX;
        }
        base.saturating_sub(self.nanos(self.burst).saturating_sub(self.nanos(amount.min(self.burst))))
    }
}

/// What was charged to whom, for every subject that has not rested since.
///
/// A subject is its [`Key`]; two that share one share their limit. Charges of one subject are exact over all
/// threads. Only a subject that is forgotten while it is charged, or first charged by
/// several threads at once while its set is being displaced, may lose a charge of each thread.
pub struct RateTable {
    sets: Box<[Set]>,
    spread: Spread,
}

#[derive(Default)]
#[repr(align(128))]
struct Set {
    /// 0 in a slot that was never used.
    keys: [AtomicU64; WAYS],
    /// Theoretical arrival times, in nanoseconds since 1970. One in the past is as good as none, so
    /// that a slot which has rested changes hands without being cleared.
    arrivals: [AtomicU64; WAYS],
}

impl RateTable {
    /// A table of at least `slots` slots, 16 bytes each.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self::with_spread(slots, Spread::random())
    }

    fn with_spread(slots: usize, spread: Spread) -> Self {
        let sets = slots.div_ceil(WAYS).next_power_of_two();
        Self { sets: (0..sets).map(|_| Set::default()).collect(), spread }
    }

    /// Charges `amount`, if it conforms.
    ///
    /// # Errors
    /// When it will, if nothing else is charged; nothing was charged now. [`UnixMillis`] of the
    /// end of time where `rate` lets nothing pass.
    pub fn take(&self, key: Key, amount: u64, rate: &Rate, now: UnixMillis) -> Result<(), UnixMillis> {
        let now = nanos(now);
        self.update(key, now, |arrival| {
            let base = rate.base(arrival, now);
            let at = rate.conforms_at(amount, base);
            if at <= now { Ok(rate.charged(amount, base, now)) } else { Err(millis(at)) }
        })
    }

    /// Charges `amount` whether it conforms or not: for what has happened already. What it charges
    /// too much is owed, and holds up what comes next.
    pub fn charge(&self, key: Key, amount: u64, rate: &Rate, now: UnixMillis) {
        let now = nanos(now);
        let charged = self.update(key, now, |arrival| {
            Ok::<_, UnixMillis>(rate.charged(amount, rate.base(arrival, now), now))
        });
        debug_assert!(charged.is_ok(), "a charge asks no limit");
    }

    /// Whether `amount` would conform; charges nothing.
    ///
    /// # Errors
    /// As of [`RateTable::take`].
    pub fn peek(&self, key: Key, amount: u64, rate: &Rate, now: UnixMillis) -> Result<(), UnixMillis> {
        let now = nanos(now);
        let set = self.set(key);
        let arrival = set.find(key).map_or(0, |way| set.arrivals[way].load(Ordering::Acquire));
        let at = rate.conforms_at(amount, rate.base(arrival, now));
        if at <= now { Ok(()) } else { Err(millis(at)) }
    }

    /// How much of `rate`'s burst `key` has used and has not flowed off yet, rounded up; more than that is owed.
    #[must_use]
    pub fn used(&self, key: Key, rate: &Rate, now: UnixMillis) -> u64 {
        let now = nanos(now);
        let set = self.set(key);
        let arrival = set.find(key).map_or(0, |way| set.arrivals[way].load(Ordering::Acquire));
        let owed = u128::from(rate.base(arrival, now) - now) * u128::from(rate.amount);
        u64::try_from(owed.div_ceil(rate.per.as_nanos().max(1))).unwrap_or(u64::MAX)
    }

    /// Forgets what `key` was charged: a limit that a person lifts.
    pub fn forget(&self, key: Key) {
        let set = self.set(key);
        if let Some(way) = set.find(key) {
            set.arrivals[way].store(0, Ordering::Release);
        }
    }

    /// Moves the arrival time of `key` on to what `next` says, if it says anything else than no.
    fn update<E>(&self, key: Key, now: u64, next: impl Fn(u64) -> Result<u64, E>) -> Result<(), E> {
        let set = self.set(key);
        loop {
            let way = match set.find(key) {
                Some(way) => way,
                None => {
                    // Who is refused at rest takes no slot.
                    next(0)?;
                    match set.claim(key, now) {
                        Some(way) => way,
                        None => continue,
                    }
                }
            };
            let arrival = set.arrivals[way].load(Ordering::SeqCst);
            let moved = set.arrivals[way].compare_exchange(
                arrival,
                next(arrival)?,
                Ordering::SeqCst,
                Ordering::SeqCst,
            );
            // The slot may have changed hands meanwhile: then another subject was charged, and this one is yet to be.
            if moved.is_ok() && set.keys[way].load(Ordering::SeqCst) == key.bits() {
                return Ok(());
            }
        }
    }

    fn set(&self, key: Key) -> &Set {
        &self.sets[self.spread.of(key) as usize & (self.sets.len() - 1)]
    }
}

impl Set {
    /// The first slot of `key`; all threads agree on it.
    fn find(&self, key: Key) -> Option<usize> {
        (0..WAYS).find(|&way| self.keys[way].load(Ordering::SeqCst) == key.bits())
    }

    /// Makes the slot that is nearest to free `key`'s. `None`: another thread was faster; look again.
    fn claim(&self, key: Key, now: u64) -> Option<usize> {
        let victims = self.arrivals.iter().map(|arrival| arrival.load(Ordering::SeqCst));
        let (way, owed) = victims.enumerate().min_by_key(|&(_, arrival)| arrival).expect("a set has slots");
        let victim = self.keys[way].load(Ordering::SeqCst);
        if victim == key.bits()
            || self.keys[way]
                .compare_exchange(victim, key.bits(), Ordering::SeqCst, Ordering::SeqCst)
                .is_err()
        {
            return None;
        }
        if owed > now {
            // A client that charged it since then did so in the newcomer's name: that stays.
            let _ = self.arrivals[way].compare_exchange(owed, now, Ordering::SeqCst, Ordering::SeqCst);
        }
        // Two threads may bring one subject into two slots at once. Each looks after it wrote, so that
        // one of them at least sees both; the first slot stays, and takes over what the other is owed.
        let first = self.find(key)?;
        for other in first + 1..WAYS {
            if self.keys[other].compare_exchange(key.bits(), 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                let owed = self.arrivals[other].swap(0, Ordering::SeqCst).saturating_sub(now);
                let add = |arrival: u64| Some(arrival.max(now).saturating_add(owed));
                let _ = self.arrivals[first].fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
            }
        }
        Some(first)
    }
}

impl fmt::Debug for RateTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateTable").field("slots", &(self.sets.len() * WAYS)).finish_non_exhaustive()
    }
}

fn nanos(time: UnixMillis) -> u64 {
    time.0.saturating_mul(NANOS_A_MILLI)
}

/// Rounded up: at that time it conforms.
fn millis(nanos: u64) -> UnixMillis {
    UnixMillis(nanos.div_ceil(NANOS_A_MILLI))
}

#[cfg(test)]
mod tests;
