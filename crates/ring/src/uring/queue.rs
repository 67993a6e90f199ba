//! The io_uring itself: what is to be submitted, how many operations are under way, and the wait.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode};

use crate::Handle;

/// What kind of object a completion is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Cancels and closes: they report only failures, and those say that there was nothing to do.
    Ignored,
    Accept,
    Receive,
    Send,
    Connect,
    File,
    Wake,
}

const KINDS: [Kind; 7] =
    [Kind::Ignored, Kind::Accept, Kind::Receive, Kind::Send, Kind::Connect, Kind::File, Kind::Wake];

/// The kind stands above the bits of the handle.
const KIND_SHIFT: u32 = u32::BITS + Handle::GENERATION_BITS;

/// Which operation: as the kernel carries it (`user_data`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) kind: Kind,
    /// On what.
    pub(super) handle: Handle,
}

impl Operation {
    fn pack(self) -> u64 {
        (self.kind as u64) << KIND_SHIFT | self.handle.to_bits()
    }

    fn unpack(data: u64) -> Self {
        let kind = KINDS[(data >> KIND_SHIFT) as usize % KINDS.len()];
        Self { kind, handle: Handle::from_bits(data) }
    }
}

/// What the kernel said about an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) operation: Operation,
    /// A count or descriptor, or a negated error number.
    pub(super) result: i32,
    pub(super) flags: u32,
}

impl Ended {
    /// Whether the operation goes on and will report again.
    pub(super) fn more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// The receive buffer that was filled.
    pub(super) fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// The count, or the error.
    pub(super) fn outcome(self) -> io::Result<u32> {
        u32::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

pub(super) struct Queue {
    ring: IoUring,
    /// Entries that found the submission queue full, in order.
    backlog: VecDeque<Entry>,
    /// Operations that have yet to report for the last time.
    in_flight: u32,
}

impl Queue {
    pub(super) fn new(ring: IoUring) -> Self {
        Self { ring, backlog: VecDeque::new(), in_flight: 0 }
    }

    /// Asks for an operation; the next [`Self::enter`] submits it.
    ///
    /// # Safety
    /// All memory and descriptors that `entry` names stay valid until it has reported for the last time.
    pub(super) unsafe fn push(&mut self, entry: Entry, operation: Operation) {
        self.in_flight += 1;
        self.enqueue(entry.user_data(operation.pack()));
    }

    /// Asks for an operation to be cancelled; it still reports.
    pub(super) fn cancel(&mut self, operation: Operation) {
        self.push_ignored(opcode::AsyncCancel::new(operation.pack()).build());
    }

    /// Asks for something that names no memory and of which nothing needs to be heard.
    pub(super) fn push_ignored(&mut self, entry: Entry) {
        self.enqueue(entry.flags(Flags::SKIP_SUCCESS).user_data(0));
    }

    fn enqueue(&mut self, entry: Entry) {
        self.backlog.push_back(entry);
        self.fill();
    }

    /// Moves what fits from the backlog into the submission queue.
    fn fill(&mut self) {
        let mut submission = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: the caller of `push` vouched for the entry.
            if unsafe { submission.push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// Submits everything and waits up to `wait` for a completion (`None`: as long as it takes).
    pub(super) fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        loop {
            let queued = self.ring.submission().len();
            // While entries are left over nothing is waited for.
            let last = self.backlog.is_empty();
            let wait = if last { wait } else { Some(Duration::ZERO) };
            let result = self.enter_once(queued, wait);
            self.fill();
            match result {
                Ok(()) if last => return Ok(()),
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    // EBUSY and EAGAIN: completions have to be taken first.
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => return Ok(()),
                    _ => return Err(error),
                },
            }
        }
    }

    fn enter_once(&self, queued: usize, wait: Option<Duration>) -> io::Result<()> {
        let time = wait.map(Timespec::from);
        let mut arguments = SubmitArgs::new();
        if let Some(time) = &time {
            arguments = arguments.timespec(time);
        }
        let least = u32::from(wait != Some(Duration::ZERO));
        // With DEFER_TASKRUN completions are made only by an enter that asks for them, waiting or not.
        let flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        // SAFETY: EXT_ARG goes with a `SubmitArgs`, which with its time outlives the call.
        unsafe { self.ring.submitter().enter(queued as u32, least, flags.bits(), Some(&arguments)) }.map(drop)
    }

    /// Submits what there is. What fails is left to the next [`Self::enter`], which says so.
    pub(super) fn submit(&mut self) {
        if !self.ring.submission().is_empty() {
            let _ = self.ring.submit();
            self.fill();
        }
    }

    /// Takes what has ended.
    pub(super) fn reap(&mut self, ended: &mut Vec<Ended>) {
        for entry in self.ring.completion() {
            let operation = Operation::unpack(entry.user_data());
            let entry = Ended { operation, result: entry.result(), flags: entry.flags() };
            if operation.kind == Kind::Ignored {
                continue;
            }
            if !entry.more() {
                self.in_flight -= 1;
            }
            ended.push(entry);
        }
    }

    /// Cancels everything and waits until the kernel uses none of our memory; false when that cannot be had.
    pub(super) fn quiesce(&mut self) -> bool {
        const ROUNDS: u32 = 100;
        const ROUND: Duration = Duration::from_millis(100);
        let mut ended = Vec::new();
        for _ in 0..ROUNDS {
            if self.enter(Some(Duration::ZERO)).is_err() {
                return false;
            }
            self.reap(&mut ended);
            if self.in_flight == 0 {
                return true;
            }
            self.push_ignored(opcode::AsyncCancel2::new(CancelBuilder::any().all()).build());
            if self.enter(Some(ROUND)).is_err() {
                return false;
            }
            self.reap(&mut ended);
        }
        self.in_flight == 0
    }
}
