//! Ports that our own sections use: each only once, whatever addresses stand before them.

use std::net::{IpAddr, SocketAddr};

use policy::Sourced;

use crate::error::Report;
use crate::section::Section;

/// A port that a section listens on.
pub(crate) struct Port {
    /// As a message calls it: `listener "smtp"`, `[metrics]`.
    pub(crate) what: String,
    pub(crate) key: &'static str,
    pub(crate) address: Sourced<SocketAddr>,
}

/// The address that a section listens on, each of which is noted in `ports`.
pub(crate) fn port(
    section: &Section<'_>,
    what: &str,
    key: &'static str,
    ports: &mut Vec<Port>,
    report: &mut Report,
) -> Option<SocketAddr> {
    let address = address(section, report)?;
    ports.push(Port { what: what.to_owned(), key, address: address.clone() });
    Some(address.value)
}

/// The same where another section notes it.
pub(crate) fn address(section: &Section<'_>, report: &mut Report) -> Option<Sourced<SocketAddr>> {
    section.demand("address", "\"127.0.0.1:9187\"", report);
    let remedy = "write an address and a port, as in \"192.0.2.1:25\" or \"[::]:25\"";
    section.parsed("address", remedy, report)
}

/// Reports each that an earlier one has already.
pub(crate) fn of_two(ports: &[Port], report: &mut Report) {
    for (index, port) in ports.iter().enumerate() {
        let address = port.address.value;
        let taken = |other: &&Port| address.port() != 0 && addresses_meet(other.address.value, address);
        let Some(other) = ports[..index].iter().find(taken) else { continue };
        let (what, theirs) = (&other.what, other.address.value);
        let message = match theirs.ip().to_canonical() == address.ip().to_canonical() {
            true => format!("{what} has the address {theirs} already"),
            false => format!(
                "{what} has port {} already: {} includes {}",
                address.port(),
                wider(theirs, address),
                narrower(theirs, address)
            ),
        };
        let remedy = format!("choose another port; the other is at {}", other.address.origin);
        report.error(&port.address.origin, port.key, message, remedy);
    }
}

/// Whether one socket would take what comes to the other.
#[must_use]
pub fn addresses_meet(a: SocketAddr, b: SocketAddr) -> bool {
    let (a_ip, b_ip) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() == b.port() && (a_ip == b_ip || covers(a_ip, b_ip) || covers(b_ip, a_ip))
}

/// `[::]` takes IPv4 too.
pub(crate) fn covers(wide: IpAddr, narrow: IpAddr) -> bool {
    wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
}

fn wider(a: SocketAddr, b: SocketAddr) -> SocketAddr {
    if covers(a.ip().to_canonical(), b.ip().to_canonical()) { a } else { b }
}

fn narrower(a: SocketAddr, b: SocketAddr) -> SocketAddr {
    if wider(a, b) == a { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_meets_every_address_of_its_family_and_that_of_ipv6_ipv4_too() {
        for (a, b, expected) in [
            ("127.0.0.1:25", "127.0.0.1:25", true),
            ("127.0.0.1:25", "127.0.0.2:25", false),
            ("127.0.0.1:25", "127.0.0.1:26", false),
            ("[::]:25", "127.0.0.1:26", false),
            ("0.0.0.0:25", "127.0.0.1:25", true),
            ("[::]:25", "127.0.0.1:25", true),
            ("[::]:25", "0.0.0.0:25", true),
            ("[::]:25", "[::1]:25", true),
            ("0.0.0.0:25", "[::1]:25", false),
            ("[::1]:25", "127.0.0.1:25", false),
            ("[::ffff:127.0.0.1]:25", "127.0.0.1:25", true),
        ] {
            let (a, b): (SocketAddr, SocketAddr) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!((addresses_meet(a, b), addresses_meet(b, a)), (expected, expected), "{a} and {b}");
        }
    }
}
