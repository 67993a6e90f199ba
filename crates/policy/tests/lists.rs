//! Block and allow lists against a slow reference that reads them from end to end each time.

mod fixture;

use std::net::IpAddr;

use fixture::{contoso, listener, proseware, source, texts};
use ipnet::IpNet;
use mail::{ForwardPath, Reason, ReversePath};
use policy::{BlockAllow, Facts, ListSource, ListsSource, NoTrace, Role, Snapshot, Source};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const NETS: [&str; 4] = ["192.0.2.0/24", "192.0.2.55", "2001:db8:7::/48", "::ffff:192.0.2.9"];
const CLIENTS: [&str; 5] = ["192.0.2.55", "192.0.2.9", "::ffff:192.0.2.1", "2001:db8:7::1", "198.51.100.7"];
const NAMES: [&str; 5] =
    ["\"x\"@b.example", "x@a.example", "@a.example", "*.a.example", "bob@proseware.example"];
const FROM: [&str; 6] =
    ["", "\"x\"@a.example", "\"\\x\"@b.example", "X@A.example", "y@sub.a.example", "y@b.example"];
const TO: [&str; 4] =
    ["\"b\\ob\"@proseware.example", "bob@proseware.example", "Bob@Proseware.example", "ann@contoso.example"];

fn list(name: &'static str, entries: &[&'static str]) -> impl Strategy<Value = Option<ListSource>> + use<> {
    let entries = subsequence(entries.to_vec(), 0..=entries.len());
    prop::option::of(entries).prop_map(move |entries| {
        entries.map(|entries| ListSource { name: name.to_owned(), entries: texts(1, &entries) })
    })
}

fn lists() -> impl Strategy<Value = ListsSource> {
    let pair =
        |blocked, allowed| (blocked, allowed).prop_map(|(blocked, allowed)| BlockAllow { blocked, allowed });
    let clients = pair(list("c", &NETS), list("ca", &NETS));
    let senders = pair(list("s", &NAMES), list("sa", &NAMES));
    let recipients = pair(list("r", &NAMES), list("ra", &NAMES));
    (clients, senders, recipients).prop_map(|(clients, senders, recipients)| ListsSource {
        clients,
        senders,
        recipients,
    })
}

fn has_client(list: &Option<ListSource>, client: IpAddr) -> bool {
    let entries = list.iter().flat_map(|list| &list.entries);
    entries.into_iter().any(|entry| {
        let address = entry.value.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical()));
        let net = address.or_else(|_| entry.value.parse::<IpNet>()).unwrap();
        net.contains(&client.to_canonical())
    })
}

fn has_address(list: &Option<ListSource>, address: &str) -> bool {
    // No address here needs its quotes.
    let unquoted = |text: &str| text.replace(['"', '\\'], "").to_lowercase();
    let address = unquoted(address);
    let domain = address.split_once('@').map_or("", |(_, domain)| domain);
    list.iter().flat_map(|list| &list.entries).any(|entry| match entry.value.strip_prefix('*') {
        Some(below) => domain.ends_with(below),
        None => match entry.value.strip_prefix('@') {
            Some(whole) => domain == whole,
            None => address == unquoted(&entry.value),
        },
    })
}

/// The node's clients before anything, then the tenant's, then the senders and recipients of both. The
/// node's allow lists count for both, the tenant's for its own.
fn reference(source: &Source, client: IpAddr, from: &str, to: &str) -> Option<Reason> {
    let tenant = usize::from(to.ends_with("contoso.example"));
    let (node, own) = (&source.lists, &source.tenants[tenant].lists);
    let node_allows_client = has_client(&node.clients.allowed, client);
    if has_client(&node.clients.blocked, client) && !node_allows_client {
        return Some(Reason::ClientBlocked);
    }
    // A recipient on an allow list gets everything that the same lists, or a tenant's below, would refuse.
    if has_address(&node.recipients.allowed, to) {
        return None;
    }
    let own_counts = !has_address(&own.recipients.allowed, to);
    let own_allows_client = node_allows_client || has_client(&own.clients.allowed, client);
    if own_counts && has_client(&own.clients.blocked, client) && !own_allows_client {
        return Some(Reason::ClientBlocked);
    }
    let node_allows_sender = has_address(&node.senders.allowed, from);
    let own_allows_sender = node_allows_sender || has_address(&own.senders.allowed, from);
    for (lists, counts, allows_sender) in
        [(node, true, node_allows_sender), (own, own_counts, own_allows_sender)]
    {
        if counts && has_address(&lists.senders.blocked, from) && !allows_sender {
            return Some(Reason::SenderBlocked);
        }
        if counts && has_address(&lists.recipients.blocked, to) {
            return Some(Reason::RecipientBlocked);
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_lists_agree_with_the_reference(
        of_node in lists(),
        of_tenants in [lists(), lists()],
        client in select(CLIENTS.to_vec()),
        from in select(FROM.to_vec()),
        to in select(TO.to_vec()),
    ) {
        let mut tenants = vec![proseware(), contoso()];
        for (tenant, lists) in tenants.iter_mut().zip(of_tenants) {
            tenant.lists = lists;
        }
        let mut source = source(tenants);
        source.lists = of_node;
        let snapshot = Snapshot::compile(&source).unwrap();
        let client: IpAddr = client.parse().unwrap();
        let facts =
            Facts { listener: &listener(Role::Relay), client, tls: true, identity: None, grants: &[] };
        let (path, recipient) = (ReversePath::parse(from).unwrap(), ForwardPath::parse(to).unwrap());
        let explanation = snapshot.explain(&facts, path, recipient);
        let expected = reference(&source, client, from, to);
        prop_assert_eq!(explanation.decision.verdict.reason(), expected);
        prop_assert_eq!(explanation.list.is_some(), expected.is_some());
        // What the gateway asks, in its two steps, is what the explanation tells.
        let accepted = snapshot.decide_recipient(&facts, path, recipient, None, &mut NoTrace);
        let listed = snapshot
            .decide_client(client, &mut NoTrace)
            .or_else(|| snapshot.decide_lists(client, path, recipient, accepted.tenant, &mut NoTrace));
        prop_assert_eq!(listed.and_then(|listed| listed.decision.verdict.reason()), expected);
    }
}
