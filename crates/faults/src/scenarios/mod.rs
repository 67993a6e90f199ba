//! The families of faults, by name.

mod bit_flips;
mod client_drops;
mod crash_in_recovery;
mod destination_dies;
mod disk_full;
mod ext4_shutdown;
mod files_vanish;
mod io_errors;
mod power_cut;
mod sigkill;
mod starved;
mod torn_commit;
mod upgrade;

use std::path::{Path, PathBuf};

use crate::Plan;
use crate::device::text;
use crate::tools;

/// One family of faults.
pub(crate) struct Scenario {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it does, in one line.
    pub(crate) about: &'static str,
    /// Cycles with `--quick`.
    pub(crate) quick: u64,
    /// Cycles without a word about it.
    pub(crate) usual: u64,
    /// Cycles with `--full`.
    pub(crate) full: u64,
    /// Runs it; gives one line of what was seen, and panics when a promise is broken.
    pub(crate) run: fn(&Plan) -> String,
}

/// All of them, in the order of DESIGN.md S10.
pub(crate) static SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "sigkill",
        about: "SIGKILL at random moments under load, and crashes at every named fail point",
        quick: 38,
        usual: 190,
        full: 1000,
        run: sigkill::run,
    },
    Scenario {
        name: "buffered",
        about: "the same on a file system that refuses O_DIRECT and reserves no space",
        quick: 4,
        usual: 32,
        full: 100,
        run: sigkill::run_buffered,
    },
    Scenario {
        name: "power-cut",
        about: "the disk as each flush left it, with and without parts of what was written after it",
        quick: 40,
        usual: 250,
        full: 2000,
        run: power_cut::run,
    },
    Scenario {
        name: "ext4-shutdown",
        about: "ext4 shut down under load without flushing its log, mounted again, recovered",
        quick: 5,
        usual: 20,
        full: 200,
        run: ext4_shutdown::run,
    },
    Scenario {
        name: "torn-commit",
        about: "the last commit cut at every byte (where the cycles suffice) and without some of its sectors",
        quick: 100,
        usual: 1000,
        full: 20000,
        run: torn_commit::run,
    },
    Scenario {
        name: "bit-flips",
        about: "one bit flipped anywhere: nothing altered is delivered, what is not hit is there, damage is reported",
        quick: 100,
        usual: 1000,
        full: 10000,
        run: bit_flips::run,
    },
    Scenario {
        name: "io-errors",
        about: "the device fails the nth write or flush, once or from then on; it is whole at the next start",
        quick: 6,
        usual: 30,
        full: 200,
        run: io_errors::run,
    },
    Scenario {
        name: "files-vanish",
        about: "the spool is deleted or renamed under load: no 250 more, what is queued goes out, what is lost is named",
        quick: 4,
        usual: 12,
        full: 100,
        run: files_vanish::run,
    },
    Scenario {
        name: "disk-full",
        about: "a small disk fills up: MAIL gets 452, deliveries go on, space frees, mail is taken again",
        quick: 2,
        usual: 10,
        full: 10,
        run: disk_full::run,
    },
    Scenario {
        name: "crash-in-recovery",
        about: "five crashes upon a crash while the gateway recovers",
        quick: 2,
        usual: 10,
        full: 50,
        run: crash_in_recovery::run,
    },
    Scenario {
        name: "destination-dies",
        about: "connections cut before and after the last dot, 250s lost, the destination away for a while",
        quick: 10,
        usual: 50,
        full: 500,
        run: destination_dies::run,
    },
    Scenario {
        name: "client-drops",
        about: "the client closes, resets or stalls at each byte of a transaction",
        quick: 1,
        usual: 1,
        full: 6,
        run: client_drops::run,
    },
    Scenario {
        name: "starved",
        about: "a frozen process, no descriptors left, too little memory",
        quick: 3,
        usual: 9,
        full: 30,
        run: starved::run,
    },
    Scenario {
        name: "upgrade",
        about: "SIGTERM under load, some drains cut short by SIGKILL, another version on the same spool and back",
        quick: 6,
        usual: 20,
        full: 100,
        run: upgrade::run,
    },
];

/// A copy of the spool in `spool`, in `folder`.
fn copy_spool(spool: &Path, folder: &Path) -> PathBuf {
    let copy = folder.join("copy");
    tools::run(&["cp", "--recursive", text(spool), text(&copy)]);
    copy
}
