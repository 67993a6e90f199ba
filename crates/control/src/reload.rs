//! Reload: the new files are read, checked and compiled; then they are in force, or nothing changed.

use std::path::PathBuf;
use std::sync::Arc;

use commons::Commons;
use config::{Config, Loaded};
use mail::UnixMillis;
use observe::{EventLog, Registry};
use policy::Snapshot;
use rustls::sign::CertifiedKey;

use crate::admin::Admin;
use crate::tls::{self, Certificate};

pub(crate) struct Reloader {
    commons: Arc<Commons>,
    registry: Arc<Registry>,
    admin: Option<Admin>,
    path: Option<PathBuf>,
    certificate: Option<Arc<Certificate>>,
}

impl Reloader {
    /// Shows the snapshot in force in the metrics, too.
    pub(crate) fn new(
        commons: Arc<Commons>,
        registry: Arc<Registry>,
        admin: Option<Admin>,
        path: Option<PathBuf>,
        certificate: Option<Arc<Certificate>>,
    ) -> Self {
        show(&registry, &commons.snapshot());
        Self { commons, registry, admin, path, certificate }
    }

    /// Puts the files in force, or says in log and metric why they are not.
    pub(crate) fn reload(&self, log: &mut EventLog, now: UnixMillis) {
        let generation = self.commons.snapshot().generation + 1;
        match self.read(generation) {
            Ok((loaded, key)) => {
                for warning in &loaded.warnings {
                    log.event("policy_warning", now).display("warning", warning).end();
                }
                if let (Some(certificate), Some(key)) = (&self.certificate, key) {
                    certificate.replace(&key);
                }
                show(&self.registry, &loaded.snapshot);
                log.event("policy_reloaded", now)
                    .number("generation", generation)
                    .number("tenants", loaded.snapshot.tenants().len() as u64)
                    .str("needs_a_restart", "node, spool, listener, retry, tickets and metrics")
                    .end();
                self.commons.publish(loaded.snapshot);
                if let Some(admin) = &self.admin {
                    admin.reloaded(&loaded.node);
                }
            }
            Err(error) => {
                self.registry.reload_failed();
                if let Some(admin) = &self.admin {
                    admin.reload_refused(now, &error);
                }
                log.event("policy_reload_failed", now)
                    .number("generation", generation - 1)
                    .str("error", &error)
                    .end();
            }
        }
    }

    fn read(&self, generation: u64) -> Result<(Loaded, Option<Arc<CertifiedKey>>), String> {
        let path = self.path.as_deref().ok_or("there is no configuration file to read again")?;
        let loaded = Config::load_generation(path, generation).map_err(|errors| errors.to_string())?;
        let key = match (&self.certificate, &loaded.node.tls) {
            (Some(_), Some(files)) => {
                Some(tls::read(&files.certificate, &files.key).map_err(|error| error.to_string())?)
            }
            _ => None,
        };
        Ok((loaded, key))
    }
}

fn show(registry: &Registry, snapshot: &Snapshot) {
    registry.set_policy(snapshot.generation, snapshot.tenants().iter().map(|tenant| &*tenant.name));
}
