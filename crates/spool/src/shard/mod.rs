mod commit;
mod compaction;
mod loading;
pub(crate) mod noting;
pub(crate) mod sealing;
pub(crate) mod watch;

use std::collections::VecDeque;

use mail::MessageId;
use mail::limits::INLINE_BODY_BYTES_MAX;
use ring::{Arena, BLOCK_BYTES, Completion, Disk, Ring};

use crate::fence;
use crate::footer::Summary;
use crate::format::Last;
use crate::group::{GroupBuffer, GroupEffects, Pool};
use crate::hot::Hot;
use crate::index::Index;
use crate::large::{LargeFiles, large_name};
use crate::place::{
    HOME, KIND_COMMIT, KIND_COPY, KIND_FOOTER, KIND_IDENTIFY, KIND_LARGE_READ, KIND_LARGE_WRITE, KIND_LOAD,
    KIND_PREPARE, KIND_REMOVE, Tokens,
};
use crate::recovery::{RecoveryReport, recover};
use crate::replay::RecoveredMail;
use crate::scan::shard_directory;
use crate::segment::{self, Need, Prepared, Purpose, Segments};
use crate::shard::commit::InFlight;
use crate::shard::compaction::Compaction;
use crate::shard::loading::Load;
use crate::shard::sealing::Sealing;
use crate::shard::watch::{Watch, is_gone};
use crate::{
    Event, GROUP_BYTES_MAX, MessageKey, Options, Place, RECORD_BYTES_MAX, RecoveryProgress, Refusal,
    SpoolError, Stats,
};

/// The largest segment: offsets in it are kept in 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// The fewest segments that can work: one to write, one in reserve, one to take its place.
pub(crate) const SEGMENTS_MIN: u64 = 3;

/// Records that no mail waits for may fill the open group a little further, so that an outcome is rarely refused.
const GROUP_EXTRA_BYTES: u64 = 256 << 10;

/// The durable log of one worker. See the crate for how it is driven.
#[derive(Debug)]
pub struct Shard {
    pub(crate) tokens: Tokens,
    pub(crate) segments: Segments,
    pub(crate) index: Index,
    pub(crate) hot: Hot,
    pub(crate) pool: Pool,
    pub(crate) large: LargeFiles,
    pub(crate) open: GroupBuffer,
    pub(crate) open_effects: GroupEffects,
    /// The fields of a record that is being written.
    pub(crate) fields: Vec<u8>,
    pub(crate) in_flight: Option<InFlight>,
    /// Effects of the group in flight; kept apart so that its vectors are used again.
    pub(crate) in_flight_effects: GroupEffects,
    pub(crate) loads: Arena<Load>,
    pub(crate) events: VecDeque<Event>,
    /// The records of the segment that is written.
    pub(crate) summary: Summary,
    /// Memory for the next one.
    pub(crate) spare_summary: Summary,
    pub(crate) sealing: Option<Sealing>,
    pub(crate) compaction: Compaction,
    pub(crate) watch: Watch,
    /// Of the next group.
    pub(crate) epoch: u64,
    /// The last group that was sealed.
    pub(crate) last: Last,
    /// A client was told to come again after the next commit.
    pub(crate) refused_busy: bool,
    pub(crate) latched: bool,
    pub(crate) groups: u64,
    pub(crate) committed: u64,
    pub(crate) report: RecoveryReport,
}

impl Shard {
    /// Opens a shard, creating or recovering it, by blocking calls; also gives what is queued, oldest first.
    ///
    /// The caller owns the spool: see [`crate::claim`].
    ///
    /// # Errors
    /// When the options cannot work, the files are not a shard of this version, or the system refuses. With
    /// [`SpoolError::UnderWay`] nothing was read, and nothing is left open: try again in a while.
    pub fn open<D: Disk>(disk: &mut D, options: Options) -> Result<(Self, RecoveredMail), SpoolError> {
        Self::open_watched(disk, options, &RecoveryProgress::default())
    }

    /// The same, while another thread may look how far it is.
    ///
    /// # Errors
    /// As [`Shard::open`].
    pub fn open_watched<D: Disk>(
        disk: &mut D,
        options: Options,
        progress: &RecoveryProgress,
    ) -> Result<(Self, RecoveredMail), SpoolError> {
        fence::pass(disk, &shard_directory(&options.directory, options.shard), progress)?;
        let opened = Self::open_at(disk, options, HOME, progress)?;
        progress.end(&opened.0.report.damage);
        Ok(opened)
    }

    /// The same for the shard in this place of a worker's spool, to which all writes have ended.
    pub(crate) fn open_at<D: Disk>(
        disk: &mut D,
        options: Options,
        place: u8,
        progress: &RecoveryProgress,
    ) -> Result<(Self, RecoveredMail), SpoolError> {
        check(&options)?;
        let tokens = Tokens { room: options.token_room, place };
        let (mut state, recovered) = recover(disk, &options, progress)?;
        let directory = shard_directory(&options.directory, options.shard);
        let current = state.segments[state.current as usize].file;
        state.report.is_direct = disk.is_direct(current).map_err(SpoolError::io("look at", &directory))?;
        let large = LargeFiles::new(directory.clone(), tokens, state.next_large, state.large_bodies);
        let mut segments = Segments {
            directory,
            shard: options.shard,
            segment_bytes: state.identity.segment_bytes,
            capacity_bytes: options.capacity_bytes,
            salt: state.identity.salt,
            ready: segment::ready_in_order(&state.segments),
            list: state.segments,
            next_number: state.next_number,
            current: state.current,
            position: state.position,
            next_epoch: state.next_epoch + 1,
            large_bytes: large.bytes,
            lent_bytes: 0,
            lent_segments: 0,
            segments_max: options.segments_max,
            is_adopted: place != HOME,
            busy: 0,
            live_bytes: 0,
            spare: 0,
            promised: 0,
            copies_are_vain: false,
            token: tokens.numbered(KIND_PREPARE, 0),
            preparing: None,
            retry_at: None,
            zeros: None,
        };
        segments.refresh();
        let shard = Self {
            tokens,
            segments,
            index: state.index,
            hot: Hot::new(options.hot_bytes_max),
            pool: Pool::default(),
            large,
            open: GroupBuffer::default(),
            open_effects: GroupEffects::default(),
            fields: Vec::new(),
            in_flight: None,
            in_flight_effects: GroupEffects::default(),
            loads: Arena::default(),
            events: VecDeque::new(),
            summary: state.summary,
            spare_summary: Summary::default(),
            sealing: None,
            compaction: Compaction::new(options.compaction_bytes_per_second),
            watch: Watch::default(),
            epoch: state.next_epoch,
            last: state.last,
            refused_busy: false,
            latched: false,
            groups: 0,
            committed: 0,
            report: state.report,
        };
        Ok((shard, recovered))
    }

    /// Its number: that of its worker, where it has one.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.segments.shard
    }

    /// What the recovery found and did.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// The id of a queued message, and where its record lies; the latter is missing until its group is on its way.
    #[must_use]
    pub fn find(&self, key: MessageKey) -> Option<(MessageId, Option<Place>)> {
        let entry = self.index.get(key)?;
        let segment = self.segments.list.get(entry.segment as usize);
        let place = segment.map(|segment| Place {
            shard: self.segments.shard,
            segment: segment.number,
            offset: entry.offset,
            length: entry.length,
        });
        Some((entry.id(), place))
    }

    /// Everything noted so far is durable once [`Stats::groups`] has come to this.
    #[must_use]
    pub fn groups_noted(&self) -> u64 {
        self.groups + u64::from(self.in_flight.is_some()) + u64::from(!self.open.is_empty())
    }

    /// Whether a message would find room now.
    ///
    /// # Errors
    /// [`Refusal::Full`] past the watermark, [`Refusal::Latched`] after a failed write, [`Refusal::Vanished`]
    /// while files have vanished.
    pub fn accepts_mail(&self) -> Result<(), Refusal> {
        if self.latched {
            return Err(Refusal::Latched);
        }
        self.check_names()?;
        // What most messages fit in: past the watermark a few small ones might still, and need not.
        let usual_bytes = (self.segments.segment_bytes / 8).min(INLINE_BODY_BYTES_MAX as u64);
        let usual = Need { group: usual_bytes, footer: self.summary.disk_bytes(1, 1024), own_footer: 0 };
        match self.segments.room(usual, Purpose::Mail) {
            Err(Refusal::Full) => Err(Refusal::Full),
            _ => Ok(()),
        }
    }

    /// Whether a message of `bytes` (SIZE) may be expected to find room.
    ///
    /// # Errors
    /// As [`Shard::accepts_mail`].
    pub fn accepts_bytes(&self, bytes: u64) -> Result<(), Refusal> {
        self.accepts_mail()?;
        let free = self.segments.spare.saturating_sub(self.segments.lent());
        let free = free.saturating_mul(self.segments.segment_bytes);
        if bytes > free { Err(Refusal::Full) } else { Ok(()) }
    }

    /// Begins the next write if none is under way, and the work behind it. To be called at the end of a turn, and
    /// within one that is long.
    pub fn flush<R: Ring>(&mut self, ring: &mut R) {
        // Once they have vanished, the names may be another's.
        self.large.tidy(ring, !self.watch.has_vanished);
        if self.latched {
            return;
        }
        self.watch(ring);
        // First, since what it puts into the open group may be urgent and nothing else wake the worker.
        self.compact(ring);
        if self.in_flight.is_none() && self.open_effects.urgent && !self.open.is_empty() {
            self.write_group(ring);
        }
        self.seal_on(ring);
        self.segments.prepare(ring, self.refused_busy, !self.watch.has_vanished);
    }

    /// Takes the end of an operation of this room.
    pub fn complete<R: Ring>(&mut self, ring: &mut R, completion: Completion) {
        let Completion::File { token, result, file, buffer } = completion else { return };
        let (handle, number) = (token.handle, token.handle.index());
        match token.kind {
            KIND_COMMIT => {
                #[cfg(feature = "mutants")]
                let Some(result) = self.retried(ring, result) else { return };
                self.commit(result);
            }
            KIND_PREPARE => {
                match self.segments.prepared(ring, result, file) {
                    Prepared::UnderWay => return,
                    Prepared::Ready | Prepared::Failed(None) => {}
                    Prepared::Failed(Some((path, error)))
                        if self.watch.interval.is_some() && is_gone(&error) =>
                    {
                        self.vanish(path);
                    }
                    Prepared::Failed(Some((path, error))) => {
                        self.events.push_back(Event::WriteFailed { path, error, is_quarantined: false });
                    }
                    Prepared::HeaderFailed(slot, error) => {
                        self.segment_write_failed(slot, error);
                        self.segments.refresh();
                    }
                }
                self.tell_room();
            }
            KIND_LOAD => self.loaded(ring, handle, result, buffer),
            KIND_FOOTER => self.footer_written(number, result, buffer),
            KIND_COPY => self.copy_read(number, result, buffer),
            KIND_LARGE_WRITE => {
                let end = (result, file, buffer);
                let failure = self.large.written(ring, handle, end, &mut self.pool, &mut self.events);
                self.count_large();
                if let Some((number, error)) = failure {
                    self.latch(self.segments.directory.join(large_name(number)), error);
                }
            }
            KIND_LARGE_READ => {
                let end = (result, file, buffer);
                self.large.piece_read(ring, handle, end, &mut self.pool, &mut self.events);
            }
            KIND_REMOVE => self.large.removed(),
            KIND_IDENTIFY => self.identified(ring, number, result),
            _ => {}
        }
    }

    /// What happened since the last call; `None` when there is nothing more.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Nothing that a caller waits for is open or on its way.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.in_flight.is_none() && !self.open_effects.urgent && self.large.is_idle()
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            messages: self.index.len() as u64,
            used_bytes: self.segments.used_bytes(),
            capacity_bytes: self.segments.capacity_bytes,
            live_bytes: self.segments.live_bytes,
            compacted_bytes: self.compaction.moved_bytes(),
            hot_bytes: self.hot.bytes() as u64,
            groups: self.groups,
            committed: self.committed,
            latched: self.latched,
            vanished: self.watch.has_vanished,
        }
    }

    /// It was adopted, nothing is queued in it or under way, and nothing in it is to be looked at.
    pub(crate) fn is_drained(&self) -> bool {
        self.index.len() == 0
            && self.idle()
            && !self.latched
            && !self.watch.has_vanished
            && self.large.is_still()
            && self.loads.is_empty()
            && self.events.is_empty()
            && self.sealing.is_none()
            && self.segments.is_still()
    }

    pub(crate) fn check_names(&self) -> Result<(), Refusal> {
        if self.watch.has_vanished { Err(Refusal::Vanished) } else { Ok(()) }
    }

    /// What the open group takes with some more records: how many, and what a footer repeats of them.
    pub(crate) fn need(&self, bytes: usize, (records, outline_bytes): (usize, usize)) -> Need {
        let (open_records, open_bytes) = self.open.outlines();
        let (records, outline_bytes) = (open_records + records, open_bytes + outline_bytes);
        Need {
            group: self.open.disk_bytes_with(bytes),
            footer: self.summary.disk_bytes(records, outline_bytes),
            own_footer: Summary::default().disk_bytes(records, outline_bytes),
        }
    }

    /// Whether `bytes` of records, of which a footer repeats `outlines`, go into the open group.
    pub(crate) fn room(
        &mut self,
        bytes: usize,
        outlines: (usize, usize),
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        if self.latched {
            return Err(Refusal::Latched);
        }
        let need = self.need(bytes, outlines);
        let group = need.group;
        let extra = if purpose == Purpose::Mail { 0 } else { GROUP_EXTRA_BYTES };
        let group_max = GROUP_BYTES_MAX as u64 + extra;
        let has_it_alone = self.open.is_empty() && group <= RECORD_BYTES_MAX as u64;
        let found = if group <= group_max || has_it_alone {
            self.segments.room(need, purpose)
        } else if self.open.is_empty() {
            Err(Refusal::Full)
        } else {
            Err(Refusal::Busy)
        };
        if found == Err(Refusal::Busy) {
            self.refused_busy = true;
            // Room comes with the next commit: there must be one.
            self.open_effects.urgent |= !self.open.is_empty();
        }
        found
    }
}

fn check(options: &Options) -> Result<(), SpoolError> {
    let Options { segment_bytes, capacity_bytes, .. } = *options;
    if segment_bytes % BLOCK_BYTES as u64 != 0
        || !(4 * BLOCK_BYTES as u64..=SEGMENT_BYTES_MAX).contains(&segment_bytes)
    {
        return Err(SpoolError::Options(format!(
            "a segment of {segment_bytes} bytes cannot work; use a multiple of {BLOCK_BYTES} up to {SEGMENT_BYTES_MAX}"
        )));
    }
    let least = crate::capacity_bytes_min(segment_bytes);
    if capacity_bytes < least {
        return Err(SpoolError::Options(format!(
            "a spool capacity of {capacity_bytes} bytes for a worker is too small; it needs {least} at least"
        )));
    }
    Ok(())
}
