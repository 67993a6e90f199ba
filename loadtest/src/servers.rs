//! The three servers that are measured, the generator, and the destination.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testbed::postfix::{self, Postfix};
use testbed::{Configuration, Gateway};

use crate::Options;
use crate::meter::Meter;

/// How long a queue may take to empty.
const DRAIN_MAX: Duration = Duration::from_secs(600);

/// A running server under its meter.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    meter: Meter,
}

#[derive(Debug)]
enum Process {
    Gatepost(Box<Gateway>),
    Postfix(Postfix),
    Sink(Sink),
}

/// Relays for loopback. Without `relay_to` it holds what it accepts, the cheapest that it can do with
/// mail that must not leave.
pub(crate) fn start_postfix(relay_to: Option<SocketAddr>, wrapper: &[String]) -> Result<Postfix, String> {
    let client = if relay_to.is_some() { "" } else { "check_client_access static:HOLD" };
    let main = format!(
        "mynetworks = 127.0.0.1/32\nsmtpd_relay_restrictions = permit_mynetworks, reject\n\
         smtpd_client_restrictions = {client}\n"
    );
    Postfix::start(postfix::Settings { relay_to, main: &main, wrapper })
}

impl Server {
    /// Gatepost; without `relay_to` its next hop is down.
    pub(crate) fn gatepost(binary: &Path, relay_to: Option<SocketAddr>) -> Self {
        Self::gatepost_with(binary, relay_to, |_| {})
    }

    /// The same with a configuration that was changed.
    pub(crate) fn gatepost_with(
        binary: &Path,
        relay_to: Option<SocketAddr>,
        change: impl FnOnce(&mut Configuration),
    ) -> Self {
        let meter = Meter::new();
        let next_hop = relay_to.unwrap_or_else(testbed::net::free_address);
        let mut configuration = Configuration::relay(next_hop);
        // A client from another loopback address is a stranger.
        for (_, tenant) in &mut configuration.tenants {
            *tenant = tenant.replace("127.0.0.0/8", "127.0.0.1");
        }
        // Every next hop is a route's, and an earlier build need not know the section.
        let section = "[delivery]\nprivate_destinations = true\n";
        configuration.node_extra = configuration.node_extra.replace(section, "");
        change(&mut configuration);
        let gateway = Gateway::start_under(binary, configuration, meter.wrapper());
        Self { process: Process::Gatepost(Box::new(gateway)), meter }
    }

    /// Postfix; without `relay_to` it holds its mail.
    pub(crate) fn postfix(relay_to: Option<SocketAddr>) -> Result<Self, String> {
        let meter = Meter::new();
        let postfix = start_postfix(relay_to, &meter.wrapper())?;
        Ok(Self { process: Process::Postfix(postfix), meter })
    }

    /// smtp-sink, which throws everything away: the floor.
    pub(crate) fn sink() -> Result<Self, String> {
        let meter = Meter::new();
        let sink = Sink::start(meter.wrapper())?;
        Ok(Self { process: Process::Sink(sink), meter })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match &self.process {
            Process::Gatepost(gateway) => gateway.smtp(),
            Process::Postfix(postfix) => postfix.address(),
            Process::Sink(sink) => sink.address,
        }
    }

    pub(crate) fn root(&self) -> u32 {
        match &self.process {
            Process::Gatepost(gateway) => gateway.pid(),
            Process::Postfix(postfix) => postfix.master(),
            Process::Sink(sink) => sink.child.id(),
        }
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Waits until everything accepted is delivered: `messages` in all since the start.
    pub(crate) fn wait_delivered(&self, messages: u64) -> Result<(), String> {
        let is_delivered = || match &self.process {
            Process::Gatepost(gateway) => gateway.metric("gatepost_deliveries_total") >= messages as f64,
            Process::Postfix(postfix) => postfix.is_idle(),
            Process::Sink(_) => true,
        };
        let deadline = Instant::now() + DRAIN_MAX;
        while !is_delivered() {
            if Instant::now() > deadline {
                return Err("the queue does not empty".to_owned());
            }
            // Seldom enough that the question does not weigh in the answer.
            std::thread::park_timeout(Duration::from_millis(100));
        }
        Ok(())
    }
}

/// smtp-sink on a free port.
#[derive(Debug)]
pub(crate) struct Sink {
    address: SocketAddr,
    child: Child,
}

impl Sink {
    /// Starts it under `wrapper` and waits until it listens.
    pub(crate) fn start(wrapper: Vec<String>) -> Result<Self, String> {
        let address = testbed::net::free_address();
        // As root it insists on a user to become; otherwise it would not be allowed to.
        let user: &[&str] = if is_root() { &["-u", "nobody"] } else { &[] };
        let child = Command::new(&wrapper[0])
            .args(&wrapper[1..])
            .args(["smtp-sink", "-4", "-m", "1000"])
            .args(user)
            .args([&address.to_string(), "1024"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot run smtp-sink: {error}"))?;
        let sink = Self { address, child };
        if testbed::net::eventually(testbed::net::PATIENCE, || TcpStream::connect(address).is_ok()) {
            return Ok(sink);
        }
        Err("smtp-sink does not listen".to_owned())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The words that put before a command give it core 0, and let it end when we do, however that is: by a
/// panic too, which here ends the process at once.
pub(crate) const ON_CORE_0: [&str; 6] = ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", "0"];

/// The words that put before a command give it core 1, which it shares with no server.
pub(crate) fn beside() -> Vec<String> {
    ["taskset", "-c", "1"].map(str::to_owned).to_vec()
}

/// Sends `messages` by smtp-source, and returns when the last one has its 250.
pub(crate) fn generate(
    options: &Options,
    target: SocketAddr,
    messages: u64,
    reuse: bool,
) -> Result<(), String> {
    let wrapper = beside();
    let sessions = u64::from(options.sessions).min(messages);
    let output = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .args(["smtp-source", "-4", "-f", "app@proseware.example", "-t", "someone@far.example"])
        .args(["-s", &sessions.to_string(), "-m", &messages.to_string(), "-l", &options.bytes.to_string()])
        .args(reuse.then_some("-d"))
        .arg(target.to_string())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run smtp-source: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("smtp-source was refused by {target}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn is_root() -> bool {
    let owner = std::fs::metadata("/proc/self");
    owner.is_ok_and(|owner| std::os::unix::fs::MetadataExt::uid(&owner) == 0)
}
