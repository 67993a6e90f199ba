//! A network namespace of a test's own, in which it has whatever addresses it likes.
//!
//! Loopback's own 127.0.0.0/8 is one place in the eyes of a gateway; here a test connects from
//! addresses of the documentation ranges (RFC 5737), which look like anyone's. It is entered by one
//! thread: what that thread starts, threads and programs, is in it too, and nothing else is.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::tools;

/// Moves this thread into a new namespace whose loopback also has `addresses`. False, after noting
/// `test` as skipped, where the system does not let this user.
///
/// # Panics
/// In CI (`CI=true`), where no test may be skipped; when `ip` fails in the namespace.
#[must_use]
pub fn enter(test: &str, addresses: &[&str]) -> bool {
    let Some(ip) = tools::find("ip", test) else { return false };
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        tools::skip(test, &format!("this user gets no network namespace: {error}"));
        return false;
    }
    let run = |words: &[&str]| {
        let status = Command::new(&ip).args(words).status().expect("ip was found");
        assert!(status.success(), "ip {} failed ({status})", words.join(" "));
    };
    run(&["link", "set", "lo", "up"]);
    for address in addresses {
        run(&["address", "add", address, "dev", "lo"]);
    }
    true
}
