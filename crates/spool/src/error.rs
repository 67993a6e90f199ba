use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::Foreign;
use crate::format::VERSION;

/// Why something is not taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The open group is full, or the next segment is not ready: again after the next commit.
    Busy,
    /// Past the watermark: 452 4.3.1 for mail, until delivery frees space.
    Full,
    /// A write failed: 451 4.3.0 until a restart.
    Latched,
    /// A file bears its name no longer: 451 4.3.0 until it does.
    Vanished,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "the spool is busy",
            Self::Full => "the spool is full",
            Self::Latched => "the spool's storage failed",
            Self::Vanished => "the spool's files have vanished",
        })
    }
}

impl std::error::Error for Refusal {}

/// Why a stored message cannot be had.
#[derive(Debug)]
pub enum LoadError {
    /// No such message: it has all its outcomes; or the read was given up.
    Gone,
    /// Its bytes are not those that were written: it is never delivered.
    Damaged,
    /// It says what this version does not understand: it is not delivered, and stays for a later one.
    Foreign(Foreign),
    /// The system cannot read it.
    Io(io::Error),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the message is no longer queued"),
            Self::Damaged => f.write_str("the stored message is damaged (its checksum fails)"),
            Self::Foreign(foreign) => foreign.fmt(f),
            Self::Io(error) => write!(f, "the stored message cannot be read: {error}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// Why a spool cannot be opened.
#[derive(Debug)]
pub enum SpoolError {
    /// The system refused.
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Another process has it.
    InUse {
        /// The spool directory.
        path: PathBuf,
        /// What the owner wrote about itself.
        owner: String,
    },
    /// A write of a killed process to a segment has not ended: again when the disk has answered.
    UnderWay {
        /// The segment.
        path: PathBuf,
    },
    /// The spool is of another format version.
    Version {
        /// The spool directory.
        spool: PathBuf,
        /// The version that it has.
        found: u16,
    },
    /// A file is none of ours.
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The options contradict each other.
    Options(String),
}

impl SpoolError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { action, path: path.into(), error }
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, path, error } => {
                write!(f, "cannot {action} {}: {error}", path.display())?;
                match error.kind() {
                    io::ErrorKind::PermissionDenied => {
                        write!(f, "; give the user that runs Gatepost read and write access to it")
                    }
                    io::ErrorKind::StorageFull => {
                        write!(f, "; free space on its file system or set a smaller spool capacity")
                    }
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                        write!(
                            f,
                            "; it must be a directory: move what is there away or name another spool directory"
                        )
                    }
                    _ => Ok(()),
                }
            }
            Self::InUse { path, owner } => write!(
                f,
                "the spool {} is in use by {owner}; stop that process or name another spool directory",
                path.display()
            ),
            Self::UnderWay { path } => write!(
                f,
                "a write to {} by a process that was killed has not ended, since the disk is slow or does not \
                 answer; look at the disk, or start again when it has answered",
                path.display()
            ),
            Self::Version { spool, found } => {
                let relation = if *found < VERSION { "an earlier" } else { "a later" };
                write!(
                    f,
                    "the spool {} was written by {relation} Gatepost in format version {found}, and this one reads \
                     and writes version {VERSION} alone; let that one deliver what is queued there and then move \
                     the folder away, or name another folder in spool.path",
                    spool.display()
                )
            }
            Self::Format { path, detail } => write!(f, "{}: {detail}", path.display()),
            Self::Options(detail) => f.write_str(detail),
        }
    }
}

/// The device has no space, or the user may have no more of it: nothing was written whose fate could be unknown.
pub(crate) fn is_want_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl std::error::Error for SpoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}
