//! What is said: each line of the client's gets its reply, and leads to the next state.

mod answer;
mod hello;
mod login;
mod proxied;
mod state;
mod transaction;

use std::fmt;
use std::sync::Arc;

use mail::{Reason, Reply};

use super::channel::Channel;
use super::conduct::Conduct;
use super::{Handler, Phase, Resume, Settings, TlsMode, XClientRights};
use crate::command::{Command, Fault};
use answer::Answer;

pub(super) use state::State;

/// So many refused recipients of a transaction that has no other are answered as they come; past
/// them it looks like a search, and waits for its turn (see [`super::Session::set_allowance`]).
const REFUSED_IN_PASSING_MAX: u32 = 4;

/// A session without its input.
pub(super) struct Dialog {
    pub(super) settings: Arc<Settings>,
    pub(super) state: State,
    pub(super) channel: Channel,
    pub(super) conduct: Conduct,
    /// Recipients in vain that may still be looked at in this turn.
    pub(super) allowance: u32,
    reply: Reply,
    /// A login that a proxy vouches for.
    vouched: bool,
}

impl Dialog {
    pub(super) fn new(settings: Arc<Settings>, state: State) -> Self {
        Self {
            settings,
            state,
            channel: Channel::default(),
            conduct: Conduct::default(),
            allowance: u32::MAX,
            reply: Reply::default(),
            vouched: false,
        }
    }

    /// Greets, or awaits TLS.
    pub(super) fn begin(&mut self) {
        if self.settings.tls != TlsMode::Implicit {
            return self.greet();
        }
        self.channel.tls = Channel::accept(self.settings.tls_config.as_deref());
        let usable = self.channel.tls.is_some();
        self.state = if usable { State::Handshake { greeting: true } } else { State::Closing };
    }

    fn greet(&mut self) {
        self.state = State::Greeted;
        self.reply.set(220, None, format_args!("{} ESMTP Gatepost", self.settings.hostname));
        self.channel.say(&self.reply);
    }

    /// Goes on where a handshake is over.
    pub(super) fn end_handshake<H: Handler>(&mut self, handler: &mut H) {
        let State::Handshake { greeting } = self.state else { return };
        if self.channel.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            return;
        }
        self.state = State::Greeted;
        self.vouched = false;
        self.conduct.step();
        handler.tls_started();
        if greeting {
            self.greet();
        }
    }

    /// Whether more input can be looked at.
    pub(super) fn takes_input(&self) -> bool {
        matches!(self.state.phase(), Phase::Command | Phase::Data)
            && self.channel.has_room()
            && !self.yields()
    }

    /// Whether the allowance is used up.
    pub(super) fn yields(&self) -> bool {
        self.allowance == 0
            && matches!(&self.state, State::Envelope(envelope)
                if envelope.accepted == 0 && envelope.refused >= REFUSED_IN_PASSING_MAX)
    }

    /// Takes a line, a command or one of an exchange of AUTH.
    pub(super) fn line<H: Handler>(&mut self, text: &[u8], handler: &mut H) {
        let answer = match self.state {
            State::Login(_) => self.login_line(text, handler),
            _ => self.command(text, handler),
        };
        self.conclude(answer, handler);
    }

    /// Takes what is no line.
    pub(super) fn bad_line<H: Handler>(&mut self, what: fmt::Arguments<'_>, handler: &mut H) {
        if let State::Login(login) = &self.state {
            self.state = State::Ready(login.client);
        }
        let answer = Answer::refused(&mut self.reply, 500, (5, 2), what);
        self.conclude(answer, handler);
    }

    /// Takes the handler's answer.
    pub(super) fn resume<H: Handler>(&mut self, outcome: Resume<'_>, handler: &mut H) {
        self.conduct.step();
        let answer = match outcome {
            Resume::Auth(refusal) => self.resume_login(refusal),
            Resume::Recipient(refusal) => self.resume_recipient(refusal),
            Resume::Message(reply) => self.resume_message(reply),
            Resume::Continue => self.resume_body(handler),
        };
        self.conclude(answer, handler);
    }

    fn command<H: Handler>(&mut self, text: &[u8], handler: &mut H) -> Answer {
        let command = match Command::parse(text) {
            Ok(command) => command,
            Err(Fault::XClient) if handler.xclient_rights() == XClientRights::None => {
                return self.refuse_xclient("XCLIENT", handler);
            }
            Err(fault) => {
                fault.write_to(&mut self.reply);
                return Answer::Refused;
            }
        };
        // RFC 3207 section 4: before TLS only what leads to it.
        if self.settings.tls == TlsMode::Required
            && self.channel.tls.is_none()
            && matches!(command, Command::Mail { .. } | Command::Rcpt { .. } | Command::Data | Command::Vrfy)
        {
            return Answer::denied(&mut self.reply, Reason::TlsRequired, format_args!("start TLS first"));
        }
        match command {
            Command::Mail { from, parameters } => self.mail(from, &parameters, handler),
            Command::Rcpt { to } => self.rcpt(to, handler),
            Command::Data => self.data(handler),
            Command::Auth { mechanism, initial } => self.auth(mechanism, initial, handler),
            Command::StartTls => self.start_tls(handler),
            Command::Quit => {
                Answer::said(&mut self.reply, 221, (0, 0), format_args!("bye"));
                Answer::Last
            }
            idle => {
                let limits = &self.settings.limits;
                if self.conduct.too_many_idle_commands(limits) {
                    let limit = limits.idle_commands_max;
                    let what = format_args!("too many commands without mail: at most {limit} in a row");
                    return Answer::last_word(&mut self.reply, what);
                }
                self.idle(&idle, handler)
            }
        }
    }

    fn conclude<H: Handler>(&mut self, answer: Answer, handler: &mut H) {
        if let Answer::RefusedFor(reason) = answer {
            handler.refused(reason, &mut self.reply);
        }
        if !matches!(answer, Answer::Silent | Answer::Error) {
            self.channel.say(&self.reply);
        }
        match answer {
            Answer::Said | Answer::Silent => {}
            Answer::Refused | Answer::RefusedFor(_) | Answer::Error => self.charge(1, handler),
            Answer::Last => self.close(handler),
        }
    }

    /// Counts errors, and ends the session where they are too many.
    pub(super) fn charge<H: Handler>(&mut self, errors: u32, handler: &mut H) {
        let limits = &self.settings.limits;
        if self.conduct.too_many_errors(errors, limits) && !matches!(self.state, State::Closing) {
            let limit = limits.errors_max;
            self.last_word(
                format_args!("too many errors: at most {limit} in a session without a message"),
                handler,
            );
        }
    }

    /// `421`, and closes.
    pub(super) fn last_word<H: Handler>(&mut self, what: fmt::Arguments<'_>, handler: &mut H) {
        let answer = Answer::last_word(&mut self.reply, what);
        self.conclude(answer, handler);
    }

    pub(super) fn close<H: Handler>(&mut self, handler: &mut H) {
        if matches!(self.state, State::Envelope(_) | State::Recipient(_) | State::Body(_)) {
            handler.reset();
        }
        self.state = State::Closing;
    }
}
