//! Which messages are meant.

use std::time::Duration;

use config::parse_duration;
use mail::{MessageId, QueueState};
use policy::Snapshot;
use spool::inspect::ListedMessage;

use super::super::access::Principal;
use super::super::names::{no_login, no_tenant};
use super::super::problem::Problem;

/// As it is asked for: what is not said is not looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// One message.
    pub(super) id: Option<String>,
    pub(super) tenant: Option<String>,
    /// Who had logged in.
    pub(super) login: Option<String>,
    /// An address, `@domain`, or `<>`.
    pub(super) sender: Option<String>,
    /// Of a recipient that still waits.
    pub(super) domain: Option<String>,
    /// Since it came.
    pub(super) older_than: Option<String>,
    pub(super) state: Option<String>,
}

/// A filter that makes sense.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) id: Option<MessageId>,
    pub(super) tenant: Option<String>,
    pub(super) login: Option<String>,
    sender: Option<String>,
    domain: Option<String>,
    pub(super) older_than: Option<Duration>,
    pub(super) state: Option<QueueState>,
}

impl Filter {
    /// Says nothing itself.
    pub(super) fn is_empty(&self) -> bool {
        self.parts().iter().all(|(_, part)| part.is_none())
    }

    /// As a person would say it, for the log.
    pub(super) fn words(&self) -> String {
        let parts = self.parts();
        let said = parts.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
        said.collect::<Vec<_>>().join(" ")
    }

    fn parts(&self) -> [(&'static str, &Option<String>); 7] {
        let Self { id, tenant, login, sender, domain, older_than, state } = self;
        [
            ("id", id),
            ("tenant", tenant),
            ("login", login),
            ("sender", sender),
            ("domain", domain),
            ("older_than", older_than),
            ("state", state),
        ]
    }

    /// What it means for `principal`, who sees nothing but its own tenant's mail.
    pub(super) fn understood(&self, principal: &Principal) -> Result<Wanted, Problem> {
        let id = self.id.as_deref().map(str::parse).transpose();
        let older_than = self.older_than.as_deref().map(parse_duration).transpose();
        let state = self.state.as_deref().map(|word| {
            QueueState::named(word).ok_or_else(|| {
                let words = QueueState::ALL.map(QueueState::as_str).join(", ");
                Problem::malformed(format!("there is no state {word:?}; one of {words}"))
            })
        });
        if let Some(tenant) = &self.tenant
            && !principal.is_for(tenant)
        {
            return Err(Problem::not_found(format!("there is no tenant {tenant:?}")));
        }
        let own = || principal.tenant.as_deref().map(ToOwned::to_owned);
        Ok(Wanted {
            id: id.map_err(Problem::malformed)?,
            tenant: self.tenant.clone().or_else(own),
            login: self.login.clone(),
            sender: self.sender.clone().map(|sender| if sender == "<>" { String::new() } else { sender }),
            domain: self.domain.clone(),
            older_than: older_than.map_err(Problem::malformed)?,
            state: state.transpose()?,
        })
    }
}

impl Wanted {
    /// One message, wherever it is and whosoever.
    pub(super) fn one(id: MessageId) -> Self {
        Self { id: Some(id), ..Self::default() }
    }

    /// What is named that the configuration does not know, as a sentence; what the principal may not see is
    /// not known either. Mail of a tenant or a login that has left it may be queued all the same.
    pub(super) fn unknown(&self, snapshot: &Snapshot, principal: &Principal) -> Option<String> {
        if let Some(name) = self.tenant.as_deref()
            && snapshot.tenant_named(name).is_none()
        {
            let names = snapshot.tenants().iter().map(|tenant| &*tenant.name);
            return Some(no_tenant(name, names.filter(|name| principal.is_for(name))));
        }
        let login = self.login.as_deref()?;
        let owner = snapshot.identity(login).map(|identity| snapshot.identity_tenant(identity));
        let is_there = owner.is_some_and(|owner| {
            let owner = &*snapshot.tenant(owner).name;
            principal.is_for(owner) && self.tenant.as_deref().is_none_or(|tenant| tenant == owner)
        });
        (!is_there).then(|| no_login(login, self.tenant.as_deref(), snapshot, principal))
    }

    /// Something is asked that only an envelope tells.
    pub(super) fn needs_envelope(&self) -> bool {
        self.tenant.is_some() || self.login.is_some() || self.sender.is_some() || self.domain.is_some()
    }

    /// Whether a message is meant; `waits` says which of its recipients still wait.
    pub(super) fn fits(&self, message: &ListedMessage, waits: impl Fn(usize) -> bool) -> bool {
        let sender = &message.reverse_path;
        let is_from = |wanted: &str| match wanted.strip_prefix('@') {
            Some(domain) => domain_of(sender).eq_ignore_ascii_case(domain),
            None => sender.eq_ignore_ascii_case(wanted),
        };
        let is_to = |wanted: &str| {
            let mut recipients = message.recipients.iter().enumerate();
            recipients.any(|(index, to)| waits(index) && domain_of(&to.address).eq_ignore_ascii_case(wanted))
        };
        self.tenant.as_ref().is_none_or(|tenant| *tenant == message.tenant)
            && self.login.as_ref().is_none_or(|login| login.eq_ignore_ascii_case(&message.identity))
            && self.sender.as_deref().is_none_or(is_from)
            && self.domain.as_deref().is_none_or(is_to)
    }
}

fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}
