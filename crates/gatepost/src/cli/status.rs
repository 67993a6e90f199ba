//! `gatepost status`: a running gateway at a glance.

use std::fmt::Write as _;

use serde_json::Value;

use super::admin::Gateway;
use super::text::{self, FAINT, NO, STRONG, WARNING, YES, count, size, styled};
use super::{Answer, Common};

pub(super) const EXAMPLES: &str = "Examples:
  gatepost status --config /etc/gatepost/gatepost.toml
  gatepost status --json | jq .queue_recipients";

pub(super) fn run(common: &Common) -> Answer {
    let Some(gateway) = Gateway::reach(common) else { return Answer::Broken };
    match gateway.get("/v1/status") {
        Ok(status) => {
            if common.json {
                text::print_json(&status);
            } else {
                text::print(&for_people(&status));
            }
            if status["ready"] == true { Answer::Yes } else { Answer::No }
        }
        Err(failure) => failure.tell(common),
    }
}

fn for_people(status: &Value) -> String {
    let mut out = String::new();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let state = match status["not_ready_reason"].as_str() {
        None => styled(YES, "takes mail".to_owned()),
        Some(reason) => {
            let why = status["recovery"].as_str().unwrap_or(reason);
            styled(NO, format!("takes no mail: {why}"))
        }
    };
    let _ = writeln!(
        out,
        "{}  {state}  {}",
        styled(STRONG, word(&status["node"])),
        styled(
            FAINT,
            format!(
                "gatepost {}, process {}, up {}",
                word(&status["version"]),
                status["process"],
                text::duration(number(&status["uptime_seconds"]))
            )
        )
    );
    let workers = status["workers"].as_array().map_or(&[][..], Vec::as_slice);
    let odd: Vec<_> = workers.iter().filter_map(Value::as_str).filter(|state| *state != "ready").collect();
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "  {name:<13}{text}");
    };
    line(
        "workers",
        match odd.as_slice() {
            [] => format!("{}, all ready", workers.len()),
            odd => format!("{}, of them {}", workers.len(), styled(WARNING, odd.join(", "))),
        },
    );
    let policy = &status["policy"];
    let tenants = count(number(&policy["tenants"]) as usize, "tenant", "tenants");
    line("policy", format!("generation {}, {tenants}", policy["generation"]));
    if let Some(error) = policy["last_reload_failure"]["error"].as_str() {
        let at = word(&policy["last_reload_failure"]["at"]);
        line(
            "",
            format!("{} at {at}; what was in force still is:", styled(NO, "the last reload was refused")),
        );
        for error in error.lines() {
            line("", format!("  {error}"));
        }
    }
    for (index, listener) in status["listeners"].as_array().into_iter().flatten().enumerate() {
        let title = if index == 0 { "listeners" } else { "" };
        let open = count(number(&listener["connections"]) as usize, "connection", "connections");
        line(title, format!("{:<12} {:<24} {open}", word(&listener["name"]), word(&listener["address"])));
    }
    line(
        "messages",
        format!("{} accepted, {} requests denied", status["messages_accepted"], status["requests_denied"]),
    );
    line("queue", counts(&status["queue_recipients"], &["ready", "active", "deferred", "held"]));
    line("deliveries", counts(&status["deliveries"], &["delivered", "deferred", "failed", "expired"]));
    let spool = &status["spool"];
    let capacity =
        spool["capacity_bytes"].as_u64().map_or_else(String::new, |bytes| format!(" of {}", size(bytes)));
    line(
        "spool",
        format!(
            "{}, {}{capacity} in {}",
            count(number(&spool["messages"]) as usize, "message", "messages"),
            size(number(&spool["bytes"])),
            word(&spool["path"])
        ),
    );
    let (messages, places) = (number(&spool["quarantined_messages"]), number(&spool["damaged_places"]));
    if messages + places > 0 {
        let what = format!(
            "{} and {}: see `gatepost spool list --state quarantined` and `gatepost spool verify`",
            count(messages as usize, "message", "messages"),
            count(places as usize, "damaged place", "damaged places")
        );
        line("quarantined", styled(NO, what).to_string());
    }
    line("grants", format!("{} in force after mailbox logins", status["grants"]));
    let suspensions = number(&status["suspensions"]);
    line(
        "suspended",
        match suspensions {
            0 => "nobody".to_owned(),
            some => styled(
                WARNING,
                format!("{}: see `gatepost tenants list`", count(some as usize, "suspension", "suspensions")),
            )
            .to_string(),
        },
    );
    if number(&status["log_lines_dropped"]) > 0 {
        line(
            "log",
            styled(WARNING, format!("{} records found no room", status["log_lines_dropped"])).to_string(),
        );
    }
    out
}

/// `3 ready, 0 active, 12 deferred recipients`.
fn counts(counts: &Value, words: &[&str]) -> String {
    let counts: Vec<_> = words.iter().map(|word| format!("{} {word}", counts[word])).collect();
    format!("{} recipients", counts.join(", "))
}
