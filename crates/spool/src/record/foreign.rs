use std::fmt;

use super::tags::kind;

/// What keeps a message from being delivered though its bytes are what was written: one of its records says what
/// this version does not understand and must not pass over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Foreign {
    /// A record of a type that is not known.
    Kind(u8),
    /// A required field that is not known.
    Unknown {
        /// The type of the record.
        kind: u8,
        /// The field's tag.
        tag: u8,
    },
    /// A field whose value makes no sense to this version, or that stands twice and may stand once.
    Value {
        /// The type of the record.
        kind: u8,
        /// The field's tag.
        tag: u8,
    },
    /// A field that every such record has.
    Missing {
        /// The type of the record.
        kind: u8,
        /// The field's tag.
        tag: u8,
    },
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, tag, what) = match *self {
            Self::Kind(kind) => {
                return write!(
                    f,
                    "it has a record of type {kind:#04x}, which this Gatepost does not know and must not pass \
                     over; a later one delivers it"
                );
            }
            Self::Unknown { kind, tag } => (kind, tag, "does not know and must not pass over"),
            Self::Value { kind, tag } => (kind, tag, "cannot read"),
            Self::Missing { kind, tag } => (kind, tag, "needs and does not find"),
        };
        let name = match kind {
            kind::MESSAGE => "message",
            kind::ATTEMPT => "attempt",
            kind::DEFERRED => "deferral",
            _ => "outcome",
        };
        write!(
            f,
            "its {name} record has a field {tag:#04x} that this Gatepost {what}; a later one delivers it"
        )
    }
}
