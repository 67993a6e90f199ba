//! A site as one worker sees it: its next hops, the jobs that wait for it, its connections and its health.
//!
//! A site is a route's set of next hops, or a recipient domain whose MX records name them. What is
//! common to all workers (leases, the wish for one, health) lies in `commons`; here is what is this
//! worker's own. A site that is down is one fact: one back-off for all jobs that wait, no record per message.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mail::Reply;
use policy::{CONNECTIONS_DEFAULT, NextHop, Route, RouteIx, RouteTls, Snapshot, TenantIx};
use ring::{Handle, Instant};
use slab::Slab;

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
    /// Of its MX record; among equal ones the order is of no meaning.
    pub(crate) preference: u16,
    avoided_until: Instant,
}

/// What is known of the MX records of a site's domain.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) domain: Box<str>,
    /// The site's next hops hold until then.
    pub(crate) until: Instant,
    /// A question is on its way; until it is answered the site stays where it is.
    pub(crate) asked: bool,
    /// Why this domain's mail goes nowhere, ever.
    pub(crate) refusal: Option<Reply>,
}

/// One site.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) key: Arc<str>,
    pub(crate) hops: Vec<Hop>,
    /// Where the next hops come from, when no route names them.
    pub(crate) exchange: Option<Exchange>,
    pub(crate) tls: RouteTls,
    /// Connections of all workers together.
    pub(crate) connections_max: u32,
    /// What all workers share about it.
    pub(crate) shared: Arc<commons::Site>,
    pub(crate) waiting: VecDeque<JobIx>,
    /// Connections that may carry a message, the latest used last.
    pub(crate) idle: Vec<Handle>,
    pub(crate) opening: usize,
    /// A timer will look at it again.
    pub(crate) timer_set: bool,
    /// It waits for a lease.
    pub(crate) starved: bool,
    /// Another worker waits for the lease that was given back: until then it is not taken again.
    pub(crate) yields_until: Instant,
    /// What was last wrong with it, for the bounces of what expires here.
    pub(crate) failure: Reply,
    /// Jobs that are to go here, wherever they stand.
    pub(crate) jobs: usize,
    /// Connections, in whatever phase.
    pub(crate) connections: usize,
    /// Nothing is under way: it may be forgotten.
    resting: bool,
}

/// What a site needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing for now.
    Nothing,
    /// Its back-off, which this or another worker has begun.
    Rest,
    /// A job for this idle connection.
    Job(Handle, JobIx),
    /// The hosts that take its domain's mail.
    Exchangers,
    /// Another connection.
    Connection,
}

/// What the names of sites of domains begin with.
const EXCHANGE_PREFIX: &str = "mx:";

impl Site {
    fn new(key: &str, hops: Vec<Hop>, shared: Arc<commons::Site>) -> Self {
        Self {
            key: key.into(),
            hops,
            exchange: None,
            tls: RouteTls::Opportunistic,
            connections_max: CONNECTIONS_DEFAULT,
            shared,
            waiting: VecDeque::new(),
            idle: Vec::new(),
            opening: 0,
            timer_set: false,
            starved: false,
            yields_until: Instant::default(),
            failure: Reply::default(),
            jobs: 0,
            connections: 0,
            resting: false,
        }
    }

    /// The next step towards sending what waits; while it `rests` no connection is opened.
    pub(crate) fn need(&mut self, now: Instant, rests: bool) -> Need {
        if self.waiting.is_empty() {
            return Need::Nothing;
        }
        if let Some(connection) = self.idle.pop() {
            let job = self.waiting.pop_front().expect("something waits");
            return Need::Job(connection, job);
        }
        let enough = self.opening >= OPENING_MAX || self.opening >= self.waiting.len();
        if enough {
            return Need::Nothing;
        }
        if rests {
            return Need::Rest;
        }
        match &self.exchange {
            Some(exchange) if exchange.asked => Need::Nothing,
            // The list of hops is not exchanged under a connection that goes through it.
            Some(exchange) if now >= exchange.until && self.opening == 0 => Need::Exchangers,
            Some(_) | None => Need::Connection,
        }
    }

    /// Takes up other next hops; what was learnt of one that stays is kept.
    pub(crate) fn set_hops(&mut self, mut hops: Vec<Hop>) {
        for hop in &mut hops {
            if let Some(known) = self.hops.iter().find(|known| known.name == hop.name) {
                hop.avoided_until = known.avoided_until;
            }
        }
        self.hops = hops;
    }

    fn is_idle(&self) -> bool {
        let asked = self.exchange.as_ref().is_some_and(|exchange| exchange.asked);
        self.jobs == 0 && self.connections == 0 && !self.timer_set && !asked
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

    /// A next hop has failed after the list may have been put into another order.
    pub(crate) fn avoid_named(&mut self, name: &str, now: Instant) {
        if let Some(hop) = self.hops.iter().position(|hop| *hop.name == *name) {
            self.avoid(hop, now);
        }
    }

    /// A next hop works.
    pub(crate) fn prefer(&mut self, hop: usize) {
        if let Some(hop) = self.hops.get_mut(hop) {
            hop.avoided_until = Instant::default();
        }
    }
}

impl Hop {
    pub(crate) fn new(next_hop: NextHop, preference: u16) -> Self {
        let name = next_hop.to_string().into();
        Self { next_hop, name, preference, avoided_until: Instant::default() }
    }
}

/// Domains without a route that are remembered although nothing is under way for them: those of a
/// busy hour, with the hosts that take their mail and which of them to avoid; some 500 bytes each.
const RESTING_MAX: usize = 1024;

/// The sites of this worker, and which route leads to which. Those of routes are as many as the
/// configuration names; of those of domains only [`RESTING_MAX`] outlive their mail.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    sites: Slab<Site>,
    /// One more than the highest index ever given.
    end: u32,
    /// In the order in which they came to rest.
    resting: VecDeque<SiteIx>,
    /// Where a domain is put into lower case.
    scratch: String,
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

    /// The site to which mail of `tenant` for `domain` goes in the snapshot last followed; `shared`
    /// finds what all workers know of it.
    pub(crate) fn towards(
        &mut self,
        snapshot: &Snapshot,
        tenant: TenantIx,
        domain: &str,
        shared: impl FnOnce(&str) -> Arc<commons::Site>,
    ) -> SiteIx {
        match snapshot.route(tenant, domain) {
            Some(route) => self.of_route(snapshot, route, shared),
            None => self.of_domain(domain, shared),
        }
    }

    fn of_route(
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
            self.get_mut(known).connections_max = route.connections_max;
            return known;
        }
        let hops = route.next_hops.iter().map(|next_hop| Hop::new(next_hop.clone(), 0)).collect();
        let site = Site::new(&route.key, hops, shared(&route.key));
        self.add(key.into(), Site { tls: route.tls, connections_max: route.connections_max, ..site })
    }

    /// The site that the MX records of a domain make.
    fn of_domain(&mut self, domain: &str, shared: impl FnOnce(&str) -> Arc<commons::Site>) -> SiteIx {
        self.scratch.clear();
        self.scratch.push_str(EXCHANGE_PREFIX);
        self.scratch.push_str(domain);
        self.scratch.make_ascii_lowercase();
        if let Some(&known) = self.keys.get(&*self.scratch) {
            self.get_mut(known).resting = false;
            return known;
        }
        let site = Site::new(&self.scratch, Vec::new(), shared(&self.scratch));
        let exchange = Exchange {
            domain: self.scratch[EXCHANGE_PREFIX.len()..].into(),
            until: Instant::default(),
            asked: false,
            refusal: None,
        };
        self.add(self.scratch.as_str().into(), Site { exchange: Some(exchange), ..site })
    }

    fn add(&mut self, key: Box<str>, site: Site) -> SiteIx {
        let index = u32::try_from(self.sites.insert(site)).expect("fewer sites than queued messages");
        self.end = self.end.max(index + 1);
        self.keys.insert(key, SiteIx(index));
        SiteIx(index)
    }

    /// Something about a site has ended: one of a domain that has nothing left to do may be
    /// forgotten, the one that has rested longest first. Gives the one that is.
    pub(crate) fn rest(&mut self, index: SiteIx) -> Option<SiteIx> {
        let site = self.sites.get_mut(index.0 as usize)?;
        if site.exchange.is_none() || site.resting || !site.is_idle() {
            return None;
        }
        site.resting = true;
        self.resting.push_back(index);
        if self.resting.len() <= RESTING_MAX {
            return None;
        }
        let oldest = self.resting.pop_front()?;
        let rests = |site: &&mut Site| site.resting && site.is_idle();
        let site = self.sites.get_mut(oldest.0 as usize).filter(rests)?;
        self.keys.remove(&*site.key);
        self.sites.remove(oldest.0 as usize);
        Some(oldest)
    }

    pub(crate) fn get(&self, site: SiteIx) -> &Site {
        &self.sites[site.0 as usize]
    }

    pub(crate) fn get_mut(&mut self, site: SiteIx) -> &mut Site {
        &mut self.sites[site.0 as usize]
    }

    /// The places of all sites; at some of them there may be none (any more).
    pub(crate) fn indexes(&self) -> impl Iterator<Item = SiteIx> + use<> {
        (0..self.end).map(SiteIx)
    }

    pub(crate) fn is_there(&self, site: SiteIx) -> bool {
        self.sites.contains(site.0 as usize)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.sites.len()
    }
}
