use std::ops::{Deref, DerefMut, Range};
use std::rc::Rc;

/// The unit of direct I/O: addresses, offsets and lengths are multiples of it.
pub const BLOCK_BYTES: usize = 4096;

#[derive(Clone)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES]);

/// Bytes aligned for direct I/O, in whole blocks; new ones are zero.
#[derive(Clone, Default)]
pub struct AlignedBuffer {
    blocks: Vec<Block>,
}

impl AlignedBuffer {
    /// A zeroed buffer of at least `bytes` bytes, rounded up to whole blocks.
    #[must_use]
    pub fn zeroed(bytes: usize) -> Self {
        Self { blocks: vec![Block([0; BLOCK_BYTES]); bytes.div_ceil(BLOCK_BYTES)] }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `Block` is `repr(C)` over a byte array of its own size, so the blocks are one run of initialised bytes.
        unsafe { std::slice::from_raw_parts(self.blocks.as_ptr().cast(), self.blocks.len() * BLOCK_BYTES) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the borrow is exclusive.
        unsafe {
            std::slice::from_raw_parts_mut(self.blocks.as_mut_ptr().cast(), self.blocks.len() * BLOCK_BYTES)
        }
    }
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.len())
    }
}

/// A buffer that is not changed any more and several readers share within one worker.
pub type SharedBuffer = Rc<AlignedBuffer>;

/// What a socket is to send.
#[derive(Debug)]
pub enum Output {
    /// All of a vector; it comes back with the completion, to be used again.
    Owned(Vec<u8>),
    /// A part of a shared buffer, sent from where it lies.
    Shared(SharedBuffer, Range<usize>),
}

impl Output {
    /// The bytes to send.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(buffer, range) => &buffer[range.clone()],
        }
    }
}
