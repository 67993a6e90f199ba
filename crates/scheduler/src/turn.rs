//! A turn: a little of all that can go on, in an order that never changes.

use mail::QueueState;

use crate::Scheduler;
use crate::connection::Phase;
use crate::event::{Action, ConnectionIx, DomainIx, Errand, JobIx, Now, SiteIx};
use crate::jobs::{Job, State};
use crate::sites::Standing;
use crate::table::NONE;

/// Of each kind so much is done in one turn, so that it touches a few dozen jobs and sites.
const STEPS: usize = 3;

impl Scheduler {
    /// Does a little of everything that can go on.
    pub(crate) fn turn(&mut self, now: Now) {
        for _ in 0..STEPS {
            let Some(site) = self.tree.timers.pop(&mut self.tree.sites, now.steady) else { break };
            self.call(site);
            if self.is_stopped() {
                self.tree.rest_site(site);
            }
        }
        for _ in 0..STEPS {
            let Some(job) = self.deferred.pop(&mut self.jobs.jobs, now.steady) else { break };
            self.job_due(JobIx(job), now);
        }
        for _ in 0..STEPS {
            match self.tree.settle() {
                Some(site) => self.nudge(site),
                None if self.tree.is_settling() => {}
                None => break,
            }
        }
        self.run_errands(now);
        if self.draining {
            return self.drain_some();
        }
        for _ in 0..STEPS {
            let Some(site) = self.next_site(now.steady) else { break };
            self.tree.stand(site, Standing::None);
            self.serve(site, now);
        }
    }

    /// There is more to do at once.
    pub(crate) fn has_more(&self) -> bool {
        self.tree.is_settling()
            || (!self.bounces.is_empty() && self.may_run_errands())
            || (self.draining && self.drained < self.connections.end())
            || (!self.is_stopped() && self.peek_site(0).is_some())
    }

    /// When the site that has starved longest asks again at the latest. All wait as long, so that it is the first.
    pub(crate) fn starves_until(&self) -> Option<u64> {
        let site = if self.is_stopped() { None } else { self.tree.first_standing(Standing::Starved) };
        site.map(|site| self.tree.sites[site].starves_until)
    }

    fn peek_site(&self, now: u64) -> Option<(u32, Standing)> {
        let first = |standing, may: bool| {
            let site = if may { self.tree.first_standing(standing) } else { None };
            site.map(|site| (site, standing))
        };
        first(Standing::Crowded, self.may_connect())
            .or_else(|| first(Standing::Blocked, self.may_run_errands()))
            .or_else(|| first(Standing::Agenda, true))
            .or_else(|| {
                let may = self.woken > 0 || self.starves_until().is_some_and(|until| until <= now);
                first(Standing::Starved, may)
            })
    }

    /// The site that is served next: those that waited longest for what is there now come first.
    fn next_site(&mut self, now: u64) -> Option<u32> {
        if self.is_stopped() {
            return None;
        }
        let (site, standing) = self.peek_site(now)?;
        self.woken = self.woken.saturating_sub(u32::from(standing == Standing::Starved));
        Some(site)
    }

    /// Has a site served, whatever it waits for.
    pub(crate) fn call(&mut self, site: u32) {
        if self.tree.sites[site].standing != Standing::Agenda {
            self.tree.stand(site, Standing::Agenda);
        }
    }

    /// Has a site served that has got something to do, unless it waits for a connection already.
    pub(crate) fn nudge(&mut self, site: u32) {
        let entry = &self.tree.sites[site];
        if entry.standing == Standing::None || !entry.idle.is_empty() {
            self.call(site);
        }
    }

    /// The next step of a site, one at a time: an errand, a message, a question, a lease.
    fn serve(&mut self, site: u32, now: Now) {
        if self.tree.sites[site].held {
            return;
        }
        let Some(job) = self.tree.job_in_turn(site) else {
            let entry = &mut self.tree.sites[site];
            entry.refused = false;
            if std::mem::take(&mut entry.starved) {
                self.tree.say(Action::StopWaiting(SiteIx(site)));
            }
            return self.tree.rest_site(site);
        };
        let entry = &self.tree.sites[site];
        if entry.refused || self.jobs.jobs[job.0].routed != self.generation {
            return self.run_in_turn(site, job);
        }
        if let Some(connection) = entry.idle.last() {
            return self.start(site, ConnectionIx(connection), job);
        }
        if entry.is_unresolved() {
            return self.resolve(site, now);
        }
        self.refresh(site, now);
        self.connect(site, now);
    }

    /// Runs the errand that the job whose turn it is at a site needs.
    fn run_in_turn(&mut self, site: u32, job: JobIx) {
        if !self.may_run_errands() {
            return self.tree.stand(site, Standing::Blocked);
        }
        let errand = if self.tree.sites[site].refused { Errand::Refuse } else { Errand::Route };
        self.tree.take_turn(&mut self.jobs.jobs, site, job);
        self.set_state(job, State::Errand(errand));
        self.run(errand, job);
        self.call(site);
    }

    fn start(&mut self, site: u32, connection: ConnectionIx, job: JobIx) {
        self.tree.take_turn(&mut self.jobs.jobs, site, job);
        self.set_state(job, State::Active);
        self.jobs.jobs[job.0].set_connection(connection);
        let entry = &mut self.tree.sites[site];
        entry.idle.remove(&mut self.connections, connection.0);
        self.connections[connection.0].phase = Phase::Busy(Some(job));
        self.tree.say(Action::Start(connection, job));
        if self.tree.sites[site].sums.ready_jobs > 0 {
            self.call(site);
        }
    }

    /// Asks for the hosts of the domain that a site stands for.
    fn resolve(&mut self, site: u32, now: Now) {
        let entry = &self.tree.sites[site];
        let (domain, rest_until) = (entry.domain, entry.rest_until);
        if rest_until > now.steady {
            return self.tree.look_again(site, rest_until);
        }
        // Queues that have yet to follow their domain wait for that.
        let owner = &mut self.tree.domains[domain];
        if owner.site == site && !std::mem::replace(&mut owner.asked, true) {
            self.tree.say(Action::Resolve(DomainIx(domain)));
        }
    }

    /// Asks anew for the hosts of the domain whose turn it is, when it is time; until they are known
    /// its mail goes where it went.
    fn refresh(&mut self, site: u32, now: Now) {
        let Some(queue) = self.tree.queue_in_turn(site) else { return };
        let domain = self.tree.queues[queue].domain;
        if domain == NONE || !self.tree.is_stale(domain, now.steady) {
            return;
        }
        let owner = &mut self.tree.domains[domain];
        if !std::mem::replace(&mut owner.asked, true) {
            self.tree.say(Action::Resolve(DomainIx(domain)));
        }
        // The next one is asked for in the next turn, though none of them goes on.
        self.tree.pass_turn(site);
    }

    /// Asks for the lease of another connection to a site, if it needs one and may have it.
    fn connect(&mut self, site: u32, now: Now) {
        let may_connect = self.may_connect();
        let entry = &mut self.tree.sites[site];
        let is_enough = entry.opening >= self.settings.opening_max || entry.opening >= entry.sums.ready_jobs;
        if is_enough || entry.asking {
            return;
        }
        let rest_until = entry.rest_until;
        if rest_until > now.steady {
            return self.tree.look_again(site, rest_until);
        }
        if !may_connect {
            return self.tree.stand(site, Standing::Crowded);
        }
        entry.asking = true;
        self.asking += 1;
        self.tree.say(Action::Lease(SiteIx(site)));
    }

    fn job_due(&mut self, job: JobIx, now: Now) {
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
        self.nudge(self.tree.queues[self.jobs.jobs[job.0].queue].site);
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
        let expire = self.settings.retry.expire.as_millis() as u64;
        let left = expire.saturating_sub(now.unix.since(arrived));
        self.expiries.insert(&mut self.jobs.jobs, job.0, now.steady + left);
    }

    fn run(&mut self, errand: Errand, job: JobIx) {
        self.errands += 1;
        self.tree.say(Action::Run(errand, job));
    }

    /// Bounces first, for an operator waits for them; then what expires.
    fn run_errands(&mut self, now: Now) {
        for _ in 0..STEPS {
            if !self.may_run_errands() {
                return;
            }
            let Some(job) = self.bounces.pop_front(&mut self.jobs.jobs) else { break };
            self.run(Errand::Bounce, JobIx(job));
        }
        for _ in 0..STEPS {
            if !self.may_run_errands() {
                return;
            }
            let Some(job) = self.expiries.pop(&mut self.jobs.jobs, now.steady) else { break };
            self.job_expires(JobIx(job), now);
        }
    }

    /// What is due, has waited too long and saw its site fail since is given up.
    fn job_expires(&mut self, job: JobIx, now: Now) {
        let entry = &self.jobs.jobs[job.0];
        let age = now.unix.since(self.jobs.messages[entry.message.0].arrived);
        let site = &self.tree.sites[self.tree.queues[entry.queue].site];
        let overdue = age.checked_sub(self.settings.retry.expire.as_millis() as u64);
        let was_tried = |overdue| site.failing && now.steady.saturating_sub(site.failed_at) <= overdue;
        if entry.state == State::Ready && overdue.is_some_and(was_tried) {
            self.tree.unlink(&mut self.jobs.jobs, job);
            self.set_state(job, State::Errand(Errand::Expire));
            return self.run(Errand::Expire, job);
        }
        let again = match overdue {
            Some(_) => self.settings.retry.first.as_millis() as u64,
            None => self.settings.retry.expire.as_millis() as u64 - age,
        };
        self.expiries.insert(&mut self.jobs.jobs, job.0, now.steady + again);
    }

    /// Looks at a few connections, and ends those that carry no message.
    fn drain_some(&mut self) {
        for _ in 0..STEPS {
            if self.drained >= self.connections.end() {
                return;
            }
            let connection = ConnectionIx(self.drained);
            self.drained += 1;
            if self.connections.get(connection.0).is_some() {
                self.end_unused(connection);
            }
        }
    }

    /// Ends a connection that carries no message.
    pub(crate) fn end_unused(&mut self, connection: ConnectionIx) {
        let entry = &mut self.connections[connection.0];
        let site = &mut self.tree.sites[entry.site];
        match entry.phase {
            Phase::Opening => site.opening -= 1,
            Phase::Idle => site.idle.remove(&mut self.connections, connection.0),
            Phase::Busy(_) | Phase::Ending => return,
        }
        self.connections[connection.0].phase = Phase::Ending;
        self.tree.say(Action::Quit(connection));
    }
}
