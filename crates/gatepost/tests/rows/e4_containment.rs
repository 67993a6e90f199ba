//! E4: a sender that causes a burst of denials, bounces or failed logins is suspended: the login, or
//! the address where there is none, and no other.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;

use testbed::destination::Rules;
use testbed::net::{PATIENCE, eventually};
use testbed::proseware::{self, AUTH_PLAIN, CONTACT, INSIDE, LOGIN, WORK};
use testbed::{Destination, Dialog, Gateway};

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";
const BODY: &[u8] = b"Subject: containment\r\n\r\nHello.\r\n";
/// In the tenant's network, as `INSIDE` is.
const INSIDE_TOO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 6));
/// `AUTH PLAIN` as the login, with another password.
const AUTH_WRONG: &str = "AUTH PLAIN AHRlcnJpQHByb3Nld2FyZS5leGFtcGxlAHdyb25n";

struct House {
    gateway: Gateway,
    clear: SocketAddr,
    elsewhere: Destination,
    _own_mail: Destination,
}

impl House {
    fn start(containment: &str, node_lines: &str) -> Self {
        let refuses = |to: &str| to.contains("nobody").then(|| "550 5.1.1 no such user".to_owned());
        let elsewhere =
            Destination::with_rules(Rules { recipient: Some(Box::new(refuses)), ..Rules::default() });
        let own_mail = Destination::start();
        let mut configuration = proseware::configuration(own_mail.address(), elsewhere.address());
        let clear = proseware::listen_for_clear_logins(&mut configuration);
        configuration.node_extra.push_str(node_lines);
        configuration.tenants[0].1.push_str(&format!("\n[containment]\n{containment}\n"));
        let gateway = Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration);
        Self { gateway, clear, elsewhere, _own_mail: own_mail }
    }

    #[track_caller]
    fn log_in(&self) -> Dialog {
        let mut dialog = Dialog::hello_from(WORK, self.clear);
        dialog.command(AUTH_PLAIN, 235);
        dialog
    }

    fn connect(&self, source: IpAddr) -> Dialog {
        Dialog::hello_from(source, self.gateway.smtp())
    }

    #[track_caller]
    fn has_contained(&self, cause: &str) {
        self.gateway.wait_metric("gatepost_containments_total", 1.0);
        let is_logged = |line: &str| {
            line.contains("\"event\":\"contained\"") && line.contains(&format!("\"cause\":\"{cause}\""))
        };
        let logged = eventually(PATIENCE, || self.gateway.output().lines().any(is_logged));
        assert!(logged, "no record says so:\n{}", self.gateway.output());
    }
}

/// As often denied as the threshold allows, and once more.
#[track_caller]
fn is_denied(dialog: &mut Dialog, from: &str, times: usize) {
    dialog.command(&format!("MAIL FROM:<{from}>"), 250);
    for _ in 0..times {
        dialog.command(&format!("RCPT TO:<{BOB}>"), 553);
    }
    dialog.command("RSET", 250);
}

#[test]
fn a_burst_of_denials_suspends_the_login_in_its_open_transactions_too_and_nobody_else() {
    let house = House::start("denials = \"3/10m\"", "");
    let mut open = house.log_in();
    open.command(&format!("MAIL FROM:<{LOGIN}>"), 250);
    let mut ready = house.log_in();
    ready.command(&format!("MAIL FROM:<{LOGIN}>"), 250);
    ready.command(&format!("RCPT TO:<{BOB}>"), 250);
    let mut dialog = house.log_in();
    is_denied(&mut dialog, "ceo@proseware.example", 3);
    dialog.deliver(LOGIN, &[BOB], BODY);
    is_denied(&mut dialog, "ceo@proseware.example", 1);
    let reply = dialog.command(&format!("MAIL FROM:<{LOGIN}>"), 550);
    assert!(reply.lines[0].starts_with("5.7.1 the login is suspended: until "), "{reply:?}");
    assert!(reply.lines[1].starts_with(&format!("5.7.1 write to {CONTACT}; ticket ")), "{reply:?}");
    let reply = open.command(&format!("RCPT TO:<{BOB}>"), 550);
    assert!(
        reply.lines[0].starts_with(&format!("5.7.1 <{BOB}>: the login is suspended: until ")),
        "{reply:?}"
    );
    let reply = ready.command("DATA", 550);
    assert!(reply.lines[0].starts_with("5.7.1 the login is suspended: until "), "{reply:?}");
    house.connect(INSIDE).deliver(KIM, &[BOB], BODY);
    house.has_contained("denials");
    assert_eq!(house.elsewhere.wait_for(2).len(), 2);
}

#[test]
fn a_suspension_is_listed_and_lifted_by_the_admin_api_and_the_count_begins_anew() {
    let house = House::start("denials = \"1/10m\"", "\n[admin]\nsocket = \"admin.sock\"\n");
    let ask = |method: &str, query: &str| {
        let mut stream = UnixStream::connect(house.gateway.directory().join("admin.sock"))
            .expect("the admin socket is open");
        let request =
            format!("{method} /v1/suspensions{query} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("the request is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer is text");
        answer
    };
    let mut dialog = house.log_in();
    is_denied(&mut dialog, "ceo@proseware.example", 2);
    dialog.command(&format!("MAIL FROM:<{LOGIN}>"), 550);
    let listed = ask("GET", "");
    assert!(listed.contains(LOGIN) && listed.contains("\"denials\""), "{listed}");
    let lifted = ask("DELETE", "?login=terri%40proseware.example");
    assert!(lifted.contains("\"lifted\":true"), "{lifted}");
    is_denied(&mut dialog, "ceo@proseware.example", 1);
    dialog.deliver(LOGIN, &[BOB], BODY);
}

#[test]
fn what_is_contained_just_before_a_stop_is_so_after_it() {
    let mut house = House::start("denials = \"1/10m\"", "\n[admin]\nsocket = \"admin.sock\"\n");
    let mut dialog = house.log_in();
    is_denied(&mut dialog, "ceo@proseware.example", 2);
    dialog.command("QUIT", 221);
    house.gateway.terminate();
    house.gateway.restart();
    let reply = Dialog::hello_from(WORK, house.clear).command(AUTH_PLAIN, 550);
    assert!(reply.lines[0].starts_with("5.7.1 the login is suspended: until "), "{reply:?}");
}

#[test]
fn where_no_login_stands_for_it_the_address_is_suspended_and_not_its_neighbour() {
    let house = House::start("denials = \"3/10m\"", "\n[suspension]\nreply = \"temporary\"\n");
    let mut dialog = house.connect(INSIDE);
    is_denied(&mut dialog, "ceo@adatum.example", 4);
    let reply = dialog.command(&format!("MAIL FROM:<{KIM}>"), 450);
    assert!(reply.lines[0].starts_with("4.7.1 the client's address is suspended: until "), "{reply:?}");
    house.connect(INSIDE_TOO).deliver(KIM, &[BOB], BODY);
    // A login stands for what it sends, wherever it sends from.
    let mut dialog = Dialog::hello_from(INSIDE, house.clear);
    dialog.command(AUTH_PLAIN, 235);
    dialog.deliver(LOGIN, &[BOB], BODY);
    house.has_contained("denials");
}

#[test]
fn a_suspension_ends_by_itself_and_what_is_refused_meanwhile_does_not_prolong_it() {
    let house = House::start("denials = \"1/10m\"\nsuspend_for = \"2s\"", "");
    let mut dialog = house.log_in();
    is_denied(&mut dialog, "ceo@proseware.example", 2);
    dialog.command(&format!("MAIL FROM:<{LOGIN}>"), 550);
    let ends = eventually(PATIENCE, || {
        let mut dialog = Dialog::hello_from(WORK, house.clear);
        dialog.send(format!("{AUTH_PLAIN}\r\n"));
        dialog.reply().expect("the connection goes on").code == 235
    });
    assert!(ends, "the suspension does not end");
    house.has_contained("denials");
}

#[test]
fn a_burst_of_bounces_suspends_the_login_whose_mail_it_was() {
    let house = House::start("bounces = \"2/10m\"", "");
    let nobodies = ["nobody1@adatum.example", "nobody2@adatum.example", "nobody3@adatum.example"];
    house.log_in().deliver(LOGIN, &nobodies[..2], BODY);
    house.gateway.wait_metric("gatepost_queue_recipients", 0.0);
    house.log_in().deliver(LOGIN, &nobodies[2..], BODY);
    house.has_contained("bounces");
    Dialog::hello_from(WORK, house.clear).command(AUTH_PLAIN, 550);
    house.connect(INSIDE).deliver(KIM, &[BOB], BODY);
}

#[test]
fn a_burst_of_bounces_suspends_the_address_where_no_login_stands_for_the_mail() {
    let house = House::start("bounces = \"1/10m\"", "");
    house.connect(INSIDE).deliver(KIM, &["nobody1@adatum.example", "nobody2@adatum.example"], BODY);
    house.has_contained("bounces");
    house.connect(INSIDE).command(&format!("MAIL FROM:<{KIM}>"), 550);
    house.connect(INSIDE_TOO).deliver(KIM, &[BOB], BODY);
}

#[test]
fn a_burst_of_failed_logins_suspends_the_login() {
    let house = House::start("failed_logins = \"2/10m\"", "");
    for _ in 0..3 {
        Dialog::hello_from(WORK, house.clear).command(AUTH_WRONG, 535);
    }
    house.has_contained("failed_logins");
    // Who guesses hears nothing of it, who knows the password does.
    Dialog::hello_from(WORK, house.clear).command(AUTH_WRONG, 535);
    let reply = Dialog::hello_from(WORK, house.clear).command(AUTH_PLAIN, 550);
    assert!(reply.lines[0].starts_with("5.7.1 the login is suspended: until "), "{reply:?}");
    house.connect(INSIDE).deliver(KIM, &[BOB], BODY);
}
