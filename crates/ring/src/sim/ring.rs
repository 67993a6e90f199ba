use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::course::{Course, Ready};
use super::disk::errno;
use super::faults::Turn;
use super::network::Network;
use super::{State, World};
use crate::{
    Chunk, Completion, Disk, File, FileRequest, Instant, ListenOptions, Listener, OpenMode, Output, Ring,
    Socket, Token, Waker,
};

/// As many chunks as the io_uring backend lends: a room that keeps them starves here too.
const CHUNKS_MAX: usize = 256;

/// The ring, and the disk, of one process in a [`World`]. When its host has crashed, blocking
/// file operations fail with EIO and everything else is ignored.
pub struct SimRing {
    world: World,
    id: u32,
    now: Instant,
    unix_millis: u64,
    woken: Arc<AtomicBool>,
    /// Chunks lent to the rooms above, by index.
    chunks: Vec<Option<Vec<u8>>>,
    free: Vec<u32>,
}

impl SimRing {
    pub(super) fn new(
        world: World,
        id: u32,
        (now, unix_millis): (Instant, u64),
        woken: Arc<AtomicBool>,
    ) -> Self {
        Self { world, id, now, unix_millis, woken, chunks: Vec::new(), free: Vec::new() }
    }

    /// How many chunks are lent out: none when every room gave back what it got.
    #[must_use]
    pub fn chunks_lent(&self) -> usize {
        self.chunks.len() - self.free.len()
    }

    /// Sends the end of our stream and goes on receiving, as a client does with a half close. A
    /// send under way fails.
    pub fn end_sending(&mut self, socket: Socket) {
        self.with_socket(socket, |network, course| network.end_sending(course, socket));
    }

    /// Ends a connection with a reset, as SO_LINGER with no time does. The socket is forgotten.
    pub fn reset(&mut self, socket: Socket) {
        self.with_socket(socket, |network, course| network.reset_by(course, socket));
    }

    fn with_network<T>(&self, act: impl FnOnce(&mut Network, &mut Course) -> T) -> T {
        let State { network, course, .. } = &mut *self.world.0.borrow_mut();
        act(network, course)
    }

    /// Does nothing where the socket is another process's.
    fn with_socket(&self, socket: Socket, act: impl FnOnce(&mut Network, &mut Course)) {
        if socket.0.generation() == self.id {
            self.with_network(act);
        }
    }

    fn lend(&mut self, bytes: Vec<u8>) -> Chunk {
        let length = u32::try_from(bytes.len()).expect("a piece is a few KiB");
        let buffer = self.free.pop().unwrap_or_else(|| {
            self.chunks.push(None);
            (self.chunks.len() - 1) as u32
        });
        self.chunks[buffer as usize] = Some(bytes);
        Chunk { buffer, length }
    }

    /// Fails as the seed has it, before a blocking change.
    fn may_fail(&mut self) -> io::Result<()> {
        let state = &mut *self.world.0.borrow_mut();
        let ip = state.ip_of(self.id)?;
        match state.change(ip) {
            Turn::Goes => Ok(()),
            Turn::Fails => Err(errno(libc::EIO)),
            Turn::Dies => {
                state.cut_power(ip);
                Err(errno(libc::EIO))
            }
        }
    }
}

impl fmt::Debug for SimRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimRing").field("id", &self.id).field("now", &self.now).finish_non_exhaustive()
    }
}

impl Drop for SimRing {
    fn drop(&mut self) {
        // Refused only while a panic unwinds out of the world itself.
        if let Ok(mut state) = self.world.0.try_borrow_mut() {
            let State { network, course, .. } = &mut *state;
            network.close_connections(course, self.id);
            state.close_files(self.id);
            state.course.rings.remove(&self.id);
        }
    }
}

/// Blocking calls take no virtual time.
impl Disk for SimRing {
    fn list(&mut self, directory: &Path) -> io::Result<Vec<String>> {
        self.world.0.borrow_mut().disk_of(self.id)?.list(directory)
    }

    fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        self.world.0.borrow_mut().disk_of(self.id)?.create_directory(path)
    }

    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<File> {
        if mode.create_new {
            self.may_fail()?;
        }
        let state = &mut *self.world.0.borrow_mut();
        let ip = state.ip_of(self.id)?;
        state.open(self.id, ip, path, mode)
    }

    fn close_file(&mut self, file: File) {
        self.world.0.borrow_mut().close_file(self.id, file);
    }

    fn length(&mut self, file: File) -> io::Result<u64> {
        let state = &mut *self.world.0.borrow_mut();
        let inode = state.open_file(self.id, file)?.inode;
        Ok(state.disk_of(self.id)?.content(inode).len() as u64)
    }

    fn read_at(&mut self, file: File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let state = &mut *self.world.0.borrow_mut();
        let inode = state.open_file(self.id, file)?.inode;
        state.disk_of(self.id)?.read(inode, offset, bytes)
    }

    fn write_at(&mut self, file: File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.world.0.borrow_mut();
        let open = state.open_file(self.id, file)?;
        if !open.mode.write {
            return Err(errno(libc::EBADF));
        }
        let (ip, inode) = (open.ip, open.inode);
        let at = state.course.next_sequence();
        let turn = state.change(ip);
        let disk = state.disks.get_mut(&ip).ok_or_else(|| errno(libc::EIO))?;
        if turn != Turn::Goes {
            disk.write_maimed(inode, offset, bytes, &mut state.course.random);
            if turn == Turn::Dies {
                state.cut_power(ip);
            }
            return Err(errno(libc::EIO));
        }
        let mut written = 0;
        while written < bytes.len() {
            written += disk.write(inode, offset + written as u64, &bytes[written..], at)?;
        }
        Ok(())
    }

    fn allocate(&mut self, file: File, length: u64) -> io::Result<()> {
        self.may_fail()?;
        let state = &mut *self.world.0.borrow_mut();
        let open = state.open_file(self.id, file)?;
        let (inode, write) = (open.inode, open.mode.write);
        let at = state.course.next_sequence();
        if write { state.disk_of(self.id)?.allocate(inode, length, at) } else { Err(errno(libc::EBADF)) }
    }

    fn sync(&mut self, file: File) -> io::Result<()> {
        let state = &mut *self.world.0.borrow_mut();
        let open = state.open_file(self.id, file)?;
        let (ip, inode) = (open.ip, open.inode);
        let before = state.course.next_sequence();
        let turn = state.change(ip);
        let disk = state.disks.get_mut(&ip).ok_or_else(|| errno(libc::EIO))?;
        match turn {
            Turn::Goes => {}
            Turn::Fails => {
                disk.sync_failed(inode, &mut state.course.random);
                return Err(errno(libc::EIO));
            }
            Turn::Dies => {
                state.cut_power(ip);
                return Err(errno(libc::EIO));
            }
        }
        disk.sync(inode, before)
    }

    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        self.may_fail()?;
        self.world.0.borrow_mut().disk_of(self.id)?.sync_directory(path)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.may_fail()?;
        self.world.0.borrow_mut().disk_of(self.id)?.rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.may_fail()?;
        self.world.0.borrow_mut().disk_of(self.id)?.remove(path)
    }

    fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        self.may_fail()?;
        self.world.0.borrow_mut().disk_of(self.id)?.remove_directory(path)
    }

    fn lock(&mut self, path: &Path, owner: &str) -> io::Result<Result<(), String>> {
        self.world.0.borrow_mut().lock(self.id, path, owner)
    }

    fn is_direct(&mut self, file: File) -> io::Result<bool> {
        Ok(self.world.0.borrow().open_file(self.id, file)?.mode.direct)
    }

    fn lock_file(&mut self, file: File) -> io::Result<bool> {
        self.world.0.borrow_mut().lock_file(self.id, file)
    }

    fn is_locked(&mut self, path: &Path) -> io::Result<bool> {
        self.world.0.borrow_mut().is_locked(self.id, path)
    }

    fn identity(&mut self, file: File) -> io::Result<usize> {
        Ok(self.world.0.borrow().open_file(self.id, file)?.inode as usize)
    }

    fn free_bytes(&mut self, _path: &Path) -> io::Result<u64> {
        Ok(self.world.0.borrow_mut().disk_of(self.id)?.free_bytes())
    }
}

impl Ring for SimRing {
    fn now(&self) -> Instant {
        self.now
    }

    fn clock(&self) -> Instant {
        self.now
    }

    fn unix_millis(&self) -> u64 {
        self.unix_millis
    }

    fn random(&mut self, bytes: &mut [u8]) {
        self.world.0.borrow_mut().course.random.fill(bytes);
    }

    fn waker(&self) -> Waker {
        let woken = Arc::clone(&self.woken);
        Waker::new(move || woken.store(true, Ordering::Release))
    }

    fn listen(&mut self, options: ListenOptions, token: Token) -> io::Result<(Listener, SocketAddr)> {
        self.with_network(|network, course| network.listen(course, self.id, options, token))
    }

    fn accept(&mut self, listener: Listener) {
        self.with_network(|network, course| network.set_accepting(course, self.id, listener, true));
    }

    fn stop_accepting(&mut self, listener: Listener) {
        self.with_network(|network, course| network.set_accepting(course, self.id, listener, false));
    }

    fn close_listener(&mut self, listener: Listener) {
        self.with_network(|network, course| network.close_listener(course, self.id, listener.0));
    }

    fn connect(&mut self, to: SocketAddr, source: Option<IpAddr>, token: Token) -> Socket {
        self.with_network(|network, course| network.connect(course, self.id, to, source, token))
    }

    fn receive(&mut self, socket: Socket, token: Token) {
        self.with_socket(socket, |network, course| network.receive(course, socket, token));
    }

    fn pause(&mut self, socket: Socket) {
        self.with_socket(socket, |network, _| network.pause(socket));
    }

    fn chunk(&self, chunk: &Chunk) -> &[u8] {
        self.chunks[chunk.buffer as usize].as_deref().expect("a chunk is lent until it is released")
    }

    fn release(&mut self, chunk: Chunk) {
        // A length is always that of the bytes: the field is for the other backend.
        debug_assert_eq!(chunk.length as usize, self.chunk(&chunk).len());
        let was_exhausted = self.chunks_lent() == CHUNKS_MAX;
        self.chunks[chunk.buffer as usize] = None;
        self.free.push(chunk.buffer);
        if was_exhausted {
            let course = &mut self.world.0.borrow_mut().course;
            let now = course.now;
            if let Some(ring) = course.rings.get_mut(&self.id) {
                ring.due = Some(now);
            }
        }
    }

    fn send(&mut self, socket: Socket, output: Output, token: Token) {
        self.with_socket(socket, |network, course| network.send(course, socket, output, token));
    }

    fn close(&mut self, socket: Socket) {
        self.with_socket(socket, |network, course| network.close(course, socket));
    }

    fn file(&mut self, request: FileRequest<'_>, token: Token) {
        self.world.0.borrow_mut().start(self.id, request, token);
    }

    fn submit(&mut self) {}

    fn turn(&mut self, deadline: Option<Instant>, completions: &mut Vec<Completion>) -> io::Result<()> {
        let before = completions.len();
        if self.woken.swap(false, Ordering::AcqRel) {
            completions.push(Completion::Woken);
        }
        let world = self.world.clone();
        let course = &mut world.0.borrow_mut().course;
        (self.now, self.unix_millis) = (course.now, course.unix_millis());
        let Some(ring) = course.rings.get_mut(&self.id) else { return Ok(()) };
        ring.is_wake_told = false;
        let mut kept = VecDeque::new();
        for (owner, ready) in std::mem::take(&mut ring.ready) {
            // An end stays behind the bytes before it.
            let needs_chunk =
                matches!(ready, Ready::Received { .. } | Ready::Other(Completion::Ended { .. }));
            if needs_chunk && self.chunks_lent() >= CHUNKS_MAX {
                kept.push_back((owner, ready));
                continue;
            }
            completions.push(match ready {
                Ready::Received { token, bytes } => Completion::Received { token, chunk: self.lend(bytes) },
                Ready::Other(completion) => completion,
            });
        }
        ring.ready = kept;
        // What comes of these completions is for the next turn, which should not be late.
        let again = completions.len() > before;
        ring.due = if again { Some(self.now) } else { deadline.map(|at| at.max(self.now)) };
        Ok(())
    }
}
