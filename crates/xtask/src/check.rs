//! `cargo xtask check`: everything that can be said of the code without running it.

use std::time::Instant;

use crate::command::{Failure, cargo};
use crate::metadata::Metadata;
use crate::{circles, licences, map, words};

/// A name and what it runs.
type Step<'a> = (&'static str, &'a dyn Fn() -> Result<(), Failure>);

/// Runs every step, also after one has failed, so that one run shows all there is to mend.
pub(crate) fn run() -> Result<(), Failure> {
    let metadata = Metadata::read()?;
    let steps: [Step<'_>; 8] = [
        ("format", &|| cargo(["fmt", "--all", "--", "--check"]).run()),
        ("crate edges", &|| map::edges(&metadata)),
        ("circles", &|| circles::check(&metadata)),
        ("unsafe code", &|| map::unsafe_code(&metadata)),
        ("licences", &|| licences::check(&metadata)),
        ("words", &words::check),
        ("clippy", &clippy),
        ("docs", &docs),
    ];
    let mut failed = Vec::new();
    for (name, step) in steps {
        let begin = Instant::now();
        let outcome = step();
        let seconds = begin.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => println!("check: {name}: ok ({seconds:.1} s)"),
            Err(Failure(sentence)) => {
                println!("check: {name}: FAILED ({seconds:.1} s): {sentence}");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure(format!("failed: {}", failed.join(", ")))) }
}

fn clippy() -> Result<(), Failure> {
    cargo(["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]).run()
}

fn docs() -> Result<(), Failure> {
    cargo(["doc", "--quiet", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings").run()
}
