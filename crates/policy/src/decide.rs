use std::net::IpAddr;

use mail::{Address, ForwardPath, Reason, ReversePath, Verdict};

use crate::explain::{Outcome, Rule, Trace};
use crate::network::NetworkMatch;
use crate::remedy::Remedy;
use crate::snapshot::{IdentityIx, Snapshot, TenantIx};
use crate::source::LoginRequired;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Trusted networks, and mail for relay domains from anyone.
    Relay,
    /// Logins only.
    Submission,
}

/// TLS on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsPolicy {
    /// Not offered.
    Off,
    /// Offered by STARTTLS.
    StartTls,
    /// Offered by STARTTLS; no mail before it.
    Required,
    /// From the first byte (RFC 8314).
    Implicit,
}

/// What a decision needs to know of the listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name, as labels hold it.
    pub name: Box<str>,
    /// What it is for.
    pub role: Role,
    /// TLS on it.
    pub tls: TlsPolicy,
    /// Whether a login is taken before TLS.
    pub auth_without_tls: bool,
}

/// What is known of a session.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Where the client connected.
    pub listener: &'a Listener,
    /// The client's address.
    pub client: IpAddr,
    /// Whether the session runs over TLS.
    pub tls: bool,
    /// Who logged in, if somebody did.
    pub identity: Option<IdentityIx>,
}

/// A verdict, and which rule gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Yes or no.
    pub verdict: Verdict,
    /// Who is responsible, where somebody is.
    pub tenant: Option<TenantIx>,
    /// The rule that decided.
    pub rule: Rule,
    /// What would turn a denial.
    pub remedy: Remedy,
}

/// Who answers for a sender.
#[derive(Clone, Copy)]
enum Responsible {
    Login(TenantIx, IdentityIx),
    Network(TenantIx),
}

impl Decision {
    fn accept(rule: Rule, tenant: Option<TenantIx>) -> Self {
        Self { verdict: Verdict::Accept, tenant, rule, remedy: Remedy::None }
    }

    fn deny(rule: Rule, tenant: Option<TenantIx>, reason: Reason, remedy: Remedy) -> Self {
        Self { verdict: Verdict::Deny(reason), tenant, rule, remedy }
    }
}

impl Snapshot {
    /// Decides at MAIL: whether this client may begin a transaction here at all. The reverse-path
    /// itself is judged at each recipient that means relaying, so that nobody inside gets less than
    /// a stranger (relay-control.md C1).
    ///
    /// On acceptance the tenant is the one that would answer for the sender.
    #[must_use]
    pub fn decide_mail(&self, facts: &Facts<'_>, _from: ReversePath<'_>, trace: &mut impl Trace) -> Decision {
        let tenant = self.sender_tenant(facts);
        self.admit(facts, tenant, trace).unwrap_or_else(|| Decision::accept(Rule::Login, tenant))
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
        let sender_tenant = self.sender_tenant(facts);
        if let Some(decision) = self.admit(facts, sender_tenant, trace) {
            return decision;
        }
        let address = match plain_recipient(to, trace) {
            Ok(address) => address,
            Err(mut decision) => {
                decision.tenant = sender_tenant;
                return decision;
            }
        };
        if let Some(decision) = self.strict_login(facts, LoginRequired::Always, trace) {
            return decision;
        }
        let accepted = match self.relay_domain(address, trace) {
            Some(Ok(tenant)) => (Rule::RelayDomain, tenant),
            Some(Err(decision)) => return decision,
            None => match self.relaying(facts, from, trace) {
                Ok(tenant) => (Rule::Sender, tenant),
                Err(decision) => return decision,
            },
        };
        self.one_tenant(accepted, transaction_tenant, trace)
    }

    /// The tenant of the login, else that of the network.
    fn sender_tenant(&self, facts: &Facts<'_>) -> Option<TenantIx> {
        match facts.identity {
            Some(identity) => Some(self.identity_tenant(identity)),
            None => self.network_tenant(facts.client),
        }
    }

    /// TLS and login, where the listener demands them.
    fn admit(&self, facts: &Facts<'_>, tenant: Option<TenantIx>, trace: &mut impl Trace) -> Option<Decision> {
        let listener = facts.listener;
        let tls_required = matches!(listener.tls, TlsPolicy::Required | TlsPolicy::Implicit);
        if tls_required && !facts.tls {
            trace.step(Rule::Tls, Outcome::Deny, None, || {
                format!(
                    "listener {} takes mail over TLS only, and this session is in the clear",
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
                    format!("listener {} is for submission, and nobody has logged in", listener.name)
                });
                Some(Decision::deny(Rule::Login, tenant, Reason::LoginRequired, Remedy::LogIn))
            }
            (_, Some(identity)) => {
                let identity = self.identity_at(identity);
                trace.step(Rule::Login, Outcome::Pass, Some(&identity.origin), || {
                    format!(
                        "logged in as {}, of tenant {}",
                        identity.login,
                        self.tenant(identity.tenant).name
                    )
                });
                None
            }
            (Role::Relay, None) => {
                trace.step(Rule::Login, Outcome::Skip, None, || {
                    format!("listener {} is for relaying and asks nobody to log in", listener.name)
                });
                None
            }
        }
    }

    /// Strict mode (relay-control.md A4): a client in the network of a tenant that asks for `level`.
    fn strict_login(
        &self,
        facts: &Facts<'_>,
        level: LoginRequired,
        trace: &mut impl Trace,
    ) -> Option<Decision> {
        if facts.identity.is_some() {
            return None;
        }
        let ix = self.network_tenant(facts.client)?;
        let tenant = self.tenant(ix);
        if tenant.login_required != level {
            return None;
        }
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
    fn relay_domain(
        &self,
        address: Address<'_>,
        trace: &mut impl Trace,
    ) -> Option<Result<TenantIx, Decision>> {
        let Some(relay) = self.relay_domains.get(address.domain()) else {
            trace.step(Rule::RelayDomain, Outcome::Skip, None, || {
                format!("{} is no relay domain: this would be relaying", address.domain())
            });
            return None;
        };
        let name = &self.tenant(relay.tenant).name;
        trace.step(Rule::RelayDomain, Outcome::Pass, Some(&relay.origin), || {
            format!("{} is a relay domain of tenant {name}: its mail comes in from anyone", address.domain())
        });
        let list = relay.list.map(|list| &self.recipient_lists[list as usize]);
        let known = list.is_none_or(|list| list.addresses.get(address.text()).is_some());
        if known {
            trace.step(Rule::Recipient, Outcome::Pass, list.map(|list| &list.origin), || match list {
                Some(_) => format!("{address} is in the list of recipients"),
                None => format!("{} does not list its recipients: every one is taken", address.domain()),
            });
            return Some(Ok(relay.tenant));
        }
        trace.step(Rule::Recipient, Outcome::Deny, list.map(|list| &list.origin), || {
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

    /// Mail that goes out: somebody must answer for the sender, and own it.
    fn relaying(
        &self,
        facts: &Facts<'_>,
        from: ReversePath<'_>,
        trace: &mut impl Trace,
    ) -> Result<TenantIx, Decision> {
        let responsible = self.responsible(facts, trace)?;
        if let Some(decision) = self.strict_login(facts, LoginRequired::Outside, trace) {
            return Err(decision);
        }
        match from {
            ReversePath::Null => self.null_sender(responsible, trace),
            ReversePath::Address(address) => self.owns(responsible, address, trace),
        }
    }

    fn responsible(&self, facts: &Facts<'_>, trace: &mut impl Trace) -> Result<Responsible, Decision> {
        if let Some(identity) = facts.identity {
            let tenant = self.identity_tenant(identity);
            trace.step(Rule::Responsibility, Outcome::Pass, Some(&self.identity_at(identity).origin), || {
                format!(
                    "tenant {} answers for its login {}",
                    self.tenant(tenant).name,
                    self.identity_login(identity)
                )
            });
            return Ok(Responsible::Login(tenant, identity));
        }
        let client = facts.client.to_canonical();
        let origin = match self.network(client) {
            NetworkMatch::Tenant { tenant, entry } => {
                let origin = &self.network_origins[entry as usize];
                trace.step(Rule::Responsibility, Outcome::Pass, Some(origin), || {
                    let (net, name) = (self.networks.prefix(entry), &self.tenant(tenant).name);
                    format!("{client} is in {net}, a network of tenant {name}")
                });
                return Ok(Responsible::Network(tenant));
            }
            NetworkMatch::Excluded { entry } => Some((entry, &self.network_origins[entry as usize])),
            NetworkMatch::Stranger => None,
        };
        trace.step(Rule::Responsibility, Outcome::Deny, origin.map(|(_, origin)| origin), || match origin {
            Some((entry, _)) => {
                let net = self.networks.prefix(entry);
                format!("{client} is in {net}, an excluded range, and nobody has logged in")
            }
            None => format!("{client} is in no tenant's network, and nobody has logged in"),
        });
        Err(Decision::deny(Rule::Responsibility, None, Reason::RelayNotPermitted, Remedy::LogInOrAddNetwork))
    }

    fn null_sender(&self, responsible: Responsible, trace: &mut impl Trace) -> Result<TenantIx, Decision> {
        let (tenant, allowed, origin) = match responsible {
            Responsible::Login(tenant, identity) => {
                let identity = self.identity_at(identity);
                (tenant, identity.null_sender, &identity.origin)
            }
            Responsible::Network(ix) => {
                let tenant = self.tenant(ix);
                (ix, tenant.null_sender, &tenant.null_sender_origin)
            }
        };
        let outcome = if allowed { Outcome::Pass } else { Outcome::Deny };
        trace.step(Rule::Sender, outcome, Some(origin), || {
            let who = self.responsible_name(responsible);
            let may = if allowed { "may" } else { "may not" };
            format!("{who} {may} relay with the null sender <>")
        });
        if allowed {
            return Ok(tenant);
        }
        Err(Decision::deny(Rule::Sender, Some(tenant), Reason::SenderNotOwned, Remedy::AllowNullSender))
    }

    /// Sender ownership (relay-control.md C1): a login's own list where it has one, else the tenant's.
    fn owns(
        &self,
        responsible: Responsible,
        address: Address<'_>,
        trace: &mut impl Trace,
    ) -> Result<TenantIx, Decision> {
        let (tenant, own) = match responsible {
            Responsible::Login(tenant, identity) => (tenant, self.identity_at(identity).senders.as_ref()),
            Responsible::Network(tenant) => (tenant, None),
        };
        let senders = own.unwrap_or(&self.tenant(tenant).senders);
        match senders.find(address) {
            Some(origin) => {
                trace.step(Rule::Sender, Outcome::Pass, Some(origin), || {
                    format!("{address} is one of the senders of {}", self.responsible_name(responsible))
                });
                Ok(tenant)
            }
            None => {
                trace.step(Rule::Sender, Outcome::Deny, senders.first_origin(), || {
                    format!("{address} is none of the senders of {}", self.responsible_name(responsible))
                });
                Err(Decision::deny(Rule::Sender, Some(tenant), Reason::SenderNotOwned, Remedy::AddSender))
            }
        }
    }

    fn responsible_name(&self, responsible: Responsible) -> String {
        match responsible {
            Responsible::Login(_, identity) => format!("login {}", self.identity_login(identity)),
            Responsible::Network(tenant) => format!("tenant {}", self.tenant(tenant).name),
        }
    }

    /// A transaction belongs to one tenant: whoever is second comes in one of its own.
    fn one_tenant(
        &self,
        (rule, tenant): (Rule, TenantIx),
        transaction_tenant: Option<TenantIx>,
        trace: &mut impl Trace,
    ) -> Decision {
        if transaction_tenant.is_some_and(|other| other != tenant) {
            trace.step(Rule::OneTenant, Outcome::Deny, None, || {
                "the recipients accepted so far belong to another tenant".to_owned()
            });
            return Decision {
                verdict: Verdict::Defer(Reason::SecondTenant),
                tenant: Some(tenant),
                rule: Rule::OneTenant,
                remedy: Remedy::SeparateTransaction,
            };
        }
        trace.step(Rule::OneTenant, Outcome::Accept, Some(&self.tenant(tenant).origin), || {
            format!("accepted for tenant {}", self.tenant(tenant).name)
        });
        Decision::accept(rule, Some(tenant))
    }
}

/// The mailbox, where it hides no other.
fn plain_recipient<'a>(to: ForwardPath<'a>, trace: &mut impl Trace) -> Result<Address<'a>, Decision> {
    let trick = match (to, to.routing_trick()) {
        (ForwardPath::Address(address), None) => {
            trace.step(Rule::RoutingSyntax, Outcome::Pass, None, || format!("{to} is a plain address"));
            return Ok(address);
        }
        (ForwardPath::Address(_), Some(trick)) | (ForwardPath::Trick { trick, .. }, _) => trick,
    };
    trace.step(Rule::RoutingSyntax, Outcome::Deny, None, || format!("{to} is {}", trick.name()));
    Err(Decision::deny(Rule::RoutingSyntax, None, Reason::RoutingSyntax, Remedy::PlainAddress))
}
