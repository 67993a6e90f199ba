//! PLAIN (RFC 4616), and what LOGIN says, brought into the same form.

use zeroize::Zeroizing;

/// What was shown: three texts, of which the first is empty for LOGIN.
#[derive(Debug)]
pub(crate) struct Shown {
    message: Zeroizing<Vec<u8>>,
    login_at: usize,
    password_at: usize,
}

impl Shown {
    /// `authorization NUL login NUL password`.
    pub(super) fn from_plain(message: Zeroizing<Vec<u8>>) -> Option<Self> {
        let text = std::str::from_utf8(&message).ok()?;
        let login_at = text.find('\0')? + 1;
        let password_at = login_at + text[login_at..].find('\0')? + 1;
        let fine = password_at > login_at + 1 && !text[password_at..].contains('\0');
        fine.then_some(Self { message, login_at, password_at })
    }

    pub(super) fn from_login(login: &[u8], password: &[u8]) -> Option<Self> {
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
