//! A client that gives up: what does not come, or comes otherwise, is an error and no panic.
//!
//! In a siege a refusal is a finding. Every client is a task of one thread, so that ten thousand of them
//! cost memory and no turns of a core.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};

/// An HTTP answer is read up to here: pages are smaller.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// A connection from an address of the client's choice.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    /// Connects and reads nothing.
    pub(crate) async fn connect(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // Thousands that end at once must leave no ports behind that wait for a minute.
        socket.set_zero_linger()?;
        socket.bind(SocketAddr::new(source, 0))?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Connects, is greeted and says EHLO.
    pub(crate) async fn hello(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let mut client = Self::connect(source, address).await?;
        client.expect("the greeting", 220).await?;
        client.ask("EHLO client.example", 250).await?;
        Ok(client)
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.write_all(bytes.as_ref()).await
    }

    /// Reads one reply; gives its code and its last line.
    pub(crate) async fn reply(&mut self) -> io::Result<(u16, String)> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                return Err(io::Error::other("the connection ended"));
            }
            if line.as_bytes().get(3) == Some(&b'-') {
                continue;
            }
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let code = code.ok_or_else(|| io::Error::other(format!("not a reply: {line:?}")))?;
            return Ok((code, line.trim_end().to_owned()));
        }
    }

    /// Sends `line`; the reply must have `code`.
    pub(crate) async fn ask(&mut self, line: &str, code: u16) -> io::Result<String> {
        self.send(format!("{line}\r\n")).await?;
        self.expect(line, code).await
    }

    /// Reads the reply to `what`, which must have `code`.
    pub(crate) async fn expect(&mut self, what: &str, code: u16) -> io::Result<String> {
        let (heard, line) =
            self.reply().await.map_err(|error| io::Error::new(error.kind(), format!("{what}: {error}")))?;
        if heard == code { Ok(line) } else { Err(io::Error::other(format!("{what}: {line}"))) }
    }

    /// Reads until the server ends the connection.
    pub(crate) async fn read_to_end(&mut self) {
        let mut rest = [0; 512];
        // However it ends.
        while self.0.read(&mut rest).await.is_ok_and(|length| length > 0) {}
    }

    /// Asks an HTTP server for `path`; gives the status.
    pub(crate) async fn get(source: IpAddr, address: SocketAddr, path: &str) -> io::Result<u16> {
        let mut client = Self::connect(source, address).await?;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")).await?;
        let mut answer = Vec::new();
        (&mut client.0).take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        status.ok_or_else(|| io::Error::other(format!("{path}: no answer")))
    }
}
