//! What the control plane finds out about domains, recipients and clients, as plain values.

/// A host that takes mail for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchanger {
    /// The lowest is tried first; equal ones share the load.
    pub preference: u16,
    /// Its name, without a final dot, or an address literal.
    pub host: Box<str>,
}

/// Why a domain has no host that takes its mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeFailure {
    /// It does not exist, or has neither MX nor address.
    Missing,
    /// It says that it takes no mail (null MX, RFC 7505).
    NoMail,
    /// It could not be told: another time, perhaps.
    Temporary,
}

/// What was found out about a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientFinding {
    /// Nothing speaks against it.
    Good,
    /// Its domain does not exist, or has neither MX nor address.
    DomainMissing,
    /// Its domain says that it takes no mail.
    DomainNoMail,
    /// Its next hop does not know it.
    Unknown,
    /// It could not be told, which is never a reason to deny.
    Undecided,
}

/// A DNS list on which a client stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The list's name.
    pub list: Box<str>,
    /// What the list says about it, where it says something fit for a reply.
    pub text: Option<Box<str>>,
}
