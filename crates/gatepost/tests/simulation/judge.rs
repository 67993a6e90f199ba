//! What came of a run, held against the promises.

use std::collections::BTreeMap;

use policy::RouteTls;
use ring::Instant;
use testbed::Ledger;

use super::destination::{REJECTED, Taken};
use super::gateway::LONGEST_WAIT;
use super::{Run, Simulation};

/// A gateway that died, for the question which duplicates it excuses.
pub struct Death {
    /// When its outcomes stopped reaching the disk.
    pub unrecorded_since: Instant,
    pub at: Instant,
}

impl Simulation {
    pub(super) fn judge(mut self) -> Run {
        let mut ledger = Ledger::default();
        for clients in &mut self.clients {
            ledger.sent.append(&mut clients.sent);
            self.faults.append(&mut clients.faults);
        }
        let taken: Vec<&Taken> =
            self.destinations.iter().flat_map(|destination| &destination.taken).collect();
        ledger.arrivals = taken.iter().map(|taken| taken.arrival.clone()).collect();
        let mut report = ledger.check();
        self.faults.extend(wrong_bounces(&taken));
        let recipients: u64 = ledger.sent.iter().map(|sent| sent.recipients.len() as u64).sum();
        // Each may be a separate job, and so may its notification.
        let storms = self.storms(2 * recipients);
        self.faults.extend(storms);
        let policy = self.scenario.tuning.tls;
        // One that does harm has its mail in the clear where that is permitted: whatever it offers breaks.
        if !(self.scenario.is_hostile && policy == RouteTls::Opportunistic) {
            let violations = taken.iter().filter_map(|taken| taken.guard.violation(policy, taken.is_sealed));
            self.faults.extend(violations);
        }
        let (mut quarantined, mut taken_for_torn) = (0, 0);
        if self.has_rotted {
            // What rots may be lost, and so may be the outcomes that rot with it. Where nothing was
            // reported the last group of a segment rotted, which looks as if it had never been whole. A
            // group that names a large body says nothing of what is in it.
            let has_large = self.scenario.habits.iter().any(|habits| habits.large_one_in > 0);
            let excused: Vec<_> =
                report.lost.extract_if(.., |(serial, _)| has_large || self.rotten.contains(serial)).collect();
            let excused = excused.len() as u64;
            *if self.damage.is_empty() { &mut taken_for_torn } else { &mut quarantined } += excused;
        } else {
            self.faults.append(&mut self.damage);
            self.faults.extend(unexcused(&taken, &self.deaths));
        }
        self.tell(format_args!("{report}; {quarantined} quarantined, {taken_for_torn} taken for torn"));
        Run {
            report,
            faults: self.faults,
            quarantined,
            taken_for_torn,
            full_cycles: self.full_cycles,
            durable_after_latch: self.durable_after_latch,
            put_off: self.clients.iter().map(|clients| clients.put_off).sum(),
            digest: self.world.digest(),
            events: self.events,
        }
    }
}

/// Addresses that a gateway tries at most before a site has failed.
const ADDRESSES_TRIED: u64 = 10;

/// Retries that are due in a row before each further one waits for the longest time.
const RETRIES_GROWING: u64 = 7;

impl Simulation {
    /// Sites that got more connections than addresses were tried for the retries that were due.
    ///
    /// A job is tried when it comes, and a site after each back-off, which begins anew whenever a
    /// transaction comes to an end, the gateway starts or a clock is set. One that fails throughout is
    /// tried after 1, 2, 4 … seconds and then once in a minute.
    fn storms(&self, jobs: u64) -> Vec<String> {
        let begins_anew = self.starts + self.clock_jumps + 1;
        let minutes = self.world.now().0 / LONGEST_WAIT.as_nanos() as u64;
        let sites = [&self.destinations[..2], &self.destinations[2..]];
        let mut storms = Vec::new();
        for site in sites {
            let connects: u64 = site.iter().map(|destination| self.world.connects(destination.ip())).sum();
            let ended: u64 = site.iter().map(|destination| destination.ended).sum();
            let due = jobs + (begins_anew + ended) * RETRIES_GROWING + minutes;
            if connects > ADDRESSES_TRIED * due {
                storms.push(format!("{connects} connections for {due} retries that were due, at most"));
            }
        }
        storms
    }
}

/// Duplicates that no crash and no lost connection accounts for: all copies of a recipient's message
/// but one must have been in flight at one. Not always the last: what a killed process has sent may
/// arrive after what its successor sends.
fn unexcused(taken: &[&Taken], deaths: &[Death]) -> Vec<String> {
    let mut copies: BTreeMap<(u64, &str), Vec<&Taken>> = BTreeMap::new();
    for taken in taken.iter().filter(|taken| taken.arrival.bounced.is_empty()) {
        for recipient in &taken.arrival.recipients {
            let serial = taken.arrival.serial.unwrap_or_default();
            copies.entry((serial, recipient)).or_default().push(taken);
        }
    }
    let mut faults = Vec::new();
    for ((serial, recipient), copies) in copies {
        let unexcused: Vec<&&Taken> = (copies.iter())
            .filter(|copy| {
                copy.confirmed.is_some_and(|confirmed| {
                    let is_in_flight =
                        |death: &Death| copy.connected <= death.at && death.unrecorded_since <= confirmed;
                    !deaths.iter().any(is_in_flight)
                })
            })
            .collect();
        if unexcused.len() > 1 {
            let times: Vec<Instant> = unexcused.iter().map(|copy| copy.at).collect();
            faults.push(format!("[{serial} to {recipient}] was taken at {times:?} without an excuse"));
        }
    }
    faults
}

/// Only what was refused for good bounces, and it is never delivered.
fn wrong_bounces(taken: &[&Taken]) -> Vec<String> {
    let mut faults = Vec::new();
    for taken in taken {
        let wrongly_bounced = taken.arrival.bounced.iter().filter(|to| !to.starts_with(REJECTED));
        faults.extend(wrongly_bounced.map(|to| format!("{to} bounced and was not refused")));
        let wrongly_taken = taken.arrival.recipients.iter().filter(|to| to.starts_with(REJECTED));
        faults.extend(wrongly_taken.map(|to| format!("{to} was refused and delivered")));
    }
    faults
}
