//! The spool's files vanish under a running gateway: deleted, renamed, or renamed and brought back.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use testbed::folder::remove_in_use;
use testbed::http::http_get;
use testbed::net::eventually;
use testbed::random::Random;

use crate::Plan;
use crate::stand::{PATIENCE, Setup, Stand};
use crate::verdict::Verdict;

/// Acknowledgements before the files vanish.
const BEFORE: u64 = 300;

/// Kinds of cycles.
const KINDS: u64 = 4;

/// One way to vanish a cycle, in turn, under load and in a separate spool.
pub(crate) fn run(plan: &Plan) -> String {
    let mut random = Random::new(plan.seed);
    let (mut acknowledged, mut lost) = (0, 0);
    for cycle in 0..plan.cycles {
        let spool = plan.work.join(format!("spool-{cycle}"));
        let mut setup = Setup::at(spool.clone());
        // It never fills: what was refused for that would say nothing.
        setup.capacity = "512MiB";
        let mut stand = Stand::start(plan, setup);
        let verdict = match cycle % KINDS {
            0 => saved(&mut stand, &mut random, |spool, _| remove_in_use(spool), &spool),
            1 => saved(&mut stand, &mut random, |spool, aside| fs::rename(spool, aside), &spool),
            2 => brought_back(&mut stand, &mut random, &spool),
            _ => lost_by_name(&mut stand, &mut random, &spool),
        };
        acknowledged += verdict.report().acknowledged;
        lost += verdict.report().lost.len();
        for folder in [spool.clone(), spool.with_extension("aside")] {
            // What is left of it, if anything.
            let _ = fs::remove_dir_all(folder);
        }
    }
    format!(
        "{acknowledged} messages acknowledged; recipients: {lost} lost, all of messages that the log named"
    )
}

/// The destination takes mail: nothing is lost.
fn saved(
    stand: &mut Stand,
    random: &mut Random,
    vanish: impl FnOnce(&Path, &Path) -> std::io::Result<()>,
    spool: &Path,
) -> Verdict {
    let client = stand.client(random.bits(), |_| {});
    assert!(client.wait_acknowledged(BEFORE, PATIENCE), "no mail is taken:\n{}", stand.output());
    vanish(spool, &spool.with_extension("aside")).expect("the spool is ours");
    wait_readiness(stand, false);
    assert_promises_nothing(&client, stand);
    let sent = client.stop();
    wait_empty(stand);
    assert!(stand.gateway.terminate().success(), "it does not end well:\n{}", stand.output());
    stand.settle_destination();
    let verdict = Verdict::of(sent, stand.destination.arrivals(), &[]);
    verdict.assert_kept();
    assert_eq!(named(stand), BTreeSet::new());
    verdict
}

/// The files are where they were before anybody restarts anything: mail goes on.
fn brought_back(stand: &mut Stand, random: &mut Random, spool: &Path) -> Verdict {
    let client = stand.client(random.bits(), |_| {});
    let large = stand.large_client(random.bits(), 20, None);
    assert!(client.wait_acknowledged(BEFORE, PATIENCE), "no mail is taken:\n{}", stand.output());
    let aside = spool.with_extension("aside");
    fs::rename(spool, &aside).expect("the spool is ours");
    wait_readiness(stand, false);
    fs::rename(&aside, spool).expect("the spool is ours");
    wait_readiness(stand, true);
    let wanted = client.acknowledged() + BEFORE;
    assert!(client.wait_acknowledged(wanted, PATIENCE), "no mail is taken again:\n{}", stand.output());
    let mut sent = client.stop();
    sent.extend(large.stop());
    // What is on the disk is whole as well.
    stand.gate.shut();
    stand.kill();
    stand.assert_sound();
    stand.gateway.restart();
    let verdict = stand.verdict(sent);
    verdict.assert_kept();
    verdict
}

/// The destination takes nothing: each message that is lost at the end is named, and no other.
fn lost_by_name(stand: &mut Stand, random: &mut Random, spool: &Path) -> Verdict {
    let client = stand.client(random.bits(), |_| {});
    let large = stand.large_client(random.bits(), 5, None);
    assert!(client.wait_acknowledged(BEFORE / 2, PATIENCE), "no mail is taken:\n{}", stand.output());
    stand.gate.shut();
    stand.destination.cut_connections();
    assert!(client.wait_acknowledged(BEFORE, PATIENCE), "no mail is taken:\n{}", stand.output());
    remove_in_use(spool).expect("the spool is ours");
    wait_readiness(stand, false);
    assert_promises_nothing(&client, stand);
    let mut sent = client.stop();
    sent.extend(large.stop());
    assert!(stand.gateway.terminate().success(), "it does not end well:\n{}", stand.output());
    stand.settle_destination();
    let verdict = Verdict::of(sent, stand.destination.arrivals(), &[]);
    let lost: BTreeSet<u64> = verdict.report().lost.iter().map(|(serial, _)| *serial).collect();
    assert!(!lost.is_empty(), "the gate was shut, and nothing was lost: {verdict}");
    let named = named(stand).len();
    // A connection that was cut lost its last reply: what was taken so may be named all the same, and so may a bounce.
    assert!(named >= lost.len(), "{} messages were lost, and {named} named:\n{}", lost.len(), stand.output());
    verdict
}

/// No client gets a 250 any more: the count stands still over several refused transactions.
fn assert_promises_nothing(client: &testbed::LedgerClient, stand: &Stand) {
    // A reply that was on its way may still come.
    thread::sleep(Duration::from_millis(100));
    let before = client.acknowledged();
    let refused = stand.gateway.metric("gatepost_relay_denials_total");
    let has_refused = || stand.gateway.metric("gatepost_relay_denials_total") > refused + 50.0;
    assert!(eventually(PATIENCE, has_refused), "no client is refused:\n{}", stand.output());
    assert_eq!(client.acknowledged(), before, "mail was promised without a spool:\n{}", stand.output());
}

fn wait_readiness(stand: &Stand, wanted: bool) {
    let address = stand.gateway.configuration().metrics;
    let is_so = || match http_get(address, "/readyz") {
        Some((code, body)) => {
            if wanted {
                code == 200
            } else {
                code == 503 && body.contains("vanished")
            }
        }
        None => false,
    };
    assert!(eventually(PATIENCE, is_so), "{:?}:\n{}", http_get(address, "/readyz"), stand.output());
}

fn wait_empty(stand: &Stand) {
    let is_empty = || stand.gateway.metric("gatepost_spool_messages") == 0.0;
    assert!(
        eventually(PATIENCE, is_empty),
        "{} messages are still queued:\n{}",
        stand.gateway.metric("gatepost_spool_messages"),
        stand.output()
    );
}

/// The messages that the log named as lost.
fn named(stand: &Stand) -> BTreeSet<String> {
    let output = stand.gateway.output();
    let lost = output.lines().filter(|line| line.contains("\"event\":\"message_lost\""));
    lost.filter_map(|line| Some(line.split_once("\"message\":\"")?.1.split_once('"')?.0.to_owned())).collect()
}
