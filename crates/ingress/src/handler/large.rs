//! Bodies that outgrow memory: pieces go to a file of the spool's as they arrive, all but the header
//! section, which stays in the message's record, for bounces to quote.
//!
//! What they hold on disk is counted as it arrives, against the budgets for unfinished messages: what a client
//! declares takes nothing from anyone. A size for which there is no room now is refused at MAIL or DATA, and
//! for good where there never will be (552); a body that finds none as it grows is read to its end and then
//! refused (452). Memory for pieces is a matter of waiting, never of refusing.

use commons::{Holder, OverBudget, machine};
use mail::limits::INLINE_BODY_BYTES_MAX;
use mail::{Reason, Reply};
use ring::{Handle, Ring};
use smtp::server::{Flow, Resume, Step};
use spool::{LargeKey, PIECE_BYTES, Refusal};

use crate::connection::Waiting;
use crate::handler::SessionHandler;
use crate::{Context, Ingress};

/// Whether a message of so many bytes goes to a separate file.
pub(crate) fn is_large(bytes: u64) -> bool {
    bytes > INLINE_BODY_BYTES_MAX as u64
}

/// A growing body is counted in steps of this size, so that the counters are touched seldom.
const GROWTH_BYTES: u64 = 1 << 20;

impl<R: Ring> SessionHandler<'_, '_, R> {
    /// Whether there is room for a message of `bytes`, as its client said with SIZE. Nothing is held for it.
    pub(crate) fn may_hold(&mut self, bytes: u64, reply: &mut Reply) -> bool {
        if !is_large(bytes) {
            return true;
        }
        if let Err(refusal) = self.cx.spool.accepts_bytes(bytes) {
            self.refuse_for_spool(refusal, reply);
            return false;
        }
        let fits = self.settings.unfinished.fits(machine(self.client.address), self.holder(), bytes);
        if let Err(over) = fits {
            self.client.transaction.over = Some(over);
            self.refuse_over_budget(reply);
        }
        fits.is_ok()
    }

    /// Holds `bytes`, which have arrived, of the budgets for the message under way.
    fn hold(&mut self, bytes: u64) -> Result<(), OverBudget> {
        let (address, holder) = (machine(self.client.address), self.holder());
        let transaction = &mut self.client.transaction;
        let hold = transaction.hold.get_or_insert_with(|| self.settings.unfinished.hold(address, holder));
        hold.grow_to(bytes).inspect_err(|&over| transaction.over = Some(over))
    }

    /// As whom the client holds what is scarce.
    pub(crate) fn holder(&self) -> Holder {
        self.seats.holder(self.client.key).unwrap_or(Holder::Stranger)
    }

    pub(crate) fn refuse_over_budget(&mut self, reply: &mut Reply) {
        const MIB: u64 = 1 << 20;
        let (whose, bytes) = match self.client.transaction.over.take() {
            Some(OverBudget::Client(bytes)) => ("this client", bytes),
            Some(OverBudget::Strangers(bytes)) => ("all clients without a login", bytes),
            Some(OverBudget::All(bytes)) => ("all clients", bytes),
            None => return self.refuse_for(Reason::SpoolFull, None, "", reply),
        };
        let detail = format_args!("unfinished messages of {whose} may hold {} MiB", bytes / MIB);
        self.refuse_for(Reason::SpoolFull, Some(detail), "", reply);
    }

    /// What came of the body, and what is still to come, is of no use: all that it held is free.
    pub(crate) fn give_body_up(&mut self) {
        let transaction = &mut self.client.transaction;
        transaction.body.clear();
        transaction.hold = None;
        if let Some(large) = transaction.large.take() {
            self.cx.spool.large_abort(self.cx.ring, large);
            transaction.body.shrink_to(0);
        }
    }

    /// Moves whole pieces of the body gathered so far to the message's file.
    pub(crate) fn spill(&mut self) -> Flow {
        let transaction = &self.client.transaction;
        let held_bytes = transaction.body_bytes.next_multiple_of(GROWTH_BYTES);
        if self.hold(held_bytes).is_err() {
            self.client.transaction.refused = Some(Reason::SpoolFull);
            self.give_body_up();
            return Flow::Continue;
        }
        let cx = &mut *self.cx;
        let transaction = &mut self.client.transaction;
        let large = match transaction.large {
            Some(large) => large,
            // On disk too a declaration reserves no more than what is counted.
            None => match cx.spool.large_begin(
                cx.ring,
                transaction.declared_bytes.min(held_bytes),
                self.client.key,
            ) {
                Ok(large) => {
                    let head = mail::header::section(&transaction.body).len();
                    transaction.head = transaction.body.drain(..head).collect();
                    *transaction.large.insert(large)
                }
                Err(refusal) => {
                    transaction.refused = Some(reason_of(refusal));
                    self.give_body_up();
                    return Flow::Continue;
                }
            },
        };
        if !cx.spool.large_has_memory(large) {
            self.client.waiting = Waiting::Large;
            return Flow::Pause;
        }
        let whole = transaction.body.len() / PIECE_BYTES * PIECE_BYTES;
        let wants_more = cx.spool.large_write(cx.ring, large, &transaction.body[..whole]);
        transaction.body.drain(..whole);
        transaction.body.shrink_to(2 * PIECE_BYTES);
        if wants_more {
            return Flow::Continue;
        }
        self.client.waiting = Waiting::Large;
        Flow::Pause
    }

    /// The last piece is in: the file must be durable before the record that names it.
    pub(crate) fn finish_large(&mut self, large: LargeKey) -> Step {
        let cx = &mut *self.cx;
        let transaction = &mut self.client.transaction;
        cx.spool.large_write(cx.ring, large, &transaction.body);
        transaction.body.clear();
        cx.spool.large_finish(cx.ring, large);
        self.client.waiting = Waiting::Large;
        Step::Wait
    }
}

/// How a body that the spool would not take is answered.
fn reason_of(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::Full | Refusal::Busy => Reason::SpoolFull,
        Refusal::Latched | Refusal::Vanished => Reason::SpoolFailed,
    }
}

impl Ingress {
    /// The file of connection `key` takes more.
    pub fn large_progress<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        if let Some(connection) = self.connection(key)
            && connection.client.waiting == Waiting::Large
            && connection.client.transaction.id.is_none()
        {
            connection.client.waiting = Waiting::Nothing;
            // What it kept for want of memory goes first: others wait for the memory behind it.
            if connection.client.transaction.body.len() >= PIECE_BYTES {
                let mut flow = Flow::Continue;
                self.handle(cx, key, |handler, _| flow = handler.spill());
                if flow == Flow::Pause {
                    return;
                }
            }
            self.drive(cx, key, |session, handler| session.resume(Resume::Continue, handler));
        }
    }

    /// The body of connection `key` is durable in its file: the record comes next.
    pub fn large_finished<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle) {
        if self.connection(key).is_some() {
            self.store(cx, key);
        }
    }

    /// The body of connection `key` could not be written.
    pub fn large_failed<R: Ring>(&mut self, cx: &mut Context<'_, R>, key: Handle, refusal: Refusal) {
        let Some(connection) = self.connection(key) else { return };
        let client = &mut connection.client;
        client.transaction.large = None;
        client.transaction.hold = None;
        client.transaction.refused = Some(reason_of(refusal));
        let ended = client.transaction.id.is_some();
        if client.waiting != Waiting::Large {
            if ended {
                client.transaction.clear();
            }
            return;
        }
        client.waiting = Waiting::Nothing;
        if ended {
            self.handle(cx, key, |handler, reply| {
                handler.refuse_for_spool(refusal, reply);
                handler.end_transaction();
            });
            self.resume_message(cx, key);
        } else {
            self.drive(cx, key, |session, handler| session.resume(Resume::Continue, handler));
        }
    }
}
