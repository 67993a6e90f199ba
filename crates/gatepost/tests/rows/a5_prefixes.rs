//! A5: the most specific entry decides, an excluded range makes strangers, and too wide a network is an error.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use testbed::proseware;
use testbed::{Configuration, net};

use crate::house::House;
use crate::tenant::write_keys;

#[test]
fn the_most_specific_entry_decides_whatever_wider_range_holds_the_client() {
    let house = House::start_with(|configuration| {
        let file = &mut configuration.tenants[0].1;
        *file = file.replace("\"127.0.1.0/24\"", "\"127.0.1.0/24\", \"127.0.1.200\"");
        write_keys(configuration, "excluded_networks = [\"127.0.1.128/25\"]");
    });
    for (last, code) in [(5, 250), (127, 250), (128, 550), (199, 550), (200, 250), (201, 550)] {
        let mut dialog = house.connect(IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)));
        dialog.command("MAIL FROM:<kim@proseware.example>", 250);
        dialog.command("RCPT TO:<bob@adatum.example>", code);
    }
}

/// What `check` says to a tenant with these networks, and a second tenant with those.
fn check(networks: &str, others: &str) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut configuration: Configuration = proseware::configuration(net::free_address(), net::free_address());
    let file = &mut configuration.tenants[0].1;
    *file = file.replace("\"127.0.1.0/24\"", networks);
    let other = format!("name = \"contoso\"\nnetworks = [{others}]\nsenders = [\"@contoso.example\"]\n");
    configuration.tenants.push(("contoso".into(), other));
    let path = configuration.write(folder.path());
    let output = Command::new(env!("CARGO_BIN_EXE_gatepost"))
        .args(["check", "--config"])
        .arg(path)
        .output()
        .expect("the program can be run");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_network_wider_than_a_256th_of_the_address_space_is_an_error() {
    for wide in ["64.0.0.0/7", "0.0.0.0/0", "2000::/19", "::/0"] {
        let (ok, said) = check(&format!("\"{wide}\""), "\"203.0.113.0/24\"");
        assert!(!ok && said.contains(wide) && said.contains("is wider than"), "{wide}: {said}");
    }
}

#[test]
fn overlapping_claims_are_a_warning_and_equal_ones_an_error() {
    let (ok, said) = check("\"198.51.100.0/24\"", "\"198.51.100.64/26\"");
    assert!(ok && said.contains("198.51.100.64/26 of tenant contoso lies in 198.51.100.0/24"), "{said}");
    let (ok, said) = check("\"198.51.100.0/24\"", "\"198.51.100.0/24\"");
    assert!(!ok && said.contains("belongs to two tenants"), "{said}");
}
