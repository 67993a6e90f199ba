//! AUTH (RFC 4954).

use mail::{Reason, Status};

use super::session::Session;
use super::state::{Client, State};
use super::{Credentials, Handler, Step};
use crate::sasl::{Exchange, Mechanism, Next, Shown};

/// One text for every failed login: never which part was wrong.
const LOGIN_FAILED: &str = "the name or the password is wrong";

impl Session {
    pub(super) fn auth<H: Handler>(&mut self, mechanism: &str, initial: Option<&str>, handler: &mut H) {
        let refusal = match self.state {
            _ if !self.settings.auth => Some((502, (5, 1), "logins are not taken here")),
            _ if !self.offers_auth() => Some((538, (7, 11), "start TLS before you log in")),
            State::Ready(Client { authenticated: true }) => Some((503, (5, 1), "you are logged in already")),
            State::Ready(_) => None,
            State::Envelope(_) => Some((503, (5, 1), "no login within a transaction")),
            _ => Some((503, (5, 1), "say EHLO first")),
        };
        if let Some((code, (subject, detail), text)) = refusal {
            self.reply.set(code, Some(Status::new(5, subject, detail)), format_args!("{text}"));
            // RFC 4954 section 6: encryption is required for the mechanism asked for.
            if code == 538 {
                return self.refuse_for(Reason::TlsRequired, handler);
            }
            return self.refuse_command(handler);
        }
        let (Some(mechanism), State::Ready(client)) = (Mechanism::parse(mechanism), &self.state) else {
            let text = format_args!("mechanism not offered; use PLAIN or LOGIN");
            self.reply.set(504, Some(Status::new(5, 5, 4)), text);
            return self.refuse_command(handler);
        };
        let client = *client;
        let (challenge, exchange) = mechanism.begin();
        match initial {
            None => self.challenge(client, challenge, exchange),
            // "=" is an initial response of no bytes (RFC 4954 section 4).
            Some("=") => self.answer(client, exchange, b"", handler),
            Some(initial) => self.answer(client, exchange, initial.as_bytes(), handler),
        }
    }

    /// A line of the exchange.
    pub(super) fn login_line<H: Handler>(&mut self, line: &[u8], handler: &mut H) {
        self.secret = true;
        let State::Login(client, exchange) = std::mem::replace(&mut self.state, State::Closing) else {
            unreachable!("only a session in an exchange reads its lines")
        };
        self.state = State::Ready(client);
        if line == b"*" {
            self.reply.set(501, Some(Status::new(5, 7, 0)), format_args!("login cancelled"));
            return self.refuse_command(handler);
        }
        self.answer(client, exchange, line, handler);
    }

    fn challenge(&mut self, client: Client, challenge: &str, exchange: Exchange) {
        self.reply.set(334, None, format_args!("{challenge}"));
        self.say();
        self.state = State::Login(client, exchange);
    }

    fn answer<H: Handler>(&mut self, client: Client, exchange: Exchange, line: &[u8], handler: &mut H) {
        match exchange.answer(line) {
            Next::Challenge(challenge, exchange) => self.challenge(client, challenge, exchange),
            Next::Done(shown) => self.judge_login(client, &shown, handler),
            Next::Malformed => {
                self.reply.set(501, Some(Status::new(5, 5, 2)), format_args!("malformed answer"));
                self.refuse_command(handler);
            }
        }
    }

    fn judge_login<H: Handler>(&mut self, client: Client, shown: &Shown, handler: &mut H) {
        let (authorization, login, password) = shown.parts();
        self.reply.clear();
        match handler.auth(Credentials::Plain { authorization, login, password }, &mut self.reply) {
            Step::Accept => self.logged_in(),
            Step::Refuse => {
                if self.reply.code() == 0 {
                    return self.login_failed(handler);
                }
                self.refuse_command(handler);
            }
            Step::Wait => self.state = State::Verifying(client),
        }
    }

    /// The answer that a login waited for.
    pub(super) fn resume_login<H: Handler>(&mut self, accepted: bool, handler: &mut H) {
        let State::Verifying(client) = self.state else { return };
        if accepted {
            self.logged_in();
        } else {
            self.state = State::Ready(client);
            self.login_failed(handler);
        }
    }

    fn login_failed<H: Handler>(&mut self, handler: &mut H) {
        self.reply.deny(Reason::LoginFailed, format_args!("{LOGIN_FAILED}"));
        self.refuse_for(Reason::LoginFailed, handler);
    }

    fn logged_in(&mut self) {
        self.state = State::Ready(Client { authenticated: true });
        self.reply.set(235, Some(Status::new(2, 7, 0)), format_args!("logged in"));
        self.say();
    }
}
