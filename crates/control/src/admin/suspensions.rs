//! `/v1/suspensions`: who may send nothing for now, by a person's word or because the gateway
//! contained them. They outlive a restart: see [`super::keep`].

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use commons::{Subject, Suspension};
use config::parse_duration;
use mail::SuspensionCause;
use policy::Snapshot;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::access::Principal;
use super::names::{no_login, no_tenant};
use super::problem::{Asked, Body, Problem};
use crate::now;

/// Whom a request means: a login, a client address (of a tenant, or of none), or a whole tenant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Meant {
    tenant: Option<String>,
    login: Option<String>,
    client: Option<IpAddr>,
    /// For how long; until it is lifted where it is not said.
    #[serde(rename = "for")]
    duration: Option<String>,
}

impl Meant {
    /// The subject, if it is the principal's business and the configuration knows it.
    fn subject(&self, principal: &Principal, snapshot: &Snapshot) -> Result<Subject, Problem> {
        let tenant = self.tenant.as_deref();
        if let Some(name) = tenant
            && (snapshot.tenant_named(name).is_none() || !principal.is_for(name))
        {
            let names = snapshot.tenants().iter().map(|tenant| &*tenant.name);
            return Err(Problem::not_found(no_tenant(name, names.filter(|name| principal.is_for(name)))));
        }
        match (tenant, self.login.as_deref(), self.client) {
            (_, Some(_), Some(_)) => Err(Problem::malformed("name a login or a client, not both")),
            (_, Some(login), None) => {
                let owner = owner_of(login, snapshot);
                let fits = owner.is_some_and(|owner| {
                    principal.is_for(owner) && tenant.is_none_or(|tenant| tenant == owner)
                });
                // One that the configuration has lost may still be suspended, and so be lifted.
                if fits || owner.is_none() && principal.is_for_all() && tenant.is_none() {
                    return Ok(Subject::Login(login.into()));
                }
                Err(Problem::not_found(no_login(login, tenant, snapshot, principal)))
            }
            (tenant, None, Some(ip)) if tenant.is_some() || principal.is_for_all() => {
                Ok(Subject::Client { tenant: tenant.map(Into::into), ip: ip.to_canonical() })
            }
            (Some(tenant), None, None) if principal.is_for_all() => Ok(Subject::Tenant(tenant.into())),
            // Else a tenant would free itself of what the operator has decided.
            (Some(_), None, None) => Err(Problem::forbidden(
                "a whole tenant is suspended and freed by a token for all tenants only",
            )),
            _ => Err(Problem::malformed("say whom: tenant, login or client")),
        }
    }
}

/// `GET /v1/suspensions`.
pub(super) async fn list(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    principal.must_read()?;
    let (snapshot, now) = (admin.0.commons.snapshot(), now());
    let all = admin.0.commons.limits().suspensions().list(now);
    let shown = all.iter().filter(|(subject, _)| {
        principal.is_for_all() || tenant_of(subject, &snapshot).is_some_and(|tenant| principal.is_for(tenant))
    });
    let shown: Vec<_> = shown.map(|(subject, suspension)| as_json(subject, suspension, &snapshot)).collect();
    Ok(Json(json!({ "suspensions": shown })))
}

/// `POST /v1/suspensions`.
pub(super) async fn suspend(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Body(meant): Body<Meant>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    principal.must_change()?;
    let (snapshot, now) = (admin.0.commons.snapshot(), now());
    let duration = meant.duration.as_deref().map(parse_duration).transpose().map_err(Problem::malformed)?;
    let subject = meant.subject(&principal, &snapshot)?;
    if let Subject::Login(login) = &subject
        && owner_of(login, &snapshot).is_none()
    {
        return Err(Problem::not_found(no_login(login, None, &snapshot, &principal)));
    }
    let until = duration.map(|duration| now.plus(duration.as_millis() as u64));
    let suspension = Suspension { cause: SuspensionCause::Operator, since: now, until };
    let suspended = admin.0.commons.limits().suspensions().suspend(&subject, suspension);
    suspended.map_err(|full| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "table_full", full))?;
    admin.log_suspension("suspended", &subject, &principal);
    admin.keep_suspensions().await;
    Ok((StatusCode::CREATED, Json(as_json(&subject, &suspension, &snapshot))))
}

/// `DELETE /v1/suspensions`.
pub(super) async fn lift(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Asked(meant): Asked<Meant>,
) -> Result<Json<Value>, Problem> {
    principal.must_change()?;
    let subject = meant.subject(&principal, &admin.0.commons.snapshot())?;
    let lifted = admin.0.commons.limits().suspensions().lift(&subject);
    if lifted {
        admin.log_suspension("resumed", &subject, &principal);
        admin.keep_suspensions().await;
    }
    Ok(Json(json!({ "lifted": lifted })))
}

/// The tenant that a suspension concerns, where the configuration knows it.
fn tenant_of<'a>(subject: &'a Subject, snapshot: &'a Snapshot) -> Option<&'a str> {
    match subject {
        Subject::Tenant(name) => Some(name),
        Subject::Client { tenant, .. } => tenant.as_deref(),
        Subject::Login(login) => owner_of(login, snapshot),
    }
}

fn owner_of<'a>(login: &str, snapshot: &'a Snapshot) -> Option<&'a str> {
    let identity = snapshot.identity(login)?;
    Some(&snapshot.tenant(snapshot.identity_tenant(identity)).name)
}

fn as_json(subject: &Subject, suspension: &Suspension, snapshot: &Snapshot) -> Value {
    let (login, client) = match subject {
        Subject::Tenant(_) => (None, None),
        Subject::Login(login) => (Some(login), None),
        Subject::Client { ip, .. } => (None, Some(ip)),
    };
    json!({
        "tenant": tenant_of(subject, snapshot),
        "login": login,
        "client": client,
        "cause": suspension.cause.as_str(),
        "since": suspension.since.rfc3339().to_string(),
        "until": suspension.until.map(|until| until.rfc3339().to_string()),
    })
}

impl Admin {
    fn log_suspension(&self, event: &str, subject: &Subject, principal: &Principal) {
        let snapshot = self.0.commons.snapshot();
        self.log(|log, now| {
            let record =
                log.event(event, now).str("tenant", tenant_of(subject, &snapshot).unwrap_or_default());
            let record = match subject {
                Subject::Tenant(_) => record,
                Subject::Login(login) => record.str("login", login),
                Subject::Client { ip, .. } => record.ip("client", *ip),
            };
            record.str("cause", SuspensionCause::Operator.as_str()).str("by", &principal.name).end();
        });
    }
}
