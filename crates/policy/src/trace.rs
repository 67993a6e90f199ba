//! What hears of each rule as it is asked.

use crate::rule::Rule;
use crate::source::Origin;

/// What a rule said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Nothing against it: the next rule is asked.
    Pass,
    /// Does not concern this request: the next rule is asked.
    Skip,
    /// Yes, and it decided.
    Accept,
    /// No, and it decided.
    Deny,
}

impl Outcome {
    /// A stable lower-case word for records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Skip => "skip",
            Self::Accept => "accept",
            Self::Deny => "deny",
        }
    }
}

/// Told of each rule as it is asked.
pub trait Trace {
    /// `rule` said `outcome`, because of `detail` and the configuration line `origin`.
    fn step(
        &mut self,
        rule: Rule,
        outcome: Outcome,
        origin: Option<&Origin>,
        detail: impl FnOnce() -> String,
    );

    /// Whether lines are of use: those that take a search are not looked for otherwise.
    fn wants_lines(&self) -> bool {
        true
    }
}

/// Hears nothing and costs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTrace;

impl Trace for NoTrace {
    fn step(&mut self, _: Rule, _: Outcome, _: Option<&Origin>, _: impl FnOnce() -> String) {}

    fn wants_lines(&self) -> bool {
        false
    }
}
