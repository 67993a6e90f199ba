//! The log on this machine's kernel and file system, by io_uring.

mod harness;

use std::time::Duration;

use harness::*;
use ring::uring::{UringOptions, UringRing};
use ring::{Handle, RealDisk, Ring};
use spool::{Content, Event, Outcome, Shard, inspect};

/// Turns until `wanted` says that it has seen enough.
fn turn_until(ring: &mut UringRing, shard: &mut Shard, mut wanted: impl FnMut(Event) -> bool) {
    let mut completions = Vec::new();
    loop {
        shard.flush(ring);
        let deadline = ring.now().after(Duration::from_secs(10));
        ring.turn(Some(deadline), &mut completions).expect("the ring turns");
        assert!(!completions.is_empty(), "nothing came for ten seconds");
        for completion in completions.drain(..) {
            shard.complete(ring, completion);
        }
        while let Some(event) = shard.poll() {
            if wanted(event) {
                return;
            }
        }
    }
}

#[test]
fn mail_is_committed_finished_and_found_again() {
    let mut ring = UringRing::new(UringOptions::default()).expect("this kernel has io_uring");
    let directory = tempfile::tempdir().unwrap();
    let mut options = options();
    options.directory = directory.path().to_owned();
    (options.segment_bytes, options.capacity_bytes) = (1 << 20, 16 << 20);
    let (mut shard, _) = Shard::open(&mut ring, options.clone()).unwrap();
    let envelope = envelope(1);
    let mut keys = Vec::new();
    for round in 0..8 {
        for number in round * 5..round * 5 + 5 {
            let body = body(number, 3000);
            shard
                .append(&message(number, &envelope, Content::Inline(&body)), Some(Handle::fixed(number)))
                .unwrap();
        }
        let mut waiting = 5;
        turn_until(&mut ring, &mut shard, |event| {
            if let Event::Committed { key, waiter: Some(waiter), message } = event {
                assert_eq!(content(&message), wire(waiter.index(), 3000));
                keys.push(key);
                waiting -= 1;
            }
            waiting == 0
        });
    }
    for key in &keys[..30] {
        shard.outcomes(*key, &[(0, Outcome::Delivered)], &[], None).unwrap();
    }
    shard.load(&mut ring, keys[35], Handle::fixed(1));
    let mut loaded = None;
    turn_until(&mut ring, &mut shard, |event| {
        if let Event::Loaded { result, .. } = event {
            loaded = Some(content(&result.unwrap()));
        }
        loaded.is_some()
    });
    assert_eq!(loaded.unwrap(), wire(35, 3000));
    while !shard.idle() {
        let mut completions = Vec::new();
        shard.flush(&mut ring);
        ring.turn(None, &mut completions).unwrap();
        completions.into_iter().for_each(|completion| shard.complete(&mut ring, completion));
    }
    drop((shard, ring));
    let queued = inspect::list(&mut RealDisk::default(), directory.path()).unwrap();
    assert_eq!(
        queued.iter().map(|message| message.id).collect::<Vec<_>>(),
        (30..40).map(id).collect::<Vec<_>>()
    );
    assert!(inspect::verify(&mut RealDisk::default(), directory.path()).unwrap().is_sound());
    let (_, recovered) = Shard::open(&mut RealDisk::default(), options).unwrap();
    assert_eq!(recovered.len(), 10);
}
