//! Which way mail goes by the configuration: by the next hops of a route, or by the MX records of its domain.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::rc::Rc;

use policy::{Route, RouteIx, Snapshot, TenantIx};
use scheduler::Via;

/// The key of the site for mail that no tenant answers for any more. No site of next hops or hosts has it.
pub(crate) const NOWHERE: &str = "no way";

/// Where a recipient's mail goes.
#[derive(Clone, Debug)]
pub(crate) enum Way<'a> {
    /// No tenant answers for it: it waits to be routed again.
    Nowhere,
    /// To the next hops of a route, by the key of their site.
    Route(Rc<str>),
    /// To the hosts that this domain's MX records name.
    Domain(&'a str),
}

impl Way<'_> {
    /// The same for the scheduler.
    pub(crate) fn via(&self) -> Via<'_> {
        match self {
            Self::Nowhere => Via::Route(NOWHERE),
            Self::Route(key) => Via::Route(key),
            Self::Domain(domain) => Via::Domain(domain),
        }
    }

    /// An order in which those that are the same stand side by side, however their domain is written.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let rank = |way: &Self| match way {
            Self::Nowhere => 0,
            Self::Route(_) => 1,
            Self::Domain(_) => 2,
        };
        match (self, other) {
            (Self::Route(one), Self::Route(other)) => one.cmp(other),
            (Self::Domain(one), Self::Domain(other)) => lower(one).cmp(lower(other)),
            (one, other) => rank(one).cmp(&rank(other)),
        }
    }
}

fn lower(domain: &str) -> impl Iterator<Item = u8> {
    domain.bytes().map(|byte| byte.to_ascii_lowercase())
}

/// The keys of the sites of routes, in the configuration that was followed last.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    generation: Option<u64>,
    /// By [`RouteIx`], once mail has gone by it.
    keys: Vec<Option<Rc<str>>>,
    /// The route of each of these keys; of several, one.
    by_key: HashMap<Rc<str>, Route>,
}

impl Routes {
    /// The way of mail of `tenant` for `domain`.
    pub(crate) fn way<'a>(
        &mut self,
        snapshot: &Snapshot,
        tenant: Option<TenantIx>,
        domain: &'a str,
    ) -> Way<'a> {
        let Some(tenant) = tenant else { return Way::Nowhere };
        match snapshot.route(tenant, domain) {
            Some(route) => Way::Route(self.key(snapshot, route)),
            None => Way::Domain(domain),
        }
    }

    fn key(&mut self, snapshot: &Snapshot, route: RouteIx) -> Rc<str> {
        if self.generation != Some(snapshot.generation) {
            self.generation = Some(snapshot.generation);
            self.by_key.clear();
            self.keys.clear();
            self.keys.resize(snapshot.routes().len(), None);
        }
        let known = &mut self.keys[route.0 as usize];
        let key = known.get_or_insert_with(|| {
            let route = snapshot.next_hops(route);
            // The same next hops with and without TLS are two sites: their connections are not alike.
            let key: Rc<str> = format!("{} tls={:?}", route.key, route.tls).into();
            self.by_key.insert(key.clone(), route.clone());
            key
        });
        key.clone()
    }

    /// The route whose mail goes to the site of this key, if any has of late.
    pub(crate) fn of_site(&self, key: &str) -> Option<&Route> {
        self.by_key.get(key)
    }
}
