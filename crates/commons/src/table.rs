use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// Things by name: read without a lock, grown by copying. It only grows, and only by names that a
/// configuration holds, so growth is rare and bounded by what people write.
#[derive(Debug)]
pub(crate) struct Table<T>(ArcSwap<HashMap<Box<str>, Arc<T>>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(ArcSwap::default())
    }
}

impl<T> Table<T> {
    /// The thing of this name. Two callers that make it at once get the same one.
    pub(crate) fn get_or_insert(&self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(known) = self.0.load().get(name) {
            return known.clone();
        }
        let made = Arc::new(make());
        self.0.rcu(|map| {
            let mut grown = HashMap::clone(map);
            grown.entry(name.into()).or_insert_with(|| made.clone());
            grown
        });
        self.0.load().get(name).expect("names are never removed").clone()
    }
}
