use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The port of SMTP between servers.
pub const SMTP_PORT: u16 = 25;

/// A server that mail is handed to: a name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// A host name in lower case, or an address without brackets.
    pub host: Box<str>,
    /// The TCP port.
    pub port: u16,
}

impl NextHop {
    /// The address, where the host is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// Why a text names no next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopError {
    /// No host name and no address.
    Host,
    /// No number from 1 to 65535 after the colon.
    Port,
    /// An IPv6 address without brackets: its port cannot be told from it.
    Brackets,
}

impl fmt::Display for NextHopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "the host is neither a name nor an address",
            Self::Port => "the port is no number from 1 to 65535",
            Self::Brackets => "an IPv6 address stands in brackets, as in [2001:db8::1]:25",
        })
    }
}

impl std::error::Error for NextHopError {}

impl FromStr for NextHop {
    type Err = NextHopError;

    /// Reads `host`, `host:port`, `192.0.2.1:25` or `[2001:db8::1]:25`; without a port it is 25.
    fn from_str(text: &str) -> Result<Self, NextHopError> {
        if let Some(rest) = text.strip_prefix('[') {
            let (inner, after) = rest.split_once(']').ok_or(NextHopError::Brackets)?;
            let address: Ipv6Addr = inner.parse().map_err(|_| NextHopError::Host)?;
            let port = match after {
                "" => SMTP_PORT,
                _ => parse_port(after.strip_prefix(':').ok_or(NextHopError::Port)?)?,
            };
            return Ok(Self { host: address.to_string().into(), port });
        }
        if text.parse::<Ipv6Addr>().is_ok() || text.matches(':').count() > 1 {
            return Err(NextHopError::Brackets);
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, parse_port(port)?),
            None => (text, SMTP_PORT),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        if !is_host(host) {
            return Err(NextHopError::Host);
        }
        Ok(Self { host: host.to_ascii_lowercase().into(), port })
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

fn parse_port(text: &str) -> Result<u16, NextHopError> {
    text.parse().ok().filter(|&port| port != 0).ok_or(NextHopError::Port)
}

fn is_host(text: &str) -> bool {
    text.len() <= mail::limits::DOMAIN_BYTES_MAX
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_hop_reads_as_people_write_it() {
        for (text, canonical) in [
            ("mx.example", "mx.example:25"),
            ("MX.example.:2525", "mx.example:2525"),
            ("192.0.2.1", "192.0.2.1:25"),
            ("[2001:db8::1]", "[2001:db8::1]:25"),
            ("[2001:DB8:0::1]:587", "[2001:db8::1]:587"),
        ] {
            assert_eq!(
                text.parse::<NextHop>().map(|hop| hop.to_string()),
                Ok(canonical.to_owned()),
                "{text}"
            );
        }
        for (text, error) in [
            ("", NextHopError::Host),
            ("a b", NextHopError::Host),
            ("mx.example:", NextHopError::Port),
            ("mx.example:0", NextHopError::Port),
            ("mx.example:70000", NextHopError::Port),
            ("2001:db8::1", NextHopError::Brackets),
            ("[2001:db8::1", NextHopError::Brackets),
            ("[mx.example]:25", NextHopError::Host),
        ] {
            assert_eq!(text.parse::<NextHop>(), Err(error), "{text}");
        }
    }
}
