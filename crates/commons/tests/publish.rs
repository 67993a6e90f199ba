//! A reload under load: no transaction sees a mixture of two configurations.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use commons::{Commons, SnapshotCache};
use mail::{ForwardPath, ReversePath, Verdict};
use policy::{
    CONNECTIONS_DEFAULT, Facts, IdentitySource, Listener, NoTrace, Origin, RelayDomainSource, Role,
    RouteSource, RouteTls, Snapshot, Source, Sourced, TenantSource, TlsPolicy,
};

/// Configurations published, one after the other, while workers decide.
const RELOADS: u64 = 300;

fn at<T>(value: T) -> Sourced<T> {
    Sourced::new(value, Origin::new("test.toml", 1))
}

/// Of two tenants, "even" and "odd", the one that the generation names has the network, the login,
/// the sender domain and the relay domain; the other has others.
fn snapshot(generation: u64) -> Snapshot {
    let route = |domains: &[&str]| RouteSource {
        origin: Origin::new("test.toml", 1),
        recipient_domains: domains.iter().map(|domain| at((*domain).to_owned())).collect(),
        next_hops: vec!["mail.example".parse().unwrap()],
        tls: RouteTls::Opportunistic,
        connections_max: CONNECTIONS_DEFAULT,
    };
    let tenant = |name: &str, in_turn: bool| {
        let domain = if in_turn { "turn.example".to_owned() } else { format!("{name}.example") };
        let network = if in_turn { "198.51.100.0/24" } else { "203.0.113.0/24" };
        Arc::new(TenantSource {
            networks: vec![at(network.parse().unwrap())],
            senders: vec![at(format!("@{domain}"))],
            relay_domains: vec![RelayDomainSource {
                domains: vec![at(domain.clone())],
                route: route(&[]),
                recipients: None,
                call_ahead: false,
            }],
            identities: vec![IdentitySource::new(at(format!("terri@{domain}")), "$argon2id$".to_owned())],
            ..TenantSource::named(at(name.to_owned()))
        })
    };
    let is_even = generation.is_multiple_of(2);
    let source = Source {
        generation,
        origin: Origin::new("gatepost.toml", 1),
        routes: vec![route(&["*"])],
        lists: policy::ListsSource::default(),
        limits: Default::default(),
        tenants: vec![tenant("even", is_even), tenant("odd", !is_even)],
    };
    Snapshot::compile(&source).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// One transaction: everything that it is told belongs to the tenant whose turn it is.
fn transact(cache: &mut SnapshotCache, listener: &Listener) -> u64 {
    // What a transaction keeps from its beginning to its end.
    let snapshot = cache.load().clone();
    let in_turn = if snapshot.generation.is_multiple_of(2) { "even" } else { "odd" };
    let inside: IpAddr = "198.51.100.7".parse().unwrap();
    let stranger: IpAddr = "192.0.2.1".parse().unwrap();
    let login = snapshot.identity("terri@turn.example").expect("one of the two has it");
    for (client, identity, to) in [
        (inside, None, "bob@adatum.example"),
        (stranger, Some(login), "bob@adatum.example"),
        (stranger, None, "ann@turn.example"),
    ] {
        let facts = Facts { listener, client, tls: true, identity, grants: &[] };
        let from = ReversePath::parse("terri@turn.example").unwrap();
        let decision =
            snapshot.decide_recipient(&facts, from, ForwardPath::parse(to).unwrap(), None, &mut NoTrace);
        assert_eq!(decision.verdict, Verdict::Accept, "generation {}", snapshot.generation);
        assert_eq!(&*snapshot.tenant(decision.tenant.unwrap()).name, in_turn);
    }
    snapshot.generation
}

#[test]
fn a_reload_under_load_never_shows_a_mixture_of_two_configurations() {
    let (commons, _links, _control) = Commons::new(2, snapshot(1));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let decide = || {
            let listener = Listener {
                name: "smtp".into(),
                role: Role::Relay,
                tls: TlsPolicy::StartTls,
                auth_without_tls: false,
            };
            let (mut cache, mut before) = (commons.snapshot_cache(), 0);
            loop {
                let is_last = done.load(Ordering::Acquire);
                let generation = transact(&mut cache, &listener);
                assert!(generation >= before, "a worker never goes back to a configuration before");
                before = generation;
                if is_last {
                    return before;
                }
            }
        };
        let workers = [scope.spawn(decide), scope.spawn(decide)];
        for generation in 2..=RELOADS {
            commons.publish(snapshot(generation));
            commons.free_retired();
        }
        done.store(true, Ordering::Release);
        for worker in workers {
            assert_eq!(worker.join().expect("it never sees a mixture"), RELOADS);
        }
    });
    assert_eq!(commons.free_retired(), 0, "no worker holds a configuration out of force");
}
