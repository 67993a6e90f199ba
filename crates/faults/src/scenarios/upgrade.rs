//! Drains and upgrades under load: SIGTERM, SIGKILL before the drain has ended, and the other version on the
//! same spool, there and back.

use testbed::random::Random;

use crate::Plan;
use crate::device::{Ext4, text};
use crate::stand::{PATIENCE, Setup, Stand};

const IMAGE_BYTES: u64 = 256 << 20;

/// Every so many drains are cut short.
const CUT_SHORT_ONE_IN: u64 = 3;

/// Stops the gateway under load in each cycle and goes on with the other version.
pub(crate) fn run(plan: &Plan) -> String {
    let mut random = Random::new(plan.seed);
    let disk = Ext4::create(&plan.work.join("disk"), IMAGE_BYTES);
    let mut stand = Stand::start(plan, Setup::at(disk.path().join("spool")));
    let client = stand.client(plan.seed, |_| {});
    let large = stand.large_client(plan.seed, 4 * plan.cycles, None);
    let mut drained = 0;
    for cycle in 0..plan.cycles {
        let wanted = client.acknowledged() + 1 + random.below(200);
        assert!(client.wait_acknowledged(wanted, PATIENCE), "no mail is taken:\n{}", stand.output());
        if cycle % CUT_SHORT_ONE_IN == CUT_SHORT_ONE_IN - 1 {
            stand.gateway.signal("TERM");
            stand.kill();
        } else {
            let status = stand.gateway.terminate();
            assert!(status.success(), "a drain ended with {status}:\n{}", stand.output());
            stand.note_end();
            drained += 1;
        }
        stand.assert_sound();
        match &plan.earlier {
            Some(earlier) if cycle % 2 == 0 => {
                // The words that follow begin with the gateway that would be run otherwise.
                let script = format!("shift; exec {} \"$@\"", text(earlier));
                stand.wrap(&["sh", "-c", &script, "sh"]);
            }
            _ => stand.disarm(),
        }
        stand.gateway.restart();
    }
    let mut sent = client.stop();
    sent.extend(large.stop());
    let verdict = stand.verdict(sent);
    verdict.assert_kept();
    let versions = match &plan.earlier {
        Some(path) => format!("there and back with {}", path.display()),
        None => "the same build (no --earlier)".to_owned(),
    };
    format!("{drained} drains and {} cut short, {versions}; {verdict}", plan.cycles - drained)
}
