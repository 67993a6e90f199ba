//! Large bodies: separate files, written in pieces as they arrive and read in pieces as they are sent.
//!
//! One operation a file is under way at a time; what comes meanwhile waits in at most a few pieces,
//! since the writer is told to pause. The CRC grows with the pieces in both directions: a body that
//! is not what was written never gets its final dot.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;

use ring::{AlignedBuffer, Arena, Durability, File, Handle, OpenMode, Ring, SharedBuffer};

use crate::error::is_want_of_space;
use crate::fail_point::fail_point;
use crate::format::padded;
use crate::group::Pool;
use crate::place::Tokens;
use crate::place::{KIND_LARGE_READ, KIND_LARGE_WRITE, KIND_REMOVE};
use crate::record::LargeBody;
use crate::{Event, LargeKey, LoadError, PIECE_BYTES, ReadKey, Refusal};

/// Pieces of one body that may wait for the disk before its writer is told to pause.
const PIECES_WAITING_MAX: usize = 2;

/// Pieces of all bodies of a shard that may be in memory at once, 32 MiB: more than any disk needs to
/// be busy. Past it, bodies wait for their turn.
const PIECES_MAX: usize = 128;

pub(crate) fn large_name(number: u64) -> String {
    format!("large-{number:016x}")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    Opening,
    Allocating,
    Writing,
    Syncing,
    SyncingDirectory,
}

#[derive(Debug)]
struct Writing {
    waiter: Handle,
    number: u64,
    file: Option<File>,
    doing: Doing,
    /// Space to reserve before the first piece.
    expected_bytes: u64,
    /// The piece that is being filled, and how far.
    piece: AlignedBuffer,
    filled: usize,
    waiting: VecDeque<(AlignedBuffer, usize)>,
    offset: u64,
    bytes: u64,
    crc: u32,
    paused: bool,
    finishing: bool,
    finished: bool,
    aborted: bool,
}

#[derive(Debug)]
struct Reading {
    request: Handle,
    file: Option<File>,
    body: LargeBody,
    offset: u64,
    crc: u32,
    lent: Option<SharedBuffer>,
    busy: bool,
    aborted: bool,
}

/// The large bodies of a shard that are on their way in or out.
#[derive(Debug)]
pub(crate) struct LargeFiles {
    directory: PathBuf,
    writing: Arena<Writing>,
    reading: Arena<Reading>,
    pub(crate) next_number: u64,
    tokens: Tokens,
    /// Removals under way.
    removing: u32,
    /// What bodies take on disk, those that are still being written included.
    pub(crate) bytes: u64,
    /// The length on disk of each body that a record names.
    named: HashMap<u64, u64>,
    /// Whole pieces in memory, which the disk will free whatever clients do.
    pieces: usize,
    /// Bodies that were told to pause for want of memory, in their order.
    hungry: VecDeque<Handle>,
    /// Files whose body is done with.
    to_close: Vec<File>,
    to_remove: Vec<u64>,
}

/// A failed write that latches the shard, and the number of the body.
pub(crate) type Failure = Option<(u64, std::io::Error)>;

impl LargeFiles {
    /// `named`: the bodies that queued messages have, with their lengths on disk.
    pub(crate) fn new(
        directory: PathBuf,
        tokens: Tokens,
        next_number: u64,
        named: HashMap<u64, u64>,
    ) -> Self {
        Self {
            directory,
            writing: Arena::default(),
            reading: Arena::default(),
            next_number,
            tokens,
            removing: 0,
            bytes: named.values().sum(),
            named,
            pieces: 0,
            hungry: VecDeque::new(),
            to_close: Vec::new(),
            to_remove: Vec::new(),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.writing.is_empty()
    }

    /// No file is open, and none is about to be removed.
    pub(crate) fn is_still(&self) -> bool {
        self.is_idle()
            && self.reading.is_empty()
            && self.removing == 0
            && self.to_close.is_empty()
            && self.to_remove.is_empty()
    }

    /// How many bodies records name.
    pub(crate) fn named_count(&self) -> usize {
        self.named.len()
    }

    /// Their numbers, in an order that lasts as long as they do.
    pub(crate) fn named_numbers(&self) -> impl Iterator<Item = u64> {
        self.named.keys().copied()
    }

    pub(crate) fn is_named(&self, number: u64) -> bool {
        self.named.contains_key(&number)
    }

    /// A removal ended. Where it failed, the next start removes the file.
    pub(crate) fn removed(&mut self) {
        self.removing -= 1;
    }

    pub(crate) fn begin<R: Ring>(&mut self, ring: &mut R, expected_bytes: u64, waiter: Handle) -> LargeKey {
        let number = self.next_number;
        self.next_number += 1;
        let expected_bytes = if expected_bytes == 0 { 0 } else { padded(expected_bytes) };
        self.bytes += expected_bytes;
        let key = self.writing.insert(Writing {
            waiter,
            number,
            file: None,
            doing: Doing::Opening,
            expected_bytes,
            piece: AlignedBuffer::default(),
            filled: 0,
            waiting: VecDeque::new(),
            offset: 0,
            bytes: 0,
            crc: 0,
            paused: false,
            finishing: false,
            finished: false,
            aborted: false,
        });
        let mode = OpenMode { write: true, create_new: true, direct: true };
        let token = self.tokens.token(KIND_LARGE_WRITE, key);
        ring.open_file(&self.directory.join(large_name(number)), mode, token);
        LargeKey(key)
    }

    /// Whether a body may bring its next piece; false asks the caller to keep it and to pause until
    /// [`Event::LargeProgress`].
    ///
    /// A client that waits here waits for the disk alone, never for a client: a piece is taken only whole.
    pub(crate) fn has_memory(&mut self, key: LargeKey) -> bool {
        if self.pieces < PIECES_MAX {
            return true;
        }
        let Some(body) = self.writing.get_mut(key.0) else { return true };
        body.paused = true;
        self.hungry.push_back(key.0);
        false
    }

    /// Memory became free: those that wait for it longest have it.
    fn feed(&mut self, events: &mut VecDeque<Event>) {
        for _ in self.pieces..PIECES_MAX {
            let Some(key) = self.hungry.pop_front() else { return };
            let Some(body) = self.writing.get_mut(key).filter(|body| body.paused && !body.aborted) else {
                continue;
            };
            body.paused = false;
            events.push_back(Event::LargeProgress { large: LargeKey(key), waiter: body.waiter });
        }
    }

    /// Takes more of a body; false asks the caller to pause until [`Event::LargeProgress`].
    pub(crate) fn write<R: Ring>(
        &mut self,
        ring: &mut R,
        key: LargeKey,
        mut bytes: &[u8],
        pool: &mut Pool,
    ) -> bool {
        let Some(body) = self.writing.get_mut(key.0) else { return true };
        if body.aborted || body.finishing {
            return true;
        }
        body.crc = crc32c::crc32c_append(body.crc, bytes);
        body.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            if body.piece.is_empty() {
                body.piece = pool.take(PIECE_BYTES);
            }
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_BYTES - body.filled));
            body.piece[body.filled..body.filled + now.len()].copy_from_slice(now);
            body.filled += now.len();
            bytes = later;
            if body.filled == PIECE_BYTES {
                body.end_piece();
                self.pieces += 1;
            }
        }
        body.paused = body.waiting.len() > PIECES_WAITING_MAX;
        let go_on = !body.paused;
        self.advance(ring, key.0);
        go_on
    }

    /// The body is whole: adds the final dot and makes it durable.
    pub(crate) fn finish<R: Ring>(&mut self, ring: &mut R, key: LargeKey, pool: &mut Pool) {
        self.write(ring, key, b".\r\n", pool);
        if let Some(body) = self.writing.get_mut(key.0) {
            if body.filled > 0 {
                body.end_piece();
                self.pieces += 1;
            }
            body.paused = false;
            body.finishing = true;
        }
        self.advance(ring, key.0);
    }

    pub(crate) fn abort<R: Ring>(&mut self, ring: &mut R, key: LargeKey, events: &mut VecDeque<Event>) {
        if let Some(body) = self.writing.get_mut(key.0) {
            body.aborted = true;
        }
        self.advance(ring, key.0);
        self.feed(events);
    }

    /// A finished body, for the record that will name it.
    pub(crate) fn finished(&mut self, key: LargeKey) -> Option<LargeBody> {
        let body = self.writing.get_mut(key.0).filter(|body| body.finished)?;
        Some(LargeBody { number: body.number, bytes: body.bytes, crc: body.crc })
    }

    /// The record names it: it is no longer ours to remove.
    pub(crate) fn named(&mut self, key: LargeKey) {
        if let Some(body) = self.writing.remove(key.0) {
            self.named.insert(body.number, body.disk_bytes());
            self.to_close.extend(body.file);
        }
    }

    /// The message of this body is done.
    pub(crate) fn remove_later(&mut self, number: u64) {
        self.bytes -= self.named.remove(&number).unwrap_or(0);
        self.to_remove.push(number);
    }

    /// Closes and removes what became superfluous since the last turn; unless it `may_remove`, the names are left
    /// to the next start.
    pub(crate) fn tidy<R: Ring>(&mut self, ring: &mut R, may_remove: bool) {
        for file in self.to_close.drain(..) {
            ring.close_file(file);
        }
        if !may_remove {
            self.to_remove.clear();
        }
        for number in self.to_remove.drain(..) {
            ring.remove_file(&self.directory.join(large_name(number)), self.tokens.numbered(KIND_REMOVE, 0));
            self.removing += 1;
        }
    }

    /// Begins the next operation of a body, if none is under way.
    fn advance<R: Ring>(&mut self, ring: &mut R, key: Handle) {
        let token = self.tokens.token(KIND_LARGE_WRITE, key);
        let Some(body) = self.writing.get_mut(key) else { return };
        if body.doing != Doing::Nothing {
            return;
        }
        if body.aborted {
            if let Some(body) = self.writing.remove(key) {
                self.bytes -= body.disk_bytes();
                self.pieces -= body.waiting.len();
                self.to_close.extend(body.file);
                self.to_remove.push(body.number);
            }
            return;
        }
        let Some(file) = body.file else { return };
        if let Some((piece, filled)) = body.waiting.pop_front() {
            let bytes = padded(filled as u64);
            ring.write_file(file, body.offset, piece, 0..bytes as usize, Durability::Buffered, token);
            self.bytes -= body.disk_bytes();
            body.offset += bytes;
            self.bytes += body.disk_bytes();
            body.doing = Doing::Writing;
        } else if body.finishing && !body.finished {
            fail_point!("large-unsynced");
            ring.sync_file(file, token);
            body.doing = Doing::Syncing;
        }
    }

    /// An operation on a body that is being written ended.
    pub(crate) fn written<R: Ring>(
        &mut self,
        ring: &mut R,
        key: Handle,
        end: (std::io::Result<usize>, Option<File>, Option<AlignedBuffer>),
        pool: &mut Pool,
        events: &mut VecDeque<Event>,
    ) -> Failure {
        let (result, opened, buffer) = end;
        if let Some(buffer) = buffer {
            pool.give_back(buffer);
            self.pieces -= 1;
        }
        let body = self.writing.get_mut(key)?;
        let (large, waiter) = (LargeKey(key), body.waiter);
        let token = self.tokens.token(KIND_LARGE_WRITE, key);
        body.file = body.file.or(opened);
        let done = std::mem::replace(&mut body.doing, Doing::Nothing);
        let mut failure = None;
        match (result, done) {
            (Err(error), done) => {
                // No descriptor, no space: nothing was written whose fate could be unknown.
                let is_full = matches!(done, Doing::Opening | Doing::Allocating) || is_want_of_space(&error);
                // Nothing failed: the directory is elsewhere, as the next look will see.
                let is_gone = error.kind() == std::io::ErrorKind::NotFound;
                if !body.aborted {
                    let refusal = match (is_gone, is_full) {
                        (true, _) => Refusal::Vanished,
                        (_, true) => Refusal::Full,
                        _ => Refusal::Latched,
                    };
                    events.push_back(Event::LargeFailed { large, waiter, refusal });
                }
                body.aborted = true;
                failure = (!is_full && !is_gone).then_some((body.number, error));
            }
            (Ok(_), Doing::Opening) if body.expected_bytes > 0 && !body.aborted => {
                if let Some(file) = body.file {
                    ring.allocate_file(file, body.expected_bytes, token);
                    body.doing = Doing::Allocating;
                }
            }
            (Ok(_), Doing::Syncing) if !body.aborted => {
                ring.sync_directory_file(&self.directory, token);
                body.doing = Doing::SyncingDirectory;
            }
            (Ok(_), Doing::SyncingDirectory) if !body.aborted => {
                fail_point!("large-unnamed");
                body.finished = true;
                events.push_back(Event::LargeFinished { large, waiter });
            }
            (Ok(_), _) => {
                let is_hungry = self.hungry.contains(&key);
                if body.paused && !is_hungry && body.waiting.len() < PIECES_WAITING_MAX {
                    body.paused = false;
                    events.push_back(Event::LargeProgress { large, waiter });
                }
            }
        }
        self.advance(ring, key);
        self.feed(events);
        failure
    }

    pub(crate) fn read<R: Ring>(&mut self, ring: &mut R, body: LargeBody, request: Handle) -> ReadKey {
        let key = self.reading.insert(Reading {
            request,
            file: None,
            body,
            offset: 0,
            crc: 0,
            lent: None,
            busy: true,
            aborted: false,
        });
        let mode = OpenMode { write: false, create_new: false, direct: true };
        let token = self.tokens.token(KIND_LARGE_READ, key);
        ring.open_file(&self.directory.join(large_name(body.number)), mode, token);
        ReadKey { place: self.tokens.place, handle: key }
    }

    pub(crate) fn read_next<R: Ring>(&mut self, ring: &mut R, key: ReadKey, pool: &mut Pool) {
        let token = self.tokens.token(KIND_LARGE_READ, key.handle);
        let Some(reading) = self.reading.get_mut(key.handle) else { return };
        let Some(file) = reading.file.filter(|_| !reading.busy) else { return };
        let buffer = match reading.lent.take().map(Rc::try_unwrap) {
            Some(Ok(buffer)) => buffer,
            _ => pool.take(PIECE_BYTES),
        };
        let bytes = padded((reading.body.bytes - reading.offset).min(PIECE_BYTES as u64));
        ring.read_file(file, reading.offset, buffer, 0..bytes as usize, token);
        reading.busy = true;
    }

    /// Also gives the request that a read under way was for.
    pub(crate) fn read_abort<R: Ring>(&mut self, ring: &mut R, key: ReadKey) -> Option<Handle> {
        let reading = self.reading.get_mut(key.handle).filter(|reading| !reading.aborted)?;
        reading.aborted = true;
        let request = reading.request;
        if !reading.busy {
            self.end_read(ring, key.handle);
        }
        Some(request)
    }

    /// An operation on a body that is being read ended.
    pub(crate) fn piece_read<R: Ring>(
        &mut self,
        ring: &mut R,
        key: Handle,
        end: (std::io::Result<usize>, Option<File>, Option<AlignedBuffer>),
        pool: &mut Pool,
        events: &mut VecDeque<Event>,
    ) {
        let (result, opened, buffer) = end;
        let Some(reading) = self.reading.get_mut(key) else { return };
        reading.busy = false;
        reading.file = reading.file.or(opened);
        let request = reading.request;
        if reading.aborted {
            return self.end_read(ring, key);
        }
        let read = match result {
            Ok(read) => read as u64,
            Err(error) => {
                events.push_back(Event::PieceFailed { request, error: LoadError::Io(error) });
                return self.end_read(ring, key);
            }
        };
        let Some(buffer) = buffer else {
            let read = ReadKey { place: self.tokens.place, handle: key };
            return self.read_next(ring, read, pool);
        };
        let wanted = (reading.body.bytes - reading.offset).min(PIECE_BYTES as u64);
        if read < wanted {
            events.push_back(Event::PieceFailed { request, error: LoadError::Damaged });
            return self.end_read(ring, key);
        }
        let range = 0..wanted as usize;
        reading.crc = crc32c::crc32c_append(reading.crc, &buffer[range.clone()]);
        reading.offset += wanted;
        let last = reading.offset == reading.body.bytes;
        if last && reading.crc != reading.body.crc {
            events.push_back(Event::PieceFailed { request, error: LoadError::Damaged });
            return self.end_read(ring, key);
        }
        let buffer = Rc::new(buffer);
        if last {
            self.end_read(ring, key);
        } else {
            reading.lent = Some(buffer.clone());
        }
        events.push_back(Event::Piece { request, buffer, range, last });
    }

    fn end_read<R: Ring>(&mut self, ring: &mut R, key: Handle) {
        if let Some(Reading { file: Some(file), .. }) = self.reading.remove(key) {
            ring.close_file(file);
        }
    }
}

impl Writing {
    /// What it takes on disk: what was reserved for it, or what it has outgrown that to.
    fn disk_bytes(&self) -> u64 {
        self.offset.max(self.expected_bytes)
    }

    /// Pads the piece with zeros and queues it.
    fn end_piece(&mut self) {
        let mut piece = std::mem::take(&mut self.piece);
        let filled = std::mem::take(&mut self.filled);
        piece[filled..padded(filled as u64) as usize].fill(0);
        self.waiting.push_back((piece, filled));
    }
}
