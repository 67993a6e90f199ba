//! `[tickets]`: what a denied sender is told, where the page of a ticket is served, how long tickets are kept.

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::Report;
use crate::node::address;
use crate::section::{Keys, Section};
use crate::units::{parse_duration, parse_size};

const TICKETS: Keys = Keys { known: &["address", "public_url", "contact", "keep", "capacity"], later: &[] };

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
    /// The address that a denied sender may write to.
    pub contact: Option<Box<str>>,
    /// A ticket that is older is forgotten.
    pub keep: Duration,
    /// Bytes that all tickets may take on disk; past them the oldest are forgotten.
    pub capacity_bytes: u64,
}

impl Default for TicketsConfig {
    fn default() -> Self {
        Self {
            address: None,
            public_url: None,
            contact: None,
            keep: KEEP_DEFAULT,
            capacity_bytes: CAPACITY_DEFAULT,
        }
    }
}

pub(crate) fn read(top: &Section<'_>, report: &mut Report) -> TicketsConfig {
    let Some(section) = top.section("tickets", &TICKETS, report) else { return TicketsConfig::default() };
    let address = if section.has("address") { address(&section, report) } else { None };
    let (url, contact) = (section.string("public_url", report), section.string("contact", report));
    if let Some(url) = url.as_ref().filter(|url| !url.value.starts_with("http") || !is_one_word(&url.value)) {
        let remedy = "write it in full, as in \"https://why.relay.example\"";
        report.error(&url.origin, "tickets.public_url", format!("{:?} is no URL", url.value), remedy);
    }
    if let Some(contact) = contact.as_ref().filter(|contact| !is_one_word(&contact.value)) {
        let remedy = "write an address, as in \"postmaster@relay.example\"";
        let message = format!("{:?} is no address", contact.value);
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
    }
}

/// Stands in an SMTP reply: printable ASCII without spaces.
fn is_one_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
