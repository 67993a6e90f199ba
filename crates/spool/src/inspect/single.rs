//! One message record at a time: of a queued message whose place a worker has told, or of a place
//! that is damaged.

use std::path::{Path, PathBuf};

use mail::MessageId;
use ring::{Disk, OpenMode};

use super::ListedMessage;
use crate::format::HEADER_BYTES;
use crate::record::{self, MessageView};
use crate::scan::{self, Damage};
use crate::segment::segment_name;
use crate::{Place, RECORD_BYTES_MAX, SpoolError};

/// One damaged place is read this far: further than any group reaches.
const DAMAGE_BYTES_MAX: u64 = 2 * RECORD_BYTES_MAX as u64;

/// A message record as it lies on disk, whether or not it is what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// The id in it.
    pub id: MessageId,
    /// Where it lies.
    pub place: Place,
    /// The file.
    pub path: PathBuf,
    /// Its CRC is right.
    pub is_sound: bool,
    /// What it says of the message; `None` when its lengths contradict each other. Of a record that
    /// is not sound every word may be wrong.
    pub message: Option<ListedMessage>,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Shows the record at each of `places` to `visit`, in the order given, one at a time; `None` where
/// nothing can be a record.
///
/// A segment may have been used again since its place was told: a record counts when it is sound and
/// has the id that was expected.
///
/// # Errors
/// When a file cannot be read.
pub fn read<D: Disk>(
    disk: &mut D,
    directory: &Path,
    places: impl IntoIterator<Item = Place>,
    mut visit: impl FnMut(Option<StoredRecord>),
) -> Result<(), SpoolError> {
    // Records of a page lie in few segments, often one after the other in the same.
    let mut open: Option<(u8, u32, PathBuf, ring::File)> = None;
    for place in places {
        if open.as_ref().is_none_or(|open| (open.0, open.1) != (place.shard, place.segment)) {
            if let Some((.., file)) = open.take() {
                disk.close_file(file);
            }
            let path = scan::shard_directory(directory, place.shard).join(segment_name(place.segment));
            let file = disk.open(&path, OpenMode::default()).map_err(SpoolError::io("open", &path))?;
            open = Some((place.shard, place.segment, path, file));
        }
        let Some((.., path, file)) = &open else { continue };
        let mut bytes = vec![0; (place.length as usize).min(RECORD_BYTES_MAX)];
        let read = disk.read_at(*file, u64::from(place.offset), &mut bytes);
        bytes.truncate(read.map_err(SpoolError::io("read", path))?);
        visit(StoredRecord::parse(bytes, place, path));
    }
    if let Some((.., file)) = open {
        disk.close_file(file);
    }
    Ok(())
}

/// Shows the message records that can be made out in damaged places to `visit`, sound ones included:
/// a place is damaged as a whole, and none of its messages is delivered from now on. Some may have
/// been before.
///
/// # Errors
/// When a file cannot be read.
pub fn damaged<D: Disk>(
    disk: &mut D,
    damage: &[Damage],
    mut visit: impl FnMut(StoredRecord),
) -> Result<(), SpoolError> {
    for Damage { path, offset, bytes } in damage {
        let Some((shard, segment)) = numbers(path) else { continue };
        let file = disk.open(path, OpenMode::default()).map_err(SpoolError::io("open", path))?;
        let mut group = vec![0; (*bytes).min(DAMAGE_BYTES_MAX) as usize];
        let read = disk.read_at(file, *offset, &mut group);
        disk.close_file(file);
        group.truncate(read.map_err(SpoolError::io("read", path))?);
        let mut at = HEADER_BYTES;
        // A length that is damaged ends the walk: where the next record begins is not known.
        while at + record::HEADER_BYTES <= group.len() {
            let length = record::length_of(&group[at..]);
            if length < record::HEADER_BYTES || length > group.len() - at {
                break;
            }
            if group[at + record::KIND_AT] == record::kind::MESSAGE {
                let place =
                    Place { shard, segment, offset: (*offset as usize + at) as u32, length: length as u32 };
                StoredRecord::parse(group[at..at + length].to_vec(), place, path)
                    .into_iter()
                    .for_each(&mut visit);
            }
            at += length;
        }
    }
    Ok(())
}

impl StoredRecord {
    /// `None` when the bytes are too few to say whose record this is.
    fn parse(bytes: Vec<u8>, place: Place, path: &Path) -> Option<Self> {
        let id = record::id_of(&bytes)?;
        let is_sound = record::sound_length(&bytes) == Some(bytes.len());
        let view = MessageView::parse(&bytes);
        let message = view.map(|view| ListedMessage::new(place, &view));
        Some(Self { id, place, path: path.to_owned(), is_sound, message, bytes })
    }
}

/// Shard and segment, from the path of a segment's file.
fn numbers(path: &Path) -> Option<(u8, u32)> {
    let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
    let segment = name(path)?.strip_prefix("segment-")?.strip_suffix(".log")?.parse().ok()?;
    let shard = name(path.parent()?)?.strip_prefix("shard-")?.parse().ok()?;
    Some((shard, segment))
}
