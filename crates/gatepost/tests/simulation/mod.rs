//! A whole gateway in a separate world: clients, destinations, a control plane, faults and crashes,
//! all of it a function of a scenario and a seed, and a ledger that judges what came of it.
//!
//! [`scenario`] says what each scenario is for and which faults it has; [`shrink`] makes a failing run
//! smaller; [`judge`] holds what came of a run against the promises. A run has four parts: lives of the
//! gateway that end badly, a last one in the same world (with its cycles of a full spool), a calm in
//! which everything goes out, and a look at what is left on the disk.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

mod client;
mod control;
mod destination;
mod full;
mod gateway;
mod guard;
mod happen;
mod hostile;
mod judge;
mod peer;
pub mod scenario;
pub mod shrink;
mod strangers;
pub mod vanish;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use gatepost::worker::DRAIN_MAX;
use observe::{EventLog, Form, LogWriter, Registry};
use ring::Instant;
use ring::sim::World;
use spool::{Spool, SpoolError};
use testbed::Report;
use testbed::random::Random;

use client::{Clients, Kind};
use destination::Destination;
use gateway::Gateway;
use judge::Death;
use scenario::{End, Life, Name, Scenario};
use shrink::Trim;
use strangers::Strangers;

/// The gateway's host.
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const PORT: u16 = 25;
/// Where clients outside every network log in.
const SUBMISSION_PORT: u16 = 587;
/// The same within TLS from the first byte.
const SEALED_PORT: u16 = 465;
/// The sender of all mail but notifications.
const SENDER: &str = "app@proseware.example";
const PASSWORD: &str = "open sesame";
/// `\0app\0open sesame` in base64.
const LOGIN_PLAIN: &str = "AUTH PLAIN AGFwcABvcGVuIHNlc2FtZQ==\r\n";

/// When clients and crashes are over at the latest.
const FAULTS_END: Duration = Duration::from_secs(3600);
/// How long hostile destinations go on when nothing new comes: a storm is one by then.
const HOSTILITY: Duration = Duration::from_secs(600);
/// A gateway that is to die lives this long at most, however little happens.
const LIFE_MAX: Duration = Duration::from_secs(120);
/// The longest that the rest of the mail may take in a calm world: back-off and its jitter included.
const CALM_MAX: Duration = Duration::from_secs(1800);
/// Starts in a row that a failing disk may refuse.
const STARTS_MAX: usize = 40;
/// The longest that a disk may take to end what a killed process had asked of it.
const AWAITED_MAX: Duration = Duration::from_secs(120);
/// Until its operator starts it again.
const START_AGAIN: Duration = Duration::from_secs(1);

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    /// The checker's.
    pub report: Report,
    /// What the checker does not look for.
    pub faults: Vec<String>,
    /// Recipients whose message was lost to rot: reported as damaged, never delivered.
    pub quarantined: u64,
    /// The same without a report: the last group of a segment rotted, and was taken for a torn tail.
    pub taken_for_torn: u64,
    /// Cycles of a full spool that ended well.
    pub full_cycles: u64,
    /// Messages that became durable after a write had failed their shard.
    pub durable_after_latch: u64,
    /// Messages said to their end whose client was told to come again.
    pub put_off: u64,
    /// Equal for two runs that were the same.
    pub digest: u64,
    /// Events of the world.
    pub events: u64,
}

impl Run {
    /// Every promise was kept.
    pub fn is_kept(&self) -> bool {
        self.report.is_kept() && self.faults.is_empty()
    }
}

/// Runs `seed` of a scenario to its end; `is_verbose` tells the story on standard output.
pub fn run(name: Name, seed: u64, trim: &Trim, is_verbose: bool) -> Run {
    run_scenario(Scenario::of(name, seed, trim), is_verbose)
}

/// Runs a scenario to its end.
pub fn run_scenario(scenario: Scenario, is_verbose: bool) -> Run {
    let mut simulation = Simulation::new(scenario, is_verbose);
    simulation.faulty();
    simulation.calm();
    simulation.last_look();
    simulation.judge()
}

struct Simulation {
    world: World,
    scenario: Scenario,
    is_verbose: bool,
    /// Writes what the gateway logs, when it is asked for.
    log: Option<LogWriter>,
    random: Random,
    clients: Vec<Clients>,
    destinations: Vec<Destination>,
    strangers: Strangers,
    gateway: Option<Gateway>,
    /// The gateway does not run before.
    frozen_until: Option<Instant>,
    /// The gateway's disk has room again then.
    roomy_at: Option<Instant>,
    latched_at: Option<Instant>,
    durable_after_latch: u64,
    /// Power cuts of the gateway's host that are accounted for.
    power_cuts: u64,
    deaths: Vec<Death>,
    /// Bits have flipped, or sectors were given up.
    has_rotted: bool,
    /// Serial numbers of the messages that lay where bits flipped.
    rotten: BTreeSet<u64>,
    /// What recoveries and verification called damaged.
    damage: Vec<String>,
    full_cycles: u64,
    /// How often the gateway has started.
    starts: u64,
    clock_jumps: u64,
    events: u64,
    faults: Vec<String>,
}

impl Simulation {
    fn new(scenario: Scenario, is_verbose: bool) -> Self {
        let world = World::new(scenario.seed, scenario.world.clone());
        let mut random = Random::new(scenario.seed.rotate_left(17) ^ 0x7369_6d75_6c61_7465);
        let clients = (scenario.habits.iter())
            .map(|habits| {
                let ip = match habits.kind {
                    Kind::Trusted => Ipv4Addr::new(10, 0, 1, 1),
                    Kind::Roaming => Ipv4Addr::new(10, 9, 0, 1),
                    Kind::Stranger => Ipv4Addr::new(10, 9, 0, 2),
                };
                let port = match habits.kind {
                    Kind::Roaming => SUBMISSION_PORT,
                    Kind::Trusted | Kind::Stranger => PORT,
                };
                let gateway = SocketAddr::new(GATEWAY, port);
                let mut clients = Clients::new(&world, ip.into(), gateway, random.bits(), *habits);
                clients.expects_service = scenario.strangers > 0;
                clients
            })
            .collect();
        let destinations = (gateway::destinations().into_iter()).map(|ip| {
            let random = Random::new(random.bits());
            Destination::new(&world, ip, random, scenario.unruliness, scenario.is_hostile)
        });
        let mut destinations: Vec<Destination> = destinations.collect();
        if scenario.has_tls() {
            // Mail that must be sealed comes to rest only where it can be; a fall-back is due in the calm too.
            let is_mended = scenario.tuning.tls == policy::RouteTls::Required;
            for (place, destination) in destinations.iter_mut().enumerate() {
                destination.be_guarded(scenario.guards[place], gateway::NAMES[place], is_mended);
            }
        }
        let each = scenario.connections_each;
        let strangers = Strangers::new(&world, scenario.strangers, each, Random::new(scenario.seed ^ 0x7374));
        let simulation = Self {
            world,
            scenario,
            is_verbose,
            log: is_verbose.then(log_to_stdout),
            random,
            clients,
            destinations,
            strangers,
            gateway: None,
            frozen_until: None,
            roomy_at: None,
            latched_at: None,
            durable_after_latch: 0,
            power_cuts: 0,
            deaths: Vec::new(),
            has_rotted: false,
            rotten: BTreeSet::new(),
            damage: Vec::new(),
            full_cycles: 0,
            starts: 0,
            clock_jumps: 0,
            events: 0,
            faults: Vec::new(),
        };
        simulation.tell(format_args!("{:#?}", simulation.scenario));
        simulation
    }

    fn tell(&self, what: std::fmt::Arguments<'_>) {
        if self.is_verbose {
            let seconds = self.world.now().0 as f64 / 1e9;
            println!("{seconds:12.6}  event {:6}  {what}", self.events);
        }
    }

    /// The time of clients, faults and crashes.
    fn faulty(&mut self) {
        let end = self.world.now().after(FAULTS_END);
        for life in std::mem::take(&mut self.scenario.lives) {
            if let Some(nth) = life.failing_change {
                self.world.fail_disk(GATEWAY, nth);
            }
            if let Some(nth) = life.fatal_change {
                self.world.crash_at_change(GATEWAY, nth);
            }
            if self.start() {
                self.live(&life, end);
                self.end(life.end);
            }
            self.world.spare_disk(GATEWAY);
            self.rot(life.rotten_sectors);
            self.wait(life.pause);
        }
        self.start_safely();
        self.fill_and_free();
        while !self.clients.iter().all(Clients::is_done) && self.world.now() < end {
            self.step(end);
            self.restart_if_needed();
        }
        if self.scenario.is_hostile {
            self.wait(HOSTILITY);
        }
    }

    /// One life, until its number of events is over, its disk has failed it for a while or its power goes.
    fn live(&mut self, life: &Life, end: Instant) {
        let last = self.events + life.events;
        let mut until = end.min(self.world.now().after(LIFE_MAX));
        let mut committed_before = None;
        while self.events < last && self.gateway.is_some() && self.step(until) {
            if self.latched_at.is_none() && self.is_latched() {
                self.latched_at = Some(self.world.now());
                self.tell(format_args!("the spool has latched"));
                until = self.world.now().after(life.pause);
                committed_before = self.gateway.as_ref().map(Gateway::committed);
            }
        }
        if let (Some(gateway), Some(before)) = (&self.gateway, committed_before) {
            self.durable_after_latch += gateway.committed() - before;
        }
    }

    /// Nothing goes wrong any more: all that is queued goes out.
    fn calm(&mut self) {
        self.tell(format_args!("calm; strangers hold {} connections", self.strangers.open()));
        self.strangers.end();
        self.be_calm();
        let end = self.world.now().after(CALM_MAX);
        loop {
            self.restart_if_needed();
            let Some(gateway) = &mut self.gateway else { unreachable!("it was started safely") };
            gateway.control.is_calm = true;
            let is_over = self.clients.iter().all(Clients::is_done) && gateway.has_written_all();
            if is_over {
                gateway.commons.drain();
            }
            if is_over && gateway.has_drained() {
                return;
            }
            if !self.step(end) {
                let queued = self.gateway.as_ref().map_or(0, Gateway::queued_messages);
                self.faults.push(format!("{CALM_MAX:?} of calm and no rest: {queued} messages are queued"));
                return;
            }
        }
    }

    /// What is left on the disk after a last power cut: nothing, since nothing is queued.
    fn last_look(&mut self) {
        let tuning = self.scenario.tuning;
        self.end(End::PowerCut);
        for shard in 0..tuning.workers {
            let mut ring = self.world.host(GATEWAY);
            let options = gateway::options(tuning, shard as u8, self.random.bits());
            match Spool::open(&mut ring, options, tuning.workers) {
                Ok((spool, recovered)) => {
                    self.damage.extend(gateway::damage(&spool));
                    for message in recovered {
                        let what = format!("{} is queued again after everything was delivered", message.id);
                        let list = if self.has_rotted { &mut self.damage } else { &mut self.faults };
                        list.push(what);
                    }
                }
                Err(error) => self.faults.push(format!("the spool cannot be opened in the end: {error}")),
            }
        }
    }

    /// Turns everybody, and lets something happen before `limit`. False when nothing will.
    fn step(&mut self, limit: Instant) -> bool {
        let now = self.world.now();
        self.frozen_until = self.frozen_until.filter(|thaws| *thaws > now);
        if let (Some(gateway), None) = (&mut self.gateway, self.frozen_until) {
            gateway.turn();
        }
        for destination in &mut self.destinations {
            destination.turn();
        }
        for clients in &mut self.clients {
            clients.turn();
        }
        self.strangers.turn();
        self.events += 1;
        self.happen();
        let moments = [self.frozen_until, self.roomy_at].into_iter().flatten();
        let until = moments.fold(limit, Instant::min);
        let has_stepped = self.world.step_until(until);
        if self.world.power_cuts(GATEWAY) > self.power_cuts && self.gateway.is_some() {
            self.has_died("the power went in the middle of a change of its disk");
        }
        has_stepped || until < limit
    }

    fn wait(&mut self, time: Duration) {
        let until = self.world.now().after(time);
        while self.step(until) {}
    }

    fn is_latched(&self) -> bool {
        self.gateway.as_ref().is_some_and(Gateway::is_latched)
    }

    /// As a supervisor does, whose readiness probe fails.
    fn restart_if_needed(&mut self) {
        if self.is_latched() {
            self.latched_at = Some(self.world.now());
            self.end(End::Kill);
        }
        if self.gateway.is_none() {
            self.start_safely();
        }
    }

    /// Starts, unless the disk or the power fails on the way.
    fn start(&mut self) -> bool {
        match self.try_to_start() {
            Ok(mut gateway) => {
                gateway.control.is_calm = self.scenario.is_hostile;
                self.tell(format_args!("the gateway starts with {} queued", gateway.queued_messages()));
                self.damage.extend(gateway.damage.iter().cloned());
                self.gateway = Some(gateway);
                self.starts += 1;
                true
            }
            Err(error) => {
                self.tell(format_args!("the gateway does not start: {error}"));
                if self.world.power_cuts(GATEWAY) > self.power_cuts {
                    self.has_died("the power went during its start");
                } else if self.scenario.name == Name::ReadError {
                    // Its operator copies the disk; what could be read once more is there again.
                    self.world.heal_disk(GATEWAY);
                }
                false
            }
        }
    }

    /// Starts as soon as the disk has ended what a killed process had asked of it.
    fn try_to_start(&mut self) -> Result<Gateway, SpoolError> {
        let mut tries = AWAITED_MAX.as_millis() / START_AGAIN.as_millis();
        loop {
            let random = Random::new(self.random.bits());
            match Gateway::start(&self.world, self.scenario.tuning, || self.log(), random) {
                Err(error @ (SpoolError::InUse { .. } | SpoolError::UnderWay { .. })) if tries > 0 => {
                    self.tell(format_args!("the start waits: {error}"));
                    tries -= 1;
                }
                started => return started,
            }
            self.wait(START_AGAIN);
            // One that met what the dead process had under way.
            self.power_cuts = self.world.power_cuts(GATEWAY);
        }
    }

    /// Starts; a failing disk may refuse it, as it would an operator, for a while.
    fn start_safely(&mut self) {
        for _ in 0..STARTS_MAX {
            if self.start() {
                return;
            }
            self.wait(START_AGAIN);
        }
        panic!("the gateway did not start {STARTS_MAX} times in a row");
    }

    fn log(&self) -> EventLog {
        self.log.as_ref().map_or_else(EventLog::discarding, LogWriter::log)
    }

    /// Ends a life that has not ended by itself.
    fn end(&mut self, end: End) {
        if self.gateway.is_none() {
            return;
        }
        self.tell(format_args!("the gateway ends: {end:?}"));
        match end {
            End::Drain { grace } if self.drain(grace) => self.gateway = None,
            End::Drain { .. } if self.gateway.is_none() => {}
            End::Kill | End::Drain { .. } => self.has_died("killed"),
            End::PowerCut => {
                self.world.crash(GATEWAY);
                self.has_died("the power went");
            }
        }
    }

    /// SIGTERM. True when everything came to its end in time.
    fn drain(&mut self, grace: Duration) -> bool {
        let (until, in_time) = (self.world.now().after(grace), self.world.now().after(DRAIN_MAX));
        if let Some(gateway) = &self.gateway {
            gateway.commons.drain();
        }
        loop {
            let Some(gateway) = &self.gateway else { return false };
            if gateway.has_drained() {
                let was_cut_short = gateway.was_cut_short();
                if was_cut_short && !gateway.is_latched() && self.world.now() < in_time {
                    self.faults.push("the drain did not wait for what was under way".to_owned());
                }
                return !was_cut_short && !self.is_latched();
            }
            if !self.step(until) {
                return false;
            }
        }
    }

    fn has_died(&mut self, how: &str) {
        let at = self.world.now();
        let since = self.latched_at.take().unwrap_or(at);
        let window = self.scenario.outcome_window().as_nanos() as u64;
        self.deaths.push(Death { unrecorded_since: Instant(since.0.saturating_sub(window)), at });
        self.tell(format_args!("the gateway is dead: {how}"));
        self.power_cuts = self.world.power_cuts(GATEWAY);
        self.gateway = None;
        self.frozen_until = None;
    }
}

fn log_to_stdout() -> LogWriter {
    let registry = Registry::new(1, &[], 1);
    LogWriter::start(std::io::stdout(), Form::Json, "relay.example", &registry).expect("a thread starts")
}
