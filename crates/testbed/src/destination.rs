//! A destination: a small SMTP server that writes down what arrives.
//!
//! It shares no code with Gatepost. An arrival is recorded before its 250 leaves, so that a lost
//! reply shows as a duplicate and never as a loss. It may be told to refuse or defer by [`Rules`].

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConnection, StreamOwned};

use crate::ledger::Arrival;
use crate::observer::Observer;

/// A reply that is given instead of the usual one: code and text, as in `"451 4.3.0 later"`.
pub type Judge = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A question about the recipients of a transaction, joined by commas.
pub type Doubt = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// What a destination does about STARTTLS.
#[derive(Clone, Debug, Default)]
pub enum Tls {
    /// It offers none.
    #[default]
    Off,
    /// It offers it, with this certificate.
    Offered(Arc<rustls::ServerConfig>),
    /// It offers it, and refuses.
    Refused,
    /// It offers it, says that it is ready, and speaks no TLS.
    Broken,
}

/// What the destination answers other than yes.
#[derive(Default)]
pub struct Rules {
    /// Asked at connect with the client's address.
    pub greeting: Option<Judge>,
    /// Asked with the reverse-path.
    pub mail: Option<Judge>,
    /// Asked with each recipient.
    pub recipient: Option<Judge>,
    /// Asked after the last dot with the recipients, joined by commas; a positive answer, or none, records.
    pub message: Option<Judge>,
    /// Keep the whole content of what arrives, for tests that look at it.
    pub keep_content: bool,
    /// Do not offer PIPELINING.
    pub without_pipelining: bool,
    /// What is done about TLS.
    pub tls: Tls,
    /// Shown each arrival before its 250 leaves.
    pub observer: Option<Observer<Arrival>>,
    /// Asked with the recipients, joined by commas, when the arrival is recorded: true ends the
    /// connection there, and its 250 is lost.
    pub swallows_reply: Option<Doubt>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("keep_content", &self.keep_content).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Book {
    arrivals: Vec<Arrival>,
    contents: Vec<Vec<u8>>,
    /// Of each arrival whether it came within TLS.
    secured: Vec<bool>,
    /// Each recipient that was named, and whether within TLS.
    named: Vec<(String, bool)>,
    connections: u64,
    open: Vec<TcpStream>,
}

#[derive(Debug)]
struct Shared {
    rules: Rules,
    book: Mutex<Book>,
    written: Condvar,
    closing: AtomicBool,
    /// Connections that are being served.
    serving: AtomicUsize,
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no thread of the destination panics while it holds the book")
    }
}

/// A listening destination; it stops when dropped.
#[derive(Debug)]
pub struct Destination {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl Destination {
    /// A destination on a free loopback port that takes everything.
    #[must_use]
    pub fn start() -> Self {
        Self::with_rules(Rules::default())
    }

    /// A destination on a free loopback port.
    #[must_use]
    pub fn with_rules(rules: Rules) -> Self {
        Self::on(crate::net::free_listener(), rules)
    }

    /// A destination at `address`.
    ///
    /// # Panics
    /// When the address is taken.
    #[must_use]
    pub fn at(address: SocketAddr, rules: Rules) -> Self {
        let listener =
            TcpListener::bind(address).unwrap_or_else(|error| panic!("cannot listen at {address}: {error}"));
        Self::on(listener, rules)
    }

    fn on(listener: TcpListener, rules: Rules) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            rules,
            book: Mutex::default(),
            written: Condvar::new(),
            closing: AtomicBool::new(false),
            serving: AtomicUsize::new(0),
        });
        let acceptor = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, &shared))
        };
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has arrived so far.
    #[must_use]
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.shared.book().arrivals.clone()
    }

    /// Of each arrival whether it came within TLS.
    #[must_use]
    pub fn secured(&self) -> Vec<bool> {
        self.shared.book().secured.clone()
    }

    /// Each recipient that was named so far, and whether within TLS.
    #[must_use]
    pub fn named(&self) -> Vec<(String, bool)> {
        self.shared.book().named.clone()
    }

    /// How many transactions have arrived so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.book().arrivals.len()
    }

    /// Connections taken so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.book().connections
    }

    /// How many connections are being served.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.serving.load(Ordering::Acquire)
    }

    /// Whether no connection is being served: what a client that died still had on its way has been read.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.shared.serving.load(Ordering::Acquire) == 0
    }

    /// The content of each arrival with the gateway's header on it; empty unless `keep_content`.
    #[must_use]
    pub fn contents(&self) -> Vec<Vec<u8>> {
        self.shared.book().contents.clone()
    }

    /// Waits until `enough` says so of the arrivals, at most for `patience`; says whether it did.
    #[must_use]
    pub fn wait_until(&self, patience: Duration, mut enough: impl FnMut(&[Arrival]) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut book = self.shared.book();
        while !enough(&book.arrivals) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            book = self.shared.written.wait_timeout(book, left).expect("see Shared::book").0;
        }
        true
    }

    /// Waits for `count` transactions.
    ///
    /// # Panics
    /// When they do not come in time.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Arrival> {
        let came = self.wait_until(crate::net::PATIENCE, |arrivals| arrivals.len() >= count);
        let arrivals = self.arrivals();
        assert!(came, "waited for {count} arrivals, there are {}", arrivals.len());
        arrivals
    }

    /// Breaks every open connection; the destination goes on listening.
    pub fn cut_connections(&self) {
        for stream in self.shared.book().open.drain(..) {
            // Already closed by its peer is as good.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        // The acceptor waits in accept: one last connection wakes it.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.cut_connections();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.closing.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let mut book = shared.book();
        book.connections += 1;
        if let Ok(handle) = stream.try_clone() {
            book.open.push(handle);
        }
        drop(book);
        let shared = Arc::clone(shared);
        shared.serving.fetch_add(1, Ordering::AcqRel);
        thread::spawn(move || {
            let peer = stream.peer_addr().ok();
            // A broken connection is the client's affair: it ends this session and nothing else.
            let _ = Conversation::new(&stream, &shared).run();
            let _ = stream.shutdown(std::net::Shutdown::Both);
            // The handle kept for cutting would hold the descriptor open.
            shared.book().open.retain(|open| open.peer_addr().ok() != peer || peer.is_none());
            shared.serving.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

/// What a conversation goes over.
enum Wire<'a> {
    Clear(&'a TcpStream),
    Tls(Box<StreamOwned<ServerConnection, &'a TcpStream>>),
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

struct Conversation<'a> {
    reader: BufReader<Wire<'a>>,
    stream: &'a TcpStream,
    shared: &'a Shared,
    reverse_path: Option<String>,
    recipients: Vec<String>,
}

impl<'a> Conversation<'a> {
    fn new(stream: &'a TcpStream, shared: &'a Shared) -> Self {
        let _ = stream.set_nodelay(true);
        Self {
            reader: BufReader::new(Wire::Clear(stream)),
            stream,
            shared,
            reverse_path: None,
            recipients: Vec::new(),
        }
    }

    fn run(&mut self) -> std::io::Result<()> {
        let peer = self.stream.peer_addr()?.ip().to_string();
        let greeting = judge(self.shared.rules.greeting.as_ref(), &peer);
        let is_welcome = greeting.is_none();
        self.say(&greeting.unwrap_or_else(|| "220 destination.example ESMTP".into()))?;
        let mut line = String::new();
        if !is_welcome {
            return Ok(());
        }
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if !self.command(line.trim_end_matches(['\r', '\n']))? {
                return Ok(());
            }
        }
    }

    fn command(&mut self, line: &str) -> std::io::Result<bool> {
        let verb = line.get(..4).unwrap_or(line).to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => {
                self.reset();
                let pipelining = if self.shared.rules.without_pipelining { "" } else { "250-PIPELINING\r\n" };
                let tls = if self.offers_tls() { "250-STARTTLS\r\n" } else { "" };
                self.say(&format!("250-destination.example\r\n{pipelining}{tls}250-SIZE\r\n250 8BITMIME"))?;
            }
            "STAR" if self.offers_tls() => return self.start_tls(),
            "HELO" => self.say("250 destination.example")?,
            "MAIL" => {
                let path = path_of(line);
                let refusal = judge(self.shared.rules.mail.as_ref(), &path);
                if refusal.is_none() {
                    self.reset();
                    self.reverse_path = Some(path);
                }
                self.say(&refusal.unwrap_or_else(|| "250 2.1.0 sender ok".into()))?;
            }
            "RCPT" if self.reverse_path.is_some() => {
                let path = path_of(line);
                self.shared.book().named.push((path.clone(), self.is_secured()));
                let refusal = judge(self.shared.rules.recipient.as_ref(), &path);
                if refusal.is_none() {
                    self.recipients.push(path);
                }
                self.say(&refusal.unwrap_or_else(|| "250 2.1.5 recipient ok".into()))?;
            }
            "DATA" if !self.recipients.is_empty() => self.data()?,
            "RSET" => {
                self.reset();
                self.say("250 2.0.0 reset")?;
            }
            "NOOP" => self.say("250 2.0.0 ok")?,
            "QUIT" => {
                self.say("221 2.0.0 bye")?;
                return Ok(false);
            }
            "RCPT" | "DATA" => self.say("503 5.5.1 no transaction")?,
            _ => self.say("500 5.5.2 unknown command")?,
        }
        Ok(true)
    }

    fn data(&mut self) -> std::io::Result<()> {
        self.say("354 go ahead")?;
        let mut content = Vec::new();
        loop {
            let start = content.len();
            if self.reader.read_until(b'\n', &mut content)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if &content[start..] == b".\r\n" {
                content.truncate(start);
                break;
            }
            if content[start] == b'.' {
                content.remove(start);
            }
        }
        let answer = judge(self.shared.rules.message.as_ref(), &self.recipients.join(","));
        if answer.as_ref().is_none_or(|answer| answer.starts_with('2')) {
            let arrival =
                Arrival::new(self.reverse_path.as_deref().unwrap_or_default(), &self.recipients, &content);
            if let Some(observer) = &self.shared.rules.observer {
                observer.show(&arrival);
            }
            let mut book = self.shared.book();
            book.arrivals.push(arrival);
            book.secured.push(self.is_secured());
            if self.shared.rules.keep_content {
                book.contents.push(content);
            }
            drop(book);
            self.shared.written.notify_all();
            let recipients = self.recipients.join(",");
            if self.shared.rules.swallows_reply.as_ref().is_some_and(|swallows| swallows(&recipients)) {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
        }
        self.reset();
        self.say(&answer.unwrap_or_else(|| "250 2.0.0 taken".into()))
    }

    fn reset(&mut self) {
        self.reverse_path = None;
        self.recipients.clear();
    }

    fn say(&mut self, reply: &str) -> std::io::Result<()> {
        let line = format!("{reply}\r\n");
        match self.reader.get_mut() {
            Wire::Clear(stream) => stream.write_all(line.as_bytes()),
            Wire::Tls(stream) => stream.write_all(line.as_bytes()).and_then(|()| stream.flush()),
        }
    }

    fn is_secured(&self) -> bool {
        matches!(self.reader.get_ref(), Wire::Tls(_))
    }

    fn offers_tls(&self) -> bool {
        !self.is_secured() && !matches!(self.shared.rules.tls, Tls::Off)
    }

    /// Whether the conversation goes on.
    fn start_tls(&mut self) -> std::io::Result<bool> {
        match &self.shared.rules.tls {
            Tls::Off | Tls::Refused => self.say("454 4.7.0 no TLS now")?,
            Tls::Broken => {
                self.say("220 ready for TLS")?;
                // What is said before the client has begun would be words put into our mouth.
                self.reader.fill_buf()?;
                self.say("what is a handshake?")?;
                // What the client says to that is heard before the end, so that it is no reset.
                let _ = self.reader.read_to_end(&mut Vec::new());
                return Ok(false);
            }
            Tls::Offered(config) => {
                let config = Arc::clone(config);
                self.say("220 ready for TLS")?;
                self.reset();
                let tls = ServerConnection::new(config).map_err(std::io::Error::other)?;
                let wire = Wire::Tls(Box::new(StreamOwned::new(tls, self.stream)));
                self.reader = BufReader::new(wire);
            }
        }
        Ok(true)
    }
}

fn judge(rule: Option<&Judge>, subject: &str) -> Option<String> {
    rule.and_then(|rule| rule(subject))
}

fn path_of(line: &str) -> String {
    let start = line.find('<').map_or(line.len(), |at| at + 1);
    let end = line[start..].find('>').map_or(line.len(), |at| start + at);
    line[start..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{LedgerClient, LoadOptions};
    use crate::dialog::Dialog;
    use crate::ledger::Ledger;

    #[test]
    fn an_arrival_is_recorded_without_stuffing_and_without_the_gateways_header() {
        let destination = Destination::start();
        let content = crate::message::content(5, 1, 20_000);
        let traced = [b"Received: by relay;\r\n now\r\n", content.as_slice()].concat();
        Dialog::hello(destination.address()).deliver("a@proseware.example", &["b@far.example"], &traced);
        let arrivals = destination.wait_for(1);
        assert_eq!(arrivals[0].serial, Some(5));
        assert_eq!(arrivals[0].fingerprint, crate::message::Fingerprint::of(&content));
    }

    #[test]
    fn rules_defer_a_recipient_and_leave_the_others() {
        let recipient: Judge = Box::new(|to| to.starts_with("later").then(|| "451 4.2.0 later".into()));
        let destination = Destination::with_rules(Rules { recipient: Some(recipient), ..Rules::default() });
        let mut dialog = Dialog::hello(destination.address());
        dialog.command("MAIL FROM:<>", 250);
        dialog.command("RCPT TO:<later@far.example>", 451);
        dialog.command("RCPT TO:<now@far.example>", 250);
    }

    #[test]
    fn a_swallowed_reply_leaves_the_arrival_and_no_connection() {
        let rules = Rules { swallows_reply: Some(Box::new(|_| true)), ..Rules::default() };
        let destination = Destination::with_rules(rules);
        let mut dialog = Dialog::hello(destination.address());
        dialog.command("MAIL FROM:<a@proseware.example>", 250);
        dialog.command("RCPT TO:<b@far.example>", 250);
        dialog.command("DATA", 354);
        dialog.send("X-Ledger-Serial: 1\r\n\r\nhi\r\n.\r\n");
        assert_eq!(dialog.reply(), None);
        assert!(crate::net::eventually(crate::net::PATIENCE, || destination.is_quiet()));
        assert_eq!(destination.count(), 1);
    }

    #[test]
    fn the_client_straight_to_the_destination_is_exact() {
        let destination = Destination::start();
        let options = LoadOptions { messages_max: Some(200), ..LoadOptions::new(destination.address()) };
        let client = LedgerClient::start(options);
        let ledger = Ledger { sent: client.finish(), arrivals: destination.arrivals(), ..Ledger::default() };
        let report = ledger.check();
        report.assert_exact();
        assert_eq!(report.acknowledged, 200);
    }
}
