//! Whether the ports of the listeners are free, and who has those that are not.
//!
//! A port that a process holds is reported at once. One that no process holds any more is waited for: the kernel
//! takes the ring of a killed gateway apart in a separate thread, which on a busy machine waits for its turn
//! like any other, and until then the listeners of that ring hold their ports. A supervisor that starts Gatepost
//! again at once must not see it fail for that.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ring::uring::port_is_free;

use crate::refusal::StartError;

/// How often a port that no process seems to hold is tried again before it is reported: for 4 s in all.
const TRIES: u32 = 80;
/// The time between two tries.
const TRY_INTERVAL: Duration = Duration::from_millis(50);

/// How `/proc/net/tcp` writes that a socket listens.
const LISTENS: &str = "0A";

/// Binds without SO_REUSEPORT, which would let a second gateway share the port unnoticed.
///
/// # Errors
/// Who has the port, as far as this user can see, or why else it cannot be had.
pub(crate) fn must_be_free(address: SocketAddr, listener: &str) -> Result<(), StartError> {
    let bound = wait_for(|| port_is_free(address), || holder(address), TRY_INTERVAL);
    bound.map_err(|(error, holder)| {
        let who = match holder {
            Some(holder) => holder.to_string(),
            None => "another program (perhaps another Gatepost)".to_owned(),
        };
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => format!("{who} listens there; stop it or choose another port"),
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE; grant it or choose a higher port".into()
            }
            io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address; correct the listener's address".into()
            }
            _ => "correct the listener's address".into(),
        };
        StartError::new(format!("listener {listener:?} cannot use {address}: {error}; {remedy}"))
    })
}

/// Binds until that succeeds, or until it is clear that waiting does not help: then also who has the port.
fn wait_for(
    bind: impl Fn() -> io::Result<()>,
    holder: impl Fn() -> Option<Holder>,
    interval: Duration,
) -> Result<(), (io::Error, Option<Holder>)> {
    let mut tries = TRIES;
    loop {
        let error = match bind() {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err((error, None));
        }
        match holder() {
            None if tries > 0 => std::thread::sleep(interval),
            holder => return Err((error, holder)),
        }
        tries -= 1;
    }
}

/// Who has a port, and lives.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Holder {
    Process {
        id: u32,
        name: String,
    },
    /// Its processes are closed to this user, and none of them was a gateway of this user's.
    User(u32),
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process { id, name } if name == "gatepost" => write!(f, "another Gatepost, process {id},"),
            Self::Process { id, name } => write!(f, "{name:?}, process {id},"),
            Self::User(user) => write!(f, "a program of the user with the number {user}"),
        }
    }
}

/// Who listens at `address`, or where the two cannot be told apart; `None` where no living process is found.
fn holder(address: SocketAddr) -> Option<Holder> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let listeners = tables.iter().flat_map(|table| table.lines().filter_map(listener));
    let there: Vec<_> = listeners.filter(|(other, ..)| config::addresses_meet(*other, address)).collect();
    let process = there.iter().find_map(|(_, _, inode)| process_with(*inode));
    process.or_else(|| {
        let us = rustix::process::geteuid().as_raw();
        there.iter().find(|(_, user, _)| us != 0 && *user != us).map(|(_, user, _)| Holder::User(*user))
    })
}

/// Address, user and inode of a line of `/proc/net/tcp` that is a listener (proc(5)).
fn listener(line: &str) -> Option<(SocketAddr, u32, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (ip, port) = words.nth(1)?.split_once(':')?;
    if words.nth(1)? != LISTENS {
        return None;
    }
    // Each word of four bytes is written as a number of this machine.
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        _ => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(words.as_flattened()).ok()?))
        }
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((SocketAddr::new(ip, port), words.nth(3)?.parse().ok()?, words.nth(1)?.parse().ok()?))
}

/// The process that has the socket open, of those that this user may look at.
fn process_with(inode: u64) -> Option<Holder> {
    let socket = format!("socket:[{inode}]");
    let has_it = |process: &Path| {
        let Ok(open) = fs::read_dir(process.join("fd")) else { return false };
        open.flatten().any(|open| fs::read_link(open.path()).is_ok_and(|link| link.as_os_str() == &*socket))
    };
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let id = process.file_name().to_str()?.parse().ok()?;
        let path = process.path();
        let name = || fs::read_to_string(path.join("comm")).unwrap_or_default().trim().to_owned();
        has_it(&path).then(|| Holder::Process { id, name: name() })
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::TcpListener;

    use super::*;

    fn taken() -> io::Result<()> {
        Err(io::ErrorKind::AddrInUse.into())
    }

    #[test]
    fn the_holder_of_a_port_is_found_whatever_address_it_holds_it_by() {
        for (held, asked) in
            [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "::")]
        {
            let held = TcpListener::bind((held.parse::<IpAddr>().unwrap(), 0)).unwrap();
            let port = held.local_addr().unwrap().port();
            let found = holder(SocketAddr::new(asked.parse().unwrap(), port));
            assert!(
                matches!(found, Some(Holder::Process { id, .. }) if id == std::process::id()),
                "{found:?}"
            );
            drop(held);
            assert_eq!(holder(SocketAddr::new(asked.parse().unwrap(), port)), None);
        }
    }

    #[test]
    fn a_port_that_somebody_holds_is_not_waited_for() {
        let tries = Cell::new(0);
        let bind = || {
            tries.set(tries.get() + 1);
            taken()
        };
        let user = || Some(Holder::User(7));
        assert_eq!(wait_for(bind, user, Duration::ZERO).unwrap_err().1, user());
        assert_eq!(tries.get(), 1);
        assert_eq!(wait_for(bind, || None, Duration::ZERO).unwrap_err().1, None);
        assert_eq!(tries.get(), 1 + TRIES + 1, "of a killed gateway's ring the kernel lets go later");
    }

    #[test]
    fn a_port_that_is_let_go_is_taken() {
        let tries = Cell::new(0);
        let bind = || {
            tries.set(tries.get() + 1);
            if tries.get() > 3 { Ok(()) } else { taken() }
        };
        assert!(wait_for(bind, || None, Duration::ZERO).is_ok());
        assert_eq!(tries.get(), 4);
    }
}
