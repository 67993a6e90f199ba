//! Reading a shard from its files: its identity, its segments, the groups in them and the damage between.
//!
//! Blocking, for the start and for tools. Promises that a visitor sees only records whose CRCs
//! are right; what is damaged in the middle is reported, what is torn at the end is not there.

use std::io;
use std::path::{Path, PathBuf};

use mail::MessageId;
use ring::{BLOCK_BYTES, Disk, File, OpenMode};

use crate::SpoolError;
use crate::footer;
use crate::format::{GroupHeader, HEADER_BYTES, Identity, Last, NoIdentity, SegmentHeader, Trailer, padded};
use crate::record::{self, Record};

pub(crate) const TEMPORARY_NAME: &str = "segment.tmp";

/// One read while looking for a group behind damage.
const WINDOW_BYTES: usize = 1 << 20;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Bytes in the middle of a segment that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment's file.
    pub path: PathBuf,
    /// Where the damage begins, in bytes.
    pub offset: u64,
    /// How far it may reach, in bytes.
    pub bytes: u64,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} bytes at offset {} are damaged", self.path.display(), self.bytes, self.offset)
    }
}

/// Makes this process the owner of the spool in `directory`.
///
/// The lock is held as long as `disk` lives. `owner` describes this process to a second one.
///
/// # Errors
/// When another process owns it, or when the system refuses.
pub fn claim<D: Disk>(disk: &mut D, directory: &Path, owner: &str) -> Result<(), SpoolError> {
    disk.create_directory(directory).map_err(SpoolError::io("create", directory))?;
    let lock = directory.join("lock");
    if let Err(owner) = disk.lock(&lock, owner).map_err(SpoolError::io("lock", &lock))? {
        return Err(SpoolError::InUse { path: directory.to_owned(), owner: owner.trim().to_owned() });
    }
    Ok(())
}

/// Whether what lies in the directory may be a spool's, open or not: each shard is a directory. That there is
/// none yet is no fault.
///
/// # Errors
/// The first that is something else, or that cannot be looked at.
pub fn survey<D: Disk>(disk: &mut D, directory: &Path) -> Result<(), SpoolError> {
    let shards = match shards(disk, directory) {
        Err(SpoolError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        shards => shards?,
    };
    for shard in shards {
        let shard = shard_directory(directory, shard);
        disk.list(&shard).map_err(SpoolError::io("read", &shard))?;
    }
    Ok(())
}

pub(crate) fn shard_directory(directory: &Path, shard: u8) -> PathBuf {
    directory.join(format!("shard-{shard:03}"))
}

/// The shards in a spool directory, in order.
pub(crate) fn shards<D: Disk>(disk: &mut D, directory: &Path) -> Result<Vec<u8>, SpoolError> {
    let names = disk.list(directory).map_err(SpoolError::io("read", directory))?;
    Ok(names.iter().filter_map(|name| name.strip_prefix("shard-")?.parse().ok()).collect())
}

/// The files of one shard.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Segments: number and name, in order.
    pub(crate) segments: Vec<(u32, String)>,
    /// Large bodies.
    pub(crate) large: Vec<u64>,
    pub(crate) has_temporary: bool,
}

pub(crate) fn files<D: Disk>(disk: &mut D, directory: &Path) -> Result<Files, SpoolError> {
    let names = disk.list(directory).map_err(SpoolError::io("read", directory))?;
    let mut files = Files::default();
    for name in names {
        if name == TEMPORARY_NAME {
            files.has_temporary = true;
        } else if let Some(number) = name.strip_prefix("large-") {
            files.large.extend(u64::from_str_radix(number, 16));
        } else if let Some(number) = name.strip_prefix("segment-").and_then(|rest| rest.strip_suffix(".log"))
            && let Ok(number) = number.parse()
        {
            files.segments.push((number, name));
        }
    }
    files.segments.sort_unstable();
    Ok(files)
}

/// Puts the segments into the order of the log: that of the epochs in which their present lives began.
pub(crate) fn in_order<D: Disk>(
    disk: &mut D,
    directory: &Path,
    files: &mut Files,
    salt: u64,
) -> Result<(), SpoolError> {
    let mut ordered = Vec::with_capacity(files.segments.len());
    for (number, name) in files.segments.drain(..) {
        let path = directory.join(&name);
        let file = disk.open(&path, OpenMode::default()).map_err(SpoolError::io("open", &path))?;
        let header = Scan { disk, file, path: &path, salt, length: BLOCK }.header();
        disk.close_file(file);
        ordered.push((header?.map_or(0, |header| header.epoch), number, name));
    }
    ordered.sort_unstable();
    files.segments.extend(ordered.into_iter().map(|(_, number, name)| (number, name)));
    Ok(())
}

/// The identity of the shard in `directory`; `None` when there is none.
pub(crate) fn identity<D: Disk>(disk: &mut D, directory: &Path) -> Result<Option<Identity>, SpoolError> {
    let path = directory.join("identity");
    let file = match disk.open(&path, OpenMode::default()) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SpoolError::io("open", path)(error)),
    };
    let mut block = [0; BLOCK_BYTES];
    let read = disk.read_at(file, 0, &mut block);
    disk.close_file(file);
    let read = read.map_err(SpoolError::io("read", &path))?;
    let refused = |why| {
        let detail = match why {
            NoIdentity::Strange => "this is not the identity of a Gatepost spool shard",
            NoIdentity::Damaged => {
                "the shard's identity is damaged (its checksum fails); restore the file from a copy"
            }
            NoIdentity::Version(found) => {
                let spool = directory.parent().unwrap_or(directory).to_owned();
                return SpoolError::Version { spool, found };
            }
        };
        SpoolError::Format { path, detail: detail.to_owned() }
    };
    Identity::parse(&block[..read]).map(Some).map_err(refused)
}

/// How much of a segment is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Every group, each byte against its checksum.
    Everything,
    /// What a footer says, and the groups behind it; every group where there is no sound footer.
    Footers,
}

/// A record that a scan shows.
pub(crate) struct Seen<'a> {
    pub(crate) id: MessageId,
    pub(crate) record: Record<'a>,
    /// Where it lies in the segment.
    pub(crate) offset: u64,
    /// The whole record, or what a footer repeats of it.
    pub(crate) bytes: &'a [u8],
}

impl Seen<'_> {
    /// Length of the whole record.
    pub(crate) fn length(&self) -> usize {
        record::length_of(self.bytes)
    }

    /// The record without a message's content.
    pub(crate) fn outline(&self) -> &[u8] {
        &self.bytes[..record::outline_length(self.bytes)]
    }
}

/// What a scan of one segment found besides the records it showed.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// `None`: no life of the segment has begun, or its header is damaged.
    pub(crate) header: Option<SegmentHeader>,
    /// The last valid group.
    pub(crate) last: Option<Last>,
    /// Where the next group would go.
    pub(crate) end: u64,
    /// Groups that were read.
    pub(crate) groups: u64,
    /// Where the footer begins of a segment that was full.
    pub(crate) sealed_at: Option<u32>,
    pub(crate) damage: Vec<Damage>,
}

/// One segment to be read.
pub(crate) struct Scan<'a, D> {
    pub(crate) disk: &'a mut D,
    pub(crate) file: File,
    pub(crate) path: &'a Path,
    pub(crate) salt: u64,
    pub(crate) length: u64,
}

impl<D: Disk> Scan<'_, D> {
    /// The header of the segment's life, where it has one.
    pub(crate) fn header(&mut self) -> Result<Option<SegmentHeader>, SpoolError> {
        let mut block = [0; BLOCK_BYTES];
        self.read(0, &mut block)?;
        Ok(SegmentHeader::parse(&block).filter(|header| header.salt == self.salt))
    }

    /// Shows every record to `visit`.
    pub(crate) fn run(
        &mut self,
        reading: Reading,
        mut visit: impl FnMut(Seen<'_>),
    ) -> Result<Scanned, SpoolError> {
        let header = self.header()?;
        let mut scanned =
            Scanned { header, last: None, end: BLOCK, groups: 0, sealed_at: None, damage: Vec::new() };
        if reading == Reading::Footers
            && let Some(header) = header
            && let Some((trailer, at)) = self.footer(header.epoch, &mut visit)?
        {
            scanned.last = Some(trailer.last);
            scanned.end = u64::from(trailer.end);
            scanned.sealed_at = trailer.is_sealed.then_some(at as u32);
        }
        if scanned.sealed_at.is_none() {
            self.groups(&mut scanned, &mut visit)?;
        }
        if reading == Reading::Everything {
            self.miss_the_tail(&mut scanned)?;
        }
        if header.is_none() && scanned.groups > 0 {
            scanned.damage.insert(0, Damage { path: self.path.to_owned(), offset: 0, bytes: BLOCK });
        }
        if !scanned.damage.is_empty() && self.header()? != header {
            // A gateway in service has used the segment again meanwhile: what was read is of two lives.
            scanned.damage.clear();
        }
        Ok(scanned)
    }

    /// A footer tells where groups ended that are not there any more.
    fn miss_the_tail(&mut self, scanned: &mut Scanned) -> Result<(), SpoolError> {
        let Some(at) = self.length.checked_sub(BLOCK).filter(|&at| at >= BLOCK) else { return Ok(()) };
        let mut block = [0; BLOCK_BYTES];
        self.read(at, &mut block)?;
        let epoch = scanned.header.map(|header| header.epoch);
        let trailer = Trailer::parse(&block).filter(|it| it.salt == self.salt && Some(it.epoch) == epoch);
        if let Some(end) = trailer.map(|it| u64::from(it.end)).filter(|&end| end > scanned.end) {
            let bytes = end - scanned.end;
            scanned.damage.push(Damage { path: self.path.to_owned(), offset: scanned.end, bytes });
        }
        Ok(())
    }

    /// Shows what the footer of this life says, if it is whole.
    fn footer(
        &mut self,
        epoch: u64,
        visit: &mut impl FnMut(Seen<'_>),
    ) -> Result<Option<(Trailer, u64)>, SpoolError> {
        let Some(at) = self.length.checked_sub(BLOCK).filter(|&at| at >= BLOCK) else { return Ok(None) };
        let mut block = [0; BLOCK_BYTES];
        self.read(at, &mut block)?;
        let trailer = Trailer::parse(&block).filter(|it| it.salt == self.salt && it.epoch == epoch);
        let Some((trailer, at)) = trailer.and_then(|it| Some((it, it.footer_at(self.length)?))) else {
            return Ok(None);
        };
        let mut bytes = vec![0; trailer.length as usize];
        self.read(at, &mut bytes)?;
        if crc32c::crc32c(&bytes) != trailer.footer_crc {
            return Ok(None);
        }
        let Some(outlines) = footer::read(&bytes) else { return Ok(None) };
        for footer::Outline { id, record, offset, bytes } in outlines {
            visit(Seen { id, record, offset, bytes });
        }
        Ok(Some((trailer, at)))
    }

    /// Shows the groups behind what is known already.
    fn groups(&mut self, scanned: &mut Scanned, visit: &mut impl FnMut(Seen<'_>)) -> Result<(), SpoolError> {
        let mut bytes = vec![0; BLOCK_BYTES];
        let begun = scanned.header.map_or(0, |header| header.epoch);
        let mut floor = scanned.last.map_or(begun, |last| last.epoch);
        let mut at = scanned.end;
        while at < self.length {
            let group = self.group(at, &mut bytes)?.filter(|group| {
                is_live(group.epoch, floor)
                    && scanned.last.is_none_or(|last| {
                        group.sequence > last.sequence
                            && (group.sequence - last.sequence != 1 || group.previous_crc == last.crc)
                    })
            });
            let Some(group) = group else {
                let next = self.find_after(at, floor, scanned.last, &mut bytes)?;
                let Some(next) = next else { break };
                scanned.damage.push(Damage { path: self.path.to_owned(), offset: at, bytes: next - at });
                at = next;
                continue;
            };
            let mut offset = HEADER_BYTES;
            let end = HEADER_BYTES + group.length as usize;
            while offset < end {
                let length = record::sound_length(&bytes[offset..end]).expect("checked with the group");
                let bytes = &bytes[offset..offset + length];
                let (id, record) = record::parse(bytes).expect("checked with the group");
                visit(Seen { id, record, offset: at + offset as u64, bytes });
                offset += length;
            }
            floor = group.epoch;
            at += group.disk_bytes();
            scanned.groups += 1;
            scanned.last = Some(Last::from(&group));
            scanned.end = at;
        }
        Ok(())
    }

    /// The group at `at`, whole and with right CRCs; its bytes are then in `bytes`.
    fn group(&mut self, at: u64, bytes: &mut Vec<u8>) -> Result<Option<GroupHeader>, SpoolError> {
        bytes.resize(bytes.len().max(BLOCK_BYTES), 0);
        self.read(at, &mut bytes[..BLOCK_BYTES])?;
        let header = GroupHeader::parse(&bytes[..BLOCK_BYTES])
            .filter(|header| header.salt == self.salt && at + header.disk_bytes() <= self.length);
        let Some(header) = header else { return Ok(None) };
        let end = HEADER_BYTES + header.length as usize;
        bytes.resize(bytes.len().max(header.disk_bytes() as usize), 0);
        if header.disk_bytes() > BLOCK {
            self.read(at + BLOCK, &mut bytes[BLOCK_BYTES..header.disk_bytes() as usize])?;
        }
        if crc32c::crc32c(&bytes[HEADER_BYTES..end]) != header.records_crc {
            return Ok(None);
        }
        let (mut offset, mut records) = (HEADER_BYTES, 0);
        while offset < end {
            let Some(length) = record::sound_length(&bytes[offset..end]) else { return Ok(None) };
            if record::parse(&bytes[offset..offset + length]).is_none() {
                return Ok(None);
            }
            offset += length;
            records += 1;
        }
        Ok((records == header.records).then_some(header))
    }

    /// Where the next valid group of this life begins behind the bad one at `at`.
    fn find_after(
        &mut self,
        at: u64,
        floor: u64,
        last: Option<Last>,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<u64>, SpoolError> {
        let sequence = last.map_or(0, |last| last.sequence.saturating_add(1));
        let is_later = |header: &GroupHeader, salt: u64| {
            header.salt == salt && is_live(header.epoch, floor) && header.sequence > sequence
        };
        let mut window = vec![0; WINDOW_BYTES];
        let mut block = at;
        // A sound header tells how far its damaged records reach: nothing in between can pose as a group.
        self.read(at, &mut window[..BLOCK_BYTES])?;
        if let Some(bad) = GroupHeader::parse(&window[..BLOCK_BYTES])
            && bad.salt == self.salt
            && bad.epoch >= floor
        {
            block = at + bad.disk_bytes().max(BLOCK);
        } else {
            block += BLOCK;
        }
        while block < self.length {
            let bytes_now = (self.length - block).min(WINDOW_BYTES as u64) as usize;
            self.read(block, &mut window[..bytes_now])?;
            for (index, candidate) in window[..bytes_now].chunks(BLOCK_BYTES).enumerate() {
                let here = block + (index * BLOCK_BYTES) as u64;
                if GroupHeader::parse(candidate).is_some_and(|header| is_later(&header, self.salt))
                    && self.group(here, bytes)?.is_some()
                {
                    return Ok(Some(here));
                }
            }
            block += bytes_now as u64;
        }
        Ok(None)
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), SpoolError> {
        let read = self.disk.read_at(self.file, at, bytes).map_err(SpoolError::io("read", self.path))?;
        bytes[read..].fill(0);
        Ok(())
    }
}

/// Whether a group of this epoch belongs to a life that began with `floor`.
fn is_live(epoch: u64, floor: u64) -> bool {
    #[cfg(feature = "mutants")]
    if crate::mutant::is(crate::mutant::Mutant::IgnoreEpoch) {
        return true;
    }
    epoch >= floor
}

/// The whole length of a segment that can hold groups.
pub(crate) fn usable_length<D: Disk>(disk: &mut D, file: File, path: &Path) -> Result<u64, SpoolError> {
    let length = disk.length(file).map_err(SpoolError::io("measure", path))?;
    Ok(padded(length))
}
