//! The handler: answers a session's questions from the configuration, and hands accepted mail to the spool.

pub(crate) mod admission;
pub(crate) mod author;
mod containment;
pub(crate) mod denial;
mod large;
mod lists;
pub(crate) mod login;
pub(crate) mod proxy;
mod recipient;
mod trace;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use commons::Account;
use mail::limits::INLINE_BODY_BYTES_MAX;
use mail::{ForwardPath, MessageId, Reason, Reply, ReversePath};
use policy::{NoTrace, TenantIx};
use ring::{Handle, Ring};
use smtp::server::{
    Credentials, Flow, Handler, Introduction, MailParameters, MessageEnd, ScramStart, Step, XClient,
    XClientRights,
};
use spool::{Content, NewMessage, PIECE_BYTES, Refusal};

use self::large::is_large;
use self::trace::Trace;
use crate::connection::{Client, Waiting};
use crate::findings::Findings;
use crate::folds::Folds;
use crate::headers::Found;
use crate::seats::Seats;
use crate::{Context, Settings};

/// Borrowed for one call of the session: the client it judges, and the rooms it asks.
pub(crate) struct SessionHandler<'a, 'c, R> {
    pub(crate) client: &'a mut Client,
    pub(crate) settings: &'a Settings,
    pub(crate) counter: &'a mut u32,
    /// Connections whose message waits for room in the spool's open group.
    pub(crate) parked: &'a mut VecDeque<Handle>,
    /// What was found out about recipients of late.
    pub(crate) findings: &'a mut Findings,
    /// Who has a place.
    pub(crate) seats: &'a mut Seats,
    /// Denials that the log sums up.
    pub(crate) folds: &'a mut Folds,
    pub(crate) cx: &'a mut Context<'c, R>,
}

/// What the handlers of all sessions of a worker share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) counter: u32,
    pub(crate) parked: VecDeque<Handle>,
    pub(crate) findings: Findings,
    pub(crate) seats: Seats,
    pub(crate) folds: Folds,
}

impl Shared {
    /// The handler of `client`'s session.
    pub(crate) fn handler<'a, 'c, R>(
        &'a mut self,
        client: &'a mut Client,
        cx: &'a mut Context<'c, R>,
    ) -> SessionHandler<'a, 'c, R> {
        let Self { settings, counter, parked, findings, seats, folds } = self;
        SessionHandler { client, settings, counter, parked, findings, seats, folds, cx }
    }
}

impl<R: Ring> Handler for SessionHandler<'_, '_, R> {
    fn refused(&mut self, reason: Reason, reply: &mut Reply) {
        self.add_ticket(reason, "", reply);
    }

    fn proxied(&mut self, client: Option<SocketAddr>, reply: &mut Reply) -> bool {
        self.take_proxied(client, reply)
    }

    fn proxy_fault(&mut self, fault: smtp::proxy::Fault) {
        self.record_proxy_fault(fault);
    }

    fn xclient_rights(&self) -> XClientRights {
        self.client.xclient
    }

    fn xclient(&mut self, told: &XClient, reply: &mut Reply) -> Introduction {
        self.take_xclient(told, reply)
    }

    fn xclient_refused(&mut self) {
        self.record_xclient_refused();
    }

    fn helo(&mut self, name: &str, extended: bool) {
        if !self.client.helo_is_told {
            self.client.helo.clear();
            self.client.helo.push_str(name);
        }
        self.client.extended = extended;
    }

    fn tls_started(&mut self) {
        self.client.tls = true;
        if !self.client.helo_is_told {
            self.client.helo.clear();
        }
        self.client.login.clear();
        self.client.identity = None;
        self.client.account = Account::default();
    }

    fn offers_scram(&mut self) -> bool {
        self.is_scram_offered()
    }

    fn scram(&mut self, login: &str, reply: &mut Reply) -> Option<ScramStart> {
        self.begin_scram(login, reply)
    }

    fn auth(&mut self, credentials: Credentials<'_>, reply: &mut Reply) -> Step {
        self.login(credentials, reply)
    }

    fn mail(&mut self, from: ReversePath<'_>, parameters: &MailParameters, reply: &mut Reply) -> bool {
        self.client.renew_snapshot(self.cx.snapshots.load());
        self.client.transaction.denied = None;
        denial::end_fold(self.client, self.folds, self.cx);
        if let Err(refusal) = self.cx.spool.accepts_mail() {
            self.refuse_for_spool(refusal, reply);
            return false;
        }
        if self.refused_by_client_list(reply) {
            return false;
        }
        self.client.renew_grants(self.cx.link.commons().limits().grants(), self.cx.now());
        let facts = self.client.facts(&self.settings.listeners[self.client.listener].policy);
        let decision = self.client.snapshot.decide_mail(&facts, from, &mut NoTrace);
        if !decision.verdict.is_accept() {
            self.deny(&decision, from.text(), "", reply);
            return false;
        }
        if !self.may_begin(&decision, from.text(), parameters.size, reply) {
            return false;
        }
        let limit = self.message_bytes_max(decision.tenant);
        if parameters.size.is_some_and(|size| size > limit) {
            self.too_large(limit, reply);
            return false;
        }
        if let Some(size) = parameters.size
            && !self.may_hold(size, reply)
        {
            return false;
        }
        let transaction = &mut self.client.transaction;
        transaction.hold = None;
        transaction.open = true;
        transaction.envelope.begin(from);
        transaction.envelope.set_eight_bit(parameters.eight_bit);
        transaction.declared_bytes = parameters.size.unwrap_or(0);
        true
    }

    fn rcpt(&mut self, to: ForwardPath<'_>, reply: &mut Reply) -> Step {
        self.client.renew_grants(self.cx.link.commons().limits().grants(), self.cx.now());
        let facts = self.client.facts(&self.settings.listeners[self.client.listener].policy);
        let transaction = &self.client.transaction;
        let (known, count) = (transaction.tenant, transaction.envelope.recipient_count());
        let from = transaction.envelope.reverse_path();
        let decision = self.client.snapshot.decide_recipient(&facts, from, to, known, &mut NoTrace);
        if !decision.verdict.is_accept() {
            // The envelope lends its text to the denial and has it back afterwards.
            let envelope = std::mem::take(&mut self.client.transaction.envelope);
            self.deny(&decision, envelope.reverse_path().text(), to.text(), reply);
            self.client.transaction.envelope = envelope;
            return Step::Refuse;
        }
        if self.refused_by_lists(&decision, to, reply) {
            return Step::Refuse;
        }
        let limit = decision
            .tenant
            .and_then(|tenant| self.client.snapshot.limits(tenant).recipients_max)
            .unwrap_or(self.settings.listeners[self.client.listener].session.limits.recipients_max);
        if count >= limit as usize {
            let detail = Some(format_args!("at most {limit}"));
            self.refuse_for(Reason::TooManyRecipients, detail, to.text(), reply);
            return Step::Refuse;
        }
        let ForwardPath::Address(address) = to else {
            unreachable!("policy denies every path that is no address");
        };
        match self.check_recipient(address, &decision, reply) {
            Step::Accept => {}
            other => return other,
        }
        if !self.may_add(&decision, to.text(), reply) {
            return Step::Refuse;
        }
        let client = &mut *self.client;
        let (snapshot, transaction) = (&client.snapshot, &mut client.transaction);
        if let Some(checks) = transaction.authorship.recipient_accepted(snapshot, client.identity, &decision)
        {
            transaction.headers.check(checks);
        }
        self.client.transaction.tenant = decision.tenant.or(known);
        self.client.transaction.identity = decision.identity.or(self.client.transaction.identity);
        self.client.transaction.envelope.push_recipient(address);
        Step::Accept
    }

    fn data(&mut self, reply: &mut Reply) -> bool {
        match self.cx.spool.accepts_mail() {
            Ok(()) => self.may_go_on(reply) && self.may_hold(self.client.transaction.declared_bytes, reply),
            Err(refusal) => {
                self.refuse_for_spool(refusal, reply);
                false
            }
        }
    }

    fn body(&mut self, wire: &[u8]) -> Flow {
        let limit = self.message_bytes_max(self.client.transaction.tenant);
        let client = &mut *self.client;
        let (snapshot, transaction) = (&client.snapshot, &mut client.transaction);
        transaction.body_bytes += wire.len() as u64;
        let authorship = &mut transaction.authorship;
        let mut see = |found: Found<'_>| authorship.see(snapshot, found);
        transaction.headers.feed(wire, &self.settings.hostname, &mut see);
        if transaction.authorship.is_refused() {
            transaction.refused.get_or_insert(Reason::HeaderFromNotOwned);
        }
        if transaction.body_bytes > limit {
            transaction.refused.get_or_insert(Reason::MessageTooLarge);
        }
        if transaction.refused.is_some() {
            self.give_body_up();
            return Flow::Continue;
        }
        transaction.body.extend_from_slice(wire);
        let is_large = transaction.large.is_some() || is_large(transaction.declared_bytes);
        if transaction.body.len() < if is_large { PIECE_BYTES } else { INLINE_BODY_BYTES_MAX } {
            return Flow::Continue;
        }
        self.spill()
    }

    fn message_end(&mut self, end: MessageEnd, reply: &mut Reply) -> Step {
        let client = &mut *self.client;
        let (snapshot, transaction) = (&client.snapshot, &mut client.transaction);
        transaction.ended_at = self.cx.ring.now();
        let authorship = &mut transaction.authorship;
        let mut see = |found: Found<'_>| authorship.see(snapshot, found);
        transaction.headers.finish(&self.settings.hostname, &mut see);
        let refused = match end {
            MessageEnd::Whole { .. } if transaction.refused.is_some() => transaction.refused,
            MessageEnd::Whole { .. } if transaction.authorship.end() => Some(Reason::HeaderFromNotOwned),
            MessageEnd::Whole { .. } => transaction.headers.is_loop().then_some(Reason::LoopDetected),
            MessageEnd::BareNewline => Some(Reason::BareNewline),
            MessageEnd::TooLarge => Some(Reason::MessageTooLarge),
        };
        if let Some(reason) = refused {
            self.refuse_message(reason, reply);
            self.end_transaction();
            return Step::Refuse;
        }
        if !self.may_end(reply) {
            self.end_transaction();
            return Step::Refuse;
        }
        self.client.transaction.id = Some(self.next_id());
        if let Some(large) = self.client.transaction.large {
            return self.finish_large(large);
        }
        self.store(reply)
    }

    fn reset(&mut self) {
        match self.client.waiting {
            // It is in the spool's hands: it will be delivered although its client will not hear of it.
            Waiting::Commit => {}
            Waiting::Nothing
            | Waiting::Login
            | Waiting::Listing
            | Waiting::Recipient
            | Waiting::Room
            | Waiting::Large => {
                self.client.waiting = Waiting::Nothing;
                self.end_transaction();
            }
        }
    }
}

impl<R: Ring> SessionHandler<'_, '_, R> {
    /// The largest message that could ever be taken: by the node, for `tenant`, and of this client.
    fn message_bytes_max(&self, tenant: Option<TenantIx>) -> u64 {
        let of_node = self.settings.listeners[self.client.listener].session.message_bytes_max;
        let of_tenant = tenant.and_then(|tenant| self.client.snapshot.limits(tenant).message_bytes_max);
        let of_client = self.settings.unfinished.largest(self.holder());
        of_node.into_iter().chain(of_tenant).fold(of_client.max(INLINE_BODY_BYTES_MAX as u64), u64::min)
    }

    /// Forgets the message, and what the spool holds of it.
    pub(crate) fn end_transaction(&mut self) {
        self.give_body_up();
        self.client.transaction.clear();
    }

    fn next_id(&mut self) -> MessageId {
        *self.counter = self.counter.wrapping_add(1);
        MessageId::new(self.cx.now(), self.settings.worker, *self.counter)
    }

    /// Copies the message into the spool's open group; the reply comes with its commit.
    pub(crate) fn store(&mut self, reply: &mut Reply) -> Step {
        let now = self.cx.now();
        let client = &mut *self.client;
        let transaction = &mut client.transaction;
        let id = transaction.id.expect("an id is given when the message ends");
        let envelope = &transaction.envelope;
        Trace {
            helo: &client.helo,
            client: client.address,
            hostname: &self.settings.hostname,
            extended: client.extended,
            tls: client.tls.then_some(&client.tls_name),
            authenticated: client.identity.is_some(),
            id,
            recipient: if envelope.recipient_count() == 1 { envelope.recipients().next() } else { None },
            now,
        }
        .write_to(&mut transaction.trace);
        transaction.trace.extend_from_slice(&transaction.head);
        let tenant = transaction.tenant.expect("an accepted recipient names its tenant");
        client.account.write_sender(&client.snapshot, client.address, &mut transaction.sender);
        let message = NewMessage {
            id,
            arrived: now,
            tenant: &client.snapshot.tenant(tenant).name,
            identity: &transaction.sender,
            envelope,
            head: &transaction.trace,
            content: match transaction.large {
                Some(large) => Content::Large(large),
                None => Content::Inline(&transaction.body),
            },
        };
        match self.cx.spool.append(&message, Some(client.key)) {
            Ok(_) => {
                transaction.large = None;
                transaction.body.clear();
                client.waiting = Waiting::Commit;
                Step::Wait
            }
            Err(Refusal::Busy) => {
                client.waiting = Waiting::Room;
                self.parked.push_back(client.key);
                Step::Wait
            }
            Err(refusal) => {
                self.refuse_for_spool(refusal, reply);
                self.end_transaction();
                Step::Refuse
            }
        }
    }

    fn too_large(&mut self, limit: u64, reply: &mut Reply) {
        self.refuse_for(Reason::MessageTooLarge, Some(format_args!("at most {limit} octets")), "", reply);
    }

    fn refuse_message(&mut self, reason: Reason, reply: &mut Reply) {
        match reason {
            Reason::MessageTooLarge => {
                let limit = self.message_bytes_max(self.client.transaction.tenant);
                self.too_large(limit, reply);
            }
            Reason::HeaderFromNotOwned => self.refuse_header(reply),
            Reason::SpoolFull => self.refuse_over_budget(reply),
            _ => self.refuse_for(reason, None, "", reply),
        }
    }
}

/// An address as policy wants it: v4-mapped v6 is v4.
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}
