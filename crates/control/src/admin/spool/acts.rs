//! `POST /v1/spool/{act}`: hold, release, retry, bounce, remove.

use axum::Json;
use axum::extract::{Extension, State};
use commons::{QueueAct, QueueActed, QueueAnswer, QueueTask};
use observe::Word;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Admin;
use super::super::access::Principal;
use super::super::problem::{Body, Named, Problem};
use super::filter::Filter;
use super::look::{Cursor, Seen};
use crate::events::QueueOrdered;

/// Messages acted on by one request: a page of them.
const ACT_MESSAGES_MAX: usize = 200;

/// Characters of what the sender of a bounced message is told.
const REASON_CHARS_MAX: usize = 400;

const REASON_DEFAULT: &str = "the message was removed from the queue by an operator";

/// Which messages, and what of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Order {
    id: Option<String>,
    tenant: Option<String>,
    login: Option<String>,
    sender: Option<String>,
    domain: Option<String>,
    older_than: Option<String>,
    state: Option<String>,
    /// A filter that says nothing means every message, where this is said.
    #[serde(default)]
    all: bool,
    /// Count, and do nothing.
    #[serde(default)]
    dry_run: bool,
    /// What a bounce says.
    reason: Option<String>,
    /// Where the request before this one ended.
    cursor: Option<String>,
}

/// `POST /v1/spool/{act}`.
pub(in super::super) async fn act(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Named(word): Named,
    Body(order): Body<Order>,
) -> Result<Json<Value>, Problem> {
    principal.must_change()?;
    let act = order.act(&word)?;
    let (seen, next, unknown) = order.selected(&admin, &principal).await?;
    let mut acted = QueueActed::default();
    if !order.dry_run {
        for worker in 0..admin.0.commons.workers() as u8 {
            let messages: Box<[_]> = seen
                .iter()
                .filter(|seen| seen.worker == worker)
                .filter_map(|seen| Some((seen.queued.as_ref()?.slot, seen.id())))
                .collect();
            if !messages.is_empty() {
                let task = QueueTask::Act { act: act.clone(), messages, by: principal.name.clone() };
                add(&mut acted, admin.ask(worker, task).await?);
            }
        }
        admin.log_order(&act, &order, &principal, &acted);
    }
    if let Some(failure) = &acted.failure {
        return Err(Problem::not_now(failure));
    }
    Ok(Json(json!({
        "selected": seen.iter().filter(|seen| seen.queued.is_some()).count(),
        "damaged": seen.iter().filter(|seen| seen.queued.is_none()).count(),
        "done": acted.done,
        "unchanged": acted.unchanged,
        "under_way": acted.under_way,
        "dry_run": order.dry_run,
        "next": next.map(|next| next.to_string()),
        "unknown": unknown,
    })))
}

impl Order {
    fn filter(&self) -> Filter {
        Filter {
            id: self.id.clone(),
            tenant: self.tenant.clone(),
            login: self.login.clone(),
            sender: self.sender.clone(),
            domain: self.domain.clone(),
            older_than: self.older_than.clone(),
            state: self.state.clone(),
        }
    }

    fn act(&self, word: &str) -> Result<QueueAct, Problem> {
        let reason = self.reason.as_deref().unwrap_or(REASON_DEFAULT);
        if self.reason.is_some() && word != "bounce" {
            return Err(Problem::malformed("a reason is for a bounce"));
        }
        if reason.chars().count() > REASON_CHARS_MAX || reason.chars().any(char::is_control) {
            let error = format!("a reason is one line of at most {REASON_CHARS_MAX} characters");
            return Err(Problem::malformed(error));
        }
        match word {
            "hold" => Ok(QueueAct::Hold),
            "release" => Ok(QueueAct::Release),
            "retry" => Ok(QueueAct::Retry),
            "bounce" => Ok(QueueAct::Bounce(reason.into())),
            "remove" if self.id.is_none() => {
                Err(Problem::malformed("a quarantined message is removed by its id, and by nothing less"))
            }
            "remove" => Ok(QueueAct::Remove),
            _ => {
                let acts = "hold, release, retry, bounce or remove";
                Err(Problem::not_found(format!("there is no {word:?}; {acts}")))
            }
        }
    }

    async fn selected(
        &self,
        admin: &Admin,
        principal: &Principal,
    ) -> Result<(Vec<Seen>, Option<Cursor>, Option<String>), Problem> {
        let filter = self.filter();
        if filter.is_empty() && !self.all {
            return Err(Problem::malformed("say which messages: by id, by a filter, or \"all\": true"));
        }
        let wanted = filter.understood(principal)?;
        let (seen, next) =
            admin.look(&wanted, Cursor::parse(self.cursor.as_deref())?, ACT_MESSAGES_MAX).await?;
        let is_nothing = seen.is_empty() && next.is_none() && self.cursor.is_none();
        let unknown = admin.unknown(&wanted, principal, is_nothing).await?;
        match wanted.id {
            Some(id) if seen.is_empty() => {
                Err(Problem::not_found(format!("message {id} is queued, but is not such a message")))
            }
            _ => Ok((seen, next, unknown)),
        }
    }
}

fn add(sum: &mut QueueActed, answer: QueueAnswer) {
    let QueueAnswer::Acted(acted) = answer else { unreachable!("an act was asked for") };
    sum.done += acted.done;
    sum.unchanged += acted.unchanged;
    sum.under_way += acted.under_way;
    sum.failure = sum.failure.take().or(acted.failure);
}

impl Admin {
    fn log_order(&self, act: &QueueAct, order: &Order, principal: &Principal, acted: &QueueActed) {
        let words = order.filter().words();
        let ordered = QueueOrdered {
            act: Word(act.as_str()),
            by: &principal.name,
            selection: if words.is_empty() { "all" } else { &words },
            reason: match act {
                QueueAct::Bounce(reason) => Some(&**reason),
                _ => None,
            },
            done: acted.done,
            unchanged: acted.unchanged,
            under_way: acted.under_way,
            failure: acted.failure.as_deref(),
        };
        self.log(|log, now| log.record(&ordered, now));
    }
}
