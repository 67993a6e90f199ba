//! The copy of all suspensions on disk, beside the spool, so that a restart frees no sender.
//!
//! A JSON file that is replaced whole: written beside, synced, renamed. What a person does is in it
//! before the answer; what the gateway contains by itself within a second. A file that cannot be read
//! stops the start: the suspended senders would be free, unnoticed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use commons::{Subject, Suspension, Suspensions};
use mail::{SuspensionCause, UnixMillis};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

const NAME: &str = "suspensions.json";

/// Where the copy is, and which changes it holds.
#[derive(Debug)]
pub(super) struct Copy {
    path: PathBuf,
    /// Held while the file is written: one writer at a time.
    changes: Mutex<usize>,
}

/// One suspension, as the file writes it; times are milliseconds since 1970.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    subject: Whom,
    cause: String,
    since: u64,
    until: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Whom {
    Tenant(Box<str>),
    Login(Box<str>),
    Client { tenant: Option<Box<str>>, ip: IpAddr },
}

impl Copy {
    /// Takes up what a former life left in `directory`.
    pub(super) fn open(directory: &Path, suspensions: &Suspensions, now: UnixMillis) -> io::Result<Self> {
        let path = directory.join(NAME);
        match fs::read(&path) {
            Ok(text) => {
                let entries: Vec<Entry> = serde_json::from_slice(&text)?;
                for entry in entries {
                    let (subject, suspension) = entry.read()?;
                    if suspension.until.is_none_or(|until| now < until) {
                        suspensions.suspend(&subject, suspension).map_err(io::Error::other)?;
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self { path, changes: Mutex::new(suspensions.changes()) })
    }

    pub(super) fn path(directory: &Path) -> PathBuf {
        directory.join(NAME)
    }

    /// Writes what has changed since the last time. It blocks for as long as the disk takes.
    pub(super) fn renew(&self, suspensions: &Suspensions, now: UnixMillis) -> io::Result<()> {
        let mut written = self.changes.lock();
        // Read first: what changes while the file is written is written the next time.
        let changes = suspensions.changes();
        if *written == changes {
            return Ok(());
        }
        let entries: Vec<_> = suspensions
            .list(now)
            .into_iter()
            .map(|(subject, suspension)| Entry::of(subject, suspension))
            .collect();
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(&entries)?)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        *written = changes;
        Ok(())
    }
}

impl Entry {
    fn of(subject: Subject, suspension: Suspension) -> Self {
        let subject = match subject {
            Subject::Tenant(name) => Whom::Tenant(name),
            Subject::Login(login) => Whom::Login(login),
            Subject::Client { tenant, ip } => Whom::Client { tenant, ip },
        };
        Self {
            subject,
            cause: suspension.cause.as_str().to_owned(),
            since: suspension.since.0,
            until: suspension.until.map(|until| until.0),
        }
    }

    fn read(self) -> io::Result<(Subject, Suspension)> {
        let subject = match self.subject {
            Whom::Tenant(name) => Subject::Tenant(name),
            Whom::Login(login) => Subject::Login(login),
            Whom::Client { tenant, ip } => Subject::Client { tenant, ip },
        };
        let cause = SuspensionCause::from_word(&self.cause).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("unknown cause {:?}", self.cause))
        })?;
        let until = self.until.map(UnixMillis);
        Ok((subject, Suspension { cause, since: UnixMillis(self.since), until }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_390_496_000);

    #[test]
    fn suspensions_come_back_after_a_restart_except_those_that_have_ended() {
        let folder = tempfile::tempdir().unwrap();
        let before = Suspensions::default();
        let copy = Copy::open(folder.path(), &before, NOW).unwrap();
        let subjects = [
            Subject::Tenant("proseware".into()),
            Subject::Login("terri@proseware.example".into()),
            Subject::Client { tenant: Some("proseware".into()), ip: "198.51.100.7".parse().unwrap() },
            Subject::Client { tenant: None, ip: "2001:db8::7".parse().unwrap() },
        ];
        for (number, subject) in (0..).zip(&subjects) {
            let until = (number > 0).then(|| NOW.plus(number * 1000));
            before
                .suspend(subject, Suspension { cause: SuspensionCause::Denials, since: NOW, until })
                .unwrap();
        }
        copy.renew(&before, NOW).unwrap();
        assert!(!folder.path().join("suspensions.new").exists());
        let after = Suspensions::default();
        let later = NOW.plus(2000);
        Copy::open(folder.path(), &after, later).unwrap();
        assert_eq!(after.list(later), before.list(later));
        assert_eq!(after.list(later).len(), 2);
    }

    #[test]
    fn what_has_not_changed_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let suspensions = Suspensions::default();
        let copy = Copy::open(folder.path(), &suspensions, NOW).unwrap();
        copy.renew(&suspensions, NOW).unwrap();
        assert!(!Copy::path(folder.path()).exists());
    }

    #[test]
    fn a_file_that_nobody_can_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["[{", "[{\"subject\":{\"login\":\"a\"},\"cause\":\"mood\",\"since\":1,\"until\":null}]"]
        {
            fs::write(Copy::path(folder.path()), text).unwrap();
            assert!(Copy::open(folder.path(), &Suspensions::default(), NOW).is_err(), "{text}");
        }
    }
}
