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
    let named = |tag: &str| match tag.split('-').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "fr" => Some(Language::French),
        "en" => Some(Language::English),
        _ => None,
    };
    if let Some(language) = asked.and_then(named) {
        return language;
    }
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let mut best = (Language::English, 0.0);
    for range in accepted.unwrap_or_default().split(',') {
        let mut parts = range.split(';').map(str::trim);
        let Some(language) = parts.next().and_then(named) else { continue };
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
        let said = if status == StatusCode::NOT_FOUND { &MISSING } else { &TOO_MANY };
        let content = html! {
            h1 { (said.0.say(language)) }
            p.lead { (said.1.say(language)) }
            (self.contact(language))
        };
        self.respond(status, language, self.frame(language, "", &content))
    }

    fn respond(&self, status: StatusCode, language: Language, body: Markup) -> Response {
        let tag = match language {
            Language::English => "en",
            Language::French => "fr",
        };
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (header::CONTENT_LANGUAGE, HeaderValue::from_static(tag)),
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
        let (tag, other_tag, other_name) = match language {
            Language::English => ("en", "fr", "Français"),
            Language::French => ("fr", "en", "English"),
        };
        html! {
            (DOCTYPE)
            html lang=(tag) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="robots" content="noindex";
                    title { (TITLE.say(language)) }
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
        let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == record.reason);
        let about = texts::about(reason.unwrap_or(Reason::RelayNotPermitted));
        let is_temporary = record.verdict == "defer";
        let title = if is_temporary { DEFERRED } else { DENIED };
        // Seconds are enough for a person: 2026-11-24T14:05:12.345Z.
        let time = record.time.get(..19).unwrap_or(&record.time).replace('T', " ");
        html! {
            p.mark.later[is_temporary] { (if is_temporary { NOT_NOW } else { REFUSED }.say(language)) }
            h1 { (title.say(language)) }
            p.lead { (about.what.say(language)) }
            section {
                h2 { (FOR_SENDER.say(language)) }
                p { (self.with_port(about.sender, language)) }
            }
            section {
                h2 { (FOR_OPERATOR.say(language)) }
                p { (self.with_port(about.operator, language)) }
            }
            section {
                h2 { (HOW_DECIDED.say(language)) }
                ol.rules {
                    @for step in &record.steps {
                        li class=(step.outcome) {
                            span.rule { (texts::rule(&step.rule, language)) }
                            span.outcome { (outcome(&step.outcome, language)) }
                        }
                    }
                }
            }
            dl {
                dt { "Ticket" }
                dd.ticket { (record.ticket) }
                dt { (WHEN.say(language)) }
                dd { time datetime=(record.time) { (time) " UTC" } }
                dt { (ANSWER.say(language)) }
                dd { (record.code) " " span.word { (record.reason) } }
            }
            (self.contact(language))
        }
    }

    fn with_port(&self, text: Text, language: Language) -> String {
        let port = match (self.options.submission_port, language) {
            (None, _) => String::new(),
            (Some(port), Language::English) => format!(" on {}, port {port}", self.options.hostname),
            (Some(port), Language::French) => format!(" sur {}, port {port}", self.options.hostname),
        };
        text.say(language).replace("{port}", &port)
    }

    fn contact(&self, language: Language) -> Markup {
        html! {
            @if let Some(contact) = &self.options.contact {
                p.contact {
                    (CONTACT.say(language)) " "
                    a href={ "mailto:" (contact) } { (contact) }
                }
            }
        }
    }
}

fn outcome(word: &str, language: Language) -> &str {
    let text = match word {
        "deny" => Text { en: "no: this decided", fr: "non : c’est ce qui a décidé" },
        "skip" => Text { en: "does not apply", fr: "sans objet" },
        _ => Text { en: "yes", fr: "oui" },
    };
    text.say(language)
}

const TITLE: Text =
    Text { en: "Why was my mail refused?", fr: "Pourquoi mon courrier a-t-il été refusé ?" };
const DENIED: Text = Text { en: "Your mail was not taken", fr: "Votre courrier n’a pas été accepté" };
const DEFERRED: Text =
    Text { en: "Your mail was not taken yet", fr: "Votre courrier n’a pas encore été accepté" };
const REFUSED: Text = Text { en: "Refused", fr: "Refusé" };
const NOT_NOW: Text = Text { en: "Not now", fr: "Pas maintenant" };
const FOR_SENDER: Text = Text { en: "If you sent it", fr: "Si vous l’avez envoyé" };
const FOR_OPERATOR: Text = Text {
    en: "If you look after the sender’s mail",
    fr: "Si vous administrez la messagerie de l’expéditeur",
};
const HOW_DECIDED: Text = Text { en: "How it was decided", fr: "Comment cela a été décidé" };
const WHEN: Text = Text { en: "When", fr: "Quand" };
const ANSWER: Text = Text { en: "Reply", fr: "Réponse" };
const CONTACT: Text = Text {
    en: "Questions? Give the ticket and write to",
    fr: "Une question ? Indiquez le ticket et écrivez à",
};
const MISSING: (Text, Text) = (
    Text { en: "No such ticket", fr: "Ticket inconnu" },
    Text {
        en: "Compare it with the reply that your mail program shows: 13 letters and digits. Tickets are kept for a \
             limited time.",
        fr: "Comparez-le avec la réponse affichée par votre logiciel de messagerie : 13 lettres et chiffres. Les \
             tickets sont conservés pour un temps limité.",
    },
);
const TOO_MANY: (Text, Text) = (
    Text { en: "Too many tries", fr: "Trop d’essais" },
    Text {
        en: "Too many tickets that do not exist were asked for from your address. Try again in a minute.",
        fr: "Trop de tickets inexistants ont été demandés depuis votre adresse. Réessayez dans une minute.",
    },
);

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
