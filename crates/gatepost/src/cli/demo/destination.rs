//! The built-in destination: a small SMTP server that takes everything and hands over what it took.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

/// A message that arrived.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) from: String,
    pub(super) to: Vec<String>,
    /// As it was sent: without dot-stuffing.
    pub(super) bytes: Vec<u8>,
    pub(super) at: Instant,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) address: SocketAddr,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Destination {
    /// Starts it on a free port; what arrives comes out of the receiver.
    pub(super) fn start() -> io::Result<(Self, Receiver<Arrival>)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (arrivals, receiver) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = std::thread::Builder::new()
            .name("destination".into())
            .spawn(move || accept(&listener, &arrivals, &stop))?;
        Ok((Self { address, stopping, thread: Some(thread) }, receiver))
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // The thread waits for a connection: this is the one that it sees the flag by.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, arrivals: &Sender<Arrival>, stop: &AtomicBool) {
    for stream in listener.incoming() {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let arrivals = arrivals.clone();
        // A connection that fails is its client's concern: it will try again.
        std::thread::spawn(move || serve(&stream, &arrivals));
    }
}

fn serve(stream: &TcpStream, arrivals: &Sender<Arrival>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let (mut from, mut to) = (String::new(), Vec::new());
    let mut line = Vec::new();
    writer.write_all(b"220 destination.example ESMTP\r\n")?;
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let verb = text.split([' ', ':', '\r', '\n']).next().unwrap_or("").to_ascii_uppercase();
        let reply: &[u8] = match verb.as_str() {
            "EHLO" => b"250-destination.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n",
            "HELO" | "NOOP" => b"250 destination.example\r\n",
            "MAIL" => {
                from = path(&text);
                to.clear();
                b"250 2.1.0 sender ok\r\n"
            }
            "RCPT" => {
                to.push(path(&text));
                b"250 2.1.5 recipient ok\r\n"
            }
            "DATA" => {
                writer.write_all(b"354 go ahead\r\n")?;
                let bytes = read_message(&mut reader)?;
                let arrival = Arrival { from: from.clone(), to: to.clone(), bytes, at: Instant::now() };
                // The receiver is gone only when the demo ends.
                let _ = arrivals.send(arrival);
                b"250 2.0.0 delivered\r\n"
            }
            "RSET" => b"250 2.0.0 ok\r\n",
            "QUIT" => {
                writer.write_all(b"221 2.0.0 bye\r\n")?;
                return Ok(());
            }
            _ => b"502 5.5.1 not known here\r\n",
        };
        writer.write_all(reply)?;
    }
}

/// What stands between the angle brackets.
fn path(line: &str) -> String {
    let start = line.find('<').map_or(line.len(), |at| at + 1);
    let end = line.find('>').unwrap_or(line.len()).max(start);
    line[start..end].to_owned()
}

/// Reads up to the final dot and undoes dot-stuffing (RFC 5321 section 4.5.2).
fn read_message(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let start = message.len();
        if reader.read_until(b'\n', &mut message)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if &message[start..] == b".\r\n" {
            message.truncate(start);
            return Ok(message);
        }
        if message[start] == b'.' {
            message.remove(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_before_its_dots_were_stuffed() {
        let mut wire: &[u8] = b"a: b\r\n\r\n..dot\r\n.\r\nQUIT\r\n";
        assert_eq!(read_message(&mut wire).unwrap(), b"a: b\r\n\r\n.dot\r\n");
        assert_eq!(wire, b"QUIT\r\n");
    }
}
