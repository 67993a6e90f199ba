use policy::{IdentitySource, Limits, LoginRequired, Origin, Source, Sourced, TenantSource};

use super::*;

const HOTEL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));
const TERRI: &str = "terri@proseware.example";
const KIM: &str = "kim@proseware.example";

fn grant(address: IpAddr, login: &str, until: u64) -> Grant {
    Grant {
        address,
        tenant: "proseware".into(),
        login: login.into(),
        opened: UnixMillis(0),
        until: UnixMillis(until),
    }
}

/// A configuration in which tenant `tenant` has these logins.
fn snapshot(generation: u64, tenant: &str, logins: &[&str]) -> Snapshot {
    let origin = Origin::new("tenant.toml", 1);
    let at = |text: &str| Sourced::new(text.to_owned(), origin.clone());
    let identities = logins.iter().map(|login| IdentitySource {
        login: at(login),
        credential: "$argon2id$".into(),
        scram: None,
        senders: Vec::new(),
        null_sender: false,
    });
    let tenant = TenantSource {
        name: at(tenant),
        networks: Vec::new(),
        excluded_networks: Vec::new(),
        senders: vec![at("@proseware.example")],
        login_required: Sourced::new(LoginRequired::Never, origin.clone()),
        null_sender: Sourced::new(false, origin.clone()),
        sender_rules: policy::SenderRulesSource::default(),
        lists: policy::ListsSource::default(),
        relay_domains: Vec::new(),
        routes: vec![policy::RouteSource {
            origin: origin.clone(),
            recipient_domains: vec![at("*")],
            next_hops: vec!["192.0.2.25".parse().unwrap()],
            tls: policy::RouteTls::Off,
            connections_max: 1,
        }],
        identities: identities.collect(),
        limits: Limits::default(),
        grants: None,
    };
    let source = Source {
        generation,
        origin: origin.clone(),
        routes: Vec::new(),
        limits: Default::default(),
        lists: policy::ListsSource::default(),
        tenants: vec![tenant.into()],
    };
    Snapshot::compile(&source).expect("the fixture compiles")
}

fn logins(grants: &Grants, now: u64, snapshot: &Snapshot) -> Vec<String> {
    let granted = grants.of(HOTEL, UnixMillis(now), snapshot);
    granted.as_slice().iter().map(|&identity| snapshot.identity_login(identity).to_owned()).collect()
}

#[test]
fn a_grant_is_for_its_address_and_ends_on_time() {
    let grants = Grants::default();
    let snapshot = snapshot(1, "proseware", &[TERRI, KIM]);
    assert!(logins(&grants, 0, &snapshot).is_empty());
    grants.open(grant(HOTEL, TERRI, 600)).unwrap();
    grants.open(grant("::ffff:203.0.113.9".parse().unwrap(), KIM, 500)).unwrap();
    assert_eq!(logins(&grants, 499, &snapshot), [TERRI, KIM]);
    assert_eq!(logins(&grants, 500, &snapshot), [TERRI]);
    assert!(logins(&grants, 600, &snapshot).is_empty());
    let neighbour = "203.0.113.10".parse().unwrap();
    assert!(grants.of(neighbour, UnixMillis(0), &snapshot).as_slice().is_empty());
}

#[test]
fn a_second_login_renews_the_grant_that_is_there() {
    let grants = Grants::default();
    grants.open(grant(HOTEL, TERRI, 600)).unwrap();
    grants.open(grant(HOTEL, TERRI, 900)).unwrap();
    assert_eq!(grants.len(), 1);
    assert_eq!(grants.list()[0].until, UnixMillis(900));
}

#[test]
fn a_grant_outlives_a_reload_but_not_its_login_nor_a_move_to_another_tenant() {
    let grants = Grants::default();
    grants.open(grant(HOTEL, TERRI, 600)).unwrap();
    assert_eq!(logins(&grants, 0, &snapshot(2, "proseware", &[KIM, TERRI])), [TERRI]);
    assert!(logins(&grants, 0, &snapshot(3, "proseware", &[KIM])).is_empty());
    assert!(logins(&grants, 0, &snapshot(4, "adatum", &[TERRI])).is_empty());
}

#[test]
fn what_is_revoked_or_over_makes_room() {
    let grants = Grants::default();
    grants.open(grant(HOTEL, TERRI, 600)).unwrap();
    grants.open(grant(HOTEL, KIM, 700)).unwrap();
    assert_eq!(grants.revoke(HOTEL, "Terri@Proseware.example").len(), 1);
    assert!(grants.revoke(HOTEL, TERRI).is_empty());
    assert_eq!(grants.end_where(|grant| grant.until <= UnixMillis(700)), [grant(HOTEL, KIM, 700)]);
    assert!(grants.is_empty() && grants.list().is_empty());
}

#[test]
fn an_address_has_room_for_so_many_identities_and_renews_them_still() {
    let grants = Grants::default();
    for number in 0..GRANTS_PER_ADDRESS_MAX {
        grants.open(grant(HOTEL, &format!("user{number}@proseware.example"), 600)).unwrap();
    }
    assert_eq!(grants.open(grant(HOTEL, TERRI, 600)), Err(NoRoom::Address));
    grants.open(grant(HOTEL, "user0@proseware.example", 900)).unwrap();
    assert_eq!(grants.len(), GRANTS_PER_ADDRESS_MAX);
}

#[test]
fn workers_read_while_the_control_plane_writes() {
    let grants = Grants::default();
    let snapshot = snapshot(1, "proseware", &[TERRI, KIM]);
    grants.open(grant(HOTEL, KIM, u64::MAX)).unwrap();
    std::thread::scope(|scope| {
        let reader =
            scope.spawn(|| (0..20_000).all(|now| logins(&grants, now, &snapshot).contains(&KIM.to_owned())));
        while !reader.is_finished() {
            grants.open(grant(HOTEL, TERRI, u64::MAX)).unwrap();
            grants.revoke(HOTEL, TERRI);
        }
        assert!(reader.join().unwrap(), "another identity's grant was never away");
    });
}
