//! Which fields of a header are held against its sender (DESIGN.md C2).

/// A header field that says who a message is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderField {
    /// Whom the reader sees.
    From,
    /// Whom an answer goes to.
    ReplyTo,
    /// Who sent it for those in From.
    Sender,
}

impl HeaderField {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::From, Self::ReplyTo, Self::Sender];

    /// Its name, as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::From => "From",
            Self::ReplyTo => "Reply-To",
            Self::Sender => "Sender",
        }
    }
}

/// Which of them a tenant wants to be those of who relays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderChecks {
    /// From: then exactly one is required.
    pub from: bool,
    /// Reply-To, where there is one.
    pub reply_to: bool,
    /// Sender, where there is one.
    pub sender: bool,
}

impl HeaderChecks {
    /// Whether anything is checked.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.from || self.reply_to || self.sender
    }

    /// Whether `field` is checked.
    #[must_use]
    pub fn holds(self, field: HeaderField) -> bool {
        match field {
            HeaderField::From => self.from,
            HeaderField::ReplyTo => self.reply_to,
            HeaderField::Sender => self.sender,
        }
    }
}
