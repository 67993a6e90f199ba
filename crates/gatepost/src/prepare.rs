//! What a gateway is made of, made from its configuration alone.
//!
//! `check` and `run` both come through here, so that one refuses what the other refuses. Nothing is bound,
//! locked or begun; what only the host can refuse (a port, the spool's lock) is left to the start.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use config::{Config, ConfigError, ConfigErrors, Loaded, NodeConfig};
use control::tls::Certificate;
use delivery::ClientTlsConfigs;
use ring::RealDisk;
use smtp::server::TlsMode;
use spool::SEGMENT_BYTES_MAX;

use crate::refusal::StartError;
use crate::shares::{self, clients_max, descriptors_max, segment_bytes, segments_max};

/// A gateway that only has to be started.
pub(crate) struct Prepared {
    pub(crate) loaded: Loaded,
    pub(crate) workers: usize,
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) session_settings: Vec<Arc<smtp::server::Settings>>,
    pub(crate) client_tls: ClientTlsConfigs,
}

/// Why a configuration cannot be started.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// What is wrong in its files.
    Files(ConfigErrors),
    /// What this host lacks.
    Host(StartError),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(errors) => errors.fmt(f),
            Self::Host(error) => error.fmt(f),
        }
    }
}

/// Reads the configuration of the node file at `path`, and makes of it what a start needs.
///
/// # Errors
/// What stands in the way.
pub(crate) fn load(path: &Path) -> Result<Prepared, Unfit> {
    prepare(Config::load(path).map_err(Unfit::Files)?)
}

/// The same without the private key and for any host; the outcome is to be looked at alone.
///
/// # Errors
/// What would stand in the way of a start.
pub(crate) fn review(path: &Path) -> Result<Prepared, Unfit> {
    make(Config::review(path).map_err(Unfit::Files)?)
}

/// Makes of a configuration what a start needs.
///
/// # Errors
/// What stands in the way.
pub(crate) fn prepare(loaded: Loaded) -> Result<Prepared, Unfit> {
    let survey = spool::survey(&mut RealDisk::default(), &loaded.node.spool.path);
    survey.map_err(|error| Unfit::Host(StartError::new(error)))?;
    make(loaded)
}

fn make(loaded: Loaded) -> Result<Prepared, Unfit> {
    shares::raise_descriptors();
    let node = &loaded.node;
    let workers = worker_count(node);
    must_hold_a_spool_each(node, workers).map_err(Unfit::Files)?;
    let presented = node.tls.as_ref().and_then(|tls| tls.presented.as_ref());
    let certificate = presented.map(Certificate::new);
    let session_settings = session_settings(node, certificate.as_ref());
    let client_tls = client_tls().map_err(Unfit::Host)?;
    Ok(Prepared { loaded, workers, certificate, session_settings, client_tls })
}

/// A capacity is written for the node, and each worker needs its part.
fn must_hold_a_spool_each(node: &NodeConfig, workers: usize) -> Result<(), ConfigErrors> {
    let least = spool::capacity_bytes_min(segment_bytes(node, workers)) * workers as u64;
    if node.spool.capacity_bytes >= least {
        return Ok(());
    }
    let least = least.div_ceil(1 << 20);
    let each = if workers == 1 { "1 worker needs".into() } else { format!("{workers} workers need") };
    let error = ConfigError {
        origin: node.spool.capacity_origin.clone(),
        other: None,
        key: "spool.capacity".into(),
        message: format!("{} bytes are too few: {each} {least}MiB", node.spool.capacity_bytes),
        remedy: format!("write at least \"{least}MiB\""),
        opens: false,
    };
    Err(error.into())
}

/// As configured, or one per core of the affinity mask and the cgroup's quota.
fn worker_count(node: &NodeConfig) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = if node.workers == 0 { cores() } else { node.workers as usize };
    wanted.min(commons::WORKERS_MAX)
}

/// Says so where descriptors do not suffice for the capacity that is configured.
pub(crate) fn warn_of_capacity(node: &NodeConfig, workers: usize) {
    let capacity = node.spool.capacity_bytes;
    let held_max = segments_max(workers) * workers as u64 * SEGMENT_BYTES_MAX;
    if capacity != u64::MAX && capacity > held_max {
        eprintln!(
            "gatepost: the spool takes {} GiB at most, not its capacity of {} GiB: each segment needs a file \
             descriptor, and this process may have {}; raise it (`ulimit -Hn`, LimitNOFILE= of systemd)",
            held_max >> 30,
            capacity >> 30,
            descriptors_max(),
        );
    }
}

/// Says so where they do not suffice for the connections that are configured.
pub(crate) fn warn_of_connections(node: &NodeConfig, workers: usize) {
    let most = clients_max(node, workers);
    if let Some(wanted) = node.clients.connections_max.filter(|&wanted| wanted > most) {
        eprintln!(
            "gatepost: {most} connections of clients at once, not the {wanted} of [limits] connections: each \
             needs a file descriptor, and this process may have {}; raise it (`ulimit -Hn`, LimitNOFILE= of \
             systemd)",
            descriptors_max(),
        );
    }
}

fn session_settings(
    node: &NodeConfig,
    certificate: Option<&Arc<Certificate>>,
) -> Vec<Arc<smtp::server::Settings>> {
    let tls_config = certificate.map(|certificate| certificate.tls());
    // What could never be taken is not announced either.
    let message_bytes_max = node.clients.message_bytes_max.min(node.spool.unfinished_bytes_per_client);
    let settings = node.listeners.iter().map(|listener| {
        let policy = &listener.policy;
        let tls = match policy.tls {
            policy::TlsPolicy::Off => TlsMode::Off,
            policy::TlsPolicy::StartTls => TlsMode::StartTls,
            policy::TlsPolicy::Required => TlsMode::Required,
            policy::TlsPolicy::Implicit => TlsMode::Implicit,
        };
        Arc::new(smtp::server::Settings {
            hostname: node.hostname.clone(),
            tls,
            tls_config: tls_config.clone(),
            auth_without_tls: policy.auth_without_tls,
            message_bytes_max: Some(message_bytes_max),
            limits: node.clients.sessions,
        })
    });
    settings.collect()
}

fn client_tls() -> Result<ClientTlsConfigs, StartError> {
    let mut roots = rustls::RootCertStore::empty();
    // A machine without certificates can still relay by opportunistic routes.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ClientTlsConfigs::new(roots).map_err(StartError::new)
}
