//! Whether the files of a shard still bear their names.
//!
//! A file that is open can be read and written when its name is gone, its directory was replaced or its file
//! system was unmounted; only the next start would find nothing. So a look asks, by ring operations, a few at
//! a time, which file each name leads to. While one leads elsewhere no new mail is promised anything and no
//! name is made or removed; deliveries go on from what is open. When all names are back, so is the shard.
//!
//! Without names there are no new segments either. Outcomes that find no room in those that there are stay in
//! memory, so that what was delivered is neither sent again nor called lost; a bounce, which would be a promise,
//! waits for the files.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use mail::MessageId;
use ring::{Disk, Instant, OpenMode, Ring};

use crate::large::large_name;
use crate::place::KIND_IDENTIFY;
use crate::shard::Shard;
use crate::{Event, MessageKey, Outcome, Refusal};

/// Between two looks: what vanishes is seen within a second.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Segments, and large bodies, that one look asks about; of more each look takes the next ones, and the segment
/// that is written always. A shard of 16 GiB is looked at whole, and a look costs a millisecond at most.
const FILES_A_LOOK_MAX: usize = 256;

/// Questions under way at once, each in a thread of the kernel's.
const QUESTIONS_MAX: usize = 8;

/// The looks at a shard's files.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Without it there is no look.
    pub(crate) interval: Option<Duration>,
    /// When the next look begins.
    due: Instant,
    /// What this look has still to ask about.
    left: Vec<Target>,
    asked: [Option<Target>; QUESTIONS_MAX],
    /// Where the next look goes on among the segments, and among the large bodies.
    next_segment: usize,
    next_large: usize,
    /// A name of this look that leads elsewhere.
    missing: bool,
    /// Looks in a row that found each name they asked about.
    clean_looks: usize,
    /// A name leads elsewhere, and since then the looks have not found all of them.
    pub(crate) has_vanished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// By its slot.
    Segment(u32),
    /// By its number.
    Large(u64),
}

impl Watch {
    fn is_under_way(&self) -> bool {
        !self.left.is_empty() || self.asked.iter().any(Option::is_some)
    }

    /// When the next look begins; one that is under way goes on with its completions.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.interval.filter(|_| !self.is_under_way()).map(|_| self.due)
    }
}

impl Shard {
    /// Begins a look when it is time, and asks on.
    pub(crate) fn watch<R: Ring>(&mut self, ring: &mut R) {
        let Some(interval) = self.watch.interval else { return };
        if !self.watch.is_under_way() {
            if ring.now() < self.watch.due {
                return;
            }
            self.watch.due = ring.now().after(interval);
            self.begin_look();
        }
        while let Some(free) = self.watch.asked.iter().position(Option::is_none)
            && let Some(target) = self.watch.left.pop()
        {
            ring.identify_file(&self.path_of(target), self.tokens.numbered(KIND_IDENTIFY, free as u32));
            self.watch.asked[free] = Some(target);
        }
    }

    fn begin_look(&mut self) {
        let Watch { left, next_segment, next_large, missing, .. } = &mut self.watch;
        *missing = false;
        let segments = self.segments.list.len();
        let from = if segments > FILES_A_LOOK_MAX { *next_segment % segments } else { 0 };
        let some = (from..segments).chain(0..from).take(FILES_A_LOOK_MAX);
        left.extend(some.map(|slot| Target::Segment(slot as u32)));
        *next_segment = from + FILES_A_LOOK_MAX;
        let bodies = self.large.named_count();
        let from = if bodies > FILES_A_LOOK_MAX { *next_large % bodies } else { 0 };
        let some = self.large.named_numbers().skip(from).chain(self.large.named_numbers().take(from));
        left.extend(some.take(FILES_A_LOOK_MAX).map(Target::Large));
        *next_large = from + FILES_A_LOOK_MAX;
        left.push(Target::Segment(self.segments.current));
    }

    /// A question was answered.
    pub(crate) fn identified<R: Ring>(&mut self, ring: &mut R, asked: u32, result: std::io::Result<usize>) {
        let Some(target) = self.watch.asked.get_mut(asked as usize).and_then(Option::take) else { return };
        let is_elsewhere = match (target, &result) {
            (Target::Segment(slot), Ok(found)) => {
                let file = self.segments.list[slot as usize].file;
                ring.identity(file).is_ok_and(|own| own != *found)
            }
            // It has gone with its message.
            (Target::Large(number), _) if !self.large.is_named(number) => false,
            (Target::Large(_), Ok(_)) => false,
            (_, Err(error)) => is_gone(error),
        };
        if is_elsewhere {
            self.vanish(self.path_of(target));
        }
        if !self.watch.is_under_way() {
            self.end_look();
        }
        // The rest of this look, or the next one, where this one has taken long.
        self.watch(ring);
    }

    /// Where one look does not take all names, one that finds its own says nothing of the others.
    fn end_look(&mut self) {
        if self.watch.missing {
            return;
        }
        self.watch.clean_looks += 1;
        let names = self.segments.list.len().max(self.large.named_count());
        let are_all = self.watch.clean_looks >= names.div_ceil(FILES_A_LOOK_MAX);
        if are_all && std::mem::take(&mut self.watch.has_vanished) {
            self.events.push_back(Event::Returned);
            // What could not be prepared for want of a directory can be now.
            self.segments.retry_at = None;
        }
    }

    /// There is no such name any more; the next look says whether it has come back.
    pub(crate) fn vanish(&mut self, path: PathBuf) {
        self.watch.missing = true;
        self.watch.clean_looks = 0;
        if !std::mem::replace(&mut self.watch.has_vanished, true) {
            self.events.push_back(Event::Vanished { path });
        }
    }

    fn path_of(&self, target: Target) -> PathBuf {
        match target {
            Target::Segment(slot) => self.segments.path(slot),
            Target::Large(number) => self.segments.directory.join(large_name(number)),
        }
    }

    /// A message whose client is told to come again, since its files had vanished before its group was written.
    pub(crate) fn withdraw(&mut self, key: MessageKey, recipients: u16) {
        let outcomes: Vec<_> = (0..recipients).map(|recipient| (recipient, Outcome::Failed)).collect();
        if self.outcomes(key, &outcomes, &[], None).is_err() {
            // Should the files come back, it is delivered once more than its client knows of.
            self.bury(key);
        }
    }

    /// An outcome was refused, and nothing gives it room before the files return.
    pub(crate) fn is_out_of_room(&mut self, refusal: Refusal) -> bool {
        // A group that is open takes its own room with it: the next one may fit elsewhere.
        let comes_soon = refusal == Refusal::Busy && !self.open.is_empty();
        let is_out = self.watch.has_vanished
            && !comes_soon
            && refusal != Refusal::Latched
            && !self.segments.may_give_room();
        // What waits is offered again with whatever gives room after all.
        self.refused_busy |= is_out;
        is_out
    }

    /// Notes outcomes for which there is no room in the files: the messages go out once in this life, whatever the next
    /// one finds should the files come back.
    pub(crate) fn settle_unwritten(&mut self, key: MessageKey, outcomes: &[(u16, Outcome)]) {
        let Some(entry) = self.index.get_mut(key) else { return };
        for &(recipient, outcome) in outcomes {
            entry.recipients.settle(recipient, outcome);
        }
        entry.deferral.is_under_way = false;
        if entry.outcomes_open == 0 && entry.recipients.all_settled() {
            self.bury(key);
            self.segments.refresh();
        }
    }

    /// The queued messages that the next start would not find, by blocking calls.
    pub(crate) fn lost<D: Disk>(&self, disk: &mut D) -> Vec<MessageId> {
        let has_vanished = |target: Target, disk: &mut D| {
            let opened = disk.open(&self.path_of(target), OpenMode::default());
            let found = opened.and_then(|file| {
                let found = disk.identity(file);
                disk.close_file(file);
                found
            });
            match (target, found) {
                (Target::Segment(slot), Ok(found)) => {
                    let file = self.segments.list[slot as usize].file;
                    disk.identity(file).is_ok_and(|own| own != found)
                }
                (_, Err(error)) => is_gone(&error),
                (Target::Large(_), Ok(_)) => false,
            }
        };
        let segments: Vec<bool> = (0..self.segments.list.len() as u32)
            .map(|slot| {
                self.segments.list[slot as usize].live > 0 && has_vanished(Target::Segment(slot), disk)
            })
            .collect();
        let bodies: HashSet<MessageId> = (self.index.large_bodies())
            .filter(|&(number, _)| has_vanished(Target::Large(number), disk))
            .map(|(_, id)| id)
            .collect();
        let queued =
            (0..self.index.slot_count()).filter_map(|slot| self.index.at(slot)).filter(|(_, entry)| {
                let is_queued = !entry.recipients.all_settled();
                let has_no_record = segments.get(entry.segment as usize).copied().unwrap_or(false);
                is_queued && (has_no_record || bodies.contains(&entry.id()))
            });
        queued.map(|(_, entry)| entry.id()).collect()
    }
}

/// There is no such name, not even a part of it: anything else says nothing of the file.
pub(crate) fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound, StaleNetworkFileHandle};
    matches!(error.kind(), NotFound | NotADirectory | StaleNetworkFileHandle)
}
