use std::fmt::Display;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

/// A request that is not granted: a sentence for people, and a word that keeps its meaning.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    reason: &'static str,
    error: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, reason: &'static str, error: impl Display) -> Self {
        Self { status, reason, error: error.to_string() }
    }

    pub(super) fn unauthorized() -> Self {
        let remedy = "send a token of the tokens file as \"Authorization: Bearer ...\"";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", remedy)
    }

    pub(super) fn forbidden(what: impl Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", what)
    }

    pub(super) fn malformed(error: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", error)
    }

    pub(super) fn not_found(what: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
    }

    pub(super) fn not_now(why: impl Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_now", why)
    }

    pub(super) fn unreadable(error: impl Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "unreadable", error)
    }

    pub(super) fn no_such_path() -> Self {
        Self::not_found("there is no such path; the first are /v1/status, /v1/tenants and /v1/grants")
    }

    pub(super) fn no_such_method() -> Self {
        let error = "the path has no such method; GET looks, POST and DELETE change";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", error)
    }

    pub(super) fn timed_out() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timed_out", "the request did not come in time")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.error, "reason": self.reason }));
        if self.status == StatusCode::UNAUTHORIZED {
            return (self.status, [(header::WWW_AUTHENTICATE, "Bearer")], body).into_response();
        }
        (self.status, body).into_response()
    }
}

/// A body in JSON, whatever its content type says; what is wrong with it is a [`Problem`].
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(Problem::malformed)?;
        serde_json::from_slice(&bytes).map(Self).map_err(Problem::malformed)
    }
}

/// A query, of which what is wrong is a [`Problem`] too.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(asked)| Self(asked)).map_err(Problem::malformed)
    }
}

/// The last word of the path, of which what is wrong is a [`Problem`] too.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(word)| Self(word)).map_err(Problem::malformed)
    }
}
