//! The text of a bounce: a delivery status notification (RFC 3464) in a multipart/report (RFC 6522).
//!
//! Pure: facts in, wire-form text out (CRLF lines, dot-stuffed, without the final dot). What a
//! destination said is quoted as printable ASCII, so that no reply injects a header.

use std::fmt::{self, Write as _};

use mail::{Address, MessageId, Reply, Status, UnixMillis};

/// Characters quoted of one line of a reply: a line of the bounce stays below the 998 of RFC 5322 section 2.1.1.
const QUOTED_LINE_CHARS_MAX: usize = 400;

/// Characters of a line of quoted-printable (RFC 2045 section 6.7, rule 5).
const QUOTED_PRINTABLE_LINE_CHARS_MAX: usize = 76;

/// Lines quoted of one reply.
const QUOTED_LINES_MAX: usize = 20;

/// One recipient that will not get the message.
pub(crate) struct Failed<'a> {
    pub(crate) address: Address<'a>,
    /// What the destination said, or what became of the last attempt.
    pub(crate) reply: &'a Reply,
    /// The next hop that said it; `None` when none was reached.
    pub(crate) remote: Option<&'a str>,
    /// Given up after trying for too long, rather than refused.
    pub(crate) expired: bool,
}

impl Failed<'_> {
    /// The status in the report: permanent, whatever class the last reply had (RFC 3464 section 2.3.4).
    fn status(&self) -> Status {
        match self.reply.status() {
            // 4.4.7: delivery time expired (RFC 3463); as the failure it has become, class 5.
            _ if self.expired => Status::new(5, 4, 7),
            Some(status) => Status { class: 5, ..status },
            None => Status::new(5, 0, 0),
        }
    }
}

/// A bounce about one message.
pub(crate) struct Bounce<'a> {
    /// Who reports.
    pub(crate) hostname: &'a str,
    /// The id of the bounce itself.
    pub(crate) id: MessageId,
    /// When it is written.
    pub(crate) now: UnixMillis,
    /// The original's sender, who gets it.
    pub(crate) to: Address<'a>,
    /// The original's id.
    pub(crate) original: MessageId,
    /// When the original was accepted.
    pub(crate) arrived: UnixMillis,
    /// The original's header section in wire form; empty when it is not at hand.
    pub(crate) header: &'a [u8],
}

impl Bounce<'_> {
    /// Appends the message to `out`.
    pub(crate) fn write(&self, failed: &[Failed<'_>], out: &mut Vec<u8>) {
        let start = out.len();
        let mut text = Lines(out);
        // Writing into a vector does not fail.
        let _ = self.write_header(&mut text);
        let _ = self.write_explanation(failed, &mut text);
        let _ = self.write_report(failed, &mut text);
        let _ = self.write_original(&mut text);
        debug_assert!(out[start..].ends_with(b"\r\n"));
    }

    fn write_header(&self, text: &mut Lines<'_>) -> fmt::Result {
        let Self { hostname, id, now, to, .. } = self;
        writeln!(text, "From: Mail Delivery System <MAILER-DAEMON@{hostname}>")?;
        writeln!(text, "To: <{to}>")?;
        writeln!(text, "Subject: Undelivered mail: your message could not be delivered")?;
        writeln!(text, "Date: {}", now.rfc5322())?;
        writeln!(text, "Message-ID: <{id}@{hostname}>")?;
        // RFC 3834 section 5: automatic responders keep quiet.
        writeln!(text, "Auto-Submitted: auto-replied")?;
        writeln!(text, "MIME-Version: 1.0")?;
        writeln!(text, "Content-Type: multipart/report; report-type=delivery-status;")?;
        writeln!(text, " boundary=\"report-{id}\"")?;
        writeln!(text)?;
        writeln!(text, "This is a delivery status notification in MIME format.")?;
        writeln!(text)
    }

    fn write_explanation(&self, failed: &[Failed<'_>], text: &mut Lines<'_>) -> fmt::Result {
        writeln!(text, "--report-{}", self.id)?;
        writeln!(text, "Content-Type: text/plain; charset=us-ascii")?;
        writeln!(text)?;
        writeln!(text, "This is the mail gateway at {}.", self.hostname)?;
        writeln!(text)?;
        writeln!(text, "Your message could not be delivered to the recipients below, and it will")?;
        writeln!(text, "not be tried again. Its headers are at the end of this report.")?;
        for recipient in failed {
            writeln!(text)?;
            writeln!(text, "<{}>", recipient.address)?;
            if recipient.expired {
                writeln!(
                    text,
                    "    Given up after trying since {}. The last attempt:",
                    self.arrived.rfc5322()
                )?;
            }
            match recipient.remote {
                Some(remote) => writeln!(text, "    {} said:", Printable(remote))?,
                None => writeln!(text, "    The next hop could not be used:")?,
            }
            write!(text, "    ")?;
            write_reply(recipient.reply, text)?;
        }
        writeln!(text)
    }

    fn write_report(&self, failed: &[Failed<'_>], text: &mut Lines<'_>) -> fmt::Result {
        writeln!(text, "--report-{}", self.id)?;
        writeln!(text, "Content-Type: message/delivery-status")?;
        writeln!(text)?;
        writeln!(text, "Reporting-MTA: dns; {}", self.hostname)?;
        writeln!(text, "X-Gatepost-Message-ID: {}", self.original)?;
        writeln!(text, "Arrival-Date: {}", self.arrived.rfc5322())?;
        for recipient in failed {
            writeln!(text)?;
            writeln!(text, "Final-Recipient: rfc822; {}", recipient.address)?;
            writeln!(text, "Action: failed")?;
            writeln!(text, "Status: {}", recipient.status())?;
            if let Some(remote) = recipient.remote {
                writeln!(text, "Remote-MTA: dns; {}", Printable(remote))?;
                // RFC 3464 section 2.3.6: only what a remote said over SMTP is a diagnostic of type smtp.
                write!(text, "Diagnostic-Code: smtp; ")?;
                write_reply(recipient.reply, text)?;
            }
            writeln!(text, "Last-Attempt-Date: {}", self.now.rfc5322())?;
        }
        writeln!(text)
    }

    fn write_original(&self, text: &mut Lines<'_>) -> fmt::Result {
        writeln!(text, "--report-{}", self.id)?;
        writeln!(text, "Content-Type: text/rfc822-headers")?;
        if self.header.is_ascii() {
            writeln!(text)?;
            // It is in wire form already, and goes out in wire form.
            text.0.extend_from_slice(self.header);
        } else {
            // A host without 8BITMIME must be able to take a notification: it is not reported in its turn.
            writeln!(text, "Content-Transfer-Encoding: quoted-printable")?;
            writeln!(text)?;
            write_quoted(self.header, text)?;
        }
        writeln!(text)?;
        writeln!(text, "--report-{}--", self.id)
    }
}

/// Lines in wire form as quoted-printable (RFC 2045 section 6.7).
fn write_quoted(wire: &[u8], text: &mut Lines<'_>) -> fmt::Result {
    for line in wire.split_inclusive(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        let line = line.strip_prefix(b".").unwrap_or(line);
        let mut width = 0;
        for (at, &byte) in line.iter().enumerate() {
            let is_plain = match byte {
                b'=' => false,
                b' ' | b'\t' => at + 1 < line.len(),
                _ => byte.is_ascii_graphic(),
            };
            let added = if is_plain { 1 } else { "=XX".len() };
            if width + added >= QUOTED_PRINTABLE_LINE_CHARS_MAX {
                text.write_str("=\n")?;
                width = 0;
            }
            width += added;
            match is_plain {
                true => text.write_char(char::from(byte))?,
                false => write!(text, "={byte:02X}")?,
            }
        }
        writeln!(text)?;
    }
    Ok(())
}

/// Code, status and lines of a reply, each further line folded under the first.
fn write_reply(reply: &Reply, text: &mut Lines<'_>) -> fmt::Result {
    if reply.code() != 0 {
        write!(text, "{} ", reply.code())?;
    }
    if let Some(status) = reply.status() {
        write!(text, "{status} ")?;
    }
    for (index, line) in reply.lines().take(QUOTED_LINES_MAX).enumerate() {
        if index > 0 {
            write!(text, "\n    ")?;
        }
        write!(text, "{}", Printable(line))?;
    }
    writeln!(text)
}

/// Text with everything but printable ASCII replaced, cut at [`QUOTED_LINE_CHARS_MAX`].
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars().take(QUOTED_LINE_CHARS_MAX) {
            f.write_char(if char == ' ' || char.is_ascii_graphic() { char } else { '?' })?;
        }
        Ok(())
    }
}

/// Turns `\n` into CRLF, and stuffs a dot at the start of a line (RFC 5321 section 4.5.2).
struct Lines<'a>(&'a mut Vec<u8>);

impl fmt::Write for Lines<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            match byte {
                b'\n' => self.0.extend_from_slice(b"\r\n"),
                b'.' if self.0.last().is_none_or(|&last| last == b'\n') => self.0.extend_from_slice(b".."),
                _ => self.0.push(byte),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address<'_> {
        Address::parse(text).unwrap()
    }

    #[test]
    fn quoted_headers_are_seven_bit_and_read_as_they_were() {
        let long = format!("X-Long: {}\u{e9}\r\n", "caf\u{e9} = ".repeat(40));
        let wire = format!("Subject: caf\u{e9} \r\n..dot\r\n{long}");
        let mut out = Vec::new();
        write_quoted(wire.as_bytes(), &mut Lines(&mut out)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.is_ascii() && text.starts_with("Subject: caf=C3=A9=20\r\n..dot\r\nX-Long: caf=C3=A9 =3D ")
        );
        assert!(text.lines().all(|line| line.len() <= QUOTED_PRINTABLE_LINE_CHARS_MAX), "{text}");
        let joined = text.replace("=\r\n", "");
        let read = joined.replace("=C3=A9", "\u{e9}").replace("=20", " ").replace("=3D", "=");
        assert_eq!(read, wire);
    }

    #[test]
    fn a_bounce_reads_as_its_golden_text() {
        let mut refused = Reply::new(550, Some(Status::new(5, 1, 1)), "no such person");
        refused.add_line(format_args!("ask p\u{e9}p\u{e9}"));
        let busy = Reply::new(451, Some(Status::new(4, 3, 0)), "come back later");
        let failed = [
            Failed {
                address: address("kim@partner.example"),
                reply: &refused,
                remote: Some("mx.partner.example:25"),
                expired: false,
            },
            Failed { address: address("lee@partner.example"), reply: &busy, remote: None, expired: true },
        ];
        let bounce = Bounce {
            hostname: "relay.proseware.example",
            id: MessageId::from_bytes([1; 10]),
            now: UnixMillis(1_795_426_496_789),
            to: address("terri@proseware.example"),
            original: MessageId::from_bytes([2; 10]),
            arrived: UnixMillis(951_782_400_000),
            header: b"Subject: hello\r\n..dot: stuffed\r\n",
        };
        let mut out = Vec::new();
        bounce.write(&failed, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.split("\r\n").all(|line| !line.contains(['\r', '\n'])));
        assert_eq!(text.replace("\r\n", "\n"), include_str!("../tests/golden/bounce.txt"));
    }
}
