/// Why a sender is suspended: a stable word for metrics, log and API, and a number for good for the keys of limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SuspensionCause {
    /// A person asked for it.
    Operator,
    /// A burst of denials.
    Denials,
    /// A burst of permanent delivery failures.
    Bounces,
    /// A burst of failed logins.
    FailedLogins,
}

impl SuspensionCause {
    /// Every cause, in the order of its declaration.
    pub const ALL: [Self; 4] = [Self::Operator, Self::Denials, Self::Bounces, Self::FailedLogins];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Denials => "denials",
            Self::Bounces => "bounces",
            Self::FailedLogins => "failed_logins",
        }
    }

    /// The inverse of [`SuspensionCause::as_str`].
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == word)
    }
}
