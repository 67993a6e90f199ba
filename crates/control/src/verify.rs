//! The pool in which passwords are verified: slow on purpose, and therefore nowhere near a worker.
//!
//! Its threads yield to everything that carries mail. What fitted a short while ago is not verified
//! again; where too many wait, the next is told so at once.

mod successes;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use commons::{Answer, ControlLink, Verification};
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::password;
use successes::{Fingerprint, Successes};

/// Logins that wait for a thread, at most. One takes some 20 ms of a core on purpose; past this
/// number the last would wait longer than clients do.
const WAITING_MAX: usize = 64;

/// How far below the workers the threads stand, as `nice` counts.
const NICENESS: i32 = 10;

/// A login that is to be verified.
pub(crate) struct Login {
    pub(crate) worker: u8,
    pub(crate) key: u32,
    pub(crate) generation: u32,
    pub(crate) login: Box<str>,
    pub(crate) credential: Box<str>,
    pub(crate) password: Zeroizing<String>,
}

/// The pool; its threads end when it is dropped.
pub(crate) struct Verifiers {
    logins: Sender<(Login, Fingerprint)>,
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

    fn without_threads(link: &ControlLink) -> (Self, Receiver<(Login, Fingerprint)>) {
        let (logins, waiting) = bounded(WAITING_MAX);
        (Self { logins, successes: Arc::default(), link: link.clone() }, waiting)
    }

    /// Sees to it that the login is answered, soon or now.
    pub(crate) fn verify(&self, login: Login) {
        let (worker, key, generation) = (login.worker, login.key, login.generation);
        let fingerprint = {
            let mut successes = self.successes.lock();
            let fingerprint = successes.fingerprint(&login.login, &login.credential, &login.password);
            if successes.holds(&fingerprint, Instant::now()) {
                drop(successes);
                let outcome = Verification::Fits;
                return self.link.answer(worker, Answer::Verified { key, generation, outcome });
            }
            fingerprint
        };
        match self.logins.try_send((login, fingerprint)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                let outcome = Verification::Busy;
                self.link.answer(worker, Answer::Verified { key, generation, outcome });
            }
        }
    }
}

fn verify_all(waiting: &Receiver<(Login, Fingerprint)>, link: &ControlLink, successes: &Mutex<Successes>) {
    // On Linux a thread has a priority of its own. One that cannot be lowered still verifies.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    password::prepare();
    for (Login { worker, key, generation, credential, password, .. }, fingerprint) in waiting {
        let outcome = match password::verify(&credential, &password) {
            true => Verification::Fits,
            false => Verification::Fails,
        };
        if outcome == Verification::Fits {
            successes.lock().remember(fingerprint, Instant::now());
        }
        link.answer(worker, Answer::Verified { key, generation, outcome });
    }
}

#[cfg(test)]
mod tests;
