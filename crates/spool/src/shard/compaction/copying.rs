//! What lives in a victim on its way to the segment that is written: read, put into the open group, taken over
//! when that is durable.

use std::ops::Range;

use ring::{AlignedBuffer, BLOCK_BYTES, Ring};

use super::{Copy, PRESSED_PAUSE, Phase, READS_MAX, Victim};
use crate::fail_point::fail_point;
use crate::footer;
use crate::format::{Trailer, padded};
use crate::group::GroupEffects;
use crate::index::Entry;
use crate::place::KIND_COPY;
use crate::record::{self, MessageView, Record, Scheduled};
use crate::references;
use crate::segment::{FooterState, Purpose};
use crate::shard::Shard;
use crate::shard::noting::is_order;
use crate::{Damage, Event, MessageKey, Refusal};

/// Places in the index that are looked at in one turn of a worker.
const SLOTS_PER_TURN: u32 = 4096;

/// The token of the read of a footer; records have the smaller keys.
const FOOTER_KEY: u32 = READS_MAX as u32;

impl Shard {
    /// Begins to read messages of the victim, from `slot` of the index on; gives what comes next.
    pub(super) fn walk<R: Ring>(&mut self, ring: &mut R, segment: u32, mut slot: u32) -> Option<Phase> {
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
    pub(super) fn put_copies(&mut self) {
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
    pub(super) fn put_outcomes(
        &mut self,
        segment: u32,
        buffer: AlignedBuffer,
        mut rest: Range<usize>,
    ) -> Option<Phase> {
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
