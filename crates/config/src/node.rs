use std::path::{Path, PathBuf};
use std::time::Duration;

use policy::{Origin, Source, Sourced};

use crate::Purpose;
use crate::admin;
use crate::dns;
use crate::error::Report;
use crate::file::File;
use crate::grants;
use crate::limits::{self, ClientLimits};
use crate::listener;
use crate::lists;
use crate::login;
use crate::peers;
use crate::ports;
use crate::routes;
use crate::section::{Keys, Section, parse};
use crate::settings::{DeliveryConfig, NodeConfig, RetryConfig};
use crate::spool;
use crate::tenants::{self, Kept, Tenants};
use crate::tickets;
use crate::tls;
use crate::units::parse_duration;
use crate::warn;

/// Workers: more than any machine has cores.
const WORKERS_MAX: u32 = 255;

const TOP: Keys = Keys {
    known: &[
        "node",
        "spool",
        "listener",
        "tls",
        "policy",
        "route",
        "metrics",
        "tickets",
        "retry",
        "delivery",
        "admin",
        "login",
        "grants",
        "proxy_protocol",
        "xclient",
        "limits",
        "suspension",
        "dns",
        "lists",
    ],
    later: &[],
};
const NODE: Keys = Keys { known: &["hostname", "workers"], later: &[] };
const POLICY: Keys = Keys { known: &["tenants"], later: &[] };
const METRICS: Keys = Keys { known: &["address"], later: &[] };
const RETRY: Keys = Keys { known: &["first", "longest", "expire"], later: &[] };
const DELIVERY: Keys = Keys { known: &["private_destinations"], later: &[] };
/// Reads the node file and the tenant files. `None`: there is nothing to go on with; otherwise the
/// node is missing where one of its own keys is.
pub(crate) fn read(
    path: &Path,
    generation: u64,
    kept: &Kept,
    purpose: Purpose,
    report: &mut Report,
) -> Option<(Option<NodeConfig>, Source, Kept)> {
    let file = File::read(path, report)?;
    let table = parse(&file, report)?;
    let top = Section::top(&file, table.get_ref(), &TOP, report);
    let mut of_tenants = Report::default();
    let Tenants { sources: tenants, mut files, kept } = read_tenants(&top, kept, &mut of_tenants);
    files.insert(0, path.to_owned());
    let (limits, clients) = limits::node(&top, report);
    let source = Source {
        generation,
        origin: Origin::new(file.name.clone(), 0),
        routes: routes::routes(&top, report),
        limits,
        lists: lists::read(&top, &lists::NODE, report),
        tenants,
    };
    limits::check_message_sizes(&source, &clients, &mut of_tenants);
    let node = read_node(&top, clients, files, purpose, report);
    // The node's own come first: of very many warnings a log shows the first.
    report.errors.append(&mut of_tenants.errors);
    report.warnings.append(&mut of_tenants.warnings);
    if let Some(node) = &node {
        peers::warn(&node.peers, &source, report);
        warn::of_ourselves(node, &source, report);
    }
    Some((node, source, kept))
}

fn read_node(
    top: &Section<'_>,
    clients: ClientLimits,
    files: Vec<PathBuf>,
    purpose: Purpose,
    report: &mut Report,
) -> Option<NodeConfig> {
    let (mut hostname, mut workers) = (None, None);
    match top.section("node", &NODE, report) {
        Some(node) => {
            hostname = node.required("hostname", "\"relay.example.com\"", report);
            workers = node.number("workers", WORKERS_MAX, report);
            if let Some(name) = &hostname {
                check_hostname(name, report);
            }
        }
        None => top.missing("[node]", "a section with the hostname", report),
    }
    let spool = spool::read(top, purpose, report);
    let tls = tls::read(top, purpose, report);
    let mut ports = Vec::new();
    let listeners = listener::read(top, &mut ports, report);
    let metrics = top.section("metrics", &METRICS, report);
    let metrics_address =
        metrics.and_then(|metrics| ports::port(&metrics, "[metrics]", "metrics.address", &mut ports, report));
    let tickets = tickets::read(top, &mut ports, report);
    let admin = admin::read(top, &mut ports, purpose, report);
    ports::of_two(&ports, report);
    Some(NodeConfig {
        hostname: hostname?.value.into(),
        workers: workers.map_or(0, |workers| workers.value),
        spool: spool?,
        listeners,
        tls,
        metrics_address,
        retry: read_retry(top, report),
        delivery: read_delivery(top, report),
        tickets,
        admin,
        grants: grants::read_node(top, report),
        peers: peers::read(top, report),
        login: login::read(top, report),
        dns: dns::read(top, report),
        clients,
        files,
    })
}

fn check_hostname(name: &Sourced<String>, report: &mut Report) {
    let remedy = "write the full name of this host, as DNS knows it";
    if !mail::Address::parse(&format!("x@{}", name.value)).is_ok_and(|a| !a.has_domain_literal()) {
        report.error(&name.origin, "node.hostname", format!("{:?} is no host name", name.value), remedy);
    } else if !name.value.trim_end_matches('.').contains('.') {
        let message =
            format!("{:?} is not a full name, and many receivers refuse mail from it: {remedy}", name.value);
        report.warn(&name.origin, "node.hostname", message);
    }
}

fn read_delivery(top: &Section<'_>, report: &mut Report) -> DeliveryConfig {
    let section = top.section("delivery", &DELIVERY, report);
    let allowed = section.and_then(|section| section.boolean("private_destinations", report));
    DeliveryConfig { private_destinations: allowed.is_some_and(|allowed| allowed.value) }
}

fn read_retry(top: &Section<'_>, report: &mut Report) -> RetryConfig {
    const HOUR: Duration = Duration::from_secs(3600);
    let mut retry = RetryConfig { first: Duration::from_secs(5), longest: HOUR, expire: 5 * 24 * HOUR };
    let Some(section) = top.section("retry", &RETRY, report) else { return retry };
    for (name, value) in
        [("first", &mut retry.first), ("longest", &mut retry.longest), ("expire", &mut retry.expire)]
    {
        if let Some(written) = section.unit(name, parse_duration, report) {
            if written.value.is_zero() {
                report.error(&written.origin, section.key(name), "no time at all", "write at least \"1ms\"");
            }
            *value = written.value;
        }
    }
    if retry.first > retry.longest {
        let remedy = "make retry.longest at least as long as retry.first";
        report.error(&section.origin, "retry.longest", "is shorter than the first wait", remedy);
    }
    retry
}

fn read_tenants(top: &Section<'_>, kept: &Kept, report: &mut Report) -> Tenants {
    let Some(section) = top.section("policy", &POLICY, report) else {
        top.missing("[policy]", "a section with tenants = \"tenants\"", report);
        return Tenants::default();
    };
    let Some(written) = section.required("tenants", "\"tenants\"", report) else {
        return Tenants::default();
    };
    tenants::read(&top.file.resolve(&written.value), &written, kept, report)
}
