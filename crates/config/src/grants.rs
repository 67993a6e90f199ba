//! `[grants]`: POP and IMAP before SMTP (DESIGN.md A2), of the node and of a tenant.

use std::time::Duration;

use ipnet::IpNet;
use policy::{GrantTerms, Sourced, parse_network};

use crate::error::Report;
use crate::section::{Keys, Section};
use crate::token;
use crate::units::parse_duration;

const NODE: Keys = Keys { known: &["shared"], later: &[] };
const TENANT: Keys = Keys { known: &["ttl", "token", "sha256"], later: &[] };

/// How long a grant holds where the tenant does not say.
const TTL_DEFAULT: Duration = Duration::from_secs(600);
/// The longest that a grant may hold: past a day another person may have the address.
const TTL_MAX: Duration = Duration::from_secs(86_400);

/// `[grants]` of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantsConfig {
    /// Addresses that many people share (NAT gateways, carriers' ranges): they get no grant.
    pub shared: Vec<IpNet>,
}

/// Reads the node's.
pub(crate) fn read_node(top: &Section<'_>, report: &mut Report) -> GrantsConfig {
    let Some(section) = top.section("grants", &NODE, report) else { return GrantsConfig::default() };
    let remedy = "write a prefix such as \"203.0.113.0/28\", or one address";
    let parse = |text: &str| parse_network(text).map_err(str::to_owned);
    let shared = section.parsed_list("shared", remedy, parse, report);
    GrantsConfig { shared: shared.into_iter().map(|net: Sourced<IpNet>| net.value).collect() }
}

/// Reads a tenant's.
pub(crate) fn read_tenant(top: &Section<'_>, report: &mut Report) -> Option<GrantTerms> {
    let section = top.section("grants", &TENANT, report)?;
    let ttl = section.unit("ttl", parse_duration, report);
    if let Some(ttl) = ttl.as_ref().filter(|ttl| ttl.value.is_zero() || ttl.value > TTL_MAX) {
        let remedy = "write a time from \"1s\" to \"1d\"; 5 to 10 minutes are usual";
        report.error(&ttl.origin, section.key("ttl"), "no grant can hold so long", remedy);
    }
    Some(GrantTerms {
        origin: section.origin.clone(),
        ttl: ttl.map_or(TTL_DEFAULT, |ttl| ttl.value),
        token_sha256: token::read(&section, report).map(Into::into),
    })
}
