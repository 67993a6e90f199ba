//! The way to the scheduler: events go in, actions come out, and names are numbers on the other side.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use mail::UnixMillis;
use ring::{Instant, Ring};
use scheduler::{
    Act, Action, Effect, Event, JobIx, JobView, MessageIx, Now, Scheduler, Settings, SiteIx, SiteView,
    Tenant, View,
};
use spool::MessageKey;

use crate::{Context, DeliverySettings};

/// Connections that one attempt opens to the addresses of a site's next hops before the site has failed: Postfix
/// tries 5 addresses, and with a second try in clear text that is as many.
const ADDRESSES_TRIED_MAX: u8 = 10;

/// Messages over one connection; servers that count cut at about this number, and failover is noticed.
const MESSAGES_PER_CONNECTION_MAX: u32 = 1000;

/// Connections of a site that are being opened by one worker at once: a burst fills a few
/// connections one after the other rather than opening one for each message.
const OPENING_MAX: u32 = 2;

/// Messages that are read at once for tasks, whatever waits: what they may take of memory and disk.
const TASKS_MAX: u32 = 16;

/// Sites and domains that are remembered although nothing is under way for them: those of a
/// busy hour, with which of their hosts to avoid; some 500 bytes each.
const RESTING_MAX: u32 = 1024;

/// A site that waits for a lease is looked at this often, should the wake-up be missed.
const LEASE_LOOK: Duration = Duration::from_millis(500);

/// The scheduler, and what it knows by numbers.
#[derive(Debug)]
pub(crate) struct Schedule {
    scheduler: Scheduler,
    /// The numbers of tenants, for good: as many as configurations have named.
    tenants: HashMap<Box<str>, Tenant>,
    /// The configuration of which it was told last.
    generation: Option<u32>,
}

impl Schedule {
    pub(crate) fn new(settings: &DeliverySettings) -> Self {
        let scheduler = Scheduler::new(Settings {
            retry: settings.retry,
            connections_max: u32::try_from(settings.connections_max).unwrap_or(u32::MAX),
            opening_max: OPENING_MAX,
            messages_per_connection_max: MESSAGES_PER_CONNECTION_MAX,
            addresses_tried_max: ADDRESSES_TRIED_MAX,
            tasks_max: TASKS_MAX,
            resting_max: RESTING_MAX,
            lease_look: LEASE_LOOK,
            seed: settings.seed,
        });
        Self { scheduler, tenants: HashMap::new(), generation: None }
    }

    /// Says what happened. Of another configuration it is told first.
    pub(crate) fn tell<R: Ring>(&mut self, cx: &mut Context<'_, R>, event: Event<'_>) {
        let (generation, now) = (cx.snapshots.load().generation as u32, now(cx));
        if self.generation != Some(generation) {
            self.generation = Some(generation);
            self.scheduler.handle(Event::Configured { generation }, now);
        }
        self.scheduler.handle(event, now);
    }

    /// What is to be done next.
    pub(crate) fn poll(&mut self) -> Option<Action> {
        self.scheduler.poll()
    }

    /// Does what an operator wants of a job.
    pub(crate) fn act<R: Ring>(&mut self, cx: &mut Context<'_, R>, job: JobIx, act: Act) -> Effect {
        let effect = self.scheduler.act(job, act, now(cx));
        self.tell(cx, Event::Tick);
        effect
    }

    /// Takes a message up, whose recipients are queued next.
    ///
    /// # Panics
    /// Without recipients.
    pub(crate) fn add_message(
        &mut self,
        key: MessageKey,
        arrived: UnixMillis,
        recipients: usize,
    ) -> MessageIx {
        let count = u32::try_from(recipients).ok().and_then(NonZeroU32::new);
        self.scheduler.add_message(key.0, arrived, count.expect("a queued message has a recipient"))
    }

    /// The number of a tenant.
    pub(crate) fn tenant(&mut self, name: &str) -> Tenant {
        if let Some(&known) = self.tenants.get(name) {
            return known;
        }
        let tenant = Tenant(u32::try_from(self.tenants.len()).expect("fewer tenants than 2^32"));
        self.tenants.insert(name.into(), tenant);
        tenant
    }

    /// When it has something to do, whatever happens until then.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.scheduler.next_deadline().map(|millis| Instant(millis.saturating_mul(1_000_000)))
    }

    pub(crate) fn view(&self) -> View<'_> {
        self.scheduler.view()
    }

    /// A job that is with us, or that was just found.
    pub(crate) fn job(&self, job: JobIx) -> JobView {
        self.scheduler.view().job(job).expect("it is there until we say what became of it")
    }

    /// A site of which the scheduler has not said that it is forgotten.
    pub(crate) fn site(&self, site: SiteIx) -> SiteView<'_> {
        self.scheduler.view().site(site).expect("it is there until it is forgotten")
    }

    /// The spool's key of a job's message.
    pub(crate) fn key(&self, job: JobIx) -> MessageKey {
        self.message_key(self.job(job).message)
    }

    /// The spool's key of a message.
    pub(crate) fn message_key(&self, message: MessageIx) -> MessageKey {
        MessageKey(self.scheduler.view().message(message).expect("its last outcome is not settled").key)
    }

    /// The places of a job's recipients in the envelope, ascending.
    pub(crate) fn recipients(&self, job: JobIx) -> impl Iterator<Item = u16> {
        self.scheduler.view().recipients(job).map(|(recipient, _)| recipient)
    }
}

/// Milliseconds of the clock that is never set.
pub(crate) fn steady<R: Ring>(cx: &Context<'_, R>) -> u64 {
    cx.ring.now().0 / 1_000_000
}

fn now<R: Ring>(cx: &mut Context<'_, R>) -> Now {
    Now { steady: steady(cx), unix: cx.unix_now(), random: cx.random() }
}
