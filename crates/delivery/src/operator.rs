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
use mail::{MessageId, Reply, Status, UnixMillis};
use ring::{Instant, Ring};
use spool::{Noted, Refusal, StoredMessage};

use crate::outcome::Attempt;
use crate::queue::{JobIx, MessageIx, SiteIx, State};
use crate::replies::last_reply;
use crate::schedule::Errand;
use crate::{Context, Delivery, report};

/// Slots looked at in one turn: some ten thousandths of a second.
const SLOTS_PER_TURN_MAX: u32 = 256;

/// Slots looked at for one page that finds little: its answer does not take long.
const SLOTS_PER_PAGE_MAX: u32 = 1 << 16;

/// Sites looked at in one turn: as long as so many slots take.
const SITES_PER_TURN_MAX: u32 = 4096;

/// Jobs acted on in one turn, but for those of its last message.
const JOBS_PER_TURN_MAX: usize = 64;

/// A request that is being served.
#[derive(Debug)]
pub(crate) struct Operation {
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
struct Effect {
    changed: bool,
    under_way: bool,
}

impl Operation {
    /// It has something to do in the next turn, whatever happens.
    pub(crate) fn goes_on(&self) -> bool {
        match &self.work {
            Work::Page { .. } | Work::FailingSites { .. } => true,
            Work::Act(acting) => acting.at < acting.messages.len(),
        }
    }
}

impl Delivery {
    /// One turn's part of what an operator wants.
    pub(crate) fn operate<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        let operation = self.operation.take().or_else(|| cx.link.queue_request().map(begin));
        let Some(Operation { number, work }) = operation else { return };
        let work = match work {
            Work::Page { wanted, mut page, at } => match self.look(cx, &wanted, &mut page, at) {
                Some(at) => Work::Page { wanted, page, at },
                None => return cx.link.answer_queue(number, QueueAnswer::Page(page)),
            },
            Work::FailingSites { mut found, at } => match self.look_at_sites(&mut found, at) {
                Some(at) => Work::FailingSites { found, at },
                None => return cx.link.answer_queue(number, QueueAnswer::FailingSites(found)),
            },
            Work::Act(mut acting) => match self.act_on(cx, &mut acting) {
                false => Work::Act(acting),
                true => return cx.link.answer_queue(number, QueueAnswer::Acted(acting.acted)),
            },
        };
        self.operation = Some(Operation { number, work });
    }

    /// Looks at the slots from `at` on; gives where to go on in the next turn, or `None` when the page is done.
    fn look<R: Ring>(
        &self,
        cx: &Context<'_, R>,
        wanted: &QueuePageRequest,
        page: &mut QueuePage,
        mut at: u32,
    ) -> Option<u32> {
        let turn_end = at.saturating_add(SLOTS_PER_TURN_MAX);
        let (page_end, end) = (wanted.from.saturating_add(SLOTS_PER_PAGE_MAX), self.queue.slots());
        let messages_max = wanted.messages_max.clamp(1, QUEUE_PAGE_MESSAGES_MAX);
        while at < end {
            if at >= turn_end {
                return Some(at);
            }
            let recipients = page.recipients.len();
            if at >= page_end
                || page.messages.len() >= messages_max
                || recipients >= QUEUE_PAGE_RECIPIENTS_MAX
            {
                page.next = Some(at);
                return None;
            }
            self.show(cx, wanted, page, at);
            at += 1;
        }
        None
    }

    /// Puts the message in a slot on the page, if there is one and it is wanted.
    fn show<R: Ring>(&self, cx: &Context<'_, R>, wanted: &QueuePageRequest, page: &mut QueuePage, slot: u32) {
        let Some(message) = self.queue.message_at(slot) else { return };
        if wanted.arrived_before.is_some_and(|before| message.arrived >= before) {
            return;
        }
        let Some((id, Some(place))) = cx.spool.find(message.key) else { return };
        if wanted.id.is_some_and(|wanted| wanted != id) {
            return;
        }
        let jobs = || self.queue.jobs_of(MessageIx(slot));
        let is_wanted = |job: JobIx| wanted.state.is_none_or(|state| Some(state) == self.queue.shown(job));
        if !jobs().any(is_wanted) {
            return;
        }
        let before = page.recipients.len();
        jobs().for_each(|job| self.show_job(cx, page, job));
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
    fn show_job<R: Ring>(&self, cx: &Context<'_, R>, page: &mut QueuePage, job: JobIx) {
        let Some(state) = self.queue.shown(job) else { return };
        let entry = self.queue.job(job);
        let site = (entry.site != SiteIx::NOWHERE).then(|| self.sites.get(entry.site));
        let failure = site.filter(|_| self.queue.is_stalled(job)).and_then(|site| site.shared.failure());
        let due = entry.timer.and_then(|timer| self.wheel.due(timer)).map(|due| in_unix_time(cx, due));
        let until = failure.as_ref().map(|failure| failure.next_try).or(due).unwrap_or_default();
        let said_of_site =
            failure.map(|failure| Arc::new(last_reply(&failure.reply, failure.next_hop.as_deref(), None)));
        let recipients = self.queue.last_replies(job).map(|(index, reply)| QueuedRecipient {
            index,
            attempts: entry.attempts,
            state,
            until,
            site: site.map(|site| site.key.clone()),
            reply: said_of_site.as_ref().or(reply).cloned(),
        });
        page.recipients.extend(recipients);
    }

    /// Looks at the sites from `at` on; gives where to go on in the next turn, or `None` at the end.
    fn look_at_sites(&self, found: &mut Vec<FailingSite>, at: u32) -> Option<u32> {
        let end = self.queue.tallies.end();
        let turn_end = at.saturating_add(SITES_PER_TURN_MAX).min(end);
        for index in (at..turn_end).map(SiteIx) {
            let Some(waiting) = self.queue.tallies.waiting(index) else { continue };
            let site = self.sites.get(index);
            let Some(failure) = site.shared.failure() else { continue };
            found.push(FailingSite {
                key: site.key.clone(),
                failure,
                messages: waiting.messages,
                recipients: waiting.recipients,
            });
        }
        if turn_end == end || found.len() >= 2 * FAILING_SITES_MAX {
            found.sort_unstable_by_key(|site| std::cmp::Reverse(site.recipients));
            found.truncate(FAILING_SITES_MAX);
        }
        (turn_end < end).then_some(turn_end)
    }

    /// Acts on the next messages; true when all is done and durable.
    fn act_on<R: Ring>(&mut self, cx: &mut Context<'_, R>, acting: &mut Acting) -> bool {
        let mut jobs_left = JOBS_PER_TURN_MAX;
        while let Some(&(slot, id)) = acting.messages.get(acting.at) {
            if jobs_left == 0 {
                return false;
            }
            let is_there = self.queue.message_at(slot).and_then(|message| cx.spool.find(message.key));
            if is_there.is_none_or(|(found, _)| found != id) {
                acting.at += 1;
                continue;
            }
            let jobs: Vec<JobIx> = self.queue.jobs_of(MessageIx(slot)).collect();
            jobs_left = jobs_left.saturating_sub(jobs.len());
            match self.act_on_message(cx, acting, &jobs) {
                Ok(effect) => {
                    acting.at += 1;
                    acting.acted.done += u64::from(effect.changed);
                    acting.acted.under_way += u64::from(effect.under_way);
                    acting.acted.unchanged += u64::from(!effect.changed && !effect.under_way);
                    if effect.changed {
                        report::ordered(cx.log, cx.unix_now(), acting.act.as_str(), id, &acting.by);
                    }
                }
                // What was noted of this message is not noted again.
                Err(Refusal::Busy) => return false,
                Err(refusal) => {
                    acting.acted.failure = Some(refusal.to_string().into());
                    acting.messages = Box::default();
                }
            }
        }
        let is_latched = cx.spool.stats().latched;
        let durable_with = acting.durable_with.get_or_insert_with(|| cx.spool.noted());
        let is_durable = cx.spool.is_durable(durable_with);
        if is_latched && acting.acted.failure.is_none() {
            acting.acted.failure = Some(Refusal::Latched.to_string().into());
        }
        self.bouncing == 0 && (is_durable || is_latched)
    }

    fn act_on_message<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        acting: &mut Acting,
        jobs: &[JobIx],
    ) -> Result<Effect, Refusal> {
        let mut effect = Effect::default();
        for &job in jobs {
            match &acting.act {
                QueueAct::Hold => effect.changed |= self.hold(cx, job)?,
                QueueAct::Release => effect.changed |= self.release(cx, job)?,
                QueueAct::Retry => effect.changed |= self.retry(cx, job),
                QueueAct::Bounce(reason) => match self.queue.state(job) {
                    State::Active => effect.under_way = true,
                    State::Ready | State::Deferred | State::Held => {
                        self.cancel_timer(job);
                        self.queue.set_state(job, State::Active);
                        self.bouncing += 1;
                        self.bounce_reason.clone_from(reason);
                        self.add_urgent_errand(Errand::Bounce(job));
                        effect.changed = true;
                    }
                    State::Quarantined | State::Void => {}
                },
                QueueAct::Remove if self.queue.state(job) == State::Quarantined => {
                    self.discard(cx, job)?;
                    effect.changed = true;
                }
                QueueAct::Remove => {}
            }
        }
        self.run_errands(cx);
        Ok(effect)
    }

    /// Notes that a job is held, and takes it out of the schedule, or has it taken out when its attempt ends.
    fn hold<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx) -> Result<bool, Refusal> {
        let (state, entry) = (self.queue.state(job), self.queue.job(job));
        let is_due = matches!(state, State::Ready | State::Deferred);
        if !is_due && (state != State::Active || entry.held) {
            return Ok(false);
        }
        let (key, attempts) = (self.queue.message(entry.message).key, entry.attempts);
        self.indexes.clear();
        self.indexes.extend(self.queue.recipients(job));
        cx.spool.held(key, &self.indexes, attempts)?;
        if is_due {
            self.cancel_timer(job);
            self.queue.set_state(job, State::Held);
        } else {
            self.queue.job_mut(job).held = true;
        }
        Ok(true)
    }

    fn release<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx) -> Result<bool, Refusal> {
        let (state, entry) = (self.queue.state(job), self.queue.job(job));
        if state != State::Held && !entry.held {
            return Ok(false);
        }
        let (key, attempts) = (self.queue.message(entry.message).key, entry.attempts);
        self.indexes.clear();
        self.indexes.extend(self.queue.recipients(job));
        cx.spool.released(key, &self.indexes, attempts)?;
        self.queue.job_mut(job).held = false;
        if state == State::Held {
            self.make_due(cx, job);
        }
        Ok(true)
    }

    /// Makes a job due, and has its site tried whatever failed there before.
    fn retry<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx) -> bool {
        let state = self.queue.state(job);
        if !matches!(state, State::Ready | State::Deferred) {
            return false;
        }
        let index = self.queue.job(job).site;
        if index != SiteIx::NOWHERE {
            self.sites.get(index).shared.try_now();
        }
        self.cancel_timer(job);
        match state {
            State::Deferred => self.make_due(cx, job),
            _ if index != SiteIx::NOWHERE => self.serve(cx, index),
            _ => {}
        }
        true
    }

    /// Gives a job up as an operator wants it, now that its message is here.
    pub(crate) fn bounce<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx, stored: &StoredMessage) {
        let reply = Reply::new(554, Some(Status::new(5, 0, 0)), &self.bounce_reason);
        self.conclude(cx, job, stored, &Attempt { by_operator: true, ..Attempt::unmade(&reply) });
    }
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

fn in_unix_time<R: Ring>(cx: &Context<'_, R>, due: Instant) -> UnixMillis {
    cx.unix_now().plus(due.since(cx.ring.now()).as_millis() as u64)
}
