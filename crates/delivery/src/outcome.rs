//! What becomes of recipients: outcomes into the spool's log, the bounce that they cause beside them,
//! the others back into the schedule.

use mail::{Address, Envelope, MessageId, Reply, ReversePath, UnixMillis};
use ring::Ring;
use spool::{Content, NewMessage, Outcome, Refusal, Said, StoredContent, StoredMessage};

use crate::connection::Answer;
use crate::dsn::{Bounce, Failed};
use crate::queue::{JobIx, MessageIx, State};
use crate::replies::last_reply;
use crate::report::{self, Fact};
use crate::transaction::addresses;
use crate::{Context, Delivery, TICK, Timer};

/// Outcomes that wait for the spool, with the bounce that goes with them.
#[derive(Debug)]
pub(crate) struct Settlement {
    message: MessageIx,
    outcomes: Box<[(u16, Outcome)]>,
    /// What was said to those that failed.
    said: Vec<Said>,
    bounce: Option<Box<OwnBounce>>,
}

/// A bounce of ours before the spool has it.
#[derive(Debug)]
struct OwnBounce {
    id: MessageId,
    now: UnixMillis,
    tenant: Box<str>,
    envelope: Envelope,
    text: Vec<u8>,
}

impl OwnBounce {
    fn as_message(&self) -> NewMessage<'_> {
        NewMessage {
            id: self.id,
            arrived: self.now,
            tenant: &self.tenant,
            identity: "",
            envelope: &self.envelope,
            head: b"",
            content: Content::Inline(&self.text),
        }
    }
}

/// How an attempt to send a job's recipients went.
pub(crate) struct Attempt<'a> {
    /// Where it was tried.
    pub(crate) next_hop: Option<&'a str>,
    /// The refusals of single recipients, by their place in the job.
    pub(crate) answers: &'a [Answer],
    /// What speaks for all others.
    pub(crate) reply: &'a Reply,
    /// The reply is the next hop's own, not words of ours about what went wrong.
    pub(crate) heard_from: bool,
    /// It was the last one.
    pub(crate) give_up: bool,
    /// None was made: an operator has decided.
    pub(crate) by_operator: bool,
}

impl<'a> Attempt<'a> {
    /// None was made, as `reply` says.
    pub(crate) fn unmade(reply: &'a Reply) -> Self {
        Self { next_hop: None, answers: &[], reply, heard_from: false, give_up: false, by_operator: false }
    }

    /// Who said `reply`: words of our own are never quoted as a next hop's.
    fn said_by(&self, reply: &Reply) -> Option<&'a str> {
        self.next_hop.filter(|_| self.heard_from || !std::ptr::eq(reply, self.reply))
    }
}

impl Delivery {
    /// Ends a job's attempt: what is final is logged and, where it must be, bounced; what is
    /// transient is tried again, unless the message has expired.
    pub(crate) fn conclude<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        job: JobIx,
        stored: &StoredMessage,
        attempt: &Attempt<'_>,
    ) {
        let now = cx.unix_now();
        let age_max = self.settings.retry.expire.as_millis() as u64;
        let expired = attempt.give_up || now.since(stored.arrived()) >= age_max;
        let facts = (self.queue.recipients(job).zip(addresses(&self.queue, job, stored)).enumerate()).map(
            |(place, (index, address))| {
                let reply = match attempt.answers.get(place) {
                    Some(Answer::Refused(own)) => own,
                    Some(Answer::Accepted | Answer::Waiting) | None => attempt.reply,
                };
                (index, address, reply)
            },
        );
        self.outcomes.clear();
        self.indexes.clear();
        self.last_replies.clear();
        let (mut failed, mut said) = (Vec::new(), Vec::new());
        for (index, address, reply) in facts {
            let outcome = match reply {
                reply if reply.is_positive() => Some(Outcome::Delivered),
                reply if reply.is_permanent() => Some(Outcome::Failed),
                _ if expired => Some(Outcome::Expired),
                _ => None,
            };
            match outcome {
                Some(outcome) => self.outcomes.push((index, outcome)),
                None => {
                    self.indexes.push(index);
                    self.last_replies.push(last_reply(reply, attempt.next_hop, Some(address.text())));
                }
            }
            if let Some(Outcome::Failed | Outcome::Expired) = outcome {
                said.push((index, last_reply(reply, attempt.next_hop, Some(address.text()))));
                let expired = outcome == Some(Outcome::Expired);
                failed.push(Failed { address, reply, remote: attempt.said_by(reply), expired });
            }
            report::attempt(cx, stored, &Fact { address, next_hop: attempt.next_hop, reply, outcome });
        }
        // What an operator gives up is no sign of a sender who writes to people that are not there.
        let refused =
            if attempt.by_operator { 0 } else { failed.iter().filter(|failed| !failed.expired).count() };
        report::count_failures(cx, stored, refused);
        let bounce = if failed.is_empty() { None } else { self.write_bounce(cx, stored, &failed, now) };
        self.settle(cx, job, Said::grouped(said), bounce);
    }

    /// Puts outcomes (`self.outcomes`), with what was `said` to those that failed, into the log and those that are
    /// left (`self.indexes`) back into the schedule.
    fn settle<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        job: JobIx,
        said: Vec<Said>,
        bounce: Option<Box<OwnBounce>>,
    ) {
        let message = self.queue.job(job).message;
        if self.indexes.is_empty() {
            self.remove_job(job);
        } else {
            if !self.outcomes.is_empty() {
                let left = &self.indexes;
                self.queue.retain(job, |index| left.binary_search(&index).is_ok());
            }
            let said = Said::grouped(self.indexes.iter().copied().zip(self.last_replies.iter().cloned()));
            self.queue.set_replies(job, self.last_replies.drain(..).map(Some));
            let until = self.retry_later(cx, job);
            let (key, attempts) = (self.queue.message(message).key, self.queue.job(job).attempts);
            // A busy spool loses the note; after a crash the recipient is tried earlier, no more. Where an operator
            // holds it, that was noted before, and is noted again with what was said.
            let _ = cx.spool.deferred(key, &self.indexes, until, attempts, &said);
        }
        if self.outcomes.is_empty() {
            return;
        }
        let outcomes = std::mem::take(&mut self.outcomes);
        if let Err(refusal) = self.offer(cx, message, &outcomes, &said, bounce.as_deref()) {
            let settlement = Settlement { message, outcomes: outcomes.as_slice().into(), said, bounce };
            match refusal {
                Refusal::Vanished => self.stranded.push(settlement),
                Refusal::Busy | Refusal::Full | Refusal::Latched => {
                    self.unsettled.push_back(settlement);
                    self.wheel.insert(cx.ring.now().after(TICK), Timer::Outcomes);
                }
            }
        }
        self.outcomes = outcomes;
    }

    fn offer<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        message: MessageIx,
        outcomes: &[(u16, Outcome)],
        said: &[Said],
        bounce: Option<&OwnBounce>,
    ) -> Result<(), Refusal> {
        let key = self.queue.message(message).key;
        let bounce = bounce.map(OwnBounce::as_message);
        cx.spool.outcomes(key, outcomes, said, bounce.as_ref())?;
        self.queue.settled(message, outcomes.len() as u32);
        Ok(())
    }

    /// Gives up the recipients of a quarantined job. No bounce is written: the words of a damaged message may
    /// be wrong, its sender's address too.
    pub(crate) fn discard<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx) -> Result<(), Refusal> {
        let message = self.queue.job(job).message;
        let outcomes: Vec<_> =
            self.queue.recipients(job).map(|recipient| (recipient, Outcome::Failed)).collect();
        cx.spool.outcomes(self.queue.message(message).key, &outcomes, &[], None)?;
        let jobs = self.queue.jobs_of(message);
        let is_last = jobs.filter(|&job| self.queue.state(job) == State::Quarantined).count() == 1;
        self.quarantined -= u64::from(is_last);
        self.remove_job(job);
        self.queue.settled(message, outcomes.len() as u32);
        Ok(())
    }

    /// Offers the spool again what it was too busy to take.
    pub(crate) fn settle_again<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        if self.unsettled.is_empty() {
            return;
        }
        while let Some(settlement) = self.unsettled.pop_front() {
            let Settlement { message, ref outcomes, ref said, ref bounce } = settlement;
            match self.offer(cx, message, outcomes, said, bounce.as_deref()) {
                Ok(()) => {}
                Err(Refusal::Vanished) => self.stranded.push(settlement),
                Err(Refusal::Busy | Refusal::Full | Refusal::Latched) => {
                    self.unsettled.push_front(settlement);
                    self.wheel.insert(cx.ring.now().after(TICK), Timer::Outcomes);
                    return;
                }
            }
        }
        self.serve_all(cx);
    }

    /// The same, and what had no place while the spool's files had vanished: that holds up nothing else.
    pub(crate) fn settle_stranded<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        self.unsettled.extend(self.stranded.drain(..));
        self.settle_again(cx);
    }

    /// The bounce about `failed`; none for a message that is a notification itself (RFC 5321 section 4.5.5).
    fn write_bounce<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        stored: &StoredMessage,
        failed: &[Failed<'_>],
        now: UnixMillis,
    ) -> Option<Box<OwnBounce>> {
        let ReversePath::Address(sender) = stored.reverse_path() else {
            report::bounce_suppressed(cx.log, stored, now);
            return None;
        };
        self.id_counter = Some(self.id_counter.unwrap_or_else(|| cx.random()).wrapping_add(1));
        let id = MessageId::new(now, self.settings.worker, self.id_counter.unwrap_or(0));
        let (buffer, range) = match stored.content() {
            StoredContent::Inline(buffer, range) => (buffer, range),
            StoredContent::Large { buffer, head, .. } => (buffer, head),
        };
        let header = mail::header::section(&buffer[range]);
        let mut text = Vec::with_capacity(4096 + header.len());
        Bounce {
            hostname: &self.settings.hostname,
            id,
            now,
            to: sender,
            original: stored.id(),
            arrived: stored.arrived(),
            header,
        }
        .write(failed, &mut text);
        report::bounced(cx.log, stored, id, now);
        Some(Box::new(OwnBounce {
            id,
            now,
            tenant: stored.tenant().into(),
            envelope: notification(sender),
            text,
        }))
    }
}

/// The envelope of a notification: no server answers it. Its text is 7-bit, so that every host takes it.
fn notification(to: Address<'_>) -> Envelope {
    let mut envelope = Envelope::default();
    envelope.begin(ReversePath::Null);
    envelope.push_recipient(to);
    envelope
}
