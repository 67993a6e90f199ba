//! The spool's files vanish under a running gateway, at any moment of a busy one: no more promises within a
//! second, what was promised goes out from what is open, and nothing is lost at the end.

use std::time::Duration;

use spool::WATCH_INTERVAL;

use super::gateway::SPOOL;
use super::scenario::{Name, Scenario};
use super::shrink::Trim;
use super::{CALM_MAX, DRAIN_MAX, GATEWAY, Run, Simulation};

/// Events of the world before the files vanish: at the start, under load or after it.
const EVENTS_MAX: u64 = 1500;
/// From the loss of the files to the last promise.
const SEEN_WITHIN: Duration = Duration::from_secs(1);

/// Runs a seed: the usual world, and clients that have accidents.
pub fn run(seed: u64, is_verbose: bool) -> Run {
    let mut scenario = Scenario::of(Name::Client, seed, &Trim::default());
    (scenario.lives, scenario.happenings) = (Vec::new(), Vec::new());
    // A body in a separate file is open only while it is written or sent: it is lost, and named.
    scenario.habits.iter_mut().for_each(|habits| habits.large_one_in = 0);
    let is_crowded = seed % 2 == 1;
    if is_crowded {
        crowd(&mut scenario);
    }
    let mut simulation = Simulation::new(scenario, is_verbose);
    simulation.start_safely();
    simulation.destinations.iter_mut().for_each(|destination| destination.is_closed = is_crowded);
    simulation.vanish();
    simulation.calm();
    simulation.last_look();
    simulation.judge()
}

/// Much mail is queued in segments of a few groups, so that outcomes use up what there is of them. A bounce would
/// wait for room that never comes: none is caused.
fn crowd(scenario: &mut Scenario) {
    scenario.tuning.segment_bytes = 32 << 10;
    for habits in &mut scenario.habits {
        habits.body_bytes_max = habits.body_bytes_max.min(2000);
        habits.has_refusable = false;
    }
}

impl Simulation {
    fn vanish(&mut self) {
        if let Some(gateway) = &mut self.gateway {
            gateway.workers.iter_mut().for_each(|worker| worker.spool.watch(WATCH_INTERVAL));
        }
        let last = self.events + self.random.below(EVENTS_MAX);
        let until = self.world.now().after(Duration::from_secs(600));
        while self.events < last && self.step(until) {}
        self.tell(format_args!("the spool's files vanish"));
        self.world.remove_tree(GATEWAY, SPOOL.as_ref());
        self.wait(SEEN_WITHIN);
        let promised: u64 = self.clients.iter().map(|clients| clients.acknowledged).sum();
        self.be_calm();
        let end = self.world.now().after(CALM_MAX);
        while self.gateway.as_ref().is_some_and(|gateway| !gateway.has_written_all()) {
            if !self.step(end) {
                self.faults.push("what was promised before the files vanished does not go out".to_owned());
                return;
            }
        }
        let later: u64 = self.clients.iter().map(|clients| clients.acknowledged).sum();
        if later > promised {
            self.faults.push(format!("{} messages were promised without a spool", later - promised));
        }
        // A client that says nothing holds it up until its time is over.
        self.drain(2 * DRAIN_MAX);
        for worker in self.gateway.iter_mut().flat_map(|gateway| &mut gateway.workers) {
            let lost = worker.spool.lost(&mut worker.ring);
            self.faults.extend(lost.iter().map(|id| format!("{id} is lost")));
        }
        self.gateway = None;
    }
}
