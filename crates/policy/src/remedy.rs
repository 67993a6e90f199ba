use mail::{ForwardPath, ReversePath};

use crate::decide::{Decision, Facts};
use crate::explain::Rule;
use crate::network::NetworkMatch;
use crate::snapshot::{Snapshot, TenantIx};

/// The kind of change that would turn a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// None is needed.
    None,
    /// The client starts TLS.
    StartTls,
    /// The client logs in.
    LogIn,
    /// The client logs in on a submission listener, or its tenant adds the network.
    LogInOrAddNetwork,
    /// The client writes the recipient as `name@domain`.
    PlainAddress,
    /// The tenant adds the recipient to its list.
    ListRecipient,
    /// The tenant or the login gets the sender.
    AddSender,
    /// The tenant or the login may relay with `<>`.
    AllowNullSender,
    /// The client sends to this recipient in a transaction of its own.
    SeparateTransaction,
}

impl Snapshot {
    /// The smallest change that would turn `decision`, for the person who runs the gateway.
    pub(crate) fn remedy_text(
        &self,
        facts: &Facts<'_>,
        from: ReversePath<'_>,
        to: ForwardPath<'_>,
        decision: &Decision,
    ) -> Option<String> {
        Some(match decision.remedy {
            Remedy::None => return None,
            Remedy::StartTls => "start TLS before MAIL".to_owned(),
            Remedy::LogIn => self.log_in(facts, decision),
            Remedy::LogInOrAddNetwork => self.add_network(facts, from),
            Remedy::PlainAddress => "write the recipient as name@domain, with nothing else in it".to_owned(),
            Remedy::ListRecipient => self.list_recipient(to),
            Remedy::AddSender => self.add_sender(facts, from, decision.tenant),
            Remedy::AllowNullSender => self.allow_null_sender(facts, decision.tenant),
            Remedy::SeparateTransaction => {
                "send to this recipient in a transaction of its own: clients do so after the 452".to_owned()
            }
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

    fn add_network(&self, facts: &Facts<'_>, from: ReversePath<'_>) -> String {
        let client = facts.client.to_canonical();
        if let NetworkMatch::Excluded { entry } = self.network(client) {
            let (net, origin) = (self.networks.prefix(entry), &self.network_origins[entry as usize]);
            return format!(
                "log in on a submission listener, or list {client} in the networks of its tenant: \
                 it is more specific than the excluded range {net} at {origin}"
            );
        }
        let owner = from
            .address()
            .and_then(|address| self.tenants.iter().find(|tenant| tenant.senders.find(address).is_some()));
        match owner {
            Some(tenant) => format!(
                "log in on a submission listener as a login of tenant {}, or add \"{client}\" to its networks \
                 ({})",
                tenant.name, tenant.origin
            ),
            None => format!(
                "log in on a submission listener, or add \"{client}\" to the networks and {from} to the senders \
                 of a tenant"
            ),
        }
    }

    fn list_recipient(&self, to: ForwardPath<'_>) -> String {
        let ForwardPath::Address(address) = to else { return String::new() };
        let relay = self.relay_domains.get(address.domain());
        match relay.and_then(|relay| relay.list) {
            Some(list) => {
                format!(
                    "add {address} to the list of recipients at {}",
                    self.recipient_lists[list as usize].origin
                )
            }
            None => format!("list {address} as a recipient"),
        }
    }

    fn add_sender(&self, facts: &Facts<'_>, from: ReversePath<'_>, tenant: Option<TenantIx>) -> String {
        let own = facts.identity.map(|identity| self.identity_at(identity));
        let (whose, senders) = match (own, tenant) {
            (Some(identity), _) if identity.senders.is_some() => {
                (format!("login {}", identity.login), identity.senders.as_ref())
            }
            (_, Some(tenant)) => {
                let tenant = self.tenant(tenant);
                (format!("tenant {}", tenant.name), Some(&tenant.senders))
            }
            _ => ("a tenant".to_owned(), None),
        };
        let place = senders.and_then(|senders| senders.first_origin());
        let place = place.map_or_else(String::new, |origin| format!(" at {origin}"));
        format!("add \"{}\" to the senders of {whose}{place}", from.text())
    }

    fn allow_null_sender(&self, facts: &Facts<'_>, tenant: Option<TenantIx>) -> String {
        match (facts.identity, tenant) {
            (Some(identity), _) => {
                let identity = self.identity_at(identity);
                format!("set null_sender = true for login {} ({})", identity.login, identity.origin)
            }
            (None, Some(tenant)) => {
                let tenant = self.tenant(tenant);
                format!("set null_sender = true for tenant {} ({})", tenant.name, tenant.null_sender_origin)
            }
            (None, None) => "use a sender address".to_owned(),
        }
    }
}
