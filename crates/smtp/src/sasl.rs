//! The exchanges of AUTH: PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login).
//!
//! Secrets are decoded into memory that is wiped when it is given up.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// A mechanism that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Plain,
    Login,
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
}

/// Where an answer leads.
#[derive(Debug)]
pub(crate) enum Next {
    /// Ask again: with this challenge.
    Challenge(&'static str, Exchange),
    /// All is known.
    Done(Shown),
    /// It was no base64, or no message of the mechanism.
    Malformed,
}

/// What was shown: three texts, of which the first is empty for LOGIN.
#[derive(Debug)]
pub(crate) struct Shown {
    message: Zeroizing<Vec<u8>>,
    login_at: usize,
    password_at: usize,
}

impl Mechanism {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [("PLAIN", Self::Plain), ("LOGIN", Self::Login)]
            .into_iter()
            .find_map(|(known, mechanism)| name.eq_ignore_ascii_case(known).then_some(mechanism))
    }

    /// The first challenge, in base64, and what is awaited.
    pub(crate) fn begin(self) -> (&'static str, Exchange) {
        match self {
            Self::Plain => ("", Exchange::Plain),
            // "Username:"
            Self::Login => ("VXNlcm5hbWU6", Exchange::LoginName),
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
            Self::Plain => Shown::from_plain(decoded).map_or(Next::Malformed, Next::Done),
            // "Password:"
            Self::LoginName => Next::Challenge("UGFzc3dvcmQ6", Self::LoginPassword { login: decoded }),
            Self::LoginPassword { login } => {
                Shown::from_login(&login, &decoded).map_or(Next::Malformed, Next::Done)
            }
        }
    }
}

impl Shown {
    /// `authorization NUL login NUL password`.
    fn from_plain(message: Zeroizing<Vec<u8>>) -> Option<Self> {
        let text = std::str::from_utf8(&message).ok()?;
        let login_at = text.find('\0')? + 1;
        let password_at = login_at + text[login_at..].find('\0')? + 1;
        let fine = password_at > login_at + 1 && !text[password_at..].contains('\0');
        fine.then_some(Self { message, login_at, password_at })
    }

    fn from_login(login: &[u8], password: &[u8]) -> Option<Self> {
        let mut message = Zeroizing::new(Vec::with_capacity(login.len() + password.len() + 2));
        for part in [&b"\0"[..], login, &b"\0"[..], password] {
            message.extend_from_slice(part);
        }
        Self::from_plain(message)
    }

    /// Authorization identity, login and password.
    pub(crate) fn parts(&self) -> (&str, &str, &str) {
        let text = std::str::from_utf8(&self.message).expect("it was checked when it came");
        (&text[..self.login_at - 1], &text[self.login_at..self.password_at - 1], &text[self.password_at..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_taken_apart() {
        let Next::Done(shown) = Exchange::Plain.answer(b"AHRlcnJpAHNlY3JldA==") else { panic!() };
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
        let Next::Done(shown) = exchange.answer(b"c2VjcmV0") else { panic!() };
        assert_eq!(shown.parts(), ("", "terri", "secret"));
    }
}
