//! The programs that faults are made with. `cargo xtask faults` installs them where that is allowed.

use std::path::Path;
use std::process::{Command, Stdio};

/// Program, and the Debian package that brings it.
const TOOLS: &[(&str, &str)] = &[
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("losetup", "mount"),
    ("mount", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
    ("ip", "iproute2"),
    ("perl", "perl-base"),
    ("qemu-storage-daemon", "qemu-system-common"),
];

/// Whether all of them are there; if not, which packages bring them.
pub(crate) fn all_there() -> Result<(), String> {
    let missing: Vec<_> =
        TOOLS.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("some programs are missing; install them: apt-get install {}", missing.join(" ")))
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    // Debian keeps what mounts and makes file systems in folders that are not on every user's path.
    let system = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).to_path_buf());
    folders.chain(system).any(|folder| folder.join(program).is_file())
}

/// A program of the system, found also where only root looks.
pub(crate) fn command(words: &[&str]) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env("PATH", format!("{path}:/usr/sbin:/sbin")).stdin(Stdio::null());
    command
}

/// Runs a program to its end; gives what it printed.
///
/// # Panics
/// When it fails; with what it said.
#[track_caller]
pub(crate) fn run(words: &[&str]) -> String {
    try_run(words).unwrap_or_else(|sentence| panic!("{sentence}"))
}

/// The same; the sentence says how it failed.
pub(crate) fn try_run(words: &[&str]) -> Result<String, String> {
    let line = words.join(" ");
    let output = command(words).output().map_err(|error| format!("{line}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{line} failed ({}): {}", output.status, said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
