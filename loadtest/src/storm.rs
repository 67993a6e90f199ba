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
const STRANGERS: u64 = 200;
/// Recipients that are sent before their replies are read.
const PIPELINED: u64 = 50;
/// Batches of one connection, all in one transaction.
const BATCHES: u64 = 10;
/// Accepted messages that are timed without the storm and beside it, so that the p99 has twenty above it;
/// in turn, so that what else the machine does meets both.
const TIMED: usize = 2000;
const TURNS: usize = 5;
/// The strangers stand below whoever else is on their core, and the timed client above: what this one
/// waits for is the server.
const NICENESS: i32 = 19;
const NICENESS_OF_TIMED: i32 = -20;
/// The core of the strangers and of the timed client; the server has the other one.
const CORE: usize = 1;

/// What was found of one server.
pub(crate) struct Found {
    name: &'static str,
    denials: u64,
    cpu_micros_per_denial: f64,
    quiet: Latency,
    beside_storm: Latency,
    /// What the server had to do meanwhile.
    denials_a_second: f64,
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
    // Processes are started and segments made before anything is timed.
    time_accepted(address, 50);
    blow(address, 1).wait();
    let before = server.meter().cpu_micros(server.root())?;
    let denials = blow(address, 1).wait();
    let cpu = server.meter().cpu_micros(server.root())? - before;
    let (mut quiet, mut beside_storm) = (Vec::new(), Vec::new());
    let (mut denied, mut used, mut passed) = (0, 0, Duration::ZERO);
    for _ in 0..TURNS {
        quiet.extend(time_accepted(address, TIMED / TURNS));
        let storm = blow(address, u64::MAX);
        let (begin, before, so_far) =
            (Instant::now(), server.meter().cpu_micros(server.root())?, storm.denials());
        beside_storm.extend(time_accepted(address, TIMED / TURNS));
        denied += storm.denials() - so_far;
        used += server.meter().cpu_micros(server.root())? - before;
        passed += begin.elapsed();
        storm.end();
    }
    Ok(Found {
        name,
        denials,
        cpu_micros_per_denial: cpu as f64 / denials as f64,
        quiet: Latency::of(quiet),
        beside_storm: Latency::of(beside_storm),
        denials_a_second: denied as f64 / passed.as_secs_f64(),
        busy: used as f64 / passed.as_micros() as f64,
    })
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(
            f,
            "{}: {} denials, {:.2} us of CPU each; accepted mail p50 {:.2} ms and p99 {:.2} ms without the storm, \
             p50 {:.2} ms and p99 {:.2} ms beside it ({:.1} times), {:.0} denials a second, its core {:.0}% busy",
            self.name,
            self.denials,
            self.cpu_micros_per_denial,
            millis(self.quiet.median),
            millis(self.quiet.p99),
            millis(self.beside_storm.median),
            millis(self.beside_storm.p99),
            self.beside_storm.p99.as_secs_f64() / self.quiet.p99.as_secs_f64(),
            self.denials_a_second,
            self.busy * 100.0
        )
    }
}

/// The strangers at work: one thread for all of them.
struct Storm {
    strangers: JoinHandle<()>,
    denials: Arc<AtomicU64>,
    ending: Arc<AtomicBool>,
}

/// Every stranger makes `connections` connections, one after the other. The first have been denied
/// something when this returns: a server may take its time to begin.
fn blow(address: SocketAddr, connections: u64) -> Storm {
    let ending = Arc::new(AtomicBool::new(false));
    let denials = Arc::new(AtomicU64::new(0));
    let (is_ending, denied) = (ending.clone(), denials.clone());
    let strangers = thread::spawn(move || {
        stay_beside();
        be_nice(NICENESS);
        for _ in 0..connections {
            if is_ending.load(Ordering::Relaxed) {
                break;
            }
            ask_in_vain(address, &denied, &is_ending);
        }
    });
    while denials.load(Ordering::Relaxed) == 0 && !strangers.is_finished() {
        thread::sleep(Duration::from_millis(1));
    }
    Storm { strangers, denials, ending }
}

impl Storm {
    /// So far.
    fn denials(&self) -> u64 {
        self.denials.load(Ordering::Relaxed)
    }

    /// Waits for all; gives the number of denials.
    fn wait(self) -> u64 {
        self.strangers.join().expect("a stranger that is not denied has said so");
        self.denials.load(Ordering::Relaxed)
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
            let source = IpAddr::V4(Ipv4Addr::new(127, 0, 2, (number % 200) as u8 + 1));
            let mut dialog = Dialog::hello_from(source, address);
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

/// Sends `count` messages of a tenant over one connection.
fn time_accepted(address: SocketAddr, count: usize) -> Vec<Duration> {
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
/// the strangers' session or container is a group of its own to the scheduler. That wait is not the
/// server's.
fn let_others_run() {
    thread::sleep(Duration::from_nanos(1));
}

/// On Linux a thread has a priority of its own; Postfix needs root anyway, so that it may be raised.
fn be_nice(niceness: i32) {
    rustix::process::setpriority_process(None, niceness).expect("root may set any priority");
}

pub(crate) fn stay_beside() {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(&core) = cores.get(CORE) {
        core_affinity::set_for_current(core);
    }
}
