//! The buffers that the kernel fills with received data, and the ring by which they are given to it.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// The group under which receives ask for these buffers.
pub(super) const GROUP: u16 = 0;
const PAGE_BYTES: usize = 4096;

/// Promises: a buffer is either the kernel's or lent out, never both.
pub(super) struct Buffers {
    /// The entries (a whole number of pages), then the buffers.
    region: NonNull<u8>,
    region_bytes: usize,
    data_at: usize,
    count: u16,
    buffer_bytes: u32,
    tail: u16,
    /// Buffers the kernel has, those it used but has not told of among them.
    available: u16,
}

impl Buffers {
    /// Registers `count` (a power of two) buffers with the ring.
    pub(super) fn new(ring: &IoUring, count: u16, buffer_bytes: u32) -> io::Result<Self> {
        let entries_bytes = usize::from(count) * size_of::<BufRingEntry>();
        let data_at = entries_bytes.next_multiple_of(PAGE_BYTES);
        let region_bytes = data_at + usize::from(count) * buffer_bytes as usize;
        let region = map(region_bytes)?;
        let mut buffers = Self { region, region_bytes, data_at, count, buffer_bytes, tail: 0, available: 0 };
        let address = region.as_ptr().addr() as u64;
        // SAFETY: the region begins on a page, has room for `count` entries, and lives until after the
        // ring has nothing under way: `UringRing` sees to that when it is dropped.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0) }?;
        for buffer in 0..count {
            buffers.give(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Buffers that a receive can hope for.
    pub(super) fn available(&self) -> u16 {
        self.available
    }

    /// The kernel told that it filled one.
    pub(super) fn taken(&mut self) {
        self.available -= 1;
    }

    /// Gives a buffer back; the kernel sees it after [`Self::publish`].
    pub(super) fn give(&mut self, buffer: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot` is less than `count`, so the entry lies in the region, and only this thread
        // writes entries that the tail has not passed. Zeroes, as the region came, are valid entries.
        let entry = unsafe { &mut *self.region.as_ptr().cast::<BufRingEntry>().add(slot) };
        entry.set_addr(self.at(buffer).addr() as u64);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.available += 1;
    }

    /// Lets the kernel see what was given back.
    pub(super) fn publish(&mut self) {
        // SAFETY: the region begins with the first entry, where the kernel keeps the tail.
        let tail = unsafe { BufRingEntry::tail(self.region.as_ptr().cast()) };
        // SAFETY: the tail is aligned and lives as long as the region; kernel and this thread share it atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The bytes of a lent buffer.
    pub(super) fn bytes(&self, buffer: u16, length: u32) -> &[u8] {
        assert!(buffer < self.count && length <= self.buffer_bytes, "a chunk of this ring");
        // SAFETY: the range lies in the region, and while the buffer is lent the kernel does not write to it.
        unsafe { std::slice::from_raw_parts(self.at(buffer), length as usize) }
    }

    /// Keeps the memory for ever, when the kernel cannot be made to let go of it.
    pub(super) fn leak(&mut self) {
        self.region_bytes = 0;
    }

    fn at(&self, buffer: u16) -> *mut u8 {
        let offset = self.data_at + usize::from(buffer) * self.buffer_bytes as usize;
        // SAFETY: callers name buffers below `count`, all of which lie in the region.
        unsafe { self.region.as_ptr().add(offset) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.region_bytes > 0 {
            // SAFETY: the region was mapped with this length, and nothing refers to it any more.
            unsafe { libc::munmap(self.region.as_ptr().cast(), self.region_bytes) };
        }
    }
}

/// Zeroed pages, which cost memory only once they are used.
fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping touches no existing memory.
    let region = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if region == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(NonNull::new(region.cast()).expect("a mapping is not at address zero"))
}
