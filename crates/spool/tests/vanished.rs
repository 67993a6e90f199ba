//! Files that vanish under a running shard: no new promise, and everything else goes on.

mod harness;

use std::path::{Path, PathBuf};

use harness::*;
use ring::{Disk, Handle, Ring};
use spool::{Content, Event, Refusal, Spool, WATCH_INTERVAL};

const SHARD: &str = "/spool/shard-000";
const LARGE_BYTES: usize = 3 * spool::PIECE_BYTES;

/// A worker's spool that is looked at.
struct Watched {
    bench: Bench,
    spool: Spool,
}

impl Watched {
    fn new(seed: u64) -> Self {
        Self::with(seed, options().compaction_bytes_per_second)
    }

    fn with(seed: u64, compaction_bytes_per_second: u64) -> Self {
        let mut bench = Bench::new(seed);
        bench.world.crash(HOST);
        bench.ring = bench.world.host(HOST);
        let mut options = options();
        options.capacity_bytes = 64 * SEGMENT_BYTES;
        options.compaction_bytes_per_second = compaction_bytes_per_second;
        let (mut spool, _) = Spool::open(&mut bench.ring, options, 1).expect("the spool opens");
        spool.watch(WATCH_INTERVAL);
        Self { bench, spool }
    }

    fn turn(&mut self) -> Vec<Event> {
        let (ring, spool) = (&mut self.bench.ring, &mut self.spool);
        let mut completions = Vec::new();
        let deadline = spool.next_deadline(ring.now());
        ring.turn(deadline, &mut completions).expect("a simulated ring turns");
        completions.into_iter().for_each(|completion| spool.complete(ring, completion));
        spool.flush(ring);
        std::iter::from_fn(|| spool.poll()).collect()
    }

    /// All that happens while two looks begin and end.
    fn looks(&mut self) -> Vec<Event> {
        let until = self.bench.world.now().after(2 * WATCH_INTERVAL);
        let mut events = self.turn();
        while self.bench.world.step_until(until) {
            events.extend(self.turn());
        }
        events
    }

    fn append(&mut self, number: u32) -> Result<spool::MessageKey, Refusal> {
        let (envelope, body) = (envelope(2), body(number, 1000));
        self.spool.append(&message(number, &envelope, Content::Inline(&body)), Some(Handle::fixed(number)))
    }

    fn commit(&mut self, number: u32) -> spool::MessageKey {
        let key = self.append(number).expect("there is room");
        let events = self.looks();
        assert!(events.iter().any(|event| matches!(event, Event::Committed { .. })), "{events:?}");
        key
    }

    /// A queued message whose body has a separate file.
    fn commit_large(&mut self, number: u32) -> spool::MessageKey {
        self.commit_beside(number, LARGE_BYTES)
    }

    fn commit_beside(&mut self, number: u32, bytes: usize) -> spool::MessageKey {
        let ring = &mut self.bench.ring;
        let large = self.spool.large_begin(ring, 0, Handle::fixed(number)).expect("there is room");
        self.spool.large_write(ring, large, &body(number, bytes));
        self.spool.large_finish(ring, large);
        let events = self.looks();
        assert!(events.iter().any(|event| matches!(event, Event::LargeFinished { .. })), "{events:?}");
        let envelope = envelope(1);
        let message = message(number, &envelope, Content::Large(large));
        let key = self.spool.append(&message, Some(Handle::fixed(number))).expect("there is room");
        self.looks();
        key
    }

    /// Notes outcomes as delivery does: again while the spool is busy.
    fn settle(&mut self, key: spool::MessageKey, outcomes: &[(u16, spool::Outcome)]) {
        for _ in 0..5 {
            match self.spool.outcomes(key, outcomes, &[], None) {
                Ok(()) => return drop(self.looks()),
                Err(refusal) => {
                    assert_eq!(refusal, Refusal::Busy);
                    self.looks();
                }
            }
        }
        panic!("the spool stays busy");
    }

    fn names(&mut self, start: &str) -> Vec<PathBuf> {
        let names = self.bench.ring.list(Path::new(SHARD)).expect("the shard has its directory");
        names.iter().filter(|name| name.starts_with(start)).map(|name| Path::new(SHARD).join(name)).collect()
    }

    fn remove(&mut self, start: &str) -> Vec<PathBuf> {
        let names = self.names(start);
        names.iter().for_each(|name| self.bench.ring.remove(name).expect("it was listed"));
        names
    }
}

fn count(events: &[Event], is_meant: impl Fn(&Event) -> bool) -> usize {
    events.iter().filter(|event| is_meant(event)).count()
}

fn is_vanished(event: &Event) -> bool {
    matches!(event, Event::Vanished { .. })
}

#[test]
fn a_shard_whose_files_are_where_they_were_is_never_called_vanished() {
    let mut watched = Watched::new(1);
    for number in 0..20 {
        let key = watched.commit_large(number);
        watched.spool.outcomes(key, &[(0, spool::Outcome::Delivered)], &[], None).expect("there is room");
        assert_eq!(count(&watched.looks(), is_vanished), 0);
    }
    assert!(!watched.spool.stats().vanished);
    assert_eq!(watched.spool.lost(&mut watched.bench.ring), []);
}

/// Two looks take them, and the second one begins anew with some.
const MANY_BODIES: u32 = 400;

#[test]
fn of_more_bodies_than_one_look_takes_each_is_looked_at() {
    let mut watched = Watched::new(11);
    for number in 0..MANY_BODIES {
        watched.commit_beside(number, 100);
    }
    let bodies = watched.names("large-");
    assert_eq!(bodies.len(), MANY_BODIES as usize);
    let both_looks = |watched: &mut Watched| {
        let mut events = watched.looks();
        events.extend(watched.looks());
        events
    };
    // In which order they are looked at is not known here: many of them do not come in the first look.
    for name in bodies.iter().step_by(20) {
        let aside = PathBuf::from("/spool/aside");
        watched.bench.ring.rename(name, &aside).expect("it was listed");
        assert_eq!(count(&both_looks(&mut watched), is_vanished), 1, "{}", name.display());
        watched.bench.ring.rename(&aside, name).expect("it was put there");
        let events = both_looks(&mut watched);
        assert_eq!(count(&events, |event| matches!(event, Event::Returned)), 1);
    }
}

#[test]
fn a_deleted_segment_ends_promises_and_nothing_else() {
    let mut watched = Watched::new(2);
    let key = watched.commit(1);
    let removed = watched.remove("segment-");
    let events = watched.looks();
    let named = events.iter().find_map(|event| match event {
        Event::Vanished { path } => Some(path.clone()),
        _ => None,
    });
    assert!(removed.contains(&named.expect("it is seen by the next look")));
    assert_eq!(count(&events, is_vanished), 1, "it is told once");
    assert_eq!(watched.append(2).unwrap_err(), Refusal::Vanished);
    assert_eq!(watched.spool.accepts_mail().unwrap_err(), Refusal::Vanished);
    assert_eq!(
        watched.spool.large_begin(&mut watched.bench.ring, 0, Handle::fixed(7)).unwrap_err(),
        Refusal::Vanished
    );
    assert_eq!(watched.spool.lost(&mut watched.bench.ring), [id(1)]);
    watched.spool.load(&mut watched.bench.ring, key, Handle::fixed(9));
    let events = watched.looks();
    assert_eq!(
        count(
            &events,
            |event| matches!(event, Event::Loaded { request, result: Ok(_) } if *request == Handle::fixed(9))
        ),
        1
    );
    let both = [(0, spool::Outcome::Delivered), (1, spool::Outcome::Delivered)];
    watched.spool.outcomes(key, &both, &[], None).expect("outcomes are taken");
    watched.looks();
    assert_eq!(watched.spool.stats().messages, 0);
    assert_eq!(watched.spool.lost(&mut watched.bench.ring), []);
    assert_eq!(watched.names("segment-"), Vec::<PathBuf>::new(), "no name is made in what may be another's");
}

#[test]
fn another_file_of_the_same_name_is_not_ours() {
    let mut watched = Watched::new(3);
    watched.commit(1);
    let name = watched.names("segment-").remove(0);
    let (aside, ring) = (PathBuf::from("/spool/aside"), &mut watched.bench.ring);
    ring.rename(&name, &aside).unwrap();
    let mode = ring::OpenMode { write: true, create_new: true, direct: false };
    let copy = ring.open(&name, mode).unwrap();
    ring.close_file(copy);
    assert_eq!(count(&watched.looks(), is_vanished), 1);
    assert_eq!(watched.spool.lost(&mut watched.bench.ring), [id(1)]);
    watched.bench.ring.rename(&aside, &name).unwrap();
    let events = watched.looks();
    assert_eq!(count(&events, |event| matches!(event, Event::Returned)), 1);
    assert_eq!(watched.spool.lost(&mut watched.bench.ring), []);
    watched.commit(2);
}

#[test]
fn a_deleted_large_body_loses_its_own_message_alone() {
    let mut watched = Watched::new(4);
    watched.commit(1);
    watched.commit_large(2);
    assert_eq!(watched.remove("large-").len(), 1);
    assert_eq!(count(&watched.looks(), is_vanished), 1);
    assert_eq!(watched.spool.lost(&mut watched.bench.ring), [id(2)]);
    assert_eq!(watched.append(3).unwrap_err(), Refusal::Vanished);
}

/// Who waits for a commit when the files vanish is told to come again, so that nothing is queued for him.
#[test]
fn a_group_on_its_way_when_the_files_vanish_is_promised_to_nobody() {
    let mut withdrawn_in_all = 0;
    for seed in 0..50 {
        let mut watched = Watched::new(100 + seed);
        watched.commit(1);
        watched.remove("segment-");
        let (mut number, mut committed, mut withdrawn, mut appended) = (2, 0, 0, 0);
        let mut has_vanished = false;
        let until = watched.bench.world.now().after(3 * WATCH_INTERVAL);
        while watched.bench.world.step_until(until) {
            appended += usize::from(watched.append(number).is_ok());
            number += 1;
            for event in watched.turn() {
                match event {
                    Event::Vanished { .. } => has_vanished = true,
                    Event::Committed { .. } => {
                        assert!(!has_vanished, "seed {seed}: promised although it was seen");
                        committed += 1;
                    }
                    Event::Withdrawn { .. } => withdrawn += 1,
                    _ => {}
                }
            }
        }
        watched.looks();
        assert_eq!(committed + withdrawn, appended, "seed {seed}: each client hears once");
        assert_eq!(watched.spool.stats().messages, 1 + committed as u64, "seed {seed}");
        withdrawn_in_all += withdrawn;
    }
    assert_ne!(withdrawn_in_all, 0, "no group was on its way");
}

/// The directory is gone or another one: a body that begins there before anybody has looked is no promise.
#[test]
fn a_large_body_finds_no_directory_and_latches_nothing() {
    let mut watched = Watched::new(5);
    watched.commit(1);
    for name in watched.names("") {
        watched.bench.ring.remove(&name).unwrap();
    }
    watched.bench.ring.remove_directory(Path::new(SHARD)).unwrap();
    // Between two looks.
    let large = watched.spool.large_begin(&mut watched.bench.ring, 0, Handle::fixed(7));
    let events = watched.looks();
    let failed = |event: &Event| matches!(event, Event::LargeFailed { refusal: Refusal::Vanished, .. });
    assert_eq!(count(&events, failed), usize::from(large.is_ok()), "{events:?}");
    assert_eq!(count(&events, is_vanished), 1);
    assert!(!watched.spool.stats().latched);
    assert!(watched.spool.stats().vanished);
}

/// Only what dies gives room then: no new segment is made under names that may be another's.
#[test]
fn outcomes_without_room_are_kept_in_mind_and_bounces_wait() {
    const MESSAGES: u32 = 300;
    // No segment is emptied meanwhile.
    let mut watched = Watched::with(6, 1);
    let keys: Vec<_> = (0..MESSAGES).map(|number| watched.commit(number)).collect();
    watched.remove("segment-");
    assert_eq!(count(&watched.looks(), is_vanished), 1);
    let both = [(0, spool::Outcome::Delivered), (1, spool::Outcome::Failed)];
    // Every other message first: each segment still holds some, and none can be used again.
    for key in keys[2..].iter().step_by(2) {
        watched.settle(*key, &both);
    }
    let bounce = (envelope(1), body(MESSAGES, 20_000));
    let bounce = message(MESSAGES, &bounce.0, Content::Inline(&bounce.1));
    let refused = watched.spool.outcomes(keys[0], &both, &[], Some(&bounce));
    assert_eq!(refused.unwrap_err(), Refusal::Vanished, "what would be promised has no place");
    let queued = (0..MESSAGES).filter(|number| number % 2 == 1 || *number == 0).map(id);
    let mut lost = watched.spool.lost(&mut watched.bench.ring);
    lost.sort_unstable();
    assert_eq!(lost, queued.collect::<Vec<_>>());
    keys[1..].iter().step_by(2).for_each(|key| watched.settle(*key, &both));
    watched.looks();
    assert_eq!(watched.spool.stats().messages, 1);
    assert!(!watched.spool.stats().latched);
}
