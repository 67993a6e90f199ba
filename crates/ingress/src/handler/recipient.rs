//! What must be looked up before a recipient is taken: whether a DNS list holds the client, whether
//! the next hop of a relay domain knows the recipient, whether a domain takes mail at all.
//!
//! Asked only for what policy has accepted. The session waits for the answer, then the recipient is
//! looked at again from the start. What cannot be found out is no reason to deny
//! (DESIGN.md B2, D1): a stranger comes again with 451, the mail of a tenant's own senders is taken and queued.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use commons::{Listing, Question, RecipientFinding, machine};
use mail::{Address, ForwardPath, Reason, Reply, Verdict};
use policy::{Decision, Remedy, Rule, TenantIx, Witness};
use ring::{Handle, Ring};
use smtp::server::{Resume, Step};

use crate::connection::{Client, Standing};
use crate::handler::SessionHandler;
use crate::refusal::{Detail, Refusal};
use crate::transaction::{LookUp, Transaction};
use crate::{Context, Ingress};

impl<R: Ring> SessionHandler<'_, '_, R> {
    /// Begins to look a stranger up on DNS lists, so that the answer is there when it is needed. A
    /// client without an address stands on none.
    pub(crate) fn ask_lists(&mut self) {
        let client = &*self.client;
        let is_stranger =
            client.identity.is_none() && client.snapshot.network_tenant(client.address).is_none();
        let is_known = !matches!(client.standing, Standing::Unknown) || client.address.is_unspecified();
        if !self.settings.dns_lists || !is_stranger || is_known {
            return;
        }
        let Client { key, address: client, .. } = *self.client;
        let question = Question::Listed { worker: self.settings.worker, key, client };
        // Without room for the question no client is denied for the answer.
        let is_asked = self.cx.link.ask(question).is_ok();
        self.client.standing = if is_asked { Standing::Asked } else { Standing::Clear };
    }

    /// Whether a recipient that policy has accepted by `decision` may be taken, as far as that must be looked up:
    /// gives what is to be awaited. `finding` is what was found out about it meanwhile.
    pub(crate) fn look_up(
        &mut self,
        to: Address<'_>,
        decision: &Decision,
        finding: Option<RecipientFinding>,
    ) -> Result<Option<LookUp>, Refusal> {
        let facts = self.client.facts(&self.settings.listeners[self.client.listener].policy);
        if self.client.snapshot.looks_up_client(&facts, to, decision.tenant) {
            self.ask_lists();
            match &self.client.standing {
                Standing::Asked => return Ok(Some(LookUp::Listing)),
                Standing::Listed(listing) => return Err(listed(listing, decision.tenant)),
                Standing::Unknown | Standing::Clear => {}
            }
        }
        let Some(witness) = self.client.snapshot.witness(decision.tenant, to.domain()) else {
            return Ok(None);
        };
        match finding.or_else(|| self.find_out(witness, decision.tenant, to)) {
            None => Ok(Some(LookUp::Recipient)),
            Some(finding) => self.heed(finding, witness, decision.tenant).map(|()| None),
        }
    }

    /// What follows from what was found out about a recipient of `tenant`.
    fn heed(
        &self,
        finding: RecipientFinding,
        witness: Witness,
        tenant: Option<TenantIx>,
    ) -> Result<(), Refusal> {
        let (rule, verdict, remedy) = match finding {
            RecipientFinding::Good => return Ok(()),
            RecipientFinding::DomainMissing => {
                (Rule::DomainExists, Verdict::Deny(Reason::RecipientDomainMissing), Remedy::CorrectDomain)
            }
            RecipientFinding::DomainNoMail => {
                (Rule::DomainExists, Verdict::Deny(Reason::RecipientDomainNoMail), Remedy::CorrectDomain)
            }
            RecipientFinding::Unknown => {
                (Rule::CallAhead, Verdict::Deny(Reason::RecipientUnknown), Remedy::ListRecipient)
            }
            RecipientFinding::Undecided if matches!(witness, Witness::Dns) => return Ok(()),
            RecipientFinding::Undecided if self.answers_for_sender(tenant) => return Ok(()),
            RecipientFinding::Undecided => {
                (Rule::CallAhead, Verdict::Defer(Reason::RecipientUnverified), Remedy::TryAgain)
            }
        };
        Err(Refusal::new(Decision::refusal(rule, tenant, verdict, remedy)))
    }

    /// Whether `tenant` is the one that answers for the sender: then a bounce finds its way home.
    fn answers_for_sender(&self, tenant: Option<TenantIx>) -> bool {
        let facts = self.client.facts(&self.settings.listeners[self.client.listener].policy);
        let snapshot = &self.client.snapshot;
        let mut logins = facts.identity.iter().chain(facts.grants);
        tenant.is_some()
            && (snapshot.network_tenant(self.client.address) == tenant && facts.identity.is_none()
                || logins.any(|&login| Some(snapshot.identity_tenant(login)) == tenant))
    }

    /// What is known of a recipient; `None` when it is being asked for.
    fn find_out(
        &mut self,
        witness: Witness,
        tenant: Option<TenantIx>,
        to: Address<'_>,
    ) -> Option<RecipientFinding> {
        let name = match witness {
            Witness::NextHop(_) => to.text(),
            Witness::Dns => to.domain(),
        };
        if let Some(finding) = self.findings.of(name, self.cx.ring.now()) {
            return Some(finding);
        }
        let (worker, key) = (self.settings.worker, self.client.key);
        let name = name.to_ascii_lowercase().into();
        let question = match witness {
            Witness::NextHop(_) => {
                let stranger = (!self.answers_for_sender(tenant)).then(|| machine(self.client.address));
                Question::CallAhead { worker, key, stranger, address: name }
            }
            Witness::Dns => Question::Domain { worker, key, domain: name },
        };
        match self.cx.link.ask(question) {
            Ok(()) => None,
            Err(_) => Some(RecipientFinding::Undecided),
        }
    }

    /// Lets the session wait; the recipient is looked at again when the answer is there.
    pub(crate) fn wait_for(&mut self, awaited: LookUp, to: Address<'_>) -> Step {
        if let Transaction::Envelope(opening) = &mut self.client.transaction {
            opening.awaits = Some(awaited);
        }
        self.client.buffers.asked.clear();
        self.client.buffers.asked.push_recipient(to);
        Step::Wait
    }

    /// Answers the recipient that waits.
    fn take_asked(&mut self, finding: Option<RecipientFinding>, reply: &mut Reply) -> Step {
        if let Transaction::Envelope(opening) = &mut self.client.transaction {
            opening.awaits = None;
        }
        let asked = std::mem::take(&mut self.client.buffers.asked);
        let to = asked.recipients().next();
        let step =
            to.map_or(Step::Refuse, |to| self.take_recipient(ForwardPath::Address(to), finding, reply));
        if step != Step::Wait {
            self.client.buffers.asked = asked;
        }
        step
    }
}

/// The refusal of a client that stands on a DNS list.
fn listed(listing: &Arc<Listing>, tenant: Option<TenantIx>) -> Refusal {
    let verdict = Verdict::Deny(Reason::ClientBlocked);
    let decision = Decision::refusal(Rule::Dnsbl, tenant, verdict, Remedy::TakeOffList);
    Refusal::new(decision).because(Detail::DnsList(Arc::clone(listing)))
}

impl Ingress {
    /// What was found out about a recipient holds for `ttl`.
    pub fn recipient_found<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: Handle,
        finding: RecipientFinding,
        ttl: Duration,
    ) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let client = &mut connection.client;
        if client.transaction.awaits() != Some(LookUp::Recipient) {
            return;
        }
        if let Some(address) = client.buffers.asked.recipients().next() {
            let asks_next_hop = client.snapshot.call_ahead(address.domain()).is_some();
            let name = if asks_next_hop { address.text() } else { address.domain() };
            self.shared.findings.remember(name, finding, ttl, cx.ring.now());
        }
        self.decide_again(cx, key, Some(finding));
    }

    /// The DNS lists have answered about connection `key` when its client was `of`.
    pub fn listing_found<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: Handle,
        of: IpAddr,
        listing: Option<Box<Listing>>,
    ) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let client = &mut connection.client;
        // Meanwhile a proxy may have said that it speaks for another one.
        if !matches!(client.standing, Standing::Asked) || client.address != of {
            return;
        }
        client.standing = listing.map_or(Standing::Clear, |listing| Standing::Listed(listing.into()));
        if client.transaction.awaits() == Some(LookUp::Listing) {
            self.decide_again(cx, key, None);
        }
    }

    /// Looks at the recipient that a session waits for from the start: what was asked is known now. A `finding` is
    /// about this recipient and no other, whether or not it comes to be needed.
    fn decide_again<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: Handle,
        finding: Option<RecipientFinding>,
    ) {
        let mut step = Step::Refuse;
        self.handle(cx, key, |handler, reply| {
            reply.clear();
            step = handler.take_asked(finding, reply);
        });
        if step == Step::Wait {
            return;
        }
        let reply = std::mem::take(&mut self.reply);
        let refusal = (step == Step::Refuse).then_some(&reply);
        self.drive(cx, key, |session, handler| session.resume(Resume::Recipient(refusal), handler));
        self.reply = reply;
    }
}
