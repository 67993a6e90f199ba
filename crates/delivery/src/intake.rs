//! What comes to be queued: committed mail, what a former life of the shard left, and what is routed again.

use mail::UnixMillis;
use ring::Ring;
use scheduler::{Event, JobIx, Left, MessageIx, Note, Queued, RECIPIENTS_MAX, Start};
use spool::{HELD, MessageKey, Recovered, StoredMessage};

use crate::desk::Desk;
use crate::routes::Way;
use crate::{Context, report};

/// A recipient on its way into the schedule.
struct Recipient<'a> {
    way: Way<'a>,
    /// 0 where it is due.
    not_before: UnixMillis,
    index: u16,
    attempts: u16,
    note: Note,
}

impl Desk {
    /// Takes up a message that has become durable.
    pub(crate) fn committed<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        key: MessageKey,
        stored: &StoredMessage,
    ) {
        let message = self.schedule.add_message(key, stored.arrived(), stored.recipient_count());
        let recipients = (0..=u16::MAX).zip(stored.recipients());
        let recipients = recipients.map(|(index, address)| (Left::fresh(index), address.domain()));
        self.queue_due(cx, message, stored.tenant(), recipients, 0);
    }

    /// Queues a job's recipients anew: another configuration may lead them elsewhere.
    pub(crate) fn route_anew<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        job: JobIx,
        stored: &StoredMessage,
    ) {
        let entry = self.schedule.job(job);
        let left: Vec<Left> = left(self.schedule.view().recipients(job)).collect();
        let mut wanted = left.into_iter().peekable();
        let recipients = (0..=u16::MAX).zip(stored.recipients()).filter_map(|(index, address)| {
            let left = wanted.next_if(|left| left.recipient == index)?;
            Some((left, address.domain()))
        });
        self.queue_due(cx, entry.message, stored.tenant(), recipients, entry.attempts);
        self.schedule.tell(cx, Event::Rerouted { job });
    }

    /// Queues recipients, which are due, by where they go.
    fn queue_due<'a, R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        message: MessageIx,
        tenant: &str,
        recipients: impl Iterator<Item = (Left, &'a str)>,
        attempts: u16,
    ) {
        let snapshot = cx.snapshots.load();
        let (answers, generation) = (snapshot.tenant_named(tenant), snapshot.generation as u32);
        let recipients = recipients.map(|(Left { recipient, note }, domain)| Recipient {
            way: self.routes.way(snapshot, answers, domain),
            not_before: UnixMillis(0),
            index: recipient,
            attempts,
            note,
        });
        let recipients = recipients.collect();
        self.queue(cx, message, (tenant, generation), recipients, false);
    }

    /// Takes up what recovery found, by where it goes and the time until which it was deferred.
    pub(crate) fn recovered<R: Ring>(&mut self, cx: &mut Context<'_, R>, recovered: &Recovered) {
        let is_bodiless = cx.spool.recovery().bodies_missing.contains(&recovered.id);
        if is_bodiless {
            report::quarantined(cx.log, cx.unix_now(), recovered.id, "its body is missing");
        }
        if let Some(foreign) = recovered.foreign {
            report::quarantined(cx.log, cx.unix_now(), recovered.id, foreign);
        }
        let message = self.schedule.add_message(recovered.key, recovered.arrived, recovered.pending.len());
        let snapshot = cx.snapshots.load();
        // Whom a message is for that is not understood is not certain.
        let tenant = snapshot.tenant_named(&recovered.tenant).filter(|_| recovered.foreign.is_none());
        let generation = snapshot.generation as u32;
        let recipients = recovered.pending.iter().map(|pending| Recipient {
            way: self.routes.way(snapshot, tenant, &pending.domain),
            not_before: pending.not_before,
            index: pending.recipient,
            attempts: pending.attempts,
            note: recovered.reply(pending.recipient).map_or(Note::NONE, |reply| self.replies.keep(reply)),
        });
        let recipients = recipients.collect();
        let is_apart = is_bodiless || recovered.foreign.is_some();
        self.queue(cx, message, (&*recovered.tenant, generation), recipients, is_apart);
    }

    /// Queues recipients of a message: those that go the same way side by side, as many at once as one
    /// transaction carries. Another configuration may hold by now than the one of `generation`, by which their way
    /// was found.
    fn queue<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        message: MessageIx,
        (tenant, generation): (&str, u32),
        mut recipients: Vec<Recipient<'_>>,
        is_apart: bool,
    ) {
        let tenant = self.schedule.tenant(tenant);
        let order = |a: &Recipient<'_>, b: &Recipient<'_>| {
            a.way.compare(&b.way).then_with(|| (a.not_before, a.index).cmp(&(b.not_before, b.index)))
        };
        recipients.sort_unstable_by(order);
        let are_together = |a: &Recipient<'_>, b: &Recipient<'_>| {
            a.way.compare(&b.way).is_eq() && a.not_before == b.not_before
        };
        for part in recipients.chunk_by(are_together).flat_map(|group| group.chunks(RECIPIENTS_MAX)) {
            let (way, not_before) = (&part[0].way, part[0].not_before);
            let routed = match way {
                // No configuration has it: it is routed again whenever its turn comes.
                Way::Nowhere => u32::MAX,
                Way::Route(_) | Way::Domain(_) => generation,
            };
            let start = match not_before {
                _ if is_apart => Start::Quarantined,
                HELD => Start::Held,
                UnixMillis(0) => Start::Due,
                until => Start::Deferred(until),
            };
            if is_apart {
                self.quarantine(message);
            }
            self.outcomes.left.clear();
            self.outcomes.left.extend(part.iter().map(|one| Left { recipient: one.index, note: one.note }));
            let attempts = part.iter().map(|one| one.attempts).max().unwrap_or(0);
            let (via, recipients) = (way.via(), &self.outcomes.left[..]);
            let queued = Queued { message, tenant, via, routed, recipients, attempts, start };
            self.schedule.tell(cx, Event::Queued(queued));
            self.look_at_latest(cx, message);
        }
    }

    /// Where the site of a message's latest job fails, another worker may have found that it works.
    fn look_at_latest<R: Ring>(&mut self, cx: &mut Context<'_, R>, message: MessageIx) {
        let view = self.schedule.view();
        let latest = view.jobs_of(message).next().and_then(|job| view.job(job));
        let failing = latest.map(|job| job.site).filter(|&site| self.schedule.site(site).fails);
        let Some(number) = failing else { return };
        if self.known(number).is_some_and(|site| site.shared.failure().is_none()) {
            self.compare(cx, number);
        }
    }
}

/// Recipients with what was said of them.
pub(crate) fn left(recipients: impl Iterator<Item = (u16, Note)>) -> impl Iterator<Item = Left> {
    recipients.map(|(recipient, note)| Left { recipient, note })
}
