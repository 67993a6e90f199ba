//! Credentials, made for a tenant file and verified at a login: argon2id hashes in PHC form, and
//! verifiers of SCRAM-SHA-256.

use std::sync::LazyLock;

use argon2::password_hash::rand_core::{OsRng, RngCore as _};
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use mail::ScramVerifier;

/// Memory of one hash in KiB, with two passes and one lane: the recommendation of OWASP's password
/// storage page, some 20 ms of a core.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Against what a password is verified where there is no credential for it, so that it takes as long to refuse
/// as where there is one.
static NOBODY: LazyLock<String> = LazyLock::new(|| hash("nobody's password"));

/// The credential of `password` for a tenant file: `$argon2id$v=19$m=19456,t=2,p=1$...`, with its own salt.
#[must_use]
pub fn hash(password: &str) -> String {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the numbers are in argon2's range");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password(password.as_bytes(), &SaltString::generate(&mut OsRng))
        .expect("a password shorter than 4 GiB with a fresh salt can be hashed")
        .to_string()
}

/// Rounds of PBKDF2 in a new SCRAM verifier: about what one argon2id hash takes, to look a password
/// up by PLAIN in either form at the same cost.
const SCRAM_ITERATIONS: u32 = 100_000;
const SCRAM_SALT_BYTES: usize = 16;

/// The verifier of `password` for SCRAM-SHA-256, for a tenant file, with its own salt.
#[must_use]
pub fn scram(password: &str) -> ScramVerifier {
    let mut salt = [0; SCRAM_SALT_BYTES];
    OsRng.fill_bytes(&mut salt);
    smtp::scram::verifier(password, &salt, SCRAM_ITERATIONS)
}

/// Whether `password` fits `credential`, a hash or a verifier. A credential that is empty or neither
/// fits nothing, and that takes as long to find out.
#[must_use]
pub fn verify(credential: &str, password: &str) -> bool {
    if let Ok(verifier) = ScramVerifier::parse(credential) {
        return smtp::scram::fits(&verifier, password);
    }
    let fits = |hash: &PasswordHash<'_>| Argon2::default().verify_password(password.as_bytes(), hash).is_ok();
    match PasswordHash::new(credential) {
        Ok(hash) => fits(&hash),
        Err(_) => {
            let nobody = PasswordHash::new(&NOBODY).expect("our own hash is in PHC form");
            // `&` and not `&&`: the work is the point.
            fits(&nobody) & false
        }
    }
}

/// Makes what [`verify`] needs ahead of the first login.
pub(crate) fn prepare() {
    LazyLock::force(&NOBODY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_fits_its_password_only() {
        let credential = hash("correct horse");
        assert!(credential.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{credential}");
        assert_ne!(credential, hash("correct horse"), "every credential has a salt of its own");
        assert!(verify(&credential, "correct horse"));
        assert!(!verify(&credential, "battery staple"));
    }

    #[test]
    fn a_scram_verifier_fits_its_password_only() {
        let credential = scram("correct horse").to_string();
        assert!(credential.starts_with("SCRAM-SHA-256$100000:"), "{credential}");
        assert_ne!(credential, scram("correct horse").to_string(), "every verifier has a salt of its own");
        assert!(verify(&credential, "correct horse"));
        assert!(!verify(&credential, "battery staple"));
    }

    #[test]
    fn no_credential_fits_nothing_not_even_the_password_of_nobody() {
        for credential in ["", "plain text", "$argon2id$broken"] {
            assert!(!verify(credential, "nobody's password"), "{credential}");
        }
    }
}
