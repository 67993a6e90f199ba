//! One worker: the turn that joins ingress, spool and delivery on one ring.
//!
//! The same code runs on io_uring and in the simulator. A turn takes what the ring completed, what
//! the control plane answered and what is due, and ends by giving the spool's open group to the disk.

use std::io;
use std::time::Duration;

use commons::{Answer, SnapshotCache, WorkerLink, WorkerState};
use delivery::Delivery;
use ingress::Ingress;
use mail::UnixMillis;
use observe::{Event as Recorded, EventLog, Word, WorkerMetrics};
use ring::{Completion, Instant, Ring};
use spool::{Damage, Event, Recovered, Spool};

use crate::events::{
    MessageLost, MessagesLost, SpoolDamaged, SpoolLatched, SpoolRecovered, SpoolReturned,
    SpoolShardNotRemoved, SpoolShardRemoved, SpoolVanished, SpoolWriteFailed,
};

/// The room number of the spool in a token.
pub const SPOOL_ROOM: u8 = 2;

/// How long a turn serves before it gives what there is to the disk and to the ring: about as long as a
/// durable write takes, so that groups become no smaller.
const SERVED_MAX: Duration = Duration::from_micros(200);

/// A drain ends after this at the latest: sooner than those who sent SIGTERM lose their patience.
pub const DRAIN_MAX: Duration = Duration::from_secs(20);
/// Where the next start would not find the spool's files, a drain goes on delivering what is due for so long: half of
/// its time, so that what is under way then ends as well.
const RESCUE_MAX: Duration = Duration::from_secs(10);
/// Messages that the log names when they are lost at the end; the others are counted. A minute's reading, and within
/// what the log takes at once.
const LOST_NAMED_MAX: usize = 1000;

/// Everything that one thread of the data plane owns.
pub struct Worker<R> {
    /// The way to sockets, files and time.
    pub ring: R,
    /// Mail in.
    pub ingress: Ingress,
    /// Mail at rest.
    pub spool: Spool,
    /// Mail out.
    pub delivery: Delivery,
    /// The way to the control plane.
    pub link: WorkerLink,
    /// The published configuration.
    pub snapshots: SnapshotCache,
    /// Counters.
    pub metrics: std::sync::Arc<WorkerMetrics>,
    /// The event log.
    pub log: EventLog,
    /// The completions of a turn; the memory is kept.
    pub completions: Vec<Completion>,
    /// When the durable write under way began, and the shard's counts before it.
    pub commits: Commits,
    /// How far its life is.
    pub life: Life,
}

/// How far a worker's life is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// It serves.
    #[default]
    Serving,
    /// Asked to stop: no new mail. Until then, at the latest, what is queued goes on being tried, for the next start
    /// would not find it; and the end of all is the second moment.
    Rescuing(Instant, Instant),
    /// Asked to stop: no new mail and no further attempts, an end when nothing is under way, and then at the latest.
    Draining(Instant),
}

/// What is remembered between turns to measure the shard's commits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Commits {
    began: Option<Instant>,
    groups: u64,
    messages: u64,
}

/// Borrows the rooms that ingress and delivery work with, field by field.
macro_rules! context {
    ($worker:ident, $room:ident) => {
        &mut $room::Context {
            ring: &mut $worker.ring,
            spool: &mut $worker.spool,
            link: &$worker.link,
            snapshots: &mut $worker.snapshots,
            metrics: &$worker.metrics,
            log: &mut $worker.log,
        }
    };
}

impl<R: Ring> Worker<R> {
    /// Waits for something to do, until the next timer at the latest, and does it; false when it was asked to end and
    /// has nothing left to do, or no more time: peers that never read, or never end, must not hold up the end, and
    /// what is in the spool is safe.
    ///
    /// # Errors
    /// When the ring itself is broken.
    pub fn turn(&mut self) -> io::Result<bool> {
        let limit = match self.life {
            Life::Serving => None,
            Life::Rescuing(until, _) => Some(until),
            Life::Draining(end) => Some(end),
        };
        let deadline = [self.next_deadline(), limit].into_iter().flatten().min();
        self.turn_until(deadline)?;
        let now = self.ring.now();
        if let Life::Rescuing(until, end) = self.life
            && (now >= until || !self.delivery.has_work_before(until))
        {
            self.life = Life::Draining(end);
            self.delivery.drain(context!(self, delivery));
        }
        Ok(match self.life {
            Life::Serving | Life::Rescuing(..) => true,
            Life::Draining(end) => now < end && !self.is_idle(),
        })
    }

    /// One turn, which waits until `deadline`.
    ///
    /// # Errors
    /// When the ring itself is broken.
    pub fn turn_until(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.turn(deadline, &mut completions)?;
        self.serve(&mut completions);
        self.completions = completions;
        self.take_answers();
        self.ingress.tick(context!(self, ingress));
        self.delivery.tick(context!(self, delivery));
        self.take_spool_events();
        self.spool.flush(&mut self.ring);
        self.take_spool_events();
        self.measure_spool();
        self.link.flush();
        self.log.flush();
        Ok(())
    }

    /// Does what is to be done about all that the ring completed. What the disk finished comes first, and
    /// who waited for it has the reply before anybody else is served. Who has pipelined much makes a long
    /// turn: a client that is served in it besides waits neither for its end nor for the disk to be asked then.
    fn serve(&mut self, completions: &mut Vec<Completion>) {
        let mut begin = self.ring.now();
        let mut is_owed = false;
        for completion in completions.drain(..) {
            let is_file = matches!(completion, Completion::File { .. });
            let is_work = matches!(completion, Completion::Received { .. });
            if is_owed && !is_file {
                self.ring.submit();
            }
            is_owed = is_file;
            self.dispatch(completion);
            if is_work && self.ring.clock().since(begin) > SERVED_MAX {
                self.spool.flush(&mut self.ring);
                self.ring.submit();
                begin = self.ring.clock();
            }
        }
    }

    /// Takes up the mail that a former life of the shards left.
    pub fn recover(&mut self, recovered: impl Iterator<Item = Recovered>) {
        for message in recovered {
            self.delivery.recovered(context!(self, delivery), &message);
        }
        self.take_spool_events();
    }

    /// Says in the log and the metrics what the recovery of the shard found, damage above all.
    pub fn report_recovery(&mut self) {
        let (report, now) = (self.spool.recovery(), UnixMillis(self.ring.unix_millis()));
        for damage in &report.damage {
            self.log.record_and_count(&damaged(damage), &self.metrics, now);
        }
        for shard in self.spool.shards() {
            let report = shard.recovery();
            let recovered = SpoolRecovered {
                shard: shard.number().into(),
                writes: Word(if report.is_direct { "direct" } else { "buffered" }),
                segments: report.segments as u64,
                messages: report.messages as u64,
                damaged_places: report.damage.len() as u64,
                bodies_missing: report.bodies_missing.len() as u64,
                not_understood: report.foreign as u64,
                bodies_kept: report.orphans_kept as u64,
                possible_duplicates: report.possible_duplicates,
            };
            self.log.record(&recovered, now);
        }
        self.log.flush();
    }

    /// When the next timer is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let spool = self.spool.next_deadline(self.ring.now());
        [self.ingress.next_deadline(), self.delivery.next_deadline(), spool].into_iter().flatten().min()
    }

    /// Nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.ingress.is_idle() && self.delivery.is_idle() && self.spool.idle()
    }

    /// Ends: leaves the spool so that the next start is quick.
    ///
    /// # Errors
    /// When the spool's last note cannot be written: the next start reads more, and misses nothing.
    pub fn close(mut self) -> io::Result<()> {
        self.ingress.close_log(context!(self, ingress));
        self.report_lost();
        self.log.flush();
        self.spool.close(&mut self.ring)
    }

    /// Names the messages that were promised and will not be found by the next start.
    fn report_lost(&mut self) {
        let lost = self.spool.lost(&mut self.ring);
        if lost.is_empty() {
            return;
        }
        for id in lost.iter().take(LOST_NAMED_MAX) {
            let reason = "its file in the spool was deleted, replaced, renamed or unmounted";
            self.record(&MessageLost { message: *id, reason });
        }
        let named = lost.len().min(LOST_NAMED_MAX) as u64;
        self.record(&MessagesLost { messages: lost.len() as u64, named });
    }

    fn record<E: Recorded<Metrics = ()>>(&mut self, event: &E) {
        self.log.record(event, UnixMillis(self.ring.unix_millis()));
    }

    fn set_state(&self, state: WorkerState) {
        self.link.commons().set_state(self.link.worker(), state);
    }

    fn measure_spool(&mut self) {
        let stats = self.spool.stats();
        self.metrics.set_spool(stats.messages, stats.used_bytes);
        let now = self.ring.now();
        if stats.groups > self.commits.groups {
            let began = self.commits.began.take().unwrap_or(now);
            self.metrics.observe_commit(now.since(began), stats.committed - self.commits.messages);
            self.commits.groups = stats.groups;
            self.commits.messages = stats.committed;
        }
        if self.spool.idle() {
            self.commits.began = None;
        } else {
            self.commits.began.get_or_insert(now);
        }
    }

    fn dispatch(&mut self, completion: Completion) {
        let room = match &completion {
            Completion::Accepted { token, .. }
            | Completion::AcceptPaused { token, .. }
            | Completion::Connected { token, .. }
            | Completion::Received { token, .. }
            | Completion::Ended { token, .. }
            | Completion::Sent { token, .. }
            | Completion::File { token, .. } => token.room,
            Completion::Woken => return,
        };
        match room {
            ingress::ROOM => self.ingress.complete(context!(self, ingress), completion),
            delivery::ROOM => self.delivery.complete(context!(self, delivery), completion),
            _ => {
                self.spool.complete(&mut self.ring, completion);
                self.take_spool_events();
            }
        }
    }

    fn take_answers(&mut self) {
        while let Some(answer) = self.link.answer() {
            match answer {
                Answer::Verified { key, outcome } => {
                    self.ingress.verified(context!(self, ingress), key, outcome);
                }
                Answer::Resolved { key, result, ttl } => {
                    self.delivery.resolved(context!(self, delivery), key, result, ttl);
                }
                Answer::MxHosts { key, result, ttl } => {
                    self.delivery.mx_hosts(context!(self, delivery), key, result, ttl);
                }
                Answer::Recipient { key, finding, ttl } => {
                    self.ingress.recipient_found(context!(self, ingress), key, finding, ttl);
                }
                Answer::Listed { key, client, listing } => {
                    self.ingress.listing_found(context!(self, ingress), key, client, listing);
                }
                Answer::SnapshotChanged => self.ingress.snapshot_changed(),
                Answer::Drain => {
                    self.ingress.drain(context!(self, ingress));
                    let now = self.ring.now();
                    let end = now.after(DRAIN_MAX);
                    if self.spool.stats().vanished {
                        self.life = Life::Rescuing(now.after(RESCUE_MAX), end);
                    } else {
                        self.life = Life::Draining(end);
                        self.delivery.drain(context!(self, delivery));
                    }
                }
            }
        }
    }

    fn take_spool_events(&mut self) {
        let mut room = false;
        while let Some(event) = self.spool.poll() {
            match event {
                Event::Committed { key, waiter, message } => {
                    if let Some(waiter) = waiter {
                        self.ingress.committed(context!(self, ingress), waiter);
                    }
                    self.delivery.enqueue(context!(self, delivery), key, message);
                }
                Event::Room => room = true,
                Event::LargeProgress { waiter, .. } => {
                    self.ingress.large_progress(context!(self, ingress), waiter);
                }
                Event::LargeFinished { waiter, .. } => {
                    self.ingress.large_finished(context!(self, ingress), waiter);
                }
                Event::LargeFailed { waiter, refusal, .. } => {
                    self.ingress.large_failed(context!(self, ingress), waiter, refusal);
                }
                Event::Removed { shard, result } => {
                    let shard = shard.into();
                    match &result {
                        Ok(()) => self.record(&SpoolShardRemoved { shard }),
                        Err(error) => self.record(&SpoolShardNotRemoved { error, shard }),
                    }
                }
                Event::Damaged(damage) => {
                    let now = UnixMillis(self.ring.unix_millis());
                    self.log.record_and_count(&damaged(&damage), &self.metrics, now);
                }
                Event::WriteFailed { path, error, is_quarantined } => {
                    if is_quarantined {
                        self.metrics.add_damaged_place();
                    }
                    self.record(&SpoolWriteFailed { file: &path, error: &error });
                }
                Event::Latched { ref path, ref error } => {
                    self.set_state(WorkerState::Latched);
                    self.record(&SpoolLatched { file: path, error });
                    self.ingress.latched(context!(self, ingress));
                    self.delivery.spool_event(context!(self, delivery), event);
                }
                Event::Withdrawn { waiter } => self.ingress.withdrawn(context!(self, ingress), waiter),
                Event::Vanished { path } => {
                    self.set_state(WorkerState::Vanished);
                    let vanished = SpoolVanished {
                        file: &path,
                        messages: self.spool.stats().messages,
                        effect: "no mail is taken; what is queued goes out from the files that are still open",
                    };
                    self.record(&vanished);
                    self.ingress.vanished(context!(self, ingress));
                }
                Event::Returned => {
                    let stats = self.spool.stats();
                    if !stats.vanished && !stats.latched {
                        self.set_state(WorkerState::Ready);
                    }
                    self.record(&SpoolReturned { messages: stats.messages });
                    self.delivery.spool_event(context!(self, delivery), event);
                }
                other => self.delivery.spool_event(context!(self, delivery), other),
            }
        }
        if room {
            self.ingress.room(context!(self, ingress));
        }
    }
}

fn damaged(damage: &Damage) -> SpoolDamaged<'_> {
    SpoolDamaged { file: &damage.path, offset_bytes: damage.offset, length_bytes: damage.bytes }
}
