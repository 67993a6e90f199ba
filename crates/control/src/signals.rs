//! The signals that the gateway answers to.

use std::future::pending;
use std::io;

use tokio::signal::unix::{self, SignalKind};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT, by its number.
    End(i32),
}

/// The streams of signals; none for a gateway inside another program.
pub(crate) struct Signals(Option<Streams>);

struct Streams {
    hangup: unix::Signal,
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    /// From now on the signals do nothing but this.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self(Some(Streams {
            hangup: unix::signal(SignalKind::hangup())?,
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
        })))
    }

    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        let Some(streams) = &mut self.0 else { return pending().await };
        tokio::select! {
            Some(()) = streams.hangup.recv() => Signal::Reload,
            Some(()) = streams.terminate.recv() => Signal::End(SignalKind::terminate().as_raw_value()),
            Some(()) = streams.interrupt.recv() => Signal::End(SignalKind::interrupt().as_raw_value()),
            else => pending().await,
        }
    }
}
