use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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
        Some(ConnectionLease(Some(self)))
    }
}

/// A connection counted for its tenant, until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the count"]
pub struct ConnectionLease(Option<Arc<Connections>>);

impl ConnectionLease {
    /// A connection that counts for no tenant.
    pub const fn nobody() -> Self {
        Self(None)
    }
}

impl Drop for ConnectionLease {
    fn drop(&mut self) {
        if let Some(connections) = &self.0 {
            connections.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
