//! A new table beside workers that decide: how long it takes to compile and to put in force, and the
//! longest turn that a worker sees meanwhile; and the same beside a whole reload, whose proof takes all
//! cores.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use commons::{Commons, SnapshotCache};
use mail::{ForwardPath, ReversePath};
use policy::Snapshot;

use crate::check::{Files, TENANTS};
use crate::decision::{self, Command};
use crate::measure::{Effort, once, processor_time, shown};
use crate::table;

/// What a turn may take because of a reload.
const TURN_MAX: Duration = Duration::from_millis(1);

/// Decisions in one turn: what a busy worker finds in its ring at once.
const TURN: usize = 32;

pub(crate) fn run(effort: Effort) {
    let size = effort.largest();
    println!("swap: {size:?}; compile and swap at most 5 s, no turn over 1 ms because of it");
    let (first, second) = (table::source(size, 1), table::source(size, 2));
    let compile = |source| Snapshot::compile(source).unwrap_or_else(|errors| panic!("{errors:?}"));
    let (commons, _links, _control) = Commons::new(1, compile(&first));
    let mut random = fastrand::Rng::with_seed(4);
    let commands: Vec<_> = (0..effort.of(1 << 15))
        .map(|index| {
            let tenant = random.usize(..first.tenants.len());
            decision::command(index % 4, tenant, &first.tenants[tenant], first.tenants.len(), &mut random)
        })
        .collect();
    let stop = AtomicBool::new(false);
    let time = Duration::from_millis(if effort == Effort::Full { 1500 } else { 20 });
    let tenants = effort.of(TENANTS);
    let files = Files::write(tenants);
    let loaded = files.load();
    files.change_one();
    for (name, work) in [
        ("alone", &(|| thread::sleep(time)) as &dyn Fn()),
        ("beside work of another kind", &|| busy(time)),
        ("beside compiling and swapping", &|| {
            aside(|| {
                let made = once("  compile", || compile(&second));
                once("  swap", || commons.publish(made));
                once("  free the table before", || while commons.free_retired() > 0 {});
            });
        }),
        ("beside a whole reload", &|| {
            aside(|| {
                let name = format!("  reload of {tenants} tenants: read, compiled, proved on all cores");
                drop(once(&name, || files.reload(&loaded)));
            });
        }),
    ] {
        stop.store(false, Ordering::Release);
        let mut cache = commons.snapshot_cache();
        let turns = thread::scope(|scope| {
            let worker = scope.spawn(|| decide_until(&stop, &mut cache, &commands));
            work();
            stop.store(true, Ordering::Release);
            worker.join().expect("the worker decides")
        });
        println!("  a worker {name}: {} turns of {TURN} decisions", turns.count);
        println!(
            "    turns over 1 ms: {} by the clock, {} in processor time of the worker",
            turns.long, turns.long_processor
        );
        shown("    longest turn by the clock", turns.longest);
        shown("    longest turn in processor time of the worker", turns.longest_processor);
    }
}

/// As a reload does, on a separate thread that lets the mail go first; threads that it starts do too.
fn aside(work: impl FnOnce() + Send) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = rustix::process::nice(10);
            work();
        });
    });
}

#[derive(Default)]
struct Turns {
    count: u64,
    long: u64,
    long_processor: u64,
    longest: Duration,
    longest_processor: Duration,
}

/// A front end's turns: look at the configuration in force, decide what has come, again.
fn decide_until(stop: &AtomicBool, cache: &mut SnapshotCache, commands: &[Command]) -> Turns {
    let listeners = decision::listeners();
    let mut turns = Turns::default();
    let mut commands = commands.iter().cycle();
    while !stop.load(Ordering::Acquire) {
        let (begin, processor) = (Instant::now(), processor_time());
        for command in commands.by_ref().take(TURN) {
            let snapshot = cache.load();
            let facts = decision::facts(snapshot, &listeners, command);
            let from = ReversePath::parse(&command.from).expect("it is a path");
            let to = ForwardPath::parse(&command.to).expect("it is a path");
            std::hint::black_box(decision::decide(snapshot, &facts, from, to));
        }
        let (time, processor) = (begin.elapsed(), processor_time() - processor);
        turns.long += u64::from(time > TURN_MAX);
        turns.long_processor += u64::from(processor > TURN_MAX);
        turns.longest_processor = turns.longest_processor.max(processor);
        turns.longest = turns.longest.max(time);
        turns.count += 1;
    }
    turns
}

/// Work that shares nothing with the worker but the machine: what its turns are compared with.
fn busy(time: Duration) {
    let begin = Instant::now();
    let mut sum = 0_u64;
    while begin.elapsed() < time {
        sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
    }
}
