//! The way of a group to the disk: sealed, written by one durable write, acknowledged when that ended.

use std::path::PathBuf;
use std::rc::Rc;

use ring::{Durability, Ring, SharedBuffer};

use crate::error::is_want_of_space;
use crate::fail_point::fail_point;
use crate::footer::About;
use crate::format::{GroupHeader, Last};
#[cfg(feature = "mutants")]
use crate::mutant::{self, Mutant};
use crate::place::KIND_COMMIT;
use crate::shard::Shard;
use crate::{Event, MessageKey, StoredMessage, group, record, references};

/// The group whose write is under way.
#[derive(Debug)]
pub(crate) struct InFlight {
    buffer: SharedBuffer,
    /// Its length on disk.
    bytes: u64,
    segment: u32,
    offset: u64,
}

impl Shard {
    /// Seals the open group and begins its write.
    pub(crate) fn write_group<R: Ring>(&mut self, ring: &mut R) {
        let need = self.need(0, (0, 0));
        let bytes = need.group;
        let (full, end) = (self.segments.current, self.segments.position);
        let (segment, offset) = self.segments.place(need);
        if segment != full {
            self.begin_footer(ring, full, end);
        }
        self.epoch = self.epoch.max(self.segments.list[segment as usize].epoch);
        self.segments.next_epoch = self.segments.next_epoch.max(self.epoch + 1);
        let (buffer, header) = self.open.seal(GroupHeader {
            length: 0,
            salt: self.segments.salt,
            epoch: self.epoch,
            sequence: self.last.sequence + 1,
            records: 0,
            previous_crc: self.last.crc,
            records_crc: 0,
            crc: 0,
        });
        self.last = Last::from(&header);
        std::mem::swap(&mut self.open_effects, &mut self.in_flight_effects);
        self.open_effects.clear();
        let buffer = Rc::new(buffer);
        self.place_messages(segment, (offset, bytes), &buffer);
        self.refer(segment);
        self.summarize(segment, offset, &buffer, &header);
        let file = self.segments.list[segment as usize].file;
        let token = self.tokens.numbered(KIND_COMMIT, 0);
        let durability = Durability::Durable;
        #[cfg(feature = "mutants")]
        let durability = if mutant::is(Mutant::SkipFlush) { Durability::Buffered } else { durability };
        fail_point!("before-commit");
        ring.write_shared(file, offset, buffer.clone(), 0..bytes as usize, durability, token);
        self.in_flight = Some(InFlight { buffer, bytes, segment, offset });
    }

    /// Tells the index where the new messages of the group in flight lie.
    fn place_messages(&mut self, segment: u32, (offset, bytes): (u64, u64), buffer: &SharedBuffer) {
        let messages = &self.in_flight_effects.messages;
        if messages.is_empty() {
            return;
        }
        let hot = self.hot.push(buffer.clone(), segment, offset..offset + bytes, messages.len() as u32);
        for &(key, _) in messages {
            if let Some(entry) = self.index.get_mut(key) {
                (entry.segment, entry.group) = (segment, hot);
                entry.offset += offset as u32;
                self.segments.list[segment as usize].gain(entry.length);
            }
        }
    }

    /// Notes which segments must be gone before this one, since it speaks of their messages.
    fn refer(&mut self, segment: u32) {
        let effects = &self.in_flight_effects;
        for &key in effects.outcomes.iter().chain(&effects.holds) {
            if let Some(about) = self.index.get(key).map(|entry| entry.segment) {
                references::refer(&mut self.segments.list, segment, about);
            }
        }
        for &(key, _) in &effects.copies {
            if let Some(origin) = self.index.get(key).map(|entry| entry.segment) {
                references::refer_to_origin(&mut self.segments.list, segment, origin);
            }
        }
        if let Some(emptied) = effects.emptied {
            references::refer_alike(&mut self.segments.list, segment, emptied);
        }
    }

    /// Takes the records of the group in flight into the summary of its segment.
    fn summarize(&mut self, segment: u32, offset: u64, buffer: &SharedBuffer, header: &GroupHeader) {
        let about = self.in_flight_effects.records.iter();
        for (&about, (start, record)) in about.zip(group::records(buffer, header)) {
            let speaks_of_another = |key| {
                record::is_outcome(record)
                    && self.index.get(key).is_none_or(|entry| entry.is_copy || entry.segment != segment)
            };
            let about = match about {
                Some(key) if !speaks_of_another(key) => About::Here(key),
                _ => About::Elsewhere,
            };
            self.summary.note(about, offset + start as u64, record);
        }
    }

    /// The group in flight is durable, or the shard is latched.
    pub(crate) fn commit(&mut self, result: std::io::Result<usize>) {
        let Some(InFlight { buffer, bytes, segment, offset }) = self.in_flight.take() else { return };
        match result {
            Ok(written) if written as u64 == bytes => {}
            Ok(_) => return self.latch(self.segments.path(segment), std::io::ErrorKind::WriteZero.into()),
            Err(error) => return self.latch(self.segments.path(segment), error),
        }
        fail_point!("after-commit-before-250");
        self.groups += 1;
        self.committed += self.in_flight_effects.messages.len() as u64;
        // Where it holds a message it is kept in memory already.
        let is_hot = !self.in_flight_effects.messages.is_empty();
        let mut effects = std::mem::take(&mut self.in_flight_effects);
        #[cfg(feature = "mutants")]
        if mutant::is(Mutant::EarlyAck) {
            effects.messages.clear();
        }
        for &(key, waiter) in &effects.messages {
            let Some(entry) = self.index.get(key) else { continue };
            let start = (u64::from(entry.offset) - offset) as usize;
            let message = StoredMessage::new(buffer.clone(), start, entry.length as usize)
                .expect("the record was written from a valid message");
            if let (Some(waiter), true) = (waiter, self.watch.has_vanished) {
                let recipients = u16::try_from(message.recipient_count());
                self.withdraw(key, recipients.expect("records number recipients with 16 bits"));
                self.events.push_back(Event::Withdrawn { waiter });
                continue;
            }
            self.events.push_back(Event::Committed { key, waiter, message });
        }
        self.copied(segment, (offset, bytes), &effects);
        for &key in &effects.outcomes {
            self.bury_if_done(key);
        }
        effects.clear();
        self.in_flight_effects = effects;
        if is_hot {
            drop(buffer);
        } else {
            self.hot.lend(buffer, &mut self.pool);
        }
        self.hot.fit(&mut self.pool);
        self.segments.large_bytes = self.large.bytes;
        self.segments.refresh();
        self.tell_room();
    }

    /// A message whose outcomes are all durable leaves the index; its bytes are dead.
    fn bury_if_done(&mut self, key: MessageKey) {
        let Some(entry) = self.index.get_mut(key) else { return };
        entry.outcomes_open -= 1;
        if entry.outcomes_open == 0 && entry.recipients.all_settled() {
            self.bury(key);
        }
    }

    /// Forgets a message.
    pub(crate) fn bury(&mut self, key: MessageKey) {
        let Some((entry, large)) = self.index.remove(key) else { return };
        self.hot.release(&entry, &mut self.pool);
        if let Some(segment) = self.segments.list.get_mut(entry.segment as usize) {
            segment.lose(entry.length);
        }
        if let Some(number) = large {
            self.large.remove_later(number);
        }
    }

    pub(crate) fn tell_room(&mut self) {
        if std::mem::take(&mut self.refused_busy) {
            self.events.push_back(Event::Room);
        }
    }

    /// What the device holds after a failed write is unknown: nothing is promised any more.
    pub(crate) fn latch(&mut self, path: PathBuf, error: std::io::Error) {
        if !self.latched {
            self.latched = true;
            self.events.push_back(Event::Latched { path, error });
        }
    }

    /// The durable write of a segment's header or footer failed, and what is in those blocks is unknown: it
    /// latches as any other, unless space was wanting. The segment is not written again.
    pub(crate) fn segment_write_failed(&mut self, slot: u32, error: std::io::Error) {
        self.segments.list[slot as usize].quarantined = true;
        let path = self.segments.path(slot);
        if is_want_of_space(&error) {
            self.events.push_back(Event::WriteFailed { path, error, is_quarantined: true });
        } else {
            self.latch(path, error);
        }
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn acknowledge_early(
        &mut self,
        key: MessageKey,
        waiter: Option<ring::Handle>,
        start: usize,
        length: usize,
    ) {
        if mutant::is(Mutant::EarlyAck) {
            let message = self.early_copy(start, length);
            self.events.push_back(Event::Committed { key, waiter, message });
        }
    }

    /// The end of a group's write, after a second flush where the first one failed.
    #[cfg(feature = "mutants")]
    pub(crate) fn retried<R: Ring>(
        &self,
        ring: &mut R,
        result: std::io::Result<usize>,
    ) -> Option<std::io::Result<usize>> {
        let Some(in_flight) = self.in_flight.as_ref().filter(|_| mutant::is(Mutant::RetryFlush)) else {
            return Some(result);
        };
        match result {
            Ok(_) => Some(Ok(in_flight.bytes as usize)),
            Err(_) => {
                let file = self.segments.list[self.segments.current as usize].file;
                ring.sync_file(file, self.tokens.numbered(KIND_COMMIT, 0));
                None
            }
        }
    }

    /// A message out of the group that is still open.
    #[cfg(feature = "mutants")]
    pub(crate) fn early_copy(&self, start: usize, length: usize) -> StoredMessage {
        let mut copy = ring::AlignedBuffer::zeroed(length);
        copy[..length].copy_from_slice(self.open.bytes(start, length));
        StoredMessage::new(Rc::new(copy), 0, length).expect("just written from a valid message")
    }
}
