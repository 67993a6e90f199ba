//! An index over the entries of a table that grows by one bucket at a time (linear hashing).
//!
//! Promises: to add, find or remove looks at the entries of one bucket or two, about one each, and
//! no growth ever places all entries anew, as that of a usual hash table does. The key lies in the
//! entry and nowhere else. Cannot fail.

use crate::table::{NONE, Table};

/// An entry that an [`Index`] finds.
pub(crate) trait Indexed {
    /// The hash of its key, and the next entry of its bucket.
    fn place(&mut self) -> &mut Place;

    /// The same, to be read.
    fn placed(&self) -> Place;
}

/// Where an entry stands in an index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    hash: u32,
    next: u32,
}

impl Place {
    /// Of an entry that is not in the index yet.
    pub(crate) fn new(hash: u64) -> Self {
        Self { hash: fold(hash), next: NONE }
    }
}

fn fold(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

/// One place in the directory of buckets: its first entry.
type Bucket = u32;

/// The index.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Never removed from, so that a bucket's number is its place.
    buckets: Table<Bucket>,
    entries: u32,
}

impl Index {
    /// The entry of this hash for which `is_it` holds.
    pub(crate) fn find<T: Indexed>(
        &self,
        table: &Table<T>,
        hash: u64,
        is_it: impl Fn(&T) -> bool,
    ) -> Option<u32> {
        let hash = fold(hash);
        let mut at = *self.buckets.get(self.bucket_of(hash))?;
        while let Some(entry) = table.get(at) {
            let place = entry.placed();
            if place.hash == hash && is_it(entry) {
                return Some(at);
            }
            at = place.next;
        }
        None
    }

    /// Adds an entry, whose key must not be there yet.
    pub(crate) fn insert<T: Indexed>(&mut self, table: &mut Table<T>, entry: u32) {
        self.entries += 1;
        if self.entries > self.buckets.len() {
            self.split(table);
        }
        self.push(table, entry);
    }

    /// Takes an entry out.
    pub(crate) fn remove<T: Indexed>(&mut self, table: &mut Table<T>, entry: u32) {
        let Place { hash, next } = table[entry].placed();
        let bucket = self.bucket_of(hash);
        self.entries -= 1;
        let mut at = self.buckets[bucket];
        if at == entry {
            self.buckets[bucket] = next;
            return;
        }
        while at != NONE {
            let place = table[at].place();
            if place.next == entry {
                place.next = next;
                return;
            }
            at = place.next;
        }
    }

    fn push<T: Indexed>(&mut self, table: &mut Table<T>, entry: u32) {
        let bucket = self.bucket_of(table[entry].placed().hash);
        table[entry].place().next = std::mem::replace(&mut self.buckets[bucket], entry);
    }

    /// Adds a bucket, and gives it those entries of its elder that belong there.
    fn split<T: Indexed>(&mut self, table: &mut Table<T>) {
        let bucket = self.buckets.insert(NONE);
        let Some(half) = bucket.checked_ilog2().map(|bits| 1 << bits) else { return };
        let mut at = std::mem::replace(&mut self.buckets[bucket - half], NONE);
        while at != NONE {
            let next = table[at].placed().next;
            self.push(table, at);
            at = next;
        }
    }

    fn bucket_of(&self, hash: u32) -> u32 {
        let count = self.buckets.len();
        let mask = count.next_power_of_two().wrapping_sub(1);
        let bucket = hash & mask;
        if bucket < count { bucket } else { bucket & (mask >> 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entry {
        key: u64,
        place: Place,
    }

    impl Indexed for Entry {
        fn place(&mut self) -> &mut Place {
            &mut self.place
        }

        fn placed(&self) -> Place {
            self.place
        }
    }

    /// Few bits differ, so that buckets hold several entries.
    fn hash(key: u64) -> u64 {
        (key % 1000).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7
    }

    #[test]
    fn finds_what_was_added_and_not_what_was_removed() {
        let (mut table, mut index) = (Table::default(), Index::default());
        assert_eq!(index.find::<Entry>(&table, hash(1), |_| true), None);
        for key in 0..5000 {
            let entry = table.insert(Entry { key, place: Place::new(hash(key)) });
            index.insert(&mut table, entry);
        }
        let find =
            |table: &Table<Entry>, index: &Index, key| index.find(table, hash(key), |entry| entry.key == key);
        assert!((0..5000).all(|key| find(&table, &index, key) == Some(key as u32)));
        for key in (0..5000).step_by(2) {
            index.remove(&mut table, key as u32);
            table.remove(key as u32);
        }
        for key in 0..5000 {
            let expected = (key % 2 == 1).then_some(key as u32);
            assert_eq!(find(&table, &index, key), expected, "{key}");
        }
    }

    #[test]
    fn growing_looks_at_a_few_entries_however_many_there_are() {
        let (mut table, mut index) = (Table::default(), Index::default());
        for key in 0..200_000_u64 {
            let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let entry = table.insert(Entry { key, place: Place::new(hash ^ (hash >> 29)) });
            index.insert(&mut table, entry);
            let touched = table.take_touched();
            assert!(touched <= 16, "{touched} at {key}");
        }
    }
}
