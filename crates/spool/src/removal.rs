//! The end of a shard that was adopted and drained: its files go, then its directory.
//!
//! Its identity is renamed to `removed` first, durably: from then on the directory is no shard, and a process that
//! finds it finishes the removal. `removed` goes last, when the removals of the others are durable, so
//! that a power cut never leaves segments of which no file says what they are.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use ring::{Disk, Ring, Token};

use crate::SpoolError;
use crate::fail_point::fail_point;
use crate::large::large_name;
use crate::scan;
use crate::scan::TEMPORARY_NAME;
use crate::segment::segment_name;

pub(crate) const REMOVED_NAME: &str = "removed";
const IDENTITY_NAME: &str = "identity";
const IDENTITY_TEMPORARY_NAME: &str = "identity.tmp";

#[derive(Clone, Copy, Debug)]
enum Step {
    Mark,
    SyncMark,
    Files,
    SyncFiles,
    Unmark,
    Directory,
    SyncSpool,
}

/// A removal under way, one operation at a time. What fails is left to the next start.
#[derive(Debug)]
pub(crate) struct Removal {
    directory: PathBuf,
    files: VecDeque<String>,
    step: Step,
    token: Token,
}

impl Removal {
    /// Begins to remove the shard in `directory`, whose segments have these numbers and whose files are closed.
    pub(crate) fn begin<R: Ring>(
        ring: &mut R,
        directory: PathBuf,
        segments: impl Iterator<Item = u32>,
        token: Token,
    ) -> Self {
        let mut files: VecDeque<_> = segments.map(segment_name).collect();
        files.extend([TEMPORARY_NAME, IDENTITY_TEMPORARY_NAME].map(str::to_owned));
        ring.rename_file(&directory.join(IDENTITY_NAME), &directory.join(REMOVED_NAME), token);
        Self { directory, files, step: Step::Mark, token }
    }

    /// The next step, or how the removal ended.
    pub(crate) fn advance<R: Ring>(
        &mut self,
        ring: &mut R,
        result: io::Result<usize>,
    ) -> Option<io::Result<()>> {
        if let Err(error) = result
            && !(matches!(self.step, Step::Files) && error.kind() == io::ErrorKind::NotFound)
        {
            return Some(Err(error));
        }
        let Self { directory, token, .. } = self;
        self.step = match self.step {
            Step::Mark => {
                fail_point!("shard-marked-unsynced");
                ring.sync_directory_file(directory, *token);
                Step::SyncMark
            }
            Step::SyncMark | Step::Files => match self.files.pop_front() {
                Some(name) => {
                    fail_point!("shard-half-removed");
                    ring.remove_file(&directory.join(name), *token);
                    Step::Files
                }
                None => {
                    ring.sync_directory_file(directory, *token);
                    Step::SyncFiles
                }
            },
            Step::SyncFiles => {
                ring.remove_file(&directory.join(REMOVED_NAME), *token);
                Step::Unmark
            }
            Step::Unmark => {
                fail_point!("shard-empty");
                ring.remove_directory_file(directory, *token);
                Step::Directory
            }
            Step::Directory => {
                ring.sync_directory_file(directory.parent().unwrap_or(directory), *token);
                Step::SyncSpool
            }
            Step::SyncSpool => return Some(Ok(())),
        };
        None
    }
}

/// Whether the removal of the shard in `directory` began in a former life, or it never was one.
pub(crate) fn is_remains<D: Disk>(disk: &mut D, directory: &Path) -> Result<bool, SpoolError> {
    if scan::identity(disk, directory)?.is_some() {
        return Ok(false);
    }
    let names = disk.list(directory).map_err(SpoolError::io("read", directory))?;
    Ok(names.iter().any(|name| name == REMOVED_NAME) || scan::files(disk, directory)?.segments.is_empty())
}

/// Removes a drained shard, or what is left of one, by blocking calls. A file that is none of ours stays, and
/// its directory with it.
pub(crate) fn remove_now<D: Disk>(disk: &mut D, directory: &Path) -> Result<(), SpoolError> {
    let names = disk.list(directory).map_err(SpoolError::io("read", directory))?;
    let sync = |disk: &mut D, path: &Path| disk.sync_directory(path).map_err(SpoolError::io("sync", path));
    if names.iter().any(|name| name == IDENTITY_NAME) {
        let (from, to) = (directory.join(IDENTITY_NAME), directory.join(REMOVED_NAME));
        disk.rename(&from, &to).map_err(SpoolError::io("rename", from))?;
    }
    // Also where a former life renamed it: it may not have come to this.
    sync(disk, directory)?;
    let files = scan::files(disk, directory)?;
    let segments = files.segments.into_iter().map(|(_, name)| name);
    let temporary = [TEMPORARY_NAME, IDENTITY_TEMPORARY_NAME].map(str::to_owned);
    let temporary = temporary.into_iter().filter(|name| names.contains(name));
    for name in segments.chain(files.large.into_iter().map(large_name)).chain(temporary) {
        fail_point!("shard-half-removed");
        let path = directory.join(name);
        disk.remove(&path).map_err(SpoolError::io("remove", path))?;
    }
    sync(disk, directory)?;
    let path = directory.join(REMOVED_NAME);
    match disk.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(SpoolError::io("remove", path)(error));
        }
        _ => {}
    }
    match disk.remove_directory(directory) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
        removed => removed.map_err(SpoolError::io("remove", directory))?,
    }
    sync(disk, directory.parent().unwrap_or(directory))
}
