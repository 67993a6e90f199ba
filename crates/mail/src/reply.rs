use std::fmt::{self, Write as _};

use crate::reason::Reason;

/// An enhanced status code (RFC 3463), such as 5.7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// 2, 4 or 5.
    pub class: u8,
    /// 0 to 999.
    pub subject: u16,
    /// 0 to 999.
    pub detail: u16,
}

impl Status {
    /// The status `class.subject.detail`.
    #[must_use]
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Reads a status from the start of a reply's text; also gives what follows it.
    #[must_use]
    pub fn split_from(text: &str) -> Option<(Self, &str)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut parts = word.split('.');
        let class = parts.next()?.parse().ok().filter(|class| matches!(class, 2 | 4 | 5))?;
        let subject = parts.next()?.parse().ok().filter(|&subject| subject < 1000)?;
        let detail = parts.next()?.parse().ok().filter(|&detail| detail < 1000)?;
        parts.next().is_none().then_some((Self { class, subject, detail }, rest))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// An SMTP reply: one of ours to be written, or one that a peer gave.
///
/// The text is kept between uses, so that a session that owns one builds replies without allocating.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    status: Option<Status>,
    text: String,
}

impl Reply {
    /// A reply of one line.
    #[must_use]
    pub fn new(code: u16, status: Option<Status>, text: impl fmt::Display) -> Self {
        let mut reply = Self::default();
        reply.set(code, status, format_args!("{text}"));
        reply
    }

    /// Starts over with a first line. Line breaks in the text become spaces: no text injects a line.
    pub fn set(&mut self, code: u16, status: Option<Status>, text: fmt::Arguments<'_>) {
        self.code = code;
        self.status = status;
        self.text.clear();
        self.push(text);
    }

    /// Starts over with the code and status that belong to `reason`, and a first line.
    pub fn deny(&mut self, reason: Reason, text: fmt::Arguments<'_>) {
        self.set(reason.code(), Some(reason.status()), text);
    }

    /// Adds a line.
    pub fn add_line(&mut self, text: fmt::Arguments<'_>) {
        self.text.push('\n');
        self.push(text);
    }

    fn push(&mut self, text: fmt::Arguments<'_>) {
        let _ = OneLine(&mut self.text).write_fmt(text);
    }

    /// Forgets everything; the memory stays.
    pub fn clear(&mut self) {
        self.code = 0;
        self.status = None;
        self.text.clear();
    }

    /// The three-digit code; 0 when nothing was set.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status, where there is one.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.status
    }

    /// The lines of text, without code and status.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    /// 2yz.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 5yz.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Appends the reply as it goes over the wire (RFC 5321 section 4.2.1, RFC 2034 for the status). What is outside
    /// ASCII stands as in a report for those who cannot take it, `\x{E9}` (RFC 6533 section 3): no client has asked for
    /// SMTPUTF8, which is not offered.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let separator = if lines.peek().is_some() { '-' } else { ' ' };
            let _ = write!(Bytes(out), "{}{separator}", self.code);
            if let Some(status) = self.status {
                let _ = write!(Bytes(out), "{status} ");
            }
            let _ = write!(Ascii(out), "{line}");
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    /// The reply on one line: code, status, lines joined by " / ".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        for (index, line) in self.lines().enumerate() {
            write!(f, "{}{line}", if index == 0 { " " } else { " / " })?;
        }
        Ok(())
    }
}

/// Writes text with every control character turned into a space.
struct OneLine<'a>(&'a mut String);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend(text.chars().map(|char| if char.is_control() { ' ' } else { char }));
        Ok(())
    }
}

/// Writes text with every character outside ASCII as its number.
struct Ascii<'a>(&'a mut Vec<u8>);

impl fmt::Write for Ascii<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.is_ascii() {
            return Bytes(self.0).write_str(text);
        }
        for char in text.chars() {
            match char {
                ascii if ascii.is_ascii() => self.0.push(ascii as u8),
                other => write!(Bytes(self.0), "\\x{{{:X}}}", u32::from(other))?,
            }
        }
        Ok(())
    }
}

struct Bytes<'a>(&'a mut Vec<u8>);

impl fmt::Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_carries_code_and_status() {
        let mut reply = Reply::default();
        reply.deny(Reason::RelayNotPermitted, format_args!("relaying not permitted"));
        reply.add_line(format_args!("sign in on port 587"));
        let mut wire = Vec::new();
        reply.write_to(&mut wire);
        assert_eq!(wire, b"550-5.7.1 relaying not permitted\r\n550 5.7.1 sign in on port 587\r\n");
    }

    #[test]
    fn nobody_injects_a_line() {
        let reply = Reply::new(250, None, "a\r\n250 b");
        let mut wire = Vec::new();
        reply.write_to(&mut wire);
        assert_eq!(wire, b"250 a  250 b\r\n");
    }

    #[test]
    fn no_reply_goes_out_in_eight_bits() {
        let mut reply = Reply::new(553, None, "<andr\u{e9}@\u{202e}example>: no");
        reply.add_line(format_args!("write to \u{1f600}"));
        let mut wire = Vec::new();
        reply.write_to(&mut wire);
        assert!(wire.is_ascii());
        assert_eq!(
            String::from_utf8_lossy(&wire),
            "553-<andr\\x{E9}@\\x{202E}example>: no\r\n553 write to \\x{1F600}\r\n"
        );
    }

    #[test]
    fn a_status_is_read_from_the_text() {
        assert_eq!(Status::split_from("5.7.1 no"), Some((Status::new(5, 7, 1), "no")));
        assert_eq!(Status::split_from("3.7.1 no"), None);
        assert_eq!(Status::split_from("hello"), None);
    }
}
