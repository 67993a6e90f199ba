//! How what the process may open is shared out: segments, clients, next hops, large bodies.

use config::NodeConfig;
use spool::{SEGMENT_BYTES_MIN, SEGMENTS_MAX};

/// Descriptors that are for neither clients nor next hops: files, rings, the control plane.
const DESCRIPTORS_RESERVED: usize = 256 + control::HTTP_CONNECTIONS_MAX;
/// Connections to next hops at once, if there are descriptors for eight times as many: mail by MX goes
/// to as many sites as there are domains.
const NEXT_HOPS_MAX: usize = 4096;

/// The other descriptors are shared out in so many parts.
const DESCRIPTOR_PARTS: usize = 8;
/// Segments, which are open for as long as there are any.
const SEGMENTS_PARTS: usize = 2;
/// Next hops, and as many again for the large bodies that are read for them.
const NEXT_HOPS_PARTS: usize = 1;
/// Clients.
const CLIENTS_PARTS: usize = 3;
/// Large bodies that clients are sending. Where there are more, the next one gets a 452.
const LARGE_BODIES_PARTS: usize = 1;
const _: () = assert!(
    SEGMENTS_PARTS + 2 * NEXT_HOPS_PARTS + CLIENTS_PARTS + LARGE_BODIES_PARTS == DESCRIPTOR_PARTS,
    "what a worker opens is within what the process may open"
);
/// The fewest segments with which a worker can begin.
const SEGMENTS_MIN: usize = 8;

/// The size of the segments of a new shard; a build for tests takes another one from the environment.
pub(crate) fn segment_bytes(node: &NodeConfig, workers: usize) -> u64 {
    #[cfg(feature = "fail-points")]
    if let Some(bytes) = std::env::var("GATEPOST_SEGMENT_BYTES").ok().and_then(|bytes| bytes.parse().ok()) {
        return bytes;
    }
    match node.spool.capacity_bytes {
        // Without a limit of its own the spool takes what so many of the smallest segments hold.
        u64::MAX => SEGMENT_BYTES_MIN,
        capacity => spool::segment_bytes(capacity / workers as u64, segments_max(workers)),
    }
}

/// The segments that a worker may have.
pub(crate) fn segments_max(workers: usize) -> u64 {
    let parts = shared_descriptors() / DESCRIPTOR_PARTS * SEGMENTS_PARTS;
    ((parts / workers).max(SEGMENTS_MIN) as u64).min(SEGMENTS_MAX)
}

/// Connections to next hops at once, all workers together.
pub(crate) fn next_hops_max() -> usize {
    (shared_descriptors() / DESCRIPTOR_PARTS * NEXT_HOPS_PARTS).clamp(64, NEXT_HOPS_MAX)
}

/// Connections of clients at once, all workers together: their part, and what others leave of theirs.
pub(crate) fn clients_max() -> usize {
    let part = shared_descriptors() / DESCRIPTOR_PARTS;
    let left = (part * NEXT_HOPS_PARTS).saturating_sub(NEXT_HOPS_MAX) * 2;
    part * CLIENTS_PARTS + left
}

/// Descriptors for segments, bodies and connections.
fn shared_descriptors() -> usize {
    descriptors_max().saturating_sub(DESCRIPTORS_RESERVED)
}

pub(crate) fn descriptors_max() -> usize {
    let (soft, _) = rlimit::Resource::NOFILE.get().unwrap_or((1024, 1024));
    usize::try_from(soft).unwrap_or(usize::MAX)
}
