use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use mail::{Ticket, UnixMillis};
use policy::Decision;
use ring::{Handle, Waker};
use zeroize::Zeroizing;

use crate::denials::{Denial, Recent, Repeated};
use crate::finding::{ExchangeFailure, Exchanger, Listing, RecipientFinding};
use crate::queue::{QueueAnswer, QueueBusy, QueueRequest};
use crate::{Commons, Wakers, machine};

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

/// A login that is to be verified.
pub struct Login {
    /// Who asks.
    pub worker: u8,
    /// The session that waits.
    pub key: Handle,
    /// The hash in PHC form, or a SCRAM verifier in its text form; for an unknown login one that
    /// nothing fits and that takes as long to refuse; empty where no identity has one.
    pub credential: Box<str>,
    /// The login, for the log.
    pub login: Box<str>,
    /// The client's network, an IPv4 address or the first of an IPv6 /64, if this login has
    /// succeeded from it lately: only there is what fitted believed again without a look.
    pub trusted_network: Option<IpAddr>,
    /// The password; wiped when dropped, never logged.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, key, login, .. } = self;
        write!(f, "Login {{ worker: {worker}, key: {key:?}, login: {login:?}, .. }}")
    }
}

/// What a worker asks of the control plane.
pub enum Question {
    /// Does the password fit the credential?
    Verify(Login),
    /// What are the addresses of this host?
    Resolve {
        /// Who asks.
        worker: u8,
        /// What waits.
        key: u32,
        /// The name, or an address literal.
        host: Box<str>,
    },
    /// Which hosts take the mail of this domain (RFC 5321 section 5.1)?
    Exchangers {
        /// Who asks.
        worker: u8,
        /// What waits.
        key: u32,
        /// The domain, or an address literal.
        domain: Box<str>,
    },
    /// Can this domain take mail at all?
    Domain {
        /// Who asks.
        worker: u8,
        /// The session that waits.
        key: Handle,
        /// The domain, in lower case.
        domain: Box<str>,
    },
    /// Does the next hop of this relay domain know the recipient?
    CallAhead {
        /// Who asks.
        worker: u8,
        /// The session that waits.
        key: Handle,
        /// The machine that asks, an IPv4 address or that of an IPv6 /64, where no tenant answers for it.
        stranger: Option<IpAddr>,
        /// The recipient, in lower case.
        address: Box<str>,
    },
    /// Is this client on a DNS list?
    Listed {
        /// Who asks.
        worker: u8,
        /// The session that waits.
        key: Handle,
        /// The client's address.
        client: IpAddr,
    },
}

impl Question {
    /// It is about a client or a recipient that a client has named.
    fn is_check(&self) -> bool {
        matches!(self, Self::Domain { .. } | Self::CallAhead { .. } | Self::Listed { .. })
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verify(login) => write!(f, "Verify({login:?})"),
            Self::Resolve { worker, key, host } => {
                write!(f, "Resolve {{ worker: {worker}, key: {key}, host: {host:?} }}")
            }
            Self::Exchangers { worker, key, domain } => {
                write!(f, "Exchangers {{ worker: {worker}, key: {key}, domain: {domain:?} }}")
            }
            Self::Domain { worker, key, domain, .. } => {
                write!(f, "Domain {{ worker: {worker}, key: {key:?}, domain: {domain:?}, .. }}")
            }
            Self::CallAhead { worker, key, address, .. } => {
                write!(f, "CallAhead {{ worker: {worker}, key: {key:?}, address: {address:?}, .. }}")
            }
            Self::Listed { worker, key, client, .. } => {
                write!(f, "Listed {{ worker: {worker}, key: {key:?}, client: {client}, .. }}")
            }
        }
    }
}

/// Why a host has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveFailure {
    /// DNS says that it does not exist, or has no address.
    Missing,
    /// It could not be told: another time, perhaps.
    Temporary,
}

/// What came of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// It fits.
    Fits,
    /// It does not.
    Fails,
    /// Too many wait to be verified: it was not looked at.
    Busy,
}

/// What the control plane tells a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Verify`].
    Verified {
        /// The session that waits.
        key: Handle,
        /// What came of it.
        outcome: Verification,
    },
    /// To [`Question::Resolve`].
    Resolved {
        /// What waits.
        key: u32,
        /// The addresses, in the order in which to try them.
        result: Result<Vec<IpAddr>, ResolveFailure>,
        /// How long this holds.
        ttl: Duration,
    },
    /// To [`Question::Exchangers`].
    Exchangers {
        /// What waits.
        key: u32,
        /// The hosts, lowest preference first, at least one.
        result: Result<Vec<Exchanger>, ExchangeFailure>,
        /// How long this holds.
        ttl: Duration,
    },
    /// To [`Question::Domain`] and [`Question::CallAhead`].
    Recipient {
        /// The session that waits.
        key: Handle,
        /// What was found out.
        finding: RecipientFinding,
        /// How long this holds.
        ttl: Duration,
    },
    /// To [`Question::Listed`].
    Listed {
        /// The session that waits.
        key: Handle,
        /// The client that was asked about.
        client: IpAddr,
        /// The first list on which the client stands.
        listing: Option<Box<Listing>>,
    },
    /// End: no new mail, and what is under way comes to its end.
    Drain,
    /// Another configuration is in force.
    SnapshotChanged,
}

impl Answer {
    fn is_command(&self) -> bool {
        matches!(self, Self::Drain | Self::SnapshotChanged)
    }

    fn is_check(&self) -> bool {
        matches!(self, Self::Recipient { .. } | Self::Listed { .. })
    }
}

/// The queues of all workers. Room is reckoned when a question is asked, so that its answer always has a place.
pub(crate) struct Queues {
    questions: ArrayQueue<Question>,
    answers: Box<[ArrayQueue<Answer>]>,
}

impl Queues {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            questions: ArrayQueue::new(workers * QUESTIONS_MAX),
            answers: (0..workers).map(|_| ArrayQueue::new(QUESTIONS_MAX + COMMANDS_MAX)).collect(),
        }
    }

    /// A command that finds no room is dropped: snapshot and drain flag are in `Commons` too, and
    /// so many unread commands mean that the worker has not begun or is ending.
    pub(crate) fn tell(&self, worker: u8, answer: Answer) {
        let pushed = self.answers[usize::from(worker)].push(answer);
        debug_assert!(
            pushed.as_ref().err().is_none_or(Answer::is_command),
            "every question has room for its answer"
        );
    }
}

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
            recent: Recent::new(crate::seed()[0]),
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
        // A second waker would be a second ring of one worker, which there is not.
        let _ = self.commons.wakers.workers[usize::from(self.worker)].set(waker);
        self.commons.wakers.wake(self.worker);
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
        self.commons.queues.questions.push(question)?;
        self.questions.update(|count| count + 1);
        self.verifications.update(|count| count + usize::from(verifies));
        self.checks.update(|count| count + usize::from(checks));
        self.asked.set(true);
        Ok(())
    }

    /// The next thing that the control plane says.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        while let Some(answer) = self.commons.queues.answers[usize::from(self.worker)].pop() {
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

    /// A lease came back for which this worker waited, of whatever site, since this was asked last.
    #[must_use]
    pub fn lease_came_free(&self) -> bool {
        let flag = &self.commons.wakers.leases_free[usize::from(self.worker)];
        // Mostly it did not, and a look is cheaper than a write.
        flag.load(Ordering::Acquire) && flag.swap(false, Ordering::AcqRel)
    }

    /// The next thing that is wanted of this worker's queue; it is answered once.
    #[must_use]
    pub fn queue_request(&self) -> Option<QueueRequest> {
        self.commons.desk.request(self.worker)
    }

    /// Answers the queue request `number`. [`WorkerLink::flush`] sends it on its way.
    pub fn answer_queue(&self, number: u64, answer: QueueAnswer) {
        self.commons.desk.answer(self.worker, number, answer);
        self.asked.set(true);
    }

    /// A record to write a denial of `client` into; `None`, which is counted, where it has its part of the
    /// records and the control plane has not looked at them. Every record comes back by [`WorkerLink::deny`].
    #[must_use]
    pub fn blank_denial(&self, client: IpAddr) -> Option<Box<Denial>> {
        let commons = &self.commons;
        commons.denials.take_blank(commons.rates.key(&("denial", machine(client))))
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
        if self.commons.denials.push(denial) {
            self.commons.wakers.wake_tickets();
        }
    }

    /// The end of a turn: wakes the control plane if anything was asked.
    pub fn flush(&self) {
        if self.asked.replace(false) {
            self.commons.wakers.wake_control();
        }
    }
}

impl fmt::Debug for WorkerLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerLink({})", self.worker)
    }
}

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
        let wakers: &Wakers = &self.commons.wakers;
        // There is one control plane; a second waker would be a bug that wakes the first one still.
        let _ = wakers.control.set(waker);
        wakers.wake_control();
    }

    /// The next question of any worker.
    #[must_use]
    pub fn question(&self) -> Option<Question> {
        self.commons.queues.questions.pop()
    }

    /// Wants something of the queue of `worker`, and wakes it.
    ///
    /// # Errors
    /// When too many requests of that worker are open.
    pub fn ask_queue(&self, worker: u8, request: QueueRequest) -> Result<(), QueueBusy> {
        self.commons.desk.ask(worker, request)?;
        self.commons.wakers.wake(worker);
        Ok(())
    }

    /// The next answer of any worker to [`ControlLink::ask_queue`], with the request's number.
    #[must_use]
    pub fn queue_answer(&self) -> Option<(u64, QueueAnswer)> {
        self.commons.desk.fetch()
    }

    /// Says how to wake the keeper of tickets when many denials wait. Few are looked at in his own time.
    pub fn attach_tickets(&self, waker: Waker) {
        // There is one keeper, as there is one control plane.
        let _ = self.commons.wakers.tickets.set(waker);
    }

    /// The next denial of any worker; it goes back by [`ControlLink::give_back`].
    #[must_use]
    pub fn denial(&self) -> Option<Box<Denial>> {
        self.commons.denials.pop()
    }

    /// A record that is no longer needed.
    pub fn give_back(&self, denial: Box<Denial>) {
        self.commons.denials.give_back(denial);
    }

    /// Answers a question of `worker`, exactly once, and wakes it.
    pub fn answer(&self, worker: u8, answer: Answer) {
        self.commons.queues.tell(worker, answer);
        self.commons.wakers.wake(worker);
    }
}

impl fmt::Debug for ControlLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ControlLink")
    }
}
