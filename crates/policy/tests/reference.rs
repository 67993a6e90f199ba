//! The decision against a slow reference that reads the configuration from end to end each time.

mod fixture;

use std::net::IpAddr;

use fixture::{at, identity, listener, relay_domain, source, tenant, texts};
use ipnet::IpNet;
use mail::{Address, ForwardPath, Reason, ReversePath, Verdict};
use policy::{
    Decision, Facts, IdentitySource, Listener, LoginRequired, NoTrace, Origin, ReservedSendersSource, Role,
    SenderRulesSource, Snapshot, Source, TenantIx, TenantSource, TlsPolicy,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const NETWORKS: [&str; 6] =
    ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "0.0.0.0/8", "2001:db8::/32", "2001:db8:1::/48"];
const CLIENTS: [&str; 7] =
    ["10.9.9.9", "10.1.9.9", "10.1.2.9", "0.0.0.0", "::ffff:10.1.2.3", "2001:db8:1::1", "192.0.2.1"];
/// With the third a list no longer fits in the line of memory of its tenant or login.
const SENDERS: [&str; 5] = [
    "@a.example",
    "@*.a.example",
    "@a-domain-whose-name-is-longer-than-what-a-line-of-memory-holds.example",
    "x@b.example",
    "@*",
];
const FROM: [&str; 13] = [
    "",
    "x@a.example",
    "X@Sub.A.example",
    "x@b.example",
    "x+tag@b.example",
    "+x@b.example",
    "y@b.example",
    "\"x\"@b.example",
    "\"\\X\\+tag\"@B.example",
    "\"x y\"@b.example",
    "\"x\"@a.example",
    "z@c.example",
    "y@A-domain-whose-name-is-longer-than-what-a-line-of-memory-holds.example",
];
const DOMAINS: [&str; 4] = ["r.example", "s.example", "t.example", "[192.0.2.1]"];
const TO: [&str; 11] = [
    "x@r.example",
    "X+tag@r.example",
    "Y@S.example",
    "x@t.example",
    "\"\\x\"@r.example",
    "\"X+tag\"@S.example",
    "\"x \"@r.example",
    "x@out.example",
    "x%y@r.example",
    "@a.example:x@r.example",
    "x@[192.0.2.1]",
];
/// Two of each tenant.
const LOGINS: [&str; 4] = ["one", "two", "three", "four"];

/// Each tenant's share of what may not be written twice.
fn shares<const N: usize>(items: [&'static str; N]) -> impl Strategy<Value = Vec<(usize, &'static str)>> {
    prop::collection::vec(0..4_usize, N).prop_map(move |owners| owners.into_iter().zip(items).collect())
}

fn of(shares: &[(usize, &'static str)], owner: usize) -> Vec<&'static str> {
    shares.iter().filter(|(index, _)| *index == owner).map(|(_, item)| *item).collect()
}

/// Senders, strict mode, null sender, listed recipients; of each login its senders and null sender.
type Draw = (Vec<&'static str>, LoginRequired, bool, bool, [(Vec<&'static str>, bool); 2]);

/// Plus-addressing, own senders denied to strangers, and blocks of reserved senders with one login each.
type Rules = (bool, bool, Vec<(Vec<&'static str>, usize)>);

fn rules() -> impl Strategy<Value = Rules> {
    let block = (subsequence(SENDERS[..4].to_vec(), 1..=2), 0..2_usize);
    (any::<bool>(), any::<bool>(), prop::collection::vec(block, 0..=2))
}

fn configuration() -> impl Strategy<Value = Source> {
    let login = (subsequence(SENDERS.to_vec(), 0..=2), any::<bool>());
    let one = (
        subsequence(SENDERS.to_vec(), 1..=SENDERS.len()),
        select(vec![LoginRequired::Never, LoginRequired::Outside, LoginRequired::Always]),
        any::<bool>(),
        any::<bool>(),
        [login.clone(), login],
    );
    let tenants = [(one.clone(), rules()), (one, rules())];
    (shares(NETWORKS), shares(DOMAINS), tenants).prop_map(|(networks, domains, tenants)| {
        let build = |(index, (draw, rules)): (usize, (Draw, Rules))| {
            let (senders, login, null, listed, logins) = draw;
            let mut built = tenant(["a", "b"][index], &of(&networks, index), &senders);
            built.login_required = at(5, login);
            built.null_sender = at(6, null);
            // Owner 2 of a network is the first tenant that excludes it; owner 3 is none.
            if index == 0 {
                let excluded = of(&networks, 2);
                built.excluded_networks = excluded.iter().map(|net| at(3, net.parse().unwrap())).collect();
            }
            for domain in of(&domains, index) {
                let list: Option<&[&str]> = if listed { Some(&["x"]) } else { None };
                built.relay_domains.push(relay_domain(&[domain], list));
            }
            let names = &LOGINS[2 * index..];
            let built_login = |(name, (own, null_sender)): (&&str, (Vec<&str>, bool))| IdentitySource {
                null_sender,
                ..identity(name, &own)
            };
            built.identities = names.iter().zip(logins).map(built_login).collect();
            built.sender_rules = sender_rules(rules, names);
            built
        };
        source(tenants.into_iter().enumerate().map(build).collect())
    })
}

fn sender_rules((plus_addressing, own_denied, blocks): Rules, logins: &[&str]) -> SenderRulesSource {
    let block = |(senders, login): (Vec<&str>, usize)| ReservedSendersSource {
        origin: Origin::new("test.toml", 8),
        senders: texts(9, &senders),
        identities: texts(10, &[logins[login]]),
    };
    SenderRulesSource {
        plus_addressing,
        headers: policy::HeaderChecks::default(),
        own_senders_denied: own_denied.then(|| Origin::new("test.toml", 7)),
        reserved: blocks.into_iter().map(block).collect(),
    }
}

fn network(source: &Source, client: IpAddr) -> Option<usize> {
    let client = client.to_canonical();
    if client.is_unspecified() {
        return None;
    }
    let mut best: Option<(u8, Option<usize>)> = None;
    for (index, tenant) in source.tenants.iter().enumerate() {
        let own = tenant.networks.iter().map(|net| (net.value, Some(index)));
        let excluded = tenant.excluded_networks.iter().map(|net| (net.value, None));
        for (net, owner) in own.chain(excluded) {
            let longer = best.is_none_or(|(bits, _)| IpNet::prefix_len(&net) > bits);
            if net.contains(&client) && longer {
                best = Some((net.prefix_len(), owner));
            }
        }
    }
    best.and_then(|(_, owner)| owner)
}

fn owns(senders: &[policy::Sourced<String>], address: &str) -> bool {
    let address = address.to_lowercase();
    let domain = address.split_once('@').unwrap().1;
    senders.iter().any(|sender| match sender.value.strip_prefix('@') {
        Some("*") => true,
        Some(pattern) => match pattern.strip_prefix('*') {
            Some(below) => domain.ends_with(below),
            None => domain == pattern,
        },
        None => sender.value == address,
    })
}

fn relay_domain_of<'a>(source: &'a Source, domain: &str) -> Option<(usize, &'a policy::RelayDomainSource)> {
    source.tenants.iter().enumerate().find_map(|(index, tenant)| {
        let blocks = &tenant.relay_domains;
        let block =
            blocks.iter().find(|block| block.domains.iter().any(|d| d.value == domain.to_lowercase()))?;
        Some((index, block))
    })
}

/// The address in lower case, without quotes where it needs none. None of those here that need them
/// has a backslash.
fn unquoted(address: &str) -> String {
    let (local, domain) = address.split_once('@').unwrap();
    let bare = local.replace(['"', '\\'], "");
    let needs_quotes = bare.contains(' ');
    if needs_quotes { address.to_lowercase() } else { format!("{bare}@{domain}").to_lowercase() }
}

/// The address, and the one without its tag where the tenant has plus-addressing; in lower case.
fn names(tenant: &TenantSource, address: &str) -> Vec<String> {
    let address = unquoted(address);
    let (local, domain) = address.split_once('@').unwrap();
    let mut names = vec![address.clone()];
    if tenant.sender_rules.plus_addressing
        && let Some((base, _)) = local.split_once('+')
        && !base.is_empty()
    {
        names.push(format!("{base}@{domain}"));
    }
    names
}

fn owns_one(senders: &[policy::Sourced<String>], names: &[String]) -> bool {
    names.iter().any(|name| owns(senders, name))
}

fn identity_of(source: &Source, login: usize) -> (usize, &IdentitySource) {
    let tenant = login / 2;
    (tenant, &source.tenants[tenant].identities[login % 2])
}

/// Whether a tenant's network, or one of its logins, may relay with this sender.
fn may_send(tenant: &TenantSource, login: Option<&IdentitySource>, from: &str) -> bool {
    if from.is_empty() {
        return login.map_or(tenant.null_sender.value, |login| login.null_sender);
    }
    let names = names(tenant, from);
    let block = tenant.sender_rules.reserved.iter().find(|block| owns_one(&block.senders, &names));
    match (block, login) {
        (Some(_), None) => false,
        (Some(block), Some(login)) => block.identities.iter().any(|named| named.value == login.login.value),
        (None, Some(login)) if !login.senders.is_empty() => owns_one(&login.senders, &names),
        (None, _) => owns_one(&tenant.senders, &names),
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
struct Who<'a> {
    role: Role,
    policy: TlsPolicy,
    auth_without_tls: bool,
    tls: bool,
    client: IpAddr,
    login: Option<usize>,
    grants: &'a [usize],
}

/// The order of decision, read aloud.
fn reference(
    source: &Source,
    who: Who<'_>,
    from: &str,
    to: &str,
    before: Option<usize>,
) -> Result<usize, Reason> {
    if !who.tls && [TlsPolicy::Required, TlsPolicy::Implicit].contains(&who.policy) {
        return Err(Reason::TlsRequired);
    }
    if who.role == Role::Submission && who.login.is_none() {
        if !who.tls && who.policy == TlsPolicy::StartTls && !who.auth_without_tls {
            return Err(Reason::TlsRequired);
        }
        return Err(Reason::LoginRequired);
    }
    let Ok(address) = Address::parse(to) else { return Err(Reason::RoutingSyntax) };
    let relay_domain = relay_domain_of(source, address.domain());
    if to.contains('%') || (address.domain().starts_with('[') && relay_domain.is_none()) {
        return Err(Reason::RoutingSyntax);
    }
    let network = network(source, who.client);
    if who.lacks_login(source, network, LoginRequired::Always) {
        return Err(Reason::LoginRequired);
    }
    let tenant = match relay_domain {
        Some((tenant, block)) => {
            incoming(source, who, network, (from, to), (tenant, block))?;
            tenant
        }
        None => relaying(source, who, network, from)?,
    };
    match before {
        Some(before) if before != tenant => Err(Reason::SecondTenant),
        _ => Ok(tenant),
    }
}

impl Who<'_> {
    /// Whether the network is that of a tenant who wants a login there, and there is none.
    fn lacks_login(&self, source: &Source, network: Option<usize>, mode: LoginRequired) -> bool {
        self.login.is_none()
            && network.is_some_and(|index| source.tenants[index].login_required.value == mode)
    }

    /// The grants of a client that has an address and has not logged in.
    fn grants_that_count(&self) -> &[usize] {
        match self.login.is_some() || self.client.to_canonical().is_unspecified() {
            true => &[],
            false => self.grants,
        }
    }
}

/// Whether a relay domain takes this recipient, of this sender.
fn incoming(
    source: &Source,
    who: Who<'_>,
    network: Option<usize>,
    (from, to): (&str, &str),
    (tenant, block): (usize, &policy::RelayDomainSource),
) -> Result<(), Reason> {
    let settings = &source.tenants[tenant];
    let known = |list: &policy::RecipientsSource| {
        names(settings, to).iter().any(|name| {
            let local = name.split_once('@').unwrap().0;
            list.recipients.iter().any(|recipient| recipient.value == local)
        })
    };
    if block.recipients.as_ref().is_some_and(|list| !known(list)) {
        return Err(Reason::RecipientUnknown);
    }
    let is_own = who.login.is_none() && network == Some(tenant)
        || who
            .login
            .iter()
            .chain(who.grants_that_count())
            .any(|&login| identity_of(source, login).0 == tenant);
    if settings.sender_rules.own_senders_denied.is_none() || is_own || from.is_empty() {
        return Ok(());
    }
    let names = names(settings, from);
    let reserved = &settings.sender_rules.reserved;
    let claims =
        owns_one(&settings.senders, &names) || reserved.iter().any(|block| owns_one(&block.senders, &names));
    if claims { Err(Reason::SenderNotOwned) } else { Ok(()) }
}

/// The tenant that answers for relaying: the first of login, else network and grants, that owns the sender.
fn relaying(source: &Source, who: Who<'_>, network: Option<usize>, from: &str) -> Result<usize, Reason> {
    let mut candidates: Vec<(usize, Option<&IdentitySource>)> = Vec::new();
    let with_login = |login: &usize| {
        let (tenant, identity) = identity_of(source, *login);
        (tenant, Some(identity))
    };
    match who.login {
        Some(login) => candidates.push(with_login(&login)),
        None => candidates.extend(network.map(|tenant| (tenant, None))),
    }
    candidates.extend(who.grants_that_count().iter().map(with_login));
    if candidates.is_empty() {
        return Err(Reason::RelayNotPermitted);
    }
    if who.lacks_login(source, network, LoginRequired::Outside) {
        return Err(Reason::LoginRequired);
    }
    let may = |(tenant, login): &&(usize, Option<&IdentitySource>)| {
        may_send(&source.tenants[*tenant], *login, from)
    };
    candidates.iter().find(may).map(|(tenant, _)| *tenant).ok_or(Reason::SenderNotOwned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1200))]

    #[test]
    fn the_decision_agrees_with_the_reference(
        source in configuration(),
        role in select(vec![Role::Relay, Role::Relay, Role::Submission]),
        policy in select(vec![TlsPolicy::Off, TlsPolicy::StartTls, TlsPolicy::Required, TlsPolicy::Implicit]),
        auth_without_tls in any::<bool>(),
        tls in any::<bool>(),
        client in select(CLIENTS.to_vec()),
        login in prop::option::of(0..4_usize),
        grants in subsequence(vec![0, 1, 2, 3_usize], 0..=3),
        from in select(FROM.to_vec()),
        to in select(TO.to_vec()),
        before in prop::option::of(0..2_usize),
    ) {
        let snapshot = Snapshot::compile(&source).unwrap();
        let client: IpAddr = client.parse().unwrap();
        let listener = Listener { tls: policy, auth_without_tls, ..listener(role) };
        let identity = |index: usize| snapshot.identity(LOGINS[index]).unwrap();
        let held: Vec<_> = grants.iter().map(|&index| identity(index)).collect();
        let facts = Facts { listener: &listener, client, tls, identity: login.map(identity), grants: &held };
        let transaction = before.map(|index| TenantIx(index as u32));
        let (path, recipient) = (ReversePath::parse(from).unwrap(), ForwardPath::parse(to).unwrap());
        let decision = snapshot.decide_recipient(&facts, path, recipient, transaction, &mut NoTrace);
        let decided = match decision.verdict {
            Verdict::Accept => Ok(decision.tenant.unwrap().0 as usize),
            Verdict::Deny(reason) | Verdict::Defer(reason) => Err(reason),
        };
        if let Some(reason) = decision.verdict.reason() {
            // What the page of reasons says of it is so.
            let is_it = |told: Decision| (told.rule, told.remedy) == (decision.rule, decision.remedy);
            prop_assert!(Decision::refusals_for(reason).any(is_it), "{decision:?}");
        }
        let who = Who { role, policy, auth_without_tls, tls, client, login, grants: &grants };
        prop_assert_eq!(decided, reference(&source, who, from, to, before));
        // Never open: a stranger's mail is taken for a relay domain, or not at all.
        let is_stranger = login.is_none() && grants.is_empty() && network(&source, client).is_none();
        if decided.is_ok() && is_stranger {
            let ForwardPath::Address(address) = recipient else { unreachable!("only addresses are accepted") };
            prop_assert!(relay_domain_of(&source, address.domain()).is_some());
        }
    }
}
