//! How far the recovery of a shard is, for a thread that watches it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::Damage;

/// Counts that a recovery raises as it reads; see [`crate::Shard::open_watched`].
#[derive(Debug, Default)]
pub struct RecoveryProgress {
    segments: AtomicU64,
    segments_read: AtomicU64,
    messages: AtomicU64,
    /// Of the shards that are read already.
    messages_before: AtomicU64,
    /// The segment to which a former process's write is under way.
    awaited: Mutex<Option<PathBuf>>,
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

    /// The segment that a killed process is still writing, for which the start waits before it reads.
    #[must_use]
    pub fn awaited(&self) -> Option<PathBuf> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn waits_for(&self, segment: Option<&Path>) {
        *self.awaited.lock().unwrap_or_else(PoisonError::into_inner) = segment.map(Path::to_owned);
    }

    /// What the recovery found damaged, once it is over.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        self.damage.get().map_or(&[], |damage| damage)
    }

    pub(crate) fn end(&self, damage: &[Damage]) {
        // A worker recovers once.
        let _ = self.damage.set(damage.into());
    }

    /// So many segments of another shard are to be read.
    pub(crate) fn begin(&self, segments: usize) {
        self.segments.fetch_add(segments as u64, Ordering::Relaxed);
        self.messages_before.store(self.messages.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// One more segment; so many messages were found by now.
    pub(crate) fn segment_read(&self, messages: usize) {
        self.segments_read.fetch_add(1, Ordering::Relaxed);
        let before = self.messages_before.load(Ordering::Relaxed);
        self.messages.store(before + messages as u64, Ordering::Relaxed);
    }
}
