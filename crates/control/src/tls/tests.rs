use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};

use super::*;

fn made(name: &str) -> Arc<CertifiedKey> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    Arc::new(CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider()).unwrap())
}

fn server_config(name: &str) -> Arc<ServerConfig> {
    Certificate::new(&made(name)).tls().config()
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
    shown(client_config(false).unwrap(), server_config("elsewhere.example")).unwrap();
}

#[test]
fn required_tls_takes_no_certificate_that_nobody_signed() {
    let server = server_config("relay.example");
    let client = match client_config(true) {
        Ok(client) => client,
        // A machine without authorities cannot verify at all, and says so.
        Err(error) => return assert!(error.to_string().contains("ca-certificates")),
    };
    assert!(matches!(shown(client, server), Err(rustls::Error::InvalidCertificate(_))));
}

#[test]
fn a_replaced_certificate_is_shown_to_those_who_come_next() {
    let certificate = Certificate::new(&made("relay.example"));
    let tls = certificate.tls();
    let client = client_config(false).unwrap();
    let before = shown(client.clone(), tls.config()).unwrap();
    certificate.replace(&made("relay.example"));
    // The same client, which would resume its session if it could.
    assert_ne!(shown(client, tls.config()).unwrap(), before);
}
