//! The destination dies before the last dot or after it, or its 250 is lost.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use testbed::random::Random;
use testbed::{LedgerClient, Rules};

use crate::Plan;
use crate::spool_dump::serial_of;
use crate::stand::{PATIENCE, Setup, Stand};
use crate::verdict::Verdict;

/// Every so many transactions lose their 250, once each.
const SWALLOWED_ONE_IN: u64 = 8;
/// Acknowledgements between two cuts.
const BETWEEN: u64 = 40;
/// Then it may be emptied: cut as often as this, the destination takes less than comes.
const CYCLES_A_QUEUE: u64 = 50;

/// Half of the cycles each: every connection is cut at a random moment, and the destination is away for a
/// while; meanwhile 250s are lost.
pub(crate) fn run(plan: &Plan) -> String {
    let mut random = Random::new(plan.seed);
    let swallowed = Arc::new(Mutex::new(BTreeSet::new()));
    let book = Arc::clone(&swallowed);
    let swallows = move |recipients: &str| {
        let Some(serial) = recipients.split(',').next().and_then(serial_of) else { return false };
        serial % SWALLOWED_ONE_IN == 5 && book.lock().expect("no thread panics holding it").insert(serial)
    };
    let mut setup = Setup::at(plan.work.join("spool"));
    // It never fills: mail that is refused until the destination is back would not bring it back.
    setup.capacity = "512MiB";
    setup.rules = Rules { swallows_reply: Some(Box::new(swallows)), ..Rules::default() };
    let mut stand = Stand::start(plan, setup);
    let (mut sent, mut cut) = (Vec::new(), 0);
    for (number, cycles) in plan.parts(CYCLES_A_QUEUE) {
        let client = stand.client(plan.seed + number, |_| {});
        let large = stand.large_client(plan.seed + number, cycles, None);
        for cycle in 0..cycles {
            cut += one_cut(&stand, &client, cycle % 2 == 1, &mut random);
        }
        sent.extend(client.stop());
        sent.extend(large.stop());
        stand.drain();
    }
    let verdict = Verdict::of(sent, stand.destination.arrivals(), &[]);
    let report = verdict.report();
    report.assert_kept();
    let swallowed = swallowed.lock().expect("no thread panics holding it");
    let others: BTreeSet<_> = report.duplicated.iter().map(|(serial, _)| *serial).collect();
    let others = others.difference(&swallowed).count();
    // One message at a time is on a connection that is cut.
    assert!(others <= cut, "{others} messages came twice, and {cut} connections were cut: {verdict}");
    format!(
        "{cut} connections cut, {} replies lost, {others} other messages twice; {verdict}",
        swallowed.len()
    )
}

/// Cuts every connection; where the destination `goes_away`, until more mail has been taken. Gives how many were cut.
fn one_cut(stand: &Stand, client: &LedgerClient, goes_away: bool, random: &mut Random) -> usize {
    let wanted = client.acknowledged() + 1 + random.below(BETWEEN);
    assert!(client.wait_acknowledged(wanted, PATIENCE), "no mail is taken:\n{}", stand.output());
    // Not a wait for anything: the moment itself is drawn.
    thread::sleep(Duration::from_micros(random.below(10_000)));
    if goes_away {
        stand.gate.shut();
    }
    let cut = stand.destination.open_connections();
    stand.destination.cut_connections();
    if goes_away {
        let wanted = client.acknowledged() + BETWEEN;
        assert!(
            client.wait_acknowledged(wanted, PATIENCE),
            "no mail is taken while the destination is away:\n{}\n{}",
            stand.state(),
            stand.output()
        );
        stand.gate.open();
    }
    cut
}
