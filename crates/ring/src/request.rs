use std::ops::Range;
use std::path::Path;

use crate::{AlignedBuffer, Durability, File, OpenMode, SharedBuffer};

/// What a ring can be asked to do with files: see the methods of [`crate::Ring`] that make each of them.
#[derive(Debug)]
#[allow(missing_docs, reason = "the arguments of those methods")]
pub enum FileRequest<'a> {
    Open { path: &'a Path, mode: OpenMode },
    Write { file: File, offset: u64, source: Source, range: Range<usize>, durability: Durability },
    Read { file: File, offset: u64, buffer: AlignedBuffer, range: Range<usize> },
    Allocate { file: File, length: u64 },
    Sync { file: File },
    Rename { from: &'a Path, to: &'a Path },
    SyncDirectory { path: &'a Path },
    Remove { path: &'a Path },
    RemoveDirectory { path: &'a Path },
    Identify { path: &'a Path },
}

impl FileRequest<'_> {
    /// The open file that it is about.
    pub(crate) fn file(&self) -> Option<File> {
        match *self {
            Self::Write { file, .. }
            | Self::Read { file, .. }
            | Self::Allocate { file, .. }
            | Self::Sync { file } => Some(file),
            _ => None,
        }
    }
}

/// What a write is from.
#[derive(Debug)]
pub enum Source {
    /// Comes back with the completion.
    Own(AlignedBuffer),
    /// Stays shared with its readers.
    Shared(SharedBuffer),
}

impl Source {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(buffer) => buffer,
            Self::Shared(buffer) => buffer,
        }
    }

    pub(crate) fn into_buffer(self) -> Option<AlignedBuffer> {
        match self {
            Self::Own(buffer) => Some(buffer),
            Self::Shared(_) => None,
        }
    }
}
