//! What a device was told, in order: recorded beneath a file system, and played back up to any moment.
//!
//! `qemu-storage-daemon` exports an image as a file (FUSE) and logs every write and flush to it in the
//! form of dm-log-writes; a loop device on that file is the disk. What a power cut leaves is everything
//! up to the last flush and any part of what was written after it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use testbed::random::Random;

use crate::device::text;
use crate::exported::Exported;

/// Unit of the log and of the device (`linux/drivers/md/dm-log-writes.c`).
const SECTOR: usize = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// What a file system takes for whole or not there at all when a write is torn.
const BLOCK: usize = 4096;
/// A spool's group begins with this; it claims nothing about parts of a block, so it is torn in sectors.
const GROUP_MAGIC: &[u8] = b"GPGROUP\n";

/// The piece in which images are copied.
const CHUNK: usize = 64 << 10;

/// An image whose writes are being recorded; the recording stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Recorder {
    exported: Exported,
    log: PathBuf,
}

impl Recorder {
    /// Exports `image` as a separate file beside it and records into a log beside it.
    pub(crate) fn start(image: &Path) -> Self {
        let log = image.with_extension("log");
        File::create(&log).expect("the work folder can be written");
        let recorded = format!("driver=file,node-name=log,filename={}", text(&log));
        let logged = "driver=blklogwrites,node-name=disk,file=image,log=log,log-sector-size=512";
        // The log's superblock is written by the flush of the unmounting.
        let exported = Exported::start(image, &[recorded, logged.to_owned()]);
        Self { exported, log }
    }

    /// The file that is the disk.
    pub(crate) fn disk(&self) -> &Path {
        self.exported.disk()
    }

    /// The log.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }
}

/// One thing that the device was told.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where it is written, in bytes; nothing is by a flush.
    at: u64,
    /// Where its data stands in the log.
    data: usize,
    bytes: usize,
    is_flush: bool,
    /// Where the log was when it had taken this in.
    end: u64,
}

/// A recording.
#[derive(Debug)]
pub(crate) struct Log {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Log {
    /// Reads the log at `path`.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).expect("the log can be read");
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        assert_eq!(word(0), MAGIC, "not a log of dm-log-writes");
        assert_eq!(bytes[24..28], 512_u32.to_le_bytes(), "the log has other sectors");
        let (mut entries, mut at) = (Vec::new(), SECTOR);
        for _ in 0..word(16) {
            let (sector, sectors, flags) = (word(at), word(at + 8) as usize, word(at + 16));
            let has_data = flags & DISCARD == 0;
            let (data, bytes) = (at + SECTOR, if has_data { sectors * SECTOR } else { 0 });
            at = data + bytes;
            let is_flush = flags & FLUSH != 0;
            entries.push(Entry { at: sector * SECTOR as u64, data, bytes, is_flush, end: at as u64 });
        }
        assert!(at <= bytes.len(), "the log is cut off");
        Self { bytes, entries }
    }

    /// The positions of the flushes that were asked for after the log had `begin` bytes.
    pub(crate) fn flushes_after(&self, begin: u64) -> Vec<usize> {
        let flushes =
            self.entries.iter().enumerate().filter(|(_, entry)| entry.is_flush && entry.end > begin);
        flushes.map(|(position, _)| position).collect()
    }

    /// How many things the device was told.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How long the log was when the device had been told everything up to `position`.
    pub(crate) fn end(&self, position: usize) -> u64 {
        self.entries[position].end
    }

    fn data(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.data..entry.data + entry.bytes]
    }
}

/// A device as it was at some moment; it only goes forward.
#[derive(Debug)]
pub(crate) struct Playback<'a> {
    log: &'a Log,
    /// The pieces that hold something.
    chunks: BTreeMap<u64, Box<[u8; CHUNK]>>,
    image_bytes: u64,
    /// What is in the chunks: the entries before this one.
    next: usize,
}

impl<'a> Playback<'a> {
    /// Begins with the image at `start`, which the recording began with.
    pub(crate) fn new(log: &'a Log, start: &Path) -> Self {
        let file = File::open(start).expect("the image can be read");
        let image_bytes = file.metadata().expect("the image can be read").len();
        let mut chunks = BTreeMap::new();
        for number in 0..image_bytes / CHUNK as u64 {
            let mut chunk = Box::new([0; CHUNK]);
            file.read_exact_at(&mut chunk[..], number * CHUNK as u64).expect("the image can be read");
            if chunk.iter().any(|byte| *byte != 0) {
                chunks.insert(number, chunk);
            }
        }
        Self { log, chunks, image_bytes, next: 0 }
    }

    /// Goes forward until everything up to `position` is on the device.
    pub(crate) fn advance(&mut self, position: usize) {
        for index in self.next..=position {
            let entry = &self.log.entries[index];
            write(entry.at, self.log.data(entry), |number, within, bytes| {
                let chunk = self.chunks.entry(number).or_insert_with(|| Box::new([0; CHUNK]));
                chunk[within..within + bytes.len()].copy_from_slice(bytes);
            });
        }
        self.next = position + 1;
    }

    /// Makes the image at `path` as the device is now.
    pub(crate) fn write(&self, path: &Path) -> File {
        let file = File::options().read(true).write(true).create_new(true).open(path);
        let file = file.expect("the work folder can be written");
        file.set_len(self.image_bytes).expect("the image can be as large");
        for (number, chunk) in &self.chunks {
            file.write_all_at(&chunk[..], number * CHUNK as u64).expect("the work folder can be written");
        }
        file
    }

    /// The same, and with any part of what was written later, up to `last`, as chance has it.
    pub(crate) fn write_with_part(&self, path: &Path, last: usize, random: &mut Random) {
        let file = self.write(path);
        for entry in &self.log.entries[self.next..=last] {
            let data = self.log.data(entry);
            let piece = if data.starts_with(GROUP_MAGIC) { SECTOR } else { BLOCK };
            let fate = random.below(5);
            for (index, bytes) in data.chunks(piece).enumerate() {
                // Two in five are whole, two in five not there, one in five is torn.
                if fate < 2 || (fate == 4 && random.below(2) == 0) {
                    let at = entry.at + (index * piece) as u64;
                    file.write_all_at(bytes, at).expect("the work folder can be written");
                }
            }
        }
    }
}

/// Gives `bytes` at `at` chunk by chunk.
fn write(at: u64, bytes: &[u8], mut put: impl FnMut(u64, usize, &[u8])) {
    let mut done = 0;
    while done < bytes.len() {
        let here = at + done as u64;
        let within = (here % CHUNK as u64) as usize;
        let length = (CHUNK - within).min(bytes.len() - done);
        put(here / CHUNK as u64, within, &bytes[done..done + length]);
        done += length;
    }
}
