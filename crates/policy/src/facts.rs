use std::net::IpAddr;

use crate::index::IdentityIx;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Trusted networks, and mail for relay domains from anyone.
    Relay,
    /// Logins only.
    Submission,
}

/// TLS on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsPolicy {
    /// Not offered.
    Off,
    /// Offered by STARTTLS.
    StartTls,
    /// Offered by STARTTLS; no mail before it.
    Required,
    /// From the first byte (RFC 8314).
    Implicit,
}

/// What a decision needs to know of the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, as labels hold it.
    pub name: Box<str>,
    /// What it is for.
    pub role: Role,
    /// TLS on it.
    pub tls: TlsPolicy,
    /// Whether a login is taken before TLS.
    pub auth_without_tls: bool,
}

/// What is known of a session.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Where the client connected.
    pub listener: &'a Listener,
    /// The client's address. An unspecified one (0.0.0.0, ::) stands for none: a stranger, whatever
    /// networks and grants there are.
    pub client: IpAddr,
    /// Whether the session runs over TLS.
    pub tls: bool,
    /// Who logged in, if any.
    pub identity: Option<IdentityIx>,
    /// The identities that hold a grant for the client's address now (DESIGN.md A2).
    pub grants: &'a [IdentityIx],
}

impl Facts<'_> {
    /// The grants that count: a client that has logged in is that login and no other, and a client without
    /// an address holds none.
    pub(crate) fn grants_that_count(&self) -> &[IdentityIx] {
        match self.identity.is_some() || self.client.to_canonical().is_unspecified() {
            true => &[],
            false => self.grants,
        }
    }
}
