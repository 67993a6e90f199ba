//! `gatepost probe`: the classic open-relay cases against any server, tried as a stranger.
//!
//! Asks and does not send: each case ends with RSET once its recipient is answered, unless the person
//! who runs it wants one marked message a case delivered. A reply is taken for what it says: a request
//! to log in, a deferral or a foreign domain that does not exist is no denial.

mod attempt;
mod cases;
mod dialog;
mod report;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use attempt::{Finding, Prober};
use cases::Names;
use dialog::{Dialer, Tls, Trouble};

use super::text::{print, print_json};
use super::{Answer, Common};

pub(super) const EXAMPLES: &str = "Examples:
  gatepost probe relay.example:25
  gatepost probe relay.example:25 --own proseware.example --foreign adatum.example
  gatepost probe relay.example:25 --foreign adatum.example --deliver   # reads t@adatum.example afterwards

Run it from outside: a server may well trust the address that you are at.";

/// Between two replies, where nothing else is asked for: servers that pause before they greet do so
/// for half a minute.
const TIMEOUT_SECONDS_DEFAULT: u64 = 60;

/// No server receives mail for it, and none minds being asked (RFC 2606).
const FOREIGN_DEFAULT: &str = "example.com";

/// The arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Probe {
    /// The server; without a port, 25
    #[arg(value_name = "HOST:PORT")]
    server: String,
    /// A domain that exists and that the server does not receive mail for [default: example.com]
    #[arg(long, visible_alias = "from-domain", value_name = "DOMAIN")]
    foreign: Option<String>,
    /// A domain that the server receives mail for; may be given several times
    #[arg(long, value_name = "DOMAIN")]
    own: Vec<String>,
    /// The server's name [default: as it calls itself]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// The name to say with EHLO [default: the own address as a literal]
    #[arg(long, value_name = "NAME")]
    helo: Option<String>,
    /// Whether to speak TLS; the certificate is not looked at
    #[arg(long, value_name = "MODE", default_value = "off")]
    tls: Tls,
    /// The local address to connect from
    #[arg(long, value_name = "IP")]
    source: Option<IpAddr>,
    /// Send a harmless marked message where a case is accepted, to the mailbox t of the foreign domain
    #[arg(long, requires = "foreign")]
    deliver: bool,
    /// Seconds to wait for a reply
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT_SECONDS_DEFAULT)]
    timeout: u64,
}

/// Whom the cases were tried on, and from where.
struct Subject {
    server: String,
    address: SocketAddr,
    source: IpAddr,
    names: Names,
}

impl Probe {
    pub(super) fn run(&self, common: &Common) -> Answer {
        match self.probe() {
            Ok((subject, findings)) => {
                if common.json {
                    print_json(&report::as_json(&subject, &findings));
                } else {
                    print(&report::for_people(&subject, &findings));
                }
                report::answer(&findings)
            }
            Err(sentence) => {
                common.complain(&sentence);
                Answer::Broken
            }
        }
    }

    fn probe(&self) -> Result<(Subject, Vec<Finding>), String> {
        for domain in self.own.iter().chain(&self.foreign).chain(&self.server_name) {
            if !mail::Address::parse(&format!("t@{domain}"))
                .is_ok_and(|address| !address.has_domain_literal())
            {
                return Err(format!("{domain:?} is no domain; write one as in adatum.example"));
            }
        }
        let address = self.address()?;
        let dialer = Dialer {
            address,
            source: self.source,
            helo: self.helo.clone(),
            tls: self.tls,
            patience: Duration::from_secs(self.timeout.max(1)),
        };
        let first = dialer.dial().map_err(|trouble| self.explain(address, &trouble))?;
        let name = self.server_name.clone().or_else(|| first.server_name().map(str::to_owned));
        let names = Names {
            foreign: self.foreign.clone().unwrap_or_else(|| FOREIGN_DEFAULT.into()),
            server: name.ok_or("the server does not say its name; give it with --server-name")?,
            address: address.ip(),
            own: self.own.clone(),
        };
        let source = first.source();
        let cases = cases::all(&names);
        let prober = Prober::new(dialer, first, self.deliver.then(|| names.foreign.clone()));
        let findings = prober.run(cases);
        Ok((Subject { server: self.server.clone(), address, source, names }, findings))
    }

    fn address(&self) -> Result<SocketAddr, String> {
        let bare = self.server.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let resolved = match bare.unwrap_or(&self.server).parse::<IpAddr>() {
            Ok(address) => return Ok((address, policy::SMTP_PORT).into()),
            Err(_) if self.server.contains(':') => self.server.to_socket_addrs(),
            Err(_) => (self.server.as_str(), policy::SMTP_PORT).to_socket_addrs(),
        };
        let remedy = "write it as in relay.example:25";
        let mut addresses =
            resolved.map_err(|error| format!("cannot find {:?}: {error}; {remedy}", self.server))?;
        let fits = |address: &SocketAddr| self.source.is_none_or(|own| own.is_ipv4() == address.is_ipv4());
        addresses.find(fits).ok_or_else(|| format!("{:?} has no fitting address; {remedy}", self.server))
    }

    fn explain(&self, address: SocketAddr, trouble: &Trouble) -> String {
        let server = &self.server;
        match trouble {
            Trouble::Io(error) => format!("cannot speak to {server} ({address}): {error}"),
            Trouble::Tls(error) => format!("no TLS with {server} ({address}): {error}; try another --tls"),
            Trouble::Ended => format!("{server} ({address}) ended the connection before it said its name"),
            Trouble::Malformed => format!("{server} ({address}) does not speak SMTP"),
            Trouble::Refused(reply) => {
                format!("{server} ({address}) does not talk to this client: {reply}; nothing was probed")
            }
        }
    }
}
