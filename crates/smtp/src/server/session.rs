use std::fmt;
use std::sync::Arc;

use mail::Reply;
use mail::limits::{COMMAND_LINE_BYTES_MAX, SASL_LINE_BYTES_MAX};
use zeroize::Zeroize;

use super::channel::{Channel, OUTPUT_BYTES_MAX};
use super::dialog::{Dialog, State};
use super::{Handler, Phase, Resume, Settings, TlsMode};
use crate::line::{Line, LineReader};
use crate::proxy::{self, Fault, Watch};

/// Past this much unread input the caller is asked to receive no more.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// What may still arrive after the caller was asked to pause, as much as a whole ring of receive
/// buffers; past it the session is closed.
const INPUT_OVERRUN_BYTES_MAX: usize = 8 << 20;

/// Memory that an idle session keeps for input.
const INPUT_KEPT_BYTES: usize = 16 << 10;

/// One client's session, from its greeting to its end.
///
/// Bytes that cannot be looked at yet, because the handler is awaited or the output is full, are kept;
/// call [`Session::receive`] again, with nothing if need be, once the output was taken.
pub struct Session {
    /// Cleartext not yet looked at.
    input: Vec<u8>,
    lines: LineReader,
    /// What was read holds a secret, to be wiped.
    secret: bool,
    /// Looks for a proxy's header that was not asked for.
    watch: Watch,
    dialog: Dialog,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

impl Session {
    /// A new client; the greeting is in the output, unless TLS comes first.
    #[must_use]
    pub fn new(settings: Arc<Settings>) -> Self {
        let mut session = Self::with_state(settings, State::Greeted);
        session.dialog.begin();
        session
    }

    /// A client behind a proxy: nothing is said before the proxy's header has come.
    #[must_use]
    pub fn behind_proxy(settings: Arc<Settings>) -> Self {
        Self::with_state(settings, State::Header)
    }

    /// A client that is turned away with `reply` instead of a greeting. With implicit TLS it is
    /// closed without a word: there is no saying it before a handshake, which is what costs.
    #[must_use]
    pub fn refuse(settings: Arc<Settings>, reply: &Reply) -> Self {
        let mut session = Self::with_state(settings, State::Closing);
        if session.dialog.settings.tls != TlsMode::Implicit {
            session.dialog.channel.say(reply);
        }
        session
    }

    /// Takes bytes from the wire.
    pub fn receive<H: Handler>(&mut self, wire: &[u8], handler: &mut H) {
        if self.is_closing() {
            return;
        }
        if matches!(self.dialog.state, State::Header) {
            self.receive_header(wire, handler);
        } else if self.watch.sees_header(wire) {
            self.dialog.header_fault(Fault::Unlisted, handler);
        } else if self.dialog.channel.tls.is_some() {
            self.receive_sealed(wire, handler);
        } else if self.input.is_empty() {
            let used = self.work(wire, handler);
            self.secret = false;
            self.input.extend_from_slice(&wire[used..]);
        } else {
            self.input.extend_from_slice(wire);
            self.work_on_kept(handler);
        }
        self.settle();
    }

    /// The peer sends no more, or is gone.
    pub fn peer_ended<H: Handler>(&mut self, handler: &mut H) {
        if self.is_closing() {
            return;
        }
        if matches!(self.dialog.state, State::Header) && !self.input.is_empty() {
            self.dialog.header_fault(Fault::Missing, handler);
        } else {
            self.dialog.close(handler);
        }
        self.settle();
    }

    /// A proxy's header has not come in time.
    pub fn header_overdue<H: Handler>(&mut self, handler: &mut H) {
        if matches!(self.dialog.state, State::Header) {
            self.dialog.header_fault(Fault::Missing, handler);
            self.settle();
        }
    }

    /// The handler's answer, or its leave to go on. An answer that is not awaited is ignored.
    pub fn resume<H: Handler>(&mut self, outcome: Resume<'_>, handler: &mut H) {
        self.dialog.resume(outcome, handler);
        self.work_on_kept(handler);
        self.settle();
    }

    /// Says a last `reply` (a timeout, a shutdown) and closes.
    pub fn close_with<H: Handler>(&mut self, reply: &Reply, handler: &mut H) {
        if self.is_closing() {
            return;
        }
        if !matches!(self.dialog.state, State::Header | State::Handshake { .. }) {
            self.dialog.channel.say(reply);
        }
        self.dialog.close(handler);
        self.settle();
    }

    /// How many recipients of a transaction in vain are looked at before the session yields, so that
    /// a client whose recipients are all refused does not keep the others waiting.
    pub fn set_allowance(&mut self, recipients: u32) {
        self.dialog.allowance = recipients;
    }

    /// What is left of the allowance.
    #[must_use]
    pub fn allowance(&self) -> u32 {
        self.dialog.allowance
    }

    /// True: the allowance is used up and there is more to look at. Give another, and call
    /// [`Session::receive`] with nothing.
    #[must_use]
    pub fn yields(&self) -> bool {
        self.dialog.yields() && !self.input.is_empty()
    }

    /// Bytes for the wire, to be taken.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.dialog.channel.output
    }

    /// False: receive no more for now.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        let room = self.input.len() < INPUT_BYTES_MAX && self.dialog.channel.output.len() < OUTPUT_BYTES_MAX;
        room && !self.is_closing()
    }

    /// True: close the connection once the output is flushed.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        matches!(self.dialog.state, State::Closing)
    }

    /// Where the session stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.dialog.state.phase()
    }

    /// Steps that the client has made; the number wraps. A whole command with its answer is one, an exchange of
    /// AUTH to its end with it, and so are a proxy's header, a handshake, and so much of a message; bytes that
    /// complete nothing are none. Where the session waited for the handler, its answer is one too.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.dialog.conduct.steps
    }

    /// Those among them that carry mail: a recipient or a message that was taken, and so much of one; the number
    /// wraps.
    #[must_use]
    pub fn carried(&self) -> u32 {
        self.dialog.conduct.carried
    }

    /// Whether what is said now is protected by TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.dialog.channel.tls.as_ref().is_some_and(|tls| !tls.is_handshaking())
    }

    /// Protocol and cipher suite, once TLS is up, in words for a trace field.
    #[must_use]
    pub fn tls_name(&self) -> Option<&str> {
        self.dialog.channel.tls.as_ref().map(|tls| tls.name()).filter(|name| !name.is_empty())
    }

    /// Whether a transaction is under way, from MAIL to the answer to the final dot.
    #[must_use]
    pub fn has_transaction(&self) -> bool {
        let state = &self.dialog.state;
        matches!(state, State::Envelope(_) | State::Recipient(_) | State::Body(_) | State::Deciding(_))
    }
}

// How it works: bytes to lines and bodies.
impl Session {
    fn with_state(settings: Arc<Settings>, state: State) -> Self {
        Self {
            input: Vec::new(),
            lines: LineReader::default(),
            secret: false,
            watch: Watch::default(),
            dialog: Dialog::new(settings, state),
        }
    }

    /// Takes bytes of a proxy's header, and of what follows it.
    fn receive_header<H: Handler>(&mut self, wire: &[u8], handler: &mut H) {
        self.input.extend_from_slice(wire);
        match proxy::parse(&self.input) {
            Ok(None) => {}
            Ok(Some(header)) => {
                let rest = self.input.split_off(header.bytes);
                self.input.clear();
                // A second header would be the client's own.
                self.watch = Watch::default();
                if self.dialog.proxied(header.client, handler) {
                    self.receive(&rest, handler);
                }
            }
            Err(fault) => self.dialog.header_fault(fault, handler),
        }
    }

    fn receive_sealed<H: Handler>(&mut self, wire: &[u8], handler: &mut H) {
        let Channel { tls, output, .. } = &mut self.dialog.channel;
        let Some(tls) = tls else { return };
        let Ok(ended) = tls.open(wire, &mut self.input, output) else {
            // The alert that says why is in the output already.
            return self.dialog.close(handler);
        };
        self.dialog.end_handshake(handler);
        self.work_on_kept(handler);
        if ended {
            self.dialog.close(handler);
        }
    }

    fn work_on_kept<H: Handler>(&mut self, handler: &mut H) {
        let mut input = std::mem::take(&mut self.input);
        let used = self.work(&input, handler);
        if std::mem::take(&mut self.secret) {
            input[..used].zeroize();
        }
        input.drain(..used);
        if input.is_empty() && input.capacity() > INPUT_KEPT_BYTES {
            input = Vec::new();
        }
        if input.len() > INPUT_OVERRUN_BYTES_MAX {
            self.dialog.last_word(format_args!("too much sent ahead of its time"), handler);
        }
        self.input = input;
    }

    /// Looks at as much of the input as it can, and says how much that was.
    fn work<H: Handler>(&mut self, input: &[u8], handler: &mut H) -> usize {
        let mut at = 0;
        while at < input.len() && self.dialog.takes_input() {
            at += match self.dialog.state {
                State::Body(_) => self.dialog.body(&input[at..], handler),
                _ => self.next_line(&input[at..], handler),
            };
        }
        match self.dialog.state {
            // Nothing read before STARTTLS survives it (RFC 3207 section 4.2).
            State::Handshake { .. } | State::Closing => input.len(),
            _ => at,
        }
    }

    fn next_line<H: Handler>(&mut self, input: &[u8], handler: &mut H) -> usize {
        let Self { lines, secret, dialog, .. } = self;
        let in_login = matches!(dialog.state, State::Login(_));
        let bytes_max = if in_login { SASL_LINE_BYTES_MAX } else { COMMAND_LINE_BYTES_MAX };
        let (used, line) = lines.take(input, bytes_max);
        let is_line = matches!(line, Line::Whole(_) | Line::BareLineFeed);
        match line {
            Line::Incomplete => *secret |= in_login,
            Line::Whole(text) => {
                // Noted before it is parsed: a malformed AUTH may hold a password too.
                let is_auth = text.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"));
                *secret |= in_login || is_auth;
                dialog.line(text, handler);
                if *secret { lines.wipe() } else { lines.release() }
            }
            Line::TooLong => dialog.bad_line(format_args!("line longer than {bytes_max} bytes"), handler),
            Line::StillTooLong => dialog.charge(1, handler),
            Line::BareLineFeed => {
                dialog.bad_line(format_args!("lines end in CR LF, not in LF alone"), handler);
            }
        }
        if is_line && !matches!(dialog.state, State::Login(_)) {
            dialog.conduct.step();
        }
        used
    }

    /// Leaves nothing unsaid, and nothing to read in a session that is over.
    fn settle(&mut self) {
        let closing = self.is_closing();
        if closing {
            self.input.zeroize();
            self.lines.wipe();
        }
        self.dialog.channel.flush(closing);
    }
}
