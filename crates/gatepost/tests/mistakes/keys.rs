//! Certificates and keys.

use std::fs;

use testbed::Folder;

use super::*;

/// Of version 1, as `openssl x509 -req` issues it without an extension.
const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBLTCB0wIUShYMY9WvUUtpeqOFrSwX7ESkevkwCgYIKoZIzj0EAwIwGDEWMBQG
A1UEAwwNcmVsYXkuZXhhbXBsZTAgFw0yNjEyMDEwNDAwMTFaGA8yMTI2MTEwNzA0
MDAxMVowGDEWMBQGA1UEAwwNcmVsYXkuZXhhbXBsZTBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABHrh4iXytTLxny8xyvsU7vJv4C+nhtf8dTlaq+GiECuawvaqDPwL
TFLEHnvgI5OvY4+w0LiJTxfBn5YfoPPbvc4wCgYIKoZIzj0EAwIDSQAwRgIhAMfd
q712+OZSgHD4HsW1iRtf0lhwLcwiCUpZlKtiynr3AiEA3HFKnbjK8EzRiF5yuU3K
bxCxET77w6f89r74sGO4I2M=
-----END CERTIFICATE-----
";

/// Its passphrase is "x".
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg9pWr5g0fbiQICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEENsKWl6PzegyyGaRDALzJZ4EgZD5
GZnyB6ffXc+Apt0SJ+VgSB4mh4v2O7MoQB2Qakb2a22NixkxuykvP7Fyowy2dg94
C8Jxsv9z817GLvXqWE2H2//EfedDol0hi7BygM2LmKs234zIHxzjhON3XtY7ivDA
G8h/TJAwyoz2e5zntRR88HCl0OD3ArmcJ8IT6kyCcoSxzqorh7NUhuzx6DKU5gQ=
-----END ENCRYPTED PRIVATE KEY-----
";

/// The binary form of a PEM file.
fn binary(folder: &Folder, name: &str) {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let path = folder.join(name);
    let der = match name {
        "tls.key" => PrivateKeyDer::from_pem_file(&path).unwrap().secret_der().to_vec(),
        _ => CertificateDer::from_pem_file(&path).unwrap().to_vec(),
    };
    bytes(folder, name, &der);
}

fn copy(folder: &Folder, from: &str, to: &str) {
    fs::copy(folder.join(from), folder.join(to)).unwrap();
}

#[test]
fn certificates_and_keys_that_cannot_be_used_are_named() {
    each_is_said(
        2,
        &[
            (
                |f| f.write("tls.key", &rcgen::KeyPair::generate().unwrap().serialize_pem()),
                "DIR/gatepost.toml:13: tls.key: DIR/tls.key is not the key of the first certificate in DIR/tls.crt; put the server's own certificate first, or name its key",
            ),
            (
                |f| f.write("tls.key", ""),
                "DIR/gatepost.toml:13: tls.key: DIR/tls.key is empty; put the private key there, in PEM form",
            ),
            (
                |f| f.write("tls.crt", "\n"),
                "DIR/gatepost.toml:12: tls.certificate: DIR/tls.crt is empty; put the certificate there, in PEM form",
            ),
            (
                |f| f.write("tls.key", SECRET),
                "DIR/gatepost.toml:13: tls.key: DIR/tls.key holds no private key; name a PEM file, which has a line -----BEGIN PRIVATE KEY-----",
            ),
            (
                |f| binary(f, "tls.key"),
                "DIR/gatepost.toml:13: tls.key: DIR/tls.key is in binary form (DER or PKCS #12), not in PEM; convert it: `openssl pkey -inform DER -in DIR/tls.key -out DIR/tls.key.pem`",
            ),
            (
                |f| binary(f, "tls.crt"),
                "DIR/gatepost.toml:12: tls.certificate: DIR/tls.crt is in binary form (DER or PKCS #12), not in PEM; convert it: `openssl x509 -inform DER -in DIR/tls.crt -out DIR/tls.crt.pem`",
            ),
            (
                |f| f.write("tls.key", ENCRYPTED),
                "DIR/gatepost.toml:13: tls.key: the key in DIR/tls.key is encrypted, and a start asks no one for a passphrase; decrypt it: `openssl pkey -in DIR/tls.key -out DIR/tls.key.open`, mode 0600",
            ),
            (
                |f| copy(f, "tls.crt", "tls.key"),
                "DIR/gatepost.toml:13: tls.key: DIR/tls.key holds a certificate, and no private key; name the file of the private key",
            ),
            (
                |f| copy(f, "tls.key", "tls.crt"),
                "DIR/gatepost.toml:12: tls.certificate: DIR/tls.crt holds a private key, and no certificate; name the file of the certificate",
            ),
            (
                |f| {
                    copy(f, "tls.crt", "other");
                    copy(f, "tls.key", "tls.crt");
                    copy(f, "other", "tls.key");
                },
                "DIR/gatepost.toml:12: tls.certificate: DIR/tls.crt holds the key, and DIR/tls.key the certificate; exchange the two names",
            ),
            (
                |f| f.write("tls.crt", VERSION_1),
                "DIR/gatepost.toml:12: tls.certificate: the certificate in DIR/tls.crt is of version 1, which no TLS library takes; issue it again with version 3: `openssl req -x509` does, `openssl x509` with -extfile",
            ),
            (
                |f| {
                    f.write("tls.crt", "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n");
                },
                "DIR/gatepost.toml:12: tls.certificate: the certificate in DIR/tls.crt is damaged, or something else in its place; copy the file again from where it was issued",
            ),
            (
                |f| f.change("tls.crt", "-----END CERTIFICATE-----", ""),
                "DIR/gatepost.toml:12: tls.certificate: a PEM block of DIR/tls.crt is damaged or cut off; copy the file again from where it was made",
            ),
            (
                |f| fs::remove_file(f.join("tls.key")).unwrap(),
                "DIR/gatepost.toml:13: tls.key: cannot read DIR/tls.key: No such file or directory (os error 2); put the PEM file there, readable to this user, or name another",
            ),
            (
                |f| pipe(f, "tls.key"),
                "DIR/gatepost.toml:13: tls.key: DIR/tls.key is a pipe; name a regular file",
            ),
            (
                |f| pipe(f, "tls.crt"),
                "DIR/gatepost.toml:12: tls.certificate: DIR/tls.crt is a pipe; name a regular file",
            ),
        ],
    );
}

#[test]
fn a_review_needs_neither_the_key_nor_the_host() {
    let folder = files();
    fs::remove_file(folder.join("tls.key")).unwrap();
    folder.change("gatepost.toml", "\"spool\"", "\"missing/spool\"");
    let output = gatepost(&["check", "--no-keys"], &folder.node());
    let text = String::from_utf8(output.stdout).unwrap().replace(&folder.path().display().to_string(), "DIR");
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("spool.path: there is no DIR/missing, on this host; "), "{text}");
    // The certificate is no secret, and is looked at where it is there.
    folder.write("tls.crt", "");
    let output = gatepost(&["check", "--no-keys"], &folder.node());
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output, &folder).starts_with("DIR/gatepost.toml:12: tls.certificate: DIR/tls.crt is empty; ")
    );
    fs::remove_file(folder.join("tls.crt")).unwrap();
    assert!(warnings(&folder, &["--no-keys"]).iter().any(|line| line.contains("there is no DIR/tls.crt")));
}
