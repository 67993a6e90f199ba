//! Footers, and the emptying of segments in which little lives.

mod harness;

use std::time::Duration;

use harness::*;
use mail::UnixMillis;
use ring::sim::SimOptions;
use ring::{Handle, Ring as _};
use spool::{Content, Event, HELD, MessageKey, NewMessage, Options, Outcome, Recovered, Refusal, inspect};

fn committed(event: Event) -> Option<MessageKey> {
    match event {
        Event::Committed { key, .. } => Some(key),
        _ => None,
    }
}

/// Fills segments with messages of 8 KiB, of which only every `kept`th stays queued.
fn one_stays(bench: &mut Bench, messages: u32, kept: u32) -> Vec<(u32, MessageKey)> {
    let mut left = Vec::new();
    for number in 0..messages {
        let (key, _) = bench.commit(number, 1, 8 << 10);
        if number % kept == 0 {
            left.push((number, key));
        } else {
            bench.deliver(key, 1).unwrap();
        }
    }
    bench.settle();
    left
}

#[test]
fn segments_in_which_little_lives_are_emptied_and_used_again() {
    let mut bench = Bench::with(1, roomy(), SimOptions::default());
    let left = one_stays(&mut bench, 400, 25);
    let before = bench.shard.stats();
    assert!(before.used_bytes > 20 * SEGMENT_BYTES, "one message holds each segment: {before:?}");
    pass(&mut bench, 60);
    let after = bench.shard.stats();
    assert!(after.used_bytes <= 2 * after.live_bytes + 6 * SEGMENT_BYTES, "{before:?}, then {after:?}");
    assert_eq!(after.messages, left.len() as u64);
    for &(number, key) in &left {
        assert_eq!(content(&bench.load(key).unwrap()), wire(number, 8 << 10));
    }
    let mut bench = bench.crash();
    assert_eq!(bench.recovered_ids(), left.iter().map(|&(number, _)| id(number)).collect::<Vec<_>>());
    for recovered in bench.recovered.clone() {
        bench.deliver(recovered.key, 1).unwrap();
    }
    bench.settle();
    assert!(bench.crash().recovered.is_empty());
}

#[test]
fn compaction_stays_within_its_budget() {
    let budget = 32 << 10;
    let slow =
        Options { capacity_bytes: 512 * SEGMENT_BYTES, compaction_bytes_per_second: budget, ..options() };
    let mut bench = Bench::with(2, slow, SimOptions::default());
    // Each victim holds more than a second's worth, read and written.
    one_stays(&mut bench, 4000, 4);
    let (began, before) = (bench.world.now(), bench.shard.stats().compacted_bytes);
    for _ in 0..10 {
        // A worker that has much to do turns far more often than the budget buys a record.
        let limit = bench.world.now().after(Duration::from_secs(1));
        while bench.world.now() < limit {
            bench.turn();
            bench.world.step_until(bench.world.now().after(Duration::from_micros(100)));
        }
        let moved = bench.shard.stats().compacted_bytes - before;
        let seconds = bench.world.now().since(began).as_secs_f64();
        // One record may overdraw it, read and written, and an eighth of a second's worth may have been saved up.
        assert!(moved as f64 <= budget as f64 * (seconds + 0.125) + 25.0 * 1024.0, "{moved} in {seconds} s");
    }
    assert!(bench.shard.stats().compacted_bytes - before > 4 * budget, "it works at all");
}

#[test]
fn without_a_budget_nothing_moves() {
    let mut bench =
        Bench::with(3, Options { compaction_bytes_per_second: 0, ..roomy() }, SimOptions::default());
    one_stays(&mut bench, 200, 25);
    pass(&mut bench, 60);
    assert_eq!(bench.shard.stats().compacted_bytes, 0);
    assert_eq!(bench.shard.next_deadline(bench.ring.now()), None, "no worker is woken for it");
}

#[test]
fn a_copy_keeps_what_is_known_of_its_recipients() {
    let mut bench = Bench::with(4, roomy(), SimOptions::default());
    let (partly, _) = bench.commit(1000, 80, 8 << 10);
    let outcomes: Vec<_> = (0..70_u16)
        .map(|recipient| (recipient, [Outcome::Delivered, Outcome::Failed][usize::from(recipient % 2)]))
        .collect();
    bench.shard.outcomes(partly, &outcomes, &[], None).unwrap();
    bench.settle();
    let until = UnixMillis(1_795_390_500_000);
    bench.shard.deferred(partly, &(70..80).collect::<Vec<_>>(), until, 7, &[]).unwrap();
    let (held, _) = bench.commit(1001, 1, 8 << 10);
    bench.shard.held(held, &[0], 3).unwrap();
    let (tried, _) = bench.commit(1002, 1, 8 << 10);
    bench.shard.attempt_started(tried, &[0], UnixMillis(5), 2).unwrap();
    for number in 0..300 {
        let (key, _) = bench.commit(number, 1, 8 << 10);
        bench.deliver(key, 1).unwrap();
    }
    pass(&mut bench, 60);
    assert!(bench.shard.stats().compacted_bytes > 0);
    assert!(bench.shard.stats().used_bytes <= 6 * SEGMENT_BYTES, "{:?}", bench.shard.stats());
    // Whatever the first segment held is overwritten, so that only the copies can tell.
    for number in 2000..2600 {
        let (key, _) = bench.commit(number, 1, 8 << 10);
        bench.deliver(key, 1).unwrap();
    }
    bench.settle();
    let mut bench = bench.crash();
    assert_eq!(bench.recovered_ids(), [id(1000), id(1001), id(1002)]);
    let [partly, held, tried] = &bench.recovered[..] else { panic!("three are queued") };
    let pending: Vec<_> = partly.pending.iter().map(|pending| pending.recipient).collect();
    assert_eq!(pending, (70..80).collect::<Vec<_>>());
    assert!(partly.pending.iter().all(|pending| (pending.attempts, pending.not_before) == (7, until)));
    assert_eq!((held.pending[0].attempts, held.pending[0].not_before), (3, HELD));
    assert_eq!(tried.pending[0].attempts, 2);
    assert_eq!(bench.shard.recovery().possible_duplicates, 1);
    let listed = inspect::list(&mut bench.ring, ROOT.as_ref()).unwrap();
    let failed = listed[0]
        .recipients
        .iter()
        .filter(|recipient| recipient.state == inspect::RecipientState::Done(Outcome::Failed));
    assert_eq!(failed.count(), 35, "failures are told from deliveries");
}

#[test]
fn damage_that_compaction_meets_is_told_once_for_a_segment_which_is_kept() {
    const DAMAGED: u32 = 8;
    let mut bench = Bench::with(12, roomy(), SimOptions::default());
    let left = one_stays(&mut bench, 200, 3);
    let mut headers = Vec::new();
    // Every record that lives in the first segments: several in each, which are read at once.
    for &(_, key) in &left {
        let place = bench.shard.find(key).unwrap().1.unwrap();
        if place.segment < DAMAGED {
            let (path, at) = (segment(place.segment), place.offset as usize + 1000);
            let bytes = bench.read(&path);
            bench.write(&path, at as u64, &[bytes[at] ^ 1]);
            headers.push((path, bytes[..4096].to_vec()));
        } else {
            bench.deliver(key, 1).unwrap();
        }
    }
    assert!(headers.len() >= 2 * DAMAGED as usize, "{}", headers.len());
    let events = pass(&mut bench, 100);
    let told = events.into_iter().filter_map(|event| match event {
        Event::Damaged(damage) => Some(damage.path),
        _ => None,
    });
    let mut told: Vec<_> = told.collect();
    told.sort_unstable();
    assert_eq!(told, (0..DAMAGED).map(segment).collect::<Vec<_>>());
    for (path, header) in headers {
        assert!(bench.read(&path).starts_with(&header), "{} is not used again", path.display());
    }
}

#[test]
fn a_hold_outlives_an_attempt_and_the_copy_of_its_message() {
    let mut bench = Bench::with(10, roomy(), SimOptions::default());
    let (key, _) = bench.commit(1000, 1, 8 << 10);
    // An operator holds it while an attempt is under way, which then fails for now.
    bench.shard.held(key, &[0], 1).unwrap();
    bench.shard.attempt_started(key, &[0], UnixMillis(5), 2).unwrap();
    for numbers in [0..300, 2000..2600] {
        // The second time, whatever the first segment held is overwritten: only the copy can tell.
        for number in numbers {
            let (key, _) = bench.commit(number, 1, 8 << 10);
            bench.deliver(key, 1).unwrap();
        }
        pass(&mut bench, 60);
    }
    assert!(bench.shard.stats().compacted_bytes > 0);
    let bench = bench.crash();
    assert_eq!(bench.recovered_ids(), [id(1000)]);
    let pending = &bench.recovered[0].pending[0];
    assert_eq!((pending.attempts, pending.not_before), (2, HELD));
    assert_eq!(bench.shard.recovery().possible_duplicates, 1);
}

#[test]
fn segments_of_outcomes_are_emptied_while_the_next_group_is_always_under_way() {
    let mut bench = Bench::with(11, roomy(), SimOptions::default());
    // Half of what the first segments hold stays queued; those behind them speak of the other half.
    let early: Vec<_> = (0..60).map(|number| bench.commit(number, 1, 8 << 10).0).collect();
    for (number, key) in (100..).zip(early.into_iter().step_by(2)) {
        bench.deliver(key, 1).unwrap();
        for number in (0..8).map(|more| number * 10 + more) {
            let (key, _) = bench.commit(number, 1, 8 << 10);
            bench.deliver(key, 1).unwrap();
        }
    }
    for number in 10_000..13_000 {
        bench.append(number, 1, 100).expect("there is room");
        for event in bench.turn() {
            if let Event::Committed { key, .. } = event {
                bench.deliver(key, 1).unwrap();
            }
        }
        let limit = bench.world.now().after(Duration::from_millis(200));
        while bench.world.now() < limit {
            bench.world.step_until(limit);
        }
    }
    let stats = bench.shard.stats();
    assert!(stats.used_bytes <= 2 * stats.live_bytes + 8 * SEGMENT_BYTES, "{stats:?}");
    bench.settle();
    let bench = bench.crash();
    let expected: Vec<_> = (0..60).filter(|number| number % 2 == 1).map(id).collect();
    assert_eq!(bench.recovered_ids()[..30], expected);
}

/// How long the records are decides how many of its neighbours wait in each segment, and how many segments a
/// second fills.
#[test]
fn one_that_waits_in_the_oldest_segment_does_not_hold_all_that_speak_of_its_neighbours() {
    for login in ["x", "app-with-a-rather-long-name@acme", &"x".repeat(60)] {
        for bytes in [40, 300] {
            for seed in [10, 12] {
                one_waits(seed, login, bytes);
            }
        }
    }
}

fn append_as(bench: &mut Bench, number: u32, login: &str, bytes: usize) -> Result<MessageKey, Refusal> {
    let (envelope, content) = (envelope(1), body(number, bytes));
    let message = message(number, &envelope, Content::Inline(&content));
    bench.shard.append(&NewMessage { identity: login, ..message }, Some(Handle::fixed(number)))
}

fn one_waits(seed: u64, login: &str, bytes: usize) {
    let mut bench = Bench::with(seed, roomy(), SimOptions::default());
    let mut early = Vec::new();
    for number in 0..400 {
        append_as(&mut bench, number, login, bytes).expect("there is room");
        if number % 16 == 15 {
            early.extend(bench.settle().into_iter().filter_map(committed));
        }
    }
    assert_eq!(early.len(), 400);
    // Some six segments a second, with outcomes of messages in the first ones.
    for second in 0..100 {
        for number in 0..48 {
            if number % 16 == 0 && early.len() > 1 {
                bench.deliver(early.pop().expect("more than one is left"), 1).unwrap();
            }
            let number = 1000 + second * 48 + number;
            let appended = append_as(&mut bench, number, login, 8 << 10);
            appended.unwrap_or_else(|refusal| {
                panic!("seed {seed}, login of {}, {bytes} bytes, second {second}: {refusal:?}", login.len())
            });
            let key = bench.settle().into_iter().find_map(committed).expect("it is committed");
            bench.deliver(key, 1).unwrap();
        }
        pass(&mut bench, 1);
    }
    let bench = bench.crash();
    assert_eq!(bench.recovered_ids()[0], id(0));
}

/// It fills ten segments in the pause behind one in which a message waited, and those are held by outcomes alone.
#[test]
fn a_burst_is_taken_while_messages_wait_in_older_segments() {
    let mut bench = Bench::with(15, roomy(), SimOptions::default());
    let left = one_stays(&mut bench, 300, 40);
    pass(&mut bench, 10);
    for number in 1000..1600 {
        let (key, _) = bench.commit(number, 1, 8 << 10);
        bench.deliver(key, 1).unwrap();
    }
    bench.settle();
    let bench = bench.crash();
    assert_eq!(bench.recovered_ids(), left.iter().map(|&(number, _)| id(number)).collect::<Vec<_>>());
}

#[test]
fn compaction_of_a_spool_that_is_nearly_full_ends() {
    for (seed, bytes, together) in [(13, 600, 12), (14, 4 << 10, 1)] {
        let options = Options { capacity_bytes: 24 * SEGMENT_BYTES, ..options() };
        let mut bench = Bench::with(seed, options, SimOptions::default());
        let (mut number, mut queued) = (0, 0);
        // A third goes out at once, the rest waits. It is filled again when compaction has made room.
        for _ in 0..6 {
            while bench.shard.accepts_mail().is_ok() && bench.append(number, 1, bytes).is_ok() {
                number += 1;
                if number % together == 0 {
                    for key in bench.settle().into_iter().filter_map(committed) {
                        queued += 1;
                        if queued % 3 == 0 {
                            bench.deliver(key, 1).unwrap();
                        }
                    }
                }
            }
            bench.settle();
            pass(&mut bench, 20);
        }
        let before = bench.shard.stats();
        pass(&mut bench, 100);
        let after = bench.shard.stats();
        assert_eq!(after.compacted_bytes, before.compacted_bytes, "{bytes}: {before:?}, then {after:?}");
    }
}

#[test]
fn outcomes_of_messages_elsewhere_outlive_their_segment() {
    // Half of the first segments stays queued: they are not emptied, but what speaks of them is.
    let mut bench = Bench::with(5, roomy(), SimOptions::default());
    let mut early = Vec::new();
    for number in 0..60 {
        early.push(bench.commit(number, 1, 8 << 10).0);
    }
    for number in 100..400 {
        let (key, _) = bench.commit(number, 1, 8 << 10);
        bench.deliver(key, 1).unwrap();
        if number % 10 == 0 {
            bench.deliver(early[(number - 100) as usize / 10], 1).unwrap();
        }
    }
    pass(&mut bench, 60);
    let stats = bench.shard.stats();
    assert!(stats.used_bytes <= 2 * stats.live_bytes + 6 * SEGMENT_BYTES, "{stats:?}");
    for number in 2000..2600 {
        let (key, _) = bench.commit(number, 1, 8 << 10);
        bench.deliver(key, 1).unwrap();
        if number % 50 == 0 {
            pass(&mut bench, 5);
        }
    }
    bench.settle();
    let bench = bench.crash();
    assert_eq!(bench.recovered_ids(), (30..60).map(id).collect::<Vec<_>>());
}

#[test]
fn a_start_reads_footers_and_finds_what_the_groups_say() {
    let mut bench = Bench::with(6, roomy(), SimOptions::default());
    let left = one_stays(&mut bench, 300, 3);
    let expected: Vec<_> = left.iter().map(|&(number, _)| id(number)).collect();
    let bench = bench.restart();
    assert_eq!(bench.recovered_ids(), expected);
    let groups = bench.shard.recovery().groups;
    assert!(groups < 40, "{groups} groups were read though full segments have footers");
    // The same without any footer.
    let mut bench = bench;
    for number in 0..bench.shard.recovery().segments as u32 {
        bench.write(segment(number), SEGMENT_BYTES - 4096, &[0; 4096]);
    }
    let bench = bench.crash();
    assert_eq!(bench.recovered_ids(), expected);
    assert!(bench.shard.recovery().groups > 300, "the groups were read");
    assert!(bench.shard.recovery().damage.is_empty());
    // They have their footers again.
    let bench = bench.crash();
    assert_eq!(bench.recovered_ids(), expected);
    assert!(bench.shard.recovery().groups < 40);
}

#[test]
fn a_flipped_bit_in_a_footer_loses_and_revives_nothing() {
    let mut bench = Bench::with(7, roomy(), SimOptions::default());
    let left = one_stays(&mut bench, 100, 3);
    let expected: Vec<_> = left.iter().map(|&(number, _)| id(number)).collect();
    let sound = bench.read(segment(1));
    for bit in 0..400 {
        let at = sound.len() - 1 - bit * 31 % 8192;
        let mut flipped = sound.clone();
        flipped[at] ^= 1 << (bit % 8);
        bench.write(segment(1), 0, &flipped);
        bench = bench.restart();
        assert_eq!(bench.recovered_ids(), expected, "bit {} of byte {at}", bit % 8);
    }
}

#[test]
fn after_a_clean_stop_hardly_anything_is_read() {
    let mut bench = Bench::with(8, roomy(), SimOptions::default());
    let left = one_stays(&mut bench, 100, 3);
    let bench = bench.stop();
    assert_eq!(bench.shard.recovery().groups, 0);
    let mut bench = bench.restart();
    assert_eq!(bench.recovered_ids(), left.iter().map(|&(number, _)| id(number)).collect::<Vec<_>>());
    // What comes behind the footer is found as well.
    for number in 5000..5004 {
        bench.commit(number, 1, 1000);
    }
    let recovered = bench.recovered[0].key;
    bench.deliver(recovered, 1).unwrap();
    bench.settle();
    let bench = bench.crash();
    let expected = left[1..].iter().map(|&(number, _)| number).chain(5000..5004);
    assert_eq!(bench.recovered_ids(), expected.map(id).collect::<Vec<_>>());
}

#[test]
fn a_crash_at_any_moment_of_compaction_loses_and_revives_nothing() {
    for seed in 0..60 {
        let mut bench = Bench::with(100 + seed, roomy(), SimOptions::default());
        let mut left = one_stays(&mut bench, 120, 12);
        // Some are finished while they are copied.
        let mut steps = seed % 97;
        while steps > 0 {
            bench.turn();
            let next = bench.shard.next_deadline(bench.ring.now());
            let limit = bench.ring.now().after(Duration::from_secs(12));
            bench.world.step_until(next.unwrap_or(limit).max(bench.ring.now()).min(limit));
            if steps % 11 == 3
                && let Some((_, key)) = left.pop()
            {
                bench.deliver(key, 1).unwrap();
                bench.settle();
            }
            steps -= 1;
        }
        let expected: Vec<_> = left.iter().map(|&(number, _)| id(number)).collect();
        let mut bench = bench.crash();
        assert_eq!(bench.recovered_ids(), expected, "seed {seed}");
        pass(&mut bench, 30);
        let bench = bench.crash();
        assert_eq!(bench.recovered_ids(), expected, "seed {seed}, once more");
    }
}

#[test]
fn compaction_makes_room_in_a_full_spool() {
    let mut bench = Bench::with(9, options(), SimOptions::default());
    let mut refused = 0;
    for number in 0..600 {
        if bench.append(number, 1, 8 << 10).is_err() {
            refused += 1;
            pass(&mut bench, 2);
            continue;
        }
        let key = bench.settle().into_iter().find_map(committed);
        if number % 40 != 0 {
            bench.deliver(key.expect("it is committed"), 1).unwrap();
        }
    }
    assert!(refused < 60, "{refused} of 600 were refused though next to nothing is queued");
}

/// Filled with messages of all sizes, emptied in another order, a part of it, and filled again: each outcome
/// finds room in the end, or nothing would ever die here.
#[test]
fn a_full_spool_does_not_close_on_itself() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bench = Bench::with(seed, options(), SimOptions::default());
        let (mut number, mut waiting) = (0, Vec::new());
        for _ in 0..4 {
            while bench.append(number, 3, random.usize(300..20_000)).is_ok() {
                number += 1;
                if random.bool() {
                    waiting.extend(bench.settle().into_iter().filter_map(committed).flat_map(each_recipient));
                }
            }
            waiting.extend(bench.settle().into_iter().filter_map(committed).flat_map(each_recipient));
            empty(seed, &mut bench, &mut waiting, 20, &mut random);
            pass_millis(&mut bench, 2000);
        }
    }
}

fn each_recipient(key: MessageKey) -> [(MessageKey, u16); 3] {
    [0, 1, 2].map(|recipient| (key, recipient))
}

/// The same with a start between filling and emptying, after a kill or a power cut, with spools and messages
/// of all sizes, of which some wait for good.
#[test]
fn a_full_spool_does_not_close_on_itself_after_a_start() {
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let options = Options { capacity_bytes: random.u64(6..34) * SEGMENT_BYTES, ..options() };
        let mut bench = Bench::with(seed, options, SimOptions::default());
        let mut number = 0;
        let (bytes_max, late) = (random.usize(600..20_000), random.usize(0..60));
        for _ in 0..6 {
            while bench.append(number, 3, random.usize(300..bytes_max)).is_ok() {
                number += 1;
                if random.bool() {
                    bench.settle();
                }
            }
            bench.settle();
            if random.u8(..3) == 0 {
                pass_millis(&mut bench, random.u64(0..300));
            }
            bench = if random.bool() { bench.restart() } else { bench.crash() };
            let each = |message: &Recovered| {
                message.pending.iter().map(|one| (message.key, one.recipient)).collect::<Vec<_>>()
            };
            let mut waiting: Vec<_> = bench.recovered.iter().flat_map(each).collect();
            empty(seed, &mut bench, &mut waiting, late, &mut random);
            pass_millis(&mut bench, 60_000);
            assert!(bench.shard.accepts_mail().is_ok(), "seed {seed}: {:?}", bench.shard.stats());
        }
    }
}

/// Settles recipients in any order until only `late` of them wait.
fn empty(
    seed: u64,
    bench: &mut Bench,
    waiting: &mut Vec<(MessageKey, u16)>,
    late: usize,
    random: &mut fastrand::Rng,
) {
    random.shuffle(waiting);
    let mut refused = 0;
    while waiting.len() > late {
        let (key, recipient) = waiting.pop().expect("there are some");
        if bench.shard.outcomes(key, &[(recipient, Outcome::Delivered)], &[], None).is_err() {
            waiting.insert(0, (key, recipient));
            refused += 1;
            assert!(refused < 8_000, "seed {seed}: it has closed on itself: {:?}", bench.shard.stats());
            pass_millis(bench, 10);
        } else if random.u8(..4) > 0 {
            bench.turn();
            bench.world.step();
        }
    }
}
