//! Deliberate faults, in builds with the feature `mutants` only: tests choose one and show that the
//! checkers catch it. A thread chooses for itself; a process is given one by `GATEPOST_MUTANT`.

use std::cell::Cell;

/// A planted mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Mail counts as committed when it is appended.
    EarlyAck,
    /// The write of a group ends in the page cache.
    SkipFlush,
    /// After a failed write of a group it is flushed again, and a success is believed.
    RetryFlush,
    /// What a recycled segment's former life left in it passes as live.
    IgnoreEpoch,
    /// The outcomes of some messages are not written.
    ForgetOutcome,
    /// A start does not wait for the writes that a killed process has left to the device.
    SkipFence,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::EarlyAck,
        Self::SkipFlush,
        Self::RetryFlush,
        Self::IgnoreEpoch,
        Self::ForgetOutcome,
        Self::SkipFence,
    ];

    /// As in `GATEPOST_MUTANT`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EarlyAck => "early-ack",
            Self::SkipFlush => "skip-flush",
            Self::RetryFlush => "retry-flush",
            Self::IgnoreEpoch => "ignore-epoch",
            Self::ForgetOutcome => "forget-outcome",
            Self::SkipFence => "skip-fence",
        }
    }
}

thread_local! {
    static CHOSEN: Cell<Option<Mutant>> = Cell::new(of_environment());
}

fn of_environment() -> Option<Mutant> {
    let name = std::env::var("GATEPOST_MUTANT").ok()?;
    let found = Mutant::ALL.into_iter().find(|mutant| mutant.name() == name);
    Some(found.unwrap_or_else(|| panic!("GATEPOST_MUTANT names no mutant: {name:?}")))
}

/// Makes the spool of this thread commit this mistake from now on, or none.
pub fn choose(mutant: Option<Mutant>) {
    CHOSEN.set(mutant);
}

pub(crate) fn is(mutant: Mutant) -> bool {
    CHOSEN.get() == Some(mutant)
}
