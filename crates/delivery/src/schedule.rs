//! The schedule: which job goes to which site, when a site is served, and the errands to the spool
//! that this takes (a message must be read to be routed again, or to be bounced when it expires).

use std::time::Duration;

use mail::UnixMillis;
use ring::{Handle, Ring};
use spool::{HELD, LoadError, Recovered, StoredMessage};

use crate::outcome::Attempt;
use crate::queue::{JobIx, MessageIx, RECIPIENTS_PER_TRANSACTION_MAX, SiteIx, State};
use crate::site::Need;
use crate::{Context, Delivery, TICK, Timer, report};

/// Messages that are read at once for errands, whatever waits: what they may take of memory and disk.
const ERRANDS_LOADING_MAX: usize = 16;

/// Transactions whose outcomes the spool was too busy to take before no further one is begun.
const UNSETTLED_MAX: usize = 256;

/// A question that found no room is put again after this.
const QUESTION_LOOK: Duration = Duration::from_millis(250);

/// A site that waits for a lease is looked at this often, should the wake-up be missed.
const STARVED_LOOK: Duration = Duration::from_millis(500);

/// Why a message is read from the spool.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// A connection is going to send it.
    Attempt(Handle),
    /// A connection sends its large body.
    Body(Handle),
    /// Something else must be done about it.
    Errand(Errand),
}

/// What else is done about a queued message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Errand {
    /// Route a job's recipients (again).
    Route(JobIx),
    /// Give a job up that has waited too long for a site that is down.
    Expire(JobIx),
    /// Give a job up whose domain takes no mail.
    Refuse(JobIx),
    /// Give a job up because an operator says so.
    Bounce(JobIx),
}

impl Errand {
    fn job(self) -> JobIx {
        match self {
            Self::Route(job) | Self::Expire(job) | Self::Refuse(job) | Self::Bounce(job) => job,
        }
    }

    /// Where its job stands for as long as it is wanted.
    fn state(self) -> State {
        match self {
            Self::Bounce(_) => State::Active,
            _ => State::Ready,
        }
    }
}

/// Places of jobs that wait no longer which are passed over at once, at most.
const PASSED_OVER_MAX: usize = 256;

impl Delivery {
    /// Notes what recovery found: jobs by site and by the time until which they were deferred.
    pub(crate) fn take_up<R: Ring>(&mut self, cx: &mut Context<'_, R>, recovered: &Recovered) {
        let pending = recovered.pending.len();
        let is_bodiless = cx.spool.recovery().bodies_missing.contains(&recovered.id);
        if is_bodiless {
            report::quarantined(cx.log, cx.unix_now(), recovered.id, "its body is missing");
        }
        if let Some(foreign) = recovered.foreign {
            report::quarantined(cx.log, cx.unix_now(), recovered.id, foreign);
        }
        let is_apart = is_bodiless || recovered.foreign.is_some();
        let message = self.queue.add_message(recovered.key, recovered.arrived, pending as u32);
        let snapshot = cx.snapshots.load();
        self.sites.follow(snapshot);
        let routed = snapshot.generation as u32;
        // Whom a message is for that is not understood is not certain.
        let tenant = snapshot.tenant_named(&recovered.tenant).filter(|_| recovered.foreign.is_none());
        let mut grouping: Vec<_> = (recovered.pending.iter())
            .map(|recipient| {
                let site = tenant.map_or(SiteIx::NOWHERE, |tenant| {
                    let shared = |key: &str| cx.link.commons().sites().site(key);
                    self.sites.towards(snapshot, tenant, &recipient.domain, shared)
                });
                (site, recipient.not_before, recipient.recipient, recipient.attempts)
            })
            .collect();
        grouping.sort_unstable();
        let (now, unix_now) = (cx.ring.now(), cx.unix_now());
        let longest_wait = self.settings.retry.longest_wait();
        for group in grouping.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (site, not_before, ..) = group[0];
            let wait = Duration::from_millis(not_before.since(unix_now)).min(longest_wait);
            for part in group.chunks(RECIPIENTS_PER_TRANSACTION_MAX) {
                let attempts = part.iter().map(|recipient| recipient.3).max().unwrap_or(0);
                let recipients = part.iter().map(|recipient| recipient.2);
                let job = self.add_job(message, site, recipients, attempts, routed);
                self.queue.set_replies(job, part.iter().map(|recipient| recovered.reply(recipient.2)));
                match site {
                    _ if is_apart => self.quarantine(job),
                    _ if not_before == HELD => self.queue.set_state(job, State::Held),
                    _ if !wait.is_zero() => self.defer(job, now.after(wait)),
                    SiteIx::NOWHERE => self.add_errand(Errand::Route(job)),
                    _ => self.wait_at(site, job),
                }
            }
            if site != SiteIx::NOWHERE {
                self.serve(cx, site);
            }
        }
    }

    /// Groups the recipients in `self.indexes` by site and queues them there.
    pub(crate) fn group<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        message: MessageIx,
        stored: &StoredMessage,
        attempts: u16,
    ) {
        let snapshot = cx.snapshots.load();
        self.sites.follow(snapshot);
        let routed = snapshot.generation as u32;
        let tenant = snapshot.tenant_named(stored.tenant());
        let mut grouping = std::mem::take(&mut self.grouping);
        let mut wanted = self.indexes.iter().copied().peekable();
        for (index, address) in (0..=u16::MAX).zip(stored.recipients()) {
            if wanted.next_if_eq(&index).is_none() {
                continue;
            }
            let site = tenant.map_or(SiteIx::NOWHERE, |tenant| {
                let shared = |key: &str| cx.link.commons().sites().site(key);
                self.sites.towards(snapshot, tenant, address.domain(), shared)
            });
            grouping.push((site, index));
        }
        grouping.sort_unstable();
        for group in grouping.chunk_by(|a, b| a.0 == b.0) {
            let site = group[0].0;
            for part in group.chunks(RECIPIENTS_PER_TRANSACTION_MAX) {
                let recipients = part.iter().map(|&(_, index)| index);
                let job = self.add_job(message, site, recipients, attempts, routed);
                match site {
                    SiteIx::NOWHERE => self.unrouted(cx, job, stored),
                    _ => self.wait_at(site, job),
                }
            }
            if site != SiteIx::NOWHERE {
                self.serve(cx, site);
            }
        }
        grouping.clear();
        self.grouping = grouping;
    }

    fn add_job(
        &mut self,
        message: MessageIx,
        site: SiteIx,
        recipients: impl DoubleEndedIterator<Item = u16>,
        attempts: u16,
        routed: u32,
    ) -> JobIx {
        if site != SiteIx::NOWHERE {
            self.sites.get_mut(site).jobs += 1;
        }
        self.queue.add_job(message, site, recipients, attempts, routed)
    }

    /// Ends a job, whatever recipients it still has.
    pub(crate) fn remove_job(&mut self, job: JobIx) {
        let (site, timer) = (self.queue.job(job).site, self.queue.job_mut(job).timer.take());
        timer.and_then(|timer| self.wheel.cancel(timer));
        if self.queue.remove_job(job) && site != SiteIx::NOWHERE {
            self.sites.get_mut(site).jobs -= 1;
            self.rest(site);
        }
    }

    /// Something about a site has ended: another that rests may be forgotten, and its place is free.
    pub(crate) fn rest(&mut self, site: SiteIx) {
        if let Some(forgotten) = self.sites.rest(site) {
            self.queue.tallies.works(forgotten);
        }
    }

    /// Puts a job that is ready at the end of those that wait for a site.
    pub(crate) fn wait_at(&mut self, site: SiteIx, job: JobIx) {
        self.queue.link(job);
        self.sites.get_mut(site).waiting.push_back(job);
    }

    /// Puts a job that is ready where its site, or its next route, will find it.
    pub(crate) fn make_due<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx) {
        self.queue.set_state(job, State::Ready);
        let entry = self.queue.job(job);
        if entry.site == SiteIx::NOWHERE || entry.routed != cx.snapshots.load().generation as u32 {
            self.add_errand(Errand::Route(job));
            return self.run_errands(cx);
        }
        let site = entry.site;
        self.wait_at(site, job);
        self.serve(cx, site);
    }

    fn add_errand(&mut self, errand: Errand) {
        self.queue.link(errand.job());
        self.errands.push_back(errand);
    }

    /// An operator waits for this errand: it goes before those for which no caller waits.
    pub(crate) fn add_urgent_errand(&mut self, errand: Errand) {
        self.queue.link(errand.job());
        self.errands.push_front(errand);
    }

    /// A place in a queue has led to a job; false when it is passed over, because the job does not stand at `state`.
    fn comes_up(&mut self, job: JobIx, state: State) -> bool {
        if self.queue.unlink(job) {
            self.remove_job(job);
            return false;
        }
        self.queue.state(job) == state
    }

    /// Passes over the jobs in front of a site's queue that wait there no longer; false when there are more.
    fn pass_over(&mut self, index: SiteIx) -> bool {
        for _ in 0..PASSED_OVER_MAX {
            // With its last job a site may be forgotten.
            if !self.sites.is_there(index) {
                return true;
            }
            let waiting = &mut self.sites.get_mut(index).waiting;
            match waiting.front() {
                Some(&job) if self.queue.state(job) != State::Ready => {
                    waiting.pop_front();
                    self.comes_up(job, State::Ready);
                }
                _ => return true,
            }
        }
        false
    }

    fn defer(&mut self, job: JobIx, until: ring::Instant) {
        self.queue.set_state(job, State::Deferred);
        let timer = self.wheel.insert(until, Timer::Job(job));
        self.queue.job_mut(job).timer = Some(timer);
    }

    /// Nothing waits for a deferred job's time any more.
    pub(crate) fn cancel_timer(&mut self, job: JobIx) {
        if let Some(timer) = self.queue.job_mut(job).timer.take() {
            self.wheel.cancel(timer);
        }
    }

    /// A job's message is damaged: it is never tried again, and stays for a person to look at.
    fn quarantine(&mut self, job: JobIx) {
        let message = self.queue.job(job).message;
        let is_known = self.queue.jobs_of(message).any(|job| self.queue.state(job) == State::Quarantined);
        self.quarantined += u64::from(!is_known);
        self.queue.set_state(job, State::Quarantined);
    }

    /// No tenant answers for a job's recipients any more: their tenant has left the configuration.
    /// That may be a mistake, so it is no reason to bounce before the message expires.
    fn unrouted<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx, stored: &StoredMessage) {
        let reply = Self::own_reply(4, "the tenant of this message is no longer configured");
        self.conclude(cx, job, stored, &Attempt::unmade(&reply));
    }

    /// A deferred job may be tried again.
    pub(crate) fn job_due<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx) {
        self.queue.job_mut(job).timer = None;
        self.make_due(cx, job);
    }

    /// A site's back-off is over, or a lease may be free.
    pub(crate) fn site_due<R: Ring>(&mut self, cx: &mut Context<'_, R>, index: SiteIx) {
        let routed = cx.snapshots.load().generation as u32;
        let site = self.sites.get_mut(index);
        // Mail that waits for a next hop which the configuration no longer names is routed again.
        for _ in 0..site.waiting.len() {
            let Some(job) = self.sites.get_mut(index).waiting.pop_front() else { break };
            if !self.comes_up(job, State::Ready) {
                continue;
            }
            if self.queue.job(job).routed == routed {
                self.wait_at(index, job);
            } else {
                self.add_errand(Errand::Route(job));
            }
        }
        self.run_errands(cx);
        // Until here it was not to be forgotten.
        self.sites.get_mut(index).timer_set = false;
        self.serve(cx, index);
        self.rest(index);
    }

    /// Gives a site's waiting jobs to its connections, and opens connections as leases allow.
    pub(crate) fn serve<R: Ring>(&mut self, cx: &mut Context<'_, R>, index: SiteIx) {
        let (now, unix_now) = (cx.ring.now(), cx.unix_now());
        while !self.draining && self.unsettled.len() < UNSETTLED_MAX {
            let are_all_passed = self.pass_over(index);
            if !self.sites.is_there(index) {
                return;
            }
            if !are_all_passed {
                self.look_again(index, now.after(TICK));
                break;
            }
            let site = self.sites.get_mut(index);
            if self.queue.tallies.is_failing(index) && site.shared.failure().is_none() {
                // It works for another worker.
                self.queue.tallies.works(index);
            }
            let rest = site.shared.rest(unix_now, self.settings.retry.longest_wait());
            match site.need(now, !rest.is_zero()) {
                Need::Nothing => break,
                Need::Rest => {
                    if site.shared.failure().is_some() {
                        self.queue.tallies.fails(index, &site.shared);
                    }
                    self.look_again(index, now.after(rest));
                    break;
                }
                Need::Job(connection, job) => {
                    let is_ready = self.comes_up(job, State::Ready);
                    debug_assert!(is_ready, "others were passed over");
                    self.start(cx, connection, job);
                }
                Need::Exchangers => {
                    if !self.ask_exchangers(cx, index) {
                        self.look_again(index, now.after(QUESTION_LOOK));
                        break;
                    }
                }
                Need::Connection => {
                    let full = self.connections.len() as usize >= self.settings.connections_max;
                    let yields = now < site.yields_until;
                    if yields {
                        site.shared.wait(self.settings.worker);
                    }
                    if full
                        || yields
                        || !site.shared.acquire_or_wait(site.connections_max, self.settings.worker)
                    {
                        // A holder yields at its next message boundary, and wakes us; where it is our own
                        // descriptors that are used up, idle connections close by themselves.
                        site.starved = true;
                        self.look_again(index, now.after(STARVED_LOOK));
                        break;
                    }
                    site.starved = false;
                    self.open(cx, index);
                }
            }
        }
    }

    /// Serves the sites that wait for a lease: one may have come back.
    pub(crate) fn serve_starved<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        for index in self.sites.indexes() {
            if !self.sites.is_there(index) {
                continue;
            }
            let site = self.sites.get_mut(index);
            if std::mem::take(&mut site.starved) {
                if site.waiting.is_empty() {
                    site.shared.stop_waiting(self.settings.worker);
                }
                self.serve(cx, index);
            }
        }
    }

    /// Serves every site: something that held all of them back is over.
    pub(crate) fn serve_all<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        for site in self.sites.indexes() {
            if self.sites.is_there(site) {
                self.serve(cx, site);
            }
        }
    }

    /// Sees to it that a site is looked at again at `at`, or before.
    pub(crate) fn look_again(&mut self, index: SiteIx, at: ring::Instant) {
        let site = self.sites.get_mut(index);
        if !site.timer_set {
            site.timer_set = true;
            self.wheel.insert(at, Timer::Site(index));
        }
    }

    /// A site could not be reached at all, or a connection to it failed before MAIL or within a
    /// transaction: one back-off, whatever waits for it; what has waited too long expires.
    pub(crate) fn site_failed<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        index: SiteIx,
        next_hop: Option<&str>,
        failure: mail::Reply,
    ) {
        let (now, unix_now, random) = (cx.ring.now(), cx.unix_now(), cx.random());
        let (site, retry) = (self.sites.get_mut(index), self.settings.retry);
        let longest = retry.longest_wait();
        let (known, is_news) = site
            .shared
            .failed(&failure, next_hop, unix_now, longest, |failures| retry.wait(failures, random));
        if is_news {
            report::site_unavailable(cx.log, unix_now, site, &known);
        }
        self.queue.tallies.fails(index, &site.shared);
        site.failure = failure;
        let rest = known.rest(unix_now, longest);
        let (expire, waiting) = (self.settings.retry.expire.as_millis() as u64, site.waiting.len());
        // With a timer it is not forgotten, whatever of this is over.
        self.look_again(index, now.after(rest));
        for _ in 0..waiting {
            let Some(job) = self.sites.get_mut(index).waiting.pop_front() else { break };
            if !self.comes_up(job, State::Ready) {
                continue;
            }
            let arrived = self.queue.message(self.queue.job(job).message).arrived;
            if unix_now.since(arrived) >= expire {
                self.add_errand(Errand::Expire(job));
            } else {
                self.wait_at(index, job);
            }
        }
        self.run_errands(cx);
    }

    /// Reads what errands need, so much at once.
    pub(crate) fn run_errands<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        while self.errands_loading < ERRANDS_LOADING_MAX && !self.draining {
            let Some(errand) = self.errands.pop_front() else { break };
            // Until it is read the job may come to stand elsewhere: the place counts until then.
            if self.queue.state(errand.job()) != errand.state() {
                self.comes_up(errand.job(), errand.state());
                continue;
            }
            self.errands_loading += 1;
            let key = self.queue.message(self.queue.job(errand.job()).message).key;
            let request = self.loads.insert(Load::Errand(errand));
            cx.spool.load(cx.ring, key, request);
        }
    }

    /// The spool has read a message, or cannot.
    pub(crate) fn loaded<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        request: Handle,
        result: Result<StoredMessage, LoadError>,
    ) {
        match (self.loads.remove(request), result) {
            (Some(Load::Attempt(connection)), result) => self.begin(cx, connection, result),
            (Some(Load::Errand(errand)), result) => {
                self.errands_loading -= 1;
                let job = errand.job();
                let is_wanted = self.comes_up(job, errand.state());
                self.bouncing -= usize::from(matches!(errand, Errand::Bounce(_)));
                match (errand, result) {
                    _ if !is_wanted => {}
                    (Errand::Route(_), Ok(stored)) => self.route_again(cx, job, &stored),
                    (Errand::Expire(_), Ok(stored)) => self.expire(cx, job, &stored),
                    (Errand::Refuse(_), Ok(stored)) => self.refuse(cx, job, &stored),
                    (Errand::Bounce(_), Ok(stored)) => self.bounce(cx, job, &stored),
                    (_, Err(error)) => self.unreadable(cx, job, &error),
                }
                self.run_errands(cx);
            }
            (Some(Load::Body(..)) | None, _) => {}
        }
    }

    fn route_again<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx, stored: &StoredMessage) {
        self.indexes.clear();
        self.indexes.extend(self.queue.recipients(job));
        let (message, attempts) = (self.queue.job(job).message, self.queue.job(job).attempts);
        self.remove_job(job);
        self.group(cx, message, stored, attempts);
    }

    fn expire<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx, stored: &StoredMessage) {
        let site = self.queue.job(job).site;
        let failure = self.sites.get(site).failure.clone();
        self.conclude(cx, job, stored, &Attempt { give_up: true, ..Attempt::unmade(&failure) });
    }

    /// A stored message cannot be had. A damaged one is never delivered: it leaves the schedule and
    /// stays in the queue for a person to look at. A read that failed is tried again.
    pub(crate) fn unreadable<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx, error: &LoadError) {
        let (message, now) = (self.queue.job(job).message, cx.unix_now());
        let key = self.queue.message(message).key;
        let is_damaged = match error {
            LoadError::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
            LoadError::Damaged | LoadError::Foreign(_) => true,
            LoadError::Gone => false,
        };
        match (cx.spool.find(key), error) {
            (Some((id, _)), _) if is_damaged => {
                report::quarantined(cx.log, now, id, error);
                self.quarantine(job);
            }
            (Some(_), LoadError::Io(_)) => {
                report::unreadable(cx.log, now, key, error);
                self.retry_later(cx, job);
            }
            _ => {
                report::unreadable(cx.log, now, key, error);
                let count = u32::from(self.queue.job(job).recipients);
                self.remove_job(job);
                self.queue.settled(message, count);
            }
        }
    }

    /// Tries a job again after its back-off, unless an operator holds it; also gives when.
    pub(crate) fn retry_later<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx) -> UnixMillis {
        let random = cx.random();
        let entry = self.queue.job_mut(job);
        entry.attempts = entry.attempts.saturating_add(1);
        entry.interrupted = false;
        if std::mem::take(&mut entry.held) {
            self.queue.set_state(job, State::Held);
            return HELD;
        }
        let wait = self.settings.retry.wait(u32::from(entry.attempts), random);
        let (arrived, now) = (self.queue.message(self.queue.job(job).message).arrived, cx.unix_now());
        // The last attempt is made when the message expires, not long after.
        let expire = arrived.plus(self.settings.retry.expire.as_millis() as u64);
        let left = Duration::from_millis(expire.since(now));
        let wait = if left.is_zero() { wait } else { wait.min(left) };
        self.defer(job, cx.ring.now().after(wait));
        now.plus(wait.as_millis() as u64)
    }
}
