//! What an operator is told of a running gateway: what it would do with a message now, whose mail is queued
//! when a sender is suspended, and every limit in force.

use std::net::SocketAddr;
use std::process::Output;

use serde_json::Value;
use testbed::Dialog;
use testbed::proseware::{AUTH_PLAIN, HOTEL, INSIDE, LOGIN, listen_for_clear_logins};

use crate::admin::{house, json, run};
use crate::house::House;

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";
const BODY: &[u8] = b"Subject: x\r\n\r\nwaits\r\n";

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn explain<'a>(client: &'a str, from: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["explain", "--client", client, "--from", from, "--to", BOB], more].concat()
}

/// A gateway whose mail for elsewhere waits, and its listener for logins in the clear.
fn waiting_house() -> (House, SocketAddr) {
    let mut clear = None;
    let house = House::start_with(|configuration| {
        clear = Some(listen_for_clear_logins(configuration));
        configuration.node_extra.push_str("\n[admin]\nsocket = \"admin.sock\"\n");
        configuration.node_extra = configuration
            .node_extra
            .replace("first = \"1s\"\nlongest = \"2s\"", "first = \"10m\"\nlongest = \"1h\"");
        configuration.next_hop = testbed::net::free_address();
    });
    (house, clear.expect("just written"))
}

/// A message by the login, and one without.
fn send_two(house: &House, clear: SocketAddr) {
    house.connect(INSIDE).deliver(KIM, &[BOB], BODY);
    let mut dialog = Dialog::hello_from(HOTEL, clear);
    dialog.command(AUTH_PLAIN, 235);
    dialog.deliver(LOGIN, &[BOB], BODY);
}

#[test]
fn explain_tells_what_the_running_gateway_would_do_now() {
    let house = house();
    let inside = INSIDE.to_string();
    let question = explain(&inside, KIM, &[]);
    let answer = json(&house, &question);
    assert_eq!((&answer["verdict"], &answer["source"]), (&"accept".into(), &"gateway".into()));
    assert_eq!((&answer["generation"], &answer["suspension"]), (&1.into(), &Value::Null));
    assert!(run(&house, &["tenants", "suspend", "proseware", "--for", "1h"]).status.success());
    let output = run(&house, &question);
    assert_eq!(output.status.code(), Some(1));
    for part in ["tenant_suspended", "the tenant is suspended, until", "gatepost tenants resume proseware"] {
        assert!(text(&output).contains(part), "{part:?} is missing from\n{}", text(&output));
    }
    let answer = json(&house, &question);
    assert_eq!((&answer["verdict"], &answer["rule"]), (&"deny".into(), &"suspension".into()));
    assert_eq!(answer["suspension"]["cause"], "operator");
    assert!(answer["reply"][0].as_str().is_some_and(|line| line.starts_with("550")), "{answer}");
    // The files know nothing of it, and that is said.
    let output = run(&house, &explain(&inside, KIM, &["--offline"]));
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).contains("Looked at the files alone: as --offline says."), "{}", text(&output));
}

#[test]
fn explain_counts_the_grants_of_an_address() {
    let house = House::start_with(|configuration| {
        configuration.node_extra.push_str("\n[admin]\nsocket = \"admin.sock\"\n");
        configuration.tenants[0].1.push_str("\n[grants]\nttl = \"10m\"\n");
    });
    // Of a loopback address none is opened.
    let hotel = "203.0.113.9";
    assert_eq!(run(&house, &explain(hotel, LOGIN, &[])).status.code(), Some(1));
    let open = run(&house, &["grants", "open", hotel, LOGIN]);
    assert!(open.status.success(), "{}", text(&open));
    let answer = json(&house, &explain(hotel, LOGIN, &[]));
    assert_eq!((&answer["verdict"], &answer["grants"][0]), (&"accept".into(), &LOGIN.into()));
    assert_eq!(run(&house, &explain(hotel, LOGIN, &["--offline"])).status.code(), Some(1));
    let suspended = ["tenants", "suspend", "proseware", "--login", LOGIN];
    assert!(run(&house, &suspended).status.success());
    let answer = json(&house, &explain(hotel, LOGIN, &[]));
    assert_eq!(answer["reason"], "identity_suspended", "{answer}");
}

#[test]
fn explain_says_what_limits_have_used_and_which_one_is_full() {
    let house = House::start_with(|configuration| {
        configuration.node_extra.push_str("\n[admin]\nsocket = \"admin.sock\"\n");
        configuration.tenants[0].1.push_str("\n[limits]\nmessages_per_day = 2\n");
    });
    let inside = INSIDE.to_string();
    house.connect(INSIDE).deliver(KIM, &[BOB], BODY);
    let answer = json(&house, &explain(&inside, KIM, &[]));
    let used = (&answer["limits"][0]["used"], &answer["limits"][0]["of"]);
    assert_eq!((used, &answer["verdict"]), ((&1.into(), &2.into()), &"accept".into()));
    house.connect(INSIDE).deliver(KIM, &[BOB], BODY);
    let output = run(&house, &explain(&inside, KIM, &[]));
    assert_eq!(output.status.code(), Some(1));
    for part in
        ["deferred: quota_exceeded", "tenant proseware may use 2 messages a day; free again", "2 of 2"]
    {
        assert!(text(&output).contains(part), "{part:?} is missing from\n{}", text(&output));
    }
}

#[test]
fn explain_answers_by_what_is_loaded_and_names_what_is_not_taken_up() {
    let mut house = house();
    let (inside, other) = (INSIDE.to_string(), "kim@contoso.example");
    assert_eq!(json(&house, &explain(&inside, other, &[]))["not_taken_up"], serde_json::json!([]));
    let mut configuration = house.gateway.configuration().clone();
    let (_, tenant) = &mut configuration.tenants[0];
    *tenant = tenant.replace("senders = [\"@proseware.example\"]", "senders = [\"@contoso.example\"]");
    house.gateway.rewrite(configuration);
    let output = run(&house, &explain(&inside, other, &[]));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    for part in ["Not taken up yet", "proseware.toml"] {
        assert!(text(&output).contains(part), "{part:?} is missing from\n{}", text(&output));
    }
    assert_eq!(run(&house, &explain(&inside, other, &["--offline"])).status.code(), Some(0));
    house.gateway.signal("HUP");
    house.gateway.wait_metric("gatepost_policy_generation", 2.0);
    let answer = json(&house, &explain(&inside, other, &[]));
    assert_eq!((&answer["verdict"], &answer["not_taken_up_count"]), (&"accept".into(), &0.into()));
    house.gateway.terminate();
    let output = run(&house, &explain(&inside, other, &[]));
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).contains("Looked at the files alone: no gateway answers"), "{}", text(&output));
}

#[test]
fn queued_mail_is_found_by_its_login_and_what_does_not_exist_is_an_error() {
    let (mut house, clear) = waiting_house();
    send_two(&house, clear);
    let listed = |house: &House, words: &[&str]| {
        let output = run(house, &[&["spool", "list", "--json"], words].concat());
        let text = String::from_utf8(output.stdout).expect("what is printed is text");
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("one object a line"));
        (lines.collect::<Vec<_>>(), output.status.code())
    };
    let (found, code) = listed(&house, &["--login", LOGIN]);
    assert_eq!((found.len(), &found[0]["identity"], code), (1, &LOGIN.into(), Some(0)));
    let unknown: [(&[&str], &str); 4] = [
        (&["--tenant", "prosewar"], "there is no tenant \"prosewar\"; did you mean \"proseware\"?"),
        (&["--login", "teri@proseware.example"], "did you mean \"terri@proseware.example\"?"),
        (&["--login", LOGIN, "--tenant", "contoso"], "there is no tenant \"contoso\""),
        (&["0000000000000000"], "no message 0000000000000000 is queued"),
    ];
    for (words, said) in unknown {
        for act in ["list", "hold", "release", "retry", "bounce"] {
            let output = run(&house, &[&["spool", act], words].concat());
            assert_eq!(output.status.code(), Some(1), "{act} {words:?}: {}", text(&output));
            assert!(text(&output).contains(said), "{act} {words:?}: {}", text(&output));
            assert!(!text(&output).contains("0 messages"), "{act} {words:?}: {}", text(&output));
        }
    }
    // Nothing that fits is no error where all that is named exists.
    assert_eq!(listed(&house, &["--login", LOGIN, "--state", "held"]), (Vec::new(), Some(0)));
    let held = json(&house, &["spool", "hold", "--login", LOGIN]);
    assert_eq!((&held["selected"], &held["done"]), (&1.into(), &1.into()));
    assert_eq!(json(&house, &["spool", "release", "--login", LOGIN])["done"], 1);
    house.gateway.terminate();
    let (found, code) = listed(&house, &["--login", LOGIN]);
    assert_eq!((found.len(), code), (1, Some(0)));
    for (words, _) in unknown {
        assert_eq!(listed(&house, words).1, Some(1), "{words:?} of a stopped gateway");
    }
}

#[test]
fn a_suspension_says_what_of_its_mail_still_goes_and_holds_it_where_that_is_wanted() {
    let (house, clear) = waiting_house();
    send_two(&house, clear);
    let login = ["tenants", "suspend", "proseware", "--login", LOGIN];
    let output = run(&house, &login);
    assert!(output.status.success());
    for part in
        ["1 queued message is still delivered", "suspend proseware --login terri@proseware.example --hold"]
    {
        assert!(text(&output).contains(part), "{part:?} is missing from\n{}", text(&output));
    }
    let held = json(&house, &[&login[..], &["--hold"]].concat());
    assert_eq!(held["held"], 1);
    assert_eq!(json(&house, &["tenants", "suspend", "proseware"])["still_delivered"], 2);
    assert_eq!(
        json(&house, &["tenants", "suspend", "proseware", "--hold"])["held"],
        1,
        "one was held already"
    );
    house.gateway.wait_metric("gatepost_queue_recipients{state=\"held\"}", 2.0);
    let output = run(&house, &["tenants", "resume", "proseware"]);
    for part in
        ["free to send", "2 messages of it are still held", "gatepost tenants resume proseware --release"]
    {
        assert!(text(&output).contains(part), "{part:?} is missing from\n{}", text(&output));
    }
    let released = run(&house, &["tenants", "resume", "proseware", "--login", LOGIN, "--release"]);
    assert!(text(&released).contains("1 held message released"), "{}", text(&released));
    house.gateway.wait_metric("gatepost_queue_recipients{state=\"held\"}", 1.0);
}

/// Half of it would be done, and the operator would take it for the whole.
#[test]
fn what_is_queued_from_a_client_cannot_be_held_and_the_command_says_what_can() {
    let house = crate::admin::house();
    for (act, option, verb) in [("suspend", "--hold", "hold"), ("resume", "--release", "release")] {
        let words = ["tenants", act, "proseware", "--client", "198.51.100.7", option];
        let output = run(&house, &words);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.lines().count(), 1, "{said}");
        let instead = format!("`gatepost spool {verb} --tenant proseware`");
        for part in [option, "--client 198.51.100.7", "does not know which client", &instead] {
            assert!(said.contains(part), "{part:?} is missing from\n{said}");
        }
    }
    assert_eq!(json(&house, &["status"])["suspensions"], 0, "nothing was suspended");
}

#[test]
fn every_limit_in_force_is_shown_the_usual_ones_included() {
    let house = House::start_with(|configuration| {
        configuration.node_extra.push_str("\n[admin]\nsocket = \"admin.sock\"\n");
        configuration.tenants[0].1.push_str(
            "\n[limits]\nmessages_per_minute = 6000\nconnections = 500\n\
             [limits.identity]\nrecipients_per_hour = 100\n",
        );
    });
    let tenant = json(&house, &["tenants", "show", "proseware"]);
    assert_eq!(tenant["senders"], serde_json::json!(["@proseware.example"]));
    assert_eq!(tenant["relay_domains"], serde_json::json!(["proseware.example"]));
    assert_eq!(tenant["logins"], serde_json::json!([LOGIN]));
    let limits = &tenant["limits"];
    assert!(limits["network"].is_null(), "none is set: {limits}");
    assert_eq!((&limits["messages_per_minute"], &limits["connections"]), (&6000.into(), &500.into()));
    assert_eq!(limits["identity"]["recipients_per_hour"], 100);
    assert_eq!((&limits["recipients_per_message"], &limits["session_errors"]), (&10_000.into(), &20.into()));
    let defaults = limits["defaults"].as_array().expect("a list");
    assert!(defaults.contains(&"recipients_per_message".into()), "{limits}");
    let output = run(&house, &["tenants", "show", "proseware"]);
    for part in [
        "6000 messages a minute",
        "500 connections at once",
        "100 recipients an hour",
        "up to 10000 a message",
    ] {
        assert!(text(&output).contains(part), "{part:?} is missing from\n{}", text(&output));
    }
}
