//! The handler: answers a session's questions from the configuration, and hands accepted mail to the spool.

pub(crate) mod admission;
pub(crate) mod author;
mod containment;
pub(crate) mod denial;
mod large;
mod lists;
pub(crate) mod login;
mod meter;
pub(crate) mod proxy;
mod recipient;
mod trace;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use commons::{Account, RecipientFinding};
use mail::limits::INLINE_BODY_BYTES_MAX;
use mail::{Address, ForwardPath, MessageId, Reason, Reply, ReversePath};
use policy::{Decision, NoTrace, TenantIx};
use ring::{Handle, Ring};
use smtp::server::{
    Credentials, Flow, Handler, Introduction, MailParameters, MessageEnd, ScramStart, Step, XClient,
    XClientRights,
};
use spool::{NewMessage, PIECE_BYTES};

use self::denial::Denials;
use self::large::is_large;
use self::trace::Trace;
use crate::connection::Client;
use crate::findings::Findings;
use crate::folds::Folds;
use crate::headers::Found;
use crate::refusal::{Detail, Names, Refusal, Words};
use crate::seats::Seats;
use crate::transaction::{GivenUp, Incoming, Message, Opening, Responsible, Stage, Transaction};
use crate::{Context, Settings};

/// Borrowed for one call of the session: the client it answers, and the rooms it asks.
pub(crate) struct SessionHandler<'a, 'c, R> {
    pub(crate) client: &'a mut Client,
    pub(crate) denials: &'a mut Denials,
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
        (client, denials): (&'a mut Client, &'a mut Denials),
        cx: &'a mut Context<'c, R>,
    ) -> SessionHandler<'a, 'c, R> {
        let Self { settings, counter, parked, findings, seats, folds } = self;
        SessionHandler { client, denials, settings, counter, parked, findings, seats, folds, cx }
    }
}

impl<R: Ring> Handler for SessionHandler<'_, '_, R> {
    fn refused(&mut self, reason: Reason, reply: &mut Reply) {
        let refusal = Refusal::for_reason(reason, self.client.transaction.tenant());
        self.refuse(&Refusal { words: Words::Said, ..refusal }, "", reply);
    }

    fn proxied(&mut self, client: Option<SocketAddr>, reply: &mut Reply) -> bool {
        let admitted = self.take_proxied(client);
        admitted.inspect_err(|why| self.turn_away(why, reply)).is_ok()
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
        match self.begin_scram(login) {
            Ok(start) => Some(start),
            Err(refusal) => {
                self.client.login.clear();
                self.client.login.push_str(login);
                self.refuse_login(&refusal, reply);
                None
            }
        }
    }

    fn auth(&mut self, credentials: Credentials<'_>, reply: &mut Reply) -> Step {
        match self.check_login(credentials) {
            Ok(step) => step,
            Err(refusal) => {
                self.refuse_login(&refusal, reply);
                Step::Refuse
            }
        }
    }

    fn mail(&mut self, from: ReversePath<'_>, parameters: &MailParameters, reply: &mut Reply) -> bool {
        self.client.renew_snapshot(self.cx.snapshots.load());
        self.denials.begin();
        self.denials.end_fold(self.client, self.folds, self.cx);
        self.client.buffers.envelope.begin(from);
        self.client.buffers.envelope.set_eight_bit(parameters.eight_bit);
        match self.check_mail(from, parameters.size) {
            Ok(()) => {
                let opening = Opening::new(parameters.size.unwrap_or(0));
                self.client.transaction = Transaction::Envelope(opening);
                true
            }
            Err(refusal) => {
                self.refuse(&refusal, "", reply);
                false
            }
        }
    }

    fn rcpt(&mut self, to: ForwardPath<'_>, reply: &mut Reply) -> Step {
        self.take_recipient(to, None, reply)
    }

    fn data(&mut self, reply: &mut Reply) -> bool {
        match self.check_data() {
            Ok(()) => true,
            Err(refusal) => {
                self.refuse(&refusal, "", reply);
                false
            }
        }
    }

    fn body(&mut self, wire: &[u8]) -> Flow {
        let limit = self.message_bytes_max(self.client.transaction.tenant());
        let Client { snapshot, transaction, buffers, .. } = &mut *self.client;
        let Transaction::Body(incoming) = transaction else { return Flow::Continue };
        incoming.bytes += wire.len() as u64;
        let authorship = &mut incoming.authorship;
        let mut see = |found: Found<'_>| authorship.see(snapshot, found);
        buffers.headers.feed(wire, &self.settings.hostname, &mut see);
        if let Some(refusal) = incoming.authorship.refusal() {
            return self.give_up(refusal);
        }
        if incoming.bytes > limit {
            let refusal = self.too_large(limit);
            return self.give_up(refusal);
        }
        buffers.body.extend_from_slice(wire);
        let is_large = incoming.large.is_some() || is_large(incoming.declared_bytes);
        if buffers.body.len() < if is_large { PIECE_BYTES } else { INLINE_BODY_BYTES_MAX } {
            return Flow::Continue;
        }
        self.spill()
    }

    fn message_end(&mut self, end: MessageEnd, reply: &mut Reply) -> Step {
        let ended_at = self.cx.ring.now();
        let checked = match end {
            MessageEnd::Whole { .. } => self.check_message(),
            MessageEnd::BareNewline => Err(self.client.refusal_for(Reason::BareNewline)),
            MessageEnd::TooLarge => {
                Err(self.too_large(self.message_bytes_max(self.client.transaction.tenant())))
            }
        };
        if let Err(refusal) = checked {
            self.give_up(refusal);
        }
        match std::mem::take(&mut self.client.transaction) {
            Transaction::Body(incoming) => {
                let Incoming { responsible, bytes, large, .. } = incoming;
                let (id, is_large) = (self.next_id(), large.is_some());
                let stage = match large {
                    Some(large) => self.finish_large(large),
                    None => Stage::Parked(None),
                };
                let message = Message { id, responsible, bytes, ended_at, stage };
                self.client.transaction = Transaction::Message(message);
                if is_large { Step::Wait } else { self.store(reply) }
            }
            given_up => {
                self.client.transaction = given_up;
                self.end_given_up(reply)
            }
        }
    }

    fn reset(&mut self) {
        // In the spool's hands it will be delivered, although its client will not hear of it.
        if self.client.transaction.committing().is_none() {
            self.end_transaction();
        }
    }
}

// What is asked at each step, in the order of DESIGN.md G6: the first refusal is the answer.
impl<R: Ring> SessionHandler<'_, '_, R> {
    fn check_mail(&mut self, from: ReversePath<'_>, size: Option<u64>) -> Result<(), Refusal> {
        self.check_spool()?;
        self.check_client_list()?;
        self.client.renew_grants(self.cx.link.commons().limits().grants(), self.cx.now());
        let facts = self.client.facts(&self.settings.listeners[self.client.listener].policy);
        let decision = self.client.snapshot.decide_mail(&facts, from, &mut NoTrace);
        if !decision.verdict.is_accept() {
            return Err(Refusal::new(decision));
        }
        self.meter().may_begin(&decision, size)?;
        let Some(size) = size else { return Ok(()) };
        let limit = self.message_bytes_max(decision.tenant);
        if size > limit {
            return Err(self.too_large(limit));
        }
        self.may_hold(size)
    }

    /// Answers a recipient, of whom `finding` is known already if it was looked up.
    pub(crate) fn take_recipient(
        &mut self,
        to: ForwardPath<'_>,
        finding: Option<RecipientFinding>,
        reply: &mut Reply,
    ) -> Step {
        match self.check_recipient(to, finding) {
            Ok(step) => step,
            Err(refusal) => {
                self.refuse(&refusal, to.text(), reply);
                Step::Refuse
            }
        }
    }

    fn check_recipient(
        &mut self,
        to: ForwardPath<'_>,
        finding: Option<RecipientFinding>,
    ) -> Result<Step, Refusal> {
        self.client.renew_grants(self.cx.link.commons().limits().grants(), self.cx.now());
        let facts = self.client.facts(&self.settings.listeners[self.client.listener].policy);
        let known = self.client.transaction.tenant();
        let from = self.client.buffers.envelope.reverse_path();
        let decision = self.client.snapshot.decide_recipient(&facts, from, to, known, &mut NoTrace);
        if !decision.verdict.is_accept() {
            return Err(Refusal::new(decision));
        }
        self.check_lists(&decision, to)?;
        self.check_count(decision.tenant)?;
        let (ForwardPath::Address(address), Some(tenant)) = (to, decision.tenant) else {
            unreachable!("policy accepts addresses, and for a tenant");
        };
        if let Some(awaited) = self.look_up(address, &decision, finding)? {
            return Ok(self.wait_for(awaited, address));
        }
        self.meter().may_add(&decision)?;
        self.add_recipient(address, tenant, &decision);
        Ok(Step::Accept)
    }

    fn check_count(&self, tenant: Option<TenantIx>) -> Result<(), Refusal> {
        let of_tenant = tenant.and_then(|tenant| self.client.snapshot.limits(tenant).recipients_max);
        let of_listener = self.settings.listeners[self.client.listener].session.limits.recipients_max;
        let limit = of_tenant.unwrap_or(of_listener);
        if self.client.buffers.envelope.recipient_count() < limit as usize {
            return Ok(());
        }
        let refusal = self.client.refusal_for(Reason::TooManyRecipients);
        Err(refusal.because(Detail::RecipientsMax(limit)).naming(Names::Command))
    }

    fn add_recipient(&mut self, to: Address<'_>, tenant: TenantIx, accepted: &Decision) {
        let Client { snapshot, transaction, buffers, identity, .. } = &mut *self.client;
        let Transaction::Envelope(opening) = transaction else {
            unreachable!("recipients come between MAIL and DATA");
        };
        if let Some(checks) = opening.authorship.recipient_accepted(snapshot, *identity, accepted) {
            buffers.headers.check(checks);
        }
        let known = opening.responsible.and_then(|responsible| responsible.identity);
        opening.responsible = Some(Responsible { tenant, identity: accepted.identity.or(known) });
        buffers.envelope.push_recipient(to);
    }

    /// DATA: whether the message may come. Then it does.
    fn check_data(&mut self) -> Result<(), Refusal> {
        let Transaction::Envelope(Opening { declared_bytes, responsible: Some(responsible), .. }) =
            self.client.transaction
        else {
            unreachable!("DATA comes after a recipient that was taken");
        };
        self.check_spool()?;
        self.meter().may_go_on(responsible.tenant)?;
        self.may_hold(declared_bytes)?;
        self.client.transaction.begin_body(responsible);
        Ok(())
    }

    /// The message is whole: whether it may be taken. Of one that was given up there is nothing left to ask.
    fn check_message(&mut self) -> Result<(), Refusal> {
        let Client { snapshot, transaction, buffers, .. } = &mut *self.client;
        let Transaction::Body(incoming) = transaction else { return Ok(()) };
        let authorship = &mut incoming.authorship;
        let mut see = |found: Found<'_>| authorship.see(snapshot, found);
        buffers.headers.finish(&self.settings.hostname, &mut see);
        incoming.authorship.end();
        if let Some(refusal) = incoming.authorship.refusal() {
            return Err(refusal);
        }
        if buffers.headers.is_loop() {
            return Err(self.client.refusal_for(Reason::LoopDetected));
        }
        let bytes = incoming.bytes;
        self.meter().may_end(bytes)
    }

    /// Whether the spool takes mail at all.
    fn check_spool(&self) -> Result<(), Refusal> {
        self.cx.spool.accepts_mail().map_err(|refusal| self.client.refusal_of_spool(refusal))
    }

    fn too_large(&self, limit: u64) -> Refusal {
        self.client.refusal_for(Reason::MessageTooLarge).because(Detail::OctetsMax(limit))
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

    /// What has come of the message, and what is still to come, is of no use: all that it held is free. Its end is
    /// answered with `refusal`.
    pub(crate) fn give_up(&mut self, refusal: Refusal) -> Flow {
        if let Some(responsible) = self.client.transaction.responsible() {
            self.drop_body();
            self.client.transaction = Transaction::GivenUp(GivenUp { responsible, refusal });
        }
        Flow::Continue
    }

    /// Answers the end of a message that was given up.
    pub(crate) fn end_given_up(&mut self, reply: &mut Reply) -> Step {
        self.refuse_given_up(reply);
        self.end_transaction();
        Step::Refuse
    }

    /// Forgets the message, and what the spool holds of it.
    pub(crate) fn end_transaction(&mut self) {
        self.drop_body();
        self.client.buffers.clear();
    }

    fn next_id(&mut self) -> MessageId {
        *self.counter = self.counter.wrapping_add(1);
        MessageId::new(self.cx.now(), self.settings.worker, *self.counter)
    }

    /// Copies the message into the spool's open group; the reply comes with its commit.
    pub(crate) fn store(&mut self, reply: &mut Reply) -> Step {
        match self.append() {
            Ok(()) => Step::Wait,
            Err(refusal) => {
                self.give_up(self.client.refusal_of_spool(refusal));
                self.end_given_up(reply)
            }
        }
    }

    fn append(&mut self) -> Result<(), spool::Refusal> {
        let now = self.cx.now();
        let client = &mut *self.client;
        let (transaction, buffers) = (&mut client.transaction, &mut client.buffers);
        let Transaction::Message(Message { id, responsible, stage, .. }) = transaction else { return Ok(()) };
        let Some((content, head)) = stage.content(&buffers.body) else { return Ok(()) };
        let envelope = &buffers.envelope;
        Trace {
            helo: &client.helo,
            client: client.address,
            hostname: &self.settings.hostname,
            extended: client.extended,
            tls: client.tls.then_some(&client.tls_name),
            authenticated: client.identity.is_some(),
            id: *id,
            recipient: if envelope.recipient_count() == 1 { envelope.recipients().next() } else { None },
            now,
        }
        .write_to(&mut buffers.trace);
        buffers.trace.extend_from_slice(head);
        client.account.write_sender(&client.snapshot, client.address, &mut buffers.sender);
        let message = NewMessage {
            id: *id,
            arrived: now,
            tenant: &client.snapshot.tenant(responsible.tenant).name,
            identity: &buffers.sender,
            envelope,
            head: &buffers.trace,
            content,
        };
        match self.cx.spool.append(&message, Some(client.key)) {
            Ok(_) => {
                stage.commit();
                buffers.body.clear();
            }
            Err(spool::Refusal::Busy) => {
                stage.park();
                self.parked.push_back(client.key);
            }
            Err(refusal) => return Err(refusal),
        }
        Ok(())
    }
}

/// An address as policy wants it: v4-mapped v6 is v4.
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}
