use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mail::ScramVerifier;

use crate::front::{Front, Identity};
use crate::index::{IdentityIx, RouteIx, TenantIx};
use crate::limits::{Limits, NodeLimits};
use crate::lists::Lists;
use crate::logins::Logins;
use crate::names::Names;
use crate::network::{NetworkMatch, Networks, canonical};
use crate::next_hop::NextHop;
use crate::patterns::Patterns;
use crate::senders::SenderRules;
use crate::source::{GrantTerms, IdentitySource, Origin, RelayDomainSource, RouteTls, Sourced, TenantSource};
use crate::stand_in::StandIn;

/// A configuration, compiled: what decides about mail. Immutable, and shared by all workers.
#[derive(Debug)]
pub struct Snapshot {
    /// The number of this configuration since the program started.
    pub generation: u64,
    /// What each tenant was compiled from: what is shown to a person is read there.
    pub(crate) sources: Box<[Arc<TenantSource>]>,
    /// The limits of the node itself.
    pub limits: NodeLimits,
    /// Of each tenant what decides, apart from the rest of it.
    pub(crate) fronts: Box<[Front]>,
    pub(crate) tenants: Box<[Tenant]>,
    /// Sender patterns of tenants that are too long to lie where they are asked for.
    pub(crate) long_senders: Box<[Patterns]>,
    pub(crate) tenant_names: Names<TenantIx>,
    pub(crate) lists: Lists,
    pub(crate) networks: Networks,
    pub(crate) logins: Logins,
    pub(crate) relay_domains: RelayDomains,
    /// The recipients that relay domains list: each is in one relay domain.
    pub(crate) recipients: Names<()>,
    pub(crate) routes: Box<[Route]>,
    pub(crate) node_routes: Patterns,
    /// What a login that does not exist meets.
    pub stand_in: StandIn,
}

/// One customer.
#[derive(Debug)]
pub struct Tenant {
    /// Its name, as labels and records hold it.
    pub name: Box<str>,
    /// Its limits.
    pub limits: Limits,
    /// How its mailbox logins open relaying, where they do.
    pub grants: Option<Box<GrantTerms>>,
    /// Boxed, for few tenants have any.
    pub(crate) sender_rules: Option<Box<SenderRules>>,
    pub(crate) lists: Option<Box<Lists>>,
    pub(crate) routes: Patterns,
    pub(crate) origin: Origin,
    pub(crate) login_required_origin: Origin,
    pub(crate) null_sender_origin: Origin,
}

/// Names of so many bytes fill a line together with what they stand for.
pub(crate) type RelayDomains = Names<RelayDomain, 46>;

#[derive(Debug)]
pub(crate) struct RelayDomain {
    pub(crate) tenant: TenantIx,
    pub(crate) route: RouteIx,
    /// Its place among the relay domains of its tenant's source, over all blocks.
    pub(crate) index: u32,
    /// Whether its recipients are listed.
    pub(crate) is_listed: bool,
    /// Whether the next hop is asked.
    pub(crate) call_ahead: bool,
    /// As in the tenant's [`Front`], which need not be read then.
    pub(crate) has_sender_rules: bool,
}

/// Where mail goes.
#[derive(Clone, Debug)]
pub struct Route {
    /// In the order in which they are tried; never empty.
    pub next_hops: Vec<NextHop>,
    /// TLS towards them.
    pub tls: RouteTls,
    /// The stable name of the site that they make: `a.example:25,b.example:25`.
    pub key: Box<str>,
    /// Connections to the site at the same time, over all workers.
    pub connections_max: u32,
    /// The line where the route begins.
    pub origin: Origin,
}

impl RelayDomain {
    /// The block that names it, and its own line.
    pub(crate) fn source<'a>(&self, tenants: &'a [Arc<TenantSource>]) -> (&'a RelayDomainSource, &'a Origin) {
        let blocks = &tenants[self.tenant.0 as usize].relay_domains;
        let mut domains = blocks.iter().flat_map(|block| block.domains.iter().map(move |line| (block, line)));
        let (block, line) = domains.nth(self.index as usize).expect("it was compiled from one of them");
        (block, &line.origin)
    }
}

impl Identity {
    /// What it was compiled from.
    pub(crate) fn source<'a>(&self, tenants: &'a [Arc<TenantSource>]) -> &'a IdentitySource {
        &tenants[self.tenant.0 as usize].identities[self.index as usize]
    }
}

impl NetworkMatch {
    /// Whose network it is.
    pub(crate) fn tenant(self) -> Option<TenantIx> {
        match self {
            Self::Tenant(tenant) => Some(tenant),
            Self::Stranger | Self::Excluded => None,
        }
    }
}

impl Snapshot {
    /// The tenant at `tenant`.
    ///
    /// # Panics
    /// When it is from another snapshot.
    #[must_use]
    pub fn tenant(&self, tenant: TenantIx) -> &Tenant {
        &self.tenants[tenant.0 as usize]
    }

    /// Every tenant, in the order of [`TenantIx`].
    #[must_use]
    pub fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }

    /// The tenant of this name.
    #[must_use]
    pub fn tenant_named(&self, name: &str) -> Option<TenantIx> {
        self.tenant_names.get(name).copied()
    }

    /// What a tenant's file says, to be shown; it holds the credentials of its logins too.
    ///
    /// # Panics
    /// When it is from another snapshot.
    #[must_use]
    pub fn tenant_source(&self, tenant: TenantIx) -> &TenantSource {
        &self.sources[tenant.0 as usize]
    }

    /// The limits of a tenant.
    #[must_use]
    pub fn limits(&self, tenant: TenantIx) -> &Limits {
        &self.tenant(tenant).limits
    }

    /// The most specific network or excluded range that holds `ip`; IPv4 mapped into IPv6 counts as
    /// IPv4. An unspecified address is in none: it is what a client without one has (DESIGN.md F2).
    #[must_use]
    pub fn network(&self, ip: IpAddr) -> NetworkMatch {
        let ip = ip.to_canonical();
        if ip.is_unspecified() { NetworkMatch::Stranger } else { self.networks.find(ip) }
    }

    /// The prefix of the network that holds `ip`, as its tenant lists it: slow, for a session's beginning.
    #[must_use]
    pub fn network_prefix(&self, ip: IpAddr) -> Option<IpNet> {
        self.network_line(ip).map(|line| canonical(line.value))
    }

    /// The line that says what [`Snapshot::network`] says of `ip`: slow, for explanations.
    pub(crate) fn network_line(&self, ip: IpAddr) -> Option<&Sourced<IpNet>> {
        let holds = |line: &&Sourced<IpNet>| canonical(line.value).contains(&ip.to_canonical());
        let longest = |lines: &mut dyn Iterator<Item = _>| {
            lines.filter(holds).max_by_key(|line: &&Sourced<IpNet>| canonical(line.value).prefix_len())
        };
        match self.network(ip) {
            NetworkMatch::Stranger => None,
            NetworkMatch::Excluded => {
                longest(&mut self.sources.iter().flat_map(|source| &source.excluded_networks))
            }
            NetworkMatch::Tenant(tenant) => longest(&mut self.sources[tenant.0 as usize].networks.iter()),
        }
    }

    /// The tenant whose network holds `ip`.
    #[must_use]
    pub fn network_tenant(&self, ip: IpAddr) -> Option<TenantIx> {
        self.network(ip).tenant()
    }

    /// The identity that logs in as `login`, in whatever case it is written.
    #[must_use]
    pub fn identity(&self, login: &str) -> Option<IdentityIx> {
        self.logins.names.get(login).copied()
    }

    /// The password hash of an identity, in PHC form; empty where it has a SCRAM verifier only.
    #[must_use]
    pub fn credential(&self, identity: IdentityIx) -> &str {
        &self.identity_source(identity).credential
    }

    /// The SCRAM verifier of an identity, if it has one.
    #[must_use]
    pub fn scram(&self, identity: IdentityIx) -> Option<&ScramVerifier> {
        self.identity_source(identity).scram.as_ref()
    }

    /// The tenant of an identity.
    #[must_use]
    pub fn identity_tenant(&self, identity: IdentityIx) -> TenantIx {
        self.logins.at(identity).tenant
    }

    /// The login of an identity, as the configuration writes it.
    #[must_use]
    pub fn identity_login(&self, identity: IdentityIx) -> &str {
        &self.identity_source(identity).login.value
    }

    /// Where mail of `tenant` for `recipient_domain` goes: a relay domain's next hop, else the
    /// tenant's first matching route, else the node's; `None`: to the hosts that the domain's MX
    /// records name.
    #[must_use]
    pub fn route(&self, tenant: TenantIx, recipient_domain: &str) -> Option<RouteIx> {
        if let Some(relay) = self.relay_domains.get(recipient_domain) {
            return Some(relay.route);
        }
        // Routes are numbered in the order in which they are written: the least is the first match.
        let own = self.tenants.get(tenant.0 as usize)?.routes.first(recipient_domain);
        own.or_else(|| self.node_routes.first(recipient_domain)).map(RouteIx)
    }

    /// The route to the next hop that is asked for each recipient of `recipient_domain`; `None` where
    /// it is no relay domain, or none that asks.
    #[must_use]
    pub fn call_ahead(&self, recipient_domain: &str) -> Option<RouteIx> {
        let relay = self.relay_domains.get(recipient_domain)?;
        relay.call_ahead.then_some(relay.route)
    }

    /// The next hops of a route.
    ///
    /// # Panics
    /// When it is from another snapshot.
    #[must_use]
    pub fn next_hops(&self, route: RouteIx) -> &Route {
        &self.routes[route.0 as usize]
    }

    /// Every route, in the order of [`RouteIx`].
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    pub(crate) fn front(&self, tenant: TenantIx) -> &Front {
        &self.fronts[tenant.0 as usize]
    }

    /// What a tenant says about senders beyond who they are; `any` says whether it does.
    pub(crate) fn sender_rules(&self, any: bool, tenant: TenantIx) -> Option<&SenderRules> {
        any.then(|| self.tenant(tenant).sender_rules.as_deref()).flatten()
    }

    pub(crate) fn identity_source(&self, identity: IdentityIx) -> &IdentitySource {
        self.logins.at(identity).source(&self.sources)
    }
}
