//! `/v1/tenants`: what is loaded.

use axum::Json;
use axum::extract::{Extension, State};
use mail::limits::SessionLimits;
use policy::{Allowance, Limits, Sourced, Threshold, Whom};
use serde_json::{Value, json};

use super::Admin;
use super::access::Principal;
use super::names::no_tenant;
use super::problem::{Named, Problem};
use crate::now;

/// `GET /v1/tenants`.
pub(super) async fn list(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    principal.must_read()?;
    let (snapshot, suspensions, now) =
        (admin.0.commons.snapshot(), admin.0.commons.limits().suspensions(), now());
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
        let names = snapshot.tenants().iter().map(|tenant| &*tenant.name);
        return Err(Problem::not_found(no_tenant(&name, names.filter(|name| principal.is_for(name)))));
    };
    let (tenant, now) = (snapshot.tenant(ix), now());
    let suspension = admin.0.commons.limits().suspensions().tenant(&tenant.name, now);
    let grants = admin.0.commons.limits().grants().list();
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
        "limits": limits(&tenant.limits, &admin.0.node.clients.sessions),
    })))
}

/// Every limit in force, by the key that sets it; `null` where there is none. Where the tenant writes none of
/// its own, the node's or the usual one stands, and its key is among `"defaults"`.
fn limits(limits: &Limits, node: &SessionLimits) -> Value {
    let mut shown = allowance(limits.allowance(Whom::Tenant));
    let mut defaults = vec!["session_errors", "session_idle_commands"];
    if limits.recipients_max.is_none() {
        defaults.push("recipients_per_message");
    }
    shown["message_size"] = json!(limits.message_bytes_max);
    shown["recipients_per_message"] = limits.recipients_max.unwrap_or(node.recipients_max).into();
    shown["session_errors"] = node.errors_max.into();
    shown["session_idle_commands"] = node.idle_commands_max.into();
    for (key, whom) in [("identity", Whom::Identity), ("network", Whom::Network), ("client", Whom::Client)] {
        if !limits.allowance(whom).is_empty() {
            shown[key] = allowance(limits.allowance(whom));
        }
    }
    if let Some(containment) = &limits.containment {
        let threshold = |threshold: &Option<Threshold>| {
            threshold.map(
                |Threshold { count, within }| json!({ "count": count, "within_seconds": within.as_secs() }),
            )
        };
        shown["containment"] = json!({
            "denials": threshold(&containment.denials),
            "bounces": threshold(&containment.bounces),
            "failed_logins": threshold(&containment.failed_logins),
            "suspend_for_seconds": containment.suspend_for.as_secs(),
        });
    }
    shown["defaults"] = json!(defaults);
    shown
}

fn allowance(allowance: &Allowance) -> Value {
    let mut shown = json!({ "connections": allowance.connections_max });
    for limit in &allowance.rates {
        shown[format!("{}_per_{}", limit.of.as_str(), limit.per.as_str())] = limit.amount.into();
    }
    shown
}

fn texts<'a>(texts: impl Iterator<Item = &'a Sourced<String>>) -> Vec<&'a str> {
    texts.map(|text| text.value.as_str()).collect()
}
