use mail::{Address, ForwardPath, Reason, ReversePath, RoutingTrick, Verdict};

use crate::decision::Decision;
use crate::facts::{Facts, Role, TlsPolicy};
use crate::index::TenantIx;
use crate::network::NetworkMatch;
use crate::presented::Presented;
use crate::remedy::Remedy;
use crate::responsible::with_names;
use crate::rule::Rule;
use crate::snapshot::{RelayDomain, Snapshot};
use crate::source::LoginRequired;
use crate::trace::{Outcome, Trace};

impl Snapshot {
    /// Decides at MAIL: whether this client may begin a transaction here at all. The reverse-path
    /// itself is looked at for each recipient that means relaying, so that no insider gets less than
    /// a stranger (DESIGN.md C1).
    ///
    /// On acceptance tenant and identity are those that would answer for the sender.
    #[must_use]
    pub fn decide_mail(&self, facts: &Facts<'_>, from: ReversePath<'_>, trace: &mut impl Trace) -> Decision {
        let network = self.network_of(facts);
        let responsible = self.responsible(facts, network, from);
        let tenant = responsible.map(|responsible| responsible.tenant());
        let identity = responsible.and_then(|responsible| responsible.identity());
        let refusal = self.admit(facts, tenant, trace);
        refusal.unwrap_or_else(|| Decision::accept(Rule::Login, tenant, identity)).by(identity)
    }

    /// Decides at RCPT. `transaction_tenant` is the tenant of the recipients already accepted in
    /// this transaction; on acceptance the decision names the tenant that the transaction belongs to.
    #[must_use]
    pub fn decide_recipient(
        &self,
        facts: &Facts<'_>,
        from: ReversePath<'_>,
        to: ForwardPath<'_>,
        transaction_tenant: Option<TenantIx>,
        trace: &mut impl Trace,
    ) -> Decision {
        self.decide_presented(facts, from, to, transaction_tenant, trace)
    }

    /// The same for paths that it looks at only where they matter.
    pub(crate) fn decide_presented<'a>(
        &self,
        facts: &Facts<'_>,
        from: impl Presented<ReversePath<'a>>,
        to: impl Presented<ForwardPath<'a>>,
        transaction_tenant: Option<TenantIx>,
        trace: &mut impl Trace,
    ) -> Decision {
        let network = self.network_of(facts);
        let sender_tenant = self.sender_tenant(facts, network);
        if let Some(decision) = self.admit(facts, sender_tenant, trace) {
            return decision.by(facts.identity);
        }
        let address = match self.plain_recipient(to.look(), trace) {
            Ok(address) => address,
            Err(decision) => return Decision { tenant: sender_tenant, ..decision }.by(facts.identity),
        };
        // Before anything waits for the tenant, so that memory fetches both at the same time.
        let relay = self.relay_domains.get(address.domain());
        if let Some(decision) = self.strict_login(facts, network, LoginRequired::Always, trace) {
            return decision;
        }
        let accepted = match self.relay_domain(relay, address, trace) {
            Some(Ok(relay)) => match self.own_sender_of_stranger(facts, network, from, relay, trace) {
                Some(decision) => return decision,
                None => Decision::accept(Rule::RelayDomain, Some(relay.tenant), facts.identity),
            },
            Some(Err(decision)) => return decision.by(facts.identity),
            None => match self.relaying(facts, network, from, trace) {
                Ok(responsible) => {
                    Decision::accept(Rule::Sender, Some(responsible.tenant()), responsible.identity())
                }
                Err(decision) => return decision,
            },
        };
        self.one_tenant(accepted, transaction_tenant, trace)
    }

    /// The network of a client; that of one who has logged in is not asked for.
    fn network_of(&self, facts: &Facts<'_>) -> NetworkMatch {
        match facts.identity {
            Some(_) => NetworkMatch::Stranger,
            None => self.network(facts.client),
        }
    }

    /// The tenant of the login, else that of the network, else that of a grant.
    fn sender_tenant(&self, facts: &Facts<'_>, network: NetworkMatch) -> Option<TenantIx> {
        let login = facts.identity.map(|identity| self.identity_tenant(identity));
        login.or_else(|| network.tenant()).or_else(|| {
            let grant = facts.grants_that_count().first();
            grant.map(|&identity| self.identity_tenant(identity))
        })
    }

    /// TLS and login, where the listener demands them.
    fn admit(&self, facts: &Facts<'_>, tenant: Option<TenantIx>, trace: &mut impl Trace) -> Option<Decision> {
        let listener = facts.listener;
        // Where a login is needed and none is taken in the clear, TLS comes first.
        let login_needs_tls = listener.role == Role::Submission
            && facts.identity.is_none()
            && listener.tls == TlsPolicy::StartTls
            && !listener.auth_without_tls;
        let tls_required =
            matches!(listener.tls, TlsPolicy::Required | TlsPolicy::Implicit) || login_needs_tls;
        if tls_required && !facts.tls {
            trace.step(Rule::Tls, Outcome::Deny, None, || {
                let what = if login_needs_tls { "logins" } else { "mail" };
                format!(
                    "listener {} takes {what} over TLS only, and this session is in the clear",
                    listener.name
                )
            });
            return Some(Decision::deny(Rule::Tls, tenant, Reason::TlsRequired, Remedy::StartTls));
        }
        trace.step(Rule::Tls, Outcome::Pass, None, || match (facts.tls, tls_required) {
            (true, _) => "the session runs over TLS".to_owned(),
            (false, _) => format!("listener {} takes mail without TLS", listener.name),
        });
        match (listener.role, facts.identity) {
            (Role::Submission, None) => {
                trace.step(Rule::Login, Outcome::Deny, None, || {
                    format!("listener {} is for submission, and the client has not logged in", listener.name)
                });
                Some(Decision::deny(Rule::Login, tenant, Reason::LoginRequired, Remedy::LogIn))
            }
            (_, Some(identity)) => {
                let line = trace.wants_lines().then(|| self.identity_origin(identity));
                trace.step(Rule::Login, Outcome::Pass, line, || {
                    let tenant = self.tenant(self.identity_tenant(identity));
                    format!("logged in as {}, of tenant {}", self.identity_login(identity), tenant.name)
                });
                None
            }
            (Role::Relay, None) => {
                trace.step(Rule::Login, Outcome::Skip, None, || {
                    format!("listener {} is for relaying and asks no client to log in", listener.name)
                });
                None
            }
        }
    }

    /// Strict mode (DESIGN.md A4): a client in the network of a tenant that asks for `level`.
    pub(crate) fn strict_login(
        &self,
        facts: &Facts<'_>,
        network: NetworkMatch,
        level: LoginRequired,
        trace: &mut impl Trace,
    ) -> Option<Decision> {
        if facts.identity.is_some() {
            return None;
        }
        let ix = network.tenant()?;
        if self.front(ix).login_required != level {
            return None;
        }
        let tenant = self.tenant(ix);
        trace.step(Rule::StrictLogin, Outcome::Deny, Some(&tenant.login_required_origin), || {
            let what = match level {
                LoginRequired::Always => "for every recipient",
                LoginRequired::Outside | LoginRequired::Never => "for recipients outside its relay domains",
            };
            format!("tenant {} asks its own networks to log in {what}", tenant.name)
        });
        Some(Decision::deny(Rule::StrictLogin, Some(ix), Reason::LoginRequired, Remedy::LogIn))
    }

    /// Mail that comes in for a relay domain; `None` where the recipient is in none.
    fn relay_domain<'a>(
        &self,
        relay: Option<&'a RelayDomain>,
        address: Address<'_>,
        trace: &mut impl Trace,
    ) -> Option<Result<&'a RelayDomain, Decision>> {
        let Some(relay) = relay else {
            trace.step(Rule::RelayDomain, Outcome::Skip, None, || {
                format!("{} is no relay domain: this would be relaying", address.domain())
            });
            return None;
        };
        let name = &self.tenant(relay.tenant).name;
        // The block, where it lists recipients, and the line of the domain.
        let source = trace.wants_lines().then(|| relay.source(&self.sources));
        let list = source.and_then(|(block, _)| Some(&block.recipients.as_ref()?.origin));
        trace.step(Rule::RelayDomain, Outcome::Pass, source.map(|(_, line)| line), || {
            format!("{} is a relay domain of tenant {name}: its mail comes in from anyone", address.domain())
        });
        let rules = self.sender_rules_if(relay.has_sender_rules, relay.tenant);
        let is_known = !relay.is_listed
            || with_names(rules, address, |names| {
                names.texts().any(|name| self.recipients.get(name).is_some())
            });
        if is_known {
            trace.step(Rule::Recipient, Outcome::Pass, list, || match relay.is_listed {
                true => format!("{address} is in the list of recipients"),
                false => format!("{} does not list its recipients: every one is taken", address.domain()),
            });
            return Some(Ok(relay));
        }
        trace.step(Rule::Recipient, Outcome::Deny, list, || {
            format!("{address} is not in the list of recipients")
        });
        let decision = Decision::deny(
            Rule::Recipient,
            Some(relay.tenant),
            Reason::RecipientUnknown,
            Remedy::ListRecipient,
        );
        Some(Err(decision))
    }

    /// A transaction belongs to one tenant: the second one's recipients come in another.
    fn one_tenant(
        &self,
        accepted: Decision,
        transaction_tenant: Option<TenantIx>,
        trace: &mut impl Trace,
    ) -> Decision {
        let Some(tenant) = accepted.tenant else { return accepted };
        if transaction_tenant.is_some_and(|other| other != tenant) {
            trace.step(Rule::OneTenant, Outcome::Deny, None, || {
                "the recipients accepted so far belong to another tenant".to_owned()
            });
            let verdict = Verdict::Defer(Reason::SecondTenant);
            let remedy = Remedy::SeparateTransaction;
            return Decision::refusal(Rule::OneTenant, Some(tenant), verdict, remedy).by(accepted.identity);
        }
        trace.step(Rule::OneTenant, Outcome::Accept, Some(&self.tenant(tenant).origin), || {
            format!("accepted for tenant {}", self.tenant(tenant).name)
        });
        accepted
    }

    /// The mailbox, where it hides no other. A domain literal is a relay domain or nothing.
    fn plain_recipient<'a>(
        &self,
        to: ForwardPath<'a>,
        trace: &mut impl Trace,
    ) -> Result<Address<'a>, Decision> {
        let trick = match (to, to.routing_trick()) {
            (ForwardPath::Address(address), Some(RoutingTrick::DomainLiteral))
                if self.relay_domains.get(address.domain()).is_some() =>
            {
                trace.step(Rule::RoutingSyntax, Outcome::Pass, None, || {
                    format!("{to} is a domain literal that the configuration names")
                });
                return Ok(address);
            }
            (ForwardPath::Address(address), None) => {
                trace.step(Rule::RoutingSyntax, Outcome::Pass, None, || format!("{to} is a plain address"));
                return Ok(address);
            }
            (ForwardPath::Address(_), Some(trick)) | (ForwardPath::Trick { trick, .. }, _) => trick,
        };
        trace.step(Rule::RoutingSyntax, Outcome::Deny, None, || format!("{to} is {}", trick.name()));
        Err(Decision::deny(Rule::RoutingSyntax, None, Reason::RoutingSyntax, Remedy::PlainAddress))
    }
}
