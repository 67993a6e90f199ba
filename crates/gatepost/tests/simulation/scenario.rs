//! What a seed stands for: the faults of the world, who sends what, and when the gateway dies.

use std::fmt;
use std::time::Duration;

use policy::RouteTls;
use ring::sim::SimOptions;
use testbed::random::Random;

use super::client::{Habits, Kind};
use super::gateway::Tuning;
use super::guard::Guard;
use super::shrink::Trim;

/// A family of faults. Its number in DESIGN.md S10 stands beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// A bit of everything.
    Mixed,
    /// 1: the process is killed at any moment.
    Kill,
    /// 2 and 3: the power goes, and of what was not flushed any part survives in any order.
    PowerCut,
    /// 4: the power goes in the middle of a chosen write, flush or rename.
    TornWrite,
    /// 5: bits flip in segments and bodies while the gateway is down.
    BitRot,
    /// 5: sectors cannot be read while it runs, and when it starts.
    ReadError,
    /// 6: a chosen change fails, or any one in five hundred, flushes among them.
    DiskError,
    /// 7: the spool and its file system fill up and are freed, again and again.
    DiskFull,
    /// 8: power cuts during recovery, rotation and recycling, several in a row.
    Recovery,
    /// 9: destinations die before, in and after the last dot, and their 250 is lost.
    Destination,
    /// 9: destinations that do harm with their replies, and get no storm of connections for it.
    Hostile,
    /// Destinations with TLS of every kind, good and bad, and routes that heed it or not.
    Tls,
    /// 10: clients drop, stall or reset at any byte.
    Client,
    /// 11: disks that stall for seconds, frozen processes, no descriptors, no memory for bodies.
    SlowHost,
    /// 12: drained and started again, in time or not, while the wall clock jumps.
    Drain,
    /// Strangers hold all they can: silent, byte by byte, from many addresses, at every port.
    Strangers,
}

impl Name {
    pub const ALL: [Self; 16] = [
        Self::Mixed,
        Self::Kill,
        Self::PowerCut,
        Self::TornWrite,
        Self::BitRot,
        Self::ReadError,
        Self::DiskError,
        Self::DiskFull,
        Self::Recovery,
        Self::Destination,
        Self::Hostile,
        Self::Tls,
        Self::Client,
        Self::SlowHost,
        Self::Drain,
        Self::Strangers,
    ];

    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Kill => "kill",
            Self::PowerCut => "power-cut",
            Self::TornWrite => "torn-write",
            Self::BitRot => "bit-rot",
            Self::ReadError => "read-error",
            Self::DiskError => "disk-error",
            Self::DiskFull => "disk-full",
            Self::Recovery => "recovery",
            Self::Destination => "destination",
            Self::Hostile => "hostile",
            Self::Tls => "tls",
            Self::Client => "client",
            Self::SlowHost => "slow-host",
            Self::Drain => "drain",
            Self::Strangers => "strangers",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.as_str() == text)
    }

    /// Where nothing else is asked for, seeds take turns.
    pub fn of_seed(seed: u64) -> Self {
        Self::ALL[(seed % Self::ALL.len() as u64) as usize]
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a life of the gateway ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host loses power: unsynced writes are lost, kept or torn.
    PowerCut,
    /// The process is killed; the host goes on.
    Kill,
    /// SIGTERM, and SIGKILL when it has not ended in time.
    Drain { grace: Duration },
}

/// A life of the gateway that does not last.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub end: End,
    /// It ends after so many events of the world: busy moments are likelier than quiet ones.
    pub events: u64,
    /// A change of its disk that fails, counted from its start.
    pub failing_change: Option<u64>,
    /// A change of its disk at which the power goes, likewise: those of recovery come first.
    pub fatal_change: Option<u64>,
    /// Sectors of its spool in which a bit flips after its end.
    pub rotten_sectors: u64,
    /// Until the next start.
    pub pause: Duration,
}

/// A fault at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    DestinationLosesPower(usize),
    /// No operation of the gateway's disk ends for so long.
    DiskFreezes(Duration),
    /// The gateway does not run for so long.
    ProcessFreezes(Duration),
    /// Nothing more goes onto the gateway's disk for so long.
    DiskFills(Duration),
    /// So many sectors of the spool can no longer be read.
    SectorsSpoil(u64),
    /// The wall clock is set.
    ClockJumps {
        millis: i64,
    },
}

/// A seed, spelled out.
#[derive(Debug)]
pub struct Scenario {
    pub name: Name,
    pub seed: u64,
    pub world: SimOptions,
    pub tuning: Tuning,
    pub habits: Vec<Habits>,
    pub lives: Vec<Life>,
    /// After so many events each.
    pub happenings: Vec<(u64, Happening)>,
    /// So much likelier than usual is it that a destination fails.
    pub unruliness: u64,
    /// Destinations mean harm.
    pub is_hostile: bool,
    /// The TLS of each destination.
    pub guards: [Guard; 3],
    /// How often the spool is filled until mail is turned away, and freed until mail is taken again.
    pub full_cycles: u64,
    /// Addresses of strangers who mean no mail, and connections that each wants to hold.
    pub strangers: u64,
    pub connections_each: u64,
}

impl Scenario {
    /// The scenario of `name` and `seed`, cut down to `trim`.
    pub fn of(name: Name, seed: u64, trim: &Trim) -> Self {
        let mut random = Random::new(seed ^ 0x6761_7465_706f_7374);
        let mut random = Random::new(random.bits() ^ name as u64);
        let mut scenario = Self::usual(name, seed, &mut random);
        scenario.specialise(&mut random);
        if scenario.habits.iter().any(|habits| habits.large_one_in > 0) {
            // A megabyte in single bytes would be most of what a thousand seeds cost.
            (scenario.world.piece_bytes_max, scenario.world.window_bytes) = (1 << 17, 1 << 18);
        }
        scenario.world.short_transfer_probability = [0.0, 0.02, 0.3][random.below(3) as usize];
        trim.apply(&mut scenario);
        scenario
    }

    /// A calm world with busy clients and small segments, in which one change of the gateway's disk fails.
    pub fn failing_change(nth: u64) -> Self {
        let life = Life {
            end: End::Kill,
            events: u64::MAX,
            failing_change: Some(nth),
            fatal_change: None,
            rotten_sectors: 0,
            pause: Duration::from_secs(1),
        };
        Self {
            name: Name::DiskError,
            seed: nth,
            world: calm(),
            tuning: Tuning {
                workers: 1,
                segment_bytes: 64 << 10,
                capacity_bytes: 32 << 20,
                hot_bytes_max: 1 << 20,
                places: 64,
                tls: RouteTls::Off,
            },
            habits: vec![Habits {
                clients: 6,
                messages_max: 6,
                body_bytes_max: 20_000,
                ..Habits::of(Kind::Trusted)
            }],
            lives: vec![life],
            happenings: Vec::new(),
            unruliness: 1,
            is_hostile: false,
            guards: [Guard::Absent; 3],
            full_cycles: 0,
            strangers: 0,
            connections_each: 0,
        }
    }

    fn usual(name: Name, seed: u64, random: &mut Random) -> Self {
        Self {
            name,
            seed,
            lives: (0..random.below(4)).map(|_| life(random)).collect(),
            world: world(random),
            tuning: Tuning {
                workers: if random.below(4) == 0 { 2 } else { 1 },
                segment_bytes: (64 << 10) << random.below(3),
                capacity_bytes: 32 << 20,
                hot_bytes_max: [0, 16 << 10, 1 << 20][random.below(3) as usize],
                // In some worlds clients want more places than there are.
                places: [64, 16, 8][(seed / Name::ALL.len() as u64 % 3) as usize],
                tls: RouteTls::Off,
            },
            habits: habits(random),
            happenings: (0..random.below(3))
                .map(|_| (random.below(6000), Happening::DestinationLosesPower(random.below(3) as usize)))
                .collect(),
            unruliness: 1,
            is_hostile: false,
            guards: [Guard::Absent; 3],
            full_cycles: 0,
            strangers: 0,
            connections_each: 0,
        }
    }

    fn specialise(&mut self, random: &mut Random) {
        match self.name {
            Name::Mixed => self.mix(random),
            Name::Kill => self.relive(random, 6, |_, _| End::Kill),
            Name::PowerCut => {
                self.world.names_are_ordered = random.below(2) == 0;
                self.relive(random, 6, |_, _| End::PowerCut);
            }
            Name::TornWrite => {
                self.relive(random, 5, |life, random| {
                    life.events = 4000;
                    life.fatal_change = Some(1 + random.below(60));
                    End::PowerCut
                });
            }
            Name::BitRot => self.relive(random, 4, |life, random| {
                life.rotten_sectors = random.below(4);
                if random.below(2) == 0 { End::Kill } else { End::PowerCut }
            }),
            Name::ReadError => {
                self.tuning.hot_bytes_max = 0;
                self.happen(random, 4, |random| Happening::SectorsSpoil(1 + random.below(4)));
            }
            Name::DiskError => {
                self.world.write_error_probability = [0.0, 0.002][random.below(2) as usize];
                self.relive(random, 5, |life, random| {
                    life.failing_change = Some(1 + random.below(80));
                    if random.below(2) == 0 { End::Kill } else { End::PowerCut }
                });
            }
            Name::DiskFull => self.fill(random),
            Name::Recovery => self.die_young(random),
            Name::Destination => {
                self.unruliness = 2 + random.below(6);
                self.happen(random, 8, |random| Happening::DestinationLosesPower(random.below(3) as usize));
            }
            Name::Hostile => {
                self.is_hostile = true;
                // What fails before a destination can do harm lets its site rest, and hides a storm: names
                // are resolved at once too.
                (self.world.refuse_probability, self.world.reset_probability) = (0.0, 0.0);
                // Who is out of step may give one recipient another's refusal, were there one, and no
                // longer says what it takes.
                self.habits.iter_mut().for_each(|habits| habits.has_refusable = false);
                self.seal(random);
            }
            Name::Tls => self.seal(random),
            Name::Client => {
                for habits in &mut self.habits {
                    habits.accident_one_in = 2;
                }
            }
            Name::SlowHost => self.slow_down(random),
            Name::Drain => {
                self.happen(random, 4, clock_jump);
                self.relive(random, 5, |_, random| {
                    let grace = Duration::from_millis([0, 50, 2_000, 60_000][random.below(4) as usize]);
                    End::Drain { grace }
                });
            }
            Name::Strangers => self.besiege(random),
        }
    }

    /// Destinations with TLS of any kind, and a route that heeds it or not.
    fn seal(&mut self, random: &mut Random) {
        const POLICIES: [RouteTls; 3] = [RouteTls::Off, RouteTls::Opportunistic, RouteTls::Required];
        self.tuning.tls = POLICIES[random.below(3) as usize];
        self.guards = std::array::from_fn(|_| Guard::any(random));
    }

    /// Whether destinations may have TLS.
    pub fn has_tls(&self) -> bool {
        matches!(self.name, Name::Tls | Name::Hostile)
    }

    /// As many lives of this kind as the seed says, one at least.
    fn relive(
        &mut self,
        random: &mut Random,
        lives_max: u64,
        mut change: impl FnMut(&mut Life, &mut Random) -> End,
    ) {
        self.lives = (0..1 + random.below(lives_max))
            .map(|_| {
                let mut life = life(random);
                life.failing_change = None;
                life.end = change(&mut life, random);
                life
            })
            .collect();
    }

    fn happen(
        &mut self,
        random: &mut Random,
        times_max: u64,
        mut what: impl FnMut(&mut Random) -> Happening,
    ) {
        for _ in 0..1 + random.below(times_max) {
            self.happenings.push((random.below(4000), what(random)));
        }
    }

    /// At most one of the others beside what is usual.
    fn mix(&mut self, random: &mut Random) {
        match random.below(8) {
            0 => self.happen(random, 2, clock_jump),
            1 => self.happen(random, 2, |random| Happening::DiskFreezes(up_to_seconds(random, 8))),
            2 => self.happen(random, 2, |random| Happening::ProcessFreezes(up_to_seconds(random, 30))),
            3 => self.happen(random, 2, |random| Happening::DiskFills(up_to_seconds(random, 30))),
            4 => self.habits.iter_mut().for_each(|habits| habits.accident_one_in = 6),
            5 => self.unruliness = 3,
            _ => {}
        }
    }

    /// A small spool and clients that do not give up.
    fn fill(&mut self, random: &mut Random) {
        self.full_cycles = 4 + random.below(8);
        self.tuning.workers = 1;
        // As a message of a few hundred kilobytes is to a segment of a real spool.
        self.tuning.segment_bytes = 128 << 10;
        self.tuning.capacity_bytes = (5 + random.below(4)) * self.tuning.segment_bytes;
        (self.world.piece_bytes_max, self.world.window_bytes) = (1 << 17, 1 << 18);
        self.lives.truncate(1);
        self.happen(random, 3, |random| Happening::DiskFills(up_to_seconds(random, 30)));
        self.habits = vec![Habits {
            clients: 2 + random.below(3),
            messages_max: u64::MAX,
            attempts_max: u32::MAX,
            body_bytes_max: 24_000,
            pause_max: Duration::from_secs(8),
            ..Habits::of(Kind::Trusted)
        }];
    }

    /// A calm world but for strangers, who want more than there is: few of them much, or many of them a little.
    fn besiege(&mut self, random: &mut Random) {
        self.lives.clear();
        self.happenings.clear();
        self.world = calm();
        self.tuning.places = 32 << random.below(2);
        self.strangers = [1, 3, 12, 100][random.below(4) as usize];
        self.connections_each = (3 * u64::from(self.tuning.places) / self.strangers).max(1);
        // Minutes of it: longer than any patience.
        let pause_max = Duration::from_secs(60);
        self.habits = vec![
            Habits { clients: 3, messages_max: 4, pause_max, ..Habits::of(Kind::Trusted) },
            Habits { clients: 3, messages_max: 4, pause_max, ..Habits::of(Kind::Roaming) },
        ];
    }

    /// Segments that are soon full and soon used again, and power cuts at any of their changes. Every
    /// other life does not get far.
    fn die_young(&mut self, random: &mut Random) {
        self.tuning.segment_bytes = 64 << 10;
        (self.world.piece_bytes_max, self.world.window_bytes) = (1 << 17, 1 << 18);
        self.habits[0] =
            Habits { clients: 4, messages_max: 12, body_bytes_max: 45_000, ..Habits::of(Kind::Trusted) };
        self.relive(random, 9, |life, random| {
            let furthest = [8, 200][random.below(2) as usize];
            life.fatal_change = Some(1 + random.below(furthest));
            life.events = random.below(8000);
            life.pause = Duration::ZERO;
            End::PowerCut
        });
    }

    fn slow_down(&mut self, random: &mut Random) {
        self.tuning.hot_bytes_max = 0;
        self.world.disk_stall_probability = [0.0, 0.01, 0.1][random.below(3) as usize];
        self.world.disk_stall_max = Duration::from_secs(5);
        self.world.descriptor_error_probability = [0.0, 0.01, 0.05][random.below(3) as usize];
        self.world.accept_error_probability = 0.05;
        self.happen(random, 2, |random| Happening::DiskFreezes(up_to_seconds(random, 20)));
        self.happen(random, 2, |random| Happening::ProcessFreezes(up_to_seconds(random, 400)));
        // Killed while the disk stands still, and started again before what was under way has landed.
        if let Some(first) = self.lives.first_mut().filter(|_| random.below(2) == 0) {
            (first.end, first.pause) = (End::Kill, up_to_seconds(random, 2));
            let frozen = first.events.saturating_sub(random.below(60));
            self.happenings.push((frozen, Happening::DiskFreezes(up_to_seconds(random, 20))));
        }
    }

    /// From a destination's 250 that was read to the outcome on the disk, at most: a few writes, each stalled.
    pub fn outcome_window(&self) -> Duration {
        let frozen: Duration = (self.happenings.iter())
            .map(|(_, happening)| match happening {
                Happening::DiskFreezes(time) | Happening::ProcessFreezes(time) => *time,
                // An outcome that finds no room waits for it.
                Happening::DiskFills(time) => *time,
                _ => Duration::ZERO,
            })
            .sum();
        let stalls = self.world.disk_stall_probability > 0.0;
        let stalled = if stalls { 4 * self.world.disk_stall_max } else { Duration::ZERO };
        Duration::from_secs(3) + frozen + stalled
    }
}

fn up_to_seconds(random: &mut Random, most: u64) -> Duration {
    Duration::from_millis(random.below(most * 1000))
}

/// By up to a day, forth or back: mail does not expire by it.
fn clock_jump(random: &mut Random) -> Happening {
    let longest = [2_000, 600_000, 86_400_000][random.below(3) as usize];
    let millis = random.below(longest) as i64;
    Happening::ClockJumps { millis: if random.below(2) == 0 { millis } else { -millis } }
}

fn life(random: &mut Random) -> Life {
    let longest = 60 << random.below(7);
    Life {
        end: if random.below(4) == 0 { End::Kill } else { End::PowerCut },
        events: random.below(longest),
        failing_change: (random.below(6) == 0).then(|| 1 + random.below(80)),
        fatal_change: None,
        rotten_sectors: 0,
        pause: Duration::from_micros(random.below(6_000_000)),
    }
}

fn habits(random: &mut Random) -> Vec<Habits> {
    let body_bytes_max = [200, 3000, 20_000][random.below(3) as usize];
    let mut habits = vec![Habits {
        clients: 1 + random.below(6),
        messages_max: 1 + random.below(6),
        body_bytes_max,
        large_one_in: if random.below(30) == 0 { 4 } else { 0 },
        ..Habits::of(Kind::Trusted)
    }];
    if random.below(2) == 0 {
        let clients = 1 + random.below(2);
        habits.push(Habits { clients, body_bytes_max, ..Habits::of(Kind::Roaming) });
    }
    if random.below(4) == 0 {
        habits.push(Habits { body_bytes_max, ..Habits::of(Kind::Stranger) });
    }
    habits
}

fn world(random: &mut Random) -> SimOptions {
    let mut one_of = |choices: [f64; 3]| choices[random.below(3) as usize];
    SimOptions {
        stall_probability: one_of([0.0, 0.01, 0.05]),
        stall_max: Duration::from_millis(400),
        reset_probability: one_of([0.0, 0.0005, 0.004]),
        refuse_probability: one_of([0.0, 0.02, 0.1]),
        accept_error_probability: one_of([0.0, 0.01, 0.05]),
        piece_bytes_max: one_of([512.0, 4096.0, 16_384.0]) as usize,
        window_bytes: one_of([4096.0, 16_384.0, 131_072.0]) as usize,
        ..SimOptions::default()
    }
}

/// A world in which nothing goes wrong any more, to let a run come to rest.
pub fn calm() -> SimOptions {
    SimOptions::default()
}
