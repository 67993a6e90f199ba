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
struct Errand<'a> {
    source: IpAddr,
    server: SocketAddr,
    /// TLS is started, and its certificate checked, where there is a login.
    login: bool,
    from: &'a str,
    certificate: &'a Path,
    message: &'a Path,
}

/// A client: whether it sent the message, and what it said.
type Client = fn(&Path, &Errand<'_>) -> Command;

/// Runs `client` through everything that a client of the house may meet.
fn relays_when_it_should(program: &str, client: Client) {
    let Some(program) = tools::find(program, &format!("relaying by {program}")) else { return };
    let house = House::start();
    let certificate = house.gateway.directory().join("tls.crt");
    let message = house.gateway.directory().join("message.eml");
    std::fs::write(&message, "Subject: by a client\r\n\r\nHello.\r\n")
        .expect("the test folder can be written");
    let (relay, submission) = (house.gateway.smtp(), house.submission);
    let errand = |source, server, login, from| Errand {
        source,
        server,
        login,
        from,
        certificate: &certificate,
        message: &message,
    };
    for (arrived, errand) in
        [(1, errand(HOTEL, submission, true, LOGIN)), (2, errand(INSIDE, relay, false, KIM))]
    {
        let (sent, said) = run(client(&program, &errand));
        assert!(sent, "{said}");
        assert_eq!(house.elsewhere.wait_for(arrived)[arrived - 1].reverse_path, errand.from);
    }
    for (words, errand) in [
        (
            "5.7.1 <bob@adatum.example>: relaying not permitted for 127.0.3.9",
            errand(HOTEL, relay, false, LOGIN),
        ),
        (
            "5.7.1 <kim@proseware.example>: you may not send as this address",
            errand(HOTEL, submission, true, KIM),
        ),
    ] {
        let (sent, said) = run(client(&program, &errand));
        assert!(!sent, "it was sent: {said}");
        assert!(said.contains(words), "{said:?} lacks {words:?}");
        assert!(said.contains("ticket "), "{said:?} lacks the ticket");
    }
    let unprotected = errand(HOTEL, submission, false, LOGIN);
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

/// The scripts take their errand as words: source, port, login or "-", password, certificate, from, to, file.
fn scripted(interpreter: &Path, name: &str, errand: &Errand<'_>) -> Command {
    let mut command = Command::new(interpreter);
    command
        .arg(script(name))
        .args([errand.source.to_string(), errand.server.port().to_string()])
        .args(if errand.login { [LOGIN, PASSWORD] } else { ["-", "-"] })
        .arg(errand.certificate)
        .args([errand.from, BOB])
        .arg(errand.message)
        .env("NODE_PATH", "/usr/share/nodejs");
    command
}

#[test]
fn curl_relays_when_it_should() {
    relays_when_it_should("curl", |program, errand| {
        let mut curl = Command::new(program);
        curl.args(["--silent", "--show-error", "--verbose", "--interface", &errand.source.to_string()])
            .args(["--mail-from", errand.from, "--mail-rcpt", BOB])
            .arg("--upload-file")
            .arg(errand.message);
        if errand.login {
            curl.args(["--ssl-reqd", "--user", &format!("{LOGIN}:{PASSWORD}"), "--cacert"])
                .arg(errand.certificate);
        }
        curl.arg(format!("smtp://localhost:{}", errand.server.port()));
        curl
    });
}

#[test]
fn swaks_relays_when_it_should() {
    relays_when_it_should("swaks", |program, errand| {
        let mut swaks = Command::new(program);
        swaks
            .args(["--server", "127.0.0.1", "--port", &errand.server.port().to_string()])
            .args(["--local-interface", &errand.source.to_string(), "--ehlo", "client.example"])
            .args(["--from", errand.from, "--to", BOB, "--data"])
            .arg(format!("@{}", errand.message.display()));
        if errand.login {
            swaks.args(["--tls", "--auth", "LOGIN", "--auth-user", LOGIN, "--auth-password", PASSWORD]);
        }
        swaks
    });
}

#[test]
fn msmtp_relays_when_it_should() {
    relays_when_it_should("msmtp", |program, errand| {
        let mut msmtp = Command::new("sh");
        msmtp.args(["-c", "file=$1; shift; exec \"$@\" < \"$file\"", "sh"]).arg(errand.message).arg(program);
        msmtp
            .args(["--file=/dev/null", "--host=localhost", "--domain=client.example"])
            .arg(format!("--port={}", errand.server.port()))
            .arg(format!("--source-ip={}", errand.source))
            .arg(format!("--from={}", errand.from));
        if errand.login {
            msmtp
                .args(["--auth=plain", "--tls=on", "--tls-starttls=on", &format!("--user={LOGIN}")])
                .arg(format!("--passwordeval=echo '{PASSWORD}'"))
                .arg(format!("--tls-trust-file={}", errand.certificate.display()));
        }
        msmtp.arg(BOB);
        msmtp
    });
}

#[test]
fn python_smtplib_relays_when_it_should() {
    relays_when_it_should("python3", |program, errand| scripted(program, "smtplib_client.py", errand));
}

#[test]
fn python_aiosmtplib_relays_when_it_should() {
    // Debian's own Python is the one that has Debian's package.
    let python = Path::new("/usr/bin/python3");
    let has_it = Command::new(python).args(["-c", "import aiosmtplib"]).output();
    if !has_it.is_ok_and(|output| output.status.success()) {
        return tools::skip("relaying by aiosmtplib", "python3-aiosmtplib is not installed");
    }
    relays_when_it_should("python3", |_, errand| {
        scripted(Path::new("/usr/bin/python3"), "aiosmtplib_client.py", errand)
    });
}

#[test]
fn nodemailer_relays_when_it_should() {
    if !Path::new("/usr/share/nodejs/nodemailer").exists() {
        return tools::skip("relaying by nodemailer", "node-nodemailer is not installed");
    }
    relays_when_it_should("node", |program, errand| scripted(program, "nodemailer_client.js", errand));
}
