//! `POST /v1/explain`: what the gateway would do with a message now.

use axum::Json;
use axum::extract::{Extension, State};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::Admin;
use super::access::Principal;
use super::problem::{Body, Problem};
use crate::explain::{self, Question};
use crate::now;

/// Files that are named as changed, at most; there may be a hundred thousand.
const CHANGED_SHOWN_MAX: usize = 10;

pub(super) async fn answer(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Body(question): Body<Question>,
) -> Result<Json<Value>, Problem> {
    principal.must_read()?;
    if !principal.is_for_all() {
        return Err(Problem::forbidden("this token is for one tenant: a decision may tell of others"));
    }
    let kept = admin.0.kept.load_full();
    let changed = spawn_blocking(move || kept.changed()).await.map_err(Problem::unreadable)?;
    let mut answer =
        explain::of_gateway(&question, &admin.0.node, &admin.0.commons, now()).map_err(Problem::malformed)?;
    let shown = changed.iter().take(CHANGED_SHOWN_MAX).map(|path| path.display().to_string());
    answer["not_taken_up"] = shown.collect();
    answer["not_taken_up_count"] = changed.len().into();
    Ok(Json(answer))
}
