//! `cargo xtask fuzz`: feeds the parsers what no person would write.
//!
//! libFuzzer by cargo-fuzz, on the stable toolchain and therefore without a sanitizer: there is no
//! `unsafe` in what is fuzzed, so a panic is what there is to find. The corpus is kept beside the targets.

use std::path::Path;

use crate::command::{Failure, cargo, root};

/// The targets, each a file of crates/fuzz/fuzz_targets.
const TARGETS: [&str; 5] = ["command_line", "address", "sasl", "proxy_header", "configuration"];

/// Runs each of `names`, or every target, for `seconds`.
pub(crate) fn run(names: &[String], seconds: u32) -> Result<(), Failure> {
    let commands = cargo(["--list"]).output()?;
    if !String::from_utf8_lossy(&commands).lines().any(|line| line.split_whitespace().next() == Some("fuzz"))
    {
        println!("xtask: installing cargo-fuzz, once");
        cargo(["install", "--quiet", "--locked", "cargo-fuzz"]).run()?;
    }
    if let Some(unknown) = names.iter().find(|name| !TARGETS.contains(&name.as_str())) {
        return Err(Failure(format!("no target is called {unknown:?}; there is {}", TARGETS.join(", "))));
    }
    let folder = root().join("crates/fuzz");
    for target in TARGETS {
        if names.is_empty() || names.iter().any(|name| name == target) {
            fuzz(&folder, target, seconds)?;
        }
    }
    Ok(())
}

fn fuzz(folder: &Path, target: &str, seconds: u32) -> Result<(), Failure> {
    println!("xtask: fuzzing {target} for {seconds} s");
    cargo(["fuzz", "run", "--sanitizer", "none", "--fuzz-dir"])
        .args([folder.as_os_str()])
        .args([target, "--", &format!("-max_total_time={seconds}"), "-print_final_stats=1", "-verbosity=0"])
        .run()
}
