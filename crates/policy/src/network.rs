use std::net::IpAddr;

use ipnet::IpNet;

use crate::snapshot::TenantIx;

/// What the table of networks says about a client address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkMatch {
    /// In no network.
    Stranger,
    /// In an excluded range, which no wider network overrules.
    Excluded {
        /// The index of the entry, for [`crate::Snapshot`]'s own use.
        entry: u32,
    },
    /// In a network of this tenant.
    Tenant {
        /// Whose it is.
        tenant: TenantIx,
        /// The index of the entry, for [`crate::Snapshot`]'s own use.
        entry: u32,
    },
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
    prefixes: Box<[Prefix]>,
    v4: Intervals<u32>,
    /// For each value of the upper 16 bits of an IPv4 address, the interval that holds its first
    /// address; one more at the end. A look-up searches only between two neighbours.
    v4_index: Box<[u32]>,
    v6: Intervals<u128>,
}

/// Disjoint intervals that cover the whole space: each begins where the one before it ends.
#[derive(Debug)]
struct Intervals<K> {
    starts: Box<[K]>,
    entries: Box<[u32]>,
}

/// No prefix holds the interval.
const NO_ENTRY: u32 = u32::MAX;

/// The values of 16 bits.
const FIRST_LEVEL: u32 = 1 << 16;

impl Networks {
    /// Builds the table; `prefixes` hold no prefix twice and none that is IPv4 mapped into IPv6.
    pub(crate) fn build(prefixes: Vec<Prefix>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (entry, prefix) in (0_u32..).zip(&prefixes) {
            match prefix.net {
                IpNet::V4(net) => v4.push((u32::from(net.network()), u32::from(net.broadcast()), entry)),
                IpNet::V6(net) => v6.push((u128::from(net.network()), u128::from(net.broadcast()), entry)),
            }
        }
        let v4 = Intervals::build(v4, |last| last.checked_add(1));
        let v6 = Intervals::build(v6, |last| last.checked_add(1));
        let v4_index = (0..FIRST_LEVEL)
            .map(|upper| v4.interval(upper << 16, 0, v4.starts.len()))
            .chain([v4.starts.len() - 1])
            .map(|interval| u32::try_from(interval).expect("fewer intervals than twice the prefixes"))
            .collect();
        Self { prefixes: prefixes.into(), v4, v4_index, v6 }
    }

    /// The most specific prefix that holds `ip`; IPv4 mapped into IPv6 counts as IPv4.
    pub(crate) fn find(&self, ip: IpAddr) -> NetworkMatch {
        let entry = match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let bits = u32::from(ip);
                let upper = (bits >> 16) as usize;
                let (low, high) = (self.v4_index[upper] as usize, self.v4_index[upper + 1] as usize + 1);
                self.v4.entries[self.v4.interval(bits, low, high)]
            }
            IpAddr::V6(ip) => self.v6.entries[self.v6.interval(u128::from(ip), 0, self.v6.starts.len())],
        };
        match self.prefixes.get(entry as usize) {
            None => NetworkMatch::Stranger,
            Some(Prefix { tenant: None, .. }) => NetworkMatch::Excluded { entry },
            Some(Prefix { tenant: Some(tenant), .. }) => NetworkMatch::Tenant { tenant: *tenant, entry },
        }
    }

    /// The prefix of an entry that [`Networks::find`] gave.
    pub(crate) fn prefix(&self, entry: u32) -> IpNet {
        self.prefixes[entry as usize].net
    }
}

impl<K: Ord + Copy + Default> Intervals<K> {
    /// Sweeps over `ranges` (first, last, entry), which nest or are disjoint as prefixes do.
    fn build(mut ranges: Vec<(K, K, u32)>, after: impl Fn(K) -> Option<K>) -> Self {
        // Wider ranges first where they begin together, so that narrower ones cover them.
        ranges.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        let mut cuts = vec![(K::default(), NO_ENTRY)];
        let mut open: Vec<(K, u32)> = Vec::new();
        let close = |open: &mut Vec<(K, u32)>, cuts: &mut Vec<(K, u32)>| {
            let Some((last, _)) = open.pop() else { return };
            if let Some(next) = after(last) {
                cut(cuts, next, open.last().map_or(NO_ENTRY, |&(_, entry)| entry));
            }
        };
        for (first, last, entry) in ranges {
            while open.last().is_some_and(|&(end, _)| end < first) {
                close(&mut open, &mut cuts);
            }
            cut(&mut cuts, first, entry);
            open.push((last, entry));
        }
        while !open.is_empty() {
            close(&mut open, &mut cuts);
        }
        let (starts, entries): (Vec<_>, Vec<_>) = cuts.into_iter().unzip();
        Self { starts: starts.into(), entries: entries.into() }
    }

    /// The interval that holds `key`, which lies in `low..high`.
    fn interval(&self, key: K, low: usize, high: usize) -> usize {
        low + self.starts[low..high].partition_point(|&start| start <= key) - 1
    }
}

/// Begins an interval; what began at the same place was empty.
fn cut<K: PartialEq>(cuts: &mut Vec<(K, u32)>, start: K, entry: u32) {
    match cuts.last_mut() {
        Some(last) if last.0 == start => last.1 = entry,
        _ => cuts.push((start, entry)),
    }
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
        let longest = (0_u32..)
            .zip(prefixes)
            .filter(|(_, prefix)| prefix.net.contains(&ip))
            .max_by_key(|(_, prefix)| prefix.net.prefix_len());
        match longest {
            None => NetworkMatch::Stranger,
            Some((entry, Prefix { tenant: None, .. })) => NetworkMatch::Excluded { entry },
            Some((entry, Prefix { tenant: Some(tenant), .. })) => {
                NetworkMatch::Tenant { tenant: *tenant, entry }
            }
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

    fn prefix() -> impl Strategy<Value = Prefix> {
        (address(), 0..=128_u8, prop::option::of(0..4_u32)).prop_map(|(address, bits, tenant)| {
            let net = match address.to_canonical() {
                IpAddr::V4(ip) => IpNet::V4(Ipv4Net::new(ip, bits % 33).unwrap().trunc()),
                IpAddr::V6(ip) => IpNet::V6(Ipv6Net::new(ip, bits).unwrap().trunc()),
            };
            Prefix { net, tenant: tenant.map(TenantIx) }
        })
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_linear_scan(
            prefixes in prop::collection::vec(prefix(), 0..40),
            addresses in prop::collection::vec(address(), 1..40),
        ) {
            let distinct: BTreeMap<_, _> = prefixes.into_iter().map(|prefix| (prefix.net, prefix)).collect();
            let prefixes: Vec<_> = distinct.into_values().collect();
            let networks = Networks::build(prefixes.clone());
            let ends = prefixes.iter().flat_map(|prefix| [prefix.net.network(), prefix.net.broadcast()]);
            for ip in ends.chain(addresses) {
                prop_assert_eq!(networks.find(ip), scan(&prefixes, ip), "{}", ip);
            }
        }
    }
}
