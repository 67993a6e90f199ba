//! Block and allow lists in files (DESIGN.md E2), as tables: those of the node and of each tenant.

use std::net::IpAddr;
use std::sync::Arc;

use crate::patterns::Patterns;
use crate::source::{BlockAllow, Origin};

/// The lists of the node, or of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    pub(crate) clients: BlockAllow<List<Ranges>>,
    pub(crate) senders: BlockAllow<List<Patterns>>,
    pub(crate) recipients: BlockAllow<List<Patterns>>,
}

/// A list in a separate file; each entry has its line.
#[derive(Debug)]
pub(crate) struct List<E> {
    /// As a reply may name it.
    pub(crate) name: Arc<str>,
    pub(crate) file: Arc<str>,
    pub(crate) entries: E,
}

/// Client addresses: disjoint ranges in ascending order, IPv4 as IPv4 mapped into IPv6. Each is its
/// first address, its last address, its line.
#[derive(Debug)]
pub(crate) struct Ranges(Box<[(u128, u128, u32)]>);

/// Entries that may hold an `I`.
pub(crate) trait Entries<I> {
    /// The line that holds `item`.
    fn line(&self, item: I) -> Option<u32>;
}

impl<E> List<E> {
    pub(crate) fn origin(&self, line: u32) -> Origin {
        Origin::new(self.file.clone(), line)
    }
}

impl Ranges {
    /// `ranges` nest or are disjoint, as prefixes are; of two that nest the wider one says it all.
    pub(crate) fn new(mut ranges: Vec<(u128, u128, u32)>) -> Self {
        ranges.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        ranges.dedup_by(|narrow, wide| narrow.1 <= wide.1);
        Self(ranges.into())
    }
}

impl Entries<IpAddr> for Ranges {
    fn line(&self, client: IpAddr) -> Option<u32> {
        let bits = bits_of(client);
        let after = self.0.partition_point(|&(first, ..)| first <= bits);
        let &(_, last, line) = self.0.get(after.checked_sub(1)?)?;
        (bits <= last).then_some(line)
    }
}

/// An address among all addresses: IPv4 as IPv4 mapped into IPv6.
pub(crate) fn bits_of(client: IpAddr) -> u128 {
    u128::from(match client.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    })
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;

    fn list(nets: &[IpNet]) -> Ranges {
        let range = |(line, net): (u32, &IpNet)| (bits_of(net.network()), bits_of(net.broadcast()), line);
        Ranges::new((1..).zip(nets).map(range).collect())
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
                prop_assert_eq!(list.line(client).is_some(), nets.iter().any(|net| net.contains(&client)));
            }
        }
    }

    #[test]
    fn both_families_stand_in_one_list_and_a_find_names_its_line() {
        let nets = ["2001:db8::/32", "198.51.100.7/32", "203.0.113.0/24"].map(|net| net.parse().unwrap());
        let list = list(&nets);
        let line = |client: &str| list.line(client.parse().unwrap());
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
