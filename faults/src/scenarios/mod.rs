//! The families of faults, by name.

mod disk_full;
mod ext4_shutdown;
mod power_cut;
mod sigkill;
mod upgrade;

use crate::Plan;

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

/// All of them, in the order of the design's page on the spool.
pub(crate) static SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "sigkill",
        about: "SIGKILL at random moments under load, and crashes at every named fail point",
        quick: 28,
        usual: 140,
        full: 1000,
        run: sigkill::run,
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
        name: "disk-full",
        about: "a small disk fills up: MAIL gets 452, deliveries go on, space frees, mail is taken again",
        quick: 2,
        usual: 10,
        full: 10,
        run: disk_full::run,
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
