//! E3: limits per tenant, login, network and address; over one is temporary, and says when it frees.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use testbed::dialog::Reply;
use testbed::net::{PATIENCE, eventually};
use testbed::proseware::{self, AUTH_PLAIN, CONTACT, HOTEL, INSIDE, LOGIN, WORK};
use testbed::{Configuration, Dialog};

use crate::house::House;

const KIM: &str = "kim@proseware.example";
const BOB: &str = "bob@adatum.example";
const BODY: &[u8] = b"Subject: limits\r\n\r\nHello.\r\n";
/// In the tenant's network, as `INSIDE` is.
const INSIDE_TOO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 6));
/// In another network of the tenant's, where a test lists it.
const BRANCH: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 4, 5));

fn house_with(tenant_lines: &str) -> House {
    House::start_with(|configuration| configuration.tenants[0].1.push_str(tenant_lines))
}

/// Says MAIL; over a limit it is refused with `text` as the first line.
#[track_caller]
fn mail_is_refused(dialog: &mut Dialog, from: &str, code: u16, text: &str) -> Reply {
    let reply = dialog.command(&format!("MAIL FROM:<{from}>"), code);
    assert_names(&reply, "4.7.1", text);
    reply
}

/// The first line says which limit and when it frees; the second whom to ask, with the ticket.
#[track_caller]
fn assert_names(reply: &Reply, status: &str, text: &str) {
    let [first, second] = reply.lines.as_slice() else { panic!("not two lines: {reply:?}") };
    let rest = first.strip_prefix(&format!("{status} {text}; free again at "));
    let rest = rest.unwrap_or_else(|| panic!("{first:?} is not about {text:?}"));
    let (time, wait) = rest.rsplit_once(" (in ").unwrap_or_else(|| panic!("{rest:?} says no time"));
    assert!(time.ends_with('Z') || time.ends_with("+0000"), "{time}");
    let seconds = wait.strip_suffix(" s)").and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| (1..=86_400).contains(&seconds)), "{wait}");
    let advice = format!("{status} try again later, or write to {CONTACT}; ticket ");
    assert!(second.starts_with(&advice), "{second:?} does not begin {advice:?}");
}

/// Whether a message may begin, asked on a separate connection: too many errors end one.
fn is_free(house: &House) -> bool {
    let mut dialog = house.connect(INSIDE);
    dialog.send(format!("MAIL FROM:<{KIM}>\r\n"));
    dialog.reply().expect("the connection goes on").code == 250
}

#[track_caller]
fn log_in(address: SocketAddr, source: IpAddr) -> Dialog {
    let mut dialog = Dialog::hello_from(source, address);
    dialog.command(AUTH_PLAIN, 235);
    dialog
}

#[test]
fn messages_of_a_tenant_are_deferred_past_its_limit_and_go_again_when_it_frees() {
    let house = house_with("\n[limits]\nmessages_per_second = 1\n");
    let mut dialog = house.connect(INSIDE);
    let mut reply = None;
    for _ in 0..100 {
        dialog.send(format!("MAIL FROM:<{KIM}>\r\n"));
        let answer = dialog.reply().expect("the connection goes on");
        if answer.code == 450 {
            reply = Some(answer);
            break;
        }
        dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
        dialog.command("DATA", 354);
        dialog.send(testbed::message::to_wire(BODY));
        dialog.expect(250);
    }
    let reply = reply.expect("a hundred messages in a row come faster than one a second");
    assert_names(&reply, "4.7.1", "a rate limit is reached: tenant proseware may use 1 messages a second");
    assert!(eventually(PATIENCE, || is_free(&house)), "the limit never frees");
    assert!(house.denials(&["tenant=\"proseware\"", "reason=\"rate_limited\""]) > 0);
}

#[test]
fn messages_that_began_together_end_only_as_far_as_the_limit_has_room() {
    let house = house_with("\n[limits]\nmessages_per_day = 1\n");
    let mut dialogs: Vec<Dialog> = (0..3).map(|_| house.connect(INSIDE)).collect();
    for dialog in &mut dialogs {
        dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
        dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
        dialog.command("DATA", 354);
    }
    for (dialog, code) in dialogs.iter_mut().zip([250, 452, 452]) {
        dialog.send(testbed::message::to_wire(BODY));
        let reply = dialog.expect(code);
        if code == 452 {
            assert_names(&reply, "4.7.1", "a quota is used up: tenant proseware may use 1 messages a day");
        }
    }
    assert_eq!(house.elsewhere.wait_for(1).len(), 1);
    house.gateway.wait_metric("gatepost_queue_recipients", 0.0);
}

#[test]
fn recipients_past_a_days_quota_are_deferred_and_leave_the_others_queued() {
    let house = house_with("\n[limits]\nrecipients_per_day = 2\n");
    let mut dialog = house.connect(INSIDE);
    dialog.command(&format!("MAIL FROM:<{KIM}>"), 250);
    dialog.command(&format!("RCPT TO:<{BOB}>"), 250);
    dialog.command("RCPT TO:<eve@adatum.example>", 250);
    let reply = dialog.command("RCPT TO:<ann@adatum.example>", 452);
    let text = "<ann@adatum.example>: a quota is used up: tenant proseware may use 2 recipients a day";
    assert_names(&reply, "4.7.1", text);
    dialog.command("DATA", 354);
    dialog.send(testbed::message::to_wire(BODY));
    dialog.expect(250);
    assert_eq!(house.elsewhere.wait_for(1)[0].recipients.len(), 2);
    assert_eq!(house.denials(&["reason=\"quota_exceeded\""]), 1);
}

#[test]
fn bytes_of_one_address_are_charged_to_it_alone() {
    let house = house_with("\n[limits.client]\nbytes_per_hour = \"1KiB\"\n");
    let mut dialog = house.connect(INSIDE);
    // Larger than the whole amount, and nothing is owed: it passes, and is paid for.
    let body = [BODY, "x".repeat(70).as_bytes(), b"\r\n", &b"y\r\n".repeat(400)].concat();
    dialog.deliver(KIM, &[BOB], &body);
    let text = format!("a rate limit is reached: {INSIDE} may use 1024 bytes an hour");
    mail_is_refused(&mut dialog, KIM, 450, &text);
    house.connect(INSIDE_TOO).deliver(KIM, &[BOB], BODY);
    // What it says with SIZE is asked before it sends anything.
    let mut dialog = house.connect(INSIDE_TOO);
    let reply = dialog.command(&format!("MAIL FROM:<{KIM}> SIZE=1024"), 450);
    assert_names(
        &reply,
        "4.7.1",
        &format!("a rate limit is reached: {INSIDE_TOO} may use 1024 bytes an hour"),
    );
    dialog.command(&format!("MAIL FROM:<{KIM}> SIZE=100"), 250);
}

#[test]
fn messages_of_one_login_are_charged_to_it_wherever_it_connects() {
    let mut clear = None;
    let house = House::start_with(|configuration| {
        clear = Some(proseware::listen_for_clear_logins(configuration));
        configuration.tenants[0].1.push_str("\n[limits.identity]\nmessages_per_hour = 1\nconnections = 1\n");
    });
    let clear = clear.expect("a listener was added");
    let mut dialog = log_in(clear, WORK);
    dialog.deliver(LOGIN, &[BOB], BODY);
    let text = format!("a rate limit is reached: login {LOGIN} may use 1 messages an hour");
    mail_is_refused(&mut dialog, LOGIN, 450, &text);
    // Its one connection is this: another is told so when it would send.
    let mut other = log_in(clear, HOTEL);
    let reply = other.command(&format!("MAIL FROM:<{LOGIN}>"), 450);
    assert_eq!(
        reply.lines[0],
        format!("4.7.0 too many connections: login {LOGIN} may have 1 at the same time")
    );
    dialog.command("QUIT", 221);
    let counted_out = eventually(PATIENCE, || {
        let mut other = log_in(clear, HOTEL);
        other.send(format!("MAIL FROM:<{LOGIN}>\r\n"));
        other.reply().expect("the connection goes on").lines[0].starts_with("4.7.1")
    });
    assert!(counted_out, "a connection that ended is still counted");
    house.connect(INSIDE).deliver(KIM, &[BOB], BODY);
}

#[test]
fn each_network_of_a_tenant_has_its_own() {
    let house = House::start_with(|configuration| {
        let tenant = &mut configuration.tenants[0].1;
        *tenant = tenant.replace("\"127.0.1.0/24\"", "\"127.0.1.0/24\", \"127.0.4.0/24\"");
        tenant.push_str("\n[limits.network]\nmessages_per_hour = 1\n");
    });
    house.connect(INSIDE).deliver(KIM, &[BOB], BODY);
    let text = "a rate limit is reached: network 127.0.1.0/24 may use 1 messages an hour";
    mail_is_refused(&mut house.connect(INSIDE_TOO), KIM, 450, text);
    house.connect(BRANCH).deliver(KIM, &[BOB], BODY);
}

#[test]
fn connections_at_the_same_time_are_turned_away_at_the_greeting_until_one_ends() {
    let house = house_with("\n[limits.client]\nconnections = 1\n");
    let mut first = house.connect(INSIDE);
    let mut second = Dialog::connect_from(INSIDE, house.gateway.smtp());
    let reply = second.expect(421);
    assert_eq!(reply.lines[0], format!("4.7.0 too many connections: {INSIDE} may have 1 at the same time"));
    second.expect_end();
    house.connect(INSIDE_TOO);
    first.command("QUIT", 221);
    let frees = eventually(PATIENCE, || {
        let mut next = Dialog::connect_from(INSIDE, house.gateway.smtp());
        next.reply().expect("there is a greeting").code == 220
    });
    assert!(frees, "a connection that ended is still counted");
    assert!(house.denials(&["tenant=\"proseware\"", "reason=\"connection_limit\""]) > 0);
}

#[test]
fn connections_that_come_too_fast_are_turned_away_at_the_greeting() {
    let house = house_with("\n[limits.client]\nconnections_per_hour = 2\n");
    house.connect(INSIDE).command("QUIT", 221);
    house.connect(INSIDE).command("QUIT", 221);
    let reply = Dialog::connect_from(INSIDE, house.gateway.smtp()).expect(421);
    let text = format!("too many connections: {INSIDE} may use 2 connections an hour");
    assert_names(&reply, "4.7.0", &text);
    assert_eq!(house.denials(&["tenant=\"proseware\"", "reason=\"rate_limited\""]), 1);
}

#[test]
fn strangers_have_the_nodes_limits_each_address_its_own() {
    let house = House::start_with(|configuration| {
        configuration
            .node_extra
            .push_str("\n[limits.client]\nmessages_per_hour = 1\nrecipients_per_hour = 1\n");
        configuration.tenants[0].1.push_str("\n[limits]\nmessages_per_hour = 1\n");
    });
    house.connect(WORK).deliver(BOB, &[KIM], BODY);
    let text = format!("a rate limit is reached: {WORK} may use 1 messages an hour");
    mail_is_refused(&mut house.connect(WORK), BOB, 450, &text);
    house.connect(HOTEL).deliver(BOB, &[KIM], BODY);
    assert_eq!(house.denials(&["tenant=\"none\"", "reason=\"rate_limited\""]), 1);
    // What strangers send to its relay domain is not the tenant's use.
    house.connect(INSIDE).deliver(KIM, &[BOB], BODY);
}

#[test]
fn what_was_used_survives_a_reload_and_the_amounts_follow_it() {
    let limited = |amount: u64| format!("\n[limits]\nmessages_per_hour = {amount}\n");
    let mut house = house_with(&limited(1));
    let before: Configuration = house.gateway.configuration().clone();
    let tenant = before.tenants[0].1.replace(&limited(1), "");
    house.connect(INSIDE).deliver(KIM, &[BOB], BODY);
    let reload = |house: &mut House, generation, amount| {
        let mut configuration = before.clone();
        configuration.tenants[0].1 = format!("{tenant}{}", limited(amount));
        house.gateway.rewrite(configuration);
        house.gateway.signal("HUP");
        house.gateway.wait_metric("gatepost_policy_generation", generation);
    };
    reload(&mut house, 2.0, 1);
    assert!(!is_free(&house), "a reload forgot what was used");
    // All of the amount was used: the next one frees at the new pace, ten a second.
    reload(&mut house, 3.0, 36_000);
    assert!(eventually(PATIENCE, || is_free(&house)), "the old amount still holds");
}

#[test]
fn what_a_session_may_cost_is_named_where_it_is_met_and_a_tenants_own_number_goes_first() {
    let house = House::start_with(|configuration| {
        configuration.node_extra.push_str(
            "\n[limits]\nsession_errors = 3\nsession_idle_commands = 10\nrecipients_per_message = 100\n",
        );
        configuration.tenants.push((
            "contoso".into(),
            "name = \"contoso\"\nnetworks = [\"127.0.5.0/24\"]\nsenders = [\"@contoso.example\"]\n\n\
             [limits]\nrecipients_per_message = 101\n"
                .into(),
        ));
    });
    let mut errs = house.connect(HOTEL);
    errs.command("WHAT", 500);
    errs.command("WHAT", 500);
    errs.command("WHAT", 500);
    let last = errs.expect(421);
    assert_eq!(last.lines, ["4.7.0 too many errors: at most 3 in a session without a message"]);
    errs.expect_end();
    let mut idles = house.connect(HOTEL);
    // The EHLO is one of the ten.
    for _ in 0..9 {
        idles.command("NOOP", 250);
    }
    let last = idles.command("NOOP", 421);
    assert_eq!(last.lines, ["4.7.0 too many commands without mail: at most 10 in a row"]);
    idles.expect_end();
    let contoso = IpAddr::V4(Ipv4Addr::new(127, 0, 5, 1));
    for (client, from, limit) in [(INSIDE, KIM, 100), (contoso, "ann@contoso.example", 101)] {
        let mut dialog = house.connect(client);
        dialog.command(&format!("MAIL FROM:<{from}>"), 250);
        for number in 0..limit {
            dialog.command(&format!("RCPT TO:<user{number}@adatum.example>"), 250);
        }
        let reply = dialog.command(&format!("RCPT TO:<{BOB}>"), 452);
        let told = format!("4.5.3 <{BOB}>: too many recipients in one transaction: at most {limit}");
        assert_eq!(reply.lines[0], told);
    }
}
