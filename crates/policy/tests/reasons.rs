//! The page of reasons, made from what the code says: `REASONS.md` is never behind it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use mail::{Reason, Reply, Status};
use policy::{Decision, Remedy, ReplyFacts};

const HEAD: &str = "\
# Why mail is refused

Made by `BLESS=1 cargo test -p gatepost-policy --test reasons`; the same test fails when it is behind
the code.

A reason is a stable word: it labels `gatepost_relay_denials_total{listener,tenant,reason}`, log records
and tickets, and never changes its meaning. The replies are those of a gateway with a contact, a
submission listener and a public page for tickets; what is not configured is left out. A first line
without a recipient is about the session or the message. Where a limit, a list, a suspension or a
header decided, the first line goes on after its words with which one, and when it frees. A suspension
is told with 450 4.7.1 instead of 550 5.7.1 where the configuration says so.

A few replies say the same otherwise, because the command or the moment asks for it:

- AUTH before TLS is 538 5.7.11 rather than 530 (RFC 4954 section 6), as shown there.
- SCRAM without the channel binding that was announced says so in its first line.
- So does a login that XCLIENT names and no tenant has (550 5.7.0).
- A limit of connections that is met with at MAIL is 450 rather than 421.
";

/// Reasons that belong to a check of incoming mail, which no rule makes yet.
const NOT_GIVEN: [Reason; 3] = [Reason::SpfFailed, Reason::DkimFailed, Reason::DmarcFailed];

fn page() -> String {
    let mut page = HEAD.to_owned();
    for reason in Reason::ALL {
        let (code, status) = (reason.code(), reason.status());
        writeln!(page, "\n## `{reason}` {code} {status}\n\n{}.", capital(reason.summary())).unwrap();
        if NOT_GIVEN.contains(&reason) {
            writeln!(page, "\nNo rule gives it: incoming mail is not authenticated.").unwrap();
            continue;
        }
        let mut told = String::new();
        for decision in Decision::refusals_for(reason) {
            let reply = reply(&decision);
            if reply != told {
                writeln!(page, "\n```\n{reply}```").unwrap();
                told = reply;
            }
            let remedy = match decision.remedy {
                Remedy::None => String::new(),
                remedy => format!(": {}", remedy.sentence(decision.rule)),
            };
            writeln!(page, "\nRule `{}`{remedy}.", decision.rule).unwrap();
            if reason == Reason::TlsRequired {
                let reply = told_at_auth(&decision);
                writeln!(
                    page,
                    "\n```\n{reply}```\n\nRule `{}`, where AUTH comes before TLS{remedy}.",
                    decision.rule
                )
                .unwrap();
            }
        }
    }
    page
}

/// TLS is required before a login (RFC 4954 section 6): the session words the first line itself, and a
/// gateway's own reply is held against this one in the program's tests (G1).
fn told_at_auth(decision: &Decision) -> String {
    let mut reply = Reply::default();
    reply.set(538, Some(Status::new(5, 7, 11)), format_args!("start TLS before you log in"));
    decision.add_advice(&facts(""), &mut reply);
    wire(&reply)
}

fn reply(decision: &Decision) -> String {
    let reason = decision.verdict.reason().expect("a refusal has a reason");
    // A connection, a login or a whole message is refused without a recipient.
    let is_about_recipient = !matches!(
        reason,
        Reason::TlsRequired
            | Reason::LoginFailed
            | Reason::LoginLocked
            | Reason::LoginBusy
            | Reason::MechanismWithdrawn
            | Reason::HeaderFromNotOwned
            | Reason::BareNewline
            | Reason::MessageTooLarge
            | Reason::LoopDetected
            | Reason::SpoolFull
            | Reason::SpoolFailed
            | Reason::ConnectionLimit
    );
    let to = match reason {
        Reason::RoutingSyntax => "bob%adatum.example@proseware.example",
        _ if is_about_recipient => "bob@adatum.example",
        _ => "",
    };
    let mut reply = Reply::default();
    decision.write_reply(&facts(to), &mut reply);
    wire(&reply)
}

fn facts(to: &str) -> ReplyFacts<'_> {
    ReplyFacts {
        client: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
        from: "ann@proseware.example",
        to,
        detail: None,
        ticket: Some("7QK2-M9XH-T4WD-3".parse().expect("a ticket")),
        contact: Some("postmaster@relay.example"),
        public_url: Some("https://why.relay.example"),
        submission_port: Some(587),
    }
}

fn wire(reply: &Reply) -> String {
    let mut wire = Vec::new();
    reply.write_to(&mut wire);
    String::from_utf8(wire).expect("a reply is text").replace("\r\n", "\n")
}

fn capital(sentence: &str) -> String {
    let (first, rest) = sentence.split_at(1);
    format!("{}{rest}", first.to_uppercase())
}

#[test]
fn the_page_of_reasons_says_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("REASONS.md");
    let page = page();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "crates/policy/REASONS.md is behind the code; make it anew with \
         `BLESS=1 cargo test -p gatepost-policy --test reasons`"
    );
}

#[test]
fn every_reason_says_what_would_help_or_whom_to_ask() {
    for reason in Reason::ALL {
        for decision in Decision::refusals_for(reason) {
            let (code, status) = decision.reply_code().expect("a refusal has a code");
            assert_eq!((code, status), (reason.code(), reason.status()), "{reason}");
            assert_eq!(reply(&decision).lines().count(), 2, "{reason}");
        }
    }
}
