//! How much of the Internet a list of prefixes covers.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::compile::{PREFIX_BITS_MIN_V4, PREFIX_BITS_MIN_V6};

/// Ranges from which no host of the Internet connects: private, loopback, link-local, carriers' own.
/// They say nothing about who uses them, which `check` warns of, but they are not the world.
const INSIDE: [&str; 10] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

/// Where the last 32 bits are IPv4, for clients that come through a translator: RFC 6052 and RFC 8215,
/// and RFC 2765 before them.
const TRANSLATED: [&str; 3] = ["64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96"];

/// Whether `net` lies in a translator's prefix, or holds one.
#[must_use]
pub fn is_translated(net: Ipv6Net) -> bool {
    static RANGES: LazyLock<[Ipv6Net; 3]> =
        LazyLock::new(|| TRANSLATED.map(|net| net.parse().expect("the table holds prefixes")));
    RANGES.iter().any(|range| range.contains(&net) || net.contains(range))
}

/// As what `net` counts where its width is asked for: IPv4 behind a translator as that IPv4, all of it
/// where `net` is a translator's whole prefix.
pub(crate) fn counted(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    if !is_translated(v6) {
        return net;
    }
    let [.., a, b, c, d] = v6.network().octets();
    let bits = v6.prefix_len().saturating_sub(96);
    Ipv4Net::new(Ipv4Addr::new(a, b, c, d), bits).map_or(net, |v4| IpNet::V4(v4.trunc()))
}

/// Whether the public addresses of `nets` together are more than the widest single network may hold
/// (DESIGN.md A5): then some of them are strangers, however the list is cut.
#[must_use]
pub fn is_too_wide(nets: impl IntoIterator<Item = IpNet>) -> bool {
    static INSIDE_NETS: LazyLock<[IpNet; 10]> =
        LazyLock::new(|| INSIDE.map(|net| net.parse().expect("the table holds prefixes")));
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for net in nets.into_iter().map(counted) {
        if INSIDE_NETS.iter().any(|range| range.contains(&net)) {
            continue;
        }
        match net {
            IpNet::V4(net) => v4.push((u32::from(net.network()).into(), u32::from(net.broadcast()).into())),
            IpNet::V6(net) => v6.push((u128::from(net.network()), u128::from(net.broadcast()))),
        }
    }
    let widest = |bits: u32, prefix: u8| 1_u128 << (bits - u32::from(prefix));
    covered(v4) > widest(Ipv4Addr::BITS, PREFIX_BITS_MIN_V4)
        || covered(v6) > widest(Ipv6Addr::BITS, PREFIX_BITS_MIN_V6)
}

/// The number of addresses in the union of `ranges` (first and last), without wrapping.
fn covered(mut ranges: Vec<(u128, u128)>) -> u128 {
    ranges.sort_unstable();
    let (mut total, mut end) = (0_u128, None::<u128>);
    for (first, last) in ranges {
        let begin = end.map_or(first, |end| first.max(end.saturating_add(1)));
        if end.is_none_or(|end| last > end) {
            total = total.saturating_add((last - begin).saturating_add(1));
            end = Some(last);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn too_wide(nets: &[&str]) -> bool {
        let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
        is_too_wide(nets)
    }

    #[test]
    fn a_list_is_as_wide_as_its_union() {
        assert!(!too_wide(&["198.0.0.0/8"]));
        assert!(!too_wide(&["198.0.0.0/8", "198.51.100.0/24", "198.0.0.0/9"]), "nested counts once");
        assert!(!too_wide(&["198.0.0.0/9", "198.128.0.0/9"]));
        assert!(too_wide(&["198.0.0.0/8", "203.0.113.0/32"]));
        assert!(too_wide(&["198.0.0.0/9", "198.128.0.0/9", "203.0.113.7/32"]));
        assert!(
            !too_wide(&["10.0.0.0/8", "127.0.0.0/8", "198.51.100.0/24"]),
            "private ranges are not the world"
        );
        assert!(too_wide(&["2001::/20", "2400::/20"]));
        assert!(!too_wide(&["2001::/20", "fd00::/8"]));
        assert!(!too_wide(&["::1/128", "2001::/20"]));
        assert!(too_wide(&["100::/20", "2001::/20"]), "what is not private counts");
    }

    #[test]
    fn ipv4_behind_a_translator_is_as_wide_as_ipv4() {
        for all in ["64:ff9b::/96", "64:ff9b:1::/48", "64:ff9b:1:7::/96", "64:ff9b::/32", "::/20"] {
            assert!(too_wide(&[all]), "{all}");
        }
        assert!(!too_wide(&["64:ff9b::c600:0/104"]));
        assert!(!too_wide(&["64:ff9b::c600:0/104", "198.0.0.0/8"]), "the same hosts");
        assert!(too_wide(&["64:ff9b::c600:0/104", "203.0.113.7/32"]));
        assert!(too_wide(&["64:ff9b:1::c600:0/104", "64:ff9b::cb00:7107/128"]));
        assert!(!too_wide(&["64:ff9b::a00:0/104", "198.0.0.0/8"]), "private ranges stay what they are");
    }
}
