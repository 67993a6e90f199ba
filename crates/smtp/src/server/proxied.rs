//! What proxies say of their clients: the PROXY protocol ahead of a session, XCLIENT within it.

use mail::Status;

use super::session::Session;
use super::state::State;
use super::{Handler, Introduction, TlsMode, Told, XClient, XClientRights};
use crate::proxy::{self, Fault, Watch};

impl Session {
    /// Takes bytes of a proxy's header, and of what follows it.
    pub(super) fn receive_header<H: Handler>(&mut self, wire: &[u8], handler: &mut H) {
        self.keep(wire);
        match proxy::parse(&self.input) {
            Ok(None) => {}
            Ok(Some(header)) => {
                let rest = self.input.split_off(header.bytes);
                self.input.clear();
                // A second header would be the client's own.
                self.watch = Watch::default();
                self.reply.clear();
                self.step();
                if handler.proxied(header.client, &mut self.reply) {
                    self.begin();
                    self.receive(&rest, handler);
                } else {
                    self.turn_away(handler);
                }
            }
            Err(fault) => self.header_fault(fault, handler),
        }
    }

    fn turn_away<H: Handler>(&mut self, handler: &mut H) {
        // As for every client that is refused: there is no saying it before a handshake.
        if self.settings.tls != TlsMode::Implicit {
            self.say();
        }
        self.close(handler);
    }

    /// Ends without a word: this peer does not speak to us as it should.
    pub(super) fn header_fault<H: Handler>(&mut self, fault: Fault, handler: &mut H) {
        handler.proxy_fault(fault);
        self.close(handler);
    }

    pub(super) fn xclient<H: Handler>(&mut self, told: &XClient, handler: &mut H) {
        if matches!(self.state, State::Envelope(_)) {
            return self.out_of_order("a transaction is under way", handler);
        }
        let rights = handler.xclient_rights();
        let claims_login = matches!(told.login, Some(Told::Value(_)));
        if rights == XClientRights::None || claims_login && rights != XClientRights::Login {
            let what = if rights == XClientRights::None { "XCLIENT" } else { "LOGIN" };
            return self.refuse_xclient(what, handler);
        }
        self.reply.clear();
        match handler.xclient(told, &mut self.reply) {
            Introduction::Taken => {}
            Introduction::Refused => return self.refuse_command(handler),
            Introduction::TurnedAway => {
                self.say();
                return self.close(handler);
            }
        }
        // Back to where a session begins; a login of before is another client's.
        self.vouched = claims_login;
        self.state = State::Greeted;
        self.greet();
    }

    pub(super) fn refuse_xclient<H: Handler>(&mut self, what: &str, handler: &mut H) {
        handler.xclient_refused();
        self.reply.set(550, Some(Status::new(5, 7, 0)), format_args!("{what} is not taken from you"));
        self.refuse_command(handler);
    }
}
