//! File operations: opened, written, read, synced and named through the ring, each possibly in several steps.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use io_uring::squeue::Entry;
use io_uring::{opcode, types};

use super::queue::{Ended, Kind, Operation, Queue};
use crate::disk::{FILE_MODE, allocated, identity_of};
use crate::request::{FileRequest, Source};
use crate::transfer::Transfer;
use crate::{AlignedBuffer, Completion, Durability, File, Handle, OpenMode, RealDisk, Token};

/// The longest piece handed to the kernel at once, well below what its counters hold; whole blocks.
const PIECE_BYTES_MAX: usize = 1 << 30;
const HERE: types::Fd = types::Fd(libc::AT_FDCWD);

#[derive(Default)]
pub(super) struct Operations {
    slots: Vec<Option<Work>>,
    free: Vec<u32>,
    /// By the number of the file.
    files: Vec<Use>,
    /// Operations that failed before the kernel was asked.
    failed: Vec<Completion>,
}

/// How a file is used by operations under way.
#[derive(Clone, Copy, Default)]
struct Use {
    in_flight: u32,
    closing: bool,
}

struct Work {
    token: Token,
    /// The file and its descriptor, where there is one.
    target: Option<Target>,
    request: Request,
}

#[derive(Clone, Copy)]
struct Target {
    file: File,
    fd: RawFd,
}

enum Request {
    Open { path: CString, mode: OpenMode, again: bool },
    Write { transfer: Transfer, source: Source, range: Range<usize>, flush: Flush },
    Read { transfer: Transfer, buffer: AlignedBuffer, range: Range<usize> },
    Allocate { length: u64 },
    Sync,
    Rename { from: CString, to: CString },
    SyncDirectory { path: CString, directory: Option<OwnedFd> },
    Remove { path: CString, flags: i32 },
    Identify { path: CString, found: Box<MaybeUninit<libc::statx>> },
}

/// How a write becomes durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    /// Not by this operation.
    No,
    /// The write itself, by RWF_DSYNC: no more than a flag to the device where the file is direct.
    Within,
    /// By fdatasync once all is written: a file system without O_DIRECT may take a write's flags for
    /// advice, and does know fdatasync.
    After,
    /// That fdatasync is under way.
    Now,
}

/// What comes after a step.
enum Next {
    /// Another step of the same request.
    Again,
    Done(io::Result<usize>),
}

impl Operations {
    pub(super) fn start(
        &mut self,
        request: FileRequest<'_>,
        token: Token,
        queue: &mut Queue,
        disk: &RealDisk,
    ) {
        let file = request.file();
        let direct = file.and_then(|file| disk.descriptor(file)).is_some_and(|(_, direct)| direct);
        let (error, buffer) = match Request::new(request, direct) {
            Ok(request) => match file.map(|file| self.hold(file, disk)).transpose() {
                Ok(target) => return self.begin(Work { token, target, request }, queue),
                Err(error) => (error, request.into_buffer()),
            },
            Err(error) => (error, None),
        };
        self.failed.push(Completion::File { token, result: Err(error), file: None, buffer });
    }

    pub(super) fn close_file(&mut self, file: File, queue: &mut Queue, disk: &mut RealDisk) {
        let under_way = self.files.get_mut(file.0 as usize).filter(|file| file.in_flight > 0);
        match under_way {
            Some(file) => file.closing = true,
            None => close(file, queue, disk),
        }
    }

    pub(super) fn report_failed(&mut self, completions: &mut Vec<Completion>) {
        completions.append(&mut self.failed);
    }

    /// A step ended: the next one is begun, or the request reported.
    pub(super) fn ended(
        &mut self,
        ended: Ended,
        queue: &mut Queue,
        disk: &mut RealDisk,
        completions: &mut Vec<Completion>,
    ) {
        let index = ended.operation.handle.index();
        let slot = &mut self.slots[index as usize];
        let work = slot.as_mut().expect("an operation that reports was begun");
        let outcome = match work.after(ended.outcome(), queue) {
            Next::Again => return work.arm(index, queue),
            Next::Done(outcome) => outcome,
        };
        let Work { token, target, request } = slot.take().expect("it was there just now");
        self.free.push(index);
        if target.is_some_and(|target| self.leave(target.file, queue, disk)) {
            return;
        }
        let (result, file) = match request {
            Request::Open { mode, again, .. } => adopt(outcome, mode.direct && !again, disk),
            Request::Allocate { .. } => (allocated(outcome), None),
            _ => (outcome, None),
        };
        completions.push(Completion::File { token, result, file, buffer: request.into_buffer() });
    }

    /// Counts an operation on a file, which must be open.
    fn hold(&mut self, file: File, disk: &RealDisk) -> io::Result<Target> {
        let number = file.0 as usize;
        if self.files.len() <= number {
            self.files.resize(number + 1, Use::default());
        }
        let open = disk.descriptor(file).filter(|_| !self.files[number].closing);
        let (fd, _) = open.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        self.files[number].in_flight += 1;
        Ok(Target { file, fd })
    }

    fn begin(&mut self, work: Work, queue: &mut Queue) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer operations than 2^32")
        });
        self.slots[index as usize].insert(work).arm(index, queue);
    }

    /// An operation no longer uses the file; true when the file was closed meanwhile.
    fn leave(&mut self, file: File, queue: &mut Queue, disk: &mut RealDisk) -> bool {
        let usage = &mut self.files[file.0 as usize];
        usage.in_flight -= 1;
        let closing = usage.closing;
        if closing && usage.in_flight == 0 {
            usage.closing = false;
            close(file, queue, disk);
        }
        closing
    }
}

impl Work {
    fn arm(&mut self, index: u32, queue: &mut Queue) {
        let operation = Operation { kind: Kind::File, handle: Handle::fixed(index) };
        // SAFETY: paths and buffers lie on the heap and stay in the slot until the step has reported; the
        // file is closed only when no operation uses it.
        unsafe { queue.push(self.entry(), operation) };
    }

    /// The next step as the kernel reads it.
    fn entry(&mut self) -> Entry {
        let fd = types::Fd(self.target.map_or(-1, |target| target.fd));
        match &mut self.request {
            Request::Open { path, mode, again } => opcode::OpenAt::new(HERE, path.as_ptr())
                .flags(open_flags(*mode, *again))
                .mode(FILE_MODE)
                .build(),
            Request::Write { flush: Flush::Now, .. } | Request::Sync => {
                opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build()
            }
            Request::Write { transfer, source, range, flush } => {
                let rest = &source.bytes()[range.clone()][transfer.rest()];
                let length = rest.len().min(PIECE_BYTES_MAX) as u32;
                let flags = if *flush == Flush::Within { libc::RWF_DSYNC } else { 0 };
                opcode::Write::new(fd, rest.as_ptr(), length)
                    .offset(transfer.offset())
                    .rw_flags(flags)
                    .build()
            }
            Request::Read { transfer, buffer, range } => {
                let rest = &mut buffer[range.clone()][transfer.rest()];
                let length = rest.len().min(PIECE_BYTES_MAX) as u32;
                opcode::Read::new(fd, rest.as_mut_ptr(), length).offset(transfer.offset()).build()
            }
            Request::Allocate { length } => opcode::Fallocate::new(fd, *length).build(),
            Request::Rename { from, to } => {
                opcode::RenameAt::new(HERE, from.as_ptr(), HERE, to.as_ptr()).build()
            }
            Request::SyncDirectory { path, directory: None } => opcode::OpenAt::new(HERE, path.as_ptr())
                .flags(libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC)
                .build(),
            Request::SyncDirectory { directory: Some(directory), .. } => {
                opcode::Fsync::new(types::Fd(directory.as_raw_fd())).build()
            }
            Request::Remove { path, flags } => {
                opcode::UnlinkAt::new(HERE, path.as_ptr()).flags(*flags).build()
            }
            Request::Identify { path, found } => {
                let found = found.as_mut_ptr().cast::<types::statx>();
                opcode::Statx::new(HERE, path.as_ptr(), found).mask(libc::STATX_INO).build()
            }
        }
    }

    /// What a step's outcome means for the request.
    fn after(&mut self, outcome: io::Result<u32>, queue: &mut Queue) -> Next {
        let count = match outcome {
            Ok(count) => count as usize,
            Err(error) => return self.after_error(error, queue),
        };
        match &mut self.request {
            Request::Open { .. } => Next::Done(Ok(count)),
            Request::Write { range, flush: Flush::Now, .. } => Next::Done(Ok(range.len())),
            Request::Write { transfer, flush, .. } => match transfer.wrote(count) {
                None => Next::Again,
                Some(Ok(_)) if *flush == Flush::After => {
                    *flush = Flush::Now;
                    Next::Again
                }
                Some(outcome) => Next::Done(outcome),
            },
            Request::Read { transfer, .. } => match transfer.read(count) {
                None => Next::Again,
                Some(read) => Next::Done(Ok(read)),
            },
            Request::SyncDirectory { directory: slot @ None, .. } => {
                // SAFETY: the kernel just opened this descriptor for us alone.
                *slot = Some(unsafe { OwnedFd::from_raw_fd(count as RawFd) });
                Next::Again
            }
            Request::SyncDirectory { directory, .. } => {
                close_directory(directory, queue);
                Next::Done(Ok(0))
            }
            Request::Allocate { .. } | Request::Sync | Request::Rename { .. } | Request::Remove { .. } => {
                Next::Done(Ok(0))
            }
            Request::Identify { found, .. } => {
                // SAFETY: it was zeroed, which is a value of this plain structure; the kernel has filled it since.
                let found = unsafe { found.assume_init_ref() };
                Next::Done(Ok(identity_of(found.stx_dev_major, found.stx_dev_minor, found.stx_ino)))
            }
        }
    }

    fn after_error(&mut self, error: io::Error, queue: &mut Queue) -> Next {
        // A failed flush is never tried again: the kernel may have dropped what it could not write.
        let is_flush = match &mut self.request {
            Request::Sync | Request::Write { flush: Flush::Now, .. } => true,
            Request::SyncDirectory { directory, .. } => {
                let opened = directory.is_some();
                close_directory(directory, queue);
                opened
            }
            Request::Open { mode, again, .. }
                if mode.direct && !*again && error.raw_os_error() == Some(libc::EINVAL) =>
            {
                // The file system refuses O_DIRECT.
                *again = true;
                return Next::Again;
            }
            _ => false,
        };
        if error.kind() == io::ErrorKind::Interrupted && !is_flush {
            return Next::Again;
        }
        Next::Done(Err(error))
    }
}

impl Request {
    /// `direct`: the file that it is about was opened so.
    fn new(request: FileRequest<'_>, direct: bool) -> io::Result<Self> {
        Ok(match request {
            FileRequest::Open { path, mode } => Self::Open { path: c_path(path)?, mode, again: false },
            FileRequest::Write { offset, source, range, durability, .. } => {
                let flush = match durability {
                    Durability::Buffered => Flush::No,
                    Durability::Durable if direct => Flush::Within,
                    Durability::Durable => Flush::After,
                };
                Self::Write { transfer: Transfer::new(offset, range.len(), direct), source, range, flush }
            }
            FileRequest::Read { offset, buffer, range, .. } => {
                assert!(range.start <= range.end && range.end <= buffer.len(), "a range of the buffer");
                Self::Read { transfer: Transfer::new(offset, range.len(), direct), buffer, range }
            }
            FileRequest::Allocate { length, .. } => Self::Allocate { length },
            FileRequest::Sync { .. } => Self::Sync,
            FileRequest::Rename { from, to } => Self::Rename { from: c_path(from)?, to: c_path(to)? },
            FileRequest::SyncDirectory { path } => {
                Self::SyncDirectory { path: c_path(path)?, directory: None }
            }
            FileRequest::Remove { path } => Self::Remove { path: c_path(path)?, flags: 0 },
            FileRequest::RemoveDirectory { path } => {
                Self::Remove { path: c_path(path)?, flags: libc::AT_REMOVEDIR }
            }
            FileRequest::Identify { path } => {
                Self::Identify { path: c_path(path)?, found: Box::new(MaybeUninit::zeroed()) }
            }
        })
    }

    fn into_buffer(self) -> Option<AlignedBuffer> {
        match self {
            Self::Write { source, .. } => source.into_buffer(),
            Self::Read { buffer, .. } => Some(buffer),
            _ => None,
        }
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// `again`: without O_DIRECT, which was refused, perhaps after the file had been created.
fn open_flags(mode: OpenMode, again: bool) -> i32 {
    let access = if mode.write { libc::O_RDWR } else { libc::O_RDONLY };
    let create = match (mode.create_new, again) {
        (true, false) => libc::O_CREAT | libc::O_EXCL,
        (true, true) => libc::O_CREAT,
        (false, _) => 0,
    };
    let direct = if mode.direct && !again { libc::O_DIRECT } else { 0 };
    access | create | direct | libc::O_CLOEXEC
}

fn adopt(outcome: io::Result<usize>, direct: bool, disk: &mut RealDisk) -> (io::Result<usize>, Option<File>) {
    match outcome {
        Ok(descriptor) => {
            // SAFETY: the kernel just opened this descriptor for us alone.
            let fd = unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) };
            (Ok(0), Some(disk.adopt(fd, direct)))
        }
        Err(error) => (Err(error), None),
    }
}

/// Through the ring, since the last close of a removed file frees its blocks, which takes time.
fn close(file: File, queue: &mut Queue, disk: &mut RealDisk) {
    if let Some(fd) = disk.take(file) {
        queue.push_ignored(opcode::Close::new(types::Fd(fd.into_raw_fd())).build());
    }
}

fn close_directory(directory: &mut Option<OwnedFd>, queue: &mut Queue) {
    if let Some(fd) = directory.take() {
        queue.push_ignored(opcode::Close::new(types::Fd(fd.into_raw_fd())).build());
    }
}
