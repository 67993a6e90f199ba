//! A destination cannot make us storm it: whatever it says or leaves out, and whenever it hangs up, no more
//! connections come to it than retries are due. Counted where it counts: at its socket.

mod harness;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use delivery::Retry;
use harness::{RETRY, Scene};
use policy::RouteTls;
use ring::sim::SimOptions;

const FROM: &str = "terri@proseware.example";
const BODY: &str = "Subject: hello\r\n\r\nbye\r\n";
const TO: [&str; 1] = ["kim@a.example"];
const ONE_HOP: [&str; 1] = ["10.0.0.2:25"];
const HOUR: Duration = Duration::from_secs(3600);

/// Attempts that are due within `time` where each fails at once: the first, and one after each wait.
fn tries_within(retry: Retry, time: Duration) -> u32 {
    let waits = (1..).map(|failures| retry.wait(failures, 0));
    let ends = waits.scan(Duration::ZERO, |end, wait| {
        *end += wait;
        Some(*end)
    });
    1 + ends.take_while(|end| *end <= time).count() as u32
}

/// Where a destination may misbehave: as the harness names the moments.
const MOMENTS: [&str; 8] = ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".", "RSET", "QUIT"];

/// How: with more than was asked for, with less, with nonsense, or by hanging up.
const MISDEEDS: [&str; 14] = [
    "{}\r\n421 4.7.0 too many connections",
    "{}\r\n{}",
    "{}\r\n250 x\r\n250 x\r\n250 x\r\n250 x\r\n250 x\r\n250 x",
    "421 4.7.0 too many connections",
    "close:{}",
    "cut:{}",
    "cut:25",
    "drop",
    "reset",
    "mute",
    "hello",
    "late:400:{}",
    "250 2.0.0 ok",
    "354 go on",
];

/// It does so at one moment, every time.
fn always(moment: &'static str, misdeed: &'static str) -> impl FnMut(&str) -> String {
    move |line| if line.starts_with(moment) { misdeed.to_owned() } else { String::new() }
}

#[test]
fn a_destination_that_misbehaves_at_one_moment_gets_one_connection_a_retry() {
    for moment in MOMENTS {
        for misdeed in MISDEEDS {
            let mut scene = Scene::new(1, &ONE_HOP);
            scene.destination(2, always(moment, misdeed));
            scene.send(FROM, &TO, BODY);
            scene.pass(HOUR);
            let (connections, due) = (scene.destinations[0].connections, tries_within(RETRY, HOUR));
            assert!(
                (1..=due).contains(&connections),
                "{connections} connections at {moment} {misdeed:?}; {due} retries were due"
            );
        }
    }
}

#[test]
fn only_a_failure_of_tls_is_a_reason_to_try_an_address_again_in_the_clear() {
    for moment in ["CONNECT", "EHLO"] {
        for misdeed in ["421 4.7.0 too many connections", "554 5.7.1 go away", "drop", "250 x\r\n250 x"] {
            let mut scene = Scene::sealed(1, &ONE_HOP, RouteTls::Opportunistic);
            scene.destination(2, always(moment, misdeed));
            scene.send(FROM, &TO, BODY);
            scene.pass(HOUR);
            let (connections, due) = (scene.destinations[0].connections, tries_within(RETRY, HOUR));
            assert!(
                (1..=due).contains(&connections),
                "{connections} connections at {moment} {misdeed:?}; {due} retries were due"
            );
        }
    }
}

/// Seeds of destinations that misbehave as they please; with `GATEPOST_STORM_SEEDS` as many as it says.
const SEEDS: u64 = 300;

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Says what it should or anything else, as often as the seed has it.
fn at_random(seed: u64) -> impl FnMut(&str) -> String {
    let mut dice = Dice((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let one_in = [1, 2, 5, 20][dice.below(4)];
    let always = MOMENTS[dice.below(MOMENTS.len())];
    let misdeed = MISDEEDS[dice.below(MISDEEDS.len())];
    move |line| {
        if one_in == 1 {
            return if line.starts_with(always) { misdeed.to_owned() } else { String::new() };
        }
        let misbehaves = dice.below(one_in) == 0;
        let (misdeed, later) = (MISDEEDS[dice.below(MISDEEDS.len())], dice.below(40));
        match misdeed {
            _ if !misbehaves => String::new(),
            "late:400:{}" => format!("late:{later}:{{}}"),
            misdeed => misdeed.to_owned(),
        }
    }
}

/// What time a record has, in milliseconds of a day.
fn time_of(record: &str) -> u64 {
    let at = record.find("\"time\":\"").expect("every record has a time") + "\"time\":\"".len();
    let number = |from: usize, length: usize| -> u64 {
        record[at + from..at + from + length].parse().expect("a time as in 2026-01-01T00:00:00.000Z")
    };
    ((number(11, 2) * 60 + number(14, 2)) * 60 + number(17, 2)) * 1000 + number(20, 3)
}

#[test]
fn whatever_a_destination_does_connections_are_at_most_addresses_tried_times_the_retries_due() {
    const ADDRESSES_TRIED: u64 = 10;
    let seeds = std::env::var("GATEPOST_STORM_SEEDS").ok().and_then(|count| count.parse().ok());
    for seed in 0..seeds.unwrap_or(SEEDS) {
        let hops: &[&str] = if seed % 3 == 0 { &["10.0.0.2:25", "10.0.0.3:25"] } else { &ONE_HOP };
        let mut scene = Scene::new(seed, hops);
        // In one piece or in many, and now and then cut off on the way.
        scene.world.set_options(SimOptions {
            piece_bytes_max: [1, 9, 16 << 10][(seed / 3 % 3) as usize],
            reset_probability: [0.0, 0.0, 0.002][(seed / 9 % 3) as usize],
            ..SimOptions::default()
        });
        let log = scene.gateway.keep_log();
        for host in 0..hops.len() as u8 {
            scene.destination(2 + host, at_random(seed * 2 + u64::from(host)));
        }
        for _ in 0..1 + seed % 9 {
            scene.send("", &TO, BODY);
        }
        scene.pass(HOUR);
        let connections: u32 = scene.destinations.iter().map(|host| host.connections).sum();
        drop(scene);
        // A job is due when it comes and after each attempt that deferred it; a site after each failure.
        let ended = ["delivered", "failed", "deferred", "expired"].map(|event| log.records(event).len());
        let failures: Vec<u64> =
            log.records("site_unavailable").iter().map(|record| time_of(record)).collect();
        let due = ended.iter().sum::<usize>() + failures.len() + 1 + (seed % 9) as usize;
        let most = ADDRESSES_TRIED * due as u64;
        assert!(u64::from(connections) <= most, "seed {seed}: {connections} connections, {due} retries due");
        let first = RETRY.first.as_millis() as u64;
        let gaps = failures.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(
            gaps.min().is_none_or(|gap| gap >= first),
            "seed {seed}: it fails before it is due: {failures:?}"
        );
    }
}

#[test]
fn a_failing_site_is_known_with_its_reply_since_when_and_the_next_try_and_logged_once_a_try() {
    let spoken = "421 4.7.0 too many connections";
    for (moment, misdeed, reply) in [
        ("CONNECT", "421 4.7.0 too many connections", spoken),
        ("EHLO", "{}\r\n421 4.7.0 too many connections", spoken),
        ("EHLO", "{}\r\n250 x", "does not speak SMTP properly"),
        ("EHLO", "close:{}", "ended the connection"),
        ("MAIL", "421 4.7.0 too many connections", spoken),
        ("MAIL", "reset", "the connection broke"),
        ("RCPT", "drop", "ended the connection"),
        ("DATA", "cut:35", "ended the connection"),
        (".", "drop", "ended the connection"),
    ] {
        let mut scene = Scene::new(3, &ONE_HOP);
        let log = scene.gateway.keep_log();
        scene.destination(2, always(moment, misdeed));
        scene.send(FROM, &TO, BODY);
        scene.pass(Duration::from_secs(600));
        let failing = scene.gateway.failing_sites();
        let [(site, failure)] = &failing[..] else { panic!("{failing:?} after {moment} {misdeed:?}") };
        assert_eq!(&**site, ONE_HOP[0]);
        assert!(failure.reply.to_string().contains(reply), "{} after {moment} {misdeed:?}", failure.reply);
        let now = mail::UnixMillis(scene.world.unix_millis());
        assert!(now.since(failure.since) > 590_000, "since its first failure, not its last");
        let rest = failure.rest(now, RETRY.longest_wait());
        assert!(!rest.is_zero() && rest <= RETRY.longest_wait());
        let connections = scene.destinations[0].connections;
        assert_eq!(failure.failures, connections, "at {moment} {misdeed:?}");
        drop(scene);
        let records = log.records("site_unavailable");
        assert_eq!(records.len() as u32, connections, "{records:#?}");
        assert!(records[0].contains(reply) && records[0].contains("\"retry_seconds\":"), "{}", records[0]);
    }
}

#[test]
fn a_site_that_works_again_is_no_longer_failing_and_the_log_says_so_once() {
    let mut scene = Scene::new(4, &ONE_HOP);
    let log = scene.gateway.keep_log();
    let left = Rc::new(Cell::new(3));
    let failures = left.clone();
    scene.destination(2, move |line| {
        let fails = line == "CONNECT" && failures.get() > 0;
        failures.set(failures.get() - u32::from(fails));
        if fails { "421 4.3.2 not now".into() } else { String::new() }
    });
    for _ in 0..3 {
        scene.send(FROM, &TO, BODY);
    }
    scene.until("all are delivered", |scene| scene.gateway.delivered() == 3);
    assert_eq!(scene.gateway.failing_sites(), []);
    drop(scene);
    assert!(!log.records("site_unavailable").is_empty());
    let available = log.records("site_available");
    assert_eq!(available.len(), 1);
    assert!(available[0].contains("\"failed_seconds\":"), "{}", available[0]);
}

#[test]
fn refused_recipients_and_our_own_quit_are_no_failures_of_a_site() {
    for reply in ["450 4.2.1 later", "550 5.1.1 no such person", "552 5.2.2 full"] {
        let mut scene = Scene::new(5, &ONE_HOP);
        scene.destination(2, always("RCPT", reply));
        scene.send("", &TO, BODY);
        // The connection is idle, then we take our leave.
        scene.pass(Duration::from_secs(60));
        assert_eq!(scene.gateway.failing_sites(), [], "after {reply}");
    }
}

#[test]
fn mail_expires_where_its_site_always_fails() {
    let retry = Retry { expire: HOUR, ..RETRY };
    for (moment, misdeed) in [
        ("CONNECT", "421 4.7.0 too many connections"),
        ("EHLO", "{}\r\n421 4.7.0 too many connections"),
        ("EHLO", "close:{}"),
        ("MAIL", "drop"),
        ("RCPT", "421 4.7.0 too many connections"),
        (".", "reset"),
    ] {
        let mut scene = Scene::with(6, &ONE_HOP, 20, retry);
        scene.destination(2, always(moment, misdeed));
        scene.send("", &TO, BODY);
        let limit = HOUR + retry.longest_wait() + retry.longest_wait();
        scene.pass(limit);
        assert_eq!(scene.gateway.delivery.queued_messages(), 0, "it waits after {moment} {misdeed:?}");
        let expired = "gatepost_deliveries_total{tenant=\"proseware\",outcome=\"expired\"}";
        assert_eq!(scene.gateway.metric(expired), 1);
        let due = tries_within(retry, limit);
        assert!(
            scene.destinations[0].connections <= due,
            "{} connections",
            scene.destinations[0].connections
        );
    }
}

#[test]
fn the_next_hop_after_one_that_hangs_up_before_mail_takes_over_at_once() {
    for misdeed in ["{}\r\n421 4.7.0 too many connections", "close:{}", "{}\r\n250 x"] {
        let mut scene = Scene::new(7, &["10.0.0.2:25", "10.0.0.3:25"]);
        scene.destination(2, always("EHLO", misdeed));
        scene.destination(3, |_| String::new());
        scene.send(FROM, &TO, BODY);
        scene.pass(Duration::from_secs(4));
        assert_eq!((scene.taken(0), scene.taken(1)), (0, 1), "after {misdeed:?}");
        assert_eq!(scene.destinations[0].connections, 1);
        assert_eq!(scene.gateway.failing_sites(), [], "one of its next hops serves");
    }
}

#[test]
fn a_next_hop_that_has_failed_is_avoided_while_another_serves() {
    for (moment, misdeed) in [("CONNECT", "421 4.3.2 closing"), ("MAIL", "drop"), (".", "drop")] {
        let mut scene = Scene::new(8, &["10.0.0.2:25", "10.0.0.3:25"]);
        scene.destination(2, always(moment, misdeed));
        scene.destination(3, |_| String::new());
        scene.send(FROM, &TO, BODY);
        scene.until("it is delivered", |scene| scene.taken(1) == 1);
        assert_eq!(scene.destinations[0].connections, 1, "after {moment} {misdeed:?}");
        // The connection that served is gone; the next one goes by the first hop all the same.
        scene.pass(Duration::from_secs(20));
        scene.send(FROM, &TO, BODY);
        scene.until("one more is delivered", |scene| scene.taken(1) == 2);
        assert_eq!((scene.destinations[0].connections, scene.destinations[1].connections), (1, 2));
    }
}

#[test]
fn an_attempt_opens_ten_connections_at_most_whatever_addresses_there_are() {
    const HOPS: [&str; 14] = [
        "10.0.0.2:25",
        "10.0.0.3:25",
        "10.0.0.4:25",
        "10.0.0.5:25",
        "10.0.0.6:25",
        "10.0.0.7:25",
        "10.0.0.8:25",
        "10.0.0.9:25",
        "10.0.0.10:25",
        "10.0.0.11:25",
        "10.0.0.12:25",
        "10.0.0.13:25",
        "10.0.0.14:25",
        "10.0.0.15:25",
    ];
    let mut scene = Scene::new(9, &HOPS);
    for last in 2..2 + HOPS.len() as u8 {
        scene.destination(last, always("CONNECT", "421 4.7.0 too many connections"));
    }
    let connections = |scene: &Scene| -> u32 { scene.destinations.iter().map(|host| host.connections).sum() };
    scene.send(FROM, &TO, BODY);
    scene.until("the site has failed", |scene| !scene.gateway.failing_sites().is_empty());
    assert_eq!(connections(&scene), 10);
    scene.until("it has failed again", |scene| scene.gateway.failing_sites()[0].1.failures == 2);
    assert_eq!(connections(&scene), 20);
    assert!(scene.destinations.iter().all(|host| host.connections > 0), "the others had their turn");
}

#[test]
fn connections_that_break_together_are_one_failure() {
    let mut scene = Scene::new(10, &ONE_HOP);
    let breaks = Rc::new(Cell::new(false));
    let is_breaking = breaks.clone();
    scene.destination(2, move |line| match line {
        "." if is_breaking.get() => "drop".into(),
        "." => "late:10:{}".into(),
        _ => String::new(),
    });
    for _ in 0..40 {
        scene.send(FROM, &TO, BODY);
    }
    scene.until("many are open", |scene| scene.destinations[0].open_max >= 10);
    breaks.set(true);
    scene.until("it has failed", |scene| !scene.gateway.failing_sites().is_empty());
    breaks.set(false);
    let failure = scene.gateway.failing_sites()[0].1.clone();
    assert_eq!(failure.failures, 1);
    scene.until("all are delivered", |scene| scene.gateway.delivered() == 40);
}
