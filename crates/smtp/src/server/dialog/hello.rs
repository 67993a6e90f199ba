//! What comes before and between transactions: names, STARTTLS, RSET, NOOP, VRFY, HELP.

use super::state::{Client, State};
use super::{Answer, Channel, Dialog};
use crate::command::Command;
use crate::server::{Handler, XClientRights};
use crate::xclient::ATTRIBUTES;

impl Dialog {
    /// The commands that carry no mail.
    pub(super) fn idle<H: Handler>(&mut self, command: &Command<'_>, handler: &mut H) -> Answer {
        if matches!(command, Command::Helo { .. } | Command::Rset) && !self.reset(handler) {
            return Answer::Silent;
        }
        let (code, subject, text) = match command {
            Command::XClient(told) => return self.xclient(told, handler),
            Command::Helo { name, extended } => return self.helo(name, *extended, handler),
            Command::Rset => (250, 0, "nothing is under way"),
            Command::Vrfy => (252, 0, "not told; send the mail and see"),
            Command::Help => (214, 0, "EHLO MAIL RCPT DATA RSET NOOP QUIT AUTH STARTTLS; see RFC 5321"),
            _ => (250, 0, "OK"),
        };
        Answer::said(&mut self.reply, code, (subject, 0), format_args!("{text}"))
    }

    /// Ends a transaction that brought no message; false where the session ends with it. Where all its
    /// recipients were refused, each counts as an error: so looks a search for addresses, or for an
    /// open relay.
    fn reset<H: Handler>(&mut self, handler: &mut H) -> bool {
        handler.reset();
        if let State::Envelope(envelope) = self.state {
            self.state = State::Ready(envelope.client);
            if envelope.accepted == 0 {
                self.charge(envelope.refused, handler);
            }
        }
        !matches!(self.state, State::Closing)
    }

    fn helo<H: Handler>(&mut self, name: &str, extended: bool, handler: &mut H) -> Answer {
        let authenticated =
            self.vouched || matches!(self.state, State::Ready(client) if client.authenticated);
        self.state = State::Ready(Client { authenticated });
        handler.helo(name, extended);
        let Self { reply, settings, channel, .. } = self;
        reply.set(250, None, format_args!("{}", settings.hostname));
        if extended {
            reply.add_line(format_args!("PIPELINING"));
            match settings.message_bytes_max {
                Some(bytes) => reply.add_line(format_args!("SIZE {bytes}")),
                None => reply.add_line(format_args!("SIZE")),
            }
            reply.add_line(format_args!("8BITMIME"));
            reply.add_line(format_args!("ENHANCEDSTATUSCODES"));
            if channel.offers_tls(settings) {
                reply.add_line(format_args!("STARTTLS"));
            }
            if channel.offers_auth(settings) {
                reply.add_line(format_args!("AUTH {}", channel.mechanisms(handler.offers_scram())));
            }
            match handler.xclient_rights() {
                XClientRights::None => {}
                XClientRights::Address => reply.add_line(format_args!("XCLIENT {ATTRIBUTES}")),
                XClientRights::Login => reply.add_line(format_args!("XCLIENT {ATTRIBUTES} LOGIN")),
            }
        }
        Answer::Said
    }

    pub(super) fn start_tls<H: Handler>(&mut self, handler: &mut H) -> Answer {
        let Self { reply, channel, settings, .. } = self;
        if channel.tls.is_some() {
            return Answer::out_of_order(reply, "TLS is up already");
        }
        if !channel.offers_tls(settings) {
            return Answer::refused(reply, 502, (5, 1), format_args!("TLS is not offered here"));
        }
        let Some(tls) = Channel::accept(settings.tls_config.as_deref()) else {
            return Answer::refused(reply, 454, (7, 0), format_args!("TLS is not available now"));
        };
        if matches!(self.state, State::Envelope(_)) {
            handler.reset();
        }
        // The last reply in the clear.
        Answer::said(reply, 220, (0, 0), format_args!("go ahead"));
        channel.say(reply);
        channel.tls = Some(tls);
        self.state = State::Handshake { greeting: false };
        Answer::Silent
    }
}
