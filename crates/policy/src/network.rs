use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::index::TenantIx;
use crate::trie::{NODE, Range, Trie};

/// What the table of networks says about a client address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkMatch {
    /// In no network.
    Stranger,
    /// In an excluded range, which no wider network overrules.
    Excluded,
    /// In a network of this tenant.
    Tenant(TenantIx),
}

/// Reads a prefix, `198.51.100.0/24` or `2001:db8::/32`, or an address, which is a prefix of one.
///
/// # Errors
/// What is wrong with it. A number with leading zeros is refused: some programs read it as octal.
pub fn parse_network(text: &str) -> Result<IpNet, &'static str> {
    const NONE: &str = "no address and no network";
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let ip: IpAddr = address.parse().map_err(|_| {
        let has_zeros = address.split('.').any(|part| part.len() > 1 && part.starts_with('0'));
        if has_zeros { "a number with leading zeros, which some programs read as octal" } else { NONE }
    })?;
    let Some(bits) = bits else { return Ok(IpNet::from(ip)) };
    let is_number = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    let bits = bits.parse().ok().filter(|_| is_number).ok_or(NONE)?;
    IpNet::new(ip, bits).map_err(|_| NONE)
}

/// One prefix of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefix {
    pub(crate) net: IpNet,
    /// `None`: an excluded range.
    pub(crate) tenant: Option<TenantIx>,
}

/// The longest prefix that holds an address, for every address.
#[derive(Debug)]
pub(crate) struct Networks {
    v4: Trie<u32>,
    v6: Trie<u128>,
}

impl Networks {
    /// Builds the table; `prefixes` hold no prefix twice and none that is IPv4 mapped into IPv6.
    pub(crate) fn build(prefixes: &[Prefix]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            let answer = prefix.tenant.map_or(EXCLUDED, |tenant| TENANTS + tenant.0);
            debug_assert!(answer < NODE, "fewer tenants than 2^31");
            match prefix.net {
                IpNet::V4(net) => {
                    v4.push(Range { bits: u32::from(net.network()), len: net.prefix_len(), answer });
                }
                IpNet::V6(net) => {
                    v6.push(Range { bits: u128::from(net.network()), len: net.prefix_len(), answer });
                }
            }
        }
        Self { v4: Trie::build(v4, STRANGER), v6: Trie::build(v6, STRANGER) }
    }

    /// The most specific prefix that holds `ip`; IPv4 mapped into IPv6 counts as IPv4.
    // Inlined, as is what it calls: two calls take a quarter of a look-up in a small table.
    #[inline]
    pub(crate) fn find(&self, ip: IpAddr) -> NetworkMatch {
        let answer = match ip.to_canonical() {
            IpAddr::V4(ip) => self.v4.find(ip.into()),
            IpAddr::V6(ip) => self.v6.find(ip.into()),
        };
        match answer {
            STRANGER => NetworkMatch::Stranger,
            EXCLUDED => NetworkMatch::Excluded,
            tenant => NetworkMatch::Tenant(TenantIx(tenant - TENANTS)),
        }
    }
}

/// The answer for addresses in no prefix. All answers are small numbers, which take less room.
const STRANGER: u32 = 0;

/// The answer for addresses in an excluded range.
const EXCLUDED: u32 = 1;

/// The answer for the first tenant's addresses.
const TENANTS: u32 = 2;

/// IPv4 mapped into IPv6 is IPv4: clients are folded the same way.
#[must_use]
pub fn canonical(net: IpNet) -> IpNet {
    if let IpNet::V6(v6) = net
        && let (Some(addr), Some(bits)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
        && let Ok(v4) = Ipv4Net::new(addr, bits)
    {
        return IpNet::V4(v4);
    }
    net
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    /// The slow reference: look at every prefix, keep the longest.
    fn scan(prefixes: &[Prefix], ip: IpAddr) -> NetworkMatch {
        let ip = ip.to_canonical();
        let longest = prefixes
            .iter()
            .filter(|prefix| prefix.net.contains(&ip))
            .max_by_key(|prefix| prefix.net.prefix_len());
        match longest {
            None => NetworkMatch::Stranger,
            Some(Prefix { tenant: None, .. }) => NetworkMatch::Excluded,
            Some(Prefix { tenant: Some(tenant), .. }) => NetworkMatch::Tenant(*tenant),
        }
    }

    /// Few distinct bits, so that prefixes nest, touch and share their ends often.
    fn address() -> impl Strategy<Value = IpAddr> {
        let bytes = || prop::sample::select(vec![0_u8, 1, 127, 128, 254, 255]);
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
            prop::array::uniform4(bytes()).prop_map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
            prop::array::uniform4(bytes())
                .prop_map(|bytes| IpAddr::V6(Ipv4Addr::from(bytes).to_ipv6_mapped())),
            prop::array::uniform16(bytes()).prop_map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
        ]
    }

    /// Few tenants, some of whom are just too many for a short list.
    fn tenant() -> impl Strategy<Value = u32> {
        let too_many = (1 << 24) - TENANTS;
        prop_oneof![8 => 0..4_u32, 1 => too_many - 1..=too_many]
    }

    fn prefix() -> impl Strategy<Value = Prefix> {
        (address(), 0..=128_u8, prop::option::of(tenant())).prop_map(|(address, bits, tenant)| {
            let net = match address.to_canonical() {
                IpAddr::V4(ip) => IpNet::V4(Ipv4Net::new(ip, bits % 33).unwrap().trunc()),
                IpAddr::V6(ip) => IpNet::V6(Ipv6Net::new(ip, bits).unwrap().trunc()),
            };
            Prefix { net, tenant: tenant.map(TenantIx) }
        })
    }

    /// The nearest address that is just not in `net`: only the last bit of the prefix tells them apart.
    fn outside(net: &IpNet) -> IpAddr {
        let bits = |width: u32| width - u32::from(net.prefix_len());
        match net.network() {
            IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from(u32::from(ip) ^ 1_u32.unbounded_shl(bits(32)))),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) ^ 1_u128.unbounded_shl(bits(128)))),
        }
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_linear_scan(
            // Few of them are a list from the first bit on, many have directories above their lists.
            prefixes in prop_oneof![
                prop::collection::vec(prefix(), 0..16),
                prop::collection::vec(prefix(), 0..200),
            ],
            addresses in prop::collection::vec(address(), 1..40),
        ) {
            let distinct: BTreeMap<_, _> = prefixes.into_iter().map(|prefix| (prefix.net, prefix)).collect();
            let prefixes: Vec<_> = distinct.into_values().collect();
            let networks = Networks::build(&prefixes);
            let ends = |prefix: &Prefix| [prefix.net.network(), prefix.net.broadcast(), outside(&prefix.net)];
            for ip in prefixes.iter().flat_map(ends).chain(addresses) {
                prop_assert_eq!(networks.find(ip), scan(&prefixes, ip), "{}", ip);
            }
        }
    }
}
