//! Logins: what is looked at before a credential is, and what follows from the answer.
//!
//! Whatever was wrong, the client hears the same words after the same number of steps.

use std::fmt;

use commons::Verification;
use mail::{Reason, Reply, Status};
use ring::Ring;
use smtp::server::{Credentials, SCRAM_NONCE_BYTES, ScramStart, Step};

use crate::connection::Waiting;
use crate::judge::Judge;

/// One text for every failed login: never which part was wrong.
const LOGIN_FAILED: &str = "the name or the password is wrong";

/// What ingress is told about logins at the start.
#[derive(Clone)]
pub struct LoginSettings {
    /// What the salts of unknown logins are drawn from; the same after a restart, and on every node
    /// that answers to one name, or their salts would give them away.
    pub secret: [u8; 32],
}

impl fmt::Debug for LoginSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginSettings").finish_non_exhaustive()
    }
}

impl<R: Ring> Judge<'_, '_, R> {
    pub(crate) fn is_scram_offered(&mut self) -> bool {
        self.cx.snapshots.load().scram_shape().is_some()
    }

    /// What the proof is held against.
    pub(crate) fn begin_scram(&mut self, login: &str) -> Option<ScramStart> {
        let snapshot = self.cx.snapshots.load();
        let known = snapshot.identity(login).and_then(|identity| snapshot.scram(identity)).cloned();
        let verifier = known.or_else(|| {
            let shape = snapshot.scram_shape()?;
            let secret = &self.settings.login.secret;
            Some(smtp::scram::of_nobody(secret, login, shape.iterations, shape.salt_bytes))
        })?;
        let mut nonce = [0; SCRAM_NONCE_BYTES];
        self.cx.ring.random(&mut nonce);
        Some(ScramStart { verifier, nonce })
    }

    pub(crate) fn login(&mut self, credentials: Credentials<'_>, reply: &mut Reply) -> Step {
        let (Credentials::Plain { authorization, login, .. }
        | Credentials::Scram { authorization, login, .. }) = credentials;
        self.client.login.clear();
        self.client.login.push_str(login);
        let for_itself = authorization.is_empty() || authorization == login;
        match credentials {
            Credentials::Plain { password, .. } if for_itself => self.ask_for_verification(password, reply),
            Credentials::Scram { proved: true, .. } if for_itself => {
                match self.end_login(Verification::Fits, reply) {
                    true => Step::Accept,
                    false => Step::Refuse,
                }
            }
            _ => {
                self.end_login(Verification::Fails, reply);
                Step::Refuse
            }
        }
    }

    fn ask_for_verification(&mut self, password: &str, reply: &mut Reply) -> Step {
        let snapshot = self.cx.snapshots.load();
        let identity = snapshot.identity(&self.client.login);
        let credential: Box<str> = match identity {
            None => "".into(),
            Some(identity) => match snapshot.credential(identity) {
                "" => snapshot.scram(identity).map_or_else(String::new, ToString::to_string).into(),
                hash => hash.into(),
            },
        };
        // Unique within the worker: a late answer for an earlier connection of this slot is no answer.
        *self.counter = self.counter.wrapping_add(1);
        self.client.question = *self.counter;
        let question = commons::Question::Verify {
            worker: self.settings.worker,
            key: self.client.key,
            generation: self.client.question,
            credential,
            login: self.client.login.as_str().into(),
            password: password.to_owned().into(),
        };
        if self.cx.link.ask(question).is_err() {
            self.end_login(Verification::Busy, reply);
            return Step::Refuse;
        }
        self.client.waiting = Waiting::Login;
        Step::Wait
    }

    /// Takes the answer to the login under way: whether it is good, or `reply` says why not.
    pub(crate) fn end_login(&mut self, outcome: Verification, reply: &mut Reply) -> bool {
        let identity = match outcome {
            Verification::Fits => self.cx.snapshots.load().identity(&self.client.login),
            Verification::Fails => None,
            Verification::Busy => {
                self.client.login.clear();
                let text = format_args!("too many logins at once; try again in a minute");
                reply.set(454, Some(Status::new(4, 7, 0)), text);
                return false;
            }
        };
        self.client.identity = identity;
        if identity.is_none() {
            reply.deny(Reason::LoginFailed, format_args!("{LOGIN_FAILED}"));
            self.add_ticket(Reason::LoginFailed, "", reply);
            self.client.login.clear();
            return false;
        }
        let now = self.cx.now();
        self.cx
            .log
            .event("login", now)
            .ip("client", self.client.address)
            .maybe_ip("proxy", self.client.proxy())
            .str("login", &self.client.login)
            .end();
        true
    }
}
