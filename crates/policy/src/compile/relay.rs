//! Relay domains and the lists of their recipients.

use std::net::IpAddr;

use super::Compiler;
use super::lists::Wrong;
use crate::index::TenantIx;
use crate::names::is_domain;
use crate::senders::canonical;
use crate::snapshot::RelayDomain;
use crate::source::{RecipientsSource, RelayDomainSource};

/// What stands before the address of an IPv6 literal (RFC 5321 section 4.1.3).
const IPV6_TAG: &str = "IPv6:";

impl Compiler {
    /// `index` is the place of its first domain among those of the tenant.
    pub(super) fn relay_domain(
        &mut self,
        tenant: TenantIx,
        index: u32,
        source: &RelayDomainSource,
        has_sender_rules: bool,
    ) {
        let route = self.route(&source.route);
        if let Some(recipients) = &source.recipients {
            self.recipients(source, recipients);
        }
        for (index, domain) in (index..).zip(&source.domains) {
            if is_everywhere(&domain.value) {
                let message = format!("{:?} is on every host another address", domain.value);
                self.error(&domain.origin, "domains", message, "name the domain that mail is received for");
                continue;
            }
            if !is_domain(&domain.value) && !is_literal(&domain.value) {
                let message = format!("{:?} is no domain that mail could be received for", domain.value);
                self.error(&domain.origin, "domains", message, "name each relay domain in full, without a *");
                continue;
            }
            let relay = RelayDomain {
                tenant,
                route,
                index,
                is_listed: source.recipients.is_some(),
                call_ahead: source.call_ahead,
                has_sender_rules,
            };
            if let Err(first) = self.relay_domains.insert(&domain.value, relay) {
                let (other, same) = (first.source(&self.sources).1.clone(), first.tenant == tenant);
                let message = match same {
                    true => format!("relay domain {:?} is listed twice", domain.value),
                    false => format!("relay domain {:?} belongs to two tenants", domain.value),
                };
                self.conflict(&domain.origin, other, "domains", message, "remove it from one of them");
            }
        }
        if source.domains.is_empty() {
            let message = "a relay domain without domains".to_owned();
            self.error(&source.route.origin, "domains", message, "add domains = [\"its-domain.example\"]");
        }
    }

    fn recipients(&mut self, relay: &RelayDomainSource, source: &RecipientsSource) {
        let mut wrong = Wrong::default();
        for recipient in &source.recipients {
            let known = if recipient.value.contains('@') {
                let address = mail::Address::parse(&recipient.value).ok();
                let is_own = address.is_some_and(|address| {
                    relay.domains.iter().any(|domain| domain.value.eq_ignore_ascii_case(address.domain()))
                });
                is_own && self.recipient(&recipient.value)
            } else {
                relay
                    .domains
                    .iter()
                    .all(|domain| self.recipient(&format!("{}@{}", recipient.value, domain.value)))
            };
            if !known {
                wrong.add(recipient, "no recipient of these relay domains");
            }
        }
        wrong.report(self, "recipients", "write a local part, or an address in one of the block's domains");
    }

    /// Whether it is an address. Twice the same recipient means what it means once.
    fn recipient(&mut self, address: &str) -> bool {
        canonical(address).map(|address| self.recipients.insert(&address, ())).is_some()
    }
}

/// `[192.0.2.1]`: a relay domain only where one is written so.
fn is_literal(text: &str) -> bool {
    text.starts_with('[') && mail::Address::parse(&format!("x@{text}")).is_ok()
}

/// `[127.0.0.1]`, on every host another one: no domain is meant by it.
fn is_everywhere(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return false };
    let is_ipv6 = inner.get(..IPV6_TAG.len()).is_some_and(|tag| tag.eq_ignore_ascii_case(IPV6_TAG));
    let inner = if is_ipv6 { &inner[IPV6_TAG.len()..] } else { inner };
    match inner.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
        }
        Ok(IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_multicast()
        }
        Err(_) => false,
    }
}
