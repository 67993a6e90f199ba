use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::limits::{SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN, SCRAM_SALT_BYTES_MAX, SCRAM_SALT_BYTES_MIN};

/// The mechanism, as the text form begins with it.
const MECHANISM: &str = "SCRAM-SHA-256$";

/// What a server keeps of a password for SCRAM-SHA-256 (RFC 5802 section 3, RFC 7677): enough to see
/// that a client knows the password, and to show that the server does; not enough to be that client.
///
/// Its text form is `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, the last three in base64, as
/// other servers write it too.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    /// Rounds of PBKDF2, from [`SCRAM_ITERATIONS_MIN`] to [`SCRAM_ITERATIONS_MAX`].
    pub iterations: u32,
    /// [`SCRAM_SALT_BYTES_MIN`] to [`SCRAM_SALT_BYTES_MAX`] bytes.
    pub salt: Box<[u8]>,
    /// The hash of the key that a client proves to have.
    pub stored_key: [u8; 32],
    /// The key that the server signs with.
    pub server_key: [u8; 32],
}

impl ScramVerifier {
    /// Reads the text form.
    ///
    /// # Errors
    /// What is wrong with it, in words that hold nothing of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "is no SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey";
        let rest = text.strip_prefix(MECHANISM).ok_or(FORM)?;
        let (head, keys) = rest.split_once('$').ok_or(FORM)?;
        let (iterations, salt) = head.split_once(':').ok_or(FORM)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(FORM)?;
        let key = |text: &str| <[u8; 32]>::try_from(STANDARD.decode(text).ok()?).ok();
        let salt = STANDARD.decode(salt).map_err(|_| "has a salt that is no base64")?;
        if !(SCRAM_SALT_BYTES_MIN..=SCRAM_SALT_BYTES_MAX).contains(&salt.len()) {
            return Err("has a salt of fewer than 8 or more than 64 bytes");
        }
        let iterations = iterations.parse().map_err(|_| FORM)?;
        if !(SCRAM_ITERATIONS_MIN..=SCRAM_ITERATIONS_MAX).contains(&iterations) {
            return Err("has fewer than 4096 or more than 1000000 iterations");
        }
        Ok(Self {
            iterations,
            salt: salt.into(),
            stored_key: key(stored_key).ok_or("has a StoredKey that is not 32 bytes of base64")?,
            server_key: key(server_key).ok_or("has a ServerKey that is not 32 bytes of base64")?,
        })
    }
}

impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |bytes: &[u8]| STANDARD.encode(bytes);
        let (salt, stored_key) = (encode(&self.salt), encode(&self.stored_key));
        let server_key = encode(&self.server_key);
        write!(f, "{MECHANISM}{}:{salt}${stored_key}:{server_key}", self.iterations)
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn the_text_form_is_read_and_written() {
        let verifier = ScramVerifier::parse(VERIFIER).unwrap();
        assert_eq!((verifier.iterations, verifier.salt.len()), (4096, 16));
        assert_eq!(verifier.to_string(), VERIFIER);
        assert!(!format!("{verifier:?}").contains("key"), "{verifier:?}");
    }

    #[test]
    fn what_is_no_verifier_is_told_apart() {
        for (from, to, fault) in [
            ("SCRAM-SHA-256", "SCRAM-SHA-1", "is no SCRAM-SHA-256"),
            ("4096:", "4095:", "iterations"),
            ("4096:", "x:", "is no SCRAM-SHA-256"),
            ("W22ZaJ0SNY7soEsUEjb6gQ==", "W22Z", "a salt of"),
            ("W22ZaJ0SNY7soEsUEjb6gQ==", "!", "no base64"),
            ("WG5d", "", "StoredKey"),
            ("wfPL", "", "ServerKey"),
            (":wfPL", "", "is no SCRAM-SHA-256"),
        ] {
            let error = ScramVerifier::parse(&VERIFIER.replace(from, to)).unwrap_err();
            assert!(error.contains(fault), "{from} -> {to}: {error}");
        }
    }
}
