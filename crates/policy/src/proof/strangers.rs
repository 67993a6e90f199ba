//! The addresses that strangers have: representatives of all of them.
//!
//! They are taken from the [`Source`], not from the snapshot that is to be proved: a table that lost
//! or invented an entry must not choose its own witnesses.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::iter::once;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::width;
use crate::network::canonical;
use crate::source::Source;

/// Addresses that belong to no tenant: every host that is near has one (DESIGN.md F1), and
/// a client whose address is not told has the unspecified one.
const NEAR: [IpAddr; 9] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::new(10, 255, 255, 254)),
    IpAddr::V4(Ipv4Addr::new(255, 255, 255, 255)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1)),
];

/// `::ffff:0:0/96`, whose addresses are IPv4's.
const MAPPED: Claim = Claim { first: 0xffff << 32, last: 0xffff_ffff_ffff, owner: Owner::Ipv4 };

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    None,
    Excluded,
    Tenant(u32),
    Ipv4,
}

/// The first address of a prefix and its last, as numbers.
#[derive(Clone, Copy)]
struct Claim {
    first: u128,
    last: u128,
    owner: Owner,
}

/// A representative of strangers.
pub(crate) struct Stranger {
    pub(crate) client: IpAddr,
    /// One of each kind is: near ones, and of either family one in no network, one in an excluded range,
    /// one in each network that is no customer's. The decision knows no more of a client than that.
    pub(crate) is_witness: bool,
}

impl Stranger {
    /// The first address and the last of every range that no edge of a prefix parts, so that the
    /// answer of the table may change on both sides of each; and those near. None comes twice.
    pub(crate) fn all(source: &Source) -> Vec<Self> {
        let (mut v4, mut v6) = (Vec::new(), vec![MAPPED]);
        // Tenants whose networks together are too wide to be one customer's: their clients are strangers.
        let mut too_wide = HashSet::new();
        for (index, tenant) in (0_u32..).zip(&source.tenants) {
            let networks = || tenant.networks.iter().map(|net| canonical(net.value));
            let excluded = tenant.excluded_networks.iter().map(|net| canonical(net.value));
            let own = networks().map(|net| (net, Owner::Tenant(index)));
            for (net, owner) in own.chain(excluded.map(|net| (net, Owner::Excluded))) {
                let (first, last) = (number(net.network()), number(net.broadcast()));
                let claims = if matches!(net, IpNet::V4(_)) { &mut v4 } else { &mut v6 };
                claims.push(Claim { first, last, owner });
            }
            if width::is_too_wide(networks()) {
                too_wide.insert(Owner::Tenant(index));
            }
        }
        let is_stranger = |owner| match owner {
            Owner::None | Owner::Excluded => true,
            Owner::Tenant(_) => too_wide.contains(&owner),
            Owner::Ipv4 => false,
        };
        for claims in [&mut v4, &mut v6] {
            // Wider ones before those that they hold.
            claims.sort_unstable_by_key(|claim| (claim.first, Reverse(claim.last)));
        }
        let near = NEAR.into_iter().filter(|ip| {
            let claims = if ip.is_ipv4() { &v4 } else { &v6 };
            // No client has the unspecified address, whatever network holds it.
            ip.is_unspecified() || is_stranger(owner(claims, number(*ip)))
        });
        let mut strangers: Vec<_> = near.map(|client| Self { client, is_witness: true }).collect();
        let mut kinds = HashSet::new();
        for (claims, last) in [(&v4, u128::from(u32::MAX)), (&v6, u128::MAX)] {
            let is_ipv4 = std::ptr::eq(claims, &v4);
            ranges(claims, last, |first, last, owner| {
                if !is_stranger(owner) {
                    return;
                }
                let ends = once(first).chain((first < last).then_some(last));
                let ends = ends.map(|end| if is_ipv4 { v4_of(end) } else { v6_of(end) });
                // Those near are there already.
                for client in ends.filter(|ip| !NEAR.contains(ip)) {
                    strangers.push(Self { client, is_witness: kinds.insert((is_ipv4, owner)) });
                }
            });
        }
        strangers
    }
}

/// Calls `found` with the first address, the last and the owner of each range that no edge of a claim
/// parts, from 0 to `end`. The claims are sorted, wider ones before those that they hold.
fn ranges(claims: &[Claim], end: u128, mut found: impl FnMut(u128, u128, Owner)) {
    let mut around = vec![Claim { first: 0, last: end, owner: Owner::None }];
    // What has been found ends before it; there may be no address behind.
    let mut begin = Some(0);
    let mut until = |last: u128, owner: Owner| {
        if let Some(first) = begin.filter(|&first| first <= last) {
            found(first, last, owner);
            begin = last.checked_add(1);
        }
    };
    for claim in claims {
        while let Some(inner) = around.pop_if(|inner| inner.last < claim.first) {
            until(inner.last, inner.owner);
        }
        if let (Some(outer), Some(last)) = (around.last(), claim.first.checked_sub(1)) {
            until(last, outer.owner);
        }
        around.push(*claim);
    }
    while let Some(inner) = around.pop() {
        until(inner.last, inner.owner);
    }
}

/// Whose `address` is: of claims that are sorted so the last that holds it is the most specific.
fn owner(claims: &[Claim], address: u128) -> Owner {
    let holds = |claim: &&Claim| claim.first <= address && address <= claim.last;
    claims.iter().rfind(holds).map_or(Owner::None, |claim| claim.owner)
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn v4_of(number: u128) -> IpAddr {
    Ipv4Addr::from(u32::try_from(number).expect("the ranges end with the family")).into()
}

fn v6_of(number: u128) -> IpAddr {
    Ipv6Addr::from(number).into()
}
