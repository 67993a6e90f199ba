use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mail::{QueueState, Reason, SuspensionCause, UnixMillis};

use crate::histogram::{Histogram, MESSAGES, SECONDS};
use crate::tenants::TenantSlots;

/// How an attempt to deliver to one recipient ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DeliveryOutcome {
    /// The destination answered 250.
    Delivered,
    /// Not now; it is tried again.
    Deferred,
    /// A permanent no: its sender is told.
    Failed,
    /// Too old: its sender is told.
    Expired,
}

impl DeliveryOutcome {
    pub(crate) const ALL: [Self; 4] = [Self::Delivered, Self::Deferred, Self::Failed, Self::Expired];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Deferred => "deferred",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }
}

/// A peer spoke for another without the right to, or did not where it must (DESIGN.md F2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PeerFault {
    /// A listed proxy sent no PROXY header, or not in time.
    HeaderMissing,
    /// Its header is none that the protocol allows.
    HeaderMalformed,
    /// Its header is longer than any that is read.
    HeaderTooLong,
    /// Its header's checksum is wrong.
    HeaderChecksum,
    /// A PROXY header came from a peer that is not listed.
    HeaderUnlisted,
    /// XCLIENT came from a peer that is not listed.
    XClientUnlisted,
    /// XCLIENT gave a login, to which its peer has no right.
    XClientLogin,
}

impl PeerFault {
    pub(crate) const ALL: [Self; 7] = [
        Self::HeaderMissing,
        Self::HeaderMalformed,
        Self::HeaderTooLong,
        Self::HeaderChecksum,
        Self::HeaderUnlisted,
        Self::XClientUnlisted,
        Self::XClientLogin,
    ];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HeaderMissing => "header_missing",
            Self::HeaderMalformed => "header_malformed",
            Self::HeaderTooLong => "header_too_long",
            Self::HeaderChecksum => "header_checksum",
            Self::HeaderUnlisted => "header_unlisted",
            Self::XClientUnlisted => "xclient_unlisted",
            Self::XClientLogin => "xclient_login",
        }
    }
}

/// Why a client's connection was turned away, or ended before its time, for want of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ShedCause {
    /// Its address has as many connections as it may.
    Address,
    /// There was no place for it.
    Full,
    /// Its place went to a newcomer.
    Displaced,
    /// It did nothing for too long while places were short.
    Silent,
}

impl ShedCause {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Address, Self::Full, Self::Displaced, Self::Silent];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Full => "full",
            Self::Displaced => "displaced",
            Self::Silent => "silent",
        }
    }
}

/// One worker's counts. Listeners go by their index, tenants by name; every call is a relaxed
/// atomic on memory that no other worker writes.
#[derive(Debug)]
pub struct WorkerMetrics {
    tenants: Arc<TenantSlots>,
    /// By listener, tenant and reason.
    pub(crate) denials: Counters,
    /// By listener and tenant.
    pub(crate) accepted: Counters,
    /// By tenant and outcome.
    pub(crate) deliveries: Counters,
    /// By tenant and cause.
    pub(crate) containments: Counters,
    /// By listener: those that were opened, and those that were closed.
    pub(crate) opened: Counters,
    pub(crate) closed: Counters,
    /// By listener and cause.
    pub(crate) shed: Counters,
    /// By listener and fault.
    pub(crate) peer_faults: Counters,
    pub(crate) duplicates: AtomicU64,
    pub(crate) spool_messages: AtomicU64,
    pub(crate) spool_bytes: AtomicU64,
    pub(crate) quarantined_messages: AtomicU64,
    pub(crate) damaged_places: AtomicU64,
    pub(crate) queue: Counters,
    /// When the oldest queued message came, in milliseconds since 1970; `u64::MAX` when none is queued.
    pub(crate) oldest_arrival: AtomicU64,
    pub(crate) acceptance: Histogram,
    pub(crate) commit: Histogram,
    pub(crate) commit_messages: Histogram,
    pub(crate) delivery: Histogram,
}

impl WorkerMetrics {
    pub(crate) fn new(listeners: usize, tenants: Arc<TenantSlots>) -> Self {
        let slots = tenants.len();
        Self {
            denials: Counters::new(listeners * slots * Reason::ALL.len()),
            accepted: Counters::new(listeners * slots),
            deliveries: Counters::new(slots * DeliveryOutcome::ALL.len()),
            containments: Counters::new(slots * SuspensionCause::ALL.len()),
            opened: Counters::new(listeners),
            closed: Counters::new(listeners),
            shed: Counters::new(listeners * ShedCause::ALL.len()),
            peer_faults: Counters::new(listeners * PeerFault::ALL.len()),
            duplicates: AtomicU64::new(0),
            spool_messages: AtomicU64::new(0),
            spool_bytes: AtomicU64::new(0),
            quarantined_messages: AtomicU64::new(0),
            damaged_places: AtomicU64::new(0),
            queue: Counters::new(QueueState::ALL.len()),
            oldest_arrival: AtomicU64::new(u64::MAX),
            acceptance: Histogram::new(&SECONDS),
            commit: Histogram::new(&SECONDS),
            commit_messages: Histogram::new(&MESSAGES),
            delivery: Histogram::new(&SECONDS),
            tenants,
        }
    }

    /// A client was refused: a denial or deferral with its reason. `tenant` is `None` for a stranger.
    pub fn denied(&self, listener: usize, tenant: Option<&str>, reason: Reason) {
        self.denials.add(self.denial_index(listener, self.tenants.slot(tenant), reason));
    }

    pub(crate) fn denial_index(&self, listener: usize, slot: usize, reason: Reason) -> usize {
        (listener * self.tenants.len() + slot) * Reason::ALL.len() + reason as usize
    }

    /// A client got its final 250 for a message.
    pub fn message_accepted(&self, listener: usize, tenant: &str) {
        self.accepted.add(self.accepted_index(listener, self.tenants.slot(Some(tenant))));
    }

    pub(crate) fn accepted_index(&self, listener: usize, slot: usize) -> usize {
        listener * self.tenants.len() + slot
    }

    /// An attempt for one recipient ended.
    pub fn delivery_ended(&self, tenant: &str, outcome: DeliveryOutcome) {
        self.deliveries.add(Self::delivery_index(self.tenants.slot(Some(tenant)), outcome));
    }

    pub(crate) fn delivery_index(slot: usize, outcome: DeliveryOutcome) -> usize {
        slot * DeliveryOutcome::ALL.len() + outcome as usize
    }

    /// A sender of this tenant was suspended, by what it did.
    pub fn contained(&self, tenant: &str, cause: SuspensionCause) {
        self.containments.add(Self::containment_index(self.tenants.slot(Some(tenant)), cause));
    }

    pub(crate) fn containment_index(slot: usize, cause: SuspensionCause) -> usize {
        slot * SuspensionCause::ALL.len() + cause as usize
    }

    /// A client connected.
    pub fn connection_opened(&self, listener: usize) {
        self.opened.add(listener);
    }

    /// A client's connection ended.
    pub fn connection_closed(&self, listener: usize) {
        self.closed.add(listener);
    }

    /// A client was turned away, or its connection ended, for want of places.
    pub fn connection_shed(&self, listener: usize, cause: ShedCause) {
        self.shed.add(Self::shed_index(listener, cause));
    }

    pub(crate) fn shed_index(listener: usize, cause: ShedCause) -> usize {
        listener * ShedCause::ALL.len() + cause as usize
    }

    /// A peer was refused what it said, or did not say, of whom it speaks for.
    pub fn peer_fault(&self, listener: usize, fault: PeerFault) {
        self.peer_faults.add(Self::peer_fault_index(listener, fault));
    }

    pub(crate) fn peer_fault_index(listener: usize, fault: PeerFault) -> usize {
        listener * PeerFault::ALL.len() + fault as usize
    }

    /// A message may have been delivered twice: the connection broke between its last byte and the reply.
    pub fn possible_duplicate(&self) {
        self.duplicates.fetch_add(1, Ordering::Relaxed);
    }

    /// From the last dot to the 250.
    pub fn observe_acceptance(&self, time: Duration) {
        self.acceptance.observe_duration(time);
    }

    /// One durable write of the spool: how long it took and how many messages it held.
    pub fn observe_commit(&self, time: Duration, messages: u64) {
        self.commit.observe_duration(time);
        self.commit_messages.observe_count(messages);
    }

    /// From our 250 to the destination's.
    pub fn observe_delivery(&self, time: Duration) {
        self.delivery.observe_duration(time);
    }

    /// What the shard holds now.
    pub fn set_spool(&self, messages: u64, bytes: u64) {
        self.spool_messages.store(messages, Ordering::Relaxed);
        self.spool_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Queued messages that are damaged, and so are never delivered.
    pub fn set_quarantined(&self, messages: u64) {
        self.quarantined_messages.store(messages, Ordering::Relaxed);
    }

    /// A place in the shard's segments is damaged.
    pub fn add_damaged_place(&self) {
        self.damaged_places.fetch_add(1, Ordering::Relaxed);
    }

    /// How many recipients are in `state` now.
    pub fn set_queue(&self, state: QueueState, recipients: u64) {
        self.queue.0[state as usize].store(recipients, Ordering::Relaxed);
    }

    /// When the oldest queued message came; `None` when none is queued.
    pub fn set_oldest_arrival(&self, arrived: Option<UnixMillis>) {
        self.oldest_arrival.store(arrived.map_or(u64::MAX, |arrived| arrived.0), Ordering::Relaxed);
    }
}

/// Counters by index.
#[derive(Debug)]
pub(crate) struct Counters(Box<[AtomicU64]>);

impl Counters {
    fn new(length: usize) -> Self {
        Self((0..length).map(|_| AtomicU64::new(0)).collect())
    }

    fn add(&self, index: usize) {
        self.0[index].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, index: usize) -> u64 {
        self.0[index].load(Ordering::Relaxed)
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}
