//! The ring of a real host: io_uring.
mod error;

use std::io;
use std::net::SocketAddr;
pub use error::RingError;

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct UringOptions {
    /// Operations that one turn submits without an extra system call; a power of two.
    pub submissions: u32,
    /// Completions the kernel can hold for one turn; a power of two.
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
#[derive(Debug)]
pub struct UringRing {}

impl UringRing {
    /// Makes a ring.
    ///
    /// # Errors
    /// When the environment does not allow one, with the remedy.
    pub fn new(_options: UringOptions) -> Result<Self, RingError> {
        Err(RingError::from_io(io::Error::from_raw_os_error(libc::ENOSYS)))
    }
}

/// Whether a stranger holds the port.
///
/// # Errors
/// As bind does.
pub fn port_is_free(_address: SocketAddr) -> io::Result<()> {
    Ok(())
}
