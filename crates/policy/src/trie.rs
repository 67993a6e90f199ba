//! The longest prefix of an address, in as few waits for memory as there can be.
//!
//! A million prefixes do not fit in a core's own caches, so that a look-up costs the cache lines that
//! it must read one after the other. Here that is mostly two: one of a directory with so many cells
//! that four to eight prefixes share one, and one of a list that holds those. Where prefixes crowd
//! together, what they have in common is skipped, and they get a separate directory.
//!
//! How long that line takes is a matter of how much of the table is in the caches, so the table is
//! small before all else: keys and answers take no more bytes than they need, and nothing is left free
//! between two lists. One that lies across lines costs little, for they are fetched at the same time.

use std::hint::select_unpredictable;
use std::iter;

/// An address, its first bit uppermost.
pub(crate) trait Address: Copy + Ord {
    /// Bytes of a key in a list that is not short.
    const KEY_BYTES: usize;

    /// The first 64 bits; zeros where there are fewer.
    fn first(self) -> u64;

    /// What comes after the first `bits`, with zeros behind.
    fn after(self, bits: u32) -> Self;

    /// What [`longest`] finds in a list that is not short.
    fn longest(list: &[u8], size: usize, first: u64) -> (u32, u64);
}

impl Address for u32 {
    const KEY_BYTES: usize = 4;

    fn first(self) -> u64 {
        u64::from(self) << u32::BITS
    }

    fn after(self, bits: u32) -> Self {
        self.unbounded_shl(bits)
    }

    fn longest(list: &[u8], size: usize, first: u64) -> (u32, u64) {
        longest::<CELL_BYTES, { Self::KEY_BYTES }>(list, size, first)
    }
}

impl Address for u128 {
    const KEY_BYTES: usize = 8;

    fn first(self) -> u64 {
        (self >> u64::BITS) as u64
    }

    fn after(self, bits: u32) -> Self {
        self.unbounded_shl(bits)
    }

    fn longest(list: &[u8], size: usize, first: u64) -> (u32, u64) {
        longest::<CELL_BYTES, { Self::KEY_BYTES }>(list, size, first)
    }
}

/// A prefix and its answer, which is below [`NODE`].
#[derive(Clone, Copy)]
pub(crate) struct Range<A> {
    pub(crate) bits: A,
    pub(crate) len: u8,
    pub(crate) answer: u32,
}

/// Answers for prefixes, in one array. A cell of it is an answer, or leads to a node:
///
/// | bits, from above | of an answer | of a directory | of a list |
/// |---|---|---|---|
/// | 1 | 0 | 1 | 1 |
/// | 1 | the answer | 1 | 0 |
/// | 1 | the answer | how many bits it takes | whether it is short |
/// | 4 | the answer | the same | its entries |
/// | 25 | the answer | where it begins, in units | the same |
///
/// A directory is a cell for each value of the bits that it takes. A list is the cell where no entry
/// holds the address, then the cells of its entries, wider ones before those that they hold, then
/// their keys. A key is the bits of a prefix, then a one, then zeros. Where 16 bits are enough for
/// every key and 24 for every cell, they take no more: then the list is short.
#[derive(Debug)]
pub(crate) struct Trie<A> {
    root: u32,
    bytes: Box<[u8]>,
    _address: std::marker::PhantomData<A>,
}

/// A cell that is no answer.
pub(crate) const NODE: u32 = 1 << 31;

const DIRECTORY: u32 = 1 << 30;
const SHORT: u32 = 1 << 29;
const DIRECTORY_SIZE_BITS: u32 = 5;
const LIST_SIZE_BITS: u32 = 4;
const PLACE_BITS: u32 = 25;

/// Bytes between two places where a node may begin.
const UNIT: usize = 8;

const CELL_BYTES: usize = 4;
const SHORT_CELL_BYTES: usize = 3;
const SHORT_KEY_BYTES: usize = 2;

/// Bytes of the largest list: two cache lines.
const LIST_BYTES_MAX: usize = 2 * 64;

/// The most bits that a directory takes: 64 MiB of cells, for more prefixes than there are.
const DIRECTORY_BITS_MAX: u32 = 24;

/// Fewer common bits are not worth a node that skips them.
const SKIP_BITS_MIN: u32 = 4;

impl<A: Address> Trie<A> {
    /// The longest prefix a list can hold after what the nodes above it took.
    const ENTRY_BITS_MAX: u32 = u8::BITS * A::KEY_BYTES as u32 - 1;

    /// The most entries of a list.
    const LIST_MAX: usize = (LIST_BYTES_MAX - CELL_BYTES) / (A::KEY_BYTES + CELL_BYTES);

    /// The table of `ranges`, none of which is there twice; `outside` is the answer where none is.
    ///
    /// # Panics
    /// When it would take more than 256 MiB: some 13 million prefixes or more.
    pub(crate) fn build(mut ranges: Vec<Range<A>>, outside: u32) -> Self {
        ranges.sort_unstable_by_key(|range| (range.bits, range.len));
        let mut builder = Builder { bytes: Vec::new() };
        let root = builder.node(&ranges, 0, outside);
        Self { root, bytes: builder.bytes.into(), _address: std::marker::PhantomData }
    }

    /// The answer of the longest prefix that holds `address`.
    #[inline]
    pub(crate) fn find(&self, address: A) -> u32 {
        let (mut cell, mut rest) = (self.root, address);
        while cell & NODE != 0 {
            let size = |bits: u32| cell >> PLACE_BITS & ((1 << bits) - 1);
            let node = &self.bytes[(cell & ((1 << PLACE_BITS) - 1)) as usize * UNIT..];
            if cell & DIRECTORY != 0 {
                let bits = size(DIRECTORY_SIZE_BITS);
                cell = small(node.as_chunks::<CELL_BYTES>().0[slot(rest, bits)]);
                rest = rest.after(bits);
                continue;
            }
            let entries = size(LIST_SIZE_BITS) as usize;
            if cell & SHORT != 0 {
                // It ends here: a cell that leads on is not so small.
                return longest::<SHORT_CELL_BYTES, SHORT_KEY_BYTES>(node, entries, rest.first()).0;
            }
            let (next, key) = A::longest(node, entries, rest.first());
            cell = next;
            rest = rest.after(u64::BITS - 1 - key.trailing_zeros().min(u64::BITS - 1));
        }
        cell
    }
}

/// The cell of a list of `size` entries for an address that begins with `first`, and the longest key
/// that holds it, or zero.
#[inline]
fn longest<const CELL: usize, const KEY: usize>(list: &[u8], size: usize, first: u64) -> (u32, u64) {
    let (cells, keys) = list.split_at((1 + size) * CELL);
    let (cells, keys) = (cells.as_chunks::<CELL>().0, keys[..size * KEY].as_chunks::<KEY>().0);
    let (mut found, mut longest) = (small(cells[0]), 0);
    // No branch on what an entry is: how often this turns is known before the list is there, and which
    // entry holds the address cannot be guessed.
    for (cell, key) in cells[1..].iter().zip(keys) {
        let key = upper(*key);
        let holds = holds(key, first);
        found = select_unpredictable(holds, small(*cell), found);
        longest = select_unpredictable(holds, key, longest);
    }
    (found, longest)
}

/// The number in at most four bytes.
#[inline]
fn small<const BYTES: usize>(bytes: [u8; BYTES]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << u8::BITS | u32::from(*byte))
}

/// The number whose upper bytes these are.
#[inline]
fn upper<const BYTES: usize>(bytes: [u8; BYTES]) -> u64 {
    let number = bytes.iter().rev().fold(0, |number, byte| number << u8::BITS | u64::from(*byte));
    number << (u64::BITS - u8::BITS * BYTES as u32)
}

/// The value of the first `bits`, of which there is at least one.
fn slot<A: Address>(address: A, bits: u32) -> usize {
    (address.first() >> (u64::BITS - bits)) as usize
}

struct Builder {
    bytes: Vec<u8>,
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
        let mut cells = vec![outside; 1 << bits];
        let is_longer = |range: &Range<A>| u32::from(range.len) > above + bits;
        for range in ranges.iter().filter(|range| !is_longer(range)) {
            let slots = 1 << (above + bits - u32::from(range.len));
            let first = slot(range.bits.after(above), bits);
            cells[first..first + slots].fill(range.answer);
        }
        let longer: Vec<_> = ranges.iter().copied().filter(is_longer).collect();
        let slot = |range: &Range<A>| slot(range.bits.after(above), bits);
        for same in longer.chunk_by(|a, b| slot(a) == slot(b)) {
            let cell = &mut cells[slot(&same[0])];
            *cell = self.node(same, above + bits, *cell);
        }
        let node = self.begin();
        self.bytes.extend(cells.iter().flat_map(|cell| cell.to_le_bytes()));
        NODE | DIRECTORY | bits << PLACE_BITS | node
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
        let cells = || iter::once(outside).chain(entries.iter().map(|&(_, cell)| cell));
        let is_short = cells().all(|cell| cell >> (u8::BITS * SHORT_CELL_BYTES as u32) == 0)
            && entries.iter().all(|(key, _)| key << (u8::BITS * SHORT_KEY_BYTES as u32) == 0);
        let (kind, cell_bytes, key_bytes) =
            if is_short { (SHORT, SHORT_CELL_BYTES, SHORT_KEY_BYTES) } else { (0, CELL_BYTES, A::KEY_BYTES) };
        let node = self.begin();
        for cell in cells() {
            self.bytes.extend(&cell.to_le_bytes()[..cell_bytes]);
        }
        for (key, _) in entries {
            self.bytes.extend(&key.to_le_bytes()[8 - key_bytes..]);
        }
        NODE | kind | (entries.len() as u32) << PLACE_BITS | node
    }

    /// Where the next node begins, in units.
    fn begin(&mut self) -> u32 {
        let unit = self.bytes.len().div_ceil(UNIT);
        assert!(unit < 1 << PLACE_BITS, "a table of networks of less than 256 MiB");
        self.bytes.resize(unit * UNIT, 0);
        unit as u32
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
