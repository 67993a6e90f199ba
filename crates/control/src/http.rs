//! `/metrics`, `/healthz` and `/readyz`.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use commons::{Commons, Holder, NotReady, Places};
use observe::Registry;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::recovery::{self, Shards};

/// What an operator should know before restarting it: health says nothing of it, since a restart would
/// lose what deliveries still save.
const VANISHED: &str = "files of the spool were deleted, replaced, renamed or unmounted: no mail is taken, and what is \
     queued goes out from the files that are still open; put the files back, or stop the gateway when the queue is \
     empty; the log names the file, and at the end each message that is lost";

/// What the handlers read.
#[derive(Clone)]
struct Rooms {
    metrics: Arc<Metrics>,
    commons: Arc<Commons>,
    places: Arc<Places>,
    recovery: Shards,
}

/// The text of `/metrics`, put together by one thread at a time, however many ask:
/// neither health nor what workers ask waits for that.
struct Metrics {
    registry: Arc<Registry>,
    commons: Arc<Commons>,
    places: Arc<Places>,
    /// The last text, and when it was begun.
    last: Arc<Mutex<Option<(Instant, Bytes)>>>,
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
        .with_state(Rooms {
            metrics: Arc::new(Metrics::new(registry, commons.clone(), places.clone())),
            commons,
            places,
            recovery,
        })
}

async fn metrics(State(rooms): State<Rooms>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], rooms.metrics.text().await)
}

impl Metrics {
    fn new(registry: Arc<Registry>, commons: Arc<Commons>, places: Arc<Places>) -> Self {
        Self { registry, commons, places, last: Arc::default() }
    }

    /// What was counted when it was asked for, or later.
    async fn text(&self) -> Bytes {
        let asked = Instant::now();
        let mut last = self.last.clone().lock_owned().await;
        if let Some((begun, text)) = &*last
            && *begun >= asked
        {
            return text.clone();
        }
        let (registry, commons, places) = (self.registry.clone(), self.commons.clone(), self.places.clone());
        // The lock goes along: an asker that leaves does not make it two at a time.
        let text = spawn_blocking(move || {
            let begun = Instant::now();
            registry.set_places(
                Holder::ALL.map(|holder| places.held_up_to(holder)),
                Holder::ALL.map(|holder| places.ceiling(holder)),
            );
            registry.set_failing_sites(commons.sites().failing_count());
            let text = Bytes::from(registry.text());
            *last = Some((begun, text.clone()));
            text
        });
        text.await.expect("putting the text together does not panic")
    }
}

/// Health is for what restarts the ill, and a restart helps where a write failed for good: what the
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

/// Mail is taken, and an operator should still know: places are short for `holder` and those before it.
pub(crate) fn shortage(places: &Places, holder: Holder) -> String {
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
