//! The tags of `FORMAT.md`. A number is given once and never again, also where its field is no longer written.

/// Set in a tag, and in the type of a record, that must not be passed over by a reader who does not know it.
pub(crate) const REQUIRED: u8 = 0x80;

/// No tag, so that zeros are no fields.
pub(crate) const NONE: u8 = 0;

/// Types of records.
pub(crate) mod kind {
    use super::REQUIRED;

    pub(crate) const MESSAGE: u8 = 1 | REQUIRED;
    pub(crate) const ATTEMPT: u8 = 2;
    pub(crate) const DEFERRED: u8 = 3 | REQUIRED;
    pub(crate) const OUTCOME: u8 = 4 | REQUIRED;
}

/// Fields of a message.
pub(crate) mod message {
    use super::REQUIRED;

    pub(crate) const ARRIVED: u8 = 1 | REQUIRED;
    pub(crate) const TENANT: u8 = 2 | REQUIRED;
    pub(crate) const LOGIN: u8 = 3 | REQUIRED;
    pub(crate) const CLIENT: u8 = 4 | REQUIRED;
    pub(crate) const REVERSE_PATH: u8 = 5 | REQUIRED;
    pub(crate) const EIGHT_BIT: u8 = 6 | REQUIRED;
    pub(crate) const LARGE: u8 = 7 | REQUIRED;
    pub(crate) const RECIPIENT: u8 = 8 | REQUIRED;
}

/// Fields of an attempt and of a deferral.
pub(crate) mod schedule {
    use super::REQUIRED;

    pub(crate) const TIME: u8 = 1 | REQUIRED;
    pub(crate) const ATTEMPTS: u8 = 2 | REQUIRED;
    pub(crate) const RECIPIENTS: u8 = 3 | REQUIRED;
}

/// Fields of an outcome.
pub(crate) mod outcome {
    use super::REQUIRED;

    pub(crate) const DELIVERED: u8 = 1 | REQUIRED;
    pub(crate) const FAILED: u8 = 2 | REQUIRED;
    pub(crate) const EXPIRED: u8 = 3 | REQUIRED;
}

/// Fields of a deferral and of an outcome: what was said.
pub(crate) mod said {
    pub(crate) const TO: u8 = 0x10;
    pub(crate) const REPLY: u8 = 0x11;
    pub(crate) const STATUS: u8 = 0x12;
    pub(crate) const NEXT_HOP: u8 = 0x13;
}
