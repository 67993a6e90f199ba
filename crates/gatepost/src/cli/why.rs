//! `gatepost why`: a denial that happened, rule by rule. The running gateway is asked; when none
//! answers, its file of tickets is read.

use std::fmt::Write as _;
use std::time::Duration;

use control::tickets::{Record, read_stored};
use mail::Ticket;
use serde_json::{Value, json};

use super::admin::{Failure, Gateway};
use super::text::{FAINT, NO, STRONG, StepLine, print, print_json, styled, write_step_lines};
use super::{Answer, Common};

pub(super) const EXAMPLES: &str = "Examples:
  gatepost why 7QK2-M9XH-T4WD-3
  gatepost why 7qk2m9xht4wd3 --json | jq .remedy";

/// A gateway that cannot be asked writes what it has denied within this.
const KEEP_WAIT: Duration = Duration::from_millis(700);

/// The arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Why {
    /// The ticket, as the reply printed it; hyphens and case do not matter
    ticket: String,
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
                let sentence =
                    format!("there is no ticket {ticket}: it is mistyped, or older than tickets are kept");
                common.complain(&sentence);
                Answer::No
            }
            Found::Record(record) if common.json => {
                print_json(&json!(record));
                Answer::Yes
            }
            Found::Record(record) => {
                print(&for_people(&record));
                Answer::Yes
            }
        }
    }
}

fn find(common: &Common, ticket: Ticket) -> Found {
    let Some(path) = common.config_path() else { return Found::Broken };
    let answer =
        Gateway::beside(&path).map(|gateway| gateway.get(&format!("/v1/tickets/{}", ticket.compact())));
    match answer {
        Some(Ok(record)) => return read(common, record),
        Some(Err(Failure::Refused { reason, .. })) if reason == "not_found" => return Found::Nothing,
        Some(Err(failure @ Failure::Refused { .. })) => {
            failure.tell(common);
            return Found::Broken;
        }
        // Its file can be read whether it runs or not.
        Some(Err(Failure::Unreachable(_))) | None => {}
    }
    let Some(loaded) = common.load() else { return Found::Broken };
    let path = loaded.node.tickets_path();
    let mut found = read_stored(&path, ticket);
    if matches!(found, Ok(None)) {
        std::thread::sleep(KEEP_WAIT);
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

fn for_people(record: &Record) -> String {
    let mut out = String::new();
    let verdict = if record.verdict == "defer" { "deferred" } else { "denied" };
    let _ = writeln!(
        out,
        "{}  {}",
        styled(NO, format!("{verdict}: {}", record.reason)),
        styled(FAINT, format!("ticket {}", record.ticket))
    );
    let mut fact = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<9} {}", plain(&value));
    };
    fact("when", record.time.replace('T', " ").replace('Z', " UTC"));
    let tls = if record.tls { "over TLS" } else { "without TLS" };
    fact("client", format!("{} ({}), {tls}, on listener {}", record.client, record.helo, record.listener));
    if let Some(login) = &record.login {
        fact("login", login.clone());
    }
    if !record.grants.is_empty() {
        fact("grants", record.grants.join(", "));
    }
    if !record.from.is_empty() || record.recipient_count > 0 {
        fact("from", format!("<{}>", record.from));
    }
    if record.recipient_count > 0 {
        let more = record.recipient_count as usize - record.recipients.len();
        let listed = record.recipients.iter().map(|to| format!("<{to}>")).collect::<Vec<_>>().join(", ");
        fact("to", if more > 0 { format!("{listed} and {more} more") } else { listed });
    }
    if let Some(tenant) = &record.tenant {
        fact("tenant", tenant.clone());
    }
    fact("reply", record.code.clone());
    out.push('\n');
    let details: Vec<String> = record.steps.iter().map(|step| plain(&step.detail)).collect();
    let steps = record.steps.iter().zip(&details).map(|(step, detail)| StepLine {
        rule: &step.rule,
        outcome: &step.outcome,
        detail,
        place: step.file.as_ref().map(|file| match step.line {
            Some(line) => format!("{file}:{line}"),
            None => file.clone(),
        }),
    });
    write_step_lines(&mut out, "  ", &steps.collect::<Vec<_>>());
    if let Some(remedy) = &record.remedy {
        let _ = writeln!(out, "\n{} {}", styled(STRONG, "To have it accepted:"), plain(remedy));
    }
    out
}

/// What a client sent does nothing to a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
}
