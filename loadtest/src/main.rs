//! Gatepost against Postfix, and against smtp-sink alone, in alternating rounds of one run.
//!
//! The server has core 0 and the generator (smtp-source) with the destination (smtp-sink) core 1, so
//! that a round compares servers and nothing else. It prints one table and, on request, writes every
//! round as JSON. It ends with a sentence when a program is missing or a message is refused.

mod backlog;
mod latency;
mod logins;
mod meter;
mod replies;
mod rounds;
mod servers;
mod siege;
mod storm;
mod sync;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// What a run is made of.
#[derive(Debug, Parser)]
#[command(
    name = "gatepost-loadtest",
    about = "Measures Gatepost, Postfix as a relay, and smtp-sink alone",
    after_help = "Example: cargo xtask loadtest --messages 20000 --rounds 5 --json result.json\n\
                  Spools are made in TMPDIR (default /tmp), which must be on a disk. Postfix needs root."
)]
pub(crate) struct Options {
    /// Messages a measurement.
    #[arg(long, default_value_t = 10_000)]
    messages: u64,
    /// Rounds; every server is measured once in each, and medians are printed [default: 3, of a siege 5].
    #[arg(long)]
    rounds: Option<u32>,
    /// Sessions at a time.
    #[arg(long, default_value_t = 50)]
    sessions: u32,
    /// Payload of a message in bytes, its header not counted.
    #[arg(long, default_value_t = 4096)]
    bytes: u32,
    /// Measure denials instead: 200 strangers pipeline recipients that are denied, beside a tenant's mail.
    #[arg(long)]
    storm: bool,
    /// Measure a tenant's mail beside 200 strangers who guess passwords instead.
    #[arg(long)]
    login_storm: bool,
    /// Measure mail, health and logins beside strangers who lay siege instead: in every way, or in the one named.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    siege: Option<String>,
    /// Measure beside a queue of so many messages instead, and how long a start takes with it; 0 for
    /// Postfix alone.
    #[arg(long)]
    backlog: Option<u64>,
    /// With --backlog: how many Postfix holds for comparison.
    #[arg(long, default_value_t = 20_000)]
    postfix_backlog: u64,
    /// Measure from the last dot to the 250 instead, at half of the highest rate.
    #[arg(long)]
    latency: bool,
    /// Write the result here as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Compare with an earlier build of gatepost, in turn with this one, instead of Postfix and smtp-sink.
    #[arg(long, value_name = "GATEPOST")]
    before: Option<PathBuf>,
    /// The gatepost to measure; default: the one built beside this program.
    #[arg(long)]
    gatepost: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("loadtest: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let gatepost = match &options.gatepost {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("gatepost"),
    };
    for binary in [Some(&gatepost), options.before.as_ref()].into_iter().flatten() {
        if !binary.is_file() {
            return Err(format!("no {}; build it with: cargo build --release -p gatepost", binary.display()));
        }
    }
    let rounds = options.rounds.unwrap_or(3).max(1);
    if let Some(name) = &options.siege {
        return siege::run(&gatepost, name, options.rounds.unwrap_or(5).max(1), options.json.as_deref());
    }
    if options.storm {
        return storm::run(&gatepost, rounds);
    }
    if options.login_storm {
        return logins::run(&gatepost, rounds);
    }
    if options.latency {
        return latency::run(&gatepost);
    }
    if let Some(messages) = options.backlog {
        return backlog::run(options, &gatepost, messages, options.postfix_backlog);
    }
    let disk = sync::disk(&std::env::temp_dir())?;
    println!("spools on {disk}");
    let mut evidence = vec![sync::gatepost(&gatepost)?];
    if options.before.is_none() {
        evidence.push(sync::postfix()?);
    }
    for line in &evidence {
        println!("sync before 250: {line}");
    }
    let mut measured = Vec::new();
    for round in 1..=rounds {
        rounds::run(options, &gatepost, round, &mut measured)?;
    }
    let result = table::Summary::new(options, rounds, disk, &evidence, measured);
    println!("\n{result}");
    if let Some(path) = &options.json {
        table::write_json(path, &result)?;
    }
    Ok(())
}
