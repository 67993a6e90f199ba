//! Entries that lie in another tenant's networks: legal, for the more specific one wins, and worth knowing.

use ipnet::IpNet;
use policy::{Source, Sourced, canonical};

use crate::error::{Report, Warning};

/// A network of a tenant, or a range that it excludes.
#[derive(Clone, Copy)]
struct Claim<'a> {
    /// With IPv4 as IPv4, however it is written.
    net: IpNet,
    written: &'a Sourced<IpNet>,
    tenant: &'a str,
    is_excluded: bool,
}

/// Warns of each entry that takes its clients from a wider network of another tenant.
pub(crate) fn warnings(source: &Source) -> Vec<Warning> {
    let mut report = Report::default();
    let mut claims: Vec<Claim<'_>> = Vec::new();
    for tenant in &source.tenants {
        for (nets, is_excluded) in [(&tenant.networks, false), (&tenant.excluded_networks, true)] {
            claims.extend(nets.iter().map(|written| Claim {
                net: canonical(written.value),
                written,
                tenant: &tenant.name.value,
                is_excluded,
            }));
        }
    }
    // By first address, the wider first: whatever holds a claim stands before it.
    claims.sort_by_key(|claim| claim.net);
    let mut around: Vec<Claim<'_>> = Vec::new();
    for claim in claims {
        while around.pop_if(|wider| !wider.net.contains(&claim.net)).is_some() {}
        // Who is excluded already cannot be excluded again; a network opens whatever is around it.
        let wider = match claim.is_excluded {
            true => around.last().filter(|wider| !wider.is_excluded),
            false => around.iter().rfind(|wider| !wider.is_excluded),
        };
        // An equal claim is a separate error.
        if let Some(wider) = wider.filter(|wider| wider.tenant != claim.tenant && wider.net != claim.net) {
            warn(&claim, wider, &mut report);
        }
        around.push(claim);
    }
    report.warnings
}

fn warn(claim: &Claim<'_>, wider: &Claim<'_>, report: &mut Report) {
    let (net, name) = (claim.written.value, claim.tenant);
    let (key, what, whose) = match claim.is_excluded {
        true => ("excluded_networks", ", an excluded range", "strangers".to_owned()),
        false => ("networks", "", format!("those of {name}")),
    };
    let message = format!(
        "{net}{what} of tenant {name} lies in {} of tenant {} (see {}): its clients are {whose}, for the more \
         specific entry wins",
        wider.written.value, wider.tenant, wider.written.origin
    );
    report.warn(&claim.written.origin, key, message);
}
