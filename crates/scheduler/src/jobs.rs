//! What is kept of queued mail: messages, the jobs of each, the recipients of each job.
//!
//! Numbers only, so that a queued message costs a few dozen bytes. A job stands in one list at a
//! time (its queue, the calendar of the deferred, the bounces) by one pair of links, and by another
//! pair in the calendar of what expires.

use std::num::NonZeroU32;

use mail::{QueueState, UnixMillis};

use crate::ages::{AGE_BYTES_MAX, Ages};
use crate::calendar::{Slot, Timed};
use crate::event::{ConnectionIx, JobIx, Left, MessageIx, Note, Task};
use crate::table::{Linked, Links, NONE, Table};

/// Recipients of one transaction: what every server must take (RFC 5321 section 4.5.3.1.8).
pub const RECIPIENTS_MAX: usize = 100;

/// What is kept of a queued message, in bytes, the second in which it came included.
pub const MESSAGE_BYTES_MAX: usize = 48;

/// What is kept of each recipient of a queued message, in bytes: in the worst case it has a job to itself.
pub const RECIPIENT_BYTES_MAX: usize = 96;

const _: () = assert!(Table::<Message>::ENTRY_BYTES + AGE_BYTES_MAX <= MESSAGE_BYTES_MAX);
const _: () = assert!(Table::<Job>::ENTRY_BYTES + Table::<Recipient>::ENTRY_BYTES <= RECIPIENT_BYTES_MAX);

/// The links of a job's place: in its queue, among the deferred, among the bounces.
pub(crate) const PLACE: u8 = 0;
/// The links of its expiry.
pub(crate) const EXPIRY: u8 = 1;

/// One message and what is still owed.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) key: u64,
    pub(crate) arrived: UnixMillis,
    /// Recipients without a logged outcome; a message that has none is not here.
    pub(crate) pending: NonZeroU32,
    first_job: u32,
}

/// Recipients of one message that go one way together.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) message: MessageIx,
    pub(crate) queue: u32,
    first_recipient: u32,
    next_job: u32,
    previous_job: u32,
    place: Links,
    expiry: Links,
    /// The configuration that routed it.
    pub(crate) routed: u32,
    /// While it is deferred, when it is due, in tenths of a second; while it is active, the connection that has it.
    with: u32,
    deferred: Slot,
    expires: Slot,
    pub(crate) recipients: u16,
    pub(crate) attempts: u16,
    pub(crate) state: State,
    /// A connection broke under it once before anything was heard.
    pub(crate) interrupted: bool,
    /// An operator holds it once what is under way is over.
    pub(crate) held: bool,
    /// It is the one that counts of those of its message in its queue.
    pub(crate) leads: bool,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// In its queue.
    Ready,
    /// With a connection.
    Active,
    /// With the shell, or waiting to be given to it.
    Task(Task),
    /// In the calendar of the deferred.
    Deferred,
    /// An operator holds it.
    Held,
    /// Its message is damaged.
    Quarantined,
}

/// How many states operators see.
pub(crate) const STATES: usize = QueueState::ALL.len();

impl State {
    /// As operators see it, where the site works.
    pub(crate) fn shown(self) -> QueueState {
        match self {
            Self::Ready | Self::Task(Task::Route | Task::Expire | Task::Refuse) => QueueState::Ready,
            Self::Active | Self::Task(Task::Bounce) => QueueState::Active,
            Self::Deferred => QueueState::Deferred,
            Self::Held => QueueState::Held,
            Self::Quarantined => QueueState::Quarantined,
        }
    }
}

/// A place in the list of a job's recipients, in ascending order.
#[derive(Debug)]
struct Recipient {
    next: u32,
    index: u16,
    note: Note,
}

impl Job {
    /// The connection that has it.
    pub(crate) fn connection(&self) -> Option<ConnectionIx> {
        (self.state == State::Active).then_some(ConnectionIx(self.with))
    }

    pub(crate) fn set_connection(&mut self, connection: ConnectionIx) {
        self.with = connection.0;
    }

    /// When it is due, in milliseconds of the steady clock, while it is deferred.
    pub(crate) fn due(&self) -> Option<u64> {
        (self.state == State::Deferred).then_some(u64::from(self.with) * 100)
    }

    /// It is looked at when its message expires.
    pub(crate) fn expires(&self) -> bool {
        self.expires.is_set()
    }

    pub(crate) fn set_due(&mut self, due: u64) {
        self.with = u32::try_from(due.div_ceil(100)).unwrap_or(u32::MAX);
    }
}

impl Linked<PLACE> for Job {
    fn links(&mut self) -> &mut Links {
        &mut self.place
    }
}

impl Linked<EXPIRY> for Job {
    fn links(&mut self) -> &mut Links {
        &mut self.expiry
    }
}

impl Timed<PLACE> for Job {
    fn slot(&mut self) -> &mut Slot {
        &mut self.deferred
    }
}

impl Timed<EXPIRY> for Job {
    fn slot(&mut self) -> &mut Slot {
        &mut self.expires
    }
}

/// All that is queued.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    pub(crate) messages: Table<Message>,
    pub(crate) jobs: Table<Job>,
    recipients: Table<Recipient>,
    ages: Ages,
}

impl Jobs {
    pub(crate) fn add_message(&mut self, key: u64, arrived: UnixMillis, pending: NonZeroU32) -> MessageIx {
        self.ages.add(arrived);
        MessageIx(self.messages.insert(Message { key, arrived, pending, first_job: NONE }))
    }

    /// Makes a job of this state, which is in no list yet.
    pub(crate) fn add_job(
        &mut self,
        message: MessageIx,
        queue: u32,
        recipients: &[Left],
        state: State,
    ) -> JobIx {
        let mut first_recipient = NONE;
        for &Left { recipient: index, note } in recipients.iter().rev() {
            let recipient = Recipient { next: first_recipient, index, note };
            first_recipient = self.recipients.insert(recipient);
        }
        let next_job = self.messages[message.0].first_job;
        // Jobs of a message in one queue stand side by side, as the shell adds them one after the other.
        let leads = self.jobs.get(next_job).is_none_or(|next| next.queue != queue);
        let job = self.jobs.insert(Job {
            message,
            queue,
            first_recipient,
            next_job,
            previous_job: NONE,
            place: Links::NONE,
            expiry: Links::NONE,
            routed: 0,
            with: 0,
            deferred: Slot::NONE,
            expires: Slot::NONE,
            recipients: recipients.len() as u16,
            attempts: 0,
            state,
            interrupted: false,
            held: false,
            leads,
        });
        if let Some(next) = self.jobs.get_mut(next_job) {
            next.previous_job = job;
        }
        self.messages[message.0].first_job = job;
        JobIx(job)
    }

    /// Ends a job that stands nowhere; gives the one that leads in its place, if one does now.
    pub(crate) fn remove_job(&mut self, job: JobIx) -> Option<JobIx> {
        let Job { message, queue, first_recipient, next_job, previous_job, leads, .. } =
            self.jobs.remove(job.0)?;
        let mut at = first_recipient;
        while let Some(recipient) = self.recipients.remove(at) {
            at = recipient.next;
        }
        if let Some(next) = self.jobs.get_mut(next_job) {
            next.previous_job = previous_job;
        }
        match self.jobs.get_mut(previous_job) {
            Some(previous) => previous.next_job = next_job,
            None => self.messages[message.0].first_job = next_job,
        }
        let younger = self.jobs.get_mut(previous_job).filter(|younger| leads && younger.queue == queue)?;
        let comes_to_lead = !std::mem::replace(&mut younger.leads, true);
        comes_to_lead.then_some(JobIx(previous_job))
    }

    /// Keeps those recipients of a job that `note` knows, with what was said of them; also gives how many went.
    pub(crate) fn retain(&mut self, job: JobIx, note: impl Fn(u16) -> Option<Note>) -> u16 {
        let entry = &mut self.jobs[job.0];
        let (mut before, mut at, mut gone) = (NONE, entry.first_recipient, 0);
        while let Some(recipient) = self.recipients.get_mut(at) {
            let next = recipient.next;
            if let Some(note) = note(recipient.index) {
                recipient.note = note;
                before = at;
            } else {
                self.recipients.remove(at);
                gone += 1;
                match self.recipients.get_mut(before) {
                    Some(recipient) => recipient.next = next,
                    None => entry.first_recipient = next,
                }
            }
            at = next;
        }
        entry.recipients -= gone;
        gone
    }

    /// The places of a job's recipients in the envelope, ascending, and what was last said of each.
    pub(crate) fn recipients(&self, job: JobIx) -> impl Iterator<Item = (u16, Note)> {
        let mut next = self.jobs.get(job.0).map_or(NONE, |job| job.first_recipient);
        std::iter::from_fn(move || {
            let recipient = self.recipients.get(next)?;
            next = recipient.next;
            Some((recipient.index, recipient.note))
        })
    }

    /// The jobs of a message, the latest first.
    pub(crate) fn of_message(&self, message: MessageIx) -> impl Iterator<Item = JobIx> {
        let mut next = self.messages.get(message.0).map_or(NONE, |message| message.first_job);
        std::iter::from_fn(move || {
            let job = self.jobs.get(next)?;
            Some(JobIx(std::mem::replace(&mut next, job.next_job)))
        })
    }

    /// Notes that `count` recipients of a message have their outcome in the log.
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

    /// When the oldest message came, to the second.
    pub(crate) fn oldest(&self) -> Option<UnixMillis> {
        self.ages.oldest()
    }
}
