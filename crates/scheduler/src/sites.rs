//! The records of what waits and for what: sites, lanes, queues, domains.
//!
//! ```text
//! site ──▶ lane (a tenant's share of it) ──▶ queue (tenant, domain or route) ──▶ job
//!   ▲                                          ▲
//!   └────────────── domain ────────────────────┘
//! ```
//!
//! Jobs that are due hang below their queue, queues that have some below the lane of their tenant,
//! lanes below the site. So a site that fails or returns is one record, whatever hangs below it. A domain knows its
//! queues, so that its mail follows it to another site a queue at a time.

use mail::QueueState;

use crate::calendar::{Slot, Timed};
use crate::event::Tenant;
use crate::index::{Indexed, Place as Hashed};
use crate::jobs::PLACE;
use crate::table::{Linked, Links, List, NONE};

/// The links of a site's timer, and of a queue among those of its domain.
pub(crate) const OTHER: u8 = 1;

/// What stands where, of a queue or a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Jobs that are due.
    pub(crate) ready_jobs: u32,
    /// Recipients that are due, under way, deferred.
    pub(crate) ready: u32,
    pub(crate) active: u32,
    pub(crate) deferred: u32,
    /// Messages to which these belong, each once for each queue.
    pub(crate) messages: u32,
}

impl Sums {
    /// Recipients that wait for the site or for their turn there.
    pub(crate) fn waiting(&self) -> u32 {
        self.ready + self.active + self.deferred
    }

    /// Notes that recipients stand elsewhere now; with `leads` a message comes or goes with them.
    pub(crate) fn moved(
        &mut self,
        recipients: u32,
        leads: bool,
        from: Option<QueueState>,
        to: Option<QueueState>,
    ) {
        if let Some(place) = from.and_then(|from| self.place(from)) {
            *place -= recipients;
            self.messages -= u32::from(leads);
        }
        if let Some(place) = to.and_then(|to| self.place(to)) {
            *place += recipients;
            self.messages += u32::from(leads);
        }
    }

    fn place(&mut self, state: QueueState) -> Option<&mut u32> {
        match state {
            QueueState::Ready => Some(&mut self.ready),
            QueueState::Active => Some(&mut self.active),
            QueueState::Deferred => Some(&mut self.deferred),
            QueueState::Held | QueueState::Quarantined => None,
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.ready_jobs += other.ready_jobs;
        self.ready += other.ready;
        self.active += other.active;
        self.deferred += other.deferred;
        self.messages += other.messages;
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        self.ready_jobs -= other.ready_jobs;
        self.ready -= other.ready;
        self.active -= other.active;
        self.deferred -= other.deferred;
        self.messages -= other.messages;
    }
}

/// Where a site stands among those that are to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nowhere: it waits for a time or an event of its own, or for nothing.
    None,
    /// It is served next.
    Agenda,
    /// It waits for a lease.
    Starved,
    /// It waits for a place among all connections.
    Crowded,
    /// It waits until tasks are done.
    Blocked,
    /// Nothing is under way for it: it may be forgotten.
    Resting,
}

/// How many [`Standing`]s there are.
pub(crate) const STANDINGS: usize = 6;

/// A set of hosts, or a domain whose hosts are not known.
#[derive(Debug)]
pub(crate) struct Site {
    /// Empty where it stands for a domain.
    pub(crate) key: Box<str>,
    hashed: Hashed,
    /// The domain that it stands for while its hosts are not known.
    pub(crate) domain: u32,
    /// Lanes with jobs that are due, in turn.
    pub(crate) lanes: List<PLACE>,
    /// Connections that may carry a message, the latest used last.
    pub(crate) idle: List<PLACE>,
    pub(crate) opening: u32,
    pub(crate) connections: u32,
    /// Domains and queues that lead here.
    pub(crate) references: u32,
    pub(crate) sums: Sums,
    /// No connection is opened before.
    pub(crate) rest_until: u64,
    /// While it waits for a lease, when it asks again at the latest.
    pub(crate) starves_until: u64,
    /// When it failed last.
    pub(crate) failed_at: u64,
    /// When it is looked at again, while it has a timer.
    pub(crate) timer_at: u64,
    pub(crate) failing: bool,
    /// A lease is asked for.
    pub(crate) asking: bool,
    /// The last lease that it asked for was refused, and may still be waited for.
    pub(crate) starved: bool,
    /// Another worker waits for a lease.
    pub(crate) wanted: bool,
    /// An operator holds it.
    pub(crate) held: bool,
    /// The domain that it stands for takes no mail.
    pub(crate) refused: bool,
    pub(crate) standing: Standing,
    links: Links,
    timer: Links,
    slot: Slot,
}

impl Site {
    /// A site whose key hashes to `hash`.
    pub(crate) fn named(key: &str, hash: u64) -> Self {
        Self::new(key.into(), Hashed::new(hash), NONE)
    }

    /// The place of a domain whose hosts are not known.
    pub(crate) fn of_domain(domain: u32) -> Self {
        Self::new(Box::default(), Hashed::new(0), domain)
    }

    fn new(key: Box<str>, hashed: Hashed, domain: u32) -> Self {
        Self {
            key,
            hashed,
            domain,
            lanes: List::EMPTY,
            idle: List::EMPTY,
            opening: 0,
            connections: 0,
            references: 0,
            sums: Sums::default(),
            rest_until: 0,
            starves_until: 0,
            failed_at: 0,
            timer_at: 0,
            failing: false,
            asking: false,
            starved: false,
            wanted: false,
            held: false,
            refused: false,
            standing: Standing::None,
            links: Links::NONE,
            timer: Links::NONE,
            slot: Slot::NONE,
        }
    }

    /// Its hosts are not known.
    pub(crate) fn is_unresolved(&self) -> bool {
        self.domain != NONE
    }

    /// It will be looked at again.
    pub(crate) fn has_timer(&self) -> bool {
        self.slot.is_set()
    }

    /// Nothing leads here and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        let is_left =
            self.references == 0 && self.connections == 0 && !self.asking && !self.held && !self.starved;
        is_left && self.standing == Standing::None && !self.slot.is_set()
    }
}

/// A tenant's queues at a site that have jobs which are due, in turn.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) site: u32,
    pub(crate) tenant: Tenant,
    pub(crate) queues: List<PLACE>,
    hashed: Hashed,
    links: Links,
}

impl Lane {
    pub(crate) fn new(site: u32, tenant: Tenant, hash: u64) -> Self {
        Self { site, tenant, queues: List::EMPTY, hashed: Hashed::new(hash), links: Links::NONE }
    }
}

/// A tenant's mail for a domain, or by a route.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) tenant: Tenant,
    /// `NONE` where a route leads to the site.
    pub(crate) domain: u32,
    /// Where it is counted and served.
    pub(crate) site: u32,
    /// `NONE` while no job is due.
    pub(crate) lane: u32,
    pub(crate) ready: List<PLACE>,
    /// All its jobs, wherever they stand.
    pub(crate) jobs: u32,
    pub(crate) sums: Sums,
    hashed: Hashed,
    links: Links,
    siblings: Links,
}

impl Queue {
    pub(crate) fn new(tenant: Tenant, domain: u32, site: u32, hash: u64) -> Self {
        Self {
            tenant,
            domain,
            site,
            lane: NONE,
            ready: List::EMPTY,
            jobs: 0,
            sums: Sums::default(),
            hashed: Hashed::new(hash),
            links: Links::NONE,
            siblings: Links::NONE,
        }
    }
}

/// A domain whose MX records lead to a site.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) name: Box<str>,
    pub(crate) site: u32,
    /// The answer that led there holds until then, in seconds of the steady clock.
    pub(crate) until: u32,
    /// Those that have yet to follow it to its site come first.
    pub(crate) queues: List<OTHER>,
    pub(crate) queue_count: u32,
    /// Queues that have yet to follow it, at most.
    pub(crate) unsettled: u32,
    pub(crate) asked: bool,
    pub(crate) resting: bool,
    hashed: Hashed,
    /// Among those that settle, or those that rest.
    links: Links,
}

impl Domain {
    pub(crate) fn new(name: &str, hash: u64) -> Self {
        Self {
            name: name.into(),
            site: NONE,
            until: 0,
            queues: List::EMPTY,
            queue_count: 0,
            unsettled: 0,
            asked: false,
            resting: false,
            hashed: Hashed::new(hash),
            links: Links::NONE,
        }
    }
}

macro_rules! linked {
    ($($type:ident $set:ident $field:ident;)*) => {$(
        impl Linked<$set> for $type {
            fn links(&mut self) -> &mut Links {
                &mut self.$field
            }
        }
    )*};
}

linked! {
    Site PLACE links;
    Site OTHER timer;
    Lane PLACE links;
    Queue PLACE links;
    Queue OTHER siblings;
    Domain PLACE links;
}

macro_rules! indexed {
    ($($type:ident)*) => {$(
        impl Indexed for $type {
            fn place(&mut self) -> &mut Hashed {
                &mut self.hashed
            }

            fn placed(&self) -> Hashed {
                self.hashed
            }
        }
    )*};
}

indexed!(Site Lane Queue Domain);

impl Timed<OTHER> for Site {
    fn slot(&mut self) -> &mut Slot {
        &mut self.slot
    }
}
