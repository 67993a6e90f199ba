//! Reload: the new files are read, checked and compiled; then they are in force, or nothing changed.
//!
//! Reading and compiling take a separate thread at a lowered priority, so that neither the mail
//! nor the questions of the workers wait for them. One reload runs at a time; one that is asked for
//! meanwhile follows it.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use commons::Commons;
use config::{Config, ConfigErrors, Kept, Loaded, warnings_summed_up};
use mail::UnixMillis;
use observe::{EventLog, Registry};
use policy::Snapshot;
use tokio::sync::mpsc;

use crate::admin::Admin;
use crate::events::{PolicyError, PolicyReloadFailed, PolicyReloaded, PolicyWarning};
use crate::tls::{self, Certificate};

/// How often a configuration out of force is looked at, until the last transaction has let go of it.
const RETIRED_PERIOD: Duration = Duration::from_secs(1);

/// Errors and warnings of one reload, each, that the log shows: the rest is counted.
const SHOWN_MAX: usize = 100;

/// Bytes of an error that are shown, so that its record fits into the log however it is escaped.
const ERROR_BYTES_MAX: usize = 2048;

/// What was made at the start from the files and stays as it is.
const NEEDS_A_RESTART: &str = "node, spool, listener, tls where there was none, dns, lists.dnsbl, metrics, \
                               admin socket and address, tickets, proxy_protocol, xclient, login, retry and delivery";

pub(crate) struct Reloader {
    commons: Arc<Commons>,
    registry: Arc<Registry>,
    admin: Option<Admin>,
    path: Option<PathBuf>,
    /// The tenants in force, those of files that do not change are not read again; and the listeners
    /// that run, whatever the file says of them now.
    kept: Arc<Kept>,
    certificate: Option<Arc<Certificate>>,
    finished: (mpsc::Sender<Read>, mpsc::Receiver<Read>),
    is_reading: bool,
    is_asked_again: bool,
}

/// What the files say.
pub(crate) struct Read(Result<Loaded, Refused>);

/// Why what the files say is not put in force.
struct Refused {
    /// The first of the errors; never empty.
    shown: Vec<String>,
    count: usize,
}

impl Reloader {
    /// Shows the snapshot in force in the metrics, too.
    pub(crate) fn new(
        commons: Arc<Commons>,
        registry: Arc<Registry>,
        admin: Option<Admin>,
        (path, kept): (Option<PathBuf>, Kept),
        certificate: Option<Arc<Certificate>>,
    ) -> Self {
        show(&registry, &commons.snapshot());
        let kept = Arc::new(kept);
        if let Some(admin) = &admin {
            admin.files_taken_up(kept.clone());
        }
        Self {
            commons,
            registry,
            admin,
            path,
            kept,
            certificate,
            finished: mpsc::channel(1),
            is_reading: false,
            is_asked_again: false,
        }
    }

    /// Begins to read the files, or notes that they are to be read once more.
    pub(crate) fn begin(&mut self) {
        if self.is_reading {
            self.is_asked_again = true;
            return;
        }
        self.is_reading = true;
        let (before, kept) = (self.commons.snapshot(), self.kept.clone());
        let path = self.path.clone();
        let finished = self.finished.0.clone();
        let failed = finished.clone();
        let spawned = thread::Builder::new().name("gatepost-reload".into()).spawn(move || {
            // A wish: where it is not granted, mail shares the processor with us.
            let _ = ring::turns::give_way();
            // Whoever is gone does not wait for it.
            let _ = finished.blocking_send(Read(read(path.as_deref(), &kept, &before)));
        });
        if let Err(error) = spawned {
            // There is room: nothing else is being read.
            let _ = failed.try_send(Read(Err(Refused::by(&format!(
                "the system gives no thread to read with: {error}"
            )))));
        }
    }

    /// Waits until the files that were begun with have been read.
    pub(crate) async fn read(&mut self) -> Read {
        self.finished.1.recv().await.expect("we hold a sender ourselves")
    }

    /// Puts in force what was read, or says in log and metric why it is not.
    pub(crate) fn finish(&mut self, Read(read): Read, log: &mut EventLog, now: UnixMillis) {
        self.is_reading = false;
        match read {
            Ok(loaded) => self.put_in_force(loaded, log, now),
            Err(refused) => self.refuse(&refused, log, now),
        }
        if std::mem::take(&mut self.is_asked_again) {
            self.begin();
        }
    }

    fn refuse(&self, refused: &Refused, log: &mut EventLog, now: UnixMillis) {
        if let Some(admin) = &self.admin {
            admin.reload_refused(now, &refused.to_string());
        }
        // Before the rest: where the log is full, this is what must not be missing.
        let failed = PolicyReloadFailed {
            generation: self.commons.snapshot().generation,
            errors: refused.count as u64,
            error: &refused.shown[0],
        };
        log.record_and_count(&failed, &self.registry, now);
        for error in &refused.shown {
            log.record(&PolicyError { error }, now);
        }
    }

    fn put_in_force(&mut self, loaded: Loaded, log: &mut EventLog, now: UnixMillis) {
        if let (Some(certificate), Some(tls)) = (&self.certificate, &loaded.node.tls)
            && let Some(key) = &tls.presented
        {
            certificate.replace(key);
            tls::announce(tls, loaded.kept.listeners(), &self.registry, log, now);
        }
        show(&self.registry, &loaded.snapshot);
        let reloaded = PolicyReloaded {
            generation: loaded.snapshot.generation,
            tenants: loaded.snapshot.tenants().len() as u64,
            warnings: loaded.warnings.len() as u64,
            needs_a_restart: NEEDS_A_RESTART,
        };
        log.record(&reloaded, now);
        for warning in warnings_summed_up(&loaded.warnings).iter().take(SHOWN_MAX) {
            log.record(&PolicyWarning { warning: &shortened(warning) }, now);
        }
        self.kept = Arc::new(loaded.kept);
        self.commons.publish(loaded.snapshot);
        if let Some(admin) = &self.admin {
            admin.reloaded(&loaded.node);
            admin.files_taken_up(self.kept.clone());
        }
        tokio::spawn(free_retired(self.commons.clone()));
    }
}

fn read(path: Option<&Path>, kept: &Kept, before: &Snapshot) -> Result<Loaded, Refused> {
    let path = path.ok_or_else(|| Refused::by(&"there is no configuration file to read again"))?;
    Ok(Config::reload(path, kept, before)?)
}

impl Refused {
    fn by(error: &dyn Display) -> Self {
        Self { shown: vec![shortened(error)], count: 1 }
    }
}

impl From<ConfigErrors> for Refused {
    fn from(errors: ConfigErrors) -> Self {
        let shown = errors.iter().take(SHOWN_MAX).map(|error| shortened(error)).collect();
        Self { shown, count: errors.count() }
    }
}

impl Display for Refused {
    /// One error a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown.join("\n"))?;
        match self.count - self.shown.len() {
            0 => Ok(()),
            more => write!(f, "\nand {more} more; `gatepost check` shows them all"),
        }
    }
}

fn shortened(what: &dyn Display) -> String {
    let mut text = what.to_string();
    if text.len() > ERROR_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
        text.push_str(" ...");
    }
    text
}

/// Frees the configuration before, once no transaction holds it, on a thread for which no client waits.
async fn free_retired(commons: Arc<Commons>) {
    loop {
        let commons = commons.clone();
        let freed = tokio::task::spawn_blocking(move || commons.free_retired() == 0).await;
        if freed.unwrap_or(true) {
            return;
        }
        tokio::time::sleep(RETIRED_PERIOD).await;
    }
}

fn show(registry: &Registry, snapshot: &Snapshot) {
    registry.set_policy(snapshot.generation, snapshot.tenants().iter().map(|tenant| &*tenant.name));
}
