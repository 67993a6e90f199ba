//! What a configuration distinguishes: representatives of its senders and recipients.
//!
//! Like the addresses of strangers they are taken from the [`Source`], not from the snapshot.

use std::collections::{BTreeSet, HashSet};

use crate::source::{RouteSource, Source, Sourced, TenantSource};

/// Domains that no configuration in earnest names (RFC 2606, RFC 6761).
const FOREIGN: [&str; 2] = ["elsewhere.invalid", "stranger.invalid"];

/// A representative of each class of reverse-paths; the empty one is `<>`.
pub(crate) fn senders(source: &Source, hostname: &str) -> Vec<String> {
    let mut senders = BTreeSet::from([String::new()]);
    senders.extend(FOREIGN.iter().map(|domain| format!("f@{domain}")));
    senders.extend([format!("f@{hostname}"), "f@[192.0.2.1]".into(), "f@localhost".into()]);
    for tenant in &source.tenants {
        let of_identities = tenant.identities.iter().flat_map(|identity| &identity.senders);
        for pattern in tenant.senders.iter().chain(of_identities) {
            senders.extend(members(&pattern.value));
        }
        senders.extend(tenant.identities.iter().map(|identity| identity.login.value.clone()));
    }
    senders.into_iter().collect()
}

/// The relay domains of a configuration, in lower case.
pub(crate) struct RelayDomains(HashSet<String>);

impl RelayDomains {
    pub(crate) fn of(source: &Source) -> Self {
        let domains = source.tenants.iter().flat_map(|tenant| relay_domains(tenant));
        Self(domains.map(|domain| domain.value.to_ascii_lowercase()).collect())
    }

    /// A domain with which no tenant has to do.
    pub(crate) fn foreign(&self) -> String {
        let mut candidates = (0_u32..).map(|number| format!("elsewhere{number}.invalid"));
        candidates.find(|domain| !self.0.contains(domain)).expect("the relay domains end")
    }

    /// Representatives of the classes of recipients that no tenant distinguishes, and the ways to
    /// hide one. Nothing of it may be taken from a stranger.
    pub(crate) fn recipients_elsewhere(&self, source: &Source, hostname: &str) -> BTreeSet<String> {
        let mut recipients = BTreeSet::new();
        let foreign = self.foreign();
        for domain in FOREIGN.into_iter().chain([&*foreign, hostname, "[192.0.2.1]", "localhost"]) {
            self.outside(domain, &mut recipients);
        }
        self.routed(&source.routes, &mut recipients);
        let first_relay = source.tenants.iter().flat_map(|tenant| relay_domains(tenant)).next();
        let first_relay = first_relay.map(|domain| domain.value.as_str());
        for us in [Some(hostname), Some("[192.0.2.1]"), first_relay].into_iter().flatten() {
            recipients.extend(tricks(&foreign, us));
        }
        recipients
    }

    /// A representative of each class of recipients that a tenant distinguishes and that is not mail
    /// for a relay domain.
    pub(crate) fn recipients_of(&self, tenant: &TenantSource) -> BTreeSet<String> {
        let mut recipients = BTreeSet::new();
        self.routed(&tenant.routes, &mut recipients);
        for domain in relay_domains(tenant) {
            // What lies below a relay domain, and what merely ends like it, are other domains.
            self.outside(&format!("below.{}", domain.value), &mut recipients);
            self.outside(&format!("not{}", domain.value), &mut recipients);
        }
        for pattern in &tenant.senders {
            let owned = pattern.value.rsplit('@').next().unwrap_or_default();
            self.outside(owned.strip_prefix("*.").unwrap_or(owned), &mut recipients);
        }
        recipients
    }

    fn routed(&self, routes: &[RouteSource], recipients: &mut BTreeSet<String>) {
        for domain in routes.iter().flat_map(|route| &route.recipient_domains) {
            match domain.value.strip_prefix("*.") {
                Some(parent) => {
                    self.outside(parent, recipients);
                    self.outside(&format!("below.{parent}"), recipients);
                }
                None => self.outside(&domain.value, recipients),
            }
        }
    }

    fn outside(&self, domain: &str, recipients: &mut BTreeSet<String>) {
        if domain != "*" && !self.0.contains(&domain.to_ascii_lowercase()) {
            recipients.insert(format!("t@{domain}"));
        }
    }
}

fn relay_domains(tenant: &TenantSource) -> impl Iterator<Item = &Sourced<String>> {
    tenant.relay_domains.iter().flat_map(|relay| &relay.domains)
}

/// The ways to hide the mailbox `t` of `foreign` in a recipient that names us.
fn tricks(foreign: &str, us: &str) -> [String; 9] {
    [
        format!("t%{foreign}@{us}"),
        format!("\"t@{foreign}\""),
        format!("\"t%{foreign}\""),
        format!("t@{foreign}@{us}"),
        format!("\"t@{foreign}\"@{us}"),
        format!("@{us}:t@{foreign}"),
        format!("{foreign}!t"),
        format!("{foreign}!t@{us}"),
        "t".to_owned(),
    ]
}

/// Addresses that a sender pattern owns, and near ones that it does not.
pub(crate) fn members(pattern: &str) -> Vec<String> {
    match pattern.strip_prefix('@') {
        Some("*") => vec!["f@anyone.invalid".to_owned()],
        Some(domain) => match domain.strip_prefix("*.") {
            Some(parent) => vec![format!("f@below.{parent}"), format!("f@{parent}")],
            None => vec![format!("f@{domain}"), format!("f@below.{domain}")],
        },
        None if pattern == "*" => vec!["f@anyone.invalid".to_owned()],
        None => {
            let domain = pattern.rsplit('@').next().unwrap_or_default();
            vec![pattern.to_owned(), format!("f@{domain}")]
        }
    }
}

#[cfg(test)]
mod behaviour {
    use super::*;
    use crate::source::{CONNECTIONS_DEFAULT, Origin, RouteTls};

    #[test]
    fn the_domains_that_a_route_names_are_tried_and_what_lies_below_a_wildcard() {
        let origin = Origin::new("gatepost.toml", 1);
        let written = |domain: &str| Sourced::new(domain.to_owned(), origin.clone());
        let route = RouteSource {
            origin: origin.clone(),
            recipient_domains: ["a.example", "*.b.example", "*", "Relay.example"].map(written).into(),
            next_hops: Vec::new(),
            tls: RouteTls::Off,
            connections_max: CONNECTIONS_DEFAULT,
        };
        let mut recipients = BTreeSet::new();
        RelayDomains(HashSet::from(["relay.example".to_owned()])).routed(&[route], &mut recipients);
        let expected = ["t@a.example", "t@b.example", "t@below.b.example"].map(str::to_owned);
        assert_eq!(recipients, BTreeSet::from(expected));
    }
}
