//! Between two owners of a spool: no write of the one that was killed lands in what its successor has written.
//!
//! A direct write that a device has not ended outlives its process, and with it the lock on the spool: it may
//! land seconds later. What it goes on holding is the opening that it was asked through. So the owner takes
//! the lock of every segment through the one opening that it writes with, and a start asks for each of these
//! locks before it reads anything. While one is refused it fails with [`SpoolError::UnderWay`]; a caller that
//! starts waits and tries again.
//!
//! Nothing else needs it. Whatever takes a thread (buffered writes, flushes, allocations, names) keeps its
//! process, and so the lock on the spool, until it has ended. What a process writes directly besides segments,
//! a segment that has no name yet or a body that no record names, its successor removes without reading
//! it: a late write lands in a file that is gone.

use std::io;
use std::path::Path;

use ring::{Disk, File};

use crate::{RecoveryProgress, SpoolError, scan};

/// Every write to the segments in `directory` has ended; where there is no such directory, that is so too.
pub(crate) fn pass<D: Disk>(
    disk: &mut D,
    directory: &Path,
    progress: &RecoveryProgress,
) -> Result<(), SpoolError> {
    let files = match scan::files(disk, directory) {
        Err(SpoolError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        files => files?,
    };
    for (_, name) in files.segments {
        let path = directory.join(name);
        if is_held(disk, &path).map_err(SpoolError::io("lock", &path))? {
            progress.waits_for(Some(&path));
            return Err(SpoolError::UnderWay { path });
        }
    }
    progress.waits_for(None);
    Ok(())
}

fn is_held<D: Disk>(disk: &mut D, path: &Path) -> io::Result<bool> {
    #[cfg(feature = "mutants")]
    if crate::mutant::is(crate::mutant::Mutant::SkipFence) {
        return Ok(false);
    }
    disk.is_locked(path)
}

/// Holds a segment that was opened to be written; `WouldBlock` when it is held already.
pub(crate) fn lock<D: Disk>(disk: &mut D, file: File) -> io::Result<()> {
    #[cfg(feature = "mutants")]
    if crate::mutant::is(crate::mutant::Mutant::SkipFence) {
        return Ok(());
    }
    if disk.lock_file(file)? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}
