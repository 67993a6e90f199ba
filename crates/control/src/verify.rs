//! The pool in which passwords are verified: slow on purpose, and therefore nowhere near a worker.

use std::io;
use std::thread;

use commons::{Answer, ControlLink, VERIFICATIONS_MAX};
use crossbeam::channel::{Receiver, Sender, bounded};
use zeroize::Zeroizing;

use crate::password;

/// A login that waits to be verified.
pub(crate) struct Login {
    pub(crate) worker: u8,
    pub(crate) key: u32,
    pub(crate) generation: u32,
    pub(crate) credential: Box<str>,
    pub(crate) password: Zeroizing<String>,
}

/// The pool; its threads end when it is dropped.
pub(crate) struct Verifiers {
    logins: Sender<Login>,
}

impl Verifiers {
    /// Starts `threads` of them; 0 for half the cores, so that logins alone never stop the mail.
    pub(crate) fn start(threads: usize, link: &ControlLink) -> io::Result<Self> {
        let threads = match threads {
            0 => thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
            given => given,
        };
        let (logins, waiting) = bounded(link.commons().workers() * VERIFICATIONS_MAX);
        for index in 0..threads {
            let (waiting, link) = (waiting.clone(), link.clone());
            thread::Builder::new()
                .name(format!("gatepost-verify-{index}"))
                .spawn(move || verify_all(&waiting, &link))?;
        }
        Ok(Self { logins })
    }

    pub(crate) fn verify(&self, login: Login) {
        let sent = self.logins.try_send(login);
        assert!(sent.is_ok(), "a worker's link lets no more than {VERIFICATIONS_MAX} wait");
    }
}

fn verify_all(waiting: &Receiver<Login>, link: &ControlLink) {
    password::prepare();
    for Login { worker, key, generation, credential, password } in waiting {
        let ok = password::verify(&credential, &password);
        link.answer(worker, Answer::Verified { key, generation, ok });
    }
}
