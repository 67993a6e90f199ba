use std::fmt::{self, Write};

/// Characters that do something to the screen that shows them instead of being shown: control characters (C0, DEL and C1,
/// which a terminal obeys), line and paragraph separators, and those by which text is shown in another order than it
/// has (UAX #9).
#[must_use]
pub fn is_unprintable(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_control();
    }
    let is_order = matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    char.is_control() || matches!(char, '\u{2028}' | '\u{2029}') || is_order
}

/// Text of others as it may be shown: what is not to be shown as it is stands as `\u202e`, which in a string of JSON
/// means the same character.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(is_unprintable) {
            f.write_str(&rest[..at])?;
            let odd = rest[at..].chars().next().expect("find gives the place of a character");
            write_escaped(f, odd)?;
            rest = &rest[at + odd.len_utf8()..];
        }
        f.write_str(rest)
    }
}

/// Writes an unprintable character as `\u202e`: none lies beyond four digits.
///
/// # Errors
/// As `out` does.
pub fn write_escaped(out: &mut impl Write, char: char) -> fmt::Result {
    write!(out, "\\u{:04x}", u32::from(char))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_or_turns_text_round_is_shown_as_its_number() {
        for (text, shown) in [
            ("plain, and żółć \u{1f600}", "plain, and żółć \u{1f600}"),
            ("\u{1b}[2J", "\\u001b[2J"),
            ("\u{9b}31m", "\\u009b31m"),
            ("a\u{202e}b\u{202a}\u{2066}\u{2069}", "a\\u202eb\\u202a\\u2066\\u2069"),
            ("a\u{2028}b\u{2029}c", "a\\u2028b\\u2029c"),
            ("a\r\nb\tc\u{7f}", "a\\u000d\\u000ab\\u0009c\\u007f"),
            ("\u{200e}\u{200f}\u{61c}", "\\u200e\\u200f\\u061c"),
        ] {
            assert_eq!(Printable(text).to_string(), shown);
        }
        assert!(
            (0..=0x10_ffff)
                .filter_map(char::from_u32)
                .filter(|&char| is_unprintable(char))
                .all(|char| u32::from(char) < 0x1_0000)
        );
    }
}
