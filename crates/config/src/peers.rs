use ipnet::IpNet;
use policy::{PREFIX_BITS_MIN_V4, PREFIX_BITS_MIN_V6, Source, Sourced, canonical};

use crate::error::Report;
use crate::section::{Keys, Section};

const PROXY_PROTOCOL: Keys = Keys { known: &["from"], later: &[] };
const XCLIENT: Keys = Keys { known: &["from", "login"], later: &[] };

/// Peers that speak for others: `[proxy_protocol]` and `[xclient]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeersConfig {
    /// Who must send a PROXY header.
    pub proxies: Vec<Sourced<IpNet>>,
    /// Who may send XCLIENT.
    pub xclient: Vec<Sourced<IpNet>>,
    /// Whether XCLIENT may say as whom a client has logged in.
    pub xclient_login: bool,
}

pub(crate) fn read(top: &Section<'_>, report: &mut Report) -> PeersConfig {
    let proxies = top.section("proxy_protocol", &PROXY_PROTOCOL, report);
    let xclient = top.section("xclient", &XCLIENT, report);
    let login = xclient.as_ref().and_then(|section| section.boolean("login", report));
    if let Some(login) = login.as_ref().filter(|login| login.value) {
        let message = "a peer of this list acts as any login without its password";
        report.warn(&login.origin, "xclient.login", message);
    }
    PeersConfig {
        proxies: proxies.map_or_else(Vec::new, |section| read_list(&section, report)),
        xclient: xclient.map_or_else(Vec::new, |section| read_list(&section, report)),
        xclient_login: login.is_some_and(|login| login.value),
    }
}

fn read_list(section: &Section<'_>, report: &mut Report) -> Vec<Sourced<IpNet>> {
    section.demand("from", "[\"10.8.0.9\"], the addresses or networks of the proxies", report);
    let remedy = "write an address or a network, as in \"10.8.0.9\" or \"10.8.0.0/24\"";
    let peers = section.parsed_list("from", remedy, parse_peer, report);
    let mut is_told = false;
    for peer in &peers {
        // A peer in such a list can claim any address, and so relay as any tenant: the limits on the width
        // of networks hold here too (DESIGN.md A5).
        let shortest = if peer.value.addr().is_ipv4() { PREFIX_BITS_MIN_V4 } else { PREFIX_BITS_MIN_V6 };
        let message = match peer.value.prefix_len() < shortest {
            true => format!("{} is wider than /{shortest}", peer.value),
            false if policy::is_too_wide([peer.value]) => {
                format!(
                    "{} is more of IPv4, behind a translator (RFC 6052), than a /{PREFIX_BITS_MIN_V4}",
                    peer.value
                )
            }
            false => continue,
        };
        opening(section, peer, message, report);
        is_told = true;
    }
    if let Some(first) = peers.first()
        && !is_told
        && policy::is_too_wide(peers.iter().map(|peer| peer.value))
    {
        let message = "these networks together are wider than one may be".to_owned();
        opening(section, first, message, report);
    }
    peers
}

/// Strangers in the list are in whatever network they like.
fn opening(section: &Section<'_>, peer: &Sourced<IpNet>, message: String, report: &mut Report) {
    let message = format!("{message}: every host in it can claim any address");
    report.error(&peer.origin, section.key("from"), message, "list the addresses of the proxies");
    report.errors.last_mut().expect("it was just added").opens = true;
}

pub(crate) fn parse_peer(text: &str) -> Result<IpNet, String> {
    match policy::parse_network(text)? {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            Err("IPv4 in IPv6 form: write it as IPv4".into())
        }
        net if net.trunc() != net => Err(format!("has bits set after its first {}", net.prefix_len())),
        net => Ok(net),
    }
}

/// Warns of proxies in tenants' networks, where an address says nothing of who is behind it
/// (DESIGN.md F1).
pub(crate) fn warn(peers: &PeersConfig, source: &Source, report: &mut Report) {
    const LISTED: &str = "off that list, it would relay for all its clients";
    const XCLIENT: &str = "a client for which it sends no XCLIENT relays as the tenant";
    let lists = [("proxy_protocol.from", &peers.proxies, LISTED), ("xclient.from", &peers.xclient, XCLIENT)];
    for (key, list, danger) in lists {
        for (peer, tenant) in list.iter().flat_map(|peer| source.tenants.iter().map(move |t| (peer, t))) {
            let decides = |network: &&Sourced<IpNet>| {
                let net = canonical(network.value);
                peer.value.contains(&net)
                    || net.contains(&peer.value) && !is_overruled(net, peer.value, source)
            };
            if let Some(network) = tenant.networks.iter().find(decides) {
                let (name, net, proxy, place) = (&tenant.name.value, network.value, peer.value, &peer.origin);
                let remedy = match proxy.contains(&canonical(net)) {
                    true => "take it out of networks",
                    false => "put the proxy into excluded_networks",
                };
                let message = format!(
                    "{net} of tenant {name} holds the proxy {proxy} ({key} at {place}): {danger}; {remedy}"
                );
                report.warn(&network.origin, "networks", message);
            }
        }
    }
}

/// Whether an entry that is more specific than `net` decides about all of `peer`.
fn is_overruled(net: IpNet, peer: IpNet, source: &Source) -> bool {
    let entries =
        source.tenants.iter().flat_map(|tenant| tenant.networks.iter().chain(&tenant.excluded_networks));
    let mut entries = entries.map(|entry| canonical(entry.value));
    entries.any(|entry| entry.contains(&peer) && entry.prefix_len() > net.prefix_len())
}
