//! Who may do what: a principal for every request, known by the door it came through or by its token.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use config::{AdminRole, AdminToken, TokenDigest};
use policy::Snapshot;
use tokio::time::{sleep, timeout};

use super::Admin;
use super::problem::Problem;
use crate::door::Peer;
use crate::events::AdminUnauthorized;
use crate::now;

/// A request must be read and answered within this.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// How long a wrong token waits for its answer. A connection guesses at most four a second, of the
/// connections that there are; 2^256 tokens take longer.
const WRONG_TOKEN_DELAY: Duration = Duration::from_millis(250);

/// Wrong tokens are logged once in this time, with their number: a scan fills no disk.
const WRONG_TOKEN_LOG_MILLIS: u64 = 1000;

/// The way that a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The unix socket: a peer that can open it is the gateway's own user.
    Socket,
    /// TCP, where only tokens count.
    Network,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    /// What the log calls it.
    pub(super) name: Box<str>,
    right: Right,
    /// The tenant that it is for, by name; `None` for all.
    pub(super) tenant: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Report mailbox logins, and nothing else.
    Report,
    Read,
    Admin,
}

impl Principal {
    fn local(peer: Peer) -> Self {
        let name = match peer {
            Peer::User(Some(user)) => format!("uid {user}").into(),
            Peer::User(None) | Peer::Address(_) => "socket".into(),
        };
        Self { name, right: Right::Admin, tenant: None }
    }

    /// Whether it may look at what belongs to all tenants, or to its own.
    pub(super) fn must_read(&self) -> Result<(), Problem> {
        match self.right {
            Right::Read | Right::Admin => Ok(()),
            Right::Report => {
                Err(Problem::forbidden("this token reports mailbox logins and does nothing else"))
            }
        }
    }

    /// Whether it may change things.
    pub(super) fn must_change(&self) -> Result<(), Problem> {
        self.must_read()?;
        match self.right {
            Right::Admin => Ok(()),
            _ => Err(Problem::forbidden("this token may only look: its role is \"read\"")),
        }
    }

    /// Whether it may report logins.
    pub(super) fn must_report(&self) -> Result<(), Problem> {
        match self.right {
            Right::Report | Right::Admin => Ok(()),
            Right::Read => Err(Problem::forbidden("this token may only look: its role is \"read\"")),
        }
    }

    /// Whether what belongs to `tenant` is its business.
    pub(super) fn is_for(&self, tenant: &str) -> bool {
        self.tenant.as_deref().is_none_or(|own| own == tenant)
    }

    /// Whether it is for the node as a whole.
    pub(super) fn is_for_all(&self) -> bool {
        self.tenant.is_none()
    }
}

/// Every token that opens something, by the front of its digest. What the time of a look-up tells is
/// of a digest, from which no way leads back to a token; the digests themselves are compared in
/// constant time.
#[derive(Default)]
pub(super) struct Access {
    tokens: HashMap<u64, Vec<(TokenDigest, Principal)>>,
    wrong: AtomicU64,
    wrong_logged: AtomicU64,
}

impl Access {
    pub(super) fn new(tokens: &[AdminToken], snapshot: &Snapshot) -> Self {
        let mut access = Self::default();
        for token in tokens {
            let right = match token.role {
                AdminRole::Read => Right::Read,
                AdminRole::Admin => Right::Admin,
            };
            let principal = Principal { name: token.name.clone(), right, tenant: token.tenant.clone() };
            access.add(token.digest, principal);
        }
        for tenant in snapshot.tenants() {
            let Some(digest) = tenant.grants.as_ref().and_then(|terms| terms.token_sha256) else { continue };
            let name = format!("grants of {}", tenant.name).into();
            let tenant = Some(tenant.name.clone());
            access.add(digest.into(), Principal { name, right: Right::Report, tenant });
        }
        access
    }

    fn add(&mut self, digest: TokenDigest, principal: Principal) {
        self.tokens.entry(front(digest)).or_default().push((digest, principal));
    }

    fn principal(&self, headers: &HeaderMap) -> Option<&Principal> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let digest = TokenDigest::of(token.trim());
        let candidates = self.tokens.get(&front(digest))?;
        candidates.iter().find(|(known, _)| known.is(&digest)).map(|(_, principal)| principal)
    }
}

fn front(digest: TokenDigest) -> u64 {
    let bytes: [u8; 32] = digest.into();
    let (front, _) = bytes.split_first_chunk().expect("a digest is longer than eight bytes");
    u64::from_le_bytes(*front)
}

/// Lets a request in, with its [`Principal`], or answers it.
pub(super) async fn admit(
    State((admin, door)): State<(Admin, Door)>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let principal = match door {
        Door::Socket => Principal::local(peer),
        Door::Network => match admin.0.terms.load().access.principal(request.headers()) {
            Some(principal) => principal.clone(),
            None => {
                admin.count_wrong_token(peer);
                sleep(WRONG_TOKEN_DELAY).await;
                return Problem::unauthorized().into_response();
            }
        },
    };
    request.extensions_mut().insert(principal);
    match timeout(REQUEST_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timed_out().into_response(),
    }
}

impl Admin {
    fn count_wrong_token(&self, peer: Peer) {
        self.0.registry.admin().unauthorized();
        let terms = self.0.terms.load();
        let access = &terms.access;
        access.wrong.fetch_add(1, Ordering::Relaxed);
        let logged = access.wrong_logged.load(Ordering::Relaxed);
        if now().0.saturating_sub(logged) < WRONG_TOKEN_LOG_MILLIS {
            return;
        }
        access.wrong_logged.store(now().0, Ordering::Relaxed);
        let requests = access.wrong.swap(0, Ordering::Relaxed);
        let client = match peer {
            Peer::Address(peer) => Some(peer),
            Peer::User(_) => None,
        };
        self.log(|log, now| log.record(&AdminUnauthorized { requests, client }, now));
    }
}
