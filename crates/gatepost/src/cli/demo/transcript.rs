//! How the demo is told: a transcript for people, a JSON object a message for machines.

use std::fmt::Write as _;
use std::time::Duration;

use control::explain::{steps_as_json, verdict};
use serde_json::{Value, json};

use super::client::Line;
use super::destination::Arrival;
use super::house::{House, LOGIN, PASSWORD, RELAY, STRANGER, SUBMISSION, TRUSTED};
use super::situation::Played;
use crate::cli::text::{FAINT, NO, STRONG, YES, styled, write_steps};

/// Lines of an arrived message that are shown; a person's own test may be long.
const LINES_SHOWN_MAX: usize = 40;

/// Who is who.
pub(super) fn opening(house: &House) -> String {
    let mut out = String::new();
    let (relay, submission) = (house.listener(RELAY), house.listener(SUBMISSION));
    let _ = writeln!(
        out,
        "{}\nA gateway, its tenant and a destination, all on this machine's loopback; the messages are real.\n",
        styled(STRONG, "Gatepost demo")
    );
    for (what, address, role) in [
        ("gateway", relay, "relay: trusted networks, and mail for proseware.example from anyone"),
        ("", submission, "submission: TLS and a login, always"),
        ("destination", house.destination.address, "where everything accepted is delivered"),
    ] {
        let _ = writeln!(out, "  {what:<12} {:<24} {role}", address.to_string());
    }
    for (what, name, role) in [
        ("tenant", "proseware".to_owned(), "sends as @proseware.example".to_owned()),
        ("its network", format!("{TRUSTED}/32"), format!("{STRANGER} is anyone else's")),
        ("its login", LOGIN.to_owned(), "sends as that address only".to_owned()),
    ] {
        let _ = writeln!(out, "  {what:<12} {name:<24} {role}");
    }
    out
}

/// One message: the dialog, the decision and why, what arrived.
pub(super) fn situation(number: usize, played: &Played, house: &House) -> String {
    let situation = &played.situation;
    let mut out = format!("\n{}\n", styled(STRONG, format!("{number}. {}", situation.title)));
    let _ = writeln!(out, "   {}\n", situation.story);
    let server = house.listener(situation.listener());
    let _ = writeln!(out, "   {} to {server} ({})", situation.client, situation.listener());
    for line in &played.dialog {
        let _ = match line {
            Line::Client(text) => writeln!(out, "     {} {text}", styled(FAINT, " client >")),
            Line::Server(text) => {
                let style = if text.starts_with(['4', '5']) { NO } else { FAINT };
                writeln!(out, "     {} {}", styled(FAINT, "gateway <"), styled(style, text))
            }
            Line::Note(text) => writeln!(out, "     {}", styled(FAINT, format!("          [{text}]"))),
        };
    }
    let decision = &played.explanation.decision;
    let answer = match decision.verdict.reason() {
        None => styled(YES, "accepted".to_owned()),
        Some(reason) => styled(NO, format!("denied: {reason}")),
    };
    let _ = writeln!(out, "\n   {answer}, because");
    write_steps(&mut out, "     ", &played.explanation, |origin| house.place(origin));
    if let Some(remedy) = &played.explanation.remedy {
        let _ = writeln!(out, "\n   {} {}", styled(STRONG, "To have it accepted:"), house.short(remedy));
    }
    if let Some((arrival, after)) = &played.arrival {
        let _ = writeln!(
            out,
            "\n   {} {}; below our own header line it is what was sent, byte for byte",
            styled(YES, "delivered"),
            after_the_250(*after)
        );
        write_message(&mut out, &arrival.bytes);
    }
    out
}

fn after_the_250(after: Duration) -> String {
    match after.as_millis() {
        0 => "within a millisecond of its 250".to_owned(),
        millis => format!("{millis} ms after its 250"),
    }
}

/// A message that a person has sent.
pub(super) fn arrival(arrival: &Arrival) -> String {
    let to: Vec<_> = arrival.to.iter().map(|to| format!("<{to}>")).collect();
    let mut out = format!("\n{} from <{}> to {}\n", styled(YES, "delivered"), arrival.from, to.join(", "));
    write_message(&mut out, &arrival.bytes);
    out
}

fn write_message(out: &mut String, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().collect();
    for line in lines.iter().take(LINES_SHOWN_MAX) {
        let _ = writeln!(out, "     {}{}{line}", styled(FAINT, "|"), if line.is_empty() { "" } else { " " });
    }
    if let Some(more) = lines.len().checked_sub(LINES_SHOWN_MAX).filter(|&more| more > 0) {
        let _ = writeln!(out, "     {}", styled(FAINT, format!("| ... {more} more lines")));
    }
}

/// The last line of the sample.
pub(super) fn closing(played: &[bool]) -> String {
    let accepted = played.iter().filter(|&&accepted| accepted).count();
    let denied = played.len() - accepted;
    format!(
        "\n{} {accepted} accepted and delivered, {denied} denied with a reason; nothing was lost and nothing \
         relayed for a stranger.\n",
        styled(STRONG, "Done:")
    )
}

/// What a person can try while the gateway stays up.
pub(super) fn invitation(house: &House) -> String {
    let (relay, submission) = (house.listener(RELAY), house.listener(SUBMISSION));
    // As it was called: built by cargo, it is in no search path.
    let program = std::env::args().next().unwrap_or_else(|| "gatepost".to_owned());
    let mut out = format!(
        "\n{} The gateway stays up; what reaches the destination is shown here. Ctrl-C ends it.\n\n",
        styled(STRONG, "Your turn.")
    );
    for (what, options) in [
        (
            "as proseware's network",
            format!("--server {relay} --from orders@proseware.example --to bob@adatum.example"),
        ),
        (
            "as a stranger",
            format!(
                "--server {relay} --local-interface {STRANGER} --from terri@proseware.example --to bob@adatum.example"
            ),
        ),
        (
            "as Terri",
            format!(
                "--server {submission} --local-interface {STRANGER} --tls --auth PLAIN --auth-user {LOGIN} \
                 --auth-password {PASSWORD} --from {LOGIN} --to bob@adatum.example"
            ),
        ),
    ] {
        let _ = writeln!(out, "  {}\n    swaks {options}", styled(FAINT, what));
    }
    let _ = writeln!(
        out,
        "  {}\n    {program} explain --config {} --client {STRANGER} --from {LOGIN} --to bob@adatum.example",
        styled(FAINT, "ask why"),
        house.directory().join("gatepost.toml").display()
    );
    out
}

/// The same facts for a machine.
pub(super) fn as_json(played: &Played, house: &House) -> Value {
    let situation = &played.situation;
    let decision = &played.explanation.decision;
    let dialog = played.dialog.iter().map(|line| match line {
        Line::Client(text) => json!({ "client": text }),
        Line::Server(text) => json!({ "gateway": text }),
        Line::Note(text) => json!({ "note": text }),
    });
    let arrival = played.arrival.as_ref();
    json!({
        "title": situation.title,
        "client": situation.client,
        "listener": situation.listener(),
        "login": situation.logs_in.then_some(LOGIN),
        "from": situation.from,
        "to": situation.to,
        "dialog": dialog.collect::<Vec<_>>(),
        "accepted": played.accepted,
        "verdict": verdict(decision.verdict),
        "reason": decision.verdict.reason().map(|reason| reason.as_str()),
        "steps": steps_as_json(&played.explanation),
        "remedy": played.explanation.remedy.as_deref().map(|remedy| house.short(remedy)),
        "delivered": arrival.map(|(arrival, _)| String::from_utf8_lossy(&arrival.bytes).into_owned()),
        "delivered_after_ms": arrival.map(|(_, after)| after.as_secs_f64() * 1e3),
    })
}

/// Where the gateway listens while it stays up, for a machine.
pub(super) fn addresses_as_json(house: &House) -> Value {
    json!({
        "relay": house.listener(RELAY),
        "submission": house.listener(SUBMISSION),
        "login": LOGIN,
        "password": PASSWORD,
        "config": house.directory().join("gatepost.toml"),
    })
}

/// A message that arrived, for a machine.
pub(super) fn arrival_as_json(arrival: &Arrival) -> Value {
    json!({
        "from": arrival.from,
        "to": arrival.to,
        "delivered": String::from_utf8_lossy(&arrival.bytes),
    })
}
