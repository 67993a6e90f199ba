//! DNS: addresses of hosts (literals, `/etc/hosts`, then DNS), the hosts that take a domain's mail,
//! and the lists on which clients are looked up, with hickory's cache of answers and of their
//! absence for all workers.
//!
//! An absence is reported where DNS says so in so many words; whatever else goes wrong is a passing
//! failure, and no client is denied anything for it.

mod lists;
mod mx_hosts;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use commons::ResolveFailure;
use config::DnsConfig;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::{ResolverBuilder, TokioResolver};

pub(crate) use lists::Lists;

/// How long a literal holds: it is what it is.
const FOREVER: Duration = Duration::from_secs(86_400);

/// An answer that names a shorter time is asked for again after this: one look-up a second is a
/// kindness to everyone.
const SHORTEST: Duration = Duration::from_secs(1);

/// How long the absence of a name holds at most (RFC 2308 section 5 advises one to three hours;
/// people who just made the name do not wait so long).
const NEGATIVE_MAX: Duration = Duration::from_secs(300);

/// When no server could say, ask again after this.
const TEMPORARY: Duration = Duration::from_secs(10);

/// Nothing takes longer than this, whatever the number of servers that do not answer.
const LOOKUP_MAX: Duration = Duration::from_secs(30);

/// Answers that are kept: some 20 MiB when full.
const CACHE_ENTRIES_MAX: u64 = 16_384;

/// The resolver with its cache.
pub(crate) struct Dns {
    resolver: Option<TokioResolver>,
    warning: Option<Box<str>>,
}

impl Dns {
    /// A resolver that asks the servers of `config`, else those of `/etc/resolv.conf`; without
    /// either, literals and `/etc/hosts` still resolve.
    pub(crate) fn new(config: &DnsConfig) -> Self {
        let (mut builder, warning) = builder(&config.servers);
        let options = builder.options_mut();
        options.negative_max_ttl = Some(NEGATIVE_MAX);
        options.timeout = config.timeout;
        options.cache_size = CACHE_ENTRIES_MAX;
        match builder.build() {
            Ok(resolver) => Self { resolver: Some(resolver), warning },
            Err(error) => Self { resolver: None, warning: Some(error.to_string().into()) },
        }
    }

    /// What was wrong with the system's configuration.
    pub(crate) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The addresses of `host`, and how long they hold.
    pub(crate) async fn addresses(&self, host: &str) -> (Result<Vec<IpAddr>, ResolveFailure>, Duration) {
        if let Some(literal) = literal(host) {
            return (Ok(vec![literal]), FOREVER);
        }
        let Some(resolver) = &self.resolver else { return (Err(ResolveFailure::Temporary), TEMPORARY) };
        match tokio::time::timeout(LOOKUP_MAX, resolver.lookup_ip(host)).await {
            Ok(Ok(found)) => {
                let addresses: Vec<_> = found.iter().collect();
                let ttl = found.valid_until().saturating_duration_since(Instant::now()).max(SHORTEST);
                // An answer that holds nothing says nothing.
                if addresses.is_empty() {
                    (Err(ResolveFailure::Temporary), TEMPORARY)
                } else {
                    (Ok(addresses), ttl)
                }
            }
            // Of two failures the resolver tells one: whether both kinds are absent is asked of each.
            Ok(Err(error)) if absence(&error).is_some() => match self.presence(host).await {
                Presence::Absent(absence) if absence.is_proved => (Err(ResolveFailure::Missing), absence.ttl),
                _ => (Err(ResolveFailure::Temporary), TEMPORARY),
            },
            Ok(Err(_)) | Err(_) => (Err(ResolveFailure::Temporary), TEMPORARY),
        }
    }

    /// Whether `name` has an address. Each kind is asked for by itself: a failure of one must not look
    /// like an absence of both.
    async fn presence(&self, name: &str) -> Presence {
        let Some(resolver) = &self.resolver else { return Presence::Unknown };
        let mut absences = Vec::new();
        for kind in [RecordType::A, RecordType::AAAA] {
            match resolver.lookup(name, kind).await {
                Ok(found) if found.answers().iter().any(|record| record.record_type() == kind) => {
                    return Presence::There;
                }
                Ok(_) => {}
                Err(error) => absences.extend(absence(&error)),
            }
        }
        match absences[..] {
            [v4, v6] => Presence::Absent(v4.and(v6)),
            _ => Presence::Unknown,
        }
    }
}

/// Whether a name has an address.
enum Presence {
    /// It has one at least.
    There,
    /// It has none of either kind.
    Absent(Absence),
    /// DNS could not say.
    Unknown,
}

/// That there is no record of one type, or of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Absence {
    /// How long that holds.
    ttl: Duration,
    /// DNS says so in so many words. Else there was an answer with nothing in it, not even with who says so.
    is_proved: bool,
}

impl Absence {
    fn and(self, other: Self) -> Self {
        Self { ttl: self.ttl.min(other.ttl), is_proved: self.is_proved && other.is_proved }
    }
}

fn builder(servers: &[SocketAddr]) -> (ResolverBuilder<TokioRuntimeProvider>, Option<Box<str>>) {
    let provider = TokioRuntimeProvider::default();
    if !servers.is_empty() {
        let servers = servers.iter().map(|server| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = server.port();
            }
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        return (TokioResolver::builder_with_config(config, provider), None);
    }
    match TokioResolver::builder_tokio() {
        Ok(builder) => (builder, None),
        Err(error) => {
            let warning = format!(
                "{error}; check /etc/resolv.conf, or name servers in [dns]: until a restart, names in /etc/hosts \
                 and addresses resolve"
            );
            let builder = TokioResolver::builder_with_config(ResolverConfig::default(), provider);
            (builder, Some(warning.into()))
        }
    }
}

/// `192.0.2.1`, `2001:db8::1`, and both in square brackets, with or without SMTP's tag.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.strip_prefix("IPv6:").unwrap_or(bare).parse().ok()
}

/// Whether `error` says that there is no such record (RFC 2308): the name does not exist, or the one who
/// answers for it says that it has none. An empty answer without SOA and NS is what some servers give for
/// a type that is not there (section 2.2, type 3): it counts, but proves nothing and is not remembered. With NS
/// alone it refers to others, who were not reached.
fn absence(error: &NetError) -> Option<Absence> {
    let NetError::Dns(DnsError::NoRecordsFound(NoRecords { negative_ttl, ns, response_code, .. })) = error
    else {
        return None;
    };
    match (response_code, negative_ttl, ns) {
        (_, &Some(seconds), _) => {
            let ttl = Duration::from_secs(seconds.into()).clamp(SHORTEST, NEGATIVE_MAX);
            Some(Absence { ttl, is_proved: true })
        }
        (ResponseCode::NXDomain, None, _) => Some(Absence { ttl: TEMPORARY, is_proved: true }),
        (ResponseCode::NoError, None, None) => Some(Absence { ttl: SHORTEST, is_proved: false }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
