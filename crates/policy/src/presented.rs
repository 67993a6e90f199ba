//! What a session presents to a decision, which knows of it only what it looks at.

use std::cell::Cell;

/// A path in an envelope, or a stand-in for many.
pub(crate) trait Presented<T>: Copy {
    /// The path itself.
    fn look(self) -> T;
}

impl<T: Copy> Presented<T> for T {
    fn look(self) -> T {
        self
    }
}

/// Remembers whether it was looked at. A decision is a function of what it looks at and of nothing
/// else: one that never looked would have come out the same for any other path.
#[derive(Clone, Copy)]
pub(crate) struct Watched<'a, T> {
    path: T,
    seen: &'a Cell<bool>,
}

impl<'a, T> Watched<'a, T> {
    pub(crate) fn new(path: T, seen: &'a Cell<bool>) -> Self {
        Self { path, seen }
    }
}

impl<T: Copy> Presented<T> for Watched<'_, T> {
    fn look(self) -> T {
        self.seen.set(true);
        self.path
    }
}
