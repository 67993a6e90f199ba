use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use policy::{
    CONNECTIONS_DEFAULT, Listener, NextHop, Origin, Role, RouteSource, RouteTls, Source, TlsPolicy,
};

use crate::admin::{self, AdminConfig};
use crate::dns::{self, DnsConfig};
use crate::error::Report;
use crate::file::File;
use crate::grants::{self, GrantsConfig};
use crate::limits::{self, ClientLimits};
use crate::lists;
use crate::login::{self, LoginConfig};
use crate::peers::{self, PeersConfig};
use crate::section::{Keys, Section, parse};
use crate::tenants::{self, Kept, Tenants};
use crate::tickets::{self, TicketsConfig};
use crate::units::{parse_duration, parse_size};

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
const SPOOL: Keys = Keys {
    known: &["path", "capacity", "compaction", "unfinished", "unfinished_per_client", "while_recovering"],
    later: &[],
};

/// What compaction may read and write a second where nothing is written.
const COMPACTION_DEFAULT: u64 = 32 << 20;

/// What unfinished messages may hold where nothing is written, unless a quarter of the capacity is less.
const UNFINISHED_DEFAULT: u64 = 4 << 30;

/// The smallest budget: the smallest message that needs one is larger than a MiB.
const UNFINISHED_MIN: u64 = 1 << 20;

/// What a client may hold where nothing is written, an eighth of all or this: a large message or two.
const UNFINISHED_PER_CLIENT_DEFAULT_MIN: u64 = 128 << 20;

const LISTENER: Keys =
    Keys { known: &["name", "address", "role", "tls", "auth_without_tls"], later: &["auth"] };
const TLS: Keys = Keys { known: &["certificate", "key"], later: &[] };
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

/// `[spool]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The directory.
    pub path: PathBuf,
    /// Bytes that it may hold; `u64::MAX` where nothing is written.
    pub capacity_bytes: u64,
    /// What large messages may hold on disk before they are queued; all clients and workers together.
    pub unfinished_bytes: u64,
    /// The same for each client.
    pub unfinished_bytes_per_client: u64,
    /// What compaction may read and write a second; all workers together.
    pub compaction_bytes_per_second: u64,
    /// What clients meet with until it is recovered.
    pub while_recovering: WhileRecovering,
}

/// What the listeners' addresses are while the spool is recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhileRecovering {
    /// Nobody listens there.
    Closed,
    /// Each client gets a 421 (RFC 5321 section 3.1), or where it expects TLS, the end of its connection.
    Refuse,
}

/// `[[listener]]`.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// What policy knows of it.
    pub policy: Listener,
    /// Where it listens.
    pub address: SocketAddr,
}

/// `[tls]`: two PEM files that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
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
    let node = read_node(&top, clients, files, report);
    // The node's own come first: of very many warnings a log shows the first.
    report.errors.append(&mut of_tenants.errors);
    report.warnings.append(&mut of_tenants.warnings);
    if let Some(node) = &node {
        peers::warn(&node.peers, &source, report);
    }
    Some((node, source, kept))
}

fn read_node(
    top: &Section<'_>,
    clients: ClientLimits,
    files: Vec<PathBuf>,
    report: &mut Report,
) -> Option<NodeConfig> {
    let (mut hostname, mut workers) = (None, None);
    match top.section("node", &NODE, report) {
        Some(node) => {
            hostname = node.required("hostname", "\"relay.example.com\"", report);
            workers = node.number("workers", WORKERS_MAX, report);
            if let Some(name) = &hostname
                && !mail::Address::parse(&format!("x@{}", name.value)).is_ok_and(|a| !a.has_domain_literal())
            {
                let remedy = "write the full name of this host, as DNS knows it";
                report.error(
                    &name.origin,
                    "node.hostname",
                    format!("{:?} is no host name", name.value),
                    remedy,
                );
            }
        }
        None => top.missing("[node]", "a section with the hostname", report),
    }
    let spool = read_spool(top, report);
    let tls = read_tls(top, report);
    let listeners = read_listeners(top, report);
    let metrics = top.section("metrics", &METRICS, report);
    let metrics_address = metrics.and_then(|metrics| address(&metrics, report));
    Some(NodeConfig {
        hostname: hostname?.value.into(),
        workers: workers.map_or(0, |workers| workers.value),
        spool: spool?,
        listeners,
        tls,
        metrics_address,
        retry: read_retry(top, report),
        delivery: read_delivery(top, report),
        tickets: tickets::read(top, report),
        admin: admin::read(top, report),
        grants: grants::read_node(top, report),
        peers: peers::read(top, report),
        login: login::read(top, report),
        dns: dns::read(top, report),
        clients,
        files,
    })
}

fn read_spool(top: &Section<'_>, report: &mut Report) -> Option<SpoolConfig> {
    let Some(spool) = top.section("spool", &SPOOL, report) else {
        top.missing("[spool]", "a section with the path", report);
        return None;
    };
    let path = spool.required("path", "\"/var/spool/gatepost\"", report)?;
    let capacity = spool.unit("capacity", parse_size, report);
    let compaction = spool.unit("compaction", parse_size, report);
    let words = [("closed", WhileRecovering::Closed), ("refuse", WhileRecovering::Refuse)];
    let while_recovering = spool.choice("while_recovering", &words, report);
    let capacity_bytes = capacity.map_or(u64::MAX, |capacity| capacity.value);
    let (unfinished_bytes, unfinished_bytes_per_client) = read_unfinished(&spool, capacity_bytes, report);
    Some(SpoolConfig {
        path: top.file.resolve(&path.value),
        capacity_bytes,
        unfinished_bytes,
        unfinished_bytes_per_client,
        compaction_bytes_per_second: compaction.map_or(COMPACTION_DEFAULT, |compaction| compaction.value),
        while_recovering: while_recovering.map_or(WhileRecovering::Closed, |written| written.value),
    })
}

/// The budgets for unfinished messages: in all, and for each client.
fn read_unfinished(spool: &Section<'_>, capacity_bytes: u64, report: &mut Report) -> (u64, u64) {
    let mut budget = |name: &str, default: u64, (of, of_bytes): (&str, u64)| {
        let Some(written) = spool.unit(name, parse_size, report) else { return default };
        let remedy = format!("write a size of at least 1MiB, and no more than {of}");
        if written.value < UNFINISHED_MIN || written.value > of_bytes {
            let message = if written.value > of_bytes {
                format!("more than {of} allows, which is {of_bytes} bytes")
            } else {
                "no large message could ever be taken".to_owned()
            };
            report.error(&written.origin, spool.key(name), message, remedy);
        }
        written.value
    };
    let default = (capacity_bytes / 4).clamp(UNFINISHED_MIN, UNFINISHED_DEFAULT);
    let all = budget("unfinished", default, ("the capacity", capacity_bytes));
    let default = (all / 8).max(UNFINISHED_PER_CLIENT_DEFAULT_MIN.min(all));
    (all, budget("unfinished_per_client", default, ("unfinished", all)))
}

fn read_tls(top: &Section<'_>, report: &mut Report) -> Option<TlsConfig> {
    let tls = top.section("tls", &TLS, report)?;
    let certificate = readable(&tls, "certificate", "\"tls/tls.crt\"", report);
    let key = readable(&tls, "key", "\"tls/tls.key\"", report);
    Some(TlsConfig { certificate: certificate?, key: key? })
}

/// A file that must be there and open to this user.
fn readable(section: &Section<'_>, name: &str, example: &str, report: &mut Report) -> Option<PathBuf> {
    let written = section.required(name, example, report)?;
    let path = section.file.resolve(&written.value);
    match std::fs::read(&path) {
        Ok(_) => Some(path),
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            let remedy = "put the PEM file there, readable to this user, or name another";
            report.error(&written.origin, section.key(name), message, remedy);
            None
        }
    }
}

pub(crate) fn address(section: &Section<'_>, report: &mut Report) -> Option<SocketAddr> {
    section.demand("address", "\"127.0.0.1:9187\"", report);
    let remedy = "write an address and a port, as in \"192.0.2.1:25\" or \"[::]:25\"";
    section.parsed("address", remedy, report).map(|address| address.value)
}

fn read_listeners(top: &Section<'_>, report: &mut Report) -> Vec<ListenerConfig> {
    let mut listeners: Vec<(ListenerConfig, Origin)> = Vec::new();
    let sections = top.sections("listener", &LISTENER, report);
    if sections.is_empty() {
        top.missing("[[listener]]", "a section with name, address and role", report);
    }
    for section in sections {
        let Some(listener) = read_listener(&section, report) else { continue };
        for (other, origin) in &listeners {
            let twice = if other.policy.name == listener.policy.name {
                format!("two listeners are called {:?}", listener.policy.name)
            } else if other.address == listener.address && listener.address.port() != 0 {
                format!("two listeners have the address {}", listener.address)
            } else {
                continue;
            };
            report.error(
                &section.origin,
                "listener",
                twice,
                format!("change one of them; the other is at {origin}"),
            );
        }
        if listener.policy.tls != TlsPolicy::Off && !top.has("tls") {
            let remedy = "add a [tls] section with certificate and key, or write tls = \"off\"";
            report.error(&section.origin, "listener.tls", "TLS without a certificate", remedy);
        }
        listeners.push((listener, section.origin));
    }
    listeners.into_iter().map(|(listener, _)| listener).collect()
}

fn read_listener(section: &Section<'_>, report: &mut Report) -> Option<ListenerConfig> {
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
        report.error(&tls.origin, "listener.tls", "nobody could log in here without TLS", remedy);
    }
    let policy = Listener { name: name.value.into(), role, tls: tls.value, auth_without_tls };
    Some(ListenerConfig { policy, address })
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
