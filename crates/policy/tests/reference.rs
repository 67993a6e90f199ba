//! The decision against a slow reference that reads the configuration from end to end each time.

mod fixture;

use std::net::IpAddr;

use fixture::{at, identity, listener, relay_domain, source, tenant};
use ipnet::IpNet;
use mail::{Address, ForwardPath, Reason, ReversePath, Verdict};
use policy::{Facts, IdentitySource, LoginRequired, NoTrace, Role, Snapshot, Source, TenantIx, TenantSource};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const NETWORKS: [&str; 6] =
    ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "2001:db8::/32", "2001:db8:1::/48"];
const CLIENTS: [&str; 7] =
    ["10.9.9.9", "10.1.9.9", "10.1.2.9", "10.1.2.3", "::ffff:10.1.2.3", "2001:db8:1::1", "192.0.2.1"];
const SENDERS: [&str; 4] = ["@a.example", "@*.a.example", "x@b.example", "@*"];
const FROM: [&str; 6] = ["", "x@a.example", "X@Sub.A.example", "x@b.example", "y@b.example", "z@c.example"];
const DOMAINS: [&str; 3] = ["r.example", "s.example", "t.example"];
const TO: [&str; 6] =
    ["x@r.example", "Y@S.example", "x@t.example", "x@out.example", "x%y@r.example", "@a.example:x@r.example"];
const LOGINS: [&str; 2] = ["one", "two"];

/// Each tenant's share of what may not be written twice.
fn shares<const N: usize>(items: [&'static str; N]) -> impl Strategy<Value = Vec<(usize, &'static str)>> {
    prop::collection::vec(0..4_usize, N).prop_map(move |owners| owners.into_iter().zip(items).collect())
}

fn of(shares: &[(usize, &'static str)], owner: usize) -> Vec<&'static str> {
    shares.iter().filter(|(index, _)| *index == owner).map(|(_, item)| *item).collect()
}

/// Senders, strict mode, null sender, listed recipients, the login's senders and null sender.
type Draw = (Vec<&'static str>, LoginRequired, bool, bool, Vec<&'static str>, bool);

fn configuration() -> impl Strategy<Value = Source> {
    let one = (
        subsequence(SENDERS.to_vec(), 1..=SENDERS.len()),
        select(vec![LoginRequired::Never, LoginRequired::Outside, LoginRequired::Always]),
        any::<bool>(),
        any::<bool>(),
        subsequence(SENDERS.to_vec(), 0..=2),
        any::<bool>(),
    );
    (shares(NETWORKS), shares(DOMAINS), [one.clone(), one]).prop_map(|(networks, domains, tenants)| {
        let build = |(index, (senders, login, null, listed, own, login_null)): (usize, Draw)| {
            let mut built = tenant(["a", "b"][index], &of(&networks, index), &senders);
            built.login_required = at(5, login);
            built.null_sender = at(6, null);
            // Owner 2 of a network is the first tenant that excludes it; owner 3 is nobody.
            if index == 0 {
                let excluded = of(&networks, 2);
                built.excluded_networks = excluded.iter().map(|net| at(3, net.parse().unwrap())).collect();
            }
            for domain in of(&domains, index) {
                let list: Option<&[&str]> = if listed { Some(&["x"]) } else { None };
                built.relay_domains.push(relay_domain(&[domain], list));
            }
            built.identities =
                vec![IdentitySource { null_sender: login_null, ..identity(LOGINS[index], &own) }];
            built
        };
        source(tenants.into_iter().enumerate().map(build).collect())
    })
}

fn network(source: &Source, client: IpAddr) -> Option<usize> {
    let client = client.to_canonical();
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

/// The order of decision, read aloud.
fn reference(
    source: &Source,
    (role, client, login): (Role, IpAddr, Option<usize>),
    from: &str,
    to: &str,
    before: Option<usize>,
) -> Result<usize, Reason> {
    if role == Role::Submission && login.is_none() {
        return Err(Reason::LoginRequired);
    }
    let Ok(address) = Address::parse(to) else { return Err(Reason::RoutingSyntax) };
    if to.contains('%') {
        return Err(Reason::RoutingSyntax);
    }
    let network = network(source, client);
    let strict = |mode| {
        login.is_none() && network.is_some_and(|index| source.tenants[index].login_required.value == mode)
    };
    if strict(LoginRequired::Always) {
        return Err(Reason::LoginRequired);
    }
    let tenant = if let Some((tenant, block)) = relay_domain_of(source, address.domain()) {
        let local = address.local_part().to_lowercase();
        if block.recipients.as_ref().is_some_and(|list| list.recipients.iter().all(|r| r.value != local)) {
            return Err(Reason::RecipientUnknown);
        }
        tenant
    } else {
        let tenant = login.or(network).ok_or(Reason::RelayNotPermitted)?;
        if strict(LoginRequired::Outside) {
            return Err(Reason::LoginRequired);
        }
        let settings: &TenantSource = &source.tenants[tenant];
        let identity = login.map(|_| &settings.identities[0]);
        let own = identity.map(|identity| &identity.senders).filter(|own| !own.is_empty());
        let fine = match from {
            "" => identity.map_or(settings.null_sender.value, |identity| identity.null_sender),
            _ => owns(own.unwrap_or(&settings.senders), from),
        };
        if !fine {
            return Err(Reason::SenderNotOwned);
        }
        tenant
    };
    match before {
        Some(before) if before != tenant => Err(Reason::SecondTenant),
        _ => Ok(tenant),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_decision_agrees_with_the_reference(
        source in configuration(),
        role in select(vec![Role::Relay, Role::Submission]),
        client in select(CLIENTS.to_vec()),
        login in prop::option::of(0..2_usize),
        from in select(FROM.to_vec()),
        to in select(TO.to_vec()),
        before in prop::option::of(0..2_usize),
    ) {
        let snapshot = Snapshot::compile(&source).unwrap();
        let client: IpAddr = client.parse().unwrap();
        let listener = listener(role);
        let identity = login.map(|index| snapshot.identity(LOGINS[index]).unwrap());
        let facts = Facts { listener: &listener, client, tls: true, identity, grants: &[] };
        let transaction = before.map(|index| TenantIx(index as u32));
        let (path, recipient) = (ReversePath::parse(from).unwrap(), ForwardPath::parse(to).unwrap());
        let decision = snapshot.decide_recipient(&facts, path, recipient, transaction, &mut NoTrace);
        let decided = match decision.verdict {
            Verdict::Accept => Ok(decision.tenant.unwrap().0 as usize),
            Verdict::Deny(reason) | Verdict::Defer(reason) => Err(reason),
        };
        prop_assert_eq!(decided, reference(&source, (role, client, login), from, to, before));
        // Never open: a stranger's mail is taken for a relay domain, or not at all.
        if decided.is_ok() && login.is_none() && network(&source, client).is_none() {
            let ForwardPath::Address(address) = recipient else { unreachable!("only addresses are accepted") };
            prop_assert!(relay_domain_of(&source, address.domain()).is_some());
        }
    }
}
