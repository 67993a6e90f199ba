//! One message over one connection: envelope, body, answers.

use std::ops::Range;

use mail::{Address, Reply};
use ring::{Handle, Ring, SharedBuffer};
use smtp::client::{Event, Phase as SessionPhase};
use spool::{LoadError, StoredContent, StoredMessage};

use crate::connection::{Answer, Body, MESSAGES_PER_CONNECTION_MAX, Phase, Then};
use crate::outcome::Attempt;
use crate::queue::{JobIx, Queue, State};
use crate::schedule::Load;
use crate::{Context, Delivery, fit, report};

impl Delivery {
    /// Gives a job to an idle connection: its message is fetched from the spool, usually from memory.
    pub(crate) fn start<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, job: JobIx) {
        let connection = &mut self.connections[key];
        connection.phase = Phase::Loading;
        connection.job = Some(job);
        self.queue.set_state(job, State::Active);
        let request = self.loads.insert(Load::Attempt(key));
        let message = self.queue.message(self.queue.job(job).message).key;
        cx.spool.load(cx.ring, message, request);
        self.arm(key, cx.ring.now());
    }

    /// The message is here: the transaction begins.
    pub(crate) fn begin<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: Handle,
        result: Result<StoredMessage, LoadError>,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(job) = connection.job else { return };
        let message = match result {
            Ok(message) => message,
            Err(error) => {
                connection.clear_transaction();
                connection.phase = Phase::Idle;
                self.unreadable(cx, job, &error);
                return self.next_job(cx, key);
            }
        };
        let hop = connection.hop_name.clone().unwrap_or_default();
        if let Some(reply) = fit::misfit(&message, &connection.session, &hop) {
            return self.unfit(cx, key, job, &message, &reply);
        }
        self.note_attempt(cx, job);
        let connection = &mut self.connections[key];
        connection.phase = Phase::Sending;
        connection.answers.clear();
        connection.answers.resize(usize::from(self.queue.job(job).recipients), Answer::Waiting);
        connection.heard = false;
        connection.session.begin(
            message.reverse_path(),
            addresses(&self.queue, job, &message),
            Some(message.content_bytes()),
            fit::declares_eight_bit(&message),
        );
        connection.message = Some(message);
        self.busy.push_back(key);
    }

    /// The next hop does not take such a message, as `reply` says: it fails, and the connection is free again.
    fn unfit<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: Handle,
        job: JobIx,
        message: &StoredMessage,
        reply: &Reply,
    ) {
        let connection = &mut self.connections[key];
        connection.clear_transaction();
        connection.phase = Phase::Idle;
        let hop = connection.hop_name.clone();
        let attempt = Attempt { next_hop: hop.as_deref(), ..Attempt::unmade(reply) };
        self.conclude(cx, job, message, &attempt);
        self.transaction_ended(cx, key);
        self.next_job(cx, key);
    }

    /// Notes the attempt for the estimate of duplicates after a crash.
    fn note_attempt<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx) {
        self.indexes.clear();
        self.indexes.extend(self.queue.recipients(job));
        let entry = self.queue.job(job);
        let key = self.queue.message(entry.message).key;
        // A busy spool loses a note that only makes an estimate worse.
        let _ = cx.spool.attempt_started(key, &self.indexes, cx.unix_now(), entry.attempts.saturating_add(1));
    }

    /// Hears what a session has to say, then sends what it has to send.
    pub(crate) fn converse<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        loop {
            let Some(connection) = self.connections.get_mut(key) else { return };
            let Some(event) = connection.session.poll() else { break };
            match event {
                Event::Ready => self.ready(cx, key),
                Event::Recipient { index, reply } => {
                    connection.heard = true;
                    let accepted = reply.is_positive();
                    if accepted {
                        connection.session.recycle(reply);
                        set(&mut connection.answers, index, Answer::Accepted);
                    } else {
                        set(&mut connection.answers, index, Answer::Refused(reply));
                    }
                }
                Event::SendBody => self.send_body(key),
                Event::Done { reply } => self.done(cx, key, reply),
                Event::TransactionRefused { reply } => self.finish(cx, key, &reply, true),
                Event::Failed { error } => return self.failed(cx, key, &error),
            }
        }
        self.flush(cx, key);
        let Some(connection) = self.connections.get(key) else { return };
        if connection.phase == Phase::Quitting && connection.session.phase() == SessionPhase::Closed {
            return self.close(cx, key);
        }
        self.arm(key, cx.ring.now());
    }

    /// The session may carry a message: the first one, or the next.
    fn ready<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let connection = &mut self.connections[key];
        // More was said than was asked for: the failure that follows is of the phase that ends here.
        let is_over = connection.session.phase() == SessionPhase::Closed;
        match connection.phase {
            Phase::Opening if is_over => return,
            Phase::Opening => {
                let site = self.sites.get_mut(connection.site);
                site.opening -= 1;
                site.prefer(connection.hop(site.hops.len()));
            }
            Phase::Sending => {
                // A job that is still here had every recipient refused: no reply is left to speak for others.
                self.finish(cx, key, &Reply::default(), true);
                self.transaction_ended(cx, key);
            }
            Phase::Loading | Phase::Quitting => return,
            Phase::Resolving(_) | Phase::Connecting | Phase::Idle => {}
        }
        self.connections[key].phase = Phase::Idle;
        if !is_over {
            self.next_job(cx, key);
        }
    }

    /// A transaction came to its end, whatever that was: the site is there.
    fn transaction_ended<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let connection = &mut self.connections[key];
        connection.messages += 1;
        let (site, now) = (self.sites.get(connection.site), cx.unix_now());
        let (longest, shortest) = (self.settings.retry.longest_wait(), self.settings.retry.first);
        if let Some(over) = site.shared.succeeded(now, longest, shortest) {
            report::site_available(cx.log, now, site, &over);
        }
        if self.queue.tallies.is_failing(connection.site) && site.shared.failure().is_none() {
            self.queue.tallies.works(connection.site);
        }
    }

    /// A message boundary: the next job, a wait for one, or the end of the connection.
    fn next_job<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let connection = &mut self.connections[key];
        let site = self.sites.get_mut(connection.site);
        // A site at its limit is shared fairly: the holder of a lease yields it after each message.
        let yields = connection.messages > 0 && site.shared.is_wanted(self.settings.worker);
        if self.draining || yields || connection.messages >= MESSAGES_PER_CONNECTION_MAX {
            return self.quit(cx, key);
        }
        site.idle.push(key);
        let index = connection.site;
        self.arm(key, cx.ring.now());
        self.serve(cx, index);
    }

    /// 354: the body may go.
    fn send_body(&mut self, key: Handle) {
        let connection = &mut self.connections[key];
        connection.heard = true;
        let Some(message) = &connection.message else { return };
        connection.body = match message.content() {
            StoredContent::Inline(buffer, range) => Body::Piece { buffer, range, then: Then::End },
            StoredContent::Large { buffer, head, .. } => {
                Body::Piece { buffer, range: head, then: Then::Open }
            }
        };
    }

    /// A piece is on its way out: asks the spool for the one after it.
    pub(crate) fn next_piece<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, then: Then) {
        let connection = &mut self.connections[key];
        match then {
            Then::End => {}
            Then::More(read) => {
                connection.body = Body::Reading(read);
                cx.spool.read_next(cx.ring, read);
            }
            Then::Open => {
                let Some(message) = &connection.message else { return };
                let request = self.loads.insert(Load::Body(key));
                match cx.spool.read_large(cx.ring, message, request) {
                    Some(read) => connection.body = Body::Reading(read),
                    None => drop(self.loads.remove(request)),
                }
            }
        }
    }

    /// The spool has read a piece of a large body.
    pub(crate) fn piece<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        request: Handle,
        buffer: SharedBuffer,
        range: Range<usize>,
        last: bool,
    ) {
        let Some(&Load::Body(key)) = self.loads.get(request) else { return };
        if last {
            self.loads.remove(request);
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        if let Body::Reading(read) = connection.body {
            if !connection.session.takes_eight_bit() && !buffer[range.clone()].is_ascii() {
                return self.cut_short(cx, key);
            }
            let then = if last { Then::End } else { Then::More(read) };
            connection.body = Body::Piece { buffer, range, then };
            connection.pieces = connection.pieces.wrapping_add(1);
            self.arm(key, cx.ring.now());
            self.flush(cx, key);
        }
    }

    /// Nothing more is sent of a connection's body. The spool's last word on the read takes its place in the loads.
    pub(crate) fn abandon_body<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        match std::mem::replace(&mut self.connections[key].body, Body::None) {
            Body::Reading(read) | Body::Piece { then: Then::More(read), .. } => {
                cx.spool.read_abort(cx.ring, read);
            }
            Body::Piece { .. } | Body::None => {}
        }
    }

    /// A large body has 8-bit bytes, as was not known before, and the next hop takes none: without its final
    /// dot what was sent of it is no message.
    fn cut_short<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let hop = self.connections[key].hop_name.clone().unwrap_or_default();
        self.finish(cx, key, &fit::seven_bit_only(&hop), false);
        self.transaction_ended(cx, key);
        self.close(cx, key);
    }

    /// A large body cannot be read on: what was sent of it must not be completed.
    pub(crate) fn piece_failed<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        request: Handle,
        error: &LoadError,
    ) {
        let Some(Load::Body(key)) = self.loads.remove(request) else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.body = Body::None;
        let job = connection.job.take();
        connection.clear_transaction();
        if let Some(job) = job {
            self.unreadable(cx, job, error);
        }
        self.close(cx, key);
    }

    /// The answer to the final dot.
    fn done<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, reply: Reply) {
        let connection = &mut self.connections[key];
        if matches!(connection.body, Body::None) {
            self.finish(cx, key, &reply, true);
            self.connections[key].session.recycle(reply);
            return;
        }
        // It answers a body that it has not seen the end of: a refusal may be meant, acceptance cannot be.
        if reply.is_positive() {
            let reply = Self::own_reply(2, "the next hop answered before the end of the message");
            return self.interrupted(cx, key, reply, false);
        }
        self.finish(cx, key, &reply, true);
        self.close(cx, key);
    }

    /// The connection has ended before anything was heard of its message: MAIL could not be said.
    pub(crate) fn unbegun<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, reply: Reply) {
        self.give_back(key);
        let connection = &mut self.connections[key];
        if connection.messages > 0 {
            // A server may close a connection that it has served at any moment: that is no failure.
            return self.close(cx, key);
        }
        // The next address may serve.
        connection.phase = Phase::Opening;
        self.sites.get_mut(connection.site).opening += 1;
        self.address_failed(cx, key, reply);
    }

    /// Puts a connection's job back in front of those that wait, as if it had never been given out.
    fn give_back(&mut self, key: Handle) {
        let connection = &mut self.connections[key];
        let (site, job) = (connection.site, connection.job);
        connection.clear_transaction();
        let Some(job) = job else { return };
        if std::mem::take(&mut self.queue.job_mut(job).held) {
            self.queue.set_state(job, State::Held);
        } else {
            self.queue.set_state(job, State::Ready);
            self.queue.link(job);
            self.sites.get_mut(site).waiting.push_front(job);
        }
    }

    /// The connection broke under a transaction, which is a failure of the site, or when that was over.
    /// `heard_from` says that `reply` is the next hop's own.
    pub(crate) fn interrupted<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: Handle,
        reply: Reply,
        heard_from: bool,
    ) {
        let connection = &mut self.connections[key];
        let Some(job) = connection.job else { return self.close(cx, key) };
        // It may have been closing already. That says nothing about the message, unless it happens again.
        if !connection.heard && !self.queue.job(job).interrupted {
            self.queue.job_mut(job).interrupted = true;
            return self.unbegun(cx, key, reply);
        }
        let last_byte_out = matches!(connection.body, Body::None) && !connection.sending;
        if last_byte_out && connection.session.phase() == SessionPhase::Body {
            // RFC 5321 section 4.5.3.2.6: whether it has the message is not known; it is sent again.
            cx.metrics.possible_duplicate();
        }
        self.finish(cx, key, &reply, heard_from);
        self.site_of_connection_failed(cx, key, reply);
        self.close(cx, key);
    }

    /// A connection that was open has ended in a way that is a failure of its site.
    pub(crate) fn site_of_connection_failed<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: Handle,
        reply: Reply,
    ) {
        let connection = &self.connections[key];
        let (index, hop) = (connection.site, connection.hop_name.clone());
        if let Some(hop) = &hop {
            self.sites.get_mut(index).avoid_named(hop, cx.ring.now());
        }
        self.site_failed(cx, index, hop.as_deref(), reply);
    }

    /// Ends the transaction: `reply` speaks for the recipients without a refusal of their own.
    fn finish<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, reply: &Reply, heard_from: bool) {
        self.abandon_body(cx, key);
        let connection = &mut self.connections[key];
        let (Some(job), Some(message)) = (connection.job.take(), connection.message.take()) else { return };
        let hop = connection.hop_name.clone();
        let answers = std::mem::take(&mut connection.answers);
        let attempt = Attempt {
            next_hop: hop.as_deref(),
            answers: &answers,
            reply,
            heard_from,
            give_up: false,
            by_operator: false,
        };
        self.conclude(cx, job, &message, &attempt);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.answers = answers;
        }
    }
}

/// The addresses of a job's recipients.
pub(crate) fn addresses<'q, 'm>(
    queue: &'q Queue,
    job: JobIx,
    message: &'m StoredMessage,
) -> impl Iterator<Item = Address<'m>> + use<'q, 'm> {
    let mut wanted = queue.recipients(job).peekable();
    (0..=u16::MAX)
        .zip(message.recipients())
        .filter_map(move |(index, address)| wanted.next_if_eq(&index).map(|_| address))
}

fn set(answers: &mut [Answer], index: usize, answer: Answer) {
    if let Some(place) = answers.get_mut(index) {
        *place = answer;
    }
}
