//! `cargo xtask test`: all tests, with a count that hides nothing.
//!
//! A test that needs a program which is not there notes that in the file that [`SKIPPED_LIST`] names
//! and passes; it is counted as skipped, and in CI that fails.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use crate::command::{Failure, cargo};
use crate::metadata::Metadata;
use crate::{faults, tools};

/// Where tests note that they could not run, one line each; `testbed::tools` writes it.
const SKIPPED_LIST: &str = "GATEPOST_SKIPPED_LIST";

/// Our own code is optimised a little for the tests: a thousand simulated runs pay for the build.
pub(crate) const OPTIMISE: (&str, &str) = ("CARGO_PROFILE_DEV_OPT_LEVEL", "1");

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Runs every test of the workspace, then those of builds with features of their own: the mutants,
/// builds with a planted mistake that the checkers must catch.
pub(crate) fn run() -> Result<(), Failure> {
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    if let Err(missing) = tools::provide(tools::TESTS) {
        println!("xtask: some tests will be skipped: {missing}");
    }
    let list =
        tempfile::NamedTempFile::new().map_err(|error| Failure(format!("no temporary file: {error}")))?;
    let mut count = Count::default();
    let mut is_green = run_cargo(&["--workspace"], list.path(), &mut count)?;
    let metadata = Metadata::read()?;
    for package in metadata.members() {
        for target in package.targets.iter().filter(|target| target.is_featured_test()) {
            let features = target.required_features.join(",");
            let words = ["--package", &package.name, "--test", &target.name, "--features", &features];
            is_green &= run_cargo(&words, list.path(), &mut count)?;
        }
    }
    is_green &= faults_quick(&mut count);
    let skipped_tests = std::fs::read_to_string(list.path()).unwrap_or_default();
    for line in skipped_tests.lines() {
        println!("skipped: {line}");
    }
    let noted = skipped_tests.lines().count() as u64;
    let (passed, skipped) = (count.passed.saturating_sub(noted), count.ignored + noted);
    println!("{passed} passed, {} failed, {skipped} skipped", count.failed);
    if !is_green {
        return Err(Failure("not every test could be built and passed; see above".into()));
    }
    if is_ci && skipped > 0 {
        return Err(Failure(format!("{skipped} tests were skipped, which CI does not allow")));
    }
    Ok(())
}

/// A few cycles of each family of faults: one test more. Only root may make what they need.
fn faults_quick(count: &mut Count) -> bool {
    if !tools::is_root() {
        println!(
            "skipped: cargo xtask faults --quick: only root may make namespaces, mounts and loop devices"
        );
        count.ignored += 1;
        return true;
    }
    match faults::run(&["--quick".to_owned()]) {
        Ok(()) => count.passed += 1,
        Err(Failure(sentence)) => {
            println!("cargo xtask faults --quick: {sentence}");
            count.failed += 1;
            return false;
        }
    }
    true
}

/// Runs `cargo test` for `what`, counts its results, and says whether all is well.
fn run_cargo(what: &[&str], skipped_list: &Path, count: &mut Count) -> Result<bool, Failure> {
    let mut child = cargo(["test", "--no-fail-fast", "--locked"])
        .args(what)
        .env(SKIPPED_LIST, skipped_list)
        .env(OPTIMISE.0, OPTIMISE.1)
        .into_inner()
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure(format!("cannot run cargo test: {error}")))?;
    let stdout = child.stdout.take().expect("it was asked to be piped");
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        println!("{line}");
        count.add(&line);
    }
    let status = child.wait().map_err(|error| Failure(format!("cannot await cargo test: {error}")))?;
    Ok(status.success())
}

impl Count {
    /// Takes a line as `test result: ok. 3 passed; 0 failed; 1 ignored; …`; others count nothing.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split("; ") {
            match part.split_once(' ').map(|(number, kind)| (number.parse::<u64>(), kind)) {
                Some((Ok(number), "passed")) => self.passed += number,
                Some((Ok(number), "failed")) => self.failed += number,
                Some((Ok(number), "ignored")) => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod behaviour {
    use super::*;

    #[test]
    fn results_of_all_binaries_are_added_up() {
        let mut count = Count::default();
        count.add("running 3 tests");
        count.add(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        );
        count.add("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(count, Count { passed: 5, failed: 1, ignored: 1 });
    }
}
