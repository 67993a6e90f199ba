//! The smallest change that would turn a denial, with the lines of the configuration.

use mail::{ForwardPath, ReversePath};

use crate::decision::Decision;
use crate::facts::Facts;
use crate::index::TenantIx;
use crate::network::NetworkMatch;
use crate::remedy::Remedy;
use crate::responsible::{Line, reserved, with_names};
use crate::rule::Rule;
use crate::snapshot::Snapshot;
use crate::source::Sourced;

impl Snapshot {
    /// The smallest change that would turn `decision`, for the person who runs the gateway; `to` is
    /// missing where it is not about a recipient.
    #[must_use]
    pub fn remedy(
        &self,
        facts: &Facts<'_>,
        from: ReversePath<'_>,
        to: Option<ForwardPath<'_>>,
        decision: &Decision,
    ) -> Option<String> {
        let denial = Denial { snapshot: self, facts, from, to, decision };
        Some(match decision.remedy {
            Remedy::None => return None,
            Remedy::LogIn => denial.log_in(),
            Remedy::LogInOrAddNetwork => denial.add_network(),
            Remedy::ListRecipient => denial.list_recipient(),
            Remedy::AddSender => denial.add_sender(),
            Remedy::UseReservedLogin => denial.use_reserved_login(),
            Remedy::AllowNullSender => denial.allow_null_sender(),
            other => other.sentence(decision.rule).to_owned(),
        })
    }
}

/// A denial, and what it was about.
struct Denial<'a> {
    snapshot: &'a Snapshot,
    facts: &'a Facts<'a>,
    from: ReversePath<'a>,
    to: Option<ForwardPath<'a>>,
    decision: &'a Decision,
}

impl Denial<'_> {
    fn log_in(&self) -> String {
        let Self { snapshot, facts, decision, .. } = *self;
        match (decision.rule, decision.tenant) {
            (Rule::StrictLogin, Some(tenant)) => {
                let origin = &snapshot.tenant(tenant).login_required_origin;
                format!("log in, or set login_required = \"never\" at {origin}")
            }
            _ => format!("log in on listener {}", facts.listener.name),
        }
    }

    fn add_network(&self) -> String {
        let Self { snapshot, facts, from, decision, .. } = *self;
        let own_denied = decision.tenant.and_then(|tenant| snapshot.tenant(tenant).sender_rules.as_ref());
        if let Some(origin) = own_denied.and_then(|rules| rules.own_denied.as_ref())
            && decision.rule == Rule::Sender
        {
            return format!(
                "log in as the tenant, or set own_senders_from_strangers = \"accept\" at {origin}"
            );
        }
        let client = facts.client.to_canonical();
        if snapshot.network(client) == NetworkMatch::Excluded
            && let Some(Sourced { value: net, origin }) = snapshot.network_line(client)
        {
            return format!(
                "log in on a submission listener, or list {client} in the networks of its tenant: \
                 it is more specific than the excluded range {net} at {origin}"
            );
        }
        let mut tenants = (0..).zip(&snapshot.tenants);
        let owner = from.address().and_then(|address| {
            with_names(None, address, |names| {
                tenants.find(|&(ix, _)| Line::tenant_sender(snapshot, TenantIx(ix), names).is_some())
            })
        });
        match owner {
            Some((_, tenant)) => format!(
                "log in on a submission listener as a login of tenant {}, or add \"{client}\" to its networks \
                 ({})",
                tenant.name, tenant.origin
            ),
            None => match from {
                ReversePath::Address(address) => format!(
                    "log in on a submission listener, or add \"{client}\" to the networks and \"{}\" to the \
                     senders of a tenant",
                    address.text()
                ),
                ReversePath::Null => format!(
                    "log in on a submission listener, or add \"{client}\" to the networks of a tenant with \
                     null_sender = true"
                ),
            },
        }
    }

    fn list_recipient(&self) -> String {
        let Self { snapshot, to, .. } = *self;
        let Some(ForwardPath::Address(address)) = to else { return "list the recipient".to_owned() };
        let relay = snapshot.relay_domains.get(address.domain());
        match relay.and_then(|relay| relay.source(&snapshot.sources).0.recipients.as_ref()) {
            Some(list) => format!("add {address} to the list of recipients at {}", list.origin),
            None => format!("list {address} as a recipient"),
        }
    }

    fn add_sender(&self) -> String {
        let Self { snapshot, from, decision, .. } = *self;
        let whose = match (decision.identity, decision.tenant) {
            (Some(identity), _) if snapshot.logins.at(identity).has_own_senders => {
                format!("login {}", snapshot.identity_login(identity))
            }
            (_, Some(tenant)) => format!("tenant {}", snapshot.tenant(tenant).name),
            _ => "a tenant".to_owned(),
        };
        let first = decision.tenant.map(|tenant| Line::first_sender(snapshot, decision.identity, tenant));
        let place = first.and_then(|line| line.origin(snapshot));
        let place = place.map_or_else(String::new, |origin| format!(" at {origin}"));
        format!("add \"{}\" to the senders of {whose}{place}", from.text())
    }

    fn use_reserved_login(&self) -> String {
        let Self { snapshot, from, decision, .. } = *self;
        let rules = decision.tenant.and_then(|tenant| snapshot.tenant(tenant).sender_rules.as_deref());
        let block =
            from.address().and_then(|address| with_names(rules, address, |names| reserved(rules, names)));
        let Some(block) = block else { return "log in as an identity that owns the sender".to_owned() };
        let logins: Vec<_> = block.identities.iter().map(|&login| snapshot.identity_login(login)).collect();
        format!("log in as {}, or add an identity to the block at {}", logins.join(" or "), block.origin)
    }

    fn allow_null_sender(&self) -> String {
        let Self { snapshot, decision, .. } = *self;
        match (decision.identity, decision.tenant) {
            (Some(identity), _) => {
                let (login, origin) =
                    (snapshot.identity_login(identity), &snapshot.identity_source(identity).login.origin);
                format!("set null_sender = true for login {login} ({origin})")
            }
            (None, Some(tenant)) => {
                let tenant = snapshot.tenant(tenant);
                format!("set null_sender = true for tenant {} ({})", tenant.name, tenant.null_sender_origin)
            }
            (None, None) => "use a sender address".to_owned(),
        }
    }
}
