//! What the control plane asks of a worker's queue: a page of it, or an act on some of its messages.
//!
//! Plain types over bounded queues, as everything here: a worker that has enough to do is an error for
//! the asker, never a wait for the worker. Every request is answered once, and its answer has a
//! place from the moment it is asked.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::queue::ArrayQueue;
use mail::{LastReply, MessageId, QueueState, UnixMillis};

use crate::SiteFailure;

/// Requests of one worker that wait for their answer, at most: an operator's doing.
pub const QUEUE_REQUESTS_MAX: usize = 16;

/// Messages of one page, at most.
pub const QUEUE_PAGE_MESSAGES_MAX: usize = 500;

/// A page ends behind the message with which it has so many recipients: one message may bring more.
pub const QUEUE_PAGE_RECIPIENTS_MAX: usize = 5000;

/// Failing sites that a worker names, at most: those for which most waits. What a person reads is a few.
pub const FAILING_SITES_MAX: usize = 1000;

/// A site that fails and for which mail waits, as one worker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingSite {
    /// Its name: its next hops, or `mx:` and a domain.
    pub key: Arc<str>,
    /// What is wrong with it.
    pub failure: Arc<SiteFailure>,
    /// Messages that this worker has for it, but for held and quarantined ones.
    pub messages: u64,
    /// Their recipients.
    pub recipients: u64,
}

/// Which part of a worker's queue is wanted. What only the envelope tells is not known there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueuePageRequest {
    /// The slot from which to look.
    pub from: u32,
    /// So many messages, at most [`QUEUE_PAGE_MESSAGES_MAX`].
    pub messages_max: usize,
    /// Only messages with a recipient that stands so.
    pub state: Option<QueueState>,
    /// Only messages that came before.
    pub arrived_before: Option<UnixMillis>,
    /// Only this message.
    pub id: Option<MessageId>,
}

/// What an operator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueAct {
    /// Not to be tried, and not to expire, until released.
    Hold,
    /// No longer held: due now.
    Release,
    /// Due now, and its site's back-off forgotten.
    Retry,
    /// Failed for good: its sender is told, with this text.
    Bounce(Box<str>),
    /// A quarantined message given up: no sender is told, for whom it came from may be what is damaged.
    Remove,
}

impl QueueAct {
    /// The word for it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Retry => "retry",
            Self::Bounce(_) => "bounce",
            Self::Remove => "remove",
        }
    }
}

/// What is wanted of a worker's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueTask {
    /// A part of it.
    Page(QueuePageRequest),
    /// The sites that fail.
    FailingSites,
    /// Something done about messages of it.
    Act {
        /// What.
        act: QueueAct,
        /// To which: the slot where a page showed each, and its id.
        messages: Box<[(u32, MessageId)]>,
        /// Who wants it, for the log.
        by: Box<str>,
    },
}

/// A task with the number by which its answer is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRequest {
    /// Chosen by the asker; different for all requests under way.
    pub number: u64,
    /// What is wanted.
    pub task: QueueTask,
}

/// A queued message, as its worker knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedMessage {
    /// Where in the queue it is.
    pub slot: u32,
    /// Its id.
    pub id: MessageId,
    /// When it came.
    pub arrived: UnixMillis,
    /// The shard that holds it: the worker's own, or one that it adopted.
    pub shard: u8,
    /// Where its record lies in it: the number of the segment's file, offset and length in bytes.
    pub record: (u32, u32, u32),
    /// How many of the page's recipients, from where those of the message before end, are its own.
    pub recipients: u32,
}

/// A recipient without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedRecipient {
    /// Its index in the envelope.
    pub index: u16,
    /// Attempts that a destination deferred.
    pub attempts: u16,
    /// Where it stands.
    pub state: QueueState,
    /// When it is tried again; 0 unless it is deferred.
    pub until: UnixMillis,
    /// The name of the site to which it goes: its next hops, or `mx:` and a domain.
    pub site: Option<Arc<str>>,
    /// What was last said of it, or of its site while that is what it waits for.
    pub reply: Option<Arc<LastReply>>,
}

/// A part of a worker's queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueuePage {
    /// The messages, by slot.
    pub messages: Vec<QueuedMessage>,
    /// Their recipients, one message's after the other's.
    pub recipients: Vec<QueuedRecipient>,
    /// The slot from which to go on; `None` at the end.
    pub next: Option<u32>,
}

/// What came of an act. Of the messages asked for, those that were gone count nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueActed {
    /// Messages with which something was done; what must outlive a restart is durable.
    pub done: u64,
    /// Messages that were so already, or of which nothing could be done: held ones are not retried,
    /// damaged ones not bounced, sound ones not removed.
    pub unchanged: u64,
    /// Messages of which a recipient was left as it is because an attempt was under way.
    pub under_way: u64,
    /// The spool takes no notes: not all was done.
    pub failure: Option<Box<str>>,
}

/// The answer to a [`QueueTask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueAnswer {
    /// To [`QueueTask::Page`].
    Page(QueuePage),
    /// To [`QueueTask::FailingSites`]: at most [`FAILING_SITES_MAX`].
    FailingSites(Vec<FailingSite>),
    /// To [`QueueTask::Act`].
    Acted(QueueActed),
}

/// The worker has as many requests as it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBusy;

impl fmt::Display for QueueBusy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many requests about the queue are under way: try again in a moment")
    }
}

impl std::error::Error for QueueBusy {}

/// The requests to all workers, and their answers.
pub(crate) struct QueueDesk {
    requests: Box<[ArrayQueue<QueueRequest>]>,
    /// Asked and not answered yet, or answered and not fetched.
    open: Box<[AtomicUsize]>,
    answers: ArrayQueue<(u8, u64, QueueAnswer)>,
}

impl QueueDesk {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            requests: (0..workers).map(|_| ArrayQueue::new(QUEUE_REQUESTS_MAX)).collect(),
            open: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            answers: ArrayQueue::new(workers * QUEUE_REQUESTS_MAX),
        }
    }

    pub(crate) fn ask(&self, worker: u8, request: QueueRequest) -> Result<(), QueueBusy> {
        let open = &self.open[usize::from(worker)];
        let room = |open: usize| (open < QUEUE_REQUESTS_MAX).then(|| open + 1);
        open.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).map_err(|_| QueueBusy)?;
        let pushed = self.requests[usize::from(worker)].push(request);
        debug_assert!(pushed.is_ok(), "no more are open than find room");
        Ok(())
    }

    pub(crate) fn request(&self, worker: u8) -> Option<QueueRequest> {
        self.requests[usize::from(worker)].pop()
    }

    pub(crate) fn answer(&self, worker: u8, number: u64, answer: QueueAnswer) {
        let pushed = self.answers.push((worker, number, answer));
        debug_assert!(pushed.is_ok(), "every request has room for its answer");
    }

    pub(crate) fn fetch(&self) -> Option<(u64, QueueAnswer)> {
        let (worker, number, answer) = self.answers.pop()?;
        self.open[usize::from(worker)].fetch_sub(1, Ordering::AcqRel);
        Some((number, answer))
    }
}
