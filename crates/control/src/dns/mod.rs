//! DNS: addresses of hosts (literals, `/etc/hosts`, then DNS), the hosts that take a domain's mail,
//! and the lists on which clients are looked up, with hickory's cache of answers and of their
//! absence for all workers.
//!
//! An absence is reported where DNS says so in so many words; whatever else goes wrong is a passing
//! failure, and nobody is denied anything for it.

mod exchangers;
mod lists;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use commons::ResolveFailure;
use config::DnsConfig;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
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

/// When nobody could say, ask again after this.
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
                if addresses.is_empty() {
                    (Err(ResolveFailure::Missing), NEGATIVE_MAX)
                } else {
                    (Ok(addresses), ttl)
                }
            }
            Ok(Err(error)) => failure(&error),
            Err(_) => (Err(ResolveFailure::Temporary), TEMPORARY),
        }
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

fn failure(error: &NetError) -> (Result<Vec<IpAddr>, ResolveFailure>, Duration) {
    match absence(error) {
        Some(ttl) => (Err(ResolveFailure::Missing), ttl),
        None => (Err(ResolveFailure::Temporary), TEMPORARY),
    }
}

/// How long it holds that there is no such record, where that is what DNS says (RFC 2308): the name
/// does not exist, or a server that answers for it says that it has none.
fn absence(error: &NetError) -> Option<Duration> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(NoRecords { negative_ttl, .. }))
            if error.is_nx_domain() || negative_ttl.is_some() =>
        {
            let ttl = negative_ttl.map_or(TEMPORARY, |seconds| Duration::from_secs(seconds.into()));
            Some(ttl.clamp(SHORTEST, NEGATIVE_MAX))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(host: &str) -> (Result<Vec<IpAddr>, ResolveFailure>, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { Dns::new(&DnsConfig::default()).addresses(host).await })
    }

    #[test]
    fn literals_are_their_own_addresses() {
        for (host, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("[192.0.2.1]", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[IPv6:2001:db8::1]", "2001:db8::1"),
        ] {
            assert_eq!(resolve(host), (Ok(vec![address.parse().unwrap()]), FOREVER), "{host}");
        }
    }

    #[test]
    fn a_name_of_the_hosts_file_needs_no_server() {
        let (addresses, _) = resolve("localhost");
        assert!(addresses.unwrap().iter().all(IpAddr::is_loopback));
    }

    #[test]
    fn a_name_that_cannot_be_asked_for_is_a_passing_failure() {
        let (addresses, ttl) = resolve("a name with spaces..example");
        assert_eq!((addresses, ttl), (Err(ResolveFailure::Temporary), TEMPORARY));
    }
}
