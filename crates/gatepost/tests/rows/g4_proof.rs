//! G4: a configuration by which a stranger could relay is not started and not taken by a reload, and
//! `check` says which line opened it.

use std::process::Command;

use testbed::net::{PATIENCE, eventually};
use testbed::proseware::{HOTEL, LOGIN, WORK};

use crate::f2_proxy::{connect, greeted, list_proxy, v1};
use crate::house::House;

const BOB: &str = "bob@adatum.example";
const GATEPOST: &str = env!("CARGO_BIN_EXE_gatepost");

/// The world in four lines, none of which is too wide by itself.
const OPEN: &str = "name = \"open\"\nsenders = [\"@open.example\"]\nnetworks = [\n  \"64.0.0.0/9\",\n  \
                    \"64.128.0.0/9\",\n  \"65.0.0.0/8\",\n]\n";

/// What `gatepost COMMAND` says of the house's configuration, and its exit code.
pub(crate) fn gatepost(house: &House, words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(GATEPOST)
        .args(words)
        .arg("--config")
        .arg(house.gateway.directory().join("gatepost.toml"))
        .output()
        .expect("gatepost was built");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn check_proves_a_sound_configuration_and_says_what_it_tried() {
    let house = House::start();
    let (code, said) = gatepost(&house, &["check"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no stranger can relay"), "{said}");
    let (_, said) = gatepost(&house, &["check", "--json"]);
    assert!(said.contains("\"decisions\":") && !said.contains("\"decisions\":0"), "{said}");
}

#[test]
fn an_opened_configuration_is_refused_by_check_by_run_and_by_a_reload() {
    let house = House::start();
    std::fs::write(house.gateway.directory().join("tenants/open.toml"), OPEN)
        .expect("the folder can be written");
    let (code, said) = gatepost(&house, &["check"]);
    assert_eq!(code, Some(1), "{said}");
    for line in ["open.toml:4: a stranger could relay: ", "open.toml:5: ", "open.toml:6: "] {
        assert!(said.contains(line), "{said:?} lacks {line:?}");
    }
    let (code, said) = gatepost(&house, &["run"]);
    assert_eq!(code, Some(2), "{said}");

    house.gateway.signal("HUP");
    house.gateway.wait_metric("gatepost_policy_reload_failures_total", 1.0);
    let mut dialog = house.connect(HOTEL);
    dialog.command(&format!("MAIL FROM:<{LOGIN}>"), 250);
    dialog.command(&format!("RCPT TO:<{BOB}>"), 550);
    dialog.command(&format!("RCPT TO:<{LOGIN}>"), 250);
    let is_logged = eventually(PATIENCE, || house.gateway.output().contains("open.toml:4"));
    assert!(is_logged, "the log names no line: {}", house.gateway.output());
}

#[test]
fn a_network_of_everyone_is_an_opening_too() {
    let house = House::start();
    let open = "name = \"open\"\nsenders = [\"@open.example\"]\nnetworks = [\"0.0.0.0/0\"]\n";
    std::fs::write(house.gateway.directory().join("tenants/open.toml"), open)
        .expect("the folder can be written");
    let (code, said) = gatepost(&house, &["check", "--json"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("\"opens_relay\":true") && said.contains("\"line\":3"), "{said}");
}

#[test]
fn a_reload_opens_no_listener_that_runs_though_the_new_file_closes_it() {
    let mut house = House::start_with(|configuration| {
        list_proxy(configuration, WORK);
    });
    let mut closed = house.gateway.configuration().clone();
    closed.listeners[0].role = "submission".into();
    closed.listeners[0].tls = "required".into();
    closed.tenants.push(("open".into(), OPEN.into()));
    house.gateway.rewrite(closed);
    // After a restart it would be sound: only a login relays there.
    let (code, said) = gatepost(&house, &["check"]);
    assert_eq!(code, Some(0), "{said}");

    house.gateway.signal("HUP");
    let outcome = |event: &str| house.gateway.output().contains(&format!("\"event\":\"{event}\""));
    assert!(eventually(PATIENCE, || outcome("policy_reload_failed") || outcome("policy_reloaded")));
    let mut stranger = greeted(connect(&house, WORK, v1("64.1.2.3")));
    stranger.command("MAIL FROM:<f@open.example>", 250);
    stranger.command(&format!("RCPT TO:<{BOB}>"), 550);
}
