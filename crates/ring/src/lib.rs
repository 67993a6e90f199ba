//! Completion-based I/O for one thread: sockets, files, time, wake-ups and randomness behind one trait.
//!
//! A room above asks for an operation and gets its end later, as a [`Completion`] that carries the
//! [`Token`] it chose. Two backends answer: [`uring`] (io_uring) and [`sim`] (a world driven by a
//! seed). A third for hosts that forbid io_uring goes beside them. Rooms above never see which.
//!
//! Promises: operations of one turn are submitted together; after [`Ring::close`] or
//! [`Disk::close_file`] nothing more is heard of an object; buffers that are handed in come back in
//! the completion. Fails only where the environment does: a ring that cannot be made, with what to raise.

mod arena;
mod buffer;
mod disk;
mod request;
#[cfg(test)]
mod scratch;
pub mod sim;
mod slab;
mod time;
mod transfer;
pub mod turns;
pub mod uring;
mod wheel;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::Path;

pub use arena::{Arena, Handle};
pub use buffer::{AlignedBuffer, BLOCK_BYTES, Output, SharedBuffer};
pub use disk::{Disk, File, OpenMode, RealDisk};
pub use request::{FileRequest, Source};
pub use slab::{Pages, Slab};
pub use time::Instant;
pub use wheel::{TimerKey, Wheel};

/// Chosen by the caller of an operation, returned with its completion; the ring does not look inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Which room asked: how the worker finds whom a completion is for.
    pub room: u8,
    /// Which part of that room, where it has several.
    pub part: u8,
    /// What kind of object or operation of that part.
    pub kind: u8,
    /// Which one, and which life of it: a completion that comes too late finds nothing.
    pub handle: Handle,
}

impl Token {
    /// For what is there as long as its room, which is of one part.
    #[must_use]
    pub const fn fixed(room: u8, kind: u8, index: u32) -> Self {
        Self { room, part: 0, kind, handle: Handle::fixed(index) }
    }
}

/// A connected, connecting or accepted stream socket. A stale one is recognised and ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Socket(pub(crate) Handle);

/// A listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listener(pub(crate) u32);

/// A piece of received data, lent by the ring: read it with [`Ring::chunk`], give it back with [`Ring::release`].
#[derive(Debug)]
#[must_use = "a chunk that is not released is lost to the ring"]
pub struct Chunk {
    pub(crate) buffer: u32,
    pub(crate) length: u32,
}

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Address and port; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Several workers listen on this address (SO_REUSEPORT). Whether a stranger holds the port is
    /// for the program to find out first: see [`uring::port_is_free`].
    pub shared: bool,
    /// Connections that wait to be accepted.
    pub backlog: u32,
}

/// What a ring reports.
#[derive(Debug)]
pub enum Completion {
    /// A connection came in. It is not received from until [`Ring::receive`].
    Accepted {
        /// The listener's token.
        token: Token,
        /// The new socket; its own token is set by [`Ring::receive`] or [`Ring::send`].
        socket: Socket,
        /// The client.
        peer: SocketAddr,
        /// Our end.
        local: SocketAddr,
    },
    /// Accepting stopped (no descriptors, say). It starts again with [`Ring::accept`].
    AcceptPaused {
        /// The listener's token.
        token: Token,
        /// Why.
        error: io::Error,
    },
    /// A [`Ring::connect`] ended.
    Connected {
        /// The token given to connect.
        token: Token,
        /// The local address, or why not. After an error the socket is already closed.
        result: io::Result<SocketAddr>,
    },
    /// Bytes arrived. Receiving goes on until [`Ring::pause`].
    Received {
        /// The token given to [`Ring::receive`].
        token: Token,
        /// The bytes.
        chunk: Chunk,
    },
    /// The peer sent its last byte, or the connection broke. Nothing more is received; sending may
    /// still work after an orderly end. The socket stays open until [`Ring::close`].
    Ended {
        /// The token given to [`Ring::receive`].
        token: Token,
        /// `Ok` for an orderly end.
        result: io::Result<()>,
    },
    /// All of a [`Ring::send`] went out, or the connection broke.
    Sent {
        /// The token given to send.
        token: Token,
        /// `Ok` when every byte was handed to the kernel.
        result: io::Result<()>,
        /// The buffer, back.
        output: Output,
    },
    /// A file operation ended.
    File {
        /// The token given to the operation.
        token: Token,
        /// Bytes read or written (a short count only at the end of the file), 0 for the others.
        result: io::Result<usize>,
        /// The file, where the operation opened one.
        file: Option<File>,
        /// The buffer, back, where one was handed in.
        buffer: Option<AlignedBuffer>,
    },
    /// [`Waker::wake`] was called since the last turn.
    Woken,
}

/// How far a file write must have gone when it completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On stable storage, data and what is needed to find it: RWF_DSYNC where the file is direct, else
    /// a buffered write and then an fdatasync. An error of either is the write's, and final.
    Durable,
    /// Wherever the kernel puts it; a [`Ring::sync_file`] follows.
    Buffered,
}

/// Wakes a worker's ring from any thread; calls between two turns fold into one.
#[derive(Clone)]
pub struct Waker(std::sync::Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(std::sync::Arc::new(wake))
    }

    /// Makes the worker's next turn report [`Completion::Woken`] and begin without delay.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

/// One worker's window on the world. See the module for the promises.
pub trait Ring: Disk {
    /// Monotonic time, read once a turn.
    fn now(&self) -> Instant;

    /// Monotonic time, read now: it tells how long a turn has taken so far.
    fn clock(&self) -> Instant;

    /// Wall-clock time in milliseconds since 1970, read once a turn.
    fn unix_millis(&self) -> u64;

    /// Fills `bytes` with randomness fit for secrets (from the seed, in the simulator).
    fn random(&mut self, bytes: &mut [u8]);

    /// A handle with which other threads end this ring's wait.
    fn waker(&self) -> Waker;

    /// Begins to listen; nothing is accepted before [`Ring::accept`]. Also gives the bound address.
    ///
    /// # Errors
    /// Those of socket, bind and listen.
    fn listen(&mut self, options: ListenOptions, token: Token) -> io::Result<(Listener, SocketAddr)>;

    /// Accepts connections from now on, each an [`Completion::Accepted`].
    fn accept(&mut self, listener: Listener);

    /// Stops accepting, at the connection limit or when draining. A connection already accepted may still be reported.
    fn stop_accepting(&mut self, listener: Listener);

    /// Closes a listener.
    fn close_listener(&mut self, listener: Listener);

    /// Opens a connection, from `source` when given.
    fn connect(&mut self, to: SocketAddr, source: Option<IpAddr>, token: Token) -> Socket;

    /// Receives from now on. Calling it again while receiving does nothing.
    fn receive(&mut self, socket: Socket, token: Token);

    /// Stops receiving until [`Ring::receive`]: back-pressure. What was already taken from the
    /// kernel is still reported.
    fn pause(&mut self, socket: Socket);

    /// The bytes of a chunk.
    fn chunk(&self, chunk: &Chunk) -> &[u8];

    /// Gives a chunk back.
    fn release(&mut self, chunk: Chunk);

    /// Sends everything in `output`.
    ///
    /// # Panics
    /// When a send of this socket is still under way: one at a time.
    fn send(&mut self, socket: Socket, output: Output, token: Token);

    /// Ends a connection and forgets the socket; operations in flight are cancelled, their
    /// completions swallowed. Bytes already sent still reach a peer that reads.
    fn close(&mut self, socket: Socket);

    /// Asks for something to be done with files; it completes with [`Completion::File`].
    fn file(&mut self, request: FileRequest<'_>, token: Token);

    /// Opens (or creates) a file.
    fn open_file(&mut self, path: &Path, mode: OpenMode, token: Token) {
        self.file(FileRequest::Open { path, mode }, token);
    }

    /// Writes all of `buffer[range]` at `offset`. With [`OpenMode::direct`], range and offset are multiples of [`BLOCK_BYTES`].
    fn write_file(
        &mut self,
        file: File,
        offset: u64,
        buffer: AlignedBuffer,
        range: Range<usize>,
        durability: Durability,
        token: Token,
    ) {
        let source = Source::Own(buffer);
        self.file(FileRequest::Write { file, offset, source, range, durability }, token);
    }

    /// The same from a buffer that stays shared with its readers; it does not come back.
    fn write_shared(
        &mut self,
        file: File,
        offset: u64,
        buffer: SharedBuffer,
        range: Range<usize>,
        durability: Durability,
        token: Token,
    ) {
        let source = Source::Shared(buffer);
        self.file(FileRequest::Write { file, offset, source, range, durability }, token);
    }

    /// Reads into `buffer[range]` from `offset`; with [`OpenMode::direct`], range and offset as for a write.
    fn read_file(
        &mut self,
        file: File,
        offset: u64,
        buffer: AlignedBuffer,
        range: Range<usize>,
        token: Token,
    ) {
        self.file(FileRequest::Read { file, offset, buffer, range }, token);
    }

    /// Reserves space (fallocate) up to `length` bytes, extending the file; does nothing where the file system
    /// cannot.
    fn allocate_file(&mut self, file: File, length: u64, token: Token) {
        self.file(FileRequest::Allocate { file, length }, token);
    }

    /// Makes a file's data (and size) durable.
    fn sync_file(&mut self, file: File, token: Token) {
        self.file(FileRequest::Sync { file }, token);
    }

    /// Renames a file.
    fn rename_file(&mut self, from: &Path, to: &Path, token: Token) {
        self.file(FileRequest::Rename { from, to }, token);
    }

    /// Makes the names in a directory durable.
    fn sync_directory_file(&mut self, path: &Path, token: Token) {
        self.file(FileRequest::SyncDirectory { path }, token);
    }

    /// Removes a file.
    fn remove_file(&mut self, path: &Path, token: Token) {
        self.file(FileRequest::Remove { path }, token);
    }

    /// Removes an empty directory.
    fn remove_directory_file(&mut self, path: &Path, token: Token) {
        self.file(FileRequest::RemoveDirectory { path }, token);
    }

    /// Says which file a name leads to: the completion's count is its [`Disk::identity`].
    fn identify_file(&mut self, path: &Path, token: Token) {
        self.file(FileRequest::Identify { path }, token);
    }

    /// Submits what was asked for so far rather than with the next turn, and waits for nothing.
    fn submit(&mut self);

    /// Submits what was asked for and collects what has ended, files first, waiting for the first
    /// completion until `deadline` (`None`: as long as it takes; a time in the past: not at all).
    ///
    /// # Errors
    /// Only when the ring itself is broken: the worker cannot go on.
    fn turn(&mut self, deadline: Option<Instant>, completions: &mut Vec<Completion>) -> io::Result<()>;
}
