//! Delivery in the simulated world: what destinations do, and what becomes of the mail.

mod harness;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use delivery::Retry;
use harness::{RETRY, Scene};

const FROM: &str = "terri@proseware.example";
const BODY: &str = "Subject: hello\r\n\r\n..dots\r\nbye\r\n";
const ONE_HOP: [&str; 1] = ["10.0.0.2:25"];

fn usual(_: &str) -> String {
    String::new()
}

#[test]
fn a_message_arrives_once_with_its_bytes_unaltered() {
    for seed in 0..20 {
        let mut scene = Scene::new(seed, &ONE_HOP);
        scene.destination(2, usual);
        scene.send(FROM, &["kim@a.example", "lee@b.example"], BODY);
        scene.pass(Duration::from_secs(60));
        assert_eq!(scene.taken(0), 1, "seed {seed}");
        let taken = &scene.destinations[0].taken[0];
        assert_eq!(taken.from, FROM);
        assert_eq!(taken.to, ["kim@a.example", "lee@b.example"], "one transaction carries both");
        let body = format!("Received: by relay.example\r\n{BODY}");
        assert_eq!(String::from_utf8_lossy(&taken.body), body, "seed {seed}");
        assert_eq!(scene.gateway.delivered(), 2);
        assert_eq!(scene.gateway.delivery.queued_messages(), 0);
        assert_eq!(scene.gateway.shard.stats().messages, 0, "the spool knows the outcome");
        assert!(scene.gateway.delivery.is_idle(), "the idle connection was closed");
    }
}

#[test]
fn many_messages_share_few_connections() {
    let mut scene = Scene::with(1, &ONE_HOP, 3, RETRY);
    scene.destination(2, usual);
    for _ in 0..200 {
        scene.send(FROM, &["kim@a.example"], BODY);
    }
    scene.until("all are delivered", |scene| scene.gateway.delivered() == 200);
    assert_eq!(scene.taken(0), 200);
    assert!(scene.destinations[0].connections <= 3, "{} connections", scene.destinations[0].connections);
    assert!(scene.destinations[0].open_max <= 3);
    scene.send(FROM, &["kim@a.example"], BODY);
    let before = scene.destinations[0].connections;
    scene.until("one more is delivered", |scene| scene.gateway.delivered() == 201);
    assert_eq!(scene.destinations[0].connections, before, "an idle connection is used again");
}

#[test]
fn the_next_hop_after_the_first_takes_over() {
    let refusals: [fn(&str) -> String; 2] = [
        |line| if line == "CONNECT" { "421 4.3.2 closing".into() } else { String::new() },
        |line| if line == "CONNECT" { "450 4.3.2 not now".into() } else { String::new() },
    ];
    for refuse in refusals {
        let mut scene = Scene::new(2, &["10.0.0.2:25", "10.0.0.3:25"]);
        scene.destination(2, refuse);
        scene.destination(3, usual);
        scene.send(FROM, &["kim@a.example"], BODY);
        scene.pass(Duration::from_secs(4));
        assert_eq!((scene.taken(0), scene.taken(1)), (0, 1));
        assert_eq!(scene.destinations[0].connections, 1);
    }
    // No server listens at the first.
    let mut scene = Scene::new(2, &["10.0.0.2:25", "10.0.0.3:25"]);
    scene.destination(3, usual);
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.pass(Duration::from_secs(60));
    assert_eq!(scene.taken(0), 1);
}

#[test]
fn a_next_hop_that_says_not_now_and_hangs_up_before_it_is_heard_fails_once_and_no_other_with_it() {
    let mut scene = Scene::new(2, &["10.0.0.2:25", "10.0.0.3:25"]);
    scene.destination(2, |line| if line == "CONNECT" { "421 4.3.2 closing".into() } else { String::new() });
    scene.destination(3, usual);
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.until("the first is spoken to", |scene| scene.destinations[0].connections == 1);
    scene.pass_by(Duration::from_secs(1));
    scene.until("it is delivered", |scene| scene.gateway.delivered() == 1);
    assert_eq!((scene.destinations[0].connections, scene.destinations[1].connections), (1, 1));
}

#[test]
fn what_is_heard_late_of_one_address_does_not_concern_the_next_one() {
    let mut scene = Scene::new(2, &["10.0.0.2:25", "10.0.0.3:25"]);
    scene.gateway.ends_late = true;
    scene.destination(2, |line| if line == "CONNECT" { "421 4.3.2 closing".into() } else { String::new() });
    scene.destination(3, usual);
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.until("the first is spoken to", |scene| scene.destinations[0].connections == 1);
    scene.pass_by(Duration::from_secs(1));
    scene.until("it is delivered", |scene| scene.gateway.delivered() == 1);
    // The end of the first connection is heard while the second waits for mail.
    scene.pass(Duration::from_secs(2));
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.until("one more is delivered", |scene| scene.gateway.delivered() == 2);
    assert_eq!((scene.destinations[0].connections, scene.destinations[1].connections), (1, 1));
}

#[test]
fn a_next_hop_goes_by_name() {
    let mut scene = Scene::new(3, &["mx.partner.example:25"]);
    scene.gateway.names.push(("mx.partner.example", harness::ip(2)));
    scene.destination(2, usual);
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.pass(Duration::from_secs(10));
    assert_eq!(scene.taken(0), 1);
}

#[test]
fn a_deferred_recipient_is_tried_again_and_the_others_are_not() {
    let mut scene = Scene::new(4, &ONE_HOP);
    let refusals = Rc::new(Cell::new(3));
    let left = refusals.clone();
    scene.destination(2, move |line| {
        if line.starts_with("RCPT TO:<later@") && left.get() > 0 {
            left.set(left.get() - 1);
            return "450 4.2.1 come back".into();
        }
        String::new()
    });
    scene.send(FROM, &["kim@a.example", "later@a.example"], BODY);
    scene.pass(Duration::from_secs(2));
    assert_eq!(scene.destinations[0].taken[0].to, ["kim@a.example"]);
    scene.until("the last is delivered", |scene| scene.gateway.delivered() == 2);
    assert_eq!(scene.taken(0), 2);
    assert_eq!(scene.destinations[0].taken[1].to, ["later@a.example"]);
    assert_eq!(refusals.get(), 0);
    // 5 s, 10 s and 20 s, each up to a fifth longer.
    let seconds = scene.world.now().0 as f64 / 1e9;
    assert!((35.0..44.0).contains(&seconds), "{seconds} s");
}

#[test]
fn a_refused_recipient_bounces_to_the_sender() {
    let mut scene = Scene::new(5, &ONE_HOP);
    scene.destination(2, |line| {
        if line.starts_with("RCPT TO:<nobody@") { "550 5.1.1 no such person".into() } else { String::new() }
    });
    scene.send(FROM, &["nobody@a.example"], BODY);
    scene.pass(Duration::from_secs(60));
    assert_eq!(scene.taken(0), 1);
    let bounce = &scene.destinations[0].taken[0];
    assert_eq!((bounce.from.as_str(), bounce.to.as_slice()), ("", [FROM.to_owned()].as_slice()));
    let text = String::from_utf8_lossy(&bounce.body);
    assert!(text.contains("Final-Recipient: rfc822; nobody@a.example\r\n"), "{text}");
    assert!(text.contains("Diagnostic-Code: smtp; 550 5.1.1 no such person\r\n"), "{text}");
    assert!(text.contains("Subject: hello\r\n") && !text.contains("bye"), "headers only: {text}");
    assert_eq!(scene.gateway.shard.stats().messages, 0);
}

#[test]
fn nobody_is_told_of_a_notification_that_fails() {
    let mut scene = Scene::new(6, &ONE_HOP);
    scene.destination(2, |line| {
        if line.starts_with("RCPT") { "550 5.1.1 no such person".into() } else { String::new() }
    });
    scene.send("", &["nobody@a.example"], BODY);
    scene.pass(Duration::from_secs(60));
    assert_eq!(scene.taken(0), 0);
    assert_eq!(scene.gateway.shard.stats().messages, 0);
}

#[test]
fn a_site_that_is_down_is_tried_with_one_back_off_until_it_is_up() {
    let mut scene = Scene::new(7, &ONE_HOP);
    for _ in 0..50 {
        scene.send(FROM, &["kim@a.example"], BODY);
    }
    scene.pass(Duration::from_secs(3600));
    let deferred =
        scene.gateway.metric("gatepost_deliveries_total{tenant=\"proseware\",outcome=\"deferred\"}");
    assert_eq!(deferred, 0, "a site that is down is no record per message");
    scene.destination(2, usual);
    scene.until("all are delivered", |scene| scene.gateway.delivered() == 50);
    assert_eq!(scene.taken(0), 50);
}

#[test]
fn what_waits_too_long_expires_with_a_bounce() {
    let retry = Retry { expire: Duration::from_secs(3600), ..RETRY };
    // Down for the message, up for its bounce.
    let mut scene = Scene::with(8, &ONE_HOP, 20, retry);
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.until("it has expired", |scene| scene.gateway.shard.stats().committed == 2);
    let hours = scene.world.now().0 as f64 / 3.6e12;
    assert!((1.0..2.5).contains(&hours), "{hours} hours");
    scene.destination(2, usual);
    scene.pass(Duration::from_secs(2 * 3600));
    assert_eq!(scene.taken(0), 1);
    let text = String::from_utf8_lossy(&scene.destinations[0].taken[0].body).into_owned();
    assert!(text.contains("Given up after trying since") && text.contains("Status: 5.4.7\r\n"), "{text}");

    // Deferred by the destination, time and again.
    let mut scene = Scene::with(9, &ONE_HOP, 20, retry);
    scene.destination(2, |line| {
        if line.starts_with("RCPT TO:<kim@") { "450 4.2.2 mailbox full".into() } else { String::new() }
    });
    scene.send(FROM, &["kim@a.example"], BODY);
    scene.until("the bounce is delivered", |scene| scene.taken(0) == 1);
    let hours = scene.world.now().0 as f64 / 3.6e12;
    assert!((1.0..1.01).contains(&hours), "the last attempt is made at expiry: {hours} hours");
    let text = String::from_utf8_lossy(&scene.destinations[0].taken[0].body).into_owned();
    assert!(text.contains("Diagnostic-Code: smtp; 450 4.2.2 mailbox full\r\n"), "{text}");
}

#[test]
fn a_large_body_streams_from_the_spool() {
    let mut scene = Scene::new(10, &ONE_HOP);
    scene.destination(2, usual);
    let body = scene.send_large(FROM, &["kim@a.example"], 700 << 10);
    scene.until("it is delivered", |scene| scene.gateway.delivered() == 1);
    let mut expected = b"Received: by relay.example\r\n".to_vec();
    expected.extend_from_slice(&body);
    assert!(scene.destinations[0].taken[0].body == expected, "the bytes differ");
}

#[test]
fn a_connection_that_breaks_loses_nothing() {
    for at in ["MAIL", "RCPT", "DATA", "."] {
        let mut scene = Scene::new(11, &ONE_HOP);
        let mut count = 0;
        scene.destination(2, move |line| {
            count += i32::from(line.starts_with(at));
            if line.starts_with(at) && count % 3 == 2 { "drop".into() } else { String::new() }
        });
        for _ in 0..20 {
            scene.send(FROM, &["kim@a.example"], BODY);
        }
        scene.until("all are delivered", |scene| scene.gateway.delivered() == 20);
        assert_eq!(scene.taken(0), 20, "dropped at {at}");
        assert_eq!(scene.gateway.delivery.queued_messages(), 0);
    }
}

#[test]
fn a_crash_loses_nothing_and_what_was_answered_is_not_sent_again() {
    for seed in 0..30 {
        let mut scene = Scene::new(seed, &ONE_HOP);
        scene.destination(2, usual);
        for _ in 0..10 {
            scene.send(FROM, &["kim@a.example", "lee@a.example"], BODY);
        }
        scene.until("they are durable", |scene| scene.gateway.shard.stats().committed == 10);
        let moment = scene.world.random(60);
        scene.pass(Duration::from_millis(moment));
        let delivered = scene.gateway.delivered();
        scene.crash();
        let done = delivered / 2;
        scene.until("the spool is empty", |scene| scene.gateway.shard.stats().messages == 0);
        let taken = scene.taken(0) as u64;
        assert!(taken >= 10 && taken <= 20 + done, "seed {seed}: {taken} taken, {done} before the crash");
    }
}

#[test]
fn a_drain_finishes_what_is_under_way_and_keeps_the_rest() {
    let mut scene = Scene::with(12, &ONE_HOP, 1, RETRY);
    scene.destination(2, usual);
    for _ in 0..50 {
        scene.send(FROM, &["kim@a.example"], BODY);
    }
    scene.until("some are delivered", |scene| scene.gateway.delivered() >= 5);
    scene.gateway.drain();
    scene.until("nothing is under way", |scene| scene.gateway.delivery.is_idle());
    scene.pass(Duration::from_secs(1));
    let delivered = scene.gateway.delivered();
    assert!(delivered < 50);
    assert_eq!(scene.taken(0) as u64, delivered);
    assert_eq!(scene.gateway.shard.stats().messages, 50 - delivered);
}
