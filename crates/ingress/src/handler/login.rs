//! Logins: what is looked at before a credential is, and what follows from the answer.
//!
//! Whatever was wrong, the client hears the same words after the same number of steps.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::time::Duration;

use commons::{Charged, Key, Login, Question, Rate, Verification, machine};
use mail::{Reason, Reply, UnixMillis};
use policy::{Decision, IdentityIx, Snapshot};
use ring::Ring;
use smtp::server::{Credentials, SCRAM_NONCE_BYTES, ScramStart, Step};

use crate::connection::Waiting;
use crate::handler::SessionHandler;

/// From where a login succeeded within this time, no failures elsewhere lock it out, and its password
/// is believed for a while once it fitted.
const TRUSTED: Rate = Rate::new(1, Duration::from_secs(24 * 3600));

/// One text for every failed login: never which part was wrong.
const LOGIN_FAILED: &str = "the name or the password is wrong";

/// What ingress is told about logins at the start.
#[derive(Clone)]
pub struct LoginSettings {
    /// What the salts of unknown logins are drawn from; the same after a restart, and on every node
    /// that answers to one name, or their salts would give them away.
    pub secret: [u8; 32],
    /// Failures of one address that are borne; `None`: any number.
    pub failures_per_ip: Option<Rate>,
    /// Failures of one login that are borne; `None`: any number.
    pub failures_per_identity: Option<Rate>,
}

impl LoginSettings {
    /// Any number of failures is borne.
    #[must_use]
    pub fn with_secret(secret: [u8; 32]) -> Self {
        Self { secret, failures_per_ip: None, failures_per_identity: None }
    }
}

impl fmt::Debug for LoginSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginSettings").finish_non_exhaustive()
    }
}

impl<R: Ring> SessionHandler<'_, '_, R> {
    pub(crate) fn is_scram_offered(&mut self) -> bool {
        self.cx.snapshots.load().scram_shape().is_some()
    }

    /// What the proof is held against; `None` while the login is locked.
    pub(crate) fn begin_scram(&mut self, login: &str, reply: &mut Reply) -> Option<ScramStart> {
        if self.refused_by_lock(login, reply) {
            return None;
        }
        let snapshot = self.cx.snapshots.load();
        let Some(shape) = snapshot.scram_shape() else {
            // A reload took the last verifier away since the mechanism was announced.
            self.client.login.clear();
            self.client.login.push_str(login);
            let decision = Decision::refusal_for(Reason::MechanismWithdrawn, None);
            self.refuse_with(&decision, None, ("", ""), reply);
            self.client.login.clear();
            return None;
        };
        // Made for a known login too: it must not be answered sooner.
        let secret = &self.settings.login.secret;
        let nobody = smtp::scram::of_nobody(secret, login, shape.iterations, shape.salt_bytes);
        let identity = snapshot.identity(login);
        self.client.asked = Asked::about(snapshot, identity);
        let known = identity.and_then(|identity| snapshot.scram(identity)).cloned();
        let verifier = known.unwrap_or(nobody);
        let mut nonce = [0; SCRAM_NONCE_BYTES];
        self.cx.ring.random(&mut nonce);
        Some(ScramStart { verifier, nonce })
    }

    pub(crate) fn login(&mut self, credentials: Credentials<'_>, reply: &mut Reply) -> Step {
        let (Credentials::Plain { authorization, login, .. }
        | Credentials::Scram { authorization, login, .. }) = credentials;
        if self.refused_by_lock(login, reply) {
            return Step::Refuse;
        }
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
        self.client.asked = Asked::about(snapshot, identity);
        let credential: Box<str> = match identity {
            None => snapshot.credential_of_nobody().into(),
            Some(identity) => match snapshot.credential(identity) {
                "" => snapshot.scram(identity).map_or_else(String::new, ToString::to_string).into(),
                hash => hash.into(),
            },
        };
        let trusted_network =
            self.is_trusted(&self.client.login, self.cx.now()).then(|| machine(self.client.address));
        let question = Question::Verify(Login {
            worker: self.settings.worker,
            key: self.client.key,
            credential,
            login: self.client.login.as_str().into(),
            trusted_network,
            password: password.to_owned().into(),
        });
        if self.cx.link.ask(question).is_err() {
            self.end_login(Verification::Busy, reply);
            return Step::Refuse;
        }
        self.client.waiting = Waiting::Login;
        Step::Wait
    }

    /// Takes the answer to the login under way: whether it is good, or `reply` says why not. What
    /// fits what a reload has replaced meanwhile, or would open another tenant's login, fails.
    pub(crate) fn end_login(&mut self, outcome: Verification, reply: &mut Reply) -> bool {
        let now = self.cx.now();
        // Guesses that waited together are answered one by one: past the limit none hears whether it was right.
        let until = self.locked_until(&self.client.login, now).filter(|_| outcome != Verification::Busy);
        if let Some(until) = until {
            self.client.asked = Asked::default();
            self.refuse_locked(until, now, reply);
            return false;
        }
        self.client.renew_snapshot(self.cx.snapshots.load());
        let asked = std::mem::take(&mut self.client.asked);
        let snapshot = &self.client.snapshot;
        let identity = match outcome {
            Verification::Fits => {
                let known = snapshot.identity(&self.client.login);
                known.filter(|_| Asked::about(snapshot, known) == asked)
            }
            Verification::Fails => None,
            Verification::Busy => {
                let decision = Decision::refusal_for(Reason::LoginBusy, None);
                self.refuse_with(&decision, None, ("", ""), reply);
                self.client.login.clear();
                return false;
            }
        };
        self.client.identity = identity;
        if identity.is_none() {
            self.charge_failure();
            reply.deny(Reason::LoginFailed, format_args!("{LOGIN_FAILED}"));
            self.add_ticket(Reason::LoginFailed, "", reply);
            self.client.login.clear();
            return false;
        }
        self.remember_success();
        self.seats.log_in(self.client.key, self.cx.ring.now());
        // Only who knows the password hears of a suspension.
        if self.refuse_suspended_login(reply) {
            self.client.identity = None;
            self.client.login.clear();
            return false;
        }
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

/// What a login is held against, as a digest: its tenant and its credentials. An exchange may last
/// longer than they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked(Option<u64>);

impl Asked {
    fn about(snapshot: &Snapshot, identity: Option<IdentityIx>) -> Self {
        Self(identity.map(|identity| {
            let mut hasher = DefaultHasher::new();
            snapshot.tenant(snapshot.identity_tenant(identity)).name.hash(&mut hasher);
            snapshot.credential(identity).hash(&mut hasher);
            let scram = snapshot.scram(identity);
            scram.map(|known| (known.iterations, &known.salt, known.stored_key)).hash(&mut hasher);
            hasher.finish()
        }))
    }
}

// The lock: what failed is charged to the address and to the login, whether or not it exists, and is
// looked at before a credential is and before anything is said of it.
impl<R: Ring> SessionHandler<'_, '_, R> {
    fn refused_by_lock(&mut self, login: &str, reply: &mut Reply) -> bool {
        let now = self.cx.now();
        let Some(until) = self.locked_until(login, now) else { return false };
        self.client.login.clear();
        self.client.login.push_str(login);
        self.refuse_locked(until, now, reply);
        true
    }

    /// For the login that the client names.
    fn refuse_locked(&mut self, until: UnixMillis, now: UnixMillis, reply: &mut Reply) {
        const MINUTE_MILLIS: u64 = 60_000;
        let minutes = until.0.saturating_sub(now.0).div_ceil(MINUTE_MILLIS).max(1);
        let plural = if minutes == 1 { "" } else { "s" };
        let decision = Decision::refusal_for(Reason::LoginLocked, None);
        let detail = format_args!("try again in {minutes} minute{plural}");
        self.refuse_with(&decision, Some(detail), ("", ""), reply);
        self.client.login.clear();
    }

    fn locked_until(&self, login: &str, now: UnixMillis) -> Option<UnixMillis> {
        let failures = self.cx.link.commons().limits().login_failures();
        let keys = Keys::of(self.client.address, login);
        let settings = &self.settings.login;
        let until = |key, rate: &Option<Rate>| failures.peek(key, 1, rate.as_ref()?, now).err();
        until(keys.address, &settings.failures_per_ip).or_else(|| {
            let until = until(keys.login, &settings.failures_per_identity)?;
            (!self.is_trusted(login, now)).then_some(until)
        })
    }

    /// The login has succeeded from the client's network lately.
    fn is_trusted(&self, login: &str, now: UnixMillis) -> bool {
        let successes = self.cx.link.commons().limits().login_successes();
        successes.peek(trust(self.client.address, login), 1, &TRUSTED, now).is_err()
    }

    fn charge_failure(&mut self) {
        let (failures, now) = (self.cx.link.commons().limits().login_failures(), self.cx.now());
        let keys = Keys::of(self.client.address, &self.client.login);
        let settings = &self.settings.login;
        for (key, rate) in
            [(keys.address, settings.failures_per_ip), (keys.login, settings.failures_per_identity)]
        {
            if let Some(rate) = rate {
                failures.charge(key, 1, &rate, now);
            }
        }
    }

    fn remember_success(&mut self) {
        let (successes, now) = (self.cx.link.commons().limits().login_successes(), self.cx.now());
        let trust = trust(self.client.address, &self.client.login);
        // Where it is charged already, it is trusted already.
        let _ = successes.take(trust, 1, &TRUSTED, now);
    }
}

/// What failures are charged to.
struct Keys {
    address: Key,
    login: Key,
}

impl Keys {
    fn of(address: IpAddr, login: &str) -> Self {
        let address = Charged::Client { tenant: None, address: machine(address) };
        Self { address: Key::of(address), login: Key::of(Charged::Login(login)) }
    }
}

/// What a success is charged to.
fn trust(address: IpAddr, login: &str) -> Key {
    Key::of(Charged::LoginFrom { login, address: machine(address) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_charged_to_an_address_or_a_64_and_to_a_login_in_whatever_case() {
        let keys = |address: &str, login: &str| Keys::of(address.parse().unwrap(), login);
        let first = keys("2001:db8::1", "terri");
        assert_eq!(first.address, keys("2001:db8::ffff:2", "kim").address);
        assert_ne!(first.address, keys("2001:db8:0:1::1", "terri").address);
        assert_eq!(keys("192.0.2.1", "terri").address, keys("::ffff:192.0.2.1", "terri").address);
        assert_ne!(keys("192.0.2.1", "terri").address, keys("192.0.2.2", "terri").address);
        assert_eq!(first.login, keys("192.0.2.1", "Terri").login);
        let trust = |address: &str, login: &str| trust(address.parse().unwrap(), login);
        assert_eq!(trust("2001:db8::1", "terri"), trust("2001:db8::2", "Terri"));
        assert_ne!(trust("2001:db8::1", "terri"), trust("192.0.2.1", "terri"));
        assert_ne!(trust("2001:db8::1", "terri"), trust("2001:db8::1", "kim"));
    }
}
