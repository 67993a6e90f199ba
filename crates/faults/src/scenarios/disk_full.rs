//! A small disk fills up: MAIL gets 452, deliveries go on, space frees, and mail is taken again by itself.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use testbed::net::eventually;
use testbed::{Dialog, LedgerClient};

use crate::Plan;
use crate::device::Ext4;
use crate::stand::{PATIENCE, Setup, Stand};

const IMAGE_BYTES: u64 = 256 << 20;
/// More than the disk has: the system's own limit is met, not the gateway's.
const CAPACITY: &str = "1GiB";
const SEGMENT_BYTES: u64 = 8 << 20;

/// Fills the disk with the queue, and with something else, in turn.
pub(crate) fn run(plan: &Plan) -> String {
    let disk = Ext4::create(&plan.work.join("disk"), IMAGE_BYTES);
    let mut setup = Setup::at(disk.path().join("spool"));
    (setup.capacity, setup.segment_bytes) = (CAPACITY, SEGMENT_BYTES);
    let mut stand = Stand::start(plan, setup);
    let mut sent = Vec::new();
    for cycle in 0..plan.cycles {
        let client = load(&mut stand, plan.seed + cycle);
        if cycle % 2 == 0 {
            queue_fills_it(&mut stand, &client);
        } else {
            filler_fills_it(&mut stand, &client, disk.path());
        }
        // By itself: nothing was restarted, and the same client goes on.
        let wanted = client.acknowledged() + 100;
        let resumed = client.wait_acknowledged(wanted, PATIENCE);
        assert!(resumed, "cycle {cycle}: space is free, and no mail is taken:\n{}", stand.output());
        sent.extend(client.stop());
        stand.drain();
    }
    let verdict = stand.verdict(sent);
    verdict.assert_kept();
    assert_eq!(verdict.duplicated(), 0, "something was delivered twice without a crash: {verdict}");
    verdict.to_string()
}

fn load(stand: &mut Stand, seed: u64) -> LedgerClient {
    stand.client(seed, |options| options.body_bytes_max = 256 << 10)
}

/// Nothing is delivered until no mail is taken any more; then the way is free.
fn queue_fills_it(stand: &mut Stand, client: &LedgerClient) {
    stand.gate.shut();
    wait_refused(stand, client);
    let before = stand.destination.count();
    stand.gate.open();
    let goes_on = stand.destination.wait_until(PATIENCE, |arrivals| arrivals.len() > before + 100);
    assert!(goes_on, "the disk is full, and deliveries do not go on:\n{}", stand.output());
}

/// Something else takes all of the disk and gives it back; deliveries have their reserve meanwhile.
fn filler_fills_it(stand: &mut Stand, client: &LedgerClient, folder: &Path) {
    let path = folder.join("filler");
    fill(&path);
    stand.gate.shut();
    wait_refused(stand, client);
    let before = stand.destination.count();
    stand.gate.open();
    let goes_on = stand.destination.wait_until(PATIENCE, |arrivals| arrivals.len() > before + 100);
    assert!(goes_on, "the disk is full, and deliveries do not go on:\n{}", stand.output());
    std::fs::remove_file(&path).expect("what was made can be removed");
}

/// Writes until the file system takes no more.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("the disk can be written");
    let piece = vec![0x5a; 1 << 20];
    while file.write_all(&piece).is_ok() {}
    while file.write_all(&piece[..4096]).is_ok() {}
}

/// Until MAIL is answered with 452, as RFC 5321, 4.2.3 has it for insufficient storage.
fn wait_refused(stand: &Stand, client: &LedgerClient) {
    let is_refused = || {
        let mut dialog = Dialog::hello(stand.gateway.smtp());
        dialog.send("MAIL FROM:<ledger@proseware.example>\r\n");
        let reply = dialog.reply().expect("a full disk is no reason to hang up");
        assert!(matches!(reply.code, 250 | 452), "MAIL got {} {:?}", reply.code, reply.lines);
        reply.code == 452
    };
    let refused = eventually(PATIENCE, is_refused);
    assert!(refused, "{} messages were taken, and the disk is not full yet", client.acknowledged());
}
