use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use arc_swap::ArcSwap;

/// Parts of a table: of a hundred thousand names each part holds a hundred, which are copied in
/// microseconds.
const PARTS: usize = 1 << 10;

/// Things by name: read without a lock, grown by copying the part of the name. It only grows, and
/// only by names that a configuration holds, so growth is rare and bounded by what people write.
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
        part.rcu(|map| {
            let mut grown = HashMap::clone(map);
            grown.entry(name.into()).or_insert_with(|| made.clone());
            grown
        });
        part.load().get(name).expect("names are never removed").clone()
    }

    fn part(&self, name: &str) -> &Part<T> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(name);
        &self.0[hash as usize % PARTS]
    }
}
