//! The pages as markup. What they say is in [`texts`]; whatever comes from elsewhere is escaped.

use mail::{Reason, UnixMillis};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::super::PageOptions;
use super::super::record::Record;
use super::super::texts::{self, Language, Text};

pub(super) const STYLE: &str = include_str!("style.css");

/// What a ticket looks like, for a reader who looks for theirs.
const EXAMPLE: &str = "7QK2-M9XH-T4WD-3";

/// A page for one reader.
pub(super) struct View<'a> {
    pub(super) options: &'a PageOptions,
    pub(super) language: Language,
}

impl View<'_> {
    /// The page around `content`. Every link is relative: a proxy may serve the pages below any path.
    pub(super) fn frame(&self, content: &Markup) -> Markup {
        let (other, other_name) = match self.language {
            Language::English => (Language::French, "Français"),
            Language::French => (Language::English, "English"),
        };
        let (tag, other_tag) = (self.language.tag(), other.tag());
        html! {
            (DOCTYPE)
            html lang=(tag) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="robots" content="noindex";
                    // No program asks for one, then.
                    link rel="icon" href="data:,";
                    title { (self.say(texts::TITLE)) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        header {
                            a href={ "./?lang=" (tag) } { (self.options.hostname) }
                            a href={ "?lang=" (other_tag) } lang=(other_tag) hreflang=(other_tag) rel="nofollow" {
                                (other_name)
                            }
                        }
                        (content)
                    }
                }
            }
        }
    }

    /// Where a ticket is typed in.
    pub(super) fn home(&self) -> Markup {
        html! {
            h1 { (self.say(texts::TITLE)) }
            p.lead { (self.say(texts::HOME_WHY)) }
            (self.field(""))
            (self.contact())
        }
    }

    /// There is no such ticket, as it was `typed`.
    pub(super) fn missing(&self, typed: &str) -> Markup {
        html! {
            h1 { (self.say(texts::MISSING)) }
            p.lead { (self.say(texts::MISSING_WHY)) }
            (self.field(typed))
            (self.contact())
        }
    }

    /// Too many were asked for that do not exist.
    pub(super) fn too_many(&self) -> Markup {
        html! {
            h1 { (self.say(texts::TOO_MANY)) }
            p.lead { (self.say(texts::TOO_MANY_WHY)) }
            (self.contact())
        }
    }

    /// A denial, of which it is `now` when it is read.
    pub(super) fn denial(&self, record: &Record, now: UnixMillis) -> Markup {
        let about = texts::about_word(&record.reason).unwrap_or(texts::about(Reason::RelayNotPermitted));
        let is_temporary = record.verdict == "defer";
        let (mark, title) = match is_temporary {
            true => (texts::NOT_NOW, texts::NOT_TAKEN_YET),
            false => (texts::REFUSED, texts::NOT_TAKEN),
        };
        html! {
            p.mark.later[is_temporary] { (self.say(mark)) }
            h1 { (self.say(title)) }
            p.lead { (self.say(about.what)) }
            (self.suspension(record, now))
            dl {
                dt { "Ticket" }
                dd.ticket { (record.ticket) }
                dt { (self.say(texts::WHEN)) }
                dd { (time(UnixMillis(record.unix_millis))) }
                dt { (self.say(texts::REPLY)) }
                dd { (record.code) " " span.word { (record.reason) } }
            }
            section {
                h2 { (self.say(texts::FOR_SENDER)) }
                p { (self.with_port(about.sender)) }
            }
            section {
                h2 { (self.say(texts::FOR_OPERATOR)) }
                p { (self.with_port(about.operator)) }
            }
            (self.rules(record))
            (self.contact())
        }
    }

    /// When a suspension ends, where that is why.
    fn suspension(&self, record: &Record, now: UnixMillis) -> Markup {
        let Some(suspension) = record.suspension else { return Markup::default() };
        html! {
            p.ends {
                @match suspension.until_unix_millis.map(UnixMillis) {
                    Some(until) if until <= now => {
                        (self.say(texts::SUSPENSION_ENDED)) " " (time(until)) (self.say(texts::SEND_AGAIN))
                    }
                    Some(until) => { (self.say(texts::SUSPENSION_ENDS)) " " (time(until)) "." }
                    None => { (self.say(texts::SUSPENSION_LASTS)) }
                }
            }
        }
    }

    fn rules(&self, record: &Record) -> Markup {
        html! {
            @if !record.steps.is_empty() {
                section {
                    h2 { (self.say(texts::HOW_DECIDED)) }
                    ol.rules {
                        @for step in &record.steps {
                            li class=(step.outcome) {
                                span.rule { (texts::rule(&step.rule, self.language)) }
                                span.outcome { (self.say(texts::outcome(&step.outcome))) }
                            }
                        }
                    }
                }
            }
        }
    }

    /// A form that needs no script: a ticket however it is written.
    fn field(&self, typed: &str) -> Markup {
        html! {
            form action="./" method="get" {
                label for="ticket" { (self.say(texts::YOUR_TICKET)) }
                div.field {
                    input id="ticket" name="ticket" value=(typed) required size="20" autocomplete="off"
                        autocapitalize="characters" spellcheck="false";
                    button { (self.say(texts::SHOW)) }
                }
                input type="hidden" name="lang" value=(self.language.tag());
                p.hint { (self.say(texts::LOOKS_LIKE)) " " span.ticket { (EXAMPLE) } }
            }
        }
    }

    fn with_port(&self, text: Text) -> String {
        let port = self.options.submission_port.map(|port| (&*self.options.hostname, port));
        texts::with_port(text, port, self.language)
    }

    fn contact(&self) -> Markup {
        let Some(contact) = self.options.contact.as_deref() else { return Markup::default() };
        html! {
            p.contact {
                @if policy::contact_is_url(contact) {
                    (self.say(texts::CONTACT_PAGE)) " " a href=(contact) { (contact) }
                } @else {
                    (self.say(texts::CONTACT)) " " a href={ "mailto:" (contact) } { (contact) }
                }
            }
        }
    }

    fn say(&self, text: Text) -> &'static str {
        text.say(self.language)
    }
}

/// To the minute, which is what a person needs: 2026-11-24 14:05 UTC.
fn time(at: UnixMillis) -> Markup {
    let exact = at.rfc3339().to_string();
    let minute = exact.get(..16).unwrap_or(&exact).replace('T', " ");
    html! { time datetime=(exact) { (minute) " UTC" } }
}
