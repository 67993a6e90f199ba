//! Programs of other houses that tests speak to: swaks, smtp-source, smtp-sink.
//!
//! A test whose program is missing says so and returns; `cargo xtask test` counts it as skipped.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where the path of the list of skipped tests is found; set by `cargo xtask test`.
const SKIPPED_LIST: &str = "GATEPOST_SKIPPED_LIST";

/// The path of `program`; `None`, after noting `test` as skipped, when it is not installed.
///
/// # Panics
/// In CI (`CI=true`), where no test may be skipped.
#[must_use]
pub fn find(program: &str, test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps Postfix's programs in a folder that is not on every user's path.
    let folders = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_path_buf()]);
    let found = folders.map(|folder| folder.join(program)).find(|candidate| candidate.is_file());
    if found.is_none() {
        skip(test, &format!("{program} is not installed"));
    }
    found
}

/// Notes `test` as skipped because of `what`, a sentence.
///
/// # Panics
/// In CI (`CI=true`), where no test may be skipped.
pub fn skip(test: &str, what: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{what}");
    let line = format!("{test}: {what}\n");
    eprint!("skipped: {line}");
    if let Some(list) = std::env::var_os(SKIPPED_LIST) {
        let list = File::options().append(true).open(list);
        list.and_then(|mut list| list.write_all(line.as_bytes()))
            .expect("the list of skipped tests can be written");
    }
}
