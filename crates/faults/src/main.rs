//! Faults against a running gateway on real devices, and the ledgers afterwards.
//!
//! Each scenario is a family of faults by name. It starts a `gatepost` (a build with its fail points),
//! breaks something under it, lets it recover and compares what clients saw acknowledged with what
//! arrived and what the spool holds. A broken promise fails with the ledger's own sentence. All of it
//! runs in separate namespaces, which take mounts, loop devices and processes with them at the end.

mod blocklog;
mod device;
mod enclosure;
mod exported;
mod scenarios;
mod segment_file;
mod spool_dump;
mod stand;
mod tools;
mod verdict;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::scenarios::{SCENARIOS, Scenario};

/// What a run is made of.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask faults",
    about = "Breaks things under a running gateway and compares the ledgers afterwards",
    after_help = "Example: cargo xtask faults sigkill --cycles 50\n\
                  It needs root: for namespaces, mounts and loop devices, all of its own.\n\
                  GATEPOST_MUTANT=early-ack and the like plant a mistake, which must turn the run red."
)]
pub(crate) struct Options {
    /// The scenarios; all of them without a name.
    names: Vec<String>,
    /// Name the scenarios, what they do and how often, and run nothing.
    #[arg(long)]
    list: bool,
    /// Few cycles of each: under five minutes in all.
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// As many cycles as the evidence asks for: hours.
    #[arg(long)]
    full: bool,
    /// Cycles of each scenario, in place of its own number.
    #[arg(long, conflicts_with_all = ["quick", "full"])]
    cycles: Option<u64>,
    /// What is drawn is drawn from this; each scenario prints it.
    #[arg(long)]
    seed: Option<u64>,
    /// The gatepost to break, built with the feature `fail-points`; default: the one built beside this program.
    #[arg(long)]
    gatepost: Option<PathBuf>,
    /// A gatepost of an earlier version, for `upgrade`; without it that scenario takes the same build twice.
    #[arg(long)]
    earlier: Option<PathBuf>,
}

/// What a scenario is given.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The gatepost under test.
    pub(crate) gatepost: PathBuf,
    /// An earlier version of it.
    pub(crate) earlier: Option<PathBuf>,
    /// How often.
    pub(crate) cycles: u64,
    /// What is drawn is drawn from this.
    pub(crate) seed: u64,
    /// A folder in memory, empty, for images and logs.
    pub(crate) work: PathBuf,
}

impl Plan {
    /// The cycles in parts of at most `most`: the number of each part, and its cycles.
    pub(crate) fn parts(&self, most: u64) -> impl Iterator<Item = (u64, u64)> {
        let cycles = self.cycles;
        (0..cycles.div_ceil(most)).map(move |number| (number, most.min(cycles - number * most)))
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        SCENARIOS.iter().for_each(list);
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("faults: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn list(scenario: &Scenario) {
    let Scenario { name, about, quick, usual, full, .. } = scenario;
    println!("{name:18} {about}\n{:18} cycles: {quick} quick, {usual} usual, {full} full", "");
}

fn run(options: &Options) -> Result<(), String> {
    let chosen = choose(&options.names)?;
    tools::all_there()?;
    if !enclosure::is_inside() {
        return enclosure::enter();
    }
    let work = enclosure::furnish()?;
    let gatepost = match &options.gatepost {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("gatepost"),
    };
    // A build that runs beside this one may replace the file.
    let own = work.join("gatepost");
    std::fs::copy(&gatepost, &own)
        .map_err(|error| format!("{}: {error}; build it with --features fail-points", gatepost.display()))?;
    let mut failed = Vec::new();
    for scenario in chosen {
        let cycles = match options.cycles {
            Some(cycles) => cycles,
            None if options.quick => scenario.quick,
            None if options.full => scenario.full,
            None => scenario.usual,
        };
        let seed = options.seed.unwrap_or_else(|| u64::from(std::process::id()) ^ now_seconds());
        let folder = work.join(scenario.name);
        std::fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let plan =
            Plan { gatepost: own.clone(), earlier: options.earlier.clone(), cycles, seed, work: folder };
        if !is_green(scenario, &plan) {
            failed.push(scenario.name);
        }
        // What a failed scenario left here is of no more use, and takes memory.
        let _ = std::fs::remove_dir_all(&plan.work);
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

fn is_green(scenario: &Scenario, plan: &Plan) -> bool {
    let Plan { cycles, seed, .. } = plan;
    println!("{}: {cycles} cycles, seed {seed}", scenario.name);
    let begin = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (scenario.run)(plan)));
    let seconds = begin.elapsed().as_secs_f64();
    match outcome {
        Ok(summary) => {
            println!("{}: ok ({seconds:.1} s): {summary}", scenario.name);
            true
        }
        // The panic has said what was wrong.
        Err(_) => {
            println!("{}: FAILED ({seconds:.1} s), seed {seed}", scenario.name);
            false
        }
    }
}

fn choose(names: &[String]) -> Result<Vec<&'static Scenario>, String> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    let find = |name: &String| {
        SCENARIOS.iter().find(|scenario| scenario.name == name).ok_or_else(|| {
            let known: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            format!("there is no scenario {name:?}; there are {}", known.join(", "))
        })
    };
    names.iter().map(find).collect()
}

fn now_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
