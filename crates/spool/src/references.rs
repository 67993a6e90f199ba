//! Which segments must be gone before another one: those of whose messages it speaks.
//!
//! A segment holds outcomes and copies of messages whose record is in another. Were it used again while that
//! record is there, a start after a crash would take the message for one without an outcome.

use crate::segment::Segment;

/// Notes that `segment` holds an outcome of a message in `about`.
pub(crate) fn refer(list: &mut [Segment], segment: u32, about: u32) {
    if segment != about {
        set(&mut list[segment as usize].references, about);
    }
}

/// Notes that `segment` holds a copy of a message in `origin`.
pub(crate) fn refer_to_origin(list: &mut [Segment], segment: u32, origin: u32) {
    refer(list, segment, origin);
    if segment != origin {
        set(&mut list[segment as usize].origins, origin);
    }
}

/// Notes that `segment` holds the outcomes that `other` holds.
pub(crate) fn refer_alike(list: &mut [Segment], segment: u32, other: u32) {
    let words = std::mem::take(&mut list[other as usize].references);
    join(&mut list[segment as usize].references, &words);
    clear(&mut list[segment as usize].references, segment);
    list[other as usize].references = words;
}

/// The outcomes of `emptied` are elsewhere: it may be used again. Where a message that it had as a copy has
/// an earlier record still, a segment that holds a later outcome or copy of that message outlives that record too.
pub(crate) fn release_references(list: &mut [Segment], emptied: u32) {
    list[emptied as usize].references.clear();
    let origins = std::mem::take(&mut list[emptied as usize].origins);
    for segment in &mut *list {
        if has(&segment.references, emptied) {
            join(&mut segment.references, &origins);
        }
        if has(&segment.origins, emptied) {
            join(&mut segment.origins, &origins);
        }
    }
}

fn has(words: &[u64], segment: u32) -> bool {
    words.get(segment as usize / 64).is_some_and(|word| word & 1 << (segment % 64) != 0)
}

fn set(words: &mut Vec<u64>, segment: u32) {
    let word = segment as usize / 64;
    words.resize(words.len().max(word + 1), 0);
    words[word] |= 1 << (segment % 64);
}

/// Says whether it was set.
pub(crate) fn clear(words: &mut [u64], segment: u32) -> bool {
    let was_set = has(words, segment);
    if was_set {
        words[segment as usize / 64] &= !(1 << (segment % 64));
    }
    was_set
}

fn join(words: &mut Vec<u64>, others: &[u64]) {
    words.resize(words.len().max(others.len()), 0);
    words.iter_mut().zip(others).for_each(|(own, other)| *own |= other);
}

#[cfg(test)]
mod tests {
    use ring::sim::{SimOptions, World};
    use ring::{Disk as _, OpenMode};

    use super::*;

    #[test]
    fn who_speaks_of_a_copy_that_is_let_go_speaks_of_its_origin() {
        let mut disk = World::new(1, SimOptions::default()).host([10, 0, 0, 1].into());
        let mode = OpenMode { write: true, create_new: true, direct: true };
        disk.create_directory("/spool".as_ref()).unwrap();
        let file = disk.open("/spool/segment".as_ref(), mode).unwrap();
        let mut list: Vec<_> = (0..5).map(|number| Segment::new(file, number, number.into())).collect();
        // Number 2 has a copy of what is still in 1, and speaks of what is in 0; 3 has the copy's last outcome,
        // 4 a copy of the copy.
        refer_to_origin(&mut list, 2, 1);
        refer(&mut list, 2, 0);
        refer(&mut list, 3, 2);
        refer_to_origin(&mut list, 4, 2);
        release_references(&mut list, 2);
        let references: Vec<_> =
            list.iter().map(|segment| segment.references.first().copied().unwrap_or(0)).collect();
        assert_eq!(references, [0, 0, 0, 0b110, 0b110]);
        assert!(has(&list[4].origins, 1));
    }
}
