//! The node file as it is in force: values that are checked, with no trace of how they were written.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use policy::{Listener, Role};

use crate::admin::AdminConfig;
use crate::dns::DnsConfig;
use crate::grants::GrantsConfig;
use crate::limits::ClientLimits;
use crate::login::LoginConfig;
use crate::peers::PeersConfig;
use crate::spool::SpoolConfig;
use crate::tickets::TicketsConfig;
use crate::tls::TlsConfig;

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
