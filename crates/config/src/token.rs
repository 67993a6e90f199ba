//! Bearer tokens: only their digest is ever kept.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use policy::Sourced;

use crate::error::Report;
use crate::secret;
use crate::section::Section;

/// Characters of a token, at least: what `gatepost token` prints has 43, and a word that a person
/// thinks of has fewer than this.
const TOKEN_CHARS_MIN: usize = 20;

/// The SHA-256 digest of a bearer token (RFC 6750). The token itself is not kept anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token as a client sends it.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Whether both are the same, in a time that does not tell how much of them is.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl From<[u8; 32]> for TokenDigest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<TokenDigest> for [u8; 32] {
    fn from(digest: TokenDigest) -> Self {
        digest.0
    }
}

impl fmt::Display for TokenDigest {
    /// In lower-case hexadecimal, as `sha256sum` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEX.encode(&self.0))
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// The token of a section: `sha256` holds its digest, `token` itself or where to read it.
pub(crate) fn read(section: &Section<'_>, report: &mut Report) -> Option<TokenDigest> {
    const MAKE: &str = "make one with `gatepost token`";
    let (digest, token) = (section.secret("sha256", report), section.secret("token", report));
    match (digest, token) {
        (Some(digest), Some(_)) => {
            let remedy = "keep sha256, and remove token";
            report.error(&digest.origin, section.key("sha256"), "the token is written twice", remedy);
            None
        }
        (Some(digest), None) => from_hex(&digest.value).or_else(|| {
            report.error(
                &digest.origin,
                section.key("sha256"),
                "is no SHA-256 digest in 64 hex digits",
                MAKE,
            );
            None
        }),
        (None, Some(written)) => from_text(section, &written, MAKE, report),
        (None, None) => None,
    }
}

fn from_hex(text: &str) -> Option<TokenDigest> {
    let bytes = HEX.decode(text.as_bytes()).ok()?;
    bytes.try_into().ok().map(TokenDigest)
}

fn from_text(
    section: &Section<'_>,
    written: &Sourced<String>,
    remedy: &str,
    report: &mut Report,
) -> Option<TokenDigest> {
    let token = secret::resolve(section.file, section.key("token"), written, report)?;
    if token.chars().count() < TOKEN_CHARS_MIN {
        let message = format!("a token this short can be guessed: it needs {TOKEN_CHARS_MIN} characters");
        report.error(&written.origin, section.key("token"), message, remedy);
        return None;
    }
    Some(TokenDigest::of(&token))
}
