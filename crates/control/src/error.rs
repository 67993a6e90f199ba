use std::net::SocketAddr;
use std::path::PathBuf;
use std::{fmt, io};

use observe::HttpPort;

use crate::tickets::StoreError;

/// Why the control plane could not start.
#[derive(Debug)]
pub enum StartError {
    /// The address of a port of HTTP cannot be had.
    HttpAddress {
        /// What for.
        port: HttpPort,
        /// Which.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The file of the tickets cannot be opened.
    Tickets(StoreError),
    /// The socket of the admin API cannot be had.
    AdminSocket {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The suspensions of a former life cannot be read.
    Suspensions {
        /// Where they are.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The system gave no thread.
    Thread(io::Error),
    /// The runtime, its signals or its sockets could not be set up.
    Runtime(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HttpAddress { port, address, error } => {
                let (what, section) = match port {
                    HttpPort::Metrics => ("metrics", "metrics"),
                    HttpPort::Admin | HttpPort::AdminSocket => ("the admin API", "admin"),
                    HttpPort::Tickets => ("the pages of tickets", "tickets"),
                };
                let remedy = match error.kind() {
                    io::ErrorKind::AddrInUse => "stop what holds it, or choose another",
                    io::ErrorKind::AddrNotAvailable => "this machine has no such address: choose another",
                    _ => "choose another",
                };
                write!(f, "cannot serve {what} on {address}: {error}; {remedy} [{section}] address")
            }
            Self::Tickets(error) => write!(f, "{error}"),
            Self::AdminSocket { path, error } => {
                let remedy = match error.kind() {
                    io::ErrorKind::NotFound => {
                        "create the directory, owned by this user, or correct admin.socket"
                    }
                    io::ErrorKind::PermissionDenied => {
                        "let this user write to the directory, or choose another admin.socket"
                    }
                    io::ErrorKind::AddrInUse => "stop that one, or choose another admin.socket",
                    _ => "choose another admin.socket",
                };
                write!(f, "cannot serve the command line on {}: {error}; {remedy}", path.display())
            }
            Self::Suspensions { path, error } => {
                write!(
                    f,
                    "cannot read who is suspended from {}: {error}; repair the file, or remove it: the senders \
                     that it suspended are free then",
                    path.display()
                )
            }
            Self::Thread(error) => {
                write!(
                    f,
                    "cannot start a thread of the control plane: {error}; raise the limit of processes (ulimit -u)"
                )
            }
            Self::Runtime(error) => {
                write!(
                    f,
                    "cannot set up the control plane: {error}; raise the limit of open files (ulimit -n)"
                )
            }
        }
    }
}

impl std::error::Error for StartError {}
