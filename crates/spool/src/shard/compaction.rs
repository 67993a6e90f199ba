//! Emptying segments in which little lives, so that one message that waits for days does not hold a whole one.
//!
//! One victim at a time: its live messages are copied to the segment that is written, each with what
//! is known of its recipients; then the outcomes that it holds of messages elsewhere. When the copies
//! are durable nothing lives in it, and it is used again like any other. A copy is the record as it
//! was, byte for byte, and its checksum was right: what is damaged stays where it is.
//!
//! What is read and written for it stays within a budget of bytes a second. It comes to an end: what copies
//! have filled is no victim again before something of it has died.

mod copying;
mod victim;

use std::ops::Range;
use std::time::Duration;

use ring::{AlignedBuffer, Instant, Ring};

use crate::MessageKey;
use crate::shard::Shard;

/// Records that are read at once.
const READS_MAX: usize = 8;

/// Between two victims in which messages live: these are searched for in the whole index, which no budget of
/// bytes holds back. And behind a look that found nothing.
const PAUSE: Duration = Duration::from_secs(1);

/// The same while mail is refused, or about to be, and before a victim is walked through once more.
const PRESSED_PAUSE: Duration = Duration::from_millis(50);

/// Between two steps, when nothing else wakes the worker: with a victim, and from one to the next.
const PACE: Duration = Duration::from_millis(1);

/// What was not used is saved up to this part of a second's worth, so that no second takes much more.
const SAVED_PART: u64 = 8;

#[derive(Debug)]
pub(crate) struct Compaction {
    bytes_per_second: u64,
    /// Bytes that may be read or written now; below 0 a debt, since a record is read whole or not at all.
    allowance: i64,
    refilled: Option<Instant>,
    /// When a victim was looked for last.
    looked: Option<Look>,
    /// When one was found last in which messages live.
    walked: Option<Instant>,
    victim: Option<Victim>,
    copies: [Copy; READS_MAX],
    moved_bytes: u64,
}

/// A look for a victim.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    has_found: bool,
    /// Mail was about to be refused.
    is_pressed: bool,
    /// The segment that was written.
    current: u32,
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
            looked: None,
            walked: None,
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

impl Shard {
    /// Goes on with the victim, or looks for one.
    pub(crate) fn compact<R: Ring>(&mut self, ring: &mut R) {
        let now = ring.now();
        if self.compaction.victim.is_none() {
            self.promise(now);
            if self.next_look(now).is_none_or(|at| now < at) {
                return;
            }
            let may_walk = self.compaction.walked.is_none_or(|at| now >= at.after(self.pause()));
            let victim = self.segments.victim(now, self.rest(), may_walk);
            let (is_pressed, current) = (self.segments.is_pressed(), self.segments.current);
            self.compaction.looked = Some(Look { at: now, has_found: victim.is_some(), is_pressed, current });
            let Some(segment) = victim else { return };
            if self.segments.list[segment as usize].live > 0 {
                self.compaction.walked = Some(now);
            }
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

    /// When to look for a victim; `None` while none is wanted. How long it waits is decided by what is so now:
    /// room may have become scarce since the last look.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        if self.compaction.bytes_per_second == 0 || !self.segments.wants_compaction() {
            return None;
        }
        let Some(look) = self.compaction.looked else { return Some(now) };
        let seen = (look.is_pressed, look.current);
        // Another segment is full, or young ones count from now on.
        let is_news = seen != (self.segments.is_pressed(), self.segments.current);
        let nothing = self.pause().max(PRESSED_PAUSE);
        Some(look.at.after(if look.has_found || is_news { PACE } else { nothing }))
    }

    /// Between two victims in which messages live.
    fn pause(&self) -> Duration {
        match self.segments.is_pressed() {
            true if self.segments.is_out_of_room() => PACE,
            true => PRESSED_PAUSE,
            false => PAUSE,
        }
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
        let next = self.segments.victim(now, rest, true);
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
            None => self.next_look(now),
        };
        [sealing, preparing, compaction, self.watch.next_deadline()].into_iter().flatten().min()
    }
}
