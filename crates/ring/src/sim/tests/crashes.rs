//! What a power cut leaves of files and names, and how a disk fails.

use super::*;

#[test]
fn a_crash_keeps_what_is_durable_and_loses_keeps_or_tears_the_rest() {
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..60 {
        let world = World::new(seed, SimOptions::default());
        let mut ring = world.host(ip(1));
        let file = durable_file(&mut ring, 4);
        write(&mut ring, file, 0, b'd', Durability::Durable);
        assert_eq!(file_result(&world, &mut ring).expect("writes"), 4096);
        write(&mut ring, file, 4096, b's', Durability::Buffered);
        file_result(&world, &mut ring).expect("writes");
        ring.sync_file(file, FILE);
        file_result(&world, &mut ring).expect("syncs");
        write(&mut ring, file, 8192, b'u', Durability::Buffered);
        file_result(&world, &mut ring).expect("writes");
        // On its way when the power goes.
        write(&mut ring, file, 12_288, b'f', Durability::Durable);

        let blocks = blocks_after_crash(&world);
        assert!(blocks[0].iter().all(|byte| *byte == b'd'), "seed {seed}");
        assert!(blocks[1].iter().all(|byte| *byte == b's'), "seed {seed}");
        for (block, byte) in [(&blocks[2], b'u'), (&blocks[3], b'f')] {
            for sector in block.chunks(512) {
                assert!(sector.iter().all(|b| *b == sector[0]), "seed {seed}: a sector is whole");
            }
            match block.iter().filter(|b| **b == byte).count() {
                0 => lost += 1,
                4096 => kept += 1,
                _ => torn += 1,
            }
        }
    }
    assert!(lost > 10 && kept > 10 && torn > 10, "{lost} lost, {kept} kept, {torn} torn");
}

#[test]
fn a_fault_can_be_planned_for_a_host_that_has_not_started() {
    let world = World::new(1, SimOptions::default());
    world.fail_disk(ip(1), 1);
    let mut ring = world.host(ip(1));
    ring.create_directory(Path::new("/spool")).expect("creates");
    ring.open(Path::new("/spool/log"), NEW).expect_err("the first change fails");
    ring.open(Path::new("/spool/log"), NEW).expect("the next one does not");
}

#[test]
fn a_flush_after_a_failed_flush_proves_nothing() {
    let mut gone = 0;
    for seed in 0..30 {
        let world = World::new(seed, SimOptions::default());
        let mut ring = world.host(ip(1));
        let file = durable_file(&mut ring, 1);
        ring.write_at(file, 0, &[b'x'; 4096]).expect("writes");
        world.fail_disk(ip(1), 1);
        ring.sync_file(file, FILE);
        file_result(&world, &mut ring).expect_err("the flush fails");
        ring.sync_file(file, FILE);
        file_result(&world, &mut ring).expect("the next one does not");
        gone += usize::from(blocks_after_crash(&world)[0].contains(&0));
    }
    assert!(gone > 5, "{gone} of 30");
}

#[test]
fn a_durable_write_is_not_undone_by_an_older_buffered_one() {
    for seed in 0..30 {
        let world = World::new(seed, SimOptions::default());
        let mut ring = world.host(ip(1));
        let file = durable_file(&mut ring, 3);
        ring.write_at(file, 0, &[b'o'; 12_288]).expect("writes");
        write(&mut ring, file, 4096, b'n', Durability::Durable);
        file_result(&world, &mut ring).expect("writes");
        assert!(blocks_after_crash(&world)[1].iter().all(|byte| *byte == b'n'), "seed {seed}");
    }
}

#[test]
fn names_are_durable_after_their_directory_is_synced() {
    let spool = Path::new("/spool");
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        let world = World::new(seed, SimOptions::default());
        let mut ring = world.host(ip(1));
        durable_file(&mut ring, 1);
        ring.open(Path::new("/spool/new"), NEW).expect("creates");
        ring.rename(Path::new("/spool/log"), Path::new("/spool/old")).expect("renames");
        assert_eq!(ring.list(spool).expect("lists"), ["new", "old"]);
        world.crash(ip(1));
        seen.insert(world.host(ip(1)).list(spool).expect("the directory is there"));
    }
    let expected = [vec!["log"], vec!["log", "new"], vec!["new", "old"]];
    assert_eq!(seen, expected.map(|names| names.into_iter().map(str::to_owned).collect()).into());
}

#[test]
fn a_removed_file_whose_removal_was_lost_comes_back_whole() {
    for seed in 0..20 {
        let world = World::new(seed, SimOptions::default());
        let mut ring = world.host(ip(1));
        let file = durable_file(&mut ring, 1);
        ring.write_at(file, 0, b"kept").expect("writes");
        ring.sync(file).expect("syncs");
        ring.close_file(file);
        ring.remove(Path::new("/spool/log")).expect("removes");
        world.crash(ip(1));
        let mut ring = world.host(ip(1));
        if let Ok(file) = ring.open(Path::new("/spool/log"), OLD) {
            let mut bytes = [0; 4];
            ring.read_at(file, 0, &mut bytes).expect("reads");
            assert_eq!(&bytes, b"kept");
        }
    }
}

#[test]
fn a_directory_goes_with_its_names_or_stays_with_them() {
    for seed in 0..40 {
        let world = World::new(seed, SimOptions::default());
        let mut ring = world.host(ip(1));
        let file = durable_file(&mut ring, 1);
        ring.close_file(file);
        ring.remove_directory(Path::new("/spool")).expect_err("it holds a name");
        ring.remove(Path::new("/spool/log")).expect("removes");
        ring.remove_directory_file(Path::new("/spool"), FILE);
        file_result(&world, &mut ring).expect("removes");
        ring.list(Path::new("/spool")).expect_err("it is gone");
        if seed % 2 == 0 {
            ring.sync_directory(Path::new("/")).expect("syncs");
        }
        world.crash(ip(1));
        let mut ring = world.host(ip(1));
        let is_there = ring.list(Path::new("/spool")).is_ok();
        assert!(seed % 2 == 1 || !is_there, "seed {seed}: its removal was durable");
        assert!(is_there || ring.open(Path::new("/spool/log"), OLD).is_err(), "seed {seed}");
    }
}

#[test]
fn a_full_disk_says_so_until_space_is_freed() {
    let world = World::new(1, SimOptions { disk_capacity_bytes: 3 * 4096, ..SimOptions::default() });
    let mut ring = world.host(ip(1));
    let file = durable_file(&mut ring, 2);
    let path = Path::new("/spool/more");
    let more = ring.open(path, NEW).expect("creates");
    ring.allocate_file(more, 2 * 4096, FILE);
    let error = file_result(&world, &mut ring).expect_err("there is one block");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    ring.write_at(file, 0, &[1; 8192]).expect("what is allocated can be written");
    ring.close_file(file);
    ring.remove(Path::new("/spool/log")).expect("removes");
    ring.allocate(more, 2 * 4096).expect("there is room again");
    assert_eq!(ring.free_bytes(path).expect("knows"), 4096);
}

#[test]
fn closing_a_file_finishes_its_operations_in_silence() {
    let world = World::new(1, SimOptions::default());
    let mut ring = world.host(ip(1));
    let file = durable_file(&mut ring, 1);
    write(&mut ring, file, 0, b'w', Durability::Durable);
    ring.close_file(file);
    while world.step() {
        assert!(turn(&mut ring).is_empty());
    }
    assert!(ring.length(file).is_err());
    assert!(blocks_after_crash(&world)[0].iter().all(|byte| *byte == b'w'));
}
