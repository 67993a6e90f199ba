//! The client that keeps a ledger: threads that send numbered messages and note which 250s they saw.
//!
//! It goes on through refused and broken connections, so that a gateway may be killed under it. A
//! message is written down before its last dot leaves and is never sent twice.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use crate::dialog::{Reply, read_reply};
use crate::ledger::{Outcome, Sent};
use crate::message::{Fingerprint, content, to_wire};
use crate::net::PATIENCE;
use crate::observer::Observer;
use crate::random::Random;

/// What the client sends, and how fast.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The gateway.
    pub target: SocketAddr,
    /// Connections at a time; one thread each.
    pub sessions: usize,
    /// Messages in all; without it the client sends until it is stopped.
    pub messages_max: Option<u64>,
    /// Most messages on one connection; how many is drawn for each.
    pub messages_per_connection_max: u64,
    /// Most recipients of a message; how many is drawn for each.
    pub recipients_max: u64,
    /// Largest body in bytes; how large is drawn for each.
    pub body_bytes_max: u64,
    /// The reverse-path.
    pub reverse_path: String,
    /// The domain of the recipients.
    pub recipient_domain: String,
    /// What the run is drawn from.
    pub seed: u64,
    /// The first serial number: several clients of one ledger must not overlap.
    pub first_serial: u64,
    /// Shown each message the moment its end is known, before the next one begins on its connection.
    pub observer: Option<Observer<Sent>>,
}

impl LoadOptions {
    /// Eight sessions of small messages to `target`, without end.
    #[must_use]
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            sessions: 8,
            messages_max: None,
            messages_per_connection_max: 8,
            recipients_max: 3,
            body_bytes_max: 8 * 1024,
            reverse_path: "ledger@proseware.example".into(),
            recipient_domain: "far.example".into(),
            seed: 1,
            first_serial: 1,
            observer: None,
        }
    }
}

#[derive(Debug)]
struct Shared {
    options: LoadOptions,
    next: AtomicU64,
    acknowledged: AtomicU64,
    stopping: AtomicBool,
    sent: Mutex<Vec<Sent>>,
    progress: Condvar,
}

impl Shared {
    fn note(&self, sent: Sent) {
        if let Some(observer) = &self.options.observer {
            observer.show(&sent);
        }
        if sent.outcome == Outcome::Acknowledged {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        self.sent.lock().expect("no client thread panics while it holds the ledger").push(sent);
        self.progress.notify_all();
    }

    fn next_serial(&self) -> Option<u64> {
        if self.stopping.load(Ordering::Acquire) {
            return None;
        }
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (self.options.messages_max.is_none_or(|max| index < max)).then(|| self.options.first_serial + index)
    }
}

/// A running client.
#[derive(Debug)]
pub struct LedgerClient {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl LedgerClient {
    /// Starts sending.
    #[must_use]
    pub fn start(options: LoadOptions) -> Self {
        let sessions = options.sessions;
        let shared = Arc::new(Shared {
            options,
            next: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            sent: Mutex::default(),
            progress: Condvar::new(),
        });
        let threads = (0..sessions)
            .map(|session| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || send_all(&shared, session as u64))
            })
            .collect();
        Self { shared, threads }
    }

    /// Messages acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `count` messages are acknowledged, at most for `patience`; says whether they are.
    #[must_use]
    pub fn wait_acknowledged(&self, count: u64, patience: Duration) -> bool {
        let sent = self.shared.sent.lock().expect("see Shared::note");
        let (_sent, timeout) = self
            .shared
            .progress
            .wait_timeout_while(sent, patience, |_| self.acknowledged() < count)
            .expect("see Shared::note");
        !timeout.timed_out()
    }

    /// Begins no further message and waits for those that are under way.
    #[must_use]
    pub fn stop(self) -> Vec<Sent> {
        self.shared.stopping.store(true, Ordering::Release);
        self.finish()
    }

    /// Waits until all messages of `messages_max` are sent.
    ///
    /// # Panics
    /// When a session panicked.
    #[must_use]
    pub fn finish(self) -> Vec<Sent> {
        for thread in self.threads {
            thread.join().expect("a client session panicked");
        }
        std::mem::take(&mut *self.shared.sent.lock().expect("see Shared::note"))
    }
}

/// Before the next attempt at a gateway that is being restarted, or has no room: nothing tells us when that ends.
const PAUSE: Duration = Duration::from_millis(5);

fn send_all(shared: &Shared, session: u64) {
    let mut random = Random::new(shared.options.seed.wrapping_add(session.wrapping_mul(7919)));
    let mut held = None;
    loop {
        let Some(serial) = held.take().or_else(|| shared.next_serial()) else { return };
        let Some(mut connection) = Connection::open(shared.options.target) else {
            if shared.stopping.load(Ordering::Acquire) {
                return;
            }
            held = Some(serial);
            thread::park_timeout(PAUSE);
            continue;
        };
        let quota = 1 + random.below(shared.options.messages_per_connection_max);
        let mut next = Some(serial);
        for _ in 0..quota {
            let Some(serial) = next.take().or_else(|| shared.next_serial()) else { break };
            if !connection.transaction(shared, serial, &mut random) {
                thread::park_timeout(PAUSE);
                break;
            }
        }
        connection.quit();
    }
}

struct Connection {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Connection {
    fn open(target: SocketAddr) -> Option<Self> {
        let writer = TcpStream::connect_timeout(&target, PATIENCE).ok()?;
        // Loopback may connect a socket to itself when the port is free and ephemeral.
        if writer.local_addr().ok() == writer.peer_addr().ok() {
            return None;
        }
        writer.set_read_timeout(Some(PATIENCE)).ok()?;
        writer.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(writer.try_clone().ok()?);
        if let Err(error) = reader.fill_buf() {
            // Seen once in some thousand kills, on a machine with seven processes a core: whether the gateway or
            // the listener of one that was killed kept it waiting is not known.
            if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                eprintln!("a client was not greeted in {PATIENCE:?}, and tries again");
            }
            return None;
        }
        let mut connection = Self { writer, reader };
        if read_reply(&mut connection.reader)?.code != 220 {
            return None;
        }
        connection.ask(b"EHLO ledger.proseware.example\r\n").filter(Reply::is_positive)?;
        Some(connection)
    }

    fn ask(&mut self, bytes: &[u8]) -> Option<Reply> {
        self.writer.write_all(bytes).ok()?;
        read_reply(&mut self.reader)
    }

    /// Sends one message and notes how it went; false when the connection is of no more use.
    fn transaction(&mut self, shared: &Shared, serial: u64, random: &mut Random) -> bool {
        let options = &shared.options;
        let body_bytes =
            usize::try_from(random.below(options.body_bytes_max)).expect("a body fits in memory");
        let content = content(serial, options.seed, body_bytes);
        let mut sent = Sent {
            serial,
            reverse_path: options.reverse_path.clone(),
            recipients: Vec::new(),
            fingerprint: Fingerprint::of(&content),
            outcome: Outcome::Unknown,
        };
        let recipients = 1 + random.below(options.recipients_max);
        let end = self.envelope(&mut sent, recipients, &options.recipient_domain).and_then(|()| {
            // Every other message leaves in two pieces, so that dots and line ends meet packet borders.
            let wire = to_wire(&content);
            let cut = if random.below(2) == 0 { random.below(wire.len() as u64) as usize } else { 0 };
            self.writer.write_all(&wire[..cut]).ok()?;
            self.ask(&wire[cut..])
        });
        sent.outcome = match end {
            Some(Reply { code: 250, .. }) => Outcome::Acknowledged,
            Some(Reply { code: 500.., .. }) => Outcome::Refused,
            _ => Outcome::Unknown,
        };
        shared.note(sent);
        end.is_some()
    }

    /// MAIL, RCPT and DATA; none when a step is refused or the connection breaks.
    fn envelope(&mut self, sent: &mut Sent, recipients: u64, domain: &str) -> Option<()> {
        let mail = format!("MAIL FROM:<{}> BODY=8BITMIME\r\n", sent.reverse_path);
        self.ask(mail.as_bytes()).filter(Reply::is_positive)?;
        for index in 0..recipients {
            let recipient = format!("r{index}.{}@{domain}", sent.serial);
            if self.ask(format!("RCPT TO:<{recipient}>\r\n").as_bytes())?.is_positive() {
                sent.recipients.push(recipient);
            }
        }
        self.ask(b"DATA\r\n").filter(|reply| reply.code == 354).map(|_| ())
    }

    fn quit(mut self) {
        // The gateway may be gone; there is nothing left to lose on this connection.
        let _ = self.ask(b"QUIT\r\n");
    }
}
