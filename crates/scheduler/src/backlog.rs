//! What waits: jobs and where each stands, with the deadlines of each.
//!
//! A job that is not with the shell stands in one list: its queue, the calendar of the deferred, or the
//! bounces. One that stands nowhere is on its way from one to another, or an operator holds it.

use mail::{QueueState, UnixMillis};

use crate::Retry;
use crate::calendar::Calendar;
use crate::event::{Act, Action, Effect, JobIx, Now, Queued, Settings, Start, Task};
use crate::jobs::{EXPIRY, Job, Jobs, PLACE, RECIPIENTS_MAX, State};
use crate::table::List;
use crate::tree::Tree;

/// Until an operator releases it.
const HELD: UnixMillis = UnixMillis(u64::MAX);

/// All that waits.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) jobs: Jobs,
    pub(crate) tree: Tree,
    /// Jobs that wait for their next attempt.
    pub(crate) deferred: Calendar<PLACE>,
    /// Jobs by when their message expires.
    pub(crate) expiries: Calendar<EXPIRY>,
    /// Jobs that an operator gives up, until they can be read.
    pub(crate) bounces: List<PLACE>,
    retry: Retry,
}

impl Backlog {
    pub(crate) fn new(settings: &Settings) -> Self {
        let longest_wait = settings.retry.longest_wait();
        Self {
            jobs: Jobs::default(),
            tree: Tree::new(settings.seed, settings.resting_max, longest_wait),
            deferred: Calendar::new(longest_wait),
            expiries: Calendar::new(settings.retry.expire),
            bounces: List::EMPTY,
            retry: settings.retry,
        }
    }

    /// Takes up recipients of a message.
    pub(crate) fn add(&mut self, queued: Queued<'_>, now: Now) {
        let Queued { message, tenant, via, routed, recipients, attempts, start } = queued;
        assert!((1..=RECIPIENTS_MAX).contains(&recipients.len()), "a job is what one transaction carries");
        let queue = self.tree.queue_for(tenant, via, now.steady);
        self.tree.queues[queue].jobs += 1;
        let longest = self.retry.longest_wait().as_millis() as u64;
        let wait = match start {
            Start::Deferred(until) => until.since(now.unix).min(longest),
            Start::Due | Start::Held | Start::Quarantined => 0,
        };
        let state = match start {
            Start::Held => State::Held,
            Start::Quarantined => State::Quarantined,
            Start::Due | Start::Deferred(_) if wait == 0 => State::Ready,
            Start::Due | Start::Deferred(_) => State::Deferred,
        };
        let job = self.jobs.add_job(message, queue, recipients, state);
        let entry = &mut self.jobs.jobs[job.0];
        (entry.routed, entry.attempts) = (routed, attempts);
        let (count, leads) = (entry.recipients, entry.leads);
        self.tree.moved(queue, count, leads, None, Some(state.shown()));
        match state {
            State::Ready => self.make_due(job, false, now),
            State::Deferred => self.defer(job, wait, now),
            _ => {}
        }
    }

    /// A deferred job may be tried again.
    pub(crate) fn job_due(&mut self, job: JobIx, now: Now) {
        match self.jobs.jobs[job.0].due() {
            // It was beyond the calendar.
            Some(due) if due > now.steady => self.deferred.insert(&mut self.jobs.jobs, job.0, due),
            _ => self.make_due(job, false, now),
        }
    }

    /// Puts a job that stands nowhere into its queue.
    pub(crate) fn make_due(&mut self, job: JobIx, in_front: bool, now: Now) {
        self.set_state(job, State::Ready);
        self.arm_expiry(job, now);
        self.tree.link(&mut self.jobs.jobs, job, in_front);
        self.tree.nudge(self.tree.queues[self.jobs.jobs[job.0].queue].site);
    }

    /// Notes where a job stands now.
    pub(crate) fn set_state(&mut self, job: JobIx, state: State) {
        let entry = &mut self.jobs.jobs[job.0];
        let before = std::mem::replace(&mut entry.state, state);
        let Job { queue, recipients, leads, .. } = *entry;
        self.tree.moved(queue, recipients, leads, Some(before.shown()), Some(state.shown()));
        match state.shown() {
            QueueState::Held | QueueState::Quarantined => {
                self.expiries.remove(&mut self.jobs.jobs, job.0);
            }
            QueueState::Ready | QueueState::Active | QueueState::Deferred => {}
        }
    }

    /// Has a job looked at when its message expires.
    pub(crate) fn arm_expiry(&mut self, job: JobIx, now: Now) {
        if self.jobs.jobs[job.0].expires() {
            return;
        }
        let arrived = self.jobs.messages[self.jobs.jobs[job.0].message.0].arrived;
        let expire = self.retry.expire.as_millis() as u64;
        let left = expire.saturating_sub(now.unix.since(arrived));
        self.expiries.insert(&mut self.jobs.jobs, job.0, now.steady + left);
    }

    /// Tries a job again after its back-off, unless an operator holds it.
    pub(crate) fn retry_later(&mut self, job: JobIx, now: Now) {
        let entry = &mut self.jobs.jobs[job.0];
        entry.attempts = entry.attempts.saturating_add(1);
        entry.interrupted = false;
        let attempts = entry.attempts;
        if std::mem::take(&mut entry.held) {
            self.set_state(job, State::Held);
            return self.tree.say(Action::Deferred { job, until: HELD, attempts });
        }
        let arrived = self.jobs.messages[entry.message.0].arrived;
        let wait = self.retry.wait(u32::from(attempts), now.random).as_millis() as u64;
        // The last attempt is made when the message expires, not long after.
        let left = self.retry.expire.as_millis() as u64;
        let left = left.saturating_sub(now.unix.since(arrived));
        let wait = if left == 0 { wait } else { wait.min(left) };
        self.defer(job, wait, now);
        self.tree.say(Action::Deferred { job, until: now.unix.plus(wait), attempts });
    }

    /// Has a job that stands nowhere wait for a time of its own.
    fn defer(&mut self, job: JobIx, wait: u64, now: Now) {
        self.set_state(job, State::Deferred);
        self.arm_expiry(job, now);
        let entry = &mut self.jobs.jobs[job.0];
        entry.set_due(now.steady + wait);
        let due = entry.due().unwrap_or_default();
        self.deferred.insert(&mut self.jobs.jobs, job.0, due);
    }

    /// Ends a job that stands nowhere.
    pub(crate) fn remove_job(&mut self, job: JobIx) {
        self.expiries.remove(&mut self.jobs.jobs, job.0);
        let entry = &self.jobs.jobs[job.0];
        let (queue, state) = (entry.queue, entry.state);
        self.tree.moved(queue, entry.recipients, entry.leads, Some(state.shown()), None);
        if let Some(younger) = self.jobs.remove_job(job) {
            let state = self.jobs.jobs[younger.0].state.shown();
            self.tree.moved(queue, 0, true, None, Some(state));
        }
        let entry = &mut self.tree.queues[queue];
        entry.jobs -= 1;
        if entry.jobs == 0 {
            self.tree.drop_queue(queue);
        }
    }

    /// Takes a job out of the list that it stands in.
    fn take_out(&mut self, job: JobIx) {
        match self.jobs.jobs[job.0].state {
            State::Ready => self.tree.unlink(&mut self.jobs.jobs, job),
            State::Deferred => self.deferred.remove(&mut self.jobs.jobs, job.0),
            State::Active | State::Task(_) | State::Held | State::Quarantined => {}
        }
    }

    /// The time of a job is over: what is due and saw its site fail since is given up, as a task.
    pub(crate) fn expires(&mut self, job: JobIx, now: Now) -> bool {
        let entry = &self.jobs.jobs[job.0];
        let age = now.unix.since(self.jobs.messages[entry.message.0].arrived);
        let site = &self.tree.sites[self.tree.queues[entry.queue].site];
        let overdue = age.checked_sub(self.retry.expire.as_millis() as u64);
        let was_tried = |overdue| site.failing && now.steady.saturating_sub(site.failed_at) <= overdue;
        if entry.state == State::Ready && overdue.is_some_and(was_tried) {
            self.tree.unlink(&mut self.jobs.jobs, job);
            self.set_state(job, State::Task(Task::Expire));
            return true;
        }
        let again = match overdue {
            Some(_) => self.retry.first.as_millis() as u64,
            None => self.retry.expire.as_millis() as u64 - age,
        };
        self.expiries.insert(&mut self.jobs.jobs, job.0, now.steady + again);
        false
    }

    /// Does what an operator wants of a job.
    pub(crate) fn act(&mut self, job: JobIx, act: Act, now: Now) -> Effect {
        let (state, held) = (self.jobs.jobs[job.0].state, self.jobs.jobs[job.0].held);
        match (act, state) {
            (Act::Hold, State::Ready | State::Deferred) => {
                self.take_out(job);
                self.set_state(job, State::Held);
            }
            (Act::Hold, State::Active | State::Task(_)) if !held => self.jobs.jobs[job.0].held = true,
            (Act::Release, State::Held) => self.make_due(job, false, now),
            (Act::Release, _) if held => self.jobs.jobs[job.0].held = false,
            (Act::Retry, State::Ready | State::Deferred) => self.try_now(job, state, now),
            (Act::Bounce, State::Active | State::Task(_)) => return Effect::UnderWay,
            (Act::Bounce, State::Ready | State::Deferred | State::Held) => {
                self.take_out(job);
                self.set_state(job, State::Task(Task::Bounce));
                self.bounces.push_back(&mut self.jobs.jobs, job.0);
            }
            (Act::Discard, State::Quarantined) => self.remove_job(job),
            _ => return Effect::Unchanged,
        }
        Effect::Changed
    }

    /// Makes a job due, and has its site tried whatever failed there before.
    fn try_now(&mut self, job: JobIx, state: State, now: Now) {
        let site = self.tree.queues[self.jobs.jobs[job.0].queue].site;
        self.tree.sites[site].rest_until = 0;
        if state == State::Deferred {
            self.take_out(job);
            self.make_due(job, false, now);
        }
        self.tree.nudge(site);
    }
}
