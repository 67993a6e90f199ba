//! Line endings that must never end a message (`cases/smuggling.md`), from every kind of client.

use testbed::gateway::http_get;
use testbed::net::PATIENCE;
use testbed::proseware::{self, AUTH_PLAIN, HOTEL, INSIDE, LOGIN};
use testbed::{Destination, Dialog, Gateway, Rules, message};

const BOB: &str = "bob@adatum.example";

const ENDINGS: [&[u8]; 12] = [
    b"\n.\n",
    b"\n.\r",
    b"\r.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
];

/// What an accomplice would like to be read as commands.
const SECOND: &str = "MAIL FROM:<terri@proseware.example>\r\nRCPT TO:<victim@adatum.example>\r\nDATA\r\n\
                      Subject: smuggled\r\n\r\nsmuggled";

/// A clean message, for after each case: the session goes on in step.
const CLEAN: &[u8] = b"Subject: clean\r\n\r\n.a dot\r\nthe end\r\n";

fn case(ending: &[u8]) -> Vec<u8> {
    [b"Subject: case\r\n\r\nfirst", ending, SECOND.as_bytes(), b"\r\n.\r\n"].concat()
}

/// Sends every case, whole and byte by byte, each followed by a clean message in the same session.
fn try_every_ending(
    gateway: &Gateway,
    destination: &Destination,
    recipient: &str,
    connect: impl Fn() -> Dialog,
) {
    let mut refused = 0;
    let mut clean = 0;
    for ending in ENDINGS {
        for is_whole in [true, false] {
            let mut dialog = connect();
            begin(&mut dialog, recipient);
            let wire = case(ending);
            let step = if is_whole { wire.len() } else { 1 };
            wire.chunks(step).for_each(|piece| dialog.send(piece));
            let reply = dialog.reply().expect("a message is answered");
            if reply.code == 250 {
                assert!(!holds_bare_newline(&case(ending)), "{ending:?} was accepted");
            } else {
                assert_eq!(reply.code, 550, "{ending:?}: {reply:?}");
                assert!(reply.lines[0].starts_with("5.6.11 "), "{ending:?}: {reply:?}");
                refused += 1;
            }
            // One message, one reply: the next one belongs to the next command.
            begin(&mut dialog, recipient);
            dialog.send(message::to_wire(CLEAN));
            dialog.expect(250);
            clean += 1;
            dialog.command("QUIT", 221);
            assert_eq!(dialog.expect_end(), b"", "{ending:?}: more was answered than was asked");
        }
    }
    let is_complete = destination.wait_until(PATIENCE, |arrivals| arrivals.len() >= clean);
    assert!(is_complete, "{} of {clean} clean messages arrived", destination.count());
    gateway.wait_metric("gatepost_queue_recipients", 0.0);
    for content in destination.contents() {
        assert!(!holds_bare_newline(&content), "left the gateway: {:?}", String::from_utf8_lossy(&content));
        assert_eq!(message::without_trace(&content), CLEAN);
    }
    assert_eq!(destination.count(), clean, "something else left the gateway");
    assert_eq!(refusals(gateway), refused);
}

fn begin(dialog: &mut Dialog, recipient: &str) {
    dialog.command(&format!("MAIL FROM:<{LOGIN}>"), 250);
    dialog.command(&format!("RCPT TO:<{recipient}>"), 250);
    dialog.command("DATA", 354);
}

fn refusals(gateway: &Gateway) -> usize {
    let (_, metrics) = http_get(gateway.configuration().metrics, "/metrics").expect("the metrics are served");
    let lines = metrics.lines().filter(|line| line.starts_with("gatepost_relay_denials_total{"));
    let counts = lines.filter(|line| line.contains("reason=\"bare_newline\"")).map(|line| {
        assert!(line.contains("tenant=\"proseware\""), "{line}");
        line.rsplit(' ').next().and_then(|value| value.parse::<usize>().ok()).expect("a sample is a count")
    });
    counts.sum()
}

/// A CR or an LF without the other, or a NUL.
fn holds_bare_newline(text: &[u8]) -> bool {
    (0..text.len()).any(|at| match text[at] {
        0 => true,
        b'\n' => at == 0 || text[at - 1] != b'\r',
        b'\r' => text.get(at + 1) != Some(&b'\n'),
        _ => false,
    })
}

fn keeping_destination() -> Destination {
    Destination::with_rules(Rules { keep_content: true, ..Rules::default() })
}

#[test]
fn a_stranger_smuggles_nothing_into_a_relay_domain() {
    let (own_mail, elsewhere) = (keeping_destination(), Destination::start());
    let configuration = proseware::configuration(own_mail.address(), elsewhere.address());
    let gateway = Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration);
    let smtp = gateway.smtp();
    try_every_ending(&gateway, &own_mail, LOGIN, || Dialog::hello_from(HOTEL, smtp));
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn the_tenants_own_network_is_not_exempt() {
    let (own_mail, elsewhere) = (Destination::start(), keeping_destination());
    let configuration = proseware::configuration(own_mail.address(), elsewhere.address());
    let gateway = Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration);
    let smtp = gateway.smtp();
    try_every_ending(&gateway, &elsewhere, BOB, || Dialog::hello_from(INSIDE, smtp));
}

#[test]
fn a_login_is_not_exempt() {
    let (own_mail, elsewhere) = (Destination::start(), keeping_destination());
    let mut configuration = proseware::configuration(own_mail.address(), elsewhere.address());
    let submission = proseware::listen_for_clear_logins(&mut configuration);
    let gateway = Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration);
    try_every_ending(&gateway, &elsewhere, BOB, || {
        let mut dialog = Dialog::hello_from(HOTEL, submission);
        dialog.command(AUTH_PLAIN, 235);
        dialog
    });
}
