//! TLS as bytes in and bytes out, for either side of a connection.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, Error, ProtocolVersion, ServerConfig, ServerConnection,
};

use crate::sasl::Binding;

/// What listeners present to a client that starts TLS. It can be replaced while sessions go on: each
/// keeps what it began with.
#[derive(Debug)]
pub struct ServerTls(ArcSwap<Presented>);

#[derive(Debug)]
struct Presented {
    config: Arc<ServerConfig>,
    end_point: Option<Arc<[u8]>>,
}

impl ServerTls {
    /// `end_point` is the hash of the certificate that `config` presents, for the channel binding
    /// `tls-server-end-point` (RFC 5929 section 4.1), where one is defined.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>, end_point: Option<Arc<[u8]>>) -> Self {
        Self(ArcSwap::from_pointee(Presented { config, end_point }))
    }

    /// From now on presents this.
    pub fn replace(&self, config: Arc<ServerConfig>, end_point: Option<Arc<[u8]>>) {
        self.0.store(Arc::new(Presented { config, end_point }));
    }

    /// The configuration that the next client meets.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.load().config.clone()
    }
}

/// A TLS connection whose records the caller carries.
#[derive(Debug)]
pub(crate) struct Tls {
    connection: Connection,
    name: String,
    /// For `tls-server-end-point`.
    end_point: Option<Arc<[u8]>>,
}

impl Tls {
    /// The server's end.
    pub(crate) fn accept(tls: &ServerTls) -> Result<Self, Error> {
        let presented = tls.0.load();
        let connection = ServerConnection::new(presented.config.clone())?;
        Ok(Self { end_point: presented.end_point.clone(), ..Self::new(connection.into()) })
    }

    /// The client's end; its first record is ready to be sealed.
    pub(crate) fn connect(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        Ok(Self::new(ClientConnection::new(config, name)?.into()))
    }

    fn new(mut connection: Connection) -> Self {
        // The sessions bound their output themselves, before it comes here.
        connection.set_buffer_limit(None);
        Self { connection, name: String::new(), end_point: None }
    }

    /// Whether the handshake is not over yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Opens records: cleartext is added to `clear`, what the protocol itself has to say to `wire_out`.
    /// True when the peer has said that it ends the connection.
    ///
    /// # Errors
    /// The peer's fault; the alert that says so is in `wire_out`.
    pub(crate) fn open(
        &mut self,
        mut wire: &[u8],
        clear: &mut Vec<u8>,
        wire_out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        let mut ended = false;
        while !wire.is_empty() && !ended {
            let taken = self.connection.read_tls(&mut wire);
            let processed = self.connection.process_new_packets();
            self.flush(wire_out);
            let state = processed?;
            let fresh = state.plaintext_bytes_to_read();
            let before = clear.len();
            clear.resize(before + fresh, 0);
            if fresh > 0 && self.connection.reader().read_exact(&mut clear[before..]).is_err() {
                clear.truncate(before);
            }
            ended = state.peer_has_closed() || !matches!(taken, Ok(1..));
        }
        Ok(ended)
    }

    /// Seals cleartext into records on `wire_out`.
    pub(crate) fn seal(&mut self, clear: &[u8], wire_out: &mut Vec<u8>) {
        self.connection.writer().write_all(clear).expect("its buffer has no limit");
        self.flush(wire_out);
    }

    /// Says that nothing more follows.
    pub(crate) fn end(&mut self, wire_out: &mut Vec<u8>) {
        self.connection.send_close_notify();
        self.flush(wire_out);
    }

    /// Protocol and cipher suite in words, for trace fields; empty before the handshake is over.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What binds a login to this channel.
    ///
    /// `tls-exporter` is for TLS 1.3 only: below it two channels can be made to share it (RFC 9266
    /// section 4), and whether this one cannot is not told.
    pub(crate) fn binding(&self, binding: Binding) -> Option<Vec<u8>> {
        match binding {
            Binding::Exporter if self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3) => {
                let label = b"EXPORTER-Channel-Binding";
                self.connection.export_keying_material(vec![0; 32], label, Some(b"")).ok()
            }
            Binding::Exporter => None,
            Binding::EndPoint => self.end_point.as_deref().map(<[u8]>::to_vec),
        }
    }

    /// Whether a login can be bound to this channel at all.
    pub(crate) fn can_bind(&self) -> bool {
        self.end_point.is_some() || self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    fn flush(&mut self, wire_out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            self.connection.write_tls(wire_out).expect("writing to memory does not fail");
        }
        if self.name.is_empty() && !self.connection.is_handshaking() {
            self.name = self.describe();
        }
    }

    fn describe(&self) -> String {
        let version = self.connection.protocol_version().and_then(|version| version.as_str());
        let version = version.unwrap_or("TLS").replace('_', ".");
        let suite = self.connection.negotiated_cipher_suite().map(|suite| suite.suite());
        match suite.and_then(|suite| suite.as_str()) {
            Some(suite) => format!("{version} with cipher {suite}"),
            None => version,
        }
    }
}
