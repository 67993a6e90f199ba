//! File operations: each takes a while, fails when the seed says so, and is maimed by a crash on its way.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::course::{Event, Owner, Ready};
use super::disk::{HostDisk, InodeId, errno};
use super::faults::Turn;
use super::inode::SECTOR_BYTES;
use super::random::Random;
use super::{OpenFile, State};
use crate::request::{FileRequest, Source};
use crate::transfer::Transfer;
use crate::{AlignedBuffer, BLOCK_BYTES, Completion, Durability, File, OpenMode, Token};

#[derive(Debug)]
pub(super) struct Operation {
    ring: u32,
    ip: IpAddr,
    token: Token,
    /// The file it is on: held until the operation ends.
    file: Option<(File, InodeId)>,
    action: Action,
    /// The sequence at its start: a flush covers what was written before it.
    started: u64,
    /// No thread waits for it: it goes on when its process has ended.
    is_left_to_the_device: bool,
}

#[derive(Debug)]
pub(super) enum Action {
    Open { path: PathBuf, mode: OpenMode },
    Write { transfer: Transfer, source: Source, range: Range<usize>, durability: Durability },
    Read { transfer: Transfer, buffer: AlignedBuffer, range: Range<usize> },
    Allocate { length: u64 },
    Sync,
    Rename { from: PathBuf, to: PathBuf },
    SyncDirectory { path: PathBuf },
    Remove { path: PathBuf },
    RemoveDirectory { path: PathBuf },
    Identify { path: PathBuf },
}

/// What a step of an operation comes to.
enum Step {
    /// There is another one.
    Again,
    /// The bytes moved, and the file opened.
    Done(usize, Option<File>),
}

impl Step {
    fn of(moved: Option<usize>) -> Self {
        moved.map_or(Self::Again, |moved| Self::Done(moved, None))
    }
}

impl Action {
    /// `direct`: the file that it is about was opened so.
    fn new(request: FileRequest<'_>, direct: bool) -> Self {
        match request {
            FileRequest::Open { path, mode } => Self::Open { path: path.to_path_buf(), mode },
            FileRequest::Write { offset, source, range, durability, .. } => {
                let transfer = Transfer::new(offset, range.len(), direct);
                Self::Write { transfer, source, range, durability }
            }
            FileRequest::Read { offset, buffer, range, .. } => {
                Self::Read { transfer: Transfer::new(offset, range.len(), direct), buffer, range }
            }
            FileRequest::Allocate { length, .. } => Self::Allocate { length },
            FileRequest::Sync { .. } => Self::Sync,
            FileRequest::Rename { from, to } => {
                Self::Rename { from: from.to_path_buf(), to: to.to_path_buf() }
            }
            FileRequest::SyncDirectory { path } => Self::SyncDirectory { path: path.to_path_buf() },
            FileRequest::Remove { path } => Self::Remove { path: path.to_path_buf() },
            FileRequest::RemoveDirectory { path } => Self::RemoveDirectory { path: path.to_path_buf() },
            FileRequest::Identify { path } => Self::Identify { path: path.to_path_buf() },
        }
    }

    /// What the disk counts as a change, and may refuse.
    fn is_change(&self) -> bool {
        match self {
            Self::Open { mode, .. } => mode.create_new,
            Self::Read { .. } | Self::Identify { .. } => false,
            _ => true,
        }
    }

    /// What is left of a write, and where it goes.
    fn unwritten(&self) -> Option<(u64, &[u8])> {
        match self {
            Self::Write { transfer, source, range, .. } => {
                Some((transfer.offset(), &source.bytes()[range.clone()][transfer.rest()]))
            }
            _ => None,
        }
    }

    fn into_buffer(self) -> Option<AlignedBuffer> {
        match self {
            Self::Write { source, .. } => source.into_buffer(),
            Self::Read { buffer, .. } => Some(buffer),
            _ => None,
        }
    }
}

impl State {
    /// A process's host, while it lives.
    pub(super) fn ip_of(&self, ring: u32) -> io::Result<IpAddr> {
        self.course.rings.get(&ring).map(|ring| ring.ip).ok_or_else(|| errno(libc::EIO))
    }

    pub(super) fn disk_of(&mut self, ring: u32) -> io::Result<&mut HostDisk> {
        let ip = self.ip_of(ring)?;
        self.disks.get_mut(&ip).ok_or_else(|| errno(libc::EIO))
    }

    pub(super) fn open_file(&self, ring: u32, file: File) -> io::Result<&OpenFile> {
        self.files.get(&file.0).filter(|open| open.ring == ring).ok_or_else(|| errno(libc::EBADF))
    }

    pub(super) fn start(&mut self, ring: u32, request: FileRequest<'_>, token: Token) {
        let Ok(ip) = self.ip_of(ring) else { return };
        let file = request.file();
        let open = file.and_then(|file| self.open_file(ring, file).ok());
        let is_direct = open.is_some_and(|open| open.mode.direct);
        let action = Action::new(request, is_direct);
        let held = match file.map(|file| Ok((file, self.check(ring, file, &action)?))).transpose() {
            Ok(held) => held,
            Err(error) => return self.report(ring, token, file, Err(error), None, action.into_buffer()),
        };
        if let (Some((_, inode)), Some(disk)) = (held, self.disks.get_mut(&ip)) {
            disk.hold(inode);
        }
        let id = self.course.next_id();
        let started = self.course.sequence;
        let is_left_to_the_device = is_direct && matches!(action, Action::Write { .. } | Action::Read { .. });
        let operation = Operation { ring, ip, token, file: held, action, started, is_left_to_the_device };
        self.operations.insert(id, operation);
        let at = self.course.now.after(self.disk_latency());
        self.course.schedule(at, Event::Disk(id));
    }

    /// What the kernel refuses before it asks the disk.
    fn check(&self, ring: u32, file: File, action: &Action) -> io::Result<InodeId> {
        let open = self.open_file(ring, file)?;
        let aligned = match action {
            Action::Write { transfer, range, .. } | Action::Read { transfer, range, .. } => {
                let block = BLOCK_BYTES as u64;
                let ends = [transfer.offset(), range.start as u64, range.end as u64];
                !open.mode.direct || ends.iter().all(|end| end.is_multiple_of(block))
            }
            _ => true,
        };
        if !aligned {
            return Err(errno(libc::EINVAL));
        }
        if !open.mode.write && matches!(action, Action::Write { .. } | Action::Allocate { .. }) {
            return Err(errno(libc::EBADF));
        }
        Ok(open.inode)
    }

    fn disk_latency(&mut self) -> Duration {
        let stalls = self.course.random.chance(self.course.options.disk_stall_probability);
        let longest = if stalls { self.course.options.disk_stall_max } else { Duration::ZERO };
        self.course.random.between(self.course.options.disk_latency)
            + self.course.stall()
            + self.course.random.between((Duration::ZERO, longest))
    }

    /// An operation's time is over; on a frozen disk it goes on waiting.
    pub(super) fn operation_due(&mut self, id: u32) {
        let ip = self.operations.get(&id).map(|operation| operation.ip);
        let thaws = ip.and_then(|ip| self.disks.get(&ip)).and_then(|disk| disk.faults.frozen_until);
        match thaws.filter(|thaws| *thaws > self.course.now) {
            Some(thaws) => {
                let at = thaws.after(self.course.random.between(self.course.options.disk_latency));
                self.course.schedule(at, Event::Disk(id));
            }
            None => self.operation_ends(id),
        }
    }

    pub(super) fn operation_ends(&mut self, id: u32) {
        let Some(mut operation) = self.operations.remove(&id) else { return };
        let Operation { ring, ip, token, .. } = operation;
        let result = match self.perform(&mut operation) {
            // It is the process that asks for the rest.
            Ok(Step::Again) if self.course.rings.contains_key(&ring) => return self.go_on(id, operation),
            Ok(Step::Again) => Ok((0, None)),
            Ok(Step::Done(count, opened)) => Ok((count, opened)),
            Err(error) => Err(error),
        };
        self.course.note(&[6, u64::from(ring), result.as_ref().map_or(u64::MAX, |(count, _)| *count as u64)]);
        if let (Some((_, inode)), Some(disk)) = (operation.file, self.disks.get_mut(&ip)) {
            disk.let_go(inode);
        }
        let (result, opened) = match result {
            Ok((count, opened)) => (Ok(count), opened),
            Err(error) => (Err(error), None),
        };
        let on = operation.file.map(|(file, _)| file);
        self.report(ring, token, on, result, opened, operation.action.into_buffer());
    }

    /// The next step of an operation, which takes as long as any.
    fn go_on(&mut self, id: u32, operation: Operation) {
        self.course.note(&[8, u64::from(operation.ring)]);
        self.operations.insert(id, operation);
        let at = self.course.now.after(self.disk_latency());
        self.course.schedule(at, Event::Disk(id));
    }

    /// A completion for the owner; swallowed when its process or its file is gone.
    fn report(
        &mut self,
        ring: u32,
        token: Token,
        on: Option<File>,
        result: io::Result<usize>,
        opened: Option<File>,
        buffer: Option<AlignedBuffer>,
    ) {
        let owner = on.map_or(Owner::None, |file| Owner::File(file.0));
        let completion = Completion::File { token, result, file: opened, buffer };
        self.course.push_ready(ring, owner, Ready::Other(completion));
    }

    /// Does it or a step of it, or fails at it.
    fn perform(&mut self, operation: &mut Operation) -> io::Result<Step> {
        let at = self.course.next_sequence();
        if operation.action.is_change() {
            self.suffer(operation)?;
        }
        let served = self.served(operation);
        let disk = self.disks.get_mut(&operation.ip).ok_or_else(|| errno(libc::EIO))?;
        let inode = operation.file.map_or(0, |(_, inode)| inode);
        match &mut operation.action {
            Action::Open { path, mode } => {
                let (path, mode) = (std::mem::take(path), *mode);
                let opened = self.open(operation.ring, operation.ip, &path, mode)?;
                return Ok(Step::Done(0, Some(opened)));
            }
            Action::Write { transfer, source, range, durability } => {
                let bytes = &source.bytes()[range.clone()][transfer.rest()][..served];
                let count = match durability {
                    Durability::Durable => disk.write_durable(inode, transfer.offset(), bytes)?,
                    Durability::Buffered => disk.write(inode, transfer.offset(), bytes, at)?,
                };
                return transfer.wrote(count).transpose().map(Step::of);
            }
            Action::Read { transfer, buffer, range } => {
                let bytes = &mut buffer[range.clone()][transfer.rest()][..served];
                let count = disk.read(inode, transfer.offset(), bytes)?;
                return Ok(Step::of(transfer.read(count)));
            }
            Action::Allocate { length } => disk.allocate(inode, *length, at)?,
            Action::Sync => disk.sync(inode, operation.started)?,
            Action::Rename { from, to } => disk.rename(from, to)?,
            Action::SyncDirectory { path } => disk.sync_directory(path)?,
            Action::Remove { path } => disk.remove(path)?,
            Action::RemoveDirectory { path } => disk.remove_directory(path)?,
            Action::Identify { path } => return Ok(Step::Done(disk.file_at(path)? as usize, None)),
        }
        Ok(Step::Done(0, None))
    }

    /// How many of the bytes that are left of a read or write this step serves.
    fn served(&mut self, operation: &Operation) -> usize {
        let (Action::Write { transfer, .. } | Action::Read { transfer, .. }) = &operation.action else {
            return 0;
        };
        let left = transfer.rest().len();
        let (least, unit) =
            if operation.is_left_to_the_device { (BLOCK_BYTES, SECTOR_BYTES as usize) } else { (1, 1) };
        if left <= least || !self.course.random.chance(self.course.options.short_transfer_probability) {
            return left;
        }
        least + self.course.random.below(((left - least) / unit) as u64) as usize * unit
    }

    /// Fails at an operation, or loses the power over it, when that is its turn.
    fn suffer(&mut self, operation: &Operation) -> io::Result<()> {
        let turn = self.change(operation.ip);
        let disk = self.disks.get_mut(&operation.ip).ok_or_else(|| errno(libc::EIO))?;
        let inode = operation.file.map_or(0, |(_, inode)| inode);
        match (turn, &operation.action) {
            (Turn::Goes, _) => return Ok(()),
            (Turn::Dies, action) => {
                half_done(disk, inode, action, &mut self.course.random);
                self.cut_power(operation.ip);
            }
            (Turn::Fails, Action::Sync) => disk.sync_failed(inode, &mut self.course.random),
            (Turn::Fails, action) => {
                if let Some((offset, bytes)) = action.unwritten() {
                    disk.write_maimed(inode, offset, bytes, &mut self.course.random);
                }
            }
        }
        Err(errno(libc::EIO))
    }

    /// What becomes of the next change of a host's disk.
    pub(super) fn change(&mut self, ip: IpAddr) -> Turn {
        let turn = self.disks.get_mut(&ip).map_or(Turn::Goes, |disk| disk.faults.count());
        let fails = self.course.random.chance(self.course.options.write_error_probability);
        if fails && turn == Turn::Goes { Turn::Fails } else { turn }
    }

    /// Opens a file for a process; for one that is gone, nothing stays open.
    pub(super) fn open(&mut self, ring: u32, ip: IpAddr, path: &Path, mode: OpenMode) -> io::Result<File> {
        if self.course.random.chance(self.course.options.descriptor_error_probability) {
            return Err(errno(libc::EMFILE));
        }
        let disk = self.disks.get_mut(&ip).ok_or_else(|| errno(libc::EIO))?;
        let inode = disk.open(path, mode.create_new)?;
        if !self.course.rings.contains_key(&ring) {
            disk.let_go(inode);
            return Err(errno(libc::EIO));
        }
        let id = self.course.next_id();
        self.files.insert(id, OpenFile { ring, ip, inode, mode });
        Ok(File(id))
    }

    pub(super) fn close_file(&mut self, ring: u32, file: File) {
        if self.open_file(ring, file).is_err() {
            return;
        }
        let on_it = |operation: &Operation| operation.file.is_some_and(|(on, _)| on == file);
        let in_flight: Vec<u32> =
            self.operations.iter().filter(|(_, operation)| on_it(operation)).map(|(id, _)| *id).collect();
        for id in in_flight {
            while self.operations.contains_key(&id) {
                self.operation_ends(id);
            }
        }
        self.course.swallow(ring, Owner::File(file.0));
        if let Some(open) = self.files.remove(&file.0)
            && let Some(disk) = self.disks.get_mut(&open.ip)
        {
            disk.let_go(open.inode);
        }
    }

    /// The process of this ring ended: its files close, what it had asked of the disk still happens.
    pub(super) fn close_files(&mut self, ring: u32) {
        for (id, open) in std::mem::take(&mut self.files) {
            if open.ring != ring {
                self.files.insert(id, open);
            } else if let Some(disk) = self.disks.get_mut(&open.ip) {
                disk.let_go(open.inode);
            }
        }
    }

    /// `Ok(Err(text))`: the owner that has it, or had it and is not gone yet.
    pub(super) fn lock(&mut self, ring: u32, path: &Path, owner: &str) -> io::Result<Result<(), String>> {
        let ip = self.ip_of(ring)?;
        if let Some((holder, text)) = self.disks.get(&ip).and_then(|disk| disk.locks.get(path))
            && (self.course.rings.contains_key(holder) || self.is_ending(ip))
        {
            return Ok(Err(text.clone()));
        }
        self.disk_of(ring)?.lock(path, ring, owner).map(Ok)
    }

    /// A killed process of this host has calls under way, each in a thread, without which it does not end;
    /// a write or read that a file takes directly needs none, and is in no one's way.
    fn is_ending(&self, ip: IpAddr) -> bool {
        let holds_up = |it: &Operation| {
            it.ip == ip && !self.course.rings.contains_key(&it.ring) && !it.is_left_to_the_device
        };
        self.operations.values().any(holds_up)
    }

    pub(super) fn lock_file(&mut self, ring: u32, file: File) -> io::Result<bool> {
        let &OpenFile { ip, inode, .. } = self.open_file(ring, file)?;
        let is_free = self.lock_holder(ip, inode).is_none_or(|holder| holder == file);
        if is_free {
            self.disk_of(ring)?.file_locks.insert(inode, file);
        }
        Ok(is_free)
    }

    pub(super) fn is_locked(&mut self, ring: u32, path: &Path) -> io::Result<bool> {
        let ip = self.ip_of(ring)?;
        let inode = self.disk_of(ring)?.file_at(path)?;
        Ok(self.lock_holder(ip, inode).is_some())
    }

    /// The opening that has the lock of a file: as long as it is there, or an operation on it is under way.
    fn lock_holder(&self, ip: IpAddr, inode: InodeId) -> Option<File> {
        let holder = *self.disks.get(&ip)?.file_locks.get(&inode)?;
        let is_on_it = |operation: &Operation| operation.file.is_some_and(|(on, _)| on == holder);
        let is_in_use = self.files.contains_key(&holder.0) || self.operations.values().any(is_on_it);
        is_in_use.then_some(holder)
    }

    /// Power cut: operations on their way are lost, done or torn, then what was not synced is.
    pub(super) fn crash_disk(&mut self, ip: IpAddr) {
        self.files.retain(|_, open| open.ip != ip);
        let Some(disk) = self.disks.get_mut(&ip) else { return };
        for (id, operation) in std::mem::take(&mut self.operations) {
            if operation.ip != ip {
                self.operations.insert(id, operation);
                continue;
            }
            let inode = operation.file.map_or(0, |(_, inode)| inode);
            half_done(disk, inode, &operation.action, &mut self.course.random);
        }
        disk.crash(&mut self.course.random, self.course.options.names_are_ordered);
    }
}

/// What the power cut left of an operation on its way: lost, done or torn.
fn half_done(disk: &mut HostDisk, inode: InodeId, action: &Action, random: &mut Random) {
    if let Some((offset, bytes)) = action.unwritten() {
        disk.write_maimed(inode, offset, bytes, random);
    }
    match action {
        // The rest may have been done just now, or not: refusals of the dead are of no interest.
        Action::Rename { from, to } if random.coin() => drop(disk.rename(from, to)),
        Action::Remove { path } if random.coin() => drop(disk.remove(path)),
        Action::RemoveDirectory { path } if random.coin() => drop(disk.remove_directory(path)),
        Action::Open { path, mode } if mode.create_new && random.coin() => drop(disk.open(path, true)),
        _ => {}
    }
}
