use std::fmt;

/// A rule of the decision, in the order in which they are asked (DESIGN.md G6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// No client on a block list is served.
    ClientList,
    /// So many connections at the same time and no more.
    Connections,
    /// The listener takes mail over TLS only.
    Tls,
    /// Too many failed logins lock an address or a login for a while.
    LoginLock,
    /// The name and the password are right.
    Credential,
    /// A submission listener takes mail after a login only.
    Login,
    /// Neither the tenant, the login nor the client address is suspended.
    Suspension,
    /// A limit over time leaves room for this.
    Rate,
    /// No recipient hides a second address.
    RoutingSyntax,
    /// Strict mode: a tenant's own networks must log in.
    StrictLogin,
    /// Mail for a relay domain comes in from anyone.
    RelayDomain,
    /// A relay domain that lists its recipients takes mail for no others.
    Recipient,
    /// The next hop of a relay domain knows the recipient.
    CallAhead,
    /// The client that relays is a tenant's login, in a tenant's network, or has a grant.
    Responsibility,
    /// The client that relays owns the envelope sender.
    Sender,
    /// One transaction belongs to one tenant.
    OneTenant,
    /// No list that is looked up by DNS holds the client.
    Dnsbl,
    /// No block list holds the envelope sender.
    SenderList,
    /// No block list holds the recipient.
    RecipientList,
    /// The recipient's domain exists and takes mail.
    DomainExists,
    /// So many recipients in one transaction and no more.
    RecipientCount,
    /// Every line of a message ends in CR LF.
    LineEnding,
    /// A message is no larger than the limit.
    MessageSize,
    /// The client that relays owns the addresses in the header From.
    HeaderFrom,
    /// A message has not been here before.
    Loop,
    /// The spool has room for the message, and storage that works.
    Spool,
}

impl Rule {
    /// A stable lower-case word for records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientList => "client_list",
            Self::Connections => "connections",
            Self::Tls => "tls",
            Self::LoginLock => "login_lock",
            Self::Credential => "credential",
            Self::Login => "login",
            Self::Suspension => "suspension",
            Self::Rate => "rate",
            Self::RoutingSyntax => "routing_syntax",
            Self::StrictLogin => "strict_login",
            Self::RelayDomain => "relay_domain",
            Self::Recipient => "recipient",
            Self::CallAhead => "call_ahead",
            Self::Responsibility => "responsibility",
            Self::Sender => "sender",
            Self::OneTenant => "one_tenant",
            Self::Dnsbl => "dnsbl",
            Self::SenderList => "sender_list",
            Self::RecipientList => "recipient_list",
            Self::DomainExists => "domain_exists",
            Self::RecipientCount => "recipient_count",
            Self::LineEnding => "line_ending",
            Self::MessageSize => "message_size",
            Self::HeaderFrom => "header_from",
            Self::Loop => "loop",
            Self::Spool => "spool",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
