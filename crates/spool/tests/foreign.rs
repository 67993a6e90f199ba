//! Records that a later version wrote: what may be passed over is, and what must not be sets its message apart.

mod harness;

use harness::*;
use mail::UnixMillis;
use ring::sim::SimOptions;
use spool::{Foreign, LoadError, Options, Outcome, Recovered, inspect};
use testbed::segment::{DEFERRED, GRAFTED, MESSAGE, OUTCOME};

const BLOCK: usize = 4096;
/// Numbers that no version has given yet.
const OPTIONAL: u8 = 0x7e;
const REQUIRED: u8 = 0xfe;

impl Bench {
    /// Gives the first record of this type in the last group of the first segment a field of this tag.
    fn graft(&mut self, kind: u8, tag: u8) {
        let mut bytes = self.read(segment(0));
        testbed::segment::graft(&mut bytes, kind, tag);
        self.write(segment(0), 0, &bytes);
    }

    fn find(&self, number: u32) -> &Recovered {
        self.recovered.iter().find(|one| one.id == id(number)).expect("it is queued")
    }
}

/// Two messages in one group.
fn two(seed: u64, options: Options) -> Bench {
    let mut bench = Bench::with(seed, options, SimOptions::default());
    bench.settle();
    bench.append(1, 2, 300).unwrap();
    bench.append(2, 1, 300).unwrap();
    bench.settle();
    bench
}

/// Mail that comes and goes, for as long as it takes to use every segment again that may be.
fn traffic(bench: &mut Bench) {
    for numbers in [1000..1300, 2000..2800] {
        for number in numbers {
            let (key, _) = bench.commit(number, 1, 8 << 10);
            bench.deliver(key, 1).unwrap();
        }
        pass(bench, 60);
    }
}

#[test]
fn an_optional_field_that_is_not_known_changes_nothing_and_stays_with_the_copy() {
    let mut bench = two(1, roomy());
    bench.graft(MESSAGE, OPTIONAL);
    let mut bench = bench.restart();
    assert_eq!((bench.recovered_ids(), bench.shard.recovery().foreign), (vec![id(1), id(2)], 0));
    assert!(inspect::verify(&mut bench.ring, ROOT.as_ref()).unwrap().is_sound());
    let (one, two) = (bench.find(1).key, bench.find(2).key);
    assert_eq!(content(&bench.load(one).unwrap()), wire(1, 300));
    bench.deliver(two, 1).unwrap();
    let before = bench.shard.find(one).unwrap().1;
    traffic(&mut bench);
    let after = bench.shard.find(one).unwrap().1.unwrap();
    assert_ne!(Some(after), before, "it was copied");
    let mut found = None;
    inspect::read(&mut bench.ring, ROOT.as_ref(), [after], |record| found = record).unwrap();
    let bytes = found.unwrap().bytes;
    assert!(bytes.windows(GRAFTED.len()).any(|window| window == GRAFTED), "what is not known is not lost");
    assert_eq!(content(&bench.load(one).unwrap()), wire(1, 300));
}

/// Whatever record says so, message 1 is set apart: it is named, stays where it is, and is not delivered; what is
/// beside it in its group is.
fn expect_set_apart(bench: Bench, foreign: Foreign) -> Bench {
    let mut bench = bench.restart();
    assert_eq!(bench.recovered_ids(), [id(1), id(2)]);
    assert_eq!((bench.find(1).foreign, bench.find(2).foreign), (Some(foreign), None));
    let report = bench.shard.recovery();
    assert_eq!((report.foreign, report.messages, &report.damage[..]), (1, 2, &[][..]));
    let other = bench.find(2).key;
    assert_eq!(content(&bench.load(other).unwrap()), wire(2, 300));
    bench.deliver(other, 1).unwrap();
    let verified = inspect::verify(&mut bench.ring, ROOT.as_ref()).unwrap();
    assert_eq!((verified.foreign.clone(), verified.is_sound()), (vec![(id(1), foreign)], false));
    let listed = inspect::list(&mut bench.ring, ROOT.as_ref()).unwrap();
    assert_eq!((listed[0].id, listed[0].foreign, &*listed[0].tenant), (id(1), Some(foreign), "acme"));
    let kept = bench.read(segment(0));
    traffic(&mut bench);
    assert!(bench.shard.stats().used_bytes <= 8 * SEGMENT_BYTES, "{:?}", bench.shard.stats());
    let mut bench = bench.restart();
    assert_eq!(bench.recovered_ids(), [id(1)]);
    assert_eq!(bench.find(1).foreign, Some(foreign));
    assert_eq!(bench.read(segment(0))[..2 * BLOCK], kept[..2 * BLOCK], "its segment is not used again");
    bench
}

#[test]
fn a_required_field_that_is_not_known_sets_its_message_apart_and_not_its_group() {
    let mut bench = two(2, roomy());
    bench.graft(MESSAGE, REQUIRED);
    let mut bench = expect_set_apart(bench, Foreign::Unknown { kind: MESSAGE, tag: REQUIRED });
    let key = bench.find(1).key;
    assert!(matches!(bench.load(key), Err(LoadError::Foreign(_))));
    // Until an operator gives it up.
    bench.shard.outcomes(key, &[(0, Outcome::Failed), (1, Outcome::Failed)], &[], None).unwrap();
    bench.settle();
    let mut bench = bench.restart();
    assert_eq!((bench.recovered_ids(), bench.shard.recovery().foreign), (vec![], 0));
    assert!(inspect::verify(&mut bench.ring, ROOT.as_ref()).unwrap().is_sound());
}

#[test]
fn so_does_one_in_a_deferral_and_one_in_an_outcome() {
    for (kind, seed) in [(DEFERRED, 3), (OUTCOME, 4)] {
        let mut bench = two(seed, roomy()).restart();
        let key = bench.find(1).key;
        match kind {
            DEFERRED => bench.shard.deferred(key, &[0], UnixMillis(99), 1, &[]).unwrap(),
            _ => bench.shard.outcomes(key, &[(0, Outcome::Delivered)], &[], None).unwrap(),
        }
        bench.settle();
        bench.graft(kind, REQUIRED);
        expect_set_apart(bench, Foreign::Unknown { kind, tag: REQUIRED });
    }
}

#[test]
fn what_is_said_of_a_message_that_is_gone_sets_nothing_apart() {
    let mut bench = two(5, roomy()).restart();
    let key = bench.find(1).key;
    bench.deliver(key, 2).unwrap();
    bench.settle();
    bench.shard.deferred(bench.find(2).key, &[0], UnixMillis(99), 1, &[]).unwrap();
    bench.deliver(bench.find(2).key, 1).unwrap();
    bench.settle();
    bench.graft(DEFERRED, REQUIRED);
    let mut bench = bench.restart();
    assert_eq!((bench.recovered_ids(), bench.shard.recovery().foreign), (vec![], 0));
    assert!(inspect::verify(&mut bench.ring, ROOT.as_ref()).unwrap().is_sound());
}
