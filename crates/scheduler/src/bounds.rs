//! One event touches at most 64 jobs and sites, whatever waits: counted, at half a million messages.
//!
//! Every [`Scheduler::handle`] is looked at, [`Event::Tick`] included: what an event leaves for later is
//! held to the same. What has to be done is done in the end, which each test sees too.

use std::num::NonZeroU32;
use std::time::Duration;

use mail::{QueueState, UnixMillis};

use crate::{
    Action, ConnectionIx, DomainIx, Event, JobIx, Left, Now, Queued, Retry, Scheduler, Settings, SiteIx,
    Start, Task, Tenant, Via,
};

const TOUCHED_MAX: usize = 64;

/// What waits for one site.
const WAITING: u32 = 500_000;

const SETTINGS: Settings = Settings {
    retry: Retry {
        first: Duration::from_secs(300),
        longest: Duration::from_secs(3600),
        expire: Duration::from_secs(432_000),
    },
    connections_max: 20_000,
    opening_max: 2,
    messages_per_connection_max: 1000,
    addresses_tried_max: 10,
    tasks_max: 16,
    resting_max: 1024,
    lease_look: Duration::from_millis(500),
    seed: 7,
};

struct World {
    scheduler: Scheduler,
    now: Now,
    touched_max: usize,
    messages: u64,
}

impl World {
    fn new() -> Self {
        let now = Now { steady: 1_000_000, unix: UnixMillis(1_700_000_000_000), random: 3 };
        Self { scheduler: Scheduler::new(SETTINGS), now, touched_max: 0, messages: 0 }
    }

    /// Says one thing and gives what comes of it, once what it touched was counted.
    fn tell(&mut self, event: Event<'_>) -> Vec<Action> {
        self.scheduler.handle(event, self.now);
        let actions = std::iter::from_fn(|| self.scheduler.poll()).collect();
        self.count(&event);
        actions
    }

    fn count(&mut self, event: &Event<'_>) {
        let Scheduler { backlog, connections, .. } = &self.scheduler;
        let (jobs, tree) = (&backlog.jobs, &backlog.tree);
        let touched = jobs.jobs.take_touched() + tree.sites.take_touched();
        assert!(touched <= TOUCHED_MAX, "{touched} jobs and sites were touched by {event:?}");
        // The others have no promise, and are few as well.
        let others = tree.queues.take_touched()
            + tree.lanes.take_touched()
            + tree.domains.take_touched()
            + jobs.messages.take_touched()
            + connections.take_touched();
        assert!(others <= 2 * TOUCHED_MAX, "{others} others were touched by {event:?}");
        self.touched_max = self.touched_max.max(touched);
    }

    /// Lets the scheduler go on until it has nothing more to do at once.
    fn rest(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while self.scheduler.next_deadline().is_some_and(|at| at <= self.now.steady) {
            actions.extend(self.tell(Event::Tick));
        }
        actions
    }

    fn pass(&mut self, wait: Duration) {
        let millis = wait.as_millis() as u64;
        self.now.steady += millis;
        self.now.unix = self.now.unix.plus(millis);
    }

    fn queue(&mut self, tenant: u32, via: Via<'_>, start: Start) -> Vec<Action> {
        let key = self.messages;
        self.messages += 1;
        let message = self.scheduler.add_message(key, self.now.unix, NonZeroU32::MIN);
        let tenant = Tenant(tenant);
        let queued =
            Queued { message, tenant, via, routed: 0, recipients: &[Left::fresh(0)], attempts: 0, start };
        self.tell(Event::Queued(queued))
    }

    /// `count` messages of `tenants` by one way; gives its site, and its domain where there is one.
    fn fill(&mut self, count: u32, tenants: u32, via: Via<'_>, start: Start) -> (SiteIx, Option<DomainIx>) {
        for number in 0..count {
            self.queue(number % tenants, via, start);
        }
        self.rest();
        let view = self.scheduler.view().job(JobIx(0)).expect("it is there");
        (view.site, view.domain)
    }

    /// Has the lease that a site asked for granted, and its connection opened; gives that.
    fn connect(&mut self, site: SiteIx) -> ConnectionIx {
        let actions = self.tell(Event::LeaseGranted { site });
        let opened = actions.iter().find_map(|action| match action {
            Action::Open(connection, _) => Some(*connection),
            _ => None,
        });
        opened.unwrap_or_else(|| panic!("a connection is opened: {actions:?}"))
    }

    fn ready(&self) -> u64 {
        self.scheduler.view().recipients_in(QueueState::Ready)
    }

    fn deferred(&self) -> u64 {
        self.scheduler.view().recipients_in(QueueState::Deferred)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        println!("one event touched {} jobs and sites at most", self.touched_max);
    }
}

#[test]
fn a_site_with_half_a_million_waiting_fails_and_returns() {
    let mut world = World::new();
    let (site, _) = world.fill(WAITING, 1000, Via::Route("relay:25"), Start::Due);
    let until = world.now.steady + 300_000;
    world.tell(Event::SiteFailed { site, until });
    world.rest();
    assert_eq!((world.ready(), world.deferred()), (0, u64::from(WAITING)));
    world.pass(Duration::from_secs(600));
    world.rest();
    let from = world.now.steady;
    let actions = world.tell(Event::SiteWorks { site, from });
    assert_eq!(actions, [Action::Unstalled(site)]);
    assert_eq!((world.ready(), world.deferred()), (u64::from(WAITING), 0));
    // Its lease was asked for when it failed, and serves now.
    let connection = world.connect(site);
    let actions = world.tell(Event::Ready { connection });
    assert_eq!(actions, [Action::Start(connection, JobIx(0))]);
    world.rest();
}

#[test]
fn a_domain_with_half_a_million_waiting_is_resolved_moves_and_is_refused() {
    let mut world = World::new();
    let via = Via::Domain("busy.example");
    let (_, domain) = world.fill(WAITING, 5000, via, Start::Due);
    let domain = domain.expect("it goes by its domain");
    for site in ["mx1", "mx2", "mx1"] {
        world.tell(Event::Resolved { domain, site, holds: Duration::from_secs(60) });
        world.rest();
        let view = world.scheduler.view().site(world.scheduler.view().job(JobIx(0)).expect("it waits").site);
        let view = view.expect("it has a site");
        assert_eq!((view.key, view.ready), (site, WAITING));
    }
    let mut tasks = world.tell(Event::Refused { domain });
    tasks.extend(world.rest());
    let mut ended = 0;
    while let Some(action) = tasks.pop() {
        let Action::Run(Task::Refuse, job) = action else { continue };
        let message = world.scheduler.view().job(job).expect("it is being given up").message;
        tasks.extend(world.tell(Event::Concluded { job, left: &[] }));
        world.tell(Event::Settled { message, recipients: 1 });
        tasks.extend(world.rest());
        ended += 1;
        assert!(tasks.len() < 64, "a few are read at once");
    }
    assert_eq!((ended, world.scheduler.view().message_count()), (WAITING, 0));
}

#[test]
fn half_a_million_are_due_at_once() {
    let mut world = World::new();
    let later = Start::Deferred(world.now.unix.plus(600_000));
    world.fill(WAITING, 1000, Via::Route("relay:25"), later);
    assert_eq!(world.deferred(), u64::from(WAITING));
    world.pass(Duration::from_secs(700));
    world.rest();
    assert_eq!(world.ready(), u64::from(WAITING));
}

#[test]
fn half_a_million_expire_at_once_where_their_site_fails() {
    let mut world = World::new();
    let (site, _) = world.fill(WAITING, 1000, Via::Route("relay:25"), Start::Due);
    world.pass(SETTINGS.retry.expire + Duration::from_secs(1));
    world.rest();
    let until = world.now.steady + 3_600_000;
    world.tell(Event::SiteFailed { site, until });
    world.pass(SETTINGS.retry.first + Duration::from_secs(300));
    let mut tasks = world.rest();
    let mut expired = 0;
    while let Some(action) = tasks.pop() {
        let Action::Run(Task::Expire, job) = action else { continue };
        expired += 1;
        tasks.extend(world.tell(Event::Concluded { job, left: &[] }));
        tasks.extend(world.rest());
    }
    assert_eq!(expired, WAITING);
}

#[test]
fn a_hundred_thousand_sites_wait_for_leases_and_for_places() {
    const SITES: u32 = 100_000;
    let mut world = World::new();
    let mut refused = Vec::new();
    for number in 0..SITES {
        let actions = world.queue(0, Via::Route(&format!("hop{number}")), Start::Due);
        refused.extend(actions.into_iter().filter_map(|action| match action {
            Action::Lease(site) => Some(site),
            _ => None,
        }));
        if let Some(site) = refused.pop() {
            world.tell(Event::LeaseRefused { site });
        }
    }
    // All of them look again by themselves, until as many ask as there are places.
    world.pass(SETTINGS.lease_look);
    let asked = |actions: Vec<Action>| -> Vec<SiteIx> {
        let leases = actions.into_iter().filter_map(|action| match action {
            Action::Lease(site) => Some(site),
            _ => None,
        });
        leases.collect()
    };
    let asking = asked(world.rest());
    assert_eq!(asking.len() as u32, SETTINGS.connections_max);
    // Those that are refused make place for the others; one that is free wakes each of them once.
    let mut again = Vec::new();
    for site in asking {
        again.extend(asked(world.tell(Event::LeaseRefused { site })));
    }
    again.extend(asked(world.rest()));
    assert_eq!(again.len() as u32, SETTINGS.connections_max);
    again.extend(asked(world.tell(Event::LeaseFree)));
    again.extend(asked(world.rest()));
    assert_eq!(again.len() as u32, SETTINGS.connections_max, "no place is free");
}

#[test]
fn twenty_thousand_connections_are_drained() {
    let mut world = World::new();
    let mut connections = Vec::new();
    for number in 0..SETTINGS.connections_max {
        let actions = world.queue(0, Via::Route(&format!("hop{number}")), Start::Due);
        let Some(&Action::Lease(site)) = actions.last() else { panic!("a lease is asked for: {actions:?}") };
        connections.push(world.connect(site));
    }
    let mut quits = world.tell(Event::Drain);
    quits.extend(world.rest());
    assert_eq!(quits.len(), connections.len());
    for connection in connections {
        world.tell(Event::Closed { connection });
    }
    assert_eq!(world.scheduler.view().connection_count(), 0);
}

#[test]
fn another_configuration_routes_half_a_million_anew() {
    let mut world = World::new();
    world.fill(WAITING, 1000, Via::Route("relay:25"), Start::Due);
    let mut tasks = world.tell(Event::Configured { generation: 1 });
    // The next sign of life of the site will do.
    tasks.extend(world.queue(0, Via::Route("relay:25"), Start::Due));
    tasks.extend(world.tell(Event::LeaseGranted { site: SiteIx(0) }));
    tasks.extend(world.rest());
    let mut routed = 0;
    while let Some(action) = tasks.pop() {
        let Action::Run(Task::Route, job) = action else { continue };
        let message = world.scheduler.view().job(job).expect("it is routed").message;
        let queued = Queued {
            message,
            tenant: Tenant(1),
            via: Via::Route("other:25"),
            routed: 1,
            recipients: &[Left::fresh(0)],
            attempts: 0,
            start: Start::Due,
        };
        tasks.extend(world.tell(Event::Queued(queued)));
        tasks.extend(world.tell(Event::Rerouted { job }));
        tasks.extend(world.rest());
        routed += 1;
    }
    assert_eq!((routed, world.ready()), (WAITING + 1, u64::from(WAITING) + 1));
}

#[test]
fn all_of_it_comes_at_once() {
    const EACH: u32 = 10_000;
    let mut world = World::new();
    let moving = Via::Domain("busy.example");
    let (_, domain) = world.fill(EACH, EACH, moving, Start::Due);
    let domain = domain.expect("it goes by its domain");
    let expire = SETTINGS.retry.expire;
    world.fill(EACH, 100, Via::Route("failing"), Start::Due);
    world.pass(expire - Duration::from_secs(3600));
    for number in 0..EACH {
        world.queue(number % 100, Via::Route(&format!("hop{number}")), Start::Due);
        let due = Start::Deferred(world.now.unix.plus(3_600_000));
        world.queue(number % 100, Via::Route("relay:25"), due);
    }
    // Every site's back-off ends, what was deferred is due, half of the rest expires, and the domain moves.
    let end = world.now.steady + 3_600_000;
    for site in (0..world.scheduler.view().site_end()).map(SiteIx) {
        if world.scheduler.view().site(site).is_some_and(|view| view.domain.is_none()) {
            world.tell(Event::SiteFailed { site, until: end });
        }
    }
    world.pass(Duration::from_secs(3700));
    world.tell(Event::Resolved { domain, site: "mx1", holds: Duration::from_secs(60) });
    let said = world.rest();
    let tasks = said.iter().filter(|action| matches!(action, Action::Run(Task::Expire, _)));
    assert!(tasks.count() as u32 <= SETTINGS.tasks_max);
    let sites =
        (0..world.scheduler.view().site_end()).filter_map(|site| world.scheduler.view().site(SiteIx(site)));
    let ready: Vec<u32> =
        sites.filter(|site| ["mx1", "relay:25"].contains(&site.key)).map(|site| site.ready).collect();
    assert_eq!(ready, [EACH, EACH], "all moved, and all that was deferred is due");
}
