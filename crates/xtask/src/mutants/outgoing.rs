//! Mistakes on the way out: mail, and questions ahead of it, that go where or as they must not.

use super::{Judge, Mutant};

const SESSION: &str = "crates/smtp/src/client/session.rs";
const CONNECTIONS: &str = "crates/delivery/src/connections.rs";
const TRANSACTION: &str = "crates/delivery/src/transaction.rs";
const FIT: &str = "crates/delivery/src/fit.rs";
const ROUTES: &str = "crates/config/src/routes.rs";
const DIALOG: &str = "crates/control/src/call_ahead/dialog.rs";
const AHEAD: &str = "crates/control/src/call_ahead/mod.rs";
const DESK: &str = "crates/control/src/call_ahead/desk.rs";
const DNS: &str = "crates/control/src/dns/mod.rs";

/// What may notice a mistake in `file`, where it is one of these.
pub(super) fn judges(file: &str) -> Option<&'static [Judge]> {
    match file {
        CONNECTIONS | TRANSACTION | FIT => {
            Some(&[("gatepost-delivery", &[]), ("gatepost", &["--test", "tls_out"])])
        }
        SESSION => Some(&[("gatepost-smtp", &[]), ("gatepost", &["--test", "tls_out"])]),
        ROUTES | DIALOG => Some(&[("gatepost", &["--test", "tls_out"])]),
        AHEAD | DESK | DNS => Some(&[("gatepost-control", &["--lib"])]),
        _ => None,
    }
}

pub(super) const MUTANTS: [Mutant; 21] = [
    Mutant {
        name: "a host that puts EHLO off is taken for one that does not know it",
        file: SESSION,
        original: "if !reply.is_permanent() {",
        mutated: "if reply.is_positive() {",
    },
    Mutant {
        name: "each byte of a reply has a time of its own",
        file: CONNECTIONS,
        original: "if std::mem::replace(&mut patience.awaited, step) == step {",
        mutated: "if std::mem::replace(&mut patience.awaited, step).is_none() {",
    },
    Mutant {
        name: "a read outlives the connection that it was for",
        file: TRANSACTION,
        original: "        wire.abandon_body(cx);\n        let Task::Sending(transaction)",
        mutated: "        let Task::Sending(transaction)",
    },
    Mutant {
        name: "mail that must be sealed goes in the clear where no TLS is offered",
        file: SESSION,
        original: "} else if wanted && required {",
        mutated: "} else if wanted && required && self.offers.start_tls {",
    },
    Mutant {
        name: "a refusal to start TLS is none",
        file: SESSION,
        original: "            if *required {\n                return self.fail(Failure::NoTls(Some(reply)));",
        mutated: "            if *required && reply.is_positive() {\n                return self.fail(Failure::NoTls(Some(reply)));",
    },
    Mutant {
        name: "mail that must be sealed goes to any host that seals it",
        file: CONNECTIONS,
        original: "ClientTls::StartTls { config: configs.required.clone(), name, required: true }",
        mutated: "ClientTls::StartTls { config: configs.opportunistic.clone(), name, required: true }",
    },
    Mutant {
        name: "TLS is never tried",
        file: CONNECTIONS,
        original: "    match (tls, name) {\n        (RouteTls::Off, _) => ClientTls::Off,",
        mutated: "    match (tls, name) {\n        _ if true => ClientTls::Off,\n        (RouteTls::Off, _) => ClientTls::Off,",
    },
    Mutant {
        name: "a handshake that fails is the end of opportunism",
        file: CONNECTIONS,
        original: "desk.site(connection.site).tls == RouteTls::Opportunistic",
        mutated: "desk.site(connection.site).tls == RouteTls::Off",
    },
    Mutant {
        name: "required is opportunistic",
        file: ROUTES,
        original: "(\"required\", RouteTls::Required)",
        mutated: "(\"required\", RouteTls::Opportunistic)",
    },
    Mutant {
        name: "questions ahead go to any host that seals them",
        file: DIALOG,
        original: "if required { &self.options.required }",
        mutated: "if required && host.is_empty() { &self.options.required }",
    },
    Mutant {
        name: "questions ahead are never sealed",
        file: DIALOG,
        original: "Ok(name) if tls != RouteTls::Off =>",
        mutated: "Ok(name) if tls != RouteTls::Off && host.is_empty() =>",
    },
    Mutant {
        name: "a handshake that fails is the end of a question ahead",
        file: DIALOG,
        original: "Err(Broken::Tls) if tls == RouteTls::Opportunistic =>",
        mutated: "Err(Broken::Tls) if tls == RouteTls::Off =>",
    },
    Mutant {
        name: "hosts of MX records may lie anywhere",
        file: CONNECTIONS,
        original: "if is_stranger && Reach::of(to.ip()) != Reach::Public {",
        mutated: "if is_stranger && to.port() == 0 {",
    },
    Mutant {
        name: "the size that a host names is passed over",
        file: FIT,
        original: "if bytes <= most {",
        mutated: "if bytes <= most || most > 0 {",
    },
    Mutant {
        name: "8-bit goes to a host that does not take it",
        file: FIT,
        original: "(!passes).then(",
        mutated: "(!passes && hop.is_empty()).then(",
    },
    Mutant {
        name: "8-bit in a large body goes to a host that does not take it",
        file: TRANSACTION,
        original: "if !takes_eight_bit && !buffer[range.clone()].is_ascii() {",
        mutated: "if !takes_eight_bit && range.is_empty() {",
    },
    Mutant {
        name: "a stranger asks ahead as often as he likes",
        file: DESK,
        original: "if *open >= STRANGER_QUESTIONS_MAX {",
        mutated: "if *open >= u32::MAX {",
    },
    Mutant {
        name: "strangers take every call ahead",
        file: AHEAD,
        original: "match for_stranger {",
        mutated: "match for_stranger && key.is_empty() {",
    },
    Mutant {
        name: "a client waits as long as a call ahead takes",
        file: AHEAD,
        original: "let mut enough = self.outside.after(WAIT_MAX);",
        mutated: "let mut enough = self.outside.after(CALL_MAX * 2);",
    },
    Mutant {
        name: "what could not be asked for is absent",
        file: DNS,
        original: "Err(error) => absences.extend(absence(&error)),",
        mutated: "Err(error) => absences.extend(absence(&error).or(Some(Absence { ttl: SHORTEST, is_proved: true }))),",
    },
    Mutant {
        name: "an empty answer proves an absence",
        file: DNS,
        original: "Some(Absence { ttl: SHORTEST, is_proved: false })",
        mutated: "Some(Absence { ttl: SHORTEST, is_proved: true })",
    },
];
