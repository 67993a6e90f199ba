//! A whole gateway in a world of its own: clients, destinations, a control plane, faults and crashes,
//! all of it a function of a seed, and a ledger that judges what came of it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

mod client;
mod control;
mod destination;
mod gateway;
mod peer;
mod scenario;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use observe::{EventLog, Form, LogWriter, Registry};
use ring::Instant;
use ring::sim::World;
use spool::Shard;
use testbed::random::Random;
use testbed::{Ledger, Report};

use client::{Clients, Kind};
use destination::{Destination, REJECTED, Taken};
use gateway::Gateway;
use scenario::{End, Life, Scenario};

/// The gateway's host.
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const PORT: u16 = 25;
/// The sender of all mail but notifications.
const SENDER: &str = "app@proseware.example";
const PASSWORD: &str = "open sesame";
/// `\0app\0open sesame` in base64.
const LOGIN_PLAIN: &str = "AUTH PLAIN AGFwcABvcGVuIHNlc2FtZQ==\r\n";

/// When clients and crashes are over at the latest.
const FAULTS_END: Duration = Duration::from_secs(3600);
/// A gateway that is to die lives this long at most, however little happens.
const LIFE_MAX: Duration = Duration::from_secs(120);
/// The longest that the rest of the mail may take in a calm world: back-off and its jitter included.
const CALM_MAX: Duration = Duration::from_secs(1800);
/// From a destination's 250 that was read to the outcome on the disk, at most: a few writes, each stalled.
const OUTCOME_WINDOW: Duration = Duration::from_secs(3);

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    /// The checker's.
    pub report: Report,
    /// What the checker does not look for.
    pub faults: Vec<String>,
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

/// Runs `seed` to its end; `is_verbose` tells the story on standard output.
pub fn run(seed: u64, is_verbose: bool) -> Run {
    let mut simulation = Simulation::new(Scenario::of(seed), is_verbose);
    simulation.faulty();
    simulation.calm();
    simulation.last_look();
    simulation.judge()
}

/// A gateway that died, for the question which duplicates it excuses.
struct Death {
    /// When its outcomes stopped reaching the disk.
    unrecorded_since: Instant,
    at: Instant,
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
    gateway: Option<Gateway>,
    latched_at: Option<Instant>,
    deaths: Vec<Death>,
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
                let gateway = SocketAddr::new(GATEWAY, PORT);
                Clients::new(&world, ip.into(), gateway, random.bits(), *habits)
            })
            .collect();
        let destinations = (gateway::destinations().into_iter())
            .map(|ip| Destination::new(&world, ip, Random::new(random.bits())))
            .collect();
        let simulation = Self {
            world,
            scenario,
            is_verbose,
            log: is_verbose.then(log_to_stdout),
            random,
            clients,
            destinations,
            gateway: None,
            latched_at: None,
            deaths: Vec::new(),
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
            self.start(&life);
            self.live(&life, end);
            self.end(life.end);
            let until = self.world.now().after(life.pause);
            while self.step(until) {}
        }
        self.start_safely();
        while !self.clients.iter().all(Clients::is_done) && self.world.now() < end {
            self.step(end);
            self.restart_if_latched();
        }
    }

    /// One life, until its number of events is over or its disk has failed it for a while.
    fn live(&mut self, life: &Life, end: Instant) {
        let last = self.events + life.events;
        let mut until = end.min(self.world.now().after(LIFE_MAX));
        while self.events < last && self.step(until) {
            if self.latched_at.is_none() && self.is_latched() {
                self.latched_at = Some(self.world.now());
                self.tell(format_args!("the spool has latched"));
                until = self.world.now().after(life.pause);
            }
        }
    }

    /// Nothing goes wrong any more: all that is queued goes out.
    fn calm(&mut self) {
        self.tell(format_args!("calm"));
        self.world.set_options(scenario::calm());
        self.world.fail_disk(GATEWAY, u64::MAX);
        for destination in &mut self.destinations {
            destination.is_calm = true;
        }
        let end = self.world.now().after(CALM_MAX);
        loop {
            self.restart_if_latched();
            let Some(gateway) = &mut self.gateway else { unreachable!("it was started safely") };
            gateway.control.is_calm = true;
            let is_over = self.clients.iter().all(Clients::is_done)
                && gateway.worker.delivery.queued_messages() == 0
                && gateway.worker.spool.idle();
            if is_over {
                gateway.commons.drain();
            }
            if is_over && gateway.worker.draining && gateway.has_delivered_all() && gateway.worker.is_idle() {
                return;
            }
            if !self.step(end) {
                let queued =
                    self.gateway.as_ref().map_or(0, |gateway| gateway.worker.delivery.queued_messages());
                self.faults.push(format!("{CALM_MAX:?} of calm and no rest: {queued} messages are queued"));
                return;
            }
        }
    }

    /// What is left on the disk after a last power cut: nothing, since nothing is queued.
    fn last_look(&mut self) {
        let tuning = self.scenario.tuning;
        self.end(End::PowerCut);
        let mut ring = self.world.host(GATEWAY);
        match Shard::open(&mut ring, gateway::options(tuning, self.random.bits())) {
            Ok((_, recovered)) => {
                for message in recovered {
                    self.faults
                        .push(format!("{} is queued again after everything was delivered", message.id));
                }
            }
            Err(error) => self.faults.push(format!("the spool cannot be opened in the end: {error}")),
        }
    }

    /// Turns everybody, and lets something happen before `limit`. False when nothing will.
    fn step(&mut self, limit: Instant) -> bool {
        if let Some(gateway) = &mut self.gateway {
            gateway.turn();
        }
        for destination in &mut self.destinations {
            destination.turn();
        }
        for clients in &mut self.clients {
            clients.turn();
        }
        self.events += 1;
        let events = self.events;
        let crashed = self.scenario.destination_crashes.iter().find(|(at, _)| *at == events).copied();
        if let Some((_, index)) = crashed {
            self.tell(format_args!("destination {index} loses power"));
            self.destinations[index].crash(&self.world);
        }
        self.world.step_until(limit)
    }

    fn is_latched(&self) -> bool {
        self.gateway.as_ref().is_some_and(|gateway| gateway.worker.spool.stats().latched)
    }

    fn restart_if_latched(&mut self) {
        if self.is_latched() {
            self.latched_at = Some(self.world.now());
            self.end(End::Kill);
            self.start_safely();
        }
    }

    fn start(&mut self, life: &Life) {
        if let Some(nth) = life.failing_change {
            self.world.fail_disk(GATEWAY, nth);
        }
        self.start_safely();
    }

    /// Starts; a failing disk may refuse it once, as it would an operator.
    fn start_safely(&mut self) {
        for _ in 0..2 {
            let random = Random::new(self.random.bits());
            match Gateway::start(&self.world, self.scenario.tuning, self.log(), random) {
                Ok(gateway) => {
                    self.tell(format_args!(
                        "the gateway starts with {} queued",
                        gateway.worker.delivery.queued_messages()
                    ));
                    self.faults.extend(gateway.damage.iter().cloned());
                    self.gateway = Some(gateway);
                    return;
                }
                Err(error) => self.tell(format_args!("the gateway does not start: {error}")),
            }
        }
        panic!("the gateway did not start twice in a row");
    }

    fn log(&self) -> EventLog {
        self.log.as_ref().map_or_else(EventLog::discarding, LogWriter::log)
    }

    fn end(&mut self, end: End) {
        let at = self.world.now();
        let since = self.latched_at.take().unwrap_or(at);
        let unrecorded_since = Instant(since.0.saturating_sub(OUTCOME_WINDOW.as_nanos() as u64));
        self.deaths.push(Death { unrecorded_since, at });
        self.tell(format_args!("the gateway dies: {end:?}"));
        if end == End::PowerCut {
            self.world.crash(GATEWAY);
        }
        self.gateway = None;
    }

    fn judge(mut self) -> Run {
        let mut ledger = Ledger::default();
        for clients in &mut self.clients {
            ledger.sent.append(&mut clients.sent);
            self.faults.append(&mut clients.faults);
        }
        let taken: Vec<&Taken> =
            self.destinations.iter().flat_map(|destination| &destination.taken).collect();
        ledger.arrivals = taken.iter().map(|taken| taken.arrival.clone()).collect();
        let report = ledger.check();
        self.faults.extend(unexcused(&taken, &self.deaths));
        self.faults.extend(wrong_bounces(&taken));
        self.tell(format_args!("{report}"));
        Run { report, faults: self.faults, digest: self.world.digest(), events: self.events }
    }
}

fn log_to_stdout() -> LogWriter {
    let registry = Registry::new(1, &[], 1);
    LogWriter::start(std::io::stdout(), Form::Json, "relay.example", &registry).expect("a thread starts")
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
