//! Cycles of a full spool: nothing goes out until mail is turned away, then space is freed, deliveries go
//! on, and mail is taken again by itself.

use std::time::Duration;

use super::client::Clients;
use super::{GATEWAY, Simulation};

/// Until the clients have filled the spool.
const FILLED_MAX: Duration = Duration::from_secs(3600);
/// From the end of what kept it full until mail is taken again: a site's longest back-off, and a client's pause.
const RESUMED_MAX: Duration = Duration::from_secs(300);

impl Simulation {
    pub(super) fn fill_and_free(&mut self) {
        for cycle in 1..=self.scenario.full_cycles {
            if !self.fill(cycle) || !self.free(cycle) {
                break;
            }
            self.full_cycles += 1;
        }
        if self.scenario.full_cycles > 0 {
            for clients in &mut self.clients {
                clients.begin_nothing_new();
            }
        }
    }

    /// No destination takes mail, now and then the disk has no room either, until MAIL gets 452.
    fn fill(&mut self, cycle: u64) -> bool {
        for destination in &mut self.destinations {
            destination.is_closed = true;
        }
        if self.random.below(3) == 0 {
            self.take_room(None);
        }
        let before = self.turned_away();
        let is_full = self.wait_until(FILLED_MAX, |simulation| simulation.turned_away() > before);
        if !is_full && !self.clients.iter().all(Clients::is_done) {
            self.faults.push(format!("cycle {cycle}: no mail was turned away in {FILLED_MAX:?}"));
        }
        is_full
    }

    fn free(&mut self, cycle: u64) -> bool {
        self.tell(format_args!("cycle {cycle}: full"));
        let taken_before = self.taken();
        let acknowledged_before = self.acknowledged();
        self.make_room();
        for destination in &mut self.destinations {
            destination.is_closed = false;
        }
        let has_resumed = self.wait_until(RESUMED_MAX, |simulation| {
            simulation.acknowledged() > acknowledged_before && simulation.taken() > taken_before
        });
        if !has_resumed && !self.clients.iter().all(Clients::is_done) {
            let (taken, acknowledged) =
                (self.taken() - taken_before, self.acknowledged() - acknowledged_before);
            self.faults.push(format!(
                "cycle {cycle}: {RESUMED_MAX:?} after space was freed, {taken} were delivered and {acknowledged} accepted"
            ));
        }
        has_resumed
    }

    fn wait_until(&mut self, longest: Duration, mut is_so: impl FnMut(&Self) -> bool) -> bool {
        let until = self.world.now().after(longest);
        while !is_so(self) {
            if !self.step(until) || self.clients.iter().all(Clients::is_done) {
                return false;
            }
            self.restart_if_needed();
        }
        self.world.power_cuts(GATEWAY) == self.power_cuts
    }

    fn turned_away(&self) -> u64 {
        self.clients.iter().map(|clients| clients.turned_away).sum()
    }

    fn acknowledged(&self) -> u64 {
        self.clients.iter().map(|clients| clients.acknowledged).sum()
    }

    fn taken(&self) -> usize {
        self.destinations.iter().map(|destination| destination.taken.len()).sum()
    }
}
