//! What is noted in the open group: messages, attempts, deferrals, an operator's orders, outcomes.

use mail::UnixMillis;
use ring::Handle;

use crate::fail_point::fail_point;
use crate::index::{Deferral, Entry, NOWHERE, Recipients};
#[cfg(feature = "mutants")]
use crate::mutant::{self, Mutant};
use crate::record::{self, Body, Fields, Scheduled};
use crate::replies::ReplyIx;
use crate::segment::Purpose;
use crate::shard::Shard;
use crate::{Content, HELD, MessageKey, NewMessage, Outcome, RELEASED, Refusal, Said};

impl Shard {
    /// Puts a message into the open group. [`crate::Event::Committed`] follows when it is durable.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: again after the next [`crate::Event::Room`]. The others as they say.
    pub fn append(
        &mut self,
        message: &NewMessage<'_>,
        waiter: Option<Handle>,
    ) -> Result<MessageKey, Refusal> {
        self.check_names()?;
        let body = self.body(&message.content)?;
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        let put = self.append_with(message, &body, waiter, &mut fields);
        self.fields = fields;
        put
    }

    fn append_with(
        &mut self,
        message: &NewMessage<'_>,
        body: &Body<'_>,
        waiter: Option<Handle>,
        fields: &mut Vec<u8>,
    ) -> Result<MessageKey, Refusal> {
        let bytes = message_bytes(fields, message, body)?;
        self.room(bytes, (1, record::outline_bytes(fields)), Purpose::Mail)?;
        self.open.reserve(bytes, &mut self.pool);
        Ok(self.put_message(message, body, waiter, fields))
    }

    /// Notes what became of recipients, what was `said` to those of them that failed, and in the same group a
    /// bounce message about it.
    ///
    /// Unknown keys and recipients that have an outcome already are fine. While files have vanished and nothing
    /// gives room, an outcome without a bounce is kept in memory alone: see [`crate::Event::Vanished`].
    ///
    /// # Errors
    /// As [`Shard::append`], but the reserve is open to it; [`Refusal::Vanished`] for a bounce that finds no
    /// room before the files return.
    pub fn outcomes(
        &mut self,
        key: MessageKey,
        outcomes: &[(u16, Outcome)],
        said: &[Said],
        bounce: Option<&NewMessage<'_>>,
    ) -> Result<(), Refusal> {
        fail_point!("before-outcome");
        let mut fields = std::mem::take(&mut self.fields);
        let noted = self.outcomes_with(key, outcomes, said, bounce, &mut fields);
        self.fields = fields;
        noted
    }

    fn outcomes_with(
        &mut self,
        key: MessageKey,
        outcomes: &[(u16, Outcome)],
        said: &[Said],
        bounce: Option<&NewMessage<'_>>,
        fields: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let Some(id) = self.index.get(key).map(Entry::id) else { return Ok(()) };
        let mut own = Vec::new();
        let (mut bytes, mut outlines) = (0, (0, 0));
        let bounce = match bounce {
            Some(bounce) => {
                let body = self.body(&bounce.content)?;
                bytes = message_bytes(&mut own, bounce, &body)?;
                outlines = (1, record::outline_bytes(&own));
                Some((bounce, body))
            }
            None => None,
        };
        let written: &[_] = outcomes;
        #[cfg(feature = "mutants")]
        let written: &[_] =
            if mutant::is(Mutant::ForgetOutcome) && id.to_bytes()[9] % 4 == 0 { &[] } else { written };
        fields.clear();
        record::put_outcomes(fields, written, said);
        let outline = record::outline_bytes(fields);
        let wanted = self.room(bytes + outline, (outlines.0 + 1, outlines.1 + outline), Purpose::Outcome);
        if let Err(refusal) = wanted {
            return match self.is_out_of_room(refusal) {
                false => Err(refusal),
                true if bounce.is_some() => Err(Refusal::Vanished),
                true => {
                    self.settle_unwritten(key, outcomes);
                    Ok(())
                }
            };
        }
        self.open.reserve(bytes + outline, &mut self.pool);
        if let Some((bounce, body)) = bounce {
            self.put_message(bounce, &body, None, &own);
        }
        self.open.put_record(record::kind::OUTCOME, id, fields, &[]);
        if let Some(entry) = self.index.get_mut(key) {
            for &(recipient, outcome) in outcomes {
                entry.recipients.settle(recipient, outcome);
            }
            entry.deferral.is_under_way = false;
            entry.outcomes_open += 1;
        }
        self.open_effects.records.push(Some(key));
        self.open_effects.outcomes.push(key);
        self.open_effects.urgent = true;
        Ok(())
    }

    /// Notes until when recipients wait, after `attempts` attempts, and what was `said` to some of them; of the
    /// others what was known still holds. [`HELD`] says that an operator holds them until [`Shard::released`].
    ///
    /// # Errors
    /// As [`Shard::append`]: a spool without room for mail has none for such notes. Without the note a start
    /// tries again sooner, no more. Of an operator's order as [`Shard::outcomes`].
    pub fn deferred(
        &mut self,
        key: MessageKey,
        recipients: &[u16],
        until: UnixMillis,
        attempts: u16,
        said: &[Said],
    ) -> Result<(), Refusal> {
        self.schedule(Scheduled::Deferred, key, recipients, (until, attempts), said)?;
        if let Some(entry) = self.index.get_mut(key) {
            entry.deferral = Deferral::until(until, attempts);
        }
        if !said.is_empty() {
            let fields = Fields::of_checked(&self.fields);
            self.index.note_said(key, fields, recipients.iter().copied());
        }
        if is_order(until) {
            self.open_effects.holds.push(key);
        }
        self.open_effects.urgent = true;
        Ok(())
    }

    /// Notes that an operator holds recipients, after `attempts` attempts, until [`Shard::released`].
    ///
    /// # Errors
    /// As [`Shard::outcomes`].
    pub fn held(&mut self, key: MessageKey, recipients: &[u16], attempts: u16) -> Result<(), Refusal> {
        self.deferred(key, recipients, HELD, attempts, &[])
    }

    /// Notes that recipients are held no longer and wait for nothing.
    ///
    /// # Errors
    /// As [`Shard::outcomes`].
    pub fn released(&mut self, key: MessageKey, recipients: &[u16], attempts: u16) -> Result<(), Refusal> {
        self.deferred(key, recipients, RELEASED, attempts, &[])
    }

    /// Notes that attempt number `attempts` begins. It goes with the next group that is written anyway.
    ///
    /// # Errors
    /// As [`Shard::outcomes`]; losing the note only makes the estimate of duplicates worse.
    pub fn attempt_started(
        &mut self,
        key: MessageKey,
        recipients: &[u16],
        now: UnixMillis,
        attempts: u16,
    ) -> Result<(), Refusal> {
        self.schedule(Scheduled::Attempt, key, recipients, (now, attempts), &[])?;
        if let Some(entry) = self.index.get_mut(key) {
            entry.deferral.attempts = attempts;
            entry.deferral.is_under_way = true;
        }
        Ok(())
    }

    fn body<'a>(&mut self, content: &Content<'a>) -> Result<Body<'a>, Refusal> {
        match *content {
            Content::Inline(bytes) => Ok(Body::Inline(bytes)),
            // A key that is void belongs to a body whose failure was reported.
            Content::Large(key) => self.large.finished(key).map(Body::Large).ok_or(Refusal::Full),
        }
    }

    fn put_message(
        &mut self,
        message: &NewMessage<'_>,
        body: &Body<'_>,
        waiter: Option<Handle>,
        fields: &[u8],
    ) -> MessageKey {
        let content = record::content(message, body);
        let (start, length) = self.open.put_record(record::kind::MESSAGE, message.id, fields, &content);
        let large = match (body, message.content) {
            (Body::Large(large), Content::Large(key)) => {
                self.large.named(key);
                Some(large.number)
            }
            _ => None,
        };
        let recipients = message.envelope.recipient_count();
        let entry = Entry {
            segment: NOWHERE,
            offset: start as u32,
            length: length as u32,
            group: 0,
            recipients: Recipients::pending(recipients),
            deferral: Deferral::default(),
            outcomes_open: 0,
            reply: ReplyIx::NONE,
            id: message.id.to_bytes(),
            is_large: large.is_some(),
            is_copy: false,
        };
        let key = self.index.insert(entry, large);
        self.open_effects.messages.push((key, waiter));
        self.open_effects.records.push(Some(key));
        self.open_effects.urgent = true;
        #[cfg(feature = "mutants")]
        self.acknowledge_early(key, waiter, start, length);
        key
    }

    fn schedule(
        &mut self,
        scheduled: Scheduled,
        key: MessageKey,
        recipients: &[u16],
        (time, attempts): (UnixMillis, u16),
        said: &[Said],
    ) -> Result<(), Refusal> {
        let Some(id) = self.index.get(key).map(Entry::id) else { return Ok(()) };
        self.fields.clear();
        record::put_schedule(&mut self.fields, recipients, time, attempts, said);
        let bytes = record::outline_bytes(&self.fields);
        // Attempts go on for days: without this they would use up what is kept for outcomes.
        let purpose = if is_order(time) { Purpose::Outcome } else { Purpose::Mail };
        self.room(bytes, (1, bytes), purpose)?;
        self.open.reserve(bytes, &mut self.pool);
        self.open.put_record(scheduled.kind(), id, &self.fields, &[]);
        self.open_effects.records.push(Some(key));
        Ok(())
    }
}

/// Appends the fields of a message, and gives the length that its record will have.
fn message_bytes(fields: &mut Vec<u8>, message: &NewMessage<'_>, body: &Body<'_>) -> Result<usize, Refusal> {
    let content = record::content(message, body).iter().map(|part| part.len()).sum();
    let put = record::put_message(fields, message, body);
    put.and_then(|()| record::record_bytes(fields, content)).ok_or(Refusal::Full)
}

/// Whether a time until which recipients wait is an operator's order, which counts whatever was noted meanwhile.
pub(crate) fn is_order(until: UnixMillis) -> bool {
    matches!(until, HELD | RELEASED)
}
