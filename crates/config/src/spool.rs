//! `[spool]`: where accepted mail lies, and whether this host can keep it there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use policy::{Origin, Sourced};
use rustix::fs::Access;
use rustix::io::Errno;

use crate::Purpose;
use crate::error::{ConfigErrors, Report};
use crate::file::File;
use crate::section::{Keys, Section, parse};
use crate::units::parse_size;

const SPOOL: Keys = Keys {
    known: &["path", "capacity", "compaction", "unfinished", "unfinished_per_client", "while_recovering"],
    later: &[],
};

/// What compaction may read and write a second where nothing is written.
const COMPACTION_DEFAULT: u64 = 32 << 20;

/// What unfinished messages may hold where nothing is written, unless a quarter of the capacity is less.
const UNFINISHED_DEFAULT: u64 = 4 << 30;

/// The smallest budget: the smallest message that needs one is larger than a MiB.
const UNFINISHED_MIN: u64 = 1 << 20;

/// What a client may hold where nothing is written, an eighth of all or this: a large message or two.
const UNFINISHED_PER_CLIENT_DEFAULT_MIN: u64 = 128 << 20;

/// `[spool]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The directory.
    pub path: PathBuf,
    /// The line that names it.
    pub origin: Origin,
    /// Bytes that it may hold; `u64::MAX` where nothing is written.
    pub capacity_bytes: u64,
    /// The line that says so, or that of the directory.
    pub capacity_origin: Origin,
    /// What large messages may hold on disk before they are queued; all clients and workers together.
    pub unfinished_bytes: u64,
    /// The same for each client.
    pub unfinished_bytes_per_client: u64,
    /// What compaction may read and write a second; all workers together.
    pub compaction_bytes_per_second: u64,
    /// What clients meet with until it is recovered.
    pub while_recovering: WhileRecovering,
}

/// What the listeners' addresses are while the spool is recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhileRecovering {
    /// No socket listens there.
    Closed,
    /// Each client gets a 421 (RFC 5321 section 3.1), or where it expects TLS, the end of its connection.
    Refuse,
}

pub(crate) fn read(top: &Section<'_>, purpose: Purpose, report: &mut Report) -> Option<SpoolConfig> {
    let Some(spool) = top.section("spool", &SPOOL, report) else {
        top.missing("[spool]", "a section with the path", report);
        return None;
    };
    let path = path(&spool, report);
    let capacity = spool.unit("capacity", parse_size, report);
    let compaction = spool.unit("compaction", parse_size, report);
    let words = [("closed", WhileRecovering::Closed), ("refuse", WhileRecovering::Refuse)];
    let while_recovering = spool.choice("while_recovering", &words, report);
    let capacity_bytes = capacity.as_ref().map_or(u64::MAX, |capacity| capacity.value);
    let (unfinished_bytes, unfinished_bytes_per_client) = read_unfinished(&spool, capacity_bytes, report);
    let path = path?;
    look(&path, purpose, report);
    Some(SpoolConfig {
        capacity_origin: capacity.map_or_else(|| path.origin.clone(), |capacity| capacity.origin),
        path: path.value,
        origin: path.origin,
        capacity_bytes,
        unfinished_bytes,
        unfinished_bytes_per_client,
        compaction_bytes_per_second: compaction.map_or(COMPACTION_DEFAULT, |compaction| compaction.value),
        while_recovering: while_recovering.map_or(WhileRecovering::Closed, |written| written.value),
    })
}

/// The spool's directory of `node_file`, and nothing else of it: to look at the queue takes neither
/// the key nor the tenants.
///
/// # Errors
/// When the file cannot be read, is no TOML, or names no directory.
pub fn spool_directory(node_file: &Path) -> Result<PathBuf, ConfigErrors> {
    let mut report = Report::default();
    let directory = File::read(node_file, &mut report).and_then(|file| {
        let table = parse(&file, &mut report)?;
        let top = Section::part(&file, table.get_ref());
        let spool = top.section("spool", &SPOOL, &mut Report::default());
        if spool.is_none() {
            top.missing("[spool]", "a section with the path", &mut report);
        }
        path(&spool?, &mut report).map(|path| path.value)
    });
    directory.ok_or_else(|| report.into_errors())
}

fn path(spool: &Section<'_>, report: &mut Report) -> Option<Sourced<PathBuf>> {
    let path = spool.required("path", "\"/var/spool/gatepost\"", report)?;
    Some(Sourced::new(spool.file.resolve(&path.value), path.origin))
}

/// The budgets for unfinished messages: in all, and for each client.
fn read_unfinished(spool: &Section<'_>, capacity_bytes: u64, report: &mut Report) -> (u64, u64) {
    let mut budget = |name: &str, default: u64, (of, of_bytes): (&str, u64)| {
        let Some(written) = spool.unit(name, parse_size, report) else { return default };
        let remedy = format!("write a size of at least 1MiB, and no more than {of}");
        if written.value < UNFINISHED_MIN || written.value > of_bytes {
            let message = if written.value > of_bytes {
                format!("more than {of} allows, which is {of_bytes} bytes")
            } else {
                "no large message could ever be taken".to_owned()
            };
            report.error(&written.origin, spool.key(name), message, remedy);
        }
        written.value
    };
    let default = (capacity_bytes / 4).clamp(UNFINISHED_MIN, UNFINISHED_DEFAULT);
    let all = budget("unfinished", default, ("the capacity", capacity_bytes));
    let default = (all / 8).max(UNFINISHED_PER_CLIENT_DEFAULT_MIN.min(all));
    (all, budget("unfinished_per_client", default, ("unfinished", all)))
}

/// Whether a spool can be kept there. What stops it is an error to who starts, and to who reviews on another
/// host a warning; a gateway that runs has its spool.
fn look(path: &Sourced<PathBuf>, purpose: Purpose, report: &mut Report) {
    if purpose == Purpose::Reload {
        return;
    }
    let fault = match keeper(&path.value) {
        Ok(directory) => {
            if let Some(warning) = rustix::fs::statfs(directory).ok().and_then(|found| warning(found.f_type))
            {
                report.warn(&path.origin, "spool.path", format!("{} {warning}", path.value.display()));
            }
            return;
        }
        Err(fault) => fault,
    };
    match purpose {
        Purpose::Review => {
            let message = format!("{}, on this host; {}", fault.0, fault.1);
            report.warn(&path.origin, "spool.path", message);
        }
        _ => report.error(&path.origin, "spool.path", fault.0, fault.1),
    }
}

/// The directory that holds the spool, or that it would be created in; or what is wrong, and what to do.
fn keeper(path: &Path) -> Result<&Path, (String, &'static str)> {
    let unknown = |path: &Path, error: io::Error| {
        let message = format!("cannot look at {}: {error}", path.display());
        Err((message, "let the user that runs Gatepost enter the directories above it"))
    };
    let is_directory = |path: &Path| fs::metadata(path).map(|found| found.is_dir());
    match is_directory(path) {
        Ok(true) => return may_write(path),
        Ok(false) => {
            let message = format!("{} is not a directory", path.display());
            return Err((message, "move what is there away, or name another directory"));
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(error) => return unknown(path, error),
    }
    // A relative path of one part lies in the working directory.
    let above = path.parent().map(|above| if above == Path::new("") { Path::new(".") } else { above });
    let above = above.unwrap_or(Path::new("/"));
    match is_directory(above) {
        Ok(true) => may_write(above),
        Ok(false) => Err((format!("{} is not a directory", above.display()), "name another directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let message = format!("there is no {}", above.display());
            Err((message, "create it, or mount it: a start creates the last directory of the path alone"))
        }
        Err(error) => unknown(above, error),
    }
}

fn may_write(directory: &Path) -> Result<&Path, (String, &'static str)> {
    let name = directory.display();
    match rustix::fs::access(directory, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(directory),
        Err(Errno::ROFS) => {
            let message = format!("{name} lies on a file system that is read-only");
            Err((message, "mount it for writing, or name another directory"))
        }
        Err(error) => {
            let message = format!("this user may not write to {name}: {}", io::Error::from(error));
            Err((message, "let the user that runs Gatepost read and write there"))
        }
    }
}

/// What is unwise about a file system, by the number that statfs(2) has for it.
fn warning(magic: impl Into<i128>) -> Option<&'static str> {
    const TMPFS: i128 = 0x0102_1994;
    const RAMFS: i128 = 0x8584_58f6;
    const OVERLAY: i128 = 0x794c_7630;
    const NFS: i128 = 0x6969;
    const SMB: [i128; 3] = [0x517b, 0xff53_4d42, 0xfe53_4d42];
    match magic.into() {
        TMPFS | RAMFS => {
            Some("lies in memory (tmpfs): a power cut loses what was accepted; name a directory on a disk")
        }
        OVERLAY => {
            Some("lies in a container's own files (overlay), and goes with them: mount a volume there")
        }
        NFS => {
            Some("lies on NFS: how durable a 250 is, the server decides; name a directory on a local disk")
        }
        magic if SMB.contains(&magic) => {
            Some("lies on SMB: how durable a 250 is, the server decides; name a directory on a local disk")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_that_keep_no_promise_are_known_by_their_number() {
        for (magic, word) in [
            (0x0102_1994_i64, Some("tmpfs")),
            (0x8584_58f6, Some("tmpfs")),
            (0x794c_7630, Some("overlay")),
            (0x6969, Some("NFS")),
            (0xfe53_4d42, Some("SMB")),
            (0xef53, None),
            (0x5846_5342, None),
        ] {
            let said = warning(magic);
            assert_eq!(said.is_some(), word.is_some(), "{magic:x}");
            assert!(said.unwrap_or("").contains(word.unwrap_or("")), "{said:?}");
        }
    }
}
