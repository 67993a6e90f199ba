//! `/v1/tenants`: what is loaded.

use axum::Json;
use axum::extract::{Extension, State};
use policy::Sourced;
use serde_json::{Value, json};

use super::Admin;
use super::access::Principal;
use super::problem::{Named, Problem};
use crate::now;

/// `GET /v1/tenants`.
pub(super) async fn list(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    principal.must_read()?;
    let (snapshot, suspensions, now) = (admin.0.commons.snapshot(), admin.0.commons.suspensions(), now());
    let tenants = snapshot.tenants().iter().filter(|tenant| principal.is_for(&tenant.name)).map(|tenant| {
        json!({
            "name": tenant.name,
            "suspended": suspensions.tenant(&tenant.name, now).is_some(),
            "grants": tenant.grants.is_some(),
        })
    });
    Ok(Json(json!({ "tenants": tenants.collect::<Vec<_>>() })))
}

/// `GET /v1/tenants/{name}`.
pub(super) async fn show(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Named(name): Named,
) -> Result<Json<Value>, Problem> {
    principal.must_read()?;
    let snapshot = admin.0.commons.snapshot();
    // Another's tenant is answered as one that does not exist.
    let ix = principal.is_for(&name).then(|| snapshot.tenant_named(&name)).flatten();
    let Some(ix) = ix else {
        return Err(Problem::not_found(format!("there is no tenant {name:?}")));
    };
    let (tenant, now) = (snapshot.tenant(ix), now());
    let suspension = admin.0.commons.suspensions().tenant(&tenant.name, now);
    let grants = admin.0.commons.grants().list();
    let grants = grants.iter().filter(|grant| now < grant.until && *grant.tenant == *tenant.name).count();
    let source = snapshot.tenant_source(ix);
    let domains = source.relay_domains.iter().flat_map(|relay| &relay.domains);
    Ok(Json(json!({
        "name": tenant.name,
        "file": &*source.name.origin.file,
        "suspended": suspension.is_some(),
        "networks": source.networks.iter().map(|network| network.value).collect::<Vec<_>>(),
        "excluded_networks": source.excluded_networks.iter().map(|network| network.value).collect::<Vec<_>>(),
        "senders": texts(source.senders.iter()),
        "relay_domains": texts(domains),
        "logins": texts(source.identities.iter().map(|identity| &identity.login)),
        "grants": tenant.grants.as_ref().map(|terms| json!({
            "ttl_seconds": terms.ttl.as_secs(),
            "token": terms.token_sha256.is_some(),
            "in_force": grants,
        })),
        "limits": {
            "message_size": tenant.limits.message_bytes_max,
            "recipients_per_message": tenant.limits.recipients_max,
        },
    })))
}

fn texts<'a>(texts: impl Iterator<Item = &'a Sourced<String>>) -> Vec<&'a str> {
    texts.map(|text| text.value.as_str()).collect()
}
