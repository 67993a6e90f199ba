//! What is kept in memory of queued mail: messages, their jobs, and the recipients of each job.
//!
//! A job is what one transaction can carry: recipients of one message that go to one site. The
//! texts stay in the spool; here are numbers only, in slabs that are used again, so that a queued
//! message costs a few dozen bytes and nothing is allocated once the slabs have grown.

use mail::UnixMillis;
use slab::Slab;
use spool::MessageKey;

/// Recipients of one transaction: what every server must take (RFC 5321 section 4.5.3.1.8).
pub(crate) const RECIPIENTS_PER_TRANSACTION_MAX: usize = 100;

/// What delivery keeps of a queued message, in bytes. With what the spool keeps, it must stay below the 128 of
/// the design (spool.md, promise 7).
pub const MESSAGE_BYTES_MAX: usize = 48;

/// What delivery keeps of each recipient of a queued message, in bytes: the recipient, and in the
/// worst case a job, a place in a site's queue and a timer of its own.
pub const RECIPIENT_BYTES_MAX: usize = 112;

/// A timer of the wheel and the doubled place in a queue that grows by doubling.
const TIMER_BYTES: usize = 48;
const PLACE_BYTES: usize = 2 * size_of::<JobIx>();

const _: () = assert!(MESSAGE_BYTES_MAX + spool::MEMORY_PER_MESSAGE_BYTES_MAX <= 128);
const _: () = assert!(RECIPIENT_BYTES_MAX <= 128);
const _: () = assert!(size_of::<Message>() + size_of::<usize>() <= MESSAGE_BYTES_MAX);
const _: () = assert!(
    size_of::<Job>() + size_of::<Recipient>() + 2 * size_of::<usize>() + TIMER_BYTES + PLACE_BYTES
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
    /// Recipients without a logged outcome.
    pub(crate) pending: u32,
}

/// Recipients of one message that go to one site together.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) message: MessageIx,
    pub(crate) site: SiteIx,
    first: u32,
    pub(crate) recipients: u16,
    /// The configuration by which it was given its site.
    pub(crate) routed: u32,
    /// Attempts that a destination deferred.
    pub(crate) attempts: u16,
    /// The connection broke under it once, and it was sent again at once.
    pub(crate) interrupted: bool,
    state: State,
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
}

/// A place in the list of a job's recipients, in ascending order.
#[derive(Debug)]
struct Recipient {
    next: u32,
    index: u16,
}

const END: u32 = u32::MAX;

/// Everything that is queued in this worker.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    messages: Slab<Message>,
    jobs: Slab<Job>,
    recipients: Slab<Recipient>,
    /// Recipients by the state of their job.
    counts: [u64; 3],
}

impl Queue {
    /// Takes a message up, with `pending` recipients that will be given to jobs.
    pub(crate) fn add_message(&mut self, key: MessageKey, arrived: UnixMillis, pending: u32) -> MessageIx {
        MessageIx(narrow(self.messages.insert(Message { key, arrived, pending })))
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
            first = narrow(self.recipients.insert(Recipient { next: first, index }));
            count += 1;
        }
        let job = Job {
            message,
            site,
            first,
            recipients: count,
            attempts,
            routed,
            interrupted: false,
            state: State::Ready,
        };
        self.counts[State::Ready as usize] += u64::from(count);
        JobIx(narrow(self.jobs.insert(job)))
    }

    pub(crate) fn message(&self, message: MessageIx) -> &Message {
        &self.messages[message.0 as usize]
    }

    pub(crate) fn job(&self, job: JobIx) -> &Job {
        &self.jobs[job.0 as usize]
    }

    pub(crate) fn job_mut(&mut self, job: JobIx) -> &mut Job {
        &mut self.jobs[job.0 as usize]
    }

    /// The indexes of a job's recipients in the message's envelope, ascending.
    pub(crate) fn recipients(&self, job: JobIx) -> impl Iterator<Item = u16> {
        let mut next = self.jobs[job.0 as usize].first;
        std::iter::from_fn(move || {
            let recipient = self.recipients.get(next as usize)?;
            next = recipient.next;
            Some(recipient.index)
        })
    }

    /// Takes those recipients out of a job for which `keep` says no; also gives how many are left.
    pub(crate) fn retain(&mut self, job: JobIx, mut keep: impl FnMut(u16) -> bool) -> u16 {
        let job = &mut self.jobs[job.0 as usize];
        let (mut before, mut at) = (END, job.first);
        while at != END {
            let Recipient { next, index } = self.recipients[at as usize];
            if keep(index) {
                before = at;
            } else {
                self.recipients.remove(at as usize);
                job.recipients -= 1;
                self.counts[job.state as usize] -= 1;
                match self.recipients.get_mut(before as usize) {
                    Some(recipient) => recipient.next = next,
                    None => job.first = next,
                }
            }
            at = next;
        }
        job.recipients
    }

    /// Ends a job, whatever recipients it still has.
    pub(crate) fn remove_job(&mut self, job: JobIx) {
        let Job { first: mut at, recipients, state, .. } = self.jobs.remove(job.0 as usize);
        self.counts[state as usize] -= u64::from(recipients);
        while at != END {
            at = self.recipients.remove(at as usize).next;
        }
    }

    /// Notes that `count` recipients of a message have their outcome in the log; the message is
    /// forgotten with the last one.
    pub(crate) fn settled(&mut self, message: MessageIx, count: u32) {
        let entry = &mut self.messages[message.0 as usize];
        entry.pending = entry.pending.checked_sub(count).expect("a recipient has one outcome");
        if entry.pending == 0 {
            self.messages.remove(message.0 as usize);
        }
    }

    /// Notes where a job stands now.
    pub(crate) fn set_state(&mut self, job: JobIx, state: State) {
        let job = &mut self.jobs[job.0 as usize];
        self.counts[job.state as usize] -= u64::from(job.recipients);
        self.counts[state as usize] += u64::from(job.recipients);
        job.state = state;
    }

    /// Recipients whose job stands so.
    pub(crate) fn recipients_in(&self, state: State) -> u64 {
        self.counts[state as usize]
    }

    /// Messages that are queued.
    pub(crate) fn message_count(&self) -> usize {
        self.messages.len()
    }
}

/// An index of a slab: a shard does not hold four thousand million messages.
fn narrow(index: usize) -> u32 {
    u32::try_from(index).expect("a queue outgrew its 32-bit indexes")
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
        assert_eq!(queue.message(message).pending, 1);
        queue.set_state(job, State::Deferred);
        assert_eq!((queue.recipients_in(State::Ready), queue.recipients_in(State::Deferred)), (0, 2));
        queue.remove_job(job);
        queue.settled(message, 1);
        assert_eq!(queue.message_count(), 0);
        assert!(queue.jobs.is_empty() && queue.recipients.is_empty());
        assert_eq!(queue.counts, [0; 3]);
    }
}
