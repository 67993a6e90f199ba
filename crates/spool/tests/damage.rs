//! Torn tails, flipped bits, and what is not ours.

mod harness;

use std::io;
use std::path::Path;

use harness::*;
use ring::sim::SimRing;
use ring::{Disk, File, OpenMode};
use spool::{Shard, inspect};

/// Where the last group begins, and its length, from its header.
fn last_group(bytes: &[u8]) -> (usize, usize) {
    let mut found = (0, 0);
    let mut at = 4096;
    while bytes.get(at..at + 8) == Some(b"GPGROUP\n") {
        let length = u32::from_le_bytes(bytes[at + 12..at + 16].try_into().unwrap()) as usize;
        found = (at, (64 + length).next_multiple_of(4096));
        at += found.1;
    }
    found
}

#[test]
fn a_tail_torn_at_any_byte_is_dropped_whole() {
    let mut bench = Bench::new(21);
    bench.commit(1, 1, 100);
    bench.commit(2, 1, 300);
    let whole = bench.read(segment(0));
    let (at, _) = last_group(&whole);
    let used = at + 64 + u32::from_le_bytes(whole[at + 12..at + 16].try_into().unwrap()) as usize;
    for cut in at..used {
        let mut torn = whole.clone();
        // A byte that happens to be zero is not torn by being cut.
        if torn[cut..used].iter().all(|&byte| byte == 0) {
            continue;
        }
        torn[cut..].fill(0);
        bench.write(segment(0), 0, &torn);
        bench = bench.restart();
        assert_eq!(bench.recovered_ids(), [id(1)], "cut at {cut}");
        assert_eq!(bench.shard.recovery().damage, []);
    }
    // The next life writes over the torn tail.
    let (_, message) = bench.commit(3, 1, 50);
    assert_eq!(content(&message), wire(3, 50));
    let bench = bench.crash();
    assert_eq!(bench.recovered_ids(), [id(1), id(3)]);
}

#[test]
fn a_flipped_bit_is_never_delivered_and_takes_no_other_group_with_it() {
    let mut bench = Bench::new(22);
    for number in 1..=3 {
        bench.commit(number, 1, 200);
    }
    let whole = bench.read(segment(0));
    // The second group: a block behind the first.
    for byte in (8192..8192 + 500).step_by(3) {
        for bit in [0, 5] {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1 << bit;
            bench.write(segment(0), 0, &flipped);
            bench = bench.restart();
            let ids = bench.recovered_ids();
            assert!(ids.contains(&id(1)) && ids.contains(&id(3)), "byte {byte}: {ids:?}");
            if ids.contains(&id(2)) {
                // A reserved byte of the padding: nothing that counts has changed.
                let key = bench.recovered[1].key;
                assert_eq!(content(&bench.load(key).unwrap()), wire(2, 200), "byte {byte}");
            } else {
                assert_eq!(bench.shard.recovery().damage.len(), 1, "byte {byte}");
                let verified = inspect::verify(&mut bench.ring, Path::new(ROOT)).unwrap();
                assert!(!verified.is_sound());
            }
        }
    }
}

#[test]
fn a_record_damaged_after_recovery_is_not_loaded() {
    let mut bench = Bench::new(23);
    bench.commit(1, 1, 200);
    let mut bench = bench.restart();
    let mut bytes = bench.read(segment(0));
    bytes[4096 + 300] ^= 1;
    bench.write(segment(0), 0, &bytes);
    let key = bench.recovered[0].key;
    assert!(matches!(bench.load(key), Err(spool::LoadError::Damaged)));
}

#[test]
fn a_body_that_poses_as_a_group_is_not_believed() {
    let mut bench = Bench::new(24);
    bench.commit(1, 1, 200);
    let group = bench.read(segment(0))[4096..8192].to_vec();
    bench.commit(2, 1, 200);
    // The damaged second group is followed by a copy of a group with another salt.
    let mut bytes = bench.read(segment(0));
    bytes[8192 + 100] ^= 1;
    bytes[12288..16384].copy_from_slice(&group);
    bytes[12288 + 16] ^= 1;
    let crc = crc32c::crc32c(&bytes[12288..12288 + 60]);
    bytes[12288 + 60..12288 + 64].copy_from_slice(&crc.to_le_bytes());
    bench.write(segment(0), 0, &bytes);
    let bench = bench.restart();
    assert_eq!(bench.recovered_ids(), [id(1)]);
    assert_eq!(bench.shard.recovery().damage, [], "a torn tail, since nothing of ours follows");
}

#[test]
fn a_later_version_and_a_strangers_file_are_named() {
    let mut bench = Bench::new(26);
    bench.commit(1, 1, 100);
    let path = format!("{ROOT}/shard-000/identity");
    let mut identity = bench.read(&path);
    identity[8] = 3;
    let crc = crc32c::crc32c(&identity[..60]);
    identity[60..64].copy_from_slice(&crc.to_le_bytes());
    bench.write(&path, 0, &identity);
    let world = bench.world.clone();
    let error = bench.reopen().map(drop).expect_err("version 3 is not ours").to_string();
    assert!(
        error.contains("the spool /spool was written by a later Gatepost in format version 3"),
        "{error}"
    );
    let mut ring = world.host(HOST);
    ring.remove(Path::new(&path)).unwrap();
    let error =
        Shard::open(&mut ring, options()).map(drop).expect_err("segments without identity").to_string();
    assert!(error.contains("identity is missing"), "{error}");
}

#[test]
fn a_tail_that_the_footer_knows_of_is_missed() {
    let mut bench = Bench::new(32);
    for number in 0..40 {
        bench.commit(number, 1, 8 << 10);
    }
    let sound = inspect::verify(&mut bench.ring, ROOT.as_ref()).unwrap();
    assert!(sound.is_sound());
    let bytes = bench.read(segment(0));
    let last = (0..bytes.len()).step_by(4096).rfind(|&at| bytes[at..].starts_with(b"GPGROUP\n")).unwrap();
    bench.write(segment(0), last as u64 + 100, b"rot");
    let verified = inspect::verify(&mut bench.ring, ROOT.as_ref()).unwrap();
    assert_eq!(verified.damage.len(), 1, "{:?}", verified.damage);
    assert_eq!(verified.damage[0].offset, last as u64);
}

/// A disk on which a segment is used again while it is read: after its header, before its first group.
struct Recycling<'a> {
    disk: &'a mut SimRing,
    /// What is written over the segment then.
    next_life: Option<Vec<u8>>,
}

impl Disk for Recycling<'_> {
    fn read_at(&mut self, file: File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        if offset == 4096
            && let Some(next_life) = self.next_life.take()
        {
            let mode = OpenMode { write: true, ..OpenMode::default() };
            let file = self.disk.open(&segment(0), mode)?;
            self.disk.write_at(file, 0, &next_life)?;
            self.disk.close_file(file);
        }
        self.disk.read_at(file, offset, bytes)
    }

    fn list(&mut self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }
    fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        self.disk.create_directory(path)
    }
    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<File> {
        self.disk.open(path, mode)
    }
    fn close_file(&mut self, file: File) {
        self.disk.close_file(file);
    }
    fn is_direct(&mut self, file: File) -> io::Result<bool> {
        self.disk.is_direct(file)
    }
    fn length(&mut self, file: File) -> io::Result<u64> {
        self.disk.length(file)
    }
    fn write_at(&mut self, file: File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(file, offset, bytes)
    }
    fn allocate(&mut self, file: File, length: u64) -> io::Result<()> {
        self.disk.allocate(file, length)
    }
    fn sync(&mut self, file: File) -> io::Result<()> {
        self.disk.sync(file)
    }
    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        self.disk.sync_directory(path)
    }
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        self.disk.remove_directory(path)
    }
    fn lock(&mut self, path: &Path, owner: &str) -> io::Result<Result<(), String>> {
        self.disk.lock(path, owner)
    }
    fn lock_file(&mut self, file: File) -> io::Result<bool> {
        self.disk.lock_file(file)
    }
    fn is_locked(&mut self, path: &Path) -> io::Result<bool> {
        self.disk.is_locked(path)
    }
    fn identity(&mut self, file: File) -> io::Result<usize> {
        self.disk.identity(file)
    }
    fn free_bytes(&mut self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }
}

#[test]
fn a_segment_that_is_used_again_while_it_is_verified_is_not_damaged() {
    let mut bench = Bench::new(34);
    // Something lives in it when it is full, so that it gets its footer.
    let (first, _) = bench.commit(1000, 1, 100);
    let (mut old, mut number) = (Vec::new(), 0);
    let next_life = loop {
        if number == 20 {
            bench.deliver(first, 1).unwrap();
        }
        let (key, _) = bench.commit(number, 1, 8 << 10);
        bench.deliver(key, 1).unwrap();
        bench.settle();
        let now = bench.read(segment(0));
        if old.is_empty() || now[..4096] == old[..4096] {
            old = now;
        } else if now[4096..8192] != old[4096..8192] {
            break now;
        }
        number += 1;
        assert!(number < 400, "the first segment is used again");
    };
    bench.write(segment(0), 0, &old);
    let mut disk = Recycling { disk: &mut bench.ring, next_life: Some(next_life) };
    let verified = inspect::verify(&mut disk, ROOT.as_ref()).unwrap();
    assert!(disk.next_life.is_none(), "it was used again");
    assert_eq!(verified.damage, []);
}
