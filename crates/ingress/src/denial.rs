//! The one door by which every refusal with a reason leaves: its reply, its metric, its log record
//! and its ticket are made here and nowhere else, so that none is without the others.

use std::fmt;

use mail::{Reason, Reply, Status, Ticket, Verdict};
use policy::{Decision, ReplyFacts, TenantIx};
use ring::Ring;
use spool::Refusal;

use crate::judge::Judge;

impl<R: Ring> Judge<'_, '_, R> {
    /// Refuses as policy decided.
    pub(crate) fn deny(&mut self, decision: &Decision, from: &str, to: &str, reply: &mut Reply) {
        self.refuse_with(decision, None, (from, to), reply);
    }

    /// Refuses as runtime state decided (a limit, a suspension, a list, DNS): `detail` says in the
    /// reply what the decision alone does not know, which limit it was and when it frees.
    pub(crate) fn refuse_with(
        &mut self,
        decision: &Decision,
        detail: Option<fmt::Arguments<'_>>,
        (from, to): (&str, &str),
        reply: &mut Reply,
    ) {
        let (Verdict::Deny(reason) | Verdict::Defer(reason)) = decision.verdict else {
            unreachable!("only a refusal is denied");
        };
        let ticket = self.new_ticket();
        decision.write_reply(
            &ReplyFacts {
                client: self.client.address,
                from,
                to,
                detail,
                ticket: Some(ticket),
                contact: self.settings.contact.as_deref(),
                public_url: self.settings.public_url.as_deref(),
                submission_port: self.settings.submission_port,
            },
            reply,
        );
        self.record_denial(decision.tenant, reason, decision.rule.as_str(), (from, to), ticket);
    }

    /// Gives a refusal that is worded already its ticket, and records it.
    pub(crate) fn add_ticket(&mut self, reason: Reason, to: &str, reply: &mut Reply) {
        let ticket = self.new_ticket();
        self.write_ticket(ticket, reply);
        // The envelope lends its text and has it back afterwards.
        let envelope = std::mem::take(&mut self.client.transaction.envelope);
        let tenant = self.client.transaction.tenant;
        self.record_denial(tenant, reason, reason.as_str(), (envelope.reverse_path().text(), to), ticket);
        self.client.transaction.envelope = envelope;
    }

    /// The same for a connection that is turned away before it can say anything; `tenant` is that
    /// of its network.
    pub(crate) fn refuse_connection(&mut self, tenant: Option<TenantIx>, reason: Reason, reply: &mut Reply) {
        let ticket = self.new_ticket();
        self.write_ticket(ticket, reply);
        self.record_denial(tenant, reason, reason.as_str(), ("", ""), ticket);
    }

    fn write_ticket(&self, ticket: Ticket, reply: &mut Reply) {
        match &self.settings.public_url {
            Some(url) => reply.add_line(format_args!("ticket {ticket} {url}/{}", ticket.compact())),
            None => reply.add_line(format_args!("ticket {ticket}")),
        }
    }

    /// Refuses what the spool does not take.
    pub(crate) fn refuse_for_spool(&mut self, refusal: Refusal, reply: &mut Reply) {
        let (reason, text) = match refusal {
            Refusal::Full => (Reason::SpoolFull, "no room for new mail now; try again later"),
            Refusal::Latched => (Reason::SpoolFailed, "the spool's storage failed; try again later"),
            Refusal::Busy => {
                return reply.set(451, Some(Status::new(4, 3, 0)), format_args!("busy; try again"));
            }
        };
        reply.deny(reason, format_args!("{text}"));
        self.add_ticket(reason, "", reply);
    }

    /// Writes a denial into metric and log.
    fn record_denial(
        &mut self,
        tenant: Option<TenantIx>,
        reason: Reason,
        rule: &str,
        (from, to): (&str, &str),
        ticket: Ticket,
    ) {
        let tenant = tenant.map(|tenant| &*self.client.snapshot.tenant(tenant).name);
        self.cx.metrics.denied(self.client.listener, tenant, reason);
        let now = self.cx.now();
        self.cx
            .log
            .event("relay_denied", now)
            .str("listener", &self.settings.listeners[self.client.listener].policy.name)
            .ip("client", self.client.address)
            .maybe_ip("proxy", self.client.proxy())
            .str("tenant", tenant.unwrap_or_default())
            .str("login", &self.client.login)
            .str("from", from)
            .str("to", to)
            .str("reason", reason.as_str())
            .str("rule", rule)
            .display("ticket", ticket)
            .end();
    }

    fn new_ticket(&mut self) -> Ticket {
        let mut bits = [0; 16];
        self.cx.ring.random(&mut bits);
        Ticket::from_random(u128::from_le_bytes(bits))
    }
}
