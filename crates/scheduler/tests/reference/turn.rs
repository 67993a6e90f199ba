//! The same turn as the real one's, by walking.

use scheduler::{Action, ConnectionIx, DomainIx, JobIx, Now, SiteIx, Task, Via};

use super::{Domain, Phase, Queue, Reference, Site, Standing, State};

const STEPS: usize = 3;

impl Reference {
    pub(super) fn turn(&mut self, now: Now) {
        for _ in 0..STEPS {
            let Some(site) = self.timers.pop(now.steady) else { break };
            self.call(site);
            if self.paused || self.draining {
                self.rest_site(site);
            }
        }
        for _ in 0..STEPS {
            let Some(job) = self.deferred.pop(now.steady) else { break };
            self.make_due(job, false, now);
        }
        for _ in 0..STEPS {
            self.settle();
        }
        self.run_tasks(now);
        if self.draining {
            for _ in 0..STEPS {
                if self.drained < self.connections.entries.len() {
                    self.drained += 1;
                    self.end_unused(self.drained - 1);
                }
            }
            return;
        }
        for _ in 0..STEPS {
            if self.paused {
                return;
            }
            let Some(site) = self.next_site(now.steady) else { return };
            if self.sites[site].standing.0 == Standing::Starved {
                self.woken = self.woken.saturating_sub(1);
            }
            self.stand(site, Standing::None);
            self.serve(site, now);
        }
    }

    pub(super) fn has_more(&self) -> bool {
        let settles = self.domains.iter().any(|(_, domain)| domain.unsettled > 0);
        let drains = self.draining && self.drained < self.connections.entries.len();
        let bounces = !self.bounces.is_empty() && self.may_run_tasks();
        settles || drains || bounces || (!self.paused && !self.draining && self.next_site(0).is_some())
    }

    pub(super) fn may_run_tasks(&self) -> bool {
        !self.paused && !self.draining && self.tasks < self.settings.tasks_max
    }

    fn may_connect(&self) -> bool {
        let asking = self.sites.iter().filter(|(_, site)| site.asking).count();
        ((self.connections.iter().count() + asking) as u32) < self.settings.connections_max
    }

    fn next_site(&self, now: u64) -> Option<usize> {
        let first = |standing, may: bool| {
            let standing = self.sites.iter().filter(move |(_, site)| may && site.standing.0 == standing);
            standing.min_by_key(|(_, site)| site.standing.1).map(|(place, _)| place)
        };
        first(Standing::Crowded, self.may_connect())
            .or(first(Standing::Blocked, self.may_run_tasks()))
            .or(first(Standing::Agenda, true))
            .or(first(Standing::Starved, self.woken > 0).or_else(|| {
                first(Standing::Starved, true).filter(|&site| self.sites[site].starves_until <= now)
            }))
    }

    fn serve(&mut self, site: usize, now: Now) {
        if self.sites[site].held {
            return;
        }
        let Some(job) = self.in_turn(site) else {
            self.sites.of(site).refused = false;
            if std::mem::take(&mut self.sites.of(site).starved) {
                self.actions.push(Action::StopWaiting(SiteIx(site as u32)));
            }
            return self.rest_site(site);
        };
        let is_refused = self.sites[site].refused;
        if is_refused || self.jobs[job].routed != self.generation {
            if !self.may_run_tasks() {
                return self.stand(site, Standing::Blocked);
            }
            self.take_turn(job);
            let task = if is_refused { Task::Refuse } else { Task::Route };
            self.run(task, job);
            return self.call(site);
        }
        if let Some(connection) = self.last_idle(site) {
            self.take_turn(job);
            self.jobs.of(job).state = State::Active(connection);
            self.connections.of(connection).phase = Phase::Busy(Some(job));
            self.actions.push(Action::Start(ConnectionIx(connection as u32), JobIx(job as u32)));
            if self.ready_at(site).next().is_some() {
                self.call(site);
            }
            return;
        }
        if let Some(domain) = self.sites[site].domain {
            if self.sites[site].rest_until > now.steady {
                return self.look_again(site, self.sites[site].rest_until);
            }
            if self.domains[domain].site == site {
                self.ask(domain);
            }
            return;
        }
        if let Some(domain) = self.queues[self.jobs[job].queue].domain
            && self.domains[domain].until <= now.steady
        {
            self.ask(domain);
            self.pass_turn(job);
        }
        self.connect(site, now);
    }

    fn ask(&mut self, domain: usize) {
        if !std::mem::replace(&mut self.domains.of(domain).asked, true) {
            self.actions.push(Action::Resolve(DomainIx(domain as u32)));
        }
    }

    fn connect(&mut self, site: usize, now: Now) {
        let opening = self.opening(site);
        let is_enough =
            opening >= self.settings.opening_max || opening as usize >= self.ready_at(site).count();
        if is_enough || self.sites[site].asking {
            return;
        }
        if self.sites[site].rest_until > now.steady {
            return self.look_again(site, self.sites[site].rest_until);
        }
        if !self.may_connect() {
            return self.stand(site, Standing::Crowded);
        }
        self.sites.of(site).asking = true;
        self.actions.push(Action::Lease(SiteIx(site as u32)));
    }

    pub(super) fn run(&mut self, task: Task, job: usize) {
        self.jobs.of(job).state = State::Task(task);
        self.tasks += 1;
        self.actions.push(Action::Run(task, JobIx(job as u32)));
    }

    fn run_tasks(&mut self, now: Now) {
        for _ in 0..STEPS {
            if self.may_run_tasks() && !self.bounces.is_empty() {
                let job = self.bounces.remove(0);
                self.run(Task::Bounce, job);
            }
        }
        for _ in 0..STEPS {
            if !self.may_run_tasks() {
                return;
            }
            let Some(job) = self.expiries.pop(now.steady) else { return };
            let left = self.unix_left(job, now);
            let age = now.unix.since(self.messages[self.jobs[job].message].arrived);
            let expire = self.settings.retry.expire.as_millis() as u64;
            let site = &self.sites[self.queues[self.jobs[job].queue].site];
            let failed_since = site.failing && left == 0 && now.steady - site.failed_at <= age - expire;
            if self.jobs[job].state == State::Ready && failed_since {
                self.run(Task::Expire, job);
                continue;
            }
            let again = if left == 0 { self.settings.retry.first.as_millis() as u64 } else { left };
            let stamp = self.stamp();
            self.expiries.insert(now.steady + again, stamp, job);
        }
    }

    pub(super) fn end_unused(&mut self, connection: usize) {
        if !self.connections.has(connection) {
            return;
        }
        let entry = self.connections.of(connection);
        if matches!(entry.phase, Phase::Opening | Phase::Idle(_)) {
            entry.phase = Phase::Ending;
            self.actions.push(Action::Quit(ConnectionIx(connection as u32)));
        }
    }

    pub(super) fn make_due(&mut self, job: usize, in_front: bool, now: Now) {
        self.link(job, in_front);
        self.arm_expiry(job, now);
        self.nudge(self.queues[self.jobs[job].queue].site);
    }

    pub(super) fn arm_expiry(&mut self, job: usize, now: Now) {
        if !self.expiries.has(job) {
            let (left, stamp) = (self.unix_left(job, now), self.stamp());
            self.expiries.insert(now.steady + left, stamp, job);
        }
    }

    /// Makes a job ready, the last of its queue or the very first of its site.
    fn link(&mut self, job: usize, in_front: bool) {
        let queue = self.jobs[job].queue;
        let (site, tenant) = (self.queues[queue].site, self.queues[queue].tenant);
        let mut stamp = self.stamp();
        if in_front {
            stamp = -stamp;
        }
        let queue_waits = self.ready_at(site).any(|(_, other)| other.queue == queue);
        let lane_waits = self.lane_waits(site, tenant);
        if !queue_waits {
            self.queues.of(queue).order = stamp;
        }
        if !lane_waits || (in_front && !queue_waits) {
            self.lanes.insert((site, tenant), stamp);
        }
        let entry = self.jobs.of(job);
        (entry.state, entry.order) = (State::Ready, stamp);
    }

    fn lane_waits(&self, site: usize, tenant: scheduler::Tenant) -> bool {
        self.ready_at(site).any(|(_, other)| self.queues[other.queue].tenant == tenant)
    }

    /// Takes the job whose turn it is out; its queue and its lane come last from now on.
    fn take_turn(&mut self, job: usize) {
        self.pass_turn(job);
        self.jobs.of(job).state = State::Held;
    }

    fn pass_turn(&mut self, job: usize) {
        let stamp = self.stamp();
        let queue = self.queues.of(self.jobs[job].queue);
        queue.order = stamp;
        self.lanes.insert((queue.site, queue.tenant), stamp);
    }

    pub(super) fn call(&mut self, site: usize) {
        if self.sites[site].standing.0 != Standing::Agenda {
            self.stand(site, Standing::Agenda);
        }
    }

    pub(super) fn nudge(&mut self, site: usize) {
        if self.sites[site].standing.0 == Standing::None || self.last_idle(site).is_some() {
            self.call(site);
        }
    }

    pub(super) fn stand(&mut self, site: usize, standing: Standing) {
        let stamp = self.stamp();
        self.sites.of(site).standing = (standing, stamp);
    }

    pub(super) fn look_again(&mut self, site: usize, at: u64) {
        if self.timers.has(site) && self.sites[site].timer_at <= at {
            return;
        }
        self.sites.of(site).timer_at = at;
        self.timers.remove(site);
        let stamp = self.stamp();
        self.timers.insert(at, stamp, site);
    }

    fn settle(&mut self) {
        let first = self.domains.iter().filter(|(_, domain)| domain.unsettled > 0);
        let Some(domain) = first.min_by_key(|(_, domain)| domain.settling).map(|(place, _)| place) else {
            return;
        };
        self.domains.of(domain).unsettled -= 1;
        let siblings = self.queues.iter().filter(|(_, queue)| queue.domain == Some(domain));
        let queue = siblings.min_by_key(|(_, queue)| queue.sibling).map(|(place, _)| place);
        let queue = queue.expect("a domain that settles has queues");
        self.queues.of(queue).sibling = self.stamp();
        let (before, site) = (self.queues[queue].site, self.domains[domain].site);
        if before == site {
            return;
        }
        let (stamp, tenant) = (self.stamp(), self.queues[queue].tenant);
        let is_ready = self.jobs.iter().any(|(_, job)| job.queue == queue && job.state == State::Ready);
        if is_ready && !self.lane_waits(site, tenant) {
            self.lanes.insert((site, tenant), stamp);
        }
        let entry = self.queues.of(queue);
        (entry.site, entry.order) = (site, stamp);
        self.rest_site(before);
        self.nudge(site);
    }

    pub(super) fn site_named(&mut self, key: &str) -> usize {
        let known = self.sites.iter().find(|(_, site)| site.domain.is_none() && site.key == key);
        if let Some((site, entry)) = known {
            if entry.standing.0 == Standing::Resting {
                self.stand(site, Standing::None);
            }
            return site;
        }
        self.add_site(key, None)
    }

    fn add_site(&mut self, key: &str, domain: Option<usize>) -> usize {
        let site = self.sites.insert(Site {
            key: key.to_owned(),
            domain,
            rest_until: 0,
            starves_until: 0,
            failed_at: 0,
            failing: false,
            asking: false,
            starved: false,
            wanted: false,
            held: false,
            refused: false,
            standing: (Standing::None, 0),
            timer_at: 0,
        });
        self.actions.push(Action::Learn(SiteIx(site as u32)));
        site
    }

    pub(super) fn queue_for(&mut self, tenant: scheduler::Tenant, via: Via<'_>, now: u64) -> usize {
        let (domain, route) = match via {
            Via::Route(key) => (None, self.site_named(key)),
            Via::Domain(name) => {
                let domain = self.domain_named(&name.to_lowercase(), now);
                (Some(domain), self.domains[domain].site)
            }
        };
        let is_it = |queue: &Queue| {
            queue.tenant == tenant && queue.domain == domain && (domain.is_some() || queue.site == route)
        };
        if let Some((queue, _)) = self.queues.iter().find(|(_, queue)| is_it(queue)) {
            return queue;
        }
        let sibling = self.stamp();
        self.queues.insert(Queue { tenant, domain, site: route, order: 0, sibling })
    }

    fn domain_named(&mut self, name: &str, now: u64) -> usize {
        let known = self.domains.iter().find(|(_, domain)| domain.name == name).map(|(place, _)| place);
        if let Some(domain) = known {
            let was_resting = self.domains.of(domain).resting.take().is_some();
            if was_resting && self.domains[domain].until <= now {
                self.unresolve(domain);
            }
            return domain;
        }
        let domain = Domain {
            name: name.to_owned(),
            site: usize::MAX,
            until: 0,
            asked: false,
            resting: None,
            unsettled: 0,
            settling: 0,
        };
        let domain = self.domains.insert(domain);
        self.unresolve(domain);
        domain
    }

    pub(super) fn unresolve(&mut self, domain: usize) -> usize {
        let site = self.domains[domain].site;
        if site != usize::MAX && self.sites[site].domain.is_some() {
            return site;
        }
        let site = self.add_site("", Some(domain));
        self.lead(domain, site);
        site
    }

    pub(super) fn lead(&mut self, domain: usize, site: usize) {
        let queues = self.queues.iter().filter(|(_, queue)| queue.domain == Some(domain)).count();
        let stamp = self.stamp();
        let entry = self.domains.of(domain);
        let before = std::mem::replace(&mut entry.site, site);
        if before == site {
            return;
        }
        if entry.unsettled == 0 {
            entry.settling = stamp;
        }
        entry.unsettled = queues;
        if before != usize::MAX {
            self.rest_site(before);
        }
    }

    pub(super) fn rest_site(&mut self, place: usize) {
        if !self.sites.has(place) {
            return;
        }
        let site = &self.sites[place];
        let is_led_to = self.domains.iter().any(|(_, domain)| domain.site == place)
            || self.queues.iter().any(|(_, queue)| queue.site == place)
            || self.connections.iter().any(|(_, connection)| connection.site == place);
        let waits = site.asking || site.held || site.starved || self.timers.has(place);
        if is_led_to || waits || site.standing.0 != Standing::None {
            return;
        }
        if site.domain.is_some() {
            return self.forget(place);
        }
        self.stand(place, Standing::Resting);
        let resting = self.sites.iter().filter(|(_, site)| site.standing.0 == Standing::Resting);
        if resting.clone().count() as u32 > self.settings.resting_max {
            let oldest = resting.min_by_key(|(_, site)| site.standing.1).map(|(place, _)| place);
            self.forget(oldest.expect("there are some"));
        }
    }

    fn forget(&mut self, site: usize) {
        self.sites.remove(site);
        self.actions.push(Action::Forget(SiteIx(site as u32)));
    }

    pub(super) fn rest_domain(&mut self, place: usize) {
        let is_queued = self.queues.iter().any(|(_, queue)| queue.domain == Some(place));
        let stamp = self.stamp();
        let domain = self.domains.of(place);
        if is_queued || domain.asked || domain.resting.is_some() {
            return;
        }
        (domain.resting, domain.unsettled) = (Some(stamp), 0);
        let resting = self.domains.iter().filter(|(_, domain)| domain.resting.is_some());
        if resting.clone().count() as u32 > self.settings.resting_max {
            let oldest = resting.min_by_key(|(_, domain)| domain.resting).map(|(place, _)| place);
            let oldest = oldest.expect("there are some");
            let site = self.domains[oldest].site;
            self.domains.remove(oldest);
            self.actions.push(Action::ForgetDomain(DomainIx(oldest as u32)));
            self.rest_site(site);
        }
    }
}
