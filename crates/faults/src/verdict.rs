//! The checker's last word: also about what arrived twice.
//!
//! A recipient may get a message again when it was in flight at a crash, and then alone: its first
//! copy came before the crash, the next one after it, and the spool as it lay between them had no
//! outcome for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use testbed::ledger::Delivery;
use testbed::{Arrival, Ledger, Report, Sent};

/// One end of a gateway's life, and the spool as it lay then.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// Arrivals until then.
    pub(crate) arrivals: usize,
    /// What had no outcome.
    pub(crate) queued: BTreeSet<Delivery>,
}

/// What the ledgers of a run say.
#[derive(Debug)]
pub(crate) struct Verdict {
    report: Report,
    /// Repeated deliveries without a crash to excuse them.
    unexcused: Vec<Delivery>,
    /// Most arrivals between a first copy and the crash that caused the second.
    distance_max: usize,
}

impl Verdict {
    /// Compares the ledgers.
    pub(crate) fn of(sent: Vec<Sent>, arrivals: Vec<Arrival>, ends: &[End]) -> Self {
        let (unexcused, distance_max) = judge(&arrivals, ends);
        let report = Ledger { sent, arrivals, ..Ledger::default() }.check();
        Self { report, unexcused, distance_max }
    }

    /// # Panics
    /// When something was lost, altered or invented, or repeated without a crash; with what it was.
    #[track_caller]
    pub(crate) fn assert_kept(&self) {
        self.report.assert_kept();
        let few = &self.unexcused[..self.unexcused.len().min(5)];
        let count = self.unexcused.len();
        assert!(few.is_empty(), "{count} deliveries were repeated and had not been in flight: {few:?}");
    }

    /// Recipients that got their message more than once.
    pub(crate) fn duplicated(&self) -> usize {
        self.report.duplicated.len()
    }

    /// The ledgers' own report.
    pub(crate) fn report(&self) -> &Report {
        &self.report
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.report;
        write!(
            f,
            "{} messages acknowledged; recipients: {} delivered, {} bounced, {} still queued, {} lost; {} twice",
            report.acknowledged,
            report.delivered,
            report.bounced,
            report.queued,
            report.lost.len(),
            report.duplicated.len()
        )?;
        if self.distance_max > 0 {
            write!(f, " (none more than {} arrivals before its crash)", self.distance_max)?;
        }
        Ok(())
    }
}

fn judge(arrivals: &[Arrival], ends: &[End]) -> (Vec<Delivery>, usize) {
    let mut seen: BTreeMap<Delivery, usize> = BTreeMap::new();
    let (mut unexcused, mut distance_max) = (Vec::new(), 0);
    for (at, arrival) in arrivals.iter().enumerate().filter(|(_, arrival)| arrival.bounced.is_empty()) {
        for recipient in &arrival.recipients {
            let Some(serial) = arrival.serial else { continue };
            let delivery = (serial, recipient.clone());
            if let Some(before) = seen.insert(delivery.clone(), at) {
                let between = ends.iter().filter(|end| (before + 1..=at).contains(&end.arrivals));
                match between.clone().next() {
                    Some(end) if between.clone().all(|end| end.queued.contains(&delivery)) => {
                        distance_max = distance_max.max(end.arrivals - before);
                    }
                    _ => unexcused.push(delivery),
                }
            }
        }
    }
    (unexcused, distance_max)
}

#[cfg(test)]
mod tests {
    use testbed::message;

    use super::*;

    fn arrival(serial: u64) -> Arrival {
        let content = message::content(serial, 1, 100);
        Arrival::new("app@proseware.example", &[format!("r0.{serial}@far.example")], &content)
    }

    fn end(arrivals: usize, queued: &[u64]) -> End {
        let queued = queued.iter().map(|serial| (*serial, format!("r0.{serial}@far.example"))).collect();
        End { arrivals, queued }
    }

    fn unexcused(arrivals: &[u64], ends: &[End]) -> usize {
        let arrivals: Vec<_> = arrivals.iter().map(|serial| arrival(*serial)).collect();
        judge(&arrivals, ends).0.len()
    }

    #[test]
    fn what_was_in_flight_at_a_crash_may_come_again() {
        assert_eq!(unexcused(&[1, 2, 2], &[end(2, &[2])]), 0);
    }

    #[test]
    fn what_had_its_outcome_may_not() {
        assert_eq!(unexcused(&[1, 2, 1], &[end(2, &[2])]), 1);
    }

    #[test]
    fn nor_what_comes_again_in_the_same_life() {
        assert_eq!(unexcused(&[1, 2, 2, 3], &[end(1, &[2]), end(3, &[2])]), 1);
    }

    #[test]
    fn an_outcome_that_came_and_went_is_no_excuse() {
        assert_eq!(unexcused(&[1, 2, 1], &[end(1, &[1]), end(2, &[])]), 1);
    }
}
