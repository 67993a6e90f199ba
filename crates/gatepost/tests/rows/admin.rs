//! The admin API by the command line: a gateway at a glance, suspensions that outlive a restart, and
//! tokens that say what their holder may do.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use testbed::http::http;
use testbed::net::free_address;
use testbed::proseware::{INSIDE, LOGIN};

use crate::house::House;

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";

pub(crate) fn house() -> House {
    House::start_with(|configuration| {
        configuration.node_extra.push_str("\n[admin]\nsocket = \"admin.sock\"\n");
    })
}

pub(crate) fn run(house: &House, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gatepost"))
        // Sentences stay on one line.
        .env("COLUMNS", "1000")
        .args(words)
        .arg("--config")
        .arg(house.gateway.config_path())
        .output()
        .expect("the program is there")
}

pub(crate) fn json(house: &House, words: &[&str]) -> Value {
    let output = run(house, &[words, &["--json"]].concat());
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{words:?} prints no JSON: {error}: {output:?}"))
}

/// The code of the first refusal of a message from inside; 250 when there is none.
fn ask(house: &House) -> u16 {
    let mut dialog = house.connect(INSIDE);
    for line in [format!("MAIL FROM:<{KIM}>\r\n"), format!("RCPT TO:<{BOB}>\r\n")] {
        dialog.send(line);
        let code = dialog.reply().expect("a command is answered").code;
        if code != 250 {
            return code;
        }
    }
    250
}

#[test]
fn status_shows_a_gateway_at_a_glance_to_people_and_to_programs() {
    let house = house();
    let session = house.connect(INSIDE);
    let status = json(&house, &["status"]);
    assert_eq!(status["node"], "relay.proseware.example");
    assert_eq!(status["ready"], true);
    assert_eq!(status["workers"], serde_json::json!(["ready"]));
    assert_eq!(status["policy"]["generation"], 1);
    assert_eq!(status["listeners"][0]["name"], "smtp");
    assert_eq!(status["listeners"][0]["connections"], 1);
    assert_eq!(status["process"], house.gateway.pid());
    // The session is of a tenant's network, and logged in it has not.
    let places = &status["places"];
    let held = ["strangers", "without_login", "all"].map(|kind| places[kind]["held"].as_u64());
    assert_eq!(held, [Some(0), Some(1), Some(1)], "{places}");
    let most = ["strangers", "without_login", "all"].map(|kind| places[kind]["max"].as_u64().unwrap_or(0));
    assert!(0 < most[0] && most[0] < most[1] && most[1] < most[2], "{places}");
    assert!(places["short"].is_null());
    let told = format!(
        "places       1 of {} held; strangers 0 of {}, all without a login 1 of {}\n",
        most[2], most[0], most[1]
    );
    let text = String::from_utf8_lossy(&run(&house, &["status"]).stdout).into_owned();
    assert!(text.contains(&told), "{told:?} is missing from\n{text}");
    drop(session);
    let output = run(&house, &["status"]);
    let text = String::from_utf8_lossy(&output.stdout);
    for line in [
        "relay.proseware.example  takes mail",
        "generation 1, 1 tenant",
        "0 ready, 0 active, 0 deferred, 0 held recipients",
        "0 in force after mailbox logins",
        "spool        0 messages,",
        "suspended    none",
    ] {
        assert!(text.contains(line), "{line:?} is missing from\n{text}");
    }
    for line in ["quarantined", "found no room"] {
        assert!(!text.contains(line), "{line:?} is in\n{text}");
    }
    assert!(output.status.success());
}

#[test]
fn a_refused_reload_is_told_by_status() {
    let mut house = house();
    let mut configuration = house.gateway.configuration().clone();
    configuration.tenants[0].1.push_str("\nnonsense = 1\n");
    house.gateway.rewrite(configuration);
    house.gateway.signal("HUP");
    house.gateway.wait_metric("gatepost_policy_reload_failures_total", 1.0);
    let status = json(&house, &["status"]);
    let error = status["policy"]["last_reload_failure"]["error"].as_str().expect("there is one");
    assert!(error.contains("nonsense") && error.contains("proseware.toml"), "{error}");
    let text = run(&house, &["status"]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("the last reload was refused"));
}

#[test]
fn a_suspension_outlives_a_restart_until_it_is_lifted() {
    let mut house = house();
    assert_eq!(ask(&house), 250);
    let client = INSIDE.to_string();
    let words = ["tenants", "suspend", "proseware", "--client", &client];
    assert!(run(&house, &words).status.success());
    assert_ne!(ask(&house), 250);
    house.gateway.kill();
    house.gateway.restart();
    assert_ne!(ask(&house), 250);
    let shown = json(&house, &["tenants", "show", "proseware"]);
    assert_eq!(
        (&shown["logins"][0], &shown["relay_domains"][0]),
        (&LOGIN.into(), &"proseware.example".into())
    );
    assert!(!shown.to_string().contains("argon2"), "{shown}");
    let suspensions = &shown["suspensions"];
    assert_eq!((&suspensions[0]["client"], &suspensions[0]["cause"]), (&client.into(), &"operator".into()));
    let resume = ["tenants", "resume", "proseware", "--client", &INSIDE.to_string()];
    assert!(run(&house, &resume).status.success());
    assert_eq!(ask(&house), 250);
    assert_eq!(run(&house, &resume).status.code(), Some(1));
}

#[test]
fn a_tenant_and_a_login_are_suspended_by_name_and_a_stranger_to_the_configuration_is_not() {
    let house = house();
    assert!(run(&house, &["tenants", "suspend", "proseware", "--for", "1h"]).status.success());
    assert_ne!(ask(&house), 250);
    assert!(
        String::from_utf8_lossy(&run(&house, &["tenants", "list"]).stdout)
            .contains("suspended: tenant proseware  ")
    );
    assert!(run(&house, &["tenants", "resume", "proseware"]).status.success());
    assert!(run(&house, &["tenants", "suspend", "proseware", "--login", LOGIN]).status.success());
    assert_eq!(json(&house, &["status"])["suspensions"], 1);
    let soon = run(&house, &["tenants", "suspend", "proseware", "--for", "soon"]);
    assert_eq!(soon.status.code(), Some(2), "{soon:?}");
    for words in [
        ["tenants", "suspend", "prosewar", "--for", "1h"],
        ["tenants", "suspend", "proseware", "--login", KIM],
    ] {
        let output = run(&house, &words);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("there is no"), "{output:?}");
    }
}

/// The id of a message that waits.
fn queued(house: &House, ask: impl Fn(&str) -> (u16, String)) -> String {
    house.connect(INSIDE).deliver(KIM, &[BOB], b"Subject: x\r\n\r\nwaits\r\n");
    let (_, listed) = ask("/v1/spool");
    let listed: Value = serde_json::from_str(&listed).expect("an answer is JSON");
    listed["messages"][0]["id"].as_str().expect("it is queued").to_owned()
}

/// Writes a file of tokens: each with its role, and its tenant where it has one.
fn write_tokens(folder: &Path, tokens: &[(&str, &str, &str)]) -> PathBuf {
    let path = folder.join("tokens.toml");
    let text = tokens.iter().map(|(token, role, tenant)| {
        format!("[[token]]\nname = \"x\"\ntoken = \"{token}\"\nrole = \"{role}\"\n{tenant}\n")
    });
    std::fs::write(&path, text.collect::<String>()).expect("the test folder can be written");
    path
}

#[test]
fn a_token_lets_its_holder_do_what_its_role_says_and_for_its_tenant_only() {
    const TOKENS: [(&str, &str, &str); 3] = [
        ("a-token-to-look-at-all-tenants", "read", ""),
        ("a-token-to-change-everything", "admin", ""),
        ("a-token-for-another-tenant", "admin", "tenant = \"contoso\""),
    ];
    let admin = free_address();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let tokens = write_tokens(folder.path(), &TOKENS);
    let house = House::start_with(|configuration| {
        configuration.next_hop = free_address();
        let tokens = tokens.display();
        let section = format!("\n[admin]\naddress = \"{admin}\"\ntokens = \"{tokens}\"\n");
        configuration.node_extra.push_str(&section);
        let other = "name = \"contoso\"\nsenders = [\"@contoso.example\"]\n";
        configuration.tenants.push(("contoso".into(), other.into()));
    });
    let ask = |token: &str, method: &str, path: &str, body: &str| {
        let headers = [("Authorization", &*format!("bearer {token}"))];
        http(admin, method, path, &headers, body).expect("the admin API answers")
    };
    let [look, change, other] = TOKENS.map(|(token, _, _)| token);
    let suspend = r#"{"tenant":"proseware"}"#;
    let all = r#"{"all":true}"#;
    let id = queued(&house, |path| ask(change, "GET", path, ""));
    let (shown, one) = (format!("/v1/spool/{id}"), format!(r#"{{"id":"{id}"}}"#));
    for (token, method, path, body, status) in [
        (look, "GET", "/v1/status", "", 200),
        (look, "GET", "/v1/tenants/proseware", "", 200),
        (look, "POST", "/v1/suspensions", suspend, 403),
        (look, "POST", "/v1/grants", "{}", 400),
        (look, "GET", "/v1/grants?x=1", "", 400),
        (look, "GET", "/v1/tenants/%ff", "", 400),
        (change, "DELETE", "/v1/grants?address=nowhere", "", 400),
        (change, "DELETE", "/v1/suspensions?x=1", "", 400),
        (change, "POST", "/v1/grants/dovecot?command=a&command=b", "{}", 400),
        (look, "DELETE", "/v1/grants?tenant=proseware", "", 403),
        (other, "GET", "/v1/status", "", 403),
        (other, "GET", "/v1/tenants/contoso", "", 200),
        (other, "GET", "/v1/tenants/proseware", "", 404),
        (other, "POST", "/v1/suspensions", suspend, 404),
        (other, "POST", "/v1/suspensions", r#"{"tenant":"contoso","for":"1s"}"#, 403),
        (other, "DELETE", "/v1/suspensions?tenant=contoso", "", 403),
        (other, "POST", "/v1/suspensions", r#"{"login":"terri@proseware.example"}"#, 404),
        (other, "POST", "/v1/suspensions", r#"{"client":"198.51.100.7"}"#, 400),
        (change, "POST", "/v1/suspensions", "not json", 400),
        (change, "POST", "/v1/suspensions", suspend, 201),
        (look, "GET", "/v1/spool?state=held", "", 200),
        (look, "GET", "/v1/spool?state=odd", "", 400),
        (look, "GET", "/v1/spool?tennant=proseware", "", 400),
        (look, "POST", "/v1/spool/hold", all, 403),
        (change, "POST", "/v1/spool/hold", "{}", 400),
        (change, "POST", "/v1/spool/hold", r#"{"tennant":"proseware","all":true}"#, 400),
        (change, "POST", "/v1/spool/hold", r#"{"all":true,"reason":"x"}"#, 400),
        (change, "POST", "/v1/spool/drop", all, 404),
        (change, "GET", &shown, "", 200),
        (other, "GET", &shown, "", 404),
        (other, "GET", "/v1/spool?tenant=proseware", "", 404),
        (other, "POST", "/v1/spool/bounce", &one, 404),
        (other, "POST", "/v1/spool/bounce", all, 200),
        (change, "GET", &shown, "", 200),
        (change, "GET", "/nowhere", "", 404),
        (change, "PUT", "/v1/status", "", 405),
        (change, "POST", "/v1/suspensions", &"x".repeat(100_000), 400),
    ] {
        let (got, answer) = ask(token, method, path, body);
        assert_eq!(got, status, "{token} {method} {path}: {answer}");
        assert!(got < 400 || answer.contains("\"error\""), "{answer}");
    }
    let (_, listed) = ask(other, "GET", "/v1/suspensions", "");
    assert_eq!(listed, r#"{"suspensions":[]}"#);
}

#[test]
fn a_command_without_a_gateway_says_so() {
    let mut house = house();
    house.gateway.terminate();
    let output = run(&house, &["status"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("no gateway answers at") && text.contains("`gatepost run`"), "{text}");
}
