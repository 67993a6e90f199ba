use std::fmt;
use std::net::IpAddr;

use mail::{ForwardPath, Reason, Reply, Ticket};

use crate::decision::Decision;
use crate::remedy::Remedy;
use crate::rule::Rule;

/// What the text of a denial is made of.
#[derive(Clone, Copy, Debug)]
pub struct ReplyFacts<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// The reverse-path, without angle brackets; empty for the null one.
    pub from: &'a str,
    /// The recipient, without angle brackets; empty at MAIL.
    pub to: &'a str,
    /// What the running gateway adds to the first line: which limit and when it frees, which list.
    pub detail: Option<fmt::Arguments<'a>>,
    /// The ticket of this denial.
    pub ticket: Option<Ticket>,
    /// The address that a denied sender may write to.
    pub contact: Option<&'a str>,
    /// Where the page of a ticket is found: its compact form is appended.
    pub public_url: Option<&'a str>,
    /// The port of a submission listener, if there is one.
    pub submission_port: Option<u16>,
}

impl Decision {
    /// Writes the reply of a denial: what is denied, then what the sender can do, whom to ask and the
    /// ticket (DESIGN.md G1). The second line drops what is not configured. An
    /// acceptance leaves `reply` alone.
    pub fn write_reply(&self, facts: &ReplyFacts<'_>, reply: &mut Reply) {
        let (Some(reason), Some((code, status))) = (self.verdict.reason(), self.reply_code()) else { return };
        let line = FirstLine { reason, facts };
        reply.set(code, Some(status), format_args!("{line}"));
        self.add_advice(facts, reply);
    }

    /// Adds to a refusal whose first line is written already what the sender can do, whom to ask and
    /// the ticket.
    pub fn add_advice(&self, facts: &ReplyFacts<'_>, reply: &mut Reply) {
        let Some(reason) = self.verdict.reason() else { return };
        let advice = self.advice(reason, facts);
        let second = fmt::from_fn(|f| write_second_line(f, &advice, facts));
        if !(matches!(advice, Advice::None) && facts.contact.is_none() && facts.ticket.is_none()) {
            reply.add_line(format_args!("{second}"));
        }
    }

    fn advice(&self, reason: Reason, facts: &ReplyFacts<'_>) -> Advice {
        let stranger = self.remedy == Remedy::LogInOrAddNetwork;
        match (reason, facts.submission_port) {
            (Reason::RelayNotPermitted, Some(port)) => Advice::SignIn(port),
            (Reason::SenderNotOwned, Some(port)) if stranger => Advice::SignIn(port),
            (Reason::LoginRequired, Some(port)) if self.rule == Rule::StrictLogin => Advice::SignInWith(port),
            _ => alone(reason, facts.contact.is_some()),
        }
    }
}

/// What is denied, and what the running gateway adds to it.
struct FirstLine<'a> {
    reason: Reason,
    facts: &'a ReplyFacts<'a>,
}

impl fmt::Display for FirstLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReplyFacts { from, to, detail, .. } = *self.facts;
        let client = self.facts.client.to_canonical();
        let is_about_sender = matches!(self.reason, Reason::SenderNotOwned | Reason::SenderBlocked);
        if is_about_sender {
            write!(f, "<{from}>: ")?;
        } else if !to.is_empty() {
            write!(f, "<{to}>: ")?;
        }
        match self.reason {
            Reason::RelayNotPermitted => write!(f, "relaying not permitted for {client}")?,
            Reason::LoginRequired => f.write_str("login required")?,
            Reason::TlsRequired => f.write_str("start TLS first")?,
            Reason::SenderNotOwned => f.write_str("you may not send as this address")?,
            Reason::HeaderFromNotOwned => f.write_str("you may not send with this header")?,
            Reason::RecipientUnknown => f.write_str("no such recipient here")?,
            Reason::RoutingSyntax => match ForwardPath::parse(to).ok().and_then(ForwardPath::routing_trick) {
                Some(trick) => write!(f, "{} is refused", trick.name())?,
                None => f.write_str("this form of address is refused")?,
            },
            Reason::SecondTenant => f.write_str("needs a transaction of its own")?,
            Reason::ClientBlocked => write!(f, "{client} is on a block list")?,
            Reason::SenderBlocked => f.write_str("this sender is on a block list")?,
            Reason::RecipientBlocked => f.write_str("this recipient is on a block list")?,
            other => f.write_str(other.summary())?,
        }
        match detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// What a sender can do without knowing where to log in.
fn alone(reason: Reason, has_contact: bool) -> Advice {
    Advice::Text(match reason {
        Reason::RelayNotPermitted if !has_contact => "ask your provider to add your network",
        Reason::LoginRequired => "sign in with AUTH PLAIN, LOGIN or SCRAM-SHA-256",
        Reason::TlsRequired => "send STARTTLS, then go on",
        Reason::MechanismWithdrawn => "sign in again with another mechanism",
        Reason::LoginFailed => "check the name and the password",
        Reason::SenderNotOwned => "send as an address of your own",
        Reason::HeaderFromNotOwned => "write one From field, with an address of your own",
        Reason::RecipientUnknown => "check the spelling of the address",
        Reason::RecipientDomainMissing => "check the spelling of the domain",
        Reason::RecipientDomainNoMail => "ask the recipient for another address",
        Reason::RoutingSyntax => "write the recipient as name@domain",
        Reason::SecondTenant => "send to it again in a new transaction",
        Reason::SpoolFull
        | Reason::SpoolFailed
        | Reason::ConnectionLimit
        | Reason::RateLimited
        | Reason::QuotaExceeded
        | Reason::LoginLocked
        | Reason::LoginBusy
        | Reason::RecipientUnverified => "try again later",
        Reason::BareNewline => "end every line with CR LF",
        Reason::MessageTooLarge => "send a smaller message",
        Reason::TooManyRecipients => "send to the others in a new transaction",
        Reason::ClientBlocked | Reason::SenderBlocked | Reason::RecipientBlocked if !has_contact => {
            "ask the operator of this server"
        }
        Reason::TenantSuspended | Reason::IdentitySuspended | Reason::ClientSuspended if !has_contact => {
            "ask your provider"
        }
        _ => return Advice::None,
    })
}

/// The one thing that the sender can do.
enum Advice {
    None,
    Text(&'static str),
    SignIn(u16),
    SignInWith(u16),
}

fn write_second_line(f: &mut fmt::Formatter<'_>, advice: &Advice, facts: &ReplyFacts<'_>) -> fmt::Result {
    match advice {
        Advice::None => {}
        Advice::Text(text) => f.write_str(text)?,
        Advice::SignIn(port) => write!(f, "sign in on port {port}")?,
        Advice::SignInWith(port) => {
            write!(f, "sign in on port {port} with AUTH PLAIN, LOGIN or SCRAM-SHA-256")?;
        }
    }
    let advised = !matches!(advice, Advice::None);
    if let Some(contact) = facts.contact {
        let verb = if contact_is_url(contact) { "see" } else { "write to" };
        write!(f, "{}{verb} {contact}", if advised { ", or " } else { "" })?;
    }
    let Some(ticket) = facts.ticket else { return Ok(()) };
    let separator = if advised || facts.contact.is_some() { "; " } else { "" };
    write!(f, "{separator}ticket {ticket}")?;
    match facts.public_url {
        Some(url) => write!(f, " {}/{}", url.trim_end_matches('/'), ticket.compact()),
        None => Ok(()),
    }
}

/// Whether a contact is a page to look at, and not an address to write to, which holds no such characters.
#[must_use]
pub fn contact_is_url(contact: &str) -> bool {
    contact.starts_with("https://") || contact.starts_with("http://")
}

#[cfg(test)]
mod tests {
    use mail::Verdict;

    use super::*;

    fn text(reason: Reason, facts: &ReplyFacts<'_>) -> String {
        let decision = Decision::refusal(Rule::Responsibility, None, Verdict::Deny(reason), Remedy::None);
        let (mut reply, mut wire) = (Reply::default(), Vec::new());
        decision.write_reply(facts, &mut reply);
        reply.write_to(&mut wire);
        String::from_utf8(wire).unwrap()
    }

    const FULL: ReplyFacts<'_> = ReplyFacts {
        client: IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7)),
        from: "terri@proseware.example",
        to: "bob@adatum.example",
        detail: None,
        ticket: None,
        contact: Some("postmaster@relay.example"),
        public_url: Some("https://why.relay.example"),
        submission_port: Some(587),
    };

    #[test]
    fn a_stranger_reads_what_the_design_shows() {
        let ticket = "7QK2-M9XH-T4WD-3".parse().unwrap();
        assert_eq!(
            text(Reason::RelayNotPermitted, &ReplyFacts { ticket: Some(ticket), ..FULL }),
            "550-5.7.1 <bob@adatum.example>: relaying not permitted for 198.51.100.7\r\n\
             550 5.7.1 sign in on port 587, or write to postmaster@relay.example; \
             ticket 7QK2-M9XH-T4WD-3 https://why.relay.example/7QK2M9XHT4WD3\r\n"
        );
    }

    #[test]
    fn what_is_not_configured_is_left_out() {
        let bare = ReplyFacts { contact: None, public_url: None, submission_port: None, ..FULL };
        let ticket = Some("7QK2-M9XH-T4WD-3".parse().unwrap());
        for (facts, second) in [
            (bare, "ask your provider to add your network"),
            (ReplyFacts { contact: FULL.contact, ..bare }, "write to postmaster@relay.example"),
            (
                ReplyFacts { contact: Some("https://relay.example/help"), ..bare },
                "see https://relay.example/help",
            ),
            (ReplyFacts { submission_port: Some(465), ..bare }, "sign in on port 465"),
            (
                ReplyFacts { contact: FULL.contact, ticket, ..bare },
                "write to postmaster@relay.example; ticket 7QK2-M9XH-T4WD-3",
            ),
        ] {
            assert_eq!(
                text(Reason::RelayNotPermitted, &facts),
                format!(
                    "550-5.7.1 <bob@adatum.example>: relaying not permitted for 198.51.100.7\r\n\
                     550 5.7.1 {second}\r\n"
                )
            );
        }
    }

    #[test]
    fn a_suspension_is_permanent_or_temporary_and_the_runtime_adds_what_it_knows() {
        let say = |verdict, detail: fmt::Arguments<'_>| {
            let (mut reply, mut wire) = (Reply::default(), Vec::new());
            let facts = ReplyFacts { detail: Some(detail), ..FULL };
            Decision::refusal(Rule::Suspension, None, verdict, Remedy::LiftSuspension)
                .write_reply(&facts, &mut reply);
            reply.write_to(&mut wire);
            String::from_utf8(wire).unwrap()
        };
        let suspended = Reason::IdentitySuspended;
        let text = say(Verdict::Deny(suspended), format_args!("until 14:00"));
        assert!(text.starts_with("550-5.7.1 <bob@adatum.example>: the login is suspended: until 14:00\r\n"));
        let text = say(Verdict::Defer(suspended), format_args!("until 14:00"));
        assert!(text.starts_with("450-4.7.1 <bob@adatum.example>: the login is suspended: until 14:00\r\n"));
        let text = say(Verdict::Deny(Reason::ClientBlocked), format_args!("clients"));
        assert!(
            text.starts_with("554-5.7.1 <bob@adatum.example>: 198.51.100.7 is on a block list: clients\r\n")
        );
    }

    #[test]
    fn every_reason_has_its_own_code_and_an_advice_or_a_contact() {
        for reason in Reason::ALL {
            let text = text(reason, &FULL);
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.starts_with(&format!("{}-{} ", reason.code(), reason.status())), "{text}");
        }
    }
}
