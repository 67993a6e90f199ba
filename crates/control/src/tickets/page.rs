//! The pages of tickets: what a stranger may read of a denial, and a field to type a ticket in. No
//! script, nothing from elsewhere, in English or French; of the record they show the rules and the
//! remedy, and no address, login, list, tenant or file. A ticket that exists is always shown. They fail
//! towards the reader with a page too: 404, or 429 for a reader who asks for many that do not exist.

mod view;
mod visitor;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use commons::{Charged, Key, Rate, RateTable, machine};
use data_encoding::BASE64;
use mail::Ticket;
use maud::Markup;

use super::{PageOptions, Tickets};
use crate::door::Peer;
use view::View;
use visitor::{client, language, ticket_in};

/// Tickets that do not exist, of one address: more than a person mistypes.
const UNKNOWN: Rate = Rate { per: Duration::from_secs(60), amount: 20, burst: 20 };
/// Addresses that asked for one lately: 64 KiB.
const UNKNOWN_SLOTS: usize = 4096;

/// What every page says and needs.
struct Site {
    tickets: Arc<Tickets>,
    options: PageOptions,
    unknown: RateTable,
    policy: HeaderValue,
}

/// The pages, and nothing else.
pub(crate) fn router(options: PageOptions, tickets: Arc<Tickets>) -> Router {
    let style = BASE64.encode(digest(&SHA256, view::STYLE.as_bytes()).as_ref());
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'"
    );
    let site = Site {
        tickets,
        options,
        unknown: RateTable::new(UNKNOWN_SLOTS),
        policy: HeaderValue::from_str(&policy).expect("the policy is printable"),
    };
    Router::new().fallback(show).with_state(Arc::new(site))
}

async fn show(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let query =
        Query::<Vec<(String, String)>>::try_from_uri(&uri).map_or_else(|_| Vec::new(), |query| query.0);
    let asked = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let view = View { options: &site.options, language: language(asked("lang"), &headers) };
    if method != Method::GET && method != Method::HEAD {
        let mut response = site.respond(StatusCode::METHOD_NOT_ALLOWED, &view, &view.missing(""));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if let Some(typed) = asked("ticket") {
        return match ticket_in(typed) {
            // From here on the ticket stands in the address, where it can be kept and passed on.
            Some(ticket) => site.redirect(ticket, &view),
            None => site.respond(StatusCode::NOT_FOUND, &view, &view.missing(typed)),
        };
    }
    match uri.path() {
        "/" => site.respond(StatusCode::OK, &view, &view.home()),
        path => match ticket_in(path) {
            Some(ticket) => site.show(ticket, client(peer, &headers, &site.options.proxies), &view).await,
            None => site.respond(StatusCode::NOT_FOUND, &view, &view.missing("")),
        },
    }
}

/// Whom a ticket that does not exist is charged to; clients whose address is not known share one key.
fn guesser(client: Option<IpAddr>) -> Key {
    let address = client.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), machine);
    Key::of(Charged::Client { tenant: None, address })
}

impl Site {
    /// The page of a ticket, however many others asked from the same address; of one that does not exist, that it
    /// does not, until too many are asked for.
    async fn show(&self, ticket: Ticket, client: Option<IpAddr>, view: &View<'_>) -> Response {
        if let Some(record) = self.tickets.find(ticket).await {
            return self.respond(StatusCode::OK, view, &view.denial(&record, crate::now()));
        }
        match self.unknown.take(guesser(client), 1, &UNKNOWN, crate::now()) {
            Ok(()) => self.respond(StatusCode::NOT_FOUND, view, &view.missing(&ticket.to_string())),
            Err(_) => self.respond(StatusCode::TOO_MANY_REQUESTS, view, &view.too_many()),
        }
    }

    /// Relative, so that a proxy may serve the pages below any path.
    fn redirect(&self, ticket: Ticket, view: &View<'_>) -> Response {
        let place = format!("./{}?lang={}", ticket.compact(), view.language.tag());
        let place = HeaderValue::from_str(&place).expect("a ticket is letters and digits");
        let mut response = self.respond(StatusCode::SEE_OTHER, view, &view.home());
        response.headers_mut().insert(header::LOCATION, place);
        response
    }

    fn respond(&self, status: StatusCode, view: &View<'_>, content: &Markup) -> Response {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (header::CONTENT_LANGUAGE, HeaderValue::from_static(view.language.tag())),
            (header::CONTENT_SECURITY_POLICY, self.policy.clone()),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
            (header::VARY, HeaderValue::from_static("Accept-Language")),
            (header::HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex")),
        ];
        (status, headers, view.frame(content).into_string()).into_response()
    }
}
