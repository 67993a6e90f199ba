//! How sites, lanes, queues and domains are found, joined, counted and forgotten.
//!
//! Each step looks at the records that it names and their neighbours in a list or bucket, never at
//! all of a kind. What would have to (a domain's queues following it to another site) is done a
//! queue at a time by [`Tree::settle`].

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;
use mail::QueueState;

use crate::calendar::Calendar;
use crate::event::{Action, DomainIx, JobIx, SiteIx, Tenant, Via};
use crate::index::Index;
use crate::jobs::{Job, PLACE, STATES};
use crate::sites::{Domain, Lane, OTHER, Queue, STANDINGS, Site, Standing};
use crate::table::{List, NONE, Table};

/// All sites and what hangs below them, and what is to be said of it.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) sites: Table<Site>,
    pub(crate) lanes: Table<Lane>,
    pub(crate) queues: Table<Queue>,
    pub(crate) domains: Table<Domain>,
    site_index: Index,
    lane_index: Index,
    queue_index: Index,
    domain_index: Index,
    pub(crate) timers: Calendar<OTHER>,
    standing: [List<PLACE>; STANDINGS],
    settling: List<PLACE>,
    resting_domains: List<PLACE>,
    standing_counts: [u32; STANDINGS],
    resting_domains_count: u32,
    resting_max: u32,
    hasher: FixedState,
    /// Where a domain is put into lower case.
    scratch: String,
    /// Recipients by where they stand.
    pub(crate) counts: [u64; STATES],
    /// Recipients that are due at sites that fail.
    pub(crate) stalled: u64,
    pub(crate) actions: VecDeque<Action>,
}

impl Tree {
    pub(crate) fn new(seed: u64, resting_max: u32, longest_wait: Duration) -> Self {
        Self {
            sites: Table::default(),
            lanes: Table::default(),
            queues: Table::default(),
            domains: Table::default(),
            site_index: Index::default(),
            lane_index: Index::default(),
            queue_index: Index::default(),
            domain_index: Index::default(),
            timers: Calendar::new(longest_wait),
            standing: [List::EMPTY; STANDINGS],
            settling: List::EMPTY,
            resting_domains: List::EMPTY,
            standing_counts: [0; STANDINGS],
            resting_domains_count: 0,
            resting_max,
            hasher: FixedState::with_seed(seed),
            scratch: String::new(),
            counts: [0; STATES],
            stalled: 0,
            actions: VecDeque::new(),
        }
    }

    pub(crate) fn say(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// The site of this key, which may be a new one.
    pub(crate) fn site_named(&mut self, key: &str) -> u32 {
        let hash = self.hasher.hash_one(key);
        if let Some(site) = self.site_index.find(&self.sites, hash, |site| *site.key == *key) {
            if self.sites[site].standing == Standing::Resting {
                self.stand(site, Standing::None);
            }
            return site;
        }
        let site = self.sites.insert(Site::named(key, hash));
        self.site_index.insert(&mut self.sites, site);
        self.say(Action::Learn(SiteIx(site)));
        site
    }

    /// The domain of this name, which may be a new one; whether it had nothing queued.
    fn domain_named(&mut self, name: &str) -> (u32, bool) {
        self.scratch.clear();
        self.scratch.push_str(name);
        self.scratch.make_ascii_lowercase();
        let (hash, name) = (self.hasher.hash_one(&*self.scratch), &self.scratch);
        let found = self.domain_index.find(&self.domains, hash, |domain| *domain.name == **name);
        if let Some(domain) = found {
            let is_resting = std::mem::take(&mut self.domains[domain].resting);
            if is_resting {
                self.resting_domains.remove(&mut self.domains, domain);
                self.resting_domains_count -= 1;
            }
            return (domain, is_resting);
        }
        let domain = self.domains.insert(Domain::new(name, hash));
        self.domain_index.insert(&mut self.domains, domain);
        self.unresolve(domain);
        (domain, true)
    }

    /// The queue of a tenant's mail by this way, which may be a new one.
    pub(crate) fn queue_for(&mut self, tenant: Tenant, via: Via<'_>, now: u64) -> u32 {
        let (domain, route) = match via {
            Via::Domain(name) => {
                let (domain, was_empty) = self.domain_named(name);
                // No mail kept the answer fresh.
                if was_empty && self.is_stale(domain, now) {
                    self.unresolve(domain);
                }
                (domain, NONE)
            }
            Via::Route(key) => (NONE, self.site_named(key)),
        };
        let hash = self.hasher.hash_one((tenant, domain, route));
        let is_it = |queue: &Queue| {
            let is_same_way = queue.domain == domain && (domain != NONE || queue.site == route);
            queue.tenant == tenant && is_same_way
        };
        if let Some(queue) = self.queue_index.find(&self.queues, hash, is_it) {
            return queue;
        }
        let site = self.domains.get(domain).map_or(route, |domain| domain.site);
        let queue = self.queues.insert(Queue::new(tenant, domain, site, hash));
        self.queue_index.insert(&mut self.queues, queue);
        self.sites[site].references += 1;
        if let Some(owner) = self.domains.get_mut(domain) {
            owner.queue_count += 1;
            owner.queues.push_back(&mut self.queues, queue);
        }
        queue
    }

    /// Forgets a queue that has no job any more.
    pub(crate) fn drop_queue(&mut self, queue: u32) {
        let Queue { domain, site, .. } = self.queues[queue];
        self.queue_index.remove(&mut self.queues, queue);
        if let Some(owner) = self.domains.get_mut(domain) {
            owner.queue_count -= 1;
            owner.queues.remove(&mut self.queues, queue);
        }
        self.queues.remove(queue);
        self.rest_domain(domain);
        self.dereference(site);
    }

    /// The answer that led a domain to its site holds no longer.
    pub(crate) fn is_stale(&self, domain: u32, now: u64) -> bool {
        self.domains.get(domain).is_some_and(|domain| u64::from(domain.until) * 1000 <= now)
    }

    /// Gives a domain a site that stands for it until its hosts are known; gives that site.
    pub(crate) fn unresolve(&mut self, domain: u32) -> u32 {
        let site = self.domains[domain].site;
        if site != NONE && self.sites[site].is_unresolved() {
            return site;
        }
        let site = self.sites.insert(Site::of_domain(domain));
        self.say(Action::Learn(SiteIx(site)));
        self.lead(domain, site);
        site
    }

    /// A domain's mail goes to another site from now on; its queues follow.
    pub(crate) fn lead(&mut self, domain: u32, site: u32) {
        let owner = &mut self.domains[domain];
        let before = std::mem::replace(&mut owner.site, site);
        if before == site {
            return;
        }
        let was_settling = std::mem::replace(&mut owner.unsettled, owner.queue_count) > 0;
        if owner.unsettled > 0 && !was_settling {
            self.settling.push_back(&mut self.domains, domain);
        }
        self.sites[site].references += 1;
        if before != NONE {
            self.dereference(before);
        }
    }

    /// There is a queue that has yet to follow its domain.
    pub(crate) fn is_settling(&self) -> bool {
        !self.settling.is_empty()
    }

    /// Has one queue follow its domain; gives the site to which it came.
    pub(crate) fn settle(&mut self) -> Option<u32> {
        let domain = self.settling.first()?;
        let owner = &mut self.domains[domain];
        owner.unsettled -= 1;
        let (site, is_over) = (owner.site, owner.unsettled == 0);
        let queue = owner.queues.first();
        owner.queues.rotate(&mut self.queues);
        if is_over {
            self.settling.remove(&mut self.domains, domain);
        }
        let queue = queue.filter(|&queue| self.queues[queue].site != site)?;
        let is_linked = self.queues[queue].lane != NONE;
        if is_linked {
            self.leave_lane(queue);
        }
        let sums = self.queues[queue].sums;
        let before = std::mem::replace(&mut self.queues[queue].site, site);
        self.recount(before, |site| site.sums.subtract(&sums));
        self.recount(site, |site| site.sums.add(&sums));
        self.sites[site].references += 1;
        if is_linked {
            self.enter_lane(queue, false);
        }
        self.dereference(before);
        Some(site)
    }

    /// Puts a job into its queue: at the end, or in front of all that wait for its site.
    pub(crate) fn link(&mut self, jobs: &mut Table<Job>, job: JobIx, in_front: bool) {
        let queue = jobs[job.0].queue;
        let ready = &mut self.queues[queue].ready;
        if in_front {
            ready.push_front(jobs, job.0)
        } else {
            ready.push_back(jobs, job.0)
        }
        self.count_job(queue, true);
        if self.queues[queue].lane == NONE {
            self.enter_lane(queue, in_front);
        }
    }

    /// Takes a job out of its queue.
    pub(crate) fn unlink(&mut self, jobs: &mut Table<Job>, job: JobIx) {
        let queue = jobs[job.0].queue;
        self.queues[queue].ready.remove(jobs, job.0);
        self.count_job(queue, false);
        if self.queues[queue].ready.is_empty() {
            self.leave_lane(queue);
        }
    }

    fn count_job(&mut self, queue: u32, comes: bool) {
        let queue = &mut self.queues[queue];
        let site = &mut self.sites[queue.site];
        for sums in [&mut queue.sums, &mut site.sums] {
            sums.ready_jobs = if comes { sums.ready_jobs + 1 } else { sums.ready_jobs - 1 };
        }
    }

    /// The queue whose turn it is at a site.
    pub(crate) fn queue_in_turn(&self, site: u32) -> Option<u32> {
        let lane = self.sites[site].lanes.first()?;
        self.lanes[lane].queues.first()
    }

    /// The job whose turn it is at a site.
    pub(crate) fn job_in_turn(&self, site: u32) -> Option<JobIx> {
        self.queues[self.queue_in_turn(site)?].ready.first().map(JobIx)
    }

    /// The turn passes to the next tenant at a site, and within the lane that had it to the next queue.
    pub(crate) fn pass_turn(&mut self, site: u32) {
        let Some(lane) = self.sites[site].lanes.first() else { return };
        self.lanes[lane].queues.rotate(&mut self.queues);
        self.sites[site].lanes.rotate(&mut self.lanes);
    }

    /// Takes the job whose turn it is out of its queue, and passes the turn.
    pub(crate) fn take_turn(&mut self, jobs: &mut Table<Job>, site: u32, job: JobIx) {
        // What goes away with this job takes no turn; what stays is the last again.
        let lane = self.queues[jobs[job.0].queue].lane;
        let is_last =
            self.queues[jobs[job.0].queue].ready.first() == self.queues[jobs[job.0].queue].ready.last();
        self.unlink(jobs, job);
        if !is_last {
            self.pass_turn(site);
        } else if self.sites[site].lanes.first() == Some(lane) {
            self.sites[site].lanes.rotate(&mut self.lanes);
        }
    }

    fn enter_lane(&mut self, queue: u32, in_front: bool) {
        let Queue { tenant, site, .. } = self.queues[queue];
        let hash = self.hasher.hash_one((tenant, site));
        let is_it = |lane: &Lane| lane.site == site && lane.tenant == tenant;
        let found = self.lane_index.find(&self.lanes, hash, is_it);
        let lane = found.unwrap_or_else(|| self.lanes.insert(Lane::new(site, tenant, hash)));
        let lanes = &mut self.sites[site].lanes;
        match found {
            None => {
                self.lane_index.insert(&mut self.lanes, lane);
                if in_front {
                    lanes.push_front(&mut self.lanes, lane);
                } else {
                    lanes.push_back(&mut self.lanes, lane);
                }
            }
            Some(lane) if in_front => {
                lanes.remove(&mut self.lanes, lane);
                lanes.push_front(&mut self.lanes, lane);
            }
            Some(_) => {}
        }
        self.queues[queue].lane = lane;
        let queues = &mut self.lanes[lane].queues;
        if in_front {
            queues.push_front(&mut self.queues, queue)
        } else {
            queues.push_back(&mut self.queues, queue)
        }
    }

    fn leave_lane(&mut self, queue: u32) {
        let lane = std::mem::replace(&mut self.queues[queue].lane, NONE);
        let entry = &mut self.lanes[lane];
        entry.queues.remove(&mut self.queues, queue);
        if entry.queues.is_empty() {
            let site = entry.site;
            self.sites[site].lanes.remove(&mut self.lanes, lane);
            self.lane_index.remove(&mut self.lanes, lane);
            self.lanes.remove(lane);
        }
    }

    /// Counts recipients of a queue where they stand now; with `leads` a message comes or goes with them.
    pub(crate) fn moved(
        &mut self,
        queue: u32,
        recipients: u16,
        leads: bool,
        from: Option<QueueState>,
        to: Option<QueueState>,
    ) {
        let recipients = u32::from(recipients);
        from.inspect(|&from| self.counts[from as usize] -= u64::from(recipients));
        to.inspect(|&to| self.counts[to as usize] += u64::from(recipients));
        let mut sums = self.queues[queue].sums;
        sums.moved(recipients, leads, from, to);
        let before = std::mem::replace(&mut self.queues[queue].sums, sums);
        let site = self.queues[queue].site;
        self.recount(site, |site| {
            site.sums.subtract(&before);
            site.sums.add(&sums);
        });
    }

    /// Changes what is counted of a site, and tells of mail that begins or ceases to wait for one that fails.
    fn recount(&mut self, index: u32, change: impl FnOnce(&mut Site)) {
        let site = &mut self.sites[index];
        let view = |site: &Site| {
            (site.failing && site.sums.waiting() > 0, if site.failing { site.sums.ready } else { 0 })
        };
        let (was_stalled, ready_before) = view(site);
        change(site);
        let (is_stalled, ready) = view(site);
        self.stalled = self.stalled - u64::from(ready_before) + u64::from(ready);
        match (was_stalled, is_stalled) {
            (false, true) => self.say(Action::Stalled(SiteIx(index))),
            (true, false) => self.say(Action::Unstalled(SiteIx(index))),
            _ => {}
        }
    }

    /// A site fails, or works.
    pub(crate) fn set_failing(&mut self, site: u32, failing: bool) {
        self.recount(site, |site| site.failing = failing);
    }

    /// Puts a site among those that stand so, at the end.
    pub(crate) fn stand(&mut self, site: u32, standing: Standing) {
        let before = std::mem::replace(&mut self.sites[site].standing, standing);
        if before != Standing::None {
            self.standing[before as usize].remove(&mut self.sites, site);
            self.standing_counts[before as usize] -= 1;
        }
        if standing != Standing::None {
            self.standing[standing as usize].push_back(&mut self.sites, site);
            self.standing_counts[standing as usize] += 1;
        }
    }

    /// How many sites stand so.
    pub(crate) fn count_standing(&self, standing: Standing) -> u32 {
        self.standing_counts[standing as usize]
    }

    /// The first of the sites that stand so.
    pub(crate) fn first_standing(&self, standing: Standing) -> Option<u32> {
        self.standing[standing as usize].first()
    }

    /// Has a site looked at again at `at`, or before.
    pub(crate) fn look_again(&mut self, site: u32, at: u64) {
        let entry = &mut self.sites[site];
        if entry.has_timer() && entry.timer_at <= at {
            return;
        }
        entry.timer_at = at;
        self.timers.remove(&mut self.sites, site);
        self.timers.insert(&mut self.sites, site, at);
    }

    /// Has a site served, whatever it waits for.
    pub(crate) fn call(&mut self, site: u32) {
        if self.sites[site].standing != Standing::Agenda {
            self.stand(site, Standing::Agenda);
        }
    }

    /// Has a site served that has got something to do, unless it waits for a connection already.
    pub(crate) fn nudge(&mut self, site: u32) {
        let entry = &self.sites[site];
        if entry.standing == Standing::None || !entry.idle.is_empty() {
            self.call(site);
        }
    }

    /// A site failed: it rests until `until`.
    pub(crate) fn site_failed(&mut self, site: u32, until: u64, now: u64) {
        self.set_failing(site, true);
        let entry = &mut self.sites[site];
        (entry.rest_until, entry.failed_at) = (until, now);
        self.look_again(site, until);
    }

    /// A site works: connections are opened from `from` on.
    pub(crate) fn site_works(&mut self, site: u32, from: u64) {
        self.set_failing(site, false);
        self.sites[site].rest_until = from;
        self.nudge(site);
    }

    fn dereference(&mut self, site: u32) {
        self.sites[site].references -= 1;
        self.rest_site(site);
    }

    /// Something about a site has ended: it may be forgotten, or that which has rested longest.
    pub(crate) fn rest_site(&mut self, site: u32) {
        if !self.sites.get(site).is_some_and(Site::is_idle) {
            return;
        }
        if self.sites[site].is_unresolved() {
            return self.forget_site(site);
        }
        self.stand(site, Standing::Resting);
        if self.count_standing(Standing::Resting) > self.resting_max
            && let Some(oldest) = self.first_standing(Standing::Resting)
        {
            self.stand(oldest, Standing::None);
            self.site_index.remove(&mut self.sites, oldest);
            self.forget_site(oldest);
        }
    }

    fn forget_site(&mut self, site: u32) {
        self.sites.remove(site);
        self.say(Action::Forget(SiteIx(site)));
    }

    /// A domain may have nothing queued any more: that which has rested longest is forgotten.
    pub(crate) fn rest_domain(&mut self, domain: u32) {
        let Some(owner) = self.domains.get_mut(domain) else { return };
        if owner.queue_count > 0 || owner.asked || owner.resting {
            return;
        }
        owner.resting = true;
        if std::mem::take(&mut owner.unsettled) > 0 {
            self.settling.remove(&mut self.domains, domain);
        }
        self.resting_domains.push_back(&mut self.domains, domain);
        self.resting_domains_count += 1;
        if self.resting_domains_count > self.resting_max
            && let Some(oldest) = self.resting_domains.pop_front(&mut self.domains)
        {
            self.resting_domains_count -= 1;
            self.domain_index.remove(&mut self.domains, oldest);
            let site = self.domains[oldest].site;
            self.domains.remove(oldest);
            self.say(Action::ForgetDomain(DomainIx(oldest)));
            self.dereference(site);
        }
    }
}
