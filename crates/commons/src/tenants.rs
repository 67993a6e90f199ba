use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::counts::ConnectionCounts;

/// A tenant's open connections, over all workers.
#[derive(Debug, Default)]
pub(crate) struct Connections(AtomicU32);

impl Connections {
    /// One more, unless that would pass `limit`.
    pub(crate) fn take(self: Arc<Self>, limit: Option<u32>) -> Option<ConnectionLease> {
        let limit = limit.unwrap_or(u32::MAX);
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < limit).then(|| open + 1))
            .ok()?;
        Some(ConnectionLease(Counted::Tenant(self)))
    }
}

/// A connection counted for its tenant, login, network or address, until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the count"]
pub struct ConnectionLease(Counted);

#[derive(Debug)]
enum Counted {
    Nobody,
    Tenant(Arc<Connections>),
    Slot { counts: Arc<ConnectionCounts>, key: u64, way: u8 },
}

impl ConnectionLease {
    /// A connection that counts for no tenant.
    pub const fn nobody() -> Self {
        Self(Counted::Nobody)
    }

    pub(crate) fn slot(counts: Arc<ConnectionCounts>, key: u64, way: u8) -> Self {
        Self(Counted::Slot { counts, key, way })
    }
}

impl Drop for ConnectionLease {
    fn drop(&mut self) {
        match &self.0 {
            Counted::Nobody => {}
            Counted::Tenant(connections) => {
                connections.0.fetch_sub(1, Ordering::AcqRel);
            }
            Counted::Slot { counts, key, way } => counts.release(*key, *way),
        }
    }
}
