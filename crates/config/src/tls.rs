//! `[tls]`: the certificate that listeners present and its key, read, held against each other, and warned of
//! before the certificate ends.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use policy::Sourced;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};

use crate::Purpose;
use crate::error::Report;
use crate::read::{self, SMALL_BYTES_MAX};
use crate::section::{Keys, Section};

const TLS: Keys = Keys { known: &["certificate", "key"], later: &[] };

/// A certificate that ends sooner is warned of: long enough to notice that its renewal no longer works. Those
/// that are renewed by themselves are so a month before their end.
const EXPIRY_NEAR: Duration = Duration::from_secs(14 * DAY_SECONDS);

const DAY_SECONDS: u64 = 86_400;

/// Others than owner and group may read it.
const MODE_OTHERS_READ: u32 = 0o004;

/// `[tls]`: two PEM files that belong together.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// Both, to be presented; `None` where the key is left out.
    pub presented: Option<Arc<CertifiedKey>>,
    /// When the certificate ends, in seconds since 1970; `None` where it is left out with the key.
    pub expiry_unix_seconds: Option<u64>,
    /// What is to be said about that, where it is soon or past.
    pub expiry_warning: Option<String>,
}

/// What is wrong with a file, and what to do about it.
struct Fault {
    message: String,
    remedy: String,
}

impl Fault {
    fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}

pub(crate) fn read(top: &Section<'_>, purpose: Purpose, report: &mut Report) -> Option<TlsConfig> {
    let tls = top.section("tls", &TLS, report)?;
    let named = |name, example, report: &mut Report| {
        let written = tls.required(name, example, report)?;
        Some(Sourced::new(tls.file.resolve(&written.value), written.origin))
    };
    let certificate = named("certificate", "\"tls/tls.crt\"", report);
    let key = named("key", "\"tls/tls.key\"", report);
    let (certificate, key) = (certificate?, key?);
    let mut held = |name, named: &Sourced<PathBuf>| {
        held(&named.value)
            .map_err(|fault| report.error(&named.origin, tls.key(name), fault.message, fault.remedy))
    };
    let (validity, presented) = match purpose.reads_keys() {
        // Who reviews may have the certificate, and the key is none of theirs.
        false if !certificate.value.exists() => {
            let message = format!("there is no {}, and so it is not checked", certificate.value.display());
            report.warn(&certificate.origin, tls.key("certificate"), message);
            (None, None)
        }
        false => {
            let pem = held("certificate", &certificate).ok()?;
            (Some(chain(&certificate, &pem, report)?.1), None)
        }
        true => {
            let (first, second) = (held("certificate", &certificate), held("key", &key));
            let (validity, presented) = pair((&certificate, first.ok()), (&key, second.ok()), report)?;
            (Some(validity), Some(presented))
        }
    };
    let expiry_unix_seconds = validity.as_ref().map(|validity| validity.until);
    let expiry_warning = validity.and_then(|validity| validity.warning(&certificate.value));
    if let Some(warning) = &expiry_warning {
        report.warn(&certificate.origin, "tls.certificate", warning.clone());
    }
    let (certificate, key) = (certificate.value, key.value);
    Some(TlsConfig { certificate, key, presented, expiry_unix_seconds, expiry_warning })
}

/// Chain and key, and when the certificate ends; what is wrong with either is reported.
fn pair(
    (certificate, first): (&Sourced<PathBuf>, Option<Pem>),
    (key, second): (&Sourced<PathBuf>, Option<Pem>),
    report: &mut Report,
) -> Option<(Validity, Arc<CertifiedKey>)> {
    if let (Some(first), Some(second)) = (&first, &second)
        && first.is_key_alone()
        && second.is_certificate_alone()
    {
        let message = format!(
            "{} holds the key, and {} the certificate",
            certificate.value.display(),
            key.value.display()
        );
        report.error(&certificate.origin, "tls.certificate", message, "exchange the two names");
        return None;
    }
    let read = first.and_then(|pem| chain(certificate, &pem, report));
    let private = second.and_then(|pem| {
        let private = pem.private(&key.value);
        private.map_err(|fault| report.error(&key.origin, "tls.key", fault.message, fault.remedy)).ok()
    });
    warn_of_readers(key, report);
    let ((chain, validity), private) = (read?, private?);
    match CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider()) {
        Ok(presented) => Some((validity, Arc::new(presented))),
        Err(error) => {
            let (path, certificate) = (key.value.display(), certificate.value.display());
            let Fault { message, remedy } = match error {
                rustls::Error::InconsistentKeys(_) => Fault::new(
                    format!("{path} is not the key of the first certificate in {certificate}"),
                    "put the server's own certificate first, or name its key",
                ),
                error => Fault::new(
                    format!("the key in {path} cannot be used: {error}"),
                    "make an ECDSA key on P-256 or P-384, or an RSA key of 2048 to 4096 bits",
                ),
            };
            report.error(&key.origin, "tls.key", message, remedy);
            None
        }
    }
}

/// The certificates of a file, and when the first of them holds.
fn chain(
    certificate: &Sourced<PathBuf>,
    pem: &Pem,
    report: &mut Report,
) -> Option<(Vec<CertificateDer<'static>>, Validity)> {
    let path = &certificate.value;
    let read = pem.chain(path).and_then(|chain| Ok((validity(path, &chain)?, chain)));
    match read {
        Ok((validity, chain)) => Some((chain, validity)),
        Err(Fault { message, remedy }) => {
            report.error(&certificate.origin, "tls.certificate", message, remedy);
            None
        }
    }
}

/// When a certificate holds, in seconds since 1970 and as days of the calendar.
struct Validity {
    from: u64,
    from_day: String,
    until: u64,
    until_day: String,
}

/// Reads every certificate, so that each is one that clients can read too.
fn validity(path: &Path, chain: &[CertificateDer<'_>]) -> Result<Validity, Fault> {
    let mut first = None;
    for (number, der) in (1..).zip(chain) {
        let which = match chain.len() {
            1 => format!("the certificate in {}", path.display()),
            _ => format!("certificate {number} of {}", path.display()),
        };
        let damaged = || {
            let message = format!("{which} is damaged, or something else in its place");
            Fault::new(message, "copy the file again from where it was issued")
        };
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| damaged())?;
        if parsed.version() != X509Version::V3 {
            let message =
                format!("{which} is of version {}, which no TLS library takes", parsed.version().0 + 1);
            let remedy =
                "issue it again with version 3: `openssl req -x509` does, `openssl x509` with -extfile";
            return Err(Fault::new(message, remedy));
        }
        if number == 1 {
            // What rustls makes of it when it presents it.
            ParsedCertificate::try_from(der).map_err(|_| damaged())?;
        }
        let validity = parsed.validity();
        let day = |time: x509_parser::time::ASN1Time| time.to_datetime().date().to_string();
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        first.get_or_insert_with(|| Validity {
            from: seconds(validity.not_before),
            from_day: day(validity.not_before),
            until: seconds(validity.not_after),
            until_day: day(validity.not_after),
        });
    }
    Ok(first.expect("a chain is not empty"))
}

impl Validity {
    /// That it is over, or soon, or yet to begin.
    fn warning(&self, path: &Path) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let path = path.display();
        if self.until <= now {
            let ago = days(now - self.until);
            Some(format!(
                "the certificate in {path} expired {ago} ago, on {}: clients refuse it; renew it",
                self.until_day
            ))
        } else if self.until - now < EXPIRY_NEAR.as_secs() {
            let left = days(self.until - now);
            Some(format!("the certificate in {path} expires in {left}, on {}: renew it", self.until_day))
        } else if self.from > now {
            let from = &self.from_day;
            Some(format!(
                "the certificate in {path} is not valid before {from}: clients refuse it until then"
            ))
        } else {
            None
        }
    }
}

fn days(seconds: u64) -> String {
    match seconds / DAY_SECONDS {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn warn_of_readers(key: &Sourced<PathBuf>, report: &mut Report) {
    let path = &key.value;
    if fs::metadata(path).is_ok_and(|found| found.permissions().mode() & MODE_OTHERS_READ != 0) {
        let path = path.display();
        let message =
            format!("every user of this host can read {path}: take that right away, `chmod o-r {path}`");
        report.warn(&key.origin, "tls.key", message);
    }
}

/// A file that may hold a certificate, a key, both or neither.
struct Pem {
    bytes: Vec<u8>,
    /// What its blocks are called, as in -----BEGIN CERTIFICATE-----.
    labels: Vec<String>,
}

fn held(path: &Path) -> Result<Pem, Fault> {
    match read::bytes(path, SMALL_BYTES_MAX) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let label =
                |line: &str| Some(line.trim().strip_prefix("-----BEGIN ")?.trim_end_matches('-').to_owned());
            let labels = text.lines().filter_map(label).collect();
            Ok(Pem { bytes, labels })
        }
        Err(fault) => {
            let remedy = fault.remedy("put the PEM file there, readable to this user, or name another");
            Err(Fault::new(fault.message(&path.display().to_string()), remedy))
        }
    }
}

impl Pem {
    fn has(&self, what: &str) -> bool {
        self.labels.iter().any(|label| label.ends_with(what))
    }

    fn is_key_alone(&self) -> bool {
        self.has("PRIVATE KEY") && !self.has("CERTIFICATE")
    }

    fn is_certificate_alone(&self) -> bool {
        self.has("CERTIFICATE") && !self.has("PRIVATE KEY")
    }

    fn chain(&self, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
        if !self.has("CERTIFICATE") {
            return Err(self.lacks(path, "certificate", "CERTIFICATE", "x509"));
        }
        let chain = CertificateDer::pem_slice_iter(&self.bytes).collect::<Result<Vec<_>, _>>();
        chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| damaged(path))
    }

    fn private(&self, path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
        // The older form says so in a header of the block.
        let is_encrypted = self.has("ENCRYPTED PRIVATE KEY")
            || self
                .bytes
                .split(|&byte| byte == b'\n')
                .any(|line| line.starts_with(b"Proc-Type: 4,ENCRYPTED"));
        if is_encrypted {
            let path = path.display();
            let message = format!("the key in {path} is encrypted, and a start asks no one for a passphrase");
            let remedy = format!("decrypt it: `openssl pkey -in {path} -out {path}.open`, mode 0600");
            return Err(Fault::new(message, remedy));
        }
        if !self.has("PRIVATE KEY") {
            return Err(self.lacks(path, "private key", "PRIVATE KEY", "pkey"));
        }
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|_| damaged(path))
    }

    /// Why the file holds no `what`, which openssl's `command` converts.
    fn lacks(&self, path: &Path, what: &str, label: &str, command: &str) -> Fault {
        let path = path.display();
        if self.bytes.iter().all(u8::is_ascii_whitespace) {
            return Fault::new(format!("{path} is empty"), format!("put the {what} there, in PEM form"));
        }
        if self.is_binary() {
            let message = format!("{path} is in binary form (DER or PKCS #12), not in PEM");
            let remedy = format!("convert it: `openssl {command} -inform DER -in {path} -out {path}.pem`");
            return Fault::new(message, remedy);
        }
        match self.labels.first() {
            Some(other) => {
                let message = format!("{path} holds a {}, and no {what}", other.to_ascii_lowercase());
                Fault::new(message, format!("name the file of the {what}"))
            }
            None => {
                let remedy = format!("name a PEM file, which has a line -----BEGIN {label}-----");
                Fault::new(format!("{path} holds no {what}"), remedy)
            }
        }
    }

    /// A SEQUENCE of more than 127 bytes (X.690), as all of them begin.
    fn is_binary(&self) -> bool {
        matches!(self.bytes[..], [0x30, length, ..] if length & 0x80 != 0)
    }
}

fn damaged(path: &Path) -> Fault {
    let message = format!("a PEM block of {} is damaged or cut off", path.display());
    Fault::new(message, "copy the file again from where it was made")
}

#[cfg(test)]
mod tests;
