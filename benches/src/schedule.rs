//! What the scheduler does with one event, among few sites and among many.

use std::num::NonZeroU32;
use std::time::Duration;

use mail::UnixMillis;
use scheduler::{
    Action, ConnectionIx, Event, JobIx, Left, Note, Now, Queued, Retry, Scheduler, Settings, SiteIx, Start,
    Tenant, Via,
};

/// Connections that are there, and so the calls that an operation can be asked for.
const CONNECTIONS: u32 = 2000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A message for a site comes.
    Enqueue,
    /// A connection is ready and carries the next message.
    Start,
    /// That is delivered.
    Delivered,
    /// That is deferred.
    Deferred,
    /// A site fails, and works again when its back-off is over.
    Failure,
}

/// A scheduler with a queue at each site.
struct Bench {
    scheduler: Scheduler,
    now: Now,
    sites: u32,
    routes: Vec<String>,
    connections: Vec<ConnectionIx>,
    started: Vec<JobIx>,
    messages: u64,
}

/// Makes ready for one operation among `sites` sites; each call does it once.
pub(crate) fn prepare(what: What, sites: u32) -> Box<dyn FnMut(usize)> {
    let mut bench = Bench::new(sites);
    if matches!(what, What::Delivered | What::Deferred) {
        (0..CONNECTIONS).for_each(|number| bench.start(number));
    }
    let mut calls = 0..CONNECTIONS;
    Box::new(move |_| {
        let number = calls.next().expect("as many calls as there are connections");
        match what {
            What::Enqueue => bench.enqueue(bench.place(number)),
            What::Start => bench.start(number),
            What::Delivered | What::Deferred => bench.conclude(number, what == What::Deferred),
            What::Failure => bench.fail(SiteIx(bench.place(number))),
        }
    })
}

impl Bench {
    fn new(sites: u32) -> Self {
        let settings = Settings {
            retry: Retry {
                first: Duration::from_secs(300),
                longest: Duration::from_secs(3600),
                expire: Duration::from_secs(432_000),
            },
            connections_max: CONNECTIONS + sites,
            opening_max: CONNECTIONS,
            messages_per_connection_max: 1000,
            addresses_tried_max: 10,
            tasks_max: 16,
            resting_max: 1024,
            lease_look: Duration::from_millis(500),
            seed: 1,
        };
        let now = Now { steady: 1_000_000, unix: UnixMillis(1_700_000_000_000), random: 1 };
        let scheduler = Scheduler::new(settings);
        let routes = (0..sites).map(|site| format!("relay-{site:06}.example:25")).collect();
        let (connections, started) = (Vec::new(), Vec::new());
        let mut bench = Self { scheduler, now, sites, routes, connections, started, messages: 0 };
        for site in 0..sites {
            bench.enqueue(site);
        }
        for number in 0..CONNECTIONS {
            // One message for the connection, and one that goes on waiting.
            bench.enqueue(bench.place(number));
            bench.enqueue(bench.place(number));
        }
        for number in 0..CONNECTIONS {
            bench.open(SiteIx(bench.place(number)));
        }
        bench
    }

    /// The site of a call: all of them in turn, or as many as there are calls, far from each other.
    fn place(&self, number: u32) -> u32 {
        (number * (self.sites / CONNECTIONS).max(1)) % self.sites
    }

    fn tell(&mut self, event: Event<'_>) {
        self.scheduler.handle(event, self.now);
    }

    /// Hears all that is said; only what starts and opens is of interest.
    fn hear(&mut self) {
        while let Some(action) = self.scheduler.poll() {
            match action {
                Action::Start(_, job) => self.started.push(job),
                Action::Open(connection, _) => self.connections.push(connection),
                _ => {}
            }
        }
    }

    fn enqueue(&mut self, site: u32) {
        let key = self.messages;
        self.messages += 1;
        let message = self.scheduler.add_message(key, self.now.unix, NonZeroU32::MIN);
        let via = Via::Route(&self.routes[site as usize]);
        let (tenant, start) = (Tenant(site % 100), Start::Due);
        let queued =
            Queued { message, tenant, via, routed: 0, recipients: &[Left::fresh(0)], attempts: 0, start };
        self.scheduler.handle(Event::Queued(queued), self.now);
        self.hear();
    }

    fn open(&mut self, site: SiteIx) {
        self.tell(Event::LeaseGranted { site });
        self.hear();
    }

    fn start(&mut self, number: u32) {
        self.tell(Event::Ready { connection: self.connections[number as usize] });
        self.hear();
    }

    fn conclude(&mut self, number: u32, is_deferred: bool) {
        let job = self.started[number as usize];
        let left = [Left { recipient: 0, note: Note::NONE }];
        self.tell(Event::Concluded { job, left: if is_deferred { &left } else { &[] } });
        self.hear();
    }

    fn fail(&mut self, site: SiteIx) {
        let until = self.now.steady + 300_000;
        self.tell(Event::SiteFailed { site, until });
        self.now.steady = until + 1000;
        self.tell(Event::Tick);
        self.tell(Event::SiteWorks { site, from: self.now.steady });
        self.hear();
    }
}
