//! Those who besiege: tasks of one thread that mostly sleep, at the lowest priority.
//!
//! What is measured is what the gateway makes of them, not what they cost their core: connections are opened
//! a few at a time, one that was turned away comes again at a bounded pace, and one that asks without an
//! end lets others run between two questions.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use crate::siege::client::Client;
use crate::siege::honest::runtime;
use crate::siege::stand::{KNOWN, Ports, stranger};
use crate::storm::{NICENESS, be_nice, let_others_run, stay_beside};

/// Connections that are opened before the others have a turn.
const OPENED_AT_ONCE: usize = 100;
/// How long they have it.
const BREATH: Duration = Duration::from_millis(10);
/// A siege is laid by then, even if some still wait to be let in.
const RAISE_MAX: Duration = Duration::from_secs(4);
/// A client that is not let in by then tries again.
const STAND_MAX: Duration = Duration::from_secs(2);
/// A client that was turned away waits at least so long.
const RETURN_MIN: Duration = Duration::from_secs(2);
/// All of them together come again so often.
const RETURNS_A_SECOND: u32 = 500;
/// Between two bytes of those who send one at a time.
const DRIP: Duration = Duration::from_secs(50);
/// Those who guess logins at the same time.
const GUESSERS: u32 = 100;
/// What one waits between two: together they ask for some twenty times what is verified.
const BETWEEN_GUESSES: Duration = Duration::from_millis(100);
/// Those who guess tickets or mailboxes.
const SEEKERS: u32 = 20;
/// Recipients of one transaction: as many as end no session.
const DENIED: u32 = 9990;
/// Sent before their replies are read; a divisor of the above.
const PIPELINED: u32 = 90;

/// What they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Siege {
    /// So many silent connections of one address.
    Silent(u32),
    /// Silent connections at the ports that speak HTTP.
    Http,
    /// A thousand addresses hold what they can on every port.
    Addresses,
    /// A byte every 50 s, in each phase.
    Drip,
    /// Large messages are declared and never sent.
    Sizes,
    /// Two strangers ask for recipients that are denied.
    Recipients,
    /// Passwords are guessed.
    Logins,
    /// Tickets are guessed.
    Tickets,
    /// Mailboxes are guessed of a tenant whose next hop is asked ahead.
    CallAhead,
}

/// How far one goes before it holds its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Silent,
    Ehlo,
    Command,
    Handshake,
    StartTls,
    Auth,
    Data,
    Declared(u32),
    Http,
}

/// One connection that is to be held.
#[derive(Clone, Copy)]
struct Post {
    source: IpAddr,
    address: SocketAddr,
    phase: Phase,
    drips: bool,
}

/// A siege until it is lifted.
pub(crate) struct Raised {
    thread: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

impl Raised {
    /// Everyone leaves at once.
    pub(crate) fn lift(self) {
        // A thread that is gone has lifted it.
        let _ = self.end.send(());
        self.thread.join().expect("those who besiege give up");
    }
}

/// Lays a siege; when this returns it stands.
pub(crate) fn raise(siege: Siege, ports: Ports) -> Raised {
    let (end, is_over) = oneshot::channel();
    let (stands, has_begun) = mpsc::channel();
    let thread = thread::spawn(move || {
        stay_beside();
        be_nice(NICENESS);
        let runtime = runtime();
        runtime.block_on(async {
            let _ = timeout(RAISE_MAX, lay(siege, ports)).await;
            let _ = stands.send(());
            let _ = is_over.await;
        });
        // Every task, and with it every connection, ends here.
        runtime.shutdown_background();
    });
    has_begun.recv().expect("those who besiege give up");
    Raised { thread, end }
}

/// Begins it all, and waits until everyone has been where they want to be, or was turned away.
async fn lay(siege: Siege, ports: Ports) {
    let posts = posts(siege, ports);
    if posts.is_empty() {
        return ask_on(siege, ports).await;
    }
    let pause = RETURN_MIN.max(Duration::from_secs(1) * (posts.len() as u32 / RETURNS_A_SECOND));
    let begun = Arc::new(Semaphore::new(0));
    let count = posts.len() as u32;
    for (index, post) in posts.into_iter().enumerate() {
        tokio::spawn(hold(post, pause, Arc::clone(&begun)));
        if index % OPENED_AT_ONCE == OPENED_AT_ONCE - 1 {
            sleep(BREATH).await;
        }
    }
    let _ = begun.acquire_many(count).await;
}

/// The connections that a siege holds; none where it asks without an end.
fn posts(siege: Siege, ports: Ports) -> Vec<Post> {
    let smtp = [ports.relay, ports.relay, ports.submission, ports.implicit, ports.clear];
    let http = [ports.metrics, ports.tickets, ports.admin];
    let post = |number, address, phase| Post { source: stranger(number), address, phase, drips: false };
    match siege {
        Siege::Silent(count) => (0..count).map(|_| post(0, ports.relay, Phase::Silent)).collect(),
        Siege::Http => {
            let each = (0..900).map(|number| (number, http[number as usize % http.len()]));
            each.map(|(number, address)| post(number % 3, address, Phase::Http)).collect()
        }
        Siege::Addresses => {
            let of_one = |number| {
                let silent = smtp.into_iter().map(move |address| post(number, address, Phase::Silent));
                let known = [ports.relay, ports.submission, ports.clear];
                let greeted = known.into_iter().map(move |address| post(number, address, Phase::Ehlo));
                silent.chain(greeted).chain(http.into_iter().map(move |at| post(number, at, Phase::Http)))
            };
            (0..1000).flat_map(of_one).collect()
        }
        Siege::Drip => {
            let phases = [
                (ports.relay, Phase::Command),
                (ports.implicit, Phase::Handshake),
                (ports.submission, Phase::StartTls),
                (ports.clear, Phase::Auth),
                (ports.relay, Phase::Data),
            ];
            let each = (0..8000).map(|number| (number, phases[number as usize % phases.len()]));
            each.map(|(number, (at, phase))| Post { drips: true, ..post(number / 8, at, phase) }).collect()
        }
        Siege::Sizes => {
            // Together more than the budget for unfinished messages, the last with no room for the smallest of large ones.
            let declared = |number| Phase::Declared(if number < 16 { 64_000_000 } else { 1_060_000 });
            (0..200).map(|number| post(number, ports.relay, declared(number))).collect()
        }
        Siege::Recipients | Siege::Logins | Siege::Tickets | Siege::CallAhead => Vec::new(),
    }
}

/// Takes its post, and takes it again when it was turned away.
async fn hold(post: Post, pause: Duration, begun: Arc<Semaphore>) {
    let mut is_first = true;
    loop {
        let stands = timeout(STAND_MAX, post.stand()).await;
        if std::mem::take(&mut is_first) {
            begun.add_permits(1);
        }
        if let Ok(Ok(client)) = stands {
            post.stay(client).await;
        }
        sleep(pause).await;
    }
}

impl Post {
    async fn stand(self) -> io::Result<Client> {
        // The head of a ClientHello record: a handshake that has begun.
        const RECORD: &[u8] = &[22, 3, 1, 2, 0];
        let Self { source, address, phase, .. } = self;
        if phase == Phase::Silent {
            return Client::connect(source, address).await;
        }
        if matches!(phase, Phase::Http | Phase::Handshake) {
            let mut client = Client::connect(source, address).await?;
            client.send(if phase == Phase::Http { b"GET /h" } else { RECORD }).await?;
            return Ok(client);
        }
        let mut client = Client::hello(source, address).await?;
        match phase {
            Phase::Command => client.send("MA").await?,
            Phase::StartTls => {
                client.ask("STARTTLS", 220).await?;
                client.send(RECORD).await?;
            }
            Phase::Auth => {
                client.ask("AUTH LOGIN", 334).await?;
                client.send("d").await?;
            }
            Phase::Data | Phase::Declared(_) => {
                let size = match phase {
                    Phase::Declared(bytes) => format!(" SIZE={bytes}"),
                    _ => String::new(),
                };
                client.ask(&format!("MAIL FROM:<f@stranger.example>{size}"), 250).await?;
                client.ask(&format!("RCPT TO:<{KNOWN}>"), 250).await?;
                client.ask("DATA", 354).await?;
            }
            Phase::Ehlo | Phase::Silent | Phase::Http | Phase::Handshake => {}
        }
        Ok(client)
    }

    async fn stay(self, mut client: Client) {
        if !self.drips {
            return client.read_to_end().await;
        }
        while timeout(DRIP, client.read_to_end()).await.is_err() {
            if client.send("a").await.is_err() {
                return;
            }
        }
    }
}

/// Begins to ask without an end.
async fn ask_on(siege: Siege, ports: Ports) {
    match siege {
        Siege::Recipients => (0..2).for_each(|number| again(move || ask_in_vain(stranger(number), ports))),
        Siege::Logins => (0..GUESSERS).for_each(|_| again(move || guess_logins(next_stranger(), ports))),
        Siege::Tickets => {
            (0..SEEKERS).for_each(|number| again(move || guess_ticket(stranger(number), ports)))
        }
        _ => (0..SEEKERS).for_each(|number| again(move || guess_mailboxes(stranger(number), ports))),
    }
    // The first have been answered.
    sleep(Duration::from_millis(500)).await;
}

/// Does it again and again, whatever became of it.
fn again<F: Future<Output = io::Result<()>> + Send + 'static>(work: impl Fn() -> F + Send + 'static) {
    tokio::spawn(async move {
        loop {
            // Turned away, or not answered: the next one tries.
            let _ = work().await;
            sleep(BREATH).await;
        }
    });
}

/// An address that has not been used: limits are by address.
fn next_stranger() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    stranger(NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn begin(source: IpAddr, address: SocketAddr) -> io::Result<Client> {
    let mut client = Client::hello(source, address).await?;
    client.ask("MAIL FROM:<f@stranger.example>", 250).await?;
    Ok(client)
}

async fn ask_in_vain(source: IpAddr, ports: Ports) -> io::Result<()> {
    let mut client = begin(source, ports.relay).await?;
    // With one that is taken the others count as no errors.
    client.ask(&format!("RCPT TO:<{KNOWN}>"), 250).await?;
    for batch in 0..DENIED / PIPELINED {
        let commands: String =
            (0..PIPELINED).map(|n| format!("RCPT TO:<t{batch}.{n}@elsewhere.example>\r\n")).collect();
        client.send(commands).await?;
        for _ in 0..PIPELINED {
            client.expect("a recipient", 550).await?;
        }
        let_others_run();
    }
    Ok(())
}

async fn guess_logins(source: IpAddr, ports: Ports) -> io::Result<()> {
    // `nobody@proseware.example`, and one who is there, each with a password that is wrong.
    const GUESSES: [&str; 2] = [
        "AUTH PLAIN AG5vYm9keUBwcm9zZXdhcmUuZXhhbXBsZQBndWVzcw==",
        "AUTH PLAIN AHRlcnJpQHByb3Nld2FyZS5leGFtcGxlAGd1ZXNz",
    ];
    let mut client = Client::hello(source, ports.clear).await?;
    for guess in GUESSES {
        client.ask(guess, 535).await?;
        sleep(BETWEEN_GUESSES).await;
    }
    Ok(())
}

async fn guess_ticket(source: IpAddr, ports: Ports) -> io::Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Client::get(source, ports.tickets, &format!("/{number:012}A")).await?;
    let_others_run();
    Ok(())
}

async fn guess_mailboxes(source: IpAddr, ports: Ports) -> io::Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut client = begin(source, ports.relay).await?;
    client.ask(&format!("RCPT TO:<{KNOWN}>"), 250).await?;
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        client.send(format!("RCPT TO:<g{number}@proseware.example>\r\n")).await?;
        client.reply().await?;
        let_others_run();
    }
}
