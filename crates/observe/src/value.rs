//! What a fact may be, and how it is written: each type of value says so once.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::path::Path;

use mail::{MessageId, Reason, Reply, SuspensionCause, Ticket, UnixMillis};

use crate::event::Sink;
use crate::metrics::PeerFault;

/// How a value is written, for those who read records by program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A JSON string of any text.
    Text,
    /// A JSON number: whole, from 0 to 2^64 - 1.
    Number,
    /// `true` or `false`.
    Bool,
    /// A JSON string with an IPv4 or IPv6 address.
    IpAddress,
    /// A JSON string with the path of a file.
    Path,
    /// A JSON string with a time in UTC (RFC 3339), to the millisecond.
    Time,
    /// A JSON string with the id of a message.
    MessageId,
    /// A JSON string with a ticket.
    Ticket,
    /// A JSON string with the reason of a denial.
    Reason,
    /// A JSON string with a reply of SMTP on one line: code, enhanced code, text.
    Reply,
    /// A JSON string that is one of a few words.
    Word,
}

impl Kind {
    /// What it is called on the page of events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Bool => "true or false",
            Self::IpAddress => "IP address",
            Self::Path => "path",
            Self::Time => "time",
            Self::MessageId => "message id",
            Self::Ticket => "ticket",
            Self::Reason => "reason",
            Self::Reply => "reply",
            Self::Word => "word",
        }
    }
}

/// A value of a field. Secrets have no way in but by a careless caller: no credential is one.
pub trait Value {
    /// How it is written.
    const KIND: Kind;
    /// Whether there may be none.
    const IS_OPTIONAL: bool = false;

    /// Tells it under `name`, if there is one.
    fn tell(&self, name: &'static str, to: &mut impl Sink);
}

impl<V: Value> Value for Option<V> {
    const KIND: Kind = V::KIND;
    const IS_OPTIONAL: bool = true;

    fn tell(&self, name: &'static str, to: &mut impl Sink) {
        if let Some(value) = self {
            value.tell(name, to);
        }
    }
}

impl Value for &str {
    const KIND: Kind = Kind::Text;

    fn tell(&self, name: &'static str, to: &mut impl Sink) {
        to.str(name, self);
    }
}

impl Value for u64 {
    const KIND: Kind = Kind::Number;

    fn tell(&self, name: &'static str, to: &mut impl Sink) {
        to.number(name, *self);
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Bool;

    fn tell(&self, name: &'static str, to: &mut impl Sink) {
        to.bool(name, *self);
    }
}

impl Value for &Path {
    const KIND: Kind = Kind::Path;

    fn tell(&self, name: &'static str, to: &mut impl Sink) {
        to.display(name, self.display());
    }
}

impl Value for UnixMillis {
    const KIND: Kind = Kind::Time;

    fn tell(&self, name: &'static str, to: &mut impl Sink) {
        to.display(name, self.rfc3339());
    }
}

/// One of a few words of the program's own.
#[derive(Clone, Copy, Debug)]
pub struct Word(pub &'static str);

impl Value for Word {
    const KIND: Kind = Kind::Word;

    fn tell(&self, name: &'static str, to: &mut impl Sink) {
        to.str(name, self.0);
    }
}

/// A listener: its name is told, its index counts.
#[derive(Clone, Copy, Debug)]
pub struct Listener<'a> {
    /// Its place among the listeners of the configuration.
    pub index: usize,
    /// Its name there.
    pub name: &'a str,
}

impl Value for Listener<'_> {
    const KIND: Kind = Kind::Text;

    fn tell(&self, name: &'static str, to: &mut impl Sink) {
        to.str(name, self.name);
    }
}

/// What prints as text, and what its text is.
macro_rules! printed {
    ($($Type:ty: $Kind:ident),+ $(,)?) => {
        $(impl Value for $Type {
            const KIND: Kind = Kind::$Kind;

            fn tell(&self, name: &'static str, to: &mut impl Sink) {
                to.display(name, self);
            }
        })+
    };
}

printed! {
    &dyn Display: Text,
    fmt::Arguments<'_>: Text,
    IpAddr: IpAddress,
    MessageId: MessageId,
    Ticket: Ticket,
    &Reply: Reply,
}

/// What is one of a few words that its type knows.
macro_rules! word {
    ($($Type:ty: $Kind:ident),+ $(,)?) => {
        $(impl Value for $Type {
            const KIND: Kind = Kind::$Kind;

            fn tell(&self, name: &'static str, to: &mut impl Sink) {
                to.str(name, self.as_str());
            }
        })+
    };
}

word! {
    Reason: Reason,
    SuspensionCause: Word,
    PeerFault: Word,
}
