//! Large bodies: separate files, from the first piece to the removal.

mod harness;

use std::path::Path;

use harness::*;
use ring::{Disk, Handle, Ring};
use spool::{Content, Event, LoadError, MessageKey, PIECE_BYTES, StoredContent, StoredMessage, inspect};

const BYTES: usize = 3 * PIECE_BYTES + 12_345;

fn commit(bench: &mut Bench, number: u32) -> (MessageKey, StoredMessage) {
    let large = bench.large(number, BYTES);
    let envelope = envelope(1);
    bench
        .shard
        .append(&message(number, &envelope, Content::Large(large)), Some(Handle::fixed(number)))
        .unwrap();
    let committed = bench.settle().into_iter().find_map(|event| match event {
        Event::Committed { key, message, .. } => Some((key, message)),
        _ => None,
    });
    committed.expect("it is committed")
}

/// What goes over the wire, or why it does not.
fn read(bench: &mut Bench, message: &StoredMessage) -> Result<Vec<u8>, LoadError> {
    let StoredContent::Large { buffer, head, bytes } = message.content() else { panic!("it is large") };
    let mut wire = buffer[head].to_vec();
    let key = bench.shard.read_large(&mut bench.ring, message, Handle::fixed(5)).expect("it is large");
    loop {
        let events = bench.turn();
        if events.is_empty() {
            assert!(bench.world.step());
        }
        for event in events {
            match event {
                Event::Piece { request, buffer, range, last } if request == Handle::fixed(5) => {
                    wire.extend_from_slice(&buffer[range]);
                    drop(buffer);
                    if last {
                        assert_eq!(wire.len() as u64, bytes + TRACE.len() as u64);
                        return Ok(wire);
                    }
                    bench.shard.read_next(&mut bench.ring, key);
                }
                Event::PieceFailed { error, .. } => return Err(error),
                _ => {}
            }
        }
    }
}

fn large_files(bench: &mut Bench) -> Vec<String> {
    let names = bench.ring.list(Path::new("/spool/shard-000")).unwrap();
    names.into_iter().filter(|name| name.starts_with("large-")).collect()
}

#[test]
fn a_large_body_comes_back_as_it_went_in_and_its_file_goes_with_the_message() {
    let mut options = options();
    options.capacity_bytes = 64 * SEGMENT_BYTES;
    let mut bench = Bench::with(31, options, ring::sim::SimOptions::default());
    let (_, message) = commit(&mut bench, 1);
    assert_eq!(read(&mut bench, &message).unwrap(), wire(1, BYTES));
    drop(message);
    let mut bench = bench.crash();
    let key = bench.recovered[0].key;
    let message = bench.load(key).unwrap();
    assert_eq!(read(&mut bench, &message).unwrap(), wire(1, BYTES));
    assert!(inspect::verify(&mut bench.ring, Path::new(ROOT)).unwrap().is_sound());
    let before = bench.shard.stats().used_bytes;
    bench.deliver(key, 1).unwrap();
    bench.settle();
    assert_eq!(large_files(&mut bench), Vec::<String>::new());
    assert!(bench.shard.stats().used_bytes + BYTES as u64 <= before);
}

#[test]
fn a_body_without_a_record_is_removed() {
    let mut options = options();
    options.capacity_bytes = 64 * SEGMENT_BYTES;
    let mut bench = Bench::with(32, options, ring::sim::SimOptions::default());
    let given_up = bench.large(1, BYTES);
    bench.shard.large_abort(&mut bench.ring, given_up);
    bench.settle();
    assert_eq!(large_files(&mut bench), Vec::<String>::new());
    assert_eq!(
        bench.shard.stats().used_bytes,
        bench.shard.stats().used_bytes / SEGMENT_BYTES * SEGMENT_BYTES
    );
    bench.large(2, BYTES);
    let mut bench = bench.crash();
    assert_eq!(bench.shard.recovery().orphans_removed, 1);
    assert_eq!(large_files(&mut bench), Vec::<String>::new());
}

#[test]
fn a_body_whose_record_may_be_damaged_is_kept() {
    let mut options = options();
    options.capacity_bytes = 64 * SEGMENT_BYTES;
    let mut bench = Bench::with(35, options, ring::sim::SimOptions::default());
    commit(&mut bench, 1);
    bench.commit(2, 1, 100);
    let group = bench.read(segment(0))[4096..].to_vec();
    assert!(group.starts_with(b"GPGROUP\n"));
    bench.write(segment(0), 4096 + 70, &[group[70] ^ 1]);
    // However often it starts: the body is all that is left of the message.
    for _ in 0..2 {
        bench = bench.crash();
        assert_eq!(bench.recovered_ids(), [id(2)]);
        assert_eq!(bench.shard.recovery().damage.len(), 1);
        assert_eq!((large_files(&mut bench).len(), bench.shard.recovery().orphans_removed), (1, 0));
        assert!(bench.shard.stats().used_bytes >= BYTES as u64, "it counts against the capacity");
    }
    // A new body does not take its name.
    commit(&mut bench, 3);
    assert_eq!(large_files(&mut bench).len(), 2);
}

#[test]
fn a_damaged_body_never_gets_its_final_dot() {
    let mut options = options();
    options.capacity_bytes = 64 * SEGMENT_BYTES;
    let mut bench = Bench::with(33, options, ring::sim::SimOptions::default());
    let (_, message) = commit(&mut bench, 1);
    let name = large_files(&mut bench).remove(0);
    let path = format!("{ROOT}/shard-000/{name}");
    let bytes = bench.read(&path);
    bench.write(&path, 4096, &[bytes[4096] ^ 1]);
    assert!(matches!(read(&mut bench, &message), Err(LoadError::Damaged)));
    assert_eq!(inspect::verify(&mut bench.ring, Path::new(ROOT)).unwrap().bodies_damaged.len(), 1);
    let _ = bench.ring.now();
}

#[test]
fn a_failed_write_of_a_body_is_reported_and_leaves_nothing() {
    let mut bench = Bench::new(34);
    bench.settle();
    let key = bench.shard.large_begin(&mut bench.ring, 0, Handle::fixed(1)).unwrap();
    bench.settle();
    bench.world.fail_disk(HOST, 1);
    bench.shard.large_write(&mut bench.ring, key, &body(1, PIECE_BYTES + 1));
    let events = bench.settle();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::LargeFailed { waiter, .. } if *waiter == Handle::fixed(1)))
    );
    assert_eq!(large_files(&mut bench), Vec::<String>::new());
}
