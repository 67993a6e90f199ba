//! Networks that lie in another tenant's: legal, for the more specific one wins, and worth knowing.

use ipnet::IpNet;
use policy::{Source, Sourced};

use crate::error::{Report, Warning};

/// Warns of each network that takes its clients from a wider one of another tenant.
pub(crate) fn warnings(source: &Source) -> Vec<Warning> {
    let mut report = Report::default();
    let mut claims: Vec<(&Sourced<IpNet>, &str)> = Vec::new();
    for tenant in &source.tenants {
        claims.extend(tenant.networks.iter().map(|network| (network, tenant.name.value.as_str())));
    }
    // By first address, the wider first: whatever holds a network stands before it.
    claims.sort_by_key(|(network, _)| network.value);
    let mut around: Vec<(&Sourced<IpNet>, &str)> = Vec::new();
    for (network, name) in claims {
        while around.pop_if(|(wider, _)| !wider.value.contains(&network.value)).is_some() {}
        let (net, origin) = (network.value, &network.origin);
        if let Some((wider, other)) = around.last()
            && *other != name
            // An equal claim is an error of its own.
            && wider.value != net
        {
            let message = format!(
                "{net} of tenant {name} lies in {} of tenant {other} (see {}): its clients are those of {name}, \
                 for the more specific network wins",
                wider.value, wider.origin
            );
            report.warn(origin, "networks", message);
        }
        around.push((network, name));
    }
    report.warnings
}
