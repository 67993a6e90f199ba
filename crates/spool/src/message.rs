use std::net::IpAddr;
use std::ops::Range;

use mail::{Address, MessageId, ReversePath, UnixMillis};
use ring::SharedBuffer;

use crate::LoadError;
use crate::place::HOME;
use crate::record::{self, LargeBody, Layout, MessageView};

/// A message as the log holds it, in memory: a share of the buffer it was written from or read into.
///
/// Cheap to clone; the memory is kept while a clone lives.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    buffer: SharedBuffer,
    start: u32,
    length: u32,
    layout: Layout,
    /// The place of its shard in the worker's spool.
    pub(crate) place: u8,
}

/// What goes over the wire after DATA.
#[derive(Clone, Debug)]
pub enum StoredContent {
    /// All of it, header lines and final dot included.
    Inline(SharedBuffer, Range<usize>),
    /// The header lines that we add, and mostly the message's own; the rest, final dot included, comes
    /// from [`crate::Shard::read_large`].
    Large {
        /// Holds the header lines.
        buffer: SharedBuffer,
        /// The header lines in it.
        head: Range<usize>,
        /// Length of the rest in bytes.
        bytes: u64,
    },
}

impl StoredMessage {
    /// A view on the record in `buffer[start..start + length]`.
    ///
    /// # Errors
    /// [`LoadError::Damaged`] when there is no such message record, [`LoadError::Foreign`].
    pub(crate) fn new(buffer: SharedBuffer, start: usize, length: usize) -> Result<Self, LoadError> {
        let record = buffer.get(start..start + length).filter(|record| record::is_whole(record));
        let layout = *record.and_then(MessageView::parse).ok_or(LoadError::Damaged)?.layout();
        if let Some(foreign) = layout.foreign {
            return Err(LoadError::Foreign(foreign));
        }
        let (start, length) = (u32::try_from(start), u32::try_from(length));
        let (start, length) = start.ok().zip(length.ok()).ok_or(LoadError::Damaged)?;
        Ok(Self { buffer, start, length, layout, place: HOME })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.view().id()
    }

    /// When it came.
    #[must_use]
    pub fn arrived(&self) -> UnixMillis {
        self.view().arrived()
    }

    /// The name of its tenant.
    #[must_use]
    pub fn tenant(&self) -> &str {
        self.view().tenant()
    }

    /// The login it came by; empty for none.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.view().identity()
    }

    /// The address in the tenant's network that it came from, where no login stands for it.
    #[must_use]
    pub fn client(&self) -> Option<IpAddr> {
        self.view().client()
    }

    /// The sender.
    #[must_use]
    pub fn reverse_path(&self) -> ReversePath<'_> {
        self.view().reverse_path()
    }

    /// All recipients, those with an outcome too, in the order of the envelope.
    pub fn recipients(&self) -> impl ExactSizeIterator<Item = Address<'_>> {
        self.view().recipients()
    }

    /// How many recipients there are.
    #[must_use]
    pub fn recipient_count(&self) -> usize {
        self.view().recipient_count()
    }

    /// The sender declared BODY=8BITMIME.
    #[must_use]
    pub fn is_eight_bit(&self) -> bool {
        self.view().is_eight_bit()
    }

    /// What goes over the wire.
    #[must_use]
    pub fn content(&self) -> StoredContent {
        let end = (self.start + self.length) as usize;
        let range = end - self.view().content_bytes()..end;
        match self.view().large() {
            None => StoredContent::Inline(self.buffer.clone(), range),
            Some(large) => {
                StoredContent::Large { buffer: self.buffer.clone(), head: range, bytes: large.bytes }
            }
        }
    }

    /// Bytes over the wire after DATA, header lines and final dot included.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.view().content_bytes() as u64 + self.view().large().map_or(0, |large| large.bytes)
    }

    pub(crate) fn large(&self) -> Option<LargeBody> {
        self.view().large()
    }

    fn view(&self) -> MessageView<'_> {
        let bytes = &self.buffer[self.start as usize..(self.start + self.length) as usize];
        MessageView::of_checked(bytes, self.layout)
    }
}
