//! HTTP connections, bounded in number and in time.

use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Connections at a time, of each listener: a mailbox server keeps one or two open, a person one.
const CONNECTIONS_MAX: usize = 128;

/// Connections at a time of all listeners of HTTP together: metrics, tickets, and the admin API's two.
pub const HTTP_CONNECTIONS_MAX: usize = 4 * CONNECTIONS_MAX;

/// The head of a request must come within this; an idle connection is closed after it.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// A connection lives no longer, whatever its peer does or leaves undone.
const CONNECTION_MAX: Duration = Duration::from_secs(300);

/// Serves until the runtime ends. Each request carries what `peer` makes of its connection's other end.
pub(crate) async fn serve<L, P>(mut listener: L, router: Router, peer: impl Fn(&L::Addr) -> P)
where
    L: Listener,
    P: Clone + Send + Sync + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = listener.accept().await;
        let service = TowerToHyperService::new(router.clone().layer(Extension(peer(&address))));
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
            // What goes wrong here is between the peer and its network.
            let _ = timeout(CONNECTION_MAX, http.serve_connection(TokioIo::new(stream), service)).await;
            drop(place);
        });
    }
}
