//! Reading what a configuration names: regular files of a bounded size, and text as UTF-8 with line feeds.
//!
//! Whatever else lies there is refused in one sentence. Nothing is ever waited for: a pipe would keep a start,
//! and a device a reload, for ever.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Bytes of a file of tenants or of a list: some ten million entries.
pub(crate) const TEXT_BYTES_MAX: u64 = 1 << 30;

/// Bytes of a secret, a certificate chain or a key: the longest chains have some 20 KiB.
pub(crate) const SMALL_BYTES_MAX: u64 = 1 << 20;

/// The sign of UTF-8 that some editors write first.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Why a file cannot be used, whatever it is for.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The system refuses.
    Io(io::Error),
    /// It is no regular file but this.
    Kind(&'static str),
    /// It holds more bytes than this.
    Large(u64),
    /// This line is not UTF-8.
    Encoding(u32),
    /// It holds more than one line, and no line feed.
    CarriageReturns,
}

impl Unreadable {
    /// The line that is wrong; 0 where the file as a whole is.
    pub(crate) fn line(&self) -> Option<u32> {
        match self {
            Self::Encoding(line) => Some(*line),
            Self::CarriageReturns => Some(0),
            _ => None,
        }
    }

    /// What is wrong; `it` names the file, or is "the file".
    pub(crate) fn message(&self, it: &str) -> String {
        match self {
            Self::Io(error) => format!("cannot read {it}: {error}"),
            Self::Kind(kind) => format!("{it} is {kind}"),
            Self::Large(max) => format!("{it} holds more than {} MiB", max >> 20),
            Self::Encoding(_) => "this line is not UTF-8".into(),
            Self::CarriageReturns => "the lines end in CR alone, so that all of it is one line".into(),
        }
    }

    /// What to do about it; `usual` where the file is missing or closed to this user.
    pub(crate) fn remedy(&self, usual: &'static str) -> &'static str {
        match self {
            Self::Io(_) => usual,
            Self::Kind(_) => "name a regular file",
            Self::Large(_) => "name the right file, or part it",
            Self::Encoding(_) => "save the file as UTF-8",
            Self::CarriageReturns => "save the file with LF line ends",
        }
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The bytes of a regular file that holds at most `bytes_max`.
pub(crate) fn bytes(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Unreadable> {
    // Before it is opened: that alone winds a tape, and waits for the writer of a pipe.
    must_be_regular(&path.metadata()?)?;
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    must_be_regular(&file.metadata()?)?;
    let mut bytes = Vec::new();
    // Not by its size: it may grow meanwhile, and files of the kernel have none.
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(Unreadable::Large(bytes_max)),
        false => Ok(bytes),
    }
}

/// The same as text, without a byte order mark.
pub(crate) fn text(path: &Path, bytes_max: u64) -> Result<String, Unreadable> {
    let mut text = String::from_utf8(bytes(path, bytes_max)?).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let newlines = before.iter().filter(|&&byte| byte == b'\n').count();
        Unreadable::Encoding(u32::try_from(newlines + 1).unwrap_or(u32::MAX))
    })?;
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    match text.trim_end_matches('\r').contains('\r') && !text.contains('\n') {
        true => Err(Unreadable::CarriageReturns),
        false => Ok(text),
    }
}

fn must_be_regular(found: &Metadata) -> Result<(), Unreadable> {
    let kind = found.file_type();
    Err(Unreadable::Kind(match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn more_than_the_bound_is_refused_before_it_is_all_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        // Sparse: it takes no room on disk, and would take all of the memory.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(bytes(&path, SMALL_BYTES_MAX), Err(Unreadable::Large(_))));
        File::create(&path).unwrap().set_len(SMALL_BYTES_MAX).unwrap();
        assert_eq!(bytes(&path, SMALL_BYTES_MAX).unwrap().len() as u64, SMALL_BYTES_MAX);
    }

    #[test]
    fn text_begins_after_its_byte_order_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        std::fs::write(&path, "\u{feff}terri\r\n").unwrap();
        assert_eq!(text(&path, SMALL_BYTES_MAX).unwrap(), "terri\r\n");
    }
}
