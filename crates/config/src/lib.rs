//! The configuration files: read, checked and compiled, all or nothing.
//!
//! [`Config::load`] reads a node file and its tenant files and gives a policy snapshot, the node's
//! own settings and the warnings. Where something is wrong it gives every error at once, each with
//! file, line, key and remedy. It reads files and the environment and starts nothing.

mod error;
mod file;
mod node;
mod secret;
mod section;
mod tenant;
mod units;
mod warn;

use std::path::Path;

pub use error::{ConfigError, ConfigErrors, Warning};
pub use node::{ListenerConfig, NodeConfig, RetryConfig, SpoolConfig, TicketsConfig, TlsConfig};
pub use units::{parse_duration, parse_size};

use policy::Snapshot;

use crate::error::Report;

/// The door of this room.
#[derive(Clone, Copy, Debug)]
pub struct Config;

/// A configuration that may be run.
#[derive(Debug)]
pub struct Loaded {
    /// What concerns the node.
    pub node: NodeConfig,
    /// Who may send what, and where it goes.
    pub snapshot: Snapshot,
    /// What is legal but unwise.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Reads the node file at `path` and the tenant files that it names, as the first configuration.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
        Self::load_generation(path, 1)
    }

    /// The same for a reload: `generation` numbers the snapshot.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn load_generation(path: &Path, generation: u64) -> Result<Loaded, ConfigErrors> {
        let mut report = Report::default();
        let read = node::read(path, generation, &mut report);
        let Some((node, source)) = read else {
            return Err(report.into_errors());
        };
        warn::about(&source, &mut report);
        let snapshot = match Snapshot::compile(&source) {
            Ok(snapshot) => Some(snapshot),
            Err(errors) => {
                report.errors.extend(errors.into_iter().map(ConfigError::from));
                None
            }
        };
        match (node, snapshot) {
            (Some(node), Some(snapshot)) if report.errors.is_empty() => {
                Ok(Loaded { node, snapshot, warnings: report.warnings })
            }
            _ => Err(report.into_errors()),
        }
    }
}
