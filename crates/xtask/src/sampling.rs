//! `cargo xtask mutants --sample N`: draws mutants by lot and sees how many the tests notice.
//!
//! cargo-mutants knows every place that can be changed; a seed draws from them, each crate in proportion
//! to what it has. One at a time is planted in a copy of the repository, and the tests of its crate
//! run, and those of `gatepost` where they notice nothing. Results are kept by seed and by what the mutant
//! is rather than by its line: a run that was cut goes on, and a new test is tried on the survivors. What
//! MUTANTS.md names has its reason there, and is not drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::command::{Failure, cargo, root};
use crate::mutants::copy_sources;
use crate::tests::OPTIMISE;

/// The crates that are drawn from, by their rooms.
const ROOMS: [&str; 8] = ["delivery", "ingress", "smtp", "policy", "commons", "spool", "control", "gatepost"];

/// Another version knows other mutants, and a seed would draw others.
const VERSION: &str = "27.1.0";

/// A mutant that makes tests run for ever is caught by this, in seconds: some ten times what they take.
const TESTS_SECONDS_MAX: &str = "400";
/// The same of the whole gateway's tests.
const GATEWAY_TESTS_SECONDS_MAX: &str = "1800";

/// The last step decides: of those drawn that change behaviour so many are to be caught, in percent.
const CAUGHT_PERCENT_MIN: f64 = 85.0;

/// What is asked for.
pub(crate) struct Sample {
    /// How many are drawn.
    pub(crate) size: usize,
    /// By which lot.
    pub(crate) seed: u64,
    /// No mutant is begun later than this many minutes after the start.
    pub(crate) limit_minutes: Option<u64>,
    /// Only those of this room are run now.
    pub(crate) room: Option<String>,
    /// Leave those that their crate's tests let pass for another time.
    pub(crate) quick: bool,
    /// Run the survivors again.
    pub(crate) again: bool,
}

/// A place that can be changed, as `cargo mutants --list --json` describes it.
#[derive(Clone, Debug, Deserialize)]
struct Listed {
    file: String,
    /// `FILE:LINE:COLUMN: CHANGE`.
    name: String,
}

/// One that was drawn, or may be.
#[derive(Clone, Debug)]
struct Candidate {
    room: &'static str,
    listed: Listed,
    /// File and change without the place, and which one of its like in the file.
    identity: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Caught,
    /// It does not compile: no change of behaviour.
    Unviable,
    /// The tests run into it and do not end.
    Timeout,
    /// The tests of its crate let it pass; those of `gatepost` have not been asked.
    Open,
    Survived,
}

type Results = BTreeMap<String, Outcome>;

/// Draws, runs what has no result yet, and prints what is known so far.
pub(crate) fn run(sample: &Sample) -> Result<(), Failure> {
    provide()?;
    let begin = Instant::now();
    let copy = root().join("target/mutants");
    copy_sources(&copy)?;
    let known = known()?;
    let mut candidates = Vec::new();
    for room in ROOMS {
        candidates.extend(list(&copy, room)?);
    }
    let drawn = draw(&candidates, &known, sample.size, sample.seed);
    let path = root().join(format!("target/mutants-sampled/{}.json", sample.seed));
    let mut results = read_results(&path)?;
    for mutant in &drawn {
        let is_wanted = sample.room.as_deref().is_none_or(|room| room == mutant.room);
        let is_done = match results.get(&mutant.identity) {
            None => false,
            Some(Outcome::Open) => sample.quick && !sample.again,
            Some(Outcome::Survived) => !sample.again,
            Some(_) => true,
        };
        if is_done || !is_wanted {
            continue;
        }
        if sample.limit_minutes.is_some_and(|limit| begin.elapsed() >= Duration::from_secs(limit * 60)) {
            println!("mutants: the time is over; the same command goes on");
            break;
        }
        let before = results.get(&mutant.identity).copied();
        let outcome = judge(&copy, mutant, before, sample)?;
        println!("mutants: {}: {}", word(outcome), mutant.listed.name);
        results.insert(mutant.identity.clone(), outcome);
        write_results(&path, &results)?;
    }
    print!("{}", report(&drawn, &results, &known));
    verdict(&drawn, &results)
}

/// Installs cargo-mutants where it is missing or another version.
fn provide() -> Result<(), Failure> {
    let commands = cargo(["--list"]).output()?;
    let is_there = String::from_utf8_lossy(&commands)
        .lines()
        .any(|line| line.split_whitespace().next() == Some("mutants"));
    if is_there {
        let version = cargo(["mutants", "--version"]).output()?;
        if String::from_utf8_lossy(&version).trim().ends_with(VERSION) {
            return Ok(());
        }
    }
    println!("xtask: installing cargo-mutants {VERSION}, once");
    cargo(["install", "--quiet", "--locked", "cargo-mutants", "--version", VERSION]).run()
}

fn package(room: &str) -> String {
    if room == "gatepost" { room.to_owned() } else { format!("gatepost-{room}") }
}

/// All of a crate, in the order of its files and lines.
fn list(copy: &Path, room: &'static str) -> Result<Vec<Candidate>, Failure> {
    let json =
        cargo(["mutants", "--list", "--json", "--package", &package(room), "--dir"]).args([copy]).output()?;
    let listed: Vec<Listed> = serde_json::from_slice(&json)
        .map_err(|error| Failure(format!("cannot read the list of cargo-mutants: {error}")))?;
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    let candidates = listed.into_iter().map(|listed| {
        let change = listed.name.strip_prefix(&listed.file).unwrap_or(&listed.name);
        // `:LINE:COLUMN: CHANGE`
        let change = change.splitn(4, ':').nth(3).unwrap_or(change).trim();
        let like = format!("{}: {change}", listed.file);
        let number = met.entry(like.clone()).or_insert(0);
        *number += 1;
        let identity = if *number == 1 { like } else { format!("{like} ({number})") };
        Candidate { room, listed, identity }
    });
    Ok(candidates.collect())
}

/// `size` of the candidates, of each crate in proportion to what it has, by the lot of `seed`. A mutant's
/// lot is its own, so that a change elsewhere moves few.
fn draw(candidates: &[Candidate], known: &BTreeSet<String>, size: usize, seed: u64) -> Vec<Candidate> {
    let mut drawn = Vec::new();
    let (mut seen, mut taken) = (0, 0);
    for room in ROOMS {
        let mut own: Vec<_> = candidates.iter().filter(|candidate| candidate.room == room).collect();
        seen += own.len();
        // Shares of the running sum: they add up to the size, whatever is rounded.
        let due = (size * seen).div_ceil(candidates.len().max(1)).min(size);
        own.retain(|candidate| !known.contains(&candidate.identity));
        own.sort_by_key(|candidate| lot(seed, &candidate.identity));
        drawn.extend(own.into_iter().take(due - taken).cloned());
        taken = due;
    }
    drawn
}

/// FNV-1a over seed and text, and one more mixing: texts that differ in their last letter lie apart.
fn lot(seed: u64, text: &str) -> u64 {
    const PRIME: u64 = 0x100_0000_01b3;
    let bytes = seed.to_le_bytes().into_iter().chain(text.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Runs the tests of its crate, unless they are known to let it pass, and then those of `gatepost`.
fn judge(
    copy: &Path,
    mutant: &Candidate,
    before: Option<Outcome>,
    sample: &Sample,
) -> Result<Outcome, Failure> {
    let is_gateway = mutant.room == "gatepost";
    let time = if is_gateway { GATEWAY_TESTS_SECONDS_MAX } else { TESTS_SECONDS_MAX };
    if before.is_none() || sample.again {
        let outcome = plant(copy, mutant, &package(mutant.room), time)?;
        if outcome != Outcome::Survived || is_gateway {
            return Ok(outcome);
        }
    }
    match sample.quick {
        true => Ok(Outcome::Open),
        false => plant(copy, mutant, "gatepost", GATEWAY_TESTS_SECONDS_MAX),
    }
}

/// Plants it in the copy and runs the tests of `package`; the copy is sound again afterwards.
fn plant(copy: &Path, mutant: &Candidate, package: &str, seconds: &str) -> Result<Outcome, Failure> {
    let output = copy.join("target");
    let status = cargo(["mutants", "--in-place", "--baseline", "skip", "--colors", "never", "--dir"])
        .args([copy])
        .args(["--package", &self::package(mutant.room), "--test-package", package])
        .args(["--file", &mutant.listed.file, "--re", &exactly(&mutant.listed.name)])
        .args(["--timeout", seconds, "--build-timeout", GATEWAY_TESTS_SECONDS_MAX, "--output"])
        .args([&output])
        .env("CARGO_TARGET_DIR", &output)
        .env(OPTIMISE.0, OPTIMISE.1)
        .into_inner()
        .stdout(std::process::Stdio::null())
        .status()
        .map_err(|error| Failure(format!("cannot run cargo mutants: {error}")))?;
    if !matches!(status.code(), Some(0 | 2 | 3)) {
        return Err(Failure(format!("cargo mutants failed ({status}) with {}", mutant.listed.name)));
    }
    let read = |name| fs::read_to_string(output.join("mutants.out").join(name)).unwrap_or_default();
    outcome(&mutant.listed.name, read)
        .ok_or_else(|| Failure(format!("cargo mutants says nothing of {}", mutant.listed.name)))
}

/// What the lists of cargo-mutants say of this one. Others may be in them: it tries the fields of a file's
/// structs whatever the expression is.
fn outcome(name: &str, read: impl Fn(&'static str) -> String) -> Option<Outcome> {
    const LISTS: [(&str, Outcome); 4] = [
        ("caught.txt", Outcome::Caught),
        ("missed.txt", Outcome::Survived),
        ("timeout.txt", Outcome::Timeout),
        ("unviable.txt", Outcome::Unviable),
    ];
    let of_it = LISTS.into_iter().find(|(list, _)| read(list).lines().any(|line| line == name));
    of_it.map(|(_, outcome)| outcome)
}

/// A regular expression that this text alone matches.
fn exactly(text: &str) -> String {
    let escaped = text.chars().fold(String::new(), |mut escaped, letter| {
        if r"\.+*?()|[]{}^$#&-~".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
        escaped
    });
    format!("^{escaped}$")
}

/// The mutants of MUTANTS.md: the first cell of each line of its table.
fn known() -> Result<BTreeSet<String>, Failure> {
    let path = root().join("crates/xtask/MUTANTS.md");
    let text = fs::read_to_string(&path)
        .map_err(|error| Failure(format!("cannot read {}: {error}", path.display())))?;
    Ok(names(&text))
}

fn names(table: &str) -> BTreeSet<String> {
    let cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    // A bar would end the cell.
    cells.map(|(name, _)| name.replace(r"\|", "|")).collect()
}

fn read_results(path: &Path) -> Result<Results, Failure> {
    let Ok(text) = fs::read(path) else { return Ok(Results::new()) };
    serde_json::from_slice(&text).map_err(|error| Failure(format!("{}: {error}", path.display())))
}

fn write_results(path: &PathBuf, results: &Results) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure(format!("cannot write {}: {error}", path.display()));
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(failed)?;
    let json = serde_json::to_vec_pretty(results).expect("names and words are JSON");
    // A run that is cut while it writes leaves the results before.
    let next = path.with_extension("next");
    fs::write(&next, json).and_then(|()| fs::rename(&next, path)).map_err(failed)
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Caught => "caught",
        Outcome::Unviable => "unviable",
        Outcome::Timeout => "timeout",
        Outcome::Open => "open",
        Outcome::Survived => "SURVIVED",
    }
}

const COLUMNS: [Outcome; 5] =
    [Outcome::Caught, Outcome::Timeout, Outcome::Unviable, Outcome::Open, Outcome::Survived];

/// The table by crate, and the survivors.
fn report(drawn: &[Candidate], results: &Results, known: &BTreeSet<String>) -> String {
    let mut text = format!("\n{:<10}{:>7}{:>9}", "crate", "drawn", "not run");
    for outcome in COLUMNS {
        write!(text, "{:>10}", word(outcome).to_lowercase()).expect("a string takes it");
    }
    let mut line = |name: &str, of: &[&Candidate]| {
        let count = |wanted| of.iter().filter(|one| results.get(&one.identity).copied() == wanted).count();
        write!(text, "\n{name:<10}{:>7}{:>9}", of.len(), count(None)).expect("a string takes it");
        for outcome in COLUMNS {
            write!(text, "{:>10}", count(Some(outcome))).expect("a string takes it");
        }
    };
    for room in ROOMS {
        line(room, &drawn.iter().filter(|one| one.room == room).collect::<Vec<_>>());
    }
    line("all", &drawn.iter().collect::<Vec<_>>());
    writeln!(text, "\n{} mutants of MUTANTS.md are not drawn.", known.len()).expect("a string takes it");
    for (outcome, title) in [
        (Outcome::Survived, "Survived, as every test is green with it"),
        (Outcome::Open, "Open, as the tests of its crate are green with it and the gateway's have not run"),
    ] {
        let those: Vec<_> = drawn.iter().filter(|one| results.get(&one.identity) == Some(&outcome)).collect();
        if !those.is_empty() {
            writeln!(text, "\n{title}:").expect("a string takes it");
        }
        for one in those {
            writeln!(text, "  {}", one.listed.name).expect("a string takes it");
        }
    }
    text
}

/// Whether enough of those that change behaviour are caught, of what has run.
fn verdict(drawn: &[Candidate], results: &Results) -> Result<(), Failure> {
    let count = |wanted: &[Outcome]| {
        drawn.iter().filter(|one| results.get(&one.identity).is_some_and(|is| wanted.contains(is))).count()
    };
    let caught = count(&[Outcome::Caught, Outcome::Timeout]);
    let changing = caught + count(&[Outcome::Survived, Outcome::Open]);
    if changing == 0 {
        return Ok(());
    }
    let percent = caught as f64 * 100.0 / changing as f64;
    println!("{caught} of {changing} that change behaviour were caught: {percent:.0}%");
    if percent < CAUGHT_PERCENT_MIN {
        return Err(Failure(format!(
            "{percent:.0}% caught, {CAUGHT_PERCENT_MIN:.0}% wanted: write a test for a survivor, or its reason into \
             crates/xtask/MUTANTS.md"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod behaviour {
    use super::*;

    fn candidates(counts: [usize; 8]) -> Vec<Candidate> {
        let of_room = |(room, count): (&'static str, usize)| {
            (0..count).map(move |number| {
                let identity = format!("crates/{room}/src/lib.rs: change {number}");
                let listed = Listed { file: String::new(), name: identity.clone() };
                Candidate { room, listed, identity }
            })
        };
        ROOMS.into_iter().zip(counts).flat_map(of_room).collect()
    }

    fn identities(drawn: &[Candidate]) -> BTreeSet<String> {
        drawn.iter().map(|one| one.identity.clone()).collect()
    }

    #[test]
    fn a_seed_draws_the_same_again_and_another_draws_others() {
        let all = candidates([100; 8]);
        let draw = |seed| identities(&draw(&all, &BTreeSet::new(), 80, seed));
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn crates_are_drawn_from_in_proportion_and_the_sum_is_the_sample() {
        let all = candidates([100, 200, 400, 0, 33, 67, 150, 50]);
        let drawn = draw(&all, &BTreeSet::new(), 100, 1);
        let of = |room| drawn.iter().filter(|one| one.room == room).count();
        assert_eq!(drawn.len(), 100);
        assert_eq!((of("delivery"), of("ingress"), of("smtp"), of("policy")), (10, 20, 40, 0));
    }

    #[test]
    fn a_mutant_with_a_reason_is_not_drawn_and_the_others_stay() {
        let all = candidates([100; 8]);
        let before = identities(&draw(&all, &BTreeSet::new(), 80, 7));
        let reasoned = before.iter().next().expect("eighty are drawn").clone();
        let after = identities(&draw(&all, &BTreeSet::from([reasoned.clone()]), 80, 7));
        assert!(!after.contains(&reasoned));
        assert_eq!(before.difference(&after).count(), 1, "{after:?}");
    }

    #[test]
    fn the_table_of_reasons_names_mutants_with_bars_in_them() {
        let table = "| mutant | reason |\n|---|---|\n| `a.rs: replace \\|\\| with && in f` | none |\n";
        assert_eq!(names(table), BTreeSet::from(["a.rs: replace || with && in f".to_owned()]));
    }

    #[test]
    fn an_outcome_is_the_mutants_own_and_not_its_siblings() {
        let lists = |name| match name {
            "missed.txt" => "a.rs:59:19: delete field b\n".to_owned(),
            "caught.txt" => "a.rs:90:32: replace && with ||\n".to_owned(),
            _ => String::new(),
        };
        assert_eq!(outcome("a.rs:90:32: replace && with ||", lists), Some(Outcome::Caught));
        assert_eq!(outcome("a.rs:59:19: delete field b", lists), Some(Outcome::Survived));
        assert_eq!(outcome("a.rs:90:3", lists), None);
    }

    #[test]
    fn the_expression_for_a_name_escapes_what_is_special() {
        assert_eq!(exactly("a.rs:1:2: replace || with &&"), r"^a\.rs:1:2: replace \|\| with \&\&$");
    }
}
