//! SIGKILL at random moments under load, and crashes at every named fail point of the spool.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use testbed::net::eventually;
use testbed::random::Random;
use testbed::{LedgerClient, Sent};

use crate::Plan;
use crate::device::{Ext4, text};
use crate::stand::{PATIENCE, Setup, Stand};
use crate::tools;

const IMAGE_BYTES: u64 = 256 << 20;
const SIGABRT: i32 = 6;

/// A new spool after so many cycles, each point once: a young one grows, one that has all the segments it may
/// have only turns over.
const CYCLES_A_SPOOL: u64 = 2 * POINTS.len() as u64;

/// A place in `crates/spool` at which the gateway is made to crash.
struct Point {
    name: &'static str,
    /// At which visit at the latest: a place that is often visited is met early and late.
    visits_max: u64,
    needs: Needs,
}

/// What brings a gateway to a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Mail that comes and goes.
    Load,
    /// A queue that grows.
    Growth,
    /// Segments in which little is left.
    Leftovers,
    /// Bodies that get separate files.
    LargeBodies,
    /// A start with fewer workers, one of which drains the shard of another.
    Adoption,
    /// A start.
    Recovery,
}

const fn point(name: &'static str, visits_max: u64, needs: Needs) -> Point {
    Point { name, visits_max, needs }
}

const POINTS: &[Point] = &[
    // First, while a new spool can still grow.
    point("new-segment-filling", 2, Needs::Growth),
    point("new-segment-unnamed", 1, Needs::Growth),
    point("new-segment-named", 1, Needs::Growth),
    point("before-commit", 300, Needs::Load),
    point("after-commit-before-250", 300, Needs::Load),
    point("before-outcome", 300, Needs::Load),
    point("mid-rotation", 2, Needs::Load),
    point("before-recycle", 2, Needs::Load),
    point("mid-recycle", 2, Needs::Load),
    point("before-compaction", 12, Needs::Leftovers),
    point("mid-compaction", 12, Needs::Leftovers),
    point("large-unsynced", 3, Needs::LargeBodies),
    point("large-unnamed", 3, Needs::LargeBodies),
    point("before-footer", 2, Needs::Load),
    point("shard-marked-unsynced", 1, Needs::Adoption),
    point("shard-half-removed", 3, Needs::Adoption),
    point("shard-empty", 1, Needs::Adoption),
    point("mid-recovery", 1, Needs::Recovery),
    point("end-of-recovery", 1, Needs::Recovery),
];

/// Large messages in a cycle that has some.
const LARGE_MESSAGES: u64 = 12;

/// Messages after which either of two workers has taken some.
const SHARED: u64 = 200;

/// What the cycles of all spools have in common.
struct Cycles {
    random: Random,
    crashes: BTreeMap<&'static str, u64>,
}

impl Cycles {
    fn new(plan: &Plan) -> Self {
        Self { random: Random::new(plan.seed), crashes: BTreeMap::new() }
    }
}

/// The points in turn, without end. A spool that keeps `leftovers` has soon all the segments that it may have,
/// little room for large messages, and no shard that is ever empty.
fn points(leftovers: bool) -> impl Iterator<Item = &'static Point> {
    let is_out = |point: &Point| matches!(point.needs, Needs::Growth | Needs::LargeBodies | Needs::Adoption);
    POINTS.iter().filter(move |point| !(leftovers && is_out(point))).cycle()
}

/// Half of the cycles at random moments, the other half at the named points in turn.
pub(crate) fn run(plan: &Plan) -> String {
    let mut all = Cycles::new(plan);
    let mut lines = Vec::new();
    for (number, cycles) in plan.parts(CYCLES_A_SPOOL) {
        lines.push(on_ext4(plan, number, cycles, &mut all));
    }
    let crashes: Vec<_> = all.crashes.iter().map(|(name, count)| format!("{name} {count}")).collect();
    format!("{}; crashes: {}", lines.join(" | "), crashes.join(", "))
}

/// The same on a file system that neither takes O_DIRECT nor reserves space: ramfs.
pub(crate) fn run_buffered(plan: &Plan) -> String {
    let folder = plan.work.join("ramfs");
    std::fs::create_dir(&folder).expect("the work folder can be written");
    tools::run(&["mount", "-t", "ramfs", "none", text(&folder)]);
    let mut all = Cycles::new(plan);
    let verdicts: Vec<_> = plan
        .parts(CYCLES_A_SPOOL)
        .map(|(number, cycles)| {
            let spool = folder.join(format!("spool-{number}"));
            one_spool(plan, (&spool, "buffered"), number, cycles, &mut all)
        })
        .collect();
    tools::run(&["umount", "--lazy", text(&folder)]);
    verdicts.join(" | ")
}

fn on_ext4(plan: &Plan, number: u64, cycles: u64, all: &mut Cycles) -> String {
    let image = plan.work.join(format!("disk-{number}"));
    let disk = Ext4::create(&image, IMAGE_BYTES);
    let verdict = one_spool(plan, (&disk.path().join("spool"), "direct"), number, cycles, all);
    drop(disk);
    std::fs::remove_file(image).expect("the work folder can be written");
    verdict
}

/// `cycles` on a new spool there, to which the gateway says that it writes so.
fn one_spool(
    plan: &Plan,
    (spool, writes): (&Path, &str),
    number: u64,
    cycles: u64,
    all: &mut Cycles,
) -> String {
    let mut stand = Stand::start(plan, Setup::at(spool.to_owned()));
    let words = format!("\"writes\":\"{writes}\"");
    // The log is written by a separate thread.
    let is_said = eventually(PATIENCE, || stand.gateway.output().contains(&words));
    assert!(is_said, "it does not write {writes}:\n{}", stand.output());
    let client = stand.client(plan.seed + number, |_| {});
    let has_leftovers = number % 2 == 1;
    let mut points = points(has_leftovers);
    if has_leftovers {
        // Some of the mail is deferred without end: what holds it has to be emptied all the time.
        stand.late_gate.shut();
    }
    let mut sent = Vec::new();
    for cycle in 0..cycles {
        let name = if cycle % 2 == 0 {
            sent.extend(at_random(&mut stand, &client, &mut all.random));
            "SIGKILL"
        } else {
            let point = points.next().expect("they never end");
            sent.extend(at_point(&mut stand, &client, point, &mut all.random));
            if point.needs == Needs::Leftovers && !has_leftovers {
                stand.late_gate.open();
            }
            point.name
        };
        stand.assert_sound();
        stand.gateway.restart();
        *all.crashes.entry(name).or_default() += 1;
    }
    sent.extend(client.stop());
    let verdict = stand.verdict(sent);
    verdict.assert_kept();
    verdict.to_string()
}

/// SIGKILL after some acknowledgements and a moment more; gives what a client of large bodies sent meanwhile.
fn at_random(stand: &mut Stand, client: &LedgerClient, random: &mut Random) -> Vec<Sent> {
    let large = (random.below(4) == 0).then(|| stand.large_client(random.bits(), LARGE_MESSAGES, None));
    let wanted = client.acknowledged() + random.below(150);
    assert!(client.wait_acknowledged(wanted, PATIENCE), "no mail is taken:\n{}", stand.output());
    // Not a wait for anything: the moment itself is drawn.
    thread::park_timeout(Duration::from_micros(random.below(20_000)));
    stand.kill();
    large.map(LedgerClient::stop).unwrap_or_default()
}

/// Starts the gateway anew so that it crashes at `point`, and waits until it did.
fn at_point(stand: &mut Stand, client: &LedgerClient, point: &Point, random: &mut Random) -> Vec<Sent> {
    let visit = 1 + random.below(point.visits_max);
    stand.kill();
    if point.needs == Needs::Adoption {
        leave_a_shard(stand, client);
    }
    stand.arm(point.name, visit);
    match point.needs {
        Needs::Growth => stand.gate.shut(),
        Needs::Leftovers => stand.late_gate.shut(),
        Needs::Load | Needs::LargeBodies | Needs::Adoption | Needs::Recovery => {}
    }
    stand.gateway.spawn();
    // A spool under pressure may refuse any number of them before one comes to the place.
    let large =
        (point.needs == Needs::LargeBodies).then(|| stand.large_client(random.bits(), u64::MAX, None));
    let before = client.acknowledged();
    let status = stand.gateway.wait_end(PATIENCE).unwrap_or_else(|| {
        let taken = client.acknowledged() - before;
        let name = point.name;
        let (state, output) = (stand.state(), stand.output());
        panic!("{name}, visit {visit}, was never reached; {taken} messages taken:\n{state}\n{output}")
    });
    let name = point.name;
    assert_eq!(status.signal(), Some(SIGABRT), "{name}: it ended otherwise:\n{}", stand.output());
    stand.note_end();
    stand.disarm();
    stand.gate.open();
    large.map(LedgerClient::stop).unwrap_or_default()
}

/// A second worker takes mail into a separate shard, and is no more. Nothing is delivered meanwhile: a shard
/// without mail would be removed by the start itself, which passes none of the places.
fn leave_a_shard(stand: &mut Stand, client: &LedgerClient) {
    stand.gate.shut();
    stand.set_workers(2);
    stand.gateway.restart();
    let wanted = client.acknowledged() + SHARED;
    assert!(client.wait_acknowledged(wanted, PATIENCE), "no mail is taken:\n{}", stand.output());
    stand.kill();
    stand.set_workers(1);
    stand.gate.open();
}
