//! Faults at their moments.

use std::collections::BTreeSet;
use std::path::Path;

use ring::sim::Rot;
use ring::{BLOCK_BYTES, Instant};
use testbed::segment;

use super::scenario::{self, Happening};
use super::{GATEWAY, Simulation};

/// Files of the spool that hold mail: what else lies there is laid out once and not written again.
fn holds_mail(path: &Path) -> bool {
    holds_groups(path) || begins(path, "large-")
}

fn holds_groups(path: &Path) -> bool {
    begins(path, "segment-")
}

fn begins(path: &Path, with: &str) -> bool {
    path.file_name().unwrap_or_default().to_string_lossy().starts_with(with)
}

/// The messages that may be lost by it: those of its group, or of all where no group can be trusted.
fn hit(rot: &Rot) -> BTreeSet<u64> {
    let in_header = rot.at < BLOCK_BYTES;
    if in_header || !holds_groups(&rot.path) {
        return segment::serials(&rot.before);
    }
    let groups = segment::groups(&rot.before).into_iter();
    groups.filter(|group| group.bytes.contains(&rot.at)).flat_map(|group| group.serials).collect()
}

impl Simulation {
    /// Whatever is due at this event, and the end of what lasts.
    pub(super) fn happen(&mut self) {
        let events = self.events;
        let due: Vec<Happening> = (self.scenario.happenings.iter())
            .filter_map(|(at, happening)| (*at == events).then_some(*happening))
            .collect();
        for happening in due {
            self.tell(format_args!("{happening:?}"));
            self.make(happening);
        }
        if self.roomy_at.is_some_and(|at| at <= self.world.now()) {
            self.make_room();
        }
    }

    fn make(&mut self, happening: Happening) {
        let now = self.world.now();
        match happening {
            Happening::DestinationLosesPower(index) => self.destinations[index].crash(&self.world),
            Happening::DiskFreezes(time) => self.world.freeze_disk(GATEWAY, now.after(time)),
            Happening::ProcessFreezes(time) => {
                self.frozen_until = self.gateway.is_some().then(|| now.after(time));
            }
            Happening::DiskFills(time) => self.take_room(Some(now.after(time))),
            Happening::SectorsSpoil(count) => {
                self.world.spoil_sectors(GATEWAY, count, holds_mail);
            }
            Happening::ClockJumps { millis } => {
                self.clock_jumps += 1;
                self.world.jump_wall_clock(millis);
            }
        }
    }

    /// Another program fills the gateway's disk.
    pub(super) fn take_room(&mut self, until: Option<Instant>) {
        self.world.set_disk_capacity(GATEWAY, 0);
        self.roomy_at = until;
    }

    pub(super) fn make_room(&mut self) {
        self.world.set_disk_capacity(GATEWAY, scenario::calm().disk_capacity_bytes);
        self.roomy_at = None;
    }

    /// Bits flip in the spool.
    pub(super) fn rot(&mut self, sectors: u64) {
        for rot in self.world.rot_sectors(GATEWAY, sectors, holds_mail) {
            self.has_rotted = true;
            self.tell(format_args!("a bit flips in {}, byte {}", rot.path.display(), rot.at));
            self.rotten.extend(hit(&rot));
        }
    }

    /// From here on nothing goes wrong.
    pub(super) fn be_calm(&mut self) {
        self.world.set_options(scenario::calm());
        self.world.spare_disk(GATEWAY);
        self.world.heal_disk(GATEWAY);
        self.world.freeze_disk(GATEWAY, self.world.now());
        self.make_room();
        self.scenario.happenings.clear();
        self.frozen_until = None;
        for destination in &mut self.destinations {
            destination.is_calm = true;
            destination.is_closed = false;
        }
        for clients in &mut self.clients {
            clients.have_no_accidents();
        }
    }
}
