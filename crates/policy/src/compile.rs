mod lists;
mod networks;
mod relay;
mod routes;
mod senders;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::front::{Front, Identity, Senders};
use crate::index::{IdentityIx, TenantIx};
use crate::lists::Lists;
use crate::logins::{self, Logins};
use crate::names::Names;
use crate::network::Networks;
use crate::patterns::Patterns;
use crate::senders::Ending;
use crate::snapshot::{RelayDomains, Route, Snapshot, Tenant};
use crate::source::{GrantTerms, IdentitySource, Origin, Source, TenantSource};
use crate::stand_in::StandIn;

/// The shortest IPv4 prefix of a network: 1/256 of the address space (DESIGN.md A5).
pub const PREFIX_BITS_MIN_V4: u8 = 8;

/// The shortest IPv6 prefix of a network (DESIGN.md A5).
pub const PREFIX_BITS_MIN_V6: u8 = 20;

/// Something in a configuration that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// The line at fault.
    pub origin: Origin,
    /// The second line, where two contradict each other.
    pub other: Option<Origin>,
    /// The key of the line.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// It would let strangers relay: a network as wide as the world.
    pub opens: bool,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.origin, self.key, self.message)?;
        if let Some(other) = &self.other {
            write!(f, " (see {other})")?;
        }
        write!(f, "; {}", self.remedy)
    }
}

impl std::error::Error for CompileError {}

impl Snapshot {
    /// Compiles a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the files.
    pub fn compile(source: &Source) -> Result<Self, Vec<CompileError>> {
        compile(source, None)
    }

    /// The same, in less time where `before` has the same logins with the same senders: their table,
    /// which is most of the work, is then shared.
    ///
    /// # Errors
    /// As [`Snapshot::compile`].
    pub fn compile_after(before: &Self, source: &Source) -> Result<Self, Vec<CompileError>> {
        compile(source, Some(before))
    }
}

/// `before`, where there is one, is a snapshot whose logins are taken over if they are the same.
fn compile(source: &Source, before: Option<&Snapshot>) -> Result<Snapshot, Vec<CompileError>> {
    let same = before.filter(|before| logins::are_the_same(&before.sources, &source.tenants));
    let mut compiler = Compiler {
        sources: source.tenants.clone(),
        known_logins: same.map(|before| before.logins.clone()),
        ..Compiler::default()
    };
    if compiler.known_logins.is_none() {
        let logins = source.tenants.iter().map(|tenant| tenant.identities.len()).sum();
        compiler.identities.reserve_exact(logins);
        compiler.logins.reserve(logins);
    }
    let node_routes = compiler.route_list(&source.routes);
    for (index, tenant) in (0_u32..).zip(&source.tenants) {
        compiler.tenant(TenantIx(index), tenant);
    }
    let lists = compiler.lists(&source.lists);
    let networks = compiler.networks(&source.tenants);
    compiler.finish(source, networks, node_routes, lists)
}

#[derive(Default)]
struct Compiler {
    sources: Vec<Arc<TenantSource>>,
    errors: Vec<CompileError>,
    fronts: Vec<Front>,
    tenants: Vec<Tenant>,
    long_senders: Vec<Patterns>,
    tenant_names: Names<TenantIx>,
    /// Those of the snapshot before; then the three that follow stay empty.
    known_logins: Option<Logins>,
    identities: Vec<Identity>,
    logins: Names<IdentityIx>,
    long_senders_of_logins: Vec<Patterns>,
    relay_domains: RelayDomains,
    recipients: Names<()>,
    routes: Vec<Route>,
    /// Whose each grant token is: by a token its tenant is known.
    grant_tokens: HashMap<[u8; 32], Origin>,
}

impl Compiler {
    fn error(&mut self, origin: &Origin, key: &'static str, message: String, remedy: impl Into<String>) {
        self.errors.push(CompileError {
            origin: origin.clone(),
            other: None,
            key,
            message,
            remedy: remedy.into(),
            opens: false,
        });
    }

    fn conflict(
        &mut self,
        origin: &Origin,
        other: Origin,
        key: &'static str,
        message: String,
        remedy: impl Into<String>,
    ) {
        self.error(origin, key, message, remedy);
        if let Some(error) = self.errors.last_mut() {
            error.other = Some(other);
        }
    }

    fn finish(
        mut self,
        source: &Source,
        networks: Networks,
        node_routes: Patterns,
        lists: Lists,
    ) -> Result<Snapshot, Vec<CompileError>> {
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        self.tenant_names.shrink();
        self.relay_domains.shrink();
        self.recipients.shrink();
        let logins = self.known_logins.unwrap_or_else(|| {
            self.logins.shrink();
            Logins {
                identities: self.identities.into(),
                names: Arc::new(self.logins),
                long_senders: self.long_senders_of_logins.into(),
            }
        });
        Ok(Snapshot {
            generation: source.generation,
            stand_in: StandIn::of(&self.sources),
            sources: self.sources.into(),
            limits: source.limits.clone(),
            fronts: self.fronts.into(),
            tenants: self.tenants.into(),
            long_senders: self.long_senders.into(),
            tenant_names: self.tenant_names,
            lists,
            networks,
            logins,
            relay_domains: self.relay_domains,
            recipients: self.recipients,
            routes: self.routes.into(),
            node_routes,
        })
    }

    fn tenant(&mut self, ix: TenantIx, source: &TenantSource) {
        let name = &source.name;
        if let Err(&first) = self.tenant_names.insert(&name.value, ix) {
            let other = self.tenants[first.0 as usize].origin.clone();
            let message = format!("two tenants are called {:?}", name.value);
            self.conflict(&name.origin, other, "name", message, "give one of them another name");
        }
        if source.senders.is_empty() {
            self.error(
                &name.origin,
                "senders",
                format!(
                    "tenant {:?} has no senders: its mail could not be told from forged mail",
                    name.value
                ),
                "add senders = [\"@its-domain.example\"]",
            );
        }
        let tenant = Tenant {
            name: name.value.as_str().into(),
            limits: source.limits.clone(),
            grants: self.grants(source),
            sender_rules: None,
            lists: source.lists.is_any().then(|| Box::new(self.lists(&source.lists))),
            routes: self.route_list(&source.routes),
            origin: name.origin.clone(),
            login_required_origin: source.login_required.origin.clone(),
            null_sender_origin: source.null_sender.origin.clone(),
        };
        self.tenants.push(tenant);
        let endings = self.endings(&source.senders);
        let has_sender_rules = source.sender_rules.is_any();
        self.fronts.push(Front {
            login_required: source.login_required.value,
            null_sender: source.null_sender.value,
            has_sender_rules,
            senders: Senders::build(&endings, &mut self.long_senders),
        });
        if self.known_logins.is_none() {
            for (index, identity) in (0_u32..).zip(&source.identities) {
                self.identity(ix, index, identity, &endings, has_sender_rules);
            }
        }
        self.tenants[ix.0 as usize].sender_rules = self.sender_rules(ix, &source.sender_rules);
        let mut index = 0;
        for relay in &source.relay_domains {
            self.relay_domain(ix, index, relay, has_sender_rules);
            index += u32::try_from(relay.domains.len()).expect("fewer relay domains than 2^32");
        }
    }

    fn grants(&mut self, source: &TenantSource) -> Option<Box<GrantTerms>> {
        let terms = source.grants.as_ref()?;
        if let Some(token) = terms.token_sha256
            && let Some(other) = self.grant_tokens.insert(token, terms.origin.clone())
        {
            let message = "two tenants have the same grant token".to_owned();
            let remedy = "give each tenant a token of its own, made with `gatepost token`";
            self.conflict(&terms.origin, other, "grants.token", message, remedy);
        }
        Some(Box::new(terms.clone()))
    }

    /// `of_tenant` are the senders of a login without own ones.
    fn identity(
        &mut self,
        tenant: TenantIx,
        index: u32,
        source: &IdentitySource,
        of_tenant: &[Ending<'_>],
        has_sender_rules: bool,
    ) {
        let login = &source.login;
        let ix = IdentityIx(u32::try_from(self.identities.len()).expect("fewer logins than 2^32"));
        if let Err(&first) = self.logins.insert(&login.value, ix) {
            let first = self.identities[first.0 as usize].source(&self.sources);
            let other = first.login.origin.clone();
            let message = format!("login {:?} exists twice", login.value);
            self.conflict(
                &login.origin,
                other,
                "login",
                message,
                "give one of them another login; case does not count",
            );
        }
        let own = self.endings(&source.senders);
        let senders = match own.is_empty() {
            true => Senders::brief(of_tenant),
            false => Senders::build(&own, &mut self.long_senders_of_logins),
        };
        self.identities.push(Identity {
            tenant,
            index,
            null_sender: source.null_sender,
            has_own_senders: !own.is_empty(),
            has_sender_rules,
            senders,
        });
    }
}
