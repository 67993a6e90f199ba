//! Crashes while a gateway recovers from a crash, and while it changes or empties segments behind that, five deep.

use std::thread;
use std::time::Duration;

use testbed::random::Random;

use crate::Plan;
use crate::device::Ext4;
use crate::stand::{PATIENCE, Setup, Stand};

const IMAGE_BYTES: u64 = 256 << 20;
/// Crashes one upon the other.
const DEPTH: u64 = 5;
/// A start is over within about this time on an idle machine: the moment of a SIGKILL is drawn from it.
const START_MICROSECONDS: u64 = 150_000;

/// Where one segment is left for another.
const ROTATION: [&str; 3] = ["mid-rotation", "before-recycle", "mid-recycle"];

/// At which visit of a place in compaction it crashes at the latest.
const VISITS_MAX: u64 = 12;

/// Kills the gateway under load, and five times more while it recovers: at its fail points and at any moment. In
/// every other cycle some of these crashes come when it has recovered, in the midst of compaction; others come in the
/// midst of rotation.
pub(crate) fn run(plan: &Plan) -> String {
    let mut random = Random::new(plan.seed);
    let disk = Ext4::create(&plan.work.join("disk"), IMAGE_BYTES);
    let mut stand = Stand::start(plan, Setup::at(disk.path().join("spool")));
    let client = stand.client(plan.seed, |_| {});
    let mut sent = Vec::new();
    for cycle in 0..plan.cycles {
        let compacts = cycle % 2 == 1;
        if compacts {
            // Some of the mail is deferred without end: what holds it has to be emptied all the time.
            stand.late_gate.shut();
        }
        let large = stand.large_client(random.bits(), 3, None);
        let wanted = client.acknowledged() + 1 + random.below(150);
        assert!(client.wait_acknowledged(wanted, PATIENCE), "no mail is taken:\n{}", stand.output());
        stand.kill();
        for depth in 0..DEPTH {
            match (depth + random.below(2)) % 3 {
                0 if compacts => crash_at(&mut stand, "before-compaction", 1 + random.below(VISITS_MAX)),
                1 if compacts => crash_at(&mut stand, "mid-compaction", 1 + random.below(VISITS_MAX)),
                0 => crash_at(&mut stand, "mid-recovery", 1),
                1 => crash_at(&mut stand, "end-of-recovery", 1),
                _ if random.below(2) == 0 => {
                    let point = ROTATION[random.below(ROTATION.len() as u64) as usize];
                    crash_at(&mut stand, point, 1);
                }
                _ => {
                    stand.gateway.spawn();
                    // Not a wait for anything: the moment itself is drawn.
                    thread::sleep(Duration::from_micros(random.below(START_MICROSECONDS)));
                    stand.kill();
                }
            }
            stand.assert_sound();
        }
        stand.gateway.restart();
        stand.late_gate.open();
        sent.extend(large.stop());
    }
    sent.extend(client.stop());
    let verdict = stand.verdict(sent);
    verdict.assert_kept();
    format!(
        "{} crashes, {DEPTH} of each {} while recovering or compacting; {verdict}",
        plan.cycles * (DEPTH + 1),
        DEPTH + 1
    )
}

fn crash_at(stand: &mut Stand, point: &str, visit: u64) {
    stand.arm(point, visit);
    stand.gateway.spawn();
    let ended = stand.gateway.wait_end(PATIENCE);
    assert!(ended.is_some(), "{point} was never reached:\n{}\n{}", stand.state(), stand.output());
    stand.note_end();
    stand.disarm();
}
