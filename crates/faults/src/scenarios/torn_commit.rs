//! The last commit torn: cut at each byte, and with any of its sectors missing.

use std::collections::BTreeSet;
use std::path::Path;

use testbed::ledger::Delivery;
use testbed::random::Random;
use testbed::segment::Group;
use testbed::{LedgerClient, Sent};

use crate::Plan;
use crate::scenarios::copy_spool;
use crate::segment_file::{SegmentFile, of};
use crate::stand::{PATIENCE, Setup, Stand};
use crate::verdict::{End, Verdict};

const SECTOR: usize = 512;
/// One torn spool in so many is not only read but recovered and delivered.
const RECOVERED_ONE_IN: u64 = 50;

/// Tears the last group of a spool in all ways, if `cycles` suffices; otherwise at drawn places.
pub(crate) fn run(plan: &Plan) -> String {
    let mut random = Random::new(plan.seed);
    let spool = plan.work.join("spool");
    let mut stand = Stand::start(plan, Setup::at(spool.clone()));
    stand.gate.shut();
    let client = stand.client(plan.seed, |options| options.messages_max = Some(60));
    let sent = finish(client);
    stand.gateway.kill();
    let whole = stand.queued();
    assert!(!whole.is_empty(), "nothing is queued where nothing was delivered");
    // The one with the last message: what was noted of attempts afterwards does not matter here.
    let segments = SegmentFile::all(&spool);
    let (segment, group) = last_message(&segments);
    let rest: BTreeSet<_> = whole.difference(&of(&whole, &group.serials)).cloned().collect();
    // What follows it is gone as well: at the moment of that commit it was not there.
    let (from, to) = (group.bytes.start, segment.used().max(group.bytes.end));
    let bytes = group.bytes.len();
    let is_every_byte = plan.cycles >= bytes as u64;
    let cuts = plan.cycles.min(bytes as u64);
    let mut recovered = 0;
    for cycle in 0..cuts {
        let cut = if is_every_byte { cycle as usize } else { random.below(bytes as u64) as usize };
        segment.write(from, &vec![0; to - from]);
        segment.write(from, &segment.bytes[from..from + cut]);
        // The bytes that are missing may have been zeros.
        let is_whole = segment.bytes[from + cut..group.bytes.end].iter().all(|byte| *byte == 0);
        check(&stand, if is_whole { &whole } else { &rest }, &format!("cut at byte {cut} of {bytes}"));
        if cycle % RECOVERED_ONE_IN == 0 {
            recover(plan, &mut stand, &spool, &sent, if is_whole { &whole } else { &rest });
            recovered += 1;
        }
        segment.restore(from..to);
    }
    let subsets = plan.cycles.min(2000);
    for _ in 0..subsets {
        segment.write(from, &vec![0; to - from]);
        let mut is_whole = true;
        for at in (from..group.bytes.end).step_by(SECTOR) {
            let sector = &segment.bytes[at..(at + SECTOR).min(group.bytes.end)];
            if random.below(3) > 0 {
                segment.write(at, sector);
            } else {
                is_whole &= sector.iter().all(|byte| *byte == 0);
            }
        }
        check(&stand, if is_whole { &whole } else { &rest }, "sectors are missing");
        segment.restore(from..to);
    }
    let which = if is_every_byte { "every byte" } else { "drawn bytes" };
    format!(
        "a group of {bytes} bytes cut at {cuts} places ({which}), and {subsets} times without some of its sectors; \
         {recovered} of them recovered and delivered"
    )
}

fn finish(client: LedgerClient) -> Vec<Sent> {
    assert!(client.wait_acknowledged(60, PATIENCE), "no mail is taken");
    client.finish()
}

fn last_message(segments: &[SegmentFile]) -> (&SegmentFile, &Group) {
    let mut with_mail =
        segments.iter().flat_map(|segment| segment.groups.iter().map(move |group| (segment, group)));
    with_mail.rfind(|(_, group)| !group.serials.is_empty()).expect("mail was acknowledged")
}

fn check(stand: &Stand, expected: &BTreeSet<Delivery>, what: &str) {
    stand.assert_sound();
    let found = stand.queued();
    assert!(found == *expected, "{what}: {} are queued, not {}", found.len(), expected.len());
}

/// A gateway on a copy delivers what is whole, and nothing else.
fn recover(plan: &Plan, stand: &mut Stand, spool: &Path, sent: &[Sent], expected: &BTreeSet<Delivery>) {
    let own = stand.gateway.configuration().clone();
    let copy = copy_spool(spool, &plan.work);
    let mut configuration = own.clone();
    configuration.spool = Some(copy.clone());
    stand.gateway.rewrite(configuration);
    let before = stand.destination.count();
    stand.gateway.restart();
    stand.drain();
    stand.gateway.kill();
    stand.settle_destination();
    let arrivals = stand.destination.arrivals().split_off(before);
    let sent: Vec<_> = sent
        .iter()
        .filter(|sent| expected.iter().any(|(serial, _)| *serial == sent.serial))
        .cloned()
        .collect();
    Verdict::of(sent, arrivals, &[] as &[End]).assert_kept();
    std::fs::remove_dir_all(copy).expect("the work folder can be written");
    stand.gateway.rewrite(own);
    stand.gate.shut();
}
