//! `[[identity]]` of a tenant, and the file of credentials beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use argon2::password_hash::PasswordHash;
use mail::ScramVerifier;
use policy::{IdentitySource, Origin, Sourced};

use crate::error::Report;
use crate::read::TEXT_BYTES_MAX;
use crate::secret;
use crate::section::{Keys, Section};

const IDENTITY: Keys = Keys { known: &["login", "password", "scram", "senders", "null_sender"], later: &[] };

/// The shortest hash that is taken: RFC 9106 section 4 has 128 bits as the least for passwords.
const HASH_BYTES_MIN: usize = 16;

/// Tools make hashes of 16, 20, 24, 32 or 64 bytes: another length is one that a few letters are missing of.
const HASH_BYTES_STEP: usize = 4;

const MAKE: &str = "make one with `gatepost password`";

/// What a password is held against: one of the two at least.
#[derive(Default)]
struct Credential {
    /// In PHC form.
    password: Option<String>,
    scram: Option<ScramVerifier>,
}

/// A line of the file of credentials.
struct Line {
    origin: Origin,
    credential: Credential,
    used: bool,
}

/// By login, in lower case.
type Lines = BTreeMap<String, Line>;

/// Every `[[identity]]`, with what the file of `credentials` holds for it.
pub(crate) fn read(top: &Section<'_>, report: &mut Report) -> Vec<IdentitySource> {
    let mut lines = read_file(top, report);
    let sections = top.sections("identity", &IDENTITY, report);
    let identities: Vec<_> =
        sections.iter().filter_map(|section| identity(section, &mut lines, report)).collect();
    for (login, line) in lines.iter().filter(|(_, line)| !line.used) {
        let message = format!("no [[identity]] has the login {login:?}: no client logs in with it");
        report.warn(&line.origin, "credentials", message);
    }
    warn_of_half_scram(&identities, report);
    identities
}

fn identity(section: &Section<'_>, lines: &mut Lines, report: &mut Report) -> Option<IdentitySource> {
    let login = section.required("login", "\"name@its-domain.example\"", report);
    let senders = section.strings("senders", report);
    let null_sender = section.boolean("null_sender", report).is_some_and(|null| null.value);
    let written = ["password", "scram"].map(|key| section.secret(key, report));
    let mut credential = Credential::default();
    for (key, written) in ["password", "scram"].into_iter().zip(&written) {
        let Some(written) = written else { continue };
        let Some(secret) = secret::resolve(section.file, section.key(key), written, report) else { continue };
        if let Err(fault) = credential.take(key, &secret) {
            report.error(&written.origin, section.key(key), fault, MAKE);
        }
    }
    let login = login?;
    if login.value.is_empty() || login.value.len() > mail::limits::DOMAIN_BYTES_MAX {
        let remedy = "write 1 to 255 characters";
        report.error(&login.origin, section.key("login"), "no login has this length", remedy);
    }
    // In records an address in brackets stands for a client without a login.
    if login.value.starts_with('[') {
        let message = format!("{:?} looks like an address without a login", login.value);
        report.error(&login.origin, section.key("login"), message, "write it without brackets");
    }
    let is_written = written.iter().any(Option::is_some);
    match lines.get_mut(&login.value.to_ascii_lowercase()) {
        Some(line) if is_written => {
            line.used = true;
            let message = format!("the login has credentials at {} too", line.origin);
            report.error(&login.origin, section.key("login"), message, "keep them in one place");
        }
        Some(line) => {
            line.used = true;
            credential = std::mem::take(&mut line.credential);
        }
        None if is_written => {}
        None => section.missing("password", "\"$argon2id$...\", made with `gatepost password`", report),
    }
    // Without a credential there is an error already; the rest of the identity is still checked.
    let Credential { password, scram } = credential;
    Some(IdentitySource { login, credential: password.unwrap_or_default(), scram, senders, null_sender })
}

impl Credential {
    /// Takes what stands under `key`. The fault never shows the value: it may be a password in the clear.
    fn take(&mut self, key: &str, secret: &str) -> Result<(), &'static str> {
        if key == "scram" {
            self.scram = Some(ScramVerifier::parse(secret)?);
        } else if secret.starts_with("$argon2") {
            must_be_whole(secret)?;
            self.password = Some(secret.to_owned());
        } else {
            return Err("is no argon2 password hash");
        }
        Ok(())
    }
}

/// Whether nothing of an argon2 hash got lost when it was copied, as far as its parts tell: it would be a
/// credential that no password fits.
fn must_be_whole(hash: &str) -> Result<(), &'static str> {
    const SHORT: &str = "is an argon2 hash that was cut off, or changed in copying";
    // $argon2id$v=19$m=19456,t=2,p=1$salt$hash; the version may be missing.
    let parsed = PasswordHash::new(hash).map_err(|_| SHORT)?;
    let bytes = parsed.hash.map_or(0, |hash| hash.len());
    let is_whole = parsed.salt.is_some() && bytes >= HASH_BYTES_MIN && bytes % HASH_BYTES_STEP == 0;
    if is_whole { Ok(()) } else { Err(SHORT) }
}

/// `credentials`: a line for each login, with its password hash, its SCRAM verifier, or both.
fn read_file(top: &Section<'_>, report: &mut Report) -> Lines {
    const REMEDY: &str =
        "write lines of a login, its hash and its verifier, as `gatepost password` prints them";
    let mut lines = Lines::new();
    let Some(named) = top.string("credentials", report) else { return lines };
    let path = top.file.resolve(&named.value);
    let remedy = "put the file there, a login and its credentials a line, readable to this user";
    let named = (&named.origin, "credentials");
    let Some(text) = report.read_beside(&path, TEXT_BYTES_MAX, named, remedy) else { return lines };
    let name: Arc<str> = path.display().to_string().into();
    for (number, text) in (1_u32..).zip(text.lines()) {
        let origin = Origin::new(name.clone(), number);
        let mut words = text.split_whitespace();
        let Some(login) = words.next().filter(|login| !login.starts_with('#')) else { continue };
        let mut credential = Credential::default();
        for word in words {
            let key = if word.starts_with("SCRAM-") { "scram" } else { "password" };
            if let Err(fault) = credential.take(key, word) {
                report.error(&origin, "credentials", fault, REMEDY);
            }
        }
        if credential.password.is_none() && credential.scram.is_none() {
            // Of a file that is none of credentials nothing is shown.
            report.error(&origin, "credentials", "this line has neither a hash nor a verifier", REMEDY);
        }
        let line = Line { origin: origin.clone(), credential, used: false };
        if let Some(other) = lines.insert(login.to_ascii_lowercase(), line) {
            let message = format!("login {login:?} stands at {} too; case does not count", other.origin);
            report.error(&origin, "credentials", message, "keep one of the lines");
        }
    }
    lines
}

/// Clients choose the strongest mechanism that is announced, and most try no other.
fn warn_of_half_scram(identities: &[IdentitySource], report: &mut Report) {
    if identities.iter().all(|identity| identity.scram.is_none()) {
        return;
    }
    let lacking = |identity: &&IdentitySource| identity.scram.is_none();
    let Some(first) = identities.iter().find(lacking) else { return };
    let count = identities.iter().filter(lacking).count();
    let message = format!(
        "{count} of the tenant's logins have no scram, {:?} among them, while others have: SCRAM is announced to \
         all, and clients that choose it cannot log in as these; `gatepost password` makes it",
        first.login.value
    );
    let Sourced { origin, .. } = &first.login;
    report.warn(origin, "identity.scram", message);
}
