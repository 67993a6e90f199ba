//! Who answers for a sender, and whether the sender is theirs (DESIGN.md C1).

use mail::limits::ADDRESS_BYTES_MAX;
use mail::{Address, Reason, ReversePath};

use crate::decide::Case;
use crate::decision::Decision;
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

    /// Whether they may relay with this reverse-path.
    pub(crate) fn ownership<'s>(self, snapshot: &'s Snapshot, from: ReversePath<'_>) -> Ownership<'s> {
        match from {
            ReversePath::Null => self.null_sender(snapshot),
            ReversePath::Address(address) => self.address_ownership(snapshot, address),
        }
    }

    /// Networks where their tenant allows it, logins and grants where they say so themselves.
    fn null_sender(self, snapshot: &Snapshot) -> Ownership<'_> {
        let (allowed, origin) = match self {
            Self::Login(_, identity) | Self::Grant(_, identity) => {
                (snapshot.logins.at(identity).null_sender, Line::Login(identity))
            }
            Self::Network(tenant) => {
                (snapshot.front(tenant).null_sender, Line::At(&snapshot.tenant(tenant).null_sender_origin))
            }
        };
        if allowed { Ownership::Owned(origin) } else { Ownership::Foreign(origin) }
    }

    /// Senders that are reserved belong to the identities named; of all others a login owns those of
    /// its own list where it has one, else those of its tenant.
    pub(crate) fn address_ownership<'s>(self, snapshot: &'s Snapshot, address: Address<'_>) -> Ownership<'s> {
        let tenant = self.tenant();
        let any_rules = match self.identity() {
            Some(identity) => snapshot.logins.at(identity).has_sender_rules,
            None => snapshot.front(tenant).has_sender_rules,
        };
        let rules = snapshot.sender_rules(any_rules, tenant);
        with_names(rules, address, |names| {
            if let Some(block) = reserved(rules, names) {
                let may = self.identity().is_some_and(|identity| block.identities.contains(&identity));
                return if may {
                    Ownership::Owned(Line::At(&block.origin))
                } else {
                    Ownership::Reserved(Line::At(&block.origin))
                };
            }
            match self.own_sender(snapshot, names) {
                Some(line) => Ownership::Owned(line),
                None => Ownership::Foreign(Line::first_sender(snapshot, self.identity(), tenant)),
            }
        })
    }

    /// The pattern of a login's own, else of the tenant's, that holds an address.
    fn own_sender<'s>(self, snapshot: &'s Snapshot, names: Names<'_>) -> Option<Line<'s>> {
        if let Some(ix) = self.identity()
            && let Identity { senders, has_own_senders, .. } = snapshot.logins.at(ix)
            && senders.is_any()
        {
            let long_senders = &snapshot.logins.long_senders;
            let place = names.texts().find_map(|name| senders.find(name, long_senders));
            let line = |place| match has_own_senders {
                true => Line::LoginSender(ix, place),
                false => Line::TenantSender(self.tenant(), place),
            };
            return place.map(line);
        }
        Line::tenant_sender(snapshot, self.tenant(), names)
    }

    /// For a person.
    fn name(self, snapshot: &Snapshot) -> String {
        match self {
            Self::Login(_, identity) => format!("login {}", snapshot.identity_login(identity)),
            Self::Network(tenant) => format!("tenant {}", snapshot.tenant(tenant).name),
            Self::Grant(_, identity) => {
                format!("login {}, which has a grant", snapshot.identity_login(identity))
            }
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

impl<'a> Line<'a> {
    /// The pattern of a tenant that holds an address.
    pub(crate) fn tenant_sender(snapshot: &Snapshot, tenant: TenantIx, names: Names<'_>) -> Option<Self> {
        let senders = &snapshot.front(tenant).senders;
        let place = names.texts().find_map(|name| senders.find(name, &snapshot.long_senders));
        place.map(|place| Self::TenantSender(tenant, place))
    }

    /// The first line of the senders of a login that has its own, else of its tenant.
    pub(crate) fn first_sender(snapshot: &Snapshot, identity: Option<IdentityIx>, tenant: TenantIx) -> Self {
        match identity.filter(|&identity| snapshot.logins.at(identity).has_own_senders) {
            Some(identity) => Self::LoginSender(identity, 0),
            None => Self::TenantSender(tenant, 0),
        }
    }

    /// Where it stands; `None` where there is no such line.
    pub(crate) fn origin(self, snapshot: &'a Snapshot) -> Option<&'a Origin> {
        let (senders, place) = match self {
            Self::At(origin) => return Some(origin),
            Self::Login(identity) => return Some(&snapshot.identity_source(identity).login.origin),
            Self::LoginSender(identity, place) => (&snapshot.identity_source(identity).senders, place),
            Self::TenantSender(tenant, place) => (&snapshot.tenant_source(tenant).senders, place),
        };
        senders.get(place as usize).map(|pattern| &pattern.origin)
    }
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

impl<T: Trace> Case<'_, T> {
    /// Mail that goes out: a tenant must answer for the sender, and own it.
    pub(crate) fn relaying<'p>(
        &mut self,
        from: impl Presented<ReversePath<'p>>,
    ) -> Result<Responsible, Decision> {
        let chosen = self.responsible(from).ok_or_else(|| self.stranger())?;
        self.trace_responsible(chosen);
        // Strict mode is the network's tenant's: a grant is no login there.
        if let Some(decision) = self.strict_login(LoginRequired::Outside) {
            return Err(decision);
        }
        self.owns(chosen, from.look())
    }

    /// A login before a network before a grant. A sender that the network does not own may still be
    /// that of a grant: no insider gets less than a stranger. Where none owns the sender, the
    /// first of them answers for the denial.
    pub(crate) fn responsible<'p>(&self, from: impl Presented<ReversePath<'p>>) -> Option<Responsible> {
        let Self { snapshot, facts, network, .. } = *self;
        if let Some(identity) = facts.identity {
            return Some(Responsible::Login(snapshot.identity_tenant(identity), identity));
        }
        let network = network.tenant().map(Responsible::Network);
        let grants = facts.grants_that_count();
        if grants.is_empty() {
            return network;
        }
        let grants = grants.iter().map(|&ix| Responsible::Grant(snapshot.identity_tenant(ix), ix));
        let mut candidates = network.into_iter().chain(grants);
        let first = candidates.next()?;
        let from = from.look();
        let owns = |candidate: &Responsible| candidate.ownership(snapshot, from).is_owned();
        if owns(&first) {
            return Some(first);
        }
        Some(candidates.find(owns).unwrap_or(first))
    }

    /// A stranger's mail for a relay domain under the name of the tenant's own senders, where the
    /// tenant denies that (DESIGN.md B1).
    pub(crate) fn own_sender_of_stranger<'p>(
        &mut self,
        from: impl Presented<ReversePath<'p>>,
        relay: &RelayDomain,
    ) -> Option<Decision> {
        let Self { snapshot, facts, network, .. } = *self;
        let ix = relay.tenant;
        let rules = snapshot.sender_rules(relay.has_sender_rules, ix)?;
        let origin = rules.own_denied.as_ref()?;
        let address = from.look().address()?;
        let identities = facts.identity.iter().chain(facts.grants_that_count());
        let is_own = network.tenant() == Some(ix)
            || identities.into_iter().any(|&identity| snapshot.identity_tenant(identity) == ix);
        let claims = || {
            with_names(Some(rules), address, |names| {
                reserved(Some(rules), names).is_some() || Line::tenant_sender(snapshot, ix, names).is_some()
            })
        };
        if is_own || !claims() {
            return None;
        }
        let name = &snapshot.tenant(ix).name;
        self.trace.step(Rule::Sender, Outcome::Deny, Some(origin), || {
            format!(
                "{address} is one of the senders of tenant {name}, and the client that sends it is a stranger"
            )
        });
        let remedy = Remedy::LogInOrAddNetwork;
        Some(Decision::deny(Rule::Sender, Some(ix), Reason::SenderNotOwned, remedy).by(facts.identity))
    }

    fn owns(&mut self, responsible: Responsible, from: ReversePath<'_>) -> Result<Responsible, Decision> {
        let Self { snapshot, ref mut trace, .. } = *self;
        let ownership = responsible.ownership(snapshot, from);
        let (outcome, line) = match ownership {
            Ownership::Owned(line) => (Outcome::Pass, line),
            Ownership::Foreign(line) | Ownership::Reserved(line) => (Outcome::Deny, line),
        };
        let origin = trace.wants_lines().then(|| line.origin(snapshot)).flatten();
        trace.step(Rule::Sender, outcome, origin, || {
            let who = responsible.name(snapshot);
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

    fn trace_responsible(&mut self, responsible: Responsible) {
        let Self { snapshot, facts, ref mut trace, .. } = *self;
        let client = facts.client.to_canonical();
        let name = &snapshot.tenant(responsible.tenant()).name;
        match responsible {
            Responsible::Login(_, identity) => {
                let line = trace.wants_lines().then(|| &snapshot.identity_source(identity).login.origin);
                trace.step(Rule::Responsibility, Outcome::Pass, line, || {
                    format!("tenant {name} answers for its login {}", snapshot.identity_login(identity))
                });
            }
            Responsible::Grant(_, identity) => {
                let line = trace.wants_lines().then(|| &snapshot.identity_source(identity).login.origin);
                trace.step(Rule::Responsibility, Outcome::Pass, line, || {
                    format!(
                        "login {} of tenant {name} has a grant for {client}: it read its mail from there",
                        snapshot.identity_login(identity)
                    )
                });
            }
            Responsible::Network(_) => {
                let line = trace.wants_lines().then(|| snapshot.network_line(client)).flatten();
                trace.step(Rule::Responsibility, Outcome::Pass, line.map(|line| &line.origin), || {
                    let net = line.map_or_else(String::new, |line| line.value.to_string());
                    format!("{client} is in {net}, a network of tenant {name}")
                });
            }
        }
    }

    /// No tenant answers for the client.
    fn stranger(&mut self) -> Decision {
        let Self { snapshot, facts, network, ref mut trace } = *self;
        let client = facts.client.to_canonical();
        let excluded = match network {
            NetworkMatch::Excluded if trace.wants_lines() => snapshot.network_line(client),
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
}
