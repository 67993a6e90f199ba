//! The header that a proxy sends ahead of a connection: the PROXY protocol (HAProxy's
//! proxy-protocol.txt), version 1 in text and version 2 in binary.
//!
//! [`parse`] reads whatever has come so far and takes nothing that the protocol does not allow: who
//! writes this header says who the client is. It neither allocates nor waits, and looks at no more
//! than [`HEADER_BYTES_MAX`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use memchr::memchr;

/// The longest header that is read. Version 2 could announce 65,551 bytes; its extensions (a TLS
/// certificate's name, say) take a few hundred.
pub const HEADER_BYTES_MAX: usize = 4096;

/// What a header of version 1 begins with.
const V1: &[u8] = b"PROXY ";
/// A header of version 1, its CRLF included (section 2.1).
const V1_BYTES_MAX: usize = 107;
/// What a header of version 2 begins with (section 2.2).
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family, and the length of the rest.
const V2_FIXED_BYTES: usize = 16;
/// The extension that holds a CRC-32C of the whole header (section 2.2.3).
const TLV_CRC32C: u8 = 0x03;

/// A header that came whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose connection it is. `None` where the proxy names no client: it speaks for itself (LOCAL), or
    /// does not know (UNKNOWN, or a transport other than TCP).
    pub client: Option<SocketAddr>,
    /// How long the header is; what follows is the client's.
    pub bytes: usize,
}

/// What is wrong with a header, or with its absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Something else came, or nothing in time.
    Missing,
    /// It began as a header, and does not go on as one.
    Malformed,
    /// It is longer than [`HEADER_BYTES_MAX`], or version 1 allows.
    TooLong,
    /// Its checksum is wrong.
    Checksum,
    /// It came from a peer whose word does not count.
    Unlisted,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 5] =
        [Self::Missing, Self::Malformed, Self::TooLong, Self::Checksum, Self::Unlisted];

    /// A stable lower-case word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::Checksum => "checksum",
            Self::Unlisted => "unlisted",
        }
    }
}

/// Reads a header of either version at the start of `input`; `None`: there is more to come.
///
/// # Errors
/// `input` begins with no header, or with a wrong one.
pub fn parse(input: &[u8]) -> Result<Option<Header>, Fault> {
    if begins(input, V1) {
        parse_v1(input)
    } else if begins(input, V2) {
        parse_v2(input)
    } else {
        Err(Fault::Missing)
    }
}

/// Whether `input` begins with `signature`, as far as it goes.
fn begins(input: &[u8], signature: &[u8]) -> bool {
    let length = input.len().min(signature.len());
    input[..length] == signature[..length]
}

/// `PROXY TCP4 source destination source-port destination-port`, CRLF.
fn parse_v1(input: &[u8]) -> Result<Option<Header>, Fault> {
    let window = &input[..input.len().min(V1_BYTES_MAX)];
    let Some(end) = memchr(b'\n', window) else {
        return if input.len() < V1_BYTES_MAX { Ok(None) } else { Err(Fault::TooLong) };
    };
    let line = window[..end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(V1));
    let line = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or(Fault::Malformed)?;
    let (family, rest) = line.split_once(' ').unwrap_or((line, ""));
    let client = match family {
        "TCP4" => Some(v1_client::<Ipv4Addr>(rest).ok_or(Fault::Malformed)?),
        "TCP6" => Some(v1_client::<Ipv6Addr>(rest).ok_or(Fault::Malformed)?),
        // What follows UNKNOWN is to be ignored.
        "UNKNOWN" => None,
        _ => return Err(Fault::Malformed),
    };
    Ok(Some(Header { client: client.and_then(known), bytes: end + 1 }))
}

fn v1_client<A: FromStr + Into<IpAddr>>(text: &str) -> Option<SocketAddr> {
    let mut words = text.split(' ');
    let mut next = || words.next();
    let source: A = next()?.parse().ok()?;
    let _destination: A = next()?.parse().ok()?;
    let port = v1_port(next()?)?;
    v1_port(next()?)?;
    words.next().is_none().then(|| SocketAddr::new(source.into(), port))
}

/// A port in its only form: no sign, no leading zero.
fn v1_port(word: &str) -> Option<u16> {
    let canonical = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| canonical)
}

fn parse_v2(input: &[u8]) -> Result<Option<Header>, Fault> {
    let Some(fixed) = input.first_chunk::<V2_FIXED_BYTES>() else { return Ok(None) };
    let is_local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(Fault::Malformed),
    };
    let family = fixed[13];
    let bytes = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if bytes > HEADER_BYTES_MAX {
        return Err(Fault::TooLong);
    }
    let Some(header) = input.get(..bytes) else { return Ok(None) };
    if is_local {
        // Family and addresses of LOCAL are to be ignored, whatever they are.
        return Ok(Some(Header { client: None, bytes }));
    }
    let rest = &header[V2_FIXED_BYTES..];
    let (client, addresses_bytes) = match family {
        0x00 => (None, 0),
        0x11 => (Some(v2_client_v4(rest)?), 12),
        0x21 => (Some(v2_client_v6(rest)?), 36),
        // A stream from a Unix socket: no address that policy knows.
        0x31 => (None, 216),
        _ => return Err(Fault::Malformed),
    };
    // Of an unspecified family nothing is known, and so not where its extensions begin.
    if family != 0x00 {
        check_extensions(header, V2_FIXED_BYTES + addresses_bytes)?;
    }
    Ok(Some(Header { client: client.and_then(known), bytes }))
}

fn v2_client_v4(rest: &[u8]) -> Result<SocketAddr, Fault> {
    let fields: &[u8; 12] = rest.first_chunk().ok_or(Fault::Malformed)?;
    let address = Ipv4Addr::new(fields[0], fields[1], fields[2], fields[3]);
    Ok((address, u16::from_be_bytes([fields[8], fields[9]])).into())
}

fn v2_client_v6(rest: &[u8]) -> Result<SocketAddr, Fault> {
    let fields: &[u8; 36] = rest.first_chunk().ok_or(Fault::Malformed)?;
    let address: [u8; 16] = *fields.first_chunk().ok_or(Fault::Malformed)?;
    Ok((Ipv6Addr::from(address), u16::from_be_bytes([fields[32], fields[33]])).into())
}

/// Walks the extensions, which must fill the header, and holds it against its checksum if it has one.
fn check_extensions(header: &[u8], mut at: usize) -> Result<(), Fault> {
    if at > header.len() {
        return Err(Fault::Malformed);
    }
    while at < header.len() {
        let fixed: &[u8; 3] = header[at..].first_chunk().ok_or(Fault::Malformed)?;
        let value = at + 3;
        let end = value + usize::from(u16::from_be_bytes([fixed[1], fixed[2]]));
        let bytes = header.get(value..end).ok_or(Fault::Malformed)?;
        if fixed[0] == TLV_CRC32C {
            let claimed = u32::from_be_bytes(*bytes.as_array().ok_or(Fault::Malformed)?);
            // It was computed with its own field zeroed.
            let before = crc32c::crc32c(&header[..value]);
            let zeroed = crc32c::crc32c_append(before, &[0; 4]);
            if crc32c::crc32c_append(zeroed, &header[end..]) != claimed {
                return Err(Fault::Checksum);
            }
        }
        at = end;
    }
    Ok(())
}

/// The unspecified address stands for no client.
fn known(client: SocketAddr) -> Option<SocketAddr> {
    let address = client.ip().to_canonical();
    (!address.is_unspecified()).then(|| SocketAddr::new(address, client.port()))
}

/// Watches the first bytes of a connection for a header that was not asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Watch {
    /// Nothing has come.
    #[default]
    Fresh,
    /// What has come is the start of a header; this is the rest of its signature.
    Matching(&'static [u8]),
    /// Something else has come.
    Over,
}

impl Watch {
    /// Takes the next bytes; true once they complete a signature.
    pub(crate) fn sees_header(&mut self, input: &[u8]) -> bool {
        let signature = match (*self, input.first()) {
            (_, None) | (Self::Over, _) => return false,
            (Self::Matching(rest), _) => rest,
            (Self::Fresh, Some(b'P')) => V1,
            (Self::Fresh, _) => V2,
        };
        if !begins(input, signature) {
            *self = Self::Over;
            return false;
        }
        let rest = signature.get(input.len()..).unwrap_or_default();
        *self = if rest.is_empty() { Self::Over } else { Self::Matching(rest) };
        rest.is_empty()
    }
}

#[cfg(test)]
mod tests;
