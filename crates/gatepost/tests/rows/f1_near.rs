//! F1: trust is never inferred from being near, and `check` warns of each tenant's network that is.

use testbed::proseware::WORK;

use crate::f2_proxy::{connect, greeted, list_proxy, relays, v1};
use crate::g4_proof::gatepost;
use crate::house::House;

/// A client, a network that holds it, and what `check` calls that network.
const NEAR: [(&str, &str, &str); 10] = [
    ("127.0.0.1", "127.0.0.1/32", "loopback"),
    ("::1", "::1/128", "loopback"),
    ("10.8.0.9", "10.8.0.0/24", "a private range"),
    ("172.16.0.9", "172.16.0.0/16", "a private range"),
    ("192.168.1.9", "192.168.1.0/24", "a private range"),
    ("fd00::9", "fd00::/64", "a private range"),
    ("169.254.0.9", "169.254.0.0/16", "link-local"),
    ("fe80::9", "fe80::/64", "link-local"),
    ("100.64.0.9", "100.64.0.0/16", "the shared range of carriers"),
    ("64:ff9b::c000:209", "64:ff9b::c000:200/120", "IPv4 behind a translator (RFC 6052)"),
];

/// The house with a proxy at work, which says for whom it speaks: of those near only loopback can be
/// had as an address of one's own. `networks` are the tenant's beside its own.
fn house(networks: &[&str]) -> House {
    House::start_with(|configuration| {
        list_proxy(configuration, WORK);
        let more: String = networks.iter().map(|net| format!(", \"{net}\"")).collect();
        let (_, tenant) = &mut configuration.tenants[0];
        *tenant = tenant.replace("\"127.0.1.0/24\"", &format!("\"127.0.1.0/24\"{more}"));
    })
}

/// What is said to a client that asks to relay, from an own address on loopback and by the proxy.
fn answers(house: &House, client: &str) -> Vec<Result<(), String>> {
    let mut dialogs = vec![greeted(connect(house, WORK, v1(client)))];
    if client.starts_with("127.") {
        dialogs.push(house.connect(client.parse().unwrap()));
    }
    dialogs.iter_mut().map(relays).collect()
}

#[test]
fn f1_whoever_is_near_is_a_stranger_until_a_tenant_lists_him() {
    let strict = house(&[]);
    let open = house(&NEAR.map(|(_, net, _)| net));
    for (client, ..) in NEAR {
        for answer in answers(&strict, client) {
            let reply = answer.expect_err("a stranger");
            assert!(reply.contains(&format!("relaying not permitted for {client}")), "{reply}");
        }
        assert!(answers(&open, client).iter().all(Result::is_ok), "{client} is listed");
    }
    strict.nothing_went_elsewhere();
}

#[test]
fn f1_check_warns_of_each_network_that_is_near() {
    let (code, said) = gatepost(&house(&NEAR.map(|(_, net, _)| net)), &["check"]);
    assert_eq!(code, Some(0), "{said}");
    for (_, net, what) in NEAR {
        let warning = format!("{net} is {what}: every host with such an address");
        assert!(said.contains(&warning), "{said:?} lacks {warning:?}");
    }
}
