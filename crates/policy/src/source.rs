use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mail::ScramVerifier;

use crate::checks::HeaderChecks;
use crate::limits::{Limits, NodeLimits};
use crate::next_hop::NextHop;

/// Connections to one site at the same time where its route writes no other number.
pub const CONNECTIONS_DEFAULT: u32 = 20;

/// The line of a file that a setting came from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file, as a person would name it.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
}

impl Origin {
    /// The line `line` of `file`.
    #[must_use]
    pub fn new(file: impl Into<Arc<str>>, line: u32) -> Self {
        Self { file: file.into(), line }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A value and the line that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    /// `value`, as written at `origin`.
    pub fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }
}

/// What a snapshot is compiled from: the configuration, parsed and not yet checked as a whole.
#[derive(Clone, Debug)]
pub struct Source {
    /// The number of this configuration since the program started.
    pub generation: u64,
    /// The node's file, for what is missing from it.
    pub origin: Origin,
    /// The node's routes, in order.
    pub routes: Vec<RouteSource>,
    /// The node's limits.
    pub limits: NodeLimits,
    /// The node's block and allow lists.
    pub lists: ListsSource,
    /// The tenants. Shared, so that a reload reads again only what changed.
    pub tenants: Vec<Arc<TenantSource>>,
}

/// A tenant file.
#[derive(Clone, Debug)]
pub struct TenantSource {
    /// Its name and where the file says so.
    pub name: Sourced<String>,
    /// The networks whose clients are its own.
    pub networks: Vec<Sourced<IpNet>>,
    /// Ranges whose clients are strangers, whatever wider range holds them.
    pub excluded_networks: Vec<Sourced<IpNet>>,
    /// Sender patterns: `@example.com`, `@*.example.com`, `a@example.com`.
    pub senders: Vec<Sourced<String>>,
    /// Whether its own networks must log in.
    pub login_required: Sourced<LoginRequired>,
    /// Whether its networks may relay with the null reverse-path.
    pub null_sender: Sourced<bool>,
    /// What else it says about senders.
    pub sender_rules: SenderRulesSource,
    /// Its own block and allow lists, for its own mail.
    pub lists: ListsSource,
    /// The domains it receives mail for.
    pub relay_domains: Vec<RelayDomainSource>,
    /// Its own routes, which come before the node's.
    pub routes: Vec<RouteSource>,
    /// Its logins.
    pub identities: Vec<IdentitySource>,
    /// Its limits.
    pub limits: Limits,
    /// POP and IMAP before SMTP, where it takes part.
    pub grants: Option<GrantTerms>,
}

#[cfg(test)]
impl Source {
    /// Tenants, and nothing that is the node's.
    pub(crate) fn of(tenants: Vec<Arc<TenantSource>>) -> Self {
        Self {
            generation: 1,
            origin: Origin::new("test.toml", 0),
            routes: Vec::new(),
            limits: NodeLimits::default(),
            lists: ListsSource::default(),
            tenants,
        }
    }
}

impl TenantSource {
    /// A tenant of this name that has nothing yet.
    #[must_use]
    pub fn named(name: Sourced<String>) -> Self {
        let origin = name.origin.clone();
        Self {
            name,
            networks: Vec::new(),
            excluded_networks: Vec::new(),
            senders: Vec::new(),
            login_required: Sourced::new(LoginRequired::Never, origin.clone()),
            null_sender: Sourced::new(false, origin),
            sender_rules: SenderRulesSource::default(),
            lists: ListsSource::default(),
            relay_domains: Vec::new(),
            routes: Vec::new(),
            identities: Vec::new(),
            limits: Limits::default(),
            grants: None,
        }
    }
}

/// `[grants]` of a tenant: how its mailbox logins open relaying (DESIGN.md A2).
#[derive(Clone, Debug)]
pub struct GrantTerms {
    /// Where the section begins.
    pub origin: Origin,
    /// How long a grant holds.
    pub ttl: Duration,
    /// The SHA-256 digest of the token with which its mailbox server reports logins.
    pub token_sha256: Option<[u8; 32]>,
}

/// `[lists]` of the node or of a tenant (DESIGN.md E2).
#[derive(Clone, Debug, Default)]
pub struct ListsSource {
    /// Addresses and networks of clients.
    pub clients: BlockAllow<ListSource>,
    /// Envelope senders and their domains.
    pub senders: BlockAllow<ListSource>,
    /// Recipients and their domains.
    pub recipients: BlockAllow<ListSource>,
}

/// The two lists of one kind.
#[derive(Clone, Debug)]
pub struct BlockAllow<L> {
    /// What is refused.
    pub blocked: Option<L>,
    /// What no block list refuses.
    pub allowed: Option<L>,
}

impl<L> Default for BlockAllow<L> {
    fn default() -> Self {
        Self { blocked: None, allowed: None }
    }
}

impl ListsSource {
    /// Whether there is any list.
    pub(crate) fn is_any(&self) -> bool {
        let Self { clients, senders, recipients } = self;
        [clients, senders, recipients].iter().any(|pair| pair.blocked.is_some() || pair.allowed.is_some())
    }
}

/// A list in a separate file.
#[derive(Clone, Debug)]
pub struct ListSource {
    /// What a reply calls it: the file's name without its ending.
    pub name: String,
    /// Its entries, as they are written: addresses and prefixes of clients, or mailboxes and domain
    /// patterns with or without an @ before them.
    pub entries: Vec<Sourced<String>>,
}

/// What a tenant says about senders beyond the list of them; the default says nothing.
#[derive(Clone, Debug, Default)]
pub struct SenderRulesSource {
    /// Whether `terri+x@d` belongs to whom `terri@d` belongs to, as a sender and as a listed recipient.
    pub plus_addressing: bool,
    /// The line that denies strangers mail for its relay domains under its own senders
    /// (DESIGN.md B1); without it, such mail is taken.
    pub own_senders_denied: Option<Origin>,
    /// Which header fields must hold addresses of who relays (DESIGN.md C2).
    pub headers: HeaderChecks,
    /// Senders that only chosen identities may use; of two blocks that hold a sender the first counts.
    pub reserved: Vec<ReservedSendersSource>,
}

impl SenderRulesSource {
    /// Whether it says anything.
    pub(crate) fn is_any(&self) -> bool {
        let Self { plus_addressing, own_senders_denied, headers, reserved } = self;
        *plus_addressing || own_senders_denied.is_some() || headers.is_any() || !reserved.is_empty()
    }
}

/// A `[[reserved_senders]]` of a tenant (DESIGN.md C3).
#[derive(Clone, Debug)]
pub struct ReservedSendersSource {
    /// Where the block begins.
    pub origin: Origin,
    /// Sender patterns, as in a tenant's `senders`.
    pub senders: Vec<Sourced<String>>,
    /// The logins of the tenant that may use them; they own them by this.
    pub identities: Vec<Sourced<String>>,
}

/// Strict mode: whether a tenant's own networks must log in (DESIGN.md A4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoginRequired {
    /// The network is enough.
    #[default]
    Never,
    /// For recipients outside the relay domains.
    Outside,
    /// For every recipient.
    Always,
}

/// A `[[relay_domain]]` of a tenant.
#[derive(Clone, Debug)]
pub struct RelayDomainSource {
    /// The domains.
    pub domains: Vec<Sourced<String>>,
    /// Where their mail goes; the domain names in it are ignored.
    pub route: RouteSource,
    /// The recipients that exist; without it every local part is taken, unless the next hop is asked.
    pub recipients: Option<RecipientsSource>,
    /// Whether the next hop is asked for each recipient (DESIGN.md B2).
    pub call_ahead: bool,
}

/// A list of the recipients of a relay domain.
#[derive(Clone, Debug)]
pub struct RecipientsSource {
    /// The line that names the list.
    pub origin: Origin,
    /// Addresses, or local parts that hold for each domain of the block.
    pub recipients: Vec<Sourced<String>>,
}

/// A `[[route]]`.
#[derive(Clone, Debug)]
pub struct RouteSource {
    /// Where the block begins.
    pub origin: Origin,
    /// `example.com`, `*.example.com` or `*`.
    pub recipient_domains: Vec<Sourced<String>>,
    /// In the order in which they are tried.
    pub next_hops: Vec<NextHop>,
    /// TLS towards them.
    pub tls: RouteTls,
    /// Connections to the site at the same time, over all workers.
    pub connections_max: u32,
}

/// TLS towards a next hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RouteTls {
    /// Never.
    Off,
    /// Where it is offered, whatever the certificate says.
    #[default]
    Opportunistic,
    /// Always, with a certificate that names the next hop.
    Required,
}

/// An `[[identity]]` of a tenant.
#[derive(Clone, Debug)]
pub struct IdentitySource {
    /// The login name.
    pub login: Sourced<String>,
    /// The password hash in PHC form; empty where there is a SCRAM verifier only.
    pub credential: String,
    /// The SCRAM verifier of the password.
    pub scram: Option<ScramVerifier>,
    /// Its own sender patterns; without any, those of the tenant.
    pub senders: Vec<Sourced<String>>,
    /// Whether it may relay with the null reverse-path.
    pub null_sender: bool,
}

impl IdentitySource {
    /// A login with a password hash, and the senders of its tenant.
    #[must_use]
    pub fn new(login: Sourced<String>, credential: String) -> Self {
        Self { login, credential, scram: None, senders: Vec::new(), null_sender: false }
    }
}
