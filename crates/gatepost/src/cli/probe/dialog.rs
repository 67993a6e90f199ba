use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use delivery::ClientTlsConfigs;
use mail::Printable;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

/// A reply line, its line end included; RFC 5321 section 4.5.3.1.5 allows 512.
const LINE_BYTES_MAX: usize = 4096;
/// Lines of one reply.
const LINES_MAX: usize = 128;

/// How TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Tls {
    /// Not at all.
    Off,
    /// After STARTTLS.
    Starttls,
    /// From the first byte.
    Implicit,
}

/// Makes connections that have said EHLO.
pub(super) struct Dialer {
    pub(super) address: SocketAddr,
    pub(super) source: Option<IpAddr>,
    pub(super) helo: Option<String>,
    pub(super) tls: Tls,
    /// For the connection, and for each reply.
    pub(super) patience: Duration,
}

/// Why there is no reply, or no connection.
#[derive(Debug)]
pub(super) enum Trouble {
    Io(io::Error),
    Tls(String),
    /// The server ended the connection.
    Ended,
    /// What came is no SMTP.
    Malformed,
    /// The greeting, or the answer to EHLO and HELO, is a no.
    Refused(Reply),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Ended,
            io::ErrorKind::WouldBlock => {
                Self::Io(io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time"))
            }
            _ => Self::Io(error),
        }
    }
}

/// A server's reply, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// The lines' texts, joined by spaces.
    pub(super) text: String,
}

impl Reply {
    /// 2xx, or 3xx after DATA.
    pub(super) fn is_positive(&self) -> bool {
        (200..400).contains(&self.code)
    }

    /// The enhanced status code (RFC 3463) that the text begins with, if it does.
    pub(super) fn status(&self) -> Option<&str> {
        let word = self.text.split(' ').next()?;
        let mut parts = word.split('.');
        let is_status = parts.by_ref().take(3).filter(|part| part.parse::<u16>().is_ok()).count() == 3;
        (is_status && parts.next().is_none()).then_some(word)
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

enum Stream {
    Clear(TcpStream),
    Sealed(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A connection to the server, which has said its name.
pub(super) struct Connection {
    stream: Stream,
    source: IpAddr,
    input: Vec<u8>,
    /// What the server called itself, first in its greeting and then in its answer to EHLO.
    names: Vec<String>,
}

impl Dialer {
    /// Connects, and says EHLO, or HELO where that is not known.
    pub(super) fn dial(&self) -> Result<Connection, Trouble> {
        let stream = self.connect()?;
        let source = stream.local_addr()?.ip();
        let mut connection =
            Connection { stream: Stream::Clear(stream), source, input: Vec::new(), names: Vec::new() };
        if self.tls == Tls::Implicit {
            connection.seal(self.address.ip())?;
        }
        let greeting = connection.reply()?;
        connection.note_name(&greeting);
        accepted(greeting)?;
        let helo = self.helo.clone().unwrap_or_else(|| match source {
            IpAddr::V4(address) => format!("[{address}]"),
            IpAddr::V6(address) => format!("[IPv6:{address}]"),
        });
        connection.hello(&helo)?;
        if self.tls == Tls::Starttls {
            let reply = connection.command("STARTTLS")?;
            if !reply.is_positive() {
                return Err(Trouble::Tls(reply.to_string()));
            }
            // Nothing that came before TLS is read after it.
            connection.input.clear();
            connection.seal(self.address.ip())?;
            connection.hello(&helo)?;
        }
        Ok(connection)
    }

    fn connect(&self) -> Result<TcpStream, Trouble> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
        if let Some(source) = self.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&self.address.into(), self.patience)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The reply, if it is a yes.
fn accepted(reply: Reply) -> Result<Reply, Trouble> {
    if reply.is_positive() { Ok(reply) } else { Err(Trouble::Refused(reply)) }
}

impl Connection {
    /// What the server calls itself.
    pub(super) fn server_name(&self) -> Option<&str> {
        self.names.last().map(String::as_str)
    }

    /// Our own address.
    pub(super) fn source(&self) -> IpAddr {
        self.source
    }

    /// Sends a line and reads its reply.
    pub(super) fn command(&mut self, line: &str) -> Result<Reply, Trouble> {
        self.send(&format!("{line}\r\n"))?;
        self.reply()
    }

    /// Sends text as it is.
    pub(super) fn send(&mut self, text: &str) -> Result<(), Trouble> {
        match &mut self.stream {
            Stream::Clear(stream) => stream.write_all(text.as_bytes())?,
            Stream::Sealed(stream) => stream.write_all(text.as_bytes()).and_then(|()| stream.flush())?,
        }
        Ok(())
    }

    /// Reads a reply to its last line.
    pub(super) fn reply(&mut self) -> Result<Reply, Trouble> {
        let mut texts: Vec<String> = Vec::new();
        loop {
            let line = self.line()?;
            let code = line.get(..3).and_then(|code| code.parse::<u16>().ok());
            let code = code.filter(|code| (200..600).contains(code)).ok_or(Trouble::Malformed)?;
            texts.push(line.get(4..).unwrap_or_default().trim().to_owned());
            match line.as_bytes().get(3) {
                None | Some(b' ') => {
                    let text =
                        texts.iter().map(|text| Printable(text).to_string()).collect::<Vec<_>>().join(" ");
                    return Ok(Reply { code, text });
                }
                Some(b'-') if texts.len() < LINES_MAX => {}
                Some(_) => return Err(Trouble::Malformed),
            }
        }
    }

    fn line(&mut self) -> Result<String, Trouble> {
        loop {
            if let Some(end) = self.input.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.input.len() > LINE_BYTES_MAX {
                return Err(Trouble::Malformed);
            }
            let mut piece = [0; 2048];
            let read = match &mut self.stream {
                Stream::Clear(stream) => stream.read(&mut piece)?,
                Stream::Sealed(stream) => stream.read(&mut piece)?,
            };
            if read == 0 {
                return Err(Trouble::Ended);
            }
            self.input.extend_from_slice(&piece[..read]);
        }
    }

    fn hello(&mut self, name: &str) -> Result<(), Trouble> {
        let mut reply = self.command(&format!("EHLO {name}"))?;
        if !reply.is_positive() {
            reply = self.command(&format!("HELO {name}"))?;
        }
        self.note_name(&reply);
        accepted(reply).map(drop)
    }

    /// The first word of a greeting, or of an answer to EHLO, is the server's name (RFC 5321 section 4.2).
    fn note_name(&mut self, reply: &Reply) {
        let word = reply.text.split(' ').next().unwrap_or_default();
        let is_name = mail::Address::parse(&format!("t@{word}")).is_ok_and(|a| !a.has_domain_literal());
        if reply.is_positive() && is_name && word.contains('.') {
            self.names.push(word.to_owned());
        }
    }

    fn seal(&mut self, server: IpAddr) -> Result<(), Trouble> {
        let said = |error: rustls::Error| Trouble::Tls(error.to_string());
        let configs = ClientTlsConfigs::new(rustls::RootCertStore::empty()).map_err(said)?;
        let config = Arc::clone(&configs.opportunistic);
        let mut connection =
            ClientConnection::new(config, ServerName::IpAddress(server.into())).map_err(said)?;
        let Stream::Clear(stream) = &self.stream else { return Ok(()) };
        let mut stream = stream.try_clone()?;
        connection.complete_io(&mut stream).map_err(|error| Trouble::Tls(error.to_string()))?;
        self.stream = Stream::Sealed(Box::new(StreamOwned::new(connection, stream)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_three_numbers_at_the_start() {
        for (text, status) in [
            ("5.7.1 relaying denied", Some("5.7.1")),
            ("5.1.10 null MX", Some("5.1.10")),
            ("relaying denied 5.7.1", None),
            ("5.7 relaying denied", None),
            ("1.2.3.4 is blocked", None),
            ("", None),
        ] {
            assert_eq!(Reply { code: 550, text: text.into() }.status(), status, "{text}");
        }
    }
}
