//! Records on disk, by ticket: bounded in bytes and in age. What is too old goes. Where there are too many, the
//! client that has the most forgets its oldest, so that no client's storm is felt by another; a client is an IPv4
//! address or an IPv6 /64. While no client has more than a handful, the oldest go.
//!
//! One redb file beside the spool, which this process alone writes and any other may read. What
//! [`Store::write`] returned for survives a power cut. A file that a crash left in the middle of a
//! commit is mended when it is opened; one that cannot be mended is put aside and begun anew, since
//! no mail depends on it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use commons::machine;
use mail::{Ticket, UnixMillis};
use parking_lot::Mutex;
use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, Error, ReadOnlyDatabase, ReadableDatabase,
    ReadableTable, StorageError, Table, TableDefinition, WriteTransaction,
};

use super::record::Record;

/// The records in JSON, oldest first, by time in milliseconds since 1970 and the ticket's bits: what is
/// new stands at the end and what goes at the beginning, so that pages are filled, and freed, whole.
const RECORDS: TableDefinition<'_, (u64, u128), &[u8]> = TableDefinition::new("records");
/// The time of a ticket, and what its record is charged, by its bits.
const BY_TICKET: TableDefinition<'_, u128, (u64, u64)> = TableDefinition::new("by_ticket");

/// What each record is charged, by its client, its time and its ticket's bits.
const BY_CLIENT: TableDefinition<'_, (u128, u64, u128), u64> = TableDefinition::new("by_client");

/// What a client may be charged without being the first to lose records: a dozen of usual ones.
const HANDFUL: u64 = 64 << 10;

/// Memory for pages of the file: a batch of records, not the file.
const CACHE_BYTES: usize = 4 << 20;

/// A record is charged so many times its bytes: B-tree pages are not full, a commit writes new pages
/// before it frees old ones, and the file grows by doubling.
const OVERHEAD: u64 = 4;

/// Keys, their entries in all tables, and lengths.
const ENTRY_BYTES: u64 = 160;

/// The open file.
pub(crate) struct Store {
    file: Database,
    capacity_bytes: u64,
    keep_millis: u64,
    charges: Mutex<Charges>,
}

/// What the records of each client are charged.
#[derive(Debug, Default)]
struct Charges {
    total: u64,
    clients: HashMap<u128, u64>,
    /// The same, the most last.
    ranked: BTreeSet<(u64, u128)>,
}

impl Charges {
    fn set(&mut self, client: u128, before: u64, now: u64) {
        self.total = (self.total + now).saturating_sub(before);
        let charge = self.clients.entry(client).or_default();
        self.ranked.remove(&(*charge, client));
        *charge = (*charge + now).saturating_sub(before);
        if *charge > 0 {
            self.ranked.insert((*charge, client));
        } else {
            self.clients.remove(&client);
        }
    }

    /// The client that is to lose a record, if one has more than a handful.
    fn greediest(&self) -> Option<u128> {
        self.ranked.last().filter(|(charge, _)| *charge > HANDFUL).map(|&(_, client)| client)
    }

    fn read(file: &Database) -> Result<Self, Error> {
        let transaction = file.begin_read()?;
        let mut charges = Self::default();
        for entry in transaction.open_table(BY_CLIENT)?.iter()? {
            let (key, charge) = entry?;
            charges.set(key.value().0, 0, charge.value());
        }
        Ok(charges)
    }
}

/// Whose tickets are counted together.
fn client_key(client: IpAddr) -> u128 {
    match machine(client) {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
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
        let charges = Charges::read(&file).map_err(failed)?;
        let keep_millis = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        Ok((Self { file, capacity_bytes, keep_millis, charges: Mutex::new(charges) }, aside))
    }

    /// Makes `records` durable, in place of earlier ones of the same tickets, and forgets what is too
    /// old or too much.
    pub(crate) fn write<'a>(
        &self,
        records: impl Iterator<Item = &'a Record>,
        now: UnixMillis,
    ) -> Result<(), Error> {
        let charges = &mut *self.charges.lock();
        let written = self.write_charging(records, now, charges);
        if written.is_err() {
            // The file is as it was, and so must be what is known of it; where not even that can be read, what is
            // written next finds out.
            *charges = Charges::read(&self.file).unwrap_or_default();
        }
        written
    }

    fn write_charging<'a>(
        &self,
        records: impl Iterator<Item = &'a Record>,
        now: UnixMillis,
        charges: &mut Charges,
    ) -> Result<(), Error> {
        let transaction = self.file.begin_write()?;
        {
            let mut tables = Tables::open(&transaction)?;
            for record in records {
                tables.put(record, charges)?;
                std::thread::yield_now();
            }
            let oldest_kept = now.0.saturating_sub(self.keep_millis);
            while let Some((time, ticket)) = tables.oldest()?
                && time < oldest_kept
            {
                tables.forget(time, ticket, charges)?;
            }
            while charges.total > self.capacity_bytes {
                let oldest = match charges.greediest() {
                    Some(client) => tables.oldest_of(client)?,
                    None => tables.oldest()?,
                };
                let Some((time, ticket)) = oldest else { break };
                tables.forget(time, ticket, charges)?;
            }
        }
        Ok(transaction.commit()?)
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
    // So that a reader finds the tables, empty as they may be.
    let transaction = file.begin_write()?;
    Tables::open(&transaction)?.count_clients()?;
    transaction.commit()?;
    Ok(file)
}

/// The tables, while they are written.
struct Tables<'a> {
    records: Table<'a, (u64, u128), &'static [u8]>,
    by_ticket: Table<'a, u128, (u64, u64)>,
    by_client: Table<'a, (u128, u64, u128), u64>,
}

impl<'a> Tables<'a> {
    fn open(transaction: &'a WriteTransaction) -> Result<Self, Error> {
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            by_ticket: transaction.open_table(BY_TICKET)?,
            by_client: transaction.open_table(BY_CLIENT)?,
        })
    }

    fn put(&mut self, record: &Record, charges: &mut Charges) -> Result<(), Error> {
        let Some(ticket) = record.key().map(Ticket::bits) else { return Ok(()) };
        let json = serde_json::to_vec(record).expect("a record is plain data");
        let (time, charge) = (record.unix_millis, charge(json.len()));
        self.records.insert((time, ticket), &*json)?;
        self.by_ticket.insert(ticket, (time, charge))?;
        let client = client_key(record.client);
        let before =
            self.by_client.insert((client, time, ticket), charge)?.map_or(0, |before| before.value());
        charges.set(client, before, charge);
        Ok(())
    }

    fn oldest(&self) -> Result<Option<(u64, u128)>, Error> {
        Ok(self.records.first()?.map(|(key, _)| key.value()))
    }

    fn oldest_of(&self, client: u128) -> Result<Option<(u64, u128)>, Error> {
        let first = self.by_client.range((client, 0, 0)..=(client, u64::MAX, u128::MAX))?.next();
        Ok(first.transpose()?.map(|(key, _)| (key.value().1, key.value().2)))
    }

    fn forget(&mut self, time: u64, ticket: u128, charges: &mut Charges) -> Result<(), Error> {
        let client = self.records.remove((time, ticket))?.map(|json| client_of(json.value())).transpose()?;
        self.by_ticket.remove(ticket)?;
        if let Some(client) = client {
            let before = self.by_client.remove((client, time, ticket))?.map_or(0, |before| before.value());
            charges.set(client, before, 0);
        }
        Ok(())
    }

    /// Counts the records of a file that was begun before records were counted by client.
    fn count_clients(&mut self) -> Result<(), Error> {
        if self.by_client.first()?.is_some() {
            return Ok(());
        }
        for entry in self.records.iter()? {
            let (key, json) = entry?;
            let (time, ticket) = key.value();
            self.by_client.insert((client_of(json.value())?, time, ticket), charge(json.value().len()))?;
        }
        Ok(())
    }
}

/// Whose record this is.
fn client_of(json: &[u8]) -> Result<u128, Error> {
    #[derive(serde::Deserialize)]
    struct Client {
        client: IpAddr,
    }
    let client = serde_json::from_slice::<Client>(json);
    client.map(|client| client_key(client.client)).map_err(|error| Error::Corrupted(error.to_string()))
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

/// Makes a file what it was before records were counted by client.
#[cfg(test)]
pub(super) fn forget_clients(path: &Path) {
    let file = builder().open(path).unwrap();
    let transaction = file.begin_write().unwrap();
    transaction.delete_table(BY_CLIENT).unwrap();
    transaction.commit().unwrap();
}
