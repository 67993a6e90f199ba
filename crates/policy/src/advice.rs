//! The smallest change that would turn a denial, with the lines of the configuration.

use mail::{ForwardPath, ReversePath};

use crate::decision::Decision;
use crate::facts::Facts;
use crate::index::TenantIx;
use crate::network::NetworkMatch;
use crate::remedy::Remedy;
use crate::responsible::{reserved, with_names};
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
        Some(match decision.remedy {
            Remedy::None => return None,
            Remedy::LogIn => self.log_in(facts, decision),
            Remedy::LogInOrAddNetwork => self.add_network(facts, from, decision),
            Remedy::ListRecipient => self.list_recipient(to),
            Remedy::AddSender => self.add_sender(from, decision),
            Remedy::UseReservedLogin => self.use_reserved_login(from, decision),
            Remedy::AllowNullSender => self.allow_null_sender(decision),
            other => other.sentence(decision.rule).to_owned(),
        })
    }

    fn log_in(&self, facts: &Facts<'_>, decision: &Decision) -> String {
        match (decision.rule, decision.tenant) {
            (Rule::StrictLogin, Some(tenant)) => {
                let origin = &self.tenant(tenant).login_required_origin;
                format!("log in, or set login_required = \"never\" at {origin}")
            }
            _ => format!("log in on listener {}", facts.listener.name),
        }
    }

    fn add_network(&self, facts: &Facts<'_>, from: ReversePath<'_>, decision: &Decision) -> String {
        let own_denied = decision.tenant.and_then(|tenant| self.tenant(tenant).sender_rules.as_ref());
        if let Some(origin) = own_denied.and_then(|rules| rules.own_denied.as_ref())
            && decision.rule == Rule::Sender
        {
            return format!(
                "log in as the tenant, or set own_senders_from_strangers = \"accept\" at {origin}"
            );
        }
        let client = facts.client.to_canonical();
        if self.network(client) == NetworkMatch::Excluded
            && let Some(Sourced { value: net, origin }) = self.network_line(client)
        {
            return format!(
                "log in on a submission listener, or list {client} in the networks of its tenant: \
                 it is more specific than the excluded range {net} at {origin}"
            );
        }
        let mut tenants = (0..).zip(&self.tenants);
        let owner = from.address().and_then(|address| {
            with_names(None, address, |names| {
                tenants.find(|&(ix, _)| self.tenant_sender(TenantIx(ix), names).is_some())
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

    fn list_recipient(&self, to: Option<ForwardPath<'_>>) -> String {
        let Some(ForwardPath::Address(address)) = to else { return "list the recipient".to_owned() };
        let relay = self.relay_domains.get(address.domain());
        match relay.and_then(|relay| relay.source(&self.sources).0.recipients.as_ref()) {
            Some(list) => format!("add {address} to the list of recipients at {}", list.origin),
            None => format!("list {address} as a recipient"),
        }
    }

    fn add_sender(&self, from: ReversePath<'_>, decision: &Decision) -> String {
        let whose = match (decision.identity, decision.tenant) {
            (Some(identity), _) if self.identity_at(identity).has_own_senders => {
                format!("login {}", self.identity_login(identity))
            }
            (_, Some(tenant)) => format!("tenant {}", self.tenant(tenant).name),
            _ => "a tenant".to_owned(),
        };
        let first = decision.tenant.map(|tenant| self.first_sender(decision.identity, tenant));
        let place = first.and_then(|line| self.origin(line));
        let place = place.map_or_else(String::new, |origin| format!(" at {origin}"));
        format!("add \"{}\" to the senders of {whose}{place}", from.text())
    }

    fn use_reserved_login(&self, from: ReversePath<'_>, decision: &Decision) -> String {
        let rules = decision.tenant.and_then(|tenant| self.sender_rules(tenant));
        let block =
            from.address().and_then(|address| with_names(rules, address, |names| reserved(rules, names)));
        let Some(block) = block else { return "log in as an identity that owns the sender".to_owned() };
        let logins: Vec<_> = block.identities.iter().map(|&login| self.identity_login(login)).collect();
        format!("log in as {}, or add an identity to the block at {}", logins.join(" or "), block.origin)
    }

    fn allow_null_sender(&self, decision: &Decision) -> String {
        match (decision.identity, decision.tenant) {
            (Some(identity), _) => {
                let (login, origin) = (self.identity_login(identity), self.identity_origin(identity));
                format!("set null_sender = true for login {login} ({origin})")
            }
            (None, Some(tenant)) => {
                let tenant = self.tenant(tenant);
                format!("set null_sender = true for tenant {} ({})", tenant.name, tenant.null_sender_origin)
            }
            (None, None) => "use a sender address".to_owned(),
        }
    }
}
