//! What becomes of recipients: outcomes into the spool's log, the bounce that they cause beside them,
//! the others back into the schedule.

use std::collections::VecDeque;

use mail::{Address, Envelope, MessageId, Reply, ReversePath, UnixMillis};
use ring::{Instant, Ring};
use scheduler::{Act, Event, JobIx, Left, MessageIx};
use spool::{Content, NewMessage, Outcome, Refusal, Said, StoredContent, StoredMessage};

use crate::connection::Answer;
use crate::desk::Desk;
use crate::dsn::{Bounce, Failed};
use crate::replies::last_reply;
use crate::report::{self, Fact};
use crate::{Context, DeliverySettings, TICK};

/// Transactions whose outcomes the spool was too busy to take before no further one is begun.
const UNSETTLED_MAX: usize = 256;

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

/// Outcomes on their way into the spool.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// Those that the spool was too busy to take.
    unsettled: VecDeque<Settlement>,
    /// Those whose bounce has no place while the spool's files have vanished.
    stranded: Vec<Settlement>,
    /// When they are offered again.
    retry_at: Instant,
    /// The scheduler was told that nothing is to be begun.
    is_crowded: bool,
    id_counter: Option<u32>,
    /// Buffers that are used again: what has its outcome, what is left.
    ended: Vec<(u16, Outcome)>,
    pub(crate) left: Vec<Left>,
    indexes: Vec<u16>,
}

impl Outcomes {
    /// No outcome waits for the spool.
    pub(crate) fn are_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// When they are offered again.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        (!self.unsettled.is_empty()).then_some(self.retry_at)
    }

    /// The bounce about `failed`; none for a message that is a notification itself (RFC 5321 section 4.5.5).
    fn write_bounce<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        settings: &DeliverySettings,
        stored: &StoredMessage,
        failed: &[Failed<'_>],
    ) -> Option<Box<OwnBounce>> {
        let now = cx.unix_now();
        let ReversePath::Address(sender) = stored.reverse_path() else {
            report::bounce_suppressed(cx.log, stored, now);
            return None;
        };
        self.id_counter = Some(self.id_counter.unwrap_or_else(|| cx.random()).wrapping_add(1));
        let id = MessageId::new(now, settings.worker, self.id_counter.unwrap_or(0));
        let (buffer, range) = match stored.content() {
            StoredContent::Inline(buffer, range) => (buffer, range),
            StoredContent::Large { buffer, head, .. } => (buffer, head),
        };
        let header = mail::header::section(&buffer[range]);
        let mut text = Vec::with_capacity(4096 + header.len());
        Bounce {
            hostname: &settings.hostname,
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

impl Desk {
    /// Ends a job's attempt: what is final is logged and, where it must be, bounced; what is
    /// transient is tried again, unless the message has expired.
    pub(crate) fn conclude<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        job: JobIx,
        stored: &StoredMessage,
        attempt: &Attempt<'_>,
    ) {
        let Self { settings, schedule, replies, outcomes, .. } = self;
        let (now, view) = (cx.unix_now(), schedule.view());
        let age_max = settings.retry.expire.as_millis() as u64;
        let expired = attempt.give_up || now.since(stored.arrived()) >= age_max;
        let (mut failed, mut said) = (Vec::new(), Vec::new());
        outcomes.ended.clear();
        outcomes.left.clear();
        for (place, (index, address)) in addresses(schedule.recipients(job), stored).enumerate() {
            let reply = match attempt.answers.get(place) {
                Some(Answer::Refused(own)) => own,
                Some(Answer::Accepted | Answer::Waiting) | None => attempt.reply,
            };
            let last_reply = || last_reply(reply, attempt.next_hop, Some(address.text()));
            let outcome = match reply {
                reply if reply.is_positive() => Some(Outcome::Delivered),
                reply if reply.is_permanent() => Some(Outcome::Failed),
                _ if expired => Some(Outcome::Expired),
                _ => None,
            };
            match outcome {
                Some(outcome) => outcomes.ended.push((index, outcome)),
                None => outcomes.left.push(Left { recipient: index, note: replies.keep(last_reply()) }),
            }
            if let Some(Outcome::Failed | Outcome::Expired) = outcome {
                said.push((index, last_reply()));
                let expired = outcome == Some(Outcome::Expired);
                failed.push(Failed { address, reply, remote: attempt.said_by(reply), expired });
            }
            report::attempt(cx, stored, &Fact { address, next_hop: attempt.next_hop, reply, outcome });
        }
        view.recipients(job).for_each(|(_, note)| replies.release(note));
        // What an operator gives up is no sign of a sender who writes to people that are not there.
        let refused =
            if attempt.by_operator { 0 } else { failed.iter().filter(|failed| !failed.expired).count() };
        report::count_failures(cx, stored, refused);
        let bounce =
            if failed.is_empty() { None } else { outcomes.write_bounce(cx, settings, stored, &failed) };
        let message = schedule.job(job).message;
        schedule.tell(cx, Event::Concluded { job, left: &outcomes.left });
        self.settle(cx, message, Said::grouped(said), bounce);
    }

    /// Puts outcomes (`ended`), with what was `said` to those that failed, into the log.
    fn settle<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        message: MessageIx,
        said: Vec<Said>,
        bounce: Option<Box<OwnBounce>>,
    ) {
        if self.outcomes.ended.is_empty() {
            return;
        }
        let ended = std::mem::take(&mut self.outcomes.ended);
        if let Err(refusal) = self.offer(cx, message, &ended, &said, bounce.as_deref()) {
            let settlement = Settlement { message, outcomes: ended.as_slice().into(), said, bounce };
            match refusal {
                Refusal::Vanished => self.outcomes.stranded.push(settlement),
                Refusal::Busy | Refusal::Full | Refusal::Latched => {
                    self.outcomes.unsettled.push_back(settlement);
                    self.outcomes.retry_at = cx.ring.now().after(TICK);
                    self.tell_crowded(cx);
                }
            }
        }
        self.outcomes.ended = ended;
    }

    fn offer<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        message: MessageIx,
        ended: &[(u16, Outcome)],
        said: &[Said],
        bounce: Option<&OwnBounce>,
    ) -> Result<(), Refusal> {
        let bounce = bounce.map(OwnBounce::as_message);
        cx.spool.outcomes(self.schedule.message_key(message), ended, said, bounce.as_ref())?;
        self.schedule.tell(cx, Event::Settled { message, recipients: ended.len() as u32 });
        Ok(())
    }

    /// Begins nothing while too many outcomes wait for the spool.
    fn tell_crowded<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        let is_crowded = self.outcomes.unsettled.len() >= UNSETTLED_MAX;
        if std::mem::replace(&mut self.outcomes.is_crowded, is_crowded) != is_crowded {
            self.schedule.tell(cx, Event::Paused(is_crowded));
        }
    }

    /// Gives up the recipients of a quarantined job. No bounce is written: the words of a damaged message may
    /// be wrong, its sender's address too.
    pub(crate) fn discard<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx) -> Result<(), Refusal> {
        let (entry, key) = (self.schedule.job(job), self.schedule.key(job));
        let ended: Vec<_> =
            self.schedule.recipients(job).map(|recipient| (recipient, Outcome::Failed)).collect();
        cx.spool.outcomes(key, &ended, &[], None)?;
        if let Some(jobs) = self.quarantined.get_mut(&entry.message) {
            *jobs -= 1;
            if *jobs == 0 {
                self.quarantined.remove(&entry.message);
            }
        }
        self.release_replies(job);
        self.schedule.act(cx, job, Act::Discard);
        let (message, recipients) = (entry.message, ended.len() as u32);
        self.schedule.tell(cx, Event::Settled { message, recipients });
        Ok(())
    }

    /// Offers the spool again what it was too busy to take.
    pub(crate) fn settle_again<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        while let Some(settlement) = self.outcomes.unsettled.pop_front() {
            let Settlement { message, ref outcomes, ref said, ref bounce } = settlement;
            match self.offer(cx, message, outcomes, said, bounce.as_deref()) {
                Ok(()) => {}
                Err(Refusal::Vanished) => self.outcomes.stranded.push(settlement),
                Err(Refusal::Busy | Refusal::Full | Refusal::Latched) => {
                    self.outcomes.unsettled.push_front(settlement);
                    self.outcomes.retry_at = cx.ring.now().after(TICK);
                    break;
                }
            }
        }
        self.tell_crowded(cx);
    }

    /// The same, and what had no place while the spool's files had vanished: that holds up nothing else.
    pub(crate) fn settle_stranded<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        let Outcomes { unsettled, stranded, .. } = &mut self.outcomes;
        unsettled.extend(stranded.drain(..));
        self.settle_again(cx);
    }

    /// Notes that a job waits, and what was said of its recipients.
    pub(crate) fn note_deferred<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        job: JobIx,
        until: UnixMillis,
        attempts: u16,
    ) {
        let (key, view) = (self.schedule.key(job), self.schedule.view());
        let indexes = &mut self.outcomes.indexes;
        indexes.clear();
        indexes.extend(self.schedule.recipients(job));
        let said = view.recipients(job).filter_map(|(recipient, note)| {
            let reply = self.replies.get(note)?;
            Some((recipient, reply.as_ref().clone()))
        });
        // A busy spool loses the note; after a crash the recipient is tried earlier, no more. Where an operator
        // holds it, that was noted before, and is noted again with what was said.
        let _ = cx.spool.deferred(key, indexes, until, attempts, &Said::grouped(said));
    }

    /// Notes that an attempt begins, for the estimate of duplicates after a crash.
    pub(crate) fn note_attempt<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx) {
        let (key, attempts) = (self.schedule.key(job), self.schedule.job(job).attempts);
        let indexes = &mut self.outcomes.indexes;
        indexes.clear();
        indexes.extend(self.schedule.recipients(job));
        // A busy spool loses a note that only makes an estimate worse.
        let _ = cx.spool.attempt_started(key, indexes, cx.unix_now(), attempts.saturating_add(1));
    }

    /// What was said of a job's recipients is kept for them no longer: they are over.
    pub(crate) fn release_replies(&mut self, job: JobIx) {
        self.schedule.view().recipients(job).for_each(|(_, note)| self.replies.release(note));
    }
}

/// The recipients of these places in the envelope of a message, which ascend.
pub(crate) fn addresses<'m>(
    places: impl Iterator<Item = u16>,
    message: &'m StoredMessage,
) -> impl Iterator<Item = (u16, Address<'m>)> {
    let mut wanted = places.peekable();
    (0..=u16::MAX)
        .zip(message.recipients())
        .filter_map(move |(index, address)| wanted.next_if_eq(&index).map(|_| (index, address)))
}

/// The envelope of a notification: no server answers it. Its text is 7-bit, so that every host takes it.
fn notification(to: Address<'_>) -> Envelope {
    let mut envelope = Envelope::default();
    envelope.begin(ReversePath::Null);
    envelope.push_recipient(to);
    envelope
}
