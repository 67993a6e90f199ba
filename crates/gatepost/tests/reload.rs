//! Reloads of a running gateway: no transaction sees a mixture of two configurations.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testbed::http::http_get;
use testbed::net::{PATIENCE, free_address};
use testbed::{Configuration, Destination, Dialog, Gateway};

/// Configurations that take turns.
const RELOADS: u32 = 30;

/// Clients beside them: every other one sends all commands at once.
const CLIENTS: u64 = 8;

/// Between two transactions of a client.
const PAUSE: Duration = Duration::from_millis(2);

/// What each configuration answers the four recipients of a transaction: a domain of its tenants' is taken,
/// that of its other tenant is to come in a separate transaction, and those of the other one belong to no tenant.
const ANSWERS: [[u16; 4]; 2] = [[250, 452, 550, 550], [550, 550, 250, 452]];

/// What the relay domains of each configuration are called by. The files of the two differ in size, so that
/// they are told apart however coarse the clock of a file system is.
const NAMES: [&str; 2] = ["first", "other-one"];

/// Two tenants in a file each, whose relay domains are called by `which`.
fn tenants(which: &str, next_hop: &Destination) -> Vec<(String, String)> {
    let tenant = |name: &str| {
        let text = format!(
            "name = \"{name}\"\nsenders = [\"@{name}.example\"]\n\n[[relay_domain]]\n\
             domains = [\"{name}-{which}.example\"]\nnext_hops = [\"{}\"]\ntls = \"off\"\n",
            next_hop.address()
        );
        (name.to_owned(), text)
    };
    vec![tenant("north"), tenant("south")]
}

/// Transactions until `is_over`; adds what each configuration decided to `seen`.
fn ask(server: SocketAddr, is_pipelined: bool, is_over: &AtomicBool, seen: &[AtomicU64; 2]) {
    let mut client = Dialog::hello(server);
    let recipients = NAMES.into_iter().flat_map(|which| ["north", "south"].map(|name| (name, which)));
    let commands: Vec<_> = ["MAIL FROM:<someone@far.example>\r\n".to_owned()]
        .into_iter()
        .chain(recipients.map(|(name, which)| format!("RCPT TO:<someone@{name}-{which}.example>\r\n")))
        .chain(["RSET\r\n".to_owned()])
        .collect();
    let begin = Instant::now();
    // Should the other side fail, this one must end too.
    while !is_over.load(Ordering::Relaxed) && begin.elapsed() < 2 * PATIENCE {
        if is_pipelined {
            client.send(commands.concat());
        }
        let codes: Vec<u16> = commands
            .iter()
            .map(|command| {
                if !is_pipelined {
                    client.send(command);
                }
                client.reply().expect("the connection goes on").code
            })
            .collect();
        assert_eq!((codes[0], codes[5]), (250, 250));
        let which = ANSWERS.iter().position(|answers| codes[1..5] == answers[..]);
        let which = which.unwrap_or_else(|| panic!("a mixture: {codes:?}"));
        seen[which].fetch_add(1, Ordering::Relaxed);
        // Each denial is logged; a reload falls among so many transactions all the same.
        std::thread::park_timeout(PAUSE);
    }
}

#[test]
fn a_transaction_beside_reloads_is_decided_by_one_configuration() {
    let next_hop = Destination::start();
    let mut configuration = Configuration::relay(next_hop.address());
    configuration.workers = 2;
    configuration.tenants = tenants(NAMES[0], &next_hop);
    let mut gateway = Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration.clone());
    let (is_over, seen) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
    let server = gateway.smtp();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (is_over, seen) = (&is_over, &seen);
            scope.spawn(move || ask(server, number % 2 == 0, is_over, seen));
        }
        for reload in 1..=RELOADS {
            configuration.tenants = tenants(NAMES[reload as usize % 2], &next_hop);
            gateway.rewrite(configuration.clone());
            gateway.signal("HUP");
            gateway.wait_metric("gatepost_policy_generation", f64::from(reload + 1));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(seen.iter().all(|seen| seen.load(Ordering::Relaxed) > u64::from(RELOADS)), "{seen:?}");
}

/// A certificate that ends in so many days, with its key; and its end, in seconds since 1970.
fn certificate(days: u64) -> (Vec<(String, String)>, f64) {
    let end = SystemTime::now() + Duration::from_secs(days * 86_400);
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.not_after = end.into();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap().pem();
    let files = vec![("own.crt".to_owned(), certificate), ("own.key".to_owned(), key.serialize_pem())];
    (files, end.duration_since(UNIX_EPOCH).unwrap().as_secs() as f64)
}

#[test]
fn a_certificate_that_ends_soon_is_said_at_the_start_and_a_reload_shows_the_end_of_the_next() {
    let mut configuration = Configuration::relay(free_address());
    configuration.listen("open", "relay", "off");
    configuration.listeners[0].tls = "starttls".into();
    configuration.node_extra = "[tls]\ncertificate = \"own.crt\"\nkey = \"own.key\"\n".into();
    let (files, end) = certificate(5);
    configuration.files = files;
    let mut gateway = Gateway::start(env!("CARGO_BIN_EXE_gatepost"), configuration.clone());
    let metric =
        |listener: &str| format!("gatepost_certificate_expiry_timestamp_seconds{{listener=\"{listener}\"}}");
    let smtp = metric(&configuration.listeners[0].name);
    gateway.wait_metric(&smtp, end);
    let text = http_get(configuration.metrics, "/metrics").unwrap().1;
    assert!(!text.contains(&metric("open")), "it presents none: {text}");
    let output = gateway.output();
    let warned = |line: &&str| line.contains("\"certificate_expiry\"") && line.contains("expires in ");
    assert_eq!(output.lines().filter(warned).count(), 1, "{output}");
    assert!(
        output.lines().any(|line| line.starts_with("warning: ") && line.contains("expires in ")),
        "{output}"
    );

    let (files, end) = certificate(400);
    configuration.files = files;
    gateway.rewrite(configuration);
    gateway.signal("HUP");
    gateway.wait_metric(&smtp, end);
    assert_eq!(gateway.output().lines().filter(warned).count(), 1);
}
