//! The admin API: JSON for the command line on a unix socket, and over TCP for holders of a token.
//!
//! The socket belongs to this user alone (mode 0600), and who can open it may do everything. Over
//! TCP every request needs a bearer token (RFC 6750), which says what its holder may do and for
//! which tenant; without one nothing is served, not even that a path is unknown. Requests and
//! bodies are bounded in size and time. Answers are JSON; a refusal is `{"error": a sentence,
//! "reason": a word}`. One file here for each resource.

mod access;
mod dovecot;
mod explain;
mod grants;
mod keep;
mod names;
mod problem;
mod sites;
mod socket;
mod spool;
mod status;
mod suspensions;
mod tenants;
mod tickets;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post};
use commons::{Commons, Places};
use config::{Kept, NodeConfig};
use ipnet::IpNet;
use mail::UnixMillis;
use observe::{EventLog, HttpPort, Registry};
use parking_lot::Mutex;
use policy::Snapshot;
use tokio::task::spawn_blocking;

use crate::StartError;
use crate::door::{self, Doors};
use crate::now;
use crate::queue::Clerk;
use crate::recovery::Shards;
use crate::tickets::Tickets;
use access::{Access, Door};
use keep::Copy;
use problem::Problem;

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
    places: Arc<Places>,
    tickets: Option<Arc<Tickets>>,
    recovery: Shards,
    clerk: Clerk,
    node: NodeConfig,
    started: UnixMillis,
    log: Mutex<EventLog>,
    terms: ArcSwap<Terms>,
    reload_failure: ArcSwapOption<ReloadFailure>,
    /// The files of the configuration in force, as they were.
    kept: ArcSwap<Kept>,
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

/// The ways in, as they were opened before anything is served by them.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    socket: Option<AdminSocket>,
    network: Option<TcpListener>,
}

impl Ways {
    /// Takes socket and address.
    pub(crate) fn open(node: &NodeConfig) -> Result<Self, StartError> {
        let socket = node.admin.socket.as_deref().map(AdminSocket::bind).transpose()?;
        let network = node.admin.address.map(|address| door::bind(HttpPort::Admin, address)).transpose()?;
        Ok(Self { socket, network })
    }

    /// The address on the network: the one asked for, with its port if that was 0.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.network.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

impl Admin {
    /// Takes up the suspensions of a former life.
    pub(crate) fn new(
        options: AdminOptions,
        commons: Arc<Commons>,
        counts: (Arc<Registry>, Arc<Places>),
        tickets: Option<Arc<Tickets>>,
        recovery: Shards,
        clerk: Clerk,
    ) -> Result<Self, StartError> {
        let (AdminOptions { node, log }, (registry, places)) = (options, counts);
        let terms = ArcSwap::from_pointee(Terms::new(&node, &commons.snapshot()));
        let (started, log) = (now(), Mutex::new(log));
        let directory = &node.spool.path;
        let copy = Copy::open(directory, commons.limits().suspensions(), started)
            .map_err(|error| StartError::Suspensions { path: Copy::path(directory), error })?;
        Ok(Self(Arc::new(Rooms {
            commons,
            registry,
            places,
            tickets,
            recovery,
            clerk,
            node,
            started,
            log,
            terms,
            reload_failure: ArcSwapOption::empty(),
            kept: ArcSwap::default(),
            copy,
        })))
    }

    /// Serves by the ways in, and keeps the grants. To be called in the runtime; what it gives
    /// removes the socket when it is dropped.
    pub(crate) fn start(&self, ways: Ways, doors: &Doors) -> Result<Option<AdminSocket>, StartError> {
        if let Some(listener) = ways.network {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::Runtime)?;
            let router = self.router(Door::Network);
            tokio::spawn(doors.clone().serve(HttpPort::Admin, listener, router));
        }
        if let Some(socket) = &ways.socket {
            let listener = socket.listener().map_err(StartError::Runtime)?;
            tokio::spawn(doors.clone().serve(HttpPort::AdminSocket, listener, self.router(Door::Socket)));
        }
        tokio::spawn(self.clone().sweep());
        Ok(ways.socket)
    }

    fn router(&self, door: Door) -> Router {
        let routes = routes().into_iter();
        routes
            .fold(Router::new(), |router, (_, path, handler)| router.route(path, handler))
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

    /// The configuration in force was read from these files.
    pub(crate) fn files_taken_up(&self, kept: Arc<Kept>) {
        self.0.kept.store(kept);
    }

    /// A reload was refused: what was in force still is.
    pub(crate) fn reload_refused(&self, at: UnixMillis, error: &str) {
        self.0.reload_failure.store(Some(Arc::new(ReloadFailure { at, error: error.to_owned() })));
    }

    /// Writes one record, at once: no client waits for it on this plane.
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
            if let Err(error) = admin.0.copy.renew(admin.0.commons.limits().suspensions(), now()) {
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

/// Every route of the API: its method, its path, and who answers.
fn routes() -> [(&'static str, &'static str, MethodRouter<Admin>); 15] {
    [
        ("GET", "/v1/status", get(status::show)),
        ("GET", "/v1/tenants", get(tenants::list)),
        ("GET", "/v1/tenants/{name}", get(tenants::show)),
        ("POST", "/v1/explain", post(explain::answer)),
        ("GET", "/v1/tickets/{ticket}", get(tickets::show)),
        ("GET", "/v1/grants", get(grants::list)),
        ("POST", "/v1/grants", post(grants::open)),
        ("DELETE", "/v1/grants", delete(grants::revoke)),
        ("POST", "/v1/grants/dovecot", post(dovecot::policy)),
        ("GET", "/v1/spool", get(spool::list)),
        ("GET", "/v1/spool/{word}", get(spool::show)),
        ("POST", "/v1/spool/{word}", post(spool::act)),
        ("GET", "/v1/suspensions", get(suspensions::list)),
        ("POST", "/v1/suspensions", post(suspensions::suspend)),
        ("DELETE", "/v1/suspensions", delete(suspensions::lift)),
    ]
}

/// Method and path of every route, `{name}` for what varies: for the tests of who may do what.
#[must_use]
pub fn admin_routes() -> Vec<(&'static str, &'static str)> {
    routes().into_iter().map(|(method, path, _)| (method, path)).collect()
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
