//! `[tickets]`: what a denied sender is told, where the page of a ticket is served, how long tickets are kept.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use mail::{Address, is_host_name};
use policy::{PREFIX_BITS_MIN_V4, PREFIX_BITS_MIN_V6, Sourced};
use url::Url;

use crate::error::Report;
use crate::peers::parse_peer;
use crate::ports::{Port, port};
use crate::section::{Keys, Section};
use crate::units::{parse_duration, parse_size};

const TICKETS: Keys =
    Keys { known: &["address", "public_url", "contact", "keep", "capacity", "proxies"], later: &[] };

/// A month: as long as people take to ask.
const KEEP_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Some 40,000 denials.
const CAPACITY_DEFAULT: u64 = 256 << 20;
/// What the store takes before it holds anything, and a little.
const CAPACITY_MIN: u64 = 8 << 20;

/// `[tickets]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketsConfig {
    /// Where the pages are served; without it they are not.
    pub address: Option<SocketAddr>,
    /// Where the page of a ticket is found.
    pub public_url: Option<Box<str>>,
    /// The address that a denied sender may write to, or the URL of a page for them.
    pub contact: Option<Box<str>>,
    /// A ticket that is older is forgotten.
    pub keep: Duration,
    /// Bytes that all tickets may take on disk; past them the oldest are forgotten.
    pub capacity_bytes: u64,
    /// Proxies in front of the pages, whose `X-Forwarded-For` says who asks.
    pub proxies: Box<[IpNet]>,
}

impl Default for TicketsConfig {
    fn default() -> Self {
        Self {
            address: None,
            public_url: None,
            contact: None,
            keep: KEEP_DEFAULT,
            capacity_bytes: CAPACITY_DEFAULT,
            proxies: Box::default(),
        }
    }
}

pub(crate) fn read(top: &Section<'_>, ports: &mut Vec<Port>, report: &mut Report) -> TicketsConfig {
    let Some(section) = top.section("tickets", &TICKETS, report) else { return TicketsConfig::default() };
    let address = match section.has("address") {
        true => port(&section, "[tickets]", "tickets.address", ports, report),
        false => None,
    };
    let (url, contact) = (section.string("public_url", report), section.string("contact", report));
    if let Some(url) = &url {
        check_public_url(url, report);
    }
    if let Some(contact) = contact.as_ref().filter(|contact| !is_contact(&contact.value)) {
        let remedy = "write an address, as in \"postmaster@relay.example\", or a URL in full, as in \
                      \"https://relay.example/help\"";
        let message = format!("{:?} is no address and no URL", contact.value);
        report.error(&contact.origin, "tickets.contact", message, remedy);
    }
    let keep = section.unit("keep", parse_duration, report);
    if let Some(keep) = keep.as_ref().filter(|keep| keep.value.is_zero()) {
        report.error(&keep.origin, "tickets.keep", "no time at all", "write how long, as in \"30d\"");
    }
    let capacity = section.unit("capacity", parse_size, report);
    if let Some(capacity) = capacity.as_ref().filter(|capacity| capacity.value < CAPACITY_MIN) {
        let remedy = "write at least \"8MiB\"; the default is \"256MiB\"";
        report.error(&capacity.origin, "tickets.capacity", "the store of tickets takes more", remedy);
    }
    TicketsConfig {
        address,
        public_url: url.map(|url| url.value.into()),
        contact: contact.map(|contact| contact.value.into()),
        keep: keep.map_or(KEEP_DEFAULT, |keep| keep.value),
        capacity_bytes: capacity.map_or(CAPACITY_DEFAULT, |capacity| capacity.value),
        proxies: read_proxies(&section, report),
    }
}

fn read_proxies(section: &Section<'_>, report: &mut Report) -> Box<[IpNet]> {
    let remedy = "write an address or a network, as in \"10.8.0.9\" or \"10.8.0.0/24\"";
    let proxies = section.parsed_list("proxies", remedy, parse_peer, report);
    for proxy in &proxies {
        let shortest = if proxy.value.addr().is_ipv4() { PREFIX_BITS_MIN_V4 } else { PREFIX_BITS_MIN_V6 };
        if proxy.value.prefix_len() < shortest {
            let message =
                format!("{} is wider than /{shortest}: every host in it can claim any address", proxy.value);
            report.error(&proxy.origin, "tickets.proxies", message, "list the addresses of the proxies");
        }
    }
    proxies.into_iter().map(|proxy| proxy.value).collect()
}

/// A ticket is written behind it, so that it ends with its path.
fn check_public_url(url: &Sourced<String>, report: &mut Report) {
    let remedy = "write it in full, as in \"https://why.relay.example\"";
    let message = match parse_url(&url.value) {
        None => format!("{:?} is no URL", url.value),
        Some(parsed) if parsed.query().or(parsed.fragment()).is_some() => {
            format!("{:?} goes on after its path, where the ticket is to stand", url.value)
        }
        Some(_) => return,
    };
    report.error(&url.origin, "tickets.public_url", message, remedy);
}

fn is_contact(text: &str) -> bool {
    Address::parse(text).is_ok() && is_one_word(text) || parse_url(text).is_some()
}

/// A URL of HTTP as people and programs write it, without what a parser would mend or a reader be deceived by.
fn parse_url(text: &str) -> Option<Url> {
    let is_written_in_full = text.starts_with("https://") || text.starts_with("http://");
    // Delimiters and unwise characters stand in no URL (RFC 3986 appendix A).
    let is_clean = is_one_word(text) && !text.contains(['<', '>', '"', '\\', '^', '`', '{', '|', '}']);
    let url = Url::parse(text).ok().filter(|_| is_written_in_full && is_clean)?;
    let host = url.host_str()?;
    let is_host = is_host_name(host) || host.starts_with('[');
    (is_host && url.username().is_empty() && url.password().is_none()).then_some(url)
}

/// Stands in an SMTP reply: printable ASCII without spaces.
fn is_one_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_is_an_address_or_a_url_and_nothing_that_looks_like_one() {
        for contact in [
            "postmaster@relay.example",
            "post.master+tickets@relay.example",
            "https://relay.example/help?topic=mail#refused",
            "http://relay.example:8080",
            "https://[2001:db8::1]/help",
        ] {
            assert!(is_contact(contact), "{contact}");
        }
        for contact in [
            "<script>alert(1)</script>",
            "postmaster",
            "postmaster@",
            "post master@relay.example",
            "\"post master\"@relay.example",
            "postmaster@relay.example\r\nBcc: x@y.example",
            "javascript:alert(1)",
            "https:relay.example",
            "https://",
            "https://relay..example",
            "https://relay.example@evil.example/",
            "https://relay.example/\"onclick=",
            "https://relay.example/<b>",
            "ftp://relay.example",
            "mailto:postmaster@relay.example",
            "",
        ] {
            assert!(!is_contact(contact), "{contact}");
        }
    }
}
