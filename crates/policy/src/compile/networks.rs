//! The networks of all tenants, as one table.

use std::sync::Arc;

use ipnet::IpNet;

use super::{Compiler, PREFIX_BITS_MIN_V4, PREFIX_BITS_MIN_V6};
use crate::index::TenantIx;
use crate::network::{Networks, Prefix, canonical};
use crate::proof::width::counted;
use crate::source::{Sourced, TenantSource};

/// A prefix, and the line that claims it.
struct Claim<'a> {
    prefix: Prefix,
    written: &'a Sourced<IpNet>,
}

impl Claim<'_> {
    fn key(&self) -> &'static str {
        if self.prefix.tenant.is_some() { "networks" } else { "excluded_networks" }
    }
}

impl Compiler {
    pub(super) fn networks(&mut self, tenants: &[Arc<TenantSource>]) -> Networks {
        let count = tenants.iter().map(|tenant| tenant.networks.len() + tenant.excluded_networks.len()).sum();
        let mut claims = Vec::with_capacity(count);
        for (index, tenant) in (0_u32..).zip(tenants) {
            let own = tenant.networks.iter().map(|written| (written, Some(TenantIx(index))));
            let excluded = tenant.excluded_networks.iter().map(|written| (written, None));
            claims.extend(own.chain(excluded).filter_map(|(written, tenant)| self.claim(written, tenant)));
        }
        // Stable: of two that are the same, the one in the earlier file is the first.
        claims.sort_by_key(|claim| claim.prefix.net);
        let mut prefixes: Vec<Prefix> = Vec::with_capacity(claims.len());
        for same in claims.chunk_by(|a, b| a.prefix.net == b.prefix.net) {
            let (first, others) = same.split_first().expect("a chunk is not empty");
            prefixes.push(first.prefix);
            for other in others {
                self.claimed_twice(first, other);
            }
        }
        Networks::build(&prefixes)
    }

    fn claim<'a>(&mut self, written: &'a Sourced<IpNet>, tenant: Option<TenantIx>) -> Option<Claim<'a>> {
        let (net, origin) = (canonical(written.value), &written.origin);
        let claim = Claim { prefix: Prefix { net, tenant }, written };
        let counted = counted(net);
        let (kind, bits_min) = match counted {
            IpNet::V4(_) => ("IPv4", PREFIX_BITS_MIN_V4),
            IpNet::V6(_) => ("IPv6", PREFIX_BITS_MIN_V6),
        };
        let written = written.value;
        if net.trunc() != net {
            let message = format!("{written} has bits set after its first {}", written.prefix_len());
            let remedy = format!("write {}, or {}/{}", net.trunc(), net.addr(), net.max_prefix_len());
            self.error(origin, claim.key(), message, remedy);
            return None;
        }
        // An excluded range may be of any width: it only ever closes.
        if tenant.is_some() && counted.prefix_len() < bits_min {
            let what = match counted == net {
                true => written.to_string(),
                false => format!("{written} is {counted} behind a translator (RFC 6052), which"),
            };
            let message = format!("{what} is wider than /{bits_min}: that is no customer's {kind} network");
            self.error(origin, claim.key(), message, "list the networks that are the tenant's own");
            self.errors.last_mut().expect("it was just added").opens = true;
            return None;
        }
        Some(claim)
    }

    fn claimed_twice(&mut self, first: &Claim<'_>, other: &Claim<'_>) {
        let net = other.written.value;
        let (message, remedy) = match (first.prefix.tenant, other.prefix.tenant) {
            // Two that exclude the same strangers agree.
            (None, None) => return,
            (Some(a), Some(b)) if a != b => {
                (format!("{net} belongs to two tenants"), "remove it from one of them, or split it")
            }
            (Some(_), Some(_)) => (format!("{net} is listed twice"), "remove one of the two"),
            (Some(_), None) | (None, Some(_)) => {
                (format!("{net} is both a network and an excluded range"), "remove one of the two")
            }
        };
        let (origin, first) = (&other.written.origin, first.written.origin.clone());
        self.conflict(origin, first, other.key(), message, remedy);
    }
}
