//! The link between the workers and the control plane: bounded queues of plain types, one wake-up a batch.

mod control;
mod denials;
mod finding;
mod question;
mod queue;
mod worker;

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

pub use control::ControlLink;
pub use denials::{DENIALS_MAX, DENIED_RECIPIENTS_MAX, Denial};
pub use finding::{ExchangeFailure, Exchanger, Listing, RecipientFinding};
pub use question::{Answer, Login, Question, ResolveFailure, Verification};
pub use queue::{
    FAILING_SITES_MAX, FailingSite, QUEUE_PAGE_MESSAGES_MAX, QUEUE_PAGE_RECIPIENTS_MAX, QUEUE_REQUESTS_MAX,
    QueueAct, QueueActed, QueueAnswer, QueueBusy, QueuePage, QueuePageRequest, QueueRequest, QueueTask,
    QueuedMessage, QueuedRecipient,
};
pub use worker::WorkerLink;

use crate::wakers::Wakers;
use denials::Denials;
use queue::QueueDesk;

/// Questions of one worker that wait for their answer, at most: more than a worker has sites and
/// logging-in clients in any second of a busy day, and 100 KiB of queue.
pub const QUESTIONS_MAX: usize = 1024;

/// Logins of one worker that wait for verification, at most: more than the control plane lets wait
/// for a thread, so that those which fitted a moment ago, from where they come again, get past a storm
/// of others.
pub const VERIFICATIONS_MAX: usize = 256;

/// Clients and recipients of one worker that are being asked about, at most: names and addresses that
/// strangers choose must not take the place of the questions that delivery has.
pub const CHECKS_MAX: usize = 512;

/// Commands (drain, another snapshot) that may wait in a worker's queue beside its answers.
const COMMANDS_MAX: usize = 16;

/// The queues of all workers, and who is woken by them. Room is reckoned when a question is asked, so that its answer always has a place.
pub(crate) struct Link {
    questions: ArrayQueue<Question>,
    answers: Box<[ArrayQueue<Answer>]>,
    /// What operators want of workers' queues.
    desk: QueueDesk,
    denials: Denials,
    wakers: Arc<Wakers>,
}

impl Link {
    pub(crate) fn new(workers: usize, wakers: Arc<Wakers>) -> Self {
        Self {
            questions: ArrayQueue::new(workers * QUESTIONS_MAX),
            answers: (0..workers).map(|_| ArrayQueue::new(QUESTIONS_MAX + COMMANDS_MAX)).collect(),
            desk: QueueDesk::new(workers),
            denials: Denials::default(),
            wakers,
        }
    }

    /// Tells a worker, and wakes it. A command that finds no room is dropped: snapshot and drain flag are in `Commons` too, and
    /// so many unread commands mean that the worker has not begun or is ending.
    pub(crate) fn tell(&self, worker: u8, answer: Answer) {
        let pushed = self.answers[usize::from(worker)].push(answer);
        debug_assert!(
            pushed.as_ref().err().is_none_or(Answer::is_command),
            "every question has room for its answer"
        );
        self.wakers.wake(worker);
    }

    /// Denials for which there was no record.
    pub(crate) fn denials_dropped(&self) -> u64 {
        self.denials.dropped()
    }
}
