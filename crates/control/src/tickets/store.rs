//! Records on disk, by ticket: bounded in bytes and in age, the oldest forgotten first.
//!
//! One redb file beside the spool, which this process alone writes and any other may read. What
//! [`Store::write`] returned for survives a power cut. A file that a crash left in the middle of a
//! commit is mended when it is opened; one that cannot be mended is put aside and begun anew, since
//! no mail depends on it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mail::{Ticket, UnixMillis};
use parking_lot::Mutex;
use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, Error, ReadOnlyDatabase, ReadableDatabase,
    ReadableTable, StorageError, TableDefinition,
};

use super::record::Record;

/// The records in JSON, oldest first, by time in milliseconds since 1970 and the ticket's bits: what is
/// new stands at the end and what goes at the beginning, so that pages are filled, and freed, whole.
const RECORDS: TableDefinition<'_, (u64, u128), &[u8]> = TableDefinition::new("records");
/// The time of a ticket, and what its record is charged, by its bits.
const BY_TICKET: TableDefinition<'_, u128, (u64, u64)> = TableDefinition::new("by_ticket");

/// Memory for pages of the file: a batch of records, not the file.
const CACHE_BYTES: usize = 4 << 20;

/// A record is charged so many times its bytes: B-tree pages are not full, a commit writes new pages
/// before it frees old ones, and the file grows by doubling.
const OVERHEAD: u64 = 4;

/// Keys, their entries in both tables, and lengths.
const ENTRY_BYTES: u64 = 96;

/// The open file.
pub(crate) struct Store {
    file: Database,
    capacity_bytes: u64,
    keep_millis: u64,
    /// What all records are charged together.
    charged: Mutex<u64>,
}

/// Why the tickets' file cannot be opened.
#[derive(Debug)]
pub struct StoreError {
    path: PathBuf,
    error: Error,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, error } = self;
        let remedy = match error {
            Error::DatabaseAlreadyOpen => "another Gatepost has it open; stop that one",
            _ => "let this user write there, or move the file away: a new one is begun without it",
        };
        write!(f, "cannot open the tickets in {}: {error}; {remedy}", path.display())
    }
}

impl std::error::Error for StoreError {}

impl Store {
    /// Opens the file, or begins it. Also says where a damaged one was put aside.
    pub(crate) fn open(
        path: &Path,
        capacity_bytes: u64,
        keep: Duration,
    ) -> Result<(Self, Option<PathBuf>), StoreError> {
        let failed = |error: Error| StoreError { path: path.to_owned(), error };
        let (file, aside) = match begin(path) {
            Ok(file) => (file, None),
            Err(Error::Corrupted(_)) => {
                let aside = path.with_extension("redb.damaged");
                std::fs::rename(path, &aside).map_err(|error| failed(Error::Io(error)))?;
                (begin(path).map_err(failed)?, Some(aside))
            }
            Err(error) => return Err(failed(error)),
        };
        let charged = charged(&file).map_err(failed)?;
        let keep_millis = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        Ok((Self { file, capacity_bytes, keep_millis, charged: Mutex::new(charged) }, aside))
    }

    /// Makes `records` durable, in place of earlier ones of the same tickets, and forgets what is too
    /// old or too much.
    pub(crate) fn write<'a>(
        &self,
        records: impl Iterator<Item = &'a Record>,
        now: UnixMillis,
    ) -> Result<(), Error> {
        let mut charged = self.charged.lock();
        let mut total = *charged;
        let transaction = self.file.begin_write()?;
        {
            let mut stored = transaction.open_table(RECORDS)?;
            let mut by_ticket = transaction.open_table(BY_TICKET)?;
            for record in records {
                let Some(ticket) = record.key().map(Ticket::bits) else { continue };
                let json = serde_json::to_vec(record).expect("a record is plain data");
                let charge = charge(json.len());
                stored.insert((record.unix_millis, ticket), &*json)?;
                let before = by_ticket.insert(ticket, (record.unix_millis, charge))?;
                total = total + charge - before.map_or(0, |before| before.value().1);
                std::thread::yield_now();
            }
            let oldest_kept = now.0.saturating_sub(self.keep_millis);
            loop {
                let Some((time, ticket)) = stored.first()?.map(|(key, _)| key.value()) else { break };
                if time >= oldest_kept && total <= self.capacity_bytes {
                    break;
                }
                stored.remove((time, ticket))?;
                let freed = by_ticket.remove(ticket)?.map_or(0, |entry| entry.value().1);
                total = total.saturating_sub(freed);
            }
        }
        transaction.commit()?;
        *charged = total;
        Ok(())
    }

    pub(crate) fn read(&self, ticket: Ticket) -> Result<Option<Record>, Error> {
        read(&self.file, ticket)
    }
}

/// Reads one record of a file that another process may be writing; `None` where it has none.
///
/// # Errors
/// When there is no such file, or it cannot be read.
pub fn read_stored(path: &Path, ticket: Ticket) -> Result<Option<Record>, StoreError> {
    let open = || -> Result<Option<Record>, Error> {
        let file: ReadOnlyDatabase = builder().open_read_only(path)?;
        read(&file, ticket)
    };
    open().map_err(|error| StoreError { path: path.to_owned(), error })
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

fn begin(path: &Path) -> Result<Database, Error> {
    let file = builder().create(path).map_err(|error| match error {
        // What is no redb file at all is as damaged as one.
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() == std::io::ErrorKind::InvalidData =>
        {
            Error::Corrupted(error.to_string())
        }
        other => other.into(),
    })?;
    // So that whoever reads finds the tables, empty as they may be.
    let transaction = file.begin_write()?;
    transaction.open_table(RECORDS)?;
    transaction.open_table(BY_TICKET)?;
    transaction.commit()?;
    Ok(file)
}

fn charged(file: &Database) -> Result<u64, Error> {
    let transaction = file.begin_read()?;
    let by_ticket = transaction.open_table(BY_TICKET)?;
    let mut total = 0;
    for entry in by_ticket.iter()? {
        total += entry?.1.value().1;
    }
    Ok(total)
}

fn read(file: &impl ReadableDatabase, ticket: Ticket) -> Result<Option<Record>, Error> {
    let transaction = file.begin_read()?;
    let by_ticket = transaction.open_table(BY_TICKET)?;
    let Some(entry) = by_ticket.get(ticket.bits())? else { return Ok(None) };
    let records = transaction.open_table(RECORDS)?;
    let Some(json) = records.get((entry.value().0, ticket.bits()))? else { return Ok(None) };
    serde_json::from_slice(json.value()).map(Some).map_err(|error| Error::Corrupted(error.to_string()))
}

fn charge(json_bytes: usize) -> u64 {
    (json_bytes as u64 + ENTRY_BYTES) * OVERHEAD
}
