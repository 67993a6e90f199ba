//! Reads and writes that are served in parts.

use super::*;

const LOG: &str = "/spool/log";
const BYTES: usize = 16 * 4096;

fn short(seed: u64) -> World {
    World::new(seed, SimOptions { short_transfer_probability: 1.0, ..SimOptions::default() })
}

/// An empty file, and what is to be written to it.
fn begin(ring: &mut SimRing, direct: bool) -> (File, AlignedBuffer) {
    ring.create_directory(Path::new("/spool")).expect("creates");
    let file = ring.open(Path::new(LOG), OpenMode { direct, ..NEW }).expect("creates");
    let mut buffer = AlignedBuffer::zeroed(BYTES);
    buffer.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 239 + 1) as u8);
    (file, buffer)
}

#[test]
fn every_byte_is_moved_once_and_to_its_place() {
    for seed in 0..60 {
        let world = short(seed);
        let mut ring = world.host(ip(1));
        let (file, bytes) = begin(&mut ring, seed % 2 == 0);
        let durability = if seed % 4 < 2 { Durability::Durable } else { Durability::Buffered };
        ring.write_file(file, 8192, bytes.clone(), 4096..BYTES, durability, FILE);
        assert_eq!(file_result(&world, &mut ring).expect("writes"), BYTES - 4096);
        assert_eq!(ring.length(file).expect("has a length"), 4096 + BYTES as u64);
        ring.read_file(file, 8192, AlignedBuffer::zeroed(BYTES), 4096..BYTES, FILE);
        let read = loop {
            if let Some(Completion::File { result, buffer, .. }) = wait(&world, &mut ring).pop() {
                assert_eq!(result.expect("reads"), BYTES - 4096);
                break buffer.expect("the buffer comes back");
            }
        };
        assert!(read[4096..] == bytes[4096..], "seed {seed}");
        ring.read_file(file, 4096, AlignedBuffer::zeroed(2 * BYTES), 0..2 * BYTES, FILE);
        assert_eq!(file_result(&world, &mut ring).expect("reads"), BYTES, "the end of the file is met");
    }
}

/// How much of a write of which the process saw only the beginning is there, when `end` has come over it.
fn written_until(end: impl Fn(&World, SimRing, File)) -> BTreeSet<u64> {
    let mut lengths = BTreeSet::new();
    for seed in 0..40 {
        let world = short(seed);
        let mut ring = world.host(ip(1));
        let (file, bytes) = begin(&mut ring, true);
        ring.write_file(file, 0, bytes, 0..BYTES, Durability::Durable, FILE);
        while ring.length(file).expect("has a length") == 0 {
            assert!(world.step() && turn(&mut ring).is_empty(), "a part is not the whole");
        }
        end(&world, ring, file);
        let mut ring = world.host(ip(1));
        let file = ring.open(Path::new(LOG), OLD).expect("opens");
        let length = ring.length(file).expect("has a length");
        let mut read = vec![0; length as usize];
        ring.read_at(file, 0, &mut read).expect("reads");
        assert!(read.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 239 + 1));
        lengths.insert(length);
    }
    lengths
}

#[test]
fn a_process_that_is_killed_does_not_ask_for_the_rest() {
    let lengths = written_until(|world, ring, _| {
        drop(ring);
        while world.step() {}
    });
    assert!(lengths.len() > 10 && lengths.iter().all(|length| length % 512 == 0), "{lengths:?}");
}

#[test]
fn a_file_that_is_closed_gets_the_rest() {
    let lengths = written_until(|world, mut ring, file| {
        ring.close_file(file);
        while world.step() {
            assert!(turn(&mut ring).is_empty(), "in silence");
        }
    });
    assert_eq!(lengths, [BYTES as u64].into());
}

#[test]
fn a_disk_that_is_full_takes_a_part_and_refuses_the_rest() {
    let options = SimOptions { disk_capacity_bytes: 3 * 4096, ..SimOptions::default() };
    let world = World::new(1, options);
    let mut ring = world.host(ip(1));
    let (file, bytes) = begin(&mut ring, true);
    world.fail_disk(ip(1), 2);
    ring.write_file(file, 0, bytes.clone(), 0..BYTES, Durability::Durable, FILE);
    let error = file_result(&world, &mut ring).expect_err("the second step fails");
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "there is one");
    ring.write_file(file, 0, bytes, 0..BYTES, Durability::Durable, FILE);
    let error = file_result(&world, &mut ring).expect_err("there is no room for it");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
}
