use std::sync::OnceLock;

use ring::Waker;

/// The wake-ups of all planes, known once their threads run.
#[derive(Debug)]
pub(crate) struct Wakers {
    workers: Box<[OnceLock<Waker>]>,
    control: OnceLock<Waker>,
    tickets: OnceLock<Waker>,
}

impl Wakers {
    pub(crate) fn new(workers: usize) -> Self {
        let workers = (0..workers).map(|_| OnceLock::new()).collect();
        Self { workers, control: OnceLock::new(), tickets: OnceLock::new() }
    }

    /// Says how to wake a worker.
    pub(crate) fn attach_worker(&self, worker: u8, waker: Waker) {
        // A second waker would be a second ring of one worker, which there is not.
        let _ = self.workers[usize::from(worker)].set(waker);
    }

    /// Says how to wake the control plane's answering thread.
    pub(crate) fn attach_control(&self, waker: Waker) {
        // There is one control plane; a second waker would be a bug that wakes the first one still.
        let _ = self.control.set(waker);
    }

    /// Says how to wake the keeper of tickets.
    pub(crate) fn attach_tickets(&self, waker: Waker) {
        // There is one keeper, as there is one control plane.
        let _ = self.tickets.set(waker);
    }

    /// Wakes a worker; one that has not attached yet looks at its queue when it does.
    pub(crate) fn wake(&self, worker: u8) {
        if let Some(waker) = self.workers[usize::from(worker)].get() {
            waker.wake();
        }
    }

    pub(crate) fn wake_tickets(&self) {
        if let Some(waker) = self.tickets.get() {
            waker.wake();
        }
    }

    pub(crate) fn wake_control(&self) {
        if let Some(waker) = self.control.get() {
            waker.wake();
        }
    }
}
