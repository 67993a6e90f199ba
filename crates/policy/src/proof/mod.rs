//! The proof that a configuration is no open relay (DESIGN.md G4).
//!
//! Clients, senders and recipients are partitioned into the classes that the configuration
//! distinguishes, and the real decision is made for what a stranger can present of them. Nothing
//! that is not mail for a relay domain may be accepted; what is, is an [`Opening`], which names the
//! lines behind it.
//!
//! Every class of clients meets every class of recipients and every class of senders on every
//! listener, in the clear and over TLS where it may choose. Paths are presented so that it is known
//! whether a decision looked at them ([`Watched`]): one that never saw the sender stands for all
//! senders, one that saw neither path for all mail. Where a sender is looked at, every sender is
//! tried. All cores share the work.

mod classes;
mod parts;
mod strangers;
#[cfg(test)]
mod tests;
pub(crate) mod width;

use std::cell::Cell;
use std::iter::once;
use std::net::IpAddr;
use std::sync::OnceLock;

use mail::{ForwardPath, ReversePath};

use classes::RelayDomains;
use parts::in_parts;
use strangers::Stranger;

use crate::decide::Case;
use crate::explain::Step;
use crate::facts::{Facts, Listener, TlsPolicy};
use crate::presented::Watched;
use crate::rule::Rule;
use crate::snapshot::Snapshot;
use crate::source::{Origin, Source};
use crate::trace::NoTrace;

/// Openings that are reported; more of them say nothing new.
const OPENINGS_MAX: usize = 20;

/// A sender with whom no tenant has to do.
const SENDER: &str = "f@stranger.invalid";

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
    /// Whether it starts TLS there.
    pub tls: bool,
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

    /// What another part of the work has found, too.
    fn add(&mut self, part: Self) {
        let Self { clients, recipients, decisions, openings } = part;
        self.clients += clients;
        self.recipients += recipients;
        self.decisions += decisions;
        openings.into_iter().for_each(|opening| self.open(opening));
    }

    /// Reports an opening: one line is to be mended once.
    fn open(&mut self, opening: Opening) {
        let is_known = self.openings.iter().any(|known| known.origins.first() == opening.origins.first());
        if !is_known && self.openings.len() < OPENINGS_MAX {
            self.openings.push(opening);
        }
    }
}

impl Snapshot {
    /// Tries what strangers could present to this snapshot, which was compiled from `source`.
    #[must_use]
    pub fn prove(&self, source: &Source, doors: &Doors<'_>) -> Proof {
        let strangers = Stranger::all(source);
        let relay_domains = RelayDomains::of(source);
        let elsewhere = format!("t@{}", relay_domains.foreign());
        let to = ForwardPath::parse(&elsewhere).expect("it is a path");
        let prover = Prover { snapshot: self, source, doors, senders: OnceLock::new() };
        let mut proof = Proof { clients: strangers.len() as u64, ..Proof::default() };
        let parts = in_parts(&strangers, |strangers| {
            let (mut part, mut askers) = (Proof::default(), Vec::new());
            for &Stranger { client, is_witness } in strangers {
                // A stranger whose sender is looked at is taken for a client of a tenant; all others are as the
                // witness of their kind is.
                let further = |asker, answer: Answer| {
                    askers.extend((answer.saw_sender || is_witness).then_some(asker));
                };
                prover.asks(client, to, further, &mut part);
            }
            (part, askers)
        });
        let mut askers = Vec::new();
        for (part, further) in parts {
            proof.add(part);
            askers.extend(further);
        }
        let elsewhere = relay_domains.recipients_elsewhere(source, doors.hostname);
        proof.add(prover.every_recipient(&askers, elsewhere));
        let parts = in_parts(&source.tenants, |tenants| {
            let recipients = tenants.iter().flat_map(|tenant| relay_domains.recipients_of(tenant));
            prover.every_recipient(&askers, recipients)
        });
        parts.into_iter().for_each(|part| proof.add(part));
        proof
    }
}

/// A stranger on a listener, and whatever else that is asked of the decision depends on.
#[derive(Clone, Copy)]
struct Asker<'a> {
    client: IpAddr,
    listener: &'a Listener,
    tls: bool,
}

/// Whether a session on `listener` runs over TLS: both where the client may choose.
fn tls_on(listener: &Listener) -> &'static [bool] {
    match listener.tls {
        TlsPolicy::Off => &[false],
        TlsPolicy::Implicit => &[true],
        TlsPolicy::StartTls | TlsPolicy::Required => &[false, true],
    }
}

/// How a decision came out.
#[derive(Clone, Copy)]
struct Answer {
    is_accepted: bool,
    saw_sender: bool,
    saw_recipient: bool,
}

struct Prover<'a> {
    snapshot: &'a Snapshot,
    source: &'a Source,
    doors: &'a Doors<'a>,
    /// Every sender, made where one is wanted.
    senders: OnceLock<Vec<String>>,
}

impl<'a> Prover<'a> {
    /// A stranger asks for one recipient elsewhere on every listener. `further` is told where the
    /// denial is of that mail, and says nothing yet of other mail.
    fn asks(
        &self,
        client: IpAddr,
        to: ForwardPath<'_>,
        mut further: impl FnMut(Asker<'a>, Answer),
        proof: &mut Proof,
    ) {
        let listeners = self.doors.listeners.iter();
        for (listener, &tls) in
            listeners.flat_map(|listener| tls_on(listener).iter().map(move |tls| (listener, tls)))
        {
            let asker = Asker { client, listener, tls };
            let answer = self.attempt(asker, SENDER, to, proof);
            if answer.is_accepted || answer.saw_sender && self.claims_own_sender(asker, to, proof) {
                continue;
            }
            if answer.saw_sender || answer.saw_recipient {
                further(asker, answer);
            }
        }
    }

    /// Whether a stranger is taken for the tenant whose network, which is no customer's, it is in: with
    /// `<>` or one of the tenant's senders.
    fn claims_own_sender(&self, asker: Asker<'_>, to: ForwardPath<'_>, proof: &mut Proof) -> bool {
        let tenant = self.snapshot.network_tenant(asker.client);
        let tenant = tenant.and_then(|tenant| self.source.tenants.get(tenant.0 as usize));
        let patterns = tenant.into_iter().flat_map(|tenant| &tenant.senders);
        let own = patterns.flat_map(|pattern| classes::members(&pattern.value));
        let mut senders = once(String::new()).chain(own);
        senders.any(|from| self.attempt(asker, &from, to, proof).is_accepted)
    }

    /// Every asker asks for every one of these recipients, and as every sender where that is looked
    /// at. One that has been let in is not asked any further: the same line does it each time.
    fn every_recipient(&self, askers: &[Asker<'_>], recipients: impl IntoIterator<Item = String>) -> Proof {
        let mut proof = Proof::default();
        let mut askers = askers.to_vec();
        for to in recipients {
            proof.recipients += 1;
            // What is no path at all is refused before any decision.
            let Ok(to) = ForwardPath::parse(&to) else { continue };
            askers.retain(|&asker| {
                let answer = self.attempt(asker, SENDER, to, &mut proof);
                let mut senders = answer.saw_sender.then(|| self.senders()).into_iter().flatten();
                !answer.is_accepted
                    && !senders.any(|from| self.attempt(asker, from, to, &mut proof).is_accepted)
            });
        }
        proof
    }

    fn senders(&self) -> &[String] {
        self.senders.get_or_init(|| classes::senders(self.source, self.doors.hostname))
    }

    /// Makes one decision.
    fn attempt(&self, asker: Asker<'_>, from: &str, to: ForwardPath<'_>, proof: &mut Proof) -> Answer {
        let (saw_sender, saw_recipient) = (Cell::new(false), Cell::new(false));
        let mut is_accepted = false;
        // What is no path at all is refused before any decision.
        if let Ok(path) = ReversePath::parse(from)
            && proof.openings.len() < OPENINGS_MAX
        {
            let Asker { client, listener, tls } = asker;
            let facts = Facts { listener, client, tls, identity: None, grants: &[] };
            let shown = (Watched::new(path, &saw_sender), Watched::new(to, &saw_recipient));
            let decision = Case::new(self.snapshot, &facts, &mut NoTrace).recipient(shown.0, shown.1, None);
            proof.decisions += 1;
            is_accepted = decision.verdict.is_accept();
            if is_accepted {
                proof.open(self.opening(&facts, path, to));
            }
        }
        Answer { is_accepted, saw_sender: saw_sender.get(), saw_recipient: saw_recipient.get() }
    }

    /// What makes a tenant's client of a stranger comes first among the lines, then what else had a say.
    fn opening(&self, facts: &Facts<'_>, from: ReversePath<'_>, to: ForwardPath<'_>) -> Opening {
        let mut steps: Vec<Step> = Vec::new();
        let _ = self.snapshot.decide_recipient(facts, from, to, None, &mut steps);
        steps.retain(|step| step.rule != Rule::OneTenant);
        steps.sort_by_key(|step| step.rule != Rule::Responsibility);
        let mut origins: Vec<Origin> = steps.into_iter().filter_map(|step| step.origin).collect();
        if origins.is_empty() {
            origins.push(self.source.origin.clone());
        }
        let (client, listener, tls) = (facts.client, facts.listener.name.clone(), facts.tls);
        Opening { client, listener, tls, from: from.text().to_owned(), to: to.text().to_owned(), origins }
    }
}
