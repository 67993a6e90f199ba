//! The longest prefix of an address, in as few waits for memory as there can be.
//!
//! A million prefixes do not fit in a core's own caches, so that a look-up costs the cache lines that
//! it must read one after the other. Here that is mostly two: one of a directory with so many cells
//! that three or four prefixes share one, and one of a list that holds those. Where prefixes crowd
//! together, what they have in common is skipped, and they get a directory of their own.

use std::hint::select_unpredictable;

/// An address, its first bit uppermost.
pub(crate) trait Address: Copy + Ord {
    /// Words of 32 bits that a key in a list takes.
    const KEY_WORDS: usize;

    /// The first 64 bits; zeros where there are fewer.
    fn first(self) -> u64;

    /// What comes after the first `bits`, with zeros behind.
    fn after(self, bits: u32) -> Self;
}

impl Address for u32 {
    const KEY_WORDS: usize = 1;

    fn first(self) -> u64 {
        u64::from(self) << u32::BITS
    }

    fn after(self, bits: u32) -> Self {
        self.unbounded_shl(bits)
    }
}

impl Address for u128 {
    const KEY_WORDS: usize = 2;

    fn first(self) -> u64 {
        (self >> u64::BITS) as u64
    }

    fn after(self, bits: u32) -> Self {
        self.unbounded_shl(bits)
    }
}

/// A prefix and its answer, which is below [`NODE`].
#[derive(Clone, Copy)]
pub(crate) struct Range<A> {
    pub(crate) bits: A,
    pub(crate) len: u8,
    pub(crate) answer: u32,
}

/// Answers for prefixes, in one array of words. A cell of it is an answer, or leads to a node:
///
/// | bits, from above | of an answer | of a directory | of a list |
/// |---|---|---|---|
/// | 1 | 0 | 1 | 1 |
/// | 1 | the answer | 1 | 0 |
/// | 5 | the answer | how many bits it takes | its entries |
/// | 25 | the answer | where it begins, in units of four words | the same |
///
/// A directory is a cell for each value of the bits that it takes. A list is the answer where no
/// entry holds the address, then the keys of its entries, wider ones before those that they hold,
/// then their cells. A key is the bits of a prefix, then a one, then zeros.
#[derive(Debug)]
pub(crate) struct Trie<A> {
    root: u32,
    words: Box<[u32]>,
    _address: std::marker::PhantomData<A>,
}

/// A cell that is no answer.
pub(crate) const NODE: u32 = 1 << 31;

const DIRECTORY: u32 = 1 << 30;
const SIZE_BITS: u32 = 5;
const PLACE_BITS: u32 = 25;

/// Words between two places where a node may begin.
const UNIT_WORDS: usize = 4;

/// Words of a cache line. A large array begins at a page, and so at a line.
const LINE_WORDS: usize = 16;

/// Words of the largest list: two lines, which are fetched at the same time.
const LIST_WORDS_MAX: usize = 2 * LINE_WORDS - 1;

/// The most bits that a directory takes: 64 MiB of cells, for more prefixes than there are.
const DIRECTORY_BITS_MAX: u32 = 24;

/// Fewer common bits are not worth a node that skips them.
const SKIP_BITS_MIN: u32 = 4;

impl<A: Address> Trie<A> {
    /// The longest prefix a list can hold after what the nodes above it took.
    const ENTRY_BITS_MAX: u32 = u32::BITS * A::KEY_WORDS as u32 - 1;

    const LIST_MAX: usize = (LIST_WORDS_MAX - 1) / (A::KEY_WORDS + 1);

    /// The table of `ranges`, none of which is there twice; `outside` is the answer where none is.
    ///
    /// # Panics
    /// When it would take more than 512 MiB: some 40 million prefixes.
    pub(crate) fn build(mut ranges: Vec<Range<A>>, outside: u32) -> Self {
        ranges.sort_unstable_by_key(|range| (range.bits, range.len));
        let mut builder = Builder { words: Vec::new() };
        let root = builder.node(&ranges, 0, outside);
        Self { root, words: builder.words.into(), _address: std::marker::PhantomData }
    }

    /// The answer of the longest prefix that holds `address`.
    pub(crate) fn find(&self, address: A) -> u32 {
        let (mut cell, mut rest) = (self.root, address);
        while cell & NODE != 0 {
            let size = cell >> PLACE_BITS & ((1 << SIZE_BITS) - 1);
            let node = &self.words[(cell & ((1 << PLACE_BITS) - 1)) as usize * UNIT_WORDS..];
            let took = if cell & DIRECTORY != 0 {
                cell = node[slot(rest, size)];
                size
            } else {
                let (keys, cells) = node[1..].split_at(size as usize * A::KEY_WORDS);
                let first = rest.first();
                let mut longest = 0;
                cell = node[0];
                // No branch on what an entry is: how often this turns is known before the list is
                // there, and which entry holds the address is nobody's guess.
                for (key, &next) in keys.chunks_exact(A::KEY_WORDS).zip(&cells[..size as usize]) {
                    let key = key.iter().fold(0, |key, &word| key << u32::BITS | u64::from(word));
                    let key = key << (u64::BITS - u32::BITS * A::KEY_WORDS as u32);
                    let holds = (first ^ key) <= (key ^ (key - 1));
                    cell = select_unpredictable(holds, next, cell);
                    longest = select_unpredictable(holds, key, longest);
                }
                u64::BITS - 1 - longest.trailing_zeros().min(u64::BITS - 1)
            };
            rest = rest.after(took);
        }
        cell
    }
}

/// The value of the first `bits`, of which there is at least one.
fn slot<A: Address>(address: A, bits: u32) -> usize {
    (address.first() >> (u64::BITS - bits)) as usize
}

struct Builder {
    words: Vec<u32>,
}

impl Builder {
    /// The cell for `ranges`, which share the first `above` bits, are at least as long, and sorted,
    /// wider ones before those that they hold.
    fn node<A: Address>(&mut self, ranges: &[Range<A>], above: u32, outside: u32) -> u32 {
        let (whole, ranges) =
            ranges.split_at(usize::from(ranges.first().is_some_and(|range| u32::from(range.len) == above)));
        let outside = whole.first().map_or(outside, |range| range.answer);
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return outside };
        if ranges.len() <= Trie::<A>::LIST_MAX {
            return self.list(ranges, above, outside);
        }
        let shortest = ranges.iter().map(|range| u32::from(range.len)).min().unwrap_or(above);
        let differ = first.bits.after(above).first() ^ last.bits.after(above).first();
        let common = differ.leading_zeros().min(shortest - above).min(Trie::<A>::ENTRY_BITS_MAX);
        if common >= SKIP_BITS_MIN {
            let below = self.node(ranges, above + common, outside);
            let key = key(first.bits.after(above), common);
            return self.entries::<A>(&[(key, below)], outside);
        }
        self.directory(ranges, above, outside)
    }

    fn directory<A: Address>(&mut self, ranges: &[Range<A>], above: u32, outside: u32) -> u32 {
        let bits = (ranges.len().ilog2() - 2).clamp(1, DIRECTORY_BITS_MAX);
        let node = self.room(1 << bits);
        let start = node * UNIT_WORDS;
        self.words[start..start + (1 << bits)].fill(outside);
        let is_longer = |range: &Range<A>| u32::from(range.len) > above + bits;
        for range in ranges.iter().filter(|range| !is_longer(range)) {
            let slots = 1 << (above + bits - u32::from(range.len));
            let first = start + slot(range.bits.after(above), bits);
            self.words[first..first + slots].fill(range.answer);
        }
        let longer: Vec<_> = ranges.iter().copied().filter(is_longer).collect();
        let slot = |range: &Range<A>| slot(range.bits.after(above), bits);
        for same in longer.chunk_by(|a, b| slot(a) == slot(b)) {
            let at = start + slot(&same[0]);
            let outside = self.words[at];
            self.words[at] = self.node(same, above + bits, outside);
        }
        NODE | DIRECTORY | bits << PLACE_BITS | node as u32
    }

    fn list<A: Address>(&mut self, ranges: &[Range<A>], above: u32, outside: u32) -> u32 {
        let bits_max = Trie::<A>::ENTRY_BITS_MAX;
        let mut entries = Vec::with_capacity(ranges.len());
        let mut rest = ranges;
        while let Some(range) = rest.first() {
            let bits = range.bits.after(above);
            let len = u32::from(range.len) - above;
            if len <= bits_max {
                entries.push((key(bits, len), range.answer));
                rest = &rest[1..];
                continue;
            }
            let key = key(bits, bits_max);
            let same = rest.iter().take_while(|range| self::key(range.bits.after(above), bits_max) == key);
            let (same, others) = rest.split_at(same.count());
            // Of those that hold these the longest came last.
            let wider = entries.iter().rev().find(|(wider, _)| holds(*wider, bits.first()));
            let outside = wider.map_or(outside, |&(_, answer)| answer);
            entries.push((key, self.node(same, above + bits_max, outside)));
            rest = others;
        }
        // The end of a key tells how long it is. Stable: what goes on comes after what ends there.
        entries.sort_by_key(|(key, _)| u64::BITS - key.trailing_zeros());
        self.entries::<A>(&entries, outside)
    }

    fn entries<A: Address>(&mut self, entries: &[(u64, u32)], outside: u32) -> u32 {
        let node = self.room(1 + entries.len() * (A::KEY_WORDS + 1));
        let mut at = node * UNIT_WORDS;
        let mut put = |word: u64| {
            self.words[at] = word as u32;
            at += 1;
        };
        put(outside.into());
        for &(key, _) in entries {
            put(key >> u32::BITS);
            if A::KEY_WORDS == 2 {
                put(key);
            }
        }
        for &(_, cell) in entries {
            put(cell.into());
        }
        NODE | (entries.len() as u32) << PLACE_BITS | node as u32
    }

    /// Where a node of so many words begins, in units: one that fits in a line crosses none.
    fn room(&mut self, words: usize) -> usize {
        let start = self.words.len().next_multiple_of(UNIT_WORDS);
        let left = LINE_WORDS - start % LINE_WORDS;
        let start = if words > left { start + left % LINE_WORDS } else { start };
        self.words.resize(start + words, 0);
        let unit = start / UNIT_WORDS;
        assert!(unit < 1 << PLACE_BITS, "a table of networks of less than 512 MiB");
        unit
    }
}

/// The first `len` of `bits`, then a one: at most 63 bits and one.
fn key<A: Address>(bits: A, len: u32) -> u64 {
    let end = 1 << (u64::BITS - 1 - len);
    bits.first() & !(end | (end - 1)) | end
}

/// Whether an address that begins with `first` begins with the bits of `key`.
fn holds(key: u64, first: u64) -> bool {
    (first ^ key) <= (key ^ (key - 1))
}
