//! The sending side: one connection to a next hop, used for one transaction after the other.
//!
//! A [`Session`] takes bytes from the wire, gives bytes for the wire, and tells by [`Event`]s what
//! became of what it was asked. It trusts nothing the peer says: replies are bounded, and whatever is
//! out of order ends the session with a [`Failure`].

mod reply;
mod session;
mod transaction;

use std::fmt;
use std::sync::Arc;

use mail::Reply;
use rustls::pki_types::ServerName;

pub use session::Session;

/// Whether and how to use TLS.
#[derive(Clone, Debug)]
pub enum ClientTls {
    /// Never.
    Off,
    /// STARTTLS (RFC 3207) where it is offered.
    StartTls {
        /// Trust anchors and versions.
        config: Arc<rustls::ClientConfig>,
        /// Whose certificate is expected.
        name: ServerName<'static>,
        /// Without TLS, no mail.
        required: bool,
    },
}

/// What happened, in the order in which it did.
///
/// After [`Session::begin`]: a [`Event::Recipient`] for each recipient, [`Event::SendBody`],
/// [`Event::Done`] and [`Event::Ready`] again. When no recipient was accepted, [`Event::Ready`] follows
/// the last of them; a [`Event::TransactionRefused`] stands for all recipients without their own refusal.
#[derive(Debug)]
pub enum Event {
    /// Idle: a transaction may begin.
    Ready,
    /// The answer to one recipient.
    Recipient {
        /// Its place among those given to [`Session::begin`].
        index: usize,
        /// Positive, transient or permanent.
        reply: Reply,
    },
    /// The body may go out now, up to and with its final dot line.
    SendBody,
    /// The answer to the final dot: what became of all accepted recipients. Where it comes before
    /// the body has gone out, the connection must be given up.
    Done {
        /// A positive one means that the peer has taken responsibility.
        reply: Reply,
    },
    /// MAIL or DATA was refused.
    TransactionRefused {
        /// The refusal.
        reply: Reply,
    },
    /// The connection is of no more use; nothing follows.
    Failed {
        /// Why.
        error: Failure,
    },
}

/// Why a connection is of no more use.
#[derive(Debug)]
pub enum Failure {
    /// The greeting, or the answer to EHLO or HELO, was no welcome.
    Refused(Reply),
    /// 421: the peer is closing.
    Closing(Reply),
    /// TLS is required and the peer has none; its refusal, where it offered some.
    NoTls(Option<Reply>),
    /// The handshake or a record failed.
    Tls(rustls::Error),
    /// The peer ended the connection.
    Ended,
    /// The peer does not keep to the protocol; in which way.
    Protocol(&'static str),
}

impl Failure {
    /// The peer's own words, where there are any.
    #[must_use]
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Refused(reply) | Self::Closing(reply) => Some(reply),
            Self::NoTls(reply) => reply.as_ref(),
            Self::Tls(_) | Self::Ended | Self::Protocol(_) => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reply) => write!(f, "the next hop does not serve us: {reply}"),
            Self::Closing(reply) => write!(f, "the next hop is closing: {reply}"),
            Self::NoTls(None) => f.write_str("the next hop offers no TLS, which this route requires"),
            Self::NoTls(Some(reply)) => write!(f, "the next hop refuses to start TLS: {reply}"),
            Self::Tls(error) => write!(f, "TLS with the next hop failed: {error}"),
            Self::Ended => f.write_str("the next hop ended the connection"),
            Self::Protocol(what) => write!(f, "the next hop does not speak SMTP properly: {what}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Where a session stands, for the timeouts of RFC 5321 section 4.5.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The greeting is awaited (5 minutes).
    Greeting,
    /// The answer to EHLO, STARTTLS, MAIL, RCPT or RSET, or a handshake, is awaited (5 minutes).
    Command,
    /// The answer to DATA is awaited (2 minutes).
    DataStart,
    /// The body goes out (3 minutes a piece), and its answer is awaited (10 minutes after the last).
    Body,
    /// Nothing is awaited.
    Idle,
    /// QUIT was said, and its answer is awaited.
    Quitting,
    /// Over.
    Closed,
}
