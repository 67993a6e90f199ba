//! A certificate authority of a test's own, and the TLS of servers that it vouches for, or does not.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ED25519, SerialNumber,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// What is said of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// That it has this name, or this address, now.
    For(&'static str),
    /// The same, until the year 2001.
    Until2001(&'static str),
    /// Nothing, by this authority: the server says by itself that it has this name.
    BySelf(&'static str),
}

/// The authority. Its signatures, and so its certificates, are always of the same length.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// One that no client trusts.
    ///
    /// # Panics
    /// When a key cannot be generated.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Self {
        let mut params = parameters("authority.example");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, key()).expect("it signs its own certificate"))
    }

    /// Its certificate, for clients that are to trust it.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.as_ref().der().clone()
    }

    /// The same as a file holds it.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    /// The TLS of a server of which that is said.
    ///
    /// # Panics
    /// When the name is none.
    #[must_use]
    pub fn server(&self, vouched: Vouched) -> Arc<ServerConfig> {
        let key = key();
        let (Vouched::For(name) | Vouched::Until2001(name) | Vouched::BySelf(name)) = vouched;
        let mut params = parameters(name);
        if let Vouched::Until2001(_) = vouched {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let certificate = match vouched {
            Vouched::BySelf(_) => params.self_signed(&key),
            Vouched::For(_) | Vouched::Until2001(_) => params.signed_by(&key, &self.0),
        };
        let chain = vec![certificate.expect("a certificate can be signed").der().clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_no_client_auth()
            .with_single_cert(chain, key.into());
        Arc::new(config.expect("the key is that of the certificate"))
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).expect("a key can be generated")
}

fn parameters(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name or an address");
    params.serial_number = Some(SerialNumber::from(1));
    params
}
