//! Headers of `FORMAT.md`: identity, segment, group. Pure bytes; CRCs are checked here.

use ring::BLOCK_BYTES;

pub(crate) const VERSION: u16 = 1;
pub(crate) const HEADER_BYTES: usize = 64;
const IDENTITY_MAGIC: &[u8; 8] = b"GPSHARD\n";
const SEGMENT_MAGIC: &[u8; 8] = b"GPSEGMT\n";
const GROUP_MAGIC: &[u8; 8] = b"GPGROUP\n";
const TRAILER_MAGIC: &[u8; 8] = b"GPFOOTR\n";
const TRAILER_SEALED: u16 = 1;
const CRC_AT: usize = 60;

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

impl Identity {
    pub(crate) fn write(&self, block: &mut [u8]) {
        block[..HEADER_BYTES].fill(0);
        put_magic(block, IDENTITY_MAGIC);
        block[10..12].copy_from_slice(&u16::from(self.shard).to_le_bytes());
        block[16..24].copy_from_slice(&self.salt.to_le_bytes());
        block[24..32].copy_from_slice(&self.segment_bytes.to_le_bytes());
        put_crc(block);
    }

    /// Why not, in words, when the block is no identity of this version.
    pub(crate) fn parse(block: &[u8]) -> Result<Self, String> {
        if block.len() < HEADER_BYTES || block[..8] != *IDENTITY_MAGIC {
            return Err("this is not the identity of a Gatepost spool shard".to_owned());
        }
        if u32_at(block, CRC_AT) != crc32c::crc32c(&block[..CRC_AT]) {
            return Err("the shard's identity is damaged (its checksum fails); restore the file from a copy"
                .to_owned());
        }
        let version = u16_at(block, 8);
        if version != VERSION {
            return Err(format!(
                "written in format version {version}; this Gatepost reads version {VERSION}"
            ));
        }
        let shard = u8::try_from(u16_at(block, 10)).map_err(|_| "a shard number past 255".to_owned())?;
        Ok(Self { shard, salt: u64_at(block, 16), segment_bytes: u64_at(block, 24) })
    }
}

impl SegmentHeader {
    pub(crate) fn write(&self, block: &mut [u8]) {
        block[..BLOCK_BYTES].fill(0);
        put_magic(block, SEGMENT_MAGIC);
        block[16..24].copy_from_slice(&self.salt.to_le_bytes());
        block[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        put_crc(block);
    }

    pub(crate) fn parse(block: &[u8]) -> Option<Self> {
        is_sound(block, SEGMENT_MAGIC).then(|| Self { salt: u64_at(block, 16), epoch: u64_at(block, 24) })
    }
}

impl GroupHeader {
    /// Writes the header and gives its CRC.
    pub(crate) fn write(&self, block: &mut [u8]) -> u32 {
        block[..HEADER_BYTES].fill(0);
        put_magic(block, GROUP_MAGIC);
        block[12..16].copy_from_slice(&self.length.to_le_bytes());
        block[16..24].copy_from_slice(&self.salt.to_le_bytes());
        block[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        block[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        block[40..44].copy_from_slice(&self.records.to_le_bytes());
        block[44..48].copy_from_slice(&self.previous_crc.to_le_bytes());
        block[48..52].copy_from_slice(&self.records_crc.to_le_bytes());
        put_crc(block)
    }

    pub(crate) fn parse(block: &[u8]) -> Option<Self> {
        is_sound(block, GROUP_MAGIC).then(|| Self {
            length: u32_at(block, 12),
            salt: u64_at(block, 16),
            epoch: u64_at(block, 24),
            sequence: u64_at(block, 32),
            records: u32_at(block, 40),
            previous_crc: u32_at(block, 44),
            records_crc: u32_at(block, 48),
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
        block[..BLOCK_BYTES].fill(0);
        put_magic(block, TRAILER_MAGIC);
        let flags = if self.is_sealed { TRAILER_SEALED } else { 0 };
        block[10..12].copy_from_slice(&flags.to_le_bytes());
        block[12..16].copy_from_slice(&self.length.to_le_bytes());
        block[16..24].copy_from_slice(&self.salt.to_le_bytes());
        block[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        block[32..40].copy_from_slice(&self.last.sequence.to_le_bytes());
        block[40..44].copy_from_slice(&self.last.crc.to_le_bytes());
        block[44..48].copy_from_slice(&self.end.to_le_bytes());
        block[48..52].copy_from_slice(&self.footer_crc.to_le_bytes());
        // Fewer recoveries than 2^32 happen within one life of a segment.
        let behind = (self.last.epoch - self.epoch) as u32;
        block[52..56].copy_from_slice(&behind.to_le_bytes());
        put_crc(block);
    }

    pub(crate) fn parse(block: &[u8]) -> Option<Self> {
        is_sound(block, TRAILER_MAGIC).then(|| {
            let epoch = u64_at(block, 24);
            Self {
                is_sealed: u16_at(block, 10) & TRAILER_SEALED != 0,
                length: u32_at(block, 12),
                salt: u64_at(block, 16),
                epoch,
                last: Last {
                    epoch: epoch + u64::from(u32_at(block, 52)),
                    sequence: u64_at(block, 32),
                    crc: u32_at(block, 40),
                },
                end: u32_at(block, 44),
                footer_crc: u32_at(block, 48),
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

fn put_magic(block: &mut [u8], magic: &[u8; 8]) {
    block[..8].copy_from_slice(magic);
    block[8..10].copy_from_slice(&VERSION.to_le_bytes());
}

fn put_crc(block: &mut [u8]) -> u32 {
    let crc = crc32c::crc32c(&block[..CRC_AT]);
    block[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    crc
}

fn is_sound(block: &[u8], magic: &[u8; 8]) -> bool {
    block.len() >= HEADER_BYTES
        && block[..8] == *magic
        && u16_at(block, 8) == VERSION
        && u32_at(block, CRC_AT) == crc32c::crc32c(&block[..CRC_AT])
}
