//! Many timers, few of which fire: insert and cancel in constant time, on one coarse tick.
//!
//! Promises: a timer never fires before its time, and at the latest one tick after it; timers fire in
//! the order of their ticks, those of one tick in the order of their insertion or nearly so. In steady state nothing is
//! allocated. Cannot fail.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::{Instant, Pages};

/// Slots of one level, 64 so that a level's occupancy is one word.
const SLOTS: usize = 64;
const SLOT_BITS: u32 = 6;
/// Levels: 2^36 ticks before a timer has to be placed anew, 21 years at 10 ms.
const LEVELS: usize = 6;
/// How far ahead a timer is placed; one that is further comes by again. Half the range, so that the
/// top level never wraps onto the slot it stands on.
const PLACED_TICKS_MAX: u64 = 1 << (SLOT_BITS as usize * LEVELS - 1);
/// The list of timers that are due, after those of all the slots.
const DUE: usize = LEVELS * SLOTS;
const NONE: u32 = u32::MAX;

/// A timer in a [`Wheel`]; it goes stale when the timer fires or is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerKey {
    index: u32,
    /// Of the timers that this place has held; never 0, so that a key that may be missing takes no more.
    generation: NonZeroU32,
}

/// A hierarchical timer wheel.
#[derive(Debug)]
pub struct Wheel<T> {
    tick_nanos: u64,
    /// The tick up to which timers were moved to the due list.
    elapsed: u64,
    timers: Pages<Timer<T>>,
    free: u32,
    lists: Box<[List; DUE + 1]>,
    occupied: [u64; LEVELS],
    length: usize,
}

#[derive(Debug)]
struct Timer<T> {
    /// `None` while the entry is free.
    value: Option<T>,
    generation: NonZeroU32,
    tick: u64,
    list: u16,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
}

impl<T> Wheel<T> {
    /// What a timer takes of memory.
    pub const TIMER_BYTES: usize = size_of::<Timer<T>>();

    /// An empty wheel whose timers are kept to a `tick`.
    ///
    /// # Panics
    /// When `tick` is zero or longer than 580 years.
    #[must_use]
    pub fn new(tick: Duration) -> Self {
        let tick_nanos = u64::try_from(tick.as_nanos()).expect("a tick fits 64 bits of nanoseconds");
        assert!(tick_nanos > 0, "a tick is longer than nothing");
        Self {
            tick_nanos,
            elapsed: 0,
            timers: Pages::default(),
            free: NONE,
            lists: Box::new([List { head: NONE, tail: NONE }; DUE + 1]),
            occupied: [0; LEVELS],
            length: 0,
        }
    }

    /// Timers that have neither fired nor been cancelled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// No timer is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds a timer; one whose time has passed is due at once.
    ///
    /// # Panics
    /// When there are 2^32 - 1 timers.
    pub fn insert(&mut self, at: Instant, value: T) -> TimerKey {
        let tick = at.0.div_ceil(self.tick_nanos);
        let index = self.take_entry(tick, value);
        self.place(index);
        self.length += 1;
        TimerKey { index, generation: self.timers[index].generation }
    }

    /// Takes a timer out and gives its value; `None` when it has fired or was cancelled.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let timer = self.timers.get(key.index)?;
        if timer.generation != key.generation || timer.value.is_none() {
            return None;
        }
        self.unlink(key.index);
        self.free_entry(key.index)
    }

    /// A value whose time has come; call it until it gives `None`.
    pub fn expired(&mut self, now: Instant) -> Option<T> {
        self.advance(now.0 / self.tick_nanos);
        let index = self.lists[DUE].head;
        if index == NONE {
            return None;
        }
        self.unlink(index);
        self.free_entry(index)
    }

    /// When a timer is due; `None` when it has fired or was cancelled.
    #[must_use]
    pub fn due(&self, key: TimerKey) -> Option<Instant> {
        let timer = self.timers.get(key.index)?;
        let is_live = timer.generation == key.generation && timer.value.is_some();
        is_live.then(|| Instant(timer.tick.saturating_mul(self.tick_nanos)))
    }

    /// When to look again: never later than the first timer is due, perhaps earlier.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let tick = if self.lists[DUE].head == NONE { self.next_slot()?.2 } else { self.elapsed };
        Some(Instant(tick.saturating_mul(self.tick_nanos)))
    }

    fn advance(&mut self, now_tick: u64) {
        while let Some((level, slot, tick)) = self.next_slot() {
            if tick > now_tick {
                break;
            }
            self.elapsed = tick;
            let list = level * SLOTS + slot;
            let mut index = self.lists[list].head;
            self.lists[list] = List { head: NONE, tail: NONE };
            self.occupied[level] &= !(1 << slot);
            while index != NONE {
                let next = self.timers[index].next;
                self.place(index);
                index = next;
            }
        }
        self.elapsed = self.elapsed.max(now_tick);
    }

    /// The first occupied slot: level, slot and the tick it begins with. A lower level always comes
    /// before a higher one, since a timer sits where its tick first differs from `elapsed`.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        let shift = SLOT_BITS * level as u32;
        let here = (self.elapsed >> shift) % SLOTS as u64;
        let ahead = u64::from(self.occupied[level].rotate_right(here as u32).trailing_zeros());
        let slot = (here + ahead) as usize % SLOTS;
        let tick = ((self.elapsed >> shift) + ahead) << shift;
        Some((level, slot, tick))
    }

    /// Puts an entry into the list where its tick belongs.
    fn place(&mut self, index: u32) {
        let tick = self.timers[index].tick;
        let list = if tick <= self.elapsed {
            DUE
        } else {
            let tick = tick.min(self.elapsed.saturating_add(PLACED_TICKS_MAX));
            let differing = (self.elapsed ^ tick) | (SLOTS as u64 - 1);
            let level = ((63 - differing.leading_zeros()) / SLOT_BITS) as usize;
            let level = level.min(LEVELS - 1);
            let slot = (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS;
            self.occupied[level] |= 1 << slot;
            level * SLOTS + slot
        };
        let tail = self.lists[list].tail;
        let timer = &mut self.timers[index];
        timer.list = list as u16;
        timer.previous = tail;
        timer.next = NONE;
        self.lists[list].tail = index;
        match tail {
            NONE => self.lists[list].head = index,
            tail => self.timers[tail].next = index,
        }
    }

    fn unlink(&mut self, index: u32) {
        let Timer { list, previous, next, .. } = self.timers[index];
        let list = usize::from(list);
        match previous {
            NONE => self.lists[list].head = next,
            previous => self.timers[previous].next = next,
        }
        match next {
            NONE => self.lists[list].tail = previous,
            next => self.timers[next].previous = previous,
        }
        if list != DUE && self.lists[list].head == NONE {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    fn take_entry(&mut self, tick: u64, value: T) -> u32 {
        if self.free == NONE {
            let (value, generation) = (Some(value), NonZeroU32::MIN);
            return self.timers.push(Timer { value, generation, tick, list: 0, previous: NONE, next: NONE });
        }
        let index = self.free;
        let timer = &mut self.timers[index];
        self.free = timer.next;
        timer.value = Some(value);
        timer.tick = tick;
        index
    }

    fn free_entry(&mut self, index: u32) -> Option<T> {
        let timer = &mut self.timers[index];
        timer.generation = timer.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        timer.next = self.free;
        self.free = index;
        self.length -= 1;
        timer.value.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_nanos(10);

    /// A small generator, so that the property runs the same everywhere.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    fn drain(wheel: &mut Wheel<u64>, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| wheel.expired(now)).collect()
    }

    #[test]
    fn fires_at_its_tick_and_not_before() {
        let mut wheel = Wheel::new(TICK);
        wheel.insert(Instant(101), 1);
        assert_eq!(drain(&mut wheel, Instant(109)), []);
        assert_eq!(wheel.next(), Some(Instant(110)));
        assert_eq!(drain(&mut wheel, Instant(110)), [1]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_time_that_has_passed_is_due_at_once() {
        let mut wheel = Wheel::new(TICK);
        assert_eq!(drain(&mut wheel, Instant(1000)), []);
        wheel.insert(Instant(500), 7);
        assert!(wheel.next().expect("one is due") <= Instant(1000));
        assert_eq!(drain(&mut wheel, Instant(1000)), [7]);
    }

    #[test]
    fn a_cancelled_timer_gives_its_value_once_and_never_fires() {
        let mut wheel = Wheel::new(TICK);
        let key = wheel.insert(Instant(500), 7);
        assert_eq!(wheel.cancel(key), Some(7));
        assert_eq!(wheel.cancel(key), None);
        let again = wheel.insert(Instant(600), 8);
        assert_eq!(wheel.cancel(key), None, "the key of an earlier life is stale");
        assert_eq!(drain(&mut wheel, Instant(10_000)), [8]);
        assert_eq!(wheel.cancel(again), None);
        assert!(wheel.is_empty());
    }

    #[test]
    fn the_end_of_time_never_comes() {
        let mut wheel = Wheel::new(TICK);
        wheel.insert(Instant(u64::MAX), 1);
        for now in (0..60).map(|bit| Instant(1 << bit)) {
            assert_eq!(drain(&mut wheel, now), []);
        }
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn agrees_with_a_sorted_list_at_every_step() {
        for seed in 0..200 {
            agree_with_a_sorted_list(seed);
        }
    }

    fn agree_with_a_sorted_list(seed: u64) {
        let mut numbers = Numbers(seed);
        let mut wheel = Wheel::new(TICK);
        let mut model: Vec<(u64, u64, TimerKey)> = Vec::new();
        let mut now = numbers.below(1 << 30);
        for value in 0..400 {
            match numbers.below(4) {
                0 | 1 => {
                    let span = numbers.below(44);
                    let at = now.saturating_sub(50) + numbers.below(1 << span);
                    model.push((at, value, wheel.insert(Instant(at), value)));
                }
                2 if !model.is_empty() => {
                    let (_, value, key) = model.swap_remove(numbers.below(model.len() as u64) as usize);
                    assert_eq!(wheel.cancel(key), Some(value), "seed {seed}");
                }
                _ => {
                    let span = numbers.below(42);
                    now += numbers.below(1 << span);
                    let mut due: Vec<u64> = model
                        .extract_if(.., |(at, ..)| at.div_ceil(10) <= now / 10)
                        .map(|(_, value, _)| value)
                        .collect();
                    let mut fired = drain(&mut wheel, Instant(now));
                    due.sort_unstable();
                    fired.sort_unstable();
                    assert_eq!(fired, due, "seed {seed}");
                }
            }
            let first = model.iter().map(|(at, ..)| *at).min();
            assert_eq!(wheel.next().is_some(), first.is_some(), "seed {seed}");
            if let (Some(next), Some(first)) = (wheel.next(), first) {
                assert!(next.0 <= first.div_ceil(10).max(now / 10) * 10, "seed {seed}: {next:?} is too late");
            }
            assert_eq!(wheel.len(), model.len(), "seed {seed}");
        }
    }
}
