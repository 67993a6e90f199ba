use std::fmt::Write as _;

use crate::reply::{Reply, Status};

/// Stands for the recipient's own address in what was said of many.
pub const RECIPIENT_MARK: char = '\u{1}';

/// What was last said of a recipient or of a site, or what went wrong there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LastReply {
    /// The next hop that was tried, where one was.
    pub next_hop: Option<Box<str>>,
    /// The three-digit code.
    pub code: u16,
    /// The enhanced status, where there was one.
    pub status: Option<Status>,
    /// The text on one line, with [`RECIPIENT_MARK`] for the recipient's address.
    pub text: Box<str>,
}

impl LastReply {
    /// What is kept of a reply that `next_hop` gave, or that we gave for it, to the recipient of `address`:
    /// `bytes_max` bytes of its text at most.
    #[must_use]
    pub fn of(reply: &Reply, next_hop: Option<&str>, address: Option<&str>, bytes_max: usize) -> Self {
        let mut text = String::new();
        for (index, line) in reply.lines().enumerate() {
            text.push_str(if index == 0 { "" } else { " / " });
            text.push_str(line);
        }
        // First the mark, so that a cut through the address does not make two texts of one.
        if let Some(address) = address.filter(|address| text.contains(*address)) {
            let mut mark = [0; 4];
            text = text.replace(address, RECIPIENT_MARK.encode_utf8(&mut mark));
        }
        let text = cut(&text, bytes_max).into();
        Self { next_hop: next_hop.map(Into::into), code: reply.code(), status: reply.status(), text }
    }

    /// The reply to the recipient of this address, on one line.
    #[must_use]
    pub fn told_to(&self, address: &str) -> String {
        let mut told = self.code.to_string();
        if let Some(status) = self.status {
            let _ = write!(told, " {status}");
        }
        if !self.text.is_empty() {
            told.push(' ');
            told.push_str(&self.text.replace(RECIPIENT_MARK, address));
        }
        told
    }

    /// The text in `bytes_max` bytes at most.
    #[must_use]
    pub fn cut_text(&self, bytes_max: usize) -> String {
        cut(&self.text, bytes_max)
    }
}

/// `text` in `bytes_max` bytes at most, with an ellipsis where something is left out of it.
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, bytes_max: usize) -> LastReply {
        let mut reply = Reply::new(450, Some(Status::new(4, 2, 1)), text);
        reply.add_line(format_args!("later"));
        LastReply::of(&reply, Some("mx.example:25"), Some("kim@a.example"), bytes_max)
    }

    #[test]
    fn a_reply_is_told_to_whom_it_is_about() {
        let reply = said("<kim@a.example>: greylisted", 100);
        assert_eq!(reply.told_to("lee@b.example"), "450 4.2.1 <lee@b.example>: greylisted / later");
        let bare = LastReply { text: "".into(), status: None, ..reply };
        assert_eq!(bare.told_to("lee@b.example"), "450");
    }

    #[test]
    fn a_text_is_cut_between_two_characters() {
        for bytes_max in 0..40 {
            let text = said(&"é".repeat(30), bytes_max).text;
            assert!(text.len() <= bytes_max.max('…'.len_utf8()) && text.ends_with('…'), "{text:?}");
        }
        assert_eq!(&*said("busy", 12).text, "busy / later");
        assert_eq!(&*said("busy", 11).text, "busy / l…");
    }
}
