//! The durable log of one worker: where accepted mail lives from its 250 until its last outcome.
//!
//! A worker holds a [`Spool`]: its own shard, and those left by workers that are no more, until they are
//! drained and removed. A [`Shard`] gathers messages and outcomes into groups and writes each with one durable write; what
//! comes during a write is the next group. Callers append, call [`Shard::flush`] once a turn, hand
//! completions to [`Shard::complete`] and ask [`Shard::poll`] what happened. The bytes are specified in
//! `FORMAT.md`, the promises in `DESIGN.md` S1 to S9.
//!
//! Fails for good: after a failed durable write the shard is latched ([`Event::Latched`],
//! [`Refusal::Latched`]) and only a restart, which recovers, opens it again. While its files have vanished from
//! under it ([`Event::Vanished`]) it takes no new mail, and the rest goes on: a restart would find nothing.

mod error;
mod fail_point;
mod fence;
mod footer;
mod format;
mod group;
mod hot;
mod index;
pub mod inspect;
mod large;
mod message;
#[cfg(feature = "mutants")]
pub mod mutant;
mod place;
mod progress;
mod record;
mod recovery;
mod references;
mod removal;
mod replay;
mod replies;
mod scan;
mod segment;
mod shard;
mod spool;

use std::path::PathBuf;

use mail::{Envelope, MessageId, UnixMillis};
use ring::{Handle, SharedBuffer};

pub use error::{LoadError, Refusal, SpoolError};
pub use index::MEMORY_PER_MESSAGE_BYTES_MAX;
pub use message::{StoredContent, StoredMessage};
pub use progress::{RecoveryProgress, RecoveryStand};
pub use record::{Foreign, Said};
pub use recovery::{PendingRecipient, Recovered, RecoveryReport};
pub use replay::RecoveredMail;
pub use scan::{Damage, claim, survey};
pub use shard::Shard;
pub use shard::watch::WATCH_INTERVAL;
pub use spool::{Noted, RecoveredSpool, Spool};

/// A group stops taking messages here: one write stays short enough that no client waits long behind it.
pub const GROUP_BYTES_MAX: usize = 4 << 20;

/// A message with a very long envelope may have a group of this size to itself.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// The piece in which large bodies are written and read.
pub const PIECE_BYTES: usize = 256 << 10;

/// The smallest useful segment; less would hold no message of [`mail::limits::INLINE_BODY_BYTES_MAX`]. Tests go below.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 20;

/// The largest segment of a new shard: what zeroes or copies one stays short.
pub const SEGMENT_BYTES_MAX: u64 = 256 << 20;

/// The most segments of a shard. Each is open all the time and so takes a descriptor; of the largest size they
/// hold a terabyte.
pub const SEGMENTS_MAX: u64 = 4096;

const _: () = assert!(SEGMENTS_MAX * SEGMENT_BYTES_MAX == 1 << 40);

/// The smallest segment with which `segments_max` of them hold `capacity_bytes`, or else the largest one: a
/// shard then holds less, see [`Options::segments_max`].
#[must_use]
pub const fn segment_bytes(capacity_bytes: u64, segments_max: u64) -> u64 {
    let mut bytes = SEGMENT_BYTES_MIN;
    while bytes < SEGMENT_BYTES_MAX && capacity_bytes / bytes > segments_max {
        bytes *= 2;
    }
    bytes
}

/// The least that a shard whose segments have `segment_bytes` can work with.
#[must_use]
pub const fn capacity_bytes_min(segment_bytes: u64) -> u64 {
    shard::SEGMENTS_MIN * segment_bytes
}

/// What compaction may read and write a second by default.
pub const COMPACTION_BYTES_PER_SECOND_DEFAULT: u64 = 16 << 20;

/// Where a shard lives and how much it may hold.
#[derive(Clone, Debug)]
pub struct Options {
    /// The spool directory, common to all shards.
    pub directory: PathBuf,
    /// Which shard: the number of its worker.
    pub shard: u8,
    /// The size of a segment of a new shard, a multiple of [`ring::BLOCK_BYTES`]; usually what
    /// [`segment_bytes`] says.
    pub segment_bytes: u64,
    /// What segments and large messages of this shard may take on disk together.
    pub capacity_bytes: u64,
    /// The most segments, each of which takes a descriptor; at most [`SEGMENTS_MAX`].
    pub segments_max: u64,
    /// Bodies kept in memory after their commit; the oldest go first.
    pub hot_bytes_max: usize,
    /// What compaction may read and write, in bytes a second; 0 for no compaction.
    pub compaction_bytes_per_second: u64,
    /// The `room` of the tokens of this shard's operations.
    pub token_room: u8,
    /// Random: a new shard marks its groups with it, so that no message body can pose as one.
    pub salt: u64,
}

/// In place of the time until which recipients wait: an operator holds them, until they are released.
pub const HELD: UnixMillis = UnixMillis(u64::MAX);

/// In place of the time until which recipients wait: they wait for nothing any more.
pub const RELEASED: UnixMillis = UnixMillis(0);

/// Where the record of a message lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The shard.
    pub shard: u8,
    /// The number in the name of its segment's file.
    pub segment: u32,
    /// Where the record begins in it, in bytes.
    pub offset: u32,
    /// How long the record is, in bytes.
    pub length: u32,
}

/// A message of a shard, for as long as it is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageKey(pub u64);

/// A large body that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LargeKey(pub(crate) Handle);

/// A large body that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadKey {
    /// Of its shard.
    pub(crate) place: u8,
    pub(crate) handle: Handle,
}

/// A message to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// Its id; no two messages of a spool share one.
    pub id: MessageId,
    /// When it came; expiry counts from here.
    pub arrived: UnixMillis,
    /// The name of the tenant.
    pub tenant: &'a str,
    /// The login; `[address]` of the client in the tenant's network where none answers for the message;
    /// empty where the tenant does not answer for its sender.
    pub identity: &'a str,
    /// Sender and recipients.
    pub envelope: &'a Envelope,
    /// What goes before the content, in wire form: the header lines that we add, and what a content that
    /// has a separate file leaves to the record.
    pub head: &'a [u8],
    /// The message itself.
    pub content: Content<'a>,
}

/// Where the body of a new message is.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// Here, in wire form (CRLF lines, dot-stuffed) without the final dot.
    Inline(&'a [u8]),
    /// In a separate file, for which [`Event::LargeFinished`] was given.
    Large(LargeKey),
}

/// What became of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// The next hop took it.
    Delivered = 1,
    /// The next hop refused it for good.
    Failed = 2,
    /// No host took it in time.
    Expired = 3,
}

/// What [`Shard::poll`] reports.
#[derive(Debug)]
pub enum Event {
    /// A message is durable: its 250 may go out.
    Committed {
        /// The message.
        key: MessageKey,
        /// What was given to [`Shard::append`]; `None` for a bounce.
        waiter: Option<Handle>,
        /// The message, still in memory.
        message: StoredMessage,
    },
    /// A [`Shard::load`] ended.
    Loaded {
        /// What was given to load.
        request: Handle,
        /// The message, or why it cannot be had.
        result: Result<StoredMessage, LoadError>,
    },
    /// More may be given to [`Shard::large_write`], after it said that it had enough.
    LargeProgress {
        /// The body.
        large: LargeKey,
        /// What was given to [`Shard::large_begin`].
        waiter: Handle,
    },
    /// The body is durable: append the message with [`Content::Large`].
    LargeFinished {
        /// The body.
        large: LargeKey,
        /// What was given to [`Shard::large_begin`].
        waiter: Handle,
    },
    /// The body could not be written and is gone; the key is void.
    LargeFailed {
        /// The body.
        large: LargeKey,
        /// What was given to [`Shard::large_begin`].
        waiter: Handle,
        /// [`Refusal::Full`] or [`Refusal::Latched`].
        refusal: Refusal,
    },
    /// A piece of a large body; [`Shard::read_next`] asks for the next one.
    Piece {
        /// What was given to [`Shard::read_large`].
        request: Handle,
        /// Holds the piece; drop it before asking for the next, and it is used again.
        buffer: SharedBuffer,
        /// The piece in it, ready to be sent.
        range: std::ops::Range<usize>,
        /// The body ends here, final dot included; it was checked, and the read is over.
        last: bool,
    },
    /// A large body cannot be read on, or its read was given up; what was sent of it must not be completed. The
    /// read is over.
    PieceFailed {
        /// What was given to [`Shard::read_large`].
        request: Handle,
        /// Why; [`LoadError::Gone`] where it was given up.
        error: LoadError,
    },
    /// What was refused as [`Refusal::Busy`] may be tried again.
    Room,
    /// A shard that had no worker was drained, and is removed.
    Removed {
        /// Its number.
        shard: u8,
        /// What the system said where it could not be removed whole; the next start goes on with it.
        result: std::io::Result<()>,
    },
    /// A record of a queued message cannot be read as it was written. Its segment is kept as it is.
    Damaged(Damage),
    /// A file could not be written, and nothing is lost by it: space was wanting, or no promise hung on it. Of a
    /// preparation that fails again and again the first failure is told.
    WriteFailed {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
        /// It is a segment that is kept as it is until the next start, since what it holds now is unknown.
        is_quarantined: bool,
    },
    /// A group was written after its files had vanished: the client of one of its messages must be told to come
    /// again, and the message is forgotten.
    Withdrawn {
        /// What was given to [`Shard::append`].
        waiter: Handle,
    },
    /// A file of the shard bears its name no longer: deleted, replaced, renamed, or its file system unmounted. New
    /// mail is refused ([`Refusal::Vanished`]); everything else goes on by what is open. Outcomes for which the
    /// files that are open have no room stay in memory; where the files come back, a restart tries once more
    /// what these spoke of.
    Vanished {
        /// The first name that was missed.
        path: PathBuf,
    },
    /// All names are back.
    Returned,
    /// A durable write failed. A client that waits for a commit waits in vain, the shard takes nothing
    /// more; restart to recover.
    Latched {
        /// The file that was written.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

/// A shard's counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages with a recipient that has no outcome.
    pub messages: u64,
    /// Bytes on disk that cannot be reused yet: segments and large bodies.
    pub used_bytes: u64,
    /// What `used_bytes` may grow to.
    pub capacity_bytes: u64,
    /// Bytes of the records of queued messages in segments.
    pub live_bytes: u64,
    /// Bytes that compaction has read and written since the start.
    pub compacted_bytes: u64,
    /// Bodies kept in memory.
    pub hot_bytes: u64,
    /// Groups written since the start.
    pub groups: u64,
    /// Messages committed since the start.
    pub committed: u64,
    /// A durable write failed.
    pub latched: bool,
    /// A file bears its name no longer.
    pub vanished: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_grow_with_the_capacity_so_that_there_are_not_too_many() {
        const GIB: u64 = 1 << 30;
        for (capacity, segments_max, mib) in [
            (GIB, SEGMENTS_MAX, 64),
            (256 * GIB, SEGMENTS_MAX, 64),
            (257 * GIB, SEGMENTS_MAX, 128),
            (513 * GIB, SEGMENTS_MAX, 256),
            (5000 * GIB, SEGMENTS_MAX, 256),
            (5 * GIB, 43, 128),
        ] {
            assert_eq!(segment_bytes(capacity, segments_max), mib << 20, "{capacity}");
        }
    }
}
