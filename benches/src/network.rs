//! The longest prefix of an address, beside two other tables that give the same answers.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use policy::Snapshot;
use prefix_trie::PrefixMap;
use treebitmap::IpLookupTable;

use crate::measure::{Effort, each};
use crate::table::{self, Size};

/// Addresses that are looked up: enough that none is still in a cache when its turn comes again.
const KEYS: usize = 1 << 18;

/// What a look-up may take in the median, and where that is promised.
const BOUND_NANOS: f64 = 60.0;

pub(crate) fn run(effort: Effort) {
    for prefixes in [1_000, 100_000, 1_000_000] {
        let prefixes = effort.of(prefixes);
        println!("network: {prefixes} prefixes; at most {BOUND_NANOS} ns");
        let source = table::source(Size { tenants: prefixes.min(100_000) / 10, prefixes, identities: 0 }, 1);
        let snapshot = Snapshot::compile(&source).unwrap_or_else(|errors| panic!("{errors:?}"));
        let nets: Vec<(IpNet, u32)> = (0..)
            .zip(&source.tenants)
            .flat_map(|(tenant, source)| source.networks.iter().map(move |net| (net.value, tenant)))
            .collect();
        let mut random = fastrand::Rng::with_seed(2);
        // Every other address is in some prefix, the others are anywhere.
        let keys: Vec<IpAddr> = (0..effort.of(KEYS))
            .map(|index| match index % 2 {
                0 => table::within(random.choice(&nets).expect("there are some").0, &mut random),
                _ => IpAddr::V4(Ipv4Addr::from(random.u32(..))),
            })
            .collect();
        families(effort, &snapshot, &nets, &keys);
    }
}

fn families(effort: Effort, snapshot: &Snapshot, nets: &[(IpNet, u32)], keys: &[IpAddr]) {
    let ours = |ip: &IpAddr| snapshot.network_tenant(*ip).map_or(usize::MAX, |tenant| tenant.0 as usize);
    let (mut trie4, mut trie6) = (PrefixMap::<Ipv4Net, u32>::new(), PrefixMap::<Ipv6Net, u32>::new());
    let mut tree4 = IpLookupTable::<Ipv4Addr, u32>::new();
    let mut tree6 = IpLookupTable::<Ipv6Addr, u32>::new();
    for &(net, tenant) in nets {
        match net {
            IpNet::V4(net) => {
                trie4.insert(net, tenant);
                tree4.insert(net.network(), net.prefix_len().into(), tenant);
            }
            IpNet::V6(net) => {
                trie6.insert(net, tenant);
                tree6.insert(net.network(), net.prefix_len().into(), tenant);
            }
        }
    }
    let trie = |ip: &IpAddr| {
        let found = match *ip {
            IpAddr::V4(ip) => trie4.get_lpm(&Ipv4Net::from(ip)).map(|(_, tenant)| *tenant),
            IpAddr::V6(ip) => trie6.get_lpm(&Ipv6Net::from(ip)).map(|(_, tenant)| *tenant),
        };
        found.map_or(usize::MAX, |tenant| tenant as usize)
    };
    let tree = |ip: &IpAddr| {
        let found = match *ip {
            IpAddr::V4(ip) => tree4.longest_match(ip).map(|(_, _, tenant)| *tenant),
            IpAddr::V6(ip) => tree6.longest_match(ip).map(|(_, _, tenant)| *tenant),
        };
        found.map_or(usize::MAX, |tenant| tenant as usize)
    };
    for ip in keys {
        assert!(ours(ip) == trie(ip) && ours(ip) == tree(ip), "the tables disagree about {ip}");
    }
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = keys.iter().partition(|ip| ip.is_ipv4());
    for (family, keys) in [("IPv4", v4), ("IPv6", v6), ("both", keys.to_vec())] {
        each(effort, &format!("  {family}: gatepost"), &keys, |ip| ours(black_box(ip)));
        each(effort, &format!("  {family}: prefix-trie"), &keys, |ip| trie(black_box(ip)));
        each(effort, &format!("  {family}: treebitmap"), &keys, |ip| tree(black_box(ip)));
    }
}
