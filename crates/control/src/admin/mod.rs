//! The admin API: JSON for the command line on a unix socket, and over TCP for holders of a token.
//!
//! The socket belongs to this user alone (mode 0600), and who can open it may do everything. Over
//! TCP every request needs a bearer token (RFC 6750), which says what its holder may do and for
//! which tenant; without one nothing is served, not even that a path is unknown. Requests and
//! bodies are bounded in size and time. Answers are JSON; a refusal is `{"error": a sentence,
//! "reason": a word}`. One file here for each resource.

mod access;
mod door;
mod dovecot;
mod grants;
mod keep;
mod problem;
mod socket;
mod spool;
mod status;
mod suspensions;
mod tenants;
mod tickets;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use commons::Commons;
use config::NodeConfig;
use ipnet::IpNet;
use mail::UnixMillis;
use observe::{EventLog, Registry};
use parking_lot::Mutex;
use policy::Snapshot;
use tokio::task::spawn_blocking;

use crate::StartError;
use crate::now;
use crate::queue::Clerk;
use crate::recovery::Shards;
use crate::tickets::Tickets;
use access::{Access, Door};
use keep::Copy;
use problem::Problem;

pub use door::HTTP_CONNECTIONS_MAX;
pub(crate) use door::serve;
pub(crate) use socket::AdminSocket;

/// Bytes of a request's body, at most: a hundred times what any of them needs.
const BODY_BYTES_MAX: usize = 64 << 10;

/// How often grants that are over are ended, and suspensions written to disk.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What the admin API shows and opens.
#[derive(Debug)]
pub struct AdminOptions {
    /// The node as it was started.
    pub node: NodeConfig,
    /// Its own log.
    pub log: EventLog,
}

/// The API: what its handlers share.
#[derive(Clone)]
pub(crate) struct Admin(Arc<Rooms>);

struct Rooms {
    commons: Arc<Commons>,
    registry: Arc<Registry>,
    tickets: Option<Arc<Tickets>>,
    recovery: Shards,
    clerk: Clerk,
    node: NodeConfig,
    started: UnixMillis,
    log: Mutex<EventLog>,
    terms: ArcSwap<Terms>,
    reload_failure: ArcSwapOption<ReloadFailure>,
    /// The suspensions on disk.
    copy: Copy,
}

/// What a reload replaces.
struct Terms {
    access: Access,
    /// Who speaks for others: `[proxy_protocol]` and `[xclient]`.
    proxies: Vec<IpNet>,
    /// Listed addresses that many people share.
    shared: Vec<IpNet>,
}

/// The last reload was refused.
struct ReloadFailure {
    at: UnixMillis,
    error: String,
}

/// The doors as they were opened, before anything is served through them.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    socket: Option<AdminSocket>,
    network: Option<TcpListener>,
}

impl Doors {
    /// Takes socket and address.
    pub(crate) fn open(node: &NodeConfig) -> Result<Self, StartError> {
        let socket = node.admin.socket.as_deref().map(AdminSocket::bind).transpose()?;
        let network = node.admin.address.map(bind).transpose()?;
        Ok(Self { socket, network })
    }

    /// The address on the network: the one asked for, with its port if that was 0.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.network.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let failed = |error| StartError::AdminAddress { address, error };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

impl Admin {
    /// Takes up the suspensions of a former life.
    pub(crate) fn new(
        options: AdminOptions,
        commons: Arc<Commons>,
        registry: Arc<Registry>,
        tickets: Option<Arc<Tickets>>,
        recovery: Shards,
        clerk: Clerk,
    ) -> Result<Self, StartError> {
        let AdminOptions { node, log } = options;
        let terms = ArcSwap::from_pointee(Terms::new(&node, &commons.snapshot()));
        let (started, log) = (now(), Mutex::new(log));
        let directory = &node.spool.path;
        let copy = Copy::open(directory, commons.suspensions(), started)
            .map_err(|error| StartError::Suspensions { path: Copy::path(directory), error })?;
        Ok(Self(Arc::new(Rooms {
            commons,
            registry,
            tickets,
            recovery,
            clerk,
            node,
            started,
            log,
            terms,
            reload_failure: ArcSwapOption::empty(),
            copy,
        })))
    }

    /// Serves through the doors, and keeps the grants. To be called in the runtime; what it gives
    /// removes the socket when it is dropped.
    pub(crate) fn start(&self, doors: Doors) -> Result<Option<AdminSocket>, StartError> {
        if let Some(listener) = doors.network {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::Runtime)?;
            let router = self.router(Door::Network);
            tokio::spawn(serve(listener, router, |peer: &SocketAddr| Peer::Address(peer.ip())));
        }
        if let Some(socket) = &doors.socket {
            let listener = socket.listener().map_err(StartError::Runtime)?;
            tokio::spawn(serve(listener, self.router(Door::Socket), |user: &Option<u32>| Peer::User(*user)));
        }
        tokio::spawn(self.clone().sweep());
        Ok(doors.socket)
    }

    fn router(&self, door: Door) -> Router {
        Router::new()
            .route("/v1/status", get(status::show))
            .route("/v1/tenants", get(tenants::list))
            .route("/v1/tenants/{name}", get(tenants::show))
            .route("/v1/tickets/{ticket}", get(tickets::show))
            .route("/v1/grants", get(grants::list).post(grants::open).delete(grants::revoke))
            .route("/v1/grants/dovecot", post(dovecot::policy))
            .route("/v1/spool", get(spool::list))
            .route("/v1/spool/{word}", get(spool::show).post(spool::act))
            .route(
                "/v1/suspensions",
                get(suspensions::list).post(suspensions::suspend).delete(suspensions::lift),
            )
            .fallback(async || Problem::no_such_path())
            .method_not_allowed_fallback(async || Problem::no_such_method())
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(from_fn_with_state((self.clone(), door), access::admit))
            .with_state(self.clone())
    }

    /// Another configuration is in force.
    pub(crate) fn reloaded(&self, node: &NodeConfig) {
        let snapshot = self.0.commons.snapshot();
        self.0.terms.store(Arc::new(Terms::new(node, &snapshot)));
        self.0.reload_failure.store(None);
        self.end_orphans(&snapshot);
    }

    /// A reload was refused: what was in force still is.
    pub(crate) fn reload_refused(&self, at: UnixMillis, error: &str) {
        self.0.reload_failure.store(Some(Arc::new(ReloadFailure { at, error: error.to_owned() })));
    }

    /// Writes one record, at once: nobody waits for it on this plane.
    fn log(&self, write: impl FnOnce(&mut EventLog, UnixMillis)) {
        let mut log = self.0.log.lock();
        write(&mut log, now());
        log.flush();
    }

    /// Brings the copy on disk up to date while the runtime goes on; a disk that refuses is said in the
    /// log, and tried again.
    pub(crate) async fn keep_suspensions(&self) {
        let admin = self.clone();
        let written = spawn_blocking(move || {
            if let Err(error) = admin.0.copy.renew(admin.0.commons.suspensions(), now()) {
                admin.log(|log, now| log.event("suspensions_not_kept", now).display("error", error).end());
            }
        });
        // A panic there was reported when it happened.
        let _ = written.await;
    }

    async fn sweep(self) {
        let mut clock = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            clock.tick().await;
            self.end_expired();
            self.keep_suspensions().await;
        }
    }
}

impl Terms {
    fn new(node: &NodeConfig, snapshot: &Snapshot) -> Self {
        let peers = node.peers.proxies.iter().chain(&node.peers.xclient);
        Self {
            access: Access::new(&node.admin.tokens, snapshot),
            proxies: peers.map(|peer| peer.value).collect(),
            shared: node.grants.shared.clone(),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    /// On the socket: the user, where the system tells.
    User(Option<u32>),
    /// On the network.
    Address(IpAddr),
}
