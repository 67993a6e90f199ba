use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use mail::{Ticket, UnixMillis};
use policy::Decision;
use ring::Waker;

use super::denials::{Denial, Recent, Repeated};
use super::question::{Answer, Question};
use super::queue::{QueueAnswer, QueueRequest};
use super::{CHECKS_MAX, QUESTIONS_MAX, VERIFICATIONS_MAX};
use crate::{Charged, Commons, Key, machine};

/// A worker's end of its queues. It stays on the worker's thread.
pub struct WorkerLink {
    commons: Arc<Commons>,
    worker: u8,
    /// Asked and not answered yet.
    questions: Cell<usize>,
    verifications: Cell<usize>,
    checks: Cell<usize>,
    /// Something was asked since the last flush.
    asked: Cell<bool>,
    /// The drain flag was passed on.
    drained: Cell<bool>,
    recent: Recent,
}

impl WorkerLink {
    pub(crate) fn new(commons: Arc<Commons>, worker: u8) -> Self {
        Self {
            commons,
            worker,
            questions: Cell::new(0),
            verifications: Cell::new(0),
            checks: Cell::new(0),
            asked: Cell::new(false),
            drained: Cell::new(false),
            recent: Recent::new(crate::seed()),
        }
    }

    /// The shared room.
    #[must_use]
    pub fn commons(&self) -> &Arc<Commons> {
        &self.commons
    }

    /// Which worker this is: what goes into a question's `worker`, and what sites know it by.
    #[must_use]
    pub fn worker(&self) -> u8 {
        self.worker
    }

    /// Says how to wake this worker, once its ring is made. What was said before is found by [`WorkerLink::answer`].
    pub fn attach(&self, waker: Waker) {
        let wakers = &self.commons.link.wakers;
        wakers.attach_worker(self.worker, waker);
        wakers.wake(self.worker);
    }

    /// Asks; the answer comes with some later turn. [`WorkerLink::flush`] sends what was asked on its way.
    ///
    /// # Errors
    /// The question itself, when too many wait for their answer: tell the client to come again.
    pub fn ask(&self, question: Question) -> Result<(), Question> {
        let verifies = matches!(question, Question::Verify(_));
        let checks = question.is_check();
        let full = self.questions.get() >= QUESTIONS_MAX
            || verifies && self.verifications.get() >= VERIFICATIONS_MAX
            || checks && self.checks.get() >= CHECKS_MAX;
        if full {
            return Err(question);
        }
        self.commons.link.questions.push(question)?;
        self.questions.update(|count| count + 1);
        self.verifications.update(|count| count + usize::from(verifies));
        self.checks.update(|count| count + usize::from(checks));
        self.asked.set(true);
        Ok(())
    }

    /// The next thing that the control plane says.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        while let Some(answer) = self.commons.link.answers[usize::from(self.worker)].pop() {
            if answer == Answer::Drain {
                continue;
            }
            self.questions.update(|count| count - usize::from(!answer.is_command()));
            let verified = matches!(answer, Answer::Verified { .. });
            self.verifications.update(|count| count - usize::from(verified));
            self.checks.update(|count| count - usize::from(answer.is_check()));
            return Some(answer);
        }
        // The flag, not the queue, says whether to drain: so it is heard once, and never lost.
        (self.commons.is_draining() && !self.drained.replace(true)).then_some(Answer::Drain)
    }

    /// The next thing that is wanted of this worker's queue; it is answered once.
    #[must_use]
    pub fn queue_request(&self) -> Option<QueueRequest> {
        self.commons.link.desk.request(self.worker)
    }

    /// Answers the queue request `number`. [`WorkerLink::flush`] sends it on its way.
    pub fn answer_queue(&self, number: u64, answer: QueueAnswer) {
        self.commons.link.desk.answer(self.worker, number, answer);
        self.asked.set(true);
    }

    /// A record to write a denial of `client` into; `None`, which is counted, where it has its part of the
    /// records and the control plane has not looked at them. Every record comes back by [`WorkerLink::deny`].
    #[must_use]
    pub fn blank_denial(&self, client: IpAddr) -> Option<Box<Denial>> {
        let client = Charged::Client { tenant: None, address: machine(client) };
        self.commons.link.denials.take_blank(Key::of(client))
    }

    /// The ticket to give again: this client has been denied for the same cause so often in this second
    /// that it gets no other.
    #[must_use]
    pub fn repeated_ticket(&self, client: IpAddr, decision: &Decision, now: UnixMillis) -> Option<Ticket> {
        self.recent.repeated(client, decision, now)
    }

    /// This client was given `ticket`, of which there is a record.
    pub fn remember_ticket(&self, client: IpAddr, decision: &Decision, now: UnixMillis, ticket: Ticket) {
        if let Some(repeated) = self.recent.remember(client, decision, now, ticket) {
            self.tell_repeated(repeated);
        }
    }

    /// A ticket was given again, and its record does not know of it yet: [`WorkerLink::settle_repeated`] is due when
    /// the second is over.
    #[must_use]
    pub fn owes_repeated(&self) -> bool {
        self.recent.owes()
    }

    /// Tells the records of tickets that were given again how often that was, where their second is over.
    pub fn settle_repeated(&self, now: UnixMillis) {
        self.recent.take_repeated(now, |repeated| self.tell_repeated(repeated));
    }

    fn tell_repeated(&self, (client, ticket, repeated): Repeated) {
        let Some(mut denial) = self.blank_denial(client) else { return };
        (denial.ticket, denial.is_more, denial.repeated) = (ticket, true, repeated);
        self.deny(denial);
    }

    /// Hands a denial over. It is found by its ticket from now on.
    pub fn deny(&self, denial: Box<Denial>) {
        if self.commons.link.denials.push(denial) {
            self.commons.link.wakers.wake_tickets();
        }
    }

    /// The end of a turn: wakes the control plane if anything was asked.
    pub fn flush(&self) {
        if self.asked.replace(false) {
            self.commons.link.wakers.wake_control();
        }
    }
}

impl fmt::Debug for WorkerLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerLink({})", self.worker)
    }
}
