//! What a next hop takes: a message that is not for it fails before it is begun.
//!
//! A host names the largest message it takes (RFC 1870), and whether it takes 8-bit bytes (RFC 6152). A
//! message beyond that is never sent there in the hope that it passes: the sender is told at once. Other
//! hosts of the same site are not tried, as they would take no more. Pure.

use std::ops::Range;

use mail::{Reply, Status};
use ring::SharedBuffer;
use smtp::client::Session;
use spool::{StoredContent, StoredMessage};

/// The final dot line is no part of the message (RFC 1870 section 3).
const FINAL_DOT_BYTES: u64 = 3;

/// Why the next hop `hop`, at the other end of `session`, cannot be given `message`; words of our own.
pub(crate) fn misfit(message: &StoredMessage, session: &Session, hop: &str) -> Option<Reply> {
    if let Some(most) = session.size_max()
        && let Some(bytes) = bytes_beyond(message, most)
    {
        let text = format_args!("{hop} takes messages of {most} bytes at most, and this one has {bytes}");
        return Some(Reply::new(552, Some(Status::new(5, 3, 4)), text));
    }
    let (_, buffer, range) = at_hand(message);
    let passes = session.takes_eight_bit() || buffer[range].is_ascii();
    (!passes).then(|| seven_bit_only(hop))
}

/// Whether the parameter BODY=8BITMIME goes with `message`: its sender declared it, or it has such bytes.
/// What a file of its own holds is not known before it is read.
pub(crate) fn declares_eight_bit(message: &StoredMessage) -> bool {
    let (is_whole, buffer, range) = at_hand(message);
    message.is_eight_bit() || !is_whole || !buffer[range].is_ascii()
}

/// A message has 8-bit bytes, and `hop` does not take them.
pub(crate) fn seven_bit_only(hop: &str) -> Reply {
    let text = format_args!("{hop} takes 7-bit messages only (no 8BITMIME), and this one has 8-bit bytes");
    Reply::new(554, Some(Status::new(5, 6, 3)), text)
}

/// The size of `message` where it is more than `most`. Dots that were added at the start of lines do not
/// count (RFC 1870 section 3); in a file of its own they are too few, among so many bytes, to be looked for.
fn bytes_beyond(message: &StoredMessage, most: u64) -> Option<u64> {
    let bytes = message.content_bytes().saturating_sub(FINAL_DOT_BYTES);
    if bytes <= most {
        return None;
    }
    let StoredContent::Inline(buffer, range) = message.content() else { return Some(bytes) };
    let added = buffer[range].windows(4).filter(|window| *window == b"\r\n..").count();
    Some(bytes - added as u64).filter(|&bytes| bytes > most)
}

/// What of the content is in memory, and whether that is all of it.
fn at_hand(message: &StoredMessage) -> (bool, SharedBuffer, Range<usize>) {
    match message.content() {
        StoredContent::Inline(buffer, range) => (true, buffer, range),
        StoredContent::Large { buffer, head, .. } => (false, buffer, head),
    }
}
