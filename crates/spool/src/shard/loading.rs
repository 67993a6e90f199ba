//! What a shard hands out again: messages read back, and bodies in separate files on their way in or out.

use std::rc::Rc;

use ring::{AlignedBuffer, BLOCK_BYTES, Handle, Ring};

use crate::format::padded;
#[cfg(feature = "mutants")]
use crate::index::NOWHERE;
#[cfg(feature = "mutants")]
use crate::mutant::{self, Mutant};
use crate::place::KIND_LOAD;
use crate::record;
use crate::shard::Shard;
use crate::{Event, LargeKey, LoadError, MessageKey, ReadKey, Refusal, StoredContent, StoredMessage};

#[derive(Debug)]
pub(crate) struct Load {
    key: MessageKey,
    request: Handle,
    /// Where the record begins in what is read.
    skip: usize,
    /// From where it is read.
    place: (u32, u32),
}

impl Shard {
    /// Asks for a message; [`Event::Loaded`] follows, at once when it is in memory.
    pub fn load<R: Ring>(&mut self, ring: &mut R, key: MessageKey, request: Handle) {
        let Some(entry) = self.index.get(key) else {
            return self.events.push_back(Event::Loaded { request, result: Err(LoadError::Gone) });
        };
        let length = entry.length as usize;
        if let Some((buffer, start)) = self.hot.get(entry, &mut self.pool) {
            let result = StoredMessage::new(buffer, start, length);
            return self.events.push_back(Event::Loaded { request, result });
        }
        #[cfg(feature = "mutants")]
        if mutant::is(Mutant::EarlyAck) && entry.segment == NOWHERE {
            let result = Ok(self.early_copy(entry.offset as usize, length));
            return self.events.push_back(Event::Loaded { request, result });
        }
        let offset = u64::from(entry.offset);
        let begin = offset - offset % BLOCK_BYTES as u64;
        let skip = (offset - begin) as usize;
        let bytes = padded((skip + length) as u64) as usize;
        let file = self.segments.list[entry.segment as usize].file;
        let load = Load { key, request, skip, place: (entry.segment, entry.offset) };
        let token = self.tokens.token(KIND_LOAD, self.loads.insert(load));
        let buffer = self.pool.take(bytes);
        ring.read_file(file, begin, buffer, 0..bytes, token);
    }

    /// Begins a large body. `expected_bytes` (SIZE, 0 when unknown) is reserved on disk.
    ///
    /// # Errors
    /// [`Refusal::Full`] or [`Refusal::Latched`].
    pub fn large_begin<R: Ring>(
        &mut self,
        ring: &mut R,
        expected_bytes: u64,
        waiter: Handle,
    ) -> Result<LargeKey, Refusal> {
        self.accepts_bytes(expected_bytes)?;
        Ok(self.large.begin(ring, expected_bytes, waiter))
    }

    /// Whether there is memory for the next piece of a large body. False asks the caller to keep it and
    /// to pause until [`Event::LargeProgress`], and then to ask again before anything else.
    pub fn large_has_memory(&mut self, large: LargeKey) -> bool {
        self.large.has_memory(large)
    }

    /// Takes more of a large body, in wire form: best in whole pieces of
    /// [`crate::PIECE_BYTES`], since part of one stays in memory until its client sends the rest. False
    /// asks the caller to pause until [`Event::LargeProgress`].
    pub fn large_write<R: Ring>(&mut self, ring: &mut R, large: LargeKey, bytes: &[u8]) -> bool {
        let go_on = self.large.write(ring, large, bytes, &mut self.pool);
        self.count_large();
        go_on
    }

    /// The large body is whole: the final dot is added and all made durable; [`Event::LargeFinished`]
    /// or [`Event::LargeFailed`] follows.
    pub fn large_finish<R: Ring>(&mut self, ring: &mut R, large: LargeKey) {
        self.large.finish(ring, large, &mut self.pool);
        self.count_large();
    }

    /// Gives a large body up, finished or not.
    pub fn large_abort<R: Ring>(&mut self, ring: &mut R, large: LargeKey) {
        self.large.abort(ring, large, &mut self.events);
        self.count_large();
    }

    /// Begins to read the large body of a message; the first [`Event::Piece`] follows. `None` when it has none.
    pub fn read_large<R: Ring>(
        &mut self,
        ring: &mut R,
        message: &StoredMessage,
        request: Handle,
    ) -> Option<ReadKey> {
        matches!(message.content(), StoredContent::Large { .. }).then_some(())?;
        Some(self.large.read(ring, message.large()?, request))
    }

    /// Asks for the next piece, once the last one is sent and dropped.
    pub fn read_next<R: Ring>(&mut self, ring: &mut R, read: ReadKey) {
        self.large.read_next(ring, read, &mut self.pool);
    }

    /// Gives a read up, if it has not ended: [`Event::PieceFailed`] is the last that is heard of it.
    pub fn read_abort<R: Ring>(&mut self, ring: &mut R, read: ReadKey) {
        if let Some(request) = self.large.read_abort(ring, read) {
            self.events.push_back(Event::PieceFailed { request, error: LoadError::Gone });
        }
    }

    pub(crate) fn loaded<R: Ring>(
        &mut self,
        ring: &mut R,
        load: Handle,
        result: std::io::Result<usize>,
        buffer: Option<AlignedBuffer>,
    ) {
        let Some(Load { key, request, skip, place }) = self.loads.remove(load) else { return };
        if self.index.get(key).is_some_and(|entry| (entry.segment, entry.offset) != place) {
            // Compaction moved it meanwhile, and what was read may be of another life of the segment.
            self.pool.give_back(buffer.unwrap_or_default());
            return self.load(ring, key, request);
        }
        let result = match (self.index.get(key), result, buffer) {
            (None, ..) => Err(LoadError::Gone),
            (_, Err(error), _) => Err(LoadError::Io(error)),
            (Some(entry), Ok(read), Some(buffer)) => {
                let length = entry.length as usize;
                let record = buffer.get(skip..skip + length).filter(|_| read >= skip + length);
                let is_sound = record.is_some_and(|bytes| {
                    record::sound_length(bytes) == Some(length) && record::id_of(bytes) == Some(entry.id())
                });
                let buffer = Rc::new(buffer);
                let message = match is_sound {
                    true => StoredMessage::new(buffer.clone(), skip, length),
                    false => Err(LoadError::Damaged),
                };
                self.hot.lend(buffer, &mut self.pool);
                message
            }
            _ => Err(LoadError::Damaged),
        };
        self.events.push_back(Event::Loaded { request, result });
    }

    /// Large bodies share the capacity.
    pub(crate) fn count_large(&mut self) {
        if self.segments.large_bytes != self.large.bytes {
            self.segments.large_bytes = self.large.bytes;
            self.segments.refresh();
        }
    }
}
