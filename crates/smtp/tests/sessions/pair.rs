//! Our client against our server, in cleartext and under TLS.

use std::sync::Arc;

use mail::{Address, ReversePath};
use rustls::pki_types::ServerName;
use smtp::client::{ClientTls, Event, Failure, Session as Client};
use smtp::server::{Session as Server, Settings, TlsMode};

use crate::handler::{Recorder, settings};
use crate::tls::tls_settings;

struct Pair {
    server: Server,
    handler: Recorder,
    client: Client,
}

impl Pair {
    fn new(settings: Settings, tls: ClientTls) -> Self {
        let server = Server::new(Arc::new(settings));
        Self { server, handler: Recorder::default(), client: Client::new("app.example", tls) }
    }

    /// Carries bytes in pieces of `step` until neither side has any.
    fn exchange(&mut self, step: usize) {
        loop {
            let forth = std::mem::take(self.client.output());
            let back = std::mem::take(self.server.output());
            if forth.is_empty() && back.is_empty() {
                return;
            }
            for piece in forth.chunks(step) {
                self.server.receive(piece, &mut self.handler);
            }
            for piece in back.chunks(step) {
                self.client.receive(piece);
            }
        }
    }

    fn deliver(&mut self, body: &[u8], step: usize) -> Vec<u16> {
        let recipients = ["c@d.example", "denied@d.example"].map(|text| Address::parse(text).unwrap());
        let from = ReversePath::parse("a@b.example").unwrap();
        self.client.begin(from, recipients.into_iter(), Some(body.len() as u64), true);
        let mut codes = Vec::new();
        loop {
            self.exchange(step);
            match self.client.poll().expect("something comes next") {
                Event::Recipient { reply, .. } => {
                    codes.push(reply.code());
                    self.client.recycle(reply);
                }
                Event::SendBody => self.client.write_body(body),
                Event::Done { reply } => codes.push(reply.code()),
                Event::Ready => return codes,
                other => panic!("{other:?}"),
            }
        }
    }
}

fn start_tls(config: Arc<rustls::ClientConfig>, name: &'static str, required: bool) -> ClientTls {
    ClientTls::StartTls { config, name: ServerName::try_from(name).unwrap(), required }
}

#[test]
fn messages_go_over_one_connection_one_after_the_other() {
    let (tls, config) = tls_settings(TlsMode::Required);
    let with_tls = start_tls(config, "relay.example", true);
    for (settings, client_tls) in [(settings(), ClientTls::Off), (tls, with_tls)] {
        let mut pair = Pair::new(settings, client_tls);
        pair.exchange(7);
        assert!(matches!(pair.client.poll(), Some(Event::Ready)));
        for step in [1, 1000, usize::MAX] {
            let body = [&b"Subject: x\r\n\r\n..\r\n"[..], &[b'y'; 100_000], b"\r\n.\r\n"].concat();
            assert_eq!(pair.deliver(&body, step), [250, 550, 250]);
            assert_eq!(pair.handler.messages.pop().unwrap(), body[..body.len() - 3]);
        }
        assert_eq!(pair.client.is_plaintext(), !pair.server.is_tls());
        pair.client.quit();
        pair.exchange(usize::MAX);
        assert!(pair.server.is_closing());
        assert_eq!(pair.client.phase(), smtp::client::Phase::Closed);
    }
}

#[test]
fn recipients_are_verified_without_a_message() {
    let mut pair = Pair::new(settings(), ClientTls::Off);
    pair.exchange(7);
    assert!(matches!(pair.client.poll(), Some(Event::Ready)));
    for _ in 0..2 {
        let recipients = ["c@d.example", "denied@d.example"].map(|text| Address::parse(text).unwrap());
        pair.client.verify(ReversePath::Null, recipients.into_iter());
        pair.exchange(7);
        let mut codes = Vec::new();
        while let Some(event) = pair.client.poll() {
            match event {
                Event::Recipient { reply, .. } => codes.push(reply.code()),
                Event::Ready => codes.push(0),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(codes, [250, 550, 0]);
        assert!(pair.handler.messages.is_empty() && !pair.server.has_transaction());
    }
}

#[test]
fn tls_that_is_required_and_missing_fails() {
    let (_, config) = tls_settings(TlsMode::Off);
    let mut pair = Pair::new(settings(), start_tls(config.clone(), "relay.example", true));
    pair.exchange(usize::MAX);
    assert!(matches!(pair.client.poll(), Some(Event::Failed { error: Failure::NoTls(None) })));
    let mut pair = Pair::new(settings(), start_tls(config, "relay.example", false));
    pair.exchange(usize::MAX);
    assert!(matches!(pair.client.poll(), Some(Event::Ready)), "opportunistic goes on without");
}

#[test]
fn a_certificate_of_another_name_fails_and_the_server_hears_of_it() {
    let (settings, config) = tls_settings(TlsMode::StartTls);
    let mut pair = Pair::new(settings, start_tls(config, "other.example", true));
    pair.exchange(usize::MAX);
    assert!(matches!(pair.client.poll(), Some(Event::Failed { error: Failure::Tls(_) })));
    assert!(pair.server.is_closing());
}

#[test]
fn words_put_in_before_tls_end_the_client() {
    let (_, config) = tls_settings(TlsMode::Off);
    let mut client = Client::new("app.example", start_tls(config, "relay.example", false));
    client.receive(b"220 x\r\n250-x\r\n250 STARTTLS\r\n220 go\r\n250 injected\r\n");
    assert!(matches!(client.poll(), Some(Event::Failed { error: Failure::Protocol(_) })));
}
