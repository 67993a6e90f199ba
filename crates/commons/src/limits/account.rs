//! Whom a client's use is charged to, and whether their limits leave room.
//!
//! A sender's tenant, login, network and address are each charged under a key made of their names,
//! so that a reload changes the amounts and forgets nothing. A client whom no tenant answers for is
//! charged by its address, to the node's limits; what it sends to a relay domain is not the
//! tenant's use.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use mail::{Reason, UnixMillis};
use policy::{Allowance, Counted, IdentityIx, RateLimit, Snapshot, TenantIx, Whom};

use super::{Charged, Key, Limits, Rate, Suspension, machine};

const EVERYONE: [Whom; 4] = [Whom::Tenant, Whom::Identity, Whom::Network, Whom::Client];

/// Who answers for a client, with the keys of their use. Made anew only when that changes: a
/// command hashes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    generation: u64,
    /// The tenant that answers.
    pub tenant: Option<TenantIx>,
    /// The login that answers, where one does.
    pub identity: Option<IdentityIx>,
    /// By [`Whom`]; `None` where nothing is charged.
    keys: [Option<Key>; EVERYONE.len()],
}

/// A limit that leaves no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// Whose it is.
    pub whom: Whom,
    /// The limit.
    pub limit: RateLimit,
    /// When it has room again, if nothing else is charged.
    pub frees: UnixMillis,
}

/// What is used of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Whose limit it is.
    pub whom: Whom,
    /// The limit.
    pub limit: RateLimit,
    /// How much of it; more than there is where something large was charged.
    pub used: u64,
}

impl Account {
    /// The account of who answers for a client at `address`.
    #[must_use]
    pub fn new(
        snapshot: &Snapshot,
        address: IpAddr,
        (tenant, identity): (Option<TenantIx>, Option<IdentityIx>),
    ) -> Self {
        let mut account = Self { generation: snapshot.generation, tenant, identity, keys: [None; 4] };
        let mut charge = |whom: Whom, charged| account.keys[whom as usize] = Some(Key::of(charged));
        let name = tenant.map(|tenant| &*snapshot.tenant(tenant).name);
        if let Some(name) = name {
            charge(Whom::Tenant, Charged::Tenant(name));
        }
        if let Some(identity) = identity {
            charge(Whom::Identity, Charged::Login(snapshot.identity_login(identity)));
        }
        if let (Some(tenant), Some(name)) = (tenant, name)
            && !snapshot.limits(tenant).allowance(Whom::Network).is_empty()
            && snapshot.network_tenant(address) == Some(tenant)
        {
            let prefix = snapshot.network_prefix(address);
            charge(Whom::Network, Charged::Network { tenant: name, prefix });
        }
        if !allowance(snapshot, tenant, Whom::Client).is_empty() {
            charge(Whom::Client, Charged::Client { tenant: name, address: machine(address) });
        }
        account
    }

    /// Still who it was, under the same configuration.
    #[must_use]
    pub fn is_for(
        &self,
        snapshot: &Snapshot,
        (tenant, identity): (Option<TenantIx>, Option<IdentityIx>),
    ) -> bool {
        self.generation == snapshot.generation && (self.tenant, self.identity) == (tenant, identity)
    }

    /// The key of a subject, where anything is charged to it.
    #[must_use]
    pub fn key(&self, whom: Whom) -> Option<Key> {
        self.keys[whom as usize]
    }

    /// The first limit, the widest subject's first, that has no room for `amount` more of `of`.
    #[must_use]
    pub fn over(
        &self,
        limits: &Limits,
        snapshot: &Snapshot,
        (of, amount): (Counted, u64),
        now: UnixMillis,
    ) -> Option<Over> {
        self.limits_of(snapshot, of).find_map(|(whom, key, limit)| {
            let frees = limits.rates().peek(key, amount, &rate(limit), now).err()?;
            Some(Over { whom, limit: *limit, frees })
        })
    }

    /// Every limit over time of those who are charged, and what is used of it.
    pub fn uses<'a>(
        &'a self,
        limits: &'a Limits,
        snapshot: &'a Snapshot,
        now: UnixMillis,
    ) -> impl Iterator<Item = Use> + 'a {
        self.subjects(snapshot).flat_map(move |(whom, key, allowance)| {
            allowance.rates.iter().map(move |limit| {
                let used = limits.rates().used(key.part(limit.kind()), &rate(limit), now);
                Use { whom, limit: *limit, used }
            })
        })
    }

    /// Why nothing is taken from the sender for now, or for `tenant`, whose the recipient is.
    #[must_use]
    pub fn suspension(
        &self,
        limits: &Limits,
        snapshot: &Snapshot,
        address: IpAddr,
        tenant: Option<TenantIx>,
        now: UnixMillis,
    ) -> Option<(Reason, Suspension)> {
        let suspensions = limits.suspensions();
        let name = |tenant: TenantIx| &*snapshot.tenant(tenant).name;
        let of_tenant = |tenant| suspensions.tenant(name(tenant), now);
        if let Some(suspension) = self.tenant.and_then(of_tenant).or_else(|| tenant.and_then(of_tenant)) {
            return Some((Reason::TenantSuspended, suspension));
        }
        let (reason, suspension) = match self.identity {
            Some(identity) => {
                (Reason::IdentitySuspended, suspensions.login(snapshot.identity_login(identity), now))
            }
            None => (Reason::ClientSuspended, suspensions.client(address, self.tenant.map(name), now)),
        };
        suspension.map(|suspension| (reason, suspension))
    }

    /// Charges what has happened to all of them.
    pub fn charge(
        &self,
        limits: &Limits,
        snapshot: &Snapshot,
        (of, amount): (Counted, u64),
        now: UnixMillis,
    ) {
        for (_, key, limit) in self.limits_of(snapshot, of) {
            limits.rates().charge(key, amount, &rate(limit), now);
        }
    }

    /// Those who are charged, and what they may use.
    pub fn subjects<'a>(
        &'a self,
        snapshot: &'a Snapshot,
    ) -> impl Iterator<Item = (Whom, Key, &'a Allowance)> {
        EVERYONE
            .into_iter()
            .filter_map(|whom| Some((whom, self.key(whom)?)))
            .map(|(whom, key)| (whom, key, allowance(snapshot, self.tenant, whom)))
    }

    fn limits_of<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        of: Counted,
    ) -> impl Iterator<Item = (Whom, Key, &'a RateLimit)> {
        self.subjects(snapshot).flat_map(move |(whom, key, allowance)| {
            let limits = allowance.rates.iter().filter(move |limit| limit.of == of);
            limits.map(move |limit| (whom, key.part(limit.kind()), limit))
        })
    }

    /// Who answers for a message, as its record keeps it: the login, that of a grant, or the address.
    pub fn write_sender(&self, snapshot: &Snapshot, address: IpAddr, text: &mut String) {
        text.clear();
        match (self.tenant, self.identity) {
            (_, Some(identity)) => text.push_str(snapshot.identity_login(identity)),
            // Writing to a String does not fail.
            (Some(_), None) => drop(write!(text, "[{address}]")),
            (None, None) => {}
        }
    }

    /// Whom a person would call `whom`: what a stranger is told names no tenant.
    #[must_use]
    pub fn name<'a>(&'a self, snapshot: &'a Snapshot, address: IpAddr, whom: Whom) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| match (whom, self.tenant, self.identity) {
            (Whom::Tenant, Some(tenant), _) => write!(f, "tenant {}", snapshot.tenant(tenant).name),
            (Whom::Identity, _, Some(identity)) => write!(f, "login {}", snapshot.identity_login(identity)),
            (Whom::Network, ..) => match snapshot.network_prefix(address) {
                Some(prefix) => write!(f, "network {prefix}"),
                None => write!(f, "the network of {address}"),
            },
            _ => write!(f, "{}", machine(address)),
        })
    }
}

fn allowance(snapshot: &Snapshot, tenant: Option<TenantIx>, whom: Whom) -> &Allowance {
    match tenant {
        Some(tenant) => snapshot.limits(tenant).allowance(whom),
        None => &snapshot.limits.client,
    }
}

fn rate(limit: &RateLimit) -> Rate {
    Rate::new(limit.amount, limit.per.duration())
}
