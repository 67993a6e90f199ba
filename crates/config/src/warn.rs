use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;
use policy::{NextHop, RelayDomainSource, ScramShape, Source, Sourced, TenantSource};

use crate::error::Report;
use crate::ports;
use crate::settings::{ListenerConfig, NodeConfig};

/// Ranges in which an address says nothing about who uses it (DESIGN.md F1).
const NEAR: [(&str, &str); 10] = [
    ("127.0.0.0/8", "loopback"),
    ("::1/128", "loopback"),
    ("10.0.0.0/8", "a private range"),
    ("172.16.0.0/12", "a private range"),
    ("192.168.0.0/16", "a private range"),
    ("100.64.0.0/10", "the shared range of carriers"),
    ("169.254.0.0/16", "link-local"),
    ("fe80::/10", "link-local"),
    ("fc00::/7", "a private range"),
    ("::ffff:0:0/96", "IPv4 in IPv6 form: write it as IPv4"),
];

/// Warns of what is legal but unwise in a tenant file, whatever the others say.
pub(crate) fn about(tenant: &TenantSource, report: &mut Report) {
    for network in &tenant.networks {
        warn_of_network(tenant, network, report);
    }
    for sender in tenant.senders.iter().chain(tenant.identities.iter().flat_map(|login| &login.senders)) {
        warn_of_sender(sender, report);
    }
    let unlisted = |relay: &&RelayDomainSource| relay.recipients.is_none() && !relay.call_ahead;
    for relay in tenant.relay_domains.iter().filter(unlisted) {
        let message = "every local part is taken, known or not, and bounces go to forged senders: list them, \
                       or write \"call-ahead\" to ask the next hop";
        report.warn(&relay.route.origin, "relay_domain.recipients", message);
    }
}

/// Warns of each tenant whose SCRAM verifiers look unlike `usual`, which is what an unknown login is
/// made to look like: a stranger who asks for both tells them apart.
pub(crate) fn of_unusual_scram(source: &Source, usual: Option<ScramShape>, report: &mut Report) {
    let Some(usual) = usual else { return };
    for tenant in &source.tenants {
        let verifiers = tenant.identities.iter().filter_map(|login| Some((login, login.scram.as_ref()?)));
        let mut unusual = verifiers.filter(|(_, verifier)| usual != ScramShape::of(verifier));
        let Some((login, verifier)) = unusual.next() else { continue };
        let (ScramShape { iterations, salt_bytes }, more) = (ScramShape::of(verifier), unusual.count());
        let and_more = if more == 0 { String::new() } else { format!(", as {more} more of the tenant,") };
        let Sourced { value: login, origin } = &login.login;
        let message = format!(
            "the verifier of {login:?}{and_more} has {iterations} iterations and a salt of {salt_bytes} bytes, \
             most here have {} and of {} bytes, and so has what a stranger is shown for a login that does not \
             exist: make all verifiers alike, or guesses tell which logins exist",
            usual.iterations, usual.salt_bytes
        );
        report.warn(origin, "identity.scram", message);
    }
}

/// Mail to a next hop that is this gateway comes back until it is called a loop.
pub(crate) fn of_ourselves(node: &NodeConfig, source: &Source, report: &mut Report) {
    let of_tenants = source.tenants.iter().flat_map(|tenant| {
        let relays = tenant.relay_domains.iter().map(|relay| ("relay_domain.next_hops", &relay.route));
        relays.chain(tenant.routes.iter().map(|route| ("route.next_hops", route)))
    });
    let routes = source.routes.iter().map(|route| ("route.next_hops", route)).chain(of_tenants);
    for (key, route) in routes {
        for hop in &route.next_hops {
            let Some(listener) = ourselves(hop, &node.hostname, &node.listeners) else { continue };
            let message =
                format!("the next hop {hop} is this gateway itself, listener {:?}", listener.policy.name);
            let remedy = "name the server behind it: mail would come back until it has gone round 50 times";
            report.error(&route.origin, key, message, remedy);
        }
    }
}

fn warn_of_network(tenant: &TenantSource, network: &Sourced<IpNet>, report: &mut Report) {
    let net = network.value;
    static RANGES: LazyLock<[(IpNet, &str); 10]> =
        LazyLock::new(|| NEAR.map(|(range, what)| (range.parse().expect("the table holds prefixes"), what)));
    let near = RANGES.iter().find(|(range, _)| range.contains(&net) || net.contains(range));
    let is_translated = matches!(net, IpNet::V6(net) if policy::is_translated(net));
    let translated = is_translated.then_some("IPv4 behind a translator (RFC 6052)");
    if let Some(what) = near.map(|(_, what)| *what).or(translated) {
        let name = &tenant.name.value;
        let message = format!(
            "{net} is {what}: every host with such an address, a proxy or a pod included, relays as tenant {name}"
        );
        report.warn(&network.origin, "networks", message);
    }
}

fn warn_of_sender(sender: &Sourced<String>, report: &mut Report) {
    let domain = sender.value.strip_prefix('@').unwrap_or(&sender.value);
    let wide = domain == "*" || domain.strip_prefix("*.").is_some_and(|parent| !parent.contains('.'));
    if wide {
        let message = format!("{:?} lets this tenant send as nearly anyone: name its domains", sender.value);
        report.warn(&sender.origin, "senders", message);
    }
}

/// The listener that a next hop is, as far as addresses and this host's name tell.
fn ourselves<'a>(
    hop: &NextHop,
    hostname: &str,
    listeners: &'a [ListenerConfig],
) -> Option<&'a ListenerConfig> {
    let is_named = hop.host.eq_ignore_ascii_case(hostname);
    let loopback: &[IpAddr] = match &*hop.host {
        "localhost" => {
            &[IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)]
        }
        _ => &[],
    };
    let address = hop.address().map(|address| address.to_canonical());
    listeners.iter().filter(|listener| listener.address.port() == hop.port).find(|listener| {
        let ours = listener.address.ip().to_canonical();
        let is_here = |ip: &IpAddr| {
            *ip == ours || ports::covers(ours, *ip) && (ip.is_loopback() || ip.is_unspecified())
        };
        is_named || loopback.iter().chain(&address).any(is_here)
    })
}
