use mail::{Reason, Status, Verdict};

use crate::index::{IdentityIx, TenantIx};
use crate::remedy::Remedy;
use crate::rule::Rule;

/// A verdict, and which rule gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Yes or no.
    pub verdict: Verdict,
    /// Who is responsible, if any.
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

    /// The refusal for `reason` where nothing but the reason is known: temporary where its code is.
    #[must_use]
    pub fn refusal_for(reason: Reason, tenant: Option<TenantIx>) -> Self {
        let verdict = if reason.code() < 500 { Verdict::Defer(reason) } else { Verdict::Deny(reason) };
        let (rule, remedy) = usual(reason);
        Self::refusal(rule, tenant, verdict, remedy)
    }

    /// Every refusal that a reason is given with, the usual one first: each rule and remedy.
    pub fn refusals_for(reason: Reason) -> impl Iterator<Item = Self> {
        let others: &[(Rule, Remedy)] = match reason {
            Reason::LoginRequired => &[(Rule::StrictLogin, Remedy::LogIn)],
            Reason::SenderNotOwned => &[
                (Rule::Sender, Remedy::UseReservedLogin),
                (Rule::Sender, Remedy::AllowNullSender),
                (Rule::Sender, Remedy::LogInOrAddNetwork),
            ],
            Reason::ClientBlocked => &[(Rule::Dnsbl, Remedy::TakeOffList)],
            _ => &[],
        };
        let usual = Self::refusal_for(reason, None);
        let other = move |&(rule, remedy): &(Rule, Remedy)| Self { rule, remedy, ..usual };
        std::iter::once(usual).chain(others.iter().map(other))
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

/// The rule that gives a reason, and the change that would turn it, where nothing else is known.
fn usual(reason: Reason) -> (Rule, Remedy) {
    match reason {
        Reason::RelayNotPermitted => (Rule::Responsibility, Remedy::LogInOrAddNetwork),
        Reason::LoginRequired => (Rule::Login, Remedy::LogIn),
        Reason::TlsRequired => (Rule::Tls, Remedy::StartTls),
        Reason::LoginFailed => (Rule::Credential, Remedy::CorrectCredentials),
        Reason::LoginBusy | Reason::MechanismWithdrawn => (Rule::Credential, Remedy::TryAgain),
        Reason::LoginLocked => (Rule::LoginLock, Remedy::Wait),
        Reason::SenderNotOwned => (Rule::Sender, Remedy::AddSender),
        Reason::HeaderFromNotOwned => (Rule::HeaderFrom, Remedy::OwnHeaderFrom),
        Reason::RecipientUnknown => (Rule::Recipient, Remedy::ListRecipient),
        Reason::RecipientUnverified => (Rule::CallAhead, Remedy::TryAgain),
        Reason::RecipientDomainMissing | Reason::RecipientDomainNoMail => {
            (Rule::DomainExists, Remedy::CorrectDomain)
        }
        Reason::RoutingSyntax => (Rule::RoutingSyntax, Remedy::PlainAddress),
        Reason::ClientBlocked => (Rule::ClientList, Remedy::TakeOffList),
        Reason::SenderBlocked => (Rule::SenderList, Remedy::TakeOffList),
        Reason::RecipientBlocked => (Rule::RecipientList, Remedy::TakeOffList),
        Reason::TenantSuspended | Reason::IdentitySuspended | Reason::ClientSuspended => {
            (Rule::Suspension, Remedy::LiftSuspension)
        }
        Reason::RateLimited | Reason::QuotaExceeded => (Rule::Rate, Remedy::Wait),
        // The sender's domain decides about these.
        Reason::SpfFailed | Reason::DkimFailed | Reason::DmarcFailed => (Rule::HeaderFrom, Remedy::None),
        Reason::BareNewline => (Rule::LineEnding, Remedy::EndLines),
        Reason::MessageTooLarge => (Rule::MessageSize, Remedy::SmallerMessage),
        Reason::TooManyRecipients => (Rule::RecipientCount, Remedy::FewerRecipients),
        Reason::LoopDetected => (Rule::Loop, Remedy::BreakLoop),
        Reason::SecondTenant => (Rule::OneTenant, Remedy::SeparateTransaction),
        Reason::SpoolFull | Reason::SpoolFailed => (Rule::Spool, Remedy::MendSpool),
        Reason::ConnectionLimit => (Rule::Connections, Remedy::Wait),
    }
}
