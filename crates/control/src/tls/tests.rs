use std::fs;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};
use tempfile::TempDir;

use super::*;

/// A folder with `tls.crt` and `tls.key` for `name`.
fn files(name: &str) -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (folder, certificate, key)
}

fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsFileError> {
    Certificate::load(certificate, key).map(|certificate| certificate.tls().config())
}

/// The certificate that a client is shown, or why it would not have it.
fn shown(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<Vec<u8>, rustls::Error> {
    let mut client = ClientConnection::new(client, ServerName::try_from("relay.example").unwrap()).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        client.write_tls(&mut wire).unwrap();
        let mut bytes = &wire[..];
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets()?;
        }
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        let mut bytes = &wire[..];
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(client.peer_certificates().unwrap()[0].to_vec())
}

#[test]
fn opportunistic_tls_takes_any_certificate() {
    let (_folder, certificate, key) = files("elsewhere.example");
    let server = server_config(&certificate, &key).unwrap();
    shown(client_config(false).unwrap(), server).unwrap();
}

#[test]
fn required_tls_takes_no_certificate_that_nobody_signed() {
    let (_folder, certificate, key) = files("relay.example");
    let server = server_config(&certificate, &key).unwrap();
    let client = match client_config(true) {
        Ok(client) => client,
        // A machine without authorities cannot verify at all, and says so.
        Err(error) => return assert!(error.to_string().contains("ca-certificates")),
    };
    assert!(matches!(shown(client, server), Err(rustls::Error::InvalidCertificate(_))));
}

#[test]
fn a_replaced_certificate_is_shown_to_those_who_come_next() {
    let (_old, certificate, key) = files("relay.example");
    let certificate = Certificate::load(&certificate, &key).unwrap();
    let tls = certificate.tls();
    let client = client_config(false).unwrap();
    let before = shown(client.clone(), tls.config()).unwrap();
    let (_new, other, key) = files("relay.example");
    certificate.replace(&read(&other, &key).unwrap());
    // The same client, which would resume its session if it could.
    assert_ne!(shown(client, tls.config()).unwrap(), before);
}

#[test]
fn every_wrong_file_is_named_with_its_remedy() {
    let (folder, certificate, key) = files("relay.example");
    let (_other, _, stranger) = files("relay.example");
    let missing = folder.path().join("missing.crt");
    let garbage = folder.path().join("garbage.crt");
    fs::write(&garbage, "nothing of use").unwrap();
    let broken = folder.path().join("broken.crt");
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for (certificate, key, blamed, text) in [
        (&missing, &key, &missing, "cannot be read"),
        (&certificate, &missing, &missing, "cannot be read"),
        (&garbage, &key, &garbage, "holds no CERTIFICATE"),
        (&certificate, &garbage, &garbage, "holds no PRIVATE KEY"),
        (&certificate, &certificate, &certificate, "holds no PRIVATE KEY"),
        (&certificate, &stranger, &stranger, "is not the key of"),
        (&broken, &key, &broken, "cannot be used"),
    ] {
        let error = server_config(certificate, key).unwrap_err();
        assert_eq!(&error.path, blamed, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}
