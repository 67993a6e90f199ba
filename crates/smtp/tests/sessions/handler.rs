//! A handler for tests: says no to whatever has "denied" in it, and notes all that it was told.

use std::net::SocketAddr;
use std::sync::Arc;

use mail::limits::SessionLimits;
use mail::{ForwardPath, Reason, Reply, ReversePath, Status};
use smtp::proxy::Fault;
use smtp::server::{
    Credentials, Flow, Handler, Introduction, MailParameters, MessageEnd, SCRAM_NONCE_BYTES, ScramStart,
    Session, Settings, Step, TlsMode, Told, XClient, XClientRights,
};

#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// Logins and messages are answered later.
    pub(crate) waits: bool,
    /// A client could log in by SCRAM.
    pub(crate) knows_scram: bool,
    /// Each piece of a body pauses.
    pub(crate) pauses: bool,
    /// What XCLIENT may say.
    pub(crate) xclient: XClientRights,
    pub(crate) log: Vec<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) messages: Vec<Vec<u8>>,
    pub(crate) refused: Vec<MessageEnd>,
}

impl Handler for Recorder {
    fn refused(&mut self, reason: Reason, _: &mut Reply) {
        self.log.push(format!("refused {reason}"));
    }

    fn proxied(&mut self, client: Option<SocketAddr>, reply: &mut Reply) -> bool {
        self.log.push(format!("proxied {client:?}"));
        let turned_away = client.is_some_and(|client| client.port() == 666);
        if turned_away {
            reply.deny(Reason::ConnectionLimit, format_args!("too many connections"));
        }
        !turned_away
    }

    fn proxy_fault(&mut self, fault: Fault) {
        self.log.push(format!("fault {}", fault.as_str()));
    }

    fn xclient_rights(&self) -> XClientRights {
        self.xclient
    }

    fn xclient(&mut self, told: &XClient, reply: &mut Reply) -> Introduction {
        self.log.push(format!("xclient {:?} {:?} {:?}", told.address, told.helo, told.login));
        match &told.login {
            Some(Told::Value(login)) if **login == *"blocked" => {
                reply.deny(Reason::ClientBlocked, format_args!("blocked"));
                Introduction::TurnedAway
            }
            Some(Told::Value(login)) if !allows(login, reply) => Introduction::Refused,
            _ => {
                self.xclient = XClientRights::None;
                Introduction::Taken
            }
        }
    }

    fn xclient_refused(&mut self) {
        self.log.push("xclient refused".into());
    }

    fn helo(&mut self, name: &str, extended: bool) {
        self.log.push(format!("helo {name} {extended}"));
    }

    fn tls_started(&mut self) {
        self.log.push("tls".into());
    }

    fn offers_scram(&mut self) -> bool {
        self.knows_scram
    }

    fn scram(&mut self, login: &str, reply: &mut Reply) -> Option<ScramStart> {
        self.log.push(format!("scram {login:?}"));
        if login == "locked" {
            reply.deny(Reason::LoginLocked, format_args!("too many failed logins"));
            return None;
        }
        let verifier = match login {
            "terri" => smtp::scram::verifier("secret", b"a salt of terri's", 4096),
            unknown => smtp::scram::stand_in(&[7; 32], unknown, 4096, 16),
        };
        Some(ScramStart { verifier, nonce: [0; SCRAM_NONCE_BYTES] })
    }

    fn auth(&mut self, credentials: Credentials<'_>, reply: &mut Reply) -> Step {
        let fits = match credentials {
            Credentials::Plain { authorization, login, password } => {
                self.log.push(format!("auth {authorization:?} {login:?} {password:?}"));
                (login, password) == ("terri", "secret")
            }
            Credentials::Scram { authorization, login, proved } => {
                self.log.push(format!("auth {authorization:?} {login:?} {proved}"));
                proved
            }
        };
        match fits {
            _ if self.waits => Step::Wait,
            true => Step::Accept,
            false => {
                *reply = login_failed();
                Step::Refuse
            }
        }
    }

    fn mail(&mut self, from: ReversePath<'_>, parameters: &MailParameters, reply: &mut Reply) -> bool {
        self.log.push(format!("mail {from} {:?} {}", parameters.size, parameters.eight_bit));
        allows(from.text(), reply)
    }

    fn rcpt(&mut self, to: ForwardPath<'_>, reply: &mut Reply) -> Step {
        self.log.push(format!("rcpt {to}"));
        match allows(to.text(), reply) {
            true if to.text().contains("asked") => Step::Wait,
            true => Step::Accept,
            false => Step::Refuse,
        }
    }

    fn data(&mut self, _: &mut Reply) -> bool {
        self.body.clear();
        true
    }

    fn body(&mut self, wire: &[u8]) -> Flow {
        self.body.extend_from_slice(wire);
        if self.pauses { Flow::Pause } else { Flow::Continue }
    }

    fn message_end(&mut self, end: MessageEnd, reply: &mut Reply) -> Step {
        let reason = match end {
            MessageEnd::Whole { bytes } => {
                assert_eq!(bytes, self.body.len() as u64);
                self.messages.push(std::mem::take(&mut self.body));
                reply.set(250, Some(Status::new(2, 0, 0)), format_args!("taken"));
                return if self.waits { Step::Wait } else { Step::Accept };
            }
            MessageEnd::BareNewline => Reason::BareNewline,
            MessageEnd::TooLarge => Reason::MessageTooLarge,
        };
        self.refused.push(end);
        reply.deny(reason, format_args!("{reason}"));
        Step::Refuse
    }

    fn reset(&mut self) {
        self.log.push("reset".into());
    }
}

pub(crate) fn login_failed() -> Reply {
    let mut reply = Reply::default();
    reply.deny(Reason::LoginFailed, format_args!("the name or the password is wrong"));
    reply
}

fn allows(text: &str, reply: &mut Reply) -> bool {
    let denied = text.contains("denied");
    if denied {
        reply.deny(Reason::RelayNotPermitted, format_args!("relaying not permitted"));
    }
    !denied
}

pub(crate) fn settings() -> Settings {
    Settings {
        hostname: "relay.example".into(),
        tls: TlsMode::Off,
        tls_config: None,
        auth_without_tls: false,
        message_bytes_max: None,
        limits: SessionLimits::default(),
    }
}

/// A session that has greeted, whose greeting was taken.
pub(crate) fn greeted(settings: Settings) -> Session {
    let mut session = Session::new(Arc::new(settings));
    session.output().clear();
    session
}

/// What a session has to say now.
pub(crate) fn said(session: &mut Session) -> String {
    String::from_utf8(std::mem::take(session.output())).unwrap()
}
