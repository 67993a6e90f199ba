//! What proxies say of their clients: the PROXY protocol ahead of a session, XCLIENT within it.

use std::net::SocketAddr;

use super::{Answer, Dialog, State};
use crate::proxy::Fault;
use crate::server::{Handler, Introduction, TlsMode, Told, XClient, XClientRights};

impl Dialog {
    /// The header has come; true where its client is greeted.
    pub(crate) fn proxied<H: Handler>(&mut self, client: Option<SocketAddr>, handler: &mut H) -> bool {
        self.reply.clear();
        self.conduct.step();
        if handler.proxied(client, &mut self.reply) {
            self.begin();
            return true;
        }
        // As for every client that is refused: there is no saying it before a handshake.
        if self.settings.tls != TlsMode::Implicit {
            self.channel.say(&self.reply);
        }
        self.close(handler);
        false
    }

    /// Ends without a word: this peer does not speak to us as it should.
    pub(crate) fn header_fault<H: Handler>(&mut self, fault: Fault, handler: &mut H) {
        handler.proxy_fault(fault);
        self.close(handler);
    }

    pub(super) fn xclient<H: Handler>(&mut self, told: &XClient, handler: &mut H) -> Answer {
        if matches!(self.state, State::Envelope(_)) {
            return Answer::out_of_order(&mut self.reply, "a transaction is under way");
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
            Introduction::Refused => return Answer::Refused,
            Introduction::TurnedAway => return Answer::Last,
        }
        // Back to where a session begins; a login of before is another client's.
        self.vouched = claims_login;
        self.greet();
        Answer::Silent
    }

    pub(super) fn refuse_xclient<H: Handler>(&mut self, what: &str, handler: &mut H) -> Answer {
        handler.xclient_refused();
        Answer::refused(&mut self.reply, 550, (7, 0), format_args!("{what} is not taken from you"))
    }
}
