//! The proof that a configuration is no open relay (relay-control.md G4).
//!
//! Clients, senders and recipients are partitioned into the classes that the configuration
//! distinguishes, and the real decision is made for what a stranger can present of them. Nothing
//! that is not mail for a relay domain may be accepted; what is, is an [`Opening`], which names the
//! lines behind it.
//!
//! Every class of clients meets every class of recipients on every listener. A decision tells which
//! rules it asked: where none of them reads the sender, all senders are one class, and one
//! evaluation stands for all; where one does, every sender is tried. Beside that every sender is
//! tried with a recipient elsewhere, so that a rule that reads it in silence is caught too.

mod classes;
pub(crate) mod width;

use std::net::IpAddr;

use mail::{ForwardPath, ReversePath};

use classes::Owners;

use crate::explain::{Outcome, Step, Trace};
use crate::facts::{Facts, Listener};
use crate::rule::Rule;
use crate::snapshot::Snapshot;
use crate::source::{Origin, Source};

/// Openings that are reported; more of them say nothing new.
const OPENINGS_MAX: usize = 20;

/// A sender and a recipient with whom nobody here has to do.
const SENDER: &str = "f@stranger.invalid";
const RECIPIENT: &str = "t@elsewhere.invalid";

/// What the proof needs to know beside the tenants.
#[derive(Clone, Copy, Debug)]
pub struct Doors<'a> {
    /// Where strangers may connect.
    pub listeners: &'a [Listener],
    /// The node's own name.
    pub hostname: &'a str,
}

/// What was tried, and what of it would have been relayed.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// Representatives of clients that are strangers.
    pub clients: u64,
    /// Representatives of senders.
    pub senders: u64,
    /// Representatives of recipients elsewhere.
    pub recipients: u64,
    /// Decisions that were made.
    pub decisions: u64,
    /// Mail that a stranger could relay; empty for a configuration that is no open relay.
    pub openings: Vec<Opening>,
}

/// One way in which a stranger could relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The stranger's address.
    pub client: IpAddr,
    /// Where it connects.
    pub listener: Box<str>,
    /// The reverse-path, without angle brackets.
    pub from: String,
    /// The recipient, without angle brackets.
    pub to: String,
    /// The configuration lines that open it, the deciding one first; never empty.
    pub origins: Vec<Origin>,
}

impl Proof {
    /// No stranger can relay.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.openings.is_empty()
    }
}

impl Snapshot {
    /// Tries what strangers could present to this snapshot, which was compiled from `source`.
    #[must_use]
    pub fn prove(&self, source: &Source, doors: &Doors<'_>) -> Proof {
        let owners = Owners::new(source);
        let senders = classes::senders(source, doors.hostname);
        let recipients = classes::recipients(source, doors.hostname);
        let proof =
            Proof { senders: senders.len() as u64, recipients: recipients.len() as u64, ..Proof::default() };
        let mut prover = Prover { snapshot: self, source, doors, proof };
        prover.every_client(&owners);
        for client in classes::witnesses(source, &owners) {
            prover.every_recipient(client, &recipients, &senders);
            prover.every_sender(client, &senders, RECIPIENT);
        }
        prover.proof
    }
}

struct Prover<'a> {
    snapshot: &'a Snapshot,
    source: &'a Source,
    doors: &'a Doors<'a>,
    proof: Proof,
}

impl Prover<'_> {
    /// Every stranger asks for one recipient elsewhere.
    fn every_client(&mut self, owners: &Owners) {
        for client in classes::strangers(self.source, owners) {
            self.proof.clients += 1;
            if let Some(tenant) = self.snapshot.network_tenant(client) {
                // In a network that is no customer's: it would relay as this tenant.
                let tenant = self.source.tenants.get(tenant.0 as usize);
                let patterns = tenant.into_iter().flat_map(|tenant| &tenant.senders);
                let senders: Vec<_> = patterns.flat_map(|pattern| classes::members(&pattern.value)).collect();
                self.every_sender(client, &senders, RECIPIENT);
            }
            for listener in self.doors.listeners {
                self.attempt(listener, client, SENDER, RECIPIENT);
            }
        }
    }

    /// `client` asks for every recipient, and with every sender where a rule reads it.
    fn every_recipient(&mut self, client: IpAddr, recipients: &[String], senders: &[String]) {
        for to in recipients {
            let mut reads_sender = false;
            for listener in self.doors.listeners {
                reads_sender |= self.attempt(listener, client, SENDER, to);
            }
            if reads_sender {
                self.every_sender(client, senders, to);
            }
        }
    }

    /// `client` claims every sender.
    fn every_sender(&mut self, client: IpAddr, senders: &[String], to: &str) {
        for from in senders {
            for listener in self.doors.listeners {
                self.attempt(listener, client, from, to);
            }
        }
    }

    /// Makes one decision; says whether a rule was asked that reads the sender.
    fn attempt(&mut self, listener: &Listener, client: IpAddr, from: &str, to: &str) -> bool {
        if self.proof.openings.len() >= OPENINGS_MAX {
            return false;
        }
        // What is no path at all is refused before any decision.
        let (Ok(path), Ok(recipient)) = (ReversePath::parse(from), ForwardPath::parse(to)) else {
            return false;
        };
        let mut asked = Asked::default();
        // TLS takes no stranger further than its absence does.
        let facts = Facts { listener, client, tls: true, identity: None, grants: &[] };
        let decision = self.snapshot.decide_recipient(&facts, path, recipient, None, &mut asked);
        self.proof.decisions += 1;
        if decision.verdict.is_accept() {
            let origins = self.lines_behind(&facts, path, recipient);
            // One line is to be mended once.
            if !self.proof.openings.iter().any(|known| known.origins.first() == origins.first()) {
                let (listener, from, to) = (listener.name.clone(), from.to_owned(), to.to_owned());
                self.proof.openings.push(Opening { client, listener, from, to, origins });
            }
        }
        asked.reads_sender
    }

    /// What makes somebody of a stranger comes first, then what else had a say.
    fn lines_behind(&self, facts: &Facts<'_>, from: ReversePath<'_>, to: ForwardPath<'_>) -> Vec<Origin> {
        let mut steps: Vec<Step> = Vec::new();
        let _ = self.snapshot.decide_recipient(facts, from, to, None, &mut steps);
        steps.retain(|step| step.rule != Rule::OneTenant);
        steps.sort_by_key(|step| step.rule != Rule::Responsibility);
        let mut origins: Vec<Origin> = steps.into_iter().filter_map(|step| step.origin).collect();
        if origins.is_empty() {
            origins.push(self.source.origin.clone());
        }
        origins
    }
}

/// Notes whether a rule was asked whose answer depends on the sender.
#[derive(Default)]
struct Asked {
    reads_sender: bool,
}

impl Trace for Asked {
    fn step(&mut self, rule: Rule, _: Outcome, _: Option<&Origin>, _: impl FnOnce() -> String) {
        self.reads_sender |= matches!(rule, Rule::Sender | Rule::SenderList);
    }

    fn wants_lines(&self) -> bool {
        false
    }
}
