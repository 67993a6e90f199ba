//! The ring of a real host: io_uring, with multishot accept and receive into a ring of buffers.
//!
//! Promises: a slot and the memory of an operation are kept until the kernel has reported it for the
//! last time, also when the ring is dropped; in steady state nothing is allocated. Fails at the start,
//! with the remedy, or never.

mod buffers;
mod error;
mod file;
mod listener;
mod queue;
mod socket;
mod sys;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use io_uring::{IoUring, opcode, types};

use self::buffers::Buffers;
pub use self::error::RingError;
use self::file::Operations;
use self::listener::Listeners;
use self::queue::{Ended, Kind, Operation, Queue};
use self::socket::Sockets;
use self::sys::Entropy;
use crate::{
    Chunk, Completion, Disk, File, FileRequest, Handle, Instant, ListenOptions, Listener, OpenMode, Output,
    RealDisk, Ring, Socket, Token, Waker,
};

/// Sizes of a ring. A ring of the default sizes takes about 60 KiB of kernel memory and up to 4 MiB
/// of ordinary memory for received data.
#[derive(Clone, Copy, Debug)]
pub struct UringOptions {
    /// Operations that one system call submits; a power of two.
    pub submissions: u32,
    /// Completions that the kernel holds without further allocation; a power of two, at least twice the submissions.
    pub completions: u32,
    /// Buffers that the kernel fills with received data; a power of two, at most 32768.
    pub receive_buffers: u16,
    /// Bytes of one such buffer.
    pub receive_buffer_bytes: u32,
}

impl Default for UringOptions {
    fn default() -> Self {
        Self { submissions: 256, completions: 2048, receive_buffers: 256, receive_buffer_bytes: 16 * 1024 }
    }
}

/// An io_uring and everything it has under way; one per worker, used on the thread that made it.
pub struct UringRing {
    queue: Queue,
    buffers: Buffers,
    listeners: Listeners,
    sockets: Sockets,
    disk: RealDisk,
    operations: Operations,
    wake: Wake,
    entropy: Entropy,
    now: Instant,
    unix_millis: u64,
    /// Used again every turn.
    ended: Vec<Ended>,
}

impl UringRing {
    /// Makes a ring for the calling thread.
    ///
    /// # Errors
    /// When the environment does not allow one, with the remedy.
    pub fn new(options: UringOptions) -> Result<Self, RingError> {
        Self::make(options).map_err(RingError::from_io)
    }

    fn make(options: UringOptions) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(options.completions)
            .build(options.submissions)?;
        let parameters = ring.params();
        if !(parameters.is_feature_ext_arg()
            && parameters.is_feature_nodrop()
            && parameters.is_feature_skip_cqe_on_success())
        {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        let buffers = Buffers::new(&ring, options.receive_buffers, options.receive_buffer_bytes)?;
        let mut made = Self {
            queue: Queue::new(ring),
            buffers,
            listeners: Listeners::default(),
            sockets: Sockets::default(),
            disk: RealDisk::default(),
            operations: Operations::default(),
            wake: Wake::new()?,
            entropy: Entropy::new(),
            now: Instant::default(),
            unix_millis: 0,
            ended: Vec::new(),
        };
        made.wake.arm(&mut made.queue);
        made.read_clocks();
        Ok(made)
    }

    /// Hands the ring a socket of [`listen_before`]. The next [`Ring::listen`] that shares `address`, which is
    /// the one it was opened for, goes on with it and with the clients that wait there, and opens none.
    pub fn inherit(&mut self, address: SocketAddr, listener: TcpListener) {
        self.listeners.inherit(address, listener);
    }

    fn read_clocks(&mut self) {
        self.now = Instant(sys::monotonic_nanos());
        self.unix_millis = sys::unix_millis();
    }

    fn dispatch(&mut self, ended: Ended, completions: &mut Vec<Completion>) {
        let handle = ended.operation.handle;
        match ended.operation.kind {
            Kind::Ignored => {}
            Kind::Accept => self.listeners.accepted(ended, &mut self.sockets, completions),
            Kind::Receive => {
                self.sockets.received(ended, &mut self.queue, &mut self.buffers, completions);
            }
            Kind::Send => self.sockets.sent(handle, ended, &mut self.queue, completions),
            Kind::Connect => self.sockets.connected(handle, ended, &mut self.queue, completions),
            Kind::File => self.operations.ended(ended, &mut self.queue, &mut self.disk, completions),
            Kind::Wake => {
                self.wake.state.pending.store(false, Ordering::SeqCst);
                self.wake.arm(&mut self.queue);
                completions.push(Completion::Woken);
            }
        }
    }
}

/// Wakes the ring: other threads raise an event counter that the ring reads.
struct Wake {
    state: Arc<WakeState>,
    /// Where the kernel puts the counter.
    count: Box<[u8; 8]>,
}

struct WakeState {
    event: OwnedFd,
    /// Raised and not yet reported: further calls need not.
    pending: AtomicBool,
}

impl Wake {
    fn new() -> io::Result<Self> {
        let state = WakeState { event: sys::event_counter()?, pending: AtomicBool::new(false) };
        Ok(Self { state: Arc::new(state), count: Box::new([0; 8]) })
    }

    fn arm(&mut self, queue: &mut Queue) {
        let event = types::Fd(self.state.event.as_raw_fd());
        let entry = opcode::Read::new(event, self.count.as_mut_ptr(), 8).build();
        let operation = Operation { kind: Kind::Wake, handle: Handle::fixed(0) };
        // SAFETY: descriptor and box live as long as the ring, which waits for the read before it goes.
        unsafe { queue.push(entry, operation) };
    }
}

impl Drop for UringRing {
    fn drop(&mut self) {
        if !self.queue.quiesce() {
            // The kernel may still write to this memory: rather lost than reused.
            self.buffers.leak();
            std::mem::forget(std::mem::take(&mut self.sockets));
            std::mem::forget(std::mem::take(&mut self.operations));
            std::mem::forget(std::mem::replace(&mut self.wake.count, Box::new([0; 8])));
        }
    }
}

impl std::fmt::Debug for UringRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UringRing").field("now", &self.now).finish_non_exhaustive()
    }
}

/// Whether no socket listens on `address`. Binds it once without SO_REUSEPORT, which would hide another
/// gateway; port 0 is always free.
///
/// # Errors
/// `AddrInUse` when it is taken, and others of socket and bind.
pub fn port_is_free(address: SocketAddr) -> io::Result<()> {
    let socket = sys::stream_socket(address)?;
    // As the listener has it, or connections of an earlier process in TIME_WAIT would hold the port.
    sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    sys::bind(socket.as_fd(), address)
}

/// Listens as a ring would, before there is one: to be handed to [`UringRing::inherit`], so that the port is
/// never without a listener and no client that waits at it is lost.
///
/// # Errors
/// Those of socket, bind and listen.
pub fn listen_before(options: ListenOptions) -> io::Result<TcpListener> {
    listener::open(options).map(TcpListener::from)
}

impl Ring for UringRing {
    fn now(&self) -> Instant {
        self.now
    }

    fn clock(&self) -> Instant {
        Instant(sys::monotonic_nanos())
    }

    fn unix_millis(&self) -> u64 {
        self.unix_millis
    }

    fn random(&mut self, bytes: &mut [u8]) {
        self.entropy.fill(bytes);
    }

    fn waker(&self) -> Waker {
        let state = Arc::clone(&self.wake.state);
        Waker::new(move || {
            if !state.pending.swap(true, Ordering::SeqCst) {
                sys::raise_event(state.event.as_fd());
            }
        })
    }

    fn listen(&mut self, options: ListenOptions, token: Token) -> io::Result<(Listener, SocketAddr)> {
        self.listeners.listen(options, token)
    }

    fn accept(&mut self, listener: Listener) {
        self.listeners.accept(listener, &mut self.queue);
    }

    fn stop_accepting(&mut self, listener: Listener) {
        self.listeners.stop_accepting(listener, &mut self.queue);
    }

    fn close_listener(&mut self, listener: Listener) {
        self.listeners.close(listener, &mut self.queue);
    }

    fn connect(&mut self, to: SocketAddr, source: Option<IpAddr>, token: Token) -> Socket {
        self.sockets.connect(to, source, token, &mut self.queue)
    }

    fn receive(&mut self, socket: Socket, token: Token) {
        self.sockets.receive(socket, token, &mut self.queue);
    }

    fn pause(&mut self, socket: Socket) {
        self.sockets.pause(socket, &mut self.queue);
    }

    fn chunk(&self, chunk: &Chunk) -> &[u8] {
        self.buffers.bytes(chunk.buffer as u16, chunk.length)
    }

    fn release(&mut self, chunk: Chunk) {
        self.buffers.give(chunk.buffer as u16);
    }

    fn send(&mut self, socket: Socket, output: Output, token: Token) {
        self.sockets.send(socket, output, token, &mut self.queue);
    }

    fn close(&mut self, socket: Socket) {
        self.sockets.close(socket, &mut self.queue);
    }

    fn file(&mut self, request: FileRequest<'_>, token: Token) {
        self.operations.start(request, token, &mut self.queue, &self.disk);
    }

    fn submit(&mut self) {
        self.queue.submit();
    }

    fn turn(&mut self, deadline: Option<Instant>, completions: &mut Vec<Completion>) -> io::Result<()> {
        let before = completions.len();
        loop {
            self.sockets.report_failed(&mut self.queue, completions);
            self.operations.report_failed(completions);
            self.buffers.publish();
            // Only now that buffers were given back: a receive that finds none ends at once.
            self.sockets.rearm(&mut self.queue, &self.buffers);
            self.listeners.rearm(&mut self.queue);
            let wait = if completions.len() > before {
                Some(Duration::ZERO)
            } else {
                deadline.map(|deadline| deadline.since(Instant(sys::monotonic_nanos())))
            };
            self.queue.enter(wait)?;
            self.read_clocks();
            let mut ended = std::mem::take(&mut self.ended);
            self.queue.reap(&mut ended);
            // What waits for the disk has waited longest.
            let is_file = |ended: &&Ended| ended.operation.kind == Kind::File;
            for file in ended.iter().filter(is_file) {
                self.dispatch(*file, completions);
            }
            for other in ended.iter().filter(|ended| !is_file(ended)) {
                self.dispatch(*other, completions);
            }
            ended.clear();
            self.ended = ended;
            if completions.len() > before || deadline.is_some_and(|deadline| deadline <= self.now) {
                return Ok(());
            }
        }
    }
}

impl Disk for UringRing {
    fn list(&mut self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        self.disk.create_directory(path)
    }

    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<File> {
        self.disk.open(path, mode)
    }

    fn close_file(&mut self, file: File) {
        self.operations.close_file(file, &mut self.queue, &mut self.disk);
    }

    fn length(&mut self, file: File) -> io::Result<u64> {
        self.disk.length(file)
    }

    fn read_at(&mut self, file: File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(file, offset, bytes)
    }

    fn write_at(&mut self, file: File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(file, offset, bytes)
    }

    fn allocate(&mut self, file: File, length: u64) -> io::Result<()> {
        self.disk.allocate(file, length)
    }

    fn sync(&mut self, file: File) -> io::Result<()> {
        self.disk.sync(file)
    }

    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        self.disk.sync_directory(path)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        self.disk.remove_directory(path)
    }

    fn lock(&mut self, path: &Path, owner: &str) -> io::Result<Result<(), String>> {
        self.disk.lock(path, owner)
    }

    fn is_direct(&mut self, file: File) -> io::Result<bool> {
        self.disk.is_direct(file)
    }

    fn lock_file(&mut self, file: File) -> io::Result<bool> {
        self.disk.lock_file(file)
    }

    fn is_locked(&mut self, path: &Path) -> io::Result<bool> {
        self.disk.is_locked(path)
    }

    fn identity(&mut self, file: File) -> io::Result<usize> {
        self.disk.identity(file)
    }

    fn free_bytes(&mut self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }
}
