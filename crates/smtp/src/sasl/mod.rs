//! The exchanges of AUTH: PLAIN (RFC 4616), LOGIN (draft-murchison-sasl-login), and SCRAM-SHA-256 with
//! and without channel binding (RFC 5802, RFC 7677).
//!
//! Secrets are decoded into memory that is wiped when it is given up.

mod plain;
mod scram;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

pub(crate) use plain::Shown;
pub(crate) use scram::{Binding, ClientFirst, Flag, Proof};

/// A mechanism that may be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Plain,
    Login,
    Scram,
    /// With channel binding.
    ScramPlus,
}

/// What the client is to answer next.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// PLAIN's only message.
    Plain,
    /// LOGIN's name.
    LoginName,
    /// LOGIN's password, for this name.
    LoginPassword { login: Zeroizing<Vec<u8>> },
    /// SCRAM's name and nonce.
    ScramFirst { plus: bool },
    /// SCRAM's proof.
    ScramFinal(Box<scram::Awaited>),
    /// SCRAM's last, empty word: our signature fits.
    ScramEnd(Box<Proof>),
}

/// Where an answer leads.
#[derive(Debug)]
pub(crate) enum Next {
    /// Ask again: with this challenge.
    Challenge(Cow<'static, str>, Exchange),
    /// PLAIN and LOGIN: all is known.
    Shown(Shown),
    /// SCRAM: a verifier is to be found.
    Verifier(Box<ClientFirst>),
    /// SCRAM: all is known.
    Proof(Box<Proof>),
    /// It was no base64, or no message of the mechanism.
    Malformed,
}

impl Mechanism {
    const ALL: [(&'static str, Self); 4] = [
        ("PLAIN", Self::Plain),
        ("LOGIN", Self::Login),
        ("SCRAM-SHA-256", Self::Scram),
        ("SCRAM-SHA-256-PLUS", Self::ScramPlus),
    ];

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find_map(|(known, mechanism)| name.eq_ignore_ascii_case(known).then_some(mechanism))
    }

    /// The first challenge, in base64, and what is awaited.
    pub(crate) fn begin(self) -> (&'static str, Exchange) {
        match self {
            Self::Plain => ("", Exchange::Plain),
            // "Username:"
            Self::Login => ("VXNlcm5hbWU6", Exchange::LoginName),
            Self::Scram => ("", Exchange::ScramFirst { plus: false }),
            Self::ScramPlus => ("", Exchange::ScramFirst { plus: true }),
        }
    }
}

impl Exchange {
    /// Takes the client's answer, a line of base64.
    pub(crate) fn answer(self, line: &[u8]) -> Next {
        let mut decoded = Zeroizing::new(Vec::new());
        if STANDARD.decode_vec(line, &mut decoded).is_err() {
            return Next::Malformed;
        }
        match self {
            Self::Plain => Shown::from_plain(decoded).map_or(Next::Malformed, Next::Shown),
            Self::LoginName => {
                // "Password:"
                Next::Challenge(Cow::Borrowed("UGFzc3dvcmQ6"), Self::LoginPassword { login: decoded })
            }
            Self::LoginPassword { login } => {
                Shown::from_login(&login, &decoded).map_or(Next::Malformed, Next::Shown)
            }
            Self::ScramFirst { plus } => ClientFirst::parse(&decoded, plus)
                .map_or(Next::Malformed, |first| Next::Verifier(Box::new(first))),
            Self::ScramFinal(awaited) => match awaited.take(&decoded) {
                Some((proof, Some(signature))) => {
                    Next::Challenge(Cow::Owned(signature), Self::ScramEnd(Box::new(proof)))
                }
                Some((proof, None)) => Next::Proof(Box::new(proof)),
                None => Next::Malformed,
            },
            Self::ScramEnd(proof) if decoded.is_empty() => Next::Proof(proof),
            Self::ScramEnd(_) => Next::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_taken_apart() {
        let Next::Shown(shown) = Exchange::Plain.answer(b"AHRlcnJpAHNlY3JldA==") else { panic!() };
        assert_eq!(shown.parts(), ("", "terri", "secret"));
    }

    #[test]
    fn what_is_no_message_of_the_mechanism_is_malformed() {
        for bad in ["", "!", "dGVycmk=", "AAA=", "AHRlcnJpAHMAZQ==", "AHRlcnJpAHNlY3JldA"] {
            assert!(matches!(Exchange::Plain.answer(bad.as_bytes()), Next::Malformed), "{bad}");
        }
    }

    #[test]
    fn login_asks_twice() {
        let Next::Challenge(_, exchange) = Exchange::LoginName.answer(b"dGVycmk=") else { panic!() };
        let Next::Shown(shown) = exchange.answer(b"c2VjcmV0") else { panic!() };
        assert_eq!(shown.parts(), ("", "terri", "secret"));
    }
}
