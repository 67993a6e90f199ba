//! One transaction: what is to be said, and whose answer comes next.

use std::fmt::Write as _;

use mail::{Address, ReversePath};

/// What the peer offers (RFC 5321 section 4.1.1.1).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offers {
    pub(super) pipelining: bool,
    pub(super) size: bool,
    /// The largest message it takes (RFC 1870 section 4): without a number, or with 0, it names none.
    pub(super) size_max: Option<u64>,
    pub(super) eight_bit: bool,
    pub(super) start_tls: bool,
}

impl Offers {
    /// Reads the answer to EHLO.
    pub(super) fn read(reply: &mail::Reply) -> Self {
        let mut offers = Self::default();
        for line in reply.lines().skip(1) {
            let mut words = line.split_ascii_whitespace();
            match words.next().unwrap_or_default() {
                word if word.eq_ignore_ascii_case("PIPELINING") => offers.pipelining = true,
                word if word.eq_ignore_ascii_case("SIZE") => {
                    offers.size = true;
                    let bytes = words.next().and_then(|bytes| bytes.parse().ok());
                    offers.size_max = bytes.filter(|&bytes| bytes > 0);
                }
                word if word.eq_ignore_ascii_case("8BITMIME") => offers.eight_bit = true,
                word if word.eq_ignore_ascii_case("STARTTLS") => offers.start_tls = true,
                _ => {}
            }
        }
        offers
    }
}

/// The commands of a transaction, kept between transactions for their memory.
#[derive(Debug, Default)]
pub(super) struct Commands {
    text: String,
    said: usize,
    /// How many recipients there are.
    pub(super) recipients: usize,
}

impl Commands {
    /// MAIL and each RCPT. DATA is not among them: whether to say it may hang on the answers.
    pub(super) fn write<'a>(
        &mut self,
        from: ReversePath<'_>,
        recipients: impl Iterator<Item = Address<'a>>,
        size: Option<u64>,
        eight_bit: bool,
        offers: Offers,
    ) {
        self.text.clear();
        self.said = 0;
        self.recipients = 0;
        let _ = write!(self.text, "MAIL FROM:{from}");
        if let Some(size) = size.filter(|_| offers.size) {
            let _ = write!(self.text, " SIZE={size}");
        }
        // A peer that does not know the parameter is only given what is all 7-bit: the caller sees to it.
        if eight_bit && offers.eight_bit {
            self.text.push_str(" BODY=8BITMIME");
        }
        self.text.push_str("\r\n");
        for recipient in recipients {
            let _ = write!(self.text, "RCPT TO:<{recipient}>\r\n");
            self.recipients += 1;
        }
    }

    /// All that was not said yet.
    pub(super) fn rest(&mut self) -> &[u8] {
        let rest = &self.text.as_bytes()[self.said..];
        self.said = self.text.len();
        rest
    }

    /// The next command.
    pub(super) fn next(&mut self) -> &[u8] {
        let rest = &self.text.as_bytes()[self.said..];
        let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
        self.said += end;
        &rest[..end]
    }
}

/// Whose answer is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    Mail,
    Recipient(usize),
    Data,
}

/// A transaction before its body.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) awaited: Awaited,
    /// MAIL, all RCPT and, where a message follows, DATA were said at once (RFC 2920).
    pub(super) pipelined: bool,
    /// No message follows.
    pub(super) verifies: bool,
    pub(super) mail_refused: bool,
    pub(super) accepted: usize,
}
