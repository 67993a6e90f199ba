//! Who may send as what.

use super::Compiler;
use crate::index::{IdentityIx, TenantIx};
use crate::names::is_domain_pattern;
use crate::patterns::Patterns;
use crate::senders::{Ending, Reserved, SenderRules, endings};
use crate::source::{ReservedSendersSource, SenderRulesSource, Sourced};

impl Compiler {
    /// What a sender must end with; what is no pattern is reported, and then there are none.
    pub(super) fn endings<'a>(&mut self, patterns: &'a [Sourced<String>]) -> Vec<Ending<'a>> {
        match endings(patterns) {
            Ok(endings) => endings,
            Err(malformed) => {
                for pattern in malformed {
                    self.error(
                        &pattern.origin,
                        "senders",
                        format!("{:?} is no sender pattern", pattern.value),
                        sender_remedy(&pattern.value),
                    );
                }
                Vec::new()
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
        source.is_any().then(|| {
            Box::new(SenderRules {
                plus_addressing: *plus_addressing,
                own_denied: own_senders_denied.clone(),
                headers: *headers,
                reserved: reserved.iter().map(|block| self.reserved(tenant, block)).collect(),
            })
        })
    }

    fn reserved(&mut self, tenant: TenantIx, source: &ReservedSendersSource) -> Reserved {
        if source.senders.is_empty() || source.identities.is_empty() {
            let message = "reserves no sender, or for no login".to_owned();
            let remedy = "add senders = [\"@its-domain.example\"] and identities = [\"a login\"]";
            self.error(&source.origin, "reserved_senders", message, remedy);
        }
        let identities =
            source.identities.iter().filter_map(|login| self.reserved_for(tenant, login)).collect();
        let senders = Patterns::build(self.endings(&source.senders).into_iter());
        Reserved { senders, identities, origin: source.origin.clone() }
    }

    fn reserved_for(&mut self, tenant: TenantIx, login: &Sourced<String>) -> Option<IdentityIx> {
        let (names, identities) = match &self.known_logins {
            Some(known) => (&*known.names, &*known.identities),
            None => (&self.logins, &*self.identities),
        };
        let identity = names.get(&login.value).copied();
        let own = identity.filter(|identity| identities[identity.0 as usize].tenant == tenant);
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
