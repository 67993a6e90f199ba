//! A2, POP and IMAP before SMTP: a mailbox login opens relaying for its address and its identity,
//! for a while. The mailbox server is played by posts to the admin API here; a real Dovecot reports
//! its logins in the tests with other houses' software.
//!
//! Loopback addresses get no grants, so each test has a separate network namespace.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use serde_json::{Value, json};
use testbed::dialog::Reply;
use testbed::http::http;
use testbed::net::{PATIENCE, eventually, free_address};
use testbed::proseware::LOGIN;
use testbed::{Configuration, netns};

use crate::house::House;
use crate::tenant::write_login;

const HOTEL: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
/// In the next room of the hotel.
const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
/// Listed as shared.
const OFFICE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
/// A listed proxy's.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 200));

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";
const BODY: &[u8] = b"Subject: grants\r\n\r\nHello.\r\n";

const TOKEN: &str = "the-mailbox-servers-token";
const FOREIGN_TOKEN: &str = "another-tenants-mailbox-token";

/// The house of the six situations with grants, and the door of its admin API.
struct Hotel {
    house: House,
    admin: SocketAddr,
}

fn configure(configuration: &mut Configuration, admin: SocketAddr) {
    configuration.node_extra.push_str(&format!(
        "\n[admin]\nsocket = \"admin.sock\"\naddress = \"{admin}\"\n\n\
         [grants]\nshared = [\"198.51.100.0/28\"]\n\n[proxy_protocol]\nfrom = [\"{PROXY}\"]\n"
    ));
    configuration.tenants[0].1.push_str(&format!("\n[grants]\ntoken = \"{TOKEN}\"\n"));
    let other = "name = \"contoso\"\nsenders = [\"@contoso.example\"]\n\n[grants]\ntoken = \"TOKEN\"\n";
    configuration.tenants.push(("contoso".into(), other.replace("TOKEN", FOREIGN_TOKEN)));
}

impl Hotel {
    /// `None` where this user gets no namespace: the test is noted as skipped.
    fn start(test: &str) -> Option<Self> {
        let addresses = [HOTEL, NEIGHBOUR, OFFICE, PROXY].map(|address| format!("{address}/32"));
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        if !netns::enter(test, &addresses) {
            return None;
        }
        let admin = free_address();
        let house = House::start_with(|configuration| configure(configuration, admin));
        Some(Self { house, admin })
    }

    /// What the API answers to a mailbox server that reports `login` from `address`.
    fn report(&self, token: &str, address: &str, login: &str, ttl: Option<&str>) -> (u16, Value) {
        let mut body = json!({ "address": address, "login": login });
        if let Some(ttl) = ttl {
            body["ttl"] = json!(ttl);
        }
        let headers = [("Authorization", &*format!("Bearer {token}"))];
        let (status, answer) = http(self.admin, "POST", "/v1/grants", &headers, &body.to_string())
            .expect("the admin API answers");
        (status, serde_json::from_str(&answer).expect("it answers in JSON"))
    }

    #[track_caller]
    fn open(&self, ttl: Option<&str>) -> Value {
        let (status, grant) = self.report(TOKEN, &HOTEL.to_string(), LOGIN, ttl);
        assert_eq!(status, 201, "{grant}");
        grant
    }

    /// The reply to a recipient elsewhere, on a separate connection.
    fn ask(&self, source: IpAddr, from: &str) -> Reply {
        let mut dialog = self.house.connect(source);
        dialog.command(&format!("MAIL FROM:<{from}>"), 250);
        dialog.send(format!("RCPT TO:<{BOB}>\r\n"));
        dialog.reply().expect("a recipient is answered")
    }

    #[track_caller]
    fn is_a_stranger(&self, source: IpAddr) {
        let reply = self.ask(source, LOGIN);
        assert_eq!(reply.code, 550, "{reply:?}");
        assert_eq!(reply.lines[0], format!("5.7.1 <{BOB}>: relaying not permitted for {source}"));
        assert!(reply.lines[1].contains("sign in on port"), "{reply:?}");
    }

    /// `gatepost WORDS --json` on this gateway: its exit status and what it printed.
    fn command(&self, words: &[&str]) -> (Option<i32>, Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_gatepost"))
            .args(words)
            .args(["--json", "--config"])
            .arg(self.house.gateway.config_path())
            .output()
            .expect("the program is there");
        let value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{words:?} prints no JSON: {error}: {output:?}"));
        (output.status.code(), value)
    }

    /// What `gatepost WORDS` prints for people.
    fn text(&self, words: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_gatepost"))
            // Sentences stay on one line.
            .env("COLUMNS", "1000")
            .args(words)
            .arg("--config")
            .arg(self.house.gateway.config_path())
            .output()
            .expect("the program is there");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Reloads after `change`, and waits until that is in force.
    fn reload(&mut self, change: impl FnOnce(&mut Configuration)) {
        let generation = self.house.gateway.metric("gatepost_policy_generation");
        let mut configuration = self.house.gateway.configuration().clone();
        change(&mut configuration);
        self.house.gateway.rewrite(configuration);
        self.house.gateway.signal("HUP");
        self.house.gateway.wait_metric("gatepost_policy_generation", generation + 1.0);
    }
}

#[test]
fn in_a_hotel_to_elsewhere_is_accepted_for_ten_minutes_after_a_pop_login_from_the_same_address() {
    let Some(hotel) = Hotel::start("a2_grants::in_a_hotel") else { return };
    hotel.is_a_stranger(HOTEL);
    let grant = hotel.open(None);
    assert_eq!((grant["seconds_left"].as_u64(), grant["tenant"].as_str()), (Some(600), Some("proseware")));
    hotel.house.connect(HOTEL).deliver(LOGIN, &[BOB], BODY);
    assert_eq!(hotel.house.elsewhere.wait_for(1)[0].recipients, [BOB]);
    // Charged to the identity: the record of the message names it.
    let mut accepted = String::new();
    let is_logged = eventually(PATIENCE, || {
        let output = hotel.house.gateway.output();
        let found = output.lines().find(|line| line.contains(r#""event":"accepted""#));
        found.map(|line| accepted = line.to_owned()).is_some()
    });
    assert!(is_logged, "{}", hotel.house.gateway.output());
    assert!(accepted.contains(&format!(r#""login":"{LOGIN}""#)), "{accepted}");

    let other_sender = hotel.ask(HOTEL, KIM);
    assert_eq!(other_sender.code, 553, "{other_sender:?}");
    hotel.is_a_stranger(NEIGHBOUR);
    let (_, listed) = hotel.command(&["grants", "list"]);
    assert_eq!(listed["grants"][0]["address"], json!(HOTEL));
    assert_eq!(listed["grants"][0]["login"], LOGIN);
    assert_eq!(hotel.command(&["status"]).1["grants"], 1);
    let (_, tenant) = hotel.command(&["tenants", "show", "proseware"]);
    assert_eq!(tenant["grants"]["in_force"], 1);
    hotel.house.gateway.wait_metric("gatepost_grants", 1.0);
}

#[test]
fn a_grant_ends_on_time_within_an_open_session_too() {
    let Some(hotel) = Hotel::start("a2_grants::a_grant_ends_on_time") else { return };
    hotel.open(Some("2s"));
    let mut session = hotel.house.connect(HOTEL);
    session.command(&format!("MAIL FROM:<{LOGIN}>"), 250);
    session.command(&format!("RCPT TO:<{BOB}>"), 250);
    let ended = eventually(PATIENCE, || {
        session.send(format!("RCPT TO:<{BOB}>\r\n"));
        session.reply().expect("a recipient is answered").code == 550
    });
    assert!(ended, "the grant has no end");
    hotel.is_a_stranger(HOTEL);
    hotel.house.gateway.wait_metric("gatepost_grants", 0.0);
    // A longer time than the tenant's is not to be had.
    assert_eq!(hotel.open(Some("3h"))["seconds_left"], 600);
}

#[test]
fn a_grant_survives_a_reload_and_ends_with_its_login() {
    let Some(mut hotel) = Hotel::start("a2_grants::a_grant_survives_a_reload") else { return };
    hotel.open(None);
    let before = hotel.house.gateway.configuration().tenants[0].1.clone();
    let new_login = "[[identity]]\nlogin = \"ann\"\npassword = \"$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA\"\n";
    hotel.reload(|configuration| configuration.tenants[0].1 = format!("{before}\n{new_login}"));
    assert_eq!(hotel.ask(HOTEL, LOGIN).code, 250);
    hotel.reload(|configuration| {
        configuration.tenants[0].1 = before.replace(LOGIN, "terry@proseware.example")
    });
    hotel.is_a_stranger(HOTEL);
    hotel.house.gateway.wait_metric("gatepost_grants", 0.0);
    // Should the login come back, it must log in again.
    hotel.reload(|configuration| configuration.tenants[0].1 = before.clone());
    hotel.is_a_stranger(HOTEL);
}

#[test]
fn a_grant_ends_when_a_reload_lists_its_address_as_shared() {
    let Some(mut hotel) = Hotel::start("a2_grants::a_grant_ends_when_a_reload") else { return };
    hotel.open(None);
    hotel.reload(|configuration| {
        let shared = format!("shared = [\"{HOTEL}\", ");
        configuration.node_extra = configuration.node_extra.replace("shared = [", &shared);
    });
    hotel.is_a_stranger(HOTEL);
    hotel.house.gateway.wait_metric("gatepost_grants", 0.0);
}

#[test]
fn a_grant_that_is_opened_after_mail_is_held_to_the_limits_of_its_login() {
    let Some(mut hotel) = Hotel::start("a2_grants::a_grant_that_is_opened_after_mail") else { return };
    hotel.reload(|configuration| {
        configuration.tenants[0].1.push_str("\n[limits.identity]\nrecipients_per_day = 1\n");
    });
    let mut dialog = hotel.house.connect(HOTEL);
    dialog.command(&format!("MAIL FROM:<{LOGIN}>"), 250);
    hotel.open(None);
    dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
    let reply = dialog.command("RCPT TO:<eve@adatum.example>", 452);
    assert!(reply.lines[0].contains(&format!("login {LOGIN} may use 1 recipients a day")), "{reply:?}");
}

#[test]
fn a_grant_is_revoked_by_a_person() {
    let Some(hotel) = Hotel::start("a2_grants::a_grant_is_revoked") else { return };
    let (code, opened) = hotel.command(&["grants", "open", &HOTEL.to_string(), LOGIN, "--ttl", "5m"]);
    assert_eq!((code, opened["seconds_left"].as_u64()), (Some(0), Some(300)));
    assert_eq!(hotel.ask(HOTEL, LOGIN).code, 250);
    assert_eq!(hotel.command(&["grants", "revoke", "--login", KIM]).0, Some(1));
    let (code, revoked) =
        hotel.command(&["grants", "revoke", "--address", &HOTEL.to_string(), "--login", LOGIN]);
    assert_eq!((code, revoked["revoked"].as_array().map(Vec::len)), (Some(0), Some(1)));
    hotel.is_a_stranger(HOTEL);
}

#[test]
fn no_grant_is_given_to_an_address_of_many_nor_to_a_login_of_another_tenant() {
    let Some(hotel) = Hotel::start("a2_grants::no_grant_is_given") else { return };
    for (token, address, login, reason) in [
        (TOKEN, "127.0.0.1", LOGIN, "loopback_address"),
        (TOKEN, "::1", LOGIN, "loopback_address"),
        (TOKEN, "::ffff:127.0.0.1", LOGIN, "loopback_address"),
        (TOKEN, "10.1.2.3", LOGIN, "private_address"),
        (TOKEN, "172.16.0.1", LOGIN, "private_address"),
        (TOKEN, "192.168.1.1", LOGIN, "private_address"),
        (TOKEN, "169.254.1.1", LOGIN, "private_address"),
        (TOKEN, "fd00::1", LOGIN, "private_address"),
        (TOKEN, "fe80::1", LOGIN, "private_address"),
        (TOKEN, "100.64.0.1", LOGIN, "carrier_address"),
        (TOKEN, "0.0.0.0", LOGIN, "no_public_address"),
        (TOKEN, &OFFICE.to_string(), LOGIN, "shared_address"),
        (TOKEN, &PROXY.to_string(), LOGIN, "proxy_address"),
        (TOKEN, &HOTEL.to_string(), "nobody@proseware.example", "unknown_login"),
        (FOREIGN_TOKEN, &HOTEL.to_string(), LOGIN, "unknown_login"),
    ] {
        let (status, refused) = hotel.report(token, address, login, None);
        assert_eq!((status, refused["reason"].as_str()), (422, Some(reason)), "{address} {login}: {refused}");
        assert!(refused["error"].as_str().is_some_and(|error| error.len() > 20), "{refused}");
    }
    assert_eq!(hotel.command(&["grants", "list"]).1["grants"], json!([]));
    hotel.is_a_stranger(HOTEL);
    hotel.house.gateway.wait_metric("gatepost_grants_refused_total", 15.0);
    assert!(hotel.house.gateway.output().contains(r#""event":"grant_refused""#));
}

#[test]
fn a_token_that_nobody_was_given_opens_nothing_and_is_not_logged() {
    let Some(hotel) = Hotel::start("a2_grants::a_token_that_nobody_was_given") else { return };
    let (status, answer) = hotel.report("swordfish-swordfish-swordfish", &HOTEL.to_string(), LOGIN, None);
    assert_eq!((status, answer["reason"].as_str()), (401, Some("unauthorized")));
    for path in ["/v1/status", "/v1/grants", "/nowhere"] {
        assert_eq!(http(hotel.admin, "GET", path, &[], "").expect("it answers").0, 401, "{path}");
    }
    // A mailbox server reports logins and does nothing else.
    let headers = [("Authorization", &*format!("Bearer {TOKEN}"))];
    for (method, path) in [("GET", "/v1/status"), ("GET", "/v1/grants"), ("DELETE", "/v1/grants?login=x")] {
        assert_eq!(http(hotel.admin, method, path, &headers, "").expect("it answers").0, 403, "{path}");
    }
    let log = hotel.house.gateway.output();
    assert!(log.contains(r#""event":"admin_unauthorized""#), "{log}");
    assert!(!log.contains("swordfish") && !log.contains(TOKEN), "{log}");
    hotel.is_a_stranger(HOTEL);
}

#[test]
fn status_lists_the_grants_that_end_first_and_says_how_many_there_are() {
    let Some(hotel) = Hotel::start("status_lists_the_grants_that_end_first_and_says_how_many_there_are")
    else {
        return;
    };
    let status = hotel.command(&["status"]).1;
    assert_eq!((&status["grants"], &status["open_grants"]), (&json!(0), &json!([])));
    let told = hotel.text(&["status"]);
    assert!(told.contains("0 in force after mailbox logins") && !told.contains("address "), "{told}");
    hotel.open(Some("5m"));
    let (code, status) = hotel.command(&["status"]);
    assert_eq!((code, &status["grants"]), (Some(0), &json!(1)));
    let grant = &status["open_grants"][0];
    assert_eq!(
        (&grant["tenant"], &grant["address"], &grant["login"]),
        (&json!("proseware"), &json!(HOTEL), &json!(LOGIN))
    );
    assert!(grant["seconds_left"].as_u64().is_some_and(|left| 0 < left && left <= 300), "{grant}");
    let told = hotel.text(&["status"]);
    let line = told.lines().find(|line| line.contains("203.0.113.9")).expect("the grant is listed");
    let [address, login, tenant, _minutes, ..] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{line:?} lacks a column")
    };
    assert_eq!((address, login, tenant), ("203.0.113.9", LOGIN, "proseware"));
    assert!(!told.contains("in all"), "{told}");
    // The first of 25 is the one that ends last: it is left out.
    for number in 1..25 {
        let (status, grant) = hotel.report(TOKEN, &format!("203.0.113.{}", 100 + number), LOGIN, Some("1m"));
        assert_eq!(status, 201, "{grant}");
    }
    let status = hotel.command(&["status"]).1;
    assert_eq!((&status["grants"], status["open_grants"].as_array().map(Vec::len)), (&json!(25), Some(20)));
    let told = hotel.text(&["status"]);
    assert!(told.contains("the 20 that end first, of 25 in all; `gatepost grants list` shows all"), "{told}");
    assert!(!told.contains("203.0.113.9 ") && told.contains("203.0.113.101  "), "{told}");
}

#[test]
fn an_address_of_more_people_than_may_have_a_grant_for_it_is_told_how_many() {
    if !netns::enter("a2_grants::an_address_of_more_people", &[&format!("{HOTEL}/32")]) {
        return;
    }
    let admin = free_address();
    let house = House::start_with(|configuration| {
        for number in 0..17 {
            write_login(configuration, &format!("guest{number}"), "");
        }
        configure(configuration, admin);
    });
    let hotel = Hotel { house, admin };
    for number in 0..16 {
        let (status, grant) = hotel.report(TOKEN, &HOTEL.to_string(), &format!("guest{number}"), None);
        assert_eq!(status, 201, "{grant}");
    }
    let (status, refused) = hotel.report(TOKEN, &HOTEL.to_string(), "guest16", None);
    assert_eq!((status, refused["reason"].as_str()), (422, Some("address_full")), "{refused}");
    assert_eq!(
        refused["error"],
        "16 identities have a grant for this address, which is the most: list it as shared in [grants] of the node"
    );
}
