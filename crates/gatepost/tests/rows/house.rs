//! The gateway that the rows are tested on: the tenant of the six situations, its own mail, and the
//! other provider; and clients that speak TLS to it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use testbed::dialog::Reply;
use testbed::gateway::http_get;
use testbed::net::PATIENCE;
use testbed::proseware;
use testbed::{Configuration, Destination, Dialog, Gateway};

/// A gateway between two destinations, with a submission listener that takes TLS.
pub(crate) struct House {
    pub(crate) own_mail: Destination,
    pub(crate) elsewhere: Destination,
    pub(crate) gateway: Gateway,
    pub(crate) submission: SocketAddr,
}

impl House {
    /// As [`testbed::proseware`] configures it.
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// The same, after `change`.
    pub(crate) fn start_with(change: impl FnOnce(&mut Configuration)) -> Self {
        Self::start_under(&[], change)
    }

    /// The same, run by `wrapper`.
    pub(crate) fn start_under(wrapper: &[&str], change: impl FnOnce(&mut Configuration)) -> Self {
        let (own_mail, elsewhere) = (Destination::start(), Destination::start());
        let mut configuration = proseware::configuration(own_mail.address(), elsewhere.address());
        let submission = configuration.listen("submission", "submission", "required");
        change(&mut configuration);
        let wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        let gateway = Gateway::start_under(env!("CARGO_BIN_EXE_gatepost"), configuration, wrapper);
        Self { own_mail, elsewhere, gateway, submission }
    }

    pub(crate) fn connect(&self, source: IpAddr) -> Dialog {
        Dialog::hello_from(source, self.gateway.smtp())
    }

    /// Whatever was accepted has gone; none of it to the other provider.
    #[track_caller]
    pub(crate) fn nothing_went_elsewhere(&self) {
        self.gateway.wait_metric("gatepost_queue_recipients", 0.0);
        assert_eq!(self.elsewhere.connections(), 0, "the gateway spoke to the other provider");
    }

    /// A client's end of TLS that trusts this gateway's certificate.
    pub(crate) fn tls_client(&self) -> rustls::ClientConnection {
        tls_client(&self.gateway)
    }

    /// Denials counted under all of `labels`.
    pub(crate) fn denials(&self, labels: &[&str]) -> u64 {
        let (_, metrics) =
            http_get(self.gateway.configuration().metrics, "/metrics").expect("the metrics are served");
        let lines = metrics.lines().filter(|line| line.starts_with("gatepost_relay_denials_total{"));
        lines
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit(' ').next().expect("a sample has a value"))
            .map(|value| value.parse::<f64>().expect("a sample is a number") as u64)
            .sum()
    }
}

/// A client that has started TLS and said EHLO again.
pub(crate) struct Secure {
    pub(crate) stream: std::io::BufReader<rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream>>,
}

impl Secure {
    pub(crate) fn start(source: IpAddr, address: SocketAddr, gateway: &Gateway) -> Self {
        let mut clear = Dialog::hello_from(source, address);
        clear.command("STARTTLS", 220);
        let connection = tls_client(gateway);
        let stream = clear.into_stream();
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set on a socket");
        let mut client =
            Self { stream: std::io::BufReader::new(rustls::StreamOwned::new(connection, stream)) };
        client.command("EHLO client.example", 250);
        client
    }

    #[track_caller]
    pub(crate) fn command(&mut self, line: &str, code: u16) -> Reply {
        let stream = self.stream.get_mut();
        std::io::Write::write_all(stream, format!("{line}\r\n").as_bytes())
            .expect("the server takes what is sent");
        let reply = testbed::dialog::read_reply(&mut self.stream).expect("the connection goes on");
        assert_eq!(reply.code, code, "{line}: expected {code}, got {reply:?}");
        reply
    }
}

fn tls_client(gateway: &Gateway) -> rustls::ClientConnection {
    let certificate = CertificateDer::from_pem_file(gateway.directory().join("tls.crt"))
        .expect("the testbed wrote a certificate");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("the testbed's certificate is its own authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a valid name");
    rustls::ClientConnection::new(Arc::new(config), name).expect("a valid configuration")
}
