use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::SystemTime;

use mail::UnixMillis;

use super::cases::Case;
use super::dialog::{Connection, Dialer, Reply, Trouble};

/// Connections of one run, at most: a server that ends them again and again does not want to be asked.
const CONNECTIONS_MAX: usize = 30;

/// What a case came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Accepted: the server relays for strangers.
    Passed,
    /// Accepted as every name at that place is: it may end in a mailbox of the server's own.
    Unclear,
    /// A permanent no.
    Denied,
    /// A request to log in: nothing was decided about a stranger.
    LoginRequired,
    /// A request to start TLS first.
    TlsRequired,
    /// Not now.
    Deferred,
    /// The foreign domain does not exist or takes no mail: nothing was decided about relaying.
    DomainRefused,
    /// The connection ended before there was an answer.
    Lost,
}

impl Outcome {
    /// Every outcome, in the order of a summary.
    pub(super) const ALL: [Self; 8] = [
        Self::Passed,
        Self::Denied,
        Self::Unclear,
        Self::LoginRequired,
        Self::TlsRequired,
        Self::Deferred,
        Self::DomainRefused,
        Self::Lost,
    ];

    /// A stable lower-case word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Unclear => "unclear",
            Self::Denied => "denied",
            Self::LoginRequired => "login_required",
            Self::TlsRequired => "tls_required",
            Self::Deferred => "deferred",
            Self::DomainRefused => "domain_refused",
            Self::Lost => "lost",
        }
    }

    /// Whether the server has answered the question itself.
    pub(super) fn is_decided(self) -> bool {
        matches!(self, Self::Passed | Self::Denied | Self::LoginRequired)
    }

    /// What a refusal says.
    fn of_refusal(stage: Stage, reply: &Reply) -> Self {
        let about_domain = matches!(reply.status(), Some("5.1.2" | "5.1.10" | "5.4.4")) || reply.code == 556;
        // Postfix says so with a temporary code where its configuration might still be mended.
        let about_relaying =
            reply.status() == Some("4.7.1") && reply.text.to_ascii_lowercase().contains("relay");
        match reply.code {
            454 if about_relaying => Self::Denied,
            400..500 => Self::Deferred,
            530 | 534 | 538 if reply.text.to_ascii_uppercase().contains("TLS") => Self::TlsRequired,
            530 | 534 | 538 => Self::LoginRequired,
            _ if stage == Stage::Rcpt && about_domain => Self::DomainRefused,
            _ => Self::Denied,
        }
    }
}

/// How far a case came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connect,
    Mail,
    Rcpt,
    Data,
    Message,
}

impl Stage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Message => "message",
        }
    }
}

/// A case, and what it came to.
pub(super) struct Finding {
    pub(super) case: Case,
    pub(super) outcome: Outcome,
    pub(super) stage: Stage,
    /// What the server said last, or why it said nothing.
    pub(super) reply: String,
}

/// Tries cases, over as few connections as the server lets it.
pub(super) struct Prober {
    dialer: Dialer,
    connection: Option<Connection>,
    dialled: usize,
    /// The foreign domain, where messages are to be sent.
    deliver: Option<String>,
    /// What all messages of this run bear.
    mark: String,
    /// Controls that were asked: whether the mailbox that is not there was taken.
    controls: HashMap<String, bool>,
}

impl Prober {
    pub(super) fn new(dialer: Dialer, connection: Connection, deliver: Option<String>) -> Self {
        let mark = format!("{:016x}", RandomState::new().build_hasher().finish());
        Self { dialer, connection: Some(connection), dialled: 1, deliver, mark, controls: HashMap::new() }
    }

    pub(super) fn run(mut self, cases: Vec<Case>) -> Vec<Finding> {
        let findings = cases.into_iter().map(|case| self.try_case(case)).collect();
        if let Some(mut connection) = self.connection {
            // It has told all that was asked: how it says goodbye is of no concern.
            let _ = connection.command("QUIT");
        }
        findings
    }

    /// Tries a case; once more where the connection ends, for a server may close what has asked too often.
    fn try_case(&mut self, case: Case) -> Finding {
        let mut reply = String::new();
        for _ in 0..2 {
            match self.attempt(&case) {
                Ok((outcome, stage, said)) => {
                    return Finding { case, outcome, stage, reply: said.to_string() };
                }
                Err(trouble) => {
                    self.connection = None;
                    reply = match trouble {
                        Trouble::Io(error) => error.to_string(),
                        Trouble::Tls(error) => error,
                        Trouble::Ended => "the connection ended".into(),
                        Trouble::Malformed => "what came is no SMTP".into(),
                        Trouble::Refused(reply) => reply.to_string(),
                    };
                }
            }
        }
        Finding { case, outcome: Outcome::Lost, stage: Stage::Connect, reply }
    }

    fn attempt(&mut self, case: &Case) -> Result<(Outcome, Stage, Reply), Trouble> {
        let (stage, reply) = self.ask(case)?;
        if !reply.is_positive() {
            return Ok((Outcome::of_refusal(stage, &reply), stage, reply));
        }
        let is_taken_anyway = match &case.control {
            Some(control) => self.is_taken(&case.from, control)?,
            None => false,
        };
        let outcome = if is_taken_anyway { Outcome::Unclear } else { Outcome::Passed };
        Ok((outcome, stage, reply))
    }

    /// Goes as far as the server lets it, and the person wants: the last stage, and its reply.
    fn ask(&mut self, case: &Case) -> Result<(Stage, Reply), Trouble> {
        let message = self.deliver.as_ref().map(|domain| self.message(case, domain));
        let connection = self.connect()?;
        let mut answer = (Stage::Mail, connection.command(&format!("MAIL FROM:<{}>", case.from))?);
        if answer.1.is_positive() {
            answer = (Stage::Rcpt, connection.command(&format!("RCPT TO:<{}>", case.to))?);
            if let (true, Some(message)) = (answer.1.is_positive(), message) {
                answer = (Stage::Data, connection.command("DATA")?);
                if answer.1.is_positive() {
                    connection.send(&message)?;
                    answer = (Stage::Message, connection.reply()?);
                }
            }
        }
        self.reset(answer.1.code == 421);
        Ok(answer)
    }

    /// Whether a mailbox that is not there is taken, at the place where the case's might be one.
    fn is_taken(&mut self, from: &str, control: &str) -> Result<bool, Trouble> {
        if let Some(&known) = self.controls.get(control) {
            return Ok(known);
        }
        let connection = self.connect()?;
        let mail = connection.command(&format!("MAIL FROM:<{from}>"))?;
        let rcpt = connection.command(&format!("RCPT TO:<{control}>"))?;
        self.reset(rcpt.code == 421);
        // A deferral leaves it open whether the name is taken there.
        let taken = mail.is_positive() && rcpt.code < 500;
        self.controls.insert(control.to_owned(), taken);
        Ok(taken)
    }

    fn connect(&mut self) -> Result<&mut Connection, Trouble> {
        if self.connection.is_none() {
            if self.dialled == CONNECTIONS_MAX {
                return Err(Trouble::Ended);
            }
            self.dialled += 1;
            self.connection = Some(self.dialer.dial()?);
        }
        Ok(self.connection.as_mut().expect("it was just made"))
    }

    /// Ends a transaction; a connection that does not survive that is made anew for the next case.
    fn reset(&mut self, is_closing: bool) {
        let survives = |connection: &mut Connection| {
            !is_closing && connection.command("RSET").is_ok_and(|reply| reply.is_positive())
        };
        if !self.connection.as_mut().is_some_and(survives) {
            self.connection = None;
        }
    }

    /// Harmless, and known by its mark to its finder.
    fn message(&self, case: &Case, domain: &str) -> String {
        let now = UnixMillis::from(SystemTime::now());
        let (mark, number) = (&self.mark, case.number);
        format!(
            "From: gatepost probe <f@{domain}>\r\nTo: <t@{domain}>\r\n\
             Subject: gatepost probe {mark}, case {number}\r\nDate: {}\r\n\
             Message-ID: <{mark}.{number}@{domain}>\r\nAuto-Submitted: auto-generated\r\n\
             X-Gatepost-Probe: {mark} {number}\r\n\r\n\
             This message tests whether a server relays mail for strangers.\r\n\
             It was asked for by the keeper of <t@{domain}>, where it should not arrive.\r\n.\r\n",
            now.rfc5322()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_taken_for_what_it_says() {
        for (stage, reply, outcome) in [
            (Stage::Rcpt, "550 5.7.1 Unable to relay", Outcome::Denied),
            (
                Stage::Rcpt,
                "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
                Outcome::Denied,
            ),
            (Stage::Mail, "501 5.1.7 bad sender address", Outcome::Denied),
            (Stage::Message, "554 5.7.1 refused", Outcome::Denied),
            (Stage::Rcpt, "454 4.7.1 <t@adatum.example>: Relay access denied", Outcome::Denied),
            (Stage::Rcpt, "454 4.7.0 too many failed logins", Outcome::Deferred),
            (Stage::Rcpt, "450 4.2.0 Greylisted, see our relay policy", Outcome::Deferred),
            (Stage::Mail, "421 4.7.0 too many errors", Outcome::Deferred),
            (Stage::Mail, "530 5.7.0 Authentication required", Outcome::LoginRequired),
            (Stage::Mail, "530 5.7.0 Must issue a STARTTLS command first", Outcome::TlsRequired),
            (Stage::Rcpt, "556 5.1.10 null MX", Outcome::DomainRefused),
            (Stage::Rcpt, "550 5.1.2 no such domain", Outcome::DomainRefused),
            (Stage::Mail, "550 5.1.2 no such domain", Outcome::Denied),
            (Stage::Rcpt, "550 5.1.1 no such user", Outcome::Denied),
        ] {
            let (code, text) = reply.split_once(' ').unwrap();
            let said = Reply { code: code.parse().unwrap(), text: text.to_owned() };
            assert_eq!(Outcome::of_refusal(stage, &said), outcome, "{reply}");
        }
    }
}
