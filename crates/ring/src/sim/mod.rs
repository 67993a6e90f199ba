//! A world driven by a seed: virtual time, a network between hosts, and a disk for each of them.
//!
//! A [`World`] makes a [`SimRing`] for each process of each host. The harness drives: it turns every
//! ring, calls [`World::step`], and turns every ring again. A turn never blocks and takes no virtual
//! time; the deadline it is given is one of the moments to which the world steps.
//!
//! Promises: a run is a function of its seed, its options and what the rings are asked to do, and
//! [`World::digest`] tells two runs apart; what was durable survives [`World::crash`] and what was
//! not is lost, kept or torn as the seed has it. Fails as a host would, with the error numbers of Linux.

mod course;
mod disk;
mod endpoint;
mod faults;
mod inode;
mod network;
mod operation;
mod random;
mod ring;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use self::course::{Course, Event, RingState, Step};
use self::disk::{HostDisk, InodeId};
pub use self::faults::Rot;
use self::network::Network;
use self::operation::Operation;
use self::random::Random;
pub use self::ring::SimRing;
use crate::{Instant, OpenMode};

/// What can go wrong in a world, and how slow it is. Probabilities are from 0 to 1.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// The least and the most time that a piece of a stream travels between two hosts.
    pub network_latency: (Duration, Duration),
    /// The least and the most time that a file operation takes.
    pub disk_latency: (Duration, Duration),
    /// That a piece of a stream, or a file operation, takes up to [`SimOptions::stall_max`] longer.
    pub stall_probability: f64,
    /// How long a stall may last.
    pub stall_max: Duration,
    /// That a file operation takes up to [`SimOptions::disk_stall_max`] longer.
    pub disk_stall_probability: f64,
    /// How long a stall of a disk may last.
    pub disk_stall_max: Duration,
    /// The largest piece in which a stream arrives; most are smaller, some are single bytes.
    pub piece_bytes_max: usize,
    /// What one direction of a connection holds before its sender waits.
    pub window_bytes: usize,
    /// That a piece of a stream breaks its connection on the way.
    pub reset_probability: f64,
    /// That a connection is refused although a server listens.
    pub refuse_probability: f64,
    /// That accepting stops for want of descriptors ([`crate::Completion::AcceptPaused`]).
    pub accept_error_probability: f64,
    /// That a step of a read or write of a file serves only part of what is left of it: of a direct file
    /// any number of sectors from a block on, of another any number of bytes.
    pub short_transfer_probability: f64,
    /// That a connection or an opened file finds no descriptor (EMFILE).
    pub descriptor_error_probability: f64,
    /// Names survive a power cut in the order of their changes, as a journal keeps them. Else each
    /// change of a directory that was not synced is lost or kept by itself.
    pub names_are_ordered: bool,
    /// That a write, allocation, flush, rename, creation or removal fails with EIO, what is on the
    /// disk then being unknown.
    pub write_error_probability: f64,
    /// The size of each host's disk in bytes; past it, ENOSPC.
    pub disk_capacity_bytes: u64,
}

impl Default for SimOptions {
    /// A world without faults, with a quick network and disk.
    fn default() -> Self {
        Self {
            network_latency: (Duration::from_micros(50), Duration::from_millis(3)),
            disk_latency: (Duration::from_micros(50), Duration::from_micros(800)),
            stall_probability: 0.0,
            stall_max: Duration::from_secs(2),
            disk_stall_probability: 0.0,
            disk_stall_max: Duration::from_secs(20),
            piece_bytes_max: 16 * 1024,
            window_bytes: 128 * 1024,
            reset_probability: 0.0,
            refuse_probability: 0.0,
            accept_error_probability: 0.0,
            short_transfer_probability: 0.0,
            descriptor_error_probability: 0.0,
            names_are_ordered: true,
            write_error_probability: 0.0,
            disk_capacity_bytes: 1 << 40,
        }
    }
}

/// A simulated world; a clone is another handle to the same one.
#[derive(Clone, Debug)]
pub struct World(Rc<RefCell<State>>);

impl World {
    /// A world without hosts in which everything follows from `seed`.
    #[must_use]
    pub fn new(seed: u64, options: SimOptions) -> Self {
        Self(Rc::new(RefCell::new(State {
            course: Course::new(seed, options),
            network: Network::default(),
            disks: BTreeMap::new(),
            files: BTreeMap::new(),
            operations: BTreeMap::new(),
        })))
    }

    /// Starts a process on a host, on the disk that this host has (an empty one the first time). Several
    /// may run on a host. Dropping the ring kills the process: its connections close, what it wrote stays,
    /// and what it had asked of the disk still happens; as long as that takes its locks stay.
    #[must_use]
    pub fn host(&self, ip: IpAddr) -> SimRing {
        let state = &mut *self.0.borrow_mut();
        state.host_disk(ip);
        let course = &mut state.course;
        let (id, clocks) = (course.next_id(), (course.now, course.unix_millis()));
        let woken = Arc::new(AtomicBool::new(false));
        course.rings.insert(id, RingState::new(ip, course.now, Arc::clone(&woken)));
        SimRing::new(self.clone(), id, clocks, woken)
    }

    /// Cuts a host's power: its processes are gone (their rings answer nothing any more), its
    /// connections are reset, and of what was not durable on its disk the seed leaves some.
    pub fn crash(&self, ip: IpAddr) {
        self.0.borrow_mut().cut_power(ip);
    }

    /// Lets time pass until something happens: one event, or a moment that a ring waits for. A ring
    /// that was handed completions is due again at once. False when nothing will ever happen.
    pub fn step(&self) -> bool {
        self.0.borrow_mut().step(None)
    }

    /// The same, but not beyond `limit`: when nothing is due until then, time becomes `limit` and
    /// this gives false. `while world.step_until(limit) { turn every ring }` drives up to a moment.
    pub fn step_until(&self, limit: Instant) -> bool {
        self.0.borrow_mut().step(Some(limit))
    }

    /// The time of this world.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.borrow().course.now
    }

    /// The wall clock of this world, in milliseconds since 1970.
    #[must_use]
    pub fn unix_millis(&self) -> u64 {
        self.0.borrow().course.unix_millis()
    }

    /// For the harness's own choices, a number below `limit` from the seed (0 when the limit is 0).
    #[must_use]
    pub fn random(&self, limit: u64) -> u64 {
        self.0.borrow_mut().course.random.below(limit)
    }

    /// A hash of everything that has happened: equal for two runs that were the same.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.0.borrow().course.digest
    }

    /// Changes what can go wrong from now on, to let a run come to rest. Disks keep their size.
    pub fn set_options(&self, options: SimOptions) {
        self.0.borrow_mut().course.options = options;
    }

    /// Takes a directory away with all names in it, as another process on the host may: files that are open stay so.
    pub fn remove_tree(&self, ip: IpAddr, path: &Path) {
        self.with_disk(ip, |disk, _| disk.remove_tree(path));
    }

    /// Changes the size of a host's disk; below what it holds, nothing more goes in.
    pub fn set_disk_capacity(&self, ip: IpAddr, bytes: u64) {
        self.with_disk(ip, |disk, _| disk.capacity_bytes = bytes);
    }

    /// Makes the `nth` change (1: the next) of a host's disk fail with EIO, once: a write, allocation,
    /// flush, rename, creation or removal.
    pub fn fail_disk(&self, ip: IpAddr, nth: u64) {
        self.with_disk(ip, |disk, _| disk.faults.fails_in = Some(nth));
    }

    /// Cuts a host's power as [`World::crash`] does, in the middle of the `nth` change (1: the next) of
    /// its disk, blocking ones included: recovery, rotation and recycling can be met at each of their
    /// steps. [`World::power_cuts`] tells that it has happened; another power cut calls it off.
    pub fn crash_at_change(&self, ip: IpAddr, nth: u64) {
        self.with_disk(ip, |disk, _| disk.faults.dies_in = Some(nth));
    }

    /// Calls off what [`World::fail_disk`] and [`World::crash_at_change`] have planned.
    pub fn spare_disk(&self, ip: IpAddr) {
        self.with_disk(ip, |disk, _| (disk.faults.fails_in, disk.faults.dies_in) = (None, None));
    }

    /// Connections to a host that were asked for, whatever came of them.
    #[must_use]
    pub fn connects(&self, to: IpAddr) -> u64 {
        self.0.borrow().network.connects.get(&to).copied().unwrap_or(0)
    }

    /// How often a host has lost its power.
    #[must_use]
    pub fn power_cuts(&self, ip: IpAddr) -> u64 {
        self.0.borrow().disks.get(&ip).map_or(0, |disk| disk.faults.power_cuts)
    }

    /// No operation of a ring on this host's disk ends before `until`.
    pub fn freeze_disk(&self, ip: IpAddr, until: Instant) {
        self.with_disk(ip, |disk, _| disk.faults.frozen_until = Some(until));
    }

    /// Makes up to `count` sectors of the files that are meant unreadable (EIO) until they are written
    /// again or [`World::heal_disk`] is called; the seed chooses among those that hold something. Gives
    /// their files.
    pub fn spoil_sectors(&self, ip: IpAddr, count: u64, is_meant: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        let mut files = Vec::new();
        self.with_disk(ip, |disk, random| files = disk.spoil(count, &is_meant, random));
        files
    }

    /// Every sector can be read again.
    pub fn heal_disk(&self, ip: IpAddr) {
        self.with_disk(ip, |disk, _| disk.faults.read_again());
    }

    /// Flips a bit in each of up to `count` sectors of the files that are meant; says where.
    pub fn rot_sectors(&self, ip: IpAddr, count: u64, is_meant: impl Fn(&Path) -> bool) -> Vec<Rot> {
        let mut rotten = Vec::new();
        self.with_disk(ip, |disk, random| rotten = disk.rot(count, &is_meant, random));
        rotten
    }

    /// Sets every host's wall clock forward by so many milliseconds, or back. The monotonic one goes on.
    pub fn jump_wall_clock(&self, millis: i64) {
        self.0.borrow_mut().course.wall_jumps_millis += millis;
    }

    /// The disk of a host is there before its first process: a fault may be planned for that one's start.
    fn with_disk(&self, ip: IpAddr, change: impl FnOnce(&mut HostDisk, &mut Random)) {
        let state = &mut *self.0.borrow_mut();
        let (disk, random) = state.host_disk(ip);
        change(disk, random);
    }
}

#[derive(Debug)]
struct OpenFile {
    ring: u32,
    ip: IpAddr,
    inode: InodeId,
    mode: OpenMode,
}

/// Ordered maps throughout: what is iterated must not depend on a hash.
#[derive(Debug)]
struct State {
    course: Course,
    network: Network,
    disks: BTreeMap<IpAddr, HostDisk>,
    files: BTreeMap<u32, OpenFile>,
    operations: BTreeMap<u32, Operation>,
}

impl State {
    fn host_disk(&mut self, ip: IpAddr) -> (&mut HostDisk, &mut Random) {
        let capacity_bytes = self.course.options.disk_capacity_bytes;
        let disk = self.disks.entry(ip).or_insert_with(|| HostDisk::new(capacity_bytes));
        (disk, &mut self.course.random)
    }

    /// The host is dark: its processes are gone, and with them what was not durable.
    fn cut_power(&mut self, ip: IpAddr) {
        let Self { course, network, .. } = self;
        let rings: Vec<u32> = (course.rings.iter()).filter(|(_, r)| r.ip == ip).map(|(id, _)| *id).collect();
        for ring in &rings {
            network.cut_connections(course, *ring);
            course.rings.remove(ring);
        }
        self.crash_disk(ip);
        self.course.note(&[7, u64::from(rings.len() as u32)]);
    }

    fn step(&mut self, limit: Option<Instant>) -> bool {
        match self.course.step(limit) {
            Step::Over => return false,
            Step::Due => {}
            Step::Event(Event::Network(event)) => self.network.event(&mut self.course, event),
            Step::Event(Event::Disk(operation)) => self.operation_due(operation),
        }
        true
    }
}
