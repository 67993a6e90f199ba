//! The events of the start, the spool and the end.

use std::fmt::Display;
use std::path::Path;

use mail::MessageId;
use observe::{Word, WorkerMetrics};

observe::events! {
    pub const EVENTS;

    /// Clients were told to come again, because the spool was still being read. Written once, when that is over.
    pub(crate) struct ClientsPutOff<'a> = "clients_put_off" {
        /// How many they were.
        clients: u64,
        /// Why, in words.
        reason: &'a str,
    }

    /// The start waits for a write of a killed process, because the disk is slow or does not answer.
    /// Written every two seconds.
    pub(crate) struct SpoolAwaited<'a> = "spool_awaited" {
        /// The file with that write.
        file: &'a Path,
        /// Why it waits, in words.
        reason: &'a str,
        /// How long it has waited.
        seconds: u64,
    }

    /// A shard of the spool has been read. Written once a shard and start.
    pub(crate) struct SpoolRecovered = "spool_recovered" {
        /// The number of the shard.
        shard: u64,
        /// How its files are written: `direct`, or `buffered` where the file system cannot do that.
        writes: Word,
        /// Its segments.
        segments: u64,
        /// Its messages that are not delivered yet.
        messages: u64,
        /// Places in its segments that are damaged. Each has a `spool_damaged`.
        damaged_places: u64,
        /// Large messages whose file is missing, and which cannot be delivered.
        bodies_missing: u64,
        /// Messages that hold something this version does not understand. They stay as they are.
        not_understood: u64,
        /// Files of large messages that no message names, kept because something is damaged.
        bodies_kept: u64,
        /// Recipients who may get a message a second time, because its delivery was under way.
        possible_duplicates: u64,
    }

    /// A place in a segment is damaged: what was there cannot be read.
    pub(crate) struct SpoolDamaged<'a> = "spool_damaged" {
        /// The segment.
        file: &'a Path,
        /// Where the place begins.
        offset_bytes: u64,
        /// How long it is.
        length_bytes: u64,
    }
    metric "gatepost_spool_quarantined"
    counts |_damaged, metrics: &WorkerMetrics| { metrics.add_damaged_place(); }

    /// A write that endangers no accepted mail failed. It is tried again.
    pub(crate) struct SpoolWriteFailed<'a> = "spool_write_failed" {
        /// The file that was written.
        file: &'a Path,
        /// What the system said.
        error: &'a dyn Display,
    }

    /// A durable write failed. That worker takes no more mail until a restart.
    pub(crate) struct SpoolLatched<'a> = "spool_latched" {
        /// The file that was written.
        file: &'a Path,
        /// What the system said.
        error: &'a dyn Display,
    }

    /// A file of the spool is gone: deleted, replaced, renamed or unmounted. That worker takes no more mail
    /// until it is back.
    pub(crate) struct SpoolVanished<'a> = "spool_vanished" {
        /// The file that is gone.
        file: &'a Path,
        /// Messages in the spool of that worker.
        messages: u64,
        /// What that means for mail, in words.
        effect: &'a str,
    }

    /// The files of the spool are all back.
    pub(crate) struct SpoolReturned = "spool_returned" {
        /// Messages in the spool of that worker.
        messages: u64,
    }

    /// A message that was accepted is lost, because its file in the spool is gone. Written at the end of the
    /// gateway, for the first thousand of a worker.
    pub(crate) struct MessageLost<'a> = "message_lost" {
        /// The message.
        message: MessageId,
        /// Why, in words.
        reason: &'a str,
    }

    /// So many messages are lost in all. Written at the end of the gateway, after each `message_lost`.
    pub(crate) struct MessagesLost = "messages_lost" {
        /// Messages of that worker that are lost.
        messages: u64,
        /// How many of them had a `message_lost`.
        named: u64,
    }

    /// A shard without a worker of its own was empty, and is removed.
    pub(crate) struct SpoolShardRemoved = "spool_shard_removed" {
        /// The number of the shard.
        shard: u64,
    }

    /// A shard without a worker of its own was empty, and could not be removed.
    pub(crate) struct SpoolShardNotRemoved<'a> = "spool_shard_not_removed" {
        /// What the system said.
        error: &'a dyn Display,
        /// The number of the shard.
        shard: u64,
    }
}

#[cfg(test)]
mod tests;
