//! The hash of a certificate that binds a login to the server that presented it (RFC 5929 section 4.1).

use std::sync::Arc;

use aws_lc_rs::digest::{self, Algorithm, SHA256, SHA384, SHA512, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::der_parser::oid::Oid;
use x509_parser::oid_registry as oid;
use x509_parser::prelude::FromDer as _;
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// By the hash of the certificate's own signature; SHA-256 in place of MD5 and SHA-1. `None` where
/// the signature has no hash (Ed25519), for which the binding is not defined.
pub(super) fn hash(certificate: &CertificateDer<'_>) -> Option<Arc<[u8]>> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    let signature = &parsed.signature_algorithm;
    let algorithm = match SignatureAlgorithm::try_from(signature) {
        Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) => by_hash(parameters.hash_algorithm_oid())?,
        _ => by_signature(&signature.algorithm)?,
    };
    Some(digest(algorithm, certificate).as_ref().into())
}

fn by_signature(signature: &Oid<'_>) -> Option<&'static Algorithm> {
    let known: [(Oid<'_>, &'static digest::Algorithm); 9] = [
        (oid::OID_PKCS1_MD5WITHRSAENC, &SHA256),
        (oid::OID_PKCS1_SHA1WITHRSA, &SHA256),
        (oid::OID_PKCS1_SHA256WITHRSA, &SHA256),
        (oid::OID_PKCS1_SHA384WITHRSA, &SHA384),
        (oid::OID_PKCS1_SHA512WITHRSA, &SHA512),
        (oid::OID_SIG_ECDSA_WITH_SHA256, &SHA256),
        (oid::OID_SIG_ECDSA_WITH_SHA384, &SHA384),
        (oid::OID_SIG_ECDSA_WITH_SHA512, &SHA512),
        (oid::OID_SHA1_WITH_RSA, &SHA256),
    ];
    known.into_iter().find_map(|(oid, algorithm)| (oid == *signature).then_some(algorithm))
}

fn by_hash(hash: &Oid<'_>) -> Option<&'static Algorithm> {
    let known: [(Oid<'_>, &'static digest::Algorithm); 4] = [
        (oid::OID_HASH_SHA1, &SHA256),
        (oid::OID_NIST_HASH_SHA256, &SHA256),
        (oid::OID_NIST_HASH_SHA384, &SHA384),
        (oid::OID_NIST_HASH_SHA512, &SHA512),
    ];
    known.into_iter().find_map(|(oid, algorithm)| (oid == *hash).then_some(algorithm))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let parameters = rcgen::CertificateParams::new(["relay.example".to_owned()]).unwrap();
        parameters.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        for (algorithm, by) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(&SHA256)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(&SHA384)),
            (&rcgen::PKCS_ED25519, None),
        ] {
            let certificate = certificate(algorithm);
            let expected = by.map(|by| digest(by, &certificate).as_ref().to_vec());
            assert_eq!(hash(&certificate).map(|hash| hash.to_vec()), expected, "{algorithm:?}");
        }
        assert_eq!(hash(&CertificateDer::from(b"no certificate".to_vec())), None);
    }
}
