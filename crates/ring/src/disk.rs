use std::ffi::CString;
use std::fs;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::{AlignedBuffer, BLOCK_BYTES};

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

    /// Whether it was opened as [`OpenMode::direct`] asks; false where the file system refuses that.
    fn is_direct(&mut self, file: File) -> io::Result<bool>;

    /// The length of a file in bytes.
    fn length(&mut self, file: File) -> io::Result<u64>;

    /// Fills `bytes` from `offset`; a short count only at the end of the file. With
    /// [`OpenMode::direct`] the implementation copes with any alignment.
    fn read_at(&mut self, file: File, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset` (buffered; whole aligned blocks where the file is direct).
    fn write_at(&mut self, file: File, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reserves space up to `length` bytes, extending the file; does nothing where the file system cannot.
    fn allocate(&mut self, file: File, length: u64) -> io::Result<()>;

    /// Makes data and size durable.
    fn sync(&mut self, file: File) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_directory(&mut self, path: &Path) -> io::Result<()>;

    /// Renames a file over whatever has the new name.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&mut self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_directory(&mut self, path: &Path) -> io::Result<()>;

    /// Takes the exclusive lock on `path` (created if missing) until the process or the disk goes,
    /// and writes `owner` into it. `Ok(Err(text))` gives the text of the owner that holds it.
    fn lock(&mut self, path: &Path, owner: &str) -> io::Result<Result<(), String>>;

    /// Takes the exclusive lock on an open file, which lasts as long as it is open **or an operation on it is
    /// under way**, also one of a process that was killed; false when another holds it. It is per opening,
    /// not per process, and touches nothing but the file's own state in the kernel: it never waits.
    fn lock_file(&mut self, file: File) -> io::Result<bool>;

    /// Whether a process holds the lock on the file at `path`, this process included. A file that was closed
    /// may hold it until the next turn of the ring.
    fn is_locked(&mut self, path: &Path) -> io::Result<bool>;

    /// A number by which an open file is told from every other of this machine: [`crate::Ring::identify_file`]
    /// gives the same for its name, as long as the name leads to it. It asks the kernel's memory alone and never
    /// waits.
    fn identity(&mut self, file: File) -> io::Result<usize>;

    /// Free bytes of the file system that holds `path`.
    fn free_bytes(&mut self, path: &Path) -> io::Result<u64>;
}

/// The files of this machine.
#[derive(Debug, Default)]
pub struct RealDisk {
    files: Vec<Option<OpenFile>>,
    /// The files whose locks last as long as this disk.
    locks: Vec<fs::File>,
}

#[derive(Debug)]
struct OpenFile {
    file: fs::File,
    direct: bool,
}

/// How much an unaligned access to a direct file moves through an aligned buffer at a time.
const BOUNCE_BYTES: usize = 64 * BLOCK_BYTES;

impl RealDisk {
    /// Takes an open file in, under the lowest free number.
    pub(crate) fn adopt(&mut self, file: OwnedFd, direct: bool) -> File {
        let open = Some(OpenFile { file: file.into(), direct });
        let index = self.files.iter().position(Option::is_none).unwrap_or_else(|| {
            self.files.push(None);
            self.files.len() - 1
        });
        self.files[index] = open;
        File(u32::try_from(index).expect("fewer files than descriptors"))
    }

    /// Hands an open file out, to be closed elsewhere.
    pub(crate) fn take(&mut self, file: File) -> Option<OwnedFd> {
        Some(self.files.get_mut(file.0 as usize)?.take()?.file.into())
    }

    /// The descriptor of an open file, and whether it is direct.
    pub(crate) fn descriptor(&self, file: File) -> Option<(RawFd, bool)> {
        let open = self.files.get(file.0 as usize)?.as_ref()?;
        Some((open.file.as_raw_fd(), open.direct))
    }

    fn get(&self, file: File) -> io::Result<&OpenFile> {
        let open = self.files.get(file.0 as usize).and_then(Option::as_ref);
        open.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }
}

impl Disk for RealDisk {
    fn list(&mut self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<File> {
        let open = |direct: bool| {
            let mut options = fs::OpenOptions::new();
            options.read(true).write(mode.write).create_new(mode.create_new).mode(FILE_MODE);
            options.custom_flags(if direct { libc::O_DIRECT } else { 0 }).open(path)
        };
        let (file, direct) = match open(mode.direct) {
            Err(error) if mode.direct && error.raw_os_error() == Some(libc::EINVAL) => {
                // The file system refuses O_DIRECT, perhaps after it created the file.
                if mode.create_new {
                    match fs::remove_file(path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => {}
                    }
                }
                (open(false)?, false)
            }
            opened => (opened?, mode.direct),
        };
        Ok(self.adopt(file.into(), direct))
    }

    fn close_file(&mut self, file: File) {
        drop(self.take(file));
    }

    fn length(&mut self, file: File) -> io::Result<u64> {
        Ok(self.get(file)?.file.metadata()?.len())
    }

    fn read_at(&mut self, file: File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let open = self.get(file)?;
        if !open.direct || is_aligned(offset, bytes) {
            return read_full(&open.file, offset, bytes, open.direct);
        }
        let mut bounce = AlignedBuffer::zeroed(BOUNCE_BYTES);
        let mut done = 0;
        while done < bytes.len() {
            let (start, skip) = block_of(offset + done as u64);
            let wanted = (bytes.len() - done).min(BOUNCE_BYTES - skip);
            let window = (skip + wanted).next_multiple_of(BLOCK_BYTES);
            let read = read_full(&open.file, start, &mut bounce[..window], true)?;
            let count = read.saturating_sub(skip).min(wanted);
            bytes[done..done + count].copy_from_slice(&bounce[skip..skip + count]);
            done += count;
            if count < wanted {
                break;
            }
        }
        Ok(done)
    }

    fn write_at(&mut self, file: File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let open = self.get(file)?;
        if !open.direct || is_aligned(offset, bytes) {
            return open.file.write_all_at(bytes, offset);
        }
        let length = open.file.metadata()?.len().max(offset + bytes.len() as u64);
        let mut bounce = AlignedBuffer::zeroed(BOUNCE_BYTES);
        let mut done = 0;
        while done < bytes.len() {
            let (start, skip) = block_of(offset + done as u64);
            let count = (bytes.len() - done).min(BOUNCE_BYTES - skip);
            let window = (skip + count).next_multiple_of(BLOCK_BYTES);
            let read = read_full(&open.file, start, &mut bounce[..window], true)?;
            bounce[read..window].fill(0);
            bounce[skip..skip + count].copy_from_slice(&bytes[done..done + count]);
            open.file.write_all_at(&bounce[..window], start)?;
            done += count;
        }
        // The last block was written whole: cut off what lies past the end.
        if open.file.metadata()?.len() > length { open.file.set_len(length) } else { Ok(()) }
    }

    fn allocate(&mut self, file: File, length: u64) -> io::Result<()> {
        let file = &self.get(file)?.file;
        if length == 0 {
            return Ok(());
        }
        let bytes =
            libc::off_t::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: a system call on a descriptor that `file` keeps open; no memory is handed in.
        match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes) } {
            0 => Ok(()),
            _ => allocated(Err(io::Error::last_os_error())),
        }
    }

    fn sync(&mut self, file: File) -> io::Result<()> {
        self.get(file)?.file.sync_data()
    }

    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn lock(&mut self, path: &Path, owner: &str) -> io::Result<Result<(), String>> {
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = Vec::new();
                file.read_to_end(&mut holder)?;
                return Ok(Err(String::from_utf8_lossy(&holder).into_owned()));
            }
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        file.write_all_at(owner.as_bytes(), 0)?;
        self.locks.push(file);
        Ok(Ok(()))
    }

    fn is_direct(&mut self, file: File) -> io::Result<bool> {
        Ok(self.get(file)?.direct)
    }

    fn lock_file(&mut self, file: File) -> io::Result<bool> {
        // flock(2): of the open file description, which the kernel keeps until its last operation has ended.
        match self.get(file)?.file.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn is_locked(&mut self, path: &Path) -> io::Result<bool> {
        // Opened as for writing: some file systems give exclusive locks to no others.
        match fs::OpenOptions::new().read(true).write(true).open(path)?.try_lock() {
            Ok(()) => Ok(false),
            Err(fs::TryLockError::WouldBlock) => Ok(true),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn identity(&mut self, file: File) -> io::Result<usize> {
        let metadata = self.get(file)?.file.metadata()?;
        let device = metadata.dev();
        Ok(identity_of(libc::major(device), libc::minor(device), metadata.ino()))
    }

    fn free_bytes(&mut self, path: &Path) -> io::Result<u64> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut stat = MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: the path ends with a zero and `stat` has room for what the call writes.
        if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded and so filled `stat`.
        let stat = unsafe { stat.assume_init() };
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Mail is for the gateway's own user to read.
pub(crate) const FILE_MODE: u32 = 0o600;

fn is_aligned(offset: u64, bytes: &[u8]) -> bool {
    offset.is_multiple_of(BLOCK_BYTES as u64)
        && bytes.len().is_multiple_of(BLOCK_BYTES)
        && bytes.as_ptr().addr().is_multiple_of(BLOCK_BYTES)
}

/// The block that holds `offset`: where it begins, and how far into it `offset` lies.
fn block_of(offset: u64) -> (u64, usize) {
    let skip = offset % BLOCK_BYTES as u64;
    (offset - skip, skip as usize)
}

/// What an attempt to reserve space comes to: a file system that cannot is taken as it is, and the file
/// grows as it is written.
pub(crate) fn allocated<T: Default>(outcome: io::Result<T>) -> io::Result<T> {
    match outcome {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(T::default()),
        outcome => outcome,
    }
}

/// An inode number and its device in one number: devices have few bits, inode numbers few of the highest.
pub(crate) fn identity_of(major: u32, minor: u32, inode: u64) -> usize {
    let device = u64::from(major) << 20 | u64::from(minor);
    (inode ^ device.rotate_right(24)) as usize
}

/// Reads until `bytes` is full or the file ends.
fn read_full(file: &fs::File, offset: u64, bytes: &mut [u8], direct: bool) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        // A direct read that stops within a block met the end of the file; going on from there is an error.
        if direct && !done.is_multiple_of(BLOCK_BYTES) {
            break;
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    const DIRECT: OpenMode = OpenMode { write: true, create_new: true, direct: true };

    #[test]
    fn a_direct_file_is_read_and_written_at_any_alignment() {
        let directory = Scratch::new();
        let mut disk = RealDisk::default();
        let file = disk.open(&directory.path("log"), DIRECT).expect("opens");
        let bytes: Vec<u8> = (0..600_000_u32).map(|n| (n % 251) as u8).collect();
        disk.write_at(file, 1234, &bytes).expect("writes");
        assert_eq!(disk.length(file).expect("has a length"), 1234 + bytes.len() as u64);
        disk.write_at(file, 5000, b"patch").expect("writes");

        let mut read = vec![1; bytes.len() + 5000];
        let count = disk.read_at(file, 1000, &mut read).expect("reads");
        let mut expected = vec![0; 234];
        expected.extend_from_slice(&bytes);
        expected[4000..4005].copy_from_slice(b"patch");
        assert_eq!(count, expected.len());
        assert!(read[..count] == expected, "what was written is read");
        assert_eq!(disk.read_at(file, 10_000_000, &mut read).expect("reads"), 0);
    }

    #[test]
    fn a_lock_names_its_owner_until_the_disk_goes() {
        let directory = Scratch::new();
        let path = directory.path("lock");
        let mut first = RealDisk::default();
        assert_eq!(first.lock(&path, "gateway 1, rather long").expect("locks"), Ok(()));
        let mut second = RealDisk::default();
        let holder = second.lock(&path, "two").expect("asks");
        assert_eq!(holder, Err("gateway 1, rather long".to_owned()));
        drop(first);
        assert_eq!(second.lock(&path, "two").expect("locks"), Ok(()));
        assert_eq!(fs::read_to_string(&path).expect("reads"), "two");
    }

    #[test]
    fn the_lock_of_a_file_is_of_an_opening_and_goes_with_it() {
        let directory = Scratch::new();
        let path = directory.path("log");
        let mut disk = RealDisk::default();
        let first = disk.open(&path, DIRECT).expect("creates");
        assert!(disk.lock_file(first).expect("locks"));
        assert!(disk.lock_file(first).expect("has it already"));
        let second = disk.open(&path, OpenMode { create_new: false, ..DIRECT }).expect("opens");
        assert!(!disk.lock_file(second).expect("asks"), "it is not the process's");
        assert!(disk.is_locked(&path).expect("asks"));
        disk.close_file(first);
        assert!(!disk.is_locked(&path).expect("asks"));
        assert!(disk.lock_file(second).expect("locks"));
    }

    #[test]
    fn files_are_listed_renamed_and_removed() {
        let directory = Scratch::new();
        let mut disk = RealDisk::default();
        disk.create_directory(&directory.path("a/b")).expect("creates");
        let file = disk.open(&directory.path("a/two"), OpenMode { direct: false, ..DIRECT }).expect("opens");
        disk.allocate(file, 10_000).expect("allocates");
        assert_eq!(disk.length(file).expect("has a length"), 10_000);
        disk.sync(file).expect("syncs");
        disk.close_file(file);
        assert!(disk.length(file).is_err(), "a closed file is gone");
        disk.rename(&directory.path("a/two"), &directory.path("a/one")).expect("renames");
        disk.sync_directory(&directory.path("a")).expect("syncs");
        assert_eq!(disk.list(&directory.path("a")).expect("lists"), ["b", "one"]);
        disk.remove(&directory.path("a/one")).expect("removes");
        assert_eq!(disk.list(&directory.path("a")).expect("lists"), ["b"]);
        assert!(disk.free_bytes(&directory.path("a")).expect("has room") > 0);
    }
}
