//! What an operator wants of the queue: a page of it, or messages held, released, retried, bounced, removed.
//!
//! One request at a time, in slices: a turn looks at so many slots, or acts on so many messages, and
//! no more, whatever is asked. What is held, released or removed is noted in the spool before it is said to
//! be done. A spool that is busy is offered the note again in the next turn; one that takes nothing ends
//! the request.

use std::sync::Arc;

use commons::{
    FAILING_SITES_MAX, FailingSite, QUEUE_PAGE_MESSAGES_MAX, QUEUE_PAGE_RECIPIENTS_MAX, QueueAct, QueueActed,
    QueueAnswer, QueuePage, QueuePageRequest, QueueRequest, QueueTask, QueuedMessage, QueuedRecipient,
};
use mail::{MessageId, QueueState};
use ring::Ring;
use scheduler::{Act, Effect, JobIx, MessageIx, SiteIx};
use spool::{MessageKey, Noted, Refusal};

use crate::desk::Desk;
use crate::replies::last_reply;
use crate::{Context, report, schedule};

/// Slots looked at in one turn: some ten thousandths of a second.
const SLOTS_PER_TURN_MAX: u32 = 256;

/// Slots looked at for one page that finds little: its answer does not take long.
const SLOTS_PER_PAGE_MAX: u32 = 1 << 16;

/// Sites looked at in one turn: as long as so many slots take.
const SITES_PER_TURN_MAX: u32 = 4096;

/// Jobs acted on in one turn, but for those of its last message.
const JOBS_PER_TURN_MAX: usize = 64;

/// What operators want, one request after the other.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    operation: Option<Operation>,
}

/// A request that is being served.
#[derive(Debug)]
struct Operation {
    number: u64,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Page { wanted: QueuePageRequest, page: QueuePage, at: u32 },
    FailingSites { found: Vec<FailingSite>, at: u32 },
    Act(Acting),
}

#[derive(Debug)]
struct Acting {
    act: QueueAct,
    messages: Box<[(u32, MessageId)]>,
    by: Box<str>,
    /// The message that is next.
    at: usize,
    acted: QueueActed,
    /// What was noted is durable with this group; known once all is noted.
    durable_with: Option<Noted>,
}

/// What came of an act on one message.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    changed: bool,
    under_way: bool,
}

impl Operator {
    /// It has something to do in the next turn, whatever happens.
    pub(crate) fn goes_on(&self) -> bool {
        match self.operation.as_ref().map(|operation| &operation.work) {
            Some(Work::Page { .. } | Work::FailingSites { .. }) => true,
            Some(Work::Act(acting)) => acting.at < acting.messages.len(),
            None => false,
        }
    }

    /// One turn's part of what an operator wants.
    pub(crate) fn operate<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk) {
        let operation = self.operation.take().or_else(|| cx.link.queue_request().map(begin));
        let Some(Operation { number, work }) = operation else { return };
        let work = match work {
            Work::Page { wanted, mut page, at } => match look(cx, desk, &wanted, &mut page, at) {
                Some(at) => Work::Page { wanted, page, at },
                None => return cx.link.answer_queue(number, QueueAnswer::Page(page)),
            },
            Work::FailingSites { mut found, at } => match look_at_sites(desk, &mut found, at) {
                Some(at) => Work::FailingSites { found, at },
                None => return cx.link.answer_queue(number, QueueAnswer::FailingSites(found)),
            },
            Work::Act(mut acting) => match acting.act_on_next(cx, desk) {
                false => Work::Act(acting),
                true => return cx.link.answer_queue(number, QueueAnswer::Acted(acting.acted)),
            },
        };
        self.operation = Some(Operation { number, work });
    }
}

/// Looks at the slots from `at` on; gives where to go on in the next turn, or `None` when the page is done.
fn look<R: Ring>(
    cx: &Context<'_, R>,
    desk: &Desk,
    wanted: &QueuePageRequest,
    page: &mut QueuePage,
    mut at: u32,
) -> Option<u32> {
    let turn_end = at.saturating_add(SLOTS_PER_TURN_MAX);
    let page_end = wanted.from.saturating_add(SLOTS_PER_PAGE_MAX);
    let (end, messages_max) =
        (desk.schedule.view().message_end(), wanted.messages_max.clamp(1, QUEUE_PAGE_MESSAGES_MAX));
    while at < end {
        if at >= turn_end {
            return Some(at);
        }
        let recipients = page.recipients.len();
        if at >= page_end || page.messages.len() >= messages_max || recipients >= QUEUE_PAGE_RECIPIENTS_MAX {
            page.next = Some(at);
            return None;
        }
        show(cx, desk, wanted, page, at);
        at += 1;
    }
    None
}

/// Puts the message in a slot on the page, if there is one and it is wanted.
fn show<R: Ring>(
    cx: &Context<'_, R>,
    desk: &Desk,
    wanted: &QueuePageRequest,
    page: &mut QueuePage,
    slot: u32,
) {
    let view = desk.schedule.view();
    let Some(message) = view.message(MessageIx(slot)) else { return };
    if wanted.arrived_before.is_some_and(|before| message.arrived >= before) {
        return;
    }
    let Some((id, Some(place))) = cx.spool.find(MessageKey(message.key)) else { return };
    if wanted.id.is_some_and(|wanted| wanted != id) {
        return;
    }
    let jobs = || view.jobs_of(MessageIx(slot));
    let is_wanted = |job| wanted.state.is_none_or(|state| state == desk.schedule.job(job).state);
    if !jobs().any(is_wanted) {
        return;
    }
    let before = page.recipients.len();
    jobs().for_each(|job| show_job(cx, desk, page, job));
    page.messages.push(QueuedMessage {
        slot,
        id,
        arrived: message.arrived,
        shard: place.shard,
        record: (place.segment, place.offset, place.length),
        recipients: (page.recipients.len() - before) as u32,
    });
}

/// Puts the recipients of a job on the page.
fn show_job<R: Ring>(cx: &Context<'_, R>, desk: &Desk, page: &mut QueuePage, job: JobIx) {
    let (entry, view) = (desk.schedule.job(job), desk.schedule.view());
    let site = desk.site(entry.site);
    // What is deferred without a time of its own waits for its site.
    let is_stalled = entry.state == QueueState::Deferred && entry.due.is_none();
    let failure = is_stalled.then(|| site.shared.failure()).flatten();
    let wait = entry.due.map(|due| due.saturating_sub(schedule::steady(cx)));
    let due = wait.map(|wait| cx.unix_now().plus(wait));
    let until = failure.as_ref().map(|failure| failure.next_try).or(due).unwrap_or_default();
    let said_of_site =
        failure.map(|failure| Arc::new(last_reply(&failure.reply, failure.next_hop.as_deref(), None)));
    let recipients = view.recipients(job).map(|(index, note)| QueuedRecipient {
        index,
        attempts: entry.attempts,
        state: entry.state,
        until,
        site: site.shown(),
        reply: said_of_site.as_ref().or_else(|| desk.replies.get(note)).cloned(),
    });
    page.recipients.extend(recipients);
}

/// Looks at the sites from `at` on; gives where to go on in the next turn, or `None` at the end.
fn look_at_sites(desk: &Desk, found: &mut Vec<FailingSite>, at: u32) -> Option<u32> {
    let view = desk.schedule.view();
    let end = view.site_end();
    let turn_end = at.saturating_add(SITES_PER_TURN_MAX).min(end);
    for index in (at..turn_end).map(SiteIx) {
        let Some(seen) = view.site(index).filter(|site| site.fails) else { continue };
        let recipients = u64::from(seen.ready) + u64::from(seen.active) + u64::from(seen.deferred);
        let site = desk.site(index);
        let Some(failure) = site.shared.failure().filter(|_| recipients > 0) else { continue };
        found.push(FailingSite {
            key: site.name.clone(),
            failure,
            messages: u64::from(seen.messages),
            recipients,
        });
    }
    if turn_end == end || found.len() >= 2 * FAILING_SITES_MAX {
        found.sort_unstable_by_key(|site| std::cmp::Reverse(site.recipients));
        found.truncate(FAILING_SITES_MAX);
    }
    (turn_end < end).then_some(turn_end)
}

impl Acting {
    /// Acts on the next messages; true when all is done and durable.
    fn act_on_next<R: Ring>(&mut self, cx: &mut Context<'_, R>, desk: &mut Desk) -> bool {
        let mut jobs_left = JOBS_PER_TURN_MAX;
        while let Some(&(slot, id)) = self.messages.get(self.at) {
            if jobs_left == 0 {
                return false;
            }
            let view = desk.schedule.view();
            let message = view.message(MessageIx(slot));
            let is_there = message.and_then(|message| cx.spool.find(MessageKey(message.key)));
            if is_there.is_none_or(|(found, _)| found != id) {
                self.at += 1;
                continue;
            }
            let jobs: Vec<JobIx> = view.jobs_of(MessageIx(slot)).collect();
            jobs_left = jobs_left.saturating_sub(jobs.len());
            match self.act_on_message(cx, desk, &jobs) {
                Ok(done) => {
                    self.at += 1;
                    self.acted.done += u64::from(done.changed);
                    self.acted.under_way += u64::from(done.under_way);
                    self.acted.unchanged += u64::from(!done.changed && !done.under_way);
                    if done.changed {
                        report::ordered(cx.log, cx.unix_now(), self.act.as_str(), id, &self.by);
                    }
                }
                // What was noted of this message is not noted again.
                Err(Refusal::Busy) => return false,
                Err(refusal) => {
                    self.acted.failure = Some(refusal.to_string().into());
                    self.messages = Box::default();
                }
            }
        }
        let is_latched = cx.spool.stats().latched;
        let durable_with = self.durable_with.get_or_insert_with(|| cx.spool.noted());
        let is_durable = cx.spool.is_durable(durable_with);
        if is_latched && self.acted.failure.is_none() {
            self.acted.failure = Some(Refusal::Latched.to_string().into());
        }
        desk.bouncing == 0 && (is_durable || is_latched)
    }

    fn act_on_message<R: Ring>(
        &self,
        cx: &mut Context<'_, R>,
        desk: &mut Desk,
        jobs: &[JobIx],
    ) -> Result<Done, Refusal> {
        let mut done = Done::default();
        for &job in jobs {
            let effect = match &self.act {
                QueueAct::Hold => hold(cx, desk, job)?,
                QueueAct::Release => release(cx, desk, job)?,
                QueueAct::Retry => {
                    desk.site(desk.schedule.job(job).site).shared.try_now();
                    desk.schedule.act(cx, job, Act::Retry)
                }
                QueueAct::Bounce(reason) => {
                    let effect = desk.schedule.act(cx, job, Act::Bounce);
                    if effect == Effect::Changed {
                        desk.bouncing += 1;
                        desk.bounce_reason.clone_from(reason);
                    }
                    effect
                }
                QueueAct::Remove if desk.schedule.job(job).state == QueueState::Quarantined => {
                    desk.discard(cx, job)?;
                    Effect::Changed
                }
                QueueAct::Remove => Effect::Unchanged,
            };
            done.changed |= effect == Effect::Changed;
            done.under_way |= effect == Effect::UnderWay;
        }
        Ok(done)
    }
}

/// Notes that a job is held, and takes it out of the schedule, or has it taken out when its attempt ends.
fn hold<R: Ring>(cx: &mut Context<'_, R>, desk: &mut Desk, job: JobIx) -> Result<Effect, Refusal> {
    let entry = desk.schedule.job(job);
    let goes_on = matches!(entry.state, QueueState::Ready | QueueState::Active | QueueState::Deferred);
    if !goes_on || entry.held {
        return Ok(Effect::Unchanged);
    }
    let recipients: Vec<u16> = desk.schedule.recipients(job).collect();
    cx.spool.held(desk.schedule.key(job), &recipients, entry.attempts)?;
    Ok(desk.schedule.act(cx, job, Act::Hold))
}

fn release<R: Ring>(cx: &mut Context<'_, R>, desk: &mut Desk, job: JobIx) -> Result<Effect, Refusal> {
    let entry = desk.schedule.job(job);
    if entry.state != QueueState::Held && !entry.held {
        return Ok(Effect::Unchanged);
    }
    let recipients: Vec<u16> = desk.schedule.recipients(job).collect();
    cx.spool.released(desk.schedule.key(job), &recipients, entry.attempts)?;
    Ok(desk.schedule.act(cx, job, Act::Release))
}

fn begin(QueueRequest { number, task }: QueueRequest) -> Operation {
    let work = match task {
        QueueTask::Page(wanted) => {
            let at = wanted.from;
            Work::Page { wanted, page: QueuePage::default(), at }
        }
        QueueTask::FailingSites => Work::FailingSites { found: Vec::new(), at: 0 },
        QueueTask::Act { act, messages, by } => {
            Work::Act(Acting { act, messages, by, at: 0, acted: QueueActed::default(), durable_with: None })
        }
    };
    Operation { number, work }
}
