//! G2: `gatepost why` tells of a denial that happened, now and after a restart; its page tells a
//! stranger what it may.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};

use serde_json::Value;
use testbed::Configuration;
use testbed::dialog::Reply;
use testbed::net::{PATIENCE, eventually, free_address};
use testbed::proseware::{CONTACT, HOTEL, INSIDE, LOGIN};

use crate::house::House;

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";

/// The ticket that a refusal names.
#[track_caller]
pub(crate) fn ticket_of(reply: &Reply) -> String {
    let last = reply.lines.last().expect("a reply has a line");
    let (_, rest) = last.split_once("ticket ").unwrap_or_else(|| panic!("no ticket in {reply:?}"));
    rest.split(' ').next().expect("a word follows").to_owned()
}

/// What `gatepost why --json` says of a ticket, which there must be.
#[track_caller]
pub(crate) fn why(house: &House, ticket: &str) -> Value {
    let output = run_why(house, &[ticket, "--json"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn run_why(house: &House, arguments: &[&str]) -> Output {
    run_why_in(house, &[("LC_ALL", "C")], arguments)
}

/// The same where the locale is `locale` and nothing else.
fn run_why_in(house: &House, locale: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gatepost"))
        // Sentences stay on one line.
        .env("COLUMNS", "1000")
        .env_remove("LC_ALL")
        .env_remove("LC_MESSAGES")
        .env_remove("LANG")
        .envs(locale.iter().copied())
        .arg("why")
        .args(arguments)
        .arg("--config")
        .arg(house.gateway.config_path())
        .output()
        .expect("the program runs")
}

/// A gateway that can be asked: a ticket is told of from the moment that its reply goes.
pub(crate) fn open_to_questions(configuration: &mut Configuration) {
    configuration.node_extra.push_str("\n[admin]\nsocket = \"admin.sock\"\n");
}

/// The page of a ticket on a terminal of the usual width.
#[track_caller]
fn assert_fits(house: &House, ticket: &str, language: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_gatepost"))
        .env_remove("COLUMNS")
        .args(["why", ticket, "--lang", language, "--config"])
        .arg(house.gateway.config_path())
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(testbed::terminal::misfits(&text), [""; 0], "{text}");
}

#[test]
fn nothing_that_why_prints_breaks_inside_a_word_at_eighty_columns() {
    let house = House::start_with(open_to_questions);
    let mut dialog = house.connect(HOTEL);
    dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
    let many = (0..30).map(|number| format!("someone.with.a.long.name.{number}@adatum.example"));
    let tickets: Vec<_> =
        many.map(|to| ticket_of(&dialog.command(&format!("RCPT TO:<{to}>"), 550))).collect();
    let other = denied_inside(&house);
    for ticket in [&tickets[0], &tickets[29], &other] {
        assert_fits(&house, ticket, "en");
        assert_fits(&house, ticket, "fr");
    }
}

/// A house whose pages are served, and where.
fn house_with_pages() -> (House, SocketAddr) {
    let address = free_address();
    let house = House::start_with(|configuration| {
        open_to_questions(configuration);
        let section = format!("[tickets]\naddress = \"{address}\"\n");
        configuration.node_extra = configuration.node_extra.replace("[tickets]\n", &section);
    });
    (house, address)
}

#[track_caller]
fn denied(house: &House) -> String {
    let mut dialog = house.connect(HOTEL);
    dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
    ticket_of(&dialog.command(&format!("RCPT TO:<{BOB}>"), 550))
}

/// Head and body of what is served for `path`.
#[track_caller]
fn page(address: SocketAddr, path: &str, accept_language: &str) -> (String, String) {
    request(address, "GET", path, accept_language)
}

/// The same by another method.
#[track_caller]
fn request(address: SocketAddr, method: &str, path: &str, accept_language: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("the pages are served");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set on a socket");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAccept-Language: {accept_language}\r\nConnection: close\r\n\r\n"
    )
    .expect("the request goes");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("the answer is text");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn a_ticket_is_found_however_it_is_written_and_after_a_restart_and_a_kill() {
    let mut house = House::start_with(open_to_questions);
    let ticket = denied(&house);
    let first = why(&house, &ticket);
    assert_eq!((&first["client"], &first["listener"]), (&"127.0.3.9".into(), &"smtp".into()));
    assert_eq!((&first["from"], &first["recipients"][0]), (&KIM.into(), &BOB.into()));
    assert!(first["remedy"].as_str().is_some_and(|remedy| remedy.contains("proseware")), "{first}");
    for written in [ticket.replace('-', ""), ticket.to_lowercase(), ticket.to_lowercase().replace('0', "o")] {
        assert_eq!(why(&house, &written), first);
    }
    house.gateway.terminate();
    assert_eq!(why(&house, &ticket), first, "read from the file, without a gateway");
    house.gateway.restart();
    assert_eq!(why(&house, &ticket), first, "told by the next life of the gateway");
    // Once it is on disk a kill does not take it: the file is read beside the gateway that writes it.
    house.gateway.kill();
    house.gateway.restart();
    assert_eq!(why(&house, &ticket), first, "told after a kill");
}

#[test]
fn what_is_no_ticket_and_what_is_no_longer_one_are_told_apart() {
    let house = House::start();
    assert_eq!(run_why(&house, &["0000-0000-0000-0"]).status.code(), Some(1));
    let malformed = run_why(&house, &["not-a-ticket"]);
    assert_eq!(malformed.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&malformed.stderr).contains("13 letters and digits"));
}

#[test]
fn a_person_reads_the_rules_the_line_and_the_remedy() {
    let house = House::start();
    let ticket = denied_inside(&house);
    let output = run_why(&house, &[&ticket]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    for part in [
        "denied: sender_not_owned",
        &ticket,
        "127.0.1.5",
        "<kim@fabrikam.example>",
        "<bob@adatum.example>",
        "deny    sender",
        "proseware.toml:3",
        "To have it accepted: add \"kim@fabrikam.example\" to the senders of tenant proseware",
    ] {
        assert!(text.contains(part), "{part:?} is missing from\n{text}");
    }
}

/// A denied sender inside the tenant's network, and the ticket.
#[track_caller]
fn denied_inside(house: &House) -> String {
    let mut dialog = house.connect(INSIDE);
    dialog.command("MAIL FROM:<kim@fabrikam.example>", 250);
    ticket_of(&dialog.command(&format!("RCPT TO:<{BOB}>"), 553))
}

/// What a person reads of `ticket` whose locale is `locale`.
#[track_caller]
fn told(house: &House, ticket: &str, locale: &[(&str, &str)], arguments: &[&str]) -> String {
    let output = run_why_in(house, locale, &[&[ticket], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_person_reads_in_french_what_the_page_tells_and_the_lines_and_the_change_too() {
    let (house, address) = house_with_pages();
    let ticket = denied_inside(&house);
    let english = [
        "denied: sender_not_owned",
        "If you sent it: Send with an address of your own",
        "If you look after the sender’s mail: If the address",
        "deny    sender          kim@fabrikam.example is none of the senders",
    ];
    let french = [
        "refusé : sender_not_owned",
        "Si vous l’avez envoyé : Envoyez avec une adresse",
        "Si vous administrez la messagerie de l’expéditeur : Si l’adresse",
        "arrêté ici  sender          Droit à l’adresse d’expéditeur",
    ];
    for (tag, parts) in [("en", english), ("fr", french)] {
        let text = told(&house, &ticket, &[], &["--lang", tag]);
        let whoever = [
            &*ticket,
            "127.0.1.5",
            "<kim@fabrikam.example>",
            "proseware.toml:3",
            "add \"kim@fabrikam.example\" to the senders of tenant proseware",
        ];
        for part in parts.into_iter().chain(whoever) {
            assert!(text.contains(part), "{part:?} is missing from\n{text}");
        }
        let (_, page) = page(address, &format!("/{}?lang={tag}", ticket.replace('-', "")), "");
        let (_, lead) = page.split_once("<p class=\"lead\">").expect("the page says what happened");
        let (lead, _) = lead.split_once("</p>").expect("a paragraph ends");
        assert!(text.contains(lead), "{lead:?} of the page is missing from\n{text}");
    }
}

#[test]
fn the_language_is_that_of_the_option_or_of_the_locale_and_json_has_none() {
    let house = House::start_with(open_to_questions);
    let ticket = denied_inside(&house);
    for (locale, arguments, verdict) in [
        (&[][..], &[][..], "denied:"),
        (&[("LANG", "fr_CA.UTF-8")], &[], "refusé :"),
        (&[("LC_MESSAGES", "fr_FR"), ("LANG", "en_GB")], &[], "refusé :"),
        (&[("LC_ALL", "de_DE.UTF-8"), ("LANG", "fr_FR")], &[], "denied:"),
        (&[("LC_ALL", "C")], &["--lang", "fr"], "refusé :"),
        (&[("LC_ALL", "fr_FR")], &["--lang", "en"], "denied:"),
    ] {
        let text = told(&house, &ticket, locale, arguments);
        assert!(text.starts_with(verdict), "{locale:?} {arguments:?}:\n{text}");
    }
    let json = told(&house, &ticket, &[("LC_ALL", "fr_FR")], &["--json"]);
    assert_eq!(json, told(&house, &ticket, &[], &["--json", "--lang", "en"]));
    let unknown = run_why_in(&house, &[("LANG", "fr")], &["0000-0000-0000-0"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("Ticket inconnu"), "{unknown:?}");
    assert_eq!(run_why(&house, &[&ticket, "--lang", "de"]).status.code(), Some(2));
}

#[test]
fn the_page_tells_a_stranger_in_english_or_french_and_holds_nobodys_secrets() {
    let (house, address) = house_with_pages();
    let ticket = denied(&house);
    let path = format!("/{}", ticket.replace('-', ""));
    let (head, english) = page(address, &path, "en-GB, en;q=0.9, fr;q=0.2");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    for header in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; style-src 'sha256-",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: private, no-store",
        "vary: accept-language",
    ] {
        assert!(head.contains(header), "{header} is missing from\n{head}");
    }
    let port = house.submission.port().to_string();
    for part in [&*ticket, "lang=\"en\"", "name=\"viewport\"", CONTACT, "sign in", &port, "UTC", "?lang=fr"] {
        assert!(english.contains(part), "{part:?} is missing from\n{english}");
    }
    let (_, french) = page(address, &path, "fr-CH, fr;q=0.9, en;q=0.8");
    for part in [&*ticket, "lang=\"fr\"", "identifie", "mot de passe", "?lang=en"] {
        assert!(french.contains(part), "{part:?} is missing from\n{french}");
    }
    assert_eq!(page(address, &format!("{path}?lang=fr"), "en").1, french);
    // The contact, which is public, is in the tenant's own domain here.
    for body in [english, french].map(|body| body.replace(CONTACT, "").replace("relay.proseware.example", ""))
    {
        for secret in ["proseware", LOGIN, KIM, BOB, "adatum", "127.0.", ".toml", "client.example", "<script"]
        {
            assert!(!body.contains(secret), "{secret:?} is told to a stranger:\n{body}");
        }
    }
}

#[test]
fn a_page_that_does_not_exist_says_so_in_both_languages_until_too_many_are_asked_for() {
    let (house, address) = house_with_pages();
    let ticket = denied(&house);
    let (head, unknown) = page(address, "/0000000000000", "en");
    assert!(head.starts_with("http/1.1 404 "), "{head}");
    assert!(unknown.contains("No such ticket"), "{unknown}");
    let empty = unknown.replace("0000-0000-0000-0", "");
    assert_eq!(page(address, "/v1/status?x=%3Cscript%3E", "en").1, empty);
    let (head, typed) = page(address, "/?ticket=%22%3E%3Cscript%3E&lang=fr", "en");
    assert!(head.starts_with("http/1.1 404 ") && typed.contains("Ticket inconnu"), "{head}{typed}");
    assert!(!typed.contains("<script") && typed.contains("value=\"&quot;&gt;&lt;script&gt;\""), "{typed}");
    assert!(page(address, "/0000000000000", "fr").1.contains("Ticket inconnu"));
    let limited =
        (0..40).map(|_| page(address, "/0000000000001", "en").0).find(|head| head.contains(" 429 "));
    assert!(limited.is_some(), "a guesser is slowed down");
    let (head, _) = page(address, &format!("/{}", ticket.replace('-', "")), "en");
    assert!(head.contains(" 200 "), "a true ticket is shown beside guesses from the same address: {head}");
    let (head, _) = page(address, "/favicon.ico", "en");
    assert!(head.contains(" 404 "), "what is no ticket is no guess: {head}");
}

#[test]
fn a_ticket_is_typed_in_however_a_person_writes_it() {
    let (house, address) = house_with_pages();
    let ticket = denied(&house);
    let (head, home) = page(address, "/", "fr");
    assert!(head.starts_with("http/1.1 200 ") && head.contains("form-action 'self'"), "{head}");
    for part in ["<form action=\"./\" method=\"get\">", "name=\"ticket\"", "Votre ticket", "Afficher"] {
        assert!(home.contains(part), "{part:?} is missing from\n{home}");
    }
    let typed = ticket.to_lowercase().replace('-', "+").replace('0', "o");
    let (head, _) = page(address, &format!("/?ticket=+{typed}+&lang=fr"), "en");
    let place = format!("location: ./{}?lang=fr", ticket.replace('-', "").to_lowercase());
    assert!(head.starts_with("http/1.1 303 ") && head.contains(&place), "{head}");
    let (_, shown) = page(address, &format!("/{}?lang=fr", ticket.replace('-', "")), "en");
    assert!(shown.contains(&ticket) && shown.contains("lang=\"fr\""), "{shown}");
    let (head, _) = request(address, "POST", "/", "en");
    assert!(head.starts_with("http/1.1 405 ") && head.contains("allow: get, head"), "{head}");
}

#[test]
fn guesses_are_counted_for_who_asks_a_listed_proxy_and_never_for_the_name_that_a_stranger_gives() {
    let address = free_address();
    let _house = House::start_with(|configuration| {
        let section = format!("[tickets]\naddress = \"{address}\"\nproxies = [\"127.0.0.1\"]\n");
        configuration.node_extra = configuration.node_extra.replace("[tickets]\n", &section);
    });
    let guess = |from: &str, forwarded: &str| {
        let from = from.parse().expect("an address");
        let mut stream = testbed::Dialog::connect_from(from, address).into_stream();
        write!(
            stream,
            "GET /0000000000001 HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {forwarded}\r\nConnection: close\r\n\r\n"
        )
        .expect("the request goes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer is text");
        answer.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()).expect("a status")
    };
    let is_slowed = |from: &str, forwarded: &dyn Fn(u32) -> String| {
        (0..40).any(|number| guess(from, &forwarded(number)) == 429)
    };
    // Each guess in another name: a proxy's word counts, a stranger's does not.
    assert!(!is_slowed("127.0.0.1", &|number| format!("127.0.0.1, 192.0.2.{number}")));
    assert!(is_slowed("127.0.0.9", &|number| format!("198.51.100.{number}")));
    // One reader behind the proxy, who writes another name to the left each time.
    assert!(is_slowed("127.0.0.1", &|number| format!("198.51.100.{number}, 203.0.113.5")));
    assert_eq!(guess("127.0.0.1", "203.0.113.6"), 404, "another reader behind the same proxy is free");
}

#[test]
fn the_page_of_a_suspension_says_when_it_ends() {
    let (house, address) = house_with_pages();
    let suspend = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_gatepost"))
            .args(["tenants", "suspend", "proseware"])
            .args(words)
            .arg("--config")
            .arg(house.gateway.config_path())
            .output()
            .expect("the program runs");
        assert!(output.status.success(), "{output:?}");
    };
    let suspended = || {
        let mut dialog = house.connect(INSIDE);
        dialog.send(format!("MAIL FROM:<{KIM}>\r\n"));
        let reply = dialog.reply().expect("a command is answered");
        assert_eq!(reply.code / 100, 5, "{reply:?}");
        ticket_of(&reply).replace('-', "")
    };
    suspend(&["--for", "2h"]);
    let ticket = suspended();
    let (_, english) = page(address, &format!("/{ticket}"), "en");
    let (_, after) = english.split_once("The suspension ends on <time datetime=\"").expect("it says when");
    let (ends, _) = after.split_once('"').expect("a time");
    let (_, denied) = english.split_once("<dd><time datetime=\"").expect("it says when it was denied");
    let (denied, _) = denied.split_once('"').expect("a time");
    assert!(ends > denied, "{ends} is after {denied}");
    assert!(page(address, &format!("/{ticket}"), "fr").1.contains("La suspension prend fin le <time"));
    suspend(&[]);
    // One ticket a second and cause: this denial may show the one before.
    let is_told = eventually(PATIENCE, || {
        let (_, english) = page(address, &format!("/{}", suspended()), "en");
        english.contains("it lasts until someone lifts it")
    });
    assert!(is_told);
}

#[test]
fn a_taken_address_of_the_pages_stops_the_start() {
    let (_house, address) = house_with_pages();
    let house = House::start();
    let path = house.gateway.config_path();
    let text = std::fs::read_to_string(path).expect("the file was written");
    let text = text.replace("[tickets]\n", &format!("[tickets]\naddress = \"{address}\"\n"));
    std::fs::write(path, text).expect("the test folder can be written");
    let mut house = house;
    house.gateway.terminate();
    let output = Command::new(env!("CARGO_BIN_EXE_gatepost"))
        .args(["run", "--config"])
        .arg(house.gateway.config_path())
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(&address.to_string()) && error.contains("[tickets] address"), "{error}");
}
