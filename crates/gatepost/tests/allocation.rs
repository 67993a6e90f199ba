//! In steady state the data plane allocates nothing for a command, and holds no configuration that is
//! out of force.
//!
//! A real worker on a real ring runs on the test's own thread, where allocations are counted; the
//! client has a separate thread, where they are not.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use commons::{Commons, Subject, Suspension};
use delivery::{ClientTlsConfigs, Delivery, DeliverySettings, Retry};
use gatepost::worker::{Commits, Life, SPOOL_ROOM, Worker};
use ingress::{Ingress, ListenerSettings};
use mail::{SuspensionCause, UnixMillis};
use observe::{Form, LogWriter, Registry};
use ring::uring::{UringOptions, UringRing};
use ring::{RealDisk, Ring as _};
use smtp::server::TlsMode;
use spool::{Options, Spool};
use testbed::Configuration;

/// Rounds of commands before the count begins: every buffer has its size then.
const WARM_UP: u32 = 200;
/// Rounds that are counted.
const COUNTED: u32 = 2000;
/// The counted rounds are looked at in this many parts.
const WINDOWS: u32 = 4;
/// One round: a transaction with two recipients and a denied third, and the commands around it.
const ROUND: [(&str, &str); 6] = [
    ("NOOP", "250"),
    ("MAIL FROM:<orders@proseware.example> SIZE=1000", "250"),
    ("RCPT TO:<bob@adatum.example>", "250"),
    ("RCPT TO:<terri@adatum.example>", "250"),
    ("RCPT TO:<bob%adatum.example@proseware.example>", "550"),
    ("RSET", "250"),
];

/// Limits that are asked and charged at each command, and never reached.
const LIMITS: &str = "[limits]\nmessages_per_minute = 1000000\nrecipients_per_day = 1000000\n\
                      [limits.network]\nbytes_per_hour = \"1TiB\"\n\
                      [limits.client]\nconnections = 10\nrecipients_per_second = 1000000\n\
                      [containment]\ndenials = \"1000000/1h\"\n";

#[test]
fn commands_allocate_nothing() {
    let directory = tempfile::tempdir().expect("a temporary folder can be made");
    let mut configuration = Configuration::relay(testbed::net::free_address());
    configuration.tenants[0].1.push_str(LIMITS);
    let address = configuration.listeners[0].address;
    let mut worker = worker(&configuration, directory.path());
    worker.ingress.open(&mut worker.ring, false).expect("the port is free");

    let rounds = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&rounds);
    let client = std::thread::spawn(move || converse(address, &seen));
    turn_until(&mut worker, &rounds, WARM_UP);
    // The shard zeroes its next segment in the background, and names it: that happens in one window,
    // not in all, and would not show as nothing if commands allocated.
    let windows = (1..=WINDOWS).map(|window| {
        let enough = WARM_UP + window * COUNTED / WINDOWS;
        allocation_counter::measure(|| turn_until(&mut worker, &rounds, enough)).count_total
    });
    let windows: Vec<u64> = windows.collect();
    let commands = COUNTED / WINDOWS * ROUND.len() as u32;
    assert!(windows.contains(&0), "allocations in windows of {commands} commands: {windows:?}");
    // On a busy machine that work comes later and in more pieces; what a round allocated would show
    // two thousand times.
    let few = u64::from(COUNTED / 20);
    assert!(windows.iter().sum::<u64>() < few, "allocations in windows of {commands} commands: {windows:?}");
    turn_until(&mut worker, &rounds, u32::MAX);
    client.join().expect("the client ends well");
}

/// More than one turn renews.
const IDLE: usize = 70;

#[test]
fn a_configuration_out_of_force_is_freed_although_idle_sessions_live_on() {
    let directory = tempfile::tempdir().expect("a temporary folder can be made");
    let configuration = Configuration::relay(testbed::net::free_address());
    let mut worker = worker(&configuration, directory.path());
    let commons = Arc::clone(worker.link.commons());
    let address = configuration.listeners[0].address;
    worker.ingress.open(&mut worker.ring, false).expect("the port is free");
    let mut streams: Vec<_> =
        (0..IDLE).map(|_| TcpStream::connect(address).expect("the worker listens")).collect();
    let mut say = |worker: &mut Worker<UringRing>, index: usize, command: &str, code: &str| {
        let stream: &mut TcpStream = &mut streams[index];
        stream.write_all(command.as_bytes()).expect("the connection stands");
        stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a socket takes the option");
        let mut reply = [0; 512];
        for _ in 0..TURNS_MAX {
            turn_once(worker);
            if let Ok(bytes) = stream.read(&mut reply) {
                assert!(reply[..bytes].starts_with(code.as_bytes()), "{}", reply[..bytes].escape_ascii());
                return;
            }
        }
        panic!("no answer to {command}");
    };
    for index in 0..IDLE {
        say(&mut worker, index, "", "220");
    }
    for command in ["HELO client.example\r\n", "MAIL FROM:<orders@proseware.example>\r\n"] {
        say(&mut worker, 0, command, "250");
    }
    let mut next = config::Config::load(&configuration.write(directory.path())).expect("as before").snapshot;
    next.generation += 1;
    commons.publish(next);
    (0..TURNS_MAX).for_each(|_| turn_once(&mut worker));
    assert_eq!(commons.free_retired(), 1, "a transaction keeps what it began with");
    say(&mut worker, 0, "RSET\r\n", "250");
    assert_eq!(commons.free_retired(), 0, "no other does");
    say(&mut worker, IDLE - 1, "NOOP\r\n", "250");
}

/// Turns of a worker in which all has happened that will.
const TURNS_MAX: usize = 200;

fn turn_once(worker: &mut Worker<UringRing>) {
    let deadline = worker.ring.now().after(Duration::from_millis(1));
    worker.turn_until(Some(deadline)).expect("the ring turns");
}

fn turn_until(worker: &mut Worker<UringRing>, rounds: &AtomicU32, enough: u32) {
    while rounds.load(Ordering::Acquire) < enough {
        let deadline = worker.ring.now().after(Duration::from_millis(5));
        worker.turn_until(Some(deadline)).expect("the ring turns");
    }
}

/// Speaks in rounds; says how many are over, and `u32::MAX` at the end.
fn converse(address: SocketAddr, rounds: &AtomicU32) {
    let mut stream = TcpStream::connect(address).expect("the worker listens");
    stream.set_nodelay(true).expect("a socket takes the option");
    let mut replies = BufReader::new(stream.try_clone().expect("a socket can be shared"));
    let mut line = String::new();
    let mut expect = |replies: &mut BufReader<TcpStream>, code: &str| {
        loop {
            line.clear();
            replies.read_line(&mut line).expect("the worker answers");
            assert!(line.starts_with(code), "{line}");
            if line.as_bytes().get(3) == Some(&b' ') {
                return;
            }
        }
    };
    expect(&mut replies, "220");
    stream.write_all(b"EHLO client.example\r\n").expect("the worker reads");
    expect(&mut replies, "250");
    for round in 1..=WARM_UP + COUNTED {
        for (command, code) in ROUND {
            stream.write_all(format!("{command}\r\n").as_bytes()).expect("the worker reads");
            expect(&mut replies, code);
        }
        rounds.store(round, Ordering::Release);
    }
    rounds.store(u32::MAX, Ordering::Release);
}

fn worker(configuration: &Configuration, directory: &Path) -> Worker<UringRing> {
    let loaded = config::Config::load(&configuration.write(directory)).expect("the test's files are right");
    let (commons, links, _control) = Commons::new(1, loaded.snapshot);
    let link = links.into_iter().next().expect("there is one worker");
    // One login is suspended, so that every one is looked up.
    let somebody =
        Subject::Client { tenant: Some("proseware".into()), ip: "127.0.9.9".parse().expect("an address") };
    let suspension = Suspension { cause: SuspensionCause::Operator, since: UnixMillis(1), until: None };
    commons.limits().suspensions().suspend(&somebody, suspension).expect("there is room");
    let mut ring = UringRing::new(UringOptions::default()).expect("this host allows a ring");
    link.attach(ring.waker());
    let spool = shard(&mut ring, directory.join("spool"));
    let settings = ingress_settings(&loaded.node.listeners[0]);
    let ingress = Ingress::new(settings, &mut ring);
    let registry = Registry::new(1, &["smtp"], 1);
    let log = LogWriter::start(std::io::sink(), Form::Json, "test", &registry).expect("a thread can be had");
    Worker {
        snapshots: commons.snapshot_cache(),
        metrics: registry.worker(0),
        log: log.log(),
        ring,
        ingress,
        spool,
        delivery: delivery(),
        link,
        completions: Vec::new(),
        commits: Commits::default(),
        life: Life::default(),
    }
}

fn shard(ring: &mut UringRing, root: PathBuf) -> Spool {
    spool::claim(&mut RealDisk::default(), &root, "a test").expect("the folder is ours");
    let options = Options {
        directory: root,
        shard: 0,
        segment_bytes: 4 << 20,
        capacity_bytes: 64 << 20,
        segments_max: spool::SEGMENTS_MAX,
        hot_bytes_max: 1 << 20,
        compaction_bytes_per_second: spool::COMPACTION_BYTES_PER_SECOND_DEFAULT,
        token_room: SPOOL_ROOM,
        salt: 1,
    };
    let (spool, _) = Spool::open(ring, options, 1).expect("a new shard opens");
    spool
}

fn ingress_settings(listener: &config::ListenerConfig) -> ingress::Settings {
    ingress::Settings {
        hostname: "relay.example".into(),
        worker: 0,
        places: Arc::new(commons::Places::new(200)),
        leaving_max: 16,
        backlog: ingress::BACKLOG,
        contact: None,
        public_url: None,
        submission_port: None,
        peers: ingress::Peers::default(),
        login: ingress::LoginSettings::with_secret([7; 32]),
        dns_lists: false,
        unfinished: Arc::new(commons::Unfinished::new(32 << 20, 16 << 20)),
        listeners: vec![ListenerSettings {
            policy: listener.policy.clone(),
            session: Arc::new(smtp::server::Settings {
                hostname: "relay.example".into(),
                tls: TlsMode::Off,
                tls_config: None,
                auth_without_tls: false,
                message_bytes_max: None,
                limits: mail::limits::SessionLimits::default(),
            }),
            address: listener.address,
        }],
    }
}

fn delivery() -> Delivery {
    let hour = Duration::from_secs(3600);
    Delivery::new(DeliverySettings {
        hostname: "relay.example".into(),
        worker: 0,
        retry: Retry { first: hour, longest: hour, expire: hour },
        tls: ClientTlsConfigs::new(rustls::RootCertStore::empty()).expect("no certificate is needed"),
        connections_max: 256,
        private_destinations: true,
    })
}
