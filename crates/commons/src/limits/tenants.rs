use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::counts::ConnectionCounts;

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
    Uncounted,
    Tenant(Arc<Connections>),
    Slot { counts: Arc<ConnectionCounts>, slot: u64, way: u8 },
}

impl ConnectionLease {
    /// A connection that counts for no tenant.
    pub const fn uncounted() -> Self {
        Self(Counted::Uncounted)
    }

    pub(super) fn slot(counts: Arc<ConnectionCounts>, slot: u64, way: u8) -> Self {
        Self(Counted::Slot { counts, slot, way })
    }
}

impl Drop for ConnectionLease {
    fn drop(&mut self) {
        match &self.0 {
            Counted::Uncounted => {}
            Counted::Tenant(connections) => {
                connections.0.fetch_sub(1, Ordering::AcqRel);
            }
            Counted::Slot { counts, slot, way } => counts.release(*slot, *way),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_until_their_lease_is_dropped() {
        let connections = Arc::new(Connections::default());
        let first = connections.clone().take(Some(1));
        assert!(first.is_some());
        assert!(connections.clone().take(Some(1)).is_none());
        drop(first);
        assert!(connections.clone().take(Some(1)).is_some());
        assert!(connections.take(None).is_some());
    }
}
