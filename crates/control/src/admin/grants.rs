//! `/v1/grants`: permissions to relay that mailbox logins open (DESIGN.md A2).

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use commons::{GRANTS_MAX, GRANTS_PER_ADDRESS_MAX, Grant, NoRoom};
use config::parse_duration;
use ipnet::IpNet;
use mail::UnixMillis;
use policy::{Reach, Snapshot};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Principal;
use super::problem::{Asked, Body, Problem};
use super::{Admin, Terms};
use crate::now;

/// A mailbox login that asks for a grant.
pub(super) struct Request<'a> {
    pub(super) address: IpAddr,
    pub(super) login: &'a str,
    /// Shorter than the tenant's, where it is.
    pub(super) ttl: Option<Duration>,
}

/// Why a login opens no grant. The mailbox is open all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    UnknownLogin,
    NotEnabled,
    Suspended,
    Loopback,
    Private,
    NotPublic,
    Carrier,
    Proxy,
    Shared,
    AddressFull,
    TableFull,
}

impl Refusal {
    /// The word for it in log, metric and reply.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::UnknownLogin => "unknown_login",
            Self::NotEnabled => "not_enabled",
            Self::Suspended => "suspended",
            Self::Loopback => "loopback_address",
            Self::Private => "private_address",
            Self::NotPublic => "no_public_address",
            Self::Carrier => "carrier_address",
            Self::Proxy => "proxy_address",
            Self::Shared => "shared_address",
            Self::AddressFull => "address_full",
            Self::TableFull => "table_full",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownLogin => f.write_str(
                "no identity of this tenant has this login: it must be written as in the tenant file",
            ),
            Self::NotEnabled => f.write_str("the tenant takes part in no grants: add [grants] to its file"),
            Self::Suspended => f.write_str("the identity or its tenant is suspended"),
            Self::Loopback => f.write_str("a loopback address is that of everyone on the host"),
            Self::Private => f.write_str("a private or link-local address says nothing about who uses it"),
            Self::NotPublic => f.write_str("this is no address of one client"),
            Self::Carrier => f.write_str("carriers share 100.64.0.0/10 among their customers"),
            Self::Proxy => f.write_str("everyone is behind the address of a listed proxy"),
            Self::Shared => f.write_str("the address is listed as shared in [grants] of the node"),
            Self::AddressFull => write!(
                f,
                "{GRANTS_PER_ADDRESS_MAX} identities have a grant for this address, which is the most: \
                 list it as shared in [grants] of the node"
            ),
            Self::TableFull => {
                write!(f, "there are {GRANTS_MAX} grants, which is the most: wait until some end")
            }
        }
    }
}

/// A grant that was given.
pub(super) struct Opened {
    grant: Grant,
    renewed: bool,
}

/// What `POST /v1/grants` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Posted {
    address: IpAddr,
    login: String,
    ttl: Option<String>,
}

/// `POST /v1/grants`.
pub(super) async fn open(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Body(posted): Body<Posted>,
) -> Result<Response, Problem> {
    principal.must_report()?;
    let ttl = posted.ttl.as_deref().map(parse_duration).transpose().map_err(Problem::malformed)?;
    if ttl.is_some_and(|ttl| ttl.is_zero()) {
        return Err(Problem::malformed("a grant of no time at all; leave ttl out for the tenant's own"));
    }
    let request = Request { address: posted.address, login: &posted.login, ttl };
    match admin.open_grant(&principal, &request) {
        Ok(Opened { grant, renewed }) => {
            let status = if renewed { StatusCode::OK } else { StatusCode::CREATED };
            Ok((status, Json(as_json(&grant, now()))).into_response())
        }
        Err(refusal) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, refusal.as_str(), refusal)),
    }
}

/// Which grants are meant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    address: Option<IpAddr>,
    login: Option<String>,
    tenant: Option<String>,
}

impl Filter {
    fn means(&self, grant: &Grant) -> bool {
        self.address.is_none_or(|address| grant.address == address.to_canonical())
            && self.login.as_ref().is_none_or(|login| grant.login.eq_ignore_ascii_case(login))
            && self.tenant.as_ref().is_none_or(|tenant| *grant.tenant == **tenant)
    }
}

/// `GET /v1/grants`, perhaps of one address, login or tenant.
pub(super) async fn list(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Asked(filter): Asked<Filter>,
) -> Result<Json<Value>, Problem> {
    principal.must_read()?;
    let now = now();
    let grants = admin
        .0
        .commons
        .limits()
        .grants()
        .list()
        .into_iter()
        .filter(|grant| now < grant.until && principal.is_for(&grant.tenant) && filter.means(grant));
    let grants: Vec<_> = grants.map(|grant| as_json(&grant, now)).collect();
    Ok(Json(json!({ "grants": grants })))
}

/// `DELETE /v1/grants`: of one address, login or tenant, or of what several of them name together.
pub(super) async fn revoke(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Asked(filter): Asked<Filter>,
) -> Result<Json<Value>, Problem> {
    principal.must_change()?;
    let is_meant = |grant: &Grant| principal.is_for(&grant.tenant) && filter.means(grant);
    let grants = admin.0.commons.limits().grants();
    let revoked = match (&filter.address, &filter.login, &filter.tenant) {
        (None, None, None) => {
            return Err(Problem::malformed("say which: address, login or tenant, or several of them"));
        }
        _ => grants.end_where(is_meant),
    };
    let now = now();
    admin.show_grants();
    admin.log(|log, now| {
        for grant in &revoked {
            log.event("grant_revoked", now)
                .str("tenant", &grant.tenant)
                .str("login", &grant.login)
                .ip("client", grant.address)
                .str("by", &principal.name)
                .end();
        }
    });
    let revoked: Vec<_> = revoked.iter().map(|grant| as_json(grant, now)).collect();
    Ok(Json(json!({ "revoked": revoked })))
}

/// One grant, for a machine.
pub(super) fn as_json(grant: &Grant, now: UnixMillis) -> Value {
    json!({
        "address": grant.address,
        "login": &*grant.login,
        "tenant": &*grant.tenant,
        "opened": grant.opened.rfc3339().to_string(),
        "until": grant.until.rfc3339().to_string(),
        "seconds_left": grant.until.since(now).div_ceil(1000),
    })
}

impl Admin {
    /// Opens or renews a grant for a login that its mailbox server has just accepted.
    pub(super) fn open_grant(&self, principal: &Principal, request: &Request<'_>) -> Result<Opened, Refusal> {
        let outcome = self.try_open(principal, request);
        let metrics = self.0.registry.admin();
        match &outcome {
            Ok(_) => metrics.grant_opened(),
            Err(refusal) => metrics.grant_refused(refusal.as_str()),
        }
        self.show_grants();
        self.log(|log, now| match &outcome {
            Ok(Opened { grant, renewed }) => log
                .event("grant_opened", now)
                .str("tenant", &grant.tenant)
                .str("login", &grant.login)
                .ip("client", grant.address)
                .number("seconds", grant.until.since(grant.opened) / 1000)
                .bool("renewed", *renewed)
                .str("by", &principal.name)
                .end(),
            Err(refusal) => log
                .event("grant_refused", now)
                .str("login", request.login)
                .ip("client", request.address)
                .str("reason", refusal.as_str())
                .str("by", &principal.name)
                .end(),
        });
        outcome
    }

    fn try_open(&self, principal: &Principal, request: &Request<'_>) -> Result<Opened, Refusal> {
        let (snapshot, now) = (self.0.commons.snapshot(), now());
        let address = request.address.to_canonical();
        // A login of another tenant is answered as one that does not exist: a token learns of its tenant's only.
        let identity = snapshot.identity(request.login).ok_or(Refusal::UnknownLogin)?;
        let tenant = snapshot.tenant(snapshot.identity_tenant(identity));
        if !principal.is_for(&tenant.name) {
            return Err(Refusal::UnknownLogin);
        }
        let terms = tenant.grants.as_ref().ok_or(Refusal::NotEnabled)?;
        may_have_grants(address, &self.0.terms.load())?;
        let login = snapshot.identity_login(identity);
        let suspensions = self.0.commons.limits().suspensions();
        if suspensions.login(login, now).is_some() || suspensions.tenant(&tenant.name, now).is_some() {
            return Err(Refusal::Suspended);
        }
        let ttl = request.ttl.map_or(terms.ttl, |ttl| ttl.min(terms.ttl));
        let grant = Grant {
            address,
            tenant: (&*tenant.name).into(),
            login: login.into(),
            opened: now,
            until: now.plus(ttl.as_millis() as u64),
        };
        let grants = self.0.commons.limits().grants();
        let held = grants.of(address, now, &snapshot);
        let renewed = held.as_slice().contains(&identity);
        grants.open(grant.clone()).map_err(|no_room| match no_room {
            NoRoom::Table => Refusal::TableFull,
            NoRoom::Address => Refusal::AddressFull,
        })?;
        Ok(Opened { grant, renewed })
    }

    /// Ends what is over, so that it takes no room; that it opens nothing is decided at each use.
    pub(super) fn end_expired(&self) {
        let now = now();
        if !self.0.commons.limits().grants().end_where(|grant| grant.until <= now).is_empty() {
            self.show_grants();
        }
    }

    /// Ends the grants of logins that the configuration no longer has, and of addresses that it now
    /// gives none: should one come back, it must log in again.
    pub(super) fn end_orphans(&self, snapshot: &Snapshot) {
        let terms = self.0.terms.load();
        let is_orphan = |grant: &Grant| {
            if may_have_grants(grant.address, &terms).is_err() {
                return true;
            }
            let identity = snapshot.identity(&grant.login);
            let tenant = identity.map(|identity| snapshot.tenant(snapshot.identity_tenant(identity)));
            tenant.is_none_or(|tenant| *tenant.name != *grant.tenant || tenant.grants.is_none())
        };
        let ended = self.0.commons.limits().grants().end_where(is_orphan);
        self.show_grants();
        self.log(|log, now| {
            for grant in &ended {
                log.event("grant_revoked", now)
                    .str("tenant", &grant.tenant)
                    .str("login", &grant.login)
                    .ip("client", grant.address)
                    .str("by", "reload")
                    .end();
            }
        });
    }

    fn show_grants(&self) {
        self.0.registry.admin().set_grants(self.0.commons.limits().grants().len());
    }
}

/// Whether an address may open anything: it must be that of one client, as far as anyone can tell
/// (DESIGN.md A2, F1). An excluded range makes strangers, and strangers may log in to their
/// mailboxes.
fn may_have_grants(address: IpAddr, terms: &Terms) -> Result<(), Refusal> {
    match Reach::of(address) {
        Reach::Public => {}
        Reach::Loopback => return Err(Refusal::Loopback),
        Reach::Private => return Err(Refusal::Private),
        Reach::Carrier => return Err(Refusal::Carrier),
        Reach::Nowhere => return Err(Refusal::NotPublic),
    }
    let is_in = |list: &[IpNet]| list.iter().any(|net| net.contains(&address));
    if is_in(&terms.proxies) {
        return Err(Refusal::Proxy);
    }
    if is_in(&terms.shared) {
        return Err(Refusal::Shared);
    }
    Ok(())
}
