//! Drains and upgrades under load: SIGTERM, SIGKILL before the drain has ended, and the other version on the
//! same spool, there and back. Where the two do not share a format each refuses the other's spool and leaves it as
//! it is, and the remedy that the refusal names loses nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use testbed::random::Random;

use crate::Plan;
use crate::device::{Ext4, text};
use crate::spool_dump;
use crate::stand::{PATIENCE, Setup, Stand};

const IMAGE_BYTES: u64 = 256 << 20;

/// Every so many drains are cut short.
const CUT_SHORT_ONE_IN: u64 = 3;

/// Stops the gateway under load in each cycle and goes on with the other version.
pub(crate) fn run(plan: &Plan) -> String {
    let mut random = Random::new(plan.seed);
    let disk = Ext4::create(&plan.work.join("disk"), IMAGE_BYTES);
    let mut stand = Stand::start(plan, Setup::at(disk.path().join("spool")));
    if let Some(earlier) = &plan.earlier
        && let (false, said) = spool_dump::is_sound(earlier, stand.gateway.config_path())
        && is_of_another_format(&said)
    {
        return across_formats(plan, stand, earlier);
    }
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
            Some(earlier) if cycle % 2 == 0 => stand.take(earlier),
            _ => stand.take(&plan.gatepost),
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

/// What a build says of a spool whose format it does not know.
fn is_of_another_format(said: &str) -> bool {
    said.contains("format version ")
}

/// The earlier build fills a spool, this one refuses it, the earlier one delivers what is in it, and each begins in
/// an empty folder.
fn across_formats(plan: &Plan, mut stand: Stand, earlier: &Path) -> String {
    const ROUNDS: u64 = 20;
    let spool = stand.gateway.configuration().spool.clone().expect("it is on the device");
    let mut sent = Vec::new();
    let builds = [plan.gatepost.as_path(), earlier];
    for (round, (build, other)) in [(builds[0], builds[1]), (builds[1], builds[0])].into_iter().enumerate() {
        if round > 0 {
            stand.take(build);
            stand.gateway.restart();
        }
        // Some of it waits.
        stand.late_gate.shut();
        let messages = plan.cycles * ROUNDS;
        let client = stand.client(plan.seed, |options| options.messages_max = Some(messages));
        assert!(client.wait_acknowledged(messages, PATIENCE), "no mail is taken:\n{}", stand.output());
        sent.extend(client.finish());
        end(&mut stand);
        let before = files(&spool);
        stand.take(other);
        let (is_read, said) = spool_dump::is_sound(other, stand.gateway.config_path());
        assert!(!is_read && is_of_another_format(&said), "it is read by the other build: {said}");
        stand.gateway.spawn();
        let status = stand.gateway.wait_end(PATIENCE);
        let said = stand.output();
        assert!(status.is_some_and(|status| !status.success()), "it starts on the other's spool:\n{said}");
        assert!(is_of_another_format(&said) && said.contains(text(&spool)), "not the sentence:\n{said}");
        assert!(files(&spool) == before, "the other build has changed the spool");
        stand.take(build);
        stand.gateway.restart();
        stand.drain();
        end(&mut stand);
        std::fs::rename(&spool, spool.with_extension(round.to_string())).expect("a folder can be moved away");
    }
    stand.take(&plan.gatepost);
    stand.gateway.restart();
    let verdict = stand.verdict(sent);
    verdict.assert_kept();
    format!(
        "another format than {}: each refuses the other's spool and changes nothing; {verdict}",
        earlier.display()
    )
}

fn end(stand: &mut Stand) {
    let status = stand.gateway.terminate();
    assert!(status.success(), "a drain ended with {status}:\n{}", stand.output());
    stand.note_end();
}

/// Every file of every shard, with what is in it. What lies beside the shards is not the spool's.
fn files(spool: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = |folder: &Path| {
        let names = std::fs::read_dir(folder).expect("the spool can be read");
        names.map(|entry| entry.expect("the spool can be read").path()).collect::<Vec<_>>()
    };
    let shards = entries(spool).into_iter().filter(|path| path.is_dir());
    let files = shards.flat_map(|shard| entries(&shard));
    files.map(|path| (path.clone(), std::fs::read(path).expect("the spool can be read"))).collect()
}
