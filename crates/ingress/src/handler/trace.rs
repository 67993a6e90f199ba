//! The trace field that Gatepost puts on top of a message (RFC 5321 section 4.4).

use std::io::Write as _;
use std::net::IpAddr;

use mail::{Address, MessageId, UnixMillis};

/// What the trace field tells.
pub(crate) struct Trace<'a> {
    pub(crate) helo: &'a str,
    pub(crate) client: IpAddr,
    pub(crate) hostname: &'a str,
    /// HELO or EHLO.
    pub(crate) extended: bool,
    /// Protocol and cipher suite, where TLS is on.
    pub(crate) tls: Option<&'a str>,
    pub(crate) authenticated: bool,
    pub(crate) id: MessageId,
    /// The recipient, where there is only one: naming several would tell them of each other.
    pub(crate) recipient: Option<Address<'a>>,
    pub(crate) now: UnixMillis,
}

impl Trace<'_> {
    /// Writes the field into `out`, whose memory is used again.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        out.clear();
        // Writing to a Vec does not fail.
        let _ = write!(out, "Received: from {} (", self.helo);
        let _ = match self.client {
            // A proxy did not say whose connection it is.
            client if client.is_unspecified() => write!(out, "unknown"),
            IpAddr::V4(address) => write!(out, "[{address}]"),
            IpAddr::V6(address) => write!(out, "[IPv6:{address}]"),
        };
        out.extend_from_slice(b")\r\n");
        if let Some(tls) = self.tls {
            let _ = write!(out, "\t(using {tls})\r\n");
        }
        let _ = write!(out, "\tby {} with {} id {}\r\n", self.hostname, self.protocol(), self.id);
        if let Some(recipient) = self.recipient {
            let _ = write!(out, "\tfor <{recipient}>\r\n");
        }
        out.truncate(out.len() - 2);
        let _ = write!(out, ";\r\n\t{}\r\n", self.now.rfc5322());
    }

    /// The registered name of the transmission type (RFC 3848).
    fn protocol(&self) -> &'static str {
        match (self.extended, self.tls.is_some(), self.authenticated) {
            (false, ..) => "SMTP",
            (true, false, false) => "ESMTP",
            (true, false, true) => "ESMTPA",
            (true, true, false) => "ESMTPS",
            (true, true, true) => "ESMTPSA",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_says_from_by_with_id_for_and_when() {
        let mut out = Vec::new();
        let trace = Trace {
            helo: "app.proseware.example",
            client: "2001:db8::7".parse().unwrap(),
            hostname: "relay.example",
            extended: true,
            tls: Some("TLSv1.3 with cipher TLS13_AES_256_GCM_SHA384"),
            authenticated: true,
            id: MessageId::from_bytes([0; 10]),
            recipient: Some(Address::parse("bob@adatum.example").unwrap()),
            now: UnixMillis(0),
        };
        trace.write_to(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Received: from app.proseware.example ([IPv6:2001:db8::7])\r\n\
             \t(using TLSv1.3 with cipher TLS13_AES_256_GCM_SHA384)\r\n\
             \tby relay.example with ESMTPSA id 0000000000000000\r\n\
             \tfor <bob@adatum.example>;\r\n\
             \tThu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
    }
}
