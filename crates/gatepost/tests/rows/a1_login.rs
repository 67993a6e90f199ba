//! A1: logins by PLAIN, LOGIN and SCRAM-SHA-256 with and without channel binding, never before TLS;
//! what a stranger learns from those that fail, and how many he has.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testbed::Dialog;
use testbed::dialog::Reply;
use testbed::proseware::{self, AUTH_PLAIN, HOTEL, INSIDE, LOGIN, PASSWORD, WORK};
use testbed::scram::{self, ScramClient};

use crate::house::{House, Secure};

const BOB: &str = "bob@adatum.example";
const NOBODY: &str = "nobody@proseware.example";

/// A house whose tenant's login has a verifier, with more lines for its node file.
fn house(node_extra: &str) -> House {
    House::start_with(|configuration| {
        proseware::take_scram(configuration);
        configuration.node_extra.push_str(node_extra);
    })
}

/// A house whose login, and so one that does not exist, takes as long as is recommended; a listener that takes it in
/// the clear; `limits` for its node file.
fn house_of_slow_logins(limits: &str) -> (House, SocketAddr) {
    let mut clear = None;
    let house = House::start_with(|configuration| {
        clear = Some(proseware::listen_for_clear_logins(configuration));
        let file = &mut configuration.tenants[0].1;
        let hash = control::password::hash(PASSWORD);
        let slow = |line| {
            if str::starts_with(line, "password = ") {
                format!("password = \"{hash}\"")
            } else {
                line.to_owned()
            }
        };
        *file = file.lines().map(slow).collect::<Vec<_>>().join("\n");
        assert!(file.contains("$m=19456,"), "the login has a hash");
        // A storm comes from one address here.
        configuration
            .node_extra
            .push_str(&format!("[login]\n{limits}\n[limits.client]\nconnections = 1000\n"));
    });
    (house, clear.expect("the listener was added"))
}

fn secure(house: &House, source: IpAddr) -> Secure {
    Secure::start(source, house.submission, &house.gateway)
}

fn plain(login: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", STANDARD.encode(format!("\0{login}\0{password}")))
}

/// What binds to the client's channel, and the header that says so.
fn exporter(client: &Secure) -> (&'static str, Vec<u8>) {
    let connection = &client.stream.get_ref().conn;
    let label = b"EXPORTER-Channel-Binding";
    let binding = connection.export_keying_material(vec![0; 32], label, Some(b""));
    ("p=tls-exporter,,", binding.expect("TLS 1.3 exports keys"))
}

fn end_point(client: &Secure) -> (&'static str, Vec<u8>) {
    let certificates = client.stream.get_ref().conn.peer_certificates().expect("the server has shown one");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &certificates[0]);
    ("p=tls-server-end-point,,", hash.as_ref().to_vec())
}

/// Goes through an exchange up to where the server decides: what it showed at first, and its decision.
fn scram(
    client: &mut Secure,
    mechanism: &str,
    (login, password): (&str, &str),
    (header, binding): (&str, &[u8]),
    code: u16,
) -> (String, Reply, ScramClient) {
    let mut exchange = ScramClient::new(login, password, header, binding);
    let shown = client.command(&format!("AUTH {mechanism} {}", exchange.first()), 334).lines.remove(0);
    let decision = client.command(&exchange.answer(&shown), code);
    (shown, decision, exchange)
}

/// A SCRAM login that succeeds.
fn scram_in(client: &mut Secure, mechanism: &str, (header, binding): (&str, &[u8])) {
    let (_, signed, exchange) = scram(client, mechanism, (LOGIN, PASSWORD), (header, binding), 334);
    assert!(exchange.trusts(&signed.lines[0]), "the server has not shown that it knows the password");
    client.command("", 235);
}

fn relays(client: &mut Secure) {
    client.command(&format!("MAIL FROM:<{LOGIN}>"), 250);
    client.command(&format!("RCPT TO:<{BOB}>"), 250);
    client.command("RSET", 250);
}

/// The lines of a reply, its ticket taken out.
fn words(reply: &Reply) -> Vec<String> {
    let without = |line: &String| line.split("ticket ").next().unwrap_or_default().to_owned();
    reply.lines.iter().map(without).collect()
}

#[test]
fn every_mechanism_logs_in_under_tls_and_relays() {
    let house = house("");
    let mut client = secure(&house, HOTEL);
    let offers = client.command("EHLO client.example", 250);
    assert!(offers.lines.contains(&"AUTH PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS".into()), "{offers:?}");
    client.command(AUTH_PLAIN, 235);
    relays(&mut client);

    let mut client = secure(&house, HOTEL);
    client.command("AUTH LOGIN", 334);
    client.command(&STANDARD.encode(LOGIN), 334);
    client.command(&STANDARD.encode(PASSWORD), 235);
    relays(&mut client);

    let mut client = secure(&house, HOTEL);
    scram_in(&mut client, "SCRAM-SHA-256", ("n,,", b""));
    relays(&mut client);

    for bind in [exporter, end_point] {
        let mut client = secure(&house, HOTEL);
        let (header, binding) = bind(&client);
        scram_in(&mut client, "SCRAM-SHA-256-PLUS", (header, &binding));
        relays(&mut client);
    }
}

#[test]
fn a_verifier_alone_takes_plain_too() {
    let house = House::start_with(|configuration| {
        proseware::take_scram(configuration);
        let tenant = &mut configuration.tenants[0].1;
        let kept = tenant.lines().filter(|line| !line.starts_with("password = "));
        *tenant = kept.collect::<Vec<_>>().join("\n");
    });
    let mut client = secure(&house, HOTEL);
    client.command(&plain(LOGIN, "wrong"), 535);
    client.command(AUTH_PLAIN, 235);
    relays(&mut client);
}

#[test]
fn scram_is_not_offered_where_nobody_has_a_verifier() {
    let house = House::start();
    let mut client = secure(&house, HOTEL);
    let offers = client.command("EHLO client.example", 250);
    assert!(offers.lines.contains(&"AUTH PLAIN LOGIN".into()), "{offers:?}");
    client.command("AUTH SCRAM-SHA-256", 504);
    client.command("AUTH CRAM-MD5", 504);
}

#[test]
fn no_login_is_taken_before_tls() {
    let house = house("");
    let mut clear = Dialog::hello_from(HOTEL, house.submission);
    let offers = clear.command("EHLO client.example", 250);
    assert!(!offers.text().contains("AUTH"), "{offers:?}");
    for login in [AUTH_PLAIN, "AUTH LOGIN", "AUTH SCRAM-SHA-256 biws"] {
        let reply = clear.command(login, 538);
        assert!(reply.text().contains("ticket "), "{reply:?}");
    }
    assert_eq!(house.denials(&["reason=\"tls_required\"", "listener=\"submission\""]), 3);
}

#[test]
fn before_tls_a_submission_listener_asks_for_tls_whatever_comes_first() {
    let mut offered = None;
    let house = House::start_with(|configuration| {
        offered = Some(configuration.listen("offered", "submission", "starttls"));
    });
    let mail = format!("MAIL FROM:<{LOGIN}>");
    let orders: [&[&str]; 5] = [
        &["EHLO client.example", &mail],
        &["HELO client.example", &mail],
        &["EHLO client.example", "RSET", "NOOP", &mail],
        &[&mail],
        &["EHLO client.example", "RCPT TO:<bob@adatum.example>"],
    ];
    // Where TLS is only offered, what is out of order is told first.
    for (listener, orders) in
        [(house.submission, &orders[..]), (offered.expect("it was added"), &orders[..3])]
    {
        for order in orders {
            let mut dialog = Dialog::connect_from(HOTEL, listener);
            dialog.expect(220);
            let (last, before) = order.split_last().expect("an order is of something");
            for command in before {
                dialog.command(command, 250);
            }
            let reply = dialog.command(last, 530);
            assert_eq!(reply.lines[0], "5.7.0 start TLS first", "{order:?}");
            let text = reply.text();
            assert!(text.contains("5.7.0 send STARTTLS, then go on") && !text.contains("AUTH"), "{text}");
        }
    }
}

#[test]
fn an_unknown_login_is_answered_like_a_wrong_password() {
    let house = house("");
    for mechanism in ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"] {
        let answers = [(LOGIN, "wrong"), (NOBODY, PASSWORD)].map(|(login, password)| {
            let mut client = secure(&house, WORK);
            match mechanism {
                "PLAIN" => words(&client.command(&plain(login, password), 535)),
                "LOGIN" => {
                    client.command("AUTH LOGIN", 334);
                    client.command(&STANDARD.encode(login), 334);
                    words(&client.command(&STANDARD.encode(password), 535))
                }
                "SCRAM-SHA-256" => {
                    words(&scram(&mut client, mechanism, (login, password), ("n,,", b""), 535).1)
                }
                _ => {
                    let (header, binding) = exporter(&client);
                    words(&scram(&mut client, mechanism, (login, password), (header, &binding), 535).1)
                }
            }
        });
        assert_eq!(answers[0], answers[1], "{mechanism}");
        assert!(answers[0][0].starts_with("5.7.8 the name or the password is wrong"), "{answers:?}");
    }
    assert_eq!(house.denials(&["reason=\"login_failed\"", "tenant=\"none\""]), 8);
}

#[test]
fn an_unknown_logins_salt_looks_real_and_outlives_a_restart() {
    let mut house = house("[login]\nfailures_per_ip = \"off\"\n");
    let shown = |house: &House, login: &str| {
        let mut client = secure(house, HOTEL);
        scram::shown(&scram(&mut client, "SCRAM-SHA-256", (login, "wrong"), ("n,,", b""), 535).0)
    };
    let (known, nobody) = (shown(&house, LOGIN), shown(&house, NOBODY));
    assert_eq!((known.0, known.1.len()), (nobody.0, nobody.1.len()), "iterations and the salt's length");
    assert_ne!(known.1, nobody.1);
    assert_eq!(shown(&house, &NOBODY.to_uppercase()), nobody);
    assert_ne!(shown(&house, "another@proseware.example").1, nobody.1);
    house.gateway.kill();
    house.gateway.restart();
    assert_eq!(shown(&house, NOBODY), nobody);
}

#[test]
fn who_changes_what_was_announced_or_sits_between_is_refused() {
    let house = house("");
    // The client could bind and believes that we cannot: an attacker took it out of the announcement.
    let mut client = secure(&house, HOTEL);
    let first = ScramClient::new(LOGIN, PASSWORD, "y,,", b"").first();
    client.command(&format!("AUTH SCRAM-SHA-256 {first}"), 535);
    // Bound to another channel than this one.
    for bind in [exporter, end_point] {
        let mut client = secure(&house, HOTEL);
        let (header, mut binding) = bind(&client);
        binding[0] ^= 1;
        scram(&mut client, "SCRAM-SHA-256-PLUS", (LOGIN, PASSWORD), (header, &binding), 535);
    }
    // By a binding that we do not know.
    let mut client = secure(&house, HOTEL);
    let first = ScramClient::new(LOGIN, PASSWORD, "p=tls-unique,,", b"").first();
    client.command(&format!("AUTH SCRAM-SHA-256-PLUS {first}"), 504);
}

#[test]
fn an_address_that_fails_too_often_is_locked_out_alone() {
    let house = house("[login]\nfailures_per_ip = \"3/10m\"\n");
    let mut client = secure(&house, WORK);
    client.command(&plain(LOGIN, "wrong"), 535);
    client.command(&plain(NOBODY, "wrong"), 535);
    scram(&mut client, "SCRAM-SHA-256", (NOBODY, "wrong"), ("n,,", b""), 535);
    // By whatever mechanism, on whatever connection, and with the right password too.
    let locked = client.command(AUTH_PLAIN, 454);
    assert!(locked.lines[0].starts_with("4.7.0 too many failed logins: try again in "), "{locked:?}");
    assert!(locked.text().contains("ticket "), "{locked:?}");
    let mut client = secure(&house, WORK);
    client.command(AUTH_PLAIN, 454);
    let first = ScramClient::new(LOGIN, PASSWORD, "n,,", b"").first();
    client.command(&format!("AUTH SCRAM-SHA-256 {first}"), 454);
    assert_eq!(house.denials(&["reason=\"login_locked\""]), 3);
    secure(&house, HOTEL).command(AUTH_PLAIN, 235);
}

#[test]
fn guesses_that_wait_together_do_not_outrun_the_limit() {
    let (_house, clear) = house_of_slow_logins("failures_per_ip = \"3/10m\"");
    let mut guesses: Vec<_> = (0..20).map(|_| Dialog::hello_from(WORK, clear)).collect();
    let (right, wrong) = guesses.split_last_mut().expect("there are guesses");
    for client in wrong {
        client.send(format!("{}\r\n", plain(LOGIN, "guess")));
    }
    right.send(format!("{AUTH_PLAIN}\r\n"));
    let replies: Vec<_> = guesses.iter_mut().map(|client| client.reply().expect("it is answered")).collect();
    assert_eq!(replies.iter().filter(|reply| reply.code == 535).count(), 3, "{replies:?}");
    let mut locked = replies.iter().filter(|reply| reply.code == 454);
    assert!(locked.all(|reply| reply.text().contains("too many failed logins")), "{replies:?}");
    assert_eq!(replies.last().map(|reply| reply.code), Some(454), "the right one too");
}

/// An address from which a password has fitted costs no hash, but that must not show to another.
#[test]
fn a_right_guess_is_not_told_from_those_that_are_too_many_at_once() {
    for limits in
        ["failures_per_ip = \"off\"\nfailures_per_identity = \"off\"", "failures_per_ip = \"3/10m\""]
    {
        let (_house, clear) = house_of_slow_logins(limits);
        for _ in 0..2 {
            Dialog::hello_from(HOTEL, clear).command(AUTH_PLAIN, 235);
        }
        let mut guesses: Vec<_> = (0..200).map(|_| Dialog::hello_from(WORK, clear)).collect();
        let (right, wrong) = guesses.split_last_mut().expect("there are guesses");
        for client in wrong {
            client.send(format!("{}\r\n", plain(LOGIN, "guess")));
        }
        right.send(format!("{AUTH_PLAIN}\r\n"));
        let replies: Vec<_> =
            guesses.iter_mut().map(|client| client.reply().expect("it is answered")).collect();
        let busy = replies.iter().filter(|reply| reply.text().contains("too many logins at once"));
        assert_ne!(busy.count(), 0, "{limits}: they have not outrun the queue");
        assert_eq!(replies.last().map(|reply| reply.code), Some(454), "{limits}: {:?}", replies.last());
    }
}

#[test]
fn a_login_that_fails_too_often_is_locked_except_from_where_it_succeeded() {
    let house = house("[login]\nfailures_per_ip = \"off\"\nfailures_per_identity = \"3/10m\"\n");
    secure(&house, HOTEL).command(AUTH_PLAIN, 235);
    let addresses = [3, 4, 5].map(|last| IpAddr::from([127, 0, 4, last]));
    for address in addresses {
        secure(&house, address).command(&plain(LOGIN, "wrong"), 535);
        secure(&house, address).command(&plain(NOBODY, "wrong"), 535);
    }
    // It does not show which of the two exists.
    let answers =
        [LOGIN, NOBODY].map(|login| words(&secure(&house, WORK).command(&plain(login, PASSWORD), 454)));
    assert_eq!(answers[0], answers[1]);
    secure(&house, HOTEL).command(AUTH_PLAIN, 235);
    secure(&house, WORK).command(&plain("another@proseware.example", PASSWORD), 535);
}

#[test]
fn a_storm_of_logins_leaves_the_mail_alone() {
    let (house, clear) = house_of_slow_logins("failures_per_ip = \"off\"\nfailures_per_identity = \"off\"");
    // More than the pool lets wait, each as slow as a hash is on purpose.
    let mut storm: Vec<Dialog> = (0..100)
        .map(|_| {
            let mut dialog = Dialog::hello_from(WORK, clear);
            dialog.send(format!("{}\r\n", plain(NOBODY, "guess")));
            dialog
        })
        .collect();
    house.connect(INSIDE).deliver("kim@proseware.example", &[LOGIN], b"Subject: storm\r\n\r\nHello.\r\n");
    let last = storm.last_mut().expect("there is a storm").reply().expect("it is answered");
    let first = storm[0].reply().expect("it is answered");
    assert_eq!((first.code, last.code), (535, 454), "{first:?} {last:?}");
    assert!(last.text().contains("too many logins at once"), "{last:?}");
    assert_eq!(house.own_mail.wait_for(1)[0].recipients, [LOGIN]);
}

#[test]
fn a_rotated_certificate_is_shown_to_new_clients_and_old_sessions_live_on() {
    let mut house = house("");
    let mut old = secure(&house, HOTEL);
    let (header, binding) = end_point(&old);
    let configuration = house.gateway.configuration().clone();
    house.gateway.rewrite(configuration);
    house.gateway.signal("HUP");
    house.gateway.wait_metric("gatepost_policy_generation", 2.0);

    // It trusts only the certificate that the files hold now.
    let mut new = secure(&house, HOTEL);
    let (_, new_binding) = end_point(&new);
    assert_ne!(new_binding, binding);
    scram_in(&mut new, "SCRAM-SHA-256-PLUS", (header, &new_binding));
    // Bound to the certificate that its own connection began with.
    scram_in(&mut old, "SCRAM-SHA-256-PLUS", (header, &binding));
    relays(&mut old);
}

/// How an exchange of SCRAM for which the server had shown its salt before a reload made
/// `change` to the tenants ends.
fn proof_over_a_reload(code: u16, change: impl FnOnce(&mut Vec<(String, String)>)) -> Reply {
    let mut house = house("");
    let mut client = secure(&house, WORK);
    let mut exchange = ScramClient::new(LOGIN, PASSWORD, "n,,", b"");
    let shown = client.command(&format!("AUTH SCRAM-SHA-256 {}", exchange.first()), 334).lines.remove(0);
    let mut configuration = house.gateway.configuration().clone();
    change(&mut configuration.tenants);
    house.gateway.rewrite(configuration);
    house.gateway.signal("HUP");
    house.gateway.wait_metric("gatepost_policy_generation", 2.0);
    client.command(&exchange.answer(&shown), 334);
    client.command("", code)
}

#[test]
fn a_proof_does_not_outlive_the_credential_that_it_is_for() {
    // Nothing of the login has changed.
    proof_over_a_reload(235, |_| {});
    let withdrawn = proof_over_a_reload(535, |tenants| {
        let file = &mut tenants[0].1;
        let kept = file.lines().filter(|line| !line.starts_with("scram"));
        *file = kept.collect::<Vec<_>>().join("\n");
    });
    let moved = proof_over_a_reload(535, |tenants| {
        let login = tenants[0].1.find("[[identity]]").expect("the tenant has a login");
        let login =
            tenants[0].1.split_off(login).replace(&format!("[\"{LOGIN}\"]"), "[\"@contoso.example\"]");
        let head = "name = \"contoso\"\nsenders = [\"@contoso.example\"]\n\n";
        tenants.push(("contoso".into(), format!("{head}{login}")));
    });
    for reply in [withdrawn, moved] {
        assert!(words(&reply)[0].starts_with("5.7.8 the name or the password is wrong"), "{reply:?}");
    }
}

/// Logged in, with a message sent, before a reload makes `change` to the tenants.
fn logged_in_over_a_reload(change: impl FnOnce(&mut Vec<(String, String)>)) -> (House, Dialog) {
    let mut clear = None;
    let mut house = House::start_with(|configuration| {
        clear = Some(proseware::listen_for_clear_logins(configuration));
        configuration.node_extra.push_str("\n[login]\nfailures_per_ip = \"off\"\n");
    });
    let mut dialog = Dialog::hello_from(WORK, clear.expect("a listener was added"));
    dialog.command(AUTH_PLAIN, 235);
    dialog.deliver(LOGIN, &[BOB], b"Subject: before\r\n\r\nHello.\r\n");
    let mut configuration = house.gateway.configuration().clone();
    change(&mut configuration.tenants);
    house.gateway.rewrite(configuration);
    house.gateway.signal("HUP");
    house.gateway.wait_metric("gatepost_policy_generation", 2.0);
    (house, dialog)
}

#[test]
fn a_session_whose_login_a_reload_removed_is_told_to_log_in_and_the_gateway_lives() {
    let (house, mut dialog) = logged_in_over_a_reload(|tenants| {
        let login = tenants[0].1.find("[[identity]]").expect("the tenant has a login");
        tenants[0].1.truncate(login);
    });
    for _ in 0..2 {
        dialog.command(&format!("MAIL FROM:<{LOGIN}>"), 530);
    }
    house.connect(INSIDE).deliver(LOGIN, &[BOB], b"Subject: after\r\n\r\nHello.\r\n");
}

#[test]
fn a_session_does_not_follow_its_login_into_another_tenant() {
    let (_house, mut dialog) = logged_in_over_a_reload(|tenants| {
        let login = tenants[0].1.find("[[identity]]").expect("the tenant has a login");
        let login =
            tenants[0].1.split_off(login).replace(&format!("[\"{LOGIN}\"]"), "[\"@contoso.example\"]");
        let head = "name = \"contoso\"\nsenders = [\"@contoso.example\"]\n\n";
        tenants.push(("contoso".into(), format!("{head}{login}")));
    });
    dialog.command("MAIL FROM:<ceo@contoso.example>", 530);
}
