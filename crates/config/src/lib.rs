//! The configuration files: read, checked and compiled, all or nothing.
//!
//! [`Config::load`] reads a node file and its tenant files and gives a policy snapshot, the node's
//! own settings and the warnings. Where something is wrong it gives every error at once, each with
//! file, line, key and remedy. It reads files and the environment and starts nothing.

mod admin;
mod dns;
mod error;
mod file;
mod grants;
mod identity;
mod json;
mod limits;
mod listener;
mod lists;
mod login;
mod nearest;
mod node;
mod overlaps;
mod peers;
mod ports;
mod read;
mod routes;
mod secret;
mod section;
mod sender_rules;
mod settings;
mod spool;
mod tenant;
mod tenants;
mod tickets;
mod tls;
mod token;
mod units;
mod warn;

use std::path::Path;
use std::thread;

pub use admin::{AdminConfig, AdminRole, AdminToken, admin_socket};
pub use dns::{DnsConfig, DnsList};
pub use error::{ConfigError, ConfigErrors, Warning, warnings_summed_up};
pub use grants::GrantsConfig;
pub use limits::ClientLimits;
pub use login::{Failures, LoginConfig};
pub use nearest::nearest_name;
pub use peers::PeersConfig;
pub use ports::addresses_meet;
pub use settings::{DeliveryConfig, ListenerConfig, NodeConfig, RetryConfig};
pub use spool::{SpoolConfig, WhileRecovering, spool_directory};
pub use tenants::Kept;
pub use tickets::TicketsConfig;
pub use tls::TlsConfig;
pub use token::TokenDigest;
pub use units::{parse_duration, parse_size};

use policy::{Doors, Listener, Proof, Snapshot};

use crate::error::Report;
use crate::file::Stamp;

/// The door of this room.
#[derive(Clone, Copy, Debug)]
pub struct Config;

/// What a configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A start, on this host: whatever would stop it is an error.
    Start,
    /// To follow on the one in force: what is needed at a start alone is not looked for again.
    Reload,
    /// To be looked at: the private key is not read, and what this host lacks is a warning.
    Review,
}

impl Purpose {
    pub(crate) fn reads_keys(self) -> bool {
        self != Self::Review
    }
}

/// A configuration that may be run.
#[derive(Debug)]
pub struct Loaded {
    /// What concerns the node.
    pub node: NodeConfig,
    /// Who may send what, and where it goes.
    pub snapshot: Snapshot,
    /// That no stranger can relay by it: what was tried.
    pub proof: Proof,
    /// What is legal but unwise.
    pub warnings: Vec<Warning>,
    /// What a reload takes over.
    pub kept: Kept,
}

impl Config {
    /// Reads the node file at `path` and the tenant files that it names, as the first configuration.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
        Self::read(path, &Kept::default(), None, Purpose::Start)
    }

    /// The same for those who have no right to the private key, or are on another host: the key is not read,
    /// and what this host lacks is a warning. What it gives cannot be started.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn review(path: &Path) -> Result<Loaded, ConfigErrors> {
        Self::read(path, &Kept::default(), None, Purpose::Review)
    }

    /// The same for a reload: the snapshot follows on `before`, which is in force, and shares with it
    /// what has not changed; tenants of files that have not changed since `kept` are not read again.
    /// Listeners need a restart: what is proved holds for those that run as well as for those of the
    /// new file.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn reload(path: &Path, kept: &Kept, before: &Snapshot) -> Result<Loaded, ConfigErrors> {
        Self::read(path, kept, Some(before), Purpose::Reload)
    }

    fn read(
        path: &Path,
        kept: &Kept,
        before: Option<&Snapshot>,
        purpose: Purpose,
    ) -> Result<Loaded, ConfigErrors> {
        let generation = before.map_or(1, |before| before.generation + 1);
        let mut report = Report::default();
        // Before it is read: what changes meanwhile is seen later.
        let own = (path.to_owned(), Stamp::of(path));
        let read = node::read(path, generation, kept, purpose, &mut report);
        let Some((node, source, mut taken_over)) = read else {
            return Err(report.into_errors());
        };
        let (overlaps, compiled) = thread::scope(|scope| {
            let overlaps = scope.spawn(|| overlaps::warnings(&source));
            let compiled = match before {
                Some(before) => Snapshot::compile_after(before, &source),
                None => Snapshot::compile(&source),
            };
            (overlaps.join().expect("it warns and does not panic"), compiled)
        });
        report.warnings.extend(overlaps);
        let snapshot = match compiled {
            Ok(snapshot) => {
                warn::of_unusual_scram(&source, snapshot.stand_in.scram_shape, &mut report);
                Some(snapshot)
            }
            Err(errors) => {
                report.errors.extend(errors.into_iter().map(ConfigError::from));
                None
            }
        };
        let (Some(node), Some(snapshot)) = (node, snapshot) else { return Err(report.into_errors()) };
        let mut listeners: Vec<_> = node.listeners.iter().map(|listener| listener.policy.clone()).collect();
        taken_over.beside.push(own);
        taken_over.beside.append(&mut report.beside);
        taken_over.listeners =
            if kept.listeners.is_empty() { listeners.clone() } else { kept.listeners.clone() };
        listeners.extend(as_they_run(&kept.listeners, &listeners));
        let doors = Doors { listeners: &listeners, hostname: &node.hostname };
        // No configuration is loaded by which a stranger could relay (DESIGN.md G4).
        let proof = snapshot.prove(&source, &doors);
        proof.openings.iter().for_each(|opening| report.opening(opening));
        if !report.errors.is_empty() {
            return Err(report.into_errors());
        }
        Ok(Loaded { node, snapshot, proof, warnings: report.warnings, kept: taken_over })
    }
}

/// Those of `running` that `new` does not hold as they are.
fn as_they_run(running: &[Listener], new: &[Listener]) -> Vec<Listener> {
    let changed = running.iter().filter(|listener| !new.contains(listener));
    let named = changed.map(|listener| Listener {
        name: format!("{} (as it runs until a restart)", listener.name).into(),
        ..listener.clone()
    });
    named.collect()
}
