//! Watches the header of a message go by, in pieces of any size: counts what a loop leaves behind,
//! and hands the fields that say who a message is from to their check.
//!
//! It never fails and never holds more than the beginning of one field. What a reader could take
//! for a checked field counts as one, so that no second From hides behind a slip of syntax.

use mail::limits::{HEADER_FIELD_BYTES_MAX, RECEIVED_FIELDS_MAX};
use policy::{HeaderChecks, HeaderField};

/// As much of a Received field as is kept to find its `by` clause.
const RECEIVED_BYTES_MAX: usize = 1024;

/// Counts Received fields (RFC 5321 section 6.3), notices our own name in two neighbouring ones, and
/// finds the fields that [`HeaderChecks`] names.
#[derive(Debug, Default)]
pub(crate) struct HeaderScan {
    field: Vec<u8>,
    checks: HeaderChecks,
    received: usize,
    last_by_us: bool,
    twice_by_us: bool,
    /// The dot before the line that begins was skipped.
    unstuffed: bool,
    done: bool,
}

/// A field that is checked, as it stood in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) field: HeaderField,
    /// What stands after the colon; `None` where it is longer than [`HEADER_FIELD_BYTES_MAX`], or
    /// where the name is not written as a name must be.
    pub(crate) value: Option<&'a [u8]>,
}

impl HeaderScan {
    /// Begins the next message; the memory stays.
    pub(crate) fn clear(&mut self) {
        self.field.clear();
        self.checks = HeaderChecks::default();
        self.received = 0;
        self.last_by_us = false;
        self.twice_by_us = false;
        self.unstuffed = false;
        self.done = false;
    }

    /// Which fields are to be found, from here on.
    pub(crate) fn check(&mut self, checks: HeaderChecks) {
        self.checks = checks;
    }

    /// Takes the next piece of a message as it goes over the wire, its lines ending in CRLF.
    pub(crate) fn feed(&mut self, mut piece: &[u8], hostname: &str, found: &mut impl FnMut(Found<'_>)) {
        while !self.done && !piece.is_empty() {
            // The next hop takes one dot off the beginning of a line (RFC 5321 section 4.5.2): what
            // comes after it is what readers see.
            let begins_line = self.field.last().is_none_or(|&last| last == b'\n');
            if begins_line && !self.unstuffed && piece[0] == b'.' {
                self.unstuffed = true;
                piece = &piece[1..];
                continue;
            }
            self.unstuffed = false;
            // A line feed is kept as the first byte of what follows it: only that byte shows whether
            // the field goes on (RFC 5322 section 2.2.3).
            if self.field.last() == Some(&b'\n') {
                match piece[0] {
                    b' ' | b'\t' => self.unfold(),
                    b'\r' => return self.finish(hostname, found),
                    _ => self.end_of_field(hostname, found),
                }
            }
            let (line, rest) = match memchr::memchr(b'\n', piece) {
                Some(end) => piece.split_at(end + 1),
                None => (piece, &[][..]),
            };
            if self.field.is_empty() && line.starts_with(b"\r") {
                self.done = true;
                return;
            }
            self.keep(line);
            piece = rest;
        }
    }

    /// The header is over, or the message is: its last field ends with it.
    pub(crate) fn finish(&mut self, hostname: &str, found: &mut impl FnMut(Found<'_>)) {
        if !self.done && !self.field.is_empty() {
            self.end_of_field(hostname, found);
        }
        self.done = true;
    }

    /// Whether the message has been here before, or everywhere (DESIGN.md B3).
    pub(crate) fn is_loop(&self) -> bool {
        self.received > RECEIVED_FIELDS_MAX || self.twice_by_us
    }

    /// One byte more than a field may have, so that a longer one is known as such, and its line feed.
    fn room(&self) -> usize {
        let whole = if self.checks.is_any() { HEADER_FIELD_BYTES_MAX + 1 } else { RECEIVED_BYTES_MAX };
        whole.saturating_sub(self.field.len())
    }

    fn keep(&mut self, line: &[u8]) {
        let room = self.room();
        self.field.extend_from_slice(&line[..line.len().min(room)]);
        if line.ends_with(b"\n") && self.field.last() != Some(&b'\n') {
            self.field.push(b'\n');
        }
    }

    /// The field goes on: its line break stays where all of it is kept.
    fn unfold(&mut self) {
        if self.room() == 0 || !self.checks.is_any() {
            self.field.pop();
        }
    }

    fn end_of_field(&mut self, hostname: &str, found: &mut impl FnMut(Found<'_>)) {
        let is_received = self.field.get(..9).is_some_and(|name| name.eq_ignore_ascii_case(b"received:"));
        if is_received {
            self.received += 1;
            let by_us = self.names_us(hostname);
            self.twice_by_us |= by_us && self.last_by_us;
            self.last_by_us = by_us;
        }
        if self.checks.is_any()
            && let Some(field) = self.checked_field()
        {
            found(field);
        }
        self.field.clear();
    }

    fn checked_field(&self) -> Option<Found<'_>> {
        let start = self.field.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))?;
        let rest = &self.field[start..];
        let end = rest.iter().position(|&byte| byte <= b' ' || byte == b':').unwrap_or(rest.len());
        let is_it = |field: &HeaderField| rest[..end].eq_ignore_ascii_case(field.name().as_bytes());
        let field = HeaderField::ALL.into_iter().filter(|&field| self.checks.holds(field)).find(is_it)?;
        // White space before the colon is obsolete syntax that readers take (RFC 5322 section 4.5).
        let after = rest[end..].trim_ascii_start();
        let is_whole = start == 0 && self.field.len() <= HEADER_FIELD_BYTES_MAX;
        Some(Found { field, value: after.strip_prefix(b":").filter(|_| is_whole) })
    }

    fn names_us(&self, hostname: &str) -> bool {
        let mut words = self.field.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.any(|word| word.eq_ignore_ascii_case(b"by"))
            && words.next().is_some_and(|name| {
                // The date may follow at once: `by relay.example; Mon, ...`.
                name.strip_suffix(b";").unwrap_or(name).eq_ignore_ascii_case(hostname.as_bytes())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_loop(message: &[u8], step: usize) -> bool {
        let mut scan = HeaderScan::default();
        for piece in message.chunks(step) {
            scan.feed(piece, "relay.example", &mut |_| {});
        }
        scan.is_loop()
    }

    #[test]
    fn a_loop_shows_however_the_message_is_cut() {
        let hop = "Received: from a\r\n\tby relay.example with ESMTP id 1; Mon\r\n";
        let other = "Received: from b by other.example; Mon\r\n";
        for step in [1, 2, 3, 7, 4096] {
            assert!(!is_loop(format!("{hop}{other}{hop}\r\nx\r\n").as_bytes(), step));
            assert!(is_loop(format!("Subject: x\r\n{hop}{hop}\r\nx\r\n").as_bytes(), step));
            assert!(!is_loop(format!("{}\r\n", other.repeat(50)).as_bytes(), step));
            assert!(is_loop(format!("{}\r\n", other.repeat(51)).as_bytes(), step));
            assert!(!is_loop(format!("\r\n{}", other.repeat(60)).as_bytes(), step), "the body is no header");
        }
    }

    /// The fields that are found, however the message is cut.
    fn found(message: &str) -> Vec<(HeaderField, Option<String>)> {
        let cut = |step| {
            let (mut scan, mut all) = (HeaderScan::default(), Vec::new());
            scan.check(HeaderChecks { from: true, reply_to: true, sender: false });
            let mut take = |found: Found<'_>| {
                let value = found.value.map(|value| String::from_utf8_lossy(value).into_owned());
                all.push((found.field, value));
            };
            for piece in message.as_bytes().chunks(step) {
                scan.feed(piece, "relay.example", &mut take);
            }
            scan.finish("relay.example", &mut take);
            all
        };
        let whole = cut(message.len());
        for step in [1, 2, 5, 1000] {
            assert_eq!(cut(step), whole, "in pieces of {step}");
        }
        whole
    }

    #[test]
    fn the_dot_that_the_next_hop_takes_off_hides_nothing_however_the_message_is_cut() {
        for (message, expected) in [
            ("From: a@b\r\n.From: c@d\r\n\r\n", &[" a@b\r\n", " c@d\r\n"][..]),
            ("From: a@b\r\n. <c@d>\r\n\r\n", &[" a@b\r\n <c@d>\r\n"]),
            (".From: c@d\r\nFrom: a@b\r\n\r\n", &[" c@d\r\n", " a@b\r\n"]),
            ("From: a@b\r\n..From: c@d\r\n\r\n", &[" a@b\r\n"]),
            ("From: a@b\r\n .c@d\r\n\r\n", &[" a@b\r\n .c@d\r\n"]),
        ] {
            for cut in 0..=message.len() {
                let (mut scan, mut values) = (HeaderScan::default(), Vec::new());
                scan.check(HeaderChecks { from: true, reply_to: false, sender: false });
                let mut take = |found: Found<'_>| {
                    values.push(String::from_utf8_lossy(found.value.expect("well formed")).into_owned());
                };
                let (head, tail) = message.as_bytes().split_at(cut);
                scan.feed(head, "relay.example", &mut take);
                scan.feed(tail, "relay.example", &mut take);
                scan.finish("relay.example", &mut take);
                assert_eq!(values, expected, "{message:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn checked_fields_are_found_as_they_stand() {
        let from = |value: &str| (HeaderField::From, Some(value.to_owned()));
        assert_eq!(
            found("Subject: x\r\nFROM: a@b\r\nSender: c@d\r\nreply-to:e@f\r\n\r\nFrom: body@b\r\n"),
            [from(" a@b\r\n"), (HeaderField::ReplyTo, Some("e@f\r\n".to_owned()))]
        );
        assert_eq!(found("From: A\r\n <a@b>\r\n\tx\r\n\r\n"), [from(" A\r\n <a@b>\r\n\tx\r\n")]);
        assert_eq!(found("From: a@b\r\nFrom: c@d\r\n"), [from(" a@b\r\n"), from(" c@d\r\n")]);
        assert_eq!(found("From : a@b\r\n\r\n"), [from(" a@b\r\n")]);
        assert_eq!(found("\r\nFrom: a@b\r\n"), []);
        assert_eq!(found("X-From: a@b\r\nFromage: a@b\r\n\r\n"), []);
    }

    #[test]
    fn what_a_reader_could_take_for_a_from_counts_as_one() {
        let malformed = [(HeaderField::From, None)];
        assert_eq!(found(" From: a@b\r\n\r\n"), malformed);
        assert_eq!(found("From a@b Mon Nov 24\r\n\r\n"), malformed);
        assert_eq!(found(&format!("From: {}a@b\r\n\r\n", "x".repeat(HEADER_FIELD_BYTES_MAX))), malformed);
        assert_eq!(
            found(&format!("From: {}a@b\r\n\r\n", "x\r\n ".repeat(HEADER_FIELD_BYTES_MAX))),
            malformed
        );
    }
}
