//! `[dns]`, the servers that are asked, and `[[lists.dnsbl]]`, the DNS lists on which clients are looked up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::error::Report;
use crate::lists;
use crate::section::{Keys, Section};
use crate::units::parse_duration;

/// Where DNS servers listen.
const DNS_PORT: u16 = 53;

/// One try of one server; what most resolvers of operating systems take.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

const DNS: Keys = Keys { known: &["servers", "timeout"], later: &[] };
const LIST: Keys = Keys { known: &["zone", "name", "answers"], later: &[] };

/// `[dns]` and the DNS lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// The servers, in the order in which they are asked; empty for those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// How long one try of one server takes at most.
    pub timeout: Duration,
    /// The lists on which clients are looked up.
    pub lists: Vec<DnsList>,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: TIMEOUT_DEFAULT, lists: Vec::new() }
    }
}

/// `[[lists.dnsbl]]`: a list that is asked by DNS (RFC 5782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsList {
    /// Where reversed addresses are looked up, without a final dot.
    pub zone: Box<str>,
    /// What replies call it.
    pub name: Box<str>,
    /// The answers that mean "listed"; empty for any in 127.0.0.0/8.
    pub answers: Vec<Ipv4Addr>,
}

/// Reads both, where they are written.
pub(crate) fn read(top: &Section<'_>, report: &mut Report) -> DnsConfig {
    let mut config = DnsConfig::default();
    if let Some(section) = top.section("dns", &DNS, report) {
        let remedy = "write addresses, as in [\"192.0.2.53\", \"[2001:db8::53]:5353\"]";
        let servers = section.parsed_list("servers", remedy, parse_server, report);
        config.servers = servers.into_iter().map(|server| server.value).collect();
        if let Some(timeout) = section.unit("timeout", parse_duration, report) {
            if timeout.value.is_zero() {
                report.error(
                    &timeout.origin,
                    section.key("timeout"),
                    "no time at all",
                    "write at least \"1s\"",
                );
            }
            config.timeout = timeout.value;
        }
    }
    // What is wrong with the section's other keys is reported where those are read.
    if let Some(lists) = top.section("lists", &lists::NODE, &mut Report::default()) {
        let sections = lists.sections("dnsbl", &LIST, report);
        config.lists = sections.iter().filter_map(|section| read_list(section, report)).collect();
    }
    config
}

fn parse_server(text: &str) -> Result<SocketAddr, String> {
    let alone = |_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    text.parse().or_else(alone).map_err(|_| "no address of a server".to_owned())
}

fn read_list(section: &Section<'_>, report: &mut Report) -> Option<DnsList> {
    let zone = section.required("zone", "\"zen.example\"", report);
    let name = section.string("name", report);
    let remedy = "write what the list answers with, as in [\"127.0.0.2\"]";
    let parse = |text: &str| match text.parse::<Ipv4Addr>() {
        Ok(answer) if answer.is_loopback() => Ok(answer),
        _ => Err("no answer of a DNS list: they are in 127.0.0.0/8".to_owned()),
    };
    let answers = section.parsed_list("answers", remedy, parse, report);
    let zone = zone?;
    let bare = zone.value.trim_end_matches('.');
    let is_zone =
        mail::Address::parse(&format!("x@{bare}")).is_ok_and(|address| !address.has_domain_literal());
    if !is_zone {
        let message = format!("{:?} is no zone", zone.value);
        report.error(
            &zone.origin,
            section.key("zone"),
            message,
            "write the zone that the list's owner names",
        );
    }
    let name = name.map_or_else(|| bare.to_owned(), |name| name.value);
    Some(DnsList {
        zone: bare.to_ascii_lowercase().into(),
        name: name.into(),
        answers: answers.into_iter().map(|answer| answer.value).collect(),
    })
}
