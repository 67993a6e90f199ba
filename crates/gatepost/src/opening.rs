//! Opening the shards of a worker, once the disk has ended what a killed process had asked of it.
//!
//! On a disk that answers this takes no wait. On one that is slow or stuck it takes as long as the disk does:
//! giving up would not help, since the next start would find the same. The log and `/readyz` name what is
//! waited for, and SIGTERM ends it.

use std::time::{Duration, Instant, SystemTime};

use commons::Commons;
use observe::EventLog;
use ring::Disk;
use spool::{Options, RecoveredSpool, RecoveryProgress, Spool, SpoolError};

use crate::events::SpoolAwaited;

/// The time between two tries: a killed process's ring takes some milliseconds to go even when the disk is quick.
const TRY_INTERVAL: Duration = Duration::from_millis(50);
/// A wait is reported when it has lasted so long, and again each time.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// Who hears of the wait.
pub(crate) struct Watch<'a> {
    /// Says when to give up: the gateway is to end.
    pub(crate) commons: &'a Commons,
    pub(crate) progress: &'a RecoveryProgress,
    pub(crate) log: &'a mut EventLog,
}

/// As [`Spool::open_watched`], and waits for the writes of a killed process.
pub(crate) fn open_spool<D: Disk>(
    disk: &mut D,
    options: &Options,
    workers: usize,
    watch: Watch<'_>,
) -> Result<(Spool, RecoveredSpool), SpoolError> {
    let begun = Instant::now();
    let mut reported = begun;
    loop {
        let path = match Spool::open_watched(disk, options.clone(), workers, watch.progress) {
            Err(SpoolError::UnderWay { path }) if !watch.commons.is_draining() => path,
            opened => return opened,
        };
        if reported.elapsed() >= REPORT_INTERVAL {
            reported = Instant::now();
            let awaited = SpoolAwaited {
                file: &path,
                reason: "a write of a killed process has not ended: the disk is slow or does not answer",
                seconds: begun.elapsed().as_secs(),
            };
            watch.log.record(&awaited, SystemTime::now().into());
            watch.log.flush();
        }
        std::thread::sleep(TRY_INTERVAL);
    }
}
