//! From a failing run to a smaller one: the same seed, with less of everything.
//!
//! A [`Trim`] puts a ceiling on some numbers of a scenario. A shrunk failure is another run of the same
//! seed, and is replayed with its trim: `cargo xtask sim --scenario kill --seed 7 --trim clients=1,lives=1`.

use std::fmt;

use super::scenario::{Name, Scenario};

/// Runs that shrinking may cost.
const RUNS_MAX: usize = 300;

/// A number of a scenario that can be made smaller.
struct Knob {
    name: &'static str,
    get: fn(&Scenario) -> u64,
    cap: fn(&mut Scenario, u64),
}

/// A probability is there or not.
macro_rules! chance {
    ($name:literal, $($field:ident).+) => {
        Knob {
            name: $name,
            get: |scenario| u64::from(scenario.$($field).+ > 0.0),
            cap: |scenario, most| {
                if most == 0 {
                    scenario.$($field).+ = 0.0;
                }
            },
        }
    };
}

/// A number of every client host.
macro_rules! habit {
    ($name:literal, $field:ident) => {
        Knob {
            name: $name,
            get: |scenario| scenario.habits.iter().map(|habits| habits.$field).max().unwrap_or(0),
            cap: |scenario, most| {
                for habits in &mut scenario.habits {
                    habits.$field = habits.$field.min(most);
                }
            },
        }
    };
}

/// In the order in which they are tried: what makes a run shorter comes first.
const KNOBS: &[Knob] = &[
    Knob {
        name: "lives",
        get: |scenario| scenario.lives.len() as u64,
        cap: |scenario, most| scenario.lives.truncate(most as usize),
    },
    Knob { name: "strangers", get: |s| s.strangers, cap: |s, most| s.strangers = s.strangers.min(most) },
    Knob { name: "cycles", get: |s| s.full_cycles, cap: |s, most| s.full_cycles = s.full_cycles.min(most) },
    Knob {
        name: "hosts",
        get: |scenario| scenario.habits.len() as u64,
        cap: |scenario, most| scenario.habits.truncate(most.max(1) as usize),
    },
    habit!("clients", clients),
    habit!("messages", messages_max),
    Knob {
        name: "happenings",
        get: |scenario| scenario.happenings.len() as u64,
        cap: |scenario, most| scenario.happenings.truncate(most as usize),
    },
    Knob {
        name: "workers",
        get: |scenario| scenario.tuning.workers as u64 - 1,
        cap: |scenario, most| scenario.tuning.workers = scenario.tuning.workers.min(most as usize + 1),
    },
    Knob {
        name: "hostile",
        get: |scenario| u64::from(scenario.is_hostile),
        cap: |scenario, most| scenario.is_hostile &= most > 0,
    },
    habit!("large", large_one_in),
    habit!("accidents", accident_one_in),
    chance!("resets", world.reset_probability),
    chance!("refusals", world.refuse_probability),
    chance!("accept-errors", world.accept_error_probability),
    chance!("stalls", world.stall_probability),
    chance!("disk-stalls", world.disk_stall_probability),
    chance!("short-transfers", world.short_transfer_probability),
    chance!("write-errors", world.write_error_probability),
    chance!("descriptor-errors", world.descriptor_error_probability),
    Knob {
        name: "events",
        get: |scenario| scenario.lives.iter().map(|life| life.events).max().unwrap_or(0),
        cap: |scenario, most| scenario.lives.iter_mut().for_each(|life| life.events = life.events.min(most)),
    },
    habit!("body", body_bytes_max),
];

/// Ceilings for some knobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trim(Vec<(&'static str, u64)>);

impl Trim {
    /// Reads `clients=1,lives=2`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut trim = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, most) = part.split_once('=')?;
            let knob = KNOBS.iter().find(|knob| knob.name == name)?;
            trim = trim.with(knob, most.parse().ok()?);
        }
        Some(trim)
    }

    pub fn apply(&self, scenario: &mut Scenario) {
        for (name, most) in &self.0 {
            if let Some(knob) = KNOBS.iter().find(|knob| knob.name == *name) {
                (knob.cap)(scenario, *most);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn with(&self, knob: &Knob, most: u64) -> Self {
        let others = self.0.iter().filter(|(name, _)| *name != knob.name);
        Self(others.copied().chain([(knob.name, most)]).collect())
    }
}

impl fmt::Display for Trim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(name, most)| format!("{name}={most}")).collect();
        f.write_str(&parts.join(","))
    }
}

/// The smallest trim found under which `fails` still holds: each knob turned down as far as it goes,
/// until none goes further.
pub fn shrink(name: Name, seed: u64, mut fails: impl FnMut(&Trim) -> bool) -> Trim {
    let mut trim = Trim::default();
    let mut runs = 0;
    loop {
        let before = trim.clone();
        for knob in KNOBS {
            loop {
                let now = (knob.get)(&Scenario::of(name, seed, &trim));
                let smaller = [0, now / 2, now.saturating_sub(1)].into_iter().filter(|most| *most < now);
                let found = smaller.map(|most| trim.with(knob, most)).find(|smaller| {
                    runs += 1;
                    runs <= RUNS_MAX && is_smaller(knob, name, seed, smaller, now) && fails(smaller)
                });
                match found {
                    Some(smaller) => trim = smaller,
                    None => break,
                }
            }
        }
        if trim == before || runs > RUNS_MAX {
            return trim;
        }
    }
}

/// Some knobs have a least value.
fn is_smaller(knob: &Knob, name: Name, seed: u64, trim: &Trim, now: u64) -> bool {
    (knob.get)(&Scenario::of(name, seed, trim)) < now
}
