//! Who answers for a sender, and whether the sender is theirs (relay-control.md C1).

use mail::limits::ADDRESS_BYTES_MAX;
use mail::{Address, Reason, ReversePath};

use crate::decision::Decision;
use crate::explain::{Outcome, Trace};
use crate::facts::Facts;
use crate::network::NetworkMatch;
use crate::remedy::Remedy;
use crate::rule::Rule;
use crate::senders::{Reserved, Senders};
use crate::snapshot::{IdentityIx, Snapshot, Tenant, TenantIx};
use crate::source::{LoginRequired, Origin};

/// Who answers for a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Responsible {
    /// Somebody has logged in.
    Login(TenantIx, IdentityIx),
    /// The client is in a tenant's network.
    Network(TenantIx),
    /// Somebody has logged in by POP or IMAP from the client's address.
    Grant(TenantIx, IdentityIx),
}

impl Responsible {
    pub(crate) fn tenant(self) -> TenantIx {
        match self {
            Self::Login(tenant, _) | Self::Network(tenant) | Self::Grant(tenant, _) => tenant,
        }
    }

    pub(crate) fn identity(self) -> Option<IdentityIx> {
        match self {
            Self::Login(_, identity) | Self::Grant(_, identity) => Some(identity),
            Self::Network(_) => None,
        }
    }
}

/// Whether a sender is theirs, and the line that says so.
#[derive(Clone, Copy)]
pub(crate) enum Ownership<'a> {
    Owned(&'a Origin),
    /// None of their addresses; the first line of the list that lacks it.
    Foreign(Option<&'a Origin>),
    /// Kept for identities that they are not (relay-control.md C3).
    Reserved(&'a Origin),
}

impl Ownership<'_> {
    pub(crate) fn is_owned(self) -> bool {
        matches!(self, Self::Owned(_))
    }

    /// One sentence for a person.
    pub(crate) fn told(self, address: &str, who: &str) -> String {
        match self {
            Self::Owned(_) => format!("{address} is one of the senders of {who}"),
            Self::Foreign(_) => format!("{address} is none of the senders of {who}"),
            Self::Reserved(_) => format!("{address} is reserved for identities that {who} is not among"),
        }
    }
}

/// An address, and the same without its tag where the tenant has plus-addressing.
pub(crate) type Names<'a> = [Option<Address<'a>>; 2];

fn find_any<'a>(senders: &'a Senders, names: Names<'_>) -> Option<&'a Origin> {
    names.into_iter().flatten().find_map(|name| senders.find(name))
}

impl Tenant {
    /// Asks `look` with the names under which this tenant knows an address.
    pub(crate) fn with_untagged<T>(&self, address: Address<'_>, look: impl FnOnce(Names<'_>) -> T) -> T {
        let plus = self.sender_rules.as_ref().is_some_and(|rules| rules.plus_addressing);
        if !plus || !address.local_part().contains('+') {
            return look([Some(address), None]);
        }
        let mut buffer = [0; ADDRESS_BYTES_MAX];
        look([Some(address), address.untagged(&mut buffer)])
    }

    /// The first block that keeps an address for chosen identities.
    pub(crate) fn reserved(&self, names: Names<'_>) -> Option<&Reserved> {
        let blocks = &self.sender_rules.as_ref()?.reserved;
        blocks.iter().find(|block| find_any(&block.senders, names).is_some())
    }
}

impl Snapshot {
    /// Mail that goes out: somebody must answer for the sender, and own it.
    pub(crate) fn relaying(
        &self,
        facts: &Facts<'_>,
        network: NetworkMatch,
        from: ReversePath<'_>,
        trace: &mut impl Trace,
    ) -> Result<Responsible, Decision> {
        let Some(chosen) = self.responsible(facts, network, from) else {
            return Err(self.nobody(facts, network, trace));
        };
        self.trace_responsible(chosen, facts, trace);
        // Strict mode is the network's tenant's: a grant is no login there.
        if let Some(decision) = self.strict_login(facts, network, LoginRequired::Outside, trace) {
            return Err(decision);
        }
        self.owns(chosen, from, trace)
    }

    /// A login before a network before a grant. A sender that the network does not own may still be
    /// that of a grant: nobody inside gets less than a stranger. Where nobody owns the sender, the
    /// first of them answers for the denial.
    pub(crate) fn responsible(
        &self,
        facts: &Facts<'_>,
        network: NetworkMatch,
        from: ReversePath<'_>,
    ) -> Option<Responsible> {
        if let Some(identity) = facts.identity {
            return Some(Responsible::Login(self.identity_tenant(identity), identity));
        }
        let network = network.tenant().map(Responsible::Network);
        let grants = facts.grants_that_count();
        if grants.is_empty() {
            return network;
        }
        let grants = grants.iter().map(|&ix| Responsible::Grant(self.identity_tenant(ix), ix));
        let mut candidates = network.into_iter().chain(grants);
        let first = candidates.next()?;
        if self.ownership(first, from).is_owned() {
            return Some(first);
        }
        Some(candidates.find(|&candidate| self.ownership(candidate, from).is_owned()).unwrap_or(first))
    }

    /// Whether `responsible` may relay with this reverse-path.
    pub(crate) fn ownership(&self, responsible: Responsible, from: ReversePath<'_>) -> Ownership<'_> {
        match from {
            ReversePath::Null => self.null_sender(responsible),
            ReversePath::Address(address) => self.address_ownership(responsible, address),
        }
    }

    /// Networks where their tenant allows it, logins and grants where they say so themselves.
    fn null_sender(&self, responsible: Responsible) -> Ownership<'_> {
        let (allowed, origin) = match responsible {
            Responsible::Login(_, identity) | Responsible::Grant(_, identity) => {
                (self.identity_at(identity).null_sender, self.identity_origin(identity))
            }
            Responsible::Network(tenant) => {
                let tenant = self.tenant(tenant);
                (tenant.null_sender, &tenant.null_sender_origin)
            }
        };
        if allowed { Ownership::Owned(origin) } else { Ownership::Foreign(Some(origin)) }
    }

    /// Senders that are reserved belong to the identities named; of all others a login owns those of
    /// its own list where it has one, else those of its tenant.
    pub(crate) fn address_ownership(&self, responsible: Responsible, address: Address<'_>) -> Ownership<'_> {
        let tenant = self.tenant(responsible.tenant());
        let own = responsible.identity().and_then(|identity| self.identity_at(identity).senders.as_ref());
        let senders = own.unwrap_or(&tenant.senders);
        tenant.with_untagged(address, |names| {
            if let Some(block) = tenant.reserved(names) {
                let may = responsible.identity().is_some_and(|identity| block.identities.contains(&identity));
                return if may {
                    Ownership::Owned(&block.origin)
                } else {
                    Ownership::Reserved(&block.origin)
                };
            }
            match find_any(senders, names) {
                Some(origin) => Ownership::Owned(origin),
                None => Ownership::Foreign(senders.first_origin()),
            }
        })
    }

    /// A stranger's mail for a relay domain under the name of the tenant's own senders, where the
    /// tenant denies that (relay-control.md B1).
    pub(crate) fn own_sender_of_stranger(
        &self,
        facts: &Facts<'_>,
        network: NetworkMatch,
        from: ReversePath<'_>,
        ix: TenantIx,
        trace: &mut impl Trace,
    ) -> Option<Decision> {
        let tenant = self.tenant(ix);
        let origin = tenant.sender_rules.as_ref()?.own_denied.as_ref()?;
        let address = from.address()?;
        let identities = facts.identity.iter().chain(facts.grants_that_count());
        let is_own = network.tenant() == Some(ix)
            || identities.into_iter().any(|&identity| self.identity_tenant(identity) == ix);
        let claims = || {
            tenant.with_untagged(address, |names| {
                tenant.reserved(names).is_some() || find_any(&tenant.senders, names).is_some()
            })
        };
        if is_own || !claims() {
            return None;
        }
        trace.step(Rule::Sender, Outcome::Deny, Some(origin), || {
            format!(
                "{address} is one of the senders of tenant {}, and whoever sends it is a stranger",
                tenant.name
            )
        });
        let remedy = Remedy::LogInOrAddNetwork;
        Some(Decision::deny(Rule::Sender, Some(ix), Reason::SenderNotOwned, remedy).by(facts.identity))
    }

    fn owns(
        &self,
        responsible: Responsible,
        from: ReversePath<'_>,
        trace: &mut impl Trace,
    ) -> Result<Responsible, Decision> {
        let ownership = self.ownership(responsible, from);
        let (outcome, origin) = match ownership {
            Ownership::Owned(origin) => (Outcome::Pass, Some(origin)),
            Ownership::Foreign(origin) => (Outcome::Deny, origin),
            Ownership::Reserved(origin) => (Outcome::Deny, Some(origin)),
        };
        trace.step(Rule::Sender, outcome, origin, || {
            let who = self.responsible_name(responsible);
            match (from, ownership) {
                (ReversePath::Null, Ownership::Owned(_)) => {
                    format!("{who} may relay with the null sender <>")
                }
                (ReversePath::Null, _) => format!("{who} may not relay with the null sender <>"),
                (ReversePath::Address(address), _) => ownership.told(address.text(), &who),
            }
        });
        if ownership.is_owned() {
            return Ok(responsible);
        }
        let remedy = match (from, ownership) {
            (ReversePath::Null, _) => Remedy::AllowNullSender,
            (_, Ownership::Reserved(_)) => Remedy::UseReservedLogin,
            (ReversePath::Address(_), _) => Remedy::AddSender,
        };
        let denial = Decision::deny(Rule::Sender, Some(responsible.tenant()), Reason::SenderNotOwned, remedy);
        Err(denial.by(responsible.identity()))
    }

    fn trace_responsible(&self, responsible: Responsible, facts: &Facts<'_>, trace: &mut impl Trace) {
        let client = facts.client.to_canonical();
        let name = &self.tenant(responsible.tenant()).name;
        match responsible {
            Responsible::Login(_, identity) => {
                let line = trace.wants_lines().then(|| self.identity_origin(identity));
                trace.step(Rule::Responsibility, Outcome::Pass, line, || {
                    format!("tenant {name} answers for its login {}", self.identity_login(identity))
                });
            }
            Responsible::Grant(_, identity) => {
                let line = trace.wants_lines().then(|| self.identity_origin(identity));
                trace.step(Rule::Responsibility, Outcome::Pass, line, || {
                    format!(
                        "login {} of tenant {name} has a grant for {client}: it read its mail from there",
                        self.identity_login(identity)
                    )
                });
            }
            Responsible::Network(_) => {
                let line = trace.wants_lines().then(|| self.network_line(client)).flatten();
                trace.step(Rule::Responsibility, Outcome::Pass, line.map(|line| &line.origin), || {
                    let net = line.map_or_else(String::new, |line| line.value.to_string());
                    format!("{client} is in {net}, a network of tenant {name}")
                });
            }
        }
    }

    fn nobody(&self, facts: &Facts<'_>, network: NetworkMatch, trace: &mut impl Trace) -> Decision {
        let client = facts.client.to_canonical();
        let excluded = match network {
            NetworkMatch::Excluded if trace.wants_lines() => self.network_line(client),
            _ => None,
        };
        let origin = excluded.map(|line| &line.origin);
        trace.step(Rule::Responsibility, Outcome::Deny, origin, || match excluded {
            Some(line) => {
                format!("{client} is in {}, an excluded range, and nobody has logged in", line.value)
            }
            None if client.is_unspecified() => {
                "the client has no address that is known, and nobody has logged in".to_owned()
            }
            None => format!("{client} is in no tenant's network, and nobody has logged in"),
        });
        let remedy = Remedy::LogInOrAddNetwork;
        Decision::deny(Rule::Responsibility, None, Reason::RelayNotPermitted, remedy)
    }

    pub(crate) fn responsible_name(&self, responsible: Responsible) -> String {
        match responsible {
            Responsible::Login(_, identity) => format!("login {}", self.identity_login(identity)),
            Responsible::Network(tenant) => format!("tenant {}", self.tenant(tenant).name),
            Responsible::Grant(_, identity) => {
                format!("login {}, which has a grant", self.identity_login(identity))
            }
        }
    }
}
