//! What an operator wants of single jobs. Those of a message are found by [`Scheduler::jobs_of`].

use crate::Scheduler;
use crate::event::{Act, Effect, Errand, JobIx, Now};
use crate::jobs::State;

impl Scheduler {
    /// Does what an operator wants of a job; then say [`crate::Event::Tick`].
    ///
    /// # Panics
    /// When there is no such job.
    pub fn act(&mut self, job: JobIx, act: Act, now: Now) -> Effect {
        let (state, held) = (self.jobs.jobs[job.0].state, self.jobs.jobs[job.0].held);
        match (act, state) {
            (Act::Hold, State::Ready | State::Deferred) => {
                self.take_out(job);
                self.set_state(job, State::Held);
            }
            (Act::Hold, State::Active | State::Errand(_)) if !held => self.jobs.jobs[job.0].held = true,
            (Act::Release, State::Held) => self.make_due(job, false, now),
            (Act::Release, _) if held => self.jobs.jobs[job.0].held = false,
            (Act::Retry, State::Ready | State::Deferred) => self.retry(job, state, now),
            (Act::Bounce, State::Active | State::Errand(_)) => return Effect::UnderWay,
            (Act::Bounce, State::Ready | State::Deferred | State::Held) => {
                self.take_out(job);
                self.set_state(job, State::Errand(Errand::Bounce));
                self.bounces.push_back(&mut self.jobs.jobs, job.0);
            }
            (Act::Discard, State::Quarantined) => self.remove_job(job),
            _ => return Effect::Unchanged,
        }
        Effect::Changed
    }

    /// Makes a job due, and has its site tried whatever failed there before.
    fn retry(&mut self, job: JobIx, state: State, now: Now) {
        let site = self.tree.queues[self.jobs.jobs[job.0].queue].site;
        self.tree.sites[site].rest_until = 0;
        if state == State::Deferred {
            self.take_out(job);
            self.make_due(job, false, now);
        }
        self.nudge(site);
    }

    /// Takes a job out of the list that it stands in.
    fn take_out(&mut self, job: JobIx) {
        match self.jobs.jobs[job.0].state {
            State::Ready => self.tree.unlink(&mut self.jobs.jobs, job),
            State::Deferred => self.deferred.remove(&mut self.jobs.jobs, job.0),
            State::Active | State::Errand(_) | State::Held | State::Quarantined => {}
        }
    }
}
