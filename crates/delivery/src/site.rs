//! A site as one worker sees it: its next hops, the jobs that wait for it, its connections and its health.
//!
//! A site is a route's set of next hops. What is common to all workers (leases, the wish for one,
//! health) lies in `commons`; here is what is this worker's own. A site that is down is one fact:
//! one back-off for all jobs that wait, no record per message.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mail::Reply;
use policy::{NextHop, Route, RouteIx, RouteTls, Snapshot};
use ring::Instant;

use crate::queue::{JobIx, SiteIx};

/// A next hop that could not be reached is passed over this long where the site has another.
const HOP_AVOIDED: Duration = Duration::from_secs(60);

/// Connections of a site that are being opened by one worker at once: a burst fills a few
/// connections one after the other rather than opening one for each message.
const OPENING_MAX: usize = 2;

/// One next hop.
#[derive(Debug)]
pub(crate) struct Hop {
    pub(crate) next_hop: NextHop,
    /// As it stands in logs and bounces.
    pub(crate) name: Rc<str>,
    avoided_until: Instant,
}

/// One site.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) key: Box<str>,
    pub(crate) hops: Vec<Hop>,
    pub(crate) tls: RouteTls,
    /// Connections of all workers together.
    pub(crate) connections_max: u32,
    /// What all workers share about it.
    pub(crate) shared: Arc<commons::Site>,
    pub(crate) waiting: VecDeque<JobIx>,
    /// Connections that may carry a message, the latest used last.
    pub(crate) idle: Vec<u32>,
    pub(crate) opening: usize,
    /// No connection is opened before.
    pub(crate) not_before: Instant,
    /// A timer will look at it again.
    pub(crate) timer_set: bool,
    /// It waits for a lease.
    pub(crate) starved: bool,
    /// What was last wrong with it, for the bounces of what expires here.
    pub(crate) failure: Reply,
}

/// What a site needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing for now.
    Nothing,
    /// A job for this idle connection.
    Job(u32, JobIx),
    /// Another connection.
    Connection,
}

impl Site {
    /// The next step towards sending what waits.
    pub(crate) fn need(&mut self, now: Instant) -> Need {
        if self.waiting.is_empty() {
            return Need::Nothing;
        }
        if let Some(connection) = self.idle.pop() {
            let job = self.waiting.pop_front().expect("something waits");
            return Need::Job(connection, job);
        }
        let enough = self.opening >= OPENING_MAX || self.opening >= self.waiting.len();
        if enough || now < self.not_before { Need::Nothing } else { Need::Connection }
    }

    /// The next hop to begin with: the first that is not to be avoided.
    pub(crate) fn first_hop(&self, now: Instant) -> usize {
        self.hops.iter().position(|hop| hop.avoided_until <= now).unwrap_or(0)
    }

    /// A next hop could not be used.
    pub(crate) fn avoid(&mut self, hop: usize, now: Instant) {
        if let Some(hop) = self.hops.get_mut(hop) {
            hop.avoided_until = now.after(HOP_AVOIDED);
        }
    }

    /// A next hop works.
    pub(crate) fn prefer(&mut self, hop: usize) {
        if let Some(hop) = self.hops.get_mut(hop) {
            hop.avoided_until = Instant::default();
        }
    }
}

/// The sites of this worker, and which route leads to which.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    sites: Vec<Site>,
    keys: HashMap<Box<str>, SiteIx>,
    /// By [`RouteIx`], for the snapshot of `generation`.
    by_route: Vec<Option<SiteIx>>,
    generation: Option<u64>,
}

impl Sites {
    /// Follows the configuration to `snapshot`.
    pub(crate) fn follow(&mut self, snapshot: &Snapshot) {
        if self.generation != Some(snapshot.generation) {
            self.generation = Some(snapshot.generation);
            self.by_route.clear();
            self.by_route.resize(snapshot.routes().len(), None);
        }
    }

    /// The site to which a route of the snapshot last followed leads; `shared` finds what all workers know of it.
    pub(crate) fn of_route(
        &mut self,
        snapshot: &Snapshot,
        route: RouteIx,
        shared: impl FnOnce(&str) -> Arc<commons::Site>,
    ) -> SiteIx {
        if let Some(site) = self.by_route[route.0 as usize] {
            return site;
        }
        let site = self.adopt(snapshot.next_hops(route), shared);
        self.by_route[route.0 as usize] = Some(site);
        site
    }

    fn adopt(&mut self, route: &Route, shared: impl FnOnce(&str) -> Arc<commons::Site>) -> SiteIx {
        // The same next hops with and without TLS are two sites: their connections are not alike.
        let key = format!("{} tls={:?}", route.key, route.tls);
        if let Some(&known) = self.keys.get(&*key) {
            self.sites[known.0 as usize].connections_max = route.connections_max;
            return known;
        }
        let index = SiteIx(u32::try_from(self.sites.len()).expect("a configuration names fewer sites"));
        self.sites.push(Site {
            key: route.key.clone(),
            hops: route
                .next_hops
                .iter()
                .map(|next_hop| Hop {
                    name: next_hop.to_string().into(),
                    next_hop: next_hop.clone(),
                    avoided_until: Instant::default(),
                })
                .collect(),
            tls: route.tls,
            connections_max: route.connections_max,
            shared: shared(&route.key),
            waiting: VecDeque::new(),
            idle: Vec::new(),
            opening: 0,
            not_before: Instant::default(),
            timer_set: false,
            starved: false,
            failure: Reply::default(),
        });
        self.keys.insert(key.into(), index);
        index
    }

    pub(crate) fn get(&self, site: SiteIx) -> &Site {
        &self.sites[site.0 as usize]
    }

    pub(crate) fn get_mut(&mut self, site: SiteIx) -> &mut Site {
        &mut self.sites[site.0 as usize]
    }

    /// Every site.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = SiteIx> + use<> {
        (0..self.sites.len() as u32).map(SiteIx)
    }
}
