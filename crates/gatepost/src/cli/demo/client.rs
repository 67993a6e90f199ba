//! The demo's client: speaks SMTP over a real socket, from a chosen loopback address, and writes
//! down what was said.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

/// On loopback, a reply that takes longer will never come.
const PATIENCE: Duration = Duration::from_secs(30);

/// One line of a dialog worth showing.
#[derive(Clone, Debug)]
pub(super) enum Line {
    /// What the client said.
    Client(String),
    /// What the gateway said.
    Server(String),
    /// What happened without words.
    Note(String),
}

/// A connection to the gateway.
pub(super) struct Client {
    stream: Stream,
    received: Vec<u8>,
    pub(super) dialog: Vec<Line>,
}

enum Stream {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// TLS could not be started.
    Broken,
}

impl Client {
    /// Connects from `local` and says EHLO.
    pub(super) fn connect(local: IpAddr, server: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(local, 0).into())?;
        socket.connect(&server.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self { stream: Stream::Clear(stream), received: Vec::new(), dialog: Vec::new() };
        client.reply()?;
        client.quietly("EHLO client.example\r\n")?;
        Ok(client)
    }

    /// STARTTLS (RFC 3207), then EHLO again.
    pub(super) fn start_tls(&mut self, config: Arc<ClientConfig>) -> io::Result<()> {
        self.command("STARTTLS")?;
        let Stream::Clear(tcp) = std::mem::replace(&mut self.stream, Stream::Broken) else {
            return Err(io::Error::other("TLS runs already"));
        };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let version = stream.conn.protocol_version().and_then(|version| version.as_str());
        self.note(format!("{} from here on", version.unwrap_or("TLS").replace("v1_", " 1.")));
        self.stream = Stream::Tls(Box::new(stream));
        self.quietly("EHLO client.example\r\n")?;
        Ok(())
    }

    /// AUTH PLAIN (RFC 4616).
    pub(super) fn log_in(&mut self, login: &str, password: &str) -> io::Result<()> {
        let response = base64::engine::general_purpose::STANDARD.encode(format!("\0{login}\0{password}"));
        self.dialog.push(Line::Client(format!("AUTH PLAIN (as {login})")));
        let reply = self.quietly(&format!("AUTH PLAIN {response}\r\n"))?;
        self.heard(&reply);
        Ok(())
    }

    /// Sends a message; gives whether it was accepted. The first refusal ends it.
    pub(super) fn send(&mut self, from: &str, to: &str, message: &str) -> io::Result<bool> {
        let accepted = self.command(&format!("MAIL FROM:<{from}>"))?
            && self.command(&format!("RCPT TO:<{to}>"))?
            && self.command("DATA")?
            && self.body(message)?;
        self.quietly("QUIT\r\n")?;
        Ok(accepted)
    }

    fn body(&mut self, message: &str) -> io::Result<bool> {
        let mut wire = String::with_capacity(message.len() + 8);
        for line in message.split_inclusive('\n') {
            if line.starts_with('.') {
                wire.push('.');
            }
            wire.push_str(line);
        }
        wire.push_str(".\r\n");
        self.note(format!("the message, {} bytes, and the final dot", message.len()));
        let reply = self.quietly(&wire)?;
        Ok(self.heard(&reply))
    }

    /// Sends a line; gives whether the reply was positive.
    fn command(&mut self, line: &str) -> io::Result<bool> {
        self.dialog.push(Line::Client(line.to_owned()));
        let reply = self.quietly(&format!("{line}\r\n"))?;
        Ok(self.heard(&reply))
    }

    fn note(&mut self, text: String) {
        self.dialog.push(Line::Note(text));
    }

    fn heard(&mut self, reply: &str) -> bool {
        self.dialog.extend(reply.lines().map(|line| Line::Server(line.to_owned())));
        reply.starts_with(['2', '3'])
    }

    fn quietly(&mut self, wire: &str) -> io::Result<String> {
        self.stream.write_all(wire.as_bytes())?;
        self.stream.flush()?;
        self.reply()
    }

    /// Reads one reply, of one line or more (RFC 5321 section 4.2.1).
    fn reply(&mut self) -> io::Result<String> {
        let mut piece = [0; 4096];
        loop {
            if let Some(end) = reply_end(&self.received) {
                let rest = self.received.split_off(end);
                let reply = std::mem::replace(&mut self.received, rest);
                return String::from_utf8(reply).map_err(io::Error::other);
            }
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.received.extend_from_slice(&piece[..read]),
            }
        }
    }
}

/// Where the first whole reply ends.
fn reply_end(received: &[u8]) -> Option<usize> {
    let mut end = 0;
    for line in received.split_inclusive(|&byte| byte == b'\n') {
        end += line.len();
        if line.ends_with(b"\n") && line.get(3) != Some(&b'-') {
            return Some(end);
        }
    }
    None
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.write(buffer),
            Self::Tls(stream) => stream.write(buffer),
            Self::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
            Self::Broken => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_with_its_last_line() {
        assert_eq!(reply_end(b"250-a\r\n250 b\r\n354"), Some(14));
        assert_eq!(reply_end(b"250-a\r\n250 b"), None);
        assert_eq!(reply_end(b""), None);
    }
}
