//! Records of `FORMAT.md`: written into an open group, read back as views on its bytes.

use std::net::IpAddr;

use mail::{Address, MessageId, ReversePath, UnixMillis};

use crate::format::{u16_at, u32_at, u64_at};
use crate::group::GroupBuffer;
use crate::{NewMessage, Outcome};

pub(crate) const MESSAGE: u8 = 1;
pub(crate) const ATTEMPT: u8 = 2;
pub(crate) const DEFERRED: u8 = 3;
pub(crate) const OUTCOME: u8 = 4;

const RECORD_HEADER_BYTES: usize = 22;
const MESSAGE_HEADER_BYTES: usize = 64;
const FLAG_EIGHT_BIT: u8 = 1;
const FLAG_LARGE: u8 = 2;
const FINAL_DOT: &[u8] = b".\r\n";

/// The file in which a large body lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LargeBody {
    pub(crate) number: u64,
    /// The content, final dot included.
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
}

/// The body of a message record to be written.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    Inline(&'a [u8]),
    Large(LargeBody),
}

impl Body<'_> {
    /// What it takes in its message's record.
    pub(crate) fn record_bytes(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len() + FINAL_DOT.len(),
            Self::Large(_) => 0,
        }
    }
}

/// A record, as it lies in a valid group.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Record<'a> {
    Message(MessageView<'a>),
    Attempt(Schedule<'a>),
    Deferred(Schedule<'a>),
    Outcome(Outcomes<'a>),
}

/// How long the record of a message will be, or `None` where a field does not fit the format.
pub(crate) fn message_bytes(message: &NewMessage<'_>, body: &Body<'_>) -> Option<usize> {
    let envelope = message.envelope;
    u16::try_from(envelope.recipient_count()).ok()?;
    u16::try_from(message.tenant.len()).ok()?;
    u16::try_from(message.identity.len()).ok()?;
    let recipients: usize = envelope.recipients().map(|to| 2 + to.text().len()).sum();
    let content = message.head.len() + body.record_bytes();
    let texts = message.tenant.len() + message.identity.len() + envelope.reverse_path().text().len();
    Some(MESSAGE_HEADER_BYTES + texts + recipients + content)
}

/// Appends a message record; gives where it begins and its length.
pub(crate) fn put_message(
    group: &mut GroupBuffer,
    message: &NewMessage<'_>,
    body: &Body<'_>,
) -> (usize, usize) {
    let envelope = message.envelope;
    let (inline, large) = match body {
        Body::Inline(bytes) => (Some(*bytes), LargeBody { number: 0, bytes: 0, crc: 0 }),
        Body::Large(large) => (None, *large),
    };
    let content = message.head.len() + body.record_bytes();
    let reverse_path = envelope.reverse_path().text();
    let mut flags = if envelope.is_eight_bit() { FLAG_EIGHT_BIT } else { 0 };
    if inline.is_none() {
        flags |= FLAG_LARGE;
    }
    let start = group.begin_record(MESSAGE, message.id);
    group.put(&[flags, 0]);
    group.put(&message.arrived.0.to_le_bytes());
    group.put(&large.number.to_le_bytes());
    group.put(&large.bytes.to_le_bytes());
    group.put(&large.crc.to_le_bytes());
    group.put(&(content as u32).to_le_bytes());
    for length in
        [message.tenant.len(), message.identity.len(), reverse_path.len(), envelope.recipient_count()]
    {
        group.put(&(length as u16).to_le_bytes());
    }
    group.put(message.tenant.as_bytes());
    group.put(message.identity.as_bytes());
    group.put(reverse_path.as_bytes());
    for to in envelope.recipients() {
        group.put(&(to.text().len() as u16).to_le_bytes());
        group.put(to.text().as_bytes());
    }
    group.put(message.head);
    if let Some(bytes) = inline {
        group.put(bytes);
        group.put(FINAL_DOT);
    }
    (start, group.end_record(start))
}

/// How long an attempt or deferral record will be.
pub(crate) fn schedule_bytes(recipients: usize) -> usize {
    34 + 2 * recipients
}

/// Appends an attempt or a deferral record.
pub(crate) fn put_schedule(
    group: &mut GroupBuffer,
    kind: u8,
    id: MessageId,
    recipients: &[u16],
    at: UnixMillis,
    attempts: u16,
) {
    let start = group.begin_record(kind, id);
    group.put(&(recipients.len() as u16).to_le_bytes());
    group.put(&at.0.to_le_bytes());
    group.put(&attempts.to_le_bytes());
    for recipient in recipients {
        group.put(&recipient.to_le_bytes());
    }
    group.end_record(start);
}

/// How long an outcome record will be.
pub(crate) fn outcome_bytes(outcomes: usize) -> usize {
    24 + 4 * outcomes
}

/// Appends an outcome record.
pub(crate) fn put_outcomes(group: &mut GroupBuffer, id: MessageId, outcomes: &[(u16, Outcome)]) {
    let start = group.begin_record(OUTCOME, id);
    group.put(&(outcomes.len() as u16).to_le_bytes());
    for &(recipient, outcome) in outcomes {
        let recipient = recipient.to_le_bytes();
        group.put(&[recipient[0], recipient[1], outcome as u8, 0]);
    }
    group.end_record(start);
}

/// The length a record claims, when a whole one with a right CRC stands at the start of `bytes`.
pub(crate) fn sound_length(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < RECORD_HEADER_BYTES {
        return None;
    }
    let length = u32_at(bytes, 0) as usize;
    (RECORD_HEADER_BYTES..=bytes.len()).contains(&length).then_some(())?;
    (u32_at(bytes, 4) == crc32c::crc32c(&bytes[8..length])).then_some(length)
}

/// How much of a whole record a footer repeats: all but a message's content.
pub(crate) fn outline_length(record: &[u8]) -> usize {
    match record[8] {
        MESSAGE => record.len() - u32_at(record, 52) as usize,
        _ => record.len(),
    }
}

/// Whether a whole record is an outcome.
pub(crate) fn is_outcome(record: &[u8]) -> bool {
    record[8] == OUTCOME
}

/// Reads one whole record; `None` when it is malformed or of an unknown type.
pub(crate) fn parse(bytes: &[u8]) -> Option<(MessageId, Record<'_>)> {
    parse_with(bytes, MessageView::parse)
}

/// Reads a record as a footer repeats it: without a message's content.
pub(crate) fn parse_outline(bytes: &[u8]) -> Option<(MessageId, Record<'_>)> {
    parse_with(bytes, MessageView::parse_outline)
}

fn parse_with<'a>(
    bytes: &'a [u8],
    message: impl FnOnce(&'a [u8]) -> Option<MessageView<'a>>,
) -> Option<(MessageId, Record<'a>)> {
    let id = MessageId::from_bytes(bytes.get(12..22)?.try_into().ok()?);
    let record = match bytes[8] {
        MESSAGE => Record::Message(message(bytes)?),
        ATTEMPT => Record::Attempt(Schedule::parse(bytes)?),
        DEFERRED => Record::Deferred(Schedule::parse(bytes)?),
        OUTCOME => Record::Outcome(Outcomes::parse(bytes)?),
        _ => return None,
    };
    Some((id, record))
}

/// A message record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageView<'a> {
    bytes: &'a [u8],
    /// Where the recipients begin.
    recipients_at: usize,
    /// Where the content begins.
    pub(crate) content_at: usize,
}

impl<'a> MessageView<'a> {
    /// Checks every length and address once, so that the accessors cannot fail.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let view = Self::parse_envelope(bytes)?;
        (view.content_at + view.content_bytes() == bytes.len()).then_some(view)
    }

    /// The same for a record without its content.
    pub(crate) fn parse_outline(bytes: &'a [u8]) -> Option<Self> {
        let view = Self::parse_envelope(bytes)?;
        let whole = view.content_at + view.content_bytes();
        (view.content_at == bytes.len() && whole == u32_at(bytes, 0) as usize).then_some(view)
    }

    fn parse_envelope(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < MESSAGE_HEADER_BYTES || bytes[8] != MESSAGE {
            return None;
        }
        let recipients_at = MESSAGE_HEADER_BYTES
            + usize::from(u16_at(bytes, 56))
            + usize::from(u16_at(bytes, 58))
            + usize::from(u16_at(bytes, 60));
        let mut at = recipients_at;
        std::str::from_utf8(bytes.get(MESSAGE_HEADER_BYTES..at)?).ok()?;
        for _ in 0..u16_at(bytes, 62) {
            let length = usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
            let text = std::str::from_utf8(bytes.get(at + 2..at + 2 + length)?).ok()?;
            Address::parse(text).ok()?;
            at += 2 + length;
        }
        let view = Self { bytes, recipients_at, content_at: at };
        ReversePath::parse(view.texts().2).ok()?;
        Some(view)
    }

    /// The same for a record that was checked before.
    pub(crate) fn of_checked(bytes: &'a [u8], content_at: usize) -> Self {
        let recipients_at = MESSAGE_HEADER_BYTES
            + usize::from(u16_at(bytes, 56))
            + usize::from(u16_at(bytes, 58))
            + usize::from(u16_at(bytes, 60));
        Self { bytes, recipients_at, content_at }
    }

    /// Length of the content, which a footer does not repeat.
    pub(crate) fn content_bytes(&self) -> usize {
        u32_at(self.bytes, 52) as usize
    }

    pub(crate) fn id(&self) -> MessageId {
        MessageId::from_bytes(self.bytes[12..22].try_into().expect("ten bytes were sliced"))
    }

    pub(crate) fn arrived(&self) -> UnixMillis {
        UnixMillis(u64_at(self.bytes, 24))
    }

    pub(crate) fn is_eight_bit(&self) -> bool {
        self.bytes[22] & FLAG_EIGHT_BIT != 0
    }

    pub(crate) fn large(&self) -> Option<LargeBody> {
        (self.bytes[22] & FLAG_LARGE != 0).then(|| LargeBody {
            number: u64_at(self.bytes, 32),
            bytes: u64_at(self.bytes, 40),
            crc: u32_at(self.bytes, 48),
        })
    }

    pub(crate) fn tenant(&self) -> &'a str {
        self.texts().0
    }

    /// The login; empty where an address stands in its place.
    pub(crate) fn identity(&self) -> &'a str {
        match self.texts().1 {
            client if client.starts_with('[') => "",
            login => login,
        }
    }

    /// The client that answers for the message because no login does.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.texts().1.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
    }

    pub(crate) fn reverse_path(&self) -> ReversePath<'a> {
        ReversePath::parse(self.texts().2).expect("checked when the record was read")
    }

    pub(crate) fn recipient_count(&self) -> usize {
        usize::from(u16_at(self.bytes, 62))
    }

    pub(crate) fn recipients(&self) -> impl ExactSizeIterator<Item = Address<'a>> + use<'a> {
        let bytes = self.bytes;
        let mut at = self.recipients_at;
        (0..self.recipient_count()).map(move |_| {
            let length = usize::from(u16_at(bytes, at));
            let text = utf8(&bytes[at + 2..at + 2 + length]);
            at += 2 + length;
            Address::parse(text).expect("checked when the record was read")
        })
    }

    fn texts(&self) -> (&'a str, &'a str, &'a str) {
        let [tenant, identity, reverse_path] = [56, 58, 60].map(|at| usize::from(u16_at(self.bytes, at)));
        let at = MESSAGE_HEADER_BYTES;
        (
            utf8(&self.bytes[at..at + tenant]),
            utf8(&self.bytes[at + tenant..at + tenant + identity]),
            utf8(&self.bytes[at + tenant + identity..at + tenant + identity + reverse_path]),
        )
    }
}

/// An attempt or a deferral.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule<'a> {
    bytes: &'a [u8],
}

impl<'a> Schedule<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() >= 34 && bytes.len() == schedule_bytes(usize::from(u16_at(bytes, 22))))
            .then_some(Self { bytes })
    }

    pub(crate) fn at(&self) -> UnixMillis {
        UnixMillis(u64_at(self.bytes, 24))
    }

    pub(crate) fn attempts(&self) -> u16 {
        u16_at(self.bytes, 32)
    }

    pub(crate) fn recipients(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.bytes[34..].chunks_exact(2).map(|pair| u16_at(pair, 0))
    }
}

/// What became of some recipients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcomes<'a> {
    bytes: &'a [u8],
}

impl<'a> Outcomes<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() >= 24 && bytes.len() == outcome_bytes(usize::from(u16_at(bytes, 22)))).then_some(())?;
        let known = bytes[24..].chunks_exact(4).all(|one| matches!(one[2], 1..=3));
        known.then_some(Self { bytes })
    }

    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (u16, Outcome)> + use<'a> {
        self.bytes[24..].chunks_exact(4).map(|one| {
            let outcome = match one[2] {
                1 => Outcome::Delivered,
                2 => Outcome::Failed,
                _ => Outcome::Expired,
            };
            (u16_at(one, 0), outcome)
        })
    }
}

fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("checked when the record was read")
}
