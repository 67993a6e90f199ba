//! From the files of a shard to its state: what is queued, where writing goes on, what is damaged.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mail::{LastReply, MessageId, UnixMillis};
use ring::{AlignedBuffer, BLOCK_BYTES, Disk, OpenMode};

use crate::fail_point::fail_point;
use crate::fence;
use crate::footer::Summary;
use crate::format::{Identity, Last, SegmentHeader};
use crate::index::Index;
use crate::large::large_name;
use crate::removal;
use crate::replay::{RecoveredMail, Replay};
use crate::scan::{self, Damage, Reading, Scan, Scanned};
use crate::segment::{self, FooterState, Segment};
use crate::shard::sealing;
use crate::{Foreign, MessageKey, Options, RecoveryProgress, SpoolError};

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
    pub tenant: Arc<str>,
    /// Who still waits for it.
    pub pending: Vec<PendingRecipient>,
    /// Why it must not be delivered by this version. It stays in its place; its recipients may not be all.
    pub foreign: Option<Foreign>,
}

impl Recovered {
    /// What was last said of the recipient of this index.
    #[must_use]
    pub fn reply(&self, recipient: u16) -> Option<LastReply> {
        let found = self.pending.binary_search_by_key(&recipient, |pending| pending.recipient).ok()?;
        self.pending[found].reply.as_deref().cloned()
    }
}

/// A recipient without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRecipient {
    /// Its index in the envelope.
    pub recipient: u16,
    /// Its domain.
    pub domain: Arc<str>,
    /// Attempts that were noted.
    pub attempts: u16,
    /// It was deferred until then; [`crate::HELD`] where an operator holds it, 0 when it was not.
    pub not_before: UnixMillis,
    /// What was last said of it.
    pub reply: Option<Arc<LastReply>>,
}

/// What a recovery did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Groups are written past the page cache (O_DIRECT), each by one durable write; false where the file
    /// system refuses that, and each is a buffered write and then an fdatasync.
    pub is_direct: bool,
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
    /// Queued messages of which a record is not understood, and which are not delivered: see [`Recovered::foreign`].
    pub foreign: usize,
    /// Large bodies that no queued message named, removed.
    pub orphans_removed: usize,
    /// The same, kept: something is damaged, and they may be of messages whose records cannot be read.
    pub orphans_kept: usize,
}

impl RecoveryReport {
    /// Takes in what was found in another shard.
    pub(crate) fn add(&mut self, other: &Self) {
        self.segments += other.segments;
        self.groups += other.groups;
        self.messages += other.messages;
        self.possible_duplicates += other.possible_duplicates;
        self.damage.extend_from_slice(&other.damage);
        self.bodies_missing.extend_from_slice(&other.bodies_missing);
        self.foreign += other.foreign;
        self.orphans_removed += other.orphans_removed;
        self.orphans_kept += other.orphans_kept;
    }
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
    /// The last group.
    pub(crate) last: Last,
    /// What the current segment holds.
    pub(crate) summary: Summary,
    pub(crate) index: Index,
    /// Bodies of queued messages, with their length on disk.
    pub(crate) large_bodies: HashMap<u64, u64>,
    pub(crate) next_large: u64,
    pub(crate) report: RecoveryReport,
}

/// Opens and reads the shard of `options`, creating it when it is not there.
pub(crate) fn recover<D: Disk>(
    disk: &mut D,
    options: &Options,
    progress: &RecoveryProgress,
) -> Result<(State, RecoveredMail), SpoolError> {
    let directory = scan::shard_directory(&options.directory, options.shard);
    let identity = open_directory(disk, &directory, options)?;
    let mut files = scan::files(disk, &directory)?;
    if files.has_temporary {
        let path = directory.join(scan::TEMPORARY_NAME);
        disk.remove(&path).map_err(SpoolError::io("remove", path))?;
    }
    let mut state = State {
        identity,
        segments: Vec::new(),
        next_number: files.segments.last().map_or(0, |(number, _)| number + 1),
        current: 0,
        position: 0,
        next_epoch: 1,
        last: Last { epoch: 0, sequence: 0, crc: 0 },
        summary: Summary::default(),
        index: Index::default(),
        large_bodies: HashMap::new(),
        next_large: files.large.iter().max().map_or(1, |number| number + 1),
        report: RecoveryReport::default(),
    };
    scan::in_order(disk, &directory, &mut files, state.identity.salt)?;
    let mut replay = Replay::default();
    let mut latest = None;
    let mut empty = Vec::new();
    progress.begin(files.segments.len());
    for (number, name) in files.segments {
        let file = (number, directory.join(name));
        read_segment(disk, file, &mut state, &mut replay, &mut latest, &mut empty)?;
        progress.segment_read(replay.messages());
    }
    fail_point!("mid-recovery");
    let recovered = replay.finish(&mut state);
    tidy_large(disk, &directory, &files.large, &mut state)?;
    choose_current(disk, &directory, &mut state, latest, &empty)?;
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
        sync_names(disk, directory)?;
        return Ok(identity);
    }
    if removal::is_remains(disk, directory)? {
        // It was drained while it had no worker, and has one again.
        removal::remove_now(disk, directory)?;
        disk.create_directory(directory).map_err(SpoolError::io("create", directory))?;
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
    sync_names(disk, directory)?;
    Ok(identity)
}

/// Makes durable under which names the files of a shard are found. Not only where it is new: a process that
/// was killed between the renaming of a segment and this leaves it to the next one, which would fill a
/// segment that a power cut takes away.
fn sync_names<D: Disk>(disk: &mut D, directory: &Path) -> Result<(), SpoolError> {
    for directory in directory.ancestors().take(3).filter(|above| !above.as_os_str().is_empty()) {
        disk.sync_directory(directory).map_err(SpoolError::io("sync", directory))?;
    }
    Ok(())
}

/// Where the latest group stands: its segment and the end behind it.
struct Latest {
    slot: u32,
    end: u64,
    last: Last,
    is_sealed: bool,
}

fn read_segment<D: Disk>(
    disk: &mut D,
    (number, path): (u32, PathBuf),
    state: &mut State,
    replay: &mut Replay,
    latest: &mut Option<Latest>,
    empty: &mut Vec<u32>,
) -> Result<(), SpoolError> {
    let (slot, path) = (state.segments.len() as u32, path.as_path());
    let mode = OpenMode { write: true, create_new: false, direct: true };
    let file = disk.open(path, mode).map_err(SpoolError::io("open", path))?;
    fence::lock(disk, file).map_err(SpoolError::io("lock", path))?;
    // Read through the page cache; written directly.
    let reader = disk.open(path, OpenMode::default()).map_err(SpoolError::io("open", path))?;
    let length = scan::usable_length(disk, reader, path)?;
    state.segments.push(Segment::new(file, number, 0));
    let salt = state.identity.salt;
    replay.begin(slot);
    let scanned = Scan { disk, file: reader, path, salt, length }
        .run(Reading::Footers, |seen| replay.take(state, &seen));
    disk.close_file(reader);
    let Scanned { header, last, end, groups, sealed_at, damage } = scanned?;
    let epoch = header.map_or(0, |header| header.epoch);
    let quarantined = !damage.is_empty() || length < state.identity.segment_bytes;
    state.report.segments += 1;
    state.report.groups += groups;
    state.report.damage.extend(damage);
    state.next_epoch = state.next_epoch.max(epoch + 1);
    let segment = &mut state.segments[slot as usize];
    (segment.epoch, segment.quarantined) = (epoch, quarantined);
    if let Some(at) = sealed_at {
        segment.footer = FooterState::There { at };
    }
    if let Some(last) = last {
        state.next_epoch = state.next_epoch.max(last.epoch + 1);
        if latest.as_ref().is_none_or(|latest| last.sequence > latest.last.sequence) {
            let now = Latest { slot, end, last, is_sealed: sealed_at.is_some() };
            if let Some(Latest { slot, end, last, is_sealed: false }) = latest.replace(now)
                && let segment = &mut state.segments[slot as usize]
                && !segment.quarantined
            {
                let added = sealing::add_footer(disk, &state.identity, segment, (end, last), &state.summary);
                added.map_err(SpoolError::io("write", path))?;
            }
            state.last = last;
            replay.keep_summary(&mut state.summary);
        }
    } else if header.is_some() && !quarantined {
        empty.push(slot);
    }
    Ok(())
}

/// Measures the large bodies of queued messages, and removes those that no message names; where something is damaged
/// they stay, and count against the capacity: the record that names one may be what is damaged.
fn tidy_large<D: Disk>(
    disk: &mut D,
    directory: &Path,
    present: &[u64],
    state: &mut State,
) -> Result<(), SpoolError> {
    let mut named: HashMap<u64, MessageId> = state.index.large_bodies().collect();
    let is_sound = !state.segments.iter().any(|segment| segment.quarantined);
    for &number in present {
        let path = directory.join(large_name(number));
        let is_named = named.remove(&number).is_some();
        if is_named || !is_sound {
            state.report.orphans_kept += usize::from(!is_named);
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
    state.report.bodies_missing.extend(named.into_values());
    state.report.bodies_missing.sort_unstable();
    Ok(())
}

/// Writing goes on behind the latest group, or in an empty segment, or in a new one.
fn choose_current<D: Disk>(
    disk: &mut D,
    directory: &Path,
    state: &mut State,
    latest: Option<Latest>,
    empty: &[u32],
) -> Result<(), SpoolError> {
    let block = BLOCK_BYTES as u64;
    let mut empty = empty.to_vec();
    empty.sort_unstable_by_key(|&slot| state.segments[slot as usize].epoch);
    match latest {
        Some(Latest { slot, end, is_sealed: false, .. }) if !state.segments[slot as usize].quarantined => {
            (state.current, state.position) = (slot, end);
            make_ready(state, &empty);
            return Ok(());
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
            state.segments.push(Segment::new(file, number, header.epoch));
        }
    }
    // The summary is of the segment that is not written any more.
    state.summary.clear();
    make_ready(state, &empty);
    Ok(())
}

fn make_ready(state: &mut State, empty: &[u32]) {
    for &slot in empty {
        state.segments[slot as usize].ready = true;
    }
}
