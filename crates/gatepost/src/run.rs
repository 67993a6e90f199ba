//! Starting and stopping a gateway.
//!
//! A start is all or nothing: certificates, ports, the spool and the rings are tried before anything
//! is served, and each failure is one sentence with its remedy. A worker's listeners open when its shards are
//! recovered and their mail is taken up; until the first do, they are closed or, as configured,
//! early listeners answer there.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::SystemTime;

use commons::{Commons, Places, Rate, Unfinished, WorkerLink, WorkerState};
use config::{Loaded, NodeConfig, WhileRecovering, warnings_summed_up};
use control::tickets::{PageOptions, TicketOptions};
use control::{AdminOptions, CallAheadOptions, Control, ControlOptions, Signals};
use delivery::{ClientTlsConfigs, Delivery, DeliverySettings, Retry};
use ingress::{Ingress, ListenerSettings, LoginSettings};
use observe::{EventLog, Form, LogWriter, Registry, TENANTS_SHOWN_DEFAULT, WorkerMetrics};
use ring::uring::{UringOptions, UringRing};
use ring::{RealDisk, Ring};
use spool::{Options, RecoveryProgress};

use crate::early::EarlyListeners;
use crate::opening::{self, Watch};
use crate::ports;
use crate::prepare::{self, Prepared, Unfit};
use crate::refusal::StartError;
use crate::shares::{backlog, clients_max, leaving_max, next_hops_max, segment_bytes, segments_max};
use crate::worker::{Commits, Life, SPOOL_ROOM, Worker};

/// Bodies that a worker keeps in memory after their commit: those of half a second at its best rate with
/// messages of 4 KiB. Mail that waits longer waits for its next hop, and is read back when that is there.
const HOT_BYTES_MAX: usize = 32 << 20;

/// Where the event log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// To standard output: readable on a terminal, JSON lines elsewhere.
    Stdout,
    /// Nowhere: the demo tells its own story.
    Quiet,
}

/// A gateway in service.
pub struct Running {
    commons: Arc<Commons>,
    control: Control,
    workers: Vec<JoinHandle<std::io::Result<()>>>,
    log: LogWriter,
    /// Owns the spool's lock for as long as the gateway runs.
    _spool: RealDisk,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Running({} workers)", self.workers.len())
    }
}

/// `gatepost run`: until SIGTERM or SIGINT has drained it.
#[must_use]
pub fn run(path: &Path) -> ExitCode {
    // First of all: a signal may come at once.
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("gatepost: cannot listen to signals: {error}");
            return ExitCode::from(2);
        }
    };
    let prepared = match prepare::load(path) {
        Ok(prepared) => prepared,
        Err(unfit) => {
            match unfit {
                Unfit::Files(errors) => eprintln!("{errors}"),
                Unfit::Host(error) => eprintln!("gatepost: {error}"),
            }
            return ExitCode::from(2);
        }
    };
    for warning in warnings_summed_up(&prepared.loaded.warnings) {
        eprintln!("warning: {warning}");
    }
    match start_with(prepared, Some(path), Output::Stdout, signals) {
        Ok(running) => running.wait(),
        Err(error) => {
            eprintln!("gatepost: {error}");
            ExitCode::from(2)
        }
    }
}

/// Starts a gateway that is stopped by [`Running::stop`] rather than by signals.
///
/// # Errors
/// What stands in the way; nothing was left running.
pub fn start(loaded: Loaded, output: Output) -> Result<Running, StartError> {
    start_with(prepare::prepare(loaded).map_err(StartError::new)?, None, output, Signals::none())
}

fn start_with(
    prepared: Prepared,
    reload_from: Option<&Path>,
    output: Output,
    signals: Signals,
) -> Result<Running, StartError> {
    let Prepared { loaded, workers, certificate, session_settings, client_tls } = prepared;
    let Loaded { node, snapshot, kept, .. } = loaded;
    for listener in &node.listeners {
        ports::must_be_free(listener.address, &listener.policy.name)?;
    }
    probe_ring()?;
    let mut disk = RealDisk::default();
    let owner = format!("process {}", std::process::id());
    spool::claim(&mut disk, &node.spool.path, &owner).map_err(StartError::new)?;
    prepare::warn_of_capacity(&node, workers);
    prepare::warn_of_connections(&node, workers);
    let places = Arc::new(Places::new(clients_max(&node, workers)));

    let login = login_settings(&node)?;

    let names: Vec<&str> = node.listeners.iter().map(|listener| &*listener.policy.name).collect();
    let registry = Arc::new(Registry::new(workers, &names, TENANTS_SHOWN_DEFAULT));
    registry.set_backend("io_uring");
    registry.set_policy(snapshot.generation, snapshot.tenants().iter().map(|tenant| &*tenant.name));
    let writer = open_log(output, &node.hostname, &registry)?;
    if let Some(tls) = &node.tls {
        let mut log = writer.log();
        control::tls::announce(tls, kept.listeners(), &registry, &mut log, SystemTime::now().into());
        log.flush();
    }
    let early = match node.spool.while_recovering {
        WhileRecovering::Closed => None,
        WhileRecovering::Refuse => {
            Some(EarlyListeners::start(&node.listeners, &node.hostname, writer.log())?)
        }
    };
    let (commons, links, control_link) = Commons::new(workers, snapshot);
    let recovery: Vec<Arc<RecoveryProgress>> = (0..workers).map(|_| Arc::default()).collect();
    let control = control::start(ControlOptions {
        link: control_link,
        registry: Arc::clone(&registry),
        log: writer.log(),
        places: Arc::clone(&places),
        http_log: writer.log(),
        recovery: recovery.clone(),
        admin: Some(AdminOptions { node: node.clone(), log: writer.log() }),
        tickets: Some(ticket_options(&node, writer.log())),
        metrics_address: node.metrics_address,
        config_path: reload_from.map(Path::to_owned),
        kept,
        certificate,
        dns: node.dns.clone(),
        call_ahead: CallAheadOptions {
            hostname: node.hostname.clone(),
            opportunistic: client_tls.opportunistic.clone(),
            required: client_tls.required.clone(),
        },
        verifiers: 0,
        signals,
    })
    .map_err(StartError::new)?;

    let unfinished =
        Arc::new(Unfinished::new(node.spool.unfinished_bytes, node.spool.unfinished_bytes_per_client));
    let early = Mutex::new(early);
    let plan = Arc::new(Plan {
        node,
        session_settings,
        client_tls,
        workers,
        login,
        recovery,
        places,
        unfinished,
        early,
    });
    let running = Running { commons, control, workers: Vec::new(), log: writer, _spool: disk };
    start_workers(running, &plan, links, &registry)
}

/// Starts a thread for each link, and waits until all of them are ready or one is not.
fn start_workers(
    mut running: Running,
    plan: &Arc<Plan>,
    links: Vec<WorkerLink>,
    registry: &Registry,
) -> Result<Running, StartError> {
    let (ready, outcomes) = mpsc::channel();
    for link in links {
        let metrics = registry.worker(usize::from(link.worker()));
        let (plan, log, ready) = (Arc::clone(plan), running.log.log(), ready.clone());
        let name = format!("worker-{}", link.worker());
        let spawned =
            std::thread::Builder::new().name(name).spawn(move || serve(&plan, link, metrics, log, &ready));
        running.workers.push(
            spawned
                .map_err(|error| StartError::new(format_args!("cannot start a worker thread: {error}")))?,
        );
    }
    drop(ready);
    // Every worker reports once; one that cannot start ends them all.
    for outcome in outcomes.iter().take(plan.workers) {
        if let Err(error) = outcome {
            drop(plan.early());
            running.stop();
            return Err(error);
        }
    }
    Ok(running)
}

impl Running {
    /// Drains: no new mail, what is under way comes to its end.
    pub fn stop(self) -> ExitCode {
        self.commons.drain();
        self.wait()
    }

    fn wait(self) -> ExitCode {
        let mut code = ExitCode::SUCCESS;
        for worker in self.workers {
            match worker.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    eprintln!("gatepost: a worker stopped: {error}");
                    code = ExitCode::FAILURE;
                }
                Err(_) => code = ExitCode::FAILURE,
            }
        }
        drop(self.control);
        drop(self.log);
        code
    }
}

fn ticket_options(node: &NodeConfig, log: EventLog) -> TicketOptions {
    TicketOptions {
        path: node.tickets_path(),
        capacity_bytes: node.tickets.capacity_bytes,
        keep: node.tickets.keep,
        listeners: node.listeners.iter().map(|listener| listener.policy.clone()).collect(),
        address: node.tickets.address,
        page: PageOptions {
            hostname: node.hostname.clone(),
            contact: node.tickets.contact.clone(),
            submission_port: node.submission_port(),
            proxies: node.tickets.proxies.clone(),
        },
        log,
    }
}

/// What every worker is started with.
struct Plan {
    node: NodeConfig,
    session_settings: Vec<Arc<smtp::server::Settings>>,
    client_tls: ClientTlsConfigs,
    workers: usize,
    login: LoginSettings,
    recovery: Vec<Arc<RecoveryProgress>>,
    places: Arc<Places>,
    unfinished: Arc<Unfinished>,
    /// On duty until the first worker opens listeners.
    early: Mutex<Option<EarlyListeners>>,
}

impl Plan {
    /// The early listeners, for the first worker that asks.
    fn early(&self) -> Option<EarlyListeners> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One worker's life.
fn serve(
    plan: &Plan,
    link: WorkerLink,
    metrics: Arc<WorkerMetrics>,
    log: EventLog,
    ready: &mpsc::Sender<Result<(), StartError>>,
) -> std::io::Result<()> {
    pin(link.worker());
    let mut worker = match equip(plan, link, metrics, log) {
        Ok(worker) => worker,
        Err(error) => {
            let _ = ready.send(Err(error));
            return Ok(());
        }
    };
    worker.link.commons().set_state(worker.link.worker(), WorkerState::Ready);
    let _ = ready.send(Ok(()));
    while worker.turn()? {}
    worker.close()
}

/// Makes a worker: its ring, its recovered shard, its listeners.
fn equip(
    plan: &Plan,
    link: WorkerLink,
    metrics: Arc<WorkerMetrics>,
    mut log: EventLog,
) -> Result<Worker<UringRing>, StartError> {
    let number = link.worker();
    let mut ring = UringRing::new(UringOptions::default()).map_err(StartError::new)?;
    link.attach(ring.waker());
    let mut salt = [0; 8];
    ring.random(&mut salt);
    let options = Options {
        directory: plan.node.spool.path.clone(),
        shard: number,
        segment_bytes: segment_bytes(&plan.node, plan.workers),
        capacity_bytes: plan.node.spool.capacity_bytes / plan.workers as u64,
        segments_max: segments_max(plan.workers),
        hot_bytes_max: HOT_BYTES_MAX,
        compaction_bytes_per_second: plan.node.spool.compaction_bytes_per_second / plan.workers as u64,
        token_room: SPOOL_ROOM,
        salt: u64::from_le_bytes(salt),
    };
    let progress = &plan.recovery[usize::from(number)];
    let watch = Watch { commons: link.commons(), progress, log: &mut log };
    let (mut spool, recovered) =
        opening::open_spool(&mut ring, &options, plan.workers, watch).map_err(StartError::new)?;
    spool.watch(spool::WATCH_INTERVAL);
    let ingress = Ingress::new(ingress_settings(plan, number), &mut ring);
    let mut seed = [0; 8];
    ring.random(&mut seed);
    let delivery = Delivery::new(DeliverySettings {
        hostname: plan.node.hostname.as_ref().into(),
        worker: number,
        retry: Retry {
            first: plan.node.retry.first,
            longest: plan.node.retry.longest,
            expire: plan.node.retry.expire,
        },
        tls: plan.client_tls.clone(),
        connections_max: next_hops_max() / plan.workers,
        private_destinations: plan.node.delivery.private_destinations,
        seed: u64::from_le_bytes(seed),
    });
    let snapshots = link.commons().snapshot_cache();
    let mut worker = Worker {
        ring,
        ingress,
        spool,
        delivery,
        link,
        snapshots,
        metrics,
        log,
        completions: Vec::new(),
        commits: Commits::default(),
        life: Life::default(),
    };
    worker.report_recovery();
    worker.recover(recovered);
    // A large queue takes a while to take up, and from here on until the first turn no client is answered.
    for (address, listener) in plan.early().map_or_else(Vec::new, EarlyListeners::relieve) {
        worker.ring.inherit(address, listener);
    }
    worker.ingress.open(&mut worker.ring, true).map_err(StartError::new)?;
    Ok(worker)
}

fn ingress_settings(plan: &Plan, worker: u8) -> ingress::Settings {
    let node = &plan.node;
    let listeners =
        node.listeners.iter().zip(&plan.session_settings).map(|(listener, session)| ListenerSettings {
            policy: listener.policy.clone(),
            session: Arc::clone(session),
            address: listener.address,
        });
    ingress::Settings {
        hostname: node.hostname.as_ref().into(),
        worker,
        places: Arc::clone(&plan.places),
        leaving_max: leaving_max(plan.workers),
        backlog: backlog(plan.workers),
        contact: node.tickets.contact.clone(),
        public_url: node.tickets.public_url.clone(),
        submission_port: node.submission_port(),
        peers: ingress::Peers {
            proxies: node.peers.proxies.iter().map(|net| net.value).collect(),
            xclient: node.peers.xclient.iter().map(|net| net.value).collect(),
            xclient_login: node.peers.xclient_login,
        },
        login: plan.login.clone(),
        dns_lists: !node.dns.lists.is_empty(),
        unfinished: Arc::clone(&plan.unfinished),
        listeners: listeners.collect(),
    }
}

/// To be called once the spool is claimed, which holds the secret where none is written.
fn login_settings(node: &NodeConfig) -> Result<LoginSettings, StartError> {
    let secret = match &node.login.secret {
        Some(text) => control::secret::of_text(text),
        None => control::secret::of_spool(&node.spool.path).map_err(|error| {
            let remedy = "let this user read and write it";
            StartError::new(format_args!("the spool's login.secret cannot be used: {error}; {remedy}"))
        })?,
    };
    let rate = |failures: config::Failures| Rate::new(u64::from(failures.count), failures.per);
    Ok(LoginSettings {
        secret,
        failures_per_ip: node.login.failures_per_ip.map(rate),
        failures_per_identity: node.login.failures_per_identity.map(rate),
    })
}

/// Whether this host allows an io_uring at all, before anything is served.
pub(crate) fn probe_ring() -> Result<(), StartError> {
    UringRing::new(UringOptions::default()).map(drop).map_err(StartError::new)
}

fn open_log(output: Output, node: &str, registry: &Registry) -> Result<LogWriter, StartError> {
    let started = match output {
        Output::Quiet => LogWriter::start(std::io::sink(), Form::Json, node, registry),
        Output::Stdout => LogWriter::start(std::io::stdout(), Form::for_stdout(), node, registry),
    };
    started.map_err(|error| StartError::new(format_args!("cannot start the log thread: {error}")))
}

/// Each worker has a separate core; where the system refuses, the scheduler decides.
fn pin(worker: u8) {
    if let Some(cores) = core_affinity::get_core_ids()
        && let Some(&core) = cores.get(usize::from(worker) % cores.len().max(1))
    {
        core_affinity::set_for_current(core);
    }
}
