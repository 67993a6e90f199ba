//! What a gateway is made of, made from its configuration alone.
//!
//! `check` and `run` both come through here, so that one refuses what the other refuses. Nothing is bound,
//! locked or begun; what only the host can refuse (a port, the spool's lock) is left to the start.

use std::sync::Arc;

use config::{Kept, Loaded, NodeConfig};
use control::tls::Certificate;
use delivery::ClientTlsConfigs;
use policy::Snapshot;
use smtp::server::TlsMode;
use spool::SEGMENT_BYTES_MAX;

use crate::run::StartError;
use crate::shares::{clients_max, descriptors_max, segments_max};

/// A gateway that only has to be started.
pub(crate) struct Prepared {
    pub(crate) node: NodeConfig,
    pub(crate) snapshot: Snapshot,
    pub(crate) kept: Kept,
    pub(crate) workers: usize,
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) session_settings: Vec<Arc<smtp::server::Settings>>,
    pub(crate) client_tls: ClientTlsConfigs,
}

/// Makes of a configuration what a start needs.
///
/// # Errors
/// What stands in the way.
pub(crate) fn prepare(loaded: Loaded) -> Result<Prepared, StartError> {
    let Loaded { node, snapshot, kept, .. } = loaded;
    let certificate = match &node.tls {
        Some(tls) => Some(Certificate::load(&tls.certificate, &tls.key).map_err(StartError::new)?),
        None => None,
    };
    let session_settings = session_settings(&node, certificate.as_ref());
    let client_tls = client_tls()?;
    let workers = worker_count(&node);
    Ok(Prepared { node, snapshot, kept, workers, certificate, session_settings, client_tls })
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
            auth: true,
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
