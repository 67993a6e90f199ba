//! The ports of HTTP: connections bounded in number and in time, so that the next one is always served.
//!
//! Each port has its own places: what is done to one of them costs the others nothing. No connection is
//! refused and none waits for another peer: when the places run short, one that is held goes, of the peer
//! that holds the most the longest silent. Operators see it in the log and in a metric.

mod places;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use observe::{EventLog, HttpPort, Registry, Word};
use parking_lot::Mutex;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, sleep};

pub(crate) use places::Peer;

use crate::StartError;
use crate::events::HttpPlacesShort;
use places::Places;

/// Descriptors of one port: a mailbox server keeps one or two connections open, a person one.
const PORT_DESCRIPTORS_MAX: usize = 128;

/// Connections that are accepted before what is known of the others gets its turn. So many that were
/// displaced may not be closed yet.
const ACCEPTS_A_TURN: usize = 16;

/// Connections of one port that have a place.
const PLACES: usize = PORT_DESCRIPTORS_MAX - ACCEPTS_A_TURN;

/// Connections at a time of all ports of HTTP together, in descriptors.
pub const HTTP_CONNECTIONS_MAX: usize = HttpPort::ALL.len() * PORT_DESCRIPTORS_MAX;

/// Connections that the kernel holds until they are accepted: a burst of strangers fits in.
pub(crate) const BACKLOG: i32 = 1024;

/// What of a request is read ahead, and so the largest head; the largest of ours has 300 bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How often turns that take too long are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The log says at most once in this time that places run short.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The wait after an accept that failed for want of descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);

/// What all ports have in common: where they count, and where they say that places run short.
#[derive(Clone)]
pub(crate) struct Doors {
    registry: Arc<Registry>,
    log: Arc<Mutex<EventLog>>,
}

/// One port in service.
struct Door {
    port: HttpPort,
    common: Doors,
    places: Arc<Mutex<Places>>,
    said: Option<Instant>,
    displaced: u64,
}

/// A connection's hold on its place.
struct Place {
    key: u64,
    end: Arc<Notify>,
    places: Arc<Mutex<Places>>,
}

/// What connections are accepted from.
pub(crate) trait Listen: Send + 'static {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and who is at its other end.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, Peer)>> + Send;
}

impl Listen for tokio::net::TcpListener {
    type Io = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<(Self::Io, Peer)> {
        let (stream, address) = Self::accept(self).await?;
        Ok((stream, Peer::Address(address.ip())))
    }
}

impl Listen for tokio::net::UnixListener {
    type Io = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<(Self::Io, Peer)> {
        let (stream, _) = Self::accept(self).await?;
        let user = stream.peer_cred().ok().map(|credentials| credentials.uid());
        Ok((stream, Peer::User(user)))
    }
}

/// Takes the address of a port before anything else starts.
pub(crate) fn bind(port: HttpPort, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bound().map_err(|error| StartError::HttpAddress { port, address, error })
}

impl Doors {
    pub(crate) fn new(registry: Arc<Registry>, log: EventLog) -> Self {
        Self { registry, log: Arc::new(Mutex::new(log)) }
    }

    /// Serves a port until the runtime ends. Each request carries its [`Peer`].
    pub(crate) async fn serve(self, port: HttpPort, listener: impl Listen, router: Router) {
        let places = Arc::new(Mutex::new(Places::new(PLACES)));
        let mut door = Door { port, common: self, places, said: None, displaced: 0 };
        let mut clock = interval(SWEEP_INTERVAL);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut accepted = 0_usize;
        loop {
            tokio::select! {
                connection = listener.accept() => match connection {
                    Ok((stream, peer)) => door.admit(stream, peer, &router),
                    Err(error) => door.bear(&error).await,
                },
                _ = clock.tick() => door.places.lock().end_overdue(Instant::now()),
            }
            accepted += 1;
            if accepted.is_multiple_of(ACCEPTS_A_TURN) {
                yield_now().await;
            }
        }
    }
}

impl Door {
    fn admit(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        router: &Router,
    ) {
        let (key, end, displaced) = self.places.lock().take(peer, Instant::now());
        if let Some(displaced) = displaced {
            self.displaced(displaced);
        }
        let place = Place { key, end, places: self.places.clone() };
        let router = TowerToHyperService::new(router.clone().layer(Extension(peer)));
        tokio::spawn(async move {
            let service = service_fn(|request| place.answer(&router, request));
            let connection = http1::Builder::new()
                .max_buf_size(HEAD_BYTES_MAX)
                // A turn has its own limit, which bytes that trickle do not extend.
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // What goes wrong here is between the peer and its network.
                _ = connection => {}
                () = place.end.notified() => {}
            }
        });
    }

    /// An accept failed. Where that is more than a peer that went away, a connection of ours makes room.
    async fn bear(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
            return;
        }
        let displaced = self.places.lock().displace();
        if let Some(displaced) = displaced {
            self.displaced(displaced);
        }
        sleep(ACCEPT_RETRY).await;
    }

    fn displaced(&mut self, peer: Peer) {
        self.common.registry.http().displaced(self.port);
        self.displaced += 1;
        if self.said.is_some_and(|said| said.elapsed() < LOG_INTERVAL) {
            return;
        }
        self.said = Some(Instant::now());
        let connections = std::mem::take(&mut self.displaced);
        let mut log = self.common.log.lock();
        let client = match peer {
            Peer::Address(address) => Some(address),
            Peer::User(_) => None,
        };
        let port = Word(self.port.as_str());
        log.record(&HttpPlacesShort { port, connections_ended: connections, client }, crate::now());
        log.flush();
    }
}

impl Place {
    async fn answer<S>(&self, router: &S, request: Request<Incoming>) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Incoming>, Response = Response<Body>>,
    {
        self.places.lock().asked(self.key, Instant::now());
        let response = router.call(request).await?;
        let bytes = response.body().size_hint().lower();
        self.places.lock().answered(self.key, bytes, Instant::now());
        Ok(response)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().leave(self.key);
    }
}
