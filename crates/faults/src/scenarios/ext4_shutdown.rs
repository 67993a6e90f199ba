//! ext4 shut down under load without flushing its log: what the journal had not on disk is gone.

use testbed::random::Random;

use crate::Plan;
use crate::device::Ext4;
use crate::stand::{PATIENCE, Setup, Stand};

const IMAGE_BYTES: u64 = 256 << 20;

/// A new spool after so many cycles: a young one writes more of the file system's own log.
const CYCLES_A_SPOOL: u64 = 20;

/// Shuts the file system down under load, sees that no more mail is promised, mounts it again and recovers.
pub(crate) fn run(plan: &Plan) -> String {
    let mut random = Random::new(plan.seed);
    let spools = plan.parts(CYCLES_A_SPOOL);
    let lines: Vec<_> = spools.map(|(number, cycles)| one_spool(plan, number, cycles, &mut random)).collect();
    lines.join(" | ")
}

fn one_spool(plan: &Plan, number: u64, cycles: u64, random: &mut Random) -> String {
    let image = plan.work.join(format!("disk-{number}"));
    let mut disk = Ext4::create(&image, IMAGE_BYTES);
    let mut stand = Stand::start(plan, Setup::at(disk.path().join("spool")));
    let client = stand.client(plan.seed + number, |_| {});
    let large = stand.large_client(plan.seed + number, cycles * 8, None);
    for _ in 0..cycles {
        let wanted = client.acknowledged() + 1 + random.below(200);
        assert!(client.wait_acknowledged(wanted, PATIENCE), "no mail is taken:\n{}", stand.output());
        let latches = stand.latches();
        disk.shut_down();
        let latched = testbed::net::eventually(PATIENCE, || stand.latches() > latches);
        assert!(latched, "the gateway does not notice that its disk is gone:\n{}", stand.output());
        stand.gateway.kill();
        stand.note_blind_end();
        disk.unmount();
        disk.mount();
        stand.note_queued();
        stand.assert_sound();
        stand.gateway.restart();
    }
    let mut sent = client.stop();
    sent.extend(large.stop());
    let verdict = stand.verdict(sent);
    verdict.assert_kept();
    drop(stand);
    drop(disk);
    std::fs::remove_file(image).expect("the work folder can be written");
    verdict.to_string()
}
