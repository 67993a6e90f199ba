//! The signals that the gateway answers to.
//!
//! They are heard from the first moment of a start, by a separate thread: what comes before the control plane
//! serves waits for it, and what comes when it has gone ends the process.

use std::future::pending;
use std::{io, thread};

use tokio::runtime::Builder;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::mpsc;

/// What a shell reports for a program that a signal ended, without the signal's number.
pub(crate) const SIGNALLED: i32 = 128;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT, by its number.
    End(i32),
}

/// The signals of the process, in their order; none for a gateway inside another program.
#[derive(Debug)]
pub struct Signals(Option<mpsc::UnboundedReceiver<Signal>>);

struct Streams {
    hangup: unix::Signal,
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    /// From now on SIGHUP, SIGTERM and SIGINT do nothing but be told here.
    ///
    /// # Errors
    /// When the system gives no thread, or nothing to wait with.
    pub fn listen() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let mut streams = {
            let _here = runtime.enter();
            Streams {
                hangup: unix::signal(SignalKind::hangup())?,
                terminate: unix::signal(SignalKind::terminate())?,
                interrupt: unix::signal(SignalKind::interrupt())?,
            }
        };
        let (tell, told) = mpsc::unbounded_channel();
        thread::Builder::new().name("gatepost-signals".into()).spawn(move || {
            runtime.block_on(async move {
                loop {
                    let signal = streams.next().await;
                    // The control plane has gone: what it leaves behind does not end by itself in time.
                    if let (Err(_), Signal::End(number)) = (tell.send(signal), signal) {
                        std::process::exit(SIGNALLED + number);
                    }
                }
            });
        })?;
        Ok(Self(Some(told)))
    }

    /// Those of another program are its own.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        let Some(told) = &mut self.0 else { return pending().await };
        match told.recv().await {
            Some(signal) => signal,
            None => pending().await,
        }
    }
}

impl Streams {
    async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.hangup.recv() => Signal::Reload,
            Some(()) = self.terminate.recv() => Signal::End(SignalKind::terminate().as_raw_value()),
            Some(()) = self.interrupt.recv() => Signal::End(SignalKind::interrupt().as_raw_value()),
            else => pending().await,
        }
    }
}
