use mail::{Reason, Status, Verdict};

use crate::remedy::Remedy;
use crate::rule::Rule;
use crate::snapshot::{IdentityIx, TenantIx};

/// A verdict, and which rule gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Yes or no.
    pub verdict: Verdict,
    /// Who is responsible, where somebody is.
    pub tenant: Option<TenantIx>,
    /// The login or the grant that answers for the sender, where one does: its limits are charged.
    pub identity: Option<IdentityIx>,
    /// The rule that decided.
    pub rule: Rule,
    /// What would turn a denial.
    pub remedy: Remedy,
}

impl Decision {
    /// A refusal that the state of the running gateway decides: suspensions, limits, look-ups.
    ///
    /// A reason whose code is permanent is given with a temporary one where `verdict` defers: a
    /// suspension is 450 4.7.1 rather than 550 5.7.1 where the configuration says so.
    #[must_use]
    pub fn refusal(rule: Rule, tenant: Option<TenantIx>, verdict: Verdict, remedy: Remedy) -> Self {
        debug_assert!(!verdict.is_accept(), "a refusal does not accept");
        Self { verdict, tenant, identity: None, rule, remedy }
    }

    pub(crate) fn accept(rule: Rule, tenant: Option<TenantIx>, identity: Option<IdentityIx>) -> Self {
        Self { verdict: Verdict::Accept, tenant, identity, rule, remedy: Remedy::None }
    }

    pub(crate) fn deny(rule: Rule, tenant: Option<TenantIx>, reason: Reason, remedy: Remedy) -> Self {
        Self::refusal(rule, tenant, Verdict::Deny(reason), remedy)
    }

    pub(crate) fn by(self, identity: Option<IdentityIx>) -> Self {
        Self { identity, ..self }
    }

    /// The code and the enhanced status of a refusal; `None` for an acceptance.
    #[must_use]
    pub fn reply_code(&self) -> Option<(u16, Status)> {
        const TEMPORARY: u16 = 450;
        let reason = self.verdict.reason()?;
        let status = reason.status();
        Some(match self.verdict {
            Verdict::Defer(_) if status.class == 5 => (TEMPORARY, Status { class: 4, ..status }),
            _ => (reason.code(), status),
        })
    }
}
