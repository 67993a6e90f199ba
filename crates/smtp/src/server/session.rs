use std::fmt;
use std::sync::Arc;

use mail::limits::{COMMAND_LINE_BYTES_MAX, SASL_LINE_BYTES_MAX};
use mail::{Reason, Reply, Status};
use zeroize::Zeroize;

use super::state::{Envelope, State};
use super::{Handler, Phase, Resume, Settings, TlsMode, XClientRights};
use crate::command::{Command, Fault};
use crate::line::{Line, LineReader};
use crate::proxy::{Fault as HeaderFault, Watch};
use crate::tls::Tls;

/// Past this much waiting output nothing is read from the peer: it does not read what it is told.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// Past this much unread input the caller is asked to receive no more.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// What may still arrive after the caller was asked to pause, as much as a whole ring of receive
/// buffers; past it the session is closed.
const INPUT_OVERRUN_BYTES_MAX: usize = 8 << 20;

/// So many refused recipients of a transaction that has no other are answered as they come; past
/// them it looks like a search, and waits for its turn (see [`Session::set_allowance`]).
const REFUSED_IN_PASSING_MAX: u32 = 4;

/// So much of a message is a step: at least that is to come in the time that a client has for one. 45 bytes a
/// second where it is three minutes, less than the slowest modem brings.
const STEP_BYTES: usize = 8 << 10;

/// Memory that an idle session keeps for input.
const INPUT_KEPT_BYTES: usize = 16 << 10;

/// One client's session, from its greeting to its end.
///
/// Bytes that cannot be looked at yet, because the handler is awaited or the output is full, are kept;
/// call [`Session::receive`] again, with nothing if need be, once the output was taken.
pub struct Session {
    pub(super) settings: Arc<Settings>,
    pub(super) state: State,
    pub(super) reply: Reply,
    pub(super) tls: Option<Box<Tls>>,
    /// For the wire.
    output: Vec<u8>,
    /// To be sealed into `output`, under TLS.
    clear_output: Vec<u8>,
    /// Cleartext not yet looked at.
    pub(super) input: Vec<u8>,
    lines: LineReader,
    /// Looks for a proxy's header that was not asked for.
    pub(super) watch: Watch,
    /// A login that a proxy vouches for.
    pub(super) vouched: bool,
    /// What was read holds a secret, to be wiped.
    pub(super) secret: bool,
    errors: u32,
    idle_commands: u32,
    /// See [`Session::steps`].
    pub(super) steps: u32,
    /// See [`Session::carried`].
    pub(super) carried: u32,
    /// Of the message that comes in, what is no step yet.
    pub(super) step_bytes: usize,
    /// Recipients in vain that may still be looked at in this turn.
    pub(super) allowance: u32,
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
        session.begin();
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
        if session.settings.tls != TlsMode::Implicit {
            reply.write_to(&mut session.output);
        }
        session
    }

    /// Takes bytes from the wire.
    pub fn receive<H: Handler>(&mut self, wire: &[u8], handler: &mut H) {
        if self.is_closing() {
            return;
        }
        if matches!(self.state, State::Header) {
            self.receive_header(wire, handler);
        } else if self.watch.sees_header(wire) {
            self.header_fault(HeaderFault::Unlisted, handler);
        } else if self.tls.is_some() {
            self.receive_sealed(wire, handler);
        } else if self.input.is_empty() {
            let used = self.work(wire, handler);
            self.secret = false;
            self.keep(&wire[used..]);
        } else {
            self.keep(wire);
            self.work_on_kept(handler);
        }
        self.flush();
    }

    /// The peer sends no more, or is gone.
    pub fn peer_ended<H: Handler>(&mut self, handler: &mut H) {
        if self.is_closing() {
            return;
        }
        if matches!(self.state, State::Header) && !self.input.is_empty() {
            self.header_fault(HeaderFault::Missing, handler);
        } else {
            self.close(handler);
        }
        self.flush();
    }

    /// A proxy's header has not come in time.
    pub fn header_overdue<H: Handler>(&mut self, handler: &mut H) {
        if matches!(self.state, State::Header) {
            self.header_fault(HeaderFault::Missing, handler);
        }
    }

    /// The handler's answer, or its leave to go on. An answer that is not awaited is ignored.
    pub fn resume<H: Handler>(&mut self, outcome: Resume<'_>, handler: &mut H) {
        self.step();
        match outcome {
            Resume::Auth(refusal) => self.resume_login(refusal, handler),
            Resume::Recipient(refusal) => self.resume_recipient(refusal, handler),
            Resume::Message(reply) => self.resume_message(reply, handler),
            Resume::Continue => self.resume_body(handler),
        }
        self.work_on_kept(handler);
        self.flush();
    }

    /// Says a last `reply` (a timeout, a shutdown) and closes.
    pub fn close_with<H: Handler>(&mut self, reply: &Reply, handler: &mut H) {
        if self.is_closing() {
            return;
        }
        if !matches!(self.state, State::Header | State::Handshake { .. }) {
            reply.write_to(self.sink());
        }
        self.close(handler);
        self.flush();
    }

    /// How many recipients of a transaction in vain are looked at before the session yields, so that
    /// a client whose recipients are all refused does not keep the others waiting.
    pub fn set_allowance(&mut self, recipients: u32) {
        self.allowance = recipients;
    }

    /// What is left of the allowance.
    #[must_use]
    pub fn allowance(&self) -> u32 {
        self.allowance
    }

    /// True: the allowance is used up and there is more to look at. Give another, and call
    /// [`Session::receive`] with nothing.
    #[must_use]
    pub fn yields(&self) -> bool {
        self.must_yield() && !self.input.is_empty()
    }

    /// Bytes for the wire, to be taken.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// False: receive no more for now.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        !self.is_closing() && self.input.len() < INPUT_BYTES_MAX && self.output.len() < OUTPUT_BYTES_MAX
    }

    /// True: close the connection once the output is flushed.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    /// Where the session stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Header => Phase::Header,
            State::Handshake { .. } => Phase::Handshake,
            State::Greeted | State::Ready(_) | State::Login(..) | State::Envelope(_) => Phase::Command,
            State::Body(body) if body.paused => Phase::Waiting,
            State::Body(_) => Phase::Data,
            State::Verifying(_) | State::Recipient(_) | State::Handed(_) => Phase::Waiting,
            State::Closing => Phase::Closing,
        }
    }

    /// Steps that the client has made; the number wraps. A whole command with its answer is one, an exchange of
    /// AUTH to its end with it, and so are a proxy's header, a handshake, and so much of a message; bytes that
    /// complete nothing are none. Where the session waited for the handler, its answer is one too.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Those among them that carry mail: a recipient or a message that was taken, and so much of one; the number
    /// wraps.
    #[must_use]
    pub fn carried(&self) -> u32 {
        self.carried
    }

    /// Whether what is said now is protected by TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.is_handshaking())
    }

    /// Protocol and cipher suite, once TLS is up, in words for a trace field.
    #[must_use]
    pub fn tls_name(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| tls.name()).filter(|name| !name.is_empty())
    }

    /// Whether a transaction is under way, from MAIL to the answer to the final dot.
    #[must_use]
    pub fn has_transaction(&self) -> bool {
        matches!(self.state, State::Envelope(_) | State::Recipient(_) | State::Body(_) | State::Handed(_))
    }
}

// How it works: bytes to lines, lines to commands; replies on their way out.
impl Session {
    fn with_state(settings: Arc<Settings>, state: State) -> Self {
        Self {
            settings,
            state,
            reply: Reply::default(),
            tls: None,
            output: Vec::new(),
            clear_output: Vec::new(),
            input: Vec::new(),
            lines: LineReader::default(),
            watch: Watch::default(),
            vouched: false,
            secret: false,
            errors: 0,
            idle_commands: 0,
            steps: 0,
            carried: 0,
            step_bytes: 0,
            allowance: u32::MAX,
        }
    }

    /// Greets, or awaits TLS.
    pub(super) fn begin(&mut self) {
        self.state = State::Greeted;
        if self.settings.tls != TlsMode::Implicit {
            return self.greet();
        }
        let config = self.settings.tls_config.clone();
        self.tls = config.and_then(|config| Tls::accept(&config).ok()).map(Box::new);
        let usable = self.tls.is_some();
        self.state = if usable { State::Handshake { greeting: true } } else { State::Closing };
    }

    pub(super) fn greet(&mut self) {
        let Self { reply, settings, .. } = self;
        reply.set(220, None, format_args!("{} ESMTP Gatepost", settings.hostname));
        self.say();
    }

    fn receive_sealed<H: Handler>(&mut self, wire: &[u8], handler: &mut H) {
        let Some(tls) = &mut self.tls else { return };
        let Ok(ended) = tls.open(wire, &mut self.input, &mut self.output) else {
            // The alert that says why is in the output already.
            return self.close(handler);
        };
        if let State::Handshake { greeting } = self.state
            && !tls.is_handshaking()
        {
            self.state = State::Greeted;
            self.vouched = false;
            self.step();
            handler.tls_started();
            if greeting {
                self.greet();
            }
        }
        self.work_on_kept(handler);
        if ended && !self.is_closing() {
            self.close(handler);
        }
    }

    pub(super) fn keep(&mut self, input: &[u8]) {
        if !self.is_closing() {
            self.input.extend_from_slice(input);
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
            self.last_word(handler, format_args!("too much sent ahead of its time"));
        }
        if self.is_closing() {
            input.clear();
        }
        self.input = input;
    }

    /// Looks at as much of the input as it can, and says how much that was.
    fn work<H: Handler>(&mut self, input: &[u8], handler: &mut H) -> usize {
        let mut at = 0;
        while at < input.len() && self.state.takes_input() && self.has_room() && !self.must_yield() {
            at += match self.state {
                State::Body(_) => self.body(&input[at..], handler),
                _ => self.next_line(&input[at..], handler),
            };
        }
        match self.state {
            // Nothing read before STARTTLS survives it (RFC 3207 section 4.2).
            State::Handshake { .. } | State::Closing => input.len(),
            _ => at,
        }
    }

    fn must_yield(&self) -> bool {
        let asks_in_vain =
            |envelope: &Envelope| envelope.accepted == 0 && envelope.refused >= REFUSED_IN_PASSING_MAX;
        self.allowance == 0 && matches!(&self.state, State::Envelope(envelope) if asks_in_vain(envelope))
    }

    fn has_room(&self) -> bool {
        self.output.len() + self.clear_output.len() < OUTPUT_BYTES_MAX
    }

    fn next_line<H: Handler>(&mut self, input: &[u8], handler: &mut H) -> usize {
        let in_login = matches!(self.state, State::Login(..));
        let bytes_max = if in_login { SASL_LINE_BYTES_MAX } else { COMMAND_LINE_BYTES_MAX };
        let mut lines = std::mem::take(&mut self.lines);
        let (used, line) = lines.take(input, bytes_max);
        let is_line = matches!(line, Line::Whole(_) | Line::BareLineFeed);
        match line {
            Line::Incomplete => self.secret |= in_login,
            Line::Whole(text) if in_login => {
                self.login_line(text, handler);
                lines.wipe();
            }
            Line::Whole(text) => {
                self.command(text, handler);
                if self.secret { lines.wipe() } else { lines.release() }
            }
            Line::TooLong => self.bad_line(handler, format_args!("line longer than {bytes_max} bytes")),
            Line::StillTooLong => self.charge(handler),
            Line::BareLineFeed => self.bad_line(handler, format_args!("lines end in CR LF, not in LF alone")),
        }
        self.lines = lines;
        if is_line && !matches!(self.state, State::Login(..)) {
            self.step();
        }
        used
    }

    fn bad_line<H: Handler>(&mut self, handler: &mut H, what: fmt::Arguments<'_>) {
        if let State::Login(client, _) = self.state {
            self.state = State::Ready(client);
        }
        self.reply.set(500, Some(Status::new(5, 5, 2)), what);
        self.refuse_command(handler);
    }

    fn command<H: Handler>(&mut self, text: &[u8], handler: &mut H) {
        // Noted before it is parsed: a malformed AUTH may hold a password too.
        self.secret |= text.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"));
        let command = match Command::parse(text) {
            Ok(command) => command,
            Err(Fault::XClient) if handler.xclient_rights() == XClientRights::None => {
                return self.refuse_xclient("XCLIENT", handler);
            }
            Err(fault) => {
                fault.write_to(&mut self.reply);
                return self.refuse_command(handler);
            }
        };
        if self.needs_tls_first(&command) {
            self.reply.deny(Reason::TlsRequired, format_args!("start TLS first"));
            return self.refuse_for(Reason::TlsRequired, handler);
        }
        match command {
            Command::Mail { from, parameters } => self.mail(from, &parameters, handler),
            Command::Rcpt { to } => self.rcpt(to, handler),
            Command::Data => self.data(handler),
            Command::Auth { mechanism, initial } => self.auth(mechanism, initial, handler),
            Command::StartTls => self.start_tls(handler),
            Command::Quit => self.quit(handler),
            idle => {
                self.idle_commands += 1;
                let limit = self.settings.limits.idle_commands_max;
                if self.idle_commands > limit {
                    let what = format_args!("too many commands without mail: at most {limit} in a row");
                    return self.last_word(handler, what);
                }
                match idle {
                    Command::XClient(told) => self.xclient(&told, handler),
                    idle => self.idle(&idle, handler),
                }
            }
        }
    }

    /// RFC 3207 section 4: before TLS only what leads to it.
    fn needs_tls_first(&self, command: &Command<'_>) -> bool {
        let required = self.settings.tls == TlsMode::Required && self.tls.is_none();
        required
            && matches!(command, Command::Mail { .. } | Command::Rcpt { .. } | Command::Data | Command::Vrfy)
    }

    pub(super) fn step(&mut self) {
        self.steps = self.steps.wrapping_add(1);
    }

    /// So many bytes of a message were looked at.
    pub(super) fn step_by(&mut self, bytes: usize) {
        self.step_bytes += bytes;
        if self.step_bytes >= STEP_BYTES {
            self.step_bytes = 0;
            self.step();
            self.carried = self.carried.wrapping_add(1);
        }
    }

    /// A recipient, or a message, was taken: this client carries mail.
    pub(super) fn carries_mail(&mut self) {
        self.idle_commands = 0;
        self.carried = self.carried.wrapping_add(1);
    }

    /// A message was taken: what went wrong before is forgiven.
    pub(super) fn forgive(&mut self) {
        self.errors = 0;
    }

    /// Writes the reply.
    pub(super) fn say(&mut self) {
        let reply = std::mem::take(&mut self.reply);
        reply.write_to(self.sink());
        self.reply = reply;
    }

    /// Writes the reply, a refusal, and counts it.
    pub(super) fn refuse_command<H: Handler>(&mut self, handler: &mut H) {
        self.say();
        self.charge(handler);
    }

    /// The same where the refusal has a reason: the handler adds its part.
    pub(super) fn refuse_for<H: Handler>(&mut self, reason: Reason, handler: &mut H) {
        handler.refused(reason, &mut self.reply);
        self.refuse_command(handler);
    }

    /// `503`: the right command at the wrong time.
    pub(super) fn out_of_order<H: Handler>(&mut self, text: &str, handler: &mut H) {
        self.reply.set(503, Some(Status::new(5, 5, 1)), format_args!("{text}"));
        self.refuse_command(handler);
    }

    pub(super) fn charge<H: Handler>(&mut self, handler: &mut H) {
        self.charge_many(1, handler);
    }

    pub(super) fn charge_many<H: Handler>(&mut self, errors: u32, handler: &mut H) {
        self.errors = self.errors.saturating_add(errors);
        let limit = self.settings.limits.errors_max;
        if self.errors >= limit && !self.is_closing() {
            let what = format_args!("too many errors: at most {limit} in a session without a message");
            self.last_word(handler, what);
        }
    }

    /// `421`, and closes.
    pub(super) fn last_word<H: Handler>(&mut self, handler: &mut H, what: fmt::Arguments<'_>) {
        self.reply.set(421, Some(Status::new(4, 7, 0)), what);
        self.say();
        self.close(handler);
    }

    pub(super) fn close<H: Handler>(&mut self, handler: &mut H) {
        if matches!(self.state, State::Envelope(_) | State::Recipient(_) | State::Body(_)) {
            handler.reset();
        }
        self.state = State::Closing;
        self.input.zeroize();
        self.lines.wipe();
    }

    pub(super) fn sink(&mut self) -> &mut Vec<u8> {
        if self.tls.is_some() { &mut self.clear_output } else { &mut self.output }
    }

    fn flush(&mut self) {
        let closing = self.is_closing();
        if let Some(tls) = &mut self.tls {
            if !self.clear_output.is_empty() {
                tls.seal(&self.clear_output, &mut self.output);
                self.clear_output.clear();
            }
            if closing {
                tls.end(&mut self.output);
            }
        }
    }
}
