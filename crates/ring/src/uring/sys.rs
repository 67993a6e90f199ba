//! The system calls that do not go through the ring, each wrapped once.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use libc::{c_int, socklen_t};

/// A socket address as the kernel reads it.
#[repr(C)]
pub(super) union RawAddress {
    any: libc::sockaddr,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddress {
    pub(super) fn new(address: SocketAddr) -> (Self, socklen_t) {
        match address {
            SocketAddr::V4(address) => {
                let raw = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                (Self { v4: raw }, length_of::<libc::sockaddr_in>())
            }
            SocketAddr::V6(address) => {
                let raw = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                (Self { v6: raw }, length_of::<libc::sockaddr_in6>())
            }
        }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const *self).cast()
    }

    /// Reads an address that the kernel filled in.
    ///
    /// # Safety
    /// The kernel wrote a whole address of the family it names.
    unsafe fn get(&self) -> io::Result<SocketAddr> {
        // SAFETY: every family begins with the field that names it.
        match c_int::from(unsafe { self.any.sa_family }) {
            libc::AF_INET => {
                // SAFETY: the family says which member was written.
                let raw = unsafe { self.v4 };
                let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
                Ok(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let raw = unsafe { self.v6 };
                let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
                let port = u16::from_be(raw.sin6_port);
                Ok(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id).into())
            }
            _ => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        }
    }
}

fn length_of<T>() -> socklen_t {
    mem::size_of::<T>() as socklen_t
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A stream socket of the family of `address`.
pub(super) fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no memory is handed in.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the call just opened it and no other thread knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn set_option(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let raw = fd.as_raw_fd();
    // SAFETY: the option's value is an int, which lives across the call.
    let result =
        unsafe { libc::setsockopt(raw, level, name, (&raw const value).cast(), length_of::<c_int>()) };
    check(result).map(drop)
}

/// Small replies are not to wait for more (RFC 5321 dialogs are lock-step).
pub(super) fn set_no_delay(fd: BorrowedFd<'_>) {
    // It fails only on a connection that is already gone, which the next operation reports.
    let _ = set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
}

pub(super) fn bind(fd: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    let (raw, length) = RawAddress::new(address);
    // SAFETY: `raw` holds an address of `length` bytes.
    check(unsafe { libc::bind(fd.as_raw_fd(), raw.as_ptr(), length) }).map(drop)
}

/// Binds an outgoing connection to a source address; its port is chosen when it connects, so that
/// the ports of one source are not used up by the first ones to bind.
pub(super) fn bind_source(fd: BorrowedFd<'_>, source: IpAddr) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    bind(fd, SocketAddr::new(source, 0))
}

pub(super) fn listen(fd: BorrowedFd<'_>, backlog: u32) -> io::Result<()> {
    let backlog = c_int::try_from(backlog).unwrap_or(c_int::MAX);
    // SAFETY: no memory is handed in.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(drop)
}

type NameCall = unsafe extern "C" fn(c_int, *mut libc::sockaddr, *mut socklen_t) -> c_int;

fn name(call: NameCall, fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut raw = MaybeUninit::<RawAddress>::zeroed();
    let mut length = length_of::<RawAddress>();
    // SAFETY: `raw` has room for `length` bytes.
    check(unsafe { call(fd.as_raw_fd(), raw.as_mut_ptr().cast(), &raw mut length) })?;
    // SAFETY: zeroes are a valid value of the union, and the call succeeded.
    unsafe { raw.assume_init_ref().get() }
}

pub(super) fn local_address(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    name(libc::getsockname, fd)
}

pub(super) fn peer_address(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    name(libc::getpeername, fd)
}

/// Throws away what has arrived unread: closing over it would send a reset, which takes from the peer
/// the bytes it has not read yet (RFC 1122, 4.2.2.13).
pub(super) fn discard_input(fd: BorrowedFd<'_>) {
    const DISCARD_BYTES_MAX: usize = 1 << 20;
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: with MSG_TRUNC a TCP socket drops the bytes and writes no memory (tcp(7)).
    unsafe { libc::recv(fd.as_raw_fd(), std::ptr::null_mut(), DISCARD_BYTES_MAX, flags) };
}

/// A counter that wakes its reader.
pub(super) fn event_counter() -> io::Result<OwnedFd> {
    // SAFETY: no memory is handed in.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
    // SAFETY: the call just opened it and no other thread knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn raise_event(fd: BorrowedFd<'_>) {
    let one = 1_u64;
    // SAFETY: eight bytes are read from `one`. It fails only when the counter is full, and then it wakes too.
    unsafe { libc::write(fd.as_raw_fd(), (&raw const one).cast(), mem::size_of::<u64>()) };
}

fn clock(id: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` has room for the answer; both clocks that are asked for always exist.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    time
}

pub(super) fn monotonic_nanos() -> u64 {
    let time = clock(libc::CLOCK_MONOTONIC);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

pub(super) fn unix_millis() -> u64 {
    let time = clock(libc::CLOCK_REALTIME);
    time.tv_sec.cast_unsigned() * 1000 + time.tv_nsec.cast_unsigned() / 1_000_000
}

/// Randomness of the kernel, fetched in pieces; what was handed out is wiped here.
pub(super) struct Entropy {
    bytes: [u8; 256],
    used: usize,
}

impl Entropy {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; 256], used: 256 }
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(self.bytes.len()) {
            if self.used + piece.len() > self.bytes.len() {
                self.refill();
            }
            let fresh = &mut self.bytes[self.used..self.used + piece.len()];
            piece.copy_from_slice(fresh);
            fresh.fill(0);
            self.used += piece.len();
        }
    }

    /// # Panics
    /// When the kernel has no randomness to give: nothing safe can be done without.
    fn refill(&mut self) {
        loop {
            // SAFETY: the kernel writes at most the buffer's length into it.
            let count = unsafe { libc::getrandom(self.bytes.as_mut_ptr().cast(), self.bytes.len(), 0) };
            // Up to 256 bytes come whole (getrandom(2)).
            if usize::try_from(count) == Ok(self.bytes.len()) {
                self.used = 0;
                return;
            }
            let error = io::Error::last_os_error();
            assert!(count >= 0 || error.kind() == io::ErrorKind::Interrupted, "getrandom: {error}");
        }
    }
}
