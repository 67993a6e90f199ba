//! Watches the header of a message go by, in pieces of any size, and counts what a loop leaves behind.
//!
//! It never fails and never holds more than the beginning of one field.

use mail::limits::RECEIVED_FIELDS_MAX;

/// As much of a Received field as is kept to find its `by` clause.
const FIELD_BYTES_MAX: usize = 1024;

/// Counts Received fields (RFC 5321 section 6.3) and notices our own name in two neighbouring ones.
#[derive(Debug, Default)]
pub(crate) struct HeaderScan {
    field: Vec<u8>,
    received: usize,
    last_by_us: bool,
    twice_by_us: bool,
    done: bool,
}

impl HeaderScan {
    /// Begins the next message; the memory stays.
    pub(crate) fn clear(&mut self) {
        self.field.clear();
        self.received = 0;
        self.last_by_us = false;
        self.twice_by_us = false;
        self.done = false;
    }

    /// Takes the next piece of a message whose lines end in CRLF.
    pub(crate) fn feed(&mut self, mut piece: &[u8], hostname: &str) {
        while !self.done && !piece.is_empty() {
            // A line feed is kept as the first byte of what follows it: only that byte shows whether
            // the field goes on (RFC 5322 section 2.2.3).
            if self.field.last() == Some(&b'\n') {
                match piece[0] {
                    b' ' | b'\t' => {
                        self.field.pop();
                    }
                    b'\r' => {
                        self.end_of_field(hostname);
                        self.done = true;
                        return;
                    }
                    _ => self.end_of_field(hostname),
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

    /// Whether the message has been here before, or everywhere (relay-control.md B3).
    pub(crate) fn is_loop(&self) -> bool {
        self.received > RECEIVED_FIELDS_MAX || self.twice_by_us
    }

    fn keep(&mut self, line: &[u8]) {
        let room = FIELD_BYTES_MAX.saturating_sub(self.field.len());
        self.field.extend_from_slice(&line[..line.len().min(room)]);
        if line.ends_with(b"\n") && self.field.last() != Some(&b'\n') {
            self.field.push(b'\n');
        }
    }

    fn end_of_field(&mut self, hostname: &str) {
        let is_received = self.field.get(..9).is_some_and(|name| name.eq_ignore_ascii_case(b"received:"));
        if is_received {
            self.received += 1;
            let by_us = self.names_us(hostname);
            self.twice_by_us |= by_us && self.last_by_us;
            self.last_by_us = by_us;
        }
        self.field.clear();
    }

    fn names_us(&self, hostname: &str) -> bool {
        let mut words = self.field.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.any(|word| word.eq_ignore_ascii_case(b"by"))
            && words.next().is_some_and(|name| name.eq_ignore_ascii_case(hostname.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_loop(message: &[u8], step: usize) -> bool {
        let mut scan = HeaderScan::default();
        for piece in message.chunks(step) {
            scan.feed(piece, "relay.example");
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
}
