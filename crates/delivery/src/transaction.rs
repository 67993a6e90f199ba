//! One message over one connection: envelope, body, answers.

use std::ops::Range;

use mail::Reply;
use ring::{Handle, Ring, SharedBuffer};
use scheduler::{Event, JobIx};
use smtp::client::{Event as Said, Phase as SessionPhase};
use spool::{LoadError, StoredMessage};

use crate::connection::{Answer, Body, Flight, Phase, Task, Then, Transaction};
use crate::connections::Connections;
use crate::desk::{Desk, Load};
use crate::outcome::{Attempt, addresses};
use crate::{Context, fit, own_reply};

impl Connections {
    /// Gives a job to an idle connection: its message is fetched from the spool, usually from memory.
    pub(crate) fn start<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        key: Handle,
        job: JobIx,
    ) {
        let wire = self.wire(key).expect("the schedule gives jobs to connections that are ready");
        wire.task = Task::Loading(job);
        let request = desk.loads.insert(Load::Attempt(key));
        cx.spool.load(cx.ring, desk.schedule.key(job), request);
        self.arm(key, cx.ring.now());
    }

    /// The message is here: the transaction begins.
    pub(crate) fn begin<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        key: Handle,
        result: Result<StoredMessage, LoadError>,
    ) {
        let Some(connection) = self.all.get_mut(key) else { return };
        let hop = connection.hop_name.clone();
        let Some(wire) = connection.wire() else { return };
        let &Task::Loading(job) = &wire.task else { return };
        let message = match result {
            Ok(message) => message,
            Err(error) => {
                wire.task = Task::Idle;
                desk.unreadable(cx, job, &error);
                return self.boundary(cx, desk, key);
            }
        };
        if let Some(reply) = fit::misfit(&message, &wire.session, hop.as_deref().unwrap_or_default()) {
            // The next hop does not take such a message: it fails, and the connection is free again.
            wire.task = Task::Idle;
            let attempt = Attempt { next_hop: hop.as_deref(), ..Attempt::unmade(&reply) };
            desk.conclude(cx, job, &message, &attempt);
            self.carried(cx, desk, key);
            return self.boundary(cx, desk, key);
        }
        desk.note_attempt(cx, job);
        wire.answers.clear();
        wire.answers.resize(usize::from(desk.schedule.job(job).recipients), Answer::Waiting);
        wire.session.begin(
            message.reverse_path(),
            addresses(desk.schedule.recipients(job), &message).map(|(_, address)| address),
            Some(message.content_bytes()),
            fit::declares_eight_bit(&message),
        );
        wire.task = Task::Sending(Transaction { job, message, heard: false, body: Body::None });
        self.busy.push_back(key);
    }

    /// Lets a connection go on: with the answer to its question, or with what its session has to say and to send.
    pub(crate) fn converse<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk, key: Handle) {
        let Some(connection) = self.all.get(key) else { return };
        if let Phase::Resolving(_) = connection.phase {
            return self.connect(cx, desk, key);
        }
        loop {
            let Some(wire) = self.wire(key) else { return };
            let Some(said) = wire.session.poll() else { break };
            match said {
                Said::Ready => {
                    if self.ready(cx, desk, key) {
                        // What the schedule says to that comes first.
                        self.busy.push_back(key);
                        return;
                    }
                }
                Said::Recipient { index, reply } => wire.answered(index, reply),
                Said::SendBody => wire.send_body(),
                Said::Done { reply } => self.done(cx, desk, key, reply),
                Said::TransactionRefused { reply } => self.finish(cx, desk, key, &reply, true),
                Said::Failed { error } => return self.failed(cx, desk, key, &error),
            }
        }
        self.flush(cx, desk, key);
        let Some(wire) = self.wire(key) else { return };
        if wire.has_ended() {
            return self.close(cx, desk, key);
        }
        match wire.end.take() {
            Some(reply) => self.ended(cx, desk, key, reply, false),
            None => self.arm(key, cx.ring.now()),
        }
    }

    /// The session may carry a message: the first one, or the next. True when the schedule was told.
    fn ready<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk, key: Handle) -> bool {
        let connection = &mut self.all[key];
        let (site, hop) = (connection.site, connection.walk.hop());
        let Some(wire) = connection.wire() else { return false };
        // More was said than was asked for: the failure that follows is of the phase that ends here.
        let is_over = wire.session.phase() == SessionPhase::Closed;
        match wire.task {
            Task::Greeting if is_over => return false,
            Task::Greeting => hop.into_iter().for_each(|hop| desk.site_mut(site).prefer(hop)),
            Task::Sending(_) | Task::Over => {
                // A job that is still here had every recipient refused: no reply is left to speak for others.
                self.finish(cx, desk, key, &Reply::default(), true);
                self.carried(cx, desk, key);
            }
            Task::Idle | Task::Loading(_) | Task::Quitting => return false,
        }
        if let Some(wire) = self.wire(key) {
            wire.task = Task::Idle;
        }
        if !is_over {
            self.boundary(cx, desk, key);
        }
        !is_over
    }

    /// A transaction came to its end, whatever that was.
    fn carried<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk, key: Handle) {
        let connection = &mut self.all[key];
        connection.messages += 1;
        desk.site_served(cx, connection.site);
    }

    /// A message boundary: the next job, a wait for one, or the end of the connection.
    fn boundary<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk, key: Handle) {
        let connection = &self.all[key];
        let (number, site) = (connection.number, connection.site);
        self.arm(key, cx.ring.now());
        desk.tell_wanted(cx, site);
        desk.schedule.tell(cx, Event::Ready { connection: number });
    }

    /// A piece is on its way out: asks the spool for the one after it.
    pub(crate) fn next_piece<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        key: Handle,
        then: Then,
    ) {
        let Some(transaction) = self.wire(key).and_then(|wire| wire.transaction()) else { return };
        match then {
            Then::End => {}
            Then::More(read) => {
                transaction.body = Body::Reading(read);
                cx.spool.read_next(cx.ring, read);
            }
            Then::Open => {
                let request = desk.loads.insert(Load::Body(key));
                match cx.spool.read_large(cx.ring, &transaction.message, request) {
                    Some(read) => transaction.body = Body::Reading(read),
                    None => drop(desk.loads.remove(request)),
                }
            }
        }
    }

    /// The spool has read a piece of a large body.
    pub(crate) fn piece<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        request: Handle,
        (buffer, range, last): (SharedBuffer, Range<usize>, bool),
    ) {
        let Some(&Load::Body(key)) = desk.loads.get(request) else { return };
        if last {
            desk.loads.remove(request);
        }
        let Some(wire) = self.wire(key) else { return };
        let takes_eight_bit = wire.session.takes_eight_bit();
        let Some(transaction) = wire.transaction() else { return };
        let Body::Reading(read) = transaction.body else { return };
        if !takes_eight_bit && !buffer[range.clone()].is_ascii() {
            return self.cut_short(cx, desk, key);
        }
        let then = if last { Then::End } else { Then::More(read) };
        transaction.body = Body::Piece { buffer, range, then };
        wire.pieces = wire.pieces.wrapping_add(1);
        self.arm(key, cx.ring.now());
        self.flush(cx, desk, key);
    }

    /// A large body has 8-bit bytes, as was not known before, and the next hop takes none: without its final
    /// dot what was sent of it is no message.
    fn cut_short<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk, key: Handle) {
        let hop = self.all[key].hop_name.clone().unwrap_or_default();
        self.finish(cx, desk, key, &fit::seven_bit_only(&hop), false);
        self.carried(cx, desk, key);
        self.close(cx, desk, key);
    }

    /// A large body cannot be read on: what was sent of it must not be completed.
    pub(crate) fn piece_failed<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        request: Handle,
        error: &LoadError,
    ) {
        let Some(Load::Body(key)) = desk.loads.remove(request) else { return };
        let Some(wire) = self.wire(key) else { return };
        if let Task::Sending(transaction) = std::mem::replace(&mut wire.task, Task::Over) {
            desk.unreadable(cx, transaction.job, error);
        }
        self.close(cx, desk, key);
    }

    /// The answer to the final dot.
    fn done<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk, key: Handle, reply: Reply) {
        let Some(wire) = self.wire(key) else { return };
        if wire.is_body_out() {
            self.finish(cx, desk, key, &reply, true);
            if let Some(wire) = self.wire(key) {
                wire.session.recycle(reply);
            }
            return;
        }
        // It answers a body that it has not seen the end of: a refusal may be meant, acceptance cannot be.
        if reply.is_positive() {
            let reply = own_reply(2, "the next hop answered before the end of the message");
            return self.interrupted(cx, desk, key, reply, false);
        }
        self.finish(cx, desk, key, &reply, true);
        self.close(cx, desk, key);
    }

    /// The connection has ended before anything was heard of its message, which goes back.
    pub(crate) fn unbegun<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        key: Handle,
        reply: Reply,
        interrupted: bool,
    ) {
        let Some(wire) = self.wire(key) else { return };
        if let Task::Loading(job) | Task::Sending(Transaction { job, .. }) =
            std::mem::replace(&mut wire.task, Task::Over)
        {
            desk.schedule.tell(cx, Event::GivenBack { job, interrupted });
        }
        if self.all[key].messages > 0 {
            // A server may close a connection that it has served at any moment: that is no failure.
            return self.close(cx, desk, key);
        }
        // The next address may serve.
        self.address_failed(cx, desk, key, reply);
    }

    /// The connection broke under a transaction, which is a failure of the site.
    /// `heard_from` says that `reply` is the next hop's own.
    pub(crate) fn interrupted<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        key: Handle,
        reply: Reply,
        heard_from: bool,
    ) {
        let Some(wire) = self.wire(key) else { return };
        let is_last_byte_out = wire.is_body_out() && wire.flight == Flight::Nothing;
        let may_have_it = is_last_byte_out && wire.session.phase() == SessionPhase::Body;
        let Some(transaction) = wire.transaction() else { return self.close(cx, desk, key) };
        // It may have been closing already. That says nothing about the message, unless it happens again.
        if !transaction.heard && !desk.schedule.job(transaction.job).interrupted {
            return self.unbegun(cx, desk, key, reply, true);
        }
        if may_have_it {
            // RFC 5321 section 4.5.3.2.6: whether it has the message is not known; it is sent again.
            cx.metrics.possible_duplicate();
        }
        self.finish(cx, desk, key, &reply, heard_from);
        self.site_failed(cx, desk, key, reply);
        self.close(cx, desk, key);
    }

    /// Ends the transaction: `reply` speaks for the recipients without a refusal of their own.
    fn finish<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        key: Handle,
        reply: &Reply,
        heard_from: bool,
    ) {
        let Some(connection) = self.all.get_mut(key) else { return };
        let hop = connection.hop_name.clone();
        let Some(wire) = connection.wire().filter(|wire| matches!(wire.task, Task::Sending(_))) else {
            return;
        };
        wire.abandon_body(cx);
        let Task::Sending(transaction) = std::mem::replace(&mut wire.task, Task::Over) else { return };
        let (next_hop, answers) = (hop.as_deref(), &wire.answers[..]);
        let attempt = Attempt { next_hop, answers, reply, heard_from, give_up: false, by_operator: false };
        desk.conclude(cx, transaction.job, &transaction.message, &attempt);
    }
}
