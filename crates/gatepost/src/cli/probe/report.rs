use std::fmt::Write as _;
use std::net::IpAddr;

use anstyle::Style;
use serde_json::{Value, json};

use super::Subject;
use super::attempt::{Finding, Outcome, Stage};
use crate::cli::Answer;
use crate::cli::text::{FAINT, NO, STRONG, WARNING, YES, count, styled, width, wrapped, write_paragraph};

/// What of a reply is shown in the table; the whole of it is in the JSON.
const REPLY_CHARS_MAX: usize = 70;

/// The cases that ask plainly, without routing tricks or malformed senders: only they show that a
/// server is closed, for the others it may refuse whatever it thinks of relaying.
const PLAIN: std::ops::RangeInclusive<u8> = 1..=3;

/// Yes: denied. A run that left a plain case undecided has not answered the question.
pub(super) fn answer(findings: &[Finding]) -> Answer {
    let mut plain = findings.iter().filter(|finding| PLAIN.contains(&finding.case.number));
    if findings.iter().any(|finding| finding.outcome == Outcome::Passed) {
        Answer::No
    } else if plain.all(|finding| finding.outcome.is_decided()) {
        Answer::Yes
    } else {
        Answer::Broken
    }
}

pub(super) fn for_people(subject: &Subject, findings: &[Finding]) -> String {
    let Subject { server, address, source, names } = subject;
    let mut out = String::new();
    let subject =
        format!("{server} ({address}, {}) from {source}; {} is foreign to it", names.server, names.foreign);
    write_paragraph(&mut out, STRONG, "probed", &subject, 0);
    out.push('\n');
    write_table(&mut out, findings);
    out.push('\n');
    write_summary(&mut out, findings);
    if names.own.is_empty() {
        hint(&mut out, "cases 19 and 20 need a domain that the server receives for: name one with --own");
    }
    if answer(findings) == Answer::No && is_near(*source) {
        let text =
            format!("the server may trust {source}, which is no stranger's address: probe from outside");
        hint(&mut out, &text);
    }
    out
}

fn write_table(out: &mut String, findings: &[Finding]) {
    let rows: Vec<_> = findings
        .iter()
        .map(|finding| {
            let case = &finding.case;
            (case.number, format!("<{}>", case.from), format!("<{}>", case.to), finding)
        })
        .collect();
    let from_width = rows.iter().map(|row| row.1.chars().count()).max().unwrap_or(0);
    let to_width = rows.iter().map(|row| row.2.chars().count()).max().unwrap_or(0);
    let outcome_width = findings.iter().map(|finding| word(finding.outcome).len()).max().unwrap_or(0);
    let reply_width =
        findings.iter().map(|finding| shortened(&finding.reply).chars().count()).max().unwrap_or(0);
    if 4 + 2 + from_width + 2 + to_width + 2 + outcome_width + 2 + 8 + reply_width > width() {
        return rows
            .iter()
            .for_each(|(number, from, to, finding)| write_case(out, *number, from, to, finding));
    }
    let head = format!("{:>4}  {:<from_width$}  {:<to_width$}", "case", "MAIL FROM", "RCPT TO");
    let _ = writeln!(out, "{}", styled(FAINT, head.trim_end()));
    for (number, from, to, finding) in &rows {
        let outcome = format!("{:<outcome_width$}", word(finding.outcome));
        let _ = writeln!(
            out,
            "{number:>4}  {from:<from_width$}  {to:<to_width$}  {}  {}",
            styled(style(finding.outcome), outcome),
            styled(FAINT, format!("{:<7} {}", finding.stage.as_str(), shortened(&finding.reply))),
        );
    }
}

/// A case on separate lines, where a table is wider than the terminal.
fn write_case(out: &mut String, number: u8, from: &str, to: &str, finding: &Finding) {
    const INDENT: &str = "      ";
    let outcome = styled(style(finding.outcome), word(finding.outcome));
    let stage = styled(FAINT, format!("at {}", finding.stage.as_str()));
    let _ = writeln!(out, "{number:>4}  {outcome} {stage}");
    for line in wrapped(&format!("{from} to {to}"), width() - INDENT.len()) {
        let _ = writeln!(out, "{INDENT}{line}");
    }
    for line in wrapped(&finding.reply, width() - INDENT.len()) {
        let _ = writeln!(out, "{INDENT}{}", styled(FAINT, line));
    }
}

fn write_summary(out: &mut String, findings: &[Finding]) {
    for outcome in Outcome::ALL {
        let numbers: Vec<_> = findings
            .iter()
            .filter(|finding| finding.outcome == outcome)
            .map(|finding| finding.case.number.to_string())
            .collect();
        if !numbers.is_empty() {
            let which =
                if outcome == Outcome::Denied { String::new() } else { format!(" ({})", numbers.join(", ")) };
            let cases = count(numbers.len(), "case", "cases");
            let told = format!("{cases}: {}{which}", meaning(outcome));
            write_paragraph(out, style(outcome), &format!("{}:", word(outcome)), &told, 2);
        }
    }
    let is_delivered = findings.iter().any(|finding| finding.stage == Stage::Message);
    let verdict = match answer(findings) {
        Answer::No if is_delivered => styled(NO, "This server relays for strangers."),
        Answer::No => styled(NO, "This server relays for strangers, unless it refuses the message itself."),
        Answer::Yes => styled(YES, "No case passed."),
        Answer::Broken => {
            styled(WARNING, "The plain cases were not decided: whether it relays for strangers is not known.")
        }
    };
    let _ = writeln!(out, "{verdict}");
}

fn hint(out: &mut String, text: &str) {
    write_paragraph(out, WARNING, "note:", text, 2);
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::LoginRequired => "asked to log in",
        Outcome::TlsRequired => "asked for TLS",
        Outcome::DomainRefused => "no such domain",
        other => other.as_str(),
    }
}

fn meaning(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "accepted for a domain that is foreign to the server",
        Outcome::Denied => "refused for good",
        Outcome::Unclear => {
            "accepted, as is every name at that place: a mailbox of the server's own, or relayed; \
             --deliver shows which"
        }
        Outcome::LoginRequired => {
            "a login is required of every client here; probe the port for other servers too"
        }
        Outcome::TlsRequired => "probe again with --tls starttls",
        Outcome::Deferred => "not decided now: probe again later",
        Outcome::DomainRefused => "refused for the domain itself: name one that exists with --foreign",
        Outcome::Lost => "the server gave no answer",
    }
}

fn style(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Passed => NO,
        Outcome::Denied | Outcome::LoginRequired => YES,
        _ => WARNING,
    }
}

fn shortened(reply: &str) -> String {
    if reply.chars().count() <= REPLY_CHARS_MAX {
        return reply.to_owned();
    }
    reply.chars().take(REPLY_CHARS_MAX - 1).chain(['\u{2026}']).collect()
}

/// An address that servers often trust for being near.
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

pub(super) fn as_json(subject: &Subject, findings: &[Finding]) -> Value {
    let Subject { server, address, source, names } = subject;
    let cases = findings.iter().map(|finding| {
        json!({
            "case": finding.case.number,
            "from": finding.case.from,
            "to": finding.case.to,
            "outcome": finding.outcome.as_str(),
            "stage": finding.stage.as_str(),
            "reply": finding.reply,
        })
    });
    let number = |outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    let counts = Outcome::ALL.map(|outcome| (outcome.as_str().to_owned(), number(outcome).into()));
    json!({
        "ok": answer(findings) == Answer::Yes,
        "server": server,
        "address": address,
        "server_name": names.server,
        "source": source,
        "foreign": names.foreign,
        "own": names.own,
        "cases": cases.collect::<Vec<_>>(),
        "outcomes": counts.into_iter().collect::<serde_json::Map<String, Value>>(),
    })
}
