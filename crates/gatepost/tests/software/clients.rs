//! The clients that applications use: each relays when it should and is denied when it should not,
//! and what it tells its user of a denial holds our reason and ticket.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::proseware::{HOTEL, INSIDE, LOGIN, PASSWORD};
use testbed::tools;

use crate::house::House;

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";

/// What a client is asked to do.
struct Attempt<'a> {
    source: IpAddr,
    server: SocketAddr,
    /// TLS is started, and its certificate checked, where there is a login.
    login: bool,
    from: &'a str,
    certificate: &'a Path,
    message: &'a Path,
}

/// A client: whether it sent the message, and what it said.
type Client = fn(&Path, &Attempt<'_>) -> Command;

/// Runs `client` through everything that a client of the house may meet.
fn relays_when_it_should(program: &str, client: Client) {
    let Some(program) = tools::find(program, &format!("relaying by {program}")) else { return };
    let house = House::start();
    let certificate = house.gateway.directory().join("tls.crt");
    let message = house.gateway.directory().join("message.eml");
    std::fs::write(&message, "Subject: by a client\r\n\r\nHello.\r\n")
        .expect("the test folder can be written");
    let (relay, submission) = (house.gateway.smtp(), house.submission);
    let attempt = |source, server, login, from| Attempt {
        source,
        server,
        login,
        from,
        certificate: &certificate,
        message: &message,
    };
    for (arrived, attempt) in
        [(1, attempt(HOTEL, submission, true, LOGIN)), (2, attempt(INSIDE, relay, false, KIM))]
    {
        let (sent, said) = run(client(&program, &attempt));
        assert!(sent, "{said}");
        assert_eq!(house.elsewhere.wait_for(arrived)[arrived - 1].reverse_path, attempt.from);
    }
    for (words, attempt) in [
        (
            "5.7.1 <bob@adatum.example>: relaying not permitted for 127.0.3.9",
            attempt(HOTEL, relay, false, LOGIN),
        ),
        (
            "5.7.1 <kim@proseware.example>: you may not send as this address",
            attempt(HOTEL, submission, true, KIM),
        ),
    ] {
        let (sent, said) = run(client(&program, &attempt));
        assert!(!sent, "it was sent: {said}");
        assert!(said.contains(words), "{said:?} lacks {words:?}");
        assert!(said.contains("ticket "), "{said:?} lacks the ticket");
    }
    let unprotected = attempt(HOTEL, submission, false, LOGIN);
    let (sent, said) = run(client(&program, &unprotected));
    assert!(!sent && said.contains("530"), "{said}");
    house.gateway.wait_metric("gatepost_queue_recipients", 0.0);
    assert_eq!(house.elsewhere.count(), 2);
}

fn run(mut command: Command) -> (bool, String) {
    let output = command.output().expect("the client can be run");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/software/clients").join(name)
}

/// The scripts take their attempt as words: source, port, login or "-", password, certificate, from, to, file.
fn scripted(interpreter: &Path, name: &str, attempt: &Attempt<'_>) -> Command {
    let mut command = Command::new(interpreter);
    command
        .arg(script(name))
        .args([attempt.source.to_string(), attempt.server.port().to_string()])
        .args(if attempt.login { [LOGIN, PASSWORD] } else { ["-", "-"] })
        .arg(attempt.certificate)
        .args([attempt.from, BOB])
        .arg(attempt.message)
        .env("NODE_PATH", "/usr/share/nodejs");
    command
}

#[test]
fn curl_relays_when_it_should() {
    relays_when_it_should("curl", |program, attempt| {
        let mut curl = Command::new(program);
        curl.args(["--silent", "--show-error", "--verbose", "--interface", &attempt.source.to_string()])
            .args(["--mail-from", attempt.from, "--mail-rcpt", BOB])
            .arg("--upload-file")
            .arg(attempt.message);
        if attempt.login {
            curl.args(["--ssl-reqd", "--user", &format!("{LOGIN}:{PASSWORD}"), "--cacert"])
                .arg(attempt.certificate);
        }
        curl.arg(format!("smtp://localhost:{}", attempt.server.port()));
        curl
    });
}

#[test]
fn swaks_relays_when_it_should() {
    relays_when_it_should("swaks", |program, attempt| {
        let mut swaks = Command::new(program);
        swaks
            .args(["--server", "127.0.0.1", "--port", &attempt.server.port().to_string()])
            .args(["--local-interface", &attempt.source.to_string(), "--ehlo", "client.example"])
            .args(["--from", attempt.from, "--to", BOB, "--data"])
            .arg(format!("@{}", attempt.message.display()));
        if attempt.login {
            swaks.args(["--tls", "--auth", "LOGIN", "--auth-user", LOGIN, "--auth-password", PASSWORD]);
        }
        swaks
    });
}

#[test]
fn msmtp_relays_when_it_should() {
    relays_when_it_should("msmtp", |program, attempt| {
        let mut msmtp = Command::new("sh");
        msmtp.args(["-c", "file=$1; shift; exec \"$@\" < \"$file\"", "sh"]).arg(attempt.message).arg(program);
        msmtp
            .args(["--file=/dev/null", "--host=localhost", "--domain=client.example"])
            .arg(format!("--port={}", attempt.server.port()))
            .arg(format!("--source-ip={}", attempt.source))
            .arg(format!("--from={}", attempt.from));
        if attempt.login {
            msmtp
                .args(["--auth=plain", "--tls=on", "--tls-starttls=on", &format!("--user={LOGIN}")])
                .arg(format!("--passwordeval=echo '{PASSWORD}'"))
                .arg(format!("--tls-trust-file={}", attempt.certificate.display()));
        }
        msmtp.arg(BOB);
        msmtp
    });
}

#[test]
fn python_smtplib_relays_when_it_should() {
    relays_when_it_should("python3", |program, attempt| scripted(program, "smtplib_client.py", attempt));
}

#[test]
fn python_aiosmtplib_relays_when_it_should() {
    // Debian's own Python is the one that has Debian's package.
    let python = Path::new("/usr/bin/python3");
    let has_it = Command::new(python).args(["-c", "import aiosmtplib"]).output();
    if !has_it.is_ok_and(|output| output.status.success()) {
        return tools::skip("relaying by aiosmtplib", "python3-aiosmtplib is not installed");
    }
    relays_when_it_should("python3", |_, attempt| {
        scripted(Path::new("/usr/bin/python3"), "aiosmtplib_client.py", attempt)
    });
}

#[test]
fn nodemailer_relays_when_it_should() {
    if !Path::new("/usr/share/nodejs/nodemailer").exists() {
        return tools::skip("relaying by nodemailer", "node-nodemailer is not installed");
    }
    relays_when_it_should("node", |program, attempt| scripted(program, "nodemailer_client.js", attempt));
}
