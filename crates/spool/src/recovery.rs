//! From the files of a shard to its state: what is queued, where writing goes on, what is damaged.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use mail::{MessageId, UnixMillis};
use ring::{AlignedBuffer, BLOCK_BYTES, Disk, File, OpenMode};

use crate::fail_point::fail_point;
use crate::format::{Identity, SegmentHeader};
use crate::index::{Entry, Index, Pending};
use crate::large::large_name;
use crate::message::StoredMessage;
use crate::record::Record;
use crate::scan::{self, Damage, Scan};
use crate::segment::{self, Segment};
use crate::{HELD, MessageKey, Options, RELEASED, RecoveryProgress, SpoolError};

/// A queued message that a start found.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Its key in this life of the shard.
    pub key: MessageKey,
    /// Its id.
    pub id: MessageId,
    /// When it came.
    pub arrived: UnixMillis,
    /// The name of its tenant.
    pub tenant: Box<str>,
    /// Its sender is `<>`.
    pub is_notification: bool,
    /// Who still waits for it.
    pub pending: Vec<PendingRecipient>,
}

/// A recipient without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRecipient {
    /// Its index in the envelope.
    pub recipient: u16,
    /// Its domain.
    pub domain: Box<str>,
    /// Attempts that were noted.
    pub attempts: u16,
    /// It was deferred until then; [`HELD`] where an operator holds it, 0 when it was not.
    pub not_before: UnixMillis,
}

/// What a recovery did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments that were read.
    pub segments: usize,
    /// Valid groups in them.
    pub groups: u64,
    /// Queued messages.
    pub messages: usize,
    /// Recipients whose attempt had started and whose outcome is unknown: they may get the message twice.
    pub possible_duplicates: u64,
    /// Damage in the middle of segments; they are kept as they are.
    pub damage: Vec<Damage>,
    /// Queued messages whose large body is missing, and which cannot be delivered.
    pub bodies_missing: Vec<MessageId>,
    /// Large bodies that no queued message named, removed.
    pub orphans_removed: usize,
}

/// The state of a shard as its files have it.
pub(crate) struct State {
    pub(crate) identity: Identity,
    pub(crate) segments: Vec<Segment>,
    pub(crate) next_number: u32,
    /// The segment that is written, and where.
    pub(crate) current: u32,
    pub(crate) position: u64,
    pub(crate) next_epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) last_crc: u32,
    pub(crate) index: Index,
    /// Bodies of queued messages, with their length on disk.
    pub(crate) large_bodies: HashMap<u64, u64>,
    pub(crate) next_large: u64,
    pub(crate) report: RecoveryReport,
}

struct Found {
    segment: u32,
    offset: u64,
    length: usize,
    large: u64,
    pending: Pending,
}

#[derive(Default, Clone, Copy)]
struct Progress {
    attempts: u16,
    not_before: UnixMillis,
    in_flight: bool,
}

struct Log<'a> {
    watched: &'a RecoveryProgress,
    messages: HashMap<MessageId, Found>,
    /// Outcomes: segment, message, recipient.
    outcomes: Vec<(u32, MessageId, u16)>,
    /// Where messages are held and released: segment, message.
    orders: Vec<(u32, MessageId)>,
    progress: HashMap<(MessageId, u16), Progress>,
}

impl<'a> Log<'a> {
    fn new(watched: &'a RecoveryProgress) -> Self {
        Self {
            watched,
            messages: HashMap::new(),
            outcomes: Vec::new(),
            orders: Vec::new(),
            progress: HashMap::new(),
        }
    }

    fn record(&mut self, segment: u32, id: MessageId, record: Record<'_>, offset: u64, length: usize) {
        match record {
            Record::Message(view) => {
                let found = Found {
                    segment,
                    offset,
                    length,
                    large: view.large().map_or(0, |large| large.number),
                    pending: Pending::all(view.recipient_count()),
                };
                self.messages.insert(id, found);
                self.watched.message_found();
            }
            Record::Attempt(schedule) => {
                for recipient in schedule.recipients() {
                    let progress = self.progress.entry((id, recipient)).or_default();
                    progress.in_flight = true;
                    progress.attempts = progress.attempts.max(schedule.attempts());
                }
            }
            Record::Deferred(schedule) => {
                let is_order = matches!(schedule.at(), HELD | RELEASED);
                if is_order {
                    self.orders.push((segment, id));
                }
                for recipient in schedule.recipients() {
                    let progress = self.progress.entry((id, recipient)).or_default();
                    // What an operator says counts whatever attempts were noted meanwhile.
                    if schedule.attempts() >= progress.attempts || is_order {
                        progress.in_flight = false;
                        progress.attempts = progress.attempts.max(schedule.attempts());
                        progress.not_before = schedule.at();
                    }
                }
            }
            Record::Outcome(outcomes) => {
                self.outcomes.extend(outcomes.outcomes().map(|(recipient, _)| (segment, id, recipient)));
            }
        }
    }
}

/// Opens and reads the shard of `options`, creating it when it is not there.
pub(crate) fn recover<D: Disk>(
    disk: &mut D,
    options: &Options,
    progress: &RecoveryProgress,
) -> Result<(State, Vec<Recovered>), SpoolError> {
    let directory = scan::shard_directory(&options.directory, options.shard);
    let identity = open_directory(disk, &directory, options)?;
    let mut files = scan::files(disk, &directory)?;
    if files.has_temporary {
        let path = directory.join(segment::TEMPORARY_NAME);
        disk.remove(&path).map_err(SpoolError::io("remove", path))?;
    }
    let mut state = State {
        identity,
        segments: Vec::new(),
        next_number: files.segments.last().map_or(0, |(number, _)| number + 1),
        current: 0,
        position: 0,
        next_epoch: 1,
        sequence: 1,
        last_crc: 0,
        index: Index::default(),
        large_bodies: HashMap::new(),
        next_large: files.large.iter().max().map_or(1, |number| number + 1),
        report: RecoveryReport::default(),
    };
    scan::in_order(disk, &directory, &mut files, identity.salt)?;
    let mut log = Log::new(progress);
    let mut latest = None;
    let mut empty = Vec::new();
    progress.begin(files.segments.len());
    for segment in &files.segments {
        read_segment(disk, &directory, segment, &mut state, &mut log, &mut latest, &mut empty)?;
        progress.segment_read();
    }
    fail_point!("mid-recovery");
    let live_large = apply(&mut state, &mut log);
    tidy_large(disk, &directory, &files.large, &live_large, &mut state)?;
    let recovered = recovered(disk, &mut state, &mut log, &directory, &files)?;
    choose_current(disk, &directory, &mut state, latest, &empty)?;
    progress.end(&state.report.damage);
    fail_point!("end-of-recovery");
    Ok((state, recovered))
}

fn open_directory<D: Disk>(
    disk: &mut D,
    directory: &Path,
    options: &Options,
) -> Result<Identity, SpoolError> {
    disk.create_directory(directory).map_err(SpoolError::io("create", directory))?;
    if let Some(identity) = scan::identity(disk, directory)? {
        if identity.shard != options.shard {
            let detail = format!("it belongs to shard {}; was the directory renamed?", identity.shard);
            return Err(SpoolError::Format { path: directory.join("identity"), detail });
        }
        return Ok(identity);
    }
    if !scan::files(disk, directory)?.segments.is_empty() {
        let detail = "the identity is missing beside segments; restore it from a copy".to_owned();
        return Err(SpoolError::Format { path: directory.join("identity"), detail });
    }
    let identity =
        Identity { shard: options.shard, salt: options.salt, segment_bytes: options.segment_bytes };
    let (temporary, path) = (directory.join("identity.tmp"), directory.join("identity"));
    let mut block = AlignedBuffer::zeroed(BLOCK_BYTES);
    identity.write(&mut block);
    if let Err(error) = disk.remove(&temporary)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(SpoolError::io("remove", temporary)(error));
    }
    let mode = OpenMode { write: true, create_new: true, direct: false };
    let file = disk.open(&temporary, mode).map_err(SpoolError::io("create", &temporary))?;
    let written = disk.write_at(file, 0, &block).and_then(|()| disk.sync(file));
    disk.close_file(file);
    written.map_err(SpoolError::io("write", &temporary))?;
    disk.rename(&temporary, &path).map_err(SpoolError::io("rename", &temporary))?;
    disk.sync_directory(directory).map_err(SpoolError::io("sync", directory))?;
    for above in directory.ancestors().skip(1).take(2).filter(|above| !above.as_os_str().is_empty()) {
        disk.sync_directory(above).map_err(SpoolError::io("sync", above))?;
    }
    Ok(identity)
}

/// Where the latest group stands: its sequence, its segment and the end behind it.
type Latest = Option<(u64, u32, u64)>;

fn read_segment<D: Disk>(
    disk: &mut D,
    directory: &Path,
    (number, name): &(u32, String),
    state: &mut State,
    log: &mut Log<'_>,
    latest: &mut Latest,
    empty: &mut Vec<u32>,
) -> Result<(), SpoolError> {
    let (number, path) = (*number, &directory.join(name));
    let slot = state.segments.len() as u32;
    // Read through the page cache; written directly.
    let reader = disk.open(path, OpenMode::default()).map_err(SpoolError::io("open", path))?;
    let length = scan::usable_length(disk, reader, path)?;
    let salt = state.identity.salt;
    let scanned = Scan { disk, file: reader, path, salt, length }
        .run(|id, record, offset, bytes| log.record(slot, id, record, offset, bytes.len()));
    disk.close_file(reader);
    let scanned = scanned?;
    let mode = OpenMode { write: true, create_new: false, direct: true };
    let file = disk.open(path, mode).map_err(SpoolError::io("open", path))?;
    let epoch = scanned.header.map_or(0, |header| header.epoch);
    state.report.segments += 1;
    state.report.groups += scanned.groups;
    let quarantined = !scanned.damage.is_empty() || length < state.identity.segment_bytes;
    state.report.damage.extend(scanned.damage);
    state.next_epoch = state.next_epoch.max(epoch + 1);
    if let Some(last) = scanned.last {
        state.next_epoch = state.next_epoch.max(last.epoch + 1);
        if latest.is_none_or(|(sequence, ..)| last.sequence > sequence) {
            *latest = Some((last.sequence, slot, scanned.end));
            (state.sequence, state.last_crc) = (last.sequence + 1, last.crc);
        }
    } else if scanned.header.is_some() && !quarantined {
        empty.push(slot);
    }
    let references = Vec::new();
    state.segments.push(Segment { file, number, epoch, live: 0, references, quarantined, ready: false });
    Ok(())
}

/// Applies outcomes to messages; gives the large bodies of those still queued.
fn apply(state: &mut State, log: &mut Log<'_>) -> HashSet<u64> {
    for &(segment, id, recipient) in &log.outcomes {
        if let Some(found) = log.messages.get_mut(&id) {
            found.pending.clear(recipient);
            crate::segment::refer(&mut state.segments, segment, found.segment);
        }
        log.progress.remove(&(id, recipient));
    }
    for (segment, id) in &log.orders {
        if let Some(found) = log.messages.get(id) {
            crate::segment::refer(&mut state.segments, *segment, found.segment);
        }
    }
    let queued = log.messages.values().filter(|found| !found.pending.is_empty());
    queued.map(|found| found.large).filter(|&large| large != 0).collect()
}

fn tidy_large<D: Disk>(
    disk: &mut D,
    directory: &Path,
    present: &[u64],
    live: &HashSet<u64>,
    state: &mut State,
) -> Result<(), SpoolError> {
    for &number in present {
        let path = directory.join(large_name(number));
        if live.contains(&number) {
            let file = disk.open(&path, OpenMode::default()).map_err(SpoolError::io("open", &path))?;
            let length = disk.length(file);
            disk.close_file(file);
            let length = length.map_err(SpoolError::io("measure", &path))?;
            state.large_bodies.insert(number, length);
        } else {
            disk.remove(&path).map_err(SpoolError::io("remove", &path))?;
            state.report.orphans_removed += 1;
        }
    }
    Ok(())
}

/// Puts the queued messages into the index, in the order in which they came.
fn recovered<D: Disk>(
    disk: &mut D,
    state: &mut State,
    log: &mut Log<'_>,
    directory: &Path,
    files: &scan::Files,
) -> Result<Vec<Recovered>, SpoolError> {
    let mut queued: Vec<_> = log.messages.drain().filter(|(_, found)| !found.pending.is_empty()).collect();
    queued.sort_unstable_by_key(|(id, _)| *id);
    let mut recovered = Vec::with_capacity(queued.len());
    for (id, found) in queued {
        if found.large != 0 && !files.large.contains(&found.large) {
            state.report.bodies_missing.push(id);
        }
        let name = &files.segments[found.segment as usize].1;
        let path = directory.join(name);
        let file = state.segments[found.segment as usize].file;
        let message = read_message(disk, file, &found, &path)?;
        let pending: Vec<_> = message
            .recipients()
            .enumerate()
            .map(|(recipient, address)| (recipient as u16, address))
            .filter(|&(recipient, _)| found.pending.contains(recipient))
            .map(|(recipient, address)| {
                let progress = log.progress.get(&(id, recipient)).copied().unwrap_or_default();
                state.report.possible_duplicates += u64::from(progress.in_flight);
                PendingRecipient {
                    recipient,
                    domain: address.domain().into(),
                    attempts: progress.attempts,
                    not_before: progress.not_before,
                }
            })
            .collect();
        state.segments[found.segment as usize].live += 1;
        let key = state.index.insert(Entry {
            segment: found.segment,
            offset: found.offset as u32,
            length: found.length as u32,
            in_group: 0,
            group: 0,
            large: found.large,
            pending: found.pending,
            id: id.to_bytes(),
            outcomes_open: 0,
        });
        recovered.push(Recovered {
            key,
            id,
            arrived: message.arrived(),
            tenant: message.tenant().into(),
            is_notification: message.reverse_path().address().is_none(),
            pending,
        });
    }
    state.report.messages = recovered.len();
    Ok(recovered)
}

fn read_message<D: Disk>(
    disk: &mut D,
    file: File,
    found: &Found,
    path: &PathBuf,
) -> Result<StoredMessage, SpoolError> {
    let mut buffer = AlignedBuffer::zeroed(found.length);
    disk.read_at(file, found.offset, &mut buffer[..found.length]).map_err(SpoolError::io("read", path))?;
    StoredMessage::new(Rc::new(buffer), 0, found.length).ok_or_else(|| SpoolError::Format {
        path: path.clone(),
        detail: "a record changed while it was read; check the disk".to_owned(),
    })
}

/// Writing goes on behind the latest group, or in an empty segment, or in a new one.
fn choose_current<D: Disk>(
    disk: &mut D,
    directory: &Path,
    state: &mut State,
    latest: Latest,
    empty: &[u32],
) -> Result<(), SpoolError> {
    let block = BLOCK_BYTES as u64;
    let mut empty = empty.to_vec();
    empty.sort_unstable_by_key(|&slot| state.segments[slot as usize].epoch);
    match latest {
        Some((_, slot, end)) if !state.segments[slot as usize].quarantined => {
            (state.current, state.position) = (slot, end);
        }
        _ if !empty.is_empty() => (state.current, state.position) = (empty.remove(0), block),
        _ => {
            let header = SegmentHeader { salt: state.identity.salt, epoch: state.next_epoch };
            state.next_epoch += 1;
            let bytes = state.identity.segment_bytes;
            let file = segment::create(disk, directory, state.next_number, bytes, header)?;
            let number = state.next_number;
            state.next_number += 1;
            state.current = state.segments.len() as u32;
            state.position = block;
            state.segments.push(Segment {
                file,
                number,
                epoch: header.epoch,
                live: 0,
                references: Vec::new(),
                quarantined: false,
                ready: false,
            });
        }
    }
    for slot in empty {
        state.segments[slot as usize].ready = true;
    }
    Ok(())
}
