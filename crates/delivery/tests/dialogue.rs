//! Dialogues that go wrong in the middle: next hops that fall silent, answer too early or are cut off, and
//! what becomes of the mail.

mod harness;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use harness::{Scene, ip};

const FROM: &str = "terri@proseware.example";
const BODY: &str = "Subject: hello\r\n\r\nbye\r\n";
const TO: [&str; 1] = ["kim@a.example"];
const ONE_HOP: [&str; 1] = ["10.0.0.2:25"];
const TWO_HOPS: [&str; 2] = ["10.0.0.2:25", "10.0.0.3:25"];

/// More than what is on its way at once between two hosts.
const LARGE_BYTES: usize = 700 << 10;

/// The longest patience with a next hop, and the back-off after it.
const PATIENCE: Duration = Duration::from_secs(700);

fn usual(_: &str) -> String {
    String::new()
}

#[test]
fn a_next_hop_that_falls_silent_is_given_up_at_each_moment_and_the_other_one_serves() {
    for moment in ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let mut scene = Scene::new(1, &TWO_HOPS);
        let silent =
            scene.destination(2, move |line| if line.starts_with(moment) { "mute" } else { "" }.to_owned());
        let other = scene.destination(3, usual);
        scene.send(FROM, &TO, BODY);
        scene.pass(PATIENCE);
        assert_eq!((scene.taken(silent), scene.taken(other)), (0, 1), "silent at {moment}");
        assert_eq!(scene.gateway.delivered(), 1, "silent at {moment}");
        assert_eq!(scene.destinations[silent].connections, 1, "silent at {moment}");
        scene.pass(PATIENCE);
        assert!(scene.gateway.delivery.is_idle(), "a connection is left that was silent at {moment}");
    }
}

/// A reply has one deadline from its first byte to its last.
#[test]
fn a_next_hop_that_drips_is_given_up_as_a_silent_one_is() {
    for moment in ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let mut scene = Scene::new(1, &TWO_HOPS);
        let slow = scene
            .destination(2, move |line| if line.starts_with(moment) { "drip:60:{}" } else { "" }.to_owned());
        let other = scene.destination(3, usual);
        scene.send(FROM, &TO, BODY);
        scene.pass(PATIENCE);
        assert_eq!((scene.taken(other), scene.gateway.delivered()), (1, 1), "it drips at {moment}");
        assert_eq!(scene.destinations[slow].connections, 1, "it drips at {moment}");
        scene.pass(PATIENCE);
        assert!(scene.gateway.delivery.is_idle(), "a connection is left that drips at {moment}");
    }
}

/// Lines of a reply are no replies.
#[test]
fn a_next_hop_that_goes_on_and_on_is_given_up() {
    let mut scene = Scene::new(1, &TWO_HOPS);
    let endless = "250-destination.example\r\n".repeat(40);
    scene.destination(2, move |line| {
        if line.starts_with("EHLO") { format!("drip:3:{endless}250 x") } else { String::new() }
    });
    let other = scene.destination(3, usual);
    scene.send(FROM, &TO, BODY);
    scene.pass(PATIENCE);
    assert_eq!((scene.taken(other), scene.gateway.delivered()), (1, 1));
}

/// The beginning of a record whose end never comes.
#[test]
fn a_handshake_that_drips_has_one_deadline() {
    let mut scene = Scene::sealed(1, &ONE_HOP, policy::RouteTls::Required);
    let record = format!("220 2.0.0 go on\r\n\u{16}\u{3}\u{3}\u{3f}\u{7f}{}", "x".repeat(200));
    scene.destination(2, move |line| match line {
        "STARTTLS" => format!("tail:20:{record}"),
        _ if line.starts_with("EHLO") => "250-destination.example\r\n250 STARTTLS".into(),
        _ => String::new(),
    });
    scene.send(FROM, &TO, BODY);
    // Five minutes for the reply, and as many for the handshake.
    scene.pass(2 * PATIENCE);
    let failing = scene.gateway.failing_sites();
    let said = failing.first().map(|(_, failure)| failure.reply.to_string()).unwrap_or_default();
    assert!(said.contains("did not answer in time"), "{said:?}");
}

#[test]
fn a_next_hop_that_takes_no_more_of_a_body_is_given_up() {
    let mut scene = Scene::new(2, &TWO_HOPS);
    let deaf = scene.destination(2, |line| if line == "DATA" { "deaf:{}" } else { "" }.to_owned());
    let other = scene.destination(3, usual);
    scene.send_large(FROM, &TO, LARGE_BYTES);
    scene.pass(PATIENCE);
    assert_eq!((scene.taken(deaf), scene.taken(other)), (0, 1));
}

#[test]
fn a_goodbye_without_an_answer_keeps_no_connection() {
    for answer in ["mute", "drip:4:{}"] {
        let mut scene = Scene::new(3, &ONE_HOP);
        scene.destination(2, move |line| if line == "QUIT" { answer } else { "" }.to_owned());
        scene.send(FROM, &TO, BODY);
        scene.pass(Duration::from_secs(30));
        assert_eq!(scene.gateway.delivered(), 1);
        assert!(scene.gateway.delivery.is_idle(), "it waits for {answer:?}");
        assert_eq!(scene.gateway.failing_sites(), []);
    }
}

/// Whatever ends the connection: what was asked of the spool for it is given up too.
#[test]
fn nothing_is_left_of_a_large_body_whose_connection_ends() {
    for misdeed in ["deaf:{}", "{}\r\n451 4.3.0 not now", "{}\r\n250 2.0.0 taken"] {
        let mut scene = Scene::new(9, &ONE_HOP);
        let is_first = Cell::new(true);
        scene.destination(2, move |line| {
            let misbehaves = line == "DATA" && is_first.replace(false);
            if misbehaves { misdeed } else { "" }.to_owned()
        });
        let large = scene.send_large(FROM, &TO, LARGE_BYTES);
        scene.until("it is delivered", |scene| scene.gateway.delivered() == 1);
        assert!(scene.destinations[0].taken[0].body == with_trace(&large), "the bytes differ");
        scene.pass(Duration::from_secs(60));
        assert!(scene.gateway.delivery.is_idle(), "a read is left after {misdeed:?}");
        assert_eq!(scene.gateway.shard.stats().messages, 0);
    }
}

#[test]
fn a_yes_before_the_end_of_a_body_is_not_believed() {
    for is_large in [false, true] {
        let mut scene = Scene::new(4, &ONE_HOP);
        let is_first = Cell::new(true);
        scene.destination(2, move |line| {
            let lies = line == "DATA" && is_first.replace(false);
            if lies { "{}\r\n250 2.0.0 taken".into() } else { String::new() }
        });
        if is_large {
            scene.send_large(FROM, &TO, LARGE_BYTES);
        } else {
            scene.send(FROM, &TO, BODY);
        }
        scene.until("it is said to be delivered", |scene| scene.gateway.delivered() == 1);
        assert_eq!(scene.taken(0), 1, "it was said to be delivered and is not there");
        assert_eq!(scene.destinations[0].connections, 2);
    }
}

#[test]
fn a_connection_ends_with_a_body_that_cannot_be_read_on() {
    let mut scene = Scene::with(5, &ONE_HOP, 1, harness::RETRY);
    scene.destination(2, usual);
    let large = scene.send_large(FROM, &TO, LARGE_BYTES);
    let is_large = |path: &std::path::Path| path.to_string_lossy().contains("large-");
    assert!(!scene.world.spoil_sectors(ip(1), 8, is_large).is_empty());
    scene.until("it is being sent", |scene| scene.destinations[0].connections == 1);
    scene.send(FROM, &TO, BODY);
    scene.until("the other message is there", |scene| scene.taken(0) == 1);
    assert_eq!(scene.destinations[0].connections, 2, "half a body ends with its connection");
    assert_eq!(scene.destinations[0].taken[0].body, with_trace(BODY.as_bytes()));
    assert_eq!(scene.gateway.failing_sites(), [], "it is not the next hop that failed");
    scene.world.heal_disk(ip(1));
    scene.until("both are delivered", |scene| scene.gateway.delivered() == 2);
    assert!(scene.destinations[0].taken[1].body == with_trace(&large), "the bytes differ");
}

fn with_trace(body: &[u8]) -> Vec<u8> {
    [b"Received: by relay.example\r\n", body].concat()
}

#[test]
fn retry_times_and_attempts_outlive_a_restart() {
    let mut scene = Scene::new(6, &ONE_HOP);
    let tries = Rc::new(Cell::new(0));
    let counted = tries.clone();
    scene.destination(2, move |line| {
        let is_tried = line.starts_with("RCPT");
        counted.set(counted.get() + u32::from(is_tried));
        if is_tried { "450 4.2.1 come back" } else { "" }.to_owned()
    });
    scene.send(FROM, &TO, BODY);
    let now = |scene: &Scene| Duration::from_nanos(scene.world.now().0);
    // After 5, 10 and 20 seconds, each up to a fifth longer.
    scene.until("it was tried four times", |_| tries.get() == 4);
    let fourth = now(&scene);
    scene.pass(Duration::from_secs(5));
    scene.crash();
    scene.pass(Duration::from_secs(30));
    assert_eq!(tries.get(), 4, "the fifth attempt was not due before 40 s");
    scene.until("it was tried again", |_| tries.get() == 5);
    let fifth = now(&scene);
    assert!(fifth - fourth < Duration::from_secs(49), "{:?}", fifth - fourth);
    scene.pass(Duration::from_secs(79));
    assert_eq!(tries.get(), 5, "the wait after the fifth is 80 s");
    scene.until("it was tried again", |_| tries.get() == 6);
    assert!(now(&scene) - fifth < Duration::from_secs(97), "{:?}", now(&scene) - fifth);
}

#[test]
fn workers_share_the_back_off_of_a_site() {
    let mut scene = Scene::of_two(7, &ONE_HOP, 20);
    scene.destination(2, |line| if line == "CONNECT" { "421 4.3.2 not now" } else { "" }.to_owned());
    scene.send(FROM, &TO, BODY);
    scene.until("it has failed six times", |scene| {
        scene.gateway.failing_sites().first().is_some_and(|(_, failure)| failure.failures == 6)
    });
    assert_eq!(scene.destinations[0].connections, 6);
    scene.send_from_second(FROM, &TO, BODY);
    scene.pass(Duration::from_secs(150));
    assert_eq!(scene.destinations[0].connections, 6, "the other worker has found it down");
    scene.pass(Duration::from_secs(3600));
    // 160, 320, 640, 1280, 2560 seconds after one another, each tried by both.
    assert!((8..=14).contains(&scene.destinations[0].connections), "{}", scene.destinations[0].connections);
}

#[test]
fn a_worker_yields_the_only_connection_to_one_that_waits() {
    const MANY: u64 = 200;
    let mut scene = Scene::of_two(8, &ONE_HOP, 1);
    scene.destination(2, usual);
    for _ in 0..MANY {
        scene.send(FROM, &TO, BODY);
    }
    scene.until("the first worker is at it", |scene| scene.gateway.delivered() > 5);
    let asked = scene.world.now();
    scene.send_from_second(FROM, &TO, BODY);
    scene.until("the second had its turn", |scene| scene.others[0].delivered() == 1);
    // It is told when the lease comes back. By itself it looks again after half a second.
    let waited = scene.world.now().since(asked);
    assert!(waited < Duration::from_millis(400), "{waited:?}");
    let by_first = scene.gateway.delivered();
    assert!(by_first < MANY / 2, "only after {by_first} messages of the first");
    scene.until("the first had the rest", |scene| scene.gateway.delivered() == MANY);
    // One may still be saying goodbye.
    assert!(scene.destinations[0].open_max <= 2, "{} at once", scene.destinations[0].open_max);
}
