//! Who may send as what.

use super::Compiler;
use crate::names::is_domain_pattern;
use crate::senders::{Reserved, SenderRules, Senders};
use crate::snapshot::{IdentityIx, TenantIx};
use crate::source::{ReservedSendersSource, SenderRulesSource, Sourced};

impl Compiler {
    pub(super) fn senders(&mut self, patterns: &[Sourced<String>]) -> Senders {
        match Senders::compile(patterns) {
            Ok(senders) => senders,
            Err(malformed) => {
                for pattern in malformed {
                    self.error(
                        &pattern.origin,
                        "senders",
                        format!("{:?} is no sender pattern", pattern.value),
                        sender_remedy(&pattern.value),
                    );
                }
                Senders::default()
            }
        }
    }

    /// What a tenant says about senders beyond the list of them; its identities are there already.
    pub(super) fn sender_rules(
        &mut self,
        tenant: TenantIx,
        source: &SenderRulesSource,
    ) -> Option<Box<SenderRules>> {
        let SenderRulesSource { plus_addressing, own_senders_denied, headers, reserved } = source;
        let is_any = *plus_addressing || own_senders_denied.is_some() || headers.is_any();
        if !is_any && reserved.is_empty() {
            return None;
        }
        Some(Box::new(SenderRules {
            plus_addressing: *plus_addressing,
            own_denied: own_senders_denied.clone(),
            headers: *headers,
            reserved: reserved.iter().map(|block| self.reserved(tenant, block)).collect(),
        }))
    }

    fn reserved(&mut self, tenant: TenantIx, source: &ReservedSendersSource) -> Reserved {
        if source.senders.is_empty() || source.identities.is_empty() {
            let message = "reserves no sender, or for nobody".to_owned();
            let remedy = "add senders = [\"@its-domain.example\"] and identities = [\"a login\"]";
            self.error(&source.origin, "reserved_senders", message, remedy);
        }
        let identities =
            source.identities.iter().filter_map(|login| self.reserved_for(tenant, login)).collect();
        Reserved { senders: self.senders(&source.senders), identities, origin: source.origin.clone() }
    }

    fn reserved_for(&mut self, tenant: TenantIx, login: &Sourced<String>) -> Option<IdentityIx> {
        let identity = self.logins.get(&login.value).copied();
        let own = identity.filter(|identity| self.identities[identity.0 as usize].tenant == tenant);
        if own.is_none() {
            let message = format!("the tenant has no login {:?}", login.value);
            self.error(
                &login.origin,
                "identities",
                message,
                "name a login of this file's [[identity]] sections",
            );
        }
        own
    }
}

fn sender_remedy(text: &str) -> String {
    if is_domain_pattern(text) {
        return format!("write \"@{text}\" for every address of the domain");
    }
    "write \"@example.com\", \"@*.example.com\" or \"name@example.com\"".to_owned()
}
