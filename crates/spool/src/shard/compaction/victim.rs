//! Which segment is emptied next, whether one should be at all, and what that takes.

use std::time::Duration;

use ring::{BLOCK_BYTES, Instant};

use crate::segment::{FooterState, Segment, Segments};

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

impl Segments {
    /// More is held by segments than twice what lives in them, beyond some slack; or mail finds no room.
    pub(super) fn wants_compaction(&self) -> bool {
        let slack = (self.capacity_bytes / self.segment_bytes / SLACK_PART).min(SLACK_MAX);
        let full = self.busy.saturating_sub(1 + slack);
        full * self.segment_bytes > 2 * self.live_bytes || self.is_pressed()
    }

    /// Mail is refused, or is about to be.
    pub(super) fn is_pressed(&self) -> bool {
        let margin = 1 + self.slots(self.capacity_bytes) / PRESSED_PART;
        self.spare.saturating_sub(self.lent()) <= self.reserve() + margin
    }

    /// The segment that costs least to empty; of those that cost little the oldest, since the outcomes
    /// in later ones speak of its messages, and are of no more use once these have moved.
    ///
    /// `rest`: what copies may take of the segment that is written. Unless the index may be walked through, one
    /// in which no message lives.
    pub(super) fn victim(&self, now: Instant, rest: u64, may_walk: bool) -> Option<u32> {
        let is_pressed = self.is_pressed();
        let is_due = |segment: &Segment| {
            let is_cheap = may_walk || segment.live == 0;
            let is_old = segment.sealed_at.is_none_or(|at| now.since(at) >= YOUNG);
            is_cheap && (is_old || is_pressed) && segment.footer != FooterState::Coming
        };
        let cheap = self.segment_bytes / CHEAP_PART;
        let candidates = self.candidates(rest).filter(|(_, segment)| is_due(segment));
        let least = candidates.min_by_key(|(_, segment)| (segment.live_bytes.max(cheap), segment.epoch))?;
        Some(least.0)
    }

    /// The segments that are worth emptying, now or when they have their footer.
    pub(super) fn candidates(&self, rest: u64) -> impl Iterator<Item = (u32, &Segment)> {
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
    pub(super) fn is_out_of_room(&self) -> bool {
        self.spare <= self.kept_for_copies()
    }

    /// What copies out of a segment take at most, with what a footer repeats of them and their padding.
    pub(super) fn copied_bytes(&self, slot: u32) -> u64 {
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
    pub(super) fn gathered_bytes(&self) -> u64 {
        GATHERED_BYTES.min(self.segment_bytes / GATHERED_PART)
    }

    /// What a whole segment takes of copies at least: its header and trailer, and a group that does not fit
    /// at its end, are not for them.
    pub(crate) fn copies_a_segment(&self) -> u64 {
        self.segment_bytes.saturating_sub(2 * BLOCK_BYTES as u64 + self.gathered_bytes())
    }
}
