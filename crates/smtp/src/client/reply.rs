//! Reads the replies of a peer that is not trusted: bounded, and strict about what a reply is.

use mail::{Reply, Status};
use memchr::memchr;

/// A reply line, its CRLF included. RFC 5321 section 4.5.3.1.5 allows 512; real servers write more.
const REPLY_LINE_BYTES_MAX: usize = 4096;

/// Lines of one reply that are kept; the longest in the wild are EHLO's, with some twenty. What a longer
/// one says beyond them is dropped: its code counts.
const REPLY_LINES_KEPT_MAX: usize = 128;

/// Lines of one reply: one that goes on and on must end some time.
const REPLY_LINES_MAX: usize = 4096;

/// Puts the lines of a reply together.
#[derive(Debug, Default)]
pub(super) struct ReplyReader {
    reply: Reply,
    lines: usize,
}

/// Why the input is no reply.
pub(super) type Malformed = &'static str;

impl ReplyReader {
    /// Takes the next reply off the input, once it is whole. The reply's memory comes from `spare`.
    pub(super) fn take(
        &mut self,
        input: &mut Input,
        spare: &mut Vec<Reply>,
    ) -> Result<Option<Reply>, Malformed> {
        while let Some(line) = input.next_line()? {
            if self.line(line)? {
                self.lines = 0;
                return Ok(Some(std::mem::replace(&mut self.reply, spare.pop().unwrap_or_default())));
            }
        }
        Ok(None)
    }

    /// One line, without its line end; true where it is the last.
    fn line(&mut self, line: &[u8]) -> Result<bool, Malformed> {
        let (digits, rest) = line.split_at_checked(3).ok_or("a reply line without a code")?;
        if !digits.iter().all(u8::is_ascii_digit) || !(b'2'..=b'5').contains(&digits[0]) {
            return Err("a reply line without a code");
        }
        let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        let last = match rest.first() {
            None | Some(b' ') => true,
            Some(b'-') => false,
            Some(_) => return Err("a reply code that is followed by neither space nor hyphen"),
        };
        if self.lines > 0 && code != self.reply.code() {
            return Err("a reply whose lines have different codes");
        }
        self.lines += 1;
        if self.lines > REPLY_LINES_MAX {
            return Err("a reply of too many lines");
        }
        if self.lines > REPLY_LINES_KEPT_MAX {
            return Ok(last);
        }
        let text = String::from_utf8_lossy(rest.get(1..).unwrap_or_default());
        let split = Status::split_from(&text).filter(|(status, _)| u16::from(status.class) == code / 100);
        if self.lines == 1 {
            let (status, text) = split.map_or((None, &*text), |(status, rest)| (Some(status), rest));
            self.reply.set(code, status, format_args!("{text}"));
        } else {
            let text = split.map_or(&*text, |(_, rest)| rest);
            self.reply.add_line(format_args!("{text}"));
        }
        Ok(last)
    }
}

/// What has come and was not looked at.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) bytes: Vec<u8>,
    read: usize,
}

impl Input {
    /// Whether all was looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.read == self.bytes.len()
    }

    /// Forgets what was looked at; the memory stays.
    pub(super) fn compact(&mut self) {
        self.bytes.drain(..self.read);
        self.read = 0;
    }

    fn next_line(&mut self) -> Result<Option<&[u8]>, Malformed> {
        let rest = &self.bytes[self.read..];
        match memchr(b'\n', rest) {
            Some(end) if end < REPLY_LINE_BYTES_MAX => {
                self.read += end + 1;
                let line = &rest[..end];
                Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
            }
            None if rest.len() < REPLY_LINE_BYTES_MAX => Ok(None),
            _ => Err("a reply line that is too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wire: &[u8]) -> Result<Option<String>, Malformed> {
        let mut input = Input { bytes: wire.to_vec(), read: 0 };
        let reply = ReplyReader::default().take(&mut input, &mut Vec::new())?;
        Ok(reply.map(|reply| reply.to_string()))
    }

    #[test]
    fn replies_are_read() {
        for (wire, reply) in [
            (&b"250 2.1.0 ok\r\n"[..], Some("250 2.1.0 ok")),
            (b"250\r\n", Some("250 ")),
            (b"250-a\r\n250 b\r\n", Some("250 a / b")),
            (b"550-5.7.1 no\r\n550 5.7.1 never\r\n", Some("550 5.7.1 no / never")),
            (b"450 5.7.1 odd\r\n", Some("450 5.7.1 odd")),
            (b"250-a\r\n250", None),
            (b"", None),
        ] {
            assert_eq!(read(wire).unwrap().as_deref(), reply);
        }
    }

    #[test]
    fn a_long_reply_counts_by_its_code_and_keeps_its_first_lines() {
        let mut wire = b"550-5.7.1 first\r\n".to_vec();
        wire.extend(b"550-5.7.1 more\r\n".repeat(299));
        wire.extend_from_slice(b"550 5.7.1 last\r\n250 next\r\n");
        let mut input = Input { bytes: wire, read: 0 };
        let mut reader = ReplyReader::default();
        let mut next = || reader.take(&mut input, &mut Vec::new()).unwrap().unwrap();
        let reply = next();
        assert_eq!((reply.code(), reply.lines().count()), (550, REPLY_LINES_KEPT_MAX));
        assert_eq!(reply.lines().next(), Some("first"));
        assert_eq!(next().to_string(), "250 next", "the next reply begins after the last line of this one");
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for wire in [
            b"hello\r\n".to_vec(),
            b"25\r\n".to_vec(),
            b"150 x\r\n".to_vec(),
            b"250_x\r\n".to_vec(),
            b"250-a\r\n251 b\r\n".to_vec(),
            vec![b'2'; 5000],
            b"250-x\r\n".repeat(5000),
        ] {
            assert!(read(&wire).is_err());
        }
    }
}
