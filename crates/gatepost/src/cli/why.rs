//! `gatepost why`: a denial that happened, rule by rule, in the words of its page. The running gateway
//! is asked; when none answers, its file of tickets is read.
//!
//! What the gateway recorded in words when it decided, details and the exact change, is English: a
//! French answer says so beside it. JSON is the record, whatever the language.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use control::tickets::texts::{self, Language, Text};
use control::tickets::{Record, RecordedStep, read_stored};
use mail::{Printable, Ticket};
use serde_json::{Value, json};

use super::admin::{Failure, Gateway};
use super::text::{
    FAINT, NO, STRONG, StepLine, clock, now, print, print_json, styled, when, width as columns, wrapped,
    write_paragraph, write_step_lines,
};
use super::{Answer, Common};

pub(super) const EXAMPLES: &str = "Examples:
  gatepost why 7QK2-M9XH-T4WD-3
  gatepost why 7QK2-M9XH-T4WD-3 --lang fr
  gatepost why 7qk2m9xht4wd3 --json | jq .remedy";

/// Where a person's language stands, in the order of POSIX (XBD section 8.2).
const LOCALE_VARIABLES: [&str; 3] = ["LC_ALL", "LC_MESSAGES", "LANG"];

/// A gateway that cannot be asked writes what it has denied within this, on a busy host too.
const KEEP_WAIT: Duration = Duration::from_millis(2500);

/// So often its file is looked at meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Why {
    /// The ticket, as the reply printed it; hyphens and case do not matter
    ticket: String,
    /// The language of the answer, en or fr [default: that of LC_ALL, LC_MESSAGES or LANG, else English]
    #[arg(long, value_name = "LANGUAGE", hide_possible_values = true, value_parser = language_parser())]
    lang: Option<Language>,
}

/// What was found out about a ticket.
enum Found {
    Record(Box<Record>),
    Nothing,
    Broken,
}

impl Why {
    pub(super) fn run(&self, common: &Common) -> Answer {
        let ticket: Ticket = match self.ticket.parse() {
            Ok(ticket) => ticket,
            Err(error) => {
                common.complain(&format!("{:?} is no ticket: {error}", self.ticket));
                return Answer::Broken;
            }
        };
        match find(common, ticket) {
            Found::Broken => Answer::Broken,
            Found::Nothing => {
                // What a machine reads has one language.
                let language = if common.json { Language::English } else { self.language() };
                let (missing, why) = (texts::MISSING.say(language), texts::MISSING_WHY.say(language));
                common.complain(&format!("{ticket}: {missing}. {why}"));
                Answer::No
            }
            Found::Record(record) if common.json => {
                print_json(&json!(record));
                Answer::Yes
            }
            Found::Record(record) => {
                print(&Telling { record: &record, language: self.language(), out: String::new() }.whole());
                Answer::Yes
            }
        }
    }

    fn language(&self) -> Language {
        self.lang.unwrap_or_else(|| locale_language(|name| std::env::var(name).ok()))
    }
}

fn language_parser() -> impl clap::builder::TypedValueParser<Value = Language> {
    PossibleValuesParser::new(Language::TAGS)
        .map(|tag| Language::of_tag(&tag).expect("only tags of languages are taken"))
}

/// The language of the first variable that is set to anything; English for every other than French.
fn locale_language(variable: impl Fn(&str) -> Option<String>) -> Language {
    let locale = LOCALE_VARIABLES.into_iter().filter_map(variable).find(|value| !value.is_empty());
    locale.and_then(|locale| Language::of_tag(&locale)).unwrap_or(Language::English)
}

fn find(common: &Common, ticket: Ticket) -> Found {
    let Some(path) = common.config_path() else { return Found::Broken };
    let answer =
        Gateway::beside(&path).map(|gateway| gateway.get(&format!("/v1/tickets/{}", ticket.compact())));
    match answer {
        Some(Ok(record)) => return read(common, record),
        Some(Err(Failure::Refused { reason, .. })) if reason == "not_found" => return Found::Nothing,
        Some(Err(failure @ (Failure::Refused { .. } | Failure::Closed(_)))) => {
            failure.tell(common);
            return Found::Broken;
        }
        // Its file can be read whether it runs or not.
        Some(Err(Failure::Unreachable(_))) | None => {}
    }
    let Some(loaded) = common.load() else { return Found::Broken };
    let path = loaded.node.tickets_path();
    let mut found = read_stored(&path, ticket);
    let until = Instant::now() + KEEP_WAIT;
    while matches!(found, Ok(None)) && Instant::now() < until {
        std::thread::sleep(LOOK_INTERVAL);
        found = read_stored(&path, ticket);
    }
    match found {
        Ok(Some(record)) => Found::Record(Box::new(record)),
        Ok(None) => Found::Nothing,
        Err(error) => {
            common.complain(&error.to_string());
            Found::Broken
        }
    }
}

fn read(common: &Common, record: Value) -> Found {
    match serde_json::from_value(record) {
        Ok(record) => Found::Record(record),
        Err(error) => {
            common.complain(&format!(
                "the gateway answers with something else: {error}; is it of another version?"
            ));
            Found::Broken
        }
    }
}

/// An answer for people, as it grows.
struct Telling<'a> {
    record: &'a Record,
    language: Language,
    out: String,
}

impl Telling<'_> {
    fn whole(mut self) -> String {
        self.heading();
        self.facts();
        self.steps();
        self.remedies();
        self.out
    }

    fn say(&self, text: Text) -> &'static str {
        text.say(self.language)
    }

    /// Writing to a String does not fail.
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.out, "{line}");
    }

    fn heading(&mut self) {
        let Record { verdict, reason, ticket, .. } = self.record;
        let verdict = self.say(if verdict == "defer" { texts::DEFERRED } else { texts::DENIED });
        let ticket = styled(FAINT, format!("ticket {ticket}"));
        self.line(format_args!("{}  {ticket}", styled(NO, format!("{verdict} {reason}"))));
        if let Some(about) = texts::about_word(reason) {
            let lines = wrapped(self.say(about.what), columns());
            self.line(format_args!("{}\n", lines.join("\n")));
        }
    }

    fn facts(&mut self) {
        let record = self.record;
        let time = match self.language {
            Language::English => format!("{}, {}", clock(&record.time), when(&record.time, now())),
            Language::French => clock(&record.time),
        };
        let tls = self.say(if record.tls { texts::OVER_TLS } else { texts::WITHOUT_TLS });
        let (on, listener) = (self.say(texts::ON_LISTENER), &record.listener);
        let client = format!("{} ({}), {tls}, {on} {listener}", record.client, record.helo);
        let mut facts = vec![(texts::WHEN, time), (texts::CLIENT, client)];
        facts.extend(record.login.clone().map(|login| (texts::LOGIN, login)));
        if !record.grants.is_empty() {
            facts.push((texts::GRANTS, record.grants.join(", ")));
        }
        if !record.from.is_empty() || record.recipient_count > 0 {
            facts.push((texts::FROM, format!("<{}>", record.from)));
        }
        if record.recipient_count > 0 {
            let more = record.recipient_count as usize - record.recipients.len();
            let mut listed =
                record.recipients.iter().map(|to| format!("<{to}>")).collect::<Vec<_>>().join(", ");
            if more > 0 {
                let _ = write!(listed, " {} {more} {}", self.say(texts::AND), self.say(texts::MORE));
            }
            facts.push((texts::TO, listed));
        }
        if record.repeated > 0 {
            facts.push((texts::REPEATED, format!("{} {}", record.repeated, self.say(texts::TIMES_MORE))));
        }
        facts.extend(record.tenant.clone().map(|tenant| (texts::TENANT, tenant)));
        facts.push((texts::REPLY, record.code.clone()));
        let width = facts.iter().map(|(name, _)| self.say(*name).chars().count()).max().unwrap_or(0);
        for (name, value) in facts {
            let (name, value) = (self.say(name).to_lowercase(), plain(&value));
            let lines = wrapped(&value, columns() - width - 4);
            let value = lines.join(&format!("\n{}", " ".repeat(width + 4)));
            self.line(format_args!("  {name:<width$}  {value}"));
        }
    }

    /// The rules: in English as they were recorded, in French as the page tells them.
    fn steps(&mut self) {
        let steps = &self.record.steps;
        let details: Vec<_> = steps.iter().map(|step| self.detail(step)).collect();
        let steps = steps.iter().zip(&details).map(|(step, detail)| StepLine {
            rule: &step.rule,
            outcome: &step.outcome,
            word: match self.language {
                Language::English => &step.outcome,
                Language::French => self.say(texts::outcome(&step.outcome)),
            },
            detail,
            place: step.file.as_ref().map(|file| match step.line {
                Some(line) => format!("{file}:{line}"),
                None => file.clone(),
            }),
        });
        let steps: Vec<_> = steps.collect();
        self.line(format_args!("\n{}{}", self.say(texts::HOW_DECIDED), self.say(texts::COLON)));
        write_step_lines(&mut self.out, "  ", &steps);
    }

    fn detail(&self, step: &RecordedStep) -> String {
        match self.language {
            Language::French => texts::rule(&step.rule, self.language).to_owned(),
            Language::English => plain(&step.detail),
        }
    }

    fn remedies(&mut self) {
        self.out.push('\n');
        if let Some(about) = texts::about_word(&self.record.reason) {
            for (who, remedy) in [(texts::FOR_SENDER, about.sender), (texts::FOR_OPERATOR, about.operator)] {
                // Where to sign in, the reply said and the page says: here no client signs in.
                self.remedy(who, &texts::with_port(remedy, None, self.language));
            }
        }
        let decided = self.record.steps.last().filter(|_| self.language == Language::French);
        if let Some(decided) = decided {
            self.remedy(texts::RECORDED, &plain(&decided.detail));
        }
        if let Some(remedy) = &self.record.remedy {
            self.remedy(texts::REMEDY, &plain(remedy));
        }
    }

    fn remedy(&mut self, heading: Text, remedy: &str) {
        let heading = format!("{}{}", self.say(heading), self.say(texts::COLON));
        write_paragraph(&mut self.out, STRONG, &heading, remedy, 0);
    }
}

/// What a client sent begins no line of its own, and does nothing else to a terminal.
fn plain(text: &str) -> String {
    Printable(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_locale_variable_that_is_set_decides() {
        for (all, messages, lang, expected) in [
            ("fr_FR.UTF-8", "", "en_GB.UTF-8", Language::French),
            ("", "fr_CA", "en_GB.UTF-8", Language::French),
            ("", "", "fr", Language::French),
            ("C", "fr_FR", "fr_FR", Language::English),
            ("", "de_DE.UTF-8", "fr_FR", Language::English),
            ("", "", "", Language::English),
        ] {
            let of = |name: &str| match name {
                "LC_ALL" => Some(all.to_owned()),
                "LC_MESSAGES" => Some(messages.to_owned()),
                "LANG" => Some(lang.to_owned()),
                _ => None,
            };
            assert_eq!(locale_language(of), expected, "{all:?} {messages:?} {lang:?}");
        }
        assert_eq!(locale_language(|_| None), Language::English);
    }
}
