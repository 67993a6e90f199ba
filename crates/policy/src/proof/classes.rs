//! What a configuration distinguishes: representatives of its clients, senders and recipients.
//!
//! They are taken from the [`Source`], not from the snapshot that is to be judged: a table that lost
//! or invented an entry must not choose its own witnesses.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::width;
use crate::compile::canonical;
use crate::source::{RouteSource, Source, Sourced};

/// Domains that no configuration in earnest names (RFC 2606, RFC 6761).
const FOREIGN: [&str; 2] = ["elsewhere.invalid", "stranger.invalid"];

/// Addresses that belong to nobody in particular: whoever is near has one (relay-control.md F1), and
/// a client whose address nobody told has the unspecified one.
const NEAR: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::new(10, 255, 255, 254)),
    IpAddr::V4(Ipv4Addr::new(255, 255, 255, 255)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1)),
];

/// Who is in which network, by the plainest means: one table a prefix length, the longest first.
pub(crate) struct Owners {
    by_length: Vec<(u8, HashMap<IpNet, Option<u32>>)>,
    /// Tenants whose networks together are too wide to be one customer's: their clients are strangers.
    too_wide: HashSet<u32>,
}

impl Owners {
    pub(crate) fn new(source: &Source) -> Self {
        let mut tables: HashMap<u8, HashMap<IpNet, Option<u32>>> = HashMap::new();
        let mut too_wide = HashSet::new();
        for (index, tenant) in (0_u32..).zip(&source.tenants) {
            for net in &tenant.excluded_networks {
                let net = canonical(net.value);
                tables.entry(length(net)).or_default().insert(net, None);
            }
            for net in &tenant.networks {
                let net = canonical(net.value);
                tables.entry(length(net)).or_default().insert(net, Some(index));
            }
            let nets: Vec<_> = tenant.networks.iter().map(|net| canonical(net.value)).collect();
            if width::is_too_wide(&nets) {
                too_wide.insert(index);
            }
        }
        let mut by_length: Vec<_> = tables.into_iter().collect();
        by_length.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        Self { by_length, too_wide }
    }

    /// The prefix that most closely holds `ip`: the tenant's, an excluded one, or none.
    fn owner(&self, ip: IpAddr) -> Option<Option<u32>> {
        let ip = ip.to_canonical();
        if ip.is_unspecified() {
            return None;
        }
        self.by_length.iter().find_map(|(length, table)| table.get(&prefix_of(ip, *length)?).copied())
    }

    /// Whether a client of this address is nobody's.
    pub(crate) fn is_stranger(&self, ip: IpAddr) -> bool {
        self.owner(ip).flatten().is_none_or(|tenant| self.too_wide.contains(&tenant))
    }
}

/// A length that tells IPv4 from IPv6.
fn length(net: IpNet) -> u8 {
    match net {
        IpNet::V4(net) => net.prefix_len() + 129,
        IpNet::V6(net) => net.prefix_len(),
    }
}

/// The prefix of this length that holds `ip`; `None` for the other family.
fn prefix_of(ip: IpAddr, length: u8) -> Option<IpNet> {
    let bits = match (ip, length.checked_sub(129)) {
        (IpAddr::V4(_), Some(bits)) => bits,
        (IpAddr::V6(_), None) => length,
        _ => return None,
    };
    IpNet::new(ip, bits).ok().map(|net| net.trunc())
}

/// The addresses that a stranger may have: those on both sides of every edge of every prefix, where
/// the answer of the table may change, and those that belong to nobody.
pub(crate) fn strangers<'a>(source: &'a Source, owners: &'a Owners) -> impl Iterator<Item = IpAddr> + 'a {
    let prefixes = source
        .tenants
        .iter()
        .flat_map(|tenant| tenant.networks.iter().chain(&tenant.excluded_networks))
        .map(|net| canonical(net.value));
    prefixes.flat_map(width::edges).chain(NEAR).filter(|&ip| owners.is_stranger(ip))
}

/// A stranger of each kind: near ones, and of either family one in no network, one in an excluded
/// range, one in a network that is no customer's. The decision knows no more of a client than that.
pub(crate) fn witnesses(source: &Source, owners: &Owners) -> Vec<IpAddr> {
    let mut witnesses: Vec<IpAddr> = NEAR.into_iter().filter(|&ip| owners.is_stranger(ip)).collect();
    let mut kinds = HashSet::new();
    witnesses.extend(strangers(source, owners).filter(|&ip| kinds.insert((ip.is_ipv4(), owners.owner(ip)))));
    witnesses
}

/// A representative of each class of reverse-paths; the empty one is `<>`.
pub(crate) fn senders(source: &Source, hostname: &str) -> Vec<String> {
    let mut senders = BTreeSet::from([String::new()]);
    senders.extend(FOREIGN.iter().map(|domain| format!("f@{domain}")));
    senders.extend([format!("f@{hostname}"), "f@[192.0.2.1]".into(), "f@localhost".into()]);
    for tenant in &source.tenants {
        let of_identities = tenant.identities.iter().flat_map(|identity| &identity.senders);
        for pattern in tenant.senders.iter().chain(of_identities) {
            senders.extend(members(&pattern.value));
        }
        senders.extend(tenant.identities.iter().map(|identity| identity.login.value.clone()));
    }
    senders.into_iter().collect()
}

/// A representative of each class of recipients that is not mail for a relay domain: nothing of it
/// may be taken from a stranger.
pub(crate) fn recipients(source: &Source, hostname: &str) -> Vec<String> {
    let relay: HashSet<String> =
        relay_domains(source).map(|domain| domain.value.to_ascii_lowercase()).collect();
    let mut recipients = BTreeSet::new();
    let mut outside = |domain: &str| {
        if !relay.contains(&domain.to_ascii_lowercase()) {
            recipients.insert(format!("t@{domain}"));
        }
    };
    FOREIGN.iter().for_each(|domain| outside(domain));
    for domain in [hostname, "[192.0.2.1]", "localhost"] {
        outside(domain);
    }
    for route in routes(source) {
        for domain in &route.recipient_domains {
            match domain.value.strip_prefix("*.") {
                Some(parent) => [parent, &format!("below.{parent}")].into_iter().for_each(&mut outside),
                None if domain.value == "*" => {}
                None => outside(&domain.value),
            }
        }
    }
    for domain in relay_domains(source) {
        // What lies below a relay domain, and what merely ends like it, are other domains.
        outside(&format!("below.{}", domain.value));
        outside(&format!("not{}", domain.value));
    }
    for pattern in source.tenants.iter().flat_map(|tenant| &tenant.senders) {
        let owned = pattern.value.rsplit('@').next().unwrap_or_default();
        outside(owned.strip_prefix("*.").unwrap_or(owned));
    }
    recipients.retain(|recipient| recipient != "t@*");
    let first_relay = relay_domains(source).map(|domain| domain.value.as_str()).next();
    for us in [Some(hostname), Some("[192.0.2.1]"), first_relay].into_iter().flatten() {
        recipients.extend(tricks(FOREIGN[0], us));
    }
    recipients.into_iter().collect()
}

/// The ways to hide the mailbox `t` of `foreign` in a recipient that names us.
fn tricks(foreign: &str, us: &str) -> [String; 9] {
    [
        format!("t%{foreign}@{us}"),
        format!("\"t@{foreign}\""),
        format!("\"t%{foreign}\""),
        format!("t@{foreign}@{us}"),
        format!("\"t@{foreign}\"@{us}"),
        format!("@{us}:t@{foreign}"),
        format!("{foreign}!t"),
        format!("{foreign}!t@{us}"),
        "t".to_owned(),
    ]
}

/// Addresses that a sender pattern owns.
pub(crate) fn members(pattern: &str) -> Vec<String> {
    match pattern.strip_prefix('@') {
        Some("*") => vec!["f@anyone.invalid".to_owned()],
        Some(domain) => match domain.strip_prefix("*.") {
            Some(parent) => vec![format!("f@below.{parent}"), format!("f@{parent}")],
            None => vec![format!("f@{domain}")],
        },
        None if pattern == "*" => vec!["f@anyone.invalid".to_owned()],
        None => vec![pattern.to_owned()],
    }
}

fn relay_domains(source: &Source) -> impl Iterator<Item = &Sourced<String>> {
    source.tenants.iter().flat_map(|tenant| &tenant.relay_domains).flat_map(|relay| &relay.domains)
}

fn routes(source: &Source) -> impl Iterator<Item = &RouteSource> {
    source.routes.iter().chain(source.tenants.iter().flat_map(|tenant| &tenant.routes))
}
