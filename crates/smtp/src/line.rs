//! Cuts the input into command lines.
//!
//! Only CRLF ends a line. What is too long, or holds a bare LF, is refused and thrown away, so that
//! nothing of it can be read as a command and a peer that never ends its line costs no memory.

use memchr::memchr;
use zeroize::Zeroize;

/// Collects a line that comes in pieces. A line that comes whole is not copied.
#[derive(Debug, Default)]
pub(crate) struct LineReader {
    partial: Vec<u8>,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Line,
    /// In a line that was too long already.
    Long { bytes: usize, after_cr: bool },
    /// After a bare LF: nothing is a command before the next CRLF.
    Spoiled,
}

/// What the input began with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A line, without its CRLF.
    Whole(&'a [u8]),
    /// No line's end yet.
    Incomplete,
    /// It has just become longer than allowed.
    TooLong,
    /// Of a line that was too long, as much again has been thrown away.
    StillTooLong,
    /// A line that ended in a bare LF, or is what followed one.
    BareLineFeed,
}

impl LineReader {
    /// Takes the next line of at most `bytes_max` bytes, CRLF included; also gives how much of the
    /// input was used.
    pub(crate) fn take<'a>(&'a mut self, input: &'a [u8], bytes_max: usize) -> (usize, Line<'a>) {
        if let Mode::Long { bytes, after_cr } = self.mode {
            return self.discard(input, bytes, after_cr, bytes_max);
        }
        let Some(at) = memchr(b'\n', input) else {
            if self.partial.len() + input.len() >= bytes_max {
                return self.too_long(input, bytes_max);
            }
            self.partial.extend_from_slice(input);
            return (input.len(), Line::Incomplete);
        };
        let used = at + 1;
        if self.partial.len() + used > bytes_max {
            return self.too_long(&input[..used], bytes_max);
        }
        let before = if at > 0 { Some(input[at - 1]) } else { self.partial.last().copied() };
        let is_crlf = before == Some(b'\r');
        if self.mode == Mode::Spoiled || !is_crlf {
            self.mode = if is_crlf { Mode::Line } else { Mode::Spoiled };
            self.partial.clear();
            return (used, Line::BareLineFeed);
        }
        if self.partial.is_empty() {
            return (used, Line::Whole(&input[..at - 1]));
        }
        self.partial.extend_from_slice(&input[..used]);
        let end = self.partial.len() - 2;
        (used, Line::Whole(&self.partial[..end]))
    }

    /// Forgets the line that [`LineReader::take`] gave; the memory stays.
    pub(crate) fn release(&mut self) {
        self.partial.clear();
    }

    /// The same for a line that held a secret.
    pub(crate) fn wipe(&mut self) {
        self.partial.zeroize();
    }

    fn too_long(&mut self, input: &[u8], bytes_max: usize) -> (usize, Line<'static>) {
        let after_cr = self.partial.last() == Some(&b'\r');
        self.partial.clear();
        let (used, _) = self.discard(input, 0, after_cr, bytes_max);
        (used, Line::TooLong)
    }

    fn discard(
        &mut self,
        input: &[u8],
        bytes: usize,
        after_cr: bool,
        bytes_max: usize,
    ) -> (usize, Line<'static>) {
        let input = &input[..input.len().min(bytes_max)];
        let mut from = 0;
        while let Some(found) = memchr(b'\n', &input[from..]) {
            let at = from + found;
            if if at > 0 { input[at - 1] == b'\r' } else { after_cr } {
                self.mode = Mode::Line;
                return (at + 1, Line::Incomplete);
            }
            from = at + 1;
        }
        let bytes = bytes + input.len();
        let after_cr = input.last().map_or(after_cr, |&byte| byte == b'\r');
        if bytes >= bytes_max {
            self.mode = Mode::Long { bytes: 0, after_cr };
            (input.len(), Line::StillTooLong)
        } else {
            self.mode = Mode::Long { bytes, after_cr };
            (input.len(), Line::Incomplete)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that the reader says of an input that comes in pieces of `step` bytes.
    fn read(input: &[u8], step: usize, bytes_max: usize) -> Vec<String> {
        let (mut reader, mut said) = (LineReader::default(), Vec::new());
        for mut piece in input.chunks(step) {
            while !piece.is_empty() {
                let (used, line) = reader.take(piece, bytes_max);
                match line {
                    Line::Incomplete => {}
                    Line::Whole(text) => {
                        said.push(String::from_utf8_lossy(text).into_owned());
                        reader.release();
                    }
                    other => said.push(format!("{other:?}")),
                }
                piece = &piece[used..];
            }
        }
        said
    }

    #[test]
    fn lines_come_out_however_they_come_in() {
        for step in 1..30 {
            assert_eq!(read(b"NOOP\r\n\r\nHELO a\rb\r\n", step, 20), ["NOOP", "", "HELO a\rb"]);
        }
    }

    #[test]
    fn a_bare_line_feed_spoils_all_up_to_the_next_crlf() {
        for step in 1..30 {
            assert_eq!(
                read(b"A\nB\nDATA\r\nNOOP\r\n", step, 20),
                ["BareLineFeed", "BareLineFeed", "BareLineFeed", "NOOP"]
            );
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_thrown_away() {
        for step in 1..40 {
            let said = read(b"123456789012345678901234\r\nNOOP\r\n", step, 20);
            assert_eq!((said.first().unwrap().as_str(), said.last().unwrap().as_str()), ("TooLong", "NOOP"));
        }
        let said = read(&[b'x'; 1000], 7, 20);
        assert!(said.iter().filter(|word| *word == "StillTooLong").count() > 40);
        assert_eq!(read(b"12345678\r\n", 3, 10), ["12345678"], "the limit itself is allowed");
    }
}
