//! Real mail by a real client: swaks, through STARTTLS and AUTH PLAIN; and messages too large to hold.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testbed::message::{to_wire, without_trace};
use testbed::proseware::{self, INSIDE, LOGIN, PASSWORD};
use testbed::{Destination, Dialog, Fingerprint, Gateway, Rules, tools};

const BOB: &str = "bob@adatum.example";

/// What the gateway may hold at its peak, whatever is sent through it.
const MEMORY_BYTES_MAX: u64 = 150 << 20;
const LARGE_BYTES: usize = 60 << 20;
/// A debug build carries 60 MiB in and out.
const LARGE_PATIENCE: Duration = Duration::from_secs(120);

/// A gateway, the destination of its outgoing mail, and its submission listener.
fn start(keep_content: bool) -> (Gateway, Destination, SocketAddr) {
    let elsewhere = Destination::with_rules(Rules { keep_content, ..Rules::default() });
    let mut configuration = proseware::configuration(elsewhere.address(), elsewhere.address());
    let submission = configuration.listen("submission", "submission", "required");
    (Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration), elsewhere, submission)
}

/// Multipart with 8-bit text, a line of 5,000 octets, lines that begin with dots, and an attachment.
fn mime_message(attachment_bytes: usize) -> Vec<u8> {
    let mut message = format!(
        "From: Terri <{LOGIN}>\r\nTo: <{BOB}>\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n\
         Date: Mon, 01 Jun 2026 12:00:00 +0000\r\nMessage-ID: <swaks.1@proseware.example>\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_border\"\r\n\r\n\
         This is a message in several parts.\r\n--=_border\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         Gr\u{fc}\u{df}e aus M\u{fc}nchen, \u{4f60}\u{597d}.\r\n\
         .\r\n..\r\n.one dot\r\n..two dots\r\n...\r\n\r\n{}\r\n\
         a space at the end \r\n\ta tab before\r\n--=_border\r\n\
         Content-Type: application/octet-stream; name=\"noise.bin\"\r\n\
         Content-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment; filename=\"noise.bin\"\r\n\r\n",
        "0123456789".repeat(500)
    )
    .into_bytes();
    let end = message.len() + attachment_bytes;
    let mut number = 0_u64;
    while message.len() < end {
        message.extend_from_slice(format!("{number:072x}AAAA\r\n").as_bytes());
        number += 1;
    }
    message.extend_from_slice(b"\r\n--=_border--\r\n");
    message
}

/// Sends `message` with swaks; false where swaks cannot do what the test needs.
fn swaks(test: &str, submission: SocketAddr, message: &[u8], directory: &Path) -> bool {
    let Some(program) = tools::find("swaks", test) else { return false };
    let support = Command::new(&program).arg("--support").output().expect("swaks runs");
    if !String::from_utf8_lossy(&support.stdout).contains("=== TLS supported") {
        tools::skip(test, "swaks does no TLS here: Perl's Net::SSLeay is not installed (libnet-ssleay-perl)");
        return false;
    }
    let file = directory.join("message.eml");
    // swaks ends the last line by itself.
    let text = message.strip_suffix(b"\r\n").expect("a message ends in CRLF");
    fs::write(&file, text).expect("the test folder can be written");
    let output = Command::new(program)
        .args(["--server", &submission.ip().to_string(), "--port", &submission.port().to_string()])
        .args(["--ehlo", "client.example", "--from", LOGIN, "--to", BOB, "--tls"])
        .args(["--auth", "PLAIN", "--auth-user", LOGIN, "--auth-password", PASSWORD])
        .args(["--suppress-data", "--data"])
        .arg(format!("@{}", file.display()))
        .output()
        .expect("swaks runs");
    let transcript = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "swaks: {}\n{transcript}\n{errors}", output.status);
    true
}

#[test]
fn a_mime_message_by_starttls_and_auth_plain_arrives_byte_for_byte() {
    let (gateway, elsewhere, submission) = start(true);
    let message = mime_message(200_000);
    if !swaks("a MIME message by swaks", submission, &message, gateway.directory()) {
        return;
    }
    let arrivals = elsewhere.wait_for(1);
    assert_eq!(
        (arrivals[0].reverse_path.as_str(), arrivals[0].recipients.as_slice()),
        (LOGIN, &[BOB.to_owned()][..])
    );
    let content = elsewhere.contents().remove(0);
    let field = &content[..content.len() - without_trace(&content).len()];
    let field = std::str::from_utf8(field).expect("our own header is text");
    for word in [
        "from client.example ([127.0.0.1])",
        "by relay.proseware.example with ESMTPSA id ",
        "for <bob@adatum.example>",
    ] {
        assert!(field.contains(word), "{field:?} lacks {word:?}");
    }
    assert!(without_trace(&content) == message, "what arrived is not what was sent");
}

#[test]
fn sixty_mebibytes_by_swaks_arrive_whole_in_bounded_memory() {
    let (gateway, elsewhere, submission) = start(false);
    let message = mime_message(LARGE_BYTES);
    if swaks("60 MiB by swaks", submission, &message, gateway.directory()) {
        arrives_in_bounded_memory(&gateway, &elsewhere, &message);
    }
}

#[test]
fn sixty_mebibytes_in_one_line_arrive_whole_in_bounded_memory() {
    let (gateway, elsewhere, _) = start(false);
    let mut message = b"Subject: one line\r\n\r\n".to_vec();
    message.resize(LARGE_BYTES, b'x');
    message.extend_from_slice(b"\r\n");
    let mut dialog = Dialog::hello_from(INSIDE, gateway.smtp());
    dialog.command(&format!("MAIL FROM:<{LOGIN}> SIZE={}", message.len()), 250);
    dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
    dialog.command("DATA", 354);
    dialog.send(to_wire(&message));
    dialog.expect(250);
    arrives_in_bounded_memory(&gateway, &elsewhere, &message);
}

#[test]
fn the_bounce_of_a_large_message_quotes_its_header() {
    let refuse = |to: &str| to.starts_with("bob@").then(|| "550 5.1.1 nobody of that name".to_owned());
    let rules = Rules { keep_content: true, recipient: Some(Box::new(refuse)), ..Rules::default() };
    let elsewhere = Destination::with_rules(rules);
    let configuration = proseware::configuration(elsewhere.address(), elsewhere.address());
    let gateway = Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration);
    let message = mime_message(3 << 20);
    let header = message.split_inclusive(|&byte| byte == b'\n').take_while(|line| *line != b"\r\n");
    let header: Vec<u8> = header.collect::<Vec<_>>().concat();
    // With its size said it goes to a file from its first pieces on, else when it outgrows memory.
    for (count, size) in [(1, String::new()), (2, format!(" SIZE={}", message.len()))] {
        let mut dialog = Dialog::hello_from(INSIDE, gateway.smtp());
        dialog.command(&format!("MAIL FROM:<{LOGIN}>{size}"), 250);
        dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
        dialog.command("RCPT TO:<ann@adatum.example>", 250);
        dialog.command("DATA", 354);
        dialog.send(to_wire(&message));
        dialog.expect(250);
        let (bounces, copies): (Vec<_>, Vec<_>) = {
            elsewhere.wait_for(2 * count);
            elsewhere.contents().into_iter().partition(|content| content.starts_with(b"From: "))
        };
        assert_eq!((bounces.len(), copies.len()), (count, count));
        assert!(
            copies.iter().all(|copy| without_trace(copy) == message),
            "what arrived is not what was sent"
        );
        let quotes = bounces.iter().all(|bounce| bounce.windows(header.len()).any(|part| part == header));
        assert!(quotes, "{}", String::from_utf8_lossy(&bounces[count - 1]));
    }
}

#[track_caller]
fn arrives_in_bounded_memory(gateway: &Gateway, elsewhere: &Destination, message: &[u8]) {
    let has_arrived = elsewhere.wait_until(LARGE_PATIENCE, |arrivals| !arrivals.is_empty());
    assert!(has_arrived, "nothing has arrived:\n{}", gateway.output());
    assert_eq!(elsewhere.arrivals()[0].fingerprint, Fingerprint::of(message));
    let peak = gateway.peak_bytes();
    assert!(peak < MEMORY_BYTES_MAX, "the gateway held {} MiB", peak >> 20);
}
