use std::net::IpAddr;

use ipnet::IpNet;

use crate::snapshot::TenantIx;

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
    v4: Trie,
    v6: Trie,
}

impl Networks {
    /// Builds the table; `prefixes` hold no prefix twice and none that is IPv4 mapped into IPv6.
    pub(crate) fn build(prefixes: &[Prefix]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            let answer = prefix.tenant.map_or(EXCLUDED, |tenant| tenant.0);
            debug_assert!(answer <= EXCLUDED, "fewer tenants than 2^31");
            match prefix.net {
                IpNet::V4(net) => {
                    let bits = u128::from(u32::from(net.network())) << 96;
                    v4.push(Range { bits, len: net.prefix_len(), answer });
                }
                IpNet::V6(net) => {
                    v6.push(Range { bits: net.network().into(), len: net.prefix_len(), answer });
                }
            }
        }
        Self { v4: Trie::build(v4), v6: Trie::build(v6) }
    }

    /// The most specific prefix that holds `ip`; IPv4 mapped into IPv6 counts as IPv4.
    pub(crate) fn find(&self, ip: IpAddr) -> NetworkMatch {
        let answer = match ip.to_canonical() {
            IpAddr::V4(ip) => self.v4.find(u128::from(u32::from(ip)) << 96),
            IpAddr::V6(ip) => self.v6.find(ip.into()),
        };
        match answer {
            NOBODY => NetworkMatch::Stranger,
            EXCLUDED => NetworkMatch::Excluded,
            tenant => NetworkMatch::Tenant(TenantIx(tenant)),
        }
    }
}

/// A trie that takes 16 bits of an address at each level.
///
/// The first level is an array of all 2^16 values, one load a look-up. A node below it holds the
/// intervals into which its prefixes cut those 16 bits: mostly so few that they lie in one or two
/// cache lines. An IPv4 address ends at the second level, a customer's IPv6 network at the third or
/// fourth. Nodes lie one after the other in one array of 16-bit words:
///
/// | words | meaning |
/// |---|---|
/// | 1 | intervals n, less one |
/// | n | the first value of each, ascending, beginning with 0 |
/// | 2n | its cell, the lower half first |
#[derive(Debug)]
struct Trie {
    root: Box<[u32]>,
    nodes: Box<[u16]>,
}

/// A cell with this bit leads to the node that begins at the word of its other bits; another is the
/// answer.
const NODE: u32 = 1 << 31;

/// The answer for addresses in no prefix.
const NOBODY: u32 = NODE - 1;

/// The answer for addresses in an excluded range.
const EXCLUDED: u32 = NODE - 2;

/// Bits of an address that one level takes.
const LEVEL_BITS: u8 = 16;

/// Up to so many intervals it is quicker to look at all of them at once than to halve them.
const SCAN_MAX: usize = 32;

/// A prefix, its bits at the upper end.
#[derive(Clone, Copy)]
struct Range {
    bits: u128,
    len: u8,
    answer: u32,
}

impl Trie {
    fn build(mut ranges: Vec<Range>) -> Self {
        ranges.sort_unstable_by_key(|range| (range.bits, range.len));
        let mut builder = Builder { nodes: Vec::new() };
        let mut root = vec![NOBODY; 1 << LEVEL_BITS];
        // A prefix of no bits at all is what everything else is cut from.
        let whole = ranges.iter().take_while(|range| range.len == 0).count();
        let outside = ranges[..whole].last().map_or(NOBODY, |range| range.answer);
        let cuts = builder.cuts(&ranges[whole..], 0, outside);
        for (index, &(start, cell)) in cuts.iter().enumerate() {
            let end = cuts.get(index + 1).map_or(root.len(), |&(next, _)| next.into());
            root[usize::from(start)..end].fill(cell);
        }
        Self { root: root.into(), nodes: builder.nodes.into() }
    }

    fn find(&self, bits: u128) -> u32 {
        let mut rest = bits;
        let mut cell = self.root[usize::from((rest >> 112) as u16)];
        while cell & NODE != 0 {
            rest <<= LEVEL_BITS;
            let node = &self.nodes[(cell & !NODE) as usize..];
            let intervals = usize::from(node[0]) + 1;
            let (starts, cells) = node[1..].split_at(intervals);
            let at = 2 * (begun(starts, (rest >> 112) as u16) - 1);
            cell = u32::from(cells[at]) | u32::from(cells[at + 1]) << 16;
        }
        cell
    }
}

/// How many of the ascending `starts` are at most `value`.
fn begun(starts: &[u16], value: u16) -> usize {
    if starts.len() <= SCAN_MAX {
        usize::from(starts.iter().map(|&start| u16::from(start <= value)).sum::<u16>())
    } else {
        starts.partition_point(|&start| start <= value)
    }
}

struct Builder {
    nodes: Vec<u16>,
}

impl Builder {
    /// The intervals into which `ranges` cut the 16 bits after the first `above`, which they share.
    /// They are sorted, wider ones before those that they hold, and longer than `above` bits;
    /// `outside` is the answer where none of them is.
    fn cuts(&mut self, ranges: &[Range], above: u8, outside: u32) -> Vec<(u16, u32)> {
        let mut cuts = vec![(0, outside)];
        // The ranges that hold the place where we are: their last value, and their answer.
        let mut open: Vec<(u16, u32)> = Vec::new();
        let mut rest = ranges;
        while let Some(range) = rest.first() {
            let value = digit(range.bits, above);
            close_before(Some(value), &mut open, &mut cuts, outside);
            if range.len <= above + LEVEL_BITS {
                let below = above + LEVEL_BITS - range.len;
                cut(&mut cuts, value, range.answer);
                open.push((value | ((1_u32 << below) - 1) as u16, range.answer));
                rest = &rest[1..];
            } else {
                let longer = rest.iter().take_while(|range| digit(range.bits, above) == value).count();
                let answer = open.last().map_or(outside, |&(_, answer)| answer);
                let node = self.node(&rest[..longer], above + LEVEL_BITS, answer);
                cut(&mut cuts, value, node);
                open.push((value, node));
                rest = &rest[longer..];
            }
        }
        close_before(None, &mut open, &mut cuts, outside);
        cuts
    }

    fn node(&mut self, ranges: &[Range], above: u8, outside: u32) -> u32 {
        let cuts = self.cuts(ranges, above, outside);
        let at = u32::try_from(self.nodes.len()).ok().filter(|at| at & NODE == 0);
        let at = at.expect("a table of less than four gibibytes");
        self.nodes.push(u16::try_from(cuts.len() - 1).expect("no more intervals than values"));
        self.nodes.extend(cuts.iter().map(|&(start, _)| start));
        self.nodes.extend(cuts.iter().flat_map(|&(_, cell)| [cell as u16, (cell >> 16) as u16]));
        NODE | at
    }
}

/// The 16 bits after the first `above`.
fn digit(bits: u128, above: u8) -> u16 {
    ((bits << above) >> 112) as u16
}

/// Ends the open ranges that end before `value`, or all of them: what holds them holds again.
fn close_before(value: Option<u16>, open: &mut Vec<(u16, u32)>, cuts: &mut Vec<(u16, u32)>, outside: u32) {
    while let Some((last, _)) = open.pop_if(|&mut (last, _)| value.is_none_or(|value| last < value)) {
        if let Some(next) = last.checked_add(1) {
            cut(cuts, next, open.last().map_or(outside, |&(_, answer)| answer));
        }
    }
}

/// Begins an interval; what began at the same place was empty, and what goes on needs no cut.
fn cut(cuts: &mut Vec<(u16, u32)>, start: u16, cell: u32) {
    if cuts.last().is_some_and(|&(at, _)| at == start) {
        cuts.pop();
    }
    if cuts.last().is_none_or(|&(_, before)| before != cell) {
        cuts.push((start, cell));
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
            let networks = Networks::build(&prefixes);
            let ends = prefixes.iter().flat_map(|prefix| [prefix.net.network(), prefix.net.broadcast()]);
            for ip in ends.chain(addresses) {
                prop_assert_eq!(networks.find(ip), scan(&prefixes, ip), "{}", ip);
            }
        }
    }
}
