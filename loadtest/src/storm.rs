//! A storm: strangers who pipeline recipients that are denied, and the mail of a tenant beside it.
//!
//! It measures what one denial costs each server, and how long an accepted message waits from its
//! last dot to its 250 without the storm and within it.

use std::fmt;
use std::io::{BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testbed::Dialog;
use testbed::dialog::read_reply;

use crate::servers::{Server, Sink, beside};

/// Who connects at the same time.
pub(crate) const STRANGERS: u64 = 200;
/// Recipients that are sent before their replies are read.
const PIPELINED: u64 = 50;
/// Batches of one connection, all in one transaction.
const BATCHES: u64 = 10;
/// Accepted messages that are timed without the storm and beside it, so that the p99 has twenty above it;
/// in turn, so that what else the machine does meets both.
const TIMED: usize = 2000;
const TURNS: usize = 5;
/// The strangers stand below all else on their core, and the timed client above: what this one
/// waits for is the server.
pub(crate) const NICENESS: i32 = 19;
pub(crate) const NICENESS_OF_TIMED: i32 = -20;
/// The core of the strangers and of the timed client; the server has the other one.
const CORE: usize = 1;

/// What was found of one server.
struct Found {
    name: &'static str,
    denials: u64,
    cpu_micros_per_denial: f64,
    mail: Mail,
}

/// Accepted mail without a storm and beside it.
pub(crate) struct Mail {
    quiet: Latency,
    beside_storm: Latency,
    /// What the server answered the strangers meanwhile.
    pub(crate) answers_a_second: f64,
    /// The part of its core that the server used beside the storm.
    busy: f64,
}

struct Latency {
    median: Duration,
    p99: Duration,
}

impl Latency {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { median: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
    }
}

/// Measures both servers, one after the other, `rounds` times.
pub(crate) fn run(gatepost: &Path, rounds: u32) -> Result<(), String> {
    for round in 1..=rounds {
        let mut costs = Vec::new();
        for is_gatepost in [true, false] {
            let destination = Sink::start(beside())?;
            let server = match is_gatepost {
                true => Server::gatepost(gatepost, Some(destination.address())),
                false => Server::postfix(Some(destination.address()))?,
            };
            let found = measure(&server, if is_gatepost { "Gatepost" } else { "Postfix" })?;
            println!("storm, round {round}: {found}");
            costs.push(found.cpu_micros_per_denial);
        }
        println!(
            "storm, round {round}: a denial costs Postfix {:.1} times Gatepost's CPU",
            costs[1] / costs[0]
        );
    }
    Ok(())
}

fn measure(server: &Server, name: &'static str) -> Result<Found, String> {
    let address = server.address();
    let ask = move |denials: &AtomicU64, ending: &AtomicBool| ask_in_vain(address, denials, ending);
    // Processes are started and segments made before anything is timed.
    time_accepted(address, 50);
    blow(1, ask).wait();
    let before = server.meter().cpu_micros(server.root())?;
    let denials = blow(1, ask).wait();
    let cpu = server.meter().cpu_micros(server.root())? - before;
    let mail = Mail::in_turn(server, ask)?;
    Ok(Found { name, denials, cpu_micros_per_denial: cpu as f64 / denials as f64, mail })
}

impl Mail {
    /// Times it without and beside a storm of those who `ask`, in turn.
    pub(crate) fn in_turn(
        server: &Server,
        ask: impl Fn(&AtomicU64, &AtomicBool) + Copy + Send + 'static,
    ) -> Result<Self, String> {
        let address = server.address();
        let (mut quiet, mut beside_storm) = (Vec::new(), Vec::new());
        let (mut answered, mut used, mut passed) = (0, 0, Duration::ZERO);
        for _ in 0..TURNS {
            quiet.extend(time_accepted(address, TIMED / TURNS));
            let storm = blow(u64::MAX, ask);
            let (begin, before, so_far) =
                (Instant::now(), server.meter().cpu_micros(server.root())?, storm.answers());
            beside_storm.extend(time_accepted(address, TIMED / TURNS));
            answered += storm.answers() - so_far;
            used += server.meter().cpu_micros(server.root())? - before;
            passed += begin.elapsed();
            storm.end();
        }
        Ok(Self {
            quiet: Latency::of(quiet),
            beside_storm: Latency::of(beside_storm),
            answers_a_second: answered as f64 / passed.as_secs_f64(),
            busy: used as f64 / passed.as_micros() as f64,
        })
    }
}

impl fmt::Display for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(
            f,
            "accepted mail p50 {:.2} ms and p99 {:.2} ms without the storm, p50 {:.2} ms and p99 {:.2} ms beside it \
             ({:.1} times), the server's core {:.0}% busy",
            millis(self.quiet.median),
            millis(self.quiet.p99),
            millis(self.beside_storm.median),
            millis(self.beside_storm.p99),
            self.beside_storm.p99.as_secs_f64() / self.quiet.p99.as_secs_f64(),
            self.busy * 100.0
        )
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, denials, cpu_micros_per_denial, mail } = self;
        write!(
            f,
            "{name}: {denials} denials, {cpu_micros_per_denial:.2} us of CPU each; {mail}, {:.0} denials a second",
            mail.answers_a_second
        )
    }
}

/// The strangers at work: one thread for all of them.
struct Storm {
    strangers: JoinHandle<()>,
    answers: Arc<AtomicU64>,
    ending: Arc<AtomicBool>,
}

/// The strangers `ask` so often, one time after the other, and count what they are answered. The first
/// have been when this returns: a server may take its time to begin.
fn blow(times: u64, ask: impl Fn(&AtomicU64, &AtomicBool) + Send + 'static) -> Storm {
    let ending = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(AtomicU64::new(0));
    let (is_ending, answered) = (ending.clone(), answers.clone());
    let strangers = thread::spawn(move || {
        stay_beside();
        be_nice(NICENESS);
        for _ in 0..times {
            if is_ending.load(Ordering::Relaxed) {
                break;
            }
            ask(&answered, &is_ending);
        }
    });
    while answers.load(Ordering::Relaxed) == 0 && !strangers.is_finished() {
        thread::sleep(Duration::from_millis(1));
    }
    Storm { strangers, answers, ending }
}

impl Storm {
    /// So far.
    fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Waits for all; gives the number of answers.
    fn wait(self) -> u64 {
        self.strangers.join().expect("a stranger that is answered otherwise has said so");
        self.answers.load(Ordering::Relaxed)
    }

    fn end(self) {
        self.ending.store(true, Ordering::Relaxed);
        self.wait();
    }
}

/// One connection of each stranger; counts what is denied.
fn ask_in_vain(address: SocketAddr, denials: &AtomicU64, ending: &AtomicBool) {
    let mut strangers: Vec<_> = (0..STRANGERS)
        .map(|number| {
            let mut dialog = Dialog::hello_from(address_of(number), address);
            dialog.command("MAIL FROM:<f@stranger.example>", 250);
            let stream = dialog.into_stream();
            BufReader::new(stream)
        })
        .collect();
    for batch in 0..BATCHES {
        if ending.load(Ordering::Relaxed) {
            break;
        }
        let commands: String =
            (0..PIPELINED).map(|n| format!("RCPT TO:<t{batch}.{n}@elsewhere.example>\r\n")).collect();
        for stranger in &mut strangers {
            stranger.get_mut().write_all(commands.as_bytes()).expect("the server takes what is sent");
            let_others_run();
        }
        for stranger in &mut strangers {
            for _ in 0..PIPELINED {
                let reply = read_reply(stranger).expect("every recipient is answered");
                assert!(reply.code >= 500, "a stranger relayed: {reply:?}");
            }
            denials.fetch_add(PIPELINED, Ordering::Relaxed);
            let_others_run();
        }
    }
}

/// Each stranger has one.
pub(crate) fn address_of(stranger: u64) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 2, (stranger % STRANGERS) as u8 + 1))
}

/// Sends `count` messages of a tenant over one connection.
pub(crate) fn time_accepted(address: SocketAddr, count: usize) -> Vec<Duration> {
    stay_beside();
    be_nice(NICENESS_OF_TIMED);
    let mut dialog = Dialog::hello(address);
    let body = format!("Subject: timed\r\n\r\n{}\r\n.\r\n", "x".repeat(70));
    let times = (0..count)
        .map(|_| {
            dialog.command("MAIL FROM:<app@proseware.example>", 250);
            dialog.command("RCPT TO:<someone@far.example>", 250);
            dialog.command("DATA", 354);
            let begin = Instant::now();
            dialog.send(&body);
            dialog.expect(250);
            begin.elapsed()
        })
        .collect();
    be_nice(0);
    times
}

/// Sleeps for as short as the kernel can: some 60 us.
///
/// The kernel's own threads, which finish a server's durable write, run on the core that took the disk's
/// interrupt: here it is often the strangers'. No niceness lets them in before the next tick, 4 ms, where
/// the strangers' session or container is a separate group to the scheduler. That wait is not the
/// server's.
pub(crate) fn let_others_run() {
    thread::sleep(Duration::from_nanos(1));
}

/// On Linux each thread has its own priority; Postfix needs root anyway, so that it may be raised.
pub(crate) fn be_nice(niceness: i32) {
    rustix::process::setpriority_process(None, niceness).expect("root may set any priority");
}

pub(crate) fn stay_beside() {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(&core) = cores.get(CORE) {
        core_affinity::set_for_current(core);
    }
}
