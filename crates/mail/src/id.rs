use std::fmt;
use std::str::FromStr;

use crate::encoding::{decode, encode};
use crate::time::UnixMillis;

const MESSAGE_DIGITS: usize = 16;
const TICKET_DIGITS: usize = 13;

/// Names one accepted message, in replies, trace headers, the log and the spool: 80 bits, written as 16 digits.
///
/// 44 bits of milliseconds, 8 of shard and 28 of a counter that starts at random, so that ids sort
/// by time and two shards or two lives of one shard never meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u128);

impl MessageId {
    /// The id of the message number `counter` of `shard`, accepted at `now`.
    #[must_use]
    pub fn new(now: UnixMillis, shard: u8, counter: u32) -> Self {
        let millis = u128::from(now.0) & ((1 << 44) - 1);
        Self(millis << 36 | u128::from(shard) << 28 | u128::from(counter) & ((1 << 28) - 1))
    }

    /// The ten bytes that records hold, most significant first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes.copy_from_slice(&self.0.to_be_bytes()[6..]);
        bytes
    }

    /// The inverse of [`MessageId::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 10]) -> Self {
        let mut wide = [0; 16];
        wide[6..].copy_from_slice(&bytes);
        Self(u128::from_be_bytes(wide))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; MESSAGE_DIGITS];
        encode(self.0, &mut digits);
        f.write_str(std::str::from_utf8(&digits).expect("base 32 digits are ASCII"))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        decode(text, MESSAGE_DIGITS).map(Self).ok_or(ParseIdError { digits: MESSAGE_DIGITS })
    }
}

/// Names one denial: 65 random bits, so that it cannot be guessed, written `7QK2-M9XH-T4WD-3`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(u128);

impl Ticket {
    /// A ticket from random bits; the low 65 are used.
    #[must_use]
    pub fn from_random(bits: u128) -> Self {
        Self(bits & ((1 << 65) - 1))
    }

    /// The 65 bits, as a store holds them.
    #[must_use]
    pub fn bits(self) -> u128 {
        self.0
    }

    /// The form for a URL: the digits without hyphens.
    #[must_use]
    pub fn compact(self) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            let mut digits = [0; TICKET_DIGITS];
            encode(self.0, &mut digits);
            f.write_str(std::str::from_utf8(&digits).expect("base 32 digits are ASCII"))
        })
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; TICKET_DIGITS];
        encode(self.0, &mut digits);
        for (index, group) in digits.chunks(4).enumerate() {
            if index > 0 {
                f.write_str("-")?;
            }
            f.write_str(std::str::from_utf8(group).expect("base 32 digits are ASCII"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Ticket {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        match decode(text, TICKET_DIGITS) {
            Some(value) => Ok(Self(value)),
            None => Err(ParseIdError { digits: TICKET_DIGITS }),
        }
    }
}

/// The text is no id of the kind asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseIdError {
    digits: usize,
}

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} letters and digits (hyphens are ignored)", self.digits)
    }
}

impl std::error::Error for ParseIdError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_bytes() {
        let id = MessageId::new(UnixMillis(1_795_390_496_789), 3, 0x0ABC_DEF1);
        assert_eq!(id.to_string().len(), MESSAGE_DIGITS);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(MessageId::from_bytes(id.to_bytes()), id);
    }

    #[test]
    fn later_ids_sort_later() {
        let earlier = MessageId::new(UnixMillis(1_000), 200, u32::MAX);
        let later = MessageId::new(UnixMillis(1_001), 0, 0);
        assert!(earlier < later);
        assert!(earlier.to_string() < later.to_string());
    }

    #[test]
    fn a_ticket_reads_as_a_person_would_copy_it() {
        let ticket = Ticket::from_random(0x1_2345_6789_ABCD_EF01);
        let text = ticket.to_string();
        assert_eq!(text.len(), 16);
        assert_eq!(text.parse(), Ok(ticket));
        assert_eq!(text.to_lowercase().replace('0', "o").parse(), Ok(ticket));
        assert_eq!(ticket.compact().to_string().parse(), Ok(ticket));
        assert!("7QK2-M9XH".parse::<Ticket>().is_err());
    }
}
