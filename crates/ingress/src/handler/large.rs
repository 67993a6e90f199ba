//! Bodies that outgrow memory: pieces go to a file of the spool's as they arrive, all but the header
//! section, which stays in the message's record, for bounces to quote.
//!
//! What they hold on disk is counted as it arrives, against the budgets for unfinished messages: what a client
//! declares takes nothing from anyone. A size for which there is no room now is refused at MAIL or DATA, and
//! for good where there never will be (552); a body that finds none as it grows is read to its end and then
//! refused (452). Memory for pieces is a matter of waiting, never of refusing.

use commons::{Holder, machine};
use mail::Reason;
use mail::limits::INLINE_BODY_BYTES_MAX;
use ring::{Handle, Ring};
use smtp::server::{Flow, Resume};
use spool::PIECE_BYTES;

use crate::connection::Client;
use crate::handler::SessionHandler;
use crate::refusal::{Detail, Refusal};
use crate::transaction::{Large, Message, Stage, Transaction};
use crate::{Context, Ingress};

/// Whether a message of so many bytes goes to a separate file.
pub(crate) fn is_large(bytes: u64) -> bool {
    bytes > INLINE_BODY_BYTES_MAX as u64
}

/// A growing body is counted in steps of this size, so that the counters are touched seldom.
const GROWTH_BYTES: u64 = 1 << 20;

impl<R: Ring> SessionHandler<'_, '_, R> {
    /// Whether there is room for a message of `bytes`, as its client said with SIZE. Nothing is held for it.
    pub(crate) fn may_hold(&mut self, bytes: u64) -> Result<(), Refusal> {
        if !is_large(bytes) {
            return Ok(());
        }
        self.cx.spool.accepts_bytes(bytes).map_err(|refusal| self.client.refusal_of_spool(refusal))?;
        let fits = self.settings.unfinished.fits(machine(self.client.address), self.holder(), bytes);
        fits.map_err(|over| self.client.refusal_for(Reason::SpoolFull).because(Detail::OverBudget(over)))
    }

    /// As whom the client holds what is scarce.
    pub(crate) fn holder(&self) -> Holder {
        self.seats.holder(self.client.key).unwrap_or(Holder::Stranger)
    }

    /// The body, as far as it has come, is of no use: all that it held is free.
    pub(crate) fn drop_body(&mut self) {
        let large = self.client.transaction.end();
        self.client.buffers.body.clear();
        if let Some(large) = large {
            self.cx.spool.large_abort(self.cx.ring, large.key);
            self.client.buffers.body.shrink_to(0);
        }
    }

    /// Moves whole pieces of the body gathered so far to the message's file.
    pub(crate) fn spill(&mut self) -> Flow {
        match self.write_pieces() {
            Ok(flow) => flow,
            Err(refusal) => self.give_up(refusal),
        }
    }

    fn write_pieces(&mut self) -> Result<Flow, Refusal> {
        let holder = self.holder();
        let Client { transaction: Transaction::Body(incoming), buffers, key, address, .. } =
            &mut *self.client
        else {
            return Ok(Flow::Continue);
        };
        let held_bytes = incoming.bytes.next_multiple_of(GROWTH_BYTES);
        let for_reason = |reason| Refusal::for_reason(reason, Some(incoming.responsible.tenant));
        let over_budget = |over| for_reason(Reason::SpoolFull).because(Detail::OverBudget(over));
        let cx = &mut *self.cx;
        let large = match &mut incoming.large {
            Some(large) => {
                large.hold.grow_to(held_bytes).map_err(over_budget)?;
                large.key
            }
            none => {
                let mut hold = self.settings.unfinished.hold(machine(*address), holder);
                hold.grow_to(held_bytes).map_err(over_budget)?;
                // On disk too a declaration reserves no more than what is counted.
                let expected_bytes = incoming.declared_bytes.min(held_bytes);
                let begun = cx.spool.large_begin(cx.ring, expected_bytes, *key);
                let large = begun.map_err(|refusal| for_reason(reason_of(refusal)))?;
                let head = mail::header::section(&buffers.body).len();
                let head = buffers.body.drain(..head).collect();
                none.insert(Large { key: large, head, hold }).key
            }
        };
        if !cx.spool.large_has_memory(large) {
            incoming.is_paused = true;
            return Ok(Flow::Pause);
        }
        let whole = buffers.body.len() / PIECE_BYTES * PIECE_BYTES;
        let wants_more = cx.spool.large_write(cx.ring, large, &buffers.body[..whole]);
        buffers.body.drain(..whole);
        buffers.body.shrink_to(2 * PIECE_BYTES);
        incoming.is_paused = !wants_more;
        Ok(if wants_more { Flow::Continue } else { Flow::Pause })
    }

    /// The last piece is in: the file must be durable before the record that names it.
    pub(crate) fn finish_large(&mut self, large: Large) -> Stage {
        let (cx, body) = (&mut *self.cx, &mut self.client.buffers.body);
        cx.spool.large_write(cx.ring, large.key, body);
        body.clear();
        cx.spool.large_finish(cx.ring, large.key);
        Stage::Finishing(large)
    }
}

/// How a body that the spool would not take is answered.
fn reason_of(refusal: spool::Refusal) -> Reason {
    match refusal {
        spool::Refusal::Full | spool::Refusal::Busy => Reason::SpoolFull,
        spool::Refusal::Latched | spool::Refusal::Vanished => Reason::SpoolFailed,
    }
}

impl Ingress {
    /// The file of connection `key` takes more.
    pub fn large_progress<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        let Some(connection) = self.connection(key) else { return };
        let Client { transaction: Transaction::Body(incoming), buffers, .. } = &mut connection.client else {
            return;
        };
        if !std::mem::take(&mut incoming.is_paused) {
            return;
        }
        // What it kept for want of memory goes first: others wait for the memory behind it.
        if buffers.body.len() >= PIECE_BYTES {
            let mut flow = Flow::Continue;
            self.handle(cx, key, |handler, _| flow = handler.spill());
            if flow == Flow::Pause {
                return;
            }
        }
        self.drive(cx, key, |session, handler| session.resume(Resume::Continue, handler));
    }

    /// The body of connection `key` is durable in its file: the record comes next.
    pub fn large_finished<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        if self.connection(key).is_some_and(|connection| connection.client.transaction.is_finishing()) {
            self.store(cx, key);
        }
    }

    /// The body of connection `key` could not be written.
    pub fn large_failed<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, refusal: spool::Refusal) {
        let Some(connection) = self.connection(key) else { return };
        match &connection.client.transaction {
            Transaction::Body(_) => self.give_body_up(cx, key, reason_of(refusal)),
            Transaction::Message(Message { stage: Stage::Finishing(_), .. }) => {
                self.refuse_message(cx, key, refusal);
            }
            _ => {}
        }
    }

    /// What is still to come of the body of connection `key` is of no use: it is not waited for.
    pub(crate) fn give_body_up<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, reason: Reason) {
        let mut is_paused = false;
        self.handle(cx, key, |handler, _| {
            is_paused = handler.client.transaction.awaits_spool();
            handler.give_up(handler.client.refusal_for(reason));
        });
        if is_paused {
            self.drive(cx, key, |session, handler| session.resume(Resume::Continue, handler));
        }
    }
}
