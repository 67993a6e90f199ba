//! A look at each thing the moment it happens: for what has to be put in order with other things.

use std::fmt;
use std::sync::Arc;

/// Called with each thing, on the thread on which it happens.
pub struct Observer<T>(Arc<dyn Fn(&T) + Send + Sync>);

impl<T> Observer<T> {
    /// An observer that calls `look`.
    #[must_use]
    pub fn new(look: impl Fn(&T) + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    /// Shows `thing`.
    pub fn show(&self, thing: &T) {
        (self.0)(thing);
    }
}

impl<T> Clone for Observer<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Observer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
