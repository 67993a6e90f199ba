//! The device fails the nth write or flush, once or from then on, in the middle of a life of the gateway.

use std::collections::BTreeMap;
use std::time::Duration;

use testbed::net::eventually;
use testbed::random::Random;
use testbed::{LedgerClient, Sent};

use crate::Plan;
use crate::device::{Ext4, make};
use crate::exported::Exported;
use crate::stand::{PATIENCE, Setup, Stand};

const IMAGE_BYTES: u64 = 256 << 20;
/// A new spool after so many cycles: a young one writes more of the file system's own log.
const CYCLES_A_SPOOL: u64 = 25;
/// Writes or flushes before the one that fails, at most: those of the mount and of recovery come first.
const BEFORE_MAX: u64 = 400;
/// Messages after which a device that has not failed yet, or not the gateway, is taken as it is.
const ACKNOWLEDGED: u64 = 400;

/// Two failures in five meet the gateway: of so many, one does.
const MEETS_ONE: u64 = 25;

const LATCHED: &str = "latched it";

/// What the device does when its time has come (QEMU's `blkdebug`).
struct Failure {
    name: &'static str,
    event: &'static str,
    kind: &'static str,
    is_once: bool,
}

const FAILURES: [Failure; 3] = [
    Failure { name: "a write", event: "pwritev", kind: "write", is_once: true },
    Failure { name: "a flush", event: "flush_to_disk", kind: "flush", is_once: true },
    Failure { name: "every write", event: "pwritev", kind: "write", is_once: false },
];

/// How often each failure ended a life of the gateway, and how.
type Ends = BTreeMap<String, u64>;

/// One failure a cycle, the kinds in turn; afterwards the device is whole and the gateway recovers.
pub(crate) fn run(plan: &Plan) -> String {
    let (mut random, mut ends) = (Random::new(plan.seed), Ends::new());
    let lines: Vec<_> = (plan.parts(CYCLES_A_SPOOL))
        .map(|(number, cycles)| one_spool(plan, number, cycles, &mut random, &mut ends))
        .collect();
    let latched: u64 = ends.iter().filter(|(end, _)| end.ends_with(LATCHED)).map(|(_, count)| count).sum();
    assert!(latched > 0 || plan.cycles < MEETS_ONE, "no failure ever met the gateway");
    let ends: Vec<_> = ends.iter().map(|(end, count)| format!("{end} {count}")).collect();
    format!("{}; {}", ends.join(", "), lines.join(" | "))
}

fn one_spool(plan: &Plan, number: u64, cycles: u64, random: &mut Random, ends: &mut Ends) -> String {
    let image = plan.work.join(format!("disk-{number}"));
    make(&image, IMAGE_BYTES);
    let mut device = Exported::start(&image, &sound());
    let mut disk = mounted(&device);
    let mut stand = Stand::start(plan, Setup::at(disk.path().join("spool")));
    let client = stand.client(plan.seed + number, |_| {});
    let mut sent = Vec::new();
    for cycle in 0..cycles {
        stand.kill();
        disk.unmount();
        drop((disk, device));
        let failure = &FAILURES[(cycle % FAILURES.len() as u64) as usize];
        device = Exported::start(&image, &failing(failure, 1 + random.below(BEFORE_MAX)));
        disk = Ext4::of(device.disk());
        let seed = random.bits();
        // The first of them are the file system's, when it replays its log.
        let end = match disk.try_mount() {
            Ok(()) => {
                let (end, large) = one_life(&mut stand, &client, seed);
                sent.extend(large);
                end
            }
            Err(_) => "kept the file system from being mounted",
        };
        *ends.entry(format!("{} {end}", failure.name)).or_default() += 1;
        disk.unmount();
        drop((disk, device));
        device = Exported::start(&image, &sound());
        disk = mounted(&device);
        stand.note_queued();
        stand.assert_sound();
        stand.gateway.restart();
    }
    sent.extend(client.stop());
    let verdict = stand.verdict(sent);
    verdict.assert_kept();
    drop(stand);
    drop((disk, device));
    std::fs::remove_file(image).expect("the work folder can be written");
    verdict.to_string()
}

/// Runs the gateway until it has met with the failure, or goes on all the same.
fn one_life(stand: &mut Stand, client: &LedgerClient, seed: u64) -> (&'static str, Vec<Sent>) {
    let latches = stand.latches();
    let enough = client.acknowledged() + ACKNOWLEDGED;
    stand.gateway.spawn();
    let large = stand.large_client(seed, 4, None);
    let mut has_ended = false;
    let is_over = eventually(PATIENCE, || {
        has_ended = stand.gateway.wait_end(Duration::ZERO).is_some();
        has_ended || stand.latches() > latches || client.acknowledged() >= enough
    });
    assert!(is_over, "it neither takes mail nor says that its disk failed:\n{}", stand.output());
    let end = match (has_ended, stand.latches() > latches) {
        (true, _) => "kept it from starting",
        (false, true) => LATCHED,
        (false, false) => "went by",
    };
    if !has_ended {
        stand.gateway.kill();
    }
    stand.note_blind_end();
    (end, large.stop())
}

fn mounted(device: &Exported) -> Ext4 {
    let mut disk = Ext4::of(device.disk());
    disk.mount();
    disk
}

fn sound() -> [String; 1] {
    ["driver=raw,node-name=disk,file=image".to_owned()]
}

/// A device that fails at the `nth` event of the kind.
fn failing(failure: &Failure, nth: u64) -> [String; 2] {
    let Failure { event, kind, is_once, .. } = failure;
    // One state for each event before it: `blkdebug` counts only so.
    let states: Vec<_> = (1..nth)
        .map(|state| format!(r#"{{"event":"{event}","state":{state},"new_state":{}}}"#, state + 1))
        .collect();
    // QEMU refuses an empty list.
    let states = match states.is_empty() {
        true => String::new(),
        false => format!(r#""set-state":[{}],"#, states.join(",")),
    };
    let error = format!(
        r#"{{"event":"{event}","state":{nth},"iotype":"{kind}","errno":5,"once":{is_once},"immediately":false}}"#
    );
    let faulty = format!(
        r#"{{"driver":"blkdebug","node-name":"faulty","image":"image",{states}"inject-error":[{error}]}}"#
    );
    [faulty, "driver=raw,node-name=disk,file=faulty".to_owned()]
}
