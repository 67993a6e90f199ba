//! An SMTP client at its barest: send bytes, read replies. For tests that read as a dialog.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::net::PATIENCE;

/// One reply of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The text of each line, without code and separator.
    pub lines: Vec<String>,
}

impl Reply {
    /// All lines as they read, one a line: `250-first` … `250 last`.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// Whether the reply is a success (2xx) or an intermediate (3xx).
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }
}

/// Reads one reply; `None` when the peer ended or broke the connection instead.
///
/// # Panics
/// When what comes is not an SMTP reply, or nothing comes in time.
pub fn read_reply(reader: &mut impl BufRead) -> Option<Reply> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the server did not reply in time; so far it said {lines:?}")
            }
            Err(_) => return None,
        }
        let line = line.strip_suffix("\r\n").unwrap_or_else(|| panic!("a reply line without CRLF: {line:?}"));
        let code = line
            .get(..3)
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("not a reply: {line:?}"));
        lines.push(line.get(4..).unwrap_or_default().to_owned());
        if line.as_bytes().get(3) != Some(&b'-') {
            return Some(Reply { code, lines });
        }
    }
}

/// A connection to a server under test. Every method panics with what was said and what was expected.
#[derive(Debug)]
pub struct Dialog {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Dialog {
    /// Connects and does not read the greeting.
    ///
    /// # Panics
    /// When no server listens at `address`.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        let stream =
            TcpStream::connect(address).unwrap_or_else(|error| panic!("no server at {address}: {error}"));
        Self::over(stream)
    }

    /// The same from the local address `source`; on loopback every address of 127.0.0.0/8 is one.
    ///
    /// # Panics
    /// When this host has no such address, or no server listens at `address`.
    #[must_use]
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)
            .unwrap_or_else(|error| panic!("cannot make a socket: {error}"));
        socket
            .bind(&SocketAddr::new(source, 0).into())
            .unwrap_or_else(|error| panic!("cannot connect from {source}: {error}"));
        socket.connect(&address.into()).unwrap_or_else(|error| panic!("no server at {address}: {error}"));
        Self::over(socket.into())
    }

    /// A dialog over a connection that is already there.
    ///
    /// # Panics
    /// When the socket cannot be duplicated.
    #[must_use]
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set on a socket");
        stream.set_nodelay(true).expect("no-delay can be set on a socket");
        let reader = BufReader::new(stream.try_clone().expect("a socket can be duplicated"));
        Self { stream, reader }
    }

    /// Connects, reads the greeting and says EHLO.
    #[must_use]
    pub fn hello(address: SocketAddr) -> Self {
        let mut dialog = Self::connect(address);
        dialog.expect(220);
        dialog.command("EHLO client.example", 250);
        dialog
    }

    /// The same from the local address `source`.
    #[must_use]
    pub fn hello_from(source: IpAddr, address: SocketAddr) -> Self {
        let mut dialog = Self::connect_from(source, address);
        dialog.expect(220);
        dialog.command("EHLO client.example", 250);
        dialog
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes what is sent");
    }

    /// Sends bytes; says whether the server still took them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Reads one reply; `None` at the end of the connection.
    pub fn reply(&mut self) -> Option<Reply> {
        read_reply(&mut self.reader)
    }

    /// Reads a reply, which must have `code`.
    #[track_caller]
    pub fn expect(&mut self, code: u16) -> Reply {
        let Some(reply) = self.reply() else { panic!("expected {code}, but the connection ended") };
        assert_eq!(reply.code, code, "expected {code}, got {} {:?}", reply.code, reply.lines);
        reply
    }

    /// Sends `line` with CRLF; the reply must have `code`.
    #[track_caller]
    pub fn command(&mut self, line: &str, code: u16) -> Reply {
        self.send(format!("{line}\r\n"));
        let Some(reply) = self.reply() else { panic!("{line}: expected {code}, but the connection ended") };
        assert_eq!(reply.code, code, "{line}: expected {code}, got {} {:?}", reply.code, reply.lines);
        reply
    }

    /// One whole transaction; every step must succeed. `content` is not dot-stuffed.
    #[track_caller]
    pub fn deliver(&mut self, from: &str, to: &[&str], content: &[u8]) -> Reply {
        self.command(&format!("MAIL FROM:<{from}>"), 250);
        for recipient in to {
            self.command(&format!("RCPT TO:<{recipient}>"), 250);
        }
        self.command("DATA", 354);
        self.send(crate::message::to_wire(content));
        self.expect(250)
    }

    /// Reads until the server ends the connection; returns what it still said.
    #[track_caller]
    pub fn expect_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the server did not end the connection in time")
            }
            _ => rest,
        }
    }

    /// Whether the server stays silent for `silence`.
    pub fn is_silent(&mut self, silence: Duration) -> bool {
        if !self.reader.buffer().is_empty() {
            return false;
        }
        self.stream.set_read_timeout(Some(silence)).expect("a timeout can be set on a socket");
        let outcome = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set on a socket");
        outcome.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// The connection besides the dialog, for a client that does not do as a dialog does.
    ///
    /// # Panics
    /// When the socket cannot be duplicated.
    #[must_use]
    pub fn share(&self) -> TcpStream {
        self.stream.try_clone().expect("a socket can be duplicated")
    }

    /// The connection itself, for TLS or for rude endings.
    #[must_use]
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}
