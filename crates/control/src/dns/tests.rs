use std::net::{Ipv4Addr, Ipv6Addr};

use commons::MxFailure;
use testbed::dns::scripted::{Kind, Said, Scripted};

use super::*;

fn resolve(host: &str) -> (Result<Vec<IpAddr>, ResolveFailure>, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { Dns::new(&DnsConfig::default()).addresses(host).await })
}

#[test]
fn literals_are_their_own_addresses() {
    for (host, address) in [
        ("192.0.2.1", "192.0.2.1"),
        ("[192.0.2.1]", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[IPv6:2001:db8::1]", "2001:db8::1"),
    ] {
        assert_eq!(resolve(host), (Ok(vec![address.parse().unwrap()]), FOREVER), "{host}");
    }
}

#[test]
fn a_name_of_the_hosts_file_needs_no_server() {
    let (addresses, _) = resolve("localhost");
    assert!(addresses.unwrap().iter().all(IpAddr::is_loopback));
}

#[test]
fn a_name_that_cannot_be_asked_for_is_a_passing_failure() {
    let (addresses, ttl) = resolve("a name with spaces..example");
    assert_eq!((addresses, ttl), (Err(ResolveFailure::Temporary), TEMPORARY));
}

const ADDRESS: Said = Said::A(Ipv4Addr::new(192, 0, 2, 7));
const ADDRESS_V6: Said = Said::Aaaa(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7));

/// What is found where MX, A and AAAA are answered so.
fn mx_hosts(mx: Said, a: Said, aaaa: Said) -> Result<Vec<String>, MxFailure> {
    let (found, _) = ask(mx, a, aaaa, async |dns| dns.mx_hosts("adatum.example").await);
    found.map(|found| found.into_iter().map(|mx_host| mx_host.host.into()).collect())
}

fn ask<T>(mx: Said, a: Said, aaaa: Said, question: impl AsyncFn(&Dns) -> T) -> T {
    let server = Scripted::start(move |_, kind| match kind {
        Kind::Mx => mx.clone(),
        Kind::A => a.clone(),
        Kind::Aaaa => aaaa.clone(),
        Kind::Other(_) => Said::ServFail,
    });
    on(&server, question)
}

fn on<T>(server: &Scripted, question: impl AsyncFn(&Dns) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config =
        DnsConfig { servers: vec![server.address()], timeout: Duration::from_secs(5), lists: Vec::new() };
    runtime.block_on(async { question(&Dns::new(&config)).await })
}

#[test]
fn a_domain_is_its_own_host_where_it_has_an_address_and_no_mx() {
    for mx in [Said::Nothing, Said::BareNothing] {
        for (a, aaaa) in [
            (ADDRESS, Said::Nothing),
            (ADDRESS, Said::BareNothing),
            (ADDRESS, Said::ServFail),
            (Said::Nothing, ADDRESS_V6),
            (Said::BareNothing, ADDRESS_V6),
            (Said::ServFail, ADDRESS_V6),
        ] {
            let told = format!("{mx:?} {a:?} {aaaa:?}");
            assert_eq!(mx_hosts(mx.clone(), a, aaaa), Ok(vec!["adatum.example".to_owned()]), "{told}");
        }
    }
}

#[test]
fn a_domain_is_missing_only_where_every_absence_is_proved() {
    let (yes, bare, failed, no_name) = (Said::Nothing, Said::BareNothing, Said::ServFail, Said::NoName);
    for (mx, a, aaaa, missing) in [
        (&yes, &yes, &yes, true),
        (&no_name, &no_name, &no_name, true),
        (&bare, &yes, &yes, false),
        (&yes, &bare, &yes, false),
        (&yes, &yes, &bare, false),
        (&bare, &bare, &bare, false),
        (&failed, &yes, &yes, false),
        (&yes, &failed, &yes, false),
        (&yes, &yes, &failed, false),
        (&yes, &failed, &failed, false),
        (&Said::Referral, &yes, &yes, false),
        (&yes, &Said::Referral, &yes, false),
        // A referral is no absence of MX, even where there is an address.
        (&Said::Referral, &ADDRESS, &yes, false),
    ] {
        let failure = if missing { MxFailure::Missing } else { MxFailure::Temporary };
        let found = mx_hosts(mx.clone(), a.clone(), aaaa.clone());
        assert_eq!(found, Err(failure), "{mx:?} {a:?} {aaaa:?}");
    }
}

#[test]
fn a_host_has_no_address_only_where_both_absences_are_proved() {
    let addresses = |a: Said, aaaa: Said| {
        ask(Said::ServFail, a, aaaa, async |dns| dns.addresses("mx.adatum.example").await.0)
    };
    assert_eq!(addresses(Said::Nothing, Said::Nothing), Err(ResolveFailure::Missing));
    assert_eq!(addresses(Said::NoName, Said::NoName), Err(ResolveFailure::Missing));
    for (a, aaaa) in [
        (Said::Nothing, Said::ServFail),
        (Said::ServFail, Said::Nothing),
        (Said::BareNothing, Said::Nothing),
        (Said::Nothing, Said::BareNothing),
    ] {
        let told = format!("{a:?} {aaaa:?}");
        assert_eq!(addresses(a, aaaa), Err(ResolveFailure::Temporary), "{told}");
    }
    for (a, aaaa) in
        [(ADDRESS, Said::ServFail), (Said::ServFail, ADDRESS_V6), (Said::BareNothing, ADDRESS_V6)]
    {
        let told = format!("{a:?} {aaaa:?}");
        assert_eq!(addresses(a, aaaa).map(|found| found.len()), Ok(1), "{told}");
    }
}

#[test]
fn an_absence_that_proves_nothing_is_not_remembered() {
    for (mx, remembered) in [(Said::Nothing, true), (Said::BareNothing, false)] {
        let server = Scripted::start(move |_, kind| if kind == Kind::Mx { mx.clone() } else { ADDRESS });
        let (first, second, ttl) = on(&server, async |dns| {
            let (_, ttl) = dns.mx_hosts("adatum.example").await;
            let first = server.asked();
            dns.mx_hosts("adatum.example").await.0.unwrap();
            (first, server.asked(), ttl)
        });
        assert_eq!(second == first, remembered, "{first} questions, then {second}");
        assert_eq!(ttl > SHORTEST, remembered, "{ttl:?}");
    }
}
