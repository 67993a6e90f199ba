//! How long the tables take, beside other tables and beside their bounds.
//!
//! `cargo xtask bench [name]` measures and prints one line a figure; nothing here fails on a time, for
//! a time belongs to a machine. Without `--bench`, as under `cargo test`, every measurement runs once
//! on a small table, so that it keeps working.

mod check;
mod commit;
mod compaction;
mod decision;
mod measure;
mod network;
mod swap;
mod table;

use crate::measure::Effort;

/// The allocator of the program that is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A name and what it measures.
type Bench = (&'static str, fn(Effort));

const BENCHES: [Bench; 8] = [
    ("check", check::run),
    ("check-largest", check::run_largest),
    ("check-one-file", check::run_one_file),
    ("network", network::run),
    ("decision", decision::run),
    ("swap", swap::run),
    ("commit", commit::run),
    (COMPACTION, compaction::run),
];

/// Takes minutes and gigabytes: it is measured where it is named.
const COMPACTION: &str = "compaction";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let effort = if arguments.iter().any(|word| word == "--bench") { Effort::Full } else { Effort::Smoke };
    let names: Vec<_> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    for name in &names {
        assert!(BENCHES.iter().any(|(known, _)| known == name), "no bench is called {name:?}");
    }
    for (name, bench) in BENCHES {
        let is_meant = effort == Effort::Smoke || name != COMPACTION;
        if names.is_empty() && is_meant || names.iter().any(|wanted| *wanted == name) {
            bench(effort);
        }
    }
}
