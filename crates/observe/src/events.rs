//! The events that belong to no room alone.

use std::net::IpAddr;

use mail::{SuspensionCause, UnixMillis};

use crate::metrics::WorkerMetrics;

crate::events! {
    pub const EVENTS;

    /// A sender is suspended for what it did: denials, bounces or failed logins came too often.
    pub struct Contained<'a> = "contained" {
        /// The tenant that answers for the sender.
        tenant: &'a str,
        /// The login that is suspended.
        login: Option<&'a str>,
        /// The address that is suspended, where there is no login.
        client: Option<IpAddr>,
        /// What it did: `denials`, `bounces` or `failed_logins`.
        cause: SuspensionCause,
        /// How often it may do that within the window.
        more_than: u64,
        /// The length of the window.
        within_seconds: u64,
        /// When the suspension ends.
        until: UnixMillis,
    }
    metric "gatepost_containments_total"
    counts |contained, metrics: &WorkerMetrics| {
        metrics.contained(contained.tenant, contained.cause);
    }

    /// Records are missing before this one, because the reader of the log could not keep up.
    /// Written when the log is read again.
    pub(crate) struct LogRecordsDropped = "log_records_dropped" {
        /// How many are missing since this was said last.
        records: u64,
    }
    metric "gatepost_log_lines_dropped_total"
}

#[cfg(test)]
mod tests;
