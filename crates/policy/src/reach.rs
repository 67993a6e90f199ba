//! How far an address reaches: which hosts it may stand for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Carriers' shared address space (RFC 6598).
const CARRIERS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);

/// "This network" (RFC 1122 section 3.2.1.3): Linux connects to itself for some of it.
const THIS_NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8);

/// Reserved for ever, the broadcast address among them (RFC 1112 section 4).
const RESERVED: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4);

/// Addresses of IPv6 that stand for one of IPv4 in their last 32 bits: of translators (RFC 6052), and
/// the old compatible ones (RFC 4291 section 2.5.5.1).
const OF_IPV4: [Ipv6Net; 2] = [
    Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96),
];

/// What private networks once were in IPv6 (RFC 3879).
const SITE_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10);

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// One host, wherever it is asked for.
    Public,
    /// The host itself.
    Loopback,
    /// A host of a private network, or of the same link.
    Private,
    /// A host behind a carrier's translator.
    Carrier,
    /// No single host: unspecified, reserved, broadcast, multicast.
    Nowhere,
}

impl Reach {
    /// That of `address`. One of IPv4 in a form of IPv6 is what it is in IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) if v6.is_unspecified() || v6.is_multicast() => Self::Nowhere,
            IpAddr::V6(v6) if v6.is_loopback() => Self::Loopback,
            IpAddr::V6(v6) if OF_IPV4.iter().any(|net| net.contains(&v6)) => {
                Self::of_v4(Ipv4Addr::from_bits(v6.to_bits() as u32))
            }
            IpAddr::V6(v6)
                if v6.is_unique_local() || v6.is_unicast_link_local() || SITE_LOCAL.contains(&v6) =>
            {
                Self::Private
            }
            IpAddr::V6(_) => Self::Public,
        }
    }

    fn of_v4(v4: Ipv4Addr) -> Self {
        match v4 {
            _ if v4.is_loopback() => Self::Loopback,
            _ if v4.is_private() || v4.is_link_local() => Self::Private,
            _ if CARRIERS.contains(&v4) => Self::Carrier,
            _ if v4.is_multicast() || THIS_NETWORK.contains(&v4) || RESERVED.contains(&v4) => Self::Nowhere,
            _ => Self::Public,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_reach_as_far_as_their_ranges_say_to_the_first_and_the_last() {
        for (reach, addresses) in [
            (Reach::Loopback, &["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"][..]),
            (
                Reach::Private,
                &[
                    "10.0.0.0",
                    "10.255.255.255",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.0.1",
                    "192.168.255.255",
                    "169.254.0.1",
                    "169.254.169.254",
                    "fc00::1",
                    "fdff::1",
                    "fe80::1",
                    "febf::1",
                    "fec0::1",
                    "::ffff:10.1.2.3",
                    "64:ff9b::192.168.1.1",
                    "::10.1.2.3",
                ],
            ),
            (Reach::Carrier, &["100.64.0.0", "100.127.255.255", "::ffff:100.64.0.1"]),
            (
                Reach::Nowhere,
                &[
                    "0.0.0.0",
                    "0.1.2.3",
                    "224.0.0.1",
                    "239.255.255.255",
                    "240.0.0.1",
                    "255.255.255.255",
                    "::",
                    "::ffff:0.0.0.0",
                    "ff02::1",
                ],
            ),
            (
                Reach::Public,
                &[
                    "9.255.255.255",
                    "11.0.0.0",
                    "126.255.255.255",
                    "128.0.0.1",
                    "172.15.255.255",
                    "172.32.0.0",
                    "192.167.255.255",
                    "192.169.0.0",
                    "169.253.255.255",
                    "169.255.0.0",
                    "100.63.255.255",
                    "100.128.0.0",
                    "223.255.255.255",
                    "2001:db8::1",
                    "64:ff9b::192.0.2.1",
                    "::ffff:192.0.2.1",
                ],
            ),
        ] {
            for address in addresses {
                assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
            }
        }
    }
}
