//! The one door by which every refusal with a reason leaves: its reply, its metric, its log record
//! and its ticket are made here and nowhere else, so that none is without the others.
//!
//! A ticket costs a record in the control plane. So the denials of one transaction for one cause
//! share a ticket, and a client that is denied again and again gets its latest one back, which counts them.
//! A line costs as much: past the first few of a transaction, and of a client, the log sums up. A storm
//! of denials costs its replies and little more.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use commons::WorkerLink;
use mail::{Reason, Reply, Ticket};
use observe::{Event as _, Listener, Word};
use policy::{Decision, ReplyFacts, TenantIx};
use ring::Ring;
use spool::Refusal;

use crate::Context;
use crate::connection::{Client, Denied};
use crate::events::RelayDenied;
use crate::folds::{Folds, LINES_A_TRANSACTION_MAX, Side};
use crate::handler::SessionHandler;

impl<R: Ring> SessionHandler<'_, '_, R> {
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
        let ticket = self.ticket_for(decision, detail, (from, to));
        let facts = ReplyFacts { from, to, detail, ..self.reply_facts(ticket) };
        decision.write_reply(&facts, reply);
        self.note(decision, detail, (from, to), ticket);
    }

    /// Refuses what no decision was asked about: the message, or one recipient more.
    pub(crate) fn refuse_for(
        &mut self,
        reason: Reason,
        detail: Option<fmt::Arguments<'_>>,
        to: &str,
        reply: &mut Reply,
    ) {
        let decision = Decision::refusal_for(reason, self.client.tenant());
        // The envelope lends its text and has it back afterwards.
        let envelope = std::mem::take(&mut self.client.transaction.envelope);
        self.refuse_with(&decision, detail, (envelope.reverse_path().text(), to), reply);
        self.client.transaction.envelope = envelope;
    }

    /// Completes a refusal that is worded already with what can be done about it and its ticket.
    pub(crate) fn add_ticket(&mut self, reason: Reason, to: &str, reply: &mut Reply) {
        let tenant = self.client.transaction.tenant;
        // The envelope lends its text and has it back afterwards.
        let envelope = std::mem::take(&mut self.client.transaction.envelope);
        self.complete(reason, tenant, (envelope.reverse_path().text(), to), reply);
        self.client.transaction.envelope = envelope;
    }

    /// The same for a connection that is turned away before it can say anything; `tenant` is that
    /// of its network.
    pub(crate) fn refuse_connection(&mut self, tenant: Option<TenantIx>, reason: Reason, reply: &mut Reply) {
        self.complete(reason, tenant, ("", ""), reply);
    }

    /// Refuses what the spool does not take.
    pub(crate) fn refuse_for_spool(&mut self, refusal: Refusal, reply: &mut Reply) {
        match refusal {
            Refusal::Full => self.refuse_for(Reason::SpoolFull, None, "", reply),
            Refusal::Busy => {
                self.refuse_for(Reason::SpoolFull, Some(format_args!("room is being made")), "", reply);
            }
            Refusal::Latched => self.refuse_for(Reason::SpoolFailed, None, "", reply),
            Refusal::Vanished => {
                self.refuse_for(
                    Reason::SpoolFailed,
                    Some(format_args!("its files have vanished")),
                    "",
                    reply,
                );
            }
        }
    }

    fn complete(
        &mut self,
        reason: Reason,
        tenant: Option<TenantIx>,
        (from, to): (&str, &str),
        reply: &mut Reply,
    ) {
        let decision = Decision::refusal_for(reason, tenant);
        let first_line = reply.lines().next().unwrap_or_default();
        let detail = Some(format_args!("{first_line}"));
        let ticket = self.ticket_for(&decision, detail, (from, to));
        self.note(&decision, detail, (from, to), ticket);
        let facts = ReplyFacts { from, to, ..self.reply_facts(ticket) };
        decision.add_advice(&facts, reply);
    }

    fn reply_facts(&self, ticket: Ticket) -> ReplyFacts<'_> {
        ReplyFacts {
            client: self.client.address,
            from: "",
            to: "",
            detail: None,
            ticket: Some(ticket),
            contact: self.settings.contact.as_deref(),
            public_url: self.settings.public_url.as_deref(),
            submission_port: self.settings.submission_port,
        }
    }

    /// Writes a denial into metric and log.
    fn note(
        &mut self,
        decision: &Decision,
        detail: Option<fmt::Arguments<'_>>,
        (from, to): (&str, &str),
        ticket: Ticket,
    ) {
        let reason = decision.verdict.reason().expect("only a refusal is denied");
        let (may_log, now) = (self.may_log((reason, ticket)), self.cx.now());
        let index = self.client.listener;
        let denied = RelayDenied {
            listener: Listener { index, name: &self.settings.listeners[index].policy.name },
            client: self.client.address,
            proxy: self.client.proxy(),
            tenant: decision.tenant.map_or("", |tenant| &self.client.snapshot.tenant(tenant).name),
            login: &self.client.login,
            from,
            to,
            reason,
            rule: Word(decision.rule.as_str()),
            detail,
            ticket,
        };
        if may_log {
            self.cx.log.record_and_count(&denied, self.cx.metrics, now);
        } else {
            denied.count(self.cx.metrics);
        }
        self.count_refusal(reason);
    }
}

impl<R: Ring> SessionHandler<'_, '_, R> {
    /// Whether a denial has a line of its own in the log; where not, it is part of a sum.
    fn may_log(&mut self, denial: (Reason, Ticket)) -> bool {
        let may_log = self.has_line(denial);
        let is_of_login = matches!(denial.0, Reason::LoginFailed | Reason::LoginLocked | Reason::LoginBusy);
        // Names that do not exist would only take the places of those that do.
        if !may_log && is_of_login && self.client.snapshot.identity(&self.client.login).is_some() {
            self.folds.guessed(&self.client.login, self.client.address, denial, &self.cx.pen());
        }
        may_log
    }

    fn has_line(&mut self, denial: (Reason, Ticket)) -> bool {
        if self.client.denials_logged >= LINES_A_TRANSACTION_MAX {
            self.client.fold.add(denial.0, denial.1);
            return false;
        }
        let (client, pen) = (self.client.with_side(), &mut self.cx.pen());
        let has_line = self.folds.may_write(client, pen);
        if has_line {
            self.client.denials_logged += 1;
        } else {
            self.folds.add(client, denial, pen);
        }
        has_line
    }
}

/// The transaction of this client is over: its denials that had no line have one together, or are part
/// of what is said of the client, where that has had its lines.
pub(crate) fn end_fold<R: Ring>(client: &mut Client, folds: &mut Folds, cx: &mut Context<'_, R>) {
    client.denials_logged = 0;
    if client.fold.is_empty() {
        return;
    }
    let (with_side, pen) = (client.with_side(), &mut cx.pen());
    if folds.may_write(with_side, pen) {
        client.fold.write(pen.log, pen.unix_now, ("transaction", Some(client.address)));
    } else {
        folds.take_in(with_side, &client.fold, pen);
    }
    client.fold.clear();
}

// How it works: which ticket a denial has, and the record that belongs to it.
impl<R: Ring> SessionHandler<'_, '_, R> {
    fn ticket_for(
        &mut self,
        decision: &Decision,
        detail: Option<fmt::Arguments<'_>>,
        (from, to): (&str, &str),
    ) -> Ticket {
        if let Some(denied) = self.client.transaction.denied
            && !to.is_empty()
            && (denied.rule, denied.verdict) == (decision.rule, decision.verdict)
            && denied.is_recorded
        {
            self.add_recipient(denied.ticket, to);
            return denied.ticket;
        }
        let (link, now) = (self.cx.link, self.cx.now());
        let (ticket, is_recorded) = match link.repeated_ticket(self.client.address, decision, now) {
            Some(ticket) => (ticket, false),
            None => {
                let ticket = self.new_ticket();
                (ticket, self.record(ticket, decision, detail, (from, to)))
            }
        };
        let Decision { rule, verdict, .. } = *decision;
        self.client.transaction.denied = Some(Denied { ticket, rule, verdict, is_recorded });
        ticket
    }

    /// Writes down what was decided, and with what; false when there is no room for that.
    fn record(
        &mut self,
        ticket: Ticket,
        decision: &Decision,
        detail: Option<fmt::Arguments<'_>>,
        (from, to): (&str, &str),
    ) -> bool {
        let (link, now) = (self.cx.link, self.cx.now());
        self.client.hand_over_denial(link);
        let Some(mut denial) = link.blank_denial(self.client.address) else { return false };
        let client = &mut *self.client;
        let facts = client.facts(&self.settings.listeners[client.listener].policy);
        denial.ticket = ticket;
        denial.is_more = false;
        denial.time = now;
        denial.listener = client.listener;
        denial.client = client.address;
        denial.tls = client.tls;
        denial.login.push_str(&client.login);
        denial.is_logged_in = facts.identity.is_some();
        denial.grants.extend_from_slice(facts.grants);
        denial.helo.push_str(&client.helo);
        denial.from.push_str(from);
        if !to.is_empty() {
            denial.push_recipient(to);
        }
        denial.transaction_tenant = client.transaction.tenant;
        denial.decision = *decision;
        if let Some(detail) = detail {
            // Writing to a String does not fail.
            let _ = denial.detail.write_fmt(detail);
        }
        denial.snapshot = Some(client.snapshot.clone());
        client.denial = Some(denial);
        link.remember_ticket(client.address, decision, now, ticket);
        true
    }

    fn add_recipient(&mut self, ticket: Ticket, to: &str) {
        let is_open = self.client.denial.as_ref().is_some_and(|denial| denial.ticket == ticket);
        if !is_open {
            self.client.hand_over_denial(self.cx.link);
            let Some(mut denial) = self.cx.link.blank_denial(self.client.address) else { return };
            denial.ticket = ticket;
            denial.is_more = true;
            self.client.denial = Some(denial);
        }
        if let Some(denial) = &mut self.client.denial {
            denial.push_recipient(to);
        }
    }

    fn new_ticket(&mut self) -> Ticket {
        let mut bits = [0; 16];
        self.cx.ring.random(&mut bits);
        Ticket::from_random(u128::from_le_bytes(bits))
    }
}

impl Client {
    /// Its address, and with whom it shares lines of the log. What a transaction says of its tenant is no matter:
    /// a stranger may write to one.
    fn with_side(&self) -> (IpAddr, Side) {
        let is_tenants = self.identity.is_some() || self.snapshot.network_tenant(self.address).is_some();
        (self.address, if is_tenants { Side::Tenants } else { Side::Strangers })
    }

    /// Gives the denial that was being written, if there is one, to the control plane.
    pub(crate) fn hand_over_denial(&mut self, link: &WorkerLink) {
        if let Some(denial) = self.denial.take() {
            link.deny(denial);
        }
    }
}
