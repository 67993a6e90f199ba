use mail::{Address, ForwardPath, Reason, ReversePath, RoutingTrick, Verdict};

use crate::decision::Decision;
use crate::facts::{Facts, Role, TlsPolicy};
use crate::index::TenantIx;
use crate::network::NetworkMatch;
use crate::presented::Presented;
use crate::remedy::Remedy;
use crate::responsible::with_names;
use crate::rule::Rule;
use crate::snapshot::{RelayDomain, Snapshot, Tenant};
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
        let mut case = Case::new(self, facts, trace);
        let responsible = case.responsible(from);
        let tenant = responsible.map(|responsible| responsible.tenant());
        let identity = responsible.and_then(|responsible| responsible.identity());
        case.admit(tenant).unwrap_or_else(|| Decision::accept(Rule::Login, tenant, identity)).by(identity)
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
        Case::new(self, facts, trace).recipient(from, to, transaction_tenant)
    }
}

/// One decision on its way: what is known of the client, and who hears of each rule.
pub(crate) struct Case<'a, T> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) facts: &'a Facts<'a>,
    /// That of the client; of one who has logged in it is not asked for.
    pub(crate) network: NetworkMatch,
    pub(crate) trace: &'a mut T,
}

impl<'a, T: Trace> Case<'a, T> {
    pub(crate) fn new(snapshot: &'a Snapshot, facts: &'a Facts<'a>, trace: &'a mut T) -> Self {
        let network = match facts.identity {
            Some(_) => NetworkMatch::Stranger,
            None => snapshot.network(facts.client),
        };
        Self { snapshot, facts, network, trace }
    }

    /// See [`Snapshot::decide_recipient`]; looks at the paths only where they matter.
    pub(crate) fn recipient<'p>(
        mut self,
        from: impl Presented<ReversePath<'p>>,
        to: impl Presented<ForwardPath<'p>>,
        transaction_tenant: Option<TenantIx>,
    ) -> Decision {
        let identity = self.facts.identity;
        let sender_tenant = self.sender_tenant();
        if let Some(decision) = self.admit(sender_tenant) {
            return decision.by(identity);
        }
        let address = match self.plain_recipient(to.look()) {
            Ok(address) => address,
            Err(decision) => return Decision { tenant: sender_tenant, ..decision }.by(identity),
        };
        // Before anything waits for the tenant, so that memory fetches both at the same time.
        let relay = self.snapshot.relay_domains.get(address.domain());
        if let Some(decision) = self.strict_login(LoginRequired::Always) {
            return decision;
        }
        let accepted = match self.relay_domain(relay, address) {
            Some(Ok(relay)) => match self.own_sender_of_stranger(from, relay) {
                Some(decision) => return decision,
                None => Decision::accept(Rule::RelayDomain, Some(relay.tenant), identity),
            },
            Some(Err(decision)) => return decision.by(identity),
            None => match self.relaying(from) {
                Ok(responsible) => {
                    Decision::accept(Rule::Sender, Some(responsible.tenant()), responsible.identity())
                }
                Err(decision) => return decision,
            },
        };
        self.one_tenant(accepted, transaction_tenant)
    }

    /// The tenant of the login, else that of the network, else that of a grant.
    fn sender_tenant(&self) -> Option<TenantIx> {
        let identity_tenant = |&identity| self.snapshot.identity_tenant(identity);
        let login = self.facts.identity.as_ref().map(identity_tenant);
        login
            .or_else(|| self.network.tenant())
            .or_else(|| self.facts.grants_that_count().first().map(identity_tenant))
    }

    /// TLS and login, where the listener demands them.
    fn admit(&mut self, tenant: Option<TenantIx>) -> Option<Decision> {
        let Self { snapshot, facts, ref mut trace, .. } = *self;
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
                let line = trace.wants_lines().then(|| &snapshot.identity_source(identity).login.origin);
                trace.step(Rule::Login, Outcome::Pass, line, || {
                    let tenant = snapshot.tenant(snapshot.identity_tenant(identity));
                    format!("logged in as {}, of tenant {}", snapshot.identity_login(identity), tenant.name)
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
    pub(crate) fn strict_login(&mut self, level: LoginRequired) -> Option<Decision> {
        if self.facts.identity.is_some() {
            return None;
        }
        let ix = self.network.tenant()?;
        if self.snapshot.front(ix).login_required != level {
            return None;
        }
        let tenant = self.snapshot.tenant(ix);
        self.trace.step(Rule::StrictLogin, Outcome::Deny, Some(&tenant.login_required_origin), || {
            let what = match level {
                LoginRequired::Always => "for every recipient",
                LoginRequired::Outside | LoginRequired::Never => "for recipients outside its relay domains",
            };
            format!("tenant {} asks its own networks to log in {what}", tenant.name)
        });
        Some(Decision::deny(Rule::StrictLogin, Some(ix), Reason::LoginRequired, Remedy::LogIn))
    }

    /// Mail that comes in for a relay domain; `None` where the recipient is in none.
    fn relay_domain(
        &mut self,
        relay: Option<&'a RelayDomain>,
        address: Address<'_>,
    ) -> Option<Result<&'a RelayDomain, Decision>> {
        let Self { snapshot, ref mut trace, .. } = *self;
        let Some(relay) = relay else {
            trace.step(Rule::RelayDomain, Outcome::Skip, None, || {
                format!("{} is no relay domain: this would be relaying", address.domain())
            });
            return None;
        };
        let name = &snapshot.tenant(relay.tenant).name;
        // The block, where it lists recipients, and the line of the domain.
        let source = trace.wants_lines().then(|| relay.source(&snapshot.sources));
        let list = source.and_then(|(block, _)| Some(&block.recipients.as_ref()?.origin));
        trace.step(Rule::RelayDomain, Outcome::Pass, source.map(|(_, line)| line), || {
            format!("{} is a relay domain of tenant {name}: its mail comes in from anyone", address.domain())
        });
        let rules = snapshot.sender_rules(relay.has_sender_rules, relay.tenant);
        let is_known = !relay.is_listed
            || with_names(rules, address, |names| {
                names.texts().any(|name| snapshot.recipients.get(name).is_some())
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
    fn one_tenant(&mut self, accepted: Decision, transaction_tenant: Option<TenantIx>) -> Decision {
        let Some(tenant) = accepted.tenant else { return accepted };
        if transaction_tenant.is_some_and(|other| other != tenant) {
            self.trace.step(Rule::OneTenant, Outcome::Deny, None, || {
                "the recipients accepted so far belong to another tenant".to_owned()
            });
            let verdict = Verdict::Defer(Reason::SecondTenant);
            let remedy = Remedy::SeparateTransaction;
            return Decision::refusal(Rule::OneTenant, Some(tenant), verdict, remedy).by(accepted.identity);
        }
        let Tenant { name, origin, .. } = self.snapshot.tenant(tenant);
        self.trace
            .step(Rule::OneTenant, Outcome::Accept, Some(origin), || format!("accepted for tenant {name}"));
        accepted
    }

    /// The mailbox, where it hides no other. A domain literal is a relay domain or nothing.
    fn plain_recipient<'p>(&mut self, to: ForwardPath<'p>) -> Result<Address<'p>, Decision> {
        let Self { snapshot, ref mut trace, .. } = *self;
        let trick = match (to, to.routing_trick()) {
            (ForwardPath::Address(address), Some(RoutingTrick::DomainLiteral))
                if snapshot.relay_domains.get(address.domain()).is_some() =>
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
