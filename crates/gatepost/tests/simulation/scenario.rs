//! What a seed stands for: the faults of the world, who sends what, and when the gateway dies.

use std::time::Duration;

use ring::sim::SimOptions;
use testbed::random::Random;

use super::client::{Habits, Kind};
use super::gateway::Tuning;

/// How a life of the gateway ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host loses power: unsynced writes are lost, kept or torn.
    PowerCut,
    /// The process is killed; the host goes on.
    Kill,
}

/// A life of the gateway that does not last.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub end: End,
    /// It ends after so many events of the world: busy moments are likelier than quiet ones.
    pub events: u64,
    /// A change of its disk that fails.
    pub failing_change: Option<u64>,
    /// Until the next start.
    pub pause: Duration,
}

/// A seed, spelled out.
#[derive(Debug)]
pub struct Scenario {
    pub seed: u64,
    pub world: SimOptions,
    pub tuning: Tuning,
    pub habits: Vec<Habits>,
    pub lives: Vec<Life>,
    /// A destination loses power after each of these numbers of events.
    pub destination_crashes: Vec<(u64, usize)>,
}

impl Scenario {
    /// The scenario of `seed`.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6761_7465_706f_7374);
        let mut random = Random::new(random.bits());
        let lives = (0..random.below(4)).map(|_| life(&mut random)).collect();
        let mut world = world(&mut random);
        let habits = habits(&mut random);
        if habits.iter().any(|habits| habits.large_one_in > 0) {
            // A megabyte in single bytes would be most of what a thousand seeds cost.
            (world.piece_bytes_max, world.window_bytes) = (1 << 17, 1 << 18);
        }
        Self {
            seed,
            world,
            tuning: Tuning {
                segment_bytes: (64 << 10) << random.below(3),
                capacity_bytes: 32 << 20,
                hot_bytes_max: [0, 16 << 10, 1 << 20][random.below(3) as usize],
            },
            habits,
            lives,
            destination_crashes: (0..random.below(3))
                .map(|_| (random.below(6000), random.below(3) as usize))
                .collect(),
        }
    }
}

fn life(random: &mut Random) -> Life {
    let longest = 60 << random.below(7);
    Life {
        end: if random.below(4) == 0 { End::Kill } else { End::PowerCut },
        events: random.below(longest),
        failing_change: (random.below(6) == 0).then(|| 1 + random.below(80)),
        pause: Duration::from_micros(random.below(6_000_000)),
    }
}

fn habits(random: &mut Random) -> Vec<Habits> {
    let body_bytes_max = [200, 3000, 20_000][random.below(3) as usize];
    let mut habits = vec![Habits {
        kind: Kind::Trusted,
        clients: 1 + random.below(6),
        messages_max: 1 + random.below(6),
        body_bytes_max,
        large_one_in: if random.below(30) == 0 { 4 } else { 0 },
    }];
    if random.below(2) == 0 {
        let clients = 1 + random.below(2);
        habits.push(Habits {
            kind: Kind::Roaming,
            clients,
            messages_max: 2,
            body_bytes_max,
            large_one_in: 0,
        });
    }
    if random.below(4) == 0 {
        habits.push(Habits {
            kind: Kind::Stranger,
            clients: 1,
            messages_max: 2,
            body_bytes_max,
            large_one_in: 0,
        });
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
