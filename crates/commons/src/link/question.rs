//! What workers ask of the control plane, and what it tells them.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ring::Handle;
use zeroize::Zeroizing;

use super::finding::{ExchangeFailure, Exchanger, Listing, RecipientFinding};

/// A login that is to be verified.
pub struct Login {
    /// Who asks.
    pub worker: u8,
    /// The session that waits.
    pub key: Handle,
    /// The hash in PHC form, or a SCRAM verifier in its text form; for an unknown login one that
    /// nothing fits and that takes as long to refuse; empty where no identity has one.
    pub credential: Box<str>,
    /// The login, for the log.
    pub login: Box<str>,
    /// The client's network, an IPv4 address or the first of an IPv6 /64, if this login has
    /// succeeded from it lately: only there is what fitted believed again without a look.
    pub trusted_network: Option<IpAddr>,
    /// The password; wiped when dropped, never logged.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, key, login, .. } = self;
        write!(f, "Login {{ worker: {worker}, key: {key:?}, login: {login:?}, .. }}")
    }
}

/// What a worker asks of the control plane.
pub enum Question {
    /// Does the password fit the credential?
    Verify(Login),
    /// What are the addresses of this host?
    Resolve {
        /// Who asks.
        worker: u8,
        /// What waits.
        key: u32,
        /// The name, or an address literal.
        host: Box<str>,
    },
    /// Which hosts take the mail of this domain (RFC 5321 section 5.1)?
    Exchangers {
        /// Who asks.
        worker: u8,
        /// What waits.
        key: u32,
        /// The domain, or an address literal.
        domain: Box<str>,
    },
    /// Can this domain take mail at all?
    Domain {
        /// Who asks.
        worker: u8,
        /// The session that waits.
        key: Handle,
        /// The domain, in lower case.
        domain: Box<str>,
    },
    /// Does the next hop of this relay domain know the recipient?
    CallAhead {
        /// Who asks.
        worker: u8,
        /// The session that waits.
        key: Handle,
        /// The machine that asks, an IPv4 address or that of an IPv6 /64, where no tenant answers for it.
        stranger: Option<IpAddr>,
        /// The recipient, in lower case.
        address: Box<str>,
    },
    /// Is this client on a DNS list?
    Listed {
        /// Who asks.
        worker: u8,
        /// The session that waits.
        key: Handle,
        /// The client's address.
        client: IpAddr,
    },
}

impl Question {
    /// It is about a client or a recipient that a client has named.
    pub(super) fn is_check(&self) -> bool {
        matches!(self, Self::Domain { .. } | Self::CallAhead { .. } | Self::Listed { .. })
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verify(login) => write!(f, "Verify({login:?})"),
            Self::Resolve { worker, key, host } => {
                write!(f, "Resolve {{ worker: {worker}, key: {key}, host: {host:?} }}")
            }
            Self::Exchangers { worker, key, domain } => {
                write!(f, "Exchangers {{ worker: {worker}, key: {key}, domain: {domain:?} }}")
            }
            Self::Domain { worker, key, domain, .. } => {
                write!(f, "Domain {{ worker: {worker}, key: {key:?}, domain: {domain:?}, .. }}")
            }
            Self::CallAhead { worker, key, address, .. } => {
                write!(f, "CallAhead {{ worker: {worker}, key: {key:?}, address: {address:?}, .. }}")
            }
            Self::Listed { worker, key, client, .. } => {
                write!(f, "Listed {{ worker: {worker}, key: {key:?}, client: {client}, .. }}")
            }
        }
    }
}

/// Why a host has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveFailure {
    /// DNS says that it does not exist, or has no address.
    Missing,
    /// It could not be told: another time, perhaps.
    Temporary,
}

/// What came of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// It fits.
    Fits,
    /// It does not.
    Fails,
    /// Too many wait to be verified: it was not looked at.
    Busy,
}

/// What the control plane tells a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Verify`].
    Verified {
        /// The session that waits.
        key: Handle,
        /// What came of it.
        outcome: Verification,
    },
    /// To [`Question::Resolve`].
    Resolved {
        /// What waits.
        key: u32,
        /// The addresses, in the order in which to try them.
        result: Result<Vec<IpAddr>, ResolveFailure>,
        /// How long this holds.
        ttl: Duration,
    },
    /// To [`Question::Exchangers`].
    Exchangers {
        /// What waits.
        key: u32,
        /// The hosts, lowest preference first, at least one.
        result: Result<Vec<Exchanger>, ExchangeFailure>,
        /// How long this holds.
        ttl: Duration,
    },
    /// To [`Question::Domain`] and [`Question::CallAhead`].
    Recipient {
        /// The session that waits.
        key: Handle,
        /// What was found out.
        finding: RecipientFinding,
        /// How long this holds.
        ttl: Duration,
    },
    /// To [`Question::Listed`].
    Listed {
        /// The session that waits.
        key: Handle,
        /// The client that was asked about.
        client: IpAddr,
        /// The first list on which the client stands.
        listing: Option<Box<Listing>>,
    },
    /// End: no new mail, and what is under way comes to its end.
    Drain,
    /// Another configuration is in force.
    SnapshotChanged,
}

impl Answer {
    pub(super) fn is_command(&self) -> bool {
        matches!(self, Self::Drain | Self::SnapshotChanged)
    }

    pub(super) fn is_check(&self) -> bool {
        matches!(self, Self::Recipient { .. } | Self::Listed { .. })
    }
}
