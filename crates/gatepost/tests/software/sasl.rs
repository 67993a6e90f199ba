//! Other houses' SASL: GNU SASL and what stands on it log in by SCRAM-SHA-256, bound and unbound;
//! swaks by PLAIN and LOGIN, and finds no CRAM.

use std::path::Path;
use std::process::{Command, Stdio};

use testbed::proseware::{self, LOGIN, PASSWORD};
use testbed::tools;

use crate::house::House;

fn house() -> House {
    House::start_with(proseware::take_scram)
}

/// Whether `command` succeeded, and what it said.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.stdin(Stdio::null()).output().expect("the client can be run");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// It binds unless it is told not to, and then takes no mechanism that does not.
fn gsasl(program: &Path, house: &House, mechanism: &[&str], password: &str) -> (bool, String) {
    let certificate = house.gateway.directory().join("tls.crt");
    run(Command::new(program)
        .args(["--client", "--smtp", "--starttls", "--verbose"])
        .arg(format!("--connect=localhost:{}", house.submission.port()))
        .arg(format!("--x509-ca-file={}", certificate.display()))
        .args([format!("--authentication-id={LOGIN}"), format!("--password={password}")])
        .args(mechanism))
}

#[test]
fn gsasl_logs_in_by_scram_bound_and_unbound() {
    let Some(program) = tools::find("gsasl", "logging in by gsasl") else { return };
    let house = house();
    for mechanism in [&["--mechanism=SCRAM-SHA-256-PLUS"][..], &["--mechanism=SCRAM-SHA-256", "--no-cb"]] {
        let (accepted, said) = gsasl(&program, &house, mechanism, PASSWORD);
        assert!(accepted && said.contains("server trusted"), "{mechanism:?}: {said}");
        let (accepted, said) = gsasl(&program, &house, mechanism, "wrong");
        assert!(!accepted && said.contains("535"), "{mechanism:?}: {said}");
    }
}

#[test]
fn msmtp_sends_by_scram() {
    let Some(program) = tools::find("msmtp", "sending by msmtp with SCRAM") else { return };
    let house = house();
    let message = house.gateway.directory().join("message.eml");
    std::fs::write(&message, "Subject: by SCRAM\r\n\r\nHello.\r\n").expect("the test folder can be written");
    let send = |password: &str| {
        let certificate = house.gateway.directory().join("tls.crt");
        run(Command::new("sh")
            .args(["-c", "file=$1; shift; exec \"$@\" < \"$file\"", "sh"])
            .arg(&message)
            .arg(&program)
            .args(["--file=/dev/null", "--host=localhost", "--domain=client.example", "--debug"])
            .args([format!("--port={}", house.submission.port()), format!("--from={LOGIN}")])
            .args(["--auth=scram-sha-256", "--tls=on", "--tls-starttls=on"])
            .args([format!("--user={LOGIN}"), format!("--passwordeval=echo '{password}'")])
            .arg(format!("--tls-trust-file={}", certificate.display()))
            .arg("bob@adatum.example"))
    };
    let (sent, said) = send("wrong");
    assert!(!sent && said.contains("535"), "{said}");
    let (sent, said) = send(PASSWORD);
    assert!(sent, "{said}");
    assert_eq!(house.elsewhere.wait_for(1)[0].reverse_path, LOGIN);
}

#[test]
fn swaks_logs_in_by_plain_and_login_and_finds_no_cram() {
    let Some(program) = tools::find("swaks", "logging in by swaks") else { return };
    let house = house();
    let login = |mechanism: &str, password: &str| {
        run(Command::new(&program)
            .args(["--server", "127.0.0.1", "--port", &house.submission.port().to_string()])
            .args(["--ehlo", "client.example", "--tls", "--from", LOGIN, "--to", "bob@adatum.example"])
            .args(["--auth", mechanism, "--auth-user", LOGIN, "--auth-password", password])
            .args(["--quit-after", "AUTH"]))
    };
    for mechanism in ["PLAIN", "LOGIN"] {
        let (accepted, said) = login(mechanism, PASSWORD);
        assert!(accepted && said.contains("235 2.7.0"), "{mechanism}: {said}");
        let (accepted, said) = login(mechanism, "wrong");
        assert!(!accepted && said.contains("535"), "{mechanism}: {said}");
    }
    let (accepted, said) = login("CRAM-MD5", PASSWORD);
    assert!(!accepted && !said.contains("235 2.7.0"), "{said}");
}
