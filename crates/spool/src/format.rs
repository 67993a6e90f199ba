//! Headers of `FORMAT.md`: identity, segment, group. Pure bytes; CRCs are checked here.

use ring::BLOCK_BYTES;

pub(crate) const VERSION: u16 = 2;
pub(crate) const HEADER_BYTES: usize = 64;
const IDENTITY_MAGIC: &[u8; 8] = b"GPSHARD\n";
const SEGMENT_MAGIC: &[u8; 8] = b"GPSEGMT\n";
const GROUP_MAGIC: &[u8; 8] = b"GPGROUP\n";
const TRAILER_MAGIC: &[u8; 8] = b"GPFOOTR\n";
const TRAILER_SEALED: u16 = 1;

// Where what stands in every header,
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
const SALT_AT: usize = 16;
const CRC_AT: usize = 60;

// in those of a segment, of a group and of a footer,
const EPOCH_AT: usize = 24;

// in those of a group and of a footer,
const BYTES_AT: usize = 12;
const SEQUENCE_AT: usize = 32;

// in an identity,
const SHARD_AT: usize = 10;
const SEGMENT_BYTES_AT: usize = 24;

// in the header of a group,
const RECORDS_AT: usize = 40;
const PREVIOUS_CRC_AT: usize = 44;
const RECORDS_CRC_AT: usize = 48;

// and in the trailer of a footer.
const FLAGS_AT: usize = 10;
const LAST_CRC_AT: usize = 40;
const END_AT: usize = 44;
const FOOTER_CRC_AT: usize = 48;
const EPOCHS_BEHIND_AT: usize = 52;

/// What the identity file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) shard: u8,
    pub(crate) salt: u64,
    pub(crate) segment_bytes: u64,
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) salt: u64,
    pub(crate) epoch: u64,
}

/// The header of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) length: u32,
    pub(crate) salt: u64,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) records: u32,
    pub(crate) previous_crc: u32,
    pub(crate) records_crc: u32,
    /// The header's own CRC, which the next group repeats; set by writing and by parsing.
    pub(crate) crc: u32,
}

/// Why a block is no identity of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoIdentity {
    /// It is something else.
    Strange,
    Damaged,
    /// It is of this other version.
    Version(u16),
}

impl Identity {
    pub(crate) fn write(&self, block: &mut [u8]) {
        begin(&mut block[..HEADER_BYTES], IDENTITY_MAGIC);
        put(block, SHARD_AT, u16::from(self.shard).to_le_bytes());
        put(block, SALT_AT, self.salt.to_le_bytes());
        put(block, SEGMENT_BYTES_AT, self.segment_bytes.to_le_bytes());
        put_crc(block);
    }

    pub(crate) fn parse(block: &[u8]) -> Result<Self, NoIdentity> {
        if block.len() < HEADER_BYTES || block[MAGIC_AT..VERSION_AT] != *IDENTITY_MAGIC {
            return Err(NoIdentity::Strange);
        }
        if !is_crc_right(block) {
            return Err(NoIdentity::Damaged);
        }
        let version = u16_at(block, VERSION_AT);
        if version != VERSION {
            return Err(NoIdentity::Version(version));
        }
        let shard = u8::try_from(u16_at(block, SHARD_AT)).map_err(|_| NoIdentity::Strange)?;
        Ok(Self { shard, salt: u64_at(block, SALT_AT), segment_bytes: u64_at(block, SEGMENT_BYTES_AT) })
    }
}

impl SegmentHeader {
    pub(crate) fn write(&self, block: &mut [u8]) {
        begin(&mut block[..BLOCK_BYTES], SEGMENT_MAGIC);
        put(block, SALT_AT, self.salt.to_le_bytes());
        put(block, EPOCH_AT, self.epoch.to_le_bytes());
        put_crc(block);
    }

    pub(crate) fn parse(block: &[u8]) -> Option<Self> {
        is_sound(block, SEGMENT_MAGIC)
            .then(|| Self { salt: u64_at(block, SALT_AT), epoch: u64_at(block, EPOCH_AT) })
    }
}

impl GroupHeader {
    /// Writes the header and gives its CRC.
    pub(crate) fn write(&self, block: &mut [u8]) -> u32 {
        begin(&mut block[..HEADER_BYTES], GROUP_MAGIC);
        put(block, BYTES_AT, self.length.to_le_bytes());
        put(block, SALT_AT, self.salt.to_le_bytes());
        put(block, EPOCH_AT, self.epoch.to_le_bytes());
        put(block, SEQUENCE_AT, self.sequence.to_le_bytes());
        put(block, RECORDS_AT, self.records.to_le_bytes());
        put(block, PREVIOUS_CRC_AT, self.previous_crc.to_le_bytes());
        put(block, RECORDS_CRC_AT, self.records_crc.to_le_bytes());
        put_crc(block)
    }

    pub(crate) fn parse(block: &[u8]) -> Option<Self> {
        is_sound(block, GROUP_MAGIC).then(|| Self {
            length: u32_at(block, BYTES_AT),
            salt: u64_at(block, SALT_AT),
            epoch: u64_at(block, EPOCH_AT),
            sequence: u64_at(block, SEQUENCE_AT),
            records: u32_at(block, RECORDS_AT),
            previous_crc: u32_at(block, PREVIOUS_CRC_AT),
            records_crc: u32_at(block, RECORDS_CRC_AT),
            crc: u32_at(block, CRC_AT),
        })
    }

    /// The whole group on disk, padding included.
    pub(crate) fn disk_bytes(&self) -> u64 {
        padded(HEADER_BYTES as u64 + u64::from(self.length))
    }
}

/// The last block of a segment, behind its footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// No group follows what the footer covers.
    pub(crate) is_sealed: bool,
    pub(crate) salt: u64,
    /// The epoch of the segment's life.
    pub(crate) epoch: u64,
    /// The last group that the footer covers.
    pub(crate) last: Last,
    /// Behind that group.
    pub(crate) end: u32,
    /// Length of the footer, which ends where its padding to this block begins.
    pub(crate) length: u32,
    pub(crate) footer_crc: u32,
}

/// What the next group goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) crc: u32,
}

impl From<&GroupHeader> for Last {
    fn from(group: &GroupHeader) -> Self {
        Self { epoch: group.epoch, sequence: group.sequence, crc: group.crc }
    }
}

impl Trailer {
    pub(crate) fn write(&self, block: &mut [u8]) {
        begin(&mut block[..BLOCK_BYTES], TRAILER_MAGIC);
        let flags = if self.is_sealed { TRAILER_SEALED } else { 0 };
        put(block, FLAGS_AT, flags.to_le_bytes());
        put(block, BYTES_AT, self.length.to_le_bytes());
        put(block, SALT_AT, self.salt.to_le_bytes());
        put(block, EPOCH_AT, self.epoch.to_le_bytes());
        put(block, SEQUENCE_AT, self.last.sequence.to_le_bytes());
        put(block, LAST_CRC_AT, self.last.crc.to_le_bytes());
        put(block, END_AT, self.end.to_le_bytes());
        put(block, FOOTER_CRC_AT, self.footer_crc.to_le_bytes());
        // Fewer recoveries than 2^32 happen within one life of a segment.
        let behind = (self.last.epoch - self.epoch) as u32;
        put(block, EPOCHS_BEHIND_AT, behind.to_le_bytes());
        put_crc(block);
    }

    pub(crate) fn parse(block: &[u8]) -> Option<Self> {
        is_sound(block, TRAILER_MAGIC).then(|| {
            let epoch = u64_at(block, EPOCH_AT);
            Self {
                is_sealed: u16_at(block, FLAGS_AT) & TRAILER_SEALED != 0,
                length: u32_at(block, BYTES_AT),
                salt: u64_at(block, SALT_AT),
                epoch,
                last: Last {
                    epoch: epoch.saturating_add(u64::from(u32_at(block, EPOCHS_BEHIND_AT))),
                    sequence: u64_at(block, SEQUENCE_AT),
                    crc: u32_at(block, LAST_CRC_AT),
                },
                end: u32_at(block, END_AT),
                footer_crc: u32_at(block, FOOTER_CRC_AT),
            }
        })
    }

    /// Where the footer begins in a segment of `segment_bytes`.
    pub(crate) fn footer_at(&self, segment_bytes: u64) -> Option<u64> {
        let at = (segment_bytes - BLOCK_BYTES as u64).checked_sub(padded(u64::from(self.length)))?;
        (at >= u64::from(self.end)).then_some(at)
    }
}

/// `bytes` rounded up to whole blocks.
pub(crate) fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES as u64)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes were sliced"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were sliced"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
}

/// Begins a block, or a header, that is zeros otherwise.
fn begin(block: &mut [u8], magic: &[u8; 8]) {
    block.fill(0);
    put(block, MAGIC_AT, *magic);
    put(block, VERSION_AT, VERSION.to_le_bytes());
}

fn put<const BYTES: usize>(block: &mut [u8], at: usize, bytes: [u8; BYTES]) {
    block[at..at + BYTES].copy_from_slice(&bytes);
}

fn put_crc(block: &mut [u8]) -> u32 {
    let crc = crc32c::crc32c(&block[..CRC_AT]);
    put(block, CRC_AT, crc.to_le_bytes());
    crc
}

fn is_crc_right(block: &[u8]) -> bool {
    u32_at(block, CRC_AT) == crc32c::crc32c(&block[..CRC_AT])
}

fn is_sound(block: &[u8], magic: &[u8; 8]) -> bool {
    block.len() >= HEADER_BYTES
        && block[MAGIC_AT..VERSION_AT] == *magic
        && u16_at(block, VERSION_AT) == VERSION
        && is_crc_right(block)
}
