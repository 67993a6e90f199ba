//! A site as the shell knows it: its next hops, which of them to avoid, and what all workers share about it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mail::Reply;
use policy::{CONNECTIONS_DEFAULT, NextHop, Route, RouteTls, SMTP_PORT};
use ring::Instant;

use crate::exchange;

/// A next hop that could not be reached is passed over this long where the site has another.
const HOP_AVOIDED: Duration = Duration::from_secs(60);

/// What the names of sites of domains whose hosts are not known begin with.
const DOMAIN_PREFIX: &str = "mx:";

/// One next hop.
#[derive(Debug)]
pub(crate) struct Hop {
    pub(crate) next_hop: NextHop,
    /// As it stands in logs and bounces.
    pub(crate) name: Rc<str>,
    /// Of its MX record, by rank; among equal ones the order is of no meaning.
    rank: u16,
    avoided_until: Instant,
}

/// Who says which next hops a site has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The operator, who writes routes.
    Route,
    /// The owner of a domain, in DNS.
    Dns,
    /// No tenant answers for this mail.
    Nowhere,
}

/// One site.
#[derive(Debug)]
pub(crate) struct Site {
    /// For operators: its next hops, or `mx:` and the domain whose hosts are not known.
    pub(crate) name: Arc<str>,
    pub(crate) hops: Vec<Hop>,
    pub(crate) tls: RouteTls,
    /// Connections of all workers together.
    pub(crate) connections_max: u32,
    /// What all workers share about it.
    pub(crate) shared: Arc<commons::Site>,
    /// What was last wrong with it, for the bounces of what expires here.
    pub(crate) failure: Reply,
    /// Another worker waits for a lease, as the scheduler was told last.
    pub(crate) wanted: bool,
    /// Another worker waits for the lease that was given back: until then it is not taken again.
    pub(crate) yields_until: Instant,
    origin: Origin,
}

impl Site {
    /// The next hops of a route; `shared` finds what all workers know of it.
    pub(crate) fn of_route(route: &Route, shared: impl FnOnce(&str) -> Arc<commons::Site>) -> Self {
        let hops = route.next_hops.iter().map(|next_hop| Hop::new(next_hop.clone(), 0)).collect();
        let site = Self::new(&route.key, hops, Origin::Route, shared);
        Self { tls: route.tls, connections_max: route.connections_max, ..site }
    }

    /// The hosts of which [`exchange::key`] is the key.
    pub(crate) fn of_hosts(key: &str, shared: impl FnOnce(&str) -> Arc<commons::Site>) -> Self {
        let hops = exchange::hosts(key).map(|(rank, host)| {
            let next_hop = NextHop { host: host.into(), port: SMTP_PORT };
            Hop::new(next_hop, rank)
        });
        Self::new(key, hops.collect(), Origin::Dns, shared)
    }

    /// A domain whose hosts are not known.
    pub(crate) fn of_domain(domain: &str, shared: impl FnOnce(&str) -> Arc<commons::Site>) -> Self {
        Self::new(&format!("{DOMAIN_PREFIX}{domain}"), Vec::new(), Origin::Dns, shared)
    }

    /// Where mail waits for which no tenant answers.
    pub(crate) fn nowhere(shared: impl FnOnce(&str) -> Arc<commons::Site>) -> Self {
        Self::new("", Vec::new(), Origin::Nowhere, shared)
    }

    fn new(
        name: &str,
        hops: Vec<Hop>,
        origin: Origin,
        shared: impl FnOnce(&str) -> Arc<commons::Site>,
    ) -> Self {
        Self {
            name: name.into(),
            hops,
            tls: RouteTls::Opportunistic,
            connections_max: CONNECTIONS_DEFAULT,
            shared: shared(name),
            failure: Reply::default(),
            wanted: false,
            yields_until: Instant::default(),
            origin,
        }
    }

    /// The name for operators, where there is a way.
    pub(crate) fn shown(&self) -> Option<Arc<str>> {
        (self.origin != Origin::Nowhere).then(|| self.name.clone())
    }

    /// Its hosts were chosen by strangers.
    pub(crate) fn is_strangers(&self) -> bool {
        self.origin == Origin::Dns
    }

    /// The next hops in the order in which a connection tries them: hosts of equal preference in any order, to
    /// share the load among them. Those that are to be avoided come last.
    pub(crate) fn order(&self, now: Instant, mut random: impl FnMut() -> u32) -> Box<[u16]> {
        let mut order: Box<[u16]> = (0..self.hops.len() as u16).collect();
        if self.origin == Origin::Dns {
            for equal in order.chunk_by_mut(|&a, &b| self.hop(a).rank == self.hop(b).rank) {
                for last in (1..equal.len()).rev() {
                    equal.swap(last, random() as usize % (last + 1));
                }
            }
        }
        let first = order.iter().position(|&hop| self.hop(hop).avoided_until <= now).unwrap_or(0);
        order.rotate_left(first);
        order
    }

    pub(crate) fn hop(&self, hop: u16) -> &Hop {
        &self.hops[usize::from(hop)]
    }

    /// A next hop could not be used.
    pub(crate) fn avoid(&mut self, hop: u16, now: Instant) {
        self.hops[usize::from(hop)].avoided_until = now.after(HOP_AVOIDED);
    }

    /// A next hop works.
    pub(crate) fn prefer(&mut self, hop: u16) {
        self.hops[usize::from(hop)].avoided_until = Instant::default();
    }
}

impl Hop {
    fn new(next_hop: NextHop, rank: u16) -> Self {
        let name = next_hop.to_string().into();
        Self { next_hop, name, rank, avoided_until: Instant::default() }
    }
}
