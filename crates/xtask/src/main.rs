//! The workshop: every chore of the repository is one command here, the same by hand and in CI.
//!
//! It builds and runs, and decides nothing about mail. A chore that fails says what to do and ends
//! with exit code 1.

mod check;
mod circles;
mod command;
mod faults;
mod fuzz;
mod licences;
mod map;
mod metadata;
mod mutants;
mod sampling;
mod tests;
mod tools;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::command::{Failure, cargo};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The workshop of Gatepost", after_help = "Example: cargo xtask test")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Format, clippy, docs, the edges between crates, unsafe code, licences, the words of the pages.
    Check,
    /// Fetch what the tests need where that is allowed, run them all, count what was skipped.
    Test,
    /// Measure Gatepost against Postfix and smtp-sink in alternating rounds.
    Loadtest {
        /// Passed on to the load test; see `cargo xtask loadtest -- --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure the tables of the policy, beside other tables and beside their bounds.
    Bench {
        /// `check`, `check-largest`, `check-one-file`, `network`, `decision`, `swap`, `commit`, `memory` or
        /// `instructions`; all of them without a name. `compaction` takes minutes and 4 GB of disk, and runs where it is
        /// named. `instructions-baseline` writes down what `instructions` compares with.
        names: Vec<String>,
    },
    /// Break things under a running gateway on real devices and compare the ledgers afterwards. Needs root.
    Faults {
        /// Passed on; see `cargo xtask faults --help`, and `--list` for the scenarios.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Fuzz the parsers: command line, address, SASL, PROXY header, configuration.
    Fuzz {
        /// The targets; all of them without a name.
        names: Vec<String>,
        /// How long each runs.
        #[arg(long, default_value_t = 600)]
        seconds: u32,
    },
    /// Break the decision on purpose, one way at a time, and see a test go red.
    Mutants {
        /// Only those whose name holds this.
        #[arg(conflicts_with = "sample")]
        only: Option<String>,
        /// Draw so many by lot instead, from all that cargo-mutants can change in delivery, ingress, smtp, policy,
        /// commons, spool, control and gatepost. Results are kept by seed: the same command goes on.
        #[arg(long, value_name = "N")]
        sample: Option<usize>,
        /// The lot.
        #[arg(long, default_value_t = 1, requires = "sample")]
        seed: u64,
        /// Begin none later than so many minutes after the start.
        #[arg(long, value_name = "M", requires = "sample")]
        limit_minutes: Option<u64>,
        /// Of those drawn run only this crate's now.
        #[arg(long = "crate", value_name = "NAME", requires = "sample")]
        room: Option<String>,
        /// Leave those that their own crate's tests let pass for a later run.
        #[arg(long, requires = "sample")]
        quick: bool,
        /// Try the survivors again.
        #[arg(long, requires = "sample")]
        again: bool,
    },
    /// Run the whole-gateway simulation for one seed, or for a range of them.
    ///
    /// Scenarios: mixed, kill, power-cut, torn-write, bit-rot, read-error, disk-error, disk-full,
    /// recovery, destination, hostile, tls, client, slow-host, drain, strangers; without one, seeds take them in
    /// turn.
    Sim {
        /// Run this scenario.
        #[arg(long)]
        scenario: Option<String>,
        /// Replay this seed.
        #[arg(long, conflicts_with = "seeds")]
        seed: Option<u64>,
        /// Run these seeds, as in `0..1000`; the end is not part of the range.
        #[arg(long)]
        seeds: Option<String>,
        /// Cut the scenario down, as in `clients=1,lives=2`: what a failing run prints.
        #[arg(long)]
        trim: Option<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Check => check::run(),
        Chore::Test => tests::run(),
        Chore::Bench { names } => bench(&names),
        Chore::Faults { arguments } => faults::run(&arguments),
        Chore::Fuzz { names, seconds } => fuzz::run(&names, seconds),
        Chore::Loadtest { arguments } => loadtest(&arguments),
        Chore::Mutants { sample: Some(size), seed, limit_minutes, room, quick, again, .. } => {
            sampling::run(&sampling::Sample { size, seed, limit_minutes, room, quick, again })
        }
        Chore::Mutants { only, .. } => mutants::run(only.as_deref()),
        Chore::Sim { scenario, seed, seeds, trim } => {
            simulate(seed, seeds.as_deref(), [("SCENARIO", scenario), ("TRIM", trim)])
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(sentence)) => {
            eprintln!("xtask: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn bench(names: &[String]) -> Result<(), Failure> {
    let run = |target: &str, words: &[&str]| {
        cargo(["bench", "--quiet", "--package", "gatepost-benches", "--bench", target, "--"])
            .args(words)
            .run()
    };
    // Memory and instructions are counted by separate programs.
    let others = ["memory", "instructions", "instructions-baseline"];
    let times: Vec<_> = names.iter().map(String::as_str).filter(|name| !others.contains(name)).collect();
    let wanted = |name: &str| names.iter().any(|word| word == name);
    if names.is_empty() || !times.is_empty() {
        run("times", &times)?;
    }
    if names.is_empty() || wanted("memory") {
        run("memory", &[])?;
    }
    let baseline: &[&str] = if wanted("instructions-baseline") { &["--write"] } else { &[] };
    if names.is_empty() || wanted("instructions") || !baseline.is_empty() {
        tools::provide(&tools::INSTRUCTIONS).map_err(|missing| Failure(missing.to_string()))?;
        run("instructions", baseline)?;
    }
    Ok(())
}

fn loadtest(arguments: &[String]) -> Result<(), Failure> {
    tools::provide(&tools::LOADTEST).map_err(|missing| Failure(missing.to_string()))?;
    cargo(["build", "--release", "--package", "gatepost", "--package", "gatepost-loadtest"]).run()?;
    cargo(["run", "--quiet", "--release", "--package", "gatepost-loadtest", "--"]).args(arguments).run()
}

fn simulate(
    seed: Option<u64>,
    seeds: Option<&str>,
    wishes: [(&str, Option<String>); 2],
) -> Result<(), Failure> {
    let (name, value) = match (seed, seeds) {
        (Some(seed), _) => ("GATEPOST_SIM_SEED", seed.to_string()),
        (None, Some(seeds)) => ("GATEPOST_SIM_SEEDS", seeds.to_owned()),
        (None, None) => return Err(Failure("name what to run: --seed N or --seeds A..B".into())),
    };
    let is_range = |value: &str| {
        value
            .split_once("..")
            .is_some_and(|(from, to)| from.parse::<u64>().is_ok() && to.parse::<u64>().is_ok())
    };
    if seed.is_none() && !is_range(&value) {
        return Err(Failure(format!("{value:?} is no range of seeds; write it as 0..1000")));
    }
    let mut chore = cargo(["test", "--package", "gatepost", "--test", "simulation", "--"])
        .args(["--nocapture", "every_acknowledged"])
        .env(name, value)
        .env(tests::OPTIMISE.0, tests::OPTIMISE.1);
    for (name, value) in wishes {
        if let Some(value) = value {
            chore = chore.env(&format!("GATEPOST_SIM_{name}"), value);
        }
    }
    chore.run()
}
