//! The proof against one that tries everything, on tables that fit their configuration and on tables
//! that do not.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::facts::{Role, TlsPolicy};
use crate::network::canonical;
use crate::source::{
    CONNECTIONS_DEFAULT, LoginRequired, RelayDomainSource, ReservedSendersSource, RouteSource, RouteTls,
    SenderRulesSource, Sourced, TenantSource,
};

const HOSTNAME: &str = "relay.example";
const TENANTS: usize = 3;

/// Nested, side by side, at the ends of a family; some of them together too wide for a customer.
const NETWORKS: [&str; 16] = [
    "64.0.0.0/8",
    "65.0.0.0/9",
    "65.128.0.0/9",
    "65.128.7.0/24",
    "65.128.7.9/32",
    "0.0.0.0/9",
    "10.255.255.0/24",
    "255.255.255.255/32",
    "::ffff:65.128.8.0/120",
    "::/80",
    "::ffc0:0:0/90",
    "2001:d00::/24",
    "2001::/20",
    "2001:1000::/20",
    "ffff:ffff::/32",
    "2001:db8:ffff::1/128",
];
const SENDERS: [&str; 5] = ["@a.example", "@*.a.example", "x@b.example", "f@stranger.invalid", "@*"];
const DOMAINS: [&str; 7] = [
    "a.example",
    "in.a.example",
    "elsewhere.example",
    "stranger.invalid",
    "elsewhere.invalid",
    "elsewhere0.invalid",
    "[192.0.2.1]",
];

fn at<T>(line: u32, value: T) -> Sourced<T> {
    Sourced::new(value, Origin::new("test.toml", line))
}

fn texts(line: u32, texts: &[&str]) -> Vec<Sourced<String>> {
    (line..).zip(texts).map(|(line, text)| at(line, (*text).to_owned())).collect()
}

fn route(domains: &[&str]) -> RouteSource {
    RouteSource {
        origin: Origin::new("test.toml", 90),
        recipient_domains: texts(91, domains),
        next_hops: vec!["mail.example".parse().unwrap()],
        tls: RouteTls::Off,
        connections_max: CONNECTIONS_DEFAULT,
    }
}

/// Senders, which of them no tenant owns, null sender, strict mode, routes.
type Draw = (Vec<&'static str>, Vec<&'static str>, bool, LoginRequired, Vec<&'static str>);

fn tenant() -> impl Strategy<Value = Draw> {
    (
        subsequence(SENDERS.to_vec(), 1..=SENDERS.len()),
        subsequence(SENDERS.to_vec(), 0..=1),
        any::<bool>(),
        select(vec![LoginRequired::Never, LoginRequired::Outside, LoginRequired::Always]),
        subsequence(vec!["*", "*.routed.example", "b.example"], 0..=2),
    )
}

/// Whose each network and each relay domain is: a tenant's, or none's; of networks also excluded.
fn source() -> impl Strategy<Value = Source> {
    let networks = prop::collection::vec((0..=TENANTS, 0..4), NETWORKS.len());
    let domains = prop::collection::vec(0..=TENANTS, DOMAINS.len());
    (networks, domains, prop::collection::vec(tenant(), TENANTS)).prop_map(|(networks, domains, draws)| {
        let tenant = |(index, draw): (usize, Draw)| {
            let (senders, reserved, null_sender, login_required, routes) = draw;
            let nets = |is_excluded: bool| {
                let own = (100..).zip(NETWORKS).zip(&networks);
                let own =
                    own.filter(move |(_, (owner, kind))| *owner == index && (*kind == 0) == is_excluded);
                own.map(|((line, net), _)| at(line, net.parse::<IpNet>().unwrap())).collect()
            };
            let own = DOMAINS.iter().zip(&domains).filter(|(_, owner)| **owner == index);
            let own: Vec<&str> = own.map(|(domain, _)| *domain).collect();
            let relay = RelayDomainSource {
                domains: texts(50, &own),
                route: route(&[]),
                recipients: None,
                call_ahead: false,
            };
            let identity = crate::IdentitySource::new(at(60, format!("login{index}")), String::new());
            let reserved = (!reserved.is_empty()).then(|| ReservedSendersSource {
                origin: Origin::new("test.toml", 70),
                senders: texts(71, &reserved),
                identities: vec![at(72, format!("login{index}"))],
            });
            Arc::new(TenantSource {
                networks: nets(false),
                excluded_networks: nets(true),
                senders: texts(4, &senders),
                null_sender: at(6, null_sender),
                login_required: at(5, login_required),
                sender_rules: SenderRulesSource {
                    reserved: reserved.into_iter().collect(),
                    ..SenderRulesSource::default()
                },
                relay_domains: if own.is_empty() { Vec::new() } else { vec![relay] },
                routes: if routes.is_empty() { Vec::new() } else { vec![route(&routes)] },
                identities: vec![identity],
                ..TenantSource::named(at(1, format!("tenant{index}")))
            })
        };
        Source::of(draws.into_iter().enumerate().map(tenant).collect())
    })
}

/// One for each way of TLS, and one for logins.
fn listeners() -> [Listener; 5] {
    [
        (Role::Relay, "smtp", TlsPolicy::StartTls),
        (Role::Relay, "clear", TlsPolicy::Off),
        (Role::Relay, "required", TlsPolicy::Required),
        (Role::Relay, "implicit", TlsPolicy::Implicit),
        (Role::Submission, "submission", TlsPolicy::StartTls),
    ]
    .map(|(role, name, tls)| Listener { name: name.into(), role, tls, auth_without_tls: true })
}

/// The longest prefix that holds an address, by looking at each: the tenant's, an excluded one, or none.
fn owner(source: &Source, ip: IpAddr) -> Option<Option<usize>> {
    let ip = ip.to_canonical();
    let prefixes = source.tenants.iter().enumerate().flat_map(|(index, tenant)| {
        let own = tenant.networks.iter().map(move |net| (canonical(net.value), Some(index)));
        own.chain(tenant.excluded_networks.iter().map(|net| (canonical(net.value), None)))
    });
    let holds = |(net, _): &(IpNet, _)| net.contains(&ip) && !ip.is_unspecified();
    prefixes.filter(holds).max_by_key(|(net, _)| net.prefix_len()).map(|(_, owner)| owner)
}

fn is_stranger(source: &Source, ip: IpAddr) -> bool {
    owner(source, ip).flatten().is_none_or(|tenant| {
        width::is_too_wide(source.tenants[tenant].networks.iter().map(|net| canonical(net.value)))
    })
}

/// Just inside and just outside of both ends of every prefix.
fn edges(source: &Source) -> BTreeSet<IpAddr> {
    let prefixes =
        source.tenants.iter().flat_map(|tenant| tenant.networks.iter().chain(&tenant.excluded_networks));
    let edges = prefixes.flat_map(|net| match canonical(net.value) {
        IpNet::V4(net) => {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            let edges = [Some(first), Some(last), first.checked_sub(1), last.checked_add(1)];
            edges.map(|edge| edge.map(|edge| IpAddr::V4(edge.into())))
        }
        IpNet::V6(net) => {
            let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
            let edges = [Some(first), Some(last), first.checked_sub(1), last.checked_add(1)];
            edges.map(|edge| edge.map(|edge| IpAddr::V6(edge.into())))
        }
    });
    // Those of the range of IPv6 that is IPv4 are tried as what they are.
    edges.flatten().filter(|ip| ip.to_canonical() == *ip).collect()
}

/// The addresses that strangers may have, the senders and the recipients elsewhere that the
/// configuration makes think of: spelled out here without the help of what is proved.
struct Everything {
    clients: BTreeSet<IpAddr>,
    senders: BTreeSet<String>,
    recipients: BTreeSet<String>,
}

impl Everything {
    fn of(source: &Source) -> Self {
        let near =
            ["0.0.0.0", "::", "127.0.0.1", "::1", "10.9.8.7", "192.0.2.1", "2001:db8::1", "203.0.113.9"];
        let mut clients = edges(source);
        clients.extend(near.map(|ip| ip.parse::<IpAddr>().unwrap()));
        clients.retain(|ip| is_stranger(source, *ip));

        let patterns = || source.tenants.iter().flat_map(|tenant| &tenant.senders).map(|line| &*line.value);
        let mut senders = BTreeSet::from([String::new(), "q@unlisted.example".into()]);
        for pattern in patterns() {
            let domain = pattern.rsplit('@').next().unwrap().trim_start_matches("*.");
            senders.extend([format!("q@{domain}"), format!("q@deep.{domain}")]);
            senders.extend((!pattern.starts_with('@')).then(|| pattern.to_owned()));
        }

        let lines = source.tenants.iter().flat_map(|tenant| {
            let relay = tenant.relay_domains.iter().flat_map(|relay| &relay.domains);
            relay.chain(tenant.routes.iter().flat_map(|route| &route.recipient_domains))
        });
        let mut domains: BTreeSet<String> =
            ["unlisted.example", HOSTNAME, "[192.0.2.1]", "localhost"].map(Into::into).into();
        for domain in
            lines.map(|line| &*line.value).chain(patterns().filter_map(|from| from.rsplit('@').next()))
        {
            let domain = domain.trim_start_matches("*.");
            domains.extend([domain.to_owned(), format!("deep.{domain}"), format!("x{domain}")]);
        }
        domains.retain(|domain| !is_relay_domain(source, domain));
        let mut recipients: BTreeSet<_> = domains.iter().map(|domain| format!("q@{domain}")).collect();
        for us in [HOSTNAME, "a.example", "stranger.invalid"] {
            recipients.extend([
                format!("q%unlisted.example@{us}"),
                format!("@{us}:q@unlisted.example"),
                format!("unlisted.example!q@{us}"),
                format!("\"q@unlisted.example\"@{us}"),
            ]);
        }
        Self { clients, senders, recipients }
    }
}

fn is_relay_domain(source: &Source, domain: &str) -> bool {
    let mut relay = source.tenants.iter().flat_map(|tenant| &tenant.relay_domains);
    relay.any(|relay| relay.domains.iter().any(|line| line.value.eq_ignore_ascii_case(domain)))
}

/// Whether the table takes this mail, over TLS or in the clear.
fn accepts(
    snapshot: &Snapshot,
    (listener, tls): (&Listener, bool),
    client: IpAddr,
    from: &str,
    to: &str,
) -> bool {
    let (Ok(from), Ok(to)) = (ReversePath::parse(from), ForwardPath::parse(to)) else { return false };
    let facts = Facts { listener, client, tls, identity: None, grants: &[] };
    snapshot.decide_recipient(&facts, from, to, None, &mut NoTrace).verdict.is_accept()
}

/// The first mail of all of it that the table takes.
fn open(snapshot: &Snapshot, source: &Source, listeners: &[Listener]) -> Option<(IpAddr, String, String)> {
    let Everything { clients, senders, recipients } = Everything::of(source);
    let doors = listeners.iter().flat_map(|listener| [(listener, false), (listener, true)]);
    for (door, &client) in doors.flat_map(|door| clients.iter().map(move |client| (door, client))) {
        // What no session there can be.
        if matches!((door.0.tls, door.1), (TlsPolicy::Off, true) | (TlsPolicy::Implicit, false)) {
            continue;
        }
        for (from, to) in senders.iter().flat_map(|from| recipients.iter().map(move |to| (from, to))) {
            if accepts(snapshot, door, client, from, to) {
                return Some((client, from.clone(), to.clone()));
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn strangers_stand_on_both_sides_of_every_edge(source in source()) {
        let strangers = Stranger::all(&source);
        let mut clients = BTreeSet::new();
        for Stranger { client, .. } in &strangers {
            prop_assert!(is_stranger(&source, *client), "{} is no stranger", client);
            prop_assert!(clients.insert(*client), "{} is asked twice", client);
        }
        let witnesses = || strangers.iter().filter(|stranger| stranger.is_witness);
        for ip in edges(&source).into_iter().filter(|ip| is_stranger(&source, *ip)) {
            prop_assert!(clients.contains(&ip), "{} is missing", ip);
            let is_alike = |other: &Stranger| {
                let other = other.client;
                other.is_ipv4() == ip.is_ipv4() && owner(&source, other) == owner(&source, ip)
            };
            prop_assert!(witnesses().any(is_alike), "none is like {}", ip);
        }
    }

    /// A table that was compiled from another configuration is wrong in every way that there is.
    #[test]
    fn what_no_decision_looked_at_could_have_changed_none(tried in source(), compiled in source(), same in any::<bool>()) {
        let compiled = if same { &tried } else { &compiled };
        let listeners = listeners();
        let snapshot = Snapshot::compile(compiled);
        prop_assume!(snapshot.is_ok());
        let snapshot = snapshot.unwrap();
        let proof = snapshot.prove(&tried, &Doors { listeners: &listeners, hostname: HOSTNAME });
        for Opening { client, listener, tls, from, to, .. } in &proof.openings {
            let listener = listeners.iter().find(|other| other.name == *listener).unwrap();
            prop_assert!(is_stranger(&tried, *client) && accepts(&snapshot, (listener, *tls), *client, from, to));
            prop_assert!(!is_relay_domain(&tried, to.rsplit('@').next().unwrap()), "{} is at home", to);
        }
        if let Some(open) = open(&snapshot, &tried, &listeners) {
            prop_assert!(!proof.holds(), "not found: {:?}", open);
        }
    }
}
