//! Finds the end of a message, and what must not be in one.
//!
//! Only CRLF.CRLF ends a message (RFC 5321 section 4.1.1.4). A bare CR, a bare LF or a NUL spoils it:
//! nothing of it is handed on any more, and its real end is still waited for.

use memchr::memchr3;

/// Follows a message from the byte after DATA's CRLF to the LF of its final dot line.
#[derive(Debug)]
pub(crate) struct Scanner {
    place: Place,
    spoiled: bool,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    LineStart,
    /// After a dot that began a line; the dot is held back.
    Dot,
    /// After a dot that began a line, and a CR; both are held back.
    DotCr,
    Text,
    TextCr,
}

/// What a piece of input was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// A dot held back from an earlier piece is part of the body, and goes before `body_bytes`.
    pub(crate) held_dot: bool,
    /// How many bytes from the start of the piece are body.
    pub(crate) body_bytes: usize,
    /// How many bytes belong to the message, its end included.
    pub(crate) used: usize,
    /// The message is over.
    pub(crate) ended: bool,
}

impl Scanner {
    pub(crate) fn new() -> Self {
        Self { place: Place::LineStart, spoiled: false }
    }

    /// Whether a bare CR, a bare LF or a NUL was seen.
    pub(crate) fn is_spoiled(&self) -> bool {
        self.spoiled
    }

    /// Takes the next piece. Of a spoiled message nothing is body.
    pub(crate) fn scan(&mut self, input: &[u8]) -> Scan {
        let held_before = matches!(self.place, Place::Dot | Place::DotCr);
        let mut at = 0;
        // Where the dot stands that is held back, if it came in this piece.
        let mut held_at = None;
        let mut ended = false;
        while at < input.len() && !ended {
            if matches!(self.place, Place::Text | Place::LineStart) {
                at += self.skip_text(&input[at..]);
                let Some(&byte) = input.get(at) else { break };
                if byte == b'.' && self.place == Place::LineStart {
                    held_at = Some(at);
                }
            }
            ended = self.step(input[at]);
            at += 1;
        }
        let held_now = matches!(self.place, Place::Dot | Place::DotCr);
        if self.spoiled {
            return Scan { held_dot: false, body_bytes: 0, used: at, ended };
        }
        let body_bytes = match held_at {
            Some(dot) if held_now || ended => dot,
            None if held_now || ended => 0,
            _ => at,
        };
        let still_held = (held_now || ended) && held_at.is_none();
        Scan { held_dot: held_before && !still_held, body_bytes, used: at, ended }
    }

    /// How many bytes can be passed over at once: up to the next line's dot, or what is no text.
    fn skip_text(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        loop {
            if self.place == Place::LineStart {
                match input.get(at) {
                    None | Some(b'.') => return at,
                    Some(_) => self.place = Place::Text,
                }
            }
            let Some(found) = memchr3(b'\r', b'\n', b'\0', &input[at..]) else { return input.len() };
            at += found;
            if input[at..].starts_with(b"\r\n") {
                at += 2;
                self.place = Place::LineStart;
            } else {
                return at;
            }
        }
    }

    /// One byte; true at the end of the message.
    fn step(&mut self, byte: u8) -> bool {
        self.place = match (self.place, byte) {
            (Place::DotCr, b'\n') => return true,
            (Place::TextCr, b'\n') => Place::LineStart,
            (place, byte) => {
                // A CR that no LF follows, whatever comes instead of it.
                self.spoiled |= matches!(place, Place::DotCr | Place::TextCr);
                match (place, byte) {
                    (Place::LineStart, b'.') => Place::Dot,
                    (Place::Dot, b'\r') => Place::DotCr,
                    (_, b'\r') => Place::TextCr,
                    (_, byte) => {
                        self.spoiled |= matches!(byte, b'\n' | b'\0');
                        Place::Text
                    }
                }
            }
        };
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A CR or an LF without the other, or a NUL.
    fn holds_bare_newline(text: &[u8]) -> bool {
        text.iter().enumerate().any(|(at, byte)| match byte {
            0 => true,
            b'\n' => at == 0 || text[at - 1] != b'\r',
            b'\r' => text.get(at + 1) != Some(&b'\n'),
            _ => false,
        })
    }

    /// What the whole input means, said without a state machine: end offset, body, spoiled.
    fn reference(input: &[u8]) -> Option<(usize, Vec<u8>, bool)> {
        let end = if input.starts_with(b".\r\n") {
            0
        } else {
            input.windows(5).position(|window| window == b"\r\n.\r\n")? + 2
        };
        let body = input[..end].to_vec();
        let spoiled = holds_bare_newline(&body);
        Some((end + 3, body, spoiled))
    }

    fn in_pieces(input: &[u8], cuts: &[usize]) -> (Option<usize>, Vec<u8>, bool) {
        let (mut scanner, mut body, mut offset) = (Scanner::new(), Vec::new(), 0);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
        ends.push(input.len());
        ends.sort_unstable();
        for end in ends {
            let scan = scanner.scan(&input[offset..end]);
            if scan.held_dot {
                body.push(b'.');
            }
            body.extend_from_slice(&input[offset..offset + scan.body_bytes]);
            offset += scan.used;
            if scan.ended {
                return (Some(offset), body, scanner.is_spoiled());
            }
            assert_eq!(offset, end);
        }
        (None, body, scanner.is_spoiled())
    }

    fn check(input: &[u8], cuts: &[usize]) {
        let (end, body, spoiled) = in_pieces(input, cuts);
        match reference(input) {
            None => assert_eq!(end, None),
            Some((expected_end, expected_body, expected_spoiled)) => {
                assert_eq!(end, Some(expected_end));
                assert_eq!(spoiled, expected_spoiled);
                if !spoiled {
                    assert_eq!(body, expected_body);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_chunking_equals_the_whole(
            parts in prop::collection::vec(prop::sample::select(vec![
                "\r\n", "\r\n.", ".\r\n", "\r", "\n", "\0", ".", "a", "longer text", "\r\n..", "\r\n.\r\n",
            ]), 0..12),
            cuts in prop::collection::vec(any::<usize>(), 0..8),
        ) {
            check(parts.concat().as_bytes(), &cuts);
        }

        #[test]
        fn clean_text_goes_through_in_any_chunking(
            lines in prop::collection::vec("[.a]{0,4}", 0..8),
            cuts in prop::collection::vec(any::<usize>(), 0..8),
        ) {
            let mut input = String::new();
            for line in &lines {
                let stuffing = if line.starts_with('.') { "." } else { "" };
                input.push_str(&format!("{stuffing}{line}\r\n"));
            }
            let body = input.clone();
            input.push_str(".\r\nQUIT\r\n");
            prop_assert_eq!(
                in_pieces(input.as_bytes(), &cuts),
                (Some(body.len() + 3), body.into_bytes(), false)
            );
        }
    }
}
