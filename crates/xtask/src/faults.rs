//! `cargo xtask faults`: builds a gateway that can be made to crash, and what breaks it, and runs them.

use crate::command::{Failure, built, cargo};
use crate::metadata::Metadata;
use crate::tests::OPTIMISE;
use crate::tools;

/// A build for tests alone: with fail points, and with planted mistakes that `GATEPOST_MUTANT` chooses. All of
/// the workspace, so that what it stands on is taken as the tests built it.
const BUILD: [&str; 6] =
    ["build", "--quiet", "--locked", "--workspace", "--features", "gatepost/fail-points,gatepost/mutants"];

/// Runs the scenarios that `arguments` name.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    tools::provide(tools::FAULTS).map_err(|missing| Failure(missing.to_string()))?;
    cargo(BUILD).env(OPTIMISE.0, OPTIMISE.1).run()?;
    let program = Metadata::read()?.target_directory.join("debug/gatepost-faults");
    built(&program).args(arguments).run()
}
