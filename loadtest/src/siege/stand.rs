//! The gateway under siege, its ports, and the addresses of everyone in a network namespace of their own.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use testbed::proseware::{self, listen_for_clear_logins};
use testbed::{Destination, Gateway, Rules};

use crate::servers::{ON_CORE_0, Sink, beside};

/// Addresses of the benchmarking range (RFC 2544): all of them are this host's in the namespace.
const RANGE: &str = "198.18.0.1/15";
/// The tenant's, which no stranger shares.
const TENANT_NETWORK: &str = "198.18.100.0/24";
/// How long the tenant's next hop keeps those waiting who ask for what it does not know, as many servers do.
const TARPIT: Duration = Duration::from_secs(2);
/// A mailbox of the tenant's; its next hop knows those that begin like it.
pub(crate) const KNOWN: &str = "kim@proseware.example";

/// Where the gateway listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) relay: SocketAddr,
    pub(crate) submission: SocketAddr,
    pub(crate) implicit: SocketAddr,
    /// Takes logins without TLS, so that a login and not a handshake is measured.
    pub(crate) clear: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) tickets: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// A gateway, where its mail goes, and where it listens.
pub(crate) struct Stand {
    pub(crate) gateway: Gateway,
    pub(crate) ports: Ports,
    _elsewhere: Sink,
    _own_mail: Destination,
}

/// Moves this thread, and what it starts, into the namespace.
pub(crate) fn enter() -> Result<(), String> {
    match testbed::netns::enter("loadtest --siege", &[RANGE]) {
        true => Ok(()),
        false => Err("a siege takes a network namespace, which only root may make".to_owned()),
    }
}

impl Stand {
    /// Starts a gateway that may have `descriptors`, and asks ahead for recipients if `asks_ahead`.
    pub(crate) fn start(binary: &Path, descriptors: u32, asks_ahead: bool) -> Result<Self, String> {
        let elsewhere = Sink::start(beside())?;
        let knows = |to: &str| {
            if to.starts_with("kim") {
                return None;
            }
            thread::sleep(TARPIT);
            Some("550 5.1.1 no such mailbox".to_owned())
        };
        let own_mail =
            Destination::with_rules(Rules { recipient: Some(Box::new(knows)), ..Rules::default() });
        let mut configuration = proseware::configuration(own_mail.address(), elsewhere.address());
        configuration.capacity = "4GiB".into();
        let tenant = &mut configuration.tenants[0].1;
        *tenant = tenant.replace("127.0.1.0/24", TENANT_NETWORK);
        if asks_ahead {
            *tenant = tenant.replace("[[relay_domain]]\n", "[[relay_domain]]\nrecipients = \"call-ahead\"\n");
        }
        let [tickets, admin] = [(); 2].map(|()| testbed::net::free_address());
        // The section of the tickets is the last one.
        write!(configuration.node_extra, "address = \"{tickets}\"\n\n[admin]\naddress = \"{admin}\"\n")
            .expect("a string takes what is written to it");
        let ports = Ports {
            relay: configuration.listeners[0].address,
            submission: configuration.listen("submission", "submission", "required"),
            implicit: configuration.listen("implicit", "submission", "implicit"),
            clear: listen_for_clear_logins(&mut configuration),
            metrics: configuration.metrics,
            tickets,
            admin,
        };
        let limit = ["prlimit".to_owned(), format!("--nofile={descriptors}:{descriptors}")];
        let wrapper = limit.into_iter().chain(ON_CORE_0.map(str::to_owned)).collect();
        let gateway = Gateway::start_under(binary, configuration, wrapper);
        Ok(Self { gateway, ports, _elsewhere: elsewhere, _own_mail: own_mail })
    }

    /// Connections that the gateway has.
    pub(crate) fn connections(&self) -> f64 {
        self.gateway.metric("gatepost_connections")
    }

    /// What it has written to its log so far.
    pub(crate) fn log_bytes(&self) -> u64 {
        let log = self.gateway.directory().join("stdout.log");
        std::fs::metadata(log).map_or(0, |log| log.len())
    }
}

/// The server of the tenant whose mail is timed.
pub(crate) const TENANT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 100, 9));

/// One of the tenant's other servers.
pub(crate) fn inside(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 18, 100, 10 + (number % 200) as u8))
}

/// A person of the tenant's somewhere in the world.
pub(crate) fn roaming(number: u32) -> IpAddr {
    beyond(Ipv4Addr::new(198, 19, 0, 1), number % 4000)
}

/// One who besieges: just outside the tenant's network.
pub(crate) fn stranger(number: u32) -> IpAddr {
    beyond(Ipv4Addr::new(198, 18, 101, 0), number % 30_000)
}

/// A stranger with honest mail for the tenant.
pub(crate) fn correspondent(number: u32) -> IpAddr {
    beyond(Ipv4Addr::new(198, 19, 32, 1), number % 4000)
}

fn beyond(first: Ipv4Addr, number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() + number))
}
