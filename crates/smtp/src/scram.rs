//! The arithmetic of SCRAM-SHA-256 (RFC 5802 section 3, RFC 7677): verifiers, proofs and signatures.

use std::borrow::Cow;
use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use mail::ScramVerifier;
use mail::limits::{SCRAM_ITERATIONS_MIN, SCRAM_SALT_BYTES_MAX};
use zeroize::{Zeroize as _, Zeroizing};

/// The verifier of `password`. Deriving it takes `iterations` rounds of PBKDF2: some 30 ms of a core for
/// 100,000.
#[must_use]
pub fn verifier(password: &str, salt: &[u8], iterations: u32) -> ScramVerifier {
    let salted = salted_password(password, salt, iterations);
    let client_key = Zeroizing::new(hmac_sha256(&*salted, b"Client Key"));
    ScramVerifier {
        iterations,
        salt: salt.into(),
        stored_key: sha256(&*client_key),
        server_key: hmac_sha256(&*salted, b"Server Key"),
    }
}

/// Whether `password` is the one of `verifier`, for those who show the password itself.
#[must_use]
pub fn fits(verifier: &ScramVerifier, password: &str) -> bool {
    let derived = self::verifier(password, &verifier.salt, verifier.iterations);
    verify_slices_are_equal(&derived.stored_key, &verifier.stored_key).is_ok()
}

/// What a login that has no verifier meets: a separate salt that looks like any other, the same
/// whenever it asks as long as `secret` stays, and a key that no client has.
#[must_use]
pub fn stand_in(secret: &[u8; 32], login: &str, iterations: u32, salt_bytes: usize) -> ScramVerifier {
    let mut name = login.to_ascii_lowercase();
    let key = hmac::Key::new(hmac::HMAC_SHA512, secret);
    name.push('\0');
    let salt = hmac::sign(&key, name.as_bytes());
    name.push('\0');
    let stored_key = hmac::sign(&key, name.as_bytes());
    let mut verifier = ScramVerifier {
        iterations,
        salt: salt.as_ref()[..salt_bytes.min(SCRAM_SALT_BYTES_MAX)].into(),
        stored_key: [0; 32],
        server_key: [0; 32],
    };
    verifier.stored_key.copy_from_slice(&stored_key.as_ref()[..32]);
    verifier
}

/// A name or password as SASLprep writes it (RFC 4013, the profile of RFC 5802); as it is where it
/// has no such form, as other servers take it.
#[must_use]
pub fn prepared(text: &str) -> Cow<'_, str> {
    stringprep::saslprep(text).unwrap_or(Cow::Borrowed(text))
}

/// Whether the maker of `proof` over `message` has the key whose hash is `stored_key`.
pub(crate) fn proves(stored_key: &[u8; 32], message: &[u8], proof: &[u8; 32]) -> bool {
    let mut client_key = hmac_sha256(stored_key, message);
    client_key.iter_mut().zip(proof).for_each(|(byte, proof)| *byte ^= proof);
    let fits = verify_slices_are_equal(&sha256(&client_key), stored_key).is_ok();
    client_key.zeroize();
    fits
}

/// The server's own proof over `message`.
pub(crate) fn signature(server_key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    hmac_sha256(server_key, message)
}

fn salted_password(password: &str, salt: &[u8], iterations: u32) -> Zeroizing<[u8; 32]> {
    let mut salted = Zeroizing::new([0; 32]);
    let iterations =
        NonZeroU32::new(iterations.max(SCRAM_ITERATIONS_MIN)).expect("the least is more than none");
    let password = prepared(password);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut *salted);
    if let Cow::Owned(mut password) = password {
        password.zeroize();
    }
    salted
}

fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn sha256(data: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, data).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_fits_its_password_in_every_form_of_it() {
        // RFC 4013 section 3: the soft hyphen is mapped to nothing.
        let verifier = verifier("I\u{ad}X", b"a salt of some", 4096);
        assert!(fits(&verifier, "IX"));
        assert!(!fits(&verifier, "ix"));
        // U+0007 has no form: it stays.
        assert_eq!(prepared("\u{7}"), "\u{7}");
    }

    #[test]
    fn the_salt_of_a_stand_in_is_stable_looks_like_others_and_depends_on_login_and_secret() {
        let salt = |secret: u8, login: &str| stand_in(&[secret; 32], login, 4096, 16).salt;
        assert_eq!(salt(1, "terri"), salt(1, "Terri"), "logins compare without regard to case");
        assert_eq!(salt(1, "terri").len(), 16);
        assert_ne!(salt(1, "terri"), salt(1, "kim"));
        assert_ne!(salt(1, "terri"), salt(2, "terri"));
    }
}
