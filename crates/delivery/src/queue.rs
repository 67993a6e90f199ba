//! What is kept in memory of queued mail: messages, their jobs, and the recipients of each job.
//!
//! A job is what one transaction can carry: recipients of one message that go to one site. The
//! texts stay in the spool; here are numbers only, in slabs that grow by pages and are used again, so
//! that a queued message costs a few dozen bytes and a turn never waits for a table that grows.

use std::num::NonZeroU32;
use std::sync::Arc;

use mail::{LastReply, QueueState, UnixMillis};
use ring::{Slab, TimerKey, Wheel};
use spool::MessageKey;

use crate::Timer;
use crate::ages::{AGE_BYTES_MAX, Ages};
use crate::replies::{Replies, ReplyIx};
use crate::tally::Tallies;

/// Recipients of one transaction: what every server must take (RFC 5321 section 4.5.3.1.8).
pub(crate) const RECIPIENTS_PER_TRANSACTION_MAX: usize = 100;

/// What delivery keeps of a queued message, in bytes, the second in which it came included. With what the
/// spool keeps, it stays within 128 (DESIGN.md S7).
pub const MESSAGE_BYTES_MAX: usize = 48;

/// What delivery keeps of each recipient of a queued message, in bytes: the recipient, and in the
/// worst case a job, a place in a site's queue and a timer of its own.
pub const RECIPIENT_BYTES_MAX: usize = 96;

/// A place in a queue that grows by doubling.
const PLACE_BYTES: usize = 2 * size_of::<JobIx>();

const _: () = assert!(MESSAGE_BYTES_MAX + spool::MEMORY_PER_MESSAGE_BYTES_MAX <= 128);
const _: () = assert!(RECIPIENT_BYTES_MAX <= 128);
const _: () = assert!(Slab::<Message>::ENTRY_BYTES + AGE_BYTES_MAX <= MESSAGE_BYTES_MAX);
const _: () = assert!(
    Slab::<Job>::ENTRY_BYTES + Slab::<Recipient>::ENTRY_BYTES + Wheel::<Timer>::TIMER_BYTES + PLACE_BYTES
        <= RECIPIENT_BYTES_MAX
);

impl SiteIx {
    /// No route leads anywhere: the recipients wait to be routed again.
    pub(crate) const NOWHERE: Self = Self(u32::MAX);
}

/// A message in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MessageIx(pub(crate) u32);

/// A job in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct JobIx(pub(crate) u32);

/// A site of this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SiteIx(pub(crate) u32);

/// One message and what is still owed.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) key: MessageKey,
    pub(crate) arrived: UnixMillis,
    /// Recipients without a logged outcome; a message that has none is not here.
    pub(crate) pending: NonZeroU32,
    /// The latest of its jobs.
    first_job: u32,
}

/// Recipients of one message that go to one site together.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) message: MessageIx,
    pub(crate) site: SiteIx,
    first: u32,
    /// The other jobs of the message.
    next_job: u32,
    previous_job: u32,
    pub(crate) recipients: u16,
    /// The configuration by which it was given its site.
    pub(crate) routed: u32,
    /// Attempts that a destination deferred.
    pub(crate) attempts: u16,
    /// The connection broke under it once before anything was heard, and it was sent again at once.
    pub(crate) interrupted: bool,
    /// An operator holds it once the attempt under way is over.
    pub(crate) held: bool,
    /// It is the one that counts of those of its message that go to its site.
    leads: bool,
    /// Places in queues that lead to it; one that it no longer waits in is passed over.
    links: u8,
    state: State,
    /// While it is deferred.
    pub(crate) timer: Option<TimerKey>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It waits for its site, or for an errand.
    Ready,
    /// A connection has it.
    Active,
    /// A timer has it.
    Deferred,
    /// Nothing has it until an operator releases it.
    Held,
    /// Nothing has it: its message is damaged.
    Quarantined,
    /// It is over, but for a place in a queue that still leads to it.
    Void,
}

const STATES: usize = 6;

/// A place in the list of a job's recipients, in ascending order.
#[derive(Debug)]
struct Recipient {
    next: u32,
    index: u16,
    /// What was last said of it.
    reply: ReplyIx,
}

const END: u32 = u32::MAX;

/// Everything that is queued in this worker.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    messages: Slab<Message>,
    jobs: Slab<Job>,
    recipients: Slab<Recipient>,
    /// Recipients by the state of their job.
    counts: [u64; STATES],
    /// The same by site, and which of them fail.
    pub(crate) tallies: Tallies,
    replies: Replies,
    ages: Ages,
}

impl Queue {
    /// Takes a message up, with `pending` recipients that will be given to jobs.
    ///
    /// # Panics
    /// When `pending` is 0.
    pub(crate) fn add_message(&mut self, key: MessageKey, arrived: UnixMillis, pending: u32) -> MessageIx {
        let pending = NonZeroU32::new(pending).expect("a queued message has a recipient");
        self.ages.add(arrived);
        MessageIx(self.messages.insert(Message { key, arrived, pending, first_job: END }))
    }

    /// Makes a job of `recipients`, which ascend.
    pub(crate) fn add_job(
        &mut self,
        message: MessageIx,
        site: SiteIx,
        recipients: impl DoubleEndedIterator<Item = u16>,
        attempts: u16,
        routed: u32,
    ) -> JobIx {
        let (mut first, mut count) = (END, 0);
        for index in recipients.rev() {
            first = self.recipients.insert(Recipient { next: first, index, reply: ReplyIx::NONE });
            count += 1;
        }
        let next_job = self.messages[message.0].first_job;
        // Jobs of a message that go to one site stand side by side.
        let leads = self.jobs.get(next_job).is_none_or(|next| next.site != site);
        let job = Job {
            message,
            site,
            first,
            next_job,
            previous_job: END,
            recipients: count,
            attempts,
            routed,
            interrupted: false,
            held: false,
            leads,
            links: 0,
            state: State::Ready,
            timer: None,
        };
        self.counts[State::Ready as usize] += u64::from(count);
        self.tallies.moved(site, u64::from(count), leads, State::Void, State::Ready);
        let index = self.jobs.insert(job);
        if let Some(next) = self.jobs.get_mut(next_job) {
            next.previous_job = index;
        }
        self.messages[message.0].first_job = index;
        JobIx(index)
    }

    /// The message in a slot, if there is one.
    pub(crate) fn message_at(&self, slot: u32) -> Option<&Message> {
        self.messages.get(slot)
    }

    /// Slots from here on hold no message.
    pub(crate) fn slots(&self) -> u32 {
        self.messages.end()
    }

    /// The jobs of a message, the latest first.
    pub(crate) fn jobs_of(&self, message: MessageIx) -> impl Iterator<Item = JobIx> {
        let mut next = self.messages[message.0].first_job;
        std::iter::from_fn(move || {
            let job = self.jobs.get(next)?;
            Some(JobIx(std::mem::replace(&mut next, job.next_job)))
        })
    }

    /// Notes that a place in a queue leads to a job.
    pub(crate) fn link(&mut self, job: JobIx) {
        self.jobs[job.0].links += 1;
    }

    /// A place in a queue that led to a job is gone; true when the job is over, and no other place does.
    pub(crate) fn unlink(&mut self, job: JobIx) -> bool {
        let job = &mut self.jobs[job.0];
        job.links -= 1;
        job.links == 0 && job.state == State::Void
    }

    pub(crate) fn message(&self, message: MessageIx) -> &Message {
        &self.messages[message.0]
    }

    pub(crate) fn job(&self, job: JobIx) -> &Job {
        &self.jobs[job.0]
    }

    pub(crate) fn job_mut(&mut self, job: JobIx) -> &mut Job {
        &mut self.jobs[job.0]
    }

    /// The indexes of a job's recipients in the message's envelope, ascending.
    pub(crate) fn recipients(&self, job: JobIx) -> impl Iterator<Item = u16> {
        let mut next = self.jobs[job.0].first;
        std::iter::from_fn(move || {
            let recipient = self.recipients.get(next)?;
            next = recipient.next;
            Some(recipient.index)
        })
    }

    /// Takes those recipients out of a job for which `keep` says no; also gives how many are left.
    pub(crate) fn retain(&mut self, job: JobIx, mut keep: impl FnMut(u16) -> bool) -> u16 {
        let job = &mut self.jobs[job.0];
        let (mut before, mut at) = (END, job.first);
        while at != END {
            let Recipient { next, index, reply } = self.recipients[at];
            if keep(index) {
                before = at;
            } else {
                self.recipients.remove(at);
                self.replies.release(reply);
                job.recipients -= 1;
                self.counts[job.state as usize] -= 1;
                self.tallies.moved(job.site, 1, false, job.state, State::Void);
                match self.recipients.get_mut(before) {
                    Some(recipient) => recipient.next = next,
                    None => job.first = next,
                }
            }
            at = next;
        }
        job.recipients
    }

    /// Ends a job, whatever recipients it still has; false when it stays, void, because a place in a queue leads to it.
    pub(crate) fn remove_job(&mut self, job: JobIx) -> bool {
        let index = job.0;
        if self.jobs[index].state != State::Void {
            self.empty(index);
        }
        let is_free = self.jobs[index].links == 0;
        if is_free {
            self.jobs.remove(index);
        }
        is_free
    }

    /// Makes a job void: without recipients, and no longer one of its message's.
    fn empty(&mut self, index: u32) {
        let job = &mut self.jobs[index];
        let Job { message, site, first: mut at, recipients, leads, state, next_job, previous_job, .. } = *job;
        (job.first, job.recipients, job.state) = (END, 0, State::Void);
        self.counts[state as usize] -= u64::from(recipients);
        self.tallies.moved(site, u64::from(recipients), leads, state, State::Void);
        while let Some(recipient) = self.recipients.remove(at) {
            self.replies.release(recipient.reply);
            at = recipient.next;
        }
        let younger = self.jobs.get_mut(previous_job).filter(|younger| leads && younger.site == site);
        if let Some(younger) = younger.filter(|younger| !younger.leads) {
            younger.leads = true;
            self.tallies.message_goes_on(site, younger.state);
        }
        if let Some(next) = self.jobs.get_mut(next_job) {
            next.previous_job = previous_job;
        }
        match self.jobs.get_mut(previous_job) {
            Some(previous) => previous.next_job = next_job,
            None => self.messages[message.0].first_job = next_job,
        }
    }

    /// Notes that `count` recipients of a message have their outcome in the log; the message is
    /// forgotten with the last one.
    pub(crate) fn settled(&mut self, message: MessageIx, count: u32) {
        let entry = &mut self.messages[message.0];
        let pending = entry.pending.get().checked_sub(count).expect("a recipient has one outcome");
        match NonZeroU32::new(pending) {
            Some(pending) => entry.pending = pending,
            None => {
                self.ages.remove(entry.arrived);
                self.messages.remove(message.0);
            }
        }
    }

    /// Notes where a job stands now.
    pub(crate) fn set_state(&mut self, job: JobIx, state: State) {
        let job = &mut self.jobs[job.0];
        let before = std::mem::replace(&mut job.state, state);
        let recipients = u64::from(job.recipients);
        self.counts[before as usize] -= recipients;
        self.counts[state as usize] += recipients;
        self.tallies.moved(job.site, recipients, job.leads, before, state);
    }

    /// Where a job stands.
    pub(crate) fn state(&self, job: JobIx) -> State {
        self.jobs[job.0].state
    }

    /// Recipients whose job stands so.
    pub(crate) fn recipients_in(&self, state: State) -> u64 {
        self.counts[state as usize]
    }

    /// Recipients that stand so, as operators see it.
    pub(crate) fn recipients_shown(&self, shown: QueueState) -> u64 {
        let (count, stalled) = (|state: State| self.counts[state as usize], self.tallies.stalled());
        match shown {
            QueueState::Ready => count(State::Ready) - stalled,
            QueueState::Deferred => count(State::Deferred) + stalled,
            QueueState::Active => count(State::Active),
            QueueState::Held => count(State::Held),
            QueueState::Quarantined => count(State::Quarantined),
        }
    }

    /// Where a job stands, as operators see it: what waits for a site that fails is deferred. What is over
    /// is not shown.
    pub(crate) fn shown(&self, job: JobIx) -> Option<QueueState> {
        match self.state(job) {
            State::Ready if self.is_stalled(job) => Some(QueueState::Deferred),
            State::Ready => Some(QueueState::Ready),
            State::Active => Some(QueueState::Active),
            State::Deferred => Some(QueueState::Deferred),
            State::Held => Some(QueueState::Held),
            State::Quarantined => Some(QueueState::Quarantined),
            State::Void => None,
        }
    }

    /// Whether a job is due and its site fails.
    pub(crate) fn is_stalled(&self, job: JobIx) -> bool {
        let job = &self.jobs[job.0];
        job.state == State::Ready && self.tallies.is_failing(job.site)
    }

    /// Notes what was last said of a job's recipients, one after the other; `None` where that is not known.
    pub(crate) fn set_replies(&mut self, job: JobIx, said: impl Iterator<Item = Option<LastReply>>) {
        let mut at = self.jobs[job.0].first;
        for reply in said {
            let Some(recipient) = self.recipients.get_mut(at) else { return };
            let reply = reply.map_or(ReplyIx::NONE, |reply| self.replies.keep(reply));
            self.replies.release(std::mem::replace(&mut recipient.reply, reply));
            at = recipient.next;
        }
    }

    /// The indexes of a job's recipients, and what was last said of each.
    pub(crate) fn last_replies(&self, job: JobIx) -> impl Iterator<Item = (u16, Option<&Arc<LastReply>>)> {
        let mut next = self.jobs[job.0].first;
        std::iter::from_fn(move || {
            let recipient = self.recipients.get(next)?;
            next = recipient.next;
            Some((recipient.index, self.replies.get(recipient.reply)))
        })
    }

    /// When the oldest message came; `None` when none is queued.
    pub(crate) fn oldest(&self) -> Option<UnixMillis> {
        self.ages.oldest()
    }

    /// Messages that are queued.
    pub(crate) fn message_count(&self) -> usize {
        self.messages.len() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue_with_job(recipients: &[u16]) -> (Queue, MessageIx, JobIx) {
        let mut queue = Queue::default();
        let message = queue.add_message(MessageKey(7), UnixMillis(1), recipients.len() as u32);
        let job = queue.add_job(message, SiteIx(0), recipients.iter().copied(), 0, 0);
        (queue, message, job)
    }

    #[test]
    fn a_job_gives_its_recipients_in_order() {
        let (queue, _, job) = queue_with_job(&[0, 3, 9]);
        assert_eq!(queue.recipients(job).collect::<Vec<_>>(), [0, 3, 9]);
        assert_eq!(queue.job(job).recipients, 3);
    }

    #[test]
    fn retaining_takes_out_first_middle_and_last() {
        for dropped in [0_u16, 3, 9] {
            let (mut queue, _, job) = queue_with_job(&[0, 3, 9]);
            assert_eq!(queue.retain(job, |index| index != dropped), 2);
            let left: Vec<u16> = [0, 3, 9].into_iter().filter(|&index| index != dropped).collect();
            assert_eq!(queue.recipients(job).collect::<Vec<_>>(), left);
            assert_eq!(queue.retain(job, |_| false), 0);
            assert_eq!(queue.recipients(job).count(), 0);
        }
    }

    #[test]
    fn a_message_is_forgotten_with_its_last_outcome() {
        let (mut queue, message, job) = queue_with_job(&[0, 1]);
        queue.settled(message, 1);
        assert_eq!(queue.message(message).pending.get(), 1);
        queue.set_state(job, State::Deferred);
        assert_eq!((queue.recipients_in(State::Ready), queue.recipients_in(State::Deferred)), (0, 2));
        queue.remove_job(job);
        queue.settled(message, 1);
        assert_eq!(queue.message_count(), 0);
        assert!(queue.jobs.is_empty() && queue.recipients.is_empty());
        assert_eq!((queue.counts, queue.oldest()), ([0; STATES], None));
    }

    #[test]
    fn a_message_waits_for_a_site_once_as_long_as_one_of_its_jobs_does() {
        let source = policy::Source {
            generation: 1,
            origin: policy::Origin::new("gatepost.toml", 1),
            routes: Vec::new(),
            limits: Default::default(),
            lists: Default::default(),
            tenants: Vec::new(),
        };
        let snapshot = policy::Snapshot::compile(&source).unwrap();
        let (commons, ..) = commons::Commons::new(1, snapshot);
        let (mut queue, message, first) = queue_with_job(&[0, 1]);
        let second = queue.add_job(message, SiteIx(0), [2].into_iter(), 0, 0);
        queue.add_job(message, SiteIx(1), [3].into_iter(), 0, 0);
        queue.tallies.fails(SiteIx(0), &commons.sites().site("a.example"));
        let waiting = |queue: &Queue| {
            queue.tallies.waiting(SiteIx(0)).map(|waiting| (waiting.messages, waiting.recipients))
        };
        assert_eq!(waiting(&queue), Some((1, 3)));
        queue.remove_job(first);
        assert_eq!(waiting(&queue), Some((1, 1)));
        queue.remove_job(second);
        assert_eq!(waiting(&queue), None);
    }

    #[test]
    fn a_job_that_a_place_leads_to_stays_void_until_that_is_gone() {
        let (mut queue, message, job) = queue_with_job(&[0, 1]);
        let other = queue.add_job(message, SiteIx(0), [2].into_iter(), 0, 0);
        let third = queue.add_job(message, SiteIx(0), [3].into_iter(), 0, 0);
        assert_eq!(queue.jobs_of(message).collect::<Vec<_>>(), [third, other, job]);
        queue.link(other);
        assert!(!queue.remove_job(other));
        assert_eq!(queue.jobs_of(message).collect::<Vec<_>>(), [third, job]);
        assert_eq!((queue.state(other), queue.recipients(other).count()), (State::Void, 0));
        assert!(queue.unlink(other) && queue.remove_job(other));
        assert!(queue.remove_job(third));
        assert_eq!(queue.jobs_of(message).collect::<Vec<_>>(), [job]);
        assert_eq!(queue.recipients_in(State::Ready), 2);
    }
}
