//! Namespaces of the run's own: for mounts, processes and network.
//!
//! Whatever ends the run, also SIGKILL, ends its namespaces: the kernel then ends every process in
//! them, unmounts what they mounted and lets go of the loop devices beneath.

use std::path::PathBuf;

use crate::tools;

/// Set for the process inside.
const INSIDE: &str = "GATEPOST_FAULTS_INSIDE";

/// A folder that every system has (FHS), hidden from this run alone by what it mounts there.
const ROOM: &str = "/mnt";
/// In it, the folder for images, logs and the gateways' own files.
const WORK: &str = "/mnt/faults";

/// Most that images and logs may take, in memory. Bounded, so that a run that goes wrong ends with a
/// full file system.
const WORK_BYTES_MAX: &str = "size=4g";

/// Whether this process is inside.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs this program once more, inside, and waits for its end.
pub(crate) fn enter() -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    // Each layer dies with the one above it.
    let words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--fork"];
    let status = tools::command(&words)
        .args(["--kill-child=KILL", "--mount-proc"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .env("TMPDIR", WORK)
        .status()
        .map_err(|error| format!("setpriv: {error}"))?;
    if status.success() { Ok(()) } else { Err("not everything is well; see above".into()) }
}

/// Inside: brings up loopback and mounts the folder for images and logs; gives its path.
pub(crate) fn furnish() -> Result<PathBuf, String> {
    let need_root = "faults need root, for namespaces, mounts and loop devices";
    tools::try_run(&["ip", "link", "set", "lo", "up"]).map_err(|error| format!("{need_root}: {error}"))?;
    tools::try_run(&["mount", "-t", "tmpfs", "-o", WORK_BYTES_MAX, "faults", ROOM])
        .map_err(|error| format!("{need_root}: {error}"))?;
    std::fs::create_dir(WORK).map_err(|error| format!("{WORK}: {error}"))?;
    Ok(PathBuf::from(WORK))
}
