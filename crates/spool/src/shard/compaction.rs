//! Emptying segments in which little lives, so that one message that waits for days does not hold a whole one.
//!
//! One victim at a time: its live messages are copied to the segment that is written, each with what
//! is known of its recipients; then the outcomes that it holds of messages elsewhere. When the copies
//! are durable nothing lives in it, and it is used again like any other. A copy is the record as it
//! was, byte for byte, and its checksum was right: what is damaged stays where it is.
//!
//! What is read and written for it stays within a budget of bytes a second. It comes to an end: what copies
//! have filled is no victim again before something of it has died.

use std::ops::Range;
use std::time::Duration;

use ring::{AlignedBuffer, BLOCK_BYTES, Instant, Ring};

use crate::fail_point::fail_point;
use crate::footer;
use crate::format::{Trailer, padded};
use crate::group::GroupEffects;
use crate::index::Entry;
use crate::place::KIND_COPY;
use crate::record::{self, MessageView, Record, Scheduled};
use crate::references;
use crate::segment::{FooterState, Purpose, Segment, Segments};
use crate::shard::Shard;
use crate::shard::noting::is_order;
use crate::{Damage, Event, MessageKey, Refusal};

/// Records that are read at once.
const READS_MAX: usize = 8;

/// Places in the index that are looked at in one turn of a worker.
const SLOTS_PER_TURN: u32 = 4096;

/// Between two looks for a victim, and before a victim is walked through once more.
const PAUSE: Duration = Duration::from_secs(1);

/// The same while mail is refused, or about to be.
const PRESSED_PAUSE: Duration = Duration::from_millis(50);

/// Between two steps with a victim, when nothing else wakes the worker.
const PACE: Duration = Duration::from_millis(1);

/// What was not used is saved up to this part of a second's worth, so that no second takes much more.
const SAVED_PART: u64 = 8;

/// Segments that were full only now empty themselves as their mail goes out.
const YOUNG: Duration = Duration::from_secs(10);

/// Mail is about to be refused when this part of the capacity is left to it, and a segment.
const PRESSED_PART: u64 = 16;

/// What lives in at most this part of a segment costs so little to copy that its age decides.
const CHEAP_PART: u64 = 8;

/// Segments that may stand by, in which nothing lives: this part of the capacity, but no more than so many.
const SLACK_PART: u64 = 16;
const SLACK_MAX: u64 = 4;

/// Copies are written when the open group has so many bytes, or this part of a segment, or when no more come:
/// each group costs a header and up to a block of padding.
const GATHERED_BYTES: u64 = 64 << 10;
const GATHERED_PART: u64 = 8;

/// What a footer repeats of one copy, about.
const OUTLINE_BYTES: u64 = 256;

/// The token of the read of a footer; records have the smaller keys.
const FOOTER_KEY: u32 = READS_MAX as u32;

#[derive(Debug)]
pub(crate) struct Compaction {
    bytes_per_second: u64,
    /// Bytes that may be read or written now; below 0 a debt, since a record is read whole or not at all.
    allowance: i64,
    refilled: Option<Instant>,
    look_at: Option<Instant>,
    victim: Option<Victim>,
    copies: [Copy; READS_MAX],
    moved_bytes: u64,
}

#[derive(Debug)]
struct Victim {
    segment: u32,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The index is walked through for its messages; next comes this slot.
    Messages(u32),
    /// Its footer is being read.
    Footer,
    /// Outcomes are copied out of its footer; the next is found here.
    Outcomes(AlignedBuffer, Range<usize>),
    /// All outcomes are in groups; their write ends.
    Last,
    /// Outcomes of the rest of its messages are on their way to the disk. It is walked through again then.
    Waiting(Instant),
}

#[derive(Debug, Default)]
enum Copy {
    #[default]
    Free,
    Reading {
        key: MessageKey,
        skip: usize,
    },
    /// It waits for room in the open group.
    Read {
        key: MessageKey,
        buffer: AlignedBuffer,
        record: Range<usize>,
    },
}

impl Compaction {
    /// `bytes_per_second`: what may be read and written; 0 for nothing at all.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            allowance: 0,
            refilled: None,
            look_at: None,
            victim: None,
            copies: Default::default(),
            moved_bytes: 0,
        }
    }

    /// Bytes read and written since the start.
    pub(crate) fn moved_bytes(&self) -> u64 {
        self.moved_bytes
    }

    fn refill(&mut self, now: Instant) {
        let since = self.refilled.map_or(PAUSE, |at| now.since(at)).min(PAUSE);
        let more = u128::from(self.bytes_per_second) * since.as_nanos() / 1_000_000_000;
        if more > 0 {
            let most = i64::try_from(self.bytes_per_second.div_ceil(SAVED_PART)).unwrap_or(i64::MAX);
            self.allowance = self.allowance.saturating_add_unsigned(more as u64).min(most);
            self.refilled = Some(now);
        }
    }

    fn spend(&mut self, bytes: u64) {
        self.allowance = self.allowance.saturating_sub_unsigned(bytes);
        self.moved_bytes += bytes;
    }

    fn is_copying(&self) -> bool {
        self.copies.iter().any(|copy| !matches!(copy, Copy::Free))
    }
}

impl Segments {
    /// More is held by segments than twice what lives in them, beyond some slack; or mail finds no room.
    fn wants_compaction(&self) -> bool {
        let slack = (self.capacity_bytes / self.segment_bytes / SLACK_PART).min(SLACK_MAX);
        let full = self.busy.saturating_sub(1 + slack);
        full * self.segment_bytes > 2 * self.live_bytes || self.is_pressed()
    }

    /// Mail is refused, or is about to be.
    fn is_pressed(&self) -> bool {
        let margin = 1 + self.slots(self.capacity_bytes) / PRESSED_PART;
        self.spare.saturating_sub(self.lent()) <= self.reserve() + margin
    }

    /// The segment that costs least to empty; of those that cost little the oldest, since the outcomes
    /// in later ones speak of its messages, and are of no more use once these have moved.
    ///
    /// `rest`: what copies may take of the segment that is written.
    fn victim(&self, now: Instant, rest: u64) -> Option<u32> {
        let is_pressed = self.is_pressed();
        let is_due = |segment: &Segment| {
            let is_old = segment.sealed_at.is_none_or(|at| now.since(at) >= YOUNG);
            (is_old || is_pressed) && segment.footer != FooterState::Coming
        };
        let cheap = self.segment_bytes / CHEAP_PART;
        let candidates = self.candidates(rest).filter(|(_, segment)| is_due(segment));
        let least = candidates.min_by_key(|(_, segment)| (segment.live_bytes.max(cheap), segment.epoch))?;
        Some(least.0)
    }

    /// The segments that are worth emptying, now or when they have their footer.
    fn candidates(&self, rest: u64) -> impl Iterator<Item = (u32, &Segment)> {
        // A full spool is worth the copying of more for less: small groups leave gaps, copies leave none.
        let (live_sixteenths, packed_sixteenths) = match self.is_pressed() {
            // No outcome can be noted, so that nothing dies.
            true if self.is_out_of_room() => (15, 15),
            true => (12, 12),
            false => (8, 12),
        };
        let live_max = self.segment_bytes / 16 * live_sixteenths;
        // Half of it elsewhere would free nothing, and take the room in which another could be emptied.
        let room = rest + self.spare * self.copies_a_segment();
        let is_candidate = move |&(slot, segment): &(u32, &Segment)| {
            let holds = segment.live > 0 || segment.has_references();
            let can_be_freed = !segment.has_references() || segment.footer != FooterState::Missing;
            slot != self.current
                && holds
                && can_be_freed
                && !(segment.quarantined || segment.ready)
                && !segment.is_packed(packed_sixteenths)
                && segment.live_bytes <= live_max
                && self.copied_bytes(slot) <= room
        };
        (0..).zip(&self.list).filter(is_candidate)
    }

    /// There is nothing but what is kept for copies.
    fn is_out_of_room(&self) -> bool {
        self.spare <= self.kept_for_copies()
    }

    /// What copies out of a segment take at most, with what a footer repeats of them and their padding.
    fn copied_bytes(&self, slot: u32) -> u64 {
        let segment = &self.list[slot as usize];
        let groups = segment.live_bytes / self.gathered_bytes() + 2;
        let outcomes = match segment.footer {
            // Each as a record, and in the footer of the segment that it goes to.
            FooterState::There { at } if segment.has_references() => 2 * (self.segment_bytes - u64::from(at)),
            _ => 0,
        };
        segment.live_bytes + u64::from(segment.live) * OUTLINE_BYTES + groups * BLOCK_BYTES as u64 + outcomes
    }

    /// Copies are written when they are so many.
    fn gathered_bytes(&self) -> u64 {
        GATHERED_BYTES.min(self.segment_bytes / GATHERED_PART)
    }

    /// What a whole segment takes of copies at least: its header and trailer, and a group that does not fit
    /// at its end, are not for them.
    pub(crate) fn copies_a_segment(&self) -> u64 {
        self.segment_bytes.saturating_sub(2 * BLOCK_BYTES as u64 + self.gathered_bytes())
    }
}

impl Shard {
    /// Goes on with the victim, or looks for one.
    pub(crate) fn compact<R: Ring>(&mut self, ring: &mut R) {
        let now = ring.now();
        if self.compaction.victim.is_none() {
            self.promise(now);
            let is_time = self.compaction.look_at.is_none_or(|at| now >= at);
            if self.compaction.bytes_per_second == 0 || !is_time || !self.segments.wants_compaction() {
                return;
            }
            let victim = self.segments.victim(now, self.rest());
            let pause = match victim {
                Some(_) if self.segments.is_out_of_room() => PACE,
                Some(_) if self.segments.is_pressed() => PRESSED_PAUSE,
                _ => PAUSE,
            };
            self.compaction.look_at = Some(now.after(pause));
            let Some(segment) = victim else { return };
            self.compaction.victim = Some(Victim { segment, phase: Phase::Messages(0) });
        }
        self.compaction.refill(now);
        self.put_copies();
        let Some(Victim { segment, phase }) = self.compaction.victim.take() else { return };
        let phase = match phase {
            Phase::Messages(slot) => self.walk(ring, segment, slot),
            Phase::Outcomes(buffer, rest) => self.put_outcomes(segment, buffer, rest),
            Phase::Waiting(until) if now >= until => Some(Phase::Messages(0)),
            waiting @ (Phase::Footer | Phase::Last | Phase::Waiting(_)) => Some(waiting),
        };
        self.compaction.victim = phase.map(|phase| Victim { segment, phase });
        let victim = self.compaction.victim.as_ref();
        self.segments.promised = victim.map_or(0, |victim| self.segments.copied_bytes(victim.segment));
        self.hurry_copies();
    }

    /// What copies may take of the segment that is written.
    fn rest(&self) -> u64 {
        let (records, outline_bytes) = self.open.outlines();
        let footer = self.summary.disk_bytes(records, outline_bytes);
        self.segments.segment_bytes.saturating_sub(self.segments.position + self.open_bytes() + footer)
    }

    /// What the open group takes on the disk.
    fn open_bytes(&self) -> u64 {
        if self.open.is_empty() { 0 } else { self.open.disk_bytes_with(0) }
    }

    /// Between two victims. Where there is no room but what is kept for copies, outcomes leave alone what the
    /// next one takes; where none could be emptied, they have it all.
    fn promise(&mut self, now: Instant) {
        (self.segments.promised, self.segments.copies_are_vain) = (0, false);
        if self.compaction.bytes_per_second == 0 || !self.segments.is_out_of_room() {
            return;
        }
        let rest = self.rest();
        let next = self.segments.victim(now, rest);
        self.segments.promised = next.map_or(0, |next| self.segments.copied_bytes(next));
        let are_vain = self.segments.candidates(rest).next().is_none();
        self.segments.copies_are_vain = are_vain;
    }

    /// The copies in the open group are written when they are many, or when no more come.
    fn hurry_copies(&mut self) {
        let effects = &self.open_effects;
        if effects.copies.is_empty() && effects.emptied.is_none() {
            return;
        }
        let more_come = match &self.compaction.victim {
            Some(Victim { phase: Phase::Messages(slot), .. }) => {
                *slot < self.index.slot_count() || self.compaction.is_copying()
            }
            Some(Victim { phase: Phase::Outcomes(..), .. }) => true,
            Some(Victim { phase: Phase::Footer | Phase::Last | Phase::Waiting(_), .. }) | None => false,
        };
        if !more_come || self.open.disk_bytes_with(0) >= self.segments.gathered_bytes() {
            self.open_effects.urgent = true;
        }
    }

    /// When [`Shard::flush`] has something to do unasked.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if self.latched {
            return None;
        }
        let sealing = self.sealing.is_some().then_some(now);
        let preparing = self.segments.retry_at.filter(|&at| at > now);
        let compaction = match &self.compaction.victim {
            Some(Victim { phase: Phase::Messages(_) | Phase::Outcomes(..), .. }) => Some(now.after(PACE)),
            Some(Victim { phase: Phase::Waiting(until), .. }) => Some(*until),
            Some(_) => None,
            None if self.compaction.bytes_per_second > 0 && self.segments.wants_compaction() => {
                Some(self.compaction.look_at.unwrap_or(now))
            }
            None => None,
        };
        [sealing, preparing, compaction, self.watch.next_deadline()].into_iter().flatten().min()
    }

    /// Begins to read messages of the victim, from `slot` of the index on; gives what comes next.
    fn walk<R: Ring>(&mut self, ring: &mut R, segment: u32, mut slot: u32) -> Option<Phase> {
        if self.segments.list[segment as usize].live == 0 {
            slot = self.index.slot_count();
        }
        let end = self.index.slot_count().min(slot.saturating_add(SLOTS_PER_TURN));
        while slot < end && self.compaction.allowance > 0 {
            let Some(free) = self.compaction.copies.iter().position(|copy| matches!(copy, Copy::Free)) else {
                return Some(Phase::Messages(slot));
            };
            let entry =
                self.index.at(slot).filter(|(_, entry)| entry.segment == segment && is_at_rest(entry));
            if let Some((key, entry)) = entry {
                let (offset, length) = (u64::from(entry.offset), entry.length as usize);
                let begin = offset - offset % BLOCK_BYTES as u64;
                let skip = (offset - begin) as usize;
                let bytes = padded((skip + length) as u64) as usize;
                let token = self.tokens.numbered(KIND_COPY, free as u32);
                let buffer = self.pool.take(bytes);
                ring.read_file(self.segments.list[segment as usize].file, begin, buffer, 0..bytes, token);
                self.compaction.copies[free] = Copy::Reading { key, skip };
                self.compaction.spend((bytes + length) as u64);
            }
            slot += 1;
        }
        if slot < self.index.slot_count() || self.compaction.is_copying() || self.is_copy_under_way() {
            return Some(Phase::Messages(slot));
        }
        let victim = &self.segments.list[segment as usize];
        if victim.live > 0 {
            return Some(Phase::Waiting(ring.now().after(PRESSED_PAUSE)));
        }
        match victim.footer {
            FooterState::There { at } if victim.has_references() && self.compaction.allowance > 0 => {
                let bytes = (self.segments.segment_bytes - u64::from(at)) as usize;
                let token = self.tokens.numbered(KIND_COPY, FOOTER_KEY);
                let buffer = self.pool.take(bytes);
                ring.read_file(victim.file, u64::from(at), buffer, 0..bytes, token);
                self.compaction.spend(bytes as u64);
                Some(Phase::Footer)
            }
            FooterState::There { .. } if victim.has_references() => Some(Phase::Messages(slot)),
            _ => {
                self.segments.refresh();
                None
            }
        }
    }

    fn is_copy_under_way(&self) -> bool {
        !(self.open_effects.copies.is_empty() && self.in_flight_effects.copies.is_empty())
    }

    /// A read for the victim ended.
    pub(crate) fn copy_read(
        &mut self,
        key: u32,
        result: std::io::Result<usize>,
        buffer: Option<AlignedBuffer>,
    ) {
        let Some(buffer) = buffer else { return };
        let read = result.unwrap_or(0);
        if key == FOOTER_KEY {
            return self.footer_read(read, buffer);
        }
        let Some(slot) = self.compaction.copies.get_mut(key as usize) else { return };
        let Copy::Reading { key, skip } = std::mem::take(slot) else { return };
        let Some(entry) = self.index.get(key) else { return self.pool.give_back(buffer) };
        let record = skip..skip + entry.length as usize;
        let is_sound = record.end <= read
            && record::sound_length(&buffer[record.clone()]) == Some(record.len())
            && record::id_of(&buffer[record.clone()]) == Some(entry.id());
        if is_sound {
            *slot = Copy::Read { key, buffer, record };
        } else {
            // It stays where it is, with its segment, to be found when it is to be delivered.
            self.pool.give_back(buffer);
            let (segment, offset, bytes) = (entry.segment, entry.offset.into(), entry.length.into());
            self.cannot_be_emptied(segment, offset, bytes);
        }
    }

    fn footer_read(&mut self, read: usize, buffer: AlignedBuffer) {
        let Some(Victim { segment, phase: Phase::Footer }) = self.compaction.victim else {
            return self.pool.give_back(buffer);
        };
        let trailer = read.checked_sub(BLOCK_BYTES).and_then(|at| Trailer::parse(&buffer[at..read]));
        let epoch = self.segments.list[segment as usize].epoch;
        let trailer = trailer.filter(|trailer| {
            let footer = buffer.get(..trailer.length as usize);
            trailer.epoch == epoch
                && footer.is_some_and(|footer| crc32c::crc32c(footer) == trailer.footer_crc)
        });
        // An old order of an operator's must not come behind a later one: such a segment waits until the
        // messages of which it speaks have been copied with what holds for them.
        let has_order = |footer: &[u8]| {
            let outlines = footer::read(footer).unwrap_or_default();
            outlines.iter().any(|outline| match outline.record {
                Record::Deferred(schedule) => is_order(schedule.time()),
                // It may be one.
                Record::Foreign(_) => !record::is_outcome(outline.bytes),
                _ => false,
            })
        };
        let trailer = trailer.filter(|trailer| !has_order(&buffer[..trailer.length as usize]));
        match (trailer, &mut self.compaction.victim) {
            (Some(trailer), Some(victim)) => {
                victim.phase = Phase::Outcomes(buffer, 0..trailer.length as usize)
            }
            _ => {
                self.pool.give_back(buffer);
                self.segments.list[segment as usize].footer = FooterState::Missing;
                self.compaction.victim = None;
            }
        }
    }

    /// A segment is damaged and kept as it is.
    fn cannot_be_emptied(&mut self, segment: u32, offset: u64, bytes: u64) {
        self.compaction.victim.take_if(|victim| victim.segment == segment);
        if !std::mem::replace(&mut self.segments.list[segment as usize].quarantined, true) {
            let path = self.segments.path(segment);
            self.events.push_back(Event::Damaged(Damage { path, offset, bytes }));
            self.segments.refresh();
        }
    }

    /// Puts what was read into the open group, as far as it takes it.
    fn put_copies(&mut self) {
        for slot in 0..READS_MAX {
            if !matches!(self.compaction.copies[slot], Copy::Read { .. }) {
                continue;
            }
            let Copy::Read { key, buffer, record } = std::mem::take(&mut self.compaction.copies[slot]) else {
                continue;
            };
            match self.put_copy(key, &buffer[record.clone()]) {
                Err(Refusal::Busy | Refusal::Full) => {
                    self.compaction.copies[slot] = Copy::Read { key, buffer, record };
                    // In a separate group it may fit.
                    self.open_effects.urgent |= !self.open.is_empty();
                }
                Ok(()) | Err(Refusal::Latched | Refusal::Vanished) => self.pool.give_back(buffer),
            }
        }
    }

    fn put_copy(&mut self, key: MessageKey, record: &[u8]) -> Result<(), Refusal> {
        fail_point!("before-compaction");
        let victim = self.compaction.victim.as_ref().map(|victim| victim.segment);
        let Some(entry) =
            self.index.get(key).filter(|entry| Some(entry.segment) == victim && is_at_rest(entry))
        else {
            return Ok(());
        };
        let id = entry.id();
        let recipients = MessageView::parse(record).map_or(0, |view| view.recipient_count()) as u16;
        let beside = self.beside(entry, recipients);
        let outline = record::outline_length(record);
        let records = 1 + beside.len();
        let more: usize = beside.iter().map(|(_, fields)| record::outline_bytes(fields)).sum();
        let room = self.room(record.len() + more, (records, outline + more), Purpose::Copy);
        if room.is_ok() {
            let before = self.open_bytes();
            self.open.reserve(record.len() + more, &mut self.pool);
            let start = self.open.put_copy(record) as u32;
            for (kind, fields) in &beside {
                self.open.put_record(*kind, id, fields, &[]);
            }
            self.open_effects.copies.push((key, start));
            self.open_effects.records.extend(std::iter::repeat_n(Some(key), records));
            // The record itself was paid for when it was read.
            let written = self.open_bytes() - before;
            self.compaction.spend(written.saturating_sub(record.len() as u64));
        }
        room
    }

    /// What holds for a message beside its record: the type and the fields of each further record.
    fn beside(&self, entry: &Entry, recipients: u16) -> Vec<(u8, Vec<u8>)> {
        let mut beside = Vec::new();
        let outcome = |to| Some((to, entry.recipients.outcome(to)?));
        let outcomes: Vec<_> = (0..recipients).filter_map(outcome).collect();
        if !outcomes.is_empty() {
            let mut fields = Vec::new();
            record::put_outcomes(&mut fields, &outcomes, &[]);
            beside.push((record::kind::OUTCOME, fields));
        }
        let pending: Vec<_> = (0..recipients).filter(|&to| entry.recipients.outcome(to).is_none()).collect();
        let deferral = entry.deferral;
        // An attempt that is under way leaves a hold as it is: where there are both, the copy says both.
        let schedules = [
            deferral.is_noted.then_some(Scheduled::Deferred),
            deferral.is_under_way.then_some(Scheduled::Attempt),
        ];
        for scheduled in schedules.into_iter().flatten() {
            let said = match scheduled {
                Scheduled::Deferred => self.index.replies.of(entry.reply, pending.iter().copied()),
                Scheduled::Attempt => Vec::new(),
            };
            let mut fields = Vec::new();
            record::put_schedule(&mut fields, &pending, deferral.time(), deferral.attempts, &said);
            beside.push((scheduled.kind(), fields));
        }
        beside
    }

    /// Copies outcomes out of the victim's footer into the open group, as far as it takes them.
    fn put_outcomes(&mut self, segment: u32, buffer: AlignedBuffer, mut rest: Range<usize>) -> Option<Phase> {
        while let Some((outline, length)) = footer::first(&buffer[rest.clone()]) {
            if record::is_outcome(outline.bytes) {
                let bytes = outline.bytes.len();
                if self.compaction.allowance <= 0 || self.room(bytes, (1, bytes), Purpose::Copy).is_err() {
                    return Some(Phase::Outcomes(buffer, rest));
                }
                let before = self.open_bytes();
                self.open.reserve(bytes, &mut self.pool);
                self.open.put_copy(outline.bytes);
                self.open_effects.records.push(None);
                self.open_effects.emptied = Some(segment);
                let written = self.open_bytes() - before;
                self.compaction.spend(written);
            }
            rest.start += length;
        }
        self.pool.give_back(buffer);
        if self.open_effects.emptied.is_none() && self.in_flight_effects.emptied.is_none() {
            references::release_references(&mut self.segments.list, segment);
            self.segments.refresh();
            return None;
        }
        Some(Phase::Last)
    }

    /// The copies of a group are durable: they are the messages now.
    pub(crate) fn copied(&mut self, segment: u32, (offset, bytes): (u64, u64), effects: &GroupEffects) {
        let written = &mut self.segments.list[segment as usize];
        written.written += bytes;
        if !effects.copies.is_empty() || effects.emptied.is_some() {
            written.packed += bytes;
        }
        for &(key, start) in &effects.copies {
            fail_point!("mid-compaction");
            let Some(entry) = self.index.get_mut(key) else { continue };
            self.hot.release(entry, &mut self.pool);
            let before = std::mem::replace(&mut entry.segment, segment);
            entry.offset = (offset + u64::from(start)) as u32;
            entry.is_copy = true;
            self.segments.list[before as usize].lose(entry.length);
            self.segments.list[segment as usize].gain(entry.length);
        }
        // Its last outcomes may be in the open group still, behind the one that is durable now.
        let is_emptied = self.open_effects.emptied.is_none();
        let is_over = |victim: &mut Victim| is_emptied && matches!(victim.phase, Phase::Last);
        if let Some(victim) = self.compaction.victim.take_if(is_over) {
            references::release_references(&mut self.segments.list, victim.segment);
        }
    }
}

/// Nothing of it is on its way to the disk, and it is not done.
fn is_at_rest(entry: &Entry) -> bool {
    entry.outcomes_open == 0 && !entry.recipients.all_settled()
}
