//! AUTH (RFC 4954).

use mail::{Reason, Reply};

use super::state::{Client, State};
use super::{Answer, Channel, Dialog};
use crate::sasl::{ClientFirst, Exchange, Flag, Mechanism, Next, Proof};
use crate::scram;
use crate::server::{Credentials, Handler, ScramStart, Step};

impl Dialog {
    pub(super) fn auth<H: Handler>(
        &mut self,
        mechanism: &str,
        initial: Option<&str>,
        handler: &mut H,
    ) -> Answer {
        if !self.channel.offers_auth(&self.settings) {
            // RFC 4954 section 6: encryption is required for the mechanism asked for.
            let text = format_args!("start TLS before you log in");
            Answer::refused(&mut self.reply, 538, (7, 11), text);
            return Answer::RefusedFor(Reason::TlsRequired);
        }
        let client = match self.state {
            State::Ready(client) if !client.authenticated => client,
            State::Ready(_) => return Answer::out_of_order(&mut self.reply, "you are logged in already"),
            State::Envelope(_) => {
                return Answer::out_of_order(&mut self.reply, "no login within a transaction");
            }
            _ => return Answer::out_of_order(&mut self.reply, "say EHLO first"),
        };
        let offered = self.channel.mechanisms(handler.offers_scram());
        let known = Mechanism::parse(mechanism)
            .filter(|_| offered.split(' ').any(|offered| offered.eq_ignore_ascii_case(mechanism)));
        let Some(known) = known else {
            let text = format_args!("mechanism not offered; use one of {offered}");
            return Answer::refused(&mut self.reply, 504, (5, 4), text);
        };
        let (challenge, exchange) = known.begin();
        let login = Login { client, exchange };
        let (state, answer) = match initial {
            None => login.challenge(challenge, &mut self.reply),
            // "=" is an initial response of no bytes (RFC 4954 section 4).
            Some("=") => login.answer(b"", &self.channel, &mut self.reply, handler),
            Some(initial) => login.answer(initial.as_bytes(), &self.channel, &mut self.reply, handler),
        };
        self.state = state;
        answer
    }

    /// A line of the exchange.
    pub(super) fn login_line<H: Handler>(&mut self, line: &[u8], handler: &mut H) -> Answer {
        let State::Login(login) = std::mem::replace(&mut self.state, State::Closing) else {
            unreachable!("only a session in an exchange reads its lines")
        };
        let (state, answer) = login.answer(line, &self.channel, &mut self.reply, handler);
        self.state = state;
        answer
    }

    /// The answer that a login waited for.
    pub(super) fn resume_login(&mut self, refusal: Option<&Reply>) -> Answer {
        let State::Verifying(client) = self.state else { return Answer::Silent };
        let (state, answer) = match refusal {
            None => logged_in(&mut self.reply),
            Some(refusal) => {
                self.channel.say(refusal);
                (State::Ready(client), Answer::Error)
            }
        };
        self.state = state;
        answer
    }
}

/// A client that logs in.
#[derive(Debug)]
pub(crate) struct Login {
    pub(super) client: Client,
    exchange: Exchange,
}

impl Login {
    fn challenge(self, challenge: &str, reply: &mut Reply) -> (State, Answer) {
        reply.set(334, None, format_args!("{challenge}"));
        (State::Login(self), Answer::Said)
    }

    /// Takes the client's next line.
    fn answer<H: Handler>(
        self,
        line: &[u8],
        channel: &Channel,
        reply: &mut Reply,
        handler: &mut H,
    ) -> (State, Answer) {
        let Self { client, exchange } = self;
        let ready = State::Ready(client);
        if line == b"*" {
            return (ready, Answer::refused(reply, 501, (7, 0), format_args!("login cancelled")));
        }
        match exchange.answer(line) {
            Next::Challenge(challenge, exchange) => Self { client, exchange }.challenge(&challenge, reply),
            Next::Shown(shown) => {
                let (authorization, login, password) = shown.parts();
                let (authorization, login) = (&*scram::prepared(authorization), &*scram::prepared(login));
                let shown = Credentials::Plain { authorization, login, password };
                verify(client, shown, reply, handler)
            }
            Next::Verifier(first) => match begin_scram(*first, channel, reply, handler) {
                Ok((challenge, exchange)) => Self { client, exchange }.challenge(&challenge, reply),
                Err(refusal) => (ready, refusal),
            },
            Next::Proof(proof) => {
                let Proof { authorization, login, proved } = &*proof;
                let shown = Credentials::Scram { authorization, login, proved: *proved };
                verify(client, shown, reply, handler)
            }
            Next::Malformed => (ready, Answer::refused(reply, 501, (5, 2), format_args!("malformed answer"))),
        }
    }
}

/// SCRAM's first message has come: what the client says of channel binding must be what we said.
fn begin_scram<H: Handler>(
    first: ClientFirst,
    channel: &Channel,
    reply: &mut Reply,
    handler: &mut H,
) -> Result<(String, Exchange), Answer> {
    let binding = match first.flag {
        // RFC 5802 section 6: an attacker took SCRAM-SHA-256-PLUS out of what we announced.
        Flag::Unoffered if channel.can_bind() => {
            let what =
                "SCRAM-SHA-256-PLUS was announced and did not reach you: the connection is tampered with";
            return Err(Answer::denied(reply, Reason::LoginFailed, format_args!("{what}")));
        }
        Flag::Unable | Flag::Unoffered => Some(Vec::new()),
        Flag::Bound(binding) => {
            channel.tls.as_ref().zip(binding).and_then(|(tls, binding)| tls.binding(binding))
        }
    };
    let Some(binding) = binding else {
        let text = format_args!("no such channel binding here; use tls-exporter or tls-server-end-point");
        return Err(Answer::refused(reply, 504, (5, 4), text));
    };
    reply.clear();
    let ScramStart { verifier, nonce } = handler.scram(&first.login, reply).ok_or(Answer::Refused)?;
    let (challenge, awaited) = first.challenge(verifier, &nonce, &binding);
    Ok((challenge, Exchange::ScramFinal(awaited)))
}

fn verify<H: Handler>(
    client: Client,
    shown: Credentials<'_>,
    reply: &mut Reply,
    handler: &mut H,
) -> (State, Answer) {
    reply.clear();
    match handler.auth(shown, reply) {
        Step::Accept => logged_in(reply),
        Step::Refuse => (State::Ready(client), Answer::Refused),
        Step::Wait => (State::Verifying(client), Answer::Silent),
    }
}

fn logged_in(reply: &mut Reply) -> (State, Answer) {
    let answer = Answer::said(reply, 235, (7, 0), format_args!("logged in"));
    (State::Ready(Client { authenticated: true }), answer)
}
