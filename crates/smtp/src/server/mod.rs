//! The receiving side: what a client is told, in which order it may ask, and what is asked of the handler.
//!
//! A [`Session`] takes bytes from the wire and gives bytes for the wire; every question of policy goes
//! to a [`Handler`]. It promises that only CRLF.CRLF ends a message, that nothing read before STARTTLS
//! survives it, and that its memory is bounded whatever the peer sends. It fails by saying 421 and closing.

mod channel;
mod conduct;
mod dialog;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;

use mail::limits::SessionLimits;
use mail::{ForwardPath, Reason, Reply, ReversePath, ScramVerifier};

use crate::proxy::Fault;

pub use crate::tls::ServerTls;
pub use crate::xclient::{Told, XClient};
pub use session::Session;

/// How a listener uses TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    Off,
    /// Offered (RFC 3207).
    StartTls,
    /// Offered, and nothing is taken before it.
    Required,
    /// From the first byte (RFC 8314).
    Implicit,
}

/// What all sessions of one listener share.
#[derive(Debug)]
pub struct Settings {
    /// Our name in the greeting and in the answer to EHLO.
    pub hostname: Box<str>,
    /// How TLS is used.
    pub tls: TlsMode,
    /// Our certificate; without one, STARTTLS is not offered and an implicit handshake fails.
    pub tls_config: Option<Arc<ServerTls>>,
    /// Whether a login may go over an unprotected connection.
    pub auth_without_tls: bool,
    /// The largest message in bytes, as announced (RFC 1870); `None`: no limit.
    pub message_bytes_max: Option<u64>,
    /// What a session may cost.
    pub limits: SessionLimits,
}

/// The handler: is asked at each step, and fills `reply` where it says no.
///
/// Where it says yes the session writes the usual reply.
pub trait Handler {
    /// The session itself has refused a command, for `reason`, and worded `reply` already (TLS must
    /// come first, SIZE is past the limit): the handler may add to
    /// it before it goes.
    fn refused(&mut self, reason: Reason, reply: &mut Reply);

    /// A session [behind a proxy](Session::behind_proxy) has its header: whether this client is
    /// greeted. `client` is `None` where the proxy names no client; `reply` turns it away.
    fn proxied(&mut self, client: Option<SocketAddr>, reply: &mut Reply) -> bool;

    /// A header of a proxy is wrong or missing, or came from a peer that should send none: the session
    /// ends without a word.
    fn proxy_fault(&mut self, fault: Fault);

    /// Whether this peer's word counts for whom it speaks for, and for whom he logged in as.
    fn xclient_rights(&self) -> XClientRights;

    /// XCLIENT, by a peer that may. Where it is not taken, the handler fills `reply`.
    fn xclient(&mut self, told: &XClient, reply: &mut Reply) -> Introduction;

    /// A peer sent XCLIENT, or its LOGIN attribute, without the right to.
    fn xclient_refused(&mut self);

    /// The client has given its name, with EHLO (`extended`) or HELO.
    fn helo(&mut self, name: &str, extended: bool);

    /// TLS is up: all that was known of the client, its login included, is void (RFC 3207 section 4.2).
    fn tls_started(&mut self);

    /// Whether there is anyone who could log in by SCRAM: otherwise it is not announced, because
    /// clients choose the strongest mechanism that they see and do not fall back.
    fn offers_scram(&mut self) -> bool;

    /// What the proof of this login will be held against; an unknown login has it too, and fails later.
    /// `None` where no credential is looked at now.
    fn scram(&mut self, login: &str, reply: &mut Reply) -> Option<ScramStart>;

    /// A login. With [`Step::Wait`] the answer comes by [`Resume::Auth`].
    fn auth(&mut self, credentials: Credentials<'_>, reply: &mut Reply) -> Step;

    /// MAIL: whether a transaction may begin.
    fn mail(&mut self, from: ReversePath<'_>, parameters: &MailParameters, reply: &mut Reply) -> bool;

    /// RCPT: whether this recipient is taken. With [`Step::Wait`] the answer comes by
    /// [`Resume::Recipient`], and nothing more is read from the client until then.
    fn rcpt(&mut self, to: ForwardPath<'_>, reply: &mut Reply) -> Step;

    /// DATA, with one accepted recipient at least: whether the message may come.
    fn data(&mut self, reply: &mut Reply) -> bool;

    /// A piece of the message as it came over the wire: CRLF lines, dot-stuffed, without the final
    /// dot line. After [`Flow::Pause`] no more comes until [`Resume::Continue`].
    fn body(&mut self, wire: &[u8]) -> Flow;

    /// The message is over; its transaction is the handler's to end, [`Handler::reset`] is not called
    /// for it. The handler fills `reply` for [`Step::Accept`] and [`Step::Refuse`]; with [`Step::Wait`]
    /// it comes by [`Resume::Message`].
    fn message_end(&mut self, end: MessageEnd, reply: &mut Reply) -> Step;

    /// The transaction, if there is one, is gone: RSET, EHLO, or the connection is lost.
    fn reset(&mut self);
}

/// What a peer may say with XCLIENT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XClientRights {
    /// Nothing.
    #[default]
    None,
    /// Whose address it speaks for.
    Address,
    /// The same, and as whom he has logged in.
    Login,
}

/// What becomes of a client that a peer speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introduction {
    /// It is taken: the session begins anew, with a greeting.
    Taken,
    /// What was said is refused, and nothing of it holds.
    Refused,
    /// It is understood, and this client is turned away: the session ends.
    TurnedAway,
}

/// A handler's answer that may take time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Yes.
    Accept,
    /// No; the reply says why.
    Refuse,
    /// Not known yet: the session waits to be resumed.
    Wait,
}

/// Whether more of the body may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Wait for [`Resume::Continue`].
    Pause,
}

/// How a message ended. Of a message that is not whole the handler has seen a part only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageEnd {
    /// It came whole: this many bytes were handed to [`Handler::body`].
    Whole {
        /// In wire form, without the final dot line.
        bytes: u64,
    },
    /// It held a bare CR, a bare LF or a NUL.
    BareNewline,
    /// It was larger than [`Settings::message_bytes_max`].
    TooLarge,
}

/// What a waiting session waited for.
#[derive(Clone, Copy, Debug)]
pub enum Resume<'a> {
    /// The answer to [`Handler::auth`]: the refusal, or that the login is good.
    Auth(Option<&'a Reply>),
    /// The answer to [`Handler::rcpt`]: the refusal, or `None` where the recipient is taken.
    Recipient(Option<&'a Reply>),
    /// The answer to [`Handler::message_end`].
    Message(&'a Reply),
    /// The body may go on.
    Continue,
}

/// What the client declared with MAIL.
///
/// `AUTH=` (RFC 4954 section 5) is checked for its syntax and otherwise ignored: no client is
/// trusted to vouch for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// `SIZE=` in bytes (RFC 1870).
    pub size: Option<u64>,
    /// `BODY=8BITMIME` (RFC 6152).
    pub eight_bit: bool,
}

/// What a client showed to log in.
#[derive(Clone, Copy)]
pub enum Credentials<'a> {
    /// PLAIN (RFC 4616), or LOGIN, which has no authorization identity.
    Plain {
        /// Whom to act as; empty: the login itself.
        authorization: &'a str,
        /// Who it is.
        login: &'a str,
        /// The secret; wiped when the call returns.
        password: &'a str,
    },
    /// SCRAM-SHA-256, whose proof was held against what [`Handler::scram`] gave.
    Scram {
        /// Whom to act as; empty: the login itself.
        authorization: &'a str,
        /// Who it is.
        login: &'a str,
        /// It knows the password.
        proved: bool,
    },
}

/// How an exchange of SCRAM begins.
#[derive(Debug)]
pub struct ScramStart {
    /// What the client's proof is held against.
    pub verifier: ScramVerifier,
    /// Fresh random bytes.
    pub nonce: [u8; SCRAM_NONCE_BYTES],
}

/// Bytes of the server's nonce: more than can be met twice.
pub const SCRAM_NONCE_BYTES: usize = 18;

/// Where a session stands, for the timeouts of RFC 5321 section 4.5.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A proxy's header is awaited.
    Header,
    /// TLS is being negotiated.
    Handshake,
    /// The client's next command is awaited.
    Command,
    /// The message is coming in.
    Data,
    /// The handler is awaited, not the client.
    Waiting,
    /// Over: output is flushed, then the connection is closed.
    Closing,
}
