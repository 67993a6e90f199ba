//! A turn: a little of all that can go on, in an order that never changes.

use crate::Scheduler;
use crate::connection::Phase;
use crate::event::{Action, ConnectionIx, DomainIx, JobIx, Now, SiteIx, Task};
use crate::jobs::State;
use crate::sites::Standing;
use crate::table::NONE;

/// Of each kind so much is done in one turn, so that it touches a few dozen jobs and sites.
const STEPS: usize = 3;

impl Scheduler {
    /// Does a little of everything that can go on.
    pub(crate) fn turn(&mut self, now: Now) {
        for _ in 0..STEPS {
            let Some(site) = self.backlog.tree.timers.pop(&mut self.backlog.tree.sites, now.steady) else {
                break;
            };
            self.backlog.tree.call(site);
            if self.is_stopped() {
                self.backlog.tree.rest_site(site);
            }
        }
        for _ in 0..STEPS {
            let Some(job) = self.backlog.deferred.pop(&mut self.backlog.jobs.jobs, now.steady) else { break };
            self.backlog.job_due(JobIx(job), now);
        }
        for _ in 0..STEPS {
            match self.backlog.tree.settle() {
                Some(site) => self.backlog.tree.nudge(site),
                None if self.backlog.tree.is_settling() => {}
                None => break,
            }
        }
        self.run_tasks(now);
        if self.draining {
            return self.drain_some();
        }
        for _ in 0..STEPS {
            let Some(site) = self.next_site(now.steady) else { break };
            self.backlog.tree.stand(site, Standing::None);
            self.serve(site, now);
        }
    }

    /// There is more to do at once.
    pub(crate) fn has_more(&self) -> bool {
        self.backlog.tree.is_settling()
            || (!self.backlog.bounces.is_empty() && self.may_run_tasks())
            || (self.draining && self.drained < self.connections.end())
            || (!self.is_stopped() && self.peek_site(0).is_some())
    }

    /// When the site that has starved longest asks again at the latest. All wait as long, so that it is the first.
    pub(crate) fn starves_until(&self) -> Option<u64> {
        let site = if self.is_stopped() { None } else { self.backlog.tree.first_standing(Standing::Starved) };
        site.map(|site| self.backlog.tree.sites[site].starves_until)
    }

    fn peek_site(&self, now: u64) -> Option<(u32, Standing)> {
        let first = |standing, may: bool| {
            let site = if may { self.backlog.tree.first_standing(standing) } else { None };
            site.map(|site| (site, standing))
        };
        first(Standing::Crowded, self.may_connect())
            .or_else(|| first(Standing::Blocked, self.may_run_tasks()))
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

    /// The next step of a site, one at a time: a task, a message, a question, a lease.
    fn serve(&mut self, site: u32, now: Now) {
        if self.backlog.tree.sites[site].held {
            return;
        }
        let Some(job) = self.backlog.tree.job_in_turn(site) else {
            let entry = &mut self.backlog.tree.sites[site];
            entry.refused = false;
            if std::mem::take(&mut entry.starved) {
                self.backlog.tree.say(Action::StopWaiting(SiteIx(site)));
            }
            return self.backlog.tree.rest_site(site);
        };
        let entry = &self.backlog.tree.sites[site];
        if entry.refused || self.backlog.jobs.jobs[job.0].routed != self.generation {
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

    /// Runs the task that the job whose turn it is at a site needs.
    fn run_in_turn(&mut self, site: u32, job: JobIx) {
        if !self.may_run_tasks() {
            return self.backlog.tree.stand(site, Standing::Blocked);
        }
        let task = if self.backlog.tree.sites[site].refused { Task::Refuse } else { Task::Route };
        self.backlog.tree.take_turn(&mut self.backlog.jobs.jobs, site, job);
        self.backlog.set_state(job, State::Task(task));
        self.run(task, job);
        self.backlog.tree.call(site);
    }

    fn start(&mut self, site: u32, connection: ConnectionIx, job: JobIx) {
        self.backlog.tree.take_turn(&mut self.backlog.jobs.jobs, site, job);
        self.backlog.set_state(job, State::Active);
        self.backlog.jobs.jobs[job.0].set_connection(connection);
        let entry = &mut self.backlog.tree.sites[site];
        entry.idle.remove(&mut self.connections, connection.0);
        self.connections[connection.0].phase = Phase::Busy(Some(job));
        self.backlog.tree.say(Action::Start(connection, job));
        if self.backlog.tree.sites[site].sums.ready_jobs > 0 {
            self.backlog.tree.call(site);
        }
    }

    /// Asks for the hosts of the domain that a site stands for.
    fn resolve(&mut self, site: u32, now: Now) {
        let entry = &self.backlog.tree.sites[site];
        let (domain, rest_until) = (entry.domain, entry.rest_until);
        if rest_until > now.steady {
            return self.backlog.tree.look_again(site, rest_until);
        }
        // Queues that have yet to follow their domain wait for that.
        let owner = &mut self.backlog.tree.domains[domain];
        if owner.site == site && !std::mem::replace(&mut owner.asked, true) {
            self.backlog.tree.say(Action::Resolve(DomainIx(domain)));
        }
    }

    /// Asks anew for the hosts of the domain whose turn it is, when it is time; until they are known
    /// its mail goes where it went.
    fn refresh(&mut self, site: u32, now: Now) {
        let Some(queue) = self.backlog.tree.queue_in_turn(site) else { return };
        let domain = self.backlog.tree.queues[queue].domain;
        if domain == NONE || !self.backlog.tree.is_stale(domain, now.steady) {
            return;
        }
        let owner = &mut self.backlog.tree.domains[domain];
        if !std::mem::replace(&mut owner.asked, true) {
            self.backlog.tree.say(Action::Resolve(DomainIx(domain)));
        }
        // The next one is asked for in the next turn, though none of them goes on.
        self.backlog.tree.pass_turn(site);
    }

    /// Asks for the lease of another connection to a site, if it needs one and may have it.
    fn connect(&mut self, site: u32, now: Now) {
        let may_connect = self.may_connect();
        let entry = &mut self.backlog.tree.sites[site];
        let is_enough = entry.opening >= self.settings.opening_max || entry.opening >= entry.sums.ready_jobs;
        if is_enough || entry.asking {
            return;
        }
        let rest_until = entry.rest_until;
        if rest_until > now.steady {
            return self.backlog.tree.look_again(site, rest_until);
        }
        if !may_connect {
            return self.backlog.tree.stand(site, Standing::Crowded);
        }
        entry.asking = true;
        self.asking += 1;
        self.backlog.tree.say(Action::Lease(SiteIx(site)));
    }

    fn run(&mut self, task: Task, job: JobIx) {
        self.tasks += 1;
        self.backlog.tree.say(Action::Run(task, job));
    }

    /// Bounces first, for an operator waits for them; then what expires.
    fn run_tasks(&mut self, now: Now) {
        for _ in 0..STEPS {
            if !self.may_run_tasks() {
                return;
            }
            let Some(job) = self.backlog.bounces.pop_front(&mut self.backlog.jobs.jobs) else { break };
            self.run(Task::Bounce, JobIx(job));
        }
        for _ in 0..STEPS {
            if !self.may_run_tasks() {
                return;
            }
            let Some(job) = self.backlog.expiries.pop(&mut self.backlog.jobs.jobs, now.steady) else { break };
            if self.backlog.expires(JobIx(job), now) {
                self.run(Task::Expire, JobIx(job));
            }
        }
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
        let site = &mut self.backlog.tree.sites[entry.site];
        match entry.phase {
            Phase::Opening => site.opening -= 1,
            Phase::Idle => site.idle.remove(&mut self.connections, connection.0),
            Phase::Busy(_) | Phase::Ending => return,
        }
        self.connections[connection.0].phase = Phase::Ending;
        self.backlog.tree.say(Action::Quit(connection));
    }
}
