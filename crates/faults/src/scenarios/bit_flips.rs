//! One bit flipped anywhere in a spool: nothing altered is delivered, what is not hit is all there, and
//! the damage is reported.

use std::collections::BTreeSet;
use std::path::Path;

use testbed::random::Random;
use testbed::{Outcome, Sent};

use crate::Plan;
use crate::scenarios::copy_spool;
use crate::segment_file::{SegmentFile, of};
use crate::stand::{PATIENCE, Setup, Stand};
use crate::verdict::Verdict;

/// Several segments are full, and one is not.
const SEGMENT_BYTES: u64 = 512 << 10;
const MESSAGES: u64 = 400;
/// One spool in so many is not only read but recovered and delivered.
const RECOVERED_ONE_IN: u64 = 20;

#[derive(Debug, Default)]
struct Sum {
    /// In a group's header or records.
    hits: u64,
    /// Of them, in the last group of a segment, where damage may look like a torn commit.
    last: u64,
    recovered: u64,
}

/// Flips one bit at a time in a spool of a few hundred queued messages.
pub(crate) fn run(plan: &Plan) -> String {
    let mut random = Random::new(plan.seed);
    let spool = plan.work.join("spool");
    let mut setup = Setup::at(spool.clone());
    setup.segment_bytes = SEGMENT_BYTES;
    let mut stand = Stand::start(plan, setup);
    stand.gate.shut();
    let client = stand.client(plan.seed, |options| options.messages_max = Some(MESSAGES));
    assert!(client.wait_acknowledged(MESSAGES, PATIENCE), "no mail is taken:\n{}", stand.output());
    let sent = client.finish();
    stand.gateway.kill();
    let whole = stand.queued();
    assert!(!whole.is_empty(), "nothing is queued where nothing was delivered");
    let segments = SegmentFile::all(&spool);
    let mut sum = Sum::default();
    for cycle in 0..plan.cycles {
        let segment = &segments[random.below(segments.len() as u64) as usize];
        let at = random.below(segment.used() as u64) as usize;
        segment.write(at, &[segment.bytes[at] ^ (1 << random.below(8))]);
        let hit = segment.groups.iter().position(|group| group.bytes.contains(&at));
        let serials = hit.map_or_else(BTreeSet::new, |hit| segment.groups[hit].serials.clone());
        let is_last = hit == Some(segment.groups.len() - 1);
        sum.hits += u64::from(hit.is_some());
        sum.last += u64::from(is_last);
        let place = format!("a bit at byte {at} of {}", segment.path.display());
        let (is_sound, said) = stand.verify();
        assert!(hit.is_none() || is_last || !is_sound, "{place} is not reported: {said}");
        let found = stand.queued();
        let missing: BTreeSet<_> = whole.difference(&found).cloned().collect();
        let allowed = of(&whole, &serials);
        assert!(
            missing.is_subset(&allowed),
            "{place}: missing is also {:?}",
            missing.difference(&allowed).next()
        );
        assert!(
            found.is_subset(&whole),
            "{place}: something was invented: {:?}",
            found.difference(&whole).next()
        );
        if cycle % RECOVERED_ONE_IN == 0 {
            recover(plan, &mut stand, &spool, &sent, &serials);
            sum.recovered += 1;
        }
        segment.restore(at..at + 1);
    }
    format!(
        "{} bits in {} segments, {} of them in groups ({} in the last one of a segment, which may pass for torn); \
         {} spools recovered and delivered",
        plan.cycles,
        segments.len(),
        sum.hits,
        sum.last,
        sum.recovered
    )
}

/// A gateway on a copy delivers all that was not hit; what was hit it delivers unaltered or not at all.
fn recover(plan: &Plan, stand: &mut Stand, spool: &Path, sent: &[Sent], hit: &BTreeSet<u64>) {
    let own = stand.gateway.configuration().clone();
    let copy = copy_spool(spool, &plan.work);
    let mut configuration = own.clone();
    configuration.spool = Some(copy.clone());
    stand.gateway.rewrite(configuration);
    let before = stand.destination.count();
    stand.gate.open();
    stand.gateway.restart();
    let outcome = |sent: &Sent| if hit.contains(&sent.serial) { Outcome::Unknown } else { sent.outcome };
    let sent: Vec<_> = sent.iter().map(|sent| Sent { outcome: outcome(sent), ..sent.clone() }).collect();
    // A message that was hit stays where it is: what ends the wait is that the others have arrived.
    let verdict = |arrivals: Vec<_>| Verdict::of(sent.clone(), arrivals, &[]);
    let _ = testbed::net::eventually(PATIENCE, || {
        let arrivals = stand.destination.arrivals().split_off(before);
        verdict(arrivals).report().lost.is_empty()
    });
    stand.gateway.kill();
    stand.settle_destination();
    verdict(stand.destination.arrivals().split_off(before)).assert_kept();
    std::fs::remove_dir_all(copy).expect("the work folder can be written");
    stand.gateway.rewrite(own);
    stand.gate.shut();
}
