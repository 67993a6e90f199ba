//! The page of a ticket: what a stranger may read of a denial. One page, no script, nothing from
//! elsewhere, in English or French; of the record it shows the rules and the remedy, and no address,
//! login, list, tenant or file. It fails towards the reader with a page too: 404, or 429 for
//! whoever asks for many tickets that do not exist.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use commons::{Rate, RateTable};
use data_encoding::BASE64;
use mail::{Reason, Ticket};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::record::Record;
use super::texts::{self, Language, Text};
use super::{PageOptions, Tickets};

/// Tickets that do not exist, of one address: more than a person mistypes.
const UNKNOWN: Rate = Rate { per: Duration::from_secs(60), amount: 20, burst: 20 };
/// Addresses that asked for one lately: 64 KiB.
const UNKNOWN_SLOTS: usize = 4096;

const STYLE: &str = include_str!("page.css");

/// What every page says and needs.
struct Site {
    tickets: Arc<Tickets>,
    options: PageOptions,
    unknown: RateTable,
    policy: HeaderValue,
}

/// The pages, and nothing else.
pub(crate) fn router(options: PageOptions, tickets: Arc<Tickets>) -> Router {
    let style = BASE64.encode(digest(&SHA256, STYLE.as_bytes()).as_ref());
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let seed = RandomState::new();
    let site = Site {
        tickets,
        options,
        unknown: RateTable::new(UNKNOWN_SLOTS, [seed.hash_one(0), seed.hash_one(1)]),
        policy: HeaderValue::from_str(&policy).expect("the policy is printable"),
    };
    Router::new().fallback(show).with_state(Arc::new(site))
}

async fn show(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let asked = uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("lang="));
    let language = language(asked, &headers);
    let ticket = uri.path().strip_prefix('/').and_then(|text| text.parse::<Ticket>().ok());
    // Whoever has tried too many costs no look-up.
    if let Some(ticket) = ticket
        && site.may_ask(peer.ip())
        && let Some(record) = site.tickets.find(ticket).await
    {
        let body = site.frame(language, ticket.compact(), &site.denial(&record, language));
        return site.respond(StatusCode::OK, language, body);
    }
    site.unknown(peer.ip(), language)
}

/// As asked for by name, else the one that the reader's program prefers (RFC 9110 section 12.5.4), else English.
fn language(asked: Option<&str>, headers: &HeaderMap) -> Language {
    if let Some(language) = asked.and_then(Language::of_tag) {
        return language;
    }
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let mut best = (Language::English, 0.0);
    for range in accepted.unwrap_or_default().split(',') {
        let mut parts = range.split(';').map(str::trim);
        let Some(language) = parts.next().and_then(Language::of_tag) else { continue };
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
        if let Ok(weight) = weight
            && weight > best.1
        {
            best = (language, weight);
        }
    }
    best.0
}

impl Site {
    fn may_ask(&self, peer: IpAddr) -> bool {
        let key = self.unknown.key(&peer.to_canonical());
        self.unknown.peek(key, 1, &UNKNOWN, crate::now()).is_ok()
    }

    fn unknown(&self, peer: IpAddr, language: Language) -> Response {
        let key = self.unknown.key(&peer.to_canonical());
        let status = match self.unknown.take(key, 1, &UNKNOWN, crate::now()) {
            Ok(()) => StatusCode::NOT_FOUND,
            Err(_) => StatusCode::TOO_MANY_REQUESTS,
        };
        let (said, why) = match status {
            StatusCode::NOT_FOUND => (texts::MISSING, texts::MISSING_WHY),
            _ => (texts::TOO_MANY, texts::TOO_MANY_WHY),
        };
        let content = html! {
            h1 { (said.say(language)) }
            p.lead { (why.say(language)) }
            (self.contact(language))
        };
        self.respond(status, language, self.frame(language, "", &content))
    }

    fn respond(&self, status: StatusCode, language: Language, body: Markup) -> Response {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag())),
            (header::CONTENT_SECURITY_POLICY, self.policy.clone()),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
            (header::VARY, HeaderValue::from_static("Accept-Language")),
            (header::HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex")),
        ];
        (status, headers, body.into_string()).into_response()
    }

    /// The page around `content`; `path` is where it stands.
    fn frame(&self, language: Language, path: impl std::fmt::Display, content: &Markup) -> Markup {
        let (other, other_name) = match language {
            Language::English => (Language::French, "Français"),
            Language::French => (Language::English, "English"),
        };
        let (tag, other_tag) = (language.tag(), other.tag());
        html! {
            (DOCTYPE)
            html lang=(tag) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="robots" content="noindex";
                    title { (texts::TITLE.say(language)) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        header {
                            span { (self.options.hostname) }
                            a href={ "/" (path) "?lang=" (other_tag) } lang=(other_tag) hreflang=(other_tag) rel="nofollow" {
                                (other_name)
                            }
                        }
                        (content)
                    }
                }
            }
        }
    }

    fn denial(&self, record: &Record, language: Language) -> Markup {
        let about = texts::about_word(&record.reason).unwrap_or(texts::about(Reason::RelayNotPermitted));
        let is_temporary = record.verdict == "defer";
        let title = if is_temporary { texts::NOT_TAKEN_YET } else { texts::NOT_TAKEN };
        // Seconds are enough for a person: 2026-11-24T14:05:12.345Z.
        let time = record.time.get(..19).unwrap_or(&record.time).replace('T', " ");
        html! {
            p.mark.later[is_temporary] { (if is_temporary { texts::NOT_NOW } else { texts::REFUSED }.say(language)) }
            h1 { (title.say(language)) }
            p.lead { (about.what.say(language)) }
            section {
                h2 { (texts::FOR_SENDER.say(language)) }
                p { (self.with_port(about.sender, language)) }
            }
            section {
                h2 { (texts::FOR_OPERATOR.say(language)) }
                p { (self.with_port(about.operator, language)) }
            }
            section {
                h2 { (texts::HOW_DECIDED.say(language)) }
                ol.rules {
                    @for step in &record.steps {
                        li class=(step.outcome) {
                            span.rule { (texts::rule(&step.rule, language)) }
                            span.outcome {
                                (texts::outcome(&step.outcome).say(language))
                                @if step.outcome == "deny" { (texts::DECIDED.say(language)) }
                            }
                        }
                    }
                }
            }
            dl {
                dt { "Ticket" }
                dd.ticket { (record.ticket) }
                dt { (texts::WHEN.say(language)) }
                dd { time datetime=(record.time) { (time) " UTC" } }
                dt { (texts::REPLY.say(language)) }
                dd { (record.code) " " span.word { (record.reason) } }
            }
            (self.contact(language))
        }
    }

    fn with_port(&self, text: Text, language: Language) -> String {
        let port = self.options.submission_port.map(|port| (&*self.options.hostname, port));
        texts::with_port(text, port, language)
    }

    fn contact(&self, language: Language) -> Markup {
        html! {
            @if let Some(contact) = &self.options.contact {
                p.contact {
                    (texts::CONTACT.say(language)) " "
                    a href={ "mailto:" (contact) } { (contact) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_one_asked_for_else_the_one_preferred() {
        let table = [
            (None, "", Language::English),
            (None, "fr", Language::French),
            (None, "fr-CA, en;q=0.5", Language::French),
            (None, "en;q=0.8, fr;q=0.9", Language::French),
            (None, "de, fr;q=0.3", Language::French),
            (None, "en, fr", Language::English),
            (None, "fr;q=0", Language::English),
            (None, "fr;q=none, *", Language::English),
            (Some("en"), "fr", Language::English),
            (Some("fr"), "en", Language::French),
            (Some("xx"), "fr", Language::French),
        ];
        for (asked, accepted, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static(accepted));
            assert_eq!(language(asked, &headers), expected, "{asked:?} {accepted:?}");
        }
    }
}
