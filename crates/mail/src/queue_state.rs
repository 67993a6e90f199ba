//! Where queued mail stands, as operators see it.

/// Where a queued recipient stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum QueueState {
    /// Due: waits for its site.
    Ready,
    /// Under way on a connection.
    Active,
    /// Waits for its next attempt.
    Deferred,
    /// Waits until an operator releases it.
    Held,
    /// Its message is damaged: it is never tried.
    Quarantined,
}

impl QueueState {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Ready, Self::Active, Self::Deferred, Self::Held, Self::Quarantined];

    /// The word for it, in metrics, in the admin API and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Active => "active",
            Self::Deferred => "deferred",
            Self::Held => "held",
            Self::Quarantined => "quarantined",
        }
    }

    /// The state that `word` names.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}
