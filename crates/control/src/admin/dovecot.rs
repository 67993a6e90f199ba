//! Dovecot's auth-policy server: it reports every login of a mailbox, and gets no say in it.
//!
//! Dovecot posts JSON to `auth_policy_server_url` with `command=allow` before and after a login is
//! checked and `command=report` when it is over
//! (<https://doc.dovecot.org/configuration_manual/authentication/auth_policy/>). Whatever comes, the
//! answer is that the login may go on: a grant that is not given is no reason to keep a person from
//! her mailbox.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Extension, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::access::Principal;
use super::grants::Request;
use super::problem::{Asked, Body, Problem};

/// The query of the URL.
#[derive(Deserialize)]
pub(super) struct Command {
    #[serde(default)]
    command: String,
}

/// What is read of a report; Dovecot sends more, and people add to it.
#[derive(Deserialize)]
pub(super) struct Report {
    #[serde(default)]
    login: String,
    #[serde(default)]
    remote: String,
    #[serde(default)]
    protocol: String,
    #[serde(default)]
    success: bool,
    #[serde(default)]
    policy_reject: bool,
}

/// `POST /v1/grants/dovecot?command=allow|report`.
pub(super) async fn policy(
    State(admin): State<Admin>,
    Extension(principal): Extension<Principal>,
    Asked(command): Asked<Command>,
    Body(report): Body<Report>,
) -> Result<Json<Value>, Problem> {
    principal.must_report()?;
    let is_login = command.command == "report" && report.success && !report.policy_reject;
    let is_mailbox = matches!(report.protocol.as_str(), "imap" | "pop3");
    if is_login && is_mailbox {
        // An address that Dovecot does not know (a unix socket, webmail on the same host) is no client's.
        let address = report.remote.parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let request = Request { address, login: &report.login, ttl: None };
        // Its refusal is in the log and the metrics: Dovecot would only pass it on to the wrong person.
        let _ = admin.open_grant(&principal, &request);
    }
    Ok(Json(json!({ "status": 0, "msg": "" })))
}
