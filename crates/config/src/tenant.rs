use ipnet::IpNet;
use policy::{LoginRequired, RecipientsSource, RelayDomainSource, Sourced, TenantSource, parse_network};

use crate::error::Report;
use crate::grants;
use crate::identity;
use crate::limits;
use crate::lists;
use crate::routes::{route, routes};
use crate::section::{Keys, Section};
use crate::sender_rules;
use crate::warn;

pub(crate) const TOP: Keys = Keys {
    known: &[
        "name",
        "networks",
        "excluded_networks",
        "senders",
        "login_required",
        "null_sender",
        "plus_addressing",
        "own_senders_from_strangers",
        "check_header_from",
        "check_reply_to",
        "check_sender_header",
        "reserved_senders",
        "lists",
        "relay_domain",
        "route",
        "identity",
        "credentials",
        "limits",
        "grants",
        "containment",
    ],
    later: &[],
};
const RELAY_DOMAIN: Keys =
    Keys { known: &["domains", "next_hops", "tls", "connections", "recipients"], later: &[] };

/// The word that asks the next hop, where the name of a list could stand.
const CALL_AHEAD: &str = "call-ahead";

/// Reads a tenant, as far as it can be read, and warns of what is unwise in it.
pub(crate) fn read(top: &Section<'_>, report: &mut Report) -> TenantSource {
    let name = top.required("name", "\"the tenant's name\"", report);
    if let Some(name) = name.as_ref().filter(|name| !is_name(&name.value)) {
        let remedy = "write letters, digits, dots, hyphens and underscores; \"none\" and \"other\" are taken";
        report.error(
            &name.origin,
            top.key("name"),
            format!("{:?} cannot be a tenant's name", name.value),
            remedy,
        );
    }
    let modes = [
        ("never", LoginRequired::Never),
        ("outside", LoginRequired::Outside),
        ("always", LoginRequired::Always),
    ];
    let networks = networks(top, "networks", report);
    let excluded_networks = self::networks(top, "excluded_networks", report);
    let senders = top.strings("senders", report);
    let login_required = top.choice("login_required", &modes, report);
    let null_sender = top.boolean("null_sender", report);
    // Without a name the rest is still worth checking, under the place where it stands.
    let origin = name.as_ref().map_or_else(|| top.origin.clone(), |name| name.origin.clone());
    let tenant = TenantSource {
        name: name.unwrap_or_else(|| Sourced::new(origin.to_string(), origin.clone())),
        networks,
        excluded_networks,
        senders,
        login_required: login_required.unwrap_or_else(|| Sourced::new(LoginRequired::Never, origin.clone())),
        null_sender: null_sender.unwrap_or_else(|| Sourced::new(false, origin)),
        sender_rules: sender_rules::read(top, report),
        lists: lists::read(top, &lists::TENANT, report),
        relay_domains: relay_domains(top, report),
        routes: routes(top, report),
        identities: identity::read(top, report),
        limits: limits::tenant(top, report),
        grants: grants::read_tenant(top, report),
    };
    warn::about(&tenant, report);
    tenant
}

/// Stands in labels and records; two words have a special meaning there.
fn is_name(text: &str) -> bool {
    !matches!(text, "" | "none" | "other")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn networks(top: &Section<'_>, key: &str, report: &mut Report) -> Vec<Sourced<IpNet>> {
    let remedy = "write a prefix such as \"198.51.100.0/24\" or \"2001:db8::/48\", or one address";
    top.parsed_list(key, remedy, |text| parse_network(text).map_err(str::to_owned), report)
}

fn relay_domains(top: &Section<'_>, report: &mut Report) -> Vec<RelayDomainSource> {
    let sections = top.sections("relay_domain", &RELAY_DOMAIN, report);
    let read = |section: &Section<'_>, report: &mut Report| {
        let written = section.string("recipients", report);
        let call_ahead = written.as_ref().is_some_and(|written| written.value == CALL_AHEAD);
        RelayDomainSource {
            domains: section.strings("domains", report),
            route: route(section, Vec::new(), report),
            recipients: written
                .filter(|_| !call_ahead)
                .and_then(|written| recipients(section, written, report)),
            call_ahead,
        }
    };
    sections.iter().map(|section| read(section, report)).collect()
}

/// A list file: one address or local part a line, `#` begins a comment.
fn recipients(
    section: &Section<'_>,
    written: Sourced<String>,
    report: &mut Report,
) -> Option<RecipientsSource> {
    let recipients = lists::entries(section, "recipients", &written, report)?;
    Some(RecipientsSource { origin: written.origin, recipients })
}
