//! What must be looked up before a recipient is taken: whether a DNS list holds the client, whether
//! the next hop of a relay domain knows the recipient, whether a domain takes mail at all.
//!
//! Asked only for what policy has accepted. The session waits for the answer, then the recipient is
//! judged again from the start. What cannot be found out is no reason to deny
//! (DESIGN.md B2, D1): a stranger comes again with 451, the mail of a tenant's own senders is taken and queued.

use std::net::IpAddr;
use std::time::Duration;

use commons::{Listing, Question, RecipientFinding, machine};
use mail::{Address, ForwardPath, Reason, Reply, Verdict};
use policy::{Decision, Remedy, Rule, TenantIx, Witness};
use ring::{Handle, Ring};
use smtp::server::{Handler, Resume, Step};

use crate::connection::{Client, Standing, Waiting};
use crate::handler::SessionHandler;
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
        // Without room for the question nobody is denied for the answer.
        let is_asked = self.cx.link.ask(question).is_ok();
        self.client.standing = if is_asked { Standing::Asked } else { Standing::Clear };
    }

    /// Whether a recipient that policy has accepted by `decision` may be taken, as far as that must be looked up.
    pub(crate) fn check_recipient(
        &mut self,
        to: Address<'_>,
        decision: &Decision,
        reply: &mut Reply,
    ) -> Step {
        let facts = self.client.facts(&self.settings.listeners[self.client.listener].policy);
        if self.client.snapshot.looks_up_client(&facts, to, decision.tenant) {
            self.ask_lists();
            match std::mem::replace(&mut self.client.standing, Standing::Clear) {
                Standing::Asked => {
                    self.client.standing = Standing::Asked;
                    return self.wait(Waiting::Listing, to);
                }
                Standing::Listed(listing) => {
                    self.refuse_listed(&listing, decision.tenant, to, reply);
                    self.client.standing = Standing::Listed(listing);
                    return Step::Refuse;
                }
                Standing::Unknown | Standing::Clear => {}
            }
        }
        let Some(witness) = self.client.snapshot.witness(decision.tenant, to.domain()) else {
            return Step::Accept;
        };
        let Some(finding) = self.find_out(witness, decision.tenant, to) else {
            return self.wait(Waiting::Recipient, to);
        };
        let (rule, verdict, remedy) = match finding {
            RecipientFinding::Good => return Step::Accept,
            RecipientFinding::DomainMissing => {
                (Rule::DomainExists, Verdict::Deny(Reason::RecipientDomainMissing), Remedy::CorrectDomain)
            }
            RecipientFinding::DomainNoMail => {
                (Rule::DomainExists, Verdict::Deny(Reason::RecipientDomainNoMail), Remedy::CorrectDomain)
            }
            RecipientFinding::Unknown => {
                (Rule::CallAhead, Verdict::Deny(Reason::RecipientUnknown), Remedy::ListRecipient)
            }
            RecipientFinding::Undecided if matches!(witness, Witness::Dns) => return Step::Accept,
            RecipientFinding::Undecided if self.answers_for_sender(decision.tenant) => return Step::Accept,
            RecipientFinding::Undecided => {
                (Rule::CallAhead, Verdict::Defer(Reason::RecipientUnverified), Remedy::TryAgain)
            }
        };
        self.refuse_recipient(&Decision::refusal(rule, decision.tenant, verdict, remedy), None, to, reply)
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
        if let Some(finding) = self.client.transaction.finding.take() {
            return Some(finding);
        }
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

    /// Lets the session wait; the recipient is judged again when the answer is there.
    fn wait(&mut self, waiting: Waiting, to: Address<'_>) -> Step {
        self.client.waiting = waiting;
        self.client.transaction.pending.clear();
        self.client.transaction.pending.push_str(to.text());
        Step::Wait
    }

    fn refuse_listed(
        &mut self,
        listing: &Listing,
        tenant: Option<TenantIx>,
        to: Address<'_>,
        reply: &mut Reply,
    ) {
        let verdict = Verdict::Deny(Reason::ClientBlocked);
        let decision = Decision::refusal(Rule::Dnsbl, tenant, verdict, Remedy::TakeOffList);
        let Listing { list, text } = listing;
        match text {
            Some(text) => self.refuse_recipient(&decision, Some(format_args!("{list}, {text}")), to, reply),
            None => self.refuse_recipient(&decision, Some(format_args!("{list}")), to, reply),
        };
    }

    fn refuse_recipient(
        &mut self,
        decision: &Decision,
        detail: Option<std::fmt::Arguments<'_>>,
        to: Address<'_>,
        reply: &mut Reply,
    ) -> Step {
        // The envelope lends its text to the denial and has it back afterwards.
        let envelope = std::mem::take(&mut self.client.transaction.envelope);
        self.refuse_with(decision, detail, (envelope.reverse_path().text(), to.text()), reply);
        self.client.transaction.envelope = envelope;
        Step::Refuse
    }
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
        if client.waiting != Waiting::Recipient {
            return;
        }
        client.transaction.finding = Some(finding);
        let pending = &client.transaction.pending;
        let asks_next_hop = |address: &Address<'_>| client.snapshot.call_ahead(address.domain()).is_some();
        if let Ok(address) = Address::parse(pending) {
            let name = if asks_next_hop(&address) { address.text() } else { address.domain() };
            self.shared.findings.remember(name, finding, ttl, cx.ring.now());
        }
        self.decide_again(cx, key);
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
        client.standing = listing.map_or(Standing::Clear, Standing::Listed);
        if client.waiting == Waiting::Listing {
            self.decide_again(cx, key);
        }
    }

    /// Judges the recipient that a session waits for from the start: what was asked is known now.
    fn decide_again<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.client.waiting = Waiting::Nothing;
        let pending = std::mem::take(&mut connection.client.transaction.pending);
        let mut step = Step::Refuse;
        self.handle(cx, key, |handler, reply| {
            reply.clear();
            let to = ForwardPath::parse(&pending).expect("it was a path when it came");
            step = handler.rcpt(to, reply);
        });
        if let Some(connection) = self.connection(key) {
            // It was about this recipient and no other, whether or not it came to be needed.
            connection.client.transaction.finding = None;
        }
        if step == Step::Wait {
            return;
        }
        let reply = std::mem::take(&mut self.reply);
        let refusal = (step == Step::Refuse).then_some(&reply);
        self.drive(cx, key, |session, handler| session.resume(Resume::Recipient(refusal), handler));
        self.reply = reply;
    }
}
