//! `[login]`: how many failures are borne, and what the salts of unknown logins are drawn from.

use std::time::Duration;

use policy::Sourced;

use crate::error::Report;
use crate::secret;
use crate::section::{Keys, Section};
use crate::units::parse_duration;

const LOGIN: Keys = Keys { known: &["failures_per_ip", "failures_per_identity", "secret"], later: &[] };

/// Characters of a secret, at least: less could be tried out.
const SECRET_CHARS_MIN: usize = 20;

/// `[login]`.
#[derive(Clone)]
pub struct LoginConfig {
    /// Failed logins of one address (IPv6: of one /64); `None`: any number.
    pub failures_per_ip: Option<Failures>,
    /// Failed logins of one identity, from all addresses together; `None`: any number.
    pub failures_per_identity: Option<Failures>,
    /// What the salts of unknown logins are drawn from, where several nodes must have the same.
    pub secret: Option<Box<str>>,
}

/// So many failures in such a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// At least one.
    pub count: u32,
    /// Longer than none.
    pub per: Duration,
}

impl Default for LoginConfig {
    /// What a person who has forgotten a password does not reach, and a program that guesses soon does.
    fn default() -> Self {
        const PER: Duration = Duration::from_secs(600);
        Self {
            failures_per_ip: Some(Failures { count: 10, per: PER }),
            failures_per_identity: Some(Failures { count: 20, per: PER }),
            secret: None,
        }
    }
}

impl std::fmt::Debug for LoginConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginConfig")
            .field("failures_per_ip", &self.failures_per_ip)
            .field("failures_per_identity", &self.failures_per_identity)
            .finish_non_exhaustive()
    }
}

/// The section, or what holds without it.
pub(crate) fn read(top: &Section<'_>, report: &mut Report) -> LoginConfig {
    let mut login = LoginConfig::default();
    let Some(section) = top.section("login", &LOGIN, report) else { return login };
    for (key, value) in [
        ("failures_per_ip", &mut login.failures_per_ip),
        ("failures_per_identity", &mut login.failures_per_identity),
    ] {
        let Some(written) = section.string(key, report) else { continue };
        match parse(&written.value) {
            Some(failures) => *value = failures,
            None => {
                let message = format!("cannot read {:?}", written.value);
                let remedy = "write how many in which time, as in \"10/10m\", or \"off\"";
                report.error(&written.origin, section.key(key), message, remedy);
            }
        }
    }
    login.secret =
        section.secret("secret", report).and_then(|written| read_secret(&section, &written, report));
    login
}

fn parse(text: &str) -> Option<Option<Failures>> {
    if text == "off" {
        return Some(None);
    }
    let (count, per) = text.split_once('/')?;
    let (count, per) = (count.trim().parse().ok()?, parse_duration(per.trim()).ok()?);
    (count > 0 && !per.is_zero()).then_some(Some(Failures { count, per }))
}

fn read_secret(section: &Section<'_>, written: &Sourced<String>, report: &mut Report) -> Option<Box<str>> {
    let secret = secret::resolve(section.file, section.key("secret"), written, report)?;
    if secret.len() < SECRET_CHARS_MIN {
        let message = format!("has fewer than {SECRET_CHARS_MIN} characters");
        report.error(&written.origin, section.key("secret"), message, "write a long random text");
    }
    Some(secret.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_written_as_a_count_in_a_time() {
        let ten = Failures { count: 10, per: Duration::from_secs(600) };
        assert_eq!(parse("10/10m"), Some(Some(ten)));
        assert_eq!(parse("off"), Some(None));
        for bad in ["", "10", "10/", "/10m", "0/10m", "10/0s", "x/10m", "-1/10m"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
