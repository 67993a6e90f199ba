//! The spool's files vanish, and what is left of them has no room for outcomes.

mod harness;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use harness::Scene;
use mail::MessageId;
use ring::Disk;
use spool::WATCH_INTERVAL;

const FROM: &str = "terri@proseware.example";
const BODY: &str = "Subject: hello\r\n\r\nbye\r\n";
const SHARD: &str = "/spool/shard-000";
const MINUTE: Duration = Duration::from_secs(60);

/// Puts every file of the shard whose name begins with `from` under one that begins with `to`.
fn rename(scene: &mut Scene, from: &str, to: &str) {
    let ring = &mut scene.gateway.ring;
    let names = ring.list(Path::new(SHARD)).expect("the shard has its directory");
    let of = |name: &str| PathBuf::from(format!("{SHARD}/{name}"));
    for name in names.iter().filter_map(|name| name.strip_prefix(from)) {
        ring.rename(&of(&format!("{from}{name}")), &of(&format!("{to}{name}"))).expect("it was listed");
    }
}

#[test]
fn without_room_what_is_delivered_is_settled_and_bounces_wait_for_the_files() {
    let mut scene = Scene::crowded(1, &["10.0.0.2:25"]);
    let is_open = Rc::new(Cell::new(false));
    let opens = is_open.clone();
    scene.destination(2, move |line| match line {
        "CONNECT" if !opens.get() => "421 4.3.2 not now".into(),
        _ if line.starts_with("RCPT TO:<wait") => "450 4.2.1 later".into(),
        _ if line.starts_with("RCPT TO:<nobody") => "550 5.1.1 no such person".into(),
        _ => String::new(),
    });
    // In each segment one waits, so that none can be used again.
    let (mut waiting, mut refused): (Vec<MessageId>, Vec<MessageId>) = Default::default();
    for number in 0..100_u64 {
        let to = match number {
            95.. => "nobody@a.example",
            _ if number % 3 == 0 => "wait@a.example",
            _ => "kim@a.example",
        };
        let id = scene.send(FROM, &[to], BODY);
        match number {
            95.. => refused.push(id),
            _ if number % 3 == 0 => waiting.push(id),
            _ => {}
        }
        scene.until("it is durable", |scene| scene.gateway.shard.stats().committed == number + 1);
        // Until the next segment is ready.
        scene.pass(Duration::from_millis(200));
    }
    scene.gateway.shard.watch(WATCH_INTERVAL);
    rename(&mut scene, "segment-", "aside-");
    scene.pass(2 * WATCH_INTERVAL);
    assert!(scene.gateway.shard.stats().vanished);
    is_open.set(true);
    scene.until("what can be delivered is", |scene| scene.gateway.delivered() == 63);
    scene.pass(MINUTE);
    let mut lost = scene.gateway.shard.lost(&mut scene.gateway.ring);
    lost.sort_unstable();
    let mut expected = [&waiting[..], &refused].concat();
    expected.sort_unstable();
    assert_eq!(lost, expected, "what was delivered is not lost, and what bounces is");
    assert_eq!(scene.taken(0), 63, "each was sent once, and no bounce");
    let mut is_idle = || {
        scene.pass(Duration::from_secs(1));
        scene.gateway.delivery.is_idle()
    };
    assert!((0..600).any(|_| is_idle()), "bounces without a place hold nothing up");

    rename(&mut scene, "aside-", "segment-");
    scene.until("the bounces are out", |scene| scene.gateway.delivered() == 68);
    assert!(!scene.gateway.shard.stats().vanished);
    assert_eq!(scene.gateway.delivery.queued_messages(), waiting.len());
}
