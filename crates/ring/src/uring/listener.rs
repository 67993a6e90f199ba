//! Listening sockets: one multishot accept each, which stops when descriptors run out.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use io_uring::{opcode, types};

use super::queue::{Ended, Kind, Operation, Queue};
use super::socket::Sockets;
use super::sys;
use crate::{Completion, Handle, ListenOptions, Listener, Token};

#[derive(Default)]
pub(super) struct Listeners {
    slots: Vec<Slot>,
    /// Sockets that are there for a listener to come.
    inherited: Vec<(SocketAddr, TcpListener)>,
    /// Some accept ended by itself and is to be armed again.
    rearm: bool,
}

struct Slot {
    /// `None` once closed and no accept is under way.
    socket: Option<OwnedFd>,
    address: SocketAddr,
    token: Token,
    wanted: bool,
    armed: bool,
    cancelled: bool,
    closed: bool,
}

impl Listeners {
    pub(super) fn listen(
        &mut self,
        options: ListenOptions,
        token: Token,
    ) -> io::Result<(Listener, SocketAddr)> {
        let is_meant = |(address, _): &(SocketAddr, TcpListener)| *address == options.address;
        let socket = match self.inherited.iter().position(is_meant).filter(|_| options.shared) {
            Some(index) => self.inherited.swap_remove(index).1.into(),
            None => open(options)?,
        };
        let fd = socket.as_fd();
        let address = sys::local_address(fd)?;
        let slot = Slot {
            socket: Some(socket),
            address,
            token,
            wanted: false,
            armed: false,
            cancelled: false,
            closed: false,
        };
        let free = self.slots.iter().position(|slot| slot.socket.is_none());
        let index = free.unwrap_or(self.slots.len());
        match free {
            Some(index) => self.slots[index] = slot,
            None => self.slots.push(slot),
        }
        Ok((Listener(u32::try_from(index).expect("fewer listeners than descriptors")), address))
    }

    pub(super) fn inherit(&mut self, address: SocketAddr, listener: TcpListener) {
        self.inherited.push((address, listener));
    }

    pub(super) fn accept(&mut self, listener: Listener, queue: &mut Queue) {
        let Some(slot) = self.open_slot(listener) else { return };
        slot.wanted = true;
        slot.arm(listener.0, queue);
    }

    pub(super) fn stop_accepting(&mut self, listener: Listener, queue: &mut Queue) {
        let Some(slot) = self.open_slot(listener) else { return };
        slot.wanted = false;
        slot.cancel(listener.0, queue);
    }

    pub(super) fn close(&mut self, listener: Listener, queue: &mut Queue) {
        let Some(slot) = self.open_slot(listener) else { return };
        slot.closed = true;
        slot.wanted = false;
        slot.cancel(listener.0, queue);
        slot.finish();
    }

    /// A connection came in, or accepting ended.
    pub(super) fn accepted(
        &mut self,
        ended: Ended,
        sockets: &mut Sockets,
        completions: &mut Vec<Completion>,
    ) {
        let slot = &mut self.slots[ended.operation.handle.index() as usize];
        if !ended.more() {
            slot.armed = false;
            slot.cancelled = false;
            self.rearm |= slot.wanted;
        }
        match ended.outcome() {
            Ok(descriptor) => {
                // SAFETY: the kernel just made this descriptor for us alone.
                let socket = unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) };
                if !slot.closed {
                    slot.welcome(socket, sockets, completions);
                }
            }
            Err(error) => {
                if slot.wanted && !is_passing(&error) {
                    // Arming it again would fail again, as fast as the kernel can.
                    slot.wanted = false;
                    completions.push(Completion::AcceptPaused { token: slot.token, error });
                }
            }
        }
        slot.finish();
    }

    pub(super) fn rearm(&mut self, queue: &mut Queue) {
        if !std::mem::take(&mut self.rearm) {
            return;
        }
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.wanted {
                slot.arm(index as u32, queue);
            }
        }
    }

    fn open_slot(&mut self, listener: Listener) -> Option<&mut Slot> {
        self.slots.get_mut(listener.0 as usize).filter(|slot| !slot.closed)
    }
}

/// A socket that listens.
pub(super) fn open(options: ListenOptions) -> io::Result<OwnedFd> {
    let socket = sys::stream_socket(options.address)?;
    let fd = socket.as_fd();
    sys::set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if options.shared {
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    if options.address.is_ipv6() {
        // [::] means every address, whatever net.ipv6.bindv6only says.
        sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    sys::bind(fd, options.address)?;
    sys::listen(fd, options.backlog)?;
    Ok(socket)
}

impl Slot {
    fn arm(&mut self, index: u32, queue: &mut Queue) {
        if self.armed {
            return;
        }
        let Some(socket) = &self.socket else { return };
        let fd = types::Fd(socket.as_raw_fd());
        let entry = opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build();
        // SAFETY: the entry names no memory; the descriptor is closed only when no accept is under way.
        unsafe { queue.push(entry, operation(index)) };
        self.armed = true;
    }

    fn cancel(&mut self, index: u32, queue: &mut Queue) {
        if self.armed && !self.cancelled {
            self.cancelled = true;
            queue.cancel(operation(index));
        }
    }

    /// Frees the slot of a closed listener when no accept is under way.
    fn finish(&mut self) {
        if self.closed && !self.armed {
            self.socket = None;
        }
    }

    fn welcome(&self, socket: OwnedFd, sockets: &mut Sockets, completions: &mut Vec<Completion>) {
        // A client that is gone already has no address: nothing to report.
        let Ok(peer) = sys::peer_address(socket.as_fd()) else { return };
        let local = if self.address.ip().is_unspecified() {
            sys::local_address(socket.as_fd())
        } else {
            Ok(self.address)
        };
        let Ok(local) = local else { return };
        sys::set_no_delay(socket.as_fd());
        let socket = sockets.adopt(socket);
        completions.push(Completion::Accepted { token: self.token, socket, peer, local });
    }
}

fn operation(index: u32) -> Operation {
    Operation { kind: Kind::Accept, handle: Handle::fixed(index) }
}

/// Whether an error is about one connection and not about the listener (accept(2), "Error handling").
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECANCELED
                | libc::EINTR
                | libc::EAGAIN
                | libc::ECONNABORTED
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EPERM
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
        )
    )
}
