//! TLS configuration: the listeners' certificate, which a reload replaces, and what delivery asks of a next hop.

mod end_point;

use std::fmt;
use std::sync::Arc;

use config::TlsConfig;
use mail::UnixMillis;
use observe::{EventLog, Registry};
use policy::{Listener, TlsPolicy};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use smtp::server::ServerTls;

use crate::events::CertificateExpiry;

/// A TLS configuration for delivery. With `verify` the next hop's certificate must name it and lead
/// to one of the system's authorities; without, any certificate will do, as opportunistic TLS takes
/// it (RFC 7435): what it keeps out is the listener on the wire, not the impostor.
///
/// # Errors
/// With `verify`, when the system has no authorities.
pub fn client_config(verify: bool) -> Result<Arc<ClientConfig>, NoAuthorities> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3");
    let config = if verify {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            return Err(NoAuthorities);
        }
        builder.with_root_certificates(roots)
    } else {
        let any = Arc::new(AnyCertificate(provider()));
        builder.dangerous().with_custom_certificate_verifier(any)
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

/// A certificate in use, which can be replaced while handshakes go on.
#[derive(Debug)]
pub struct Certificate(Arc<ServerTls>);

impl Certificate {
    /// The certificate of a configuration, ready for listeners to present.
    #[must_use]
    pub fn new(key: &Arc<CertifiedKey>) -> Arc<Self> {
        let (config, end_point) = presenting(key);
        Arc::new(Self(Arc::new(ServerTls::new(config, end_point))))
    }

    /// What listeners present: always the certificate now in use.
    #[must_use]
    pub fn tls(&self) -> Arc<ServerTls> {
        self.0.clone()
    }

    /// The clients to come are shown this one. Those that were shown the other cannot resume with it:
    /// a login that is bound to the certificate must be bound to one that both sides see.
    pub(crate) fn replace(&self, key: &Arc<CertifiedKey>) {
        let (config, end_point) = presenting(key);
        self.0.replace(config, end_point);
    }
}

fn presenting(key: &Arc<CertifiedKey>) -> (Arc<ServerConfig>, Option<Arc<[u8]>>) {
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Presented(key.clone())));
    (Arc::new(config), key.cert.first().and_then(end_point::hash))
}

#[derive(Debug)]
struct Presented(Arc<CertifiedKey>);

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Shows when the certificate of `listeners` ends, and says so in the log where that is soon.
pub fn announce(
    tls: &TlsConfig,
    listeners: &[Listener],
    registry: &Registry,
    log: &mut EventLog,
    now: UnixMillis,
) {
    let Some(expiry) = tls.expiry_unix_seconds else { return };
    let present = listeners.iter().filter(|listener| listener.tls != TlsPolicy::Off);
    registry.set_certificate_expiry(present.map(|listener| &*listener.name), expiry);
    if let Some(warning) = &tls.expiry_warning {
        let certificate = CertificateExpiry { file: &tls.certificate, unix_seconds: expiry, warning };
        log.record(&certificate, now);
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The system has no certificate authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAuthorities;

impl fmt::Display for NoAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a route requires TLS, but this machine has no certificate authorities; install the package ca-certificates")
    }
}

impl std::error::Error for NoAuthorities {}

/// Takes any certificate whose owner can sign with it.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
