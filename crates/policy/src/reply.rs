use std::fmt;
use std::net::IpAddr;

use mail::{ForwardPath, Reason, Reply, Ticket};

use crate::decide::Decision;
use crate::explain::Rule;

/// What the text of a denial is made of.
#[derive(Clone, Copy, Debug)]
pub struct ReplyFacts<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// The reverse-path, without angle brackets; empty for the null one.
    pub from: &'a str,
    /// The recipient, without angle brackets; empty at MAIL.
    pub to: &'a str,
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
    /// ticket (relay-control.md, "Reasons"). The second line drops what is not configured. An
    /// acceptance leaves `reply` alone.
    pub fn write_reply(&self, facts: &ReplyFacts<'_>, reply: &mut Reply) {
        let Some(reason) = self.verdict.reason() else { return };
        self.write_first_line(reason, facts, reply);
        let advice = self.advice(reason, facts);
        let second = fmt::from_fn(|f| write_second_line(f, &advice, facts));
        if !(matches!(advice, Advice::None) && facts.contact.is_none() && facts.ticket.is_none()) {
            reply.add_line(format_args!("{second}"));
        }
    }

    fn write_first_line(&self, reason: Reason, facts: &ReplyFacts<'_>, reply: &mut Reply) {
        let to = facts.to;
        match reason {
            Reason::RelayNotPermitted => {
                let client = facts.client.to_canonical();
                reply.deny(reason, format_args!("<{to}>: relaying not permitted for {client}"));
            }
            Reason::LoginRequired if to.is_empty() => reply.deny(reason, format_args!("login required")),
            Reason::LoginRequired => reply.deny(reason, format_args!("<{to}>: login required")),
            Reason::TlsRequired => reply.deny(reason, format_args!("start TLS first")),
            Reason::SenderNotOwned => {
                reply.deny(reason, format_args!("<{}>: you may not send as this address", facts.from));
            }
            Reason::RecipientUnknown => reply.deny(reason, format_args!("<{to}>: no such recipient here")),
            Reason::RoutingSyntax => match ForwardPath::parse(to).ok().and_then(ForwardPath::routing_trick) {
                Some(trick) => reply.deny(reason, format_args!("<{to}>: {} is refused", trick.name())),
                None => reply.deny(reason, format_args!("<{to}>: this form of address is refused")),
            },
            Reason::SecondTenant => {
                reply.deny(reason, format_args!("<{to}>: needs a transaction of its own"));
            }
            other if to.is_empty() => reply.deny(other, format_args!("{}", other.summary())),
            other => reply.deny(other, format_args!("<{to}>: {}", other.summary())),
        }
    }

    fn advice(&self, reason: Reason, facts: &ReplyFacts<'_>) -> Advice {
        match (reason, facts.submission_port) {
            (Reason::RelayNotPermitted, Some(port)) => Advice::SignIn(port),
            (Reason::RelayNotPermitted, None) if facts.contact.is_none() => {
                Advice::Text("ask your provider to add your network")
            }
            (Reason::LoginRequired, Some(port)) if self.rule == Rule::StrictLogin => Advice::SignInWith(port),
            (Reason::LoginRequired, _) => Advice::Text("sign in with AUTH PLAIN or LOGIN"),
            (Reason::TlsRequired, _) => Advice::Text("send STARTTLS, then go on"),
            (Reason::SenderNotOwned, _) => Advice::Text("send as an address of your own"),
            (Reason::RecipientUnknown, _) => Advice::Text("check the spelling of the address"),
            (Reason::RoutingSyntax, _) => Advice::Text("write the recipient as name@domain"),
            (Reason::SecondTenant, _) => Advice::Text("send to it again in a new transaction"),
            _ => Advice::None,
        }
    }
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
        Advice::SignInWith(port) => write!(f, "sign in on port {port} with AUTH PLAIN or LOGIN")?,
    }
    let advised = !matches!(advice, Advice::None);
    if let Some(contact) = facts.contact {
        write!(f, "{}write to {contact}", if advised { ", or " } else { "" })?;
    }
    let Some(ticket) = facts.ticket else { return Ok(()) };
    let separator = if advised || facts.contact.is_some() { "; " } else { "" };
    write!(f, "{separator}ticket {ticket}")?;
    match facts.public_url {
        Some(url) => write!(f, " {}/{}", url.trim_end_matches('/'), ticket.compact()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use mail::Verdict;

    use super::*;
    use crate::remedy::Remedy;

    fn text(reason: Reason, facts: &ReplyFacts<'_>) -> String {
        let decision = Decision {
            verdict: Verdict::Deny(reason),
            tenant: None,
            rule: Rule::Responsibility,
            remedy: Remedy::None,
        };
        let (mut reply, mut wire) = (Reply::default(), Vec::new());
        decision.write_reply(facts, &mut reply);
        reply.write_to(&mut wire);
        String::from_utf8(wire).unwrap()
    }

    const FULL: ReplyFacts<'_> = ReplyFacts {
        client: IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7)),
        from: "terri@proseware.example",
        to: "bob@adatum.example",
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
    fn every_reason_has_its_own_code_and_an_advice_or_a_contact() {
        for reason in Reason::ALL {
            let text = text(reason, &FULL);
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.starts_with(&format!("{}-{} ", reason.code(), reason.status())), "{text}");
        }
    }
}
