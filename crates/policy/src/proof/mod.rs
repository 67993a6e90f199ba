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
mod width;

use std::net::IpAddr;

use ipnet::IpNet;
use mail::{ForwardPath, ReversePath};

use classes::Owners;

use crate::compile::canonical;
use crate::explain::{Outcome, Step, Trace};
use crate::facts::{Facts, Listener};
use crate::rule::Rule;
use crate::snapshot::{Snapshot, TenantIx};
use crate::source::{Origin, Source, Sourced};

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
    /// The lists of peers that are believed when they name another client address, by their key.
    pub spokesmen: &'a [(&'static str, Vec<Sourced<IpNet>>)],
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
        let mut prover = Prover {
            snapshot: self,
            source,
            doors,
            senders: classes::senders(source, doors.hostname),
            recipients: classes::recipients(source, doors.hostname),
            proof: Proof::default(),
        };
        prover.proof.senders = prover.senders.len() as u64;
        prover.proof.recipients = prover.recipients.len() as u64;
        prover.spokesmen();
        prover.every_client(&owners);
        for client in classes::witnesses(source, &owners) {
            prover.every_recipient(client);
            prover.every_sender(client, &[]);
        }
        prover.proof
    }
}

struct Prover<'a> {
    snapshot: &'a Snapshot,
    source: &'a Source,
    doors: &'a Doors<'a>,
    senders: Vec<String>,
    recipients: Vec<String>,
    proof: Proof,
}

impl Prover<'_> {
    /// A list of peers that is as wide as the world lets strangers take any address they like.
    fn spokesmen(&mut self) {
        for (_, peers) in self.doors.spokesmen {
            let nets: Vec<IpNet> = peers.iter().map(|peer| peer.value).collect();
            let networks = self.source.tenants.iter().flat_map(|tenant| &tenant.networks);
            let inside = networks.map(|net| canonical(net.value).network()).next();
            if let Some(client) = inside.filter(|_| width::is_too_wide(&nets)) {
                let lines: Vec<_> = peers.iter().map(|peer| peer.origin.clone()).take(OPENINGS_MAX).collect();
                self.every_sender(client, &lines);
            }
        }
    }

    /// Every stranger asks for one recipient elsewhere.
    fn every_client(&mut self, owners: &Owners) {
        for client in classes::strangers(self.source, owners) {
            self.proof.clients += 1;
            if let Some(tenant) = self.snapshot.network_tenant(client) {
                // In a network that is no customer's: it would relay as this tenant.
                self.every_sender_of(tenant, client);
            }
            for listener in self.doors.listeners {
                self.attempt(listener, client, SENDER, RECIPIENT, &[]);
            }
        }
    }

    /// A client of `tenant`'s networks claims every sender that is the tenant's.
    fn every_sender_of(&mut self, tenant: TenantIx, client: IpAddr) {
        let Some(tenant) = self.source.tenants.get(tenant.0 as usize) else { return };
        for from in tenant.senders.iter().flat_map(|pattern| classes::members(&pattern.value)) {
            for listener in self.doors.listeners {
                self.attempt(listener, client, &from, RECIPIENT, &[]);
            }
        }
    }

    /// A stranger of each kind asks for every recipient.
    fn every_recipient(&mut self, client: IpAddr) {
        for recipient in 0..self.recipients.len() {
            for listener in self.doors.listeners {
                let to = self.recipients[recipient].clone();
                if self.attempt(listener, client, SENDER, &to, &[]) {
                    for sender in 0..self.senders.len() {
                        let from = self.senders[sender].clone();
                        self.attempt(listener, client, &from, &to, &[]);
                    }
                }
            }
        }
    }

    /// A stranger of each kind claims every sender.
    fn every_sender(&mut self, client: IpAddr, lines: &[Origin]) {
        for sender in 0..self.senders.len() {
            for listener in self.doors.listeners {
                let from = self.senders[sender].clone();
                self.attempt(listener, client, &from, RECIPIENT, lines);
            }
        }
    }

    /// Makes one decision; says whether a rule was asked that reads the sender.
    fn attempt(
        &mut self,
        listener: &Listener,
        client: IpAddr,
        from: &str,
        to: &str,
        lines: &[Origin],
    ) -> bool {
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
            let mut steps: Vec<Step> = Vec::new();
            let _ = self.snapshot.decide_recipient(&facts, path, recipient, None, &mut steps);
            // What makes somebody of the stranger comes first, then what else had a say.
            steps.sort_by_key(|step| step.rule != Rule::Responsibility);
            let behind = steps.into_iter().filter(|step| step.rule != Rule::OneTenant);
            let mut origins: Vec<Origin> = lines.to_vec();
            origins.extend(behind.filter_map(|step| step.origin));
            // One line is to be mended once.
            let is_known = |opening: &Opening| opening.origins.first() == origins.first();
            if !self.proof.openings.iter().any(is_known) {
                self.proof.openings.push(Opening {
                    client,
                    listener: listener.name.clone(),
                    from: from.to_owned(),
                    to: to.to_owned(),
                    origins,
                });
            }
        }
        asked.reads_sender
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
