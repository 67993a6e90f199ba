//! What comes before and between transactions: names, STARTTLS, RSET, NOOP, VRFY, HELP, QUIT.

use mail::Status;

use super::session::Session;
use super::state::{Client, State};
use super::{Handler, TlsMode, XClientRights};
use crate::command::Command;
use crate::tls::Tls;
use crate::xclient::ATTRIBUTES;

impl Session {
    /// The commands that carry no mail.
    pub(super) fn idle<H: Handler>(&mut self, command: &Command<'_>, handler: &mut H) {
        let (code, status, text) = match *command {
            Command::Helo { name, extended } => return self.helo(name, extended, handler),
            Command::Rset => {
                handler.reset();
                self.leave_envelope(handler);
                (250, Status::new(2, 0, 0), "nothing is under way")
            }
            Command::Vrfy => (252, Status::new(2, 0, 0), "not told; send the mail and see"),
            Command::Help => {
                (214, Status::new(2, 0, 0), "EHLO MAIL RCPT DATA RSET NOOP QUIT AUTH STARTTLS; see RFC 5321")
            }
            _ => (250, Status::new(2, 0, 0), "OK"),
        };
        if !self.is_closing() {
            self.reply.set(code, Some(status), format_args!("{text}"));
            self.say();
        }
    }

    fn helo<H: Handler>(&mut self, name: &str, extended: bool, handler: &mut H) {
        handler.reset();
        self.leave_envelope(handler);
        if self.is_closing() {
            return;
        }
        let authenticated = self.vouched || self.state.client().is_some_and(|client| client.authenticated);
        self.state = State::Ready(Client { authenticated });
        handler.helo(name, extended);
        let offers_tls = self.offers_tls();
        let mechanisms = (extended && self.offers_auth()).then(|| self.mechanisms(handler));
        let xclient = handler.xclient_rights();
        let Self { reply, settings, .. } = self;
        reply.set(250, None, format_args!("{}", settings.hostname));
        if extended {
            reply.add_line(format_args!("PIPELINING"));
            match settings.message_bytes_max {
                Some(bytes) => reply.add_line(format_args!("SIZE {bytes}")),
                None => reply.add_line(format_args!("SIZE")),
            }
            reply.add_line(format_args!("8BITMIME"));
            reply.add_line(format_args!("ENHANCEDSTATUSCODES"));
            if offers_tls {
                reply.add_line(format_args!("STARTTLS"));
            }
            if let Some(mechanisms) = mechanisms {
                reply.add_line(format_args!("AUTH {mechanisms}"));
            }
            match xclient {
                XClientRights::None => {}
                XClientRights::Address => reply.add_line(format_args!("XCLIENT {ATTRIBUTES}")),
                XClientRights::Login => reply.add_line(format_args!("XCLIENT {ATTRIBUTES} LOGIN")),
            }
        }
        self.say();
    }

    fn offers_tls(&self) -> bool {
        let mode = matches!(self.settings.tls, TlsMode::StartTls | TlsMode::Required);
        mode && self.settings.tls_config.is_some() && self.tls.is_none()
    }

    pub(super) fn offers_auth(&self) -> bool {
        self.tls.is_some() || self.settings.auth_without_tls
    }

    pub(super) fn start_tls<H: Handler>(&mut self, handler: &mut H) {
        if self.tls.is_some() {
            return self.out_of_order("TLS is up already", handler);
        }
        if !self.offers_tls() {
            self.reply.set(502, Some(Status::new(5, 5, 1)), format_args!("TLS is not offered here"));
            return self.refuse_command(handler);
        }
        let config = self.settings.tls_config.clone();
        let Some(tls) = config.and_then(|config| Tls::accept(&config).ok()) else {
            self.reply.set(454, Some(Status::new(4, 7, 0)), format_args!("TLS is not available now"));
            return self.refuse_command(handler);
        };
        if matches!(self.state, State::Envelope(_)) {
            handler.reset();
        }
        self.reply.set(220, Some(Status::new(2, 0, 0)), format_args!("go ahead"));
        self.say();
        self.tls = Some(Box::new(tls));
        self.state = State::Handshake { greeting: false };
    }

    pub(super) fn quit<H: Handler>(&mut self, handler: &mut H) {
        self.reply.set(221, Some(Status::new(2, 0, 0)), format_args!("bye"));
        self.say();
        self.close(handler);
    }
}
