//! Lists in separate files: one entry a line, `#` begins a comment.

use std::sync::Arc;

use policy::{BlockAllow, ListSource, ListsSource, Origin, Sourced};

use crate::error::Report;
use crate::read::TEXT_BYTES_MAX;
use crate::section::{Keys, Section};

/// `[lists]` of the node file.
pub(crate) const NODE: Keys = Keys {
    known: &[
        "dnsbl",
        "blocked_clients",
        "allowed_clients",
        "blocked_senders",
        "allowed_senders",
        "blocked_recipients",
        "allowed_recipients",
    ],
    later: &[],
};

/// `[lists]` of a tenant file: the same, but that only the node looks up clients by DNS.
pub(crate) const TENANT: Keys = Keys { known: NODE.known.split_at(1).1, later: &[] };

/// Reads `[lists]` of a node or a tenant file, whose `keys` are known.
pub(crate) fn read(top: &Section<'_>, keys: &Keys, report: &mut Report) -> ListsSource {
    let Some(section) = top.section("lists", keys, report) else { return ListsSource::default() };
    let mut list = |key| {
        let written = section.string(key, report)?;
        let entries = entries(&section, key, &written, report)?;
        let path = section.file.resolve(&written.value);
        let name = path.file_stem().map_or_else(|| key.into(), |stem| stem.to_string_lossy().into_owned());
        Some(ListSource { name, entries })
    };
    let mut pair = |blocked, allowed| BlockAllow { blocked: list(blocked), allowed: list(allowed) };
    ListsSource {
        clients: pair("blocked_clients", "allowed_clients"),
        senders: pair("blocked_senders", "allowed_senders"),
        recipients: pair("blocked_recipients", "allowed_recipients"),
    }
}

/// The entries of the file that `key` names; `None` where it cannot be read.
pub(crate) fn entries(
    section: &Section<'_>,
    key: &str,
    written: &Sourced<String>,
    report: &mut Report,
) -> Option<Vec<Sourced<String>>> {
    let path = section.file.resolve(&written.value);
    let remedy = "put the list there, one entry a line, readable to this user";
    let named = (&written.origin, &*section.key(key));
    let text = report.read_beside(&path, TEXT_BYTES_MAX, named, remedy)?;
    let name: Arc<str> = path.display().to_string().into();
    let lines = (1_u32..).zip(text.lines());
    let entries = lines
        .map(|(line, text)| (line, text.split('#').next().unwrap_or("").trim()))
        .filter(|(_, text)| !text.is_empty())
        .map(|(line, text)| Sourced::new(text.to_owned(), Origin::new(name.clone(), line)));
    Some(entries.collect())
}
