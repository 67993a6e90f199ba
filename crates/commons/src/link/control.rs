use std::fmt;
use std::sync::Arc;

use ring::Waker;

use super::denials::Denial;
use super::question::{Answer, Question};
use super::queue::{QueueAnswer, QueueBusy, QueueRequest};
use crate::Commons;

/// The control plane's end of all queues; clones serve its threads.
#[derive(Clone)]
pub struct ControlLink {
    commons: Arc<Commons>,
}

impl ControlLink {
    pub(crate) fn new(commons: Arc<Commons>) -> Self {
        Self { commons }
    }

    /// The shared room.
    #[must_use]
    pub fn commons(&self) -> &Arc<Commons> {
        &self.commons
    }

    /// Says how to wake the answering thread.
    pub fn attach(&self, waker: Waker) {
        let wakers = &self.commons.link.wakers;
        wakers.attach_control(waker);
        wakers.wake_control();
    }

    /// The next question of any worker.
    #[must_use]
    pub fn question(&self) -> Option<Question> {
        self.commons.link.questions.pop()
    }

    /// Wants something of the queue of `worker`, and wakes it.
    ///
    /// # Errors
    /// When too many requests of that worker are open.
    pub fn ask_queue(&self, worker: u8, request: QueueRequest) -> Result<(), QueueBusy> {
        self.commons.link.desk.ask(worker, request)?;
        self.commons.link.wakers.wake(worker);
        Ok(())
    }

    /// The next answer of any worker to [`ControlLink::ask_queue`], with the request's number.
    #[must_use]
    pub fn queue_answer(&self) -> Option<(u64, QueueAnswer)> {
        self.commons.link.desk.fetch()
    }

    /// Says how to wake the keeper of tickets when many denials wait. Few are looked at in his own time.
    pub fn attach_tickets(&self, waker: Waker) {
        self.commons.link.wakers.attach_tickets(waker);
    }

    /// The next denial of any worker; it goes back by [`ControlLink::give_back`].
    #[must_use]
    pub fn denial(&self) -> Option<Box<Denial>> {
        self.commons.link.denials.pop()
    }

    /// A record that is no longer needed.
    pub fn give_back(&self, denial: Box<Denial>) {
        self.commons.link.denials.give_back(denial);
    }

    /// Answers a question of `worker`, exactly once, and wakes it.
    pub fn answer(&self, worker: u8, answer: Answer) {
        self.commons.link.tell(worker, answer);
    }
}

impl fmt::Debug for ControlLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ControlLink")
    }
}
