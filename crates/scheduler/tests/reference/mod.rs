//! A scheduler that is obviously right: flat lists, all of them walked for every question.
//!
//! It says what the real one must say, to the order of actions and the numbers of records. What has
//! an order (jobs of a queue, queues of a lane, lanes of a site, sites on the agenda) has a stamp here, and the
//! first is the one with the smallest. Nothing is counted along: counts are taken by walking.

mod events;
mod turn;

use std::collections::{BTreeMap, BTreeSet};

use mail::{QueueState, UnixMillis};
use scheduler::{Action, DomainIx, JobIx, JobView, MessageIx, Note, Now, Settings, SiteIx, Task, Tenant};

/// Numbered entries; the number that was given back last is given next.
#[derive(Debug)]
pub(crate) struct Places<T> {
    entries: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Places<T> {
    fn insert(&mut self, entry: T) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        self.entries[place] = Some(entry);
        place
    }

    fn remove(&mut self, place: usize) {
        self.entries[place].take().expect("it is there");
        self.free.push(place);
    }

    fn has(&self, place: usize) -> bool {
        self.entries.get(place).is_some_and(Option::is_some)
    }

    fn of(&mut self, place: usize) -> &mut T {
        self.entries[place].as_mut().expect("it is there")
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &T)> + Clone {
        self.entries.iter().enumerate().filter_map(|(place, entry)| Some((place, entry.as_ref()?)))
    }
}

impl<T> std::ops::Index<usize> for Places<T> {
    type Output = T;

    fn index(&self, place: usize) -> &T {
        self.entries[place].as_ref().expect("it is there")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Active(usize),
    Task(Task),
    Deferred(u64),
    Held,
    Quarantined,
}

impl State {
    fn shown(self) -> QueueState {
        match self {
            Self::Ready => QueueState::Ready,
            Self::Task(Task::Bounce) | Self::Active(_) => QueueState::Active,
            Self::Task(_) => QueueState::Ready,
            Self::Deferred(_) => QueueState::Deferred,
            Self::Held => QueueState::Held,
            Self::Quarantined => QueueState::Quarantined,
        }
    }
}

#[derive(Debug)]
struct Message {
    key: u64,
    arrived: UnixMillis,
    pending: u32,
}

#[derive(Debug)]
struct Job {
    message: usize,
    /// The latest of a message's is the first.
    made: i64,
    queue: usize,
    recipients: Vec<(u16, Note)>,
    routed: u32,
    attempts: u16,
    state: State,
    interrupted: bool,
    held: bool,
    order: i64,
}

#[derive(Debug)]
struct Queue {
    tenant: Tenant,
    domain: Option<usize>,
    site: usize,
    order: i64,
    sibling: i64,
}

#[derive(Debug)]
struct Domain {
    name: String,
    site: usize,
    until: u64,
    asked: bool,
    resting: Option<i64>,
    unsettled: usize,
    settling: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    None,
    Agenda,
    Starved,
    Crowded,
    Blocked,
    Resting,
}

#[derive(Debug)]
struct Site {
    key: String,
    domain: Option<usize>,
    rest_until: u64,
    starves_until: u64,
    failed_at: u64,
    failing: bool,
    asking: bool,
    starved: bool,
    wanted: bool,
    held: bool,
    refused: bool,
    standing: (Standing, i64),
    timer_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Idle(i64),
    Busy(Option<usize>),
    Ending,
}

#[derive(Debug)]
struct Connection {
    site: usize,
    phase: Phase,
    messages: u32,
    tried: u8,
}

/// Deadlines: tick, stamp, whose.
#[derive(Debug)]
struct Deadlines {
    tick: u64,
    passed: u64,
    list: Vec<(u64, i64, usize)>,
}

impl Deadlines {
    fn new(longest: std::time::Duration) -> Self {
        Self { tick: (longest.as_millis() as u64).div_ceil(8192).max(100), passed: 0, list: Vec::new() }
    }

    fn insert(&mut self, at: u64, stamp: i64, whose: usize) {
        let tick = at.div_ceil(self.tick).clamp(self.passed + 1, self.passed + 16383);
        self.list.push((tick, stamp, whose));
    }

    fn remove(&mut self, whose: usize) {
        self.list.retain(|entry| entry.2 != whose);
    }

    fn has(&self, whose: usize) -> bool {
        self.list.iter().any(|entry| entry.2 == whose)
    }

    fn next(&self) -> Option<u64> {
        self.list.iter().min().map(|entry| entry.0 * self.tick)
    }

    fn pop(&mut self, now: u64) -> Option<usize> {
        let first = self.list.iter().copied().min().filter(|entry| entry.0 <= now / self.tick);
        self.passed = first.map_or(self.passed.max(now / self.tick), |entry| entry.0 - 1);
        first.map(|entry| {
            self.remove(entry.2);
            entry.2
        })
    }

    fn follow(&mut self, now: u64) {
        let first = self.list.iter().min().filter(|entry| entry.0 <= now / self.tick);
        self.passed = first.map_or(self.passed.max(now / self.tick), |entry| entry.0 - 1);
    }
}

#[derive(Debug)]
pub(crate) struct Reference {
    settings: Settings,
    messages: Places<Message>,
    jobs: Places<Job>,
    queues: Places<Queue>,
    sites: Places<Site>,
    domains: Places<Domain>,
    connections: Places<Connection>,
    /// When lanes were put where they are: by site and tenant.
    lanes: BTreeMap<(usize, Tenant), i64>,
    deferred: Deadlines,
    expiries: Deadlines,
    timers: Deadlines,
    bounces: Vec<usize>,
    tasks: u32,
    woken: u32,
    generation: u32,
    paused: bool,
    draining: bool,
    drained: usize,
    stamps: i64,
    pub(crate) actions: Vec<Action>,
}

impl Reference {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            messages: Places::default(),
            jobs: Places::default(),
            queues: Places::default(),
            sites: Places::default(),
            domains: Places::default(),
            connections: Places::default(),
            lanes: BTreeMap::new(),
            deferred: Deadlines::new(settings.retry.longest_wait()),
            expiries: Deadlines::new(settings.retry.expire),
            timers: Deadlines::new(settings.retry.longest_wait()),
            bounces: Vec::new(),
            tasks: 0,
            woken: 0,
            generation: 0,
            paused: false,
            draining: false,
            drained: 0,
            stamps: 0,
            actions: Vec::new(),
        }
    }

    pub(crate) fn add_message(&mut self, key: u64, arrived: UnixMillis, pending: u32) -> MessageIx {
        MessageIx(self.messages.insert(Message { key, arrived, pending }) as u32)
    }

    fn stamp(&mut self) -> i64 {
        self.stamps += 1;
        self.stamps
    }

    fn opening(&self, site: usize) -> u32 {
        let is_it = |entry: &Connection| entry.site == site && entry.phase == Phase::Opening;
        self.connections.iter().filter(|(_, entry)| is_it(entry)).count() as u32
    }

    fn last_idle(&self, site: usize) -> Option<usize> {
        let idle = self.connections.iter().filter_map(|(place, entry)| match entry.phase {
            Phase::Idle(since) if entry.site == site => Some((since, place)),
            _ => None,
        });
        idle.max().map(|(_, place)| place)
    }

    fn jobs_at(&self, site: usize) -> impl Iterator<Item = (usize, &Job)> {
        self.jobs.iter().filter(move |(_, job)| self.queues[job.queue].site == site)
    }

    fn ready_at(&self, site: usize) -> impl Iterator<Item = (usize, &Job)> {
        self.jobs_at(site).filter(|(_, job)| job.state == State::Ready)
    }

    fn in_turn(&self, site: usize) -> Option<usize> {
        let first = self.ready_at(site).min_by_key(|(_, job)| {
            let queue = &self.queues[job.queue];
            (self.lanes[&(site, queue.tenant)], queue.order, job.order)
        });
        first.map(|(place, _)| place)
    }

    /// Recipients at a site that are ready, active, deferred; messages, each once a queue.
    fn sums(&self, site: usize) -> (u32, u32, u32, u32) {
        let count = |state| {
            let here = self.jobs_at(site).filter(|(_, job)| job.state.shown() == state);
            here.map(|(_, job)| job.recipients.len() as u32).sum()
        };
        let leads = |(_, job): &(usize, &Job)| {
            let elder = self.jobs.iter().any(|(_, other)| {
                (other.message, other.queue) == (job.message, job.queue) && other.made < job.made
            });
            !elder && !matches!(job.state, State::Held | State::Quarantined)
        };
        let messages = self.jobs_at(site).filter(leads).count() as u32;
        (count(QueueState::Ready), count(QueueState::Active), count(QueueState::Deferred), messages)
    }

    /// Sites that fail while mail waits for them.
    pub(crate) fn stalled(&self) -> BTreeSet<SiteIx> {
        let failing = self.sites.iter().filter(|(_, site)| site.failing);
        let waited_for = |place: &usize| {
            let (ready, active, deferred, _) = self.sums(*place);
            ready + active + deferred > 0
        };
        failing.map(|(place, _)| place).filter(waited_for).map(|place| SiteIx(place as u32)).collect()
    }

    pub(crate) fn recipients_in(&self, state: QueueState) -> u64 {
        let shown = self.jobs.iter().map(|(place, job)| (self.shown(place), job.recipients.len() as u64));
        shown.filter(|(shown, _)| *shown == state).map(|(_, count)| count).sum()
    }

    /// What waits for a site that fails is deferred, a task of it too.
    fn shown(&self, job: usize) -> QueueState {
        let entry = &self.jobs[job];
        match entry.state.shown() {
            QueueState::Ready if self.sites[self.queues[entry.queue].site].failing => QueueState::Deferred,
            state => state,
        }
    }

    pub(crate) fn recipients_due(&self) -> u64 {
        let due = self.jobs.iter().filter(|(_, job)| job.state.shown() == QueueState::Ready);
        due.map(|(_, job)| job.recipients.len() as u64).sum()
    }

    pub(crate) fn message_count(&self) -> usize {
        self.messages.iter().count()
    }

    pub(crate) fn message_key(&self, message: MessageIx) -> Option<(u64, u32)> {
        let entry = self.messages.entries.get(message.0 as usize)?.as_ref()?;
        Some((entry.key, entry.pending))
    }

    pub(crate) fn oldest(&self) -> Option<UnixMillis> {
        let oldest = self.messages.iter().map(|(_, message)| message.arrived).min()?;
        Some(UnixMillis(oldest.0 / 1000 * 1000))
    }

    /// Every job there is, with its recipients.
    pub(crate) fn job_views(&self) -> Vec<JobFacts> {
        let view = |(place, job): (usize, &Job)| {
            let queue = &self.queues[job.queue];
            let view = JobView {
                message: MessageIx(job.message as u32),
                tenant: queue.tenant,
                domain: queue.domain.map(|domain| DomainIx(domain as u32)),
                site: SiteIx(queue.site as u32),
                state: self.shown(place),
                connection: match job.state {
                    State::Active(connection) => Some(scheduler::ConnectionIx(connection as u32)),
                    _ => None,
                },
                attempts: job.attempts,
                recipients: job.recipients.len() as u16,
                due: match job.state {
                    State::Deferred(due) => Some(due),
                    _ => None,
                },
                interrupted: job.interrupted,
                held: job.held,
            };
            (JobIx(place as u32), view, job.recipients.clone())
        };
        self.jobs.iter().map(view).collect()
    }

    /// Key, failing, rest, connections, sums of every site.
    pub(crate) fn site_views(&self) -> Vec<SiteFacts> {
        let view = |(place, site): (usize, &Site)| SiteFacts {
            site: SiteIx(place as u32),
            key: site.key.clone(),
            fails: site.failing,
            rest_until: site.rest_until,
            connections: self.connections.iter().filter(|(_, entry)| entry.site == place).count() as u32,
            jobs: self.ready_at(place).count() as u32,
            sums: self.sums(place),
        };
        self.sites.iter().map(view).collect()
    }

    /// The site to which each domain leads.
    pub(crate) fn domain_sites(&self) -> impl Iterator<Item = (DomainIx, SiteIx)> {
        self.domains.iter().map(|(place, domain)| (DomainIx(place as u32), SiteIx(domain.site as u32)))
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if self.has_more() {
            return Some(0);
        }
        let expiry = if self.may_run_tasks() { self.expiries.next() } else { None };
        let starving = self.sites.iter().filter(|(_, site)| site.standing.0 == Standing::Starved);
        let stopped = self.paused || self.draining;
        let starves = starving.map(|(_, site)| site.starves_until).min().filter(|_| !stopped);
        [self.deferred.next(), self.timers.next(), expiry, starves].into_iter().flatten().min()
    }

    fn unix_left(&self, job: usize, now: Now) -> u64 {
        let arrived = self.messages[self.jobs[job].message].arrived;
        (self.settings.retry.expire.as_millis() as u64).saturating_sub(now.unix.since(arrived))
    }
}

/// A job as the two are compared: its recipients at the end.
pub(crate) type JobFacts = (JobIx, JobView, Vec<(u16, Note)>);

/// A site as the two are compared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SiteFacts {
    pub(crate) site: SiteIx,
    pub(crate) key: String,
    pub(crate) fails: bool,
    pub(crate) rest_until: u64,
    pub(crate) connections: u32,
    pub(crate) jobs: u32,
    pub(crate) sums: (u32, u32, u32, u32),
}
