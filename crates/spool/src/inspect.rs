//! A look into a spool without opening it: for `spool list`, `spool verify` and checkers.
//!
//! Reads only. A spool in service may be looked at: what is being written meanwhile may be missed.

mod single;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mail::{LastReply, MessageId, UnixMillis};
use ring::{Disk, OpenMode};

use crate::large::large_name;
use crate::record::{self, Fields, LargeBody, MessageView, Record};
use crate::replies;
use crate::scan::{self, Damage, Reading, Scan, Seen};
use crate::shard::noting::is_order;
use crate::{Foreign, Outcome, PIECE_BYTES, Place, SpoolError};

pub use single::{StoredRecord, damaged, read};

/// A message in the log; also one that has all its outcomes, until its segment is reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedMessage {
    /// Its id.
    pub id: MessageId,
    /// The shard that holds it.
    pub shard: u8,
    /// When it came.
    pub arrived: UnixMillis,
    /// The name of its tenant.
    pub tenant: String,
    /// The login it came by; empty for none.
    pub identity: String,
    /// The sender; empty for `<>`.
    pub reverse_path: String,
    /// Everyone in the envelope.
    pub recipients: Vec<ListedRecipient>,
    /// Bytes over the wire, our header lines and the final dot included.
    pub content_bytes: u64,
    /// Where its record lies.
    pub place: Place,
    /// Why this version does not deliver it.
    pub foreign: Option<Foreign>,
    large: Option<LargeBody>,
}

/// One recipient of a [`ListedMessage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRecipient {
    /// The address.
    pub address: String,
    /// How it stands.
    pub state: RecipientState,
    /// What was last said of it, where that is known.
    pub reply: Option<Arc<LastReply>>,
}

/// How a recipient stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientState {
    /// No outcome yet.
    Queued {
        /// Attempts that were noted.
        attempts: u16,
        /// Deferred until then; [`crate::HELD`] by an operator; 0 when it was neither.
        not_before: UnixMillis,
    },
    /// It has its outcome.
    Done(Outcome),
}

impl ListedMessage {
    /// A recipient has no outcome yet, or the message is not understood and has none that is known.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        let is_foreign = self.recipients.is_empty() && self.foreign.is_some();
        is_foreign
            || self
                .recipients
                .iter()
                .any(|recipient| matches!(recipient.state, RecipientState::Queued { .. }))
    }

    fn new(place: Place, view: &MessageView<'_>) -> Self {
        let state = RecipientState::Queued { attempts: 0, not_before: UnixMillis(0) };
        let recipients = view.recipient_texts();
        Self {
            id: view.id(),
            shard: place.shard,
            arrived: view.arrived(),
            tenant: view.tenant().to_owned(),
            identity: view.identity().to_owned(),
            reverse_path: view.reverse_path_text().to_owned(),
            recipients: recipients
                .map(|address| ListedRecipient { address: address.to_owned(), state, reply: None })
                .collect(),
            content_bytes: view.content_bytes() as u64 + view.large().map_or(0, |large| large.bytes),
            place,
            foreign: view.foreign(),
            large: view.large(),
        }
    }
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Shards read.
    pub shards: usize,
    /// Segments read.
    pub segments: usize,
    /// Valid groups.
    pub groups: u64,
    /// Messages in them, those that are done included.
    pub messages: usize,
    /// Messages that wait for an outcome.
    pub queued: usize,
    /// Damage in the middle of segments.
    pub damage: Vec<Damage>,
    /// Large bodies of queued messages that are missing or not what was written.
    pub bodies_damaged: Vec<PathBuf>,
    /// Queued messages of which a record is not understood.
    pub foreign: Vec<(MessageId, Foreign)>,
}

impl Verification {
    /// Nothing is damaged, and all that is queued can be delivered.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.bodies_damaged.is_empty() && self.foreign.is_empty()
    }

    fn add(&mut self, other: Self) {
        self.shards += other.shards;
        self.segments += other.segments;
        self.groups += other.groups;
        self.messages += other.messages;
        self.queued += other.queued;
        self.damage.extend(other.damage);
        self.bodies_damaged.extend(other.bodies_damaged);
        self.foreign.extend(other.foreign);
    }
}

/// The queued messages of a spool, oldest first.
///
/// # Errors
/// When a file cannot be read or is of another version.
pub fn list<D: Disk>(disk: &mut D, directory: &Path) -> Result<Vec<ListedMessage>, SpoolError> {
    let mut messages = Vec::new();
    for number in scan::shards(disk, directory)? {
        let (found, _) = read_shard(disk, directory, number, Reading::Footers)?;
        messages.extend(found.into_iter().filter(ListedMessage::is_queued));
    }
    messages.sort_unstable_by_key(|message| message.id);
    Ok(messages)
}

/// Reads everything and says what is there and what is damaged.
///
/// # Errors
/// When a file cannot be read or is of another version.
pub fn verify<D: Disk>(disk: &mut D, directory: &Path) -> Result<Verification, SpoolError> {
    let mut verification = Verification::default();
    for number in scan::shards(disk, directory)? {
        verification.add(shard(disk, directory, number)?.1);
    }
    Ok(verification)
}

/// Every message in the log of one shard, oldest first, and the state of its files.
///
/// # Errors
/// When a file cannot be read or is of another version.
pub fn shard<D: Disk>(
    disk: &mut D,
    directory: &Path,
    number: u8,
) -> Result<(Vec<ListedMessage>, Verification), SpoolError> {
    let (messages, mut found) = read_shard(disk, directory, number, Reading::Everything)?;
    let path = scan::shard_directory(directory, number);
    for message in messages.iter().filter(|message| message.is_queued()) {
        found.queued += 1;
        found.foreign.extend(message.foreign.map(|foreign| (message.id, foreign)));
        if let Some(large) = message.large {
            let path = path.join(large_name(large.number));
            if !is_body_sound(disk, &path, large)? {
                found.bodies_damaged.push(path);
            }
        }
    }
    Ok((messages, found))
}

fn read_shard<D: Disk>(
    disk: &mut D,
    directory: &Path,
    number: u8,
    reading: Reading,
) -> Result<(Vec<ListedMessage>, Verification), SpoolError> {
    let path = scan::shard_directory(directory, number);
    let mut found = Verification { shards: 1, ..Verification::default() };
    let Some(identity) = scan::identity(disk, &path)? else { return Ok((Vec::new(), found)) };
    let mut log = Log::default();
    let mut files = scan::files(disk, &path)?;
    scan::in_order(disk, &path, &mut files, identity.salt)?;
    for (segment, name) in files.segments {
        let path = path.join(name);
        let file = disk.open(&path, OpenMode::default()).map_err(SpoolError::io("open", &path))?;
        let length = scan::usable_length(disk, file, &path)?;
        let scanned = Scan { disk, file, path: &path, salt: identity.salt, length }.run(reading, |seen| {
            let (offset, length) = (seen.offset as u32, seen.length() as u32);
            log.record(&seen, Place { shard: number, segment, offset, length });
        });
        disk.close_file(file);
        let scanned = scanned?;
        found.segments += 1;
        found.groups += scanned.groups;
        found.damage.extend(scanned.damage);
    }
    let messages = log.finish();
    found.messages = messages.len();
    Ok((messages, found))
}

fn is_body_sound<D: Disk>(disk: &mut D, path: &Path, large: LargeBody) -> Result<bool, SpoolError> {
    let file = match disk.open(path, OpenMode::default()) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(SpoolError::io("open", path)(error)),
    };
    let mut piece = vec![0; PIECE_BYTES];
    let (mut offset, mut crc) = (0, 0);
    let mut result = Ok(());
    while offset < large.bytes {
        let wanted = (large.bytes - offset).min(PIECE_BYTES as u64) as usize;
        match disk.read_at(file, offset, &mut piece[..wanted]) {
            Ok(read) if read == wanted => crc = crc32c::crc32c_append(crc, &piece[..wanted]),
            Ok(_) => break,
            Err(error) => {
                result = Err(SpoolError::io("read", path)(error));
                break;
            }
        }
        offset += wanted as u64;
    }
    disk.close_file(file);
    result.map(|()| offset >= large.bytes && crc == large.crc)
}

/// Records as they come; where a header is damaged segments are out of order, so that outcomes wait for their messages.
#[derive(Default)]
struct Log {
    messages: HashMap<MessageId, ListedMessage>,
    outcomes: Vec<(MessageId, u16, Outcome)>,
    schedules: HashMap<(MessageId, u16), (u16, UnixMillis)>,
    replies: HashMap<(MessageId, u16), Arc<LastReply>>,
    foreign: HashMap<MessageId, Foreign>,
}

impl Log {
    fn record(&mut self, seen: &Seen<'_>, place: Place) {
        let id = seen.id;
        if let Some(foreign) = seen.record.foreign() {
            self.foreign.entry(id).or_insert(foreign);
        }
        match seen.record {
            Record::Message(view) => {
                self.messages.insert(id, ListedMessage::new(place, &view));
            }
            Record::Attempt(schedule) => {
                for recipient in schedule.recipients() {
                    let latest = self.schedules.entry((id, recipient)).or_default();
                    latest.0 = latest.0.max(schedule.attempts());
                }
            }
            Record::Deferred(schedule) => {
                for recipient in schedule.recipients() {
                    let latest = self.schedules.entry((id, recipient)).or_default();
                    if is_order(schedule.time()) || schedule.attempts() >= latest.0 {
                        *latest = (latest.0.max(schedule.attempts()), schedule.time());
                    }
                }
                self.said(id, schedule.fields(), schedule.recipients());
            }
            Record::Outcome(outcomes) => {
                self.outcomes
                    .extend(outcomes.outcomes().map(|(recipient, outcome)| (id, recipient, outcome)));
                self.said(id, outcomes.fields(), outcomes.outcomes().map(|(recipient, _)| recipient));
            }
            Record::Foreign(_) | Record::Other => {}
        }
    }

    fn said(&mut self, id: MessageId, fields: Fields<'_>, to: impl Iterator<Item = u16> + Clone) {
        let told = replies::told(record::read_said(fields).into_iter(), to);
        self.replies.extend(told.map(|(recipient, reply)| ((id, recipient), reply)));
    }

    fn finish(mut self) -> Vec<ListedMessage> {
        let schedules = self.schedules.iter().map(|(&(id, recipient), &(attempts, not_before))| {
            (id, recipient, RecipientState::Queued { attempts, not_before })
        });
        let outcomes = self.outcomes.iter();
        let outcomes =
            outcomes.map(|&(id, recipient, outcome)| (id, recipient, RecipientState::Done(outcome)));
        for (id, recipient, state) in schedules.chain(outcomes) {
            let message = self.messages.get_mut(&id);
            if let Some(recipient) =
                message.and_then(|message| message.recipients.get_mut(usize::from(recipient)))
            {
                recipient.state = state;
            }
        }
        for ((id, recipient), reply) in self.replies {
            let message = self.messages.get_mut(&id);
            let recipients = message.map(|message| &mut message.recipients);
            if let Some(recipient) = recipients.and_then(|all| all.get_mut(usize::from(recipient))) {
                recipient.reply = Some(reply);
            }
        }
        for (id, foreign) in self.foreign {
            if let Some(message) = self.messages.get_mut(&id) {
                message.foreign = Some(foreign);
            }
        }
        let mut messages: Vec<_> = self.messages.into_values().collect();
        messages.sort_unstable_by_key(|message| message.id);
        messages
    }
}
