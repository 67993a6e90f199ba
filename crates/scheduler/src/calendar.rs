//! Deadlines on a ring of slots: each slot is a list of the entries that are due with one tick.
//!
//! Promises: to add, to cancel and to give the next that is due takes constant time, and nothing is
//! moved about in between: every wait is shorter than the ring. Nothing is due before its time, and
//! at most a tick after it; what is due with one tick comes in the order in which it was added.

use std::time::Duration;

use crate::table::{Linked, List, Table};

/// Slots of a ring: a wait of an hour is kept to half a second.
const SLOTS: u64 = 1 << 14;

/// Words of 64 bits that tell which slots are in use.
const WORDS: usize = SLOTS as usize / 64;

/// The longest wait takes half the ring, so that one added while others are overdue fits as well.
const LONGEST_TICKS: u64 = SLOTS / 2;

/// The shortest tick: the waits are of seconds.
const TICK_MIN_MILLIS: u64 = 100;

/// An entry that may have a deadline in the calendar of the set `S`.
pub(crate) trait Timed<const S: u8>: Linked<S> {
    /// The slot that it stands in.
    fn slot(&mut self) -> &mut Slot;
}

/// A place on the ring, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u16);

impl Slot {
    /// It has no deadline.
    pub(crate) const NONE: Self = Self(u16::MAX);

    /// It has one.
    pub(crate) fn is_set(self) -> bool {
        self != Self::NONE
    }
}

/// The deadlines.
#[derive(Debug)]
pub(crate) struct Calendar<const S: u8> {
    tick_millis: u64,
    /// No slot up to this tick holds anything.
    passed: u64,
    slots: Box<[List<S>]>,
    /// Which slots do, and which of these words are not 0.
    used: Box<[u64; WORDS]>,
    words: [u64; WORDS / 64],
}

impl<const S: u8> Calendar<S> {
    /// One for waits of up to `longest`.
    pub(crate) fn new(longest: Duration) -> Self {
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Self {
            tick_millis: longest.div_ceil(LONGEST_TICKS).max(TICK_MIN_MILLIS),
            passed: 0,
            slots: vec![List::EMPTY; SLOTS as usize].into_boxed_slice(),
            used: Box::new([0; WORDS]),
            words: [0; WORDS / 64],
        }
    }

    /// Gives an entry without a deadline one at `at`. One beyond the ring is due at the end of it.
    pub(crate) fn insert<T: Timed<S>>(&mut self, table: &mut Table<T>, entry: u32, at: u64) {
        let tick = at.div_ceil(self.tick_millis).clamp(self.passed + 1, self.passed + SLOTS - 1);
        let slot = tick % SLOTS;
        *table[entry].slot() = Slot(slot as u16);
        self.slots[slot as usize].push_back(table, entry);
        let word = slot as usize / 64;
        self.used[word] |= 1 << (slot % 64);
        self.words[word / 64] |= 1 << (word % 64);
    }

    /// Takes an entry's deadline away, if it has one.
    pub(crate) fn remove<T: Timed<S>>(&mut self, table: &mut Table<T>, entry: u32) {
        let slot = std::mem::replace(table[entry].slot(), Slot::NONE);
        if slot.is_set() {
            let slot = usize::from(slot.0);
            self.slots[slot].remove(table, entry);
            self.note_empty(slot);
        }
    }

    /// The next entry whose deadline has passed at `now`; it has none any more.
    pub(crate) fn pop<T: Timed<S>>(&mut self, table: &mut Table<T>, now: u64) -> Option<u32> {
        let tick = self.advance(now)?;
        let slot = (tick % SLOTS) as usize;
        let entry = self.slots[slot].pop_front(table)?;
        *table[entry].slot() = Slot::NONE;
        self.note_empty(slot);
        Some(entry)
    }

    /// Follows the time as far as what is overdue lets it; gives the tick of that.
    pub(crate) fn advance(&mut self, now: u64) -> Option<u64> {
        let now_tick = now / self.tick_millis;
        let due = self.first_tick().filter(|&tick| tick <= now_tick);
        self.passed = due.map_or(self.passed.max(now_tick), |tick| tick - 1);
        due
    }

    /// When the first of them is due.
    pub(crate) fn next(&self) -> Option<u64> {
        self.first_tick().map(|tick| tick * self.tick_millis)
    }

    fn note_empty(&mut self, slot: usize) {
        if !self.slots[slot].is_empty() {
            return;
        }
        let word = slot / 64;
        self.used[word] &= !(1 << (slot % 64));
        if self.used[word] == 0 {
            self.words[word / 64] &= !(1 << (word % 64));
        }
    }

    fn first_tick(&self) -> Option<u64> {
        let from = self.passed + 1;
        let start = from % SLOTS;
        let word = start as usize / 64;
        let slot = match self.used[word] >> (start % 64) {
            0 => {
                let next = self.word_after(word)?;
                next as u64 * 64 + u64::from(self.used[next].trailing_zeros())
            }
            bits => start + u64::from(bits.trailing_zeros()),
        };
        Some(from + (slot + SLOTS - start) % SLOTS)
    }

    /// The first word in use after `word` on the ring; `word` itself comes last.
    fn word_after(&self, word: usize) -> Option<usize> {
        let (here, groups) = (word / 64, self.words.len());
        let later = self.words[here] & (!1_u64 << (word % 64));
        let group = |turn: usize| (here + turn) % groups;
        let rest = (1..=groups).map(|turn| (group(turn), self.words[group(turn)]));
        let (group, bits) = [(here, later)].into_iter().chain(rest).find(|&(_, bits)| bits != 0)?;
        Some(group * 64 + bits.trailing_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Links;

    struct Entry(Links, Slot);

    impl Linked<0> for Entry {
        fn links(&mut self) -> &mut Links {
            &mut self.0
        }
    }

    impl Timed<0> for Entry {
        fn slot(&mut self) -> &mut Slot {
            &mut self.1
        }
    }

    #[test]
    fn agrees_with_a_sorted_list_at_every_step() {
        let longest = Duration::from_secs(3600);
        for seed in 1..50_u64 {
            let mut state = seed;
            let mut below = move |bound: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % bound
            };
            let (mut table, mut calendar) = (Table::default(), Calendar::<0>::new(longest));
            // Due time, order, entry.
            let mut model: Vec<(u64, u64, u32)> = Vec::new();
            let mut now = below(1 << 40);
            while calendar.pop::<Entry>(&mut table, now).is_some() {}
            for order in 0..300 {
                match below(4) {
                    0 | 1 => {
                        let at = now + 1 + below(3_600_000);
                        let entry = table.insert(Entry(Links::NONE, Slot::NONE));
                        calendar.insert(&mut table, entry, at);
                        model.push((at.next_multiple_of(calendar.tick_millis), order, entry));
                    }
                    2 if !model.is_empty() => {
                        let (.., entry) = model.swap_remove(below(model.len() as u64) as usize);
                        calendar.remove(&mut table, entry);
                    }
                    _ => now += below(2_000_000),
                }
                model.sort_unstable();
                assert_eq!(calendar.next(), model.first().map(|&(at, ..)| at), "seed {seed}");
                // Now and then some stay overdue.
                for _ in 0..below(6) {
                    let due = model.first().filter(|&&(at, ..)| at <= now).map(|&(.., entry)| entry);
                    assert_eq!(calendar.pop(&mut table, now), due, "seed {seed}");
                    if due.is_some() {
                        model.remove(0);
                    }
                }
            }
        }
    }

    #[test]
    fn what_lies_beyond_the_ring_is_due_at_its_end() {
        let (mut table, mut calendar) = (Table::default(), Calendar::<0>::new(Duration::from_secs(60)));
        let entry = table.insert(Entry(Links::NONE, Slot::NONE));
        calendar.insert(&mut table, entry, u64::MAX);
        assert_eq!(calendar.next(), Some((SLOTS - 1) * TICK_MIN_MILLIS));
        assert_eq!(calendar.pop(&mut table, 1), None);
    }
}
