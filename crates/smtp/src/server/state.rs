//! The states of a session. Each owns only what it needs: a client that has not said its name cannot
//! have a transaction, a transaction without a recipient cannot have a message.

use crate::data::Scanner;
use crate::sasl::Exchange;

/// What is known of a client that has said its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    /// It has logged in.
    pub(super) authenticated: bool,
}

/// Where a session stands.
#[derive(Debug)]
pub(super) enum State {
    /// A proxy has yet to say whose connection this is.
    Header,
    /// TLS is being negotiated; `greeting`: from the first byte, so that we have yet to greet.
    Handshake { greeting: bool },
    /// The client has not said its name.
    Greeted,
    /// Between transactions.
    Ready(Client),
    /// In an exchange of AUTH.
    Login(Client, Exchange),
    /// The handler looks at a login.
    Verifying(Client),
    /// MAIL was accepted.
    Envelope(Envelope),
    /// The handler looks at a recipient.
    Recipient(Envelope),
    /// After 354.
    Body(Body),
    /// The handler has the message.
    Handed(Client),
    /// Nothing is read any more.
    Closing,
}

/// A transaction that gathers recipients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    pub(super) client: Client,
    pub(super) accepted: u32,
    pub(super) refused: u32,
}

/// A message that comes in.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) client: Client,
    pub(super) scanner: Scanner,
    /// Handed to the handler so far.
    pub(super) bytes: u64,
    /// It went past the limit: the handler is given no more of it.
    pub(super) too_large: bool,
    /// The handler wants no more for now.
    pub(super) paused: bool,
    /// The final dot has come.
    pub(super) ended: bool,
}

impl State {
    /// The client, where it has said its name and is between two commands.
    pub(super) fn client(&self) -> Option<Client> {
        match self {
            Self::Ready(client) => Some(*client),
            Self::Envelope(envelope) => Some(envelope.client),
            _ => None,
        }
    }

    /// Whether more input can be looked at.
    pub(super) fn takes_input(&self) -> bool {
        match self {
            Self::Greeted | Self::Ready(_) | Self::Login(..) | Self::Envelope(_) => true,
            Self::Body(body) => !body.paused,
            Self::Header
            | Self::Handshake { .. }
            | Self::Verifying(_)
            | Self::Recipient(_)
            | Self::Handed(_)
            | Self::Closing => false,
        }
    }
}
