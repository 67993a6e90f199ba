//! `/metrics`, `/healthz` and `/readyz`.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use commons::{Commons, Holder, NotReady, Places};
use observe::Registry;
use serde_json::json;

use crate::StartError;
use crate::recovery::{self, Shards};

/// What whoever runs the gateway should know before restarting it: health says nothing of it, since a restart would
/// lose what deliveries still save.
const VANISHED: &str = "files of the spool were deleted, replaced, renamed or unmounted: no mail is taken, and what is \
     queued goes out from the files that are still open; put the files back, or stop the gateway when the queue is \
     empty; the log names the file, and at the end each message that is lost";

/// What the handlers read.
#[derive(Clone)]
struct Rooms {
    registry: Arc<Registry>,
    commons: Arc<Commons>,
    places: Arc<Places>,
    recovery: Shards,
}

/// Takes the address before anything else starts.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let failed = |error| StartError::MetricsAddress { address, error };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

pub(crate) fn router(
    registry: Arc<Registry>,
    commons: Arc<Commons>,
    places: Arc<Places>,
    recovery: Shards,
) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .with_state(Rooms { registry, commons, places, recovery })
}

async fn metrics(State(rooms): State<Rooms>) -> impl IntoResponse {
    let Rooms { registry, places, .. } = &rooms;
    registry.set_places(
        Holder::ALL.map(|holder| places.held_up_to(holder)),
        Holder::ALL.map(|holder| places.ceiling(holder)),
    );
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], rooms.registry.text())
}

/// Health is for whoever restarts what is ill, and a restart helps where a write failed for good: what the
/// device holds is found out by a recovery.
async fn healthy(State(rooms): State<Rooms>) -> (StatusCode, &'static str) {
    if rooms.commons.has_latched() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "latched: a write to the spool failed; a restart recovers it\n",
        );
    }
    (StatusCode::OK, "ok\n")
}

async fn ready(State(rooms): State<Rooms>) -> impl IntoResponse {
    match rooms.commons.readiness() {
        Ok(()) => {
            let mut body = json!({ "ready": true });
            if let Some(holder) = rooms.places.shortage(crate::now()) {
                body["detail"] = shortage(&rooms.places, holder).into();
            }
            (StatusCode::OK, Json(body))
        }
        Err(reason) => {
            let mut body = json!({ "ready": false, "reason": reason.as_str() });
            let detail = match reason {
                NotReady::Recovering => Some(recovery::sentence(&rooms.commons, &rooms.recovery)),
                NotReady::Vanished => Some(VANISHED.to_owned()),
                NotReady::Latched | NotReady::Draining => None,
            };
            if let Some(detail) = detail {
                body["detail"] = detail.into();
            }
            (StatusCode::SERVICE_UNAVAILABLE, Json(body))
        }
    }
}

/// Mail is taken, and still whoever watches should know: places are short for `holder` and those before it.
fn shortage(places: &Places, holder: Holder) -> String {
    let who = match holder {
        Holder::Stranger => "strangers",
        Holder::Network => "strangers and tenants' networks",
        Holder::Login => "all clients",
    };
    let (held, max) = (places.held_up_to(holder), places.ceiling(holder));
    format!(
        "connections are short: {who} hold {held} of {max} places; clients that do nothing are ended first"
    )
}
