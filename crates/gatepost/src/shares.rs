//! How what the process may open is shared out: segments, clients, next hops, large bodies.

use config::NodeConfig;
use ingress::BACKLOG;
use spool::{SEGMENT_BYTES_MIN, SEGMENTS_MAX};

/// Descriptors that are for neither clients nor next hops: files, rings, the control plane.
const DESCRIPTORS_RESERVED: usize = 256 + control::HTTP_CONNECTIONS_MAX;
/// Connections to next hops at once, if there are descriptors for eight times as many: mail by MX goes
/// to as many sites as there are domains.
const NEXT_HOPS_MAX: usize = 4096;

/// Connections of clients at once where none is configured, however many descriptors there are: each costs
/// some 12 KiB, most of it the kernel's.
const CLIENTS_DEFAULT_MAX: u32 = 32_768;
/// Connections of clients at once at least.
const CLIENTS_MIN: usize = 64;
/// One of so many shared descriptors is in hand for clients who are told that there is no place for them.
const LEAVING_PARTS: usize = 16;
/// The fewest that a worker has in hand.
const LEAVING_MIN: usize = 8;

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
        // Without a limit the spool takes what so many of the smallest segments hold.
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

/// Connections of clients at once, all workers together: as many as are configured, within what descriptors
/// allow. That is their part, and what others leave of theirs, less what is in hand for those who find no place.
pub(crate) fn clients_max(node: &NodeConfig, workers: usize) -> u32 {
    let part = shared_descriptors() / DESCRIPTOR_PARTS;
    let of_next_hops = (part * NEXT_HOPS_PARTS).saturating_sub(NEXT_HOPS_MAX) * 2;
    // A small spool has few segments, whatever their part would be.
    let segments = usize::try_from(node.spool.capacity_bytes / SEGMENT_BYTES_MIN).unwrap_or(usize::MAX);
    let segments = segments.saturating_add(workers * SEGMENTS_MIN);
    let of_segments = (part * SEGMENTS_PARTS).saturating_sub(segments);
    let in_hand = leaving_max(workers) * workers;
    let most = (part * CLIENTS_PARTS + of_next_hops + of_segments).saturating_sub(in_hand).max(CLIENTS_MIN);
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    node.clients.connections_max.unwrap_or(CLIENTS_DEFAULT_MAX).min(most)
}

/// Descriptors that a worker has in hand for clients who find no place.
pub(crate) fn leaving_max(workers: usize) -> usize {
    (shared_descriptors() / LEAVING_PARTS / workers).clamp(LEAVING_MIN, BACKLOG as usize)
}

/// Clients that may wait at one listener of one worker: a turn may accept all of them, whether or not there is a
/// place for them.
pub(crate) fn backlog(workers: usize) -> u32 {
    const BACKLOG_MIN: u32 = 128;
    (4 * leaving_max(workers) as u32).clamp(BACKLOG_MIN, BACKLOG)
}

/// Descriptors for segments, bodies and connections.
fn shared_descriptors() -> usize {
    descriptors_max().saturating_sub(DESCRIPTORS_RESERVED)
}

/// What the process may open: the hard limit, for a start raises the soft one to it.
pub(crate) fn descriptors_max() -> usize {
    let (_, hard) = rlimit::Resource::NOFILE.get().unwrap_or((1024, 1024));
    usize::try_from(hard).unwrap_or(usize::MAX)
}

/// Takes what the system grants: often 1024 as a matter of course, and the rest for the asking.
pub(crate) fn raise_descriptors() {
    // A process that may not keeps what it has, and says so where descriptors run out.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
}
