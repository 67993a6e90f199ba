//! `[[route]]`, and the next hops of a `[[relay_domain]]`: where mail goes.

use policy::{CONNECTIONS_DEFAULT, NextHop, RouteSource, RouteTls, Sourced};

use crate::error::Report;
use crate::section::{Keys, Section};

pub(crate) const ROUTE: Keys =
    Keys { known: &["recipient_domains", "next_hops", "tls", "connections"], later: &[] };

/// Every `[[route]]` of a file.
pub(crate) fn routes(top: &Section<'_>, report: &mut Report) -> Vec<RouteSource> {
    let sections = top.sections("route", &ROUTE, report);
    let read = |section: &Section<'_>, report: &mut Report| {
        let domains = section.strings("recipient_domains", report);
        route(section, domains, report)
    };
    sections.iter().map(|section| read(section, report)).collect()
}

/// The next hops of a `[[route]]` or a `[[relay_domain]]`.
pub(crate) fn route(
    section: &Section<'_>,
    recipient_domains: Vec<Sourced<String>>,
    report: &mut Report,
) -> RouteSource {
    let remedy = "write \"host\", \"host:25\", \"192.0.2.1:25\" or \"[2001:db8::1]:25\"";
    let hop = |text: &str| text.parse::<NextHop>().map_err(|error| error.to_string());
    let before = report.errors.len();
    let next_hops = section.parsed_list("next_hops", remedy, hop, report);
    let words = [
        ("off", RouteTls::Off),
        ("opportunistic", RouteTls::Opportunistic),
        ("required", RouteTls::Required),
    ];
    let malformed = report.errors.len() > before;
    let tls = section.choice("tls", &words, report);
    let connections = section.number("connections", u32::MAX, report);
    let mut next_hops: Vec<_> = next_hops.into_iter().map(|hop| hop.value).collect();
    if next_hops.is_empty() && malformed {
        // The malformed ones are reported already; that none is left would be a second complaint.
        next_hops.push(NextHop { host: "malformed.invalid".into(), port: policy::SMTP_PORT });
    }
    RouteSource {
        origin: section.origin.clone(),
        recipient_domains,
        next_hops,
        tls: tls.map_or_else(RouteTls::default, |tls| tls.value),
        connections_max: connections.map_or(CONNECTIONS_DEFAULT, |connections| connections.value),
    }
}
