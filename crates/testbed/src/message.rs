//! Numbered messages: every one is different, can be recognised when it arrives, and is a function
//! of its serial number and seed.

use std::hash::{DefaultHasher, Hasher};

use crate::random::Random;

/// The header field that carries a message's serial number through the gateway.
pub const SERIAL_FIELD: &str = "X-Ledger-Serial";

/// Length and hash of a message's content: equal when the content is, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint {
    /// Content length in bytes, without dot-stuffing and without the final dot.
    pub bytes: u64,
    /// Hash of the content.
    pub hash: u64,
}

impl Fingerprint {
    /// The fingerprint of `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(content);
        Self { bytes: content.len() as u64, hash: hasher.finish() }
    }
}

/// The content of message `serial`: CRLF lines, not dot-stuffed, about `body_bytes` of body.
///
/// The body has what breaks gateways: lines that begin with one and two dots, a line of a single dot,
/// empty lines, 8-bit bytes and a line longer than 998 octets when there is room for it.
#[must_use]
pub fn content(serial: u64, seed: u64, body_bytes: usize) -> Vec<u8> {
    let mut random = Random::new(seed ^ serial.wrapping_mul(0x2545_F491_4F6C_DD1D));
    let mut content = format!(
        "From: ledger@proseware.example\r\nTo: ledger@far.example\r\n\
         Date: Mon, 01 Jun 2026 12:00:00 +0000\r\nMessage-ID: <{serial}.{seed}@proseware.example>\r\n\
         Subject: ledger message {serial}\r\n{SERIAL_FIELD}: {serial}\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\n"
    )
    .into_bytes();
    let end = content.len() + body_bytes;
    while content.len() < end {
        push_line(&mut content, &mut random, end);
    }
    content
}

fn push_line(content: &mut Vec<u8>, random: &mut Random, end: usize) {
    let room = end.saturating_sub(content.len() + 2);
    match random.below(16) {
        0 => content.extend_from_slice(b"."),
        1 => content.extend_from_slice(b"..two dots"),
        2 => content.extend_from_slice(b".one dot"),
        3 => {}
        4 => content.extend_from_slice("Gr\u{fc}\u{df}e, \u{4f60}\u{597d}".as_bytes()),
        kind => {
            let longest = if kind == 5 { 5000 } else { 76 };
            let length = usize::try_from(random.below(longest)).expect("below 5000").min(room);
            // Sixty-four printable characters, none of them a dot or a control.
            content.extend((0..length).map(|_| b';' + u8::try_from(random.below(64)).expect("below 64")));
        }
    }
    content.extend_from_slice(b"\r\n");
}

/// `content` as it goes over the wire after 354: dot-stuffed, with the final dot (RFC 5321, 4.5.2).
#[must_use]
pub fn to_wire(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + content.len() / 64 + 5);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    if !content.is_empty() && !content.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// `content` without its first header field when that is the `Received:` of the last hop.
#[must_use]
pub fn without_trace(content: &[u8]) -> &[u8] {
    if !content.get(..9).is_some_and(|name| name.eq_ignore_ascii_case(b"received:")) {
        return content;
    }
    let mut end = 0;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if end > 0 && !matches!(line.first(), Some(b' ' | b'\t')) {
            break;
        }
        end += line.len();
    }
    &content[end..]
}

/// The serial number that `content` carries, also when it is quoted in a bounce.
#[must_use]
pub fn serial_of(content: &[u8]) -> Option<u64> {
    field(content, SERIAL_FIELD).next()?.parse().ok()
}

/// The values of every line of `content` that reads as the header field `name`.
pub(crate) fn field<'a>(content: &'a [u8], name: &'a str) -> impl Iterator<Item = String> + 'a {
    content.split(|byte| *byte == b'\n').filter_map(move |line| {
        let (head, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        head.eq_ignore_ascii_case(name.as_bytes()).then(|| String::from_utf8_lossy(value).trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_received_field_is_removed_and_only_the_first() {
        let content = b"Received: from a\r\n by b;\r\n\tnow\r\nReceived: older\r\nSubject: x\r\n\r\nhi\r\n";
        assert_eq!(without_trace(content), b"Received: older\r\nSubject: x\r\n\r\nhi\r\n");
        assert_eq!(without_trace(b"Subject: x\r\n"), b"Subject: x\r\n");
    }

    #[test]
    fn a_leading_dot_is_doubled_on_the_wire() {
        assert_eq!(to_wire(b".a\r\nb\r\n.\r\n"), b"..a\r\nb\r\n..\r\n.\r\n");
    }

    #[test]
    fn a_message_is_a_function_of_serial_and_seed() {
        assert_eq!(content(7, 1, 9000), content(7, 1, 9000));
        assert_ne!(content(7, 1, 9000), content(8, 1, 9000));
        assert_eq!(serial_of(&content(7, 1, 9000)), Some(7));
    }

    #[test]
    fn lines_end_in_crlf_and_hold_no_bare_newline() {
        let content = content(3, 9, 200_000);
        let newlines = content.iter().filter(|byte| **byte == b'\n').count();
        let returns = content.iter().filter(|byte| **byte == b'\r').count();
        let pairs = content.windows(2).filter(|pair| pair == b"\r\n").count();
        assert_eq!((newlines, returns), (pairs, pairs));
    }
}
