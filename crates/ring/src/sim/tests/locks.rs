//! What a killed process goes on holding, and for how long.

use super::*;

const LOCK: &str = "/spool/lock";
const LOG: &str = "/spool/log";
const DIRECT: OpenMode = OpenMode { write: true, create_new: false, direct: true };

/// Two processes of a host; the first holds the lock, and that of a file of two blocks that it writes directly.
fn two() -> (World, (SimRing, File), (SimRing, File)) {
    let world = World::new(1, SimOptions::default());
    let (mut first, mut second) = (world.host(ip(1)), world.host(ip(1)));
    let file = durable_file(&mut first, 2);
    first.close_file(file);
    let open = |ring: &mut SimRing| ring.open(Path::new(LOG), DIRECT).expect("opens");
    let (file, other) = (open(&mut first), open(&mut second));
    assert_eq!(first.lock(Path::new(LOCK), "process 1").expect("locks"), Ok(()));
    assert!(first.lock_file(file).expect("locks"));
    (world, (first, file), (second, other))
}

fn is_owned(ring: &mut SimRing) -> bool {
    ring.lock(Path::new(LOCK), "process 2").expect("asks").is_err()
}

#[test]
fn locks_last_as_long_as_their_process() {
    let (_world, (first, _), (mut second, other)) = two();
    assert_eq!(second.lock(Path::new(LOCK), "process 2").expect("asks"), Err("process 1".to_owned()));
    assert!(!second.lock_file(other).expect("asks"));
    drop(first);
    assert!(!is_owned(&mut second));
    assert!(second.lock_file(other).expect("locks"));
}

#[test]
fn the_lock_of_a_file_is_of_an_opening_and_goes_with_it() {
    let (_world, (mut first, file), (mut second, other)) = two();
    assert!(first.lock_file(file).expect("has it already"));
    let again = first.open(Path::new(LOG), OLD).expect("opens");
    assert!(!first.lock_file(again).expect("asks"), "it is not the process's");
    assert!(second.is_locked(Path::new(LOG)).expect("asks"));
    first.close_file(file);
    assert!(!second.is_locked(Path::new(LOG)).expect("asks"));
    assert!(second.lock_file(other).expect("locks"));
}

#[test]
fn a_direct_write_outlives_its_process_and_keeps_its_file_locked() {
    let (world, (mut first, file), (mut second, other)) = two();
    write(&mut first, file, 0, b'w', Durability::Durable);
    world.freeze_disk(ip(1), world.now().after(Duration::from_secs(20)));
    drop(first);
    assert!(!is_owned(&mut second), "no thread waits for it");
    let mut block = [0; 1];
    while !second.lock_file(other).expect("asks") {
        second.read_at(other, 0, &mut block).expect("reads");
        assert_ne!(block, *b"w", "it has landed and holds the file still");
        assert!(second.is_locked(Path::new(LOG)).expect("asks"));
        assert!(world.step(), "it ends");
    }
    second.read_at(other, 0, &mut block).expect("reads");
    assert_eq!(block, *b"w");
    assert!(world.now() >= START.after(Duration::from_secs(20)));
}

#[test]
fn a_process_has_not_ended_before_what_its_threads_do() {
    let begin: [fn(&mut SimRing); 4] = [
        |ring| ring.rename_file(Path::new(LOG), Path::new("/spool/new"), FILE),
        |ring| ring.remove_file(Path::new(LOG), FILE),
        |ring| ring.open_file(Path::new("/spool/other"), NEW, FILE),
        |ring| {
            let buffered = ring.open(Path::new(LOG), OLD).expect("opens");
            write(ring, buffered, 0, b'w', Durability::Durable);
        },
    ];
    for begin in begin {
        let (world, (mut first, _), (mut second, _)) = two();
        begin(&mut first);
        drop(first);
        assert!(is_owned(&mut second));
        while world.step() {}
        assert!(!is_owned(&mut second));
    }
}

#[test]
fn a_power_cut_frees_every_lock() {
    let (world, (mut first, file), (second, _)) = two();
    write(&mut first, file, 0, b'w', Durability::Durable);
    world.crash(ip(1));
    drop((first, second));
    let mut next = world.host(ip(1));
    assert!(!is_owned(&mut next));
    let file = next.open(Path::new(LOG), DIRECT).expect("opens");
    assert!(next.lock_file(file).expect("locks"));
}
