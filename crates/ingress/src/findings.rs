//! What was found out about recipients of late: a worker's own memory over the control plane's
//! answers, so that most recipients wait for no answer.

use std::collections::HashMap;
use std::time::Duration;

use commons::RecipientFinding;
use ring::Instant;

/// Findings in each of the two halves, at most: the domains and recipients of a busy hour; some 3 MiB
/// when both are full.
const HALF_MAX: usize = 8192;

/// A finding stands this long at most, whatever its TTL.
const TTL_MAX: Duration = Duration::from_secs(3600);

/// The memory. What is used moves to its young half; when that is full, the other half is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    young: HashMap<Box<str>, Entry>,
    old: HashMap<Box<str>, Entry>,
    /// Where a name is put into lower case.
    scratch: String,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    finding: RecipientFinding,
    until: Instant,
}

impl Findings {
    /// What is known at `now` of `name`: a domain or an address, in whatever case it is written.
    pub(crate) fn of(&mut self, name: &str, now: Instant) -> Option<RecipientFinding> {
        self.scratch.clear();
        self.scratch.push_str(name);
        self.scratch.make_ascii_lowercase();
        let holds = |entry: &&Entry| now < entry.until;
        if let Some(entry) = self.young.get(&*self.scratch).filter(holds) {
            return Some(entry.finding);
        }
        let (name, entry) = self.old.remove_entry(&*self.scratch)?;
        if now >= entry.until {
            return None;
        }
        self.insert(name, entry);
        Some(entry.finding)
    }

    /// Remembers what was found out about `name` for `ttl`.
    pub(crate) fn remember(&mut self, name: &str, finding: RecipientFinding, ttl: Duration, now: Instant) {
        let entry = Entry { finding, until: now.after(ttl.min(TTL_MAX)) };
        self.insert(name.to_ascii_lowercase().into(), entry);
    }

    fn insert(&mut self, name: Box<str>, entry: Entry) {
        if self.young.len() >= HALF_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(1_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_finding_stands_for_its_time_in_whatever_case_it_is_asked_for() {
        let mut findings = Findings::default();
        findings.remember("Adatum.example", RecipientFinding::DomainMissing, MINUTE, NOW);
        assert_eq!(findings.of("ADATUM.example", NOW), Some(RecipientFinding::DomainMissing));
        assert_eq!(findings.of("adatum.example", NOW.after(MINUTE)), None);
        assert_eq!(findings.of("contoso.example", NOW), None);
    }

    #[test]
    fn what_is_used_outlives_what_is_not_and_the_memory_is_bounded() {
        let mut findings = Findings::default();
        findings.remember("used.example", RecipientFinding::Good, MINUTE, NOW);
        findings.remember("unused.example", RecipientFinding::Good, MINUTE, NOW);
        for number in 0..5 * HALF_MAX {
            findings.remember(&format!("{number}.example"), RecipientFinding::Good, MINUTE, NOW);
            assert!(findings.of("used.example", NOW).is_some());
        }
        assert_eq!(findings.of("unused.example", NOW), None);
        assert!(findings.young.len() + findings.old.len() <= 2 * HALF_MAX);
    }
}
