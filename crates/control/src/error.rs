use std::net::SocketAddr;
use std::{fmt, io};

/// Why the control plane could not start.
#[derive(Debug)]
pub enum StartError {
    /// The address of `/metrics` cannot be had.
    MetricsAddress {
        /// Which.
        address: SocketAddr,
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
            Self::MetricsAddress { address, error } => {
                let remedy = match error.kind() {
                    io::ErrorKind::AddrInUse => "stop what holds it, or choose another [metrics] address",
                    io::ErrorKind::AddrNotAvailable => "choose a [metrics] address that this machine has",
                    _ => "choose another [metrics] address",
                };
                write!(f, "cannot serve metrics on {address}: {error}; {remedy}")
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
