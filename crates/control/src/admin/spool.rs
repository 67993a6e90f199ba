//! `/v1/spool`: the queue, by pages, and what an operator does about its messages.
//!
//! The workers say what is queued and where it stands; what only an envelope tells is read from the
//! spool's files here, off the data plane. A request looks at the queue for a bounded time and says
//! from where to go on, so that nothing is gathered without bound.

mod acts;
mod filter;
mod look;

use axum::Json;
use axum::extract::{Extension, State};
use commons::{QueueAnswer, QueuePage, QueuePageRequest, QueueTask, WorkerState};
use data_encoding::BASE64;
use mail::MessageId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::access::Principal;
use super::problem::{Asked, Named, Problem};

pub(super) use acts::act;
use filter::{Filter, Wanted};
use look::{Cursor, Seen};

/// Messages of a listing's page where the request does not say how many.
const PAGE_MESSAGES_DEFAULT: usize = 200;

/// What a listing is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    id: Option<String>,
    tenant: Option<String>,
    login: Option<String>,
    sender: Option<String>,
    domain: Option<String>,
    older_than: Option<String>,
    state: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/spool`.
pub(super) async fn list(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Asked(listing): Asked<Listing>,
) -> Result<Json<Value>, Problem> {
    principal.must_read()?;
    let Listing { id, tenant, login, sender, domain, older_than, state, cursor, limit } = listing;
    let wanted = Filter { id, tenant, login, sender, domain, older_than, state }.understood(&principal)?;
    let limit = limit.unwrap_or(PAGE_MESSAGES_DEFAULT).clamp(1, commons::QUEUE_PAGE_MESSAGES_MAX);
    let is_first = cursor.is_none();
    let cursor = Cursor::parse(cursor.as_deref())?;
    let (mut seen, next) = admin.look(&wanted, cursor, limit).await?;
    let unknown = admin.unknown(&wanted, &principal, seen.is_empty() && next.is_none() && is_first).await?;
    seen.sort_by_key(Seen::id);
    let messages: Vec<_> = seen.iter().map(Seen::as_json).collect();
    Ok(Json(json!({ "messages": messages, "next": next.map(|next| next.to_string()), "unknown": unknown })))
}

/// How a message is shown.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Showing {
    /// With every byte of its record.
    #[serde(default)]
    raw: bool,
}

/// `GET /v1/spool/{id}`.
pub(super) async fn show(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Named(id): Named,
    Asked(showing): Asked<Showing>,
) -> Result<Json<Value>, Problem> {
    principal.must_read()?;
    let id: MessageId = id.parse().map_err(Problem::malformed)?;
    let missing = || Problem::not_found(format!("no message {id} is queued"));
    let seen = admin.find(id).await?.filter(|seen| principal.is_for_all() || seen.is_of(&principal));
    let seen = seen.ok_or_else(missing)?;
    let mut shown = seen.as_json();
    let record = admin.record_of(&seen).await?.ok_or_else(missing)?;
    shown["record"] = json!({
        "file": record.path,
        "offset_bytes": record.place.offset,
        "length_bytes": record.bytes.len(),
        "sound": record.is_sound,
    });
    if showing.raw {
        shown["raw"] = BASE64.encode(&record.bytes).into();
    } else if !record.is_sound {
        shown["head"] = BASE64.encode(&record.bytes[..record.bytes.len().min(HEAD_BYTES_MAX)]).into();
    }
    Ok(Json(shown))
}

/// Bytes of a damaged record that are shown without being asked for: its numbers and its envelope.
const HEAD_BYTES_MAX: usize = 512;

impl Admin {
    /// What is named and does not exist, as a sentence: a problem where nothing was found for it either.
    async fn unknown(
        &self,
        wanted: &Wanted,
        principal: &Principal,
        is_nothing: bool,
    ) -> Result<Option<String>, Problem> {
        if let Some(id) = wanted.id.filter(|_| is_nothing) {
            let seen = self.find(id).await?;
            seen.filter(|seen| principal.is_for_all() || seen.is_of(principal))
                .ok_or_else(|| Problem::not_found(format!("no message {id} is queued")))?;
        }
        match wanted.unknown(&self.0.commons.snapshot(), principal) {
            Some(unknown) if is_nothing => Err(Problem::not_found(unknown)),
            unknown => Ok(unknown),
        }
    }

    /// Asks one worker for a page of its queue.
    async fn page(&self, worker: u8, wanted: QueuePageRequest) -> Result<QueuePage, Problem> {
        match self.ask(worker, QueueTask::Page(wanted)).await? {
            QueueAnswer::Page(page) => Ok(page),
            QueueAnswer::FailingSites(_) | QueueAnswer::Acted(_) => unreachable!("a page was asked for"),
        }
    }

    pub(super) async fn ask(&self, worker: u8, task: QueueTask) -> Result<QueueAnswer, Problem> {
        if self.0.commons.is_draining() {
            return Err(Problem::not_now("the gateway is ending"));
        }
        if self.0.commons.state(worker) == WorkerState::Recovering {
            return Err(Problem::not_now(crate::recovery::sentence(&self.0.commons, &self.0.recovery)));
        }
        let answer = self.0.queues.ask(worker, task).await.map_err(Problem::not_now)?;
        answer.ok_or_else(|| Problem::not_now("the worker has ended"))
    }
}
