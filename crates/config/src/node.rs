use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use policy::{
    CONNECTIONS_DEFAULT, Listener, NextHop, Origin, Role, RouteSource, RouteTls, Source, Sourced, TlsPolicy,
};

use crate::Purpose;
use crate::admin::{self, AdminConfig};
use crate::dns::{self, DnsConfig};
use crate::error::Report;
use crate::file::File;
use crate::grants::{self, GrantsConfig};
use crate::limits::{self, ClientLimits};
use crate::lists;
use crate::login::{self, LoginConfig};
use crate::peers::{self, PeersConfig};
use crate::ports::{self, Port};
use crate::section::{Keys, Section, parse};
use crate::spool::{self, SpoolConfig};
use crate::tenants::{self, Kept, Tenants};
use crate::tickets::{self, TicketsConfig};
use crate::tls::{self, TlsConfig};
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
const LISTENER: Keys =
    Keys { known: &["name", "address", "role", "tls", "auth_without_tls"], later: &["auth"] };
const POLICY: Keys = Keys { known: &["tenants"], later: &[] };
const METRICS: Keys = Keys { known: &["address"], later: &[] };
const RETRY: Keys = Keys { known: &["first", "longest", "expire"], later: &[] };
const DELIVERY: Keys = Keys { known: &["private_destinations"], later: &[] };
pub(crate) const ROUTE: Keys =
    Keys { known: &["recipient_domains", "next_hops", "tls", "connections"], later: &[] };

/// What concerns the node as a whole.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The name that it greets with and writes into trace headers.
    pub hostname: Box<str>,
    /// Worker threads; 0 is one per core of the affinity mask and the cgroup's quota.
    pub workers: u32,
    /// Where accepted mail lies.
    pub spool: SpoolConfig,
    /// Never empty.
    pub listeners: Vec<ListenerConfig>,
    /// The certificate of every listener; there whenever one of them offers TLS.
    pub tls: Option<TlsConfig>,
    /// Where /metrics, /healthz and /readyz are served.
    pub metrics_address: Option<SocketAddr>,
    /// When delivery is tried again.
    pub retry: RetryConfig,
    /// How mail goes out.
    pub delivery: DeliveryConfig,
    /// What a denied sender is told.
    pub tickets: TicketsConfig,
    /// Where the admin API is served.
    pub admin: AdminConfig,
    /// What no grant is opened for.
    pub grants: GrantsConfig,
    /// Peers that speak for others.
    pub peers: PeersConfig,
    /// How failed logins are borne.
    pub login: LoginConfig,
    /// Who is asked for names, and on which DNS lists clients are looked up.
    pub dns: DnsConfig,
    /// What clients may cost.
    pub clients: ClientLimits,
    /// The files that a reload reads again.
    pub files: Vec<PathBuf>,
}

/// `[[listener]]`.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// What policy knows of it.
    pub policy: Listener,
    /// Where it listens.
    pub address: SocketAddr,
}

/// `[retry]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// After the first failure.
    pub first: Duration,
    /// The longest wait that doubling leads to.
    pub longest: Duration,
    /// After this, the sender is told.
    pub expire: Duration,
}

/// `[delivery]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryConfig {
    /// Hosts that MX records name may lie in loopback, private and link-local ranges too.
    pub private_destinations: bool,
}

impl NodeConfig {
    /// The file in which tickets are kept: beside the spool, whose lock is its own too.
    #[must_use]
    pub fn tickets_path(&self) -> PathBuf {
        self.spool.path.join("tickets.redb")
    }

    /// The port that a denied stranger is sent to: that of the first submission listener.
    #[must_use]
    pub fn submission_port(&self) -> Option<u16> {
        let submission = self.listeners.iter().find(|listener| listener.policy.role == Role::Submission);
        submission.map(|listener| listener.address.port())
    }
}

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
        routes: routes(&top, report),
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
    let listeners = read_listeners(top, &mut ports, report);
    let metrics = top.section("metrics", &METRICS, report);
    let metrics_address =
        metrics.and_then(|metrics| port(&metrics, "[metrics]", "metrics.address", &mut ports, report));
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

/// The address that a section listens on, each of which is noted in `ports`.
pub(crate) fn port(
    section: &Section<'_>,
    what: &str,
    key: &'static str,
    ports: &mut Vec<Port>,
    report: &mut Report,
) -> Option<SocketAddr> {
    let address = address(section, report)?;
    ports.push(Port { what: what.to_owned(), key, address: address.clone() });
    Some(address.value)
}

fn address(section: &Section<'_>, report: &mut Report) -> Option<Sourced<SocketAddr>> {
    section.demand("address", "\"127.0.0.1:9187\"", report);
    let remedy = "write an address and a port, as in \"192.0.2.1:25\" or \"[::]:25\"";
    section.parsed("address", remedy, report)
}

fn read_listeners(top: &Section<'_>, ports: &mut Vec<Port>, report: &mut Report) -> Vec<ListenerConfig> {
    let mut listeners: Vec<(ListenerConfig, Origin)> = Vec::new();
    let sections = top.sections("listener", &LISTENER, report);
    if sections.is_empty() {
        top.missing("[[listener]]", "a section with name, address and role", report);
    }
    for section in sections {
        let Some((listener, address)) = read_listener(&section, report) else { continue };
        let name = &listener.policy.name;
        if let Some((_, origin)) = listeners.iter().find(|(other, _)| other.policy.name == *name) {
            let message = format!("two listeners are called {name:?}");
            let remedy = format!("change one of them; the other is at {origin}");
            report.error(&section.origin, "listener.name", message, remedy);
        }
        ports.push(Port { what: format!("listener {name:?}"), key: "listener.address", address });
        if listener.policy.tls != TlsPolicy::Off && !top.has("tls") {
            let remedy = "add a [tls] section with certificate and key, or write tls = \"off\"";
            report.error(&section.origin, "listener.tls", "TLS without a certificate", remedy);
        }
        listeners.push((listener, section.origin));
    }
    listeners.into_iter().map(|(listener, _)| listener).collect()
}

fn read_listener(
    section: &Section<'_>,
    report: &mut Report,
) -> Option<(ListenerConfig, Sourced<SocketAddr>)> {
    let name = section.required("name", "\"smtp\"", report);
    let address = address(section, report);
    section.demand("role", "\"relay\" or \"submission\"", report);
    let roles = [("relay", Role::Relay), ("submission", Role::Submission)];
    let role = section.choice("role", &roles, report);
    section.demand("tls", "\"starttls\"", report);
    let policies = [
        ("off", TlsPolicy::Off),
        ("starttls", TlsPolicy::StartTls),
        ("required", TlsPolicy::Required),
        ("implicit", TlsPolicy::Implicit),
    ];
    let tls = section.choice("tls", &policies, report);
    let auth_without_tls = section.boolean("auth_without_tls", report);
    if let Some(auth) = auth_without_tls.as_ref().filter(|auth| auth.value) {
        let message = "passwords cross the network in the clear: leave it out wherever a client can do TLS";
        report.warn(&auth.origin, "listener.auth_without_tls", message);
    }
    let (name, address, role, tls) = (name?, address?, role?.value, tls?);
    let auth_without_tls = auth_without_tls.is_some_and(|auth| auth.value);
    if role == Role::Submission && tls.value == TlsPolicy::Off && !auth_without_tls {
        let remedy = "write tls = \"required\", or auth_without_tls = true to take passwords in the clear";
        report.error(&tls.origin, "listener.tls", "no client could log in here without TLS", remedy);
    }
    let policy = Listener { name: name.value.into(), role, tls: tls.value, auth_without_tls };
    Some((ListenerConfig { policy, address: address.value }, address))
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
    recipient_domains: Vec<policy::Sourced<String>>,
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
