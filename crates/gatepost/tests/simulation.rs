//! The whole gateway, thousands of times over, each time in another world; every run is a function of
//! its scenario and its seed, and is replayed by them.
//!
//! `cargo xtask sim --scenario disk-full --seeds 0..10000` runs one scenario, `--seeds 0..100000` alone
//! all of them in turn. A failing run is shown with the command that replays it, and with that of a
//! smaller run that fails in the same way.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[path = "simulation/mod.rs"]
mod simulation;

use simulation::Run;
use simulation::scenario::{Name, Scenario};
use simulation::shrink::{Trim, shrink};

/// What CI runs: as many of each scenario.
const SEEDS: Range<u64> = 0..2600;
/// As many as the smallest machine that runs CI has cores.
const THREADS: usize = 2;
/// Failures that are shown; the rest is counted.
const SHOWN_MAX: usize = 10;
/// Failures that are shrunk: each costs a few hundred runs.
const SHRUNK_MAX: usize = 2;
/// How long shrinking one of them may take.
const SHRINKING_MAX: Duration = Duration::from_secs(30);

/// What the environment asks for: see `cargo xtask sim`.
struct Wishes {
    scenario: Option<Name>,
    seed: Option<u64>,
    seeds: Range<u64>,
    trim: Trim,
}

impl Wishes {
    fn read() -> Self {
        let text = |name: &str| std::env::var(name).ok();
        let scenario = text("GATEPOST_SIM_SCENARIO");
        let seeds = text("GATEPOST_SIM_SEEDS").map(|text| range(&text));
        Self {
            scenario: scenario.map(|name| Name::parse(&name).unwrap_or_else(|| panic!("{}", unknown(&name)))),
            seed: text("GATEPOST_SIM_SEED").map(|text| text.parse().expect("a seed is a number")),
            seeds: seeds.unwrap_or(SEEDS),
            trim: text("GATEPOST_SIM_TRIM").map_or_else(Trim::default, |text| {
                Trim::parse(&text).expect("a trim is as in clients=1,lives=2")
            }),
        }
    }

    fn name(&self, seed: u64) -> Name {
        self.scenario.unwrap_or_else(|| Name::of_seed(seed))
    }
}

fn unknown(name: &str) -> String {
    let names = Name::ALL.map(Name::as_str).join(", ");
    format!("{name:?} is no scenario; there are {names}")
}

fn range(text: &str) -> Range<u64> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or_else(|| panic!("seeds are a range as in 0..1000, not {text:?}"))
}

/// A run that broke a promise: how, in a word, and in all words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    kind: &'static str,
    text: String,
}

fn failure_of(run: &Run) -> Option<Failure> {
    let kinds = [
        ("lost", run.report.lost.is_empty()),
        ("altered", run.report.altered.is_empty()),
        ("invented", run.report.invented.is_empty()),
        ("fault", run.faults.is_empty()),
    ];
    let (kind, _) = kinds.into_iter().find(|(_, is_well)| !is_well)?;
    Some(Failure { kind, text: format!("{} {:?}", run.report, run.faults) })
}

fn attempt(name: Name, seed: u64, trim: &Trim, is_verbose: bool) -> Result<Run, Failure> {
    let run = std::panic::catch_unwind(AssertUnwindSafe(|| simulation::run(name, seed, trim, is_verbose)));
    match run {
        Ok(run) => failure_of(&run).map_or(Ok(run), Err),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned();
            Err(Failure { kind: "panic", text })
        }
    }
}

fn command(name: Name, seed: u64, trim: &Trim) -> String {
    let trim = if trim.is_empty() { String::new() } else { format!(" --trim {trim}") };
    format!("cargo xtask sim --scenario {name} --seed {seed}{trim}")
}

/// What the runs of a scenario came to.
#[derive(Default)]
struct Tally {
    runs: u64,
    acknowledged: u64,
    duplicated: u64,
    quarantined: u64,
    taken_for_torn: u64,
    full_cycles: u64,
    events: u64,
}

impl Tally {
    fn add(&mut self, run: &Run) {
        self.runs += 1;
        self.acknowledged += run.report.acknowledged;
        self.duplicated += run.report.duplicated.len() as u64;
        self.quarantined += run.quarantined;
        self.taken_for_torn += run.taken_for_torn;
        self.full_cycles += run.full_cycles;
        self.events += run.events;
    }
}

#[test]
fn every_acknowledged_message_survives_crashes_and_faults() {
    let wishes = Wishes::read();
    if let Some(seed) = wishes.seed {
        let failure = attempt(wishes.name(seed), seed, &wishes.trim, true).err();
        assert_eq!(failure, None, "seed {seed} fails");
        return;
    }
    let next = AtomicU64::new(wishes.seeds.start);
    let results = Mutex::new((Vec::new(), BTreeMap::<Name, Tally>::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= wishes.seeds.end {
                        return;
                    }
                    let name = wishes.name(seed);
                    let outcome = attempt(name, seed, &wishes.trim, false);
                    let (failures, tallies) = &mut *results.lock().expect("no thread panics with it");
                    match outcome {
                        Ok(run) => tallies.entry(name).or_default().add(&run),
                        Err(failure) => {
                            // A long run says so now, and what it came to at its end.
                            eprintln!("{}: {}", command(name, seed, &wishes.trim), failure.kind);
                            failures.push((seed, name, failure));
                        }
                    }
                }
            });
        }
    });
    let (mut failures, tallies) = results.into_inner().expect("no thread panicked with it");
    for (name, tally) in &tallies {
        println!(
            "{name}: {} runs kept, {} messages, {} duplicates excused, {} full cycles, {} events",
            tally.runs, tally.acknowledged, tally.duplicated, tally.full_cycles, tally.events
        );
        if tally.quarantined + tally.taken_for_torn > 0 {
            println!(
                "  of recipients whose message rotted {} were quarantined, {} taken for torn",
                tally.quarantined, tally.taken_for_torn
            );
        }
    }
    failures.sort_by_key(|(seed, ..)| *seed);
    show(&failures, &wishes.trim);
    assert!(failures.is_empty(), "{} of {} seeds fail", failures.len(), wishes.seeds.count());
}

/// Not only the write that failed is under way then: a group beside it may end well, after its clients
/// were told to come again. A seed that met this says nothing of it once a draw has changed, so that each
/// of the first changes of the disk fails here in turn.
#[test]
fn a_group_that_becomes_durable_after_another_write_has_failed_is_borne() {
    const CHANGES: Range<u64> = 1..400;
    let mut met = 0;
    for nth in CHANGES {
        let run = simulation::run_scenario(Scenario::failing_change(nth), false);
        assert_eq!(failure_of(&run), None, "change {nth} fails");
        // A bounce becomes durable so, too, and no client waits for it.
        if run.durable_after_latch > 0 && run.put_off > 0 {
            met += 1;
        }
        if std::env::var_os("GATEPOST_SIM_SHOW").is_some() {
            println!("{nth}: {} {}", run.durable_after_latch, run.put_off);
        }
    }
    assert_ne!(met, 0, "no group became durable after another write had failed");
}

/// By hand more: `GATEPOST_SIM_VANISH=20000 cargo test -p gatepost --test simulation vanish`.
#[test]
fn files_that_vanish_end_promises_within_a_second_and_lose_nothing_that_can_still_go_out() {
    let seeds = std::env::var("GATEPOST_SIM_VANISH").map_or(300, |seeds| seeds.parse().expect("a number"));
    let mut acknowledged = 0;
    for seed in 0..seeds {
        let run = simulation::vanish::run(seed, false);
        if let Some(failure) = failure_of(&run) {
            // Tells its story.
            simulation::vanish::run(seed, true);
            panic!("seed {seed} fails: {}", failure.text);
        }
        acknowledged += run.report.acknowledged;
    }
    assert!(acknowledged > seeds, "{acknowledged} messages in {seeds} runs");
}

fn show(failures: &[(u64, Name, Failure)], trim: &Trim) {
    for (index, (seed, name, failure)) in failures.iter().take(SHOWN_MAX).enumerate() {
        eprintln!("{name}, seed {seed}, {}: {}", failure.kind, failure.text);
        eprintln!("  replay it: {}", command(*name, *seed, trim));
        if index < SHRUNK_MAX && trim.is_empty() {
            std::panic::set_hook(Box::new(|_| {}));
            let until = Instant::now() + SHRINKING_MAX;
            let smaller = shrink(*name, *seed, |trim| {
                Instant::now() < until
                    && attempt(*name, *seed, trim, false).is_err_and(|smaller| smaller.kind == failure.kind)
            });
            let _ = std::panic::take_hook();
            eprintln!("  smaller:   {}", command(*name, *seed, &smaller));
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in 0..2 * Name::ALL.len() as u64 {
        let run = || simulation::run(Name::of_seed(seed), seed, &Trim::default(), false);
        let (first, second) = (run(), run());
        // What goes over the wire within TLS differs with its keys, which are not of the seed; its length does not.
        let has_tls = Scenario::of(Name::of_seed(seed), seed, &Trim::default()).has_tls();
        let digest = |run: &Run| if has_tls { 0 } else { run.digest };
        assert_eq!((digest(&first), first.events), (digest(&second), second.events), "seed {seed}");
        assert_eq!(first.report, second.report, "seed {seed}");
    }
}

#[test]
fn a_failure_is_shrunk_to_what_it_needs() {
    // Whatever has a destination that loses its power counts as a failure here.
    let needs = |trim: &Trim| !Scenario::of(Name::Destination, 3, trim).happenings.is_empty();
    let smaller = shrink(Name::Destination, 3, needs);
    let scenario = Scenario::of(Name::Destination, 3, &smaller);
    assert_eq!((scenario.happenings.len(), scenario.lives.len(), scenario.habits.len()), (1, 0, 1));
    assert_eq!((scenario.habits[0].clients, scenario.world.reset_probability), (0, 0.0));
    assert_eq!(Trim::parse(&smaller.to_string()), Some(smaller));
}
