use mail::{ForwardPath, ReversePath};

use crate::decision::Decision;
use crate::facts::Facts;
use crate::network::NetworkMatch;
use crate::responsible::{reserved, with_names};
use crate::rule::Rule;
use crate::snapshot::{Snapshot, TenantIx};
use crate::source::Sourced;

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
    /// The client logs in as an identity that the sender is reserved for.
    UseReservedLogin,
    /// The tenant or the login may relay with `<>`.
    AllowNullSender,
    /// The client sends to this recipient in a separate transaction.
    SeparateTransaction,
    /// The client logs in with the right name and password.
    CorrectCredentials,
    /// The client waits until a limit or a lock frees.
    Wait,
    /// The client tries again: something outside could not be asked now.
    TryAgain,
    /// The keeper of the list takes the entry off it, or allows the client.
    TakeOffList,
    /// The operator of the gateway, or the tenant, lifts the suspension.
    LiftSuspension,
    /// The sender corrects the recipient's domain.
    CorrectDomain,
    /// The sender writes one of its addresses into the From field, once.
    OwnHeaderFrom,
    /// The client ends every line in CR LF.
    EndLines,
    /// The sender makes the message smaller, or the tenant's limit is raised.
    SmallerMessage,
    /// The client sends to the other recipients in another transaction.
    FewerRecipients,
    /// The operator of the hops breaks the loop.
    BreakLoop,
    /// The operator of the gateway gives the spool room, or storage that works.
    MendSpool,
}

impl Remedy {
    /// The change that turns what `rule` says, in general; [`Snapshot::remedy`] names the lines of a
    /// configuration.
    #[must_use]
    pub fn sentence(self, rule: Rule) -> &'static str {
        match self {
            Self::None => "nothing here would change it",
            Self::StartTls => "start TLS before MAIL",
            Self::LogIn => "log in",
            Self::LogInOrAddNetwork => {
                "log in on a submission listener, or have the network added to a tenant's"
            }
            Self::PlainAddress => "write the recipient as name@domain, with nothing else in it",
            Self::ListRecipient => "add the recipient to the list of its relay domain",
            Self::AddSender => "send as an address that is owned, or add this one to the senders",
            Self::UseReservedLogin => "log in as an identity that the sender is reserved for",
            Self::AllowNullSender => "set null_sender = true for the tenant's networks, or for the login",
            Self::SeparateTransaction => {
                "send to this recipient in a transaction of its own: clients do so after the 452"
            }
            Self::CorrectCredentials => "log in with the right name and password",
            Self::Wait => "wait until the limit frees, or raise it",
            Self::TryAgain => "try again later: clients do so by themselves",
            Self::TakeOffList => match rule {
                Rule::SenderList => "take the entry off the list, or list the sender in allowed_senders",
                Rule::RecipientList => {
                    "take the entry off the list, or list the recipient in allowed_recipients"
                }
                _ => "take the entry off the list, or list the client in allowed_clients",
            },
            Self::LiftSuspension => "lift the suspension",
            Self::CorrectDomain => "correct the domain of the recipient, or add a route for it",
            Self::OwnHeaderFrom => "write one From field, with an address that the sender owns",
            Self::EndLines => "end every line of the message in CR LF",
            Self::SmallerMessage => "send a smaller message, or raise limits.message_size",
            Self::FewerRecipients => {
                "send to fewer recipients at once, or raise limits.recipients_per_message"
            }
            Self::BreakLoop => "break the loop: a next hop sends the mail back to this gateway",
            Self::MendSpool => "give the spool room, or storage that works",
        }
    }
}

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
