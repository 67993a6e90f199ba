//! Block and allow lists.

use std::sync::Arc;

use super::Compiler;
use crate::lists::{List, Lists, Ranges, bits_of};
use crate::names::is_domain_pattern;
use crate::network::parse_network;
use crate::patterns::Patterns;
use crate::senders::ending;
use crate::source::{BlockAllow, ListSource, ListsSource, Origin, Sourced};

impl Compiler {
    pub(super) fn lists(&mut self, source: &ListsSource) -> Lists {
        let ListsSource { clients, senders, recipients } = source;
        Lists {
            clients: self.pair(clients, ["lists.blocked_clients", "lists.allowed_clients"], Self::clients),
            senders: self.pair(senders, ["lists.blocked_senders", "lists.allowed_senders"], Self::addresses),
            recipients: self.pair(
                recipients,
                ["lists.blocked_recipients", "lists.allowed_recipients"],
                Self::addresses,
            ),
        }
    }

    /// Both lists of a kind, each with its key.
    fn pair<E>(
        &mut self,
        source: &BlockAllow<ListSource>,
        [blocked, allowed]: [&'static str; 2],
        compile: fn(&mut Self, &ListSource, &'static str) -> E,
    ) -> BlockAllow<List<E>> {
        let mut list = |source: &Option<ListSource>, key| {
            source.as_ref().map(|source| List {
                name: source.name.as_str().into(),
                file: file_of(source),
                entries: compile(self, source, key),
            })
        };
        BlockAllow { blocked: list(&source.blocked, blocked), allowed: list(&source.allowed, allowed) }
    }

    fn clients(&mut self, source: &ListSource, key: &'static str) -> Ranges {
        let mut ranges = Vec::with_capacity(source.entries.len());
        let mut wrong = Wrong::default();
        for entry in &source.entries {
            match parse_network(&entry.value) {
                Ok(net) if net.trunc() == net => {
                    ranges.push((bits_of(net.network()), bits_of(net.broadcast()), entry.origin.line));
                }
                Ok(net) => {
                    let message = format!("{net} has bits set after its first {}", net.prefix_len());
                    let remedy = format!("write {}, or {}", net.trunc(), net.addr());
                    self.error(&entry.origin, key, message, remedy);
                }
                Err(fault) => wrong.add(entry, fault),
            }
        }
        wrong.report(self, key, "write one a line, such as 198.51.100.7 or 2001:db8::/32");
        Ranges::new(ranges)
    }

    fn addresses(&mut self, source: &ListSource, key: &'static str) -> Patterns {
        let mut patterns = Vec::with_capacity(source.entries.len());
        let mut wrong = Wrong::default();
        for entry in &source.entries {
            let text = entry.value.as_str();
            let domain = text.strip_prefix('@').unwrap_or(text);
            if is_domain_pattern(domain) {
                patterns.push((format!("@{domain}"), entry.origin.line));
            } else if mail::Address::parse(text).is_ok() {
                patterns.push((text.to_owned(), entry.origin.line));
            } else {
                wrong.add(entry, "no address and no domain");
            }
        }
        let remedy = "write one a line, such as name@example.com, example.com or *.example.com";
        wrong.report(self, key, remedy);
        let endings: Vec<_> =
            patterns.iter().filter_map(|(pattern, line)| Some((ending(pattern)?, *line))).collect();
        Patterns::build(endings.into_iter())
    }
}

/// So many wrong lines of a list are reported each, and the rest as a number: the wrong file is one mistake.
const WRONG_LINES_SHOWN: usize = 10;

/// The lines of a list that do not belong there. What they hold is never shown, since the operator may have named
/// the file of a key.
#[derive(Default)]
pub(super) struct Wrong<'a> {
    shown: Vec<(&'a Origin, &'static str)>,
    others: usize,
}

impl<'a> Wrong<'a> {
    pub(super) fn add(&mut self, entry: &'a Sourced<String>, fault: &'static str) {
        match self.shown.len() < WRONG_LINES_SHOWN {
            true => self.shown.push((&entry.origin, fault)),
            false => self.others += 1,
        }
    }

    pub(super) fn report(self, compiler: &mut Compiler, key: &'static str, remedy: &str) {
        for (index, (origin, fault)) in (1..).zip(self.shown) {
            let message = match self.others {
                others if others > 0 && index == WRONG_LINES_SHOWN => {
                    format!("this line is {fault}, as are {others} more")
                }
                _ => format!("this line is {fault}"),
            };
            compiler.error(origin, key, message, remedy);
        }
    }
}

/// Every entry of a list stands in the same file; an empty list names none.
fn file_of(source: &ListSource) -> Arc<str> {
    source.entries.first().map_or_else(|| "".into(), |entry| entry.origin.file.clone())
}
