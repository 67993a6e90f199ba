//! The segments of a shard: which is written, which are ready, how the next one is prepared.
//!
//! Preparing runs in the background by ring operations, one at a time: a dead segment gets a new
//! header; otherwise a new one is created, filled with zeros, synced and named. A failure of the latter
//! (a full disk) latches nothing: no promise was made. It is told, and tried again after a while.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ring::{
    AlignedBuffer, BLOCK_BYTES, Disk, Durability, File, Instant, OpenMode, Ring, SharedBuffer, Token,
};

use crate::fail_point::fail_point;
use crate::fence;
use crate::format::SegmentHeader;
use crate::references;
use crate::scan;
use crate::{Refusal, SpoolError};

/// Segments kept ready, so that neither mail nor the reserve behind it waits for zeros.
const READY_AHEAD: usize = 2;

/// One zero-filling write: short, since commits queue behind it on the device.
const ZERO_BYTES: usize = 1 << 20;

/// After a failed preparation, when space may have been freed.
const RETRY: Duration = Duration::from_secs(1);

/// One part in so many of the segments, or of the last one, is kept for outcomes and bounces.
const RESERVE_PART: u64 = 8;

/// From so many segments on, one is kept for compaction. A smaller spool can ill afford it.
const SEGMENTS_WITH_COPIES: u64 = 5;

pub(crate) fn segment_name(number: u32) -> String {
    format!("segment-{number:08}.log")
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: File,
    /// In the name of its file.
    pub(crate) number: u32,
    pub(crate) epoch: u64,
    /// Queued messages whose record it holds, and the bytes of those records.
    pub(crate) live: u32,
    pub(crate) live_bytes: u64,
    /// Other segments about whose messages it holds outcomes, one bit each.
    pub(crate) references: Vec<u64>,
    /// Those of them in which messages that it has as copies have an earlier record.
    pub(crate) origins: Vec<u64>,
    /// Bytes of groups in its life; of a former life of the process nothing is known: 0.
    pub(crate) written: u64,
    /// Those of them that compaction has filled, less what died here since: to copy them once more would
    /// free nothing.
    pub(crate) packed: u64,
    /// Damaged: kept as it is.
    pub(crate) quarantined: bool,
    pub(crate) ready: bool,
    pub(crate) footer: FooterState,
    /// When it was full; unknown for one of a former life of the process.
    pub(crate) sealed_at: Option<Instant>,
}

/// Whether a segment ends with a footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FooterState {
    Missing,
    /// It is chosen or written: the segment is not used again meanwhile.
    Coming,
    There {
        /// Where it begins.
        at: u32,
    },
}

impl Segment {
    /// A segment of a new life, or one of which nothing is known yet.
    pub(crate) fn new(file: File, number: u32, epoch: u64) -> Self {
        Self {
            file,
            number,
            epoch,
            live: 0,
            live_bytes: 0,
            references: Vec::new(),
            origins: Vec::new(),
            written: 0,
            packed: 0,
            quarantined: false,
            ready: false,
            footer: FooterState::Missing,
            sealed_at: None,
        }
    }

    /// Takes in a message of `bytes`.
    pub(crate) fn gain(&mut self, bytes: u32) {
        self.live += 1;
        self.live_bytes += u64::from(bytes);
    }

    /// A message of `bytes` is done, or lies elsewhere now.
    pub(crate) fn lose(&mut self, bytes: u32) {
        self.live -= 1;
        self.live_bytes -= u64::from(bytes);
        self.packed = self.packed.saturating_sub(bytes.into());
    }

    /// So much of it, or more, is what compaction has just put there.
    pub(crate) fn is_packed(&self, sixteenths: u64) -> bool {
        self.written > 0 && self.packed >= self.written / 16 * sixteenths
    }

    pub(crate) fn has_references(&self) -> bool {
        self.references.iter().any(|&word| word != 0)
    }
}

/// Who wants room: the later in this list may take what is kept from those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// New messages.
    Mail,
    /// Outcomes, the bounces with them, and what else is noted of queued messages.
    Outcome,
    /// Copies, by which compaction frees a segment.
    Copy,
}

/// What a group takes of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    pub(crate) group: u64,
    /// The footer and trailer of the segment that is written, with this group in it.
    pub(crate) footer: u64,
    /// The same of a segment with this group alone.
    pub(crate) own_footer: u64,
}

#[derive(Debug)]
enum Step {
    Remove,
    Open,
    Allocate,
    Zero(u64),
    Header,
    Sync,
    Rename,
    SyncDirectory,
    /// A new header for a dead segment.
    Recycle(u32),
}

#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) directory: PathBuf,
    pub(crate) shard: u8,
    pub(crate) segment_bytes: u64,
    pub(crate) capacity_bytes: u64,
    pub(crate) salt: u64,
    pub(crate) list: Vec<Segment>,
    /// In the name of the next new file.
    pub(crate) next_number: u32,
    pub(crate) ready: VecDeque<u32>,
    pub(crate) current: u32,
    /// Where the next group goes in the current one.
    pub(crate) position: u64,
    /// The epoch that the next life of a segment takes.
    pub(crate) next_epoch: u64,
    /// Large bodies, which share the capacity.
    pub(crate) large_bytes: u64,
    /// What shards that the same worker adopted take on disk: mail must leave it alone.
    pub(crate) lent_bytes: u64,
    /// And the segments of theirs that are open.
    pub(crate) lent_segments: u64,
    /// The most segments that there may be: each is open.
    pub(crate) segments_max: u64,
    /// It takes no new mail and grows for outcomes alone.
    pub(crate) is_adopted: bool,
    /// Segments that hold something, and those that are ready or could be made so.
    pub(crate) busy: u64,
    /// Bytes of queued messages' records.
    pub(crate) live_bytes: u64,
    pub(crate) spare: u64,
    /// What the copies out of the segment that is emptied, or would be next, still need: outcomes leave it
    /// alone, or that segment could not be emptied, nor any other.
    pub(crate) promised: u64,
    /// No segment can be emptied into the room that there is: what is kept for copies is for outcomes.
    pub(crate) copies_are_vain: bool,
    pub(crate) token: Token,
    pub(crate) preparing: Option<Preparing>,
    pub(crate) retry_at: Option<Instant>,
    pub(crate) zeros: Option<SharedBuffer>,
}

/// How far a preparation is after one of its steps.
#[derive(Debug)]
pub(crate) enum Prepared {
    UnderWay,
    Ready,
    /// No new segment could be made: the file and what the system said, where the time before it could be.
    Failed(Option<(PathBuf, std::io::Error)>),
    /// The new header of a dead segment could not be written.
    HeaderFailed(u32, std::io::Error),
}

/// A segment on its way.
#[derive(Debug)]
pub(crate) struct Preparing {
    /// The operation under way.
    step: Step,
    /// The epoch that the segment will have.
    epoch: u64,
    /// Open, once it is.
    file: Option<File>,
}

impl Segments {
    /// Whether a group has room, with what must be left free for others behind it.
    pub(crate) fn room(&self, bytes: Need, purpose: Purpose) -> Result<(), Refusal> {
        let is_mail = purpose == Purpose::Mail;
        if BLOCK_BYTES as u64 + bytes.group + bytes.own_footer > self.segment_bytes {
            return Err(Refusal::Full);
        }
        // What of the copies finds no room in spare segments goes here.
        let promised = match purpose {
            Purpose::Outcome => self.promised.saturating_sub(self.spare * self.copies_a_segment()),
            Purpose::Mail | Purpose::Copy => 0,
        };
        let fits = self.fits(Need { group: bytes.group + promised, ..bytes });
        let lent = if purpose == Purpose::Mail { self.lent() } else { 0 };
        let left = self.spare.saturating_sub(u64::from(!fits) + lent);
        let kept = match purpose {
            Purpose::Mail => self.reserve(),
            Purpose::Outcome if self.copies_are_vain => 0,
            Purpose::Outcome => self.kept_for_copies(),
            Purpose::Copy => 0,
        };
        if !(fits && purpose != Purpose::Mail) && left < kept {
            return Err(Refusal::Full);
        }
        // The reserve must be there physically: the next segment, or else the end of this one.
        let end = self.segment_bytes - if is_mail { self.segment_bytes / RESERVE_PART } else { 0 };
        let is_there = match self.ready.len() {
            0 => self.position + bytes.group + bytes.footer <= end && !(is_mail && self.retry_at.is_some()),
            _ => true,
        };
        if is_there {
            return Ok(());
        }
        let coming = self.retry_at.is_none() && self.spare > 0;
        Err(if coming { Refusal::Busy } else { Refusal::Full })
    }

    /// How many segments so many bytes may hold.
    pub(crate) fn slots(&self, bytes: u64) -> u64 {
        // A shard that had more before goes on with them, and gets no further ones.
        let segments_max = self.segments_max.max(self.list.len() as u64);
        (bytes / self.segment_bytes).min(segments_max)
    }

    /// Segments' worth of the share that adopted shards take.
    pub(crate) fn lent(&self) -> u64 {
        self.lent_bytes.div_ceil(self.segment_bytes).max(self.lent_segments)
    }

    /// What all its files take on disk, dead segments included.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.list.len() as u64 * self.segment_bytes + self.large_bytes
    }

    /// Nothing is under way on a segment, and none is kept to be looked at.
    pub(crate) fn is_still(&self) -> bool {
        let is_kept = |segment: &Segment| segment.quarantined || segment.footer == FooterState::Coming;
        self.preparing.is_none() && !self.list.iter().any(is_kept)
    }

    /// Segments to keep ready. An adopted shard needs one when the end of the one it writes is near, or
    /// when an outcome `waits` for it.
    fn ready_wanted(&self, waits: bool) -> usize {
        if !self.is_adopted {
            return READY_AHEAD;
        }
        usize::from(waits || self.segment_bytes - self.position < self.segment_bytes / RESERVE_PART)
    }

    /// Segments that mail must leave alone.
    pub(crate) fn reserve(&self) -> u64 {
        (self.slots(self.capacity_bytes) / RESERVE_PART).max(self.kept_for_copies() + 1)
    }

    /// Segments that outcomes leave alone too: with one to copy to, compaction empties another.
    pub(crate) fn kept_for_copies(&self) -> u64 {
        u64::from(self.slots(self.capacity_bytes) >= SEGMENTS_WITH_COPIES)
    }

    fn fits(&self, bytes: Need) -> bool {
        self.position + bytes.group + bytes.footer <= self.segment_bytes
    }

    /// Chooses where a group goes, for which [`Segments::room`] was found.
    pub(crate) fn place(&mut self, bytes: Need) -> (u32, u64) {
        if !self.fits(bytes) {
            fail_point!("mid-rotation");
            let next = self.ready.pop_front().expect("room was found before the group took its records");
            self.list[next as usize].ready = false;
            self.current = next;
            self.position = BLOCK_BYTES as u64;
            self.refresh();
        }
        let offset = self.position;
        self.position += bytes.group;
        (self.current, offset)
    }

    /// Counts the spare segments anew, after something died, was prepared or was removed.
    pub(crate) fn refresh(&mut self) {
        let slots = self.slots(self.capacity_bytes.saturating_sub(self.large_bytes));
        self.busy = (0..self.list.len()).filter(|&index| !self.is_spare(index)).count() as u64;
        self.live_bytes = self.list.iter().map(|segment| segment.live_bytes).sum();
        self.spare = slots.saturating_sub(self.busy);
    }

    /// The file of a segment.
    pub(crate) fn path(&self, slot: u32) -> PathBuf {
        self.directory.join(segment_name(self.list[slot as usize].number))
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.busy * self.segment_bytes + self.large_bytes
    }

    fn is_spare(&self, index: usize) -> bool {
        self.list[index].ready || self.is_dead(index)
    }

    /// Holds no queued message and no outcome whose message record still exists elsewhere.
    fn is_dead(&self, index: usize) -> bool {
        let segment = &self.list[index];
        !segment.ready
            && !segment.quarantined
            && segment.footer != FooterState::Coming
            && index != self.current as usize
            && segment.live == 0
            && !segment.has_references()
    }

    /// A segment is ready, or on its way, or can be used again.
    pub(crate) fn may_give_room(&self) -> bool {
        let is_any_dead = || (0..self.list.len()).any(|index| self.is_dead(index));
        !self.ready.is_empty() || self.preparing.is_some() || is_any_dead()
    }

    fn forget(&mut self, about: u32) {
        for segment in &mut self.list {
            if references::clear(&mut segment.references, about) {
                // Which of its outcomes spoke of those messages is not known; some did.
                segment.packed -= segment.packed / 8;
            }
            references::clear(&mut segment.origins, about);
        }
    }

    /// Begins to prepare the next segment if one is wanted and none is under way; `waits`: a client was
    /// refused for want of one. Unless it `may_create`, dead segments alone are used again.
    pub(crate) fn prepare<R: Ring>(&mut self, ring: &mut R, waits: bool, may_create: bool) {
        if self.preparing.is_some() || self.ready.len() >= self.ready_wanted(waits) {
            return;
        }
        if self.retry_at.is_some_and(|at| ring.now() < at) {
            return;
        }
        let epoch = self.next_epoch;
        if let Some(index) = (0..self.list.len()).find(|&index| self.is_dead(index)) {
            let file = self.list[index].file;
            fail_point!("before-recycle");
            self.write_header(ring, file, epoch, Durability::Durable);
            self.preparing = Some(Preparing { step: Step::Recycle(index as u32), epoch, file: None });
        } else if may_create && self.spare > self.ready.len() as u64 {
            ring.remove_file(&self.directory.join(scan::TEMPORARY_NAME), self.token);
            self.preparing = Some(Preparing { step: Step::Remove, epoch, file: None });
        } else {
            return;
        }
        self.next_epoch += 1;
    }

    /// The next step of the preparation.
    pub(crate) fn prepared<R: Ring>(
        &mut self,
        ring: &mut R,
        result: std::io::Result<usize>,
        opened: Option<File>,
    ) -> Prepared {
        let Some(Preparing { step, epoch, file }) = self.preparing.take() else { return Prepared::UnderWay };
        let file = opened.or(file);
        let result = match opened {
            Some(file) => result.and_then(|_| fence::lock(ring, file).map(|()| 0)),
            None => result,
        };
        let is_expected = |error: &std::io::Error| {
            matches!(step, Step::Remove) && error.kind() == std::io::ErrorKind::NotFound
        };
        if let Some(error) = result.err().filter(|error| !is_expected(error)) {
            if let Some(file) = file {
                ring.close_file(file);
            }
            return self.preparation_failed(ring.now(), &step, error);
        }
        let next = match (step, file) {
            (Step::Recycle(index), _) => {
                fail_point!("mid-recycle");
                let recycled = &mut self.list[index as usize];
                (recycled.epoch, recycled.footer) = (epoch, FooterState::Missing);
                (recycled.written, recycled.packed) = (0, 0);
                recycled.origins.clear();
                self.forget(index);
                self.make_ready(index);
                return Prepared::Ready;
            }
            (Step::SyncDirectory, Some(file)) => {
                self.list.push(Segment::new(file, self.next_number, epoch));
                self.next_number += 1;
                self.make_ready((self.list.len() - 1) as u32);
                return Prepared::Ready;
            }
            (Step::Remove, _) => {
                let mode = OpenMode { write: true, create_new: true, direct: true };
                ring.open_file(&self.directory.join(scan::TEMPORARY_NAME), mode, self.token);
                Step::Open
            }
            (step, Some(file)) => self.fill(ring, step, file, epoch),
            (_, None) => return Prepared::UnderWay,
        };
        self.preparing = Some(Preparing { step: next, epoch, file });
        Prepared::UnderWay
    }

    fn preparation_failed(&mut self, now: Instant, step: &Step, error: std::io::Error) -> Prepared {
        let is_news = self.retry_at.is_none();
        self.retry_at = Some(now.after(RETRY));
        let path = match *step {
            Step::Recycle(index) => return Prepared::HeaderFailed(index, error),
            Step::SyncDirectory => self.directory.clone(),
            _ => self.directory.join(scan::TEMPORARY_NAME),
        };
        Prepared::Failed(is_news.then_some((path, error)))
    }

    /// The steps on a file that is being filled.
    fn fill<R: Ring>(&mut self, ring: &mut R, step: Step, file: File, epoch: u64) -> Step {
        match step {
            Step::Open => {
                ring.allocate_file(file, self.segment_bytes, self.token);
                Step::Allocate
            }
            Step::Allocate => self.zero(ring, file, 0),
            Step::Zero(offset) if offset < self.segment_bytes => {
                fail_point!("new-segment-filling");
                self.zero(ring, file, offset)
            }
            Step::Zero(_) => {
                self.zeros = None;
                self.write_header(ring, file, epoch, Durability::Buffered);
                Step::Header
            }
            Step::Header => {
                ring.sync_file(file, self.token);
                Step::Sync
            }
            Step::Sync => {
                fail_point!("new-segment-unnamed");
                let from = self.directory.join(scan::TEMPORARY_NAME);
                let to = self.directory.join(segment_name(self.next_number));
                ring.rename_file(&from, &to, self.token);
                Step::Rename
            }
            _ => {
                fail_point!("new-segment-named");
                ring.sync_directory_file(&self.directory, self.token);
                Step::SyncDirectory
            }
        }
    }

    fn zero<R: Ring>(&mut self, ring: &mut R, file: File, offset: u64) -> Step {
        let zeros = self.zeros.get_or_insert_with(|| Rc::new(AlignedBuffer::zeroed(ZERO_BYTES))).clone();
        let bytes = (self.segment_bytes - offset).min(ZERO_BYTES as u64);
        ring.write_shared(file, offset, zeros, 0..bytes as usize, Durability::Buffered, self.token);
        Step::Zero(offset + bytes)
    }

    fn write_header<R: Ring>(&mut self, ring: &mut R, file: File, epoch: u64, durability: Durability) {
        let mut block = AlignedBuffer::zeroed(BLOCK_BYTES);
        SegmentHeader { salt: self.salt, epoch }.write(&mut block);
        ring.write_file(file, 0, block, 0..BLOCK_BYTES, durability, self.token);
    }

    fn make_ready(&mut self, index: u32) {
        self.list[index as usize].ready = true;
        self.ready.push_back(index);
        self.retry_at = None;
        self.refresh();
    }
}

/// The segments that are ready, in the order of their epochs.
pub(crate) fn ready_in_order(list: &[Segment]) -> VecDeque<u32> {
    let mut ready: Vec<_> = (0..).zip(list).filter(|(_, segment)| segment.ready).collect();
    ready.sort_unstable_by_key(|(_, segment)| segment.epoch);
    ready.into_iter().map(|(slot, _)| slot).collect()
}

/// Creates a segment by blocking calls, for the first start.
pub(crate) fn create<D: Disk>(
    disk: &mut D,
    directory: &Path,
    number: u32,
    segment_bytes: u64,
    header: SegmentHeader,
) -> Result<File, SpoolError> {
    let temporary = directory.join(scan::TEMPORARY_NAME);
    let path = directory.join(segment_name(number));
    let mode = OpenMode { write: true, create_new: true, direct: true };
    let file = disk.open(&temporary, mode).map_err(SpoolError::io("create", &temporary))?;
    fence::lock(disk, file).map_err(SpoolError::io("lock", &temporary))?;
    let filled = (|| {
        disk.allocate(file, segment_bytes)?;
        let mut block = AlignedBuffer::zeroed(ZERO_BYTES.min(segment_bytes as usize));
        let mut offset = 0;
        while offset < segment_bytes {
            let bytes = (segment_bytes - offset).min(block.len() as u64) as usize;
            disk.write_at(file, offset, &block[..bytes])?;
            offset += bytes as u64;
        }
        header.write(&mut block);
        disk.write_at(file, 0, &block[..BLOCK_BYTES])?;
        disk.sync(file)?;
        disk.rename(&temporary, &path)?;
        disk.sync_directory(directory)
    })();
    filled.map_err(SpoolError::io("create", &path))?;
    Ok(file)
}
