//! `cargo xtask faults`: builds a gateway that can be made to crash, and what breaks it, and runs them.

use crate::command::{Failure, cargo};
use crate::tests::OPTIMISE;
use crate::tools;

/// A build for tests alone: with fail points, and with planted mistakes that `GATEPOST_MUTANT` chooses.
const GATEWAY: [&str; 4] = ["--package", "gatepost", "--features", "fail-points,mutants"];

/// Runs the scenarios that `arguments` name.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    tools::provide(tools::FAULTS).map_err(|missing| Failure(missing.to_string()))?;
    let chore = |verb| cargo([verb, "--quiet", "--locked"]).env(OPTIMISE.0, OPTIMISE.1);
    chore("build").args(GATEWAY).run()?;
    chore("run").args(["--package", "gatepost-faults", "--"]).args(arguments).run()
}
