//! Who answers for a sender, and whether the sender is theirs (DESIGN.md C1).

use mail::limits::ADDRESS_BYTES_MAX;
use mail::{Address, Reason, ReversePath};

use crate::decision::Decision;
use crate::facts::Facts;
use crate::front::Identity;
use crate::index::{IdentityIx, TenantIx};
use crate::network::NetworkMatch;
use crate::patterns::Patterns;
use crate::presented::Presented;
use crate::remedy::Remedy;
use crate::rule::Rule;
use crate::senders::{Reserved, SenderRules};
use crate::snapshot::{RelayDomain, Snapshot};
use crate::source::{LoginRequired, Origin};
use crate::trace::{Outcome, Trace};

/// Who answers for a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Responsible {
    /// The client has logged in.
    Login(TenantIx, IdentityIx),
    /// The client is in a tenant's network.
    Network(TenantIx),
    /// A user has logged in by POP or IMAP from the client's address.
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
    Owned(Line<'a>),
    /// None of their addresses; the first line of the list that lacks it.
    Foreign(Line<'a>),
    /// Kept for identities that they are not (DESIGN.md C3).
    Reserved(Line<'a>),
}

/// The line behind an answer. Where it stands is looked up for who asks: it lies in memory that the
/// decision itself has no need of.
#[derive(Clone, Copy)]
pub(crate) enum Line<'a> {
    At(&'a Origin),
    /// The sender pattern at this place, of a login's own or of a tenant's.
    LoginSender(IdentityIx, u32),
    TenantSender(TenantIx, u32),
    /// Where the login is written.
    Login(IdentityIx),
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

/// An address in its canonical form, and the same without its tag where the tenant has
/// plus-addressing. Only [`with_names`] makes one: nothing is looked up as a client spelt it.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a>([Option<Address<'a>>; 2]);

impl<'a> Names<'a> {
    pub(crate) fn texts(self) -> impl Iterator<Item = &'a str> {
        self.0.into_iter().flatten().map(Address::text)
    }
}

fn holds_any(senders: &Patterns, names: Names<'_>) -> bool {
    names.texts().any(|name| senders.most_specific(name).is_some())
}

/// Asks `look` with the names under which a tenant of these rules, or the node, knows an address.
pub(crate) fn with_names<T>(
    rules: Option<&SenderRules>,
    address: Address<'_>,
    look: impl FnOnce(Names<'_>) -> T,
) -> T {
    if address.local_part().starts_with('"') {
        let mut buffer = [0; ADDRESS_BYTES_MAX];
        return with_untagged(rules, address.canonical(&mut buffer), look);
    }
    with_untagged(rules, address, look)
}

fn with_untagged<T>(
    rules: Option<&SenderRules>,
    canonical: Address<'_>,
    look: impl FnOnce(Names<'_>) -> T,
) -> T {
    let plus = rules.is_some_and(|rules| rules.plus_addressing);
    if !plus || !canonical.local_part().contains('+') {
        return look(Names([Some(canonical), None]));
    }
    let mut buffer = [0; ADDRESS_BYTES_MAX];
    look(Names([Some(canonical), canonical.untagged(&mut buffer)]))
}

/// The first block that keeps an address for chosen identities.
pub(crate) fn reserved<'a>(rules: Option<&'a SenderRules>, names: Names<'_>) -> Option<&'a Reserved> {
    rules?.reserved.iter().find(|block| holds_any(&block.senders, names))
}

impl Snapshot {
    /// Mail that goes out: a tenant must answer for the sender, and own it.
    pub(crate) fn relaying<'a>(
        &self,
        facts: &Facts<'_>,
        network: NetworkMatch,
        from: impl Presented<ReversePath<'a>>,
        trace: &mut impl Trace,
    ) -> Result<Responsible, Decision> {
        let Some(chosen) = self.responsible(facts, network, from) else {
            return Err(self.no_tenant(facts, network, trace));
        };
        self.trace_responsible(chosen, facts, trace);
        // Strict mode is the network's tenant's: a grant is no login there.
        if let Some(decision) = self.strict_login(facts, network, LoginRequired::Outside, trace) {
            return Err(decision);
        }
        self.owns(chosen, from.look(), trace)
    }

    /// A login before a network before a grant. A sender that the network does not own may still be
    /// that of a grant: no insider gets less than a stranger. Where none owns the sender, the
    /// first of them answers for the denial.
    pub(crate) fn responsible<'a>(
        &self,
        facts: &Facts<'_>,
        network: NetworkMatch,
        from: impl Presented<ReversePath<'a>>,
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
        let from = from.look();
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
                (self.identity_at(identity).null_sender, Line::Login(identity))
            }
            Responsible::Network(tenant) => {
                (self.front(tenant).null_sender, Line::At(&self.tenant(tenant).null_sender_origin))
            }
        };
        if allowed { Ownership::Owned(origin) } else { Ownership::Foreign(origin) }
    }

    /// Senders that are reserved belong to the identities named; of all others a login owns those of
    /// its own list where it has one, else those of its tenant.
    pub(crate) fn address_ownership(&self, responsible: Responsible, address: Address<'_>) -> Ownership<'_> {
        let tenant = responsible.tenant();
        let rules = match responsible.identity() {
            Some(identity) => self.sender_rules_if(self.identity_at(identity).has_sender_rules, tenant),
            None => self.sender_rules(tenant),
        };
        with_names(rules, address, |names| {
            if let Some(block) = reserved(rules, names) {
                let may = responsible.identity().is_some_and(|identity| block.identities.contains(&identity));
                return if may {
                    Ownership::Owned(Line::At(&block.origin))
                } else {
                    Ownership::Reserved(Line::At(&block.origin))
                };
            }
            match self.own_sender(responsible, names) {
                Some(line) => Ownership::Owned(line),
                None => Ownership::Foreign(self.first_sender(responsible.identity(), tenant)),
            }
        })
    }

    /// The pattern of a login's own, else of the tenant's, that holds an address.
    fn own_sender(&self, responsible: Responsible, names: Names<'_>) -> Option<Line<'_>> {
        if let Some(ix) = responsible.identity()
            && let Identity { senders, has_own_senders, .. } = self.identity_at(ix)
            && senders.is_any()
        {
            let long_senders = &self.logins.long_senders;
            let place = names.texts().find_map(|name| senders.find(name, long_senders));
            let line = |place| match has_own_senders {
                true => Line::LoginSender(ix, place),
                false => Line::TenantSender(responsible.tenant(), place),
            };
            return place.map(line);
        }
        self.tenant_sender(responsible.tenant(), names)
    }

    /// The pattern of the tenant that holds an address.
    pub(crate) fn tenant_sender(&self, tenant: TenantIx, names: Names<'_>) -> Option<Line<'_>> {
        let senders = &self.front(tenant).senders;
        let place = names.texts().find_map(|name| senders.find(name, &self.long_senders));
        place.map(|place| Line::TenantSender(tenant, place))
    }

    /// The first line of the senders of a login that has its own, else of its tenant.
    pub(crate) fn first_sender(&self, identity: Option<IdentityIx>, tenant: TenantIx) -> Line<'_> {
        match identity.filter(|&identity| self.identity_at(identity).has_own_senders) {
            Some(identity) => Line::LoginSender(identity, 0),
            None => Line::TenantSender(tenant, 0),
        }
    }

    /// Where a line stands; `None` where there is none.
    pub(crate) fn origin<'a>(&'a self, line: Line<'a>) -> Option<&'a Origin> {
        let (senders, place) = match line {
            Line::At(origin) => return Some(origin),
            Line::Login(identity) => return Some(self.identity_origin(identity)),
            Line::LoginSender(identity, place) => (&self.identity_source(identity).senders, place),
            Line::TenantSender(tenant, place) => (&self.tenant_source(tenant).senders, place),
        };
        senders.get(place as usize).map(|pattern| &pattern.origin)
    }

    /// A stranger's mail for a relay domain under the name of the tenant's own senders, where the
    /// tenant denies that (DESIGN.md B1).
    pub(crate) fn own_sender_of_stranger<'a>(
        &self,
        facts: &Facts<'_>,
        network: NetworkMatch,
        from: impl Presented<ReversePath<'a>>,
        relay: &RelayDomain,
        trace: &mut impl Trace,
    ) -> Option<Decision> {
        let ix = relay.tenant;
        let rules = self.sender_rules_if(relay.has_sender_rules, ix)?;
        let origin = rules.own_denied.as_ref()?;
        let address = from.look().address()?;
        let identities = facts.identity.iter().chain(facts.grants_that_count());
        let is_own = network.tenant() == Some(ix)
            || identities.into_iter().any(|&identity| self.identity_tenant(identity) == ix);
        let claims = || {
            with_names(Some(rules), address, |names| {
                reserved(Some(rules), names).is_some() || self.tenant_sender(ix, names).is_some()
            })
        };
        if is_own || !claims() {
            return None;
        }
        trace.step(Rule::Sender, Outcome::Deny, Some(origin), || {
            format!(
                "{address} is one of the senders of tenant {}, and the client that sends it is a stranger",
                self.tenant(ix).name
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
        let (outcome, line) = match ownership {
            Ownership::Owned(line) => (Outcome::Pass, line),
            Ownership::Foreign(line) | Ownership::Reserved(line) => (Outcome::Deny, line),
        };
        let origin = trace.wants_lines().then(|| self.origin(line)).flatten();
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

    fn no_tenant(&self, facts: &Facts<'_>, network: NetworkMatch, trace: &mut impl Trace) -> Decision {
        let client = facts.client.to_canonical();
        let excluded = match network {
            NetworkMatch::Excluded if trace.wants_lines() => self.network_line(client),
            _ => None,
        };
        let origin = excluded.map(|line| &line.origin);
        trace.step(Rule::Responsibility, Outcome::Deny, origin, || match excluded {
            Some(line) => {
                format!("{client} is in {}, an excluded range, and the client has not logged in", line.value)
            }
            None if client.is_unspecified() => {
                "the client has no address that is known, and has not logged in".to_owned()
            }
            None => format!("{client} is in no tenant's network, and the client has not logged in"),
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
