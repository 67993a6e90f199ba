//! The command line from outside: exit codes, errors with file, line and remedy, the demo.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use testbed::Folder;

const NODE: &str = r#"[node]
hostname = "relay.proseware.example"
[spool]
path = "spool"
[[listener]]
name = "smtp"
address = "127.0.0.1:0"
role = "relay"
tls = "off"
[[listener]]
name = "submission"
address = "127.0.0.2:0"
role = "submission"
tls = "off"
auth_without_tls = true
[policy]
tenants = "tenants"
[[route]]
recipient_domains = ["*"]
next_hops = ["127.0.0.1:9"]
[tickets]
contact = "postmaster@relay.example"
"#;

const TENANT: &str = r#"name = "proseware"
networks = ["198.51.100.0/24"]
senders = ["@proseware.example"]
[[identity]]
login = "terri"
password = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"
senders = ["terri@proseware.example"]
"#;

fn files() -> Folder {
    Folder::new(NODE, &[("proseware", TENANT)])
}

trait Run {
    /// The program with these arguments, on the files.
    fn run(&self, arguments: &[&str]) -> Output;
}

impl Run for Folder {
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = gatepost();
        command.args(arguments).arg("--config").arg(self.node()).stdin(Stdio::null());
        command.output().unwrap()
    }
}

fn gatepost() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gatepost"))
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// One line on standard error that holds each of `parts`, and exit code 2.
#[track_caller]
fn assert_one_error(output: &Output, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{text}{}", stdout(output));
    assert_eq!(text.lines().count(), 1, "one clear error, not:\n{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn a_sound_configuration_is_said_to_be_one() {
    let files = files();
    let output = files.run(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("ok: 2 files, 2 listeners, 1 tenant"), "{}", stdout(&output));
}

#[test]
fn each_mistake_is_one_error_with_file_line_and_remedy() {
    // File, what is replaced by what, and what the error must hold: place, fact, remedy.
    let cases: [(&str, &str, &str, &[&str]); 6] = [
        (
            "gatepost.toml",
            "path = \"spool\"",
            "path = \"spool\"\ncapacity = \"1GiB\"\nunfinished = \"2GiB\"",
            &["gatepost.toml:6: ", "spool.unfinished", "more than the capacity", "at least 1MiB"],
        ),
        (
            "gatepost.toml",
            "path = \"spool\"",
            "path = \"spool\"\nunfinished_per_client = \"1KiB\"",
            &["gatepost.toml:5: ", "spool.unfinished_per_client", "no large message", "at least 1MiB"],
        ),
        ("gatepost.toml", "hostname", "hostnam", &["gatepost.toml:2: ", "hostnam", "hostname"]),
        (
            "gatepost.toml",
            "path = \"spool\"",
            "path = \"spool\"\ncapasity = \"1GiB\"",
            &["gatepost.toml:5: ", "capasity", "did you mean", "capacity"],
        ),
        (
            "tenants/proseware.toml",
            "198.51.100.0/24",
            "198.51.100.0/33",
            &["proseware.toml:2: ", "198.51.100.0/33", "write a prefix such as"],
        ),
        (
            "tenants/proseware.toml",
            "senders = [\"@proseware.example\"]\n",
            "",
            &["proseware.toml:1: ", "has no senders", "add senders = "],
        ),
    ];
    for (file, old, new, parts) in cases {
        let files = files();
        files.change(file, old, new);
        // A mistyped key also leaves the right one missing: that pair is one mistake.
        if old == "hostname" {
            let output = files.run(&["check"]);
            assert_eq!(output.status.code(), Some(2));
            parts.iter().for_each(|part| assert!(stderr(&output).contains(part), "{}", stderr(&output)));
            continue;
        }
        assert_one_error(&files.run(&["check"]), parts);
    }
}

#[test]
fn two_tenants_with_one_login_name_both_lines() {
    let files = files();
    let other = TENANT.replace("proseware", "adatum").replace("198.51.100", "203.0.113");
    files.write("tenants/adatum.toml", &other);
    let parts =
        ["proseware.toml:5: ", "\"terri\" exists twice", "adatum.toml:5", "give one of them another login"];
    assert_one_error(&files.run(&["check"]), &parts);
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    let files = files();
    files.change("tenants/proseware.toml", "198.51.100.0/24", "0.0.0.0/0");
    let output = files.run(&["check", "--json"]);
    assert_eq!(output.status.code(), Some(1), "a stranger could relay");
    let value: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(value["ok"], false);
    assert!(value["errors"][0]["message"].as_str().unwrap().contains("0.0.0.0/0 is wider than /8"));
    assert_eq!(value["errors"][0]["line"], 2);
    assert!(value["errors"][0]["remedy"].as_str().unwrap().contains("networks"));
}

#[test]
fn a_missing_configuration_says_how_to_name_one() {
    let empty = TempDir::new().unwrap();
    if Path::new("/etc/gatepost/gatepost.toml").exists() {
        return;
    }
    let output = gatepost().arg("check").current_dir(empty.path()).output().unwrap();
    assert_one_error(&output, &["--config PATH", "gatepost demo"]);
}

#[test]
fn explain_answers_by_exit_code() {
    let (inside, outside) = (["--client", "198.51.100.7"], ["--client", "203.0.113.9"]);
    let (terri, bob) = ("terri@proseware.example", "bob@adatum.example");
    let files = files();
    let cases: [(&[&str], &str, &str, i32, &str); 11] = [
        (&inside, terri, bob, 0, "accepted"),
        (&outside, terri, bob, 1, "denied: relay_not_permitted"),
        (&inside, "x@adatum.example", bob, 1, "denied: sender_not_owned"),
        (&[outside[0], outside[1], "--login", "terri"], terri, bob, 0, "accepted"),
        (&[outside[0], outside[1], "--listener", "submission"], terri, bob, 1, "denied: login_required"),
        (&outside, terri, "a%b@proseware.example", 1, "denied: routing_syntax"),
        (&[outside[0], outside[1], "--login", "nobody"], terri, bob, 2, "no tenant has a login"),
        (&[outside[0], outside[1], "--grant", "terri"], terri, bob, 0, "accepted"),
        (&[outside[0], outside[1], "--grant", "terri"], "x@adatum.example", bob, 1, "denied: "),
        (&[outside[0], outside[1], "--grant", "nobody"], terri, bob, 2, "no tenant has a login"),
        (&[outside[0], outside[1], "--listener", "pop"], terri, bob, 2, "there is smtp, submission"),
    ];
    for (options, from, to, code, text) in cases {
        let arguments = [&["explain"], options, &["--from", from, "--to", to]].concat();
        let output = files.run(&arguments);
        let printed = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {printed}");
        assert!(printed.contains(text), "{arguments:?}: {printed}");
    }
    let output = files.run(&["explain", "--client", "nowhere", "--from", terri, "--to", bob]);
    assert_eq!(output.status.code(), Some(2), "usage");
}

#[test]
fn explain_names_the_line_the_reply_and_the_remedy() {
    let files = files();
    let output = files.run(&[
        "explain",
        "--json",
        "--client",
        "203.0.113.9",
        "--from",
        "terri@proseware.example",
        "--to",
        "bob@adatum.example",
    ]);
    let value: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(value["verdict"], "deny");
    assert_eq!(value["reason"], "relay_not_permitted");
    assert!(value["remedy"].as_str().unwrap().contains("proseware.toml:1"), "{value}");
    assert!(value["reply"][1].as_str().unwrap().contains("postmaster@relay.example"), "{value}");
}

#[test]
fn explain_says_what_only_a_running_gateway_can_ask() {
    let files = files();
    files.change(
        "gatepost.toml",
        "[[route]]\nrecipient_domains = [\"*\"]\nnext_hops = [\"127.0.0.1:9\"]\n",
        "[[lists.dnsbl]]\nzone = \"zen.example\"\nname = \"Zen\"\n",
    );
    let asked = "[[relay_domain]]\ndomains = [\"proseware.example\"]\nnext_hops = [\"127.0.0.1:9\"]\n\
                 recipients = \"call-ahead\"\n[[identity]]";
    files.change("tenants/proseware.toml", "[[identity]]", asked);
    let by_list = ("dnsbl", "whether a DNS list holds 203.0.113.9: Zen");
    let by_hop = ("call_ahead", "whether the next hop knows <kim@proseware.example>: 127.0.0.1:9");
    let by_dns = ("domain_exists", "whether DNS knows adatum.example and it takes mail");
    let (terri, kim, bob) = ("terri@proseware.example", "kim@proseware.example", "bob@adatum.example");
    for (client, from, to, code, asked) in [
        ("203.0.113.9", bob, kim, 0, &[by_list, by_hop][..]),
        ("198.51.100.7", terri, kim, 0, &[by_hop]),
        ("198.51.100.7", terri, bob, 0, &[by_dns]),
        ("203.0.113.9", terri, bob, 1, &[]),
    ] {
        let question = ["explain", "--client", client, "--from", from, "--to", to];
        let output = files.run(&question);
        // Broken between words; of each question a line is as good as another.
        let text = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(code), "{text}{}", stderr(&output));
        assert_eq!(text.contains("Only a running gateway can ask"), !asked.is_empty(), "{text}");
        let json: serde_json::Value =
            serde_json::from_str(&stdout(&files.run(&[&question[..], &["--json"]].concat()))).unwrap();
        let told = json["asked_live"].as_array().unwrap();
        let told: Vec<_> = told.iter().map(|asked| [&asked["rule"], &asked["question"]]).collect();
        assert_eq!(told, asked.iter().map(|(rule, text)| [*rule, *text]).collect::<Vec<_>>());
        assert!(asked.iter().all(|(_, question)| text.contains(question)), "{text}");
    }
}

#[test]
fn nothing_that_explain_prints_breaks_inside_a_word_at_eighty_columns() {
    let files = files();
    let (terri, bob) = ("terri@proseware.example", "bob@adatum.example");
    for client in ["198.51.100.7", "203.0.113.9"] {
        let mut command = gatepost();
        command.args(["explain", "--client", client, "--from", terri, "--to", bob]).env_remove("COLUMNS");
        let output = command.arg("--config").arg(files.node()).output().unwrap();
        let text = stdout(&output);
        assert!(!text.is_empty());
        assert_eq!(testbed::terminal::misfits(&text), [""; 0], "{text}");
    }
}

#[test]
fn credentials_fit_their_password_and_are_taken_by_check() {
    let mut child = gatepost().arg("password").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"correct horse\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let lines = stdout(&output);
    let credentials: Vec<&str> = lines.lines().map(|line| line.split('"').nth(1).unwrap()).collect();
    assert_eq!(credentials.len(), 2, "{lines}");
    for credential in credentials {
        assert!(control::password::verify(credential, "correct horse"), "{credential}");
        assert!(!control::password::verify(credential, "correct horse\n"));
    }

    let files = files();
    let start = TENANT.find("password = \"$argon2").unwrap();
    let end = start + TENANT[start..].find('\n').unwrap();
    files.change("tenants/proseware.toml", &TENANT[start..end], lines.trim_end());
    assert_eq!(files.run(&["check"]).status.code(), Some(0));
}

#[test]
fn an_empty_password_is_refused() {
    let output = gatepost().arg("password").stdin(Stdio::null()).output().unwrap();
    assert_one_error(&output, &["the password is empty"]);
}

#[test]
fn a_spool_that_is_not_there_is_said_to_be_missing() {
    let files = files();
    for command in ["list", "verify"] {
        assert_one_error(
            &files.run(&["spool", command]),
            &["there is no spool at", "start the gateway once"],
        );
    }
}

#[test]
fn the_demo_shows_each_situation_and_ends_well() {
    let output = gatepost().args(["demo", "--once"]).stdin(Stdio::null()).output().unwrap();
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    for part in [
        "A trusted network relays",
        "relaying not permitted for 127.0.0.9",
        "; ticket ",
        "To have it accepted:",
        "TLS 1.3 from here on",
        "denied: sender_not_owned",
        "| .A line may begin with a dot.",
        "3 accepted and delivered, 3 denied",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colour outside a terminal");
}
