//! Stream sockets: multishot receives, whole sends, connects, and closes that wait for what is under way.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd};

use io_uring::{opcode, types};

use super::buffers::{self, Buffers};
use super::queue::{Ended, Kind, Operation, Queue};
use super::sys::{self, RawAddress};
use crate::{Chunk, Completion, Output, Socket, Token};

/// The longest piece handed to the kernel at once, well below what its counters hold.
const PIECE_BYTES_MAX: usize = 1 << 30;

#[derive(Default)]
pub(super) struct Sockets {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Receives that ended by themselves and are to go on.
    rearm: Vec<Socket>,
    /// Connects that failed before the kernel was asked.
    failed: Vec<(Socket, Token, io::Error)>,
    /// Addresses for the kernel to read, used again.
    #[allow(clippy::vec_box, reason = "the kernel reads an address where it lies, so it must not move")]
    addresses: Vec<Box<RawAddress>>,
}

struct Slot {
    /// Which life of the slot this is; a handle of an earlier one is stale.
    generation: u32,
    /// `None` while the slot is free, or when no socket could be made.
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
        let slot = &mut self.slots[socket.index as usize];
        slot.connecting = Some(Connecting { address, token });
        slot.in_flight += 1;
        // SAFETY: address and descriptor stay in the slot until the connect has reported.
        unsafe { queue.push(entry, slot.operation(Kind::Connect, socket.index)) };
        socket
    }

    pub(super) fn receive(&mut self, socket: Socket, token: Token, queue: &mut Queue) {
        let Some(slot) = self.live(socket) else { return };
        slot.receiving.token = Some(token);
        slot.receiving.wanted = true;
        slot.arm_receive(socket.index, queue);
    }

    pub(super) fn pause(&mut self, socket: Socket, queue: &mut Queue) {
        let Some(slot) = self.live(socket) else { return };
        slot.receiving.wanted = false;
        slot.cancel_receive(socket.index, queue);
    }

    pub(super) fn send(&mut self, socket: Socket, output: Output, token: Token, queue: &mut Queue) {
        let Some(slot) = self.live(socket) else { return };
        assert!(slot.sending.is_none(), "one send at a time");
        slot.sending = Some(Sending { output, done: 0, token });
        slot.arm_send(socket.index, queue);
    }

    pub(super) fn close(&mut self, socket: Socket, queue: &mut Queue) {
        let Some(slot) = self.live(socket) else { return };
        slot.receiving.wanted = false;
        slot.cancel_receive(socket.index, queue);
        if slot.sending.is_some() {
            queue.cancel(slot.operation(Kind::Send, socket.index));
        }
        if slot.connecting.is_some() {
            queue.cancel(slot.operation(Kind::Connect, socket.index));
        }
        self.begin_close(socket.index, queue);
    }

    /// Bytes arrived, or the receive ended.
    pub(super) fn received(
        &mut self,
        ended: Ended,
        queue: &mut Queue,
        buffers: &mut Buffers,
        completions: &mut Vec<Completion>,
    ) {
        let index = ended.operation.index;
        let slot = &mut self.slots[index as usize];
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
                self.rearm.push(Socket { index, generation: slot.generation });
            }
            self.finish_close(index, queue);
        }
    }

    pub(super) fn sent(
        &mut self,
        index: u32,
        ended: Ended,
        queue: &mut Queue,
        completions: &mut Vec<Completion>,
    ) {
        let slot = &mut self.slots[index as usize];
        slot.in_flight -= 1;
        let mut sending = slot.sending.take().expect("a send that reports was begun");
        if slot.closing {
            drop(sending);
            self.finish_close(index, queue);
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
            slot.arm_send(index, queue);
            return;
        }
        let Sending { output, token, .. } = sending;
        completions.push(Completion::Sent { token, result, output });
    }

    pub(super) fn connected(
        &mut self,
        index: u32,
        ended: Ended,
        queue: &mut Queue,
        completions: &mut Vec<Completion>,
    ) {
        let slot = &mut self.slots[index as usize];
        slot.in_flight -= 1;
        let Connecting { address, token } = slot.connecting.take().expect("a connect that reports was begun");
        self.addresses.push(address);
        if slot.closing {
            self.finish_close(index, queue);
            return;
        }
        let fd = slot.fd.as_ref().expect("a connecting slot has a socket");
        let result = ended.outcome().and_then(|_| sys::local_address(fd.as_fd()));
        if result.is_err() {
            self.begin_close(index, queue);
        }
        completions.push(Completion::Connected { token, result });
    }

    /// Reports the connects for which no socket could be made.
    pub(super) fn report_failed(&mut self, queue: &mut Queue, completions: &mut Vec<Completion>) {
        while let Some((socket, token, error)) = self.failed.pop() {
            if self.live(socket).is_some() {
                completions.push(Completion::Connected { token, result: Err(error) });
                self.begin_close(socket.index, queue);
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
                slot.arm_receive(socket.index, queue);
            }
        }
    }

    fn live(&mut self, socket: Socket) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(socket.index as usize)?;
        (slot.generation == socket.generation && !slot.closing).then_some(slot)
    }

    fn take_slot(&mut self, fd: Option<OwnedFd>) -> Socket {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::new());
            u32::try_from(self.slots.len() - 1).expect("fewer sockets than descriptors")
        });
        let slot = &mut self.slots[index as usize];
        slot.fd = fd;
        slot.closing = false;
        slot.receiving = Receiving::default();
        Socket { index, generation: slot.generation }
    }

    fn begin_close(&mut self, index: u32, queue: &mut Queue) {
        self.slots[index as usize].closing = true;
        self.finish_close(index, queue);
    }

    /// Closes the socket and frees the slot, once nothing of it is under way.
    fn finish_close(&mut self, index: u32, queue: &mut Queue) {
        let slot = &mut self.slots[index as usize];
        if !slot.closing || slot.in_flight > 0 {
            return;
        }
        if let Some(fd) = slot.fd.take() {
            if !slot.receiving.ended {
                sys::discard_input(fd.as_fd());
            }
            queue.push_ignored(opcode::Close::new(types::Fd(fd.into_raw_fd())).build());
        }
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            generation: 0,
            fd: None,
            in_flight: 0,
            closing: false,
            receiving: Receiving::default(),
            sending: None,
            connecting: None,
        }
    }

    fn operation(&self, kind: Kind, index: u32) -> Operation {
        Operation { kind, generation: self.generation, index }
    }

    fn arm_receive(&mut self, index: u32, queue: &mut Queue) {
        let Some(fd) = &self.fd else { return };
        if self.receiving.armed || self.receiving.ended || !self.receiving.wanted {
            return;
        }
        let entry = opcode::RecvMulti::new(types::Fd(fd.as_raw_fd()), buffers::GROUP).build();
        self.receiving.armed = true;
        self.in_flight += 1;
        // SAFETY: the buffers are the ring's own, and the descriptor is closed only when nothing is under way.
        unsafe { queue.push(entry, self.operation(Kind::Receive, index)) };
    }

    /// A pending receive would keep the socket, and the peer, alive.
    fn cancel_receive(&mut self, index: u32, queue: &mut Queue) {
        if self.receiving.armed && !self.receiving.cancelled {
            self.receiving.cancelled = true;
            queue.cancel(self.operation(Kind::Receive, index));
        }
    }

    fn arm_send(&mut self, index: u32, queue: &mut Queue) {
        let (Some(fd), Some(sending)) = (&self.fd, &self.sending) else { return };
        let rest = &sending.output.bytes()[sending.done..];
        let length = rest.len().min(PIECE_BYTES_MAX) as u32;
        let entry = opcode::Send::new(types::Fd(fd.as_raw_fd()), rest.as_ptr(), length)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.in_flight += 1;
        // SAFETY: the output stays in the slot until the send has reported, and its bytes lie on the heap.
        unsafe { queue.push(entry, self.operation(Kind::Send, index)) };
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
