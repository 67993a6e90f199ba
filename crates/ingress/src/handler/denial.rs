//! The one door by which every refusal leaves: its reply, its metric, its log record and its ticket are made of the
//! [`Refusal`] here and nowhere else, so that none is without the others.
//!
//! A ticket costs a record in the control plane. So the denials of one transaction for one cause
//! share a ticket, and a client that is denied again and again gets its latest one back, which counts them.
//! A line costs as much: past the first few of a transaction, and of a client, the log sums up. A storm
//! of denials costs its replies and little more.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use commons::{NoPlace, WorkerLink, machine};
use mail::{Reason, Reply, Status, Ticket, Verdict};
use observe::{Event as _, Listener, ShedCause, Word};
use policy::{Decision, ReplyFacts, Rule};
use ring::Ring;

use crate::connection::Client;
use crate::events::RelayDenied;
use crate::folds::{Fold, Folds, LINES_A_TRANSACTION_MAX, Side};
use crate::handler::SessionHandler;
use crate::refusal::{Names, Refusal, TurnedAway, Words};
use crate::transaction::Transaction;
use crate::{Context, Settings};

/// The denials of one client's transaction, or of what it says between two.
#[derive(Default)]
pub(crate) struct Denials {
    /// The one that was told last: others for the same cause have its ticket.
    last: Option<Told>,
    /// How many the log has a line of, and the others.
    logged: u32,
    fold: Fold,
    /// One that is being written: it goes to the control plane when the session has worked.
    record: Option<Box<commons::Denial>>,
}

/// A denial that was told, within one transaction.
#[derive(Clone, Copy)]
struct Told {
    ticket: Ticket,
    rule: Rule,
    verdict: Verdict,
    /// The ticket is this transaction's own: what is denied further belongs to its record.
    is_recorded: bool,
}

impl Denials {
    /// Another transaction begins: its denials have tickets of their own.
    pub(crate) fn begin(&mut self) {
        self.last = None;
    }

    /// The transaction of `client` is over: its denials that had no line have one together, or are part
    /// of what is said of the client, where that has had its lines.
    pub(crate) fn end_fold<R: Ring>(&mut self, client: &Client, folds: &mut Folds, cx: &mut Context<'_, R>) {
        self.logged = 0;
        if self.fold.is_empty() {
            return;
        }
        let (with_side, pen) = (client.with_side(), &mut cx.pen());
        if folds.may_write(with_side, pen) {
            self.fold.write(pen.log, pen.unix_now, ("transaction", Some(client.address)));
        } else {
            folds.take_in(with_side, &self.fold, pen);
        }
        self.fold.clear();
    }

    /// Gives the denial that was being written, if there is one, to the control plane.
    pub(crate) fn hand_over(&mut self, link: &WorkerLink) {
        if let Some(denial) = self.record.take() {
            link.deny(denial);
        }
    }
}

impl<'c, R: Ring> SessionHandler<'_, 'c, R> {
    /// Refuses what the client asked for: of a recipient `to` is its text, otherwise empty.
    pub(crate) fn refuse(&mut self, refusal: &Refusal, to: &str, reply: &mut Reply) {
        self.door().tell(refusal, to, reply);
    }

    /// Refuses the message that was given up, at its end.
    pub(crate) fn refuse_given_up(&mut self, reply: &mut Reply) {
        let mut door = self.door();
        let client = door.client;
        if let Transaction::GivenUp(message) = &client.transaction {
            door.tell(&message.refusal, "", reply);
        }
    }

    /// Turns a client away before it can say anything.
    pub(crate) fn turn_away(&mut self, why: &TurnedAway, reply: &mut Reply) {
        let refused = match why {
            TurnedAway::Refused(refusal) => return self.refuse(refusal, "", reply),
            TurnedAway::NoPlace(refused) => *refused,
        };
        let (address, listener) = (self.client.address, self.client.listener);
        let cause = match refused {
            NoPlace::Address(limit) => {
                let client = machine(address);
                let text = format_args!("too many connections: {client} may have {limit} at the same time");
                reply.set(421, Some(Status::new(4, 7, 0)), text);
                self.cx.metrics.denied(listener, None, Reason::ConnectionLimit);
                ShedCause::Address
            }
            NoPlace::Full(_) => {
                let text = format_args!("no place is left for another connection; try again later");
                reply.set(421, Some(Status::new(4, 3, 2)), text);
                self.seats.places().missed(self.cx.now());
                ShedCause::Full
            }
        };
        self.cx.metrics.connection_shed(listener, cause);
        self.seats.shed.add(cause, address);
    }

    fn door(&mut self) -> Door<'_, 'c, R> {
        let Self { client, denials, settings, folds, cx, .. } = self;
        Door { client, denials, settings, folds, cx }
    }
}

/// Where refusals leave: whom they are told, and where they are noted.
pub(super) struct Door<'a, 'c, R> {
    pub(super) client: &'a Client,
    denials: &'a mut Denials,
    settings: &'a Settings,
    folds: &'a mut Folds,
    pub(super) cx: &'a mut Context<'c, R>,
}

impl<R: Ring> Door<'_, '_, R> {
    fn tell(&mut self, refusal: &Refusal, to: &str, reply: &mut Reply) {
        let Refusal { decision, words, names } = refusal;
        let client = self.client;
        let paths = match names {
            Names::Client => ("", ""),
            Names::Transaction if client.transaction.is_none() => ("", ""),
            Names::Transaction => (client.buffers.envelope.reverse_path().text(), ""),
            Names::Command => (client.buffers.envelope.reverse_path().text(), to),
        };
        match words {
            Words::Usual(detail) => {
                let text = detail.told(&client.snapshot, client.address, self.cx.now());
                let text = format_args!("{text}");
                let detail = (!detail.is_none()).then_some(text);
                let ticket = self.note(decision, detail, paths);
                decision.write_reply(&ReplyFacts { detail, ..self.reply_facts(paths, ticket) }, reply);
            }
            Words::Own { code, status, text } => {
                let text = text.told(&client.snapshot, client.address, self.cx.now());
                reply.set(*code, Some(*status), format_args!("{text}"));
                self.complete(decision, paths, reply);
            }
            Words::Said => self.complete(decision, paths, reply),
        }
    }

    /// Completes a refusal that is worded already with what can be done about it and its ticket.
    fn complete(&mut self, decision: &Decision, paths: (&str, &str), reply: &mut Reply) {
        let first_line = reply.lines().next().unwrap_or_default();
        let ticket = self.note(decision, Some(format_args!("{first_line}")), paths);
        decision.add_advice(&self.reply_facts(paths, ticket), reply);
    }

    fn reply_facts<'b>(&'b self, (from, to): (&'b str, &'b str), ticket: Ticket) -> ReplyFacts<'b> {
        ReplyFacts {
            client: self.client.address,
            from,
            to,
            detail: None,
            ticket: Some(ticket),
            contact: self.settings.contact.as_deref(),
            public_url: self.settings.public_url.as_deref(),
            submission_port: self.settings.submission_port,
        }
    }

    /// Writes a denial into ticket, metric and log; gives its ticket.
    fn note(
        &mut self,
        decision: &Decision,
        detail: Option<fmt::Arguments<'_>>,
        (from, to): (&str, &str),
    ) -> Ticket {
        let ticket = self.ticket_for(decision, detail, (from, to));
        let reason = decision.verdict.reason().expect("only a refusal is denied");
        let (may_log, now, client) = (self.may_log((reason, ticket)), self.cx.now(), self.client);
        let index = client.listener;
        let denied = RelayDenied {
            listener: Listener { index, name: &self.settings.listeners[index].policy.name },
            client: client.address,
            proxy: client.proxy(),
            tenant: decision.tenant.map_or("", |tenant| &client.snapshot.tenant(tenant).name),
            login: &client.login,
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
        ticket
    }

    /// Whether a denial has a line of its own in the log; where not, it is part of a sum.
    fn may_log(&mut self, denial: (Reason, Ticket)) -> bool {
        let may_log = self.has_line(denial);
        let client = self.client;
        let is_of_login = matches!(denial.0, Reason::LoginFailed | Reason::LoginLocked | Reason::LoginBusy);
        // Names that do not exist would only take the places of those that do.
        if !may_log && is_of_login && client.snapshot.identity(&client.login).is_some() {
            self.folds.guessed(&client.login, client.address, denial, &self.cx.pen());
        }
        may_log
    }

    fn has_line(&mut self, denial: (Reason, Ticket)) -> bool {
        if self.denials.logged >= LINES_A_TRANSACTION_MAX {
            self.denials.fold.add(denial.0, denial.1);
            return false;
        }
        let (client, pen) = (self.client.with_side(), &mut self.cx.pen());
        let has_line = self.folds.may_write(client, pen);
        if has_line {
            self.denials.logged += 1;
        } else {
            self.folds.add(client, denial, pen);
        }
        has_line
    }
}

// How it works: which ticket a denial has, and the record that belongs to it.
impl<R: Ring> Door<'_, '_, R> {
    fn ticket_for(
        &mut self,
        decision: &Decision,
        detail: Option<fmt::Arguments<'_>>,
        (from, to): (&str, &str),
    ) -> Ticket {
        if let Some(last) = self.denials.last
            && !to.is_empty()
            && (last.rule, last.verdict) == (decision.rule, decision.verdict)
            && last.is_recorded
        {
            self.add_recipient(last.ticket, to);
            return last.ticket;
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
        self.denials.last = Some(Told { ticket, rule, verdict, is_recorded });
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
        self.denials.hand_over(link);
        let client = self.client;
        let Some(mut denial) = link.blank_denial(client.address) else { return false };
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
        denial.transaction_tenant = client.transaction.tenant();
        denial.decision = *decision;
        if let Some(detail) = detail {
            // Writing to a String does not fail.
            let _ = denial.detail.write_fmt(detail);
        }
        denial.snapshot = Some(client.snapshot.clone());
        self.denials.record = Some(denial);
        link.remember_ticket(client.address, decision, now, ticket);
        true
    }

    fn add_recipient(&mut self, ticket: Ticket, to: &str) {
        let is_open = self.denials.record.as_ref().is_some_and(|denial| denial.ticket == ticket);
        if !is_open {
            self.denials.hand_over(self.cx.link);
            let Some(mut denial) = self.cx.link.blank_denial(self.client.address) else { return };
            denial.ticket = ticket;
            denial.is_more = true;
            self.denials.record = Some(denial);
        }
        if let Some(denial) = &mut self.denials.record {
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
}
