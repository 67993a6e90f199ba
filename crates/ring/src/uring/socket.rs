//! Stream sockets: multishot receives, whole sends, connects, and closes that wait for what is under way.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd};

use io_uring::{opcode, types};

use super::buffers::{self, Buffers};
use super::queue::{Ended, Kind, Operation, Queue};
use super::sys::{self, RawAddress};
use crate::{Arena, Chunk, Completion, Handle, Output, Socket, Token};

/// The longest piece handed to the kernel at once, well below what its counters hold.
const PIECE_BYTES_MAX: usize = 1 << 30;

#[derive(Default)]
pub(super) struct Sockets {
    slots: Arena<Slot>,
    /// Receives that ended by themselves and are to go on.
    rearm: Vec<Socket>,
    /// Connects that failed before the kernel was asked.
    failed: Vec<(Socket, Token, io::Error)>,
    /// Addresses for the kernel to read, used again.
    #[allow(clippy::vec_box, reason = "the kernel reads an address where it lies, so it must not move")]
    addresses: Vec<Box<RawAddress>>,
}

struct Slot {
    /// `None` when no socket could be made.
    fd: Option<OwnedFd>,
    /// Operations that have yet to report for the last time.
    in_flight: u8,
    closing: bool,
    receiving: Receiving,
    sending: Option<Sending>,
    connecting: Option<Connecting>,
}

#[derive(Default)]
struct Receiving {
    token: Option<Token>,
    wanted: bool,
    armed: bool,
    cancelled: bool,
    /// The peer's last byte or an error was reported.
    ended: bool,
}

struct Sending {
    output: Output,
    done: usize,
    token: Token,
}

struct Connecting {
    address: Box<RawAddress>,
    token: Token,
}

impl Sockets {
    /// Takes in a socket that the kernel made.
    pub(super) fn adopt(&mut self, fd: OwnedFd) -> Socket {
        self.take_slot(Some(fd))
    }

    pub(super) fn connect(
        &mut self,
        to: SocketAddr,
        source: Option<IpAddr>,
        token: Token,
        queue: &mut Queue,
    ) -> Socket {
        let made = sys::stream_socket(to).and_then(|fd| {
            sys::set_no_delay(fd.as_fd());
            source.map_or(Ok(()), |source| sys::bind_source(fd.as_fd(), source))?;
            Ok(fd)
        });
        let fd = match made {
            Ok(fd) => fd,
            Err(error) => {
                let socket = self.take_slot(None);
                self.failed.push((socket, token, error));
                return socket;
            }
        };
        let (raw, length) = RawAddress::new(to);
        let address = match self.addresses.pop() {
            Some(mut address) => {
                *address = raw;
                address
            }
            None => Box::new(raw),
        };
        let entry = opcode::Connect::new(types::Fd(fd.as_raw_fd()), address.as_ptr(), length).build();
        let socket = self.take_slot(Some(fd));
        let slot = &mut self.slots[socket.0];
        slot.connecting = Some(Connecting { address, token });
        slot.in_flight += 1;
        // SAFETY: address and descriptor stay in the slot until the connect has reported.
        unsafe { queue.push(entry, Operation { kind: Kind::Connect, handle: socket.0 }) };
        socket
    }

    pub(super) fn receive(&mut self, socket: Socket, token: Token, queue: &mut Queue) {
        let Some(slot) = self.live(socket) else { return };
        slot.receiving.token = Some(token);
        slot.receiving.wanted = true;
        slot.arm_receive(socket.0, queue);
    }

    pub(super) fn pause(&mut self, socket: Socket, queue: &mut Queue) {
        let Some(slot) = self.live(socket) else { return };
        slot.receiving.wanted = false;
        slot.cancel_receive(socket.0, queue);
    }

    pub(super) fn send(&mut self, socket: Socket, output: Output, token: Token, queue: &mut Queue) {
        let Some(slot) = self.live(socket) else { return };
        assert!(slot.sending.is_none(), "one send at a time");
        slot.sending = Some(Sending { output, done: 0, token });
        slot.arm_send(socket.0, queue);
    }

    pub(super) fn close(&mut self, socket: Socket, queue: &mut Queue) {
        let Some(slot) = self.live(socket) else { return };
        slot.receiving.wanted = false;
        slot.cancel_receive(socket.0, queue);
        if slot.sending.is_some() {
            queue.cancel(Operation { kind: Kind::Send, handle: socket.0 });
        }
        if slot.connecting.is_some() {
            queue.cancel(Operation { kind: Kind::Connect, handle: socket.0 });
        }
        self.begin_close(socket.0, queue);
    }

    /// Bytes arrived, or the receive ended.
    pub(super) fn received(
        &mut self,
        ended: Ended,
        queue: &mut Queue,
        buffers: &mut Buffers,
        completions: &mut Vec<Completion>,
    ) {
        let handle = ended.operation.handle;
        let slot = &mut self.slots[handle];
        if !ended.more() {
            slot.receiving.armed = false;
            slot.receiving.cancelled = false;
            slot.in_flight -= 1;
        }
        let buffer = ended.buffer();
        if buffer.is_some() {
            buffers.taken();
        }
        let report = slot.receiving.token.filter(|_| !slot.closing && !slot.receiving.ended);
        match (ended.outcome(), buffer, report) {
            (Ok(length @ 1..), Some(buffer), Some(token)) => {
                let chunk = Chunk { buffer: u32::from(buffer), length };
                completions.push(Completion::Received { token, chunk });
            }
            (outcome, buffer, report) => {
                if let Some(buffer) = buffer {
                    buffers.give(buffer);
                }
                if let Some(token) = report {
                    slot.end_receive(token, outcome, completions);
                }
            }
        }
        if !ended.more() {
            if slot.receiving.wanted && !slot.receiving.ended {
                self.rearm.push(Socket(handle));
            }
            self.finish_close(handle, queue);
        }
    }

    pub(super) fn sent(
        &mut self,
        handle: Handle,
        ended: Ended,
        queue: &mut Queue,
        completions: &mut Vec<Completion>,
    ) {
        let slot = &mut self.slots[handle];
        slot.in_flight -= 1;
        let mut sending = slot.sending.take().expect("a send that reports was begun");
        if slot.closing {
            drop(sending);
            self.finish_close(handle, queue);
            return;
        }
        let length = sending.output.bytes().len();
        let result = match ended.outcome() {
            Ok(0) if sending.done < length => Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                sending.done += count as usize;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        };
        if result.is_ok() && sending.done < length {
            slot.sending = Some(sending);
            slot.arm_send(handle, queue);
            return;
        }
        let Sending { output, token, .. } = sending;
        completions.push(Completion::Sent { token, result, output });
    }

    pub(super) fn connected(
        &mut self,
        handle: Handle,
        ended: Ended,
        queue: &mut Queue,
        completions: &mut Vec<Completion>,
    ) {
        let slot = &mut self.slots[handle];
        slot.in_flight -= 1;
        let Connecting { address, token } = slot.connecting.take().expect("a connect that reports was begun");
        self.addresses.push(address);
        if slot.closing {
            self.finish_close(handle, queue);
            return;
        }
        let fd = slot.fd.as_ref().expect("a connecting slot has a socket");
        let result = ended.outcome().and_then(|_| sys::local_address(fd.as_fd()));
        if result.is_err() {
            self.begin_close(handle, queue);
        }
        completions.push(Completion::Connected { token, result });
    }

    /// Reports the connects for which no socket could be made.
    pub(super) fn report_failed(&mut self, queue: &mut Queue, completions: &mut Vec<Completion>) {
        while let Some((socket, token, error)) = self.failed.pop() {
            if self.live(socket).is_some() {
                completions.push(Completion::Connected { token, result: Err(error) });
                self.begin_close(socket.0, queue);
            }
        }
    }

    /// Lets receives go on that ended by themselves, once there are buffers for them.
    pub(super) fn rearm(&mut self, queue: &mut Queue, buffers: &Buffers) {
        if buffers.available() == 0 {
            return;
        }
        while let Some(socket) = self.rearm.pop() {
            if let Some(slot) = self.live(socket) {
                slot.arm_receive(socket.0, queue);
            }
        }
    }

    fn live(&mut self, socket: Socket) -> Option<&mut Slot> {
        self.slots.get_mut(socket.0).filter(|slot| !slot.closing)
    }

    fn take_slot(&mut self, fd: Option<OwnedFd>) -> Socket {
        Socket(self.slots.insert(Slot::new(fd)))
    }

    fn begin_close(&mut self, handle: Handle, queue: &mut Queue) {
        self.slots[handle].closing = true;
        self.finish_close(handle, queue);
    }

    /// Closes the socket and frees the slot, once nothing of it is under way.
    fn finish_close(&mut self, handle: Handle, queue: &mut Queue) {
        let slot = &mut self.slots[handle];
        if !slot.closing || slot.in_flight > 0 {
            return;
        }
        if let Some(fd) = slot.fd.take() {
            if !slot.receiving.ended {
                sys::discard_input(fd.as_fd());
            }
            queue.push_ignored(opcode::Close::new(types::Fd(fd.into_raw_fd())).build());
        }
        self.slots.remove(handle);
    }
}

impl Slot {
    fn new(fd: Option<OwnedFd>) -> Self {
        Self {
            fd,
            in_flight: 0,
            closing: false,
            receiving: Receiving::default(),
            sending: None,
            connecting: None,
        }
    }

    fn arm_receive(&mut self, handle: Handle, queue: &mut Queue) {
        let Some(fd) = &self.fd else { return };
        if self.receiving.armed || self.receiving.ended || !self.receiving.wanted {
            return;
        }
        let entry = opcode::RecvMulti::new(types::Fd(fd.as_raw_fd()), buffers::GROUP).build();
        self.receiving.armed = true;
        self.in_flight += 1;
        // SAFETY: the buffers are the ring's own, and the descriptor is closed only when nothing is under way.
        unsafe { queue.push(entry, Operation { kind: Kind::Receive, handle }) };
    }

    /// A pending receive would keep the socket, and the peer, alive.
    fn cancel_receive(&mut self, handle: Handle, queue: &mut Queue) {
        if self.receiving.armed && !self.receiving.cancelled {
            self.receiving.cancelled = true;
            queue.cancel(Operation { kind: Kind::Receive, handle });
        }
    }

    fn arm_send(&mut self, handle: Handle, queue: &mut Queue) {
        let (Some(fd), Some(sending)) = (&self.fd, &self.sending) else { return };
        let rest = &sending.output.bytes()[sending.done..];
        let length = rest.len().min(PIECE_BYTES_MAX) as u32;
        let entry = opcode::Send::new(types::Fd(fd.as_raw_fd()), rest.as_ptr(), length)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.in_flight += 1;
        // SAFETY: the output stays in the slot until the send has reported, and its bytes lie on the heap.
        unsafe { queue.push(entry, Operation { kind: Kind::Send, handle }) };
    }

    /// Reports the end of the stream or an error; not the kernel's reasons for ending one receive.
    fn end_receive(&mut self, token: Token, outcome: io::Result<u32>, completions: &mut Vec<Completion>) {
        let result = match outcome {
            Ok(_) => Ok(()),
            Err(error) if is_retried(&error) => return,
            Err(error) => Err(error),
        };
        self.receiving.ended = true;
        completions.push(Completion::Ended { token, result });
    }
}

/// Whether an operation may simply go on: it was cancelled, interrupted or found no buffer.
fn is_retried(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::EINTR | libc::EAGAIN | libc::ENOBUFS))
}
