//! Where a header section ends, and the addresses in a header field: a strict reader of RFC 5322
//! address lists.
//!
//! It decides who a message says it is from, so it refuses whatever two mail programs could read in
//! two ways: obsolete forms, white space or comments inside an address, a second address in the
//! display name. It holds nothing and allocates nothing.

use std::fmt;

use crate::address::{Address, AddressError};
use crate::limits::HEADER_SECTION_BYTES_MAX;

/// Comments within comments; deeper nesting is in no real mail.
const COMMENT_DEPTH_MAX: usize = 16;

/// Why a field is no list of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// No address in it.
    Empty,
    /// Bytes that are not UTF-8, or control characters.
    Bytes,
    /// A quoted string, a comment or an angle bracket that does not end.
    Unclosed,
    /// A display name without an address.
    NoAddress,
    /// Something between addresses that is no comma.
    Separator,
    /// Something that is an address, and malformed.
    Address(AddressError),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no address"),
            Self::Bytes => f.write_str("there are bytes that are not text"),
            Self::Unclosed => f.write_str("a quote, a comment or a bracket does not end"),
            Self::NoAddress => f.write_str("a name stands without an address"),
            Self::Separator => f.write_str("addresses are not parted by commas"),
            Self::Address(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HeaderError {}

/// Reads the value of a From, Reply-To or Sender field, folded or not: mailboxes and groups (RFC
/// 5322 section 3.4, RFC 6854), each mailbox given to `each` in turn.
///
/// # Errors
/// The first thing that is wrong; what was given before it does not count.
pub fn addresses<'a>(value: &'a [u8], mut each: impl FnMut(Address<'a>)) -> Result<(), HeaderError> {
    let text = std::str::from_utf8(value).map_err(|_| HeaderError::Bytes)?;
    let mut reader = Reader { text, at: 0 };
    let mut count = 0;
    loop {
        reader.address(&mut |address| {
            count += 1;
            each(address);
        })?;
        match reader.peek() {
            None if count == 0 => return Err(HeaderError::Empty),
            None => return Ok(()),
            Some(b',') => reader.at += 1,
            Some(_) => return Err(HeaderError::Separator),
        }
    }
}

/// The header section at the start of a message in wire form, without the empty line that ends it;
/// cut at a line's end when it is longer than [`HEADER_SECTION_BYTES_MAX`].
#[must_use]
pub fn section(content: &[u8]) -> &[u8] {
    let mut end = 0;
    for line in content.split_inclusive(|&byte| byte == b'\n') {
        // A message without a body ends its header with the final dot.
        if line == b"\r\n" || line == b".\r\n" || end + line.len() > HEADER_SECTION_BYTES_MAX {
            break;
        }
        if !line.ends_with(b"\r\n") {
            break;
        }
        end += line.len();
    }
    &content[..end]
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// A mailbox or a group, and the white space after it.
    fn address(&mut self, each: &mut impl FnMut(Address<'a>)) -> Result<(), HeaderError> {
        match self.mailbox()? {
            Some(address) => each(address),
            None => {
                // The colon of a group is next.
                self.at += 1;
                self.space()?;
                while self.peek() != Some(b';') {
                    let address = self.mailbox()?.ok_or(HeaderError::Separator)?;
                    each(address);
                    match self.peek() {
                        Some(b',') => self.at += 1,
                        Some(b';') => {}
                        Some(_) => return Err(HeaderError::Separator),
                        None => return Err(HeaderError::Unclosed),
                    }
                }
                self.at += 1;
                self.space()?;
            }
        }
        Ok(())
    }

    /// A mailbox and the white space after it; `None` where a group's name ends in its colon.
    fn mailbox(&mut self) -> Result<Option<Address<'a>>, HeaderError> {
        self.space()?;
        let mut words = 0;
        loop {
            let start = self.at;
            match self.peek() {
                None if words == 0 && self.text.trim_ascii().is_empty() => return Err(HeaderError::Empty),
                Some(b':') if words > 0 => return Ok(None),
                Some(b'<') => {
                    let address = self.angle()?;
                    self.space()?;
                    return Ok(Some(address));
                }
                Some(byte) if is_word(byte) => self.word()?,
                Some(byte) if byte.is_ascii_control() => return Err(HeaderError::Bytes),
                _ => return Err(HeaderError::NoAddress),
            }
            if self.peek() == Some(b'@') {
                // A name before it would make it a second address in the display name.
                if words > 0 {
                    return Err(HeaderError::NoAddress);
                }
                let address = self.domain_of(start)?;
                self.space()?;
                return Ok(Some(address));
            }
            words += 1;
            self.space()?;
        }
    }

    /// `<name@domain>`.
    fn angle(&mut self) -> Result<Address<'a>, HeaderError> {
        self.at += 1;
        let start = self.at;
        match self.peek() {
            Some(byte) if is_word(byte) => self.word()?,
            Some(b'>') => return Err(HeaderError::Address(AddressError::Empty)),
            None => return Err(HeaderError::Unclosed),
            // A route (`<@a:b@c>`) is obsolete, and white space could hide what follows it.
            Some(_) => return Err(HeaderError::Address(AddressError::LocalPart)),
        }
        match self.peek() {
            Some(b'@') => {}
            None => return Err(HeaderError::Unclosed),
            Some(_) => return Err(HeaderError::Address(AddressError::Unqualified)),
        }
        let address = self.domain_of(start)?;
        match self.peek() {
            Some(b'>') => {
                self.at += 1;
                Ok(address)
            }
            None => Err(HeaderError::Unclosed),
            Some(_) => Err(HeaderError::Address(AddressError::Domain)),
        }
    }

    /// The rest of an address whose local part began at `start`; the @ is next.
    fn domain_of(&mut self, start: usize) -> Result<Address<'a>, HeaderError> {
        self.at += 1;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-_.[]:".contains(&byte)) {
            // Outside of a literal a colon belongs to no domain.
            if self.peek() == Some(b':') && !self.text[start..self.at].contains('[') {
                break;
            }
            self.at += 1;
        }
        Address::parse(&self.text[start..self.at]).map_err(HeaderError::Address)
    }

    /// An atom, dots among it (RFC 5322 section 4.1 allows them in display names), or a quoted string.
    fn word(&mut self) -> Result<(), HeaderError> {
        if self.peek() == Some(b'"') {
            return self.quoted();
        }
        while self.peek().is_some_and(|byte| is_word(byte) && byte != b'"') {
            self.at += 1;
        }
        Ok(())
    }

    fn quoted(&mut self) -> Result<(), HeaderError> {
        self.at += 1;
        loop {
            match self.peek().ok_or(HeaderError::Unclosed)? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escaped()?,
                b'\r' => self.fold()?,
                byte if byte.is_ascii_control() && byte != b'\t' => return Err(HeaderError::Bytes),
                _ => self.at += 1,
            }
        }
    }

    /// A backslash and what it stands before.
    fn escaped(&mut self) -> Result<(), HeaderError> {
        self.at += 1;
        match self.peek() {
            Some(byte) if (b' '..=b'~').contains(&byte) || byte == b'\t' => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(HeaderError::Bytes),
            None => Err(HeaderError::Unclosed),
        }
    }

    /// A line break that white space follows (RFC 5322 section 3.2.2).
    fn fold(&mut self) -> Result<(), HeaderError> {
        let rest = &self.text.as_bytes()[self.at..];
        match rest {
            [b'\r', b'\n', b' ' | b'\t', ..] => self.at += 3,
            // The end of the field.
            [b'\r', b'\n'] => self.at += 2,
            _ => return Err(HeaderError::Bytes),
        }
        Ok(())
    }

    /// White space, line breaks and comments.
    fn space(&mut self) -> Result<(), HeaderError> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t') => self.at += 1,
                Some(b'\r') => self.fold()?,
                Some(b'(') => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn comment(&mut self) -> Result<(), HeaderError> {
        let mut depth = 0;
        loop {
            match self.peek().ok_or(HeaderError::Unclosed)? {
                b'(' => {
                    depth += 1;
                    if depth > COMMENT_DEPTH_MAX {
                        return Err(HeaderError::Unclosed);
                    }
                    self.at += 1;
                }
                b')' => {
                    depth -= 1;
                    self.at += 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                b'\\' => self.escaped()?,
                b'\r' => self.fold()?,
                byte if byte.is_ascii_control() && byte != b'\t' => return Err(HeaderError::Bytes),
                _ => self.at += 1,
            }
        }
    }
}

/// What a word is made of: atext, the dot, the beginning of a quoted string, and UTF-8.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.\"".contains(&byte) || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> Result<Vec<&str>, HeaderError> {
        let mut found = Vec::new();
        addresses(value.as_bytes(), |address| found.push(address.text()))?;
        Ok(found)
    }

    #[test]
    fn every_mailbox_of_a_field_is_found() {
        for (value, expected) in [
            (" terri@d.example\r\n", &["terri@d.example"][..]),
            ("Terri <terri@d.example>", &["terri@d.example"]),
            ("Terri Q. Chornia <terri@d.example> (at home)", &["terri@d.example"]),
            ("\"Chornia, Terri\" <terri@d.example>", &["terri@d.example"]),
            ("\"a@x.example\" <terri@d.example>", &["terri@d.example"]),
            ("\"\\\"<a@x.example>\" <terri@d.example>", &["terri@d.example"]),
            ("=?utf-8?Q?T=C3=A9rri?=\r\n =?utf-8?B?w6k=?= <terri@d.example>", &["terri@d.example"]),
            ("T\u{e9}rri <terri@d.example>", &["terri@d.example"]),
            ("(ann@x.example (nested \\) )) terri@d.example", &["terri@d.example"]),
            ("terri@d.example,\r\n\tAnn <ann@x.example>", &["terri@d.example", "ann@x.example"]),
            ("Staff: terri@d.example, Ann <ann@x.example>;", &["terri@d.example", "ann@x.example"]),
            ("Staff: terri@d.example;, bob@x.example", &["terri@d.example", "bob@x.example"]),
            ("\"a b\"@d.example", &["\"a b\"@d.example"]),
            ("terri@[192.0.2.1]", &["terri@[192.0.2.1]"]),
            ("<terri@[IPv6:2001:db8::1]>", &["terri@[IPv6:2001:db8::1]"]),
        ] {
            assert_eq!(read(value).as_deref(), Ok(expected), "{value:?}");
        }
    }

    #[test]
    fn what_two_programs_could_read_in_two_ways_is_refused() {
        for value in [
            "",
            " \r\n",
            "()",
            "Terri",
            "undisclosed:;",
            "<>",
            "terri@d.example, ",
            ", terri@d.example",
            "terri@d.example,,ann@x.example",
            "terri@d.example ann@x.example",
            "terri@d.example <ann@x.example>",
            "Terri terri@d.example",
            "<terri@d.example> <ann@x.example>",
            "<terri@d.example>ann@x.example",
            "ann@x.example@d.example",
            "<ann@x.example>@d.example",
            "terri @d.example",
            "terri@ d.example",
            "terri(c)@d.example",
            "terri@(c)d.example",
            "terri@d.example(c).x.example",
            "terri@d .example",
            "<terri@d.example",
            "< terri@d.example>",
            "<terri@d.example >",
            "<@x.example:terri@d.example>",
            "\"Terri <terri@d.example>",
            "(Terri terri@d.example",
            "Staff: terri@d.example",
            "Staff: Inner: terri@d.example;;",
            ": terri@d.example;",
            "terri@d.example;",
            "terri@d.example\r\nann@x.example",
            "terri\u{0}@d.example",
            "\"a\u{7}\" <terri@d.example>",
            "terri@d\u{e9}.example",
            "t\u{e9}rri@d.example",
            "[terri@d.example]",
            "terri@d.example:ann@x.example",
        ] {
            assert!(read(value).is_err(), "{value:?}: {:?}", read(value));
        }
        assert_eq!(addresses(b"T\xe9rri <terri@d.example>", |_| ()), Err(HeaderError::Bytes));
        assert!(read(&format!("{}x{} a@b", "(".repeat(17), ")".repeat(17))).is_err());
    }

    #[test]
    fn the_section_ends_at_the_empty_line_or_the_final_dot() {
        let table: [(&[u8], &[u8]); 5] = [
            (b"A: b\r\n c\r\n\r\nbody\r\n", b"A: b\r\n c\r\n"),
            (b"A: b\r\n.\r\n", b"A: b\r\n"),
            (b"A: b\r\nB", b"A: b\r\n"),
            (b"\r\nbody", b""),
            (b"", b""),
        ];
        for (content, header) in table {
            assert_eq!(section(content), header);
        }
        let long = b"A: b\r\n".repeat(HEADER_SECTION_BYTES_MAX);
        let header = section(&long);
        assert!(header.len() <= HEADER_SECTION_BYTES_MAX && header.ends_with(b"A: b\r\n"));
    }

    proptest! {
        #[test]
        fn no_field_makes_it_panic_and_every_address_it_gives_stands_in_the_field(
            value in "[a@<>(),:;.\"\\\\ \r\n\t\\[\\]\u{e9}1=?-]{0,40}",
        ) {
            if let Ok(found) = read(&value) {
                prop_assert!(!found.is_empty());
                for address in found {
                    prop_assert!(value.contains(address) && Address::parse(address).is_ok());
                }
            }
        }
    }
}
