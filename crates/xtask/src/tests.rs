//! `cargo xtask test`: all tests, with a count that hides nothing.
//!
//! A test that needs a program which is not there notes that in the file that [`SKIPPED_LIST`] names
//! and passes; it is counted as skipped, and in CI that fails.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::command::{Failure, cargo};
use crate::tools;

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

/// Runs every test of the workspace.
pub(crate) fn run() -> Result<(), Failure> {
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    if let Err(missing) = tools::provide(&tools::TESTS) {
        println!("xtask: some tests will be skipped: {missing}");
    }
    let list =
        tempfile::NamedTempFile::new().map_err(|error| Failure(format!("no temporary file: {error}")))?;
    let mut child = cargo(["test", "--workspace", "--no-fail-fast", "--locked"])
        .env(SKIPPED_LIST, list.path())
        .env(OPTIMISE.0, OPTIMISE.1)
        .into_inner()
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure(format!("cannot run cargo test: {error}")))?;
    let mut count = Count::default();
    let stdout = child.stdout.take().expect("it was asked to be piped");
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        println!("{line}");
        count.add(&line);
    }
    let status = child.wait().map_err(|error| Failure(format!("cannot await cargo test: {error}")))?;
    let skipped_tests = std::fs::read_to_string(list.path()).unwrap_or_default();
    for line in skipped_tests.lines() {
        println!("skipped: {line}");
    }
    let noted = skipped_tests.lines().count() as u64;
    let (passed, skipped) = (count.passed.saturating_sub(noted), count.ignored + noted);
    println!("{passed} passed, {} failed, {skipped} skipped", count.failed);
    if !status.success() {
        return Err(Failure(format!("cargo test failed ({status})")));
    }
    if is_ci && skipped > 0 {
        return Err(Failure(format!("{skipped} tests were skipped, which CI does not allow")));
    }
    Ok(())
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
