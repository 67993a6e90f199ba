//! The states of a session. Each owns only what it needs: a client that has not said its name cannot
//! have a transaction, a transaction without a recipient cannot have a message.

use super::login::Login;
use super::transaction::{Body, Envelope};
use crate::server::Phase;

/// What is known of a client that has said its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    /// It has logged in.
    pub(super) authenticated: bool,
}

/// Where a session stands.
#[derive(Debug)]
pub(crate) enum State {
    /// A proxy has yet to say whose connection this is.
    Header,
    /// TLS is being negotiated; `greeting`: from the first byte, so that we have yet to greet.
    Handshake { greeting: bool },
    /// The client has not said its name.
    Greeted,
    /// Between transactions.
    Ready(Client),
    /// In an exchange of AUTH.
    Login(Login),
    /// The handler looks at a login.
    Verifying(Client),
    /// MAIL was accepted.
    Envelope(Envelope),
    /// The handler looks at a recipient.
    Recipient(Envelope),
    /// After 354.
    Body(Body),
    /// The handler has the message.
    Deciding(Client),
    /// Nothing is read any more.
    Closing,
}

impl State {
    pub(crate) fn phase(&self) -> Phase {
        match self {
            Self::Header => Phase::Header,
            Self::Handshake { .. } => Phase::Handshake,
            Self::Greeted | Self::Ready(_) | Self::Login(_) | Self::Envelope(_) => Phase::Command,
            Self::Body(body) if body.is_paused() => Phase::Waiting,
            Self::Body(_) => Phase::Data,
            Self::Verifying(_) | Self::Recipient(_) | Self::Deciding(_) => Phase::Waiting,
            Self::Closing => Phase::Closing,
        }
    }
}
