//! A message's life in the log: committed, kept, loaded, done, its space used again.

mod harness;

use std::path::Path;
use std::time::Duration;

use harness::*;
use mail::UnixMillis;
use ring::sim::SimOptions;
use ring::{Disk, OpenMode, RealDisk};
use spool::{
    Content, Event, LoadError, Options, Outcome, RecoveryProgress, Refusal, Shard, SpoolError, inspect,
};

#[test]
fn a_message_comes_back_as_it_went_in() {
    let mut bench = Bench::new(1);
    let (key, message) = bench.commit(7, 3, 5000);
    assert_eq!(content(&message), wire(7, 5000));
    let mut bench = bench.crash();
    assert_eq!(bench.recovered_ids(), [id(7)]);
    let recovered = &bench.recovered[0];
    assert_eq!(&*recovered.tenant, "acme");
    assert_eq!(recovered.pending.len(), 3);
    assert_eq!(&*recovered.pending[1].domain, "b1.example");
    let key_now = recovered.key;
    let loaded = bench.load(key_now).expect("it loads");
    assert_eq!(content(&loaded), wire(7, 5000));
    assert_eq!(loaded.identity(), "app@acme");
    assert_eq!(loaded.reverse_path().text(), "sender@a.example");
    assert_eq!(loaded.recipients().map(|to| to.text().to_owned()).nth(2).unwrap(), "rcpt2@b2.example");
    let _ = key;
}

#[test]
fn what_comes_during_a_write_is_the_next_group() {
    let mut bench = Bench::new(2);
    bench.settle();
    bench.append(0, 1, 100).unwrap();
    bench.turn();
    for number in 1..20 {
        bench.append(number, 1, 100).unwrap();
        bench.turn();
    }
    let events = bench.settle();
    let committed = events.iter().filter(|event| matches!(event, Event::Committed { .. })).count();
    assert_eq!(committed, 20);
    assert_eq!(bench.shard.stats().groups, 2);
}

#[test]
fn outcomes_survive_and_a_finished_message_does_not_come_back() {
    let mut bench = Bench::new(3);
    let (first, _) = bench.commit(1, 2, 100);
    let (second, _) = bench.commit(2, 2, 100);
    bench.deliver(first, 2).unwrap();
    bench.shard.outcomes(second, &[(0, Outcome::Failed)], &[], None).unwrap();
    bench.shard.deferred(second, &[1], UnixMillis(99), 3, &[]).unwrap();
    bench.settle();
    assert!(matches!(bench.load(first), Err(LoadError::Gone)));
    let bench = bench.crash();
    assert_eq!(bench.recovered_ids(), [id(2)]);
    let pending = &bench.recovered[0].pending;
    assert_eq!(pending.len(), 1);
    assert_eq!((pending[0].recipient, pending[0].attempts, pending[0].not_before), (1, 3, UnixMillis(99)));
}

#[test]
fn an_outcome_and_its_bounce_stand_or_fall_together() {
    for seed in 0..200 {
        let mut bench = Bench::new(seed);
        let (key, _) = bench.commit(1, 1, 100);
        let (envelope, body) = (envelope(1), body(2, 9000));
        let bounce = message(2, &envelope, Content::Inline(&body));
        bench.shard.outcomes(key, &[(0, Outcome::Expired)], &[], Some(&bounce)).unwrap();
        bench.turn();
        let bench = bench.crash();
        assert!([vec![id(1)], vec![id(2)]].contains(&bench.recovered_ids()), "seed {seed}");
    }
}

#[test]
fn an_attempt_that_was_under_way_may_be_a_duplicate() {
    let mut bench = Bench::new(4);
    let (key, _) = bench.commit(1, 2, 100);
    bench.shard.attempt_started(key, &[0, 1], UnixMillis(5), 1).unwrap();
    assert!(bench.shard.idle(), "the note waits for the next group");
    bench.shard.outcomes(key, &[(0, Outcome::Delivered)], &[], None).unwrap();
    bench.settle();
    let bench = bench.crash();
    assert_eq!(bench.shard.recovery().possible_duplicates, 1);
    assert_eq!(bench.recovered[0].pending[0].attempts, 1);
}

#[test]
fn a_message_that_left_memory_is_read_back() {
    let mut options = options();
    options.hot_bytes_max = 40 << 10;
    let mut bench = Bench::with(5, options, SimOptions::default());
    let keys: Vec<_> = (0..12).map(|number| bench.commit(number, 1, 3000).0).collect();
    assert!(bench.shard.stats().hot_bytes <= 40 << 10);
    for (number, key) in keys.into_iter().enumerate() {
        assert_eq!(content(&bench.load(key).unwrap()), wire(number as u32, 3000));
    }
}

#[test]
fn space_is_used_again_without_end() {
    let mut bench = Bench::new(6);
    bench.settle();
    for number in 0..300 {
        let (key, _) = bench.commit(number, 1, 12_000);
        bench.deliver(key, 1).unwrap();
        bench.settle();
    }
    assert!(bench.shard.stats().used_bytes <= 8 * SEGMENT_BYTES);
    let bench = bench.crash();
    assert_eq!(bench.recovered_ids(), []);
    assert_eq!(bench.shard.recovery().damage, []);
}

#[test]
fn a_former_life_of_a_segment_stays_dead() {
    // Crashes at random moments while segments are recycled: nothing finished may come back, nothing queued be lost.
    for seed in 0..150 {
        let mut bench = Bench::new(seed);
        let mut number = 0;
        for _ in 0..3 {
            let mut queued: Vec<_> = bench.recovered.iter().map(|one| (one.id, one.key)).collect();
            for _ in 0..30 + bench.world.random(40) {
                number += 1;
                let (key, _) = bench.commit(number, 1, 9000);
                queued.push((id(number), key));
                if queued.len() > 2 {
                    let (_, oldest) = queued.remove(bench.world.random(2) as usize);
                    bench.deliver(oldest, 1).unwrap();
                    bench.settle();
                }
            }
            bench.append(number + 1, 1, 9000).unwrap();
            bench.turn();
            bench = bench.crash();
            let mut left = bench.recovered_ids();
            left.retain(|one| *one != id(number + 1));
            assert_eq!(left, queued.iter().map(|(id, _)| *id).collect::<Vec<_>>(), "seed {seed}");
            assert_eq!(bench.shard.recovery().damage, [], "seed {seed}");
            number += 1;
        }
    }
}

#[test]
fn full_refuses_mail_but_takes_outcomes_and_recovers() {
    let mut bench = Bench::new(8);
    let mut keys = Vec::new();
    let refused = loop {
        let number = keys.len() as u32;
        match bench.append(number, 1, 12_000) {
            Ok(_) | Err(Refusal::Busy) => {}
            Err(refusal) => break refusal,
        }
        for event in bench.settle() {
            if let Event::Committed { key, .. } = event {
                keys.push(key);
            }
        }
        assert!(keys.len() < 200, "it must get full");
    };
    assert_eq!(refused, Refusal::Full);
    assert_eq!(bench.shard.accepts_mail(), Err(Refusal::Full));
    assert!(keys.len() > 40, "only {} messages fit", keys.len());
    for key in keys {
        bench.deliver(key, 1).expect("the reserve is for outcomes");
        bench.settle();
    }
    assert_eq!(bench.shard.accepts_mail(), Ok(()));
    bench.commit(1000, 1, 12_000);
}

#[test]
fn a_shard_has_no_more_segments_than_it_may_whatever_its_capacity() {
    for capacity_bytes in [u64::MAX, 400 * SEGMENT_BYTES] {
        let options = spool::Options { capacity_bytes, segments_max: 8, ..options() };
        let mut bench = Bench::with(12, options, SimOptions::default());
        let mut number = 0;
        while let Ok(_) | Err(Refusal::Busy) = bench.append(number, 1, 12_000) {
            bench.settle();
            number += 1;
            assert!(number < 200, "it must get full");
        }
        assert!(number > 40, "only {number} messages fit");
        let names = bench.ring.list(Path::new("/spool/shard-000")).unwrap();
        let segments = names.iter().filter(|name| name.starts_with("segment-")).count();
        assert!(segments <= 8, "{names:?}");
    }
}

#[test]
fn a_failed_write_latches_and_nothing_is_acknowledged() {
    let mut bench = Bench::new(9);
    bench.commit(1, 1, 100);
    bench.append(2, 1, 100).unwrap();
    bench.world.fail_disk(HOST, 1);
    let events = bench.settle();
    assert!(events.iter().any(|event| matches!(event, Event::Latched { .. })));
    assert!(!events.iter().any(|event| matches!(event, Event::Committed { .. })));
    assert_eq!(bench.append(3, 1, 100), Err(Refusal::Latched));
    assert_eq!(bench.shard.accepts_mail(), Err(Refusal::Latched));
    assert!(bench.shard.stats().latched);
    let mut bench = bench.restart();
    assert!(bench.recovered_ids().contains(&id(1)));
    bench.commit(4, 1, 100);
}

/// Some traffic, during which segments are made, filled and used again, and the `nth` change of the disk fails;
/// what was said of it.
fn failures_said(nth: u64) -> Vec<(bool, String)> {
    let mut bench = Bench::new(13);
    bench.world.fail_disk(HOST, nth);
    // In each segment something lives when it is full, so that it gets its footer.
    let mut before = None;
    let mut said = Vec::new();
    for number in 0..150 {
        let appended = bench.append(number, 1, 8 << 10);
        let mut key = None;
        for event in bench.settle() {
            match event {
                Event::Committed { key: committed, .. } => key = Some(committed),
                Event::Latched { path, .. } => said.push((true, path)),
                Event::WriteFailed { path, is_quarantined: false, .. } => said.push((false, path)),
                _ => {}
            }
        }
        if appended == Err(Refusal::Latched) {
            break;
        }
        if let Some(key) = key {
            let early = if number % 8 == 0 { before.replace(key) } else { Some(key) };
            if let Some(early) = early {
                let _ = bench.deliver(early, 1);
            }
        }
    }
    assert_eq!(bench.shard.stats().latched, said.iter().any(|(latches, _)| *latches), "change {nth}");
    let name = |path: std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    said.into_iter().map(|(latches, path)| (latches, name(path))).collect()
}

#[test]
fn no_failed_write_goes_unsaid_and_those_of_segments_latch() {
    let mut latched = 0;
    for nth in 1..=200 {
        let said = failures_said(nth);
        let [(latches, name)] = &said[..] else { panic!("change {nth}: {said:?}") };
        assert_eq!(*latches, name.starts_with("segment-"), "change {nth}: {name}");
        assert!(name.starts_with("segment") || name == "shard-000", "change {nth}: {name}");
        latched += u32::from(*latches);
    }
    assert!((100..200).contains(&latched), "{latched} of 200 latched");
}

#[test]
fn a_full_disk_refuses_and_latches_nothing() {
    let sim = SimOptions { disk_capacity_bytes: 3 * SEGMENT_BYTES, ..SimOptions::default() };
    let mut bench = Bench::with(10, options(), sim);
    let mut accepted = 0;
    let refused = loop {
        match bench.append(accepted, 1, 12_000) {
            Ok(_) => accepted += 1,
            Err(Refusal::Busy) => {}
            Err(refusal) => break refusal,
        }
        for _ in 0..50 {
            bench.world.step();
            bench.turn();
        }
    };
    assert_eq!(refused, Refusal::Full);
    assert!(!bench.shard.stats().latched);
    let bench = bench.crash();
    assert!(bench.recovered.len() as u32 + 1 >= accepted);
}

#[test]
fn a_spool_has_one_owner() {
    let mut bench = Bench::new(11);
    bench.commit(1, 1, 100);
    let root = Path::new(ROOT);
    spool::claim(&mut bench.ring, root, "gatepost 1").expect("no process has it");
    let mut other = bench.world.host(HOST);
    let error = spool::claim(&mut other, root, "gatepost 2").unwrap_err();
    assert!(error.to_string().contains("in use by gatepost 1"), "{error}");
}

/// A write of the killed process is under way; it lands where the next one goes on.
#[test]
fn a_start_reads_nothing_before_a_killed_process_s_writes_have_ended() {
    let mut bench = Bench::new(12);
    bench.commit(1, 1, 100);
    bench.append(2, 1, 5000).unwrap();
    bench.turn();
    let Bench { world, ring, options, .. } = bench;
    world.freeze_disk(HOST, world.now().after(Duration::from_secs(20)));
    drop(ring);

    let progress = RecoveryProgress::default();
    let mut tries = 0;
    let mut ring = world.host(HOST);
    let (shard, recovered) = loop {
        match Shard::open_watched(&mut ring, options.clone(), &progress) {
            Ok(opened) => break opened,
            Err(error) => {
                assert!(matches!(&error, SpoolError::UnderWay { path } if *path == segment(0)), "{error}");
                assert_eq!((progress.awaited(), progress.stand().segments), (Some(segment(0)), 0));
                assert!(world.step(), "the write ends");
            }
        }
        tries += 1;
    };
    assert!(tries > 0 && progress.awaited().is_none());
    assert_eq!(recovered.len(), 2, "what has landed is there");
    // The opening through which it writes holds the segment, and so do those of new ones.
    let file = ring.open(&segment(0), OpenMode { write: true, ..OpenMode::default() }).unwrap();
    assert!(!ring.lock_file(file).unwrap());
    ring.close_file(file);
    let mut bench = Bench { world, ring, shard, recovered: Vec::new(), options };
    bench.settle();
    let file = bench.ring.open(&segment(1), OpenMode { write: true, ..OpenMode::default() }).unwrap();
    assert!(!bench.ring.lock_file(file).unwrap());
}

/// The last segment has its name, but not yet durably, when the process is killed: the next one fills it.
#[test]
fn what_a_killed_process_has_named_outlasts_a_power_cut() {
    let options = Options { capacity_bytes: 3 * SEGMENT_BYTES, ..options() };
    for steps in 0..60 {
        let mut bench = Bench::with(steps, options.clone(), SimOptions::default());
        for _ in 0..steps {
            bench.turn();
            bench.world.step();
        }
        let mut bench = bench.restart();
        bench.settle();
        let mut keys = Vec::new();
        while let Ok(key) = bench.append(keys.len() as u32, 1, 7000) {
            keys.push(key);
            bench.settle();
        }
        let delivered = keys.iter().step_by(2);
        for key in delivered.clone() {
            bench.deliver(*key, 1).unwrap();
            bench.settle();
        }
        let queued = keys.len() - delivered.count();
        let bench = bench.crash();
        assert_eq!(bench.recovered.len(), queued, "killed after {steps} steps");
    }
}

#[test]
fn the_files_of_this_machine_hold_a_shard_too() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = RealDisk::default();
    let mut options = options();
    options.directory = directory.path().join("spool");
    let (_, recovered) = Shard::open(&mut RealDisk::default(), options.clone()).unwrap();
    assert!(recovered.len() == 0);
    let (shard, _) = Shard::open(&mut disk, options.clone()).unwrap();
    assert_eq!(shard.recovery().segments, 1);
    assert!(inspect::verify(&mut disk, &options.directory).unwrap().is_sound());
    let blocked = directory.path().join("file");
    std::fs::write(&blocked, b"").unwrap();
    options.directory = blocked;
    assert!(Shard::open(&mut disk, options).is_err());
    let _ = disk.list(directory.path());
}

#[test]
fn options_that_cannot_work_are_refused() {
    for (segment_bytes, capacity_bytes) in [(1000, 1 << 30), (64 << 10, 64 << 10)] {
        let mut options = options();
        (options.segment_bytes, options.capacity_bytes) = (segment_bytes, capacity_bytes);
        assert!(matches!(Shard::open(&mut RealDisk::default(), options), Err(SpoolError::Options(_))));
    }
}
