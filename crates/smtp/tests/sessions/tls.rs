//! TLS on the server's side, with a bare rustls client as the peer.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use smtp::server::{Phase, ServerTls, Session, Settings, TlsMode};

use crate::handler::{Recorder, greeted, said, settings};

/// Both ends' configuration around a fresh certificate for relay.example.
pub(crate) fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let issued = rcgen::generate_simple_self_signed(["relay.example".to_owned()]).unwrap();
    let certificate = issued.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

pub(crate) fn tls_settings(tls: TlsMode) -> (Settings, Arc<ClientConfig>) {
    let (server, client) = configs();
    (Settings { tls, tls_config: Some(Arc::new(ServerTls::new(server, None))), ..settings() }, client)
}

/// Carries records both ways until neither side has any; gives what the client could read.
fn exchange(session: &mut Session, handler: &mut Recorder, client: &mut ClientConnection) -> String {
    let mut text = Vec::new();
    loop {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        session.receive(&wire, handler);
        let back = std::mem::take(session.output());
        if wire.is_empty() && back.is_empty() {
            return String::from_utf8(text).unwrap();
        }
        let mut rest = &back[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            let state = client.process_new_packets().unwrap();
            let before = text.len();
            text.resize(before + state.plaintext_bytes_to_read(), 0);
            client.reader().read_exact(&mut text[before..]).unwrap();
        }
    }
}

fn connect(config: Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config, ServerName::try_from("relay.example").unwrap()).unwrap()
}

#[test]
fn nothing_read_before_starttls_survives_it() {
    let (settings, config) = tls_settings(TlsMode::StartTls);
    let injected = "MAIL FROM:<injected@b.example>\r\nRCPT TO:<c@d.example>\r\n";
    let input = format!("EHLO before\r\nMAIL FROM:<a@b.example>\r\nSTARTTLS\r\n{injected}");
    let settings = Arc::new(settings);
    // However it is cut, the injected text comes with the end of the command.
    for cut in 0..input.len() - injected.len() {
        let (mut session, mut handler) = (Session::new(settings.clone()), Recorder::default());
        session.receive(&input.as_bytes()[..cut], &mut handler);
        session.receive(&input.as_bytes()[cut..], &mut handler);
        assert!(said(&mut session).ends_with("220 2.0.0 go ahead\r\n"));
        assert_eq!(handler.log, ["reset", "helo before true", "mail <a@b.example> None false", "reset"]);
        let mut client = connect(config.clone());
        assert_eq!(exchange(&mut session, &mut handler, &mut client), "");
        assert!(session.is_tls());
        client.writer().write_all(b"MAIL FROM:<a@b.example>\r\n").unwrap();
        assert_eq!(exchange(&mut session, &mut handler, &mut client), "503 5.5.1 say EHLO first\r\n");
        assert!(!handler.log.iter().any(|note| note.contains("injected")));
    }
}

#[test]
fn after_starttls_the_session_starts_afresh_and_logins_are_taken() {
    let (settings, config) = tls_settings(TlsMode::Required);
    let (mut session, mut handler) = (greeted(settings), Recorder::default());
    session.receive(b"EHLO app\r\n", &mut handler);
    let offers = said(&mut session);
    assert!(offers.contains("250 STARTTLS\r\n") && !offers.contains("AUTH"), "{offers}");
    session.receive(b"STARTTLS\r\n", &mut handler);
    said(&mut session);
    let mut client = connect(config);
    exchange(&mut session, &mut handler, &mut client);
    assert_eq!(handler.log.last().unwrap(), "tls");
    client
        .writer()
        .write_all(b"EHLO app\r\nAUTH PLAIN AHRlcnJpAHNlY3JldA==\r\nSTARTTLS\r\nQUIT\r\n")
        .unwrap();
    let heard = exchange(&mut session, &mut handler, &mut client);
    let tail =
        "250 AUTH PLAIN LOGIN\r\n235 2.7.0 logged in\r\n503 5.5.1 TLS is up already\r\n221 2.0.0 bye\r\n";
    assert!(heard.ends_with(tail) && !heard.contains("250-STARTTLS"), "{heard}");
    assert!(session.tls_name().unwrap().starts_with("TLSv1.3 with cipher TLS13_"));
}

#[test]
fn implicit_tls_greets_after_the_handshake() {
    let (settings, config) = tls_settings(TlsMode::Implicit);
    let (mut session, mut handler) = (Session::new(Arc::new(settings)), Recorder::default());
    assert_eq!((session.phase(), session.output().len()), (Phase::Handshake, 0));
    let mut client = connect(config);
    assert_eq!(exchange(&mut session, &mut handler, &mut client), "220 relay.example ESMTP Gatepost\r\n");
    assert_eq!(handler.log, ["tls"]);
}

#[test]
fn garbage_instead_of_a_handshake_closes_with_an_alert() {
    let (settings, _) = tls_settings(TlsMode::Implicit);
    let (mut session, mut handler) = (Session::new(Arc::new(settings)), Recorder::default());
    session.receive(b"EHLO app\r\nMAIL FROM:<a@b.example>\r\n", &mut handler);
    assert!(session.is_closing());
    assert_eq!(session.output()[0], 21, "an alert record");
    assert!(handler.log.is_empty());
}

#[test]
fn a_handshake_is_one_step_however_many_pieces_it_comes_in() {
    let (settings, client_config) = tls_settings(TlsMode::Implicit);
    let (mut session, mut handler) = (Session::new(Arc::new(settings)), Recorder::default());
    let mut client =
        ClientConnection::new(client_config, ServerName::try_from("relay.example").unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    for byte in &hello {
        session.receive(std::slice::from_ref(byte), &mut handler);
        assert_eq!((session.phase(), session.steps()), (Phase::Handshake, 0));
    }
    let mut answer = &std::mem::take(session.output())[..];
    while !answer.is_empty() {
        client.read_tls(&mut answer).unwrap();
        client.process_new_packets().unwrap();
    }
    exchange(&mut session, &mut handler, &mut client);
    assert_eq!((session.phase(), session.steps()), (Phase::Command, 1));
}
