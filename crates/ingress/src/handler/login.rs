//! Logins: what is looked at before a credential is, and what follows from the answer.
//!
//! Whatever was wrong, the client hears the same words after the same number of steps.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::time::Duration;

use commons::{Charged, Key, Limits, Login, Question, Rate, Verification, machine};
use mail::{Reason, Reply, UnixMillis};
use policy::{IdentityIx, Snapshot};
use ring::{Handle, Ring};
use smtp::server::{Credentials, Resume, SCRAM_NONCE_BYTES, ScramStart, Step};

use crate::events::LoggedIn;
use crate::handler::SessionHandler;
use crate::refusal::{Detail, Refusal};
use crate::{Context, Ingress};

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
        self.cx.snapshots.load().stand_in.scram_shape.is_some()
    }

    /// What the proof of `login` is held against.
    pub(crate) fn begin_scram(&mut self, login: &str) -> Result<ScramStart, Refusal> {
        self.lock().check(login)?;
        let snapshot = self.cx.snapshots.load();
        let Some(shape) = snapshot.stand_in.scram_shape else {
            // A reload took the last verifier away since the mechanism was announced.
            return Err(Refusal::for_reason(Reason::MechanismWithdrawn, None));
        };
        // Made for a known login too: it must not be answered sooner.
        let secret = &self.settings.login.secret;
        let stand_in = smtp::scram::stand_in(secret, login, shape.iterations, shape.salt_bytes);
        let identity = snapshot.identity(login);
        self.client.attempt = Attempt::Proving(Asked::about(snapshot, identity));
        let known = identity.and_then(|identity| snapshot.scram(identity)).cloned();
        let verifier = known.unwrap_or(stand_in);
        let mut nonce = [0; SCRAM_NONCE_BYTES];
        self.cx.ring.random(&mut nonce);
        Ok(ScramStart { verifier, nonce })
    }

    pub(crate) fn check_login(&mut self, credentials: Credentials<'_>) -> Result<Step, Refusal> {
        let (Credentials::Plain { authorization, login, .. }
        | Credentials::Scram { authorization, login, .. }) = credentials;
        self.client.login.clear();
        self.client.login.push_str(login);
        self.lock().check(login)?;
        let for_itself = authorization.is_empty() || authorization == login;
        match credentials {
            Credentials::Plain { password, .. } if for_itself => self.ask_for_verification(password),
            Credentials::Scram { proved: true, .. } if for_itself => {
                self.end_login(Verification::Fits).map(|()| Step::Accept)
            }
            _ => self.end_login(Verification::Fails).map(|()| Step::Refuse),
        }
    }

    fn ask_for_verification(&mut self, password: &str) -> Result<Step, Refusal> {
        let snapshot = self.cx.snapshots.load();
        let identity = snapshot.identity(&self.client.login);
        let asked = Asked::about(snapshot, identity);
        let credential: Box<str> = match identity {
            None => snapshot.stand_in.credential.clone(),
            Some(identity) => match snapshot.credential(identity) {
                "" => snapshot.scram(identity).map_or_else(String::new, ToString::to_string).into(),
                hash => hash.into(),
            },
        };
        let is_trusted = self.lock().is_trusted(&self.client.login);
        let question = Question::Verify(Login {
            worker: self.settings.worker,
            key: self.client.key,
            credential,
            login: self.client.login.as_str().into(),
            trusted_network: is_trusted.then(|| machine(self.client.address)),
            password: password.to_owned().into(),
        });
        if self.cx.link.ask(question).is_err() {
            return self.end_login(Verification::Busy).map(|()| Step::Refuse);
        }
        self.client.attempt = Attempt::Verifying(asked);
        Ok(Step::Wait)
    }

    /// Takes the answer to the login under way. What fits what a reload has replaced meanwhile, or would open
    /// another tenant's login, fails.
    pub(crate) fn end_login(&mut self, outcome: Verification) -> Result<(), Refusal> {
        let asked = std::mem::take(&mut self.client.attempt).asked();
        if outcome != Verification::Busy {
            // Guesses that waited together are answered one by one: past the limit none hears whether it was right.
            self.lock().check(&self.client.login)?;
        }
        self.client.renew_snapshot(self.cx.snapshots.load());
        let snapshot = &self.client.snapshot;
        let identity = match outcome {
            Verification::Fits => {
                let known = snapshot.identity(&self.client.login);
                known.filter(|_| Asked::about(snapshot, known) == asked)
            }
            Verification::Fails => None,
            Verification::Busy => return Err(Refusal::for_reason(Reason::LoginBusy, None)),
        };
        self.client.identity = identity;
        if identity.is_none() {
            self.lock().charge_failure(&self.client.login);
            let refusal = Refusal::for_reason(Reason::LoginFailed, None);
            let (code, status) = (Reason::LoginFailed.code(), Reason::LoginFailed.status());
            return Err(refusal.in_words(code, status, Detail::Text(LOGIN_FAILED)));
        }
        self.lock().remember_success(&self.client.login);
        self.seats.log_in(self.client.key, self.cx.ring.now());
        // Only a client that knows the password hears of a suspension.
        self.meter().check_login_suspended()?;
        let now = self.cx.now();
        let logged_in =
            LoggedIn { client: self.client.address, proxy: self.client.proxy(), login: &self.client.login };
        self.cx.log.record(&logged_in, now);
        Ok(())
    }

    /// Refuses the login that the client named: then it has none.
    pub(crate) fn refuse_login(&mut self, refusal: &Refusal, reply: &mut Reply) {
        self.refuse(refusal, "", reply);
        self.client.identity = None;
        self.client.login.clear();
    }

    fn lock(&self) -> Lock<'_> {
        let (limits, settings) = (self.cx.link.commons().limits(), &self.settings.login);
        Lock { limits, settings, client: self.client.address, now: self.cx.now() }
    }
}

impl Ingress {
    /// A login was verified.
    pub fn verified<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, outcome: Verification) {
        if !self.connection(key).is_some_and(|connection| connection.client.attempt.is_verified()) {
            return;
        }
        let mut reply = std::mem::take(&mut self.reply);
        self.drive(cx, key, |session, handler| {
            let refusal = handler.end_login(outcome).err();
            if let Some(refusal) = &refusal {
                handler.refuse_login(refusal, &mut reply);
            }
            session.resume(Resume::Auth(refusal.is_some().then_some(&reply)), handler);
        });
        self.reply = reply;
    }
}

/// The login under way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Attempt {
    #[default]
    None,
    /// The client is to prove that it knows the password.
    Proving(Asked),
    /// The control plane looks at the password.
    Verifying(Asked),
}

impl Attempt {
    /// The control plane looks at it.
    pub(crate) fn is_verified(self) -> bool {
        matches!(self, Self::Verifying(_))
    }

    fn asked(self) -> Asked {
        match self {
            Self::None => Asked::default(),
            Self::Proving(asked) | Self::Verifying(asked) => asked,
        }
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

/// What failed is charged to the address and to the login, whether or not it exists, and is looked at before a
/// credential is and before anything is said of it.
struct Lock<'a> {
    limits: &'a Limits,
    settings: &'a LoginSettings,
    client: IpAddr,
    now: UnixMillis,
}

impl Lock<'_> {
    /// Whether `login` is looked at now.
    fn check(&self, login: &str) -> Result<(), Refusal> {
        const MINUTE_MILLIS: u64 = 60_000;
        let Some(until) = self.until(login) else { return Ok(()) };
        let minutes = until.0.saturating_sub(self.now.0).div_ceil(MINUTE_MILLIS).max(1);
        let refusal = Refusal::for_reason(Reason::LoginLocked, None);
        Err(refusal.because(Detail::LockedMinutes(minutes)))
    }

    fn until(&self, login: &str) -> Option<UnixMillis> {
        let failures = self.limits.login_failures();
        let keys = Keys::of(self.client, login);
        let until = |key, rate: &Option<Rate>| failures.peek(key, 1, rate.as_ref()?, self.now).err();
        until(keys.address, &self.settings.failures_per_ip).or_else(|| {
            let until = until(keys.login, &self.settings.failures_per_identity)?;
            (!self.is_trusted(login)).then_some(until)
        })
    }

    /// The login has succeeded from the client's network lately.
    fn is_trusted(&self, login: &str) -> bool {
        let successes = self.limits.login_successes();
        successes.peek(trust(self.client, login), 1, &TRUSTED, self.now).is_err()
    }

    fn charge_failure(&self, login: &str) {
        let failures = self.limits.login_failures();
        let keys = Keys::of(self.client, login);
        let settings = self.settings;
        for (key, rate) in
            [(keys.address, settings.failures_per_ip), (keys.login, settings.failures_per_identity)]
        {
            if let Some(rate) = rate {
                failures.charge(key, 1, &rate, self.now);
            }
        }
    }

    fn remember_success(&self, login: &str) {
        let successes = self.limits.login_successes();
        // Where it is charged already, it is trusted already.
        let _ = successes.take(trust(self.client, login), 1, &TRUSTED, self.now);
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
