//! The record of a message: its envelope in fields, and its content behind them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mail::{Address, MessageId, ReversePath, UnixMillis};

use super::fields::{self, Field, Fields};
use super::tags::{REQUIRED, kind, message as tag};
use super::{Foreign, HEADER_BYTES, fields_of, id_of, length_of};
use crate::NewMessage;

const FINAL_DOT: &[u8] = b".\r\n";

/// The file in which a large body lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LargeBody {
    pub(crate) number: u64,
    /// The content, final dot included.
    pub(crate) bytes: u64,
    pub(crate) crc: u32,
}

impl LargeBody {
    fn parse(value: &[u8]) -> Option<Self> {
        let (number, rest) = value.split_first_chunk()?;
        let (bytes, crc) = rest.split_first_chunk()?;
        Some(Self {
            number: u64::from_le_bytes(*number),
            bytes: u64::from_le_bytes(*bytes),
            crc: u32::from_le_bytes(crc.try_into().ok()?),
        })
    }
}

/// The body of a message record to be written.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    Inline(&'a [u8]),
    Large(LargeBody),
}

/// What stands behind the fields of a message to be written.
pub(crate) fn content<'a>(message: &NewMessage<'a>, body: &Body<'a>) -> [&'a [u8]; 3] {
    match *body {
        Body::Inline(bytes) => [message.head, bytes, FINAL_DOT],
        Body::Large(_) => [message.head, &[], &[]],
    }
}

/// Appends the fields of a message; `None` where the format has no room for its recipients.
pub(crate) fn put_message(out: &mut Vec<u8>, message: &NewMessage<'_>, body: &Body<'_>) -> Option<()> {
    let envelope = message.envelope;
    u16::try_from(envelope.recipient_count()).ok()?;
    fields::put(out, tag::ARRIVED, &[&message.arrived.0.to_le_bytes()]);
    fields::put(out, tag::TENANT, &[message.tenant.as_bytes()]);
    match client_in(message.identity) {
        Some(IpAddr::V4(ip)) => fields::put(out, tag::CLIENT, &[&ip.octets()]),
        Some(IpAddr::V6(ip)) => fields::put(out, tag::CLIENT, &[&ip.octets()]),
        None if message.identity.is_empty() => {}
        None => fields::put(out, tag::LOGIN, &[message.identity.as_bytes()]),
    }
    if let ReversePath::Address(from) = envelope.reverse_path() {
        fields::put(out, tag::REVERSE_PATH, &[from.text().as_bytes()]);
    }
    if envelope.is_eight_bit() {
        fields::put(out, tag::EIGHT_BIT, &[]);
    }
    if let Body::Large(LargeBody { number, bytes, crc }) = body {
        let parts: [&[u8]; 3] = [&number.to_le_bytes(), &bytes.to_le_bytes(), &crc.to_le_bytes()];
        fields::put(out, tag::LARGE, &parts);
    }
    for to in envelope.recipients() {
        fields::put(out, tag::RECIPIENT, &[to.text().as_bytes()]);
    }
    Some(())
}

/// The address of a client in brackets, which stands where no login answers for a message.
fn client_in(identity: &str) -> Option<IpAddr> {
    identity.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// A text in a record: where it begins, and its length.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    at: u32,
    length: u32,
}

/// What the fields of a message say, or where in its record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    arrived: UnixMillis,
    tenant: Span,
    login: Span,
    client: Option<IpAddr>,
    reverse_path: Span,
    is_eight_bit: bool,
    large: Option<LargeBody>,
    /// Where the first recipient's field begins.
    recipients_at: u32,
    recipients: u16,
    /// Where the content begins.
    content_at: u32,
    /// Why the message must not be delivered by this version.
    pub(crate) foreign: Option<Foreign>,
}

impl Layout {
    /// Reads the fields of a record; `None` where they are none.
    fn read(fields: &[u8]) -> Option<Self> {
        let mut layout = Self {
            arrived: UnixMillis(0),
            tenant: Span::default(),
            login: Span::default(),
            client: None,
            reverse_path: Span::default(),
            is_eight_bit: false,
            large: None,
            recipients_at: 0,
            recipients: 0,
            content_at: (HEADER_BYTES + fields.len()) as u32,
            foreign: None,
        };
        // By the numbers of required tags.
        let mut seen = 0_u128;
        for field in Fields::parse(fields)?.filter(|field| field.tag & REQUIRED != 0) {
            let bit = 1 << (field.tag & !REQUIRED);
            let is_twice = seen & bit != 0 && field.tag != tag::RECIPIENT;
            seen |= bit;
            let is_known = matches!(field.tag, tag::ARRIVED..=tag::RECIPIENT);
            if layout.take(&field).is_none() || is_twice {
                let (kind, tag) = (kind::MESSAGE, field.tag);
                let foreign =
                    if is_known { Foreign::Value { kind, tag } } else { Foreign::Unknown { kind, tag } };
                layout.foreign.get_or_insert(foreign);
            }
        }
        let is_missing = |tag: &u8| seen & 1 << (tag & !REQUIRED) == 0;
        if let Some(tag) = [tag::ARRIVED, tag::TENANT, tag::RECIPIENT].into_iter().find(is_missing) {
            layout.foreign.get_or_insert(Foreign::Missing { kind: kind::MESSAGE, tag });
        }
        Some(layout)
    }

    /// Takes in a required field; `None` where it is not understood.
    fn take(&mut self, field: &Field<'_>) -> Option<()> {
        let value = field.value;
        match field.tag {
            tag::ARRIVED => self.arrived = UnixMillis(fields::u64_of(value)?),
            tag::TENANT => self.tenant = Span::of(field)?,
            tag::LOGIN => self.login = Span::of(field)?,
            tag::CLIENT => self.client = Some(ip_of(value)?),
            tag::REVERSE_PATH => {
                self.reverse_path = Span::of(field)?;
                Address::parse(str::from_utf8(value).ok()?).ok()?;
            }
            tag::EIGHT_BIT => self.is_eight_bit = value.is_empty().then_some(true)?,
            tag::LARGE => self.large = Some(LargeBody::parse(value)?),
            tag::RECIPIENT => {
                if self.recipients == 0 {
                    self.recipients_at = (HEADER_BYTES + field.at) as u32;
                }
                self.recipients = self.recipients.checked_add(1)?;
                Address::parse(str::from_utf8(value).ok()?).ok()?;
            }
            _ => return None,
        }
        Some(())
    }
}

impl Span {
    /// The value of a field, which must be text.
    fn of(field: &Field<'_>) -> Option<Self> {
        str::from_utf8(field.value).ok()?;
        let at = HEADER_BYTES + field.end - field.value.len();
        Some(Self { at: at as u32, length: field.value.len() as u32 })
    }

    fn text(self, record: &[u8]) -> &str {
        text(&record[self.at as usize..(self.at + self.length) as usize])
    }
}

fn ip_of(value: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(value).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    let sixteen = || <[u8; 16]>::try_from(value).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
    four.or_else(|_| sixteen()).ok()
}

/// Text that was checked; of a message that is refused, what is no text is shown as none.
fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

/// A message record, whole or without its content as a footer repeats it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageView<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

impl<'a> MessageView<'a> {
    /// Checks every length and address once, so that the accessors cannot fail. `None` where this is no message
    /// record at all; of one that is not understood [`MessageView::foreign`] says why.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let is_message = bytes.get(super::KIND_AT) == Some(&kind::MESSAGE);
        let layout = Layout::read(fields_of(bytes).filter(|_| is_message)?)?;
        Some(Self { bytes, layout })
    }

    /// The same for a record that was checked before.
    pub(crate) fn of_checked(bytes: &'a [u8], layout: Layout) -> Self {
        Self { bytes, layout }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Why the message must not be delivered by this version.
    pub(crate) fn foreign(&self) -> Option<Foreign> {
        self.layout.foreign
    }

    /// Where the content begins in the record.
    pub(crate) fn content_at(&self) -> usize {
        self.layout.content_at as usize
    }

    /// Length of the content, which a footer does not repeat.
    pub(crate) fn content_bytes(&self) -> usize {
        length_of(self.bytes) - self.content_at()
    }

    pub(crate) fn id(&self) -> MessageId {
        id_of(self.bytes).expect("a record has a header")
    }

    pub(crate) fn arrived(&self) -> UnixMillis {
        self.layout.arrived
    }

    pub(crate) fn is_eight_bit(&self) -> bool {
        self.layout.is_eight_bit
    }

    pub(crate) fn large(&self) -> Option<LargeBody> {
        self.layout.large
    }

    pub(crate) fn tenant(&self) -> &'a str {
        self.layout.tenant.text(self.bytes)
    }

    /// The login; empty where none answers for the message.
    pub(crate) fn identity(&self) -> &'a str {
        self.layout.login.text(self.bytes)
    }

    /// The client that answers for the message because no login does.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.layout.client
    }

    /// Empty for the null reverse-path.
    pub(crate) fn reverse_path_text(&self) -> &'a str {
        self.layout.reverse_path.text(self.bytes)
    }

    /// Of a message that is understood.
    pub(crate) fn reverse_path(&self) -> ReversePath<'a> {
        ReversePath::parse(self.reverse_path_text()).expect("checked when the record was read")
    }

    pub(crate) fn recipient_count(&self) -> usize {
        usize::from(self.layout.recipients)
    }

    /// The recipients as they stand there; of a message that is refused they may be no addresses.
    pub(crate) fn recipient_texts(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        let from = (self.layout.recipients_at as usize).min(self.content_at());
        let fields = Fields::of_checked(&self.bytes[from..self.content_at()]);
        let mut texts = fields.filter(|field| field.tag == tag::RECIPIENT).map(|field| text(field.value));
        (0..self.recipient_count()).map(move |_| texts.next().unwrap_or_default())
    }

    /// Of a message that is understood.
    pub(crate) fn recipients(&self) -> impl ExactSizeIterator<Item = Address<'a>> + use<'a> {
        self.recipient_texts().map(|text| Address::parse(text).expect("checked when the record was read"))
    }
}
