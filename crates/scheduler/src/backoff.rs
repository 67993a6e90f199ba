//! Back-off: how long to wait after the nth failure in a row. A pure function; randomness is an argument.

use std::time::Duration;

/// When to try again, and when to give up: the `[retry]` table of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait between two attempts, jitter aside.
    pub longest: Duration,
    /// How long after its arrival a message is given up (RFC 5321 section 4.5.4.1 asks for 4 to 5 days).
    pub expire: Duration,
}

/// Part of a wait that jitter may add, so that what failed together does not come back together.
const JITTER_PERCENT_MAX: u32 = 20;

impl Retry {
    /// The wait after `failures` failures in a row (at least 1): doubled each time up to
    /// [`Retry::longest`], and up to a fifth longer by `random`.
    #[must_use]
    pub fn wait(&self, failures: u32, random: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let base = self.first.saturating_mul(1 << doublings).min(self.longest.max(self.first));
        let percent = random % (JITTER_PERCENT_MAX + 1);
        base.saturating_add(base.saturating_mul(percent) / 100)
    }

    /// The longest that [`Retry::wait`] gives. A moment further away was noted before the wall clock was
    /// set back.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        self.wait(u32::MAX, JITTER_PERCENT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry = Retry {
        first: Duration::from_secs(5),
        longest: Duration::from_secs(60),
        expire: Duration::from_secs(3600),
    };

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<u64> = (1..=6).map(|failures| RETRY.wait(failures, 0).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
        assert_eq!(RETRY.wait(u32::MAX, 0).as_secs(), 60);
        assert_eq!(RETRY.longest_wait().as_secs(), 72);
    }

    #[test]
    fn jitter_only_adds_and_at_most_a_fifth() {
        for random in 0..200 {
            let wait = RETRY.wait(2, random);
            assert!((10_000..=12_000).contains(&wait.as_millis()), "{wait:?}");
        }
    }

    #[test]
    fn a_longest_below_the_first_does_not_shorten_it() {
        let retry = Retry { longest: Duration::from_secs(1), ..RETRY };
        assert_eq!(retry.wait(9, 0), retry.first);
    }
}
