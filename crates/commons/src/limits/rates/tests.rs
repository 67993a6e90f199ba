use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::AtomicU64 as Counter;
use std::sync::{Arc, Barrier};

use proptest::prelude::*;

use super::*;

const NOON: UnixMillis = UnixMillis(1_795_390_496_000);

fn table_of(slots: usize) -> RateTable {
    RateTable::with_spread(slots, Spread::new([1, 2]))
}

fn key_of(subject: impl Hash) -> Key {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    Key::from_bits(hasher.finish())
}

fn per_minute(amount: u64) -> Rate {
    Rate::new(amount, Duration::from_secs(60))
}

#[test]
fn what_is_used_flows_off_and_is_rounded_up() {
    let (table, rate) = (table_of(8), per_minute(60));
    let key = key_of("terri");
    assert_eq!(table.used(key, &rate, NOON), 0);
    table.charge(key, 40, &rate, NOON);
    assert_eq!(table.used(key, &rate, NOON), 40);
    assert_eq!(table.used(key, &rate, NOON.plus(500)), 40);
    assert_eq!(table.used(key, &rate, NOON.plus(30_000)), 10);
    assert_eq!(table.used(key, &rate, NOON.plus(60_000)), 0);
}

/// A bucket with a hole, in exact fractions: slow, and obviously right.
struct Bucket {
    rate: Rate,
    /// What is in it, times the period in milliseconds.
    level: u128,
    seen: u64,
}

impl Bucket {
    fn take(&mut self, amount: u64, now: u64) -> bool {
        let period = self.rate.per.as_millis();
        self.level = self.level.saturating_sub(u128::from(now - self.seen) * u128::from(self.rate.amount));
        self.seen = now;
        let room = u128::from(self.rate.burst) * period;
        let conforms = self.level + u128::from(amount) * period <= room || self.level == 0;
        if conforms {
            self.level += u128::from(amount) * period;
        }
        conforms
    }
}

proptest! {
    /// Amounts divide the period, so that both count without rounding.
    #[test]
    fn agrees_with_a_bucket_with_a_hole(
        amount in prop::sample::select(vec![1_u64, 2, 5, 60, 100, 6000]),
        burst in 1_u64..200,
        steps in prop::collection::vec((0_u64..20_000, 1_u64..120), 1..200),
    ) {
        let rate = Rate { burst, ..per_minute(amount) };
        let table = table_of(8);
        let key = key_of("terri");
        let mut bucket = Bucket { rate, level: 0, seen: NOON.0 };
        let mut now = NOON;
        for (wait, charge) in steps {
            now = now.plus(wait);
            // The bucket may hold no more than the table remembers.
            let charge = charge.min(burst * (DEBT_BURSTS_MAX - 1));
            prop_assert_eq!(table.take(key, charge, &rate, now).is_ok(), bucket.take(charge, now.0));
        }
    }

    #[test]
    fn a_refusal_says_exactly_when_it_frees(
        amount in 1_u64..10_000,
        charges in prop::collection::vec((0_u64..2_000, 1_u64..500), 1..100),
    ) {
        let rate = per_minute(amount);
        let table = table_of(8);
        let key = key_of("terri");
        let mut now = NOON;
        for (wait, charge) in charges {
            now = now.plus(wait);
            prop_assert_eq!(table.peek(key, charge, &rate, now).err(), {
                let frees = table.take(key, charge, &rate, now).err();
                if let Some(at) = frees {
                    prop_assert!(table.peek(key, charge, &rate, UnixMillis(at.0 - 1)).is_err());
                    prop_assert!(table.peek(key, charge, &rate, at).is_ok());
                }
                frees
            });
        }
    }

    #[test]
    fn no_period_sees_more_than_its_amount_and_a_burst(
        amount in 1_u64..50,
        burst in 1_u64..50,
        waits in prop::collection::vec(0_u64..3_000, 1..300),
    ) {
        let rate = Rate { burst, ..per_minute(amount) };
        let table = table_of(8);
        let key = key_of("terri");
        let mut now = NOON;
        let mut taken = Vec::new();
        for wait in waits {
            now = now.plus(wait);
            if table.take(key, 1, &rate, now).is_ok() {
                taken.push(now.0);
            }
        }
        for (index, &first) in taken.iter().enumerate() {
            let within = taken[index..].iter().take_while(|&&at| at < first + 60_000).count() as u64;
            prop_assert!(within <= amount + burst, "{within} in one period");
        }
    }
}

#[test]
fn what_is_charged_past_the_burst_is_owed() {
    let table = table_of(8);
    let (key, rate) = (key_of("terri"), per_minute(60));
    for _ in 0..90 {
        table.charge(key, 1, &rate, NOON);
    }
    assert_eq!(table.take(key, 1, &rate, NOON), Err(NOON.plus(31_000)));
    assert_eq!(table.take(key, 1, &rate, NOON.plus(31_000)), Ok(()));
    table.forget(key);
    assert_eq!(table.take(key, 60, &rate, NOON.plus(31_000)), Ok(()));
}

#[test]
fn more_than_the_burst_passes_when_nothing_is_owed_and_is_paid_for() {
    let table = table_of(8);
    let (key, rate) = (key_of("terri"), per_minute(60));
    assert_eq!(table.take(key, 600, &rate, NOON), Ok(()));
    assert_eq!(table.take(key, 1, &rate, NOON), Err(NOON.plus(9 * 60_000 + 1_000)));
}

#[test]
fn a_rate_of_nothing_never_frees() {
    let table = table_of(8);
    let never = table.take(key_of("terri"), 1, &per_minute(0), NOON).expect_err("nothing passes");
    assert!(never > NOON.plus(1 << 40));
}

#[test]
fn a_clock_that_went_back_locks_nobody_out_for_long() {
    let table = table_of(8);
    let (key, rate) = (key_of("terri"), per_minute(60));
    assert_eq!(table.take(key, 60, &rate, NOON.plus(1 << 40)), Ok(()));
    let frees = table.take(key, 1, &rate, NOON).expect_err("still owed");
    assert!(frees <= NOON.plus(DEBT_BURSTS_MAX * 60_000), "{frees:?}");
}

#[test]
fn a_smaller_amount_holds_at_once() {
    let table = table_of(8);
    let key = key_of("terri");
    assert_eq!(table.take(key, 50, &per_minute(60), NOON), Ok(()));
    assert!(table.peek(key, 1, &per_minute(5), NOON).is_err(), "50 s are owed, and one of 5 costs 12 s");
}

#[test]
fn newcomers_displace_newcomers_and_not_whoever_is_at_its_limit() {
    let table = table_of(64);
    let rate = per_minute(60);
    let limited = key_of("terri");
    assert_eq!(table.take(limited, 60, &rate, NOON), Ok(()));
    for stranger in 0..100_000_u32 {
        assert_eq!(table.take(key_of(stranger), 1, &rate, NOON), Ok(()));
    }
    assert!(table.take(limited, 1, &rate, NOON).is_err(), "a flood made it forgotten");
}

#[test]
fn a_forgotten_debt_is_not_the_newcomers() {
    let table = table_of(8);
    let rate = per_minute(60);
    for old in 0..8_u32 {
        assert_eq!(table.take(key_of(old), 60, &rate, NOON), Ok(()));
    }
    assert_eq!(table.take(key_of("new"), 1, &rate, NOON), Ok(()));
}

#[test]
fn threads_never_take_more_than_there_is() {
    const THREADS: u64 = 4;
    let table = Arc::new(table_of(1024));
    let rate = per_minute(1000);
    let start = Arc::new(Barrier::new(THREADS as usize));
    let taken: Arc<Vec<Counter>> = Arc::new((0..16).map(|_| Counter::new(0)).collect());
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (table, start, taken) = (table.clone(), start.clone(), taken.clone());
            std::thread::spawn(move || {
                start.wait();
                for turn in 0..16 * 600_u64 {
                    let subject = turn % 16;
                    if table.take(key_of(subject), 1, &rate, NOON).is_ok() {
                        taken[subject as usize].fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no thread fails");
    }
    for count in taken.iter() {
        assert_eq!(count.load(Ordering::Relaxed), 1000);
    }
}

/// The documented slack: while subjects are displaced as they are charged, a charge of each thread may be lost.
#[test]
fn threads_that_displace_each_other_lose_few_charges() {
    const THREADS: u64 = 4;
    let table = Arc::new(table_of(8));
    let rate = per_minute(100);
    let start = Arc::new(Barrier::new(THREADS as usize));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (table, start) = (table.clone(), start.clone());
            std::thread::spawn(move || {
                start.wait();
                let mut taken = 0_u64;
                for turn in 0..20_000_u64 {
                    taken += u64::from(table.take(key_of("busy"), 1, &rate, NOON).is_ok());
                    let _ = table.take(key_of((thread, turn)), 1, &rate, NOON);
                }
                taken
            })
        })
        .collect();
    let taken: u64 = threads.into_iter().map(|thread| thread.join().expect("no thread fails")).sum();
    assert!((100..=100 + THREADS * WAYS as u64).contains(&taken), "{taken} taken of 100");
}
