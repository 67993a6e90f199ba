//! How far the recovery of a shard is, for whoever watches it from another thread.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Damage;

/// Counts that a recovery raises as it reads; see [`crate::Shard::open_watched`].
#[derive(Debug, Default)]
pub struct RecoveryProgress {
    segments: AtomicU64,
    segments_read: AtomicU64,
    messages: AtomicU64,
    damage: OnceLock<Box<[Damage]>>,
}

/// A [`RecoveryProgress`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryStand {
    /// Segments that there are; 0 before they were counted.
    pub segments: u64,
    /// Those that were read.
    pub segments_read: u64,
    /// Messages found in them, those that have all their outcomes included.
    pub messages: u64,
}

impl RecoveryProgress {
    /// Where it stands.
    #[must_use]
    pub fn stand(&self) -> RecoveryStand {
        RecoveryStand {
            segments: self.segments.load(Ordering::Relaxed),
            segments_read: self.segments_read.load(Ordering::Relaxed),
            messages: self.messages.load(Ordering::Relaxed),
        }
    }

    /// What the recovery found damaged, once it is over.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        self.damage.get().map_or(&[], |damage| damage)
    }

    pub(crate) fn end(&self, damage: &[Damage]) {
        // A shard is recovered once.
        let _ = self.damage.set(damage.into());
    }

    pub(crate) fn begin(&self, segments: usize) {
        self.segments.store(segments as u64, Ordering::Relaxed);
    }

    /// One more segment; so many messages were found by now.
    pub(crate) fn segment_read(&self, messages: usize) {
        self.segments_read.fetch_add(1, Ordering::Relaxed);
        self.messages.store(messages as u64, Ordering::Relaxed);
    }
}
