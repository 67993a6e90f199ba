//! TLS configuration: the listeners' certificate, which a reload replaces, and what delivery asks of a next hop.

mod end_point;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use smtp::server::ServerTls;

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
    /// Reads chain and key from these PEM files.
    ///
    /// # Errors
    /// Which file is wrong, how, and what to do.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsFileError> {
        let (config, end_point) = presenting(&read(certificate, key)?);
        Ok(Arc::new(Self(Arc::new(ServerTls::new(config, end_point)))))
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

/// Reads chain and key, and sees that they belong together.
pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsFileError> {
    let failed = |path: &Path, what| TlsFileError { path: path.to_owned(), what };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|error| failed(certificate, What::of(error, "CERTIFICATE")))?;
    if chain.is_empty() {
        return Err(failed(certificate, What::Absent("CERTIFICATE")));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, What::of(error, "PRIVATE KEY")))?;
    match CertifiedKey::from_der(chain, private, &provider()) {
        Ok(certified) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(failed(key, What::Mismatch(certificate.to_owned()))),
        Err(rustls::Error::InvalidCertificate(error)) => {
            Err(failed(certificate, What::Malformed(format!("{error:?}"))))
        }
        Err(error) => Err(failed(key, What::Malformed(error.to_string()))),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A certificate or key file that cannot be used.
#[derive(Debug)]
pub struct TlsFileError {
    /// The file.
    pub path: PathBuf,
    what: What,
}

#[derive(Debug)]
enum What {
    Unreadable(std::io::Error),
    Absent(&'static str),
    Malformed(String),
    Mismatch(PathBuf),
}

impl What {
    fn of(error: pem::Error, section: &'static str) -> Self {
        match error {
            pem::Error::Io(error) => Self::Unreadable(error),
            pem::Error::NoItemsFound => Self::Absent(section),
            other => Self::Malformed(other.to_string()),
        }
    }
}

impl fmt::Display for TlsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.what {
            What::Unreadable(error) => {
                write!(
                    f,
                    "{path}: cannot be read: {error}; correct [tls] or let the user that runs gatepost read it"
                )
            }
            What::Absent(section) => {
                write!(f, "{path}: holds no {section}; expected PEM with a line -----BEGIN {section}-----")
            }
            What::Malformed(error) => write!(f, "{path}: cannot be used: {error}; make the file again"),
            What::Mismatch(certificate) => write!(
                f,
                "{path}: is not the key of the first certificate in {}; put the server's own certificate first, or name its key",
                certificate.display()
            ),
        }
    }
}

impl std::error::Error for TlsFileError {}

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
