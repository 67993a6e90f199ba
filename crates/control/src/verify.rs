//! The pool in which passwords are verified: slow on purpose, and therefore nowhere near a worker.
//!
//! Its threads yield to everything that carries mail. What fitted a short while ago is not verified
//! again in a network from which that login has succeeded; where too many wait, the next is told so at
//! once. Elsewhere a right password waits its turn like a wrong one: one that passed the queue would be
//! told from those that are too many, and a storm of guesses would hear more than the limit of failures.

mod successes;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use commons::{Answer, ControlLink, Login, Verification};
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;

use crate::password;
use successes::{Fingerprint, Successes};

/// Logins that wait for a thread, at most. One takes some 20 ms of a core on purpose; past this
/// number the last would wait longer than clients do.
const WAITING_MAX: usize = 64;

/// One that waits for a thread, and what is remembered of it if it fits.
type Waiting = (Login, Option<Fingerprint>);

/// The pool; its threads end when it is dropped.
pub(crate) struct Verifiers {
    logins: Sender<Waiting>,
    successes: Arc<Mutex<Successes>>,
    link: ControlLink,
}

impl Verifiers {
    /// Starts `threads` of them; 0 for half the cores, so that logins alone never stop the mail.
    pub(crate) fn start(threads: usize, link: &ControlLink) -> io::Result<Self> {
        let threads = match threads {
            0 => thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
            given => given,
        };
        let (pool, waiting) = Self::without_threads(link);
        for index in 0..threads {
            let (waiting, link, successes) = (waiting.clone(), link.clone(), pool.successes.clone());
            thread::Builder::new()
                .name(format!("gatepost-verify-{index}"))
                .spawn(move || verify_all(&waiting, &link, &successes))?;
        }
        Ok(pool)
    }

    fn without_threads(link: &ControlLink) -> (Self, Receiver<Waiting>) {
        let (logins, waiting) = bounded(WAITING_MAX);
        (Self { logins, successes: Arc::default(), link: link.clone() }, waiting)
    }

    /// Sees to it that the login is answered, soon or now.
    pub(crate) fn verify(&self, login: Login) {
        let (worker, key) = (login.worker, login.key);
        let mut fingerprint = None;
        if let Some(network) = login.trusted_network {
            let mut successes = self.successes.lock();
            let shown = successes.fingerprint(&login.login, &login.credential, network, &login.password);
            if successes.holds(&shown, Instant::now()) {
                drop(successes);
                let outcome = Verification::Fits;
                return self.link.answer(worker, Answer::Verified { key, outcome });
            }
            fingerprint = Some(shown);
        }
        match self.logins.try_send((login, fingerprint)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                let outcome = Verification::Busy;
                self.link.answer(worker, Answer::Verified { key, outcome });
            }
        }
    }
}

fn verify_all(waiting: &Receiver<Waiting>, link: &ControlLink, successes: &Mutex<Successes>) {
    // A wish: a thread that does not give way still verifies.
    let _ = ring::turns::give_way();
    password::prepare();
    for waiting in waiting {
        verify_one(waiting, link, successes);
    }
}

fn verify_one((login, fingerprint): Waiting, link: &ControlLink, successes: &Mutex<Successes>) {
    let Login { worker, key, credential, password, .. } = login;
    let outcome = match password::verify(&credential, &password) {
        true => Verification::Fits,
        false => Verification::Fails,
    };
    if let (Verification::Fits, Some(fingerprint)) = (outcome, fingerprint) {
        successes.lock().remember(fingerprint, Instant::now());
    }
    link.answer(worker, Answer::Verified { key, outcome });
}

#[cfg(test)]
mod tests;
