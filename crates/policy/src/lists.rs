//! Block and allow lists that somebody wrote (relay-control.md E2), of the node and of each tenant.
//!
//! They only ever close: what a list says is asked of the latest snapshot, after the decision, so
//! that a block acts at once, whatever configuration a transaction began with.

use std::net::IpAddr;
use std::sync::Arc;

use mail::{Address, ForwardPath, Reason, ReversePath};

use crate::decision::Decision;
use crate::explain::{Outcome, Trace};
use crate::patterns::Patterns;
use crate::remedy::Remedy;
use crate::responsible::with_names;
use crate::rule::Rule;
use crate::snapshot::{Snapshot, TenantIx};
use crate::source::Origin;

/// The lists of the node, or of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    pub(crate) blocked_clients: Option<ClientList>,
    pub(crate) allowed_clients: Option<ClientList>,
    pub(crate) blocked_senders: Option<AddressList>,
    pub(crate) blocked_recipients: Option<AddressList>,
}

/// Client addresses: disjoint ranges in ascending order, IPv4 as IPv4 mapped into IPv6.
#[derive(Debug)]
pub(crate) struct ClientList {
    pub(crate) name: Box<str>,
    pub(crate) file: Arc<str>,
    /// First address, last address, line.
    pub(crate) ranges: Box<[(u128, u128, u32)]>,
}

/// Addresses and domain patterns, each with its line.
#[derive(Debug)]
pub(crate) struct AddressList {
    pub(crate) name: Box<str>,
    pub(crate) file: Arc<str>,
    pub(crate) patterns: Patterns,
}

/// A refusal by a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The refusal.
    pub decision: Decision,
    /// The list, as a reply may name it.
    pub list: &'a str,
}

impl ClientList {
    /// `ranges` nest or are disjoint, as prefixes are; of two that nest the wider one says it all.
    pub(crate) fn new(name: &str, file: Arc<str>, mut ranges: Vec<(u128, u128, u32)>) -> Self {
        ranges.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        ranges.dedup_by(|narrow, wide| narrow.1 <= wide.1);
        Self { name: name.into(), file, ranges: ranges.into() }
    }

    fn find(&self, client: IpAddr) -> Option<Origin> {
        let bits = bits_of(client);
        let after = self.ranges.partition_point(|&(first, ..)| first <= bits);
        let &(_, last, line) = self.ranges.get(after.checked_sub(1)?)?;
        (bits <= last).then(|| Origin::new(self.file.clone(), line))
    }
}

impl AddressList {
    fn find(&self, address: Address<'_>) -> Option<Origin> {
        let line = with_names(None, address, |names| {
            names.texts().find_map(|name| self.patterns.most_specific(name))
        })?;
        Some(Origin::new(self.file.clone(), line))
    }
}

/// An address among all addresses: IPv4 as IPv4 mapped into IPv6.
pub(crate) fn bits_of(client: IpAddr) -> u128 {
    u128::from(match client.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    })
}

impl Snapshot {
    /// Whether an allow list, the node's or that of `tenant`, takes a client off every list of
    /// clients, those that are looked up by DNS included.
    #[must_use]
    pub fn is_allowed_client(&self, client: IpAddr, tenant: Option<TenantIx>) -> bool {
        let of_tenant = tenant.and_then(|tenant| self.tenant(tenant).lists.as_deref());
        let lists = [Some(&self.lists), of_tenant].into_iter().flatten();
        lists.filter_map(|lists| lists.allowed_clients.as_ref()).any(|list| list.find(client).is_some())
    }

    /// What the node's list of blocked clients says, at the connection; `None` where nothing.
    pub fn decide_client(&self, client: IpAddr, trace: &mut impl Trace) -> Option<Listed<'_>> {
        self.client_list(&self.lists, client, None, trace)
    }

    /// What the lists say about a recipient that was accepted for `tenant`: the node's, then the
    /// tenant's; `None` where nothing.
    pub fn decide_lists(
        &self,
        client: IpAddr,
        from: ReversePath<'_>,
        to: ForwardPath<'_>,
        tenant: Option<TenantIx>,
        trace: &mut impl Trace,
    ) -> Option<Listed<'_>> {
        let own = tenant.and_then(|tenant| self.tenant(tenant).lists.as_deref());
        let listed = own.and_then(|lists| self.client_list(lists, client, tenant, trace));
        listed.or_else(|| {
            let mut both = [Some(&self.lists), own].into_iter().flatten();
            both.find_map(|lists| address_lists(lists, from, to, tenant, trace))
        })
    }

    fn client_list<'a>(
        &self,
        lists: &'a Lists,
        client: IpAddr,
        tenant: Option<TenantIx>,
        trace: &mut impl Trace,
    ) -> Option<Listed<'a>> {
        let list = lists.blocked_clients.as_ref()?;
        let client = client.to_canonical();
        let Some(origin) = list.find(client) else {
            trace.step(Rule::ClientList, Outcome::Pass, None, || format!("{client} is not on {}", list.name));
            return None;
        };
        if self.is_allowed_client(client, tenant) {
            trace.step(Rule::ClientList, Outcome::Pass, Some(&origin), || {
                format!("{client} is on {}, and an allow list takes it off", list.name)
            });
            return None;
        }
        trace
            .step(Rule::ClientList, Outcome::Deny, Some(&origin), || format!("{client} is on {}", list.name));
        Some(refused(Rule::ClientList, Reason::ClientBlocked, tenant, &list.name))
    }
}

fn address_lists<'a>(
    lists: &'a Lists,
    from: ReversePath<'_>,
    to: ForwardPath<'_>,
    tenant: Option<TenantIx>,
    trace: &mut impl Trace,
) -> Option<Listed<'a>> {
    let recipient = match to {
        ForwardPath::Address(address) => Some(address),
        ForwardPath::Trick { .. } => None,
    };
    for (rule, reason, list, address) in [
        (Rule::SenderList, Reason::SenderBlocked, &lists.blocked_senders, from.address()),
        (Rule::RecipientList, Reason::RecipientBlocked, &lists.blocked_recipients, recipient),
    ] {
        let (Some(list), Some(address)) = (list, address) else { continue };
        let found = list.find(address);
        let (outcome, not) = if found.is_some() { (Outcome::Deny, "") } else { (Outcome::Pass, "not ") };
        trace.step(rule, outcome, found.as_ref(), || format!("{address} is {not}on {}", list.name));
        if found.is_some() {
            return Some(refused(rule, reason, tenant, &list.name));
        }
    }
    None
}

fn refused(rule: Rule, reason: Reason, tenant: Option<TenantIx>, list: &str) -> Listed<'_> {
    Listed { decision: Decision::deny(rule, tenant, reason, Remedy::TakeOffList), list }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;

    fn list(nets: &[IpNet]) -> ClientList {
        let range = |(line, net): (u32, &IpNet)| (bits_of(net.network()), bits_of(net.broadcast()), line);
        ClientList::new("clients", "clients.txt".into(), (1..).zip(nets).map(range).collect())
    }

    proptest! {
        #[test]
        fn a_client_is_on_the_list_where_one_of_its_prefixes_holds_it(
            nets in prop::collection::vec((prop::array::uniform4(0..3_u8), 0..=32_u8), 0..12),
            clients in prop::collection::vec(prop::array::uniform4(0..3_u8), 1..20),
        ) {
            let net = |(bytes, bits): ([u8; 4], u8)| IpNet::new(IpAddr::from(bytes), bits).unwrap().trunc();
            let nets: Vec<IpNet> = nets.into_iter().map(net).collect();
            let list = list(&nets);
            for client in clients.into_iter().map(IpAddr::from) {
                prop_assert_eq!(list.find(client).is_some(), nets.iter().any(|net| net.contains(&client)));
            }
        }
    }

    #[test]
    fn both_families_stand_in_one_list_and_a_find_names_its_line() {
        let nets = ["2001:db8::/32", "198.51.100.7/32", "203.0.113.0/24"].map(|net| net.parse().unwrap());
        let list = list(&nets);
        let line = |client: &str| list.find(client.parse().unwrap()).map(|origin| origin.line);
        for (client, expected) in [
            ("2001:db8::1", Some(1)),
            ("2001:db9::1", None),
            ("198.51.100.7", Some(2)),
            ("::ffff:198.51.100.7", Some(2)),
            ("203.0.113.255", Some(3)),
            ("203.0.114.0", None),
            ("0.0.0.0", None),
        ] {
            assert_eq!(line(client), expected, "{client}");
        }
    }
}
