use std::io;
use std::path::Path;

/// A file that a [`Disk`] holds open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct File(pub(crate) u32);

/// How to open a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenMode {
    /// For writing too.
    pub write: bool,
    /// Create it; it must not exist.
    pub create_new: bool,
    /// O_DIRECT; a file system that refuses it gets buffered I/O.
    pub direct: bool,
}

/// Blocking file operations: for the start, for recovery and for tools; a worker in service uses the ring's own.
///
/// Every method fails as the file system does.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
pub trait Disk {
    /// The names in a directory, sorted.
    fn list(&mut self, directory: &Path) -> io::Result<Vec<String>>;

    /// Creates a directory and its parents; fine when it is there.
    fn create_directory(&mut self, path: &Path) -> io::Result<()>;

    /// Opens a file.
    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<File>;

    /// Closes a file; operations in flight on it are finished first, their completions swallowed.
    fn close_file(&mut self, file: File);

    /// The length of a file in bytes.
    fn length(&mut self, file: File) -> io::Result<u64>;

    /// Fills `bytes` from `offset`; a short count only at the end of the file. With
    /// [`OpenMode::direct`] the implementation copes with any alignment.
    fn read_at(&mut self, file: File, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset` (buffered; whole aligned blocks where the file is direct).
    fn write_at(&mut self, file: File, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reserves space up to `length` bytes, extending the file.
    fn allocate(&mut self, file: File, length: u64) -> io::Result<()>;

    /// Makes data and size durable.
    fn sync(&mut self, file: File) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_directory(&mut self, path: &Path) -> io::Result<()>;

    /// Renames a file over whatever has the new name.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&mut self, path: &Path) -> io::Result<()>;

    /// Takes the exclusive lock on `path` (created if missing) until the process or the disk goes,
    /// and writes `owner` into it. `Ok(Err(text))` gives the text of the owner that holds it.
    fn lock(&mut self, path: &Path, owner: &str) -> io::Result<Result<(), String>>;

    /// Free bytes of the file system that holds `path`.
    fn free_bytes(&mut self, path: &Path) -> io::Result<u64>;
}

/// The files of this machine.
#[derive(Debug, Default)]
pub struct RealDisk {}
