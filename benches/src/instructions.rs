//! Instructions of one look-up, one decision, one transaction, one record, one step of the schedule, counted by
//! callgrind.
//!
//! A count is the same on any day, however busy the machine: it shows what a change costs where a
//! time does not. With `--bench` the program runs itself under callgrind, once an operation, and
//! prints each count beside the one in `benches/instructions.txt`; with `--write` it writes that file.
//! Nothing fails on a count. Without `--bench` every operation runs a few times, so that it keeps
//! working.

#[allow(dead_code, reason = "measuring time belongs to the other program")]
mod decision;
#[allow(dead_code, reason = "measuring time belongs to the other program")]
mod measure;
mod record;
mod schedule;
mod session;
mod table;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::process::Command;
use std::{env, fs};

use mail::{ForwardPath, ReversePath};
use policy::Snapshot;

use crate::schedule::What;
use crate::table::{LARGEST, Size};

/// The allocator of the program that is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An operation, and how it is prepared: what is returned does it once.
type Operation = (&'static str, fn() -> Box<dyn FnMut(usize)>);

const OPERATIONS: [Operation; 18] = [
    ("network, IPv4", || network(true)),
    ("network, IPv6", || network(false)),
    ("decision, a network relays", || decision(0)),
    ("decision, a login relays", || decision(1)),
    ("decision, for a relay domain", || decision(2)),
    ("decision, a stranger is denied", || decision(3)),
    ("a transaction of 1 KiB", session::prepare),
    ("a record of the log", record::prepare),
    ("a message comes, 10 sites", || schedule::prepare(What::Enqueue, 10)),
    ("a message comes, 100,000 sites", || schedule::prepare(What::Enqueue, 100_000)),
    ("a message starts, 10 sites", || schedule::prepare(What::Start, 10)),
    ("a message starts, 100,000 sites", || schedule::prepare(What::Start, 100_000)),
    ("a message is delivered, 10 sites", || schedule::prepare(What::Delivered, 10)),
    ("a message is delivered, 100,000 sites", || schedule::prepare(What::Delivered, 100_000)),
    ("a message is deferred, 10 sites", || schedule::prepare(What::Deferred, 10)),
    ("a message is deferred, 100,000 sites", || schedule::prepare(What::Deferred, 100_000)),
    ("a site fails and returns, 10 sites", || schedule::prepare(What::Failure, 10)),
    ("a site fails and returns, 100,000 sites", || schedule::prepare(What::Failure, 100_000)),
];

/// Where the counts lie that were last thought right.
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");

/// Different keys of an operation; each is used once untold, once counted.
const CALLS: usize = 1000;

/// Every one of the table's branches is there at this size, and callgrind gets through it.
fn size() -> Size {
    LARGEST.part(100)
}

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let word = |name: &str| words.iter().position(|word| word == name);
    if let Some(at) = word("--operation") {
        let wanted = words.get(at + 1).expect("--operation names one");
        let (_, prepare) = OPERATIONS.iter().find(|(name, _)| name == wanted).expect("it is one of them");
        count(prepare());
    } else if word("--bench").is_some() {
        compare(word("--write").is_some());
    } else {
        OPERATIONS.iter().for_each(|(_, prepare)| count(prepare()));
    }
}

/// Does it once with each key, so that nothing is done for the first time, and again to be counted.
fn count(mut call: Box<dyn FnMut(usize)>) {
    (0..CALLS).for_each(&mut call);
    counted_calls(&mut *call);
}

/// What callgrind counts: it goes by the name.
#[inline(never)]
fn counted_calls(call: &mut dyn FnMut(usize)) {
    for key in 0..black_box(CALLS) {
        call(key);
    }
}

fn compare(write: bool) {
    let baseline = fs::read_to_string(BASELINE).unwrap_or_default();
    let before: BTreeMap<&str, f64> = baseline
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter_map(|(name, count)| Some((name, count.parse().ok()?)))
        .collect();
    println!("instructions: {:?}; each beside the one in benches/instructions.txt", size());
    let mut now = String::new();
    for (name, _) in OPERATIONS {
        let count = under_callgrind(name);
        let change = before.get(name).map_or_else(
            || "no baseline".to_owned(),
            |before| format!("{:+.1} % of {before:.0}", (count / before - 1.0) * 100.0),
        );
        println!("  {name:<34} {count:>8.0}  {change}");
        let _ = writeln!(now, "{name}: {count:.0}");
    }
    if write {
        fs::write(BASELINE, now).expect("the baseline can be written");
    }
}

/// Instructions of one call of an operation.
fn under_callgrind(operation: &str) -> f64 {
    let program = env::current_exe().expect("a program knows where it lies");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*counted_calls*")
        .arg(program)
        .args(["--operation", operation])
        .output()
        .unwrap_or_else(|error| panic!("cannot run valgrind: {error}; install the package valgrind"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "under valgrind: {told}");
    let collected = told.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = collected.unwrap_or_else(|| panic!("callgrind tells no count: {told}"));
    let count: f64 = count.trim().parse().unwrap_or_else(|_| panic!("{count:?} is no count"));
    assert!(count > CALLS as f64, "callgrind counted the calls: {told}");
    count / CALLS as f64
}

fn network(is_v4: bool) -> Box<dyn FnMut(usize)> {
    let source = table::source(size(), 1);
    let snapshot = Snapshot::compile(&source).expect("it compiles");
    let mut random = fastrand::Rng::with_seed(2);
    let nets: Vec<_> = source.tenants.iter().flat_map(|tenant| &tenant.networks).collect();
    let nets: Vec<_> =
        nets.into_iter().map(|net| net.value).filter(|net| net.addr().is_ipv4() == is_v4).collect();
    let mut key = || table::within(random.choice(&nets).copied().expect("there are some"), &mut random);
    let keys: Vec<_> = (0..CALLS).map(|_| key()).collect();
    Box::new(move |key| {
        black_box(snapshot.network(black_box(keys[key])));
    })
}

fn decision(kind: usize) -> Box<dyn FnMut(usize)> {
    let source = table::source(size(), 1);
    let snapshot = Snapshot::compile(&source).expect("it compiles");
    let mut random = fastrand::Rng::with_seed(3);
    let commands: Vec<_> = (0..CALLS)
        .map(|_| {
            let tenant = random.usize(..source.tenants.len());
            let count = source.tenants.len();
            decision::command(kind, tenant, &source.tenants[tenant], count, &mut random)
        })
        .collect();
    let listeners = decision::listeners();
    Box::new(move |key| {
        let command = &commands[key];
        let facts = decision::facts(&snapshot, &listeners, command);
        let from = ReversePath::parse(&command.from).expect("it is a path");
        let to = ForwardPath::parse(&command.to).expect("it is a path");
        black_box(decision::decide(&snapshot, &facts, from, to));
    })
}
