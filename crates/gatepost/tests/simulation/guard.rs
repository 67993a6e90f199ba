//! TLS of simulated destinations: what each offers, and how mail may reach it.
//!
//! Handshakes are real, their keys are not of the seed; but all that goes over the wire has the same
//! length whatever the keys are, and so a run is a function of its seed all the same.

use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use policy::RouteTls;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use testbed::authority::{Authority, Vouched};
use testbed::random::Random;

/// What a destination does about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// It offers none.
    Absent,
    Good,
    WrongName,
    Expired,
    Untrusted,
    /// It offers some, and speaks none.
    Broken,
}

impl Guard {
    pub fn any(random: &mut Random) -> Self {
        const ALL: [Guard; 6] =
            [Guard::Absent, Guard::Good, Guard::WrongName, Guard::Expired, Guard::Untrusted, Guard::Broken];
        ALL[random.below(ALL.len() as u64) as usize]
    }

    /// The TLS of the host `name`; `None` where it has none that works.
    pub fn config(self, name: &'static str) -> Option<Arc<ServerConfig>> {
        let vouched = match self {
            Self::Good => Vouched::For(name),
            Self::WrongName => Vouched::For("elsewhere.example"),
            Self::Expired => Vouched::Until2001(name),
            Self::Untrusted => Vouched::BySelf(name),
            Self::Absent | Self::Broken => return None,
        };
        Some(authority().server(vouched))
    }

    /// Why mail under `policy` should not have come as it did.
    pub fn violation(self, policy: RouteTls, is_sealed: bool) -> Option<String> {
        let works = !matches!(self, Self::Absent | Self::Broken);
        let is_right = match policy {
            RouteTls::Off => !is_sealed,
            RouteTls::Opportunistic => is_sealed == works,
            RouteTls::Required => is_sealed && self == Self::Good,
        };
        let how = if is_sealed { "within TLS" } else { "in the clear" };
        (!is_right).then(|| format!("mail came {how} to a destination with {self:?} TLS, policy {policy:?}"))
    }
}

/// Whom the gateway trusts.
pub fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority().certificate()).expect("it is a certificate");
    roots
}

/// The TLS of the gateway's own listeners.
pub fn gateways() -> Arc<ServerConfig> {
    static CONFIG: OnceLock<Arc<ServerConfig>> = OnceLock::new();
    CONFIG.get_or_init(|| authority().server(Vouched::For("relay.example"))).clone()
}

fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(Authority::new)
}

/// The destination's end of a TLS connection.
pub struct Seal(Box<ServerConnection>);

impl Seal {
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(Box::new(ServerConnection::new(config).expect("the configuration is sound")))
    }

    /// Opens what came over the `wire`; what there is to say to it goes to `output`. False: it is no TLS.
    pub fn open(&mut self, mut wire: &[u8], clear: &mut Vec<u8>, output: &mut Vec<u8>) -> bool {
        let mut is_sound = true;
        while is_sound && !wire.is_empty() {
            is_sound = self.0.read_tls(&mut wire).is_ok_and(|taken| taken > 0);
            let opened = self.0.process_new_packets();
            is_sound &= opened.is_ok();
            let bytes = opened.map_or(0, |state| state.plaintext_bytes_to_read());
            let begin = clear.len();
            clear.resize(begin + bytes, 0);
            self.0.reader().read_exact(&mut clear[begin..]).expect("so much is there");
        }
        self.flush(output);
        is_sound
    }

    pub fn seal(&mut self, clear: &[u8], output: &mut Vec<u8>) {
        self.0.writer().write_all(clear).expect("replies are short");
        self.flush(output);
    }

    fn flush(&mut self, output: &mut Vec<u8>) {
        while self.0.wants_write() {
            self.0.write_tls(output).expect("memory takes what is written to it");
        }
    }
}
