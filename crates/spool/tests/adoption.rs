//! Shards without a worker: taken up by another, drained and removed, whatever interrupts it.

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use harness::*;
use mail::MessageId;
use ring::sim::{SimOptions, SimRing, World};
use ring::{Disk, Handle, OpenMode, Ring};
use spool::{Content, Event, MessageKey, Options, Outcome, Recovered, Refusal, Spool, SpoolError, inspect};

/// The spool of one worker among some, driven as a worker drives it.
struct Host {
    world: World,
    ring: SimRing,
    spool: Spool,
    recovered: Vec<Recovered>,
    power_cuts: u64,
}

fn own(worker: u8) -> Options {
    Options { shard: worker, salt: 0x5A17 + u64::from(worker), ..options() }
}

fn directory(shard: u8) -> PathBuf {
    PathBuf::from(format!("{ROOT}/shard-{shard:03}"))
}

impl Host {
    fn open(world: &World, worker: u8, workers: usize) -> Result<Self, SpoolError> {
        let power_cuts = world.power_cuts(HOST);
        let mut ring = world.host(HOST);
        let (spool, recovered) = Spool::open(&mut ring, own(worker), workers)?;
        let recovered = recovered.collect();
        Ok(Self { world: world.clone(), ring, spool, recovered, power_cuts })
    }

    fn is_dead(&self) -> bool {
        self.world.power_cuts(HOST) > self.power_cuts
    }

    fn turn(&mut self) -> Vec<Event> {
        let mut completions = Vec::new();
        self.ring.turn(None, &mut completions).expect("a simulated ring turns");
        for completion in completions {
            self.spool.complete(&mut self.ring, completion);
        }
        let events = std::iter::from_fn(|| self.spool.poll()).collect();
        self.spool.flush(&mut self.ring);
        events
    }

    fn settle(&mut self) -> Vec<Event> {
        let (mut events, mut quiet) = (Vec::new(), 0);
        while quiet < 4 && !self.is_dead() {
            let more = self.turn();
            quiet = if self.world.step() || !more.is_empty() { 0 } else { quiet + 1 };
            events.extend(more);
        }
        events
    }

    fn commit(&mut self, number: u32, bytes: usize) -> MessageKey {
        let (envelope, body) = (envelope(1), body(number, bytes));
        self.spool
            .append(&message(number, &envelope, Content::Inline(&body)), Some(Handle::fixed(number)))
            .expect("room");
        let committed = self.settle().into_iter().find_map(|event| match event {
            Event::Committed { key, waiter, .. } if waiter == Some(Handle::fixed(number)) => Some(key),
            _ => None,
        });
        committed.expect("it is committed")
    }

    fn deliver(&mut self, key: MessageKey) -> Result<(), Refusal> {
        self.spool.outcomes(key, &[(0, Outcome::Delivered)], &[], None)
    }

    fn ids(&self) -> BTreeSet<MessageId> {
        self.recovered.iter().map(|recovered| recovered.id).collect()
    }
}

/// A spool of four workers, each with two messages; the second is `100 + shard`.
fn of_four(seed: u64) -> World {
    let world = World::new(seed, SimOptions::default());
    for worker in 0..4_u8 {
        let mut host = Host::open(&world, worker, 4).expect("an empty disk opens");
        host.commit(worker.into(), 3000);
        host.commit(100 + u32::from(worker), 3000);
    }
    world
}

fn directories(world: &World) -> Vec<String> {
    let mut names = world.host(HOST).list(Path::new(ROOT)).expect("it is there");
    names.retain(|name| name.starts_with("shard-"));
    names
}

#[test]
fn each_shard_falls_to_one_worker_and_goes_when_it_is_drained() {
    let world = of_four(1);
    let mut found = BTreeSet::new();
    for worker in 0..2_u8 {
        let mut host = Host::open(&world, worker, 2).expect("it opens");
        let mine = [worker, worker + 2].map(u32::from);
        let expected: BTreeSet<_> = mine.iter().flat_map(|&one| [id(one), id(100 + one)]).collect();
        assert_eq!(host.ids(), expected);
        found.extend(host.ids());
        assert_eq!(host.spool.stats().messages, 4);
        for recovered in host.recovered.clone() {
            let place = host.spool.find(recovered.key).and_then(|(_, place)| place).expect("it has a record");
            host.spool.load(&mut host.ring, recovered.key, Handle::fixed(7));
            let loaded = host.settle().into_iter().find_map(|event| match event {
                Event::Loaded { request, result } if request == Handle::fixed(7) => {
                    Some(result.expect("it is sound"))
                }
                _ => None,
            });
            let loaded = loaded.expect("a load ends");
            assert_eq!(loaded.id(), recovered.id);
            assert!(mine.contains(&place.shard.into()), "{place:?}");
        }
        // New mail goes home.
        let fresh = host.commit(200 + u32::from(worker), 3000);
        let place = host.spool.find(fresh).and_then(|(_, place)| place).expect("it has a record");
        assert_eq!(place.shard, worker);
        for recovered in host.recovered.clone() {
            host.deliver(recovered.key).expect("an outcome has room");
        }
        let events = host.settle();
        let removed = events
            .iter()
            .any(|event| matches!(event, Event::Removed { shard, result: Ok(()) } if *shard == worker + 2));
        assert!(removed, "{events:?}");
        assert_eq!(host.spool.stats().messages, 1);
        assert!(host.spool.idle());
        // A key of a shard that is gone is one of a message that is gone.
        let stale = host.recovered.iter().max_by_key(|recovered| recovered.key).expect("there was one").key;
        host.deliver(stale).expect("it is fine");
        assert!(host.spool.find(stale).is_none());
        host.spool.load(&mut host.ring, stale, Handle::fixed(8));
        assert!(host.settle().iter().any(
            |event| matches!(event, Event::Loaded { request, result: Err(_) } if *request == Handle::fixed(8))
        ));
    }
    assert_eq!(found.len(), 8);
    assert_eq!(directories(&world), ["shard-000", "shard-001"]);
}

#[test]
fn an_empty_shard_without_a_worker_is_removed_at_the_start() {
    let world = World::new(2, SimOptions::default());
    for worker in 0..3 {
        drop(Host::open(&world, worker, 3).expect("an empty disk opens"));
    }
    let host = Host::open(&world, 0, 1).expect("it opens");
    assert_eq!(host.spool.shards().count(), 1);
    assert_eq!(directories(&world), ["shard-000"]);
}

#[test]
fn a_worker_that_comes_back_has_its_shard_again() {
    let world = of_four(3);
    let mut host = Host::open(&world, 1, 2).expect("it opens");
    let of_three = host.recovered.iter().find(|recovered| recovered.id == id(3)).expect("adopted").key;
    host.deliver(of_three).expect("an outcome has room");
    host.settle();
    drop(host);
    let mut host = Host::open(&world, 3, 4).expect("it opens");
    assert_eq!(host.ids(), [id(103)].into());
    host.commit(300, 3000);
}

#[test]
fn a_bounce_stays_with_its_outcome_in_the_shard_that_is_drained() {
    for seed in 0..60 {
        let world = of_four(seed);
        let mut host = Host::open(&world, 0, 3).expect("it opens");
        let key = host.recovered.iter().find(|recovered| recovered.id == id(3)).expect("adopted").key;
        let (envelope, body) = (envelope(1), body(400, 9000));
        let bounce = message(400, &envelope, Content::Inline(&body));
        host.spool.outcomes(key, &[(0, Outcome::Failed)], &[], Some(&bounce)).expect("it has room");
        let _ = host.turn();
        if seed % 2 == 0 {
            let _ = host.settle();
        }
        world.crash(HOST);
        let host = Host::open(&world, 0, 3).expect("it recovers");
        let ids = host.ids();
        assert!(ids.contains(&id(3)) != ids.contains(&id(400)), "seed {seed}: {ids:?}");
        assert!(seed % 2 == 1 || ids.contains(&id(400)), "seed {seed}: its outcome was durable");
        let bounced = host.recovered.iter().find(|recovered| recovered.id == id(400));
        let place = bounced.and_then(|bounced| host.spool.find(bounced.key)).and_then(|(_, place)| place);
        assert!(place.is_none_or(|place| place.shard == 3), "seed {seed}: {place:?}");
    }
}

#[test]
fn what_adopted_shards_hold_is_not_there_for_new_mail() {
    let world = World::new(4, SimOptions::default());
    let mut host = Host::open(&world, 1, 2).expect("it opens");
    for number in 0..20 {
        host.commit(number, 12_000);
    }
    drop(host);
    let taken = |workers: usize| {
        let mut host = Host::open(&world, 0, workers).expect("it opens");
        let mut count = 0;
        for number in 1000..1200 {
            let (envelope, body) = (envelope(1), body(number, 12_000));
            match host
                .spool
                .append(&message(number, &envelope, Content::Inline(&body)), Some(Handle::fixed(number)))
            {
                Ok(_) => count += 1,
                Err(Refusal::Busy) => {}
                Err(_) => break,
            }
            host.settle();
        }
        let stats = host.spool.stats();
        assert!(stats.used_bytes <= stats.capacity_bytes, "{stats:?}");
        world.crash(HOST);
        count
    };
    let (with, more) = (taken(1), taken(2));
    assert!(with > 0 && more > 0, "{with}, then {more} more");
}

#[test]
fn a_shard_with_damage_stays_to_be_looked_at() {
    let world = World::new(5, SimOptions::default());
    let mut host = Host::open(&world, 1, 2).expect("it opens");
    let keys: Vec<_> = (0..3).map(|number| host.commit(number, 6000)).collect();
    for key in keys {
        host.deliver(key).expect("it has room");
    }
    host.settle();
    let path = directory(1).join("segment-00000000.log");
    let file = host.ring.open(&path, OpenMode { write: true, ..OpenMode::default() }).expect("it is there");
    host.ring.write_at(file, 3 * 4096 + 100, b"damage").expect("it can be written");
    host.ring.sync(file).expect("it syncs");
    drop(host);
    let mut host = Host::open(&world, 0, 1).expect("it opens");
    assert_eq!(host.spool.recovery().damage.len(), 1);
    for recovered in host.recovered.clone() {
        host.deliver(recovered.key).expect("it has room");
    }
    host.settle();
    assert_eq!(directories(&world), ["shard-000", "shard-001"]);
}

/// What is promised of the messages, as a destination would see it.
#[derive(Default)]
struct Seen {
    /// Delivered, with an outcome that was durable.
    done: BTreeSet<MessageId>,
    /// Its outcome was on its way when the power went.
    under_way: Option<MessageId>,
    /// Found queued, so often.
    found: BTreeMap<MessageId, u32>,
}

impl Seen {
    /// All that were queued have their outcome, and none was found more often than a power cut explains.
    fn check(&self, label: &str) {
        let done: BTreeSet<_> = self.done.iter().copied().chain(self.under_way).collect();
        assert_eq!(done.len(), 8, "{label}: {:?}", self.found);
        assert!(self.found.values().all(|&times| times <= 2), "{label}: {:?}", self.found);
    }
}

/// Takes up what is queued, delivers it one by one, and lets what is drained be removed.
fn drain(world: &World, workers: usize, seen: &mut Seen, label: &str) -> Result<(), SpoolError> {
    for worker in 0..workers as u8 {
        let mut host = Host::open(world, worker, workers)?;
        for recovered in host.recovered.clone() {
            assert!(!seen.done.contains(&recovered.id), "{label}: {} came back", recovered.id);
            *seen.found.entry(recovered.id).or_default() += 1;
            // After a power cut no worker is there to take an outcome.
            let _ = host.deliver(recovered.key);
            let noted = host.spool.noted();
            host.settle();
            if host.is_dead() {
                seen.under_way = Some(recovered.id);
                return Ok(());
            }
            assert!(host.spool.is_durable(&noted), "{label}: nothing stood in its way");
            seen.done.insert(recovered.id);
        }
        host.settle();
    }
    Ok(())
}

#[test]
fn a_power_cut_at_any_step_of_draining_and_removal_loses_and_repeats_nothing() {
    let (mut cuts, mut half_removed) = (0, 0);
    for seed in 0..4 {
        for ordered in [true, false] {
            for nth in 1.. {
                let label = format!("seed {seed}, ordered {ordered}, change {nth}");
                let world = of_four(seed);
                world.set_options(SimOptions { names_are_ordered: ordered, ..SimOptions::default() });
                let before = world.power_cuts(HOST);
                world.crash_at_change(HOST, nth);
                let workers = if seed % 2 == 0 { 1 } else { 2 };
                let mut seen = Seen::default();
                let first = drain(&world, workers, &mut seen, &label);
                if world.power_cuts(HOST) == before {
                    first.expect("nothing went wrong");
                    assert_eq!(seen.done.len(), 8, "{label}");
                    break;
                }
                cuts += 1;
                for shard in workers as u8..4 {
                    let names = world.host(HOST).list(&directory(shard)).unwrap_or_default();
                    half_removed += u32::from(names.iter().any(|name| name == "removed"));
                }
                // A look at it is no harm, and finds what is queued.
                let listed = inspect::list(&mut world.host(HOST), Path::new(ROOT)).expect("it can be read");
                assert!(listed.iter().all(|message| !seen.done.contains(&message.id)), "{label}");
                // Every other time the workers are back meanwhile, and may find their shards half removed.
                let again = if nth % 2 == 0 { workers } else { 4 };
                drain(&world, again, &mut seen, &label).unwrap_or_else(|error| panic!("{label}: {error}"));
                seen.check(&label);
                drain(&world, workers, &mut seen, &label).unwrap_or_else(|error| panic!("{label}: {error}"));
                assert_eq!(directories(&world).len(), workers, "{label}");
            }
        }
    }
    assert!(cuts > 200, "only {cuts} power cuts");
    assert!(half_removed > 20, "a shard was found half removed {half_removed} times");
}
