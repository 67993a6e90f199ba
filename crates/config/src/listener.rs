//! `[[listener]]`: where mail comes in.

use std::net::SocketAddr;

use policy::{Listener, Origin, Role, Sourced, TlsPolicy};

use crate::error::Report;
use crate::ports::{self, Port};
use crate::section::{Keys, Section};
use crate::settings::ListenerConfig;

const LISTENER: Keys =
    Keys { known: &["name", "address", "role", "tls", "auth_without_tls"], later: &["auth"] };

/// Every `[[listener]]`, whose ports are noted in `ports`.
pub(crate) fn read(top: &Section<'_>, ports: &mut Vec<Port>, report: &mut Report) -> Vec<ListenerConfig> {
    let mut listeners: Vec<(ListenerConfig, Origin)> = Vec::new();
    let sections = top.sections("listener", &LISTENER, report);
    if sections.is_empty() {
        top.missing("[[listener]]", "a section with name, address and role", report);
    }
    for section in sections {
        let Some((listener, address)) = read_listener(&section, report) else { continue };
        let name = &listener.policy.name;
        if let Some((_, origin)) = listeners.iter().find(|(other, _)| other.policy.name == *name) {
            let message = format!("two listeners are called {name:?}");
            let remedy = format!("change one of them; the other is at {origin}");
            report.error(&section.origin, "listener.name", message, remedy);
        }
        ports.push(Port { what: format!("listener {name:?}"), key: "listener.address", address });
        if listener.policy.tls != TlsPolicy::Off && !top.has("tls") {
            let remedy = "add a [tls] section with certificate and key, or write tls = \"off\"";
            report.error(&section.origin, "listener.tls", "TLS without a certificate", remedy);
        }
        listeners.push((listener, section.origin));
    }
    listeners.into_iter().map(|(listener, _)| listener).collect()
}

fn read_listener(
    section: &Section<'_>,
    report: &mut Report,
) -> Option<(ListenerConfig, Sourced<SocketAddr>)> {
    let name = section.required("name", "\"smtp\"", report);
    let address = ports::address(section, report);
    section.demand("role", "\"relay\" or \"submission\"", report);
    let roles = [("relay", Role::Relay), ("submission", Role::Submission)];
    let role = section.choice("role", &roles, report);
    section.demand("tls", "\"starttls\"", report);
    let policies = [
        ("off", TlsPolicy::Off),
        ("starttls", TlsPolicy::StartTls),
        ("required", TlsPolicy::Required),
        ("implicit", TlsPolicy::Implicit),
    ];
    let tls = section.choice("tls", &policies, report);
    let auth_without_tls = section.boolean("auth_without_tls", report);
    if let Some(auth) = auth_without_tls.as_ref().filter(|auth| auth.value) {
        let message = "passwords cross the network in the clear: leave it out wherever a client can do TLS";
        report.warn(&auth.origin, "listener.auth_without_tls", message);
    }
    let (name, address, role, tls) = (name?, address?, role?.value, tls?);
    let auth_without_tls = auth_without_tls.is_some_and(|auth| auth.value);
    if role == Role::Submission && tls.value == TlsPolicy::Off && !auth_without_tls {
        let remedy = "write tls = \"required\", or auth_without_tls = true to take passwords in the clear";
        report.error(&tls.origin, "listener.tls", "no client could log in here without TLS", remedy);
    }
    let policy = Listener { name: name.value.into(), role, tls: tls.value, auth_without_tls };
    Some((ListenerConfig { policy, address: address.value }, address))
}
