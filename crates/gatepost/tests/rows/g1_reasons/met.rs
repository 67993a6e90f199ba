//! How each reason is met with over a socket, and the houses in which it is.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use testbed::dialog::Reply;
use testbed::net::{PATIENCE, eventually, free_address};
use testbed::proseware::{self, AUTH_PLAIN, HOTEL, INSIDE, LOGIN, WORK};
use testbed::{Configuration, Dialog};

use super::{BOB, KIM, begin};
use crate::g2_explanations::open_to_questions;
use crate::house::{House, Secure};
use crate::tenant::{auth, write_login, write_sections};

const ANN: &str = "ann@contoso.example";
/// `AUTH PLAIN` with a wrong password.
const AUTH_WRONG: &str = "AUTH PLAIN AHRlcnJpQHByb3Nld2FyZS5leGFtcGxlAHdyb25n";

/// Reason and the rule that gives it; the label of the tenant concerned; how to meet with it over a
/// socket: every refusal for this reason that there was.
pub(super) type Row = (&'static str, &'static str, &'static str, fn(&Place) -> Vec<Reply>);

/// Met with in a house of three tenants whose limits are soon reached.
pub(super) const IN_A_HOUSE: &[Row] = &[
    ("relay_not_permitted", "responsibility", "none", |at| at.recipient(HOTEL, KIM, BOB, 550)),
    ("routing_syntax", "routing_syntax", "none", |at| {
        at.recipient(HOTEL, KIM, "bob%adatum.example@proseware.example", 550)
    }),
    ("recipient_unknown", "recipient", "proseware", |at| {
        at.recipient(HOTEL, KIM, "nobody@listed.example", 550)
    }),
    ("recipient_unverified", "call_ahead", "proseware", |at| {
        at.recipient(HOTEL, KIM, "kim@asked.example", 451)
    }),
    ("sender_not_owned", "sender", "proseware", |at| at.recipient(INSIDE, "kim@fabrikam.example", BOB, 553)),
    ("sender_not_owned", "sender", "fabrikam", |at| {
        at.recipient(HOTEL, "ann@fabrikam.example", "kim@fabrikam.example", 553)
    }),
    ("second_tenant", "one_tenant", "fabrikam", |at| {
        let mut dialog = at.begin(INSIDE, KIM);
        dialog.command(&format!("RCPT TO:<{LOGIN}>"), 250);
        vec![dialog.command("RCPT TO:<ann@fabrikam.example>", 452)]
    }),
    ("too_many_recipients", "recipient_count", "proseware", |at| {
        let mut dialog = at.begin(INSIDE, KIM);
        for number in 0..3 {
            dialog.command(&format!("RCPT TO:<user{number}@adatum.example>"), 250);
        }
        vec![dialog.command(&format!("RCPT TO:<{BOB}>"), 452)]
    }),
    ("message_too_large", "message_size", "proseware", |at| {
        let content = format!("Subject: large\r\n\r\n{}", "all too much\r\n".repeat(500));
        at.message(INSIDE, KIM, &content, 552)
    }),
    ("bare_newline", "line_ending", "proseware", |at| {
        at.message(INSIDE, KIM, "Subject: x\r\n\r\none\ntwo\r\n", 550)
    }),
    ("loop_detected", "loop", "proseware", |at| {
        let content = format!("{}Subject: x\r\n\r\nround\r\n", "Received: by a\r\n".repeat(60));
        at.message(INSIDE, KIM, &content, 554)
    }),
    ("header_from_not_owned", "header_from", "contoso", |at| {
        at.message(contoso(1), ANN, "From: boss@adatum.example\r\n\r\nx\r\n", 550)
    }),
    ("login_required", "login", "none", |at| {
        let mut client = Secure::start(HOTEL, at.house.submission, &at.house.gateway);
        vec![client.command(&format!("MAIL FROM:<{KIM}>"), 530)]
    }),
    ("login_required", "strict_login", "fabrikam", |at| {
        at.recipient(fabrikam(1), "ann@fabrikam.example", BOB, 530)
    }),
    ("tls_required", "tls", "none", |at| {
        vec![Dialog::hello_from(HOTEL, at.house.submission).command(&format!("MAIL FROM:<{KIM}>"), 530)]
    }),
    ("tls_required", "tls", "none", |at| {
        vec![Dialog::hello_from(HOTEL, at.house.submission).command(AUTH_PLAIN, 538)]
    }),
    ("login_failed", "credential", "none", |at| {
        vec![Secure::start(HOTEL, at.house.submission, &at.house.gateway).command(AUTH_WRONG, 535)]
    }),
    ("login_locked", "login_lock", "none", |at| {
        let mut client = Dialog::hello_from(WORK, at.clear);
        client.command(AUTH_WRONG, 535);
        client.command(AUTH_WRONG, 535);
        vec![client.command(AUTH_PLAIN, 454)]
    }),
    ("client_blocked", "client_list", "none", |at| {
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 3, 66));
        vec![Dialog::connect_from(source, at.house.gateway.smtp()).expect(554)]
    }),
    ("sender_blocked", "sender_list", "proseware", |at| {
        at.recipient(HOTEL, "spam@adatum.example", LOGIN, 554)
    }),
    ("recipient_blocked", "recipient_list", "proseware", |at| {
        at.recipient(INSIDE, KIM, "trap@adatum.example", 554)
    }),
    ("rate_limited", "rate", "contoso", |at| {
        at.message(contoso(2), ANN, FROM_ANN, 250);
        let mut dialog = at.house.connect(contoso(2));
        vec![dialog.command(&format!("MAIL FROM:<{ANN}>"), 450)]
    }),
    ("quota_exceeded", "rate", "contoso", |at| {
        let mut dialog = at.begin(contoso(3), ANN);
        dialog.command("RCPT TO:<eve@adatum.example>", 250);
        dialog.command("RCPT TO:<ann@adatum.example>", 250);
        vec![dialog.command(&format!("RCPT TO:<{BOB}>"), 452)]
    }),
    ("connection_limit", "connections", "contoso", |at| {
        let _first = at.house.connect(contoso(4));
        vec![Dialog::connect_from(contoso(4), at.house.gateway.smtp()).expect(421)]
    }),
    ("client_suspended", "suspension", "contoso", |at| {
        at.suspend(&["contoso", "--client", &contoso(5).to_string()]);
        vec![at.house.connect(contoso(5)).command(&format!("MAIL FROM:<{ANN}>"), 550)]
    }),
    ("identity_suspended", "suspension", "proseware", |at| {
        let mut client = Dialog::hello_from(HOTEL, at.clear);
        client.command(&auth("held@proseware.example"), 235);
        at.suspend(&["proseware", "--login", "held@proseware.example"]);
        vec![client.command("MAIL FROM:<held@proseware.example>", 550)]
    }),
    ("tenant_suspended", "suspension", "contoso", |at| {
        at.suspend(&["contoso"]);
        vec![at.house.connect(contoso(6)).command(&format!("MAIL FROM:<{ANN}>"), 550)]
    }),
    ("mechanism_withdrawn", "credential", "none", |at| {
        let mut client = Dialog::hello_from(HOTEL, at.clear);
        client.command("AUTH SCRAM-SHA-256", 334);
        at.withdraw_scram();
        vec![client.command(&BASE64_STANDARD.encode(format!("n,,n={LOGIN},r=nonce")), 454)]
    }),
];

/// Met with where DNS is asked: a null MX, a missing domain and a list that holds the client.
pub(super) const BY_DNS: &[Row] = &[
    ("recipient_domain_missing", "domain_exists", "proseware", |at| {
        at.recipient(INSIDE, KIM, "bob@missing.example", 550)
    }),
    ("recipient_domain_no_mail", "domain_exists", "proseware", |at| {
        at.recipient(INSIDE, KIM, "bob@nomail.example", 556)
    }),
    ("client_blocked", "dnsbl", "proseware", |at| at.recipient(WORK, BOB, LOGIN, 554)),
];

/// Met with where the smallest spool that there is has a large message on its way.
pub(super) const IN_A_FULL_SPOOL: &[Row] = &[("spool_full", "spool", "proseware", |at| {
    let mut large = at.house.connect(INSIDE);
    large.command(&format!("MAIL FROM:<{KIM}>"), 250);
    large.command(&format!("RCPT TO:<{BOB}>"), 250);
    large.command("DATA", 354);
    let piece = "all too much\r\n".repeat(50_000);
    for _ in 0..100 {
        large.send(&piece);
    }
    // Whose a client is, the network says, or the login; of a stranger, nothing does.
    let inside = Place::refused_by_the_spool(|| at.house.connect(INSIDE));
    let login = Place::refused_by_the_spool(|| {
        let mut login = Dialog::hello_from(HOTEL, at.clear);
        login.command(AUTH_PLAIN, 235);
        login
    });
    let nobodys = ["reason=\"spool_full\"", "tenant=\"none\""];
    assert_eq!(at.house.denials(&nobodys), 0);
    Place::refused_by_the_spool(|| at.house.connect(HOTEL));
    assert_eq!(at.house.denials(&nobodys), 1);
    // Only now may the large message go.
    drop(large);
    vec![inside, login]
})];

/// Met with where the file of the spool takes no more, as the system says it.
pub(super) const IN_A_BROKEN_SPOOL: &[Row] = &[("spool_failed", "spool", "proseware", |at| {
    // What is written from here on lies past the limit, and nothing else that the gateway writes does.
    let lines = "a line of sixty-four octets, as most of the lines of a mail are.\r\n".repeat(14_000);
    for _ in 0..12 {
        at.house.connect(INSIDE).deliver(KIM, &[BOB], lines.as_bytes());
    }
    // Zeros that fail are no broken spool, only one that does not grow: it would say that it has no room.
    assert!(eventually(PATIENCE, || segments_are_ready(at)), "the next segments do not come");
    let pid = at.house.gateway.pid().to_string();
    let limit = Command::new("prlimit").args(["--pid", &pid, "--fsize=8388608"]).status();
    assert!(limit.is_ok_and(|status| status.success()), "prlimit fails");
    at.message(INSIDE, KIM, "Subject: x\r\n\r\nlost\r\n", 451)
})];

/// Met with where more logins come at once than can wait for the threads that look at passwords.
pub(super) const IN_A_CROWD: &[Row] = &[("login_busy", "credential", "none", |at| {
    const WAITING: usize = 64;
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
    let mut crowd: Vec<_> = (0..2 * WAITING + threads).map(|_| Dialog::hello_from(HOTEL, at.clear)).collect();
    for client in &mut crowd {
        client.send(format!("{}\r\n", auth("slow@proseware.example")));
    }
    let answers = crowd.iter_mut().map(|client| client.reply().expect("every login is answered"));
    let busy: Vec<_> = answers.filter(|answer| answer.code == 454).collect();
    assert!(!busy.is_empty(), "all were looked at");
    busy
})];

/// Nothing is prepared any more: the segment that is written has two behind it.
fn segments_are_ready(at: &Place) -> bool {
    let shard = at.house.gateway.directory().join("spool/shard-000");
    let names = fs::read_dir(&shard).unwrap_or_else(|error| panic!("{}: {error}", shard.display()));
    let names: Vec<_> = names.map(|entry| entry.expect("it is read").file_name()).collect();
    let segments = names.iter().filter(|name| name.to_string_lossy().ends_with(".log")).count();
    segments == 3 && names.iter().all(|name| name != "segment.tmp")
}

const FROM_ANN: &str = "From: ann@contoso.example\r\nSubject: x\r\n\r\nhello\r\n";

/// In the network of contoso, where each address has its own limits.
fn contoso(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 5, last))
}

/// In the network of fabrikam, which must log in all the same.
fn fabrikam(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 6, last))
}

/// A house, and where it takes logins in the clear.
pub(super) struct Place {
    pub(super) house: House,
    pub(super) clear: SocketAddr,
}

impl Place {
    pub(super) fn open(change: impl FnOnce(&mut Configuration)) -> Self {
        let mut clear = None;
        let house = House::start_with(|configuration| {
            open_to_questions(configuration);
            clear = Some(proseware::listen_for_clear_logins(configuration));
            change(configuration);
        });
        Self { house, clear: clear.expect("the listener was added") }
    }

    #[track_caller]
    fn begin(&self, source: IpAddr, from: &str) -> Dialog {
        begin(&self.house, source, from)
    }

    #[track_caller]
    fn recipient(&self, source: IpAddr, from: &str, to: &str, code: u16) -> Vec<Reply> {
        vec![self.begin(source, from).command(&format!("RCPT TO:<{to}>"), code)]
    }

    #[track_caller]
    fn message(&self, source: IpAddr, from: &str, content: &str, code: u16) -> Vec<Reply> {
        let mut dialog = self.begin(source, from);
        dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
        dialog.command("DATA", 354);
        dialog.send(format!("{content}.\r\n"));
        vec![dialog.expect(code)]
    }

    /// The answer to the first MAIL that finds the spool full.
    #[track_caller]
    fn refused_by_the_spool(connect: impl Fn() -> Dialog) -> Reply {
        let mut reply = None;
        let is_full = eventually(PATIENCE, || {
            let mut dialog = connect();
            dialog.send(format!("MAIL FROM:<{KIM}>\r\n"));
            reply = dialog.reply().filter(|reply| reply.code == 452);
            reply.is_some()
        });
        assert!(is_full, "the spool always has room");
        reply.expect("just found")
    }

    fn suspend(&self, whom: &[&str]) {
        let output = Command::new(env!("CARGO_BIN_EXE_gatepost"))
            .args(["tenants", "suspend"])
            .args(whom)
            .arg("--config")
            .arg(self.house.gateway.config_path())
            .output()
            .expect("the program runs");
        assert!(output.status.success(), "{output:?}");
    }

    /// Takes the only verifier away, by a reload.
    fn withdraw_scram(&self) {
        let file = self.house.gateway.directory().join("tenants/proseware.toml");
        let text = fs::read_to_string(&file).expect("the file was written");
        let kept: String = text.split_inclusive('\n').filter(|line| !line.starts_with("scram = ")).collect();
        assert_ne!(kept, text, "there was a verifier");
        fs::write(file, kept).expect("the test folder can be written");
        let generation = self.house.gateway.metric("gatepost_policy_generation");
        self.house.gateway.signal("HUP");
        self.house.gateway.wait_metric("gatepost_policy_generation", generation + 1.0);
    }
}

/// The three tenants, and lists that block a client, a sender and a recipient.
pub(super) fn three_tenants(configuration: &mut Configuration) {
    let (next_hop, nobody) = (configuration.next_hop, free_address());
    proseware::take_scram(configuration);
    write_login(configuration, "held@proseware.example", "");
    write_sections(
        configuration,
        &format!(
            "\n[[relay_domain]]\ndomains = [\"listed.example\"]\nnext_hops = [\"{next_hop}\"]\ntls = \"off\"\n\
             recipients = \"../listed.txt\"\n\n\
             [[relay_domain]]\ndomains = [\"asked.example\"]\nnext_hops = [\"{nobody}\"]\ntls = \"off\"\n\
             recipients = \"call-ahead\"\n\n\
             [limits]\nrecipients_per_message = 3\nmessage_size = \"4KiB\"\n"
        ),
    );
    let fabrikam = format!(
        "name = \"fabrikam\"\nnetworks = [\"127.0.6.0/24\"]\nsenders = [\"@fabrikam.example\"]\n\
         login_required = \"always\"\nown_senders_from_strangers = \"deny\"\n\n[[relay_domain]]\n\
         domains = [\"fabrikam.example\"]\nnext_hops = [\"{next_hop}\"]\ntls = \"off\"\n"
    );
    let contoso = "name = \"contoso\"\nnetworks = [\"127.0.5.0/24\"]\nsenders = [\"@contoso.example\"]\n\
                   check_header_from = true\n\n[limits.client]\nconnections = 1\nmessages_per_hour = 1\n\
                   recipients_per_day = 2\n";
    configuration.tenants.push(("fabrikam".into(), fabrikam));
    configuration.tenants.push(("contoso".into(), contoso.into()));
    configuration.node_extra.push_str(
        "\n[login]\nfailures_per_ip = \"2/10m\"\n\n[lists]\nblocked_clients = \"clients.txt\"\n\
         blocked_senders = \"senders.txt\"\nblocked_recipients = \"recipients.txt\"\n",
    );
    for (file, entry) in [
        ("listed.txt", "terri@listed.example\n"),
        ("clients.txt", "127.0.3.66\n"),
        ("senders.txt", "spam@adatum.example\n"),
        ("recipients.txt", "trap@adatum.example\n"),
    ] {
        configuration.files.push((file.into(), entry.into()));
    }
}
