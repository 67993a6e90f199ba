//! Durable writes, names and locks: files through the ring, and by blocking calls beside it.

use super::*;

fn file_done(ring: &mut UringRing) -> (io::Result<usize>, Option<File>, Option<AlignedBuffer>) {
    until(ring, |_, completion| match completion {
        Completion::File { result, file, buffer, .. } => Some((result, file, buffer)),
        other => panic!("unexpected {other:?}"),
    })
}

#[test]
fn a_durable_write_is_read_back_through_ring_and_disk() {
    let directory = Scratch::new();
    let mut ring = ring();
    for direct in [true, false] {
        let path = directory.path(format!("segment-{direct}"));
        let mode = OpenMode { write: true, create_new: true, direct };
        ring.open_file(&path, mode, token(1));
        let (result, file, _) = file_done(&mut ring);
        result.expect("opens");
        let file = file.expect("a file");
        ring.allocate_file(file, 1 << 20, token(1));
        file_done(&mut ring).0.expect("allocates");
        assert_eq!(ring.length(file).expect("has a length"), 1 << 20);

        let mut buffer = AlignedBuffer::zeroed(4 * BLOCK_BYTES);
        buffer.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 239) as u8);
        let range = BLOCK_BYTES..3 * BLOCK_BYTES;
        let copy = buffer.clone();
        ring.write_file(file, 8192, buffer, range.clone(), Durability::Durable, token(2));
        let (result, _, buffer) = file_done(&mut ring);
        assert_eq!(result.expect("writes"), range.len());
        let shared = Rc::new(buffer.expect("the buffer comes back"));
        ring.write_shared(file, 1 << 20, Rc::clone(&shared), 0..BLOCK_BYTES, Durability::Buffered, token(2));
        assert_eq!(file_done(&mut ring).0.expect("writes"), BLOCK_BYTES);
        ring.sync_file(file, token(3));
        file_done(&mut ring).0.expect("syncs");

        ring.read_file(file, 8192, AlignedBuffer::zeroed(4 * BLOCK_BYTES), range.clone(), token(4));
        let (result, _, read) = file_done(&mut ring);
        assert_eq!(result.expect("reads"), range.len());
        assert!(read.expect("the buffer comes back")[range.clone()] == copy[range.clone()]);
        ring.read_file(file, 1 << 20, AlignedBuffer::zeroed(4 * BLOCK_BYTES), 0..4 * BLOCK_BYTES, token(4));
        assert_eq!(file_done(&mut ring).0.expect("reads to the end"), BLOCK_BYTES);
        let mut bytes = [0; 100];
        assert_eq!(ring.read_at(file, 8192 + 33, &mut bytes).expect("reads"), 100);
        assert!(bytes == copy[BLOCK_BYTES + 33..BLOCK_BYTES + 133]);
        ring.close_file(file);
    }
}

/// /dev/null takes every write, whatever its flags, and refuses every flush: so a separate flush
/// shows, and its error is the write's.
#[test]
fn a_durable_write_without_direct_io_is_as_good_as_its_flush() {
    let mut ring = ring();
    let mode = OpenMode { write: true, create_new: false, direct: false };
    ring.open_file(Path::new("/dev/null"), mode, token(1));
    let (result, file, _) = file_done(&mut ring);
    result.expect("opens");
    let file = file.expect("a file");
    let block = || AlignedBuffer::zeroed(BLOCK_BYTES);
    ring.write_file(file, 0, block(), 0..BLOCK_BYTES, Durability::Buffered, token(2));
    assert_eq!(file_done(&mut ring).0.expect("a write alone is fine"), BLOCK_BYTES);
    ring.write_file(file, 0, block(), 0..BLOCK_BYTES, Durability::Durable, token(3));
    let (result, _, buffer) = file_done(&mut ring);
    assert_eq!(result.expect_err("it cannot be flushed").raw_os_error(), Some(libc::EINVAL));
    assert!(buffer.is_some(), "the buffer comes back");
    assert!(what_comes(&mut ring).is_empty(), "and nothing is tried again");
}

#[test]
fn a_durable_write_without_direct_io_is_read_back() {
    let directory = Scratch::new();
    let mut ring = ring();
    let mode = OpenMode { write: true, create_new: true, direct: false };
    ring.open_file(&directory.path("log"), mode, token(1));
    let file = file_done(&mut ring).1.expect("a file");
    let mut block = AlignedBuffer::zeroed(BLOCK_BYTES);
    block.fill(7);
    ring.write_file(file, 0, block, 0..BLOCK_BYTES, Durability::Durable, token(2));
    assert_eq!(file_done(&mut ring).0.expect("writes and flushes"), BLOCK_BYTES);
    assert_eq!(std::fs::read(directory.path("log")).expect("reads"), [7; BLOCK_BYTES]);
}

/// A pipe serves what it has, and takes what it has room for.
fn pipe(directory: &Scratch) -> std::path::PathBuf {
    let path = directory.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo is there");
    assert!(made.success());
    path
}

const PIPE: OpenMode = OpenMode { write: true, create_new: false, direct: false };

fn counted(bytes: usize) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::zeroed(bytes);
    buffer.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 239) as u8);
    buffer
}

#[test]
fn a_read_that_is_served_in_parts_goes_on_to_its_end() {
    let directory = Scratch::new();
    let path = pipe(&directory);
    let mut ring = ring();
    ring.open_file(&path, PIPE, token(1));
    let file = file_done(&mut ring).1.expect("opens");
    let range = BLOCK_BYTES..3 * BLOCK_BYTES;
    ring.read_file(file, 0, AlignedBuffer::zeroed(4 * BLOCK_BYTES), range.clone(), token(2));
    let bytes = counted(range.len());
    let (first, rest) = bytes.split_at(1000);
    for part in [first, &rest[..BLOCK_BYTES]] {
        std::fs::write(&path, part).expect("writes");
        assert!(what_comes(&mut ring).is_empty(), "it waits for the rest");
    }
    std::fs::write(&path, &rest[BLOCK_BYTES..]).expect("writes");
    let (result, _, read) = file_done(&mut ring);
    assert_eq!(result.expect("reads"), range.len());
    assert!(read.expect("the buffer comes back")[range] == bytes[..]);
}

#[test]
fn a_write_that_is_taken_in_parts_goes_on_to_its_end() {
    let directory = Scratch::new();
    let path = pipe(&directory);
    let mut ring = ring();
    ring.open_file(&path, PIPE, token(1));
    let file = file_done(&mut ring).1.expect("opens");
    // Many times what a pipe holds.
    let bytes = counted(1 << 20);
    ring.write_file(file, 0, bytes.clone(), 0..1 << 20, Durability::Buffered, token(2));
    assert!(what_comes(&mut ring).is_empty(), "it has not been read yet");
    let reader = std::thread::spawn(move || {
        let mut read = vec![0; 1 << 20];
        let mut pipe = std::fs::File::open(path).expect("opens");
        std::io::Read::read_exact(&mut pipe, &mut read).expect("reads");
        read
    });
    assert_eq!(file_done(&mut ring).0.expect("writes"), 1 << 20);
    assert!(reader.join().expect("the reader ends") == bytes[..]);
}

#[test]
fn names_are_changed_and_removed_through_the_ring() {
    let directory = Scratch::new();
    let mut ring = ring();
    let (old, new) = (directory.path("old"), directory.path("new"));
    std::fs::write(&old, "x").expect("writes");
    ring.rename_file(&old, &new, token(1));
    file_done(&mut ring).0.expect("renames");
    ring.sync_directory_file(&directory.path("."), token(1));
    file_done(&mut ring).0.expect("syncs");
    assert_eq!(ring.list(&directory.path(".")).expect("lists"), ["new"]);
    ring.remove_file(&new, token(1));
    file_done(&mut ring).0.expect("removes");
    ring.remove_file(&new, token(1));
    assert_eq!(file_done(&mut ring).0.expect_err("gone").kind(), io::ErrorKind::NotFound);
    let inner = directory.path("inner");
    std::fs::create_dir(&inner).expect("creates");
    ring.remove_file(&inner, token(1));
    file_done(&mut ring).0.expect_err("it is a directory");
    std::fs::write(inner.join("name"), "x").expect("writes");
    ring.remove_directory_file(&inner, token(1));
    file_done(&mut ring).0.expect_err("it holds a name");
    ring.remove(&inner.join("name")).expect("removes");
    ring.remove_directory_file(&inner, token(1));
    file_done(&mut ring).0.expect("removes");
    assert!(ring.list(&directory.path(".")).expect("lists").is_empty());
    ring.open_file(Path::new("a\0b"), OpenMode::default(), token(1));
    assert_eq!(file_done(&mut ring).0.expect_err("no such name").kind(), io::ErrorKind::InvalidInput);
    ring.sync_directory_file(&new, token(1));
    assert_eq!(file_done(&mut ring).0.expect_err("gone").kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_name_leads_to_the_file_that_is_open_until_it_is_taken_away_or_given_to_another() {
    let directory = Scratch::new();
    let mut ring = ring();
    let (path, moved) = (directory.path("segment"), directory.path("moved"));
    let mode = OpenMode { write: true, create_new: true, direct: true };
    let file = ring.open(&path, mode).expect("opens");
    let identity = ring.identity(file).expect("is open");
    ring.identify_file(&path, token(1));
    assert_eq!(file_done(&mut ring).0.expect("is there"), identity);
    std::fs::rename(&path, &moved).expect("renames");
    ring.identify_file(&path, token(1));
    assert_eq!(file_done(&mut ring).0.expect_err("gone").kind(), io::ErrorKind::NotFound);
    ring.identify_file(&moved, token(1));
    assert_eq!(file_done(&mut ring).0.expect("is there"), identity);
    std::fs::write(&path, "another").expect("writes");
    ring.identify_file(&path, token(1));
    assert_ne!(file_done(&mut ring).0.expect("is there"), identity);
}

#[test]
fn a_file_closed_under_a_write_is_finished_in_silence() {
    let directory = Scratch::new();
    let mut ring = ring();
    let path = directory.path("segment");
    let mode = OpenMode { write: true, create_new: true, direct: true };
    let file = ring.open(&path, mode).expect("opens");
    ring.write_file(file, 0, AlignedBuffer::zeroed(1 << 20), 0..1 << 20, Durability::Durable, token(1));
    ring.close_file(file);
    ring.sync_file(file, token(2));
    let (result, ..) = file_done(&mut ring);
    assert_eq!(result.expect_err("closed").raw_os_error(), Some(libc::EBADF));
    // Dropping the ring waits for the write.
    drop(ring);
    let length = std::fs::metadata(&path).expect("is there").len();
    assert!(length <= 1 << 20, "{length}");
}

#[test]
fn a_locked_file_stays_so_until_the_operation_on_it_has_ended() {
    let directory = Scratch::new();
    let path = pipe(&directory);
    let mut ring = ring();
    ring.open_file(&path, PIPE, token(1));
    let file = file_done(&mut ring).1.expect("opens");
    assert!(ring.lock_file(file).expect("locks"));
    // No client has written to it yet: the operation stays under way.
    ring.read_file(file, 0, AlignedBuffer::zeroed(BLOCK_BYTES), 0..BLOCK_BYTES, token(2));
    assert!(what_comes(&mut ring).is_empty());
    ring.close_file(file);

    let mut other = RealDisk::default();
    let opened = other.open(&path, PIPE).expect("opens");
    assert!(what_comes(&mut ring).is_empty());
    assert!(!other.lock_file(opened).expect("asks"));
    std::fs::write(&path, [1; BLOCK_BYTES]).expect("writes");
    while !other.lock_file(opened).expect("asks") {
        assert!(what_comes(&mut ring).is_empty(), "it was closed: no completion comes");
    }
}
