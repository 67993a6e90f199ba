//! `GET /v1/status`: a running gateway at a glance.

use axum::Json;
use axum::extract::{Extension, State};
use commons::{FailingSite, Holder, NotReady, Places};
use mail::UnixMillis;
use serde_json::{Map, Value, json};

use super::access::Principal;
use super::problem::Problem;
use super::{Admin, grants, sites};
use crate::{http, now, recovery};

/// Grants that are listed at a glance: those that end first. All of them are at `/v1/grants`.
const OPEN_GRANTS_MAX: usize = 20;

/// Failing sites that are listed at a glance: those for which most waits.
const FAILING_SHOWN_MAX: usize = 20;

/// `GET /v1/status`.
pub(super) async fn show(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    principal.must_read()?;
    if !principal.is_for_all() {
        return Err(Problem::forbidden("this token is for one tenant: ask for /v1/tenants/{name}"));
    }
    let failing = admin.failing_sites().await;
    Ok(Json(admin.status(failing.as_deref())))
}

impl Admin {
    fn status(&self, failing: Option<&[FailingSite]>) -> Value {
        let (now, rooms) = (now(), &self.0);
        let (snapshot, totals) = (rooms.commons.snapshot(), rooms.registry.totals());
        let ready = rooms.commons.readiness();
        let listeners = rooms.node.listeners.iter().zip(&totals.connections).map(|(listener, (name, open))| {
            json!({ "name": name, "address": listener.address, "connections": open })
        });
        let failure = rooms.reload_failure.load();
        let failure = failure
            .as_ref()
            .map(|failure| json!({ "at": failure.at.rfc3339().to_string(), "error": failure.error }));
        let capacity = rooms.node.spool.capacity_bytes;
        let workers = (0..rooms.commons.workers() as u8).map(|worker| rooms.commons.state(worker).as_str());
        let mut grants = rooms.commons.limits().grants().list();
        grants.retain(|grant| now < grant.until);
        let open_grants = grants.iter().take(OPEN_GRANTS_MAX).map(|grant| grants::as_json(grant, now));
        let failing = failing
            .map(|failing| failing.iter().take(FAILING_SHOWN_MAX).map(sites::as_json).collect::<Vec<_>>());
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "node": rooms.node.hostname,
            "process": std::process::id(),
            "started": rooms.started.rfc3339().to_string(),
            "uptime_seconds": now.since(rooms.started) / 1000,
            "ready": ready.is_ok(),
            "not_ready_reason": ready.err().map(|reason| reason.as_str()),
            "recovery": (ready == Err(NotReady::Recovering))
                .then(|| recovery::sentence(&rooms.commons, &rooms.recovery)),
            "workers": workers.collect::<Vec<_>>(),
            "policy": {
                "generation": snapshot.generation,
                "tenants": snapshot.tenants().len(),
                "reload_failures": totals.reload_failures,
                "last_reload_failure": failure,
            },
            "listeners": listeners.collect::<Vec<_>>(),
            "places": places(&rooms.places, now),
            "messages_accepted": totals.accepted,
            "requests_denied": totals.denied,
            "deliveries": by_word(totals.deliveries.iter().map(|(outcome, count)| (outcome.as_str(), *count))),
            "queue_recipients": by_word(totals.queue.iter().map(|(state, count)| (state.as_str(), *count))),
            "oldest_message_age_seconds": totals.oldest_message_age_seconds,
            "failing_sites": rooms.commons.sites().failing_count(),
            "failing": failing,
            "spool": {
                "path": rooms.node.spool.path,
                "messages": totals.spool_messages,
                "bytes": totals.spool_bytes,
                "quarantined_messages": totals.quarantined_messages,
                "damaged_places": totals.damaged_places,
                "capacity_bytes": (capacity < u64::MAX).then_some(capacity),
            },
            "grants": grants.len(),
            "open_grants": open_grants.collect::<Vec<_>>(),
            "suspensions": rooms.commons.limits().suspensions().list(now).len(),
            "log_lines_dropped": totals.log_lines_dropped,
        })
    }
}

/// Connections that are held, and how many may be: of each kind of holder and those before it.
fn places(places: &Places, now: UnixMillis) -> Value {
    let part = |holder| json!({ "held": places.held_up_to(holder), "max": places.ceiling(holder) });
    json!({
        "strangers": part(Holder::Stranger),
        "without_login": part(Holder::Network),
        "all": part(Holder::Login),
        "short": places.shortage(now).map(|holder| http::shortage(places, holder)),
    })
}

fn by_word<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> Map<String, Value> {
    counts.map(|(word, count)| (word.to_owned(), count.into())).collect()
}
