use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use arc_swap::ArcSwap;

/// Parts of a table: of a hundred thousand names each part holds a hundred, which are copied in
/// microseconds.
const PARTS: usize = 1 << 10;

/// Things by name: read without a lock, grown by copying the part of the name. Nothing is kept that
/// no caller holds: one that wants a thing remembered holds on to it, and the table is never larger than
/// what was in use at one time.
#[derive(Debug)]
pub(crate) struct Table<T>(Box<[Part<T>]>);

type Part<T> = ArcSwap<HashMap<Box<str>, Arc<T>>>;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self((0..PARTS).map(|_| ArcSwap::default()).collect())
    }
}

impl<T> Table<T> {
    /// The thing of this name. Two callers that make it at once get the same one.
    pub(crate) fn get_or_insert(&self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let part = self.part(name);
        if let Some(known) = part.load().get(name) {
            return known.clone();
        }
        let made = Arc::new(make());
        let mut got = made.clone();
        part.rcu(|map| {
            // One holder is the part itself: the thing is not used, and a new one is as good.
            let used = map.iter().filter(|(_, thing)| Arc::strong_count(thing) > 1);
            let mut grown: HashMap<_, _> = used.map(|(name, thing)| (name.clone(), thing.clone())).collect();
            got = grown.entry(name.into()).or_insert_with(|| made.clone()).clone();
            grown
        });
        got
    }

    /// The things of which `wanted` gives something, with their names; no work for a worker.
    pub(crate) fn filter_map<U>(&self, wanted: impl Fn(&T) -> Option<U>) -> Vec<(Box<str>, U)> {
        let mut found = Vec::new();
        for part in &self.0 {
            let part = part.load();
            found.extend(part.iter().filter_map(|(name, thing)| Some((name.clone(), wanted(thing)?))));
        }
        found
    }

    fn part(&self, name: &str) -> &Part<T> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(name);
        &self.0[hash as usize % PARTS]
    }

    /// How many things it holds.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.iter().map(|part| part.load().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_holds_is_found_again_and_what_nobody_holds_is_forgotten() {
        let table: Table<u32> = Table::default();
        let held = table.get_or_insert("held.example", || 1);
        for number in 0..20_000 {
            table.get_or_insert(&format!("{number}.example"), || number);
        }
        assert!(Arc::ptr_eq(&held, &table.get_or_insert("held.example", || 2)));
        assert!(table.len() <= 2 * PARTS, "{} things", table.len());
    }
}
