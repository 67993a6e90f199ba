use mail::Reply;

use super::{ServerTls, Settings, TlsMode};
use crate::tls::Tls;

/// Past this much waiting output nothing is read from the peer: it does not read what it is told.
pub(super) const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// The way to the wire: in the clear, or under TLS once it has begun.
#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) tls: Option<Box<Tls>>,
    /// For the wire.
    pub(super) output: Vec<u8>,
    /// To be sealed into `output`, under TLS.
    clear: Vec<u8>,
}

impl Channel {
    /// The server's end of TLS; `None` where there is no certificate that can be used.
    pub(super) fn accept(config: Option<&ServerTls>) -> Option<Box<Tls>> {
        config.and_then(|config| Tls::accept(config).ok()).map(Box::new)
    }

    /// Writes a reply.
    pub(super) fn say(&mut self, reply: &Reply) {
        reply.write_to(if self.tls.is_some() { &mut self.clear } else { &mut self.output });
    }

    /// Whether the peer reads what it is told.
    pub(super) fn has_room(&self) -> bool {
        self.output.len() + self.clear.len() < OUTPUT_BYTES_MAX
    }

    pub(super) fn offers_tls(&self, settings: &Settings) -> bool {
        let mode = matches!(settings.tls, TlsMode::StartTls | TlsMode::Required);
        mode && settings.tls_config.is_some() && self.tls.is_none()
    }

    pub(super) fn offers_auth(&self, settings: &Settings) -> bool {
        self.tls.is_some() || settings.auth_without_tls
    }

    /// The mechanisms that are offered, as EHLO names them.
    pub(super) fn mechanisms(&self, with_scram: bool) -> &'static str {
        match (with_scram, self.can_bind()) {
            (false, _) => "PLAIN LOGIN",
            (true, false) => "PLAIN LOGIN SCRAM-SHA-256",
            (true, true) => "PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS",
        }
    }

    /// Whether a login can be bound to this channel.
    pub(super) fn can_bind(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.can_bind())
    }

    /// Puts what was said into records; `closing`: nothing follows.
    pub(super) fn flush(&mut self, closing: bool) {
        if let Some(tls) = &mut self.tls {
            if !self.clear.is_empty() {
                tls.seal(&self.clear, &mut self.output);
                self.clear.clear();
            }
            if closing {
                tls.end(&mut self.output);
            }
        }
    }
}
