//! The control plane: a thread with a tokio runtime, and a small pool for slow arithmetic.
//!
//! It answers the workers' questions (what DNS knows, whether a password fits,
//! or a next hop knows a recipient), keeps the tickets
//! of denials and serves their pages, serves `/metrics`, `/healthz` and `/readyz` and the admin API,
//! reloads the configuration on SIGHUP, all or nothing, and asks the workers to drain on SIGTERM or
//! SIGINT. It does no I/O for mail. It fails at the start only: an address that is taken, a file that
//! cannot be opened, a thread that the system does not give.

mod admin;
mod call_ahead;
mod dns;
mod door;
mod error;
mod events;
pub mod explain;
mod http;
pub mod password;
mod queue;
mod recovery;
mod reload;
pub mod secret;
mod signals;
pub mod tickets;
pub mod tls;
mod verify;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use commons::{Answer, ControlLink, Places, Question};
use mail::UnixMillis;
use observe::{EventLog, HttpPort, Registry, Word};
use ring::Waker;
use tokio::sync::{Notify, mpsc};

pub use admin::{AdminOptions, admin_routes};
pub use call_ahead::CallAheadOptions;
pub use door::HTTP_CONNECTIONS_MAX;
pub use error::StartError;
pub use events::EVENTS;
pub use signals::Signals;

use admin::{Admin, AdminSocket, Ways};
use call_ahead::{CallAhead, Waiter};
use dns::{Dns, Lists};
use door::Doors;
use events::{Draining, Killed, ResolverUnconfigured};
use queue::QueueClient;
use reload::Reloader;
use signals::{SIGNALLED, Signal};
use tickets::{Keeper, TicketOptions};
use verify::Verifiers;

/// What the control plane works with.
#[derive(Debug)]
pub struct ControlOptions {
    /// Its end of the queues.
    pub link: ControlLink,
    /// The counts that `/metrics` shows.
    pub registry: Arc<Registry>,
    /// Its own log.
    pub log: EventLog,
    /// The places for connections, of which `/metrics`, `/readyz` and `/v1/status` tell.
    pub places: Arc<Places>,
    /// The log of its ports of HTTP.
    pub http_log: EventLog,
    /// How far the recovery of each shard is, in the order of the workers.
    pub recovery: Vec<Arc<spool::RecoveryProgress>>,
    /// The admin API; without it there is none.
    pub admin: Option<AdminOptions>,
    /// Where tickets are kept and shown; without it they are not.
    pub tickets: Option<TicketOptions>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; without it they are not.
    pub metrics_address: Option<SocketAddr>,
    /// The node file, read again at a reload; without it there is none.
    pub config_path: Option<PathBuf>,
    /// What was read at the start: files that do not change are not read again, and no reload may open
    /// the listeners that run.
    pub kept: config::Kept,
    /// The certificate of the listeners, replaced at a reload.
    pub certificate: Option<Arc<tls::Certificate>>,
    /// Who is asked for names, and on which lists clients are looked up.
    pub dns: config::DnsConfig,
    /// How next hops are asked for recipients.
    pub call_ahead: CallAheadOptions,
    /// Threads that verify passwords, each with some 20 MiB while it works; 0 for half the cores.
    pub verifiers: usize,
    /// SIGHUP, SIGTERM and SIGINT, where the process is its own.
    pub signals: Signals,
}

/// A running control plane; dropping it ends it.
#[derive(Debug)]
pub struct Control {
    commands: mpsc::Sender<Command>,
    thread: Option<JoinHandle<()>>,
    metrics_address: Option<SocketAddr>,
    admin_address: Option<SocketAddr>,
}

/// What was taken before anything started.
struct Opened {
    metrics: Option<TcpListener>,
    pages: Option<TcpListener>,
    admin: Ways,
}

/// What may be asked of it from within the program.
#[derive(Clone, Copy, Debug)]
enum Command {
    Reload,
    Stop,
}

/// Commands that may wait: each is a person's doing.
const COMMANDS_MAX: usize = 16;

/// Starts the control plane. When this returns, the addresses are bound and signals are heard.
///
/// # Errors
/// What could not be had; nothing is left running then.
pub fn start(options: ControlOptions) -> Result<Control, StartError> {
    let bind = |port| move |address| door::bind(port, address);
    let metrics = options.metrics_address.map(bind(HttpPort::Metrics)).transpose()?;
    let admin = options.admin.as_ref().map(|admin| Ways::open(&admin.node)).transpose()?.unwrap_or_default();
    let pages = options.tickets.as_ref().and_then(|tickets| tickets.address);
    let pages = pages.map(bind(HttpPort::Tickets)).transpose()?;
    let metrics_address = metrics.as_ref().and_then(|listener| listener.local_addr().ok());
    let admin_address = admin.address();
    let opened = Opened { metrics, pages, admin };
    let (commands, received) = mpsc::channel(COMMANDS_MAX);
    let (ready, started) = std::sync::mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name("gatepost-control".into())
        .spawn(move || run(options, opened, received, &ready))
        .map_err(StartError::Thread)?;
    let control = Control { commands, thread: Some(thread), metrics_address, admin_address };
    match started.recv() {
        Ok(Ok(())) => Ok(control),
        Ok(Err(error)) => Err(error),
        Err(_) => unreachable!("the thread reports before it ends"),
    }
}

impl Control {
    /// Where metrics are served: the address asked for, with its port if that was 0.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Where the admin API is served on the network, in the same way.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Reloads the configuration, as SIGHUP does. Not to be called from an async task.
    pub fn reload(&self) {
        self.send(Command::Reload);
    }

    fn send(&self, command: Command) {
        // A thread that is gone has nothing left to do.
        let _ = self.commands.blocking_send(command);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// The thread: reports once whether it could start, then serves until told to stop.
fn run(
    options: ControlOptions,
    opened: Opened,
    commands: mpsc::Receiver<Command>,
    ready: &std::sync::mpsc::SyncSender<Result<(), StartError>>,
) {
    // Wishes: without them health is answered later on a full core, and no less surely.
    let _ = ring::turns::take_short_turns();
    // Of the threads on which calls may block. They would have short turns too, and their work is long.
    let give_way = || drop(ring::turns::give_way());
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = match builder.enable_all().on_thread_start(give_way).build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(StartError::Runtime(error)))),
    };
    runtime.block_on(async move {
        match Plane::new(options, opened) {
            Ok((plane, signals)) => {
                // The caller that started us waits for this.
                let _ = ready.send(Ok(()));
                plane.serve(signals, commands).await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
}

/// Everything the thread owns.
struct Plane {
    link: ControlLink,
    log: EventLog,
    asked: Arc<Notify>,
    dns: Arc<Dns>,
    lists: Arc<Lists>,
    call_ahead: CallAhead,
    queues: QueueClient,
    verifiers: Verifiers,
    reloader: Reloader,
    /// Writes the last tickets at the end.
    _keeper: Option<Keeper>,
    /// Keeps the last suspensions at the end.
    admin: Option<Admin>,
    /// Removes the socket at the end.
    _socket: Option<AdminSocket>,
}

impl Plane {
    /// To be called in the runtime.
    fn new(options: ControlOptions, opened: Opened) -> Result<(Self, Signals), StartError> {
        let ControlOptions {
            link,
            registry,
            mut log,
            places,
            http_log,
            recovery,
            admin,
            tickets,
            config_path,
            kept,
            certificate,
            dns,
            call_ahead,
            verifiers,
            signals,
            ..
        } = options;
        let recovery: recovery::Shards = recovery.into();
        let queues = QueueClient::new(link.clone());
        let doors = Doors::new(registry.clone(), http_log);
        if let Some(listener) = opened.metrics {
            let router =
                http::router(registry.clone(), link.commons().clone(), places.clone(), recovery.clone());
            let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::Runtime)?;
            tokio::spawn(doors.clone().serve(HttpPort::Metrics, listener, router));
        }
        let (tickets, keeper) = tickets
            .map(|options| tickets::start(options, &link, &registry, (opened.pages, &doors)))
            .transpose()?
            .unzip();
        let (commons, counts) = (link.commons().clone(), (registry.clone(), places));
        let admin = admin
            .map(|admin| Admin::new(admin, commons, counts, tickets, recovery, queues.clone()))
            .transpose()?;
        let socket = match &admin {
            Some(admin) => admin.start(opened.admin, &doors)?,
            None => None,
        };
        let verifiers = Verifiers::start(verifiers, &link).map_err(StartError::Thread)?;
        let resolver = Dns::new(&dns);
        if let Some(warning) = resolver.warning() {
            log.record(&ResolverUnconfigured { error: warning }, now());
            log.flush();
        }
        let resolver = Arc::new(resolver);
        let call_ahead = CallAhead::new(link.clone(), resolver.clone(), call_ahead);
        let asked = Arc::new(Notify::new());
        let notify = asked.clone();
        link.attach(Waker::new(move || notify.notify_one()));
        let files = (config_path, kept);
        let reloader = Reloader::new(link.commons().clone(), registry, admin.clone(), files, certificate);
        Ok((
            Self {
                link,
                log,
                asked,
                dns: resolver,
                lists: Arc::new(Lists::new(dns.lists)),
                call_ahead,
                queues,
                verifiers,
                reloader,
                _keeper: keeper,
                admin,
                _socket: socket,
            },
            signals,
        ))
    }

    async fn serve(mut self, mut signals: Signals, mut commands: mpsc::Receiver<Command>) {
        loop {
            tokio::select! {
                () = self.asked.notified() => {
                    self.take_questions();
                    self.queues.deliver();
                }
                read = self.reloader.read() => {
                    self.reloader.finish(read, &mut self.log, now());
                    self.log.flush();
                }
                signal = signals.next() => match signal {
                    Signal::Reload => self.reloader.begin(),
                    Signal::End(number) => self.drain(number),
                },
                command = commands.recv() => match command {
                    Some(Command::Reload) => self.reloader.begin(),
                    Some(Command::Stop) | None => break,
                },
            }
        }
        if let Some(admin) = &self.admin {
            admin.keep_suspensions().await;
        }
    }

    fn take_questions(&self) {
        while let Some(question) = self.link.question() {
            match question {
                Question::Verify(login) => self.verifiers.verify(login),
                Question::CallAhead { worker, key, stranger, address } => {
                    self.call_ahead.ask(Waiter { worker, key }, stranger, address);
                }
                other => self.look_up(other),
            }
        }
    }

    /// Answers, some time later, what DNS knows.
    fn look_up(&self, question: Question) {
        let (dns, lists, link) = (self.dns.clone(), self.lists.clone(), self.link.clone());
        tokio::spawn(async move {
            match question {
                Question::Verify(_) | Question::CallAhead { .. } => {
                    unreachable!("others answer these")
                }
                Question::Resolve { worker, key, host } => {
                    let (result, ttl) = dns.addresses(&host).await;
                    link.answer(worker, Answer::Resolved { key, result, ttl });
                }
                Question::MxHosts { worker, key, domain } => {
                    let (result, ttl) = dns.mx_hosts(&domain).await;
                    link.answer(worker, Answer::MxHosts { key, result, ttl });
                }
                Question::Domain { worker, key, domain } => {
                    let (finding, ttl) = dns.recipient_domain(&domain).await;
                    link.answer(worker, Answer::Recipient { key, finding, ttl });
                }
                Question::Listed { worker, key, client } => {
                    let listing = lists.listing(&dns, client).await.map(Box::new);
                    link.answer(worker, Answer::Listed { key, client, listing });
                }
            }
        });
    }

    /// The first signal drains; a second one means that its sender will not wait.
    fn drain(&mut self, signal: i32) {
        if self.link.commons().is_draining() {
            self.log.record(&Killed { reason: Word("second signal") }, now());
            self.log.flush();
            std::process::exit(SIGNALLED + signal);
        }
        self.log.record(&Draining { reason: Word("signal") }, now());
        self.log.flush();
        self.link.commons().drain();
    }
}

/// Wall-clock time, for records.
fn now() -> UnixMillis {
    SystemTime::now().into()
}

#[cfg(test)]
mod tests;
