//! What is done about a job that is not sent: its message is read to be routed again, or to be given up.

use mail::{Reply, Status};
use ring::Ring;
use scheduler::{Event, JobIx, Task};
use spool::{LoadError, StoredMessage};

use crate::desk::{Desk, Load};
use crate::outcome::Attempt;
use crate::{Context, own_reply, report};

impl Desk {
    /// Reads what a task needs.
    pub(crate) fn run<R: Ring>(&mut self, cx: &mut Context<'_, R>, task: Task, job: JobIx) {
        let request = self.loads.insert(Load::Task(task, job));
        cx.spool.load(cx.ring, self.schedule.key(job), request);
    }

    /// The message of a task is here, or cannot be had.
    pub(crate) fn task_loaded<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        task: Task,
        job: JobIx,
        result: Result<StoredMessage, LoadError>,
    ) {
        self.bouncing -= usize::from(task == Task::Bounce);
        // What an operator has given up is not held.
        if self.schedule.job(job).held && task != Task::Bounce {
            return self.schedule.tell(cx, Event::GivenBack { job, interrupted: false });
        }
        match (task, result) {
            (Task::Route, Ok(stored)) => self.route(cx, job, &stored),
            (Task::Expire, Ok(stored)) => self.expire(cx, job, &stored),
            (Task::Refuse, Ok(stored)) => self.refuse(cx, job, &stored),
            (Task::Bounce, Ok(stored)) => self.bounce(cx, job, &stored),
            (_, Err(error)) => self.unreadable(cx, job, &error),
        }
    }

    /// Queues a job anew. Where its tenant has left the configuration, that may be a mistake: it is no reason to
    /// bounce before the message expires.
    fn route<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx, stored: &StoredMessage) {
        if cx.snapshots.load().tenant_named(stored.tenant()).is_some() {
            return self.route_anew(cx, job, stored);
        }
        let reply = own_reply(4, "the tenant of this message is no longer configured");
        self.conclude(cx, job, stored, &Attempt::unmade(&reply));
    }

    fn expire<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx, stored: &StoredMessage) {
        let failure = self.site(self.schedule.job(job).site).failure.clone();
        self.conclude(cx, job, stored, &Attempt { give_up: true, ..Attempt::unmade(&failure) });
    }

    /// Gives a job up whose domain takes no mail, unless DNS has come to say otherwise.
    fn refuse<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx, stored: &StoredMessage) {
        let domain = self.schedule.job(job).domain;
        match domain.and_then(|domain| self.refusals.get(&domain)).cloned() {
            Some(refusal) => self.conclude(cx, job, stored, &Attempt::unmade(&refusal)),
            None => self.schedule.tell(cx, Event::GivenBack { job, interrupted: false }),
        }
    }

    /// Gives a job up as an operator wants it.
    fn bounce<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx, stored: &StoredMessage) {
        let reply = Reply::new(554, Some(Status::new(5, 0, 0)), &self.bounce_reason);
        self.conclude(cx, job, stored, &Attempt { by_operator: true, ..Attempt::unmade(&reply) });
    }

    /// A stored message cannot be had. A damaged one is never delivered: it leaves the schedule and
    /// stays in the queue for a person to look at. A read that failed is tried again.
    pub(crate) fn unreadable<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx, error: &LoadError) {
        let (entry, key, now) = (self.schedule.job(job), self.schedule.key(job), cx.unix_now());
        let is_damaged = match error {
            LoadError::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
            LoadError::Damaged | LoadError::Foreign(_) => true,
            LoadError::Gone => false,
        };
        match (cx.spool.find(key), error) {
            (Some((id, _)), _) if is_damaged => {
                report::quarantined(cx.log, now, id, error);
                self.quarantine(entry.message);
                self.schedule.tell(cx, Event::Damaged { job });
            }
            (Some(_), LoadError::Io(_)) => {
                report::unreadable(cx.log, now, key, error);
                self.schedule.tell(cx, Event::Unreadable { job });
            }
            _ => {
                report::unreadable(cx.log, now, key, error);
                self.release_replies(job);
                self.schedule.tell(cx, Event::Concluded { job, left: &[] });
                let (message, recipients) = (entry.message, u32::from(entry.recipients));
                self.schedule.tell(cx, Event::Settled { message, recipients });
            }
        }
    }
}
