//! Destinations as all workers see them: their connection leases, and what is wrong with those that fail.

mod site;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use site::{Site, SiteFailure};

use crate::table::Table;
use crate::wakers::Wakers;

/// All sites that some worker holds on to, by key.
pub struct Sites {
    by_key: Table<Site>,
    failing: Arc<AtomicUsize>,
    wakers: Arc<Wakers>,
}

impl Sites {
    pub(crate) fn new(wakers: Arc<Wakers>) -> Self {
        Self { by_key: Table::default(), failing: Arc::default(), wakers }
    }

    /// The site of this key, made when it is asked for the first time.
    #[must_use]
    pub fn site(&self, key: &str) -> Arc<Site> {
        self.by_key.get_or_insert(key, || Site::new(self.wakers.clone(), self.failing.clone()))
    }

    /// Sites for which mail waits while they fail, each counted once.
    #[must_use]
    pub fn failing_count(&self) -> usize {
        self.failing.load(Ordering::Acquire)
    }

    /// The sites that fail, by key, with what is wrong. One for which no mail waits any more may be
    /// among them, as it was when it was last tried. No work for a worker.
    #[must_use]
    pub fn failing(&self) -> Vec<(Box<str>, Arc<SiteFailure>)> {
        let mut failing = self.by_key.filter_map(Site::failure);
        failing.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        failing
    }
}

impl fmt::Debug for Sites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sites").field("failing", &self.failing_count()).finish_non_exhaustive()
    }
}
