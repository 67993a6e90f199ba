use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::limits::{ADDRESS_BYTES_MAX, DOMAIN_BYTES_MAX, LOCAL_PART_BYTES_MAX};

/// A mailbox: `local-part@domain` (RFC 5321 section 4.1.2), as it was written.
///
/// Borrowed from the bytes it was parsed from, and sent on as it was written. Wherever Gatepost
/// compares addresses it compares their [canonical](Self::canonical) forms, without regard to case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address<'a> {
    text: &'a str,
    at: usize,
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// Nothing there.
    Empty,
    /// No domain.
    Unqualified,
    /// The local part is no dot-string and no quoted string.
    LocalPart,
    /// The domain is no host name and no address literal.
    Domain,
    /// Longer than [`LOCAL_PART_BYTES_MAX`] or [`DOMAIN_BYTES_MAX`].
    TooLong,
    /// Characters outside ASCII need SMTPUTF8, which is not offered.
    NonAscii,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the address is empty",
            Self::Unqualified => "the address has no domain",
            Self::LocalPart => "the part before the @ is malformed",
            Self::Domain => "the domain is malformed",
            Self::TooLong => "the address is too long",
            Self::NonAscii => "the address holds characters outside ASCII",
        })
    }
}

impl std::error::Error for AddressError {}

/// A way of hiding a second address in a recipient: refused outright, from anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutingTrick {
    /// `@a,@b:c@d`.
    SourceRoute,
    /// `c%d@us`.
    PercentHack,
    /// `d!c`.
    BangPath,
    /// `"c@d"@us`, `c@d@us`.
    HiddenAddress,
    /// `c@[192.0.2.1]`.
    DomainLiteral,
    /// `c`.
    Unqualified,
}

impl RoutingTrick {
    /// The name a person knows it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SourceRoute => "a source route",
            Self::PercentHack => "the percent hack",
            Self::BangPath => "a bang path",
            Self::HiddenAddress => "an address hidden in the local part",
            Self::DomainLiteral => "a domain literal",
            Self::Unqualified => "an address without a domain",
        }
    }
}

impl<'a> Address<'a> {
    /// Reads an address, without angle brackets.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &'a str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if !text.is_ascii() {
            return Err(AddressError::NonAscii);
        }
        let at = text.rfind('@').ok_or(AddressError::Unqualified)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if local.len() > LOCAL_PART_BYTES_MAX || domain.len() > DOMAIN_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        if !is_local_part(local) {
            // An unclosed quote means that the last @ stood inside it.
            let unqualified = local.starts_with('"') && is_local_part(text);
            return Err(if unqualified { AddressError::Unqualified } else { AddressError::LocalPart });
        }
        if !is_host_name(domain) && !is_address_literal(domain) {
            return Err(AddressError::Domain);
        }
        Ok(Self { text, at })
    }

    /// An address out of a text that was read as one before: `at` is the place of its @.
    pub(crate) fn known(text: &'a str, at: usize) -> Self {
        debug_assert_eq!(Self::parse(text), Ok(Self { text, at }));
        Self { text, at }
    }

    /// The place of its @.
    pub(crate) fn at(self) -> usize {
        self.at
    }

    /// The whole address.
    #[must_use]
    pub fn text(self) -> &'a str {
        self.text
    }

    /// What stands before the @, quotes included.
    #[must_use]
    pub fn local_part(self) -> &'a str {
        &self.text[..self.at]
    }

    /// What stands after the @, in the case in which it was written.
    #[must_use]
    pub fn domain(self) -> &'a str {
        &self.text[self.at + 1..]
    }

    /// The form in which every spelling of one mailbox is the same but for case (RFC 5321 section
    /// 4.1.2): without quotes where the local part needs none, and without a backslash before what
    /// needs none. An address without quotes is in that form already.
    #[must_use]
    pub fn canonical(self, buffer: &'a mut [u8; ADDRESS_BYTES_MAX]) -> Self {
        let (local, rest) = self.text.as_bytes().split_at(self.at);
        let [b'"', content @ .., b'"'] = local else { return self };
        let mut bytes = content.iter();
        let mut is_plain = !content.is_empty();
        // After an opening quote, which is left out in the end where it is not needed.
        buffer[0] = b'"';
        let mut end = 1;
        while let Some(&byte) = bytes.next() {
            let byte = if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte };
            if matches!(byte, b'"' | b'\\') {
                buffer[end] = b'\\';
                end += 1;
            }
            buffer[end] = byte;
            end += 1;
            is_plain &= is_atext(byte) || byte == b'.';
        }
        let start = usize::from(is_plain);
        if !is_plain {
            buffer[end] = b'"';
            end += 1;
        }
        buffer[end..end + rest.len()].copy_from_slice(rest);
        let text = std::str::from_utf8(&buffer[start..end + rest.len()]);
        text.map_or(self, |text| Self { text, at: end - start })
    }

    /// The address without its tag: `terri@d.example` for `terri+shop@d.example`. `None` where there
    /// is none: no plus, nothing before it, or a local part in quotes, which a canonical one has where
    /// it needs them.
    #[must_use]
    pub fn untagged(self, buffer: &mut [u8; ADDRESS_BYTES_MAX]) -> Option<Address<'_>> {
        let plus = self.local_part().find('+').filter(|&plus| plus > 0 && !self.text.starts_with('"'))?;
        let rest = &self.text.as_bytes()[self.at..];
        let base = buffer.get_mut(..plus + rest.len())?;
        base[..plus].copy_from_slice(&self.text.as_bytes()[..plus]);
        base[plus..].copy_from_slice(rest);
        let text = std::str::from_utf8(base).ok()?;
        Some(Address { text, at: plus })
    }

    /// `[192.0.2.1]` rather than a name.
    #[must_use]
    pub fn has_domain_literal(self) -> bool {
        self.domain().starts_with('[')
    }

    /// The way in which this address hides another one, if it does.
    #[must_use]
    pub fn routing_trick(self) -> Option<RoutingTrick> {
        let local = self.local_part();
        let quoted = local.starts_with('"');
        if local.contains('@') || quoted && local.contains(['%', '!', ':']) {
            Some(RoutingTrick::HiddenAddress)
        } else if local.contains('%') {
            Some(RoutingTrick::PercentHack)
        } else if local.contains('!') {
            Some(RoutingTrick::BangPath)
        } else if self.has_domain_literal() {
            Some(RoutingTrick::DomainLiteral)
        } else {
            None
        }
    }
}

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// The sender of an envelope (RFC 5321 section 4.1.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath<'a> {
    /// `<>`: a notification, which must not be answered.
    Null,
    /// A mailbox.
    Address(Address<'a>),
}

impl<'a> ReversePath<'a> {
    /// Reads what stood between the angle brackets. A source route is accepted and ignored, as RFC
    /// 5321 section 3.6.1 asks; it would only say how to send a bounce.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &'a str) -> Result<Self, AddressError> {
        match text {
            "" => Ok(Self::Null),
            _ => Address::parse(after_source_route(text).unwrap_or(text)).map(Self::Address),
        }
    }

    /// The text, empty for the null reverse-path.
    #[must_use]
    pub fn text(self) -> &'a str {
        match self {
            Self::Null => "",
            Self::Address(address) => address.text(),
        }
    }

    /// The mailbox, if it is one.
    #[must_use]
    pub fn address(self) -> Option<Address<'a>> {
        match self {
            Self::Null => None,
            Self::Address(address) => Some(address),
        }
    }
}

impl fmt::Display for ReversePath<'_> {
    /// With angle brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text())
    }
}

/// A recipient as the client wrote it (RFC 5321 section 4.1.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardPath<'a> {
    /// A mailbox, perhaps one with an [`Address::routing_trick`].
    Address(Address<'a>),
    /// Not even a mailbox: the syntax itself is the trick.
    Trick {
        /// What stood between the angle brackets.
        text: &'a str,
        /// Which trick.
        trick: RoutingTrick,
    },
}

impl<'a> ForwardPath<'a> {
    /// Reads what stood between the angle brackets.
    ///
    /// # Errors
    /// What is wrong with it, when it is neither a mailbox nor a known trick.
    pub fn parse(text: &'a str) -> Result<Self, AddressError> {
        let trick = |trick| Ok(Self::Trick { text, trick });
        if after_source_route(text).is_some() {
            return trick(RoutingTrick::SourceRoute);
        }
        match Address::parse(text) {
            Ok(address) => Ok(Self::Address(address)),
            Err(AddressError::Unqualified) if text.contains('!') => trick(RoutingTrick::BangPath),
            Err(AddressError::Unqualified) if is_local_part(text) => trick(RoutingTrick::Unqualified),
            Err(AddressError::LocalPart) if text.matches('@').count() > 1 => {
                trick(RoutingTrick::HiddenAddress)
            }
            Err(error) => Err(error),
        }
    }

    /// The text between the angle brackets.
    #[must_use]
    pub fn text(self) -> &'a str {
        match self {
            Self::Address(address) => address.text(),
            Self::Trick { text, .. } => text,
        }
    }

    /// The routing trick in it, if there is one.
    #[must_use]
    pub fn routing_trick(self) -> Option<RoutingTrick> {
        match self {
            Self::Address(address) => address.routing_trick(),
            Self::Trick { trick, .. } => Some(trick),
        }
    }
}

impl fmt::Display for ForwardPath<'_> {
    /// With angle brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text())
    }
}

/// What follows `@a,@b:`, if the path begins so.
fn after_source_route(text: &str) -> Option<&str> {
    text.starts_with('@').then(|| text.split_once(':').map(|(_, rest)| rest))?
}

/// A dot-string or a quoted string. Dots may stand anywhere: real addresses have them at the end
/// and doubled, and refusing those protects no reader.
fn is_local_part(text: &str) -> bool {
    match text.as_bytes() {
        [] => false,
        [b'"', inner @ .., b'"'] => is_quoted_content(inner),
        bytes => bytes.iter().all(|&byte| is_atext(byte) || byte == b'.'),
    }
}

/// The inside of a quoted string: printable, quotes and backslashes escaped.
fn is_quoted_content(bytes: &[u8]) -> bool {
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        let fine = match byte {
            b'\\' => rest.next().is_some_and(|next| (b' '..=b'~').contains(next)),
            b'"' => false,
            _ => (b' '..=b'~').contains(&byte),
        };
        if !fine {
            return false;
        }
    }
    true
}

/// RFC 5322 section 3.2.3.
fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// Whether a text is the name of a host: labels of letters, digits, hyphens and (as found in the wild)
/// underscores, without empty ones.
#[must_use]
pub fn is_host_name(text: &str) -> bool {
    text.split('.').all(|label| {
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes[0] != b'-'
            && bytes[bytes.len() - 1] != b'-'
            && bytes.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3).
fn is_address_literal(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        return false;
    };
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner[5..].parse::<Ipv6Addr>().is_ok(),
        _ => inner.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_what_only_looks_like_one() {
        for good in [
            "a@b",
            "a.b+c@d.example",
            "\"a b\"@c.example",
            "\"a@b\"@c.example",
            "a@[192.0.2.1]",
            "a@[IPv6:2001:db8::1]",
            "a..b@c.example",
            "a@_dmarc.example",
        ] {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
        for (bad, error) in [
            ("", AddressError::Empty),
            ("a", AddressError::Unqualified),
            ("\"a@b\"", AddressError::Unqualified),
            ("@b", AddressError::LocalPart),
            ("a@", AddressError::Domain),
            ("a@b..c", AddressError::Domain),
            ("a@-b", AddressError::Domain),
            ("a@[192.0.2]", AddressError::Domain),
            ("a b@c", AddressError::LocalPart),
            ("a@b@c", AddressError::LocalPart),
            ("a\"b@c", AddressError::LocalPart),
            ("\u{e9}@b", AddressError::NonAscii),
        ] {
            assert_eq!(Address::parse(bad), Err(error), "{bad}");
        }
    }

    #[test]
    fn however_a_mailbox_is_quoted_its_canonical_form_is_the_same() {
        let long = "a".repeat(LOCAL_PART_BYTES_MAX - 2);
        let (quoted, plain) = (format!("\"{long}\"@d.example"), format!("{long}@d.example"));
        for (text, expected) in [
            ("terri@D.example", "terri@D.example"),
            ("\"terri\"@d.example", "terri@d.example"),
            ("\"\\t\\e\\rri\"@d.example", "terri@d.example"),
            ("\"Te.rri+x\"@d.example", "Te.rri+x@d.example"),
            ("\".\\.terri\"@[192.0.2.1]", "..terri@[192.0.2.1]"),
            ("\"\"@d.example", "\"\"@d.example"),
            ("\"a b\"@d.example", "\"a b\"@d.example"),
            ("\"\\a\\ b\"@d.example", "\"a b\"@d.example"),
            ("\"a\\\"\\\\\\,\"@d.example", "\"a\\\"\\\\,\"@d.example"),
            (&quoted, &plain),
        ] {
            let mut buffer = [0; ADDRESS_BYTES_MAX];
            let canonical = Address::parse(text).unwrap().canonical(&mut buffer);
            assert_eq!(canonical, Address::parse(expected).unwrap(), "{text}");
            let mut buffer = [0; ADDRESS_BYTES_MAX];
            assert_eq!(canonical.canonical(&mut buffer), canonical, "{text}");
        }
    }

    #[test]
    fn a_tag_is_what_follows_the_first_plus_of_a_plain_local_part() {
        for (text, base) in [
            ("terri+shop@d.example", Some("terri@d.example")),
            ("terri+a+b@d.example", Some("terri@d.example")),
            ("terri+@d.example", Some("terri@d.example")),
            ("terri@d.example", None),
            ("+terri@d.example", None),
            ("\"terri+shop\"@d.example", None),
        ] {
            let mut buffer = [0; ADDRESS_BYTES_MAX];
            let untagged = Address::parse(text).unwrap().untagged(&mut buffer);
            assert_eq!(untagged, base.map(|base| Address::parse(base).unwrap()), "{text}");
        }
    }

    #[test]
    fn every_routing_trick_is_recognised() {
        for (text, trick) in [
            ("@a,@b:c@d", RoutingTrick::SourceRoute),
            ("c%d@us.example", RoutingTrick::PercentHack),
            ("d!c@us.example", RoutingTrick::BangPath),
            ("d!c", RoutingTrick::BangPath),
            ("\"c@d\"@us.example", RoutingTrick::HiddenAddress),
            ("\"c%d\"@us.example", RoutingTrick::HiddenAddress),
            ("c@d@us.example", RoutingTrick::HiddenAddress),
            ("c@d@[192.0.2.1]", RoutingTrick::HiddenAddress),
            ("c@[192.0.2.1]", RoutingTrick::DomainLiteral),
            ("\"c@d\"", RoutingTrick::Unqualified),
            ("c%d", RoutingTrick::Unqualified),
        ] {
            assert_eq!(ForwardPath::parse(text).unwrap().routing_trick(), Some(trick), "{text}");
        }
        assert_eq!(ForwardPath::parse("c@d.example").unwrap().routing_trick(), None);
    }

    #[test]
    fn a_reverse_path_loses_its_source_route() {
        assert_eq!(ReversePath::parse(""), Ok(ReversePath::Null));
        assert_eq!(ReversePath::parse("@a:b@c").unwrap().text(), "b@c");
    }
}
