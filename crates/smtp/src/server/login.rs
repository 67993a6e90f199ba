//! AUTH (RFC 4954).

use mail::{Reason, Reply, Status};

use super::session::Session;
use super::state::{Client, State};
use super::{Credentials, Handler, ScramStart, Step};
use crate::sasl::{ClientFirst, Exchange, Flag, Mechanism, Next, Proof, Shown};
use crate::scram;

impl Session {
    pub(super) fn auth<H: Handler>(&mut self, mechanism: &str, initial: Option<&str>, handler: &mut H) {
        let refusal = match self.state {
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
        let offered = self.mechanisms(handler);
        let mechanism = Mechanism::parse(mechanism)
            .filter(|_| offered.split(' ').any(|offered| offered.eq_ignore_ascii_case(mechanism)));
        let (Some(mechanism), State::Ready(client)) = (mechanism, &self.state) else {
            let text = format_args!("mechanism not offered; use one of {offered}");
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

    /// The mechanisms that are offered now, as EHLO names them.
    pub(super) fn mechanisms<H: Handler>(&self, handler: &mut H) -> &'static str {
        match (handler.offers_scram(), self.can_bind()) {
            (false, _) => "PLAIN LOGIN",
            (true, false) => "PLAIN LOGIN SCRAM-SHA-256",
            (true, true) => "PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS",
        }
    }

    fn can_bind(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.can_bind())
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
            Next::Challenge(challenge, exchange) => self.challenge(client, &challenge, exchange),
            Next::Shown(shown) => self.check_shown(client, &shown, handler),
            Next::Verifier(first) => self.begin_scram(client, *first, handler),
            Next::Proof(proof) => {
                let Proof { authorization, login, proved } = &*proof;
                self.check_login(
                    client,
                    Credentials::Scram { authorization, login, proved: *proved },
                    handler,
                );
            }
            Next::Malformed => {
                self.reply.set(501, Some(Status::new(5, 5, 2)), format_args!("malformed answer"));
                self.refuse_command(handler);
            }
        }
    }

    /// SCRAM's first message has come: what the client says of channel binding must be what we said.
    fn begin_scram<H: Handler>(&mut self, client: Client, first: ClientFirst, handler: &mut H) {
        let binding = match first.flag {
            Flag::Unable => Some(Vec::new()),
            // RFC 5802 section 6: an attacker took SCRAM-SHA-256-PLUS out of what we announced.
            Flag::Unoffered if self.can_bind() => {
                let what =
                    "SCRAM-SHA-256-PLUS was announced and did not reach you: the connection is tampered with";
                self.reply.deny(Reason::LoginFailed, format_args!("{what}"));
                return self.refuse_for(Reason::LoginFailed, handler);
            }
            Flag::Unoffered => Some(Vec::new()),
            Flag::Bound(binding) => {
                self.tls.as_ref().zip(binding).and_then(|(tls, binding)| tls.binding(binding))
            }
        };
        let Some(binding) = binding else {
            let text = format_args!("no such channel binding here; use tls-exporter or tls-server-end-point");
            self.reply.set(504, Some(Status::new(5, 5, 4)), text);
            return self.refuse_command(handler);
        };
        self.reply.clear();
        match handler.scram(&first.login, &mut self.reply) {
            Some(ScramStart { verifier, nonce }) => {
                let (challenge, awaited) = first.challenge(verifier, &nonce, &binding);
                self.challenge(client, &challenge, Exchange::ScramFinal(awaited));
            }
            None => self.refuse_command(handler),
        }
    }

    fn check_shown<H: Handler>(&mut self, client: Client, shown: &Shown, handler: &mut H) {
        let (authorization, login, password) = shown.parts();
        let (authorization, login) = (scram::prepared(authorization), scram::prepared(login));
        let (authorization, login) = (&*authorization, &*login);
        self.check_login(client, Credentials::Plain { authorization, login, password }, handler);
    }

    fn check_login<H: Handler>(&mut self, client: Client, credentials: Credentials<'_>, handler: &mut H) {
        self.reply.clear();
        match handler.auth(credentials, &mut self.reply) {
            Step::Accept => self.logged_in(),
            Step::Refuse => self.refuse_command(handler),
            Step::Wait => self.state = State::Verifying(client),
        }
    }

    /// The answer that a login waited for.
    pub(super) fn resume_login<H: Handler>(&mut self, refusal: Option<&Reply>, handler: &mut H) {
        let State::Verifying(client) = self.state else { return };
        let Some(refusal) = refusal else { return self.logged_in() };
        self.state = State::Ready(client);
        refusal.write_to(self.sink());
        self.charge(handler);
    }

    fn logged_in(&mut self) {
        self.state = State::Ready(Client { authenticated: true });
        self.reply.set(235, Some(Status::new(2, 7, 0)), format_args!("logged in"));
        self.say();
    }
}
