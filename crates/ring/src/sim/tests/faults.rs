//! The faults that a harness orders.

use super::*;

const SPOOL: &str = "/spool";
const LOG: &str = "/spool/log";

fn is_log(path: &Path) -> bool {
    path == Path::new(LOG)
}

/// A file of one block that holds `byte`.
fn written_file(ring: &mut SimRing, byte: u8) -> File {
    let file = durable_file(ring, 1);
    ring.write_at(file, 0, &[byte; 4096]).expect("writes");
    ring.sync(file).expect("syncs");
    file
}

#[test]
fn a_spoiled_sector_cannot_be_read_until_it_is_written_again() {
    let world = World::new(1, SimOptions::default());
    let mut ring = world.host(ip(1));
    let file = written_file(&mut ring, b'a');
    assert_eq!(world.spoil_sectors(ip(1), 1, is_log), [Path::new(LOG)]);
    let mut bytes = [0; 4096];
    let error = ring.read_at(file, 0, &mut bytes).expect_err("a sector is bad");
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    ring.read_file(file, 0, AlignedBuffer::zeroed(4096), 0..4096, FILE);
    file_result(&world, &mut ring).expect_err("by the ring too");
    let readable = (0..8).filter(|sector| ring.read_at(file, sector * 512, &mut bytes[..512]).is_ok());
    assert_eq!(readable.count(), 7, "its neighbours are well");
    world.crash(ip(1));
    let mut ring = world.host(ip(1));
    let file = ring.open(Path::new(LOG), OLD).expect("opens");
    ring.read_at(file, 0, &mut bytes).expect_err("a power cut does not mend it");
    ring.write_at(file, 0, &[b'b'; 4096]).expect("writes");
    assert_eq!(ring.read_at(file, 0, &mut bytes).expect("reads"), 4096);
    world.spoil_sectors(ip(1), 1, is_log);
    world.heal_disk(ip(1));
    ring.read_at(file, 0, &mut bytes).expect("healed");
}

#[test]
fn rot_flips_one_bit_for_good() {
    let world = World::new(2, SimOptions::default());
    let mut ring = world.host(ip(1));
    written_file(&mut ring, b'a');
    assert_eq!(world.rot_sectors(ip(1), 1, is_log).len(), 1);
    let flipped: u32 = blocks_after_crash(&world)[0].iter().map(|byte| (byte ^ b'a').count_ones()).sum();
    assert_eq!(flipped, 1);
}

#[test]
fn the_power_goes_in_the_middle_of_the_change_that_was_named() {
    let mut reached = BTreeSet::new();
    for nth in 1..=4 {
        let world = World::new(nth, SimOptions::default());
        let mut ring = world.host(ip(1));
        written_file(&mut ring, b'a');
        world.crash_at_change(ip(1), nth);
        let file = ring.open(Path::new(LOG), OLD).expect("to open is no change");
        let steps = [
            ring.write_at(file, 0, &[b'b'; 4096]),
            ring.sync(file),
            ring.rename(Path::new(LOG), Path::new("/spool/new")),
            ring.sync_directory(Path::new(SPOOL)),
        ];
        let done = steps.iter().take_while(|step| step.is_ok()).count() as u64;
        assert_eq!(done, nth - 1, "everything after it fails too: {steps:?}");
        assert_eq!(world.power_cuts(ip(1)), 1);
        assert!(ring.list(Path::new(SPOOL)).is_err(), "the process is gone");
        reached.insert(world.host(ip(1)).list(Path::new(SPOOL)).expect("the host is back"));
    }
    assert!(reached.contains(&vec!["log".to_owned()]));
}

#[test]
fn a_power_cut_at_a_change_of_the_ring_takes_the_ring_with_it() {
    let world = World::new(3, SimOptions::default());
    let mut ring = world.host(ip(1));
    let file = durable_file(&mut ring, 2);
    world.crash_at_change(ip(1), 2);
    write(&mut ring, file, 0, b'x', Durability::Durable);
    file_result(&world, &mut ring).expect("the first one goes");
    write(&mut ring, file, 4096, b'y', Durability::Durable);
    while world.step() {
        assert!(turn(&mut ring).is_empty(), "the dead hear nothing");
    }
    assert_eq!(world.power_cuts(ip(1)), 1);
    world.crash_at_change(ip(1), 1);
    world.spare_disk(ip(1));
    let mut ring = world.host(ip(1));
    let file = ring.open(Path::new(LOG), OLD).expect("opens");
    ring.write_at(file, 0, b"z").expect("it was called off");
}

#[test]
fn a_frozen_disk_ends_nothing_before_it_thaws() {
    let world = World::new(4, SimOptions::default());
    let mut ring = world.host(ip(1));
    let file = durable_file(&mut ring, 1);
    let thaws = world.now().after(Duration::from_secs(7));
    world.freeze_disk(ip(1), thaws);
    write(&mut ring, file, 0, b'x', Durability::Durable);
    file_result(&world, &mut ring).expect("writes");
    assert!(world.now() >= thaws);
}

#[test]
fn the_wall_clock_jumps_and_the_monotonic_one_does_not() {
    let world = World::new(5, SimOptions::default());
    let (before, wall) = (world.now(), world.unix_millis());
    world.jump_wall_clock(5000);
    assert_eq!((world.now(), world.unix_millis()), (before, wall + 5000));
    world.jump_wall_clock(-7000);
    assert_eq!(world.unix_millis(), wall - 2000);
}

#[test]
fn without_a_journal_each_change_of_a_name_fares_by_itself() {
    let mut seen = BTreeSet::new();
    let options = SimOptions { names_are_ordered: false, ..SimOptions::default() };
    for seed in 0..60 {
        let world = World::new(seed, options.clone());
        let mut ring = world.host(ip(1));
        durable_file(&mut ring, 1);
        ring.open(Path::new("/spool/new"), NEW).expect("creates");
        ring.rename(Path::new(LOG), Path::new("/spool/old")).expect("renames");
        world.crash(ip(1));
        seen.insert(world.host(ip(1)).list(Path::new(SPOOL)).expect("the directory is there"));
    }
    let expected = [vec!["log"], vec!["log", "new"], vec!["new", "old"], vec!["old"]];
    assert_eq!(seen, expected.map(|names| names.into_iter().map(str::to_owned).collect()).into());
}

#[test]
fn a_write_to_a_full_disk_leaves_the_part_that_had_room() {
    for is_durable in [false, true] {
        let world = World::new(6, SimOptions { disk_capacity_bytes: 3 * 4096, ..SimOptions::default() });
        let mut ring = world.host(ip(1));
        let file = durable_file(&mut ring, 1);
        let durability = if is_durable { Durability::Durable } else { Durability::Buffered };
        let mut buffer = AlignedBuffer::zeroed(4 * 4096);
        buffer.fill(b'w');
        ring.write_file(file, 4096, buffer, 0..4 * 4096, durability, FILE);
        let error = file_result(&world, &mut ring).expect_err("there are two blocks");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(ring.length(file).expect("has a length"), 3 * 4096);
    }
}

#[test]
fn a_disk_that_stalls_is_slow_and_nothing_else() {
    let options = SimOptions {
        disk_stall_probability: 1.0,
        disk_stall_max: Duration::from_secs(10),
        ..SimOptions::default()
    };
    let world = World::new(7, options);
    let mut ring = world.host(ip(1));
    let file = durable_file(&mut ring, 1);
    let before = world.now();
    for _ in 0..8 {
        write(&mut ring, file, 0, b'x', Durability::Durable);
        file_result(&world, &mut ring).expect("writes");
    }
    assert!(world.now().since(before) > Duration::from_secs(8));
}

#[test]
fn without_descriptors_nothing_is_opened() {
    let world = World::new(8, SimOptions { descriptor_error_probability: 1.0, ..SimOptions::default() });
    let (_server, mut client) = (world.host(ip(1)), world.host(ip(2)));
    connect(&mut client, 25);
    let completions = wait(&world, &mut client);
    let [Completion::Connected { result: Err(error), .. }] = &completions[..] else {
        panic!("{completions:?}")
    };
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    let error = client.open(Path::new("/file"), NEW).expect_err("no descriptor");
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
}
