//! `gatepost spool`: the queue as it lies on disk. Reads only, so that the gateway may run meanwhile.

use std::fmt::Write as _;
use std::path::Path;

use mail::UnixMillis;
use ring::RealDisk;
use serde_json::{Value, json};
use spool::inspect::{self, ListedMessage, RecipientState, Verification};
use spool::{Outcome, SpoolError};

use super::text::{FAINT, NO, STRONG, YES, count, print, print_json, size, styled};
use super::{Answer, Common};

pub(super) const EXAMPLES: &str = "Examples:
  gatepost spool list --config /etc/gatepost/gatepost.toml
  gatepost spool verify --config /etc/gatepost/gatepost.toml";

#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the messages that are not delivered yet, oldest first
    #[command(after_help = "Example:\n  gatepost spool list --json --config /etc/gatepost/gatepost.toml")]
    List,
    /// Read every byte and compare it with its checksum; exits 1 when something is damaged
    #[command(after_help = "Example:\n  gatepost spool verify --config /etc/gatepost/gatepost.toml")]
    Verify,
}

impl Command {
    pub(super) fn run(self, common: &Common) -> Answer {
        let Some(loaded) = common.load() else { return Answer::Broken };
        let directory = loaded.node.spool.path;
        if !directory.exists() {
            common.complain(&format!(
                "there is no spool at {}; start the gateway once, or correct spool.path",
                directory.display()
            ));
            return Answer::Broken;
        }
        let answer = match self {
            Self::List => list(common, &directory),
            Self::Verify => verify(common, &directory),
        };
        answer.unwrap_or_else(|error| {
            common.complain(&error.to_string());
            Answer::Broken
        })
    }
}

fn list(common: &Common, directory: &Path) -> Result<Answer, SpoolError> {
    let messages = inspect::list(&mut RealDisk::default(), directory)?;
    if common.json {
        messages.iter().for_each(|message| print_json(&message_as_json(message)));
    } else {
        print(&messages_for_people(&messages));
    }
    Ok(Answer::Yes)
}

fn messages_for_people(messages: &[ListedMessage]) -> String {
    if messages.is_empty() {
        return "the queue is empty\n".to_owned();
    }
    let mut out = String::new();
    for message in messages {
        let _ = writeln!(
            out,
            "{}  {}  {}  from <{}>  {}",
            styled(STRONG, message.id),
            message.arrived.rfc3339(),
            message.tenant,
            message.reverse_path,
            size(message.content_bytes)
        );
        for recipient in &message.recipients {
            let state = match recipient.state {
                RecipientState::Queued { attempts: 0, .. } => "not tried yet".to_owned(),
                RecipientState::Queued { attempts, not_before: UnixMillis(0) } => {
                    count(attempts.into(), "attempt", "attempts")
                }
                RecipientState::Queued { attempts, not_before } => {
                    let attempts = count(attempts.into(), "attempt", "attempts");
                    format!("{attempts}, again at {}", not_before.rfc3339())
                }
                RecipientState::Done(outcome) => word(outcome).to_owned(),
            };
            let _ = writeln!(out, "    to <{}>  {}", recipient.address, styled(FAINT, state));
        }
    }
    let bytes = messages.iter().map(|message| message.content_bytes).sum();
    let _ = writeln!(out, "{} queued, {}", count(messages.len(), "message", "messages"), size(bytes));
    out
}

fn message_as_json(message: &ListedMessage) -> Value {
    let recipients = message.recipients.iter().map(|recipient| match recipient.state {
        RecipientState::Queued { attempts, not_before } => json!({
            "address": recipient.address,
            "state": "queued",
            "attempts": attempts,
            "not_before": (not_before.0 > 0).then(|| not_before.rfc3339().to_string()),
        }),
        RecipientState::Done(outcome) => json!({ "address": recipient.address, "state": word(outcome) }),
    });
    json!({
        "id": message.id.to_string(),
        "shard": message.shard,
        "arrived": message.arrived.rfc3339().to_string(),
        "tenant": message.tenant,
        "identity": message.identity,
        "from": message.reverse_path,
        "bytes": message.content_bytes,
        "recipients": recipients.collect::<Vec<_>>(),
    })
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered => "delivered",
        Outcome::Failed => "failed",
        Outcome::Expired => "expired",
    }
}

fn verify(common: &Common, directory: &Path) -> Result<Answer, SpoolError> {
    let found = inspect::verify(&mut RealDisk::default(), directory)?;
    if common.json {
        print_json(&verification_as_json(&found));
    } else {
        print(&verification_for_people(&found));
    }
    Ok(if found.is_sound() { Answer::Yes } else { Answer::No })
}

fn verification_for_people(found: &Verification) -> String {
    let mut out = String::new();
    for damage in &found.damage {
        let _ = writeln!(out, "{} {damage}", styled(NO, "damaged:"));
    }
    for path in &found.bodies_damaged {
        let path = path.display();
        let _ =
            writeln!(out, "{} {path}: a queued message's body is missing or altered", styled(NO, "damaged:"));
    }
    let verdict = if found.is_sound() { styled(YES, "sound:") } else { styled(NO, "not sound:") };
    let _ = writeln!(
        out,
        "{verdict} {}, {}, {}, {}, {} of them queued",
        count(found.shards, "shard", "shards"),
        count(found.segments, "segment", "segments"),
        count(usize::try_from(found.groups).unwrap_or(usize::MAX), "group", "groups"),
        count(found.messages, "message", "messages"),
        found.queued
    );
    out
}

fn verification_as_json(found: &Verification) -> Value {
    let damage = found.damage.iter().map(
        |damage| json!({ "file": damage.path, "offset_bytes": damage.offset, "length_bytes": damage.bytes }),
    );
    json!({
        "ok": found.is_sound(),
        "shards": found.shards,
        "segments": found.segments,
        "groups": found.groups,
        "messages": found.messages,
        "queued": found.queued,
        "damage": damage.collect::<Vec<_>>(),
        "bodies_damaged": found.bodies_damaged,
    })
}
