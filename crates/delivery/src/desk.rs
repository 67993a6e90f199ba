//! What the shell keeps beside its connections: the way to the scheduler, sites with what all workers share about
//! them, questions to DNS, what is being read, and what was said.

use std::collections::HashMap;
use std::time::Duration;

use commons::{MxFailure, MxHost, Question};
use mail::Reply;
use ring::{Arena, Handle, Ring};
use scheduler::{DomainIx, Event, JobIx, MessageIx, SiteIx, Task};

use crate::outcome::Outcomes;
use crate::replies::Replies;
use crate::routes::{NOWHERE, Routes};
use crate::schedule::{Schedule, steady};
use crate::site::Site;
use crate::{Context, DeliverySettings, exchange, report};

/// A lease that another worker waits for is left to it so long: until its thread has woken up.
const YIELD: Duration = Duration::from_millis(10);

/// A question that found no room is put again after this.
const QUESTION_LOOK: Duration = Duration::from_millis(250);

/// An answer about a domain stands this long at most, whatever its TTL.
const TTL_MAX: Duration = Duration::from_secs(3600);

/// Why a message is read from the spool.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// A connection is going to send it.
    Attempt(Handle),
    /// A connection sends its large body.
    Body(Handle),
    /// Something else must be done about a job of it.
    Task(Task, JobIx),
}

/// What the shell keeps beside its connections.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) settings: DeliverySettings,
    pub(crate) schedule: Schedule,
    pub(crate) routes: Routes,
    pub(crate) outcomes: Outcomes,
    /// What was last said of each recipient that waits.
    pub(crate) replies: Replies,
    pub(crate) loads: Arena<Load>,
    /// Damaged jobs of each message that has some.
    pub(crate) quarantined: HashMap<MessageIx, u32>,
    /// Jobs that are being read to be bounced by an operator, and what he says of it.
    pub(crate) bouncing: usize,
    pub(crate) bounce_reason: Box<str>,
    /// By the scheduler's numbers.
    sites: Vec<Option<Box<Site>>>,
    /// Why the mail of a domain goes nowhere, ever.
    pub(crate) refusals: HashMap<DomainIx, Reply>,
}

impl Desk {
    pub(crate) fn new(settings: DeliverySettings) -> Self {
        Self {
            schedule: Schedule::new(&settings),
            settings,
            routes: Routes::default(),
            outcomes: Outcomes::default(),
            replies: Replies::default(),
            loads: Arena::default(),
            quarantined: HashMap::new(),
            bouncing: 0,
            bounce_reason: Box::default(),
            sites: Vec::new(),
            refusals: HashMap::new(),
        }
    }

    /// A site of which the scheduler has said that it is known.
    pub(crate) fn site(&self, site: SiteIx) -> &Site {
        self.known(site).expect("it was learnt and not forgotten")
    }

    pub(crate) fn site_mut(&mut self, site: SiteIx) -> &mut Site {
        let place = self.sites.get_mut(site.0 as usize).and_then(Option::as_mut);
        place.expect("it was learnt and not forgotten")
    }

    /// The same, where it may not be known yet.
    pub(crate) fn known(&self, site: SiteIx) -> Option<&Site> {
        self.sites.get(site.0 as usize)?.as_deref()
    }

    /// A site came to be known.
    pub(crate) fn learn<R: Ring>(&mut self, cx: &Context<'_, R>, number: SiteIx) {
        if self.known(number).is_some() {
            return;
        }
        let (view, seen) = (self.schedule.view(), self.schedule.site(number));
        let shared = |name: &str| cx.link.commons().sites().site(name);
        let site = match (seen.domain, seen.key) {
            (Some(domain), _) => Site::of_domain(view.domain_name(domain).unwrap_or_default(), shared),
            (None, NOWHERE) => Site::nowhere(shared),
            (None, key) => match self.routes.of_site(key) {
                Some(route) => Site::of_route(route, shared),
                None => Site::of_hosts(key, shared),
            },
        };
        let place = number.0 as usize;
        if place >= self.sites.len() {
            self.sites.resize_with(place + 1, || None);
        }
        self.sites[place] = Some(Box::new(site));
    }

    pub(crate) fn forget(&mut self, site: SiteIx) {
        self.sites[site.0 as usize] = None;
    }

    /// Asks for the lease of a connection to a site.
    pub(crate) fn lease<R: Ring>(&mut self, cx: &mut Context<'_, R>, number: SiteIx) {
        if self.compare(cx, number) {
            return self.schedule.tell(cx, Event::LeaseRefused { site: number });
        }
        let (worker, now) = (self.settings.worker, cx.ring.now());
        let key = self.schedule.site(number).key;
        // Another configuration may have changed the limit.
        let limit = self.routes.of_site(key).map(|route| route.connections_max);
        let site = self.site_mut(number);
        site.connections_max = limit.unwrap_or(site.connections_max);
        let is_granted = if now < site.yields_until {
            site.shared.wait(worker);
            false
        } else {
            site.shared.acquire_or_wait(site.connections_max, worker)
        };
        let answer = match is_granted {
            true => Event::LeaseGranted { site: number },
            // A holder yields at its next message boundary, and wakes us.
            false => Event::LeaseRefused { site: number },
        };
        self.schedule.tell(cx, answer);
    }

    /// Gives a lease back.
    pub(crate) fn release_lease<R: Ring>(&mut self, cx: &Context<'_, R>, site: SiteIx) {
        let (worker, now) = (self.settings.worker, cx.ring.now());
        let site = self.site_mut(site);
        if site.shared.is_wanted(worker) {
            site.yields_until = now.after(YIELD);
        }
        site.shared.release(worker);
    }

    /// Tells whether another worker waits for a lease of a site, where that is news.
    pub(crate) fn tell_wanted<R: Ring>(&mut self, cx: &mut Context<'_, R>, number: SiteIx) {
        let worker = self.settings.worker;
        let site = self.site_mut(number);
        let wanted = site.shared.is_wanted(worker);
        if std::mem::replace(&mut site.wanted, wanted) != wanted {
            self.schedule.tell(cx, Event::LeaseWanted { site: number, wanted });
        }
    }

    /// Tells what all workers know of a site by now, where that is news; true while it rests.
    pub(crate) fn compare<R: Ring>(&mut self, cx: &mut Context<'_, R>, number: SiteIx) -> bool {
        let longest = self.settings.retry.longest_wait();
        let fails = self.schedule.site(number).fails;
        let Some(site) = self.sites.get_mut(number.0 as usize).and_then(Option::as_mut) else { return false };
        let rest = site.shared.rest(cx.unix_now(), longest);
        let until = steady(cx) + rest.as_millis() as u64;
        match site.shared.failure() {
            Some(failure) if !rest.is_zero() => {
                site.failure.clone_from(&failure.reply);
                self.schedule.tell(cx, Event::SiteFailed { site: number, until });
            }
            None if fails || !rest.is_zero() => {
                self.schedule.tell(cx, Event::SiteWorks { site: number, from: until });
            }
            Some(_) | None => {}
        }
        !rest.is_zero()
    }

    /// A site could not be reached at all, or a connection to it failed before MAIL or within a
    /// transaction: one back-off, whatever waits for it.
    pub(crate) fn site_failed<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        number: SiteIx,
        next_hop: Option<&str>,
        failure: Reply,
    ) {
        let (unix_now, random, retry) = (cx.unix_now(), cx.random(), self.settings.retry);
        let (longest, jobs) = (retry.longest_wait(), self.schedule.site(number).jobs);
        let site = self.site_mut(number);
        let wait = |failures| retry.wait(failures, random);
        let (known, is_news) = site.shared.failed(&failure, next_hop, unix_now, longest, wait);
        if is_news {
            report::site_unavailable(cx.log, unix_now, site, jobs, &known);
        }
        site.failure = failure;
        let until = steady(cx) + known.rest(unix_now, longest).as_millis() as u64;
        self.schedule.tell(cx, Event::SiteFailed { site: number, until });
    }

    /// A transaction came to its end, whatever that was: the site is there.
    pub(crate) fn site_served<R: Ring>(&mut self, cx: &mut Context<'_, R>, number: SiteIx) {
        let (unix_now, retry) = (cx.unix_now(), self.settings.retry);
        let site = self.site(number);
        let over = site.shared.succeeded(unix_now, retry.longest_wait(), retry.first);
        if let Some(over) = &over {
            report::site_available(cx.log, unix_now, site, over);
        }
        if over.is_some() || self.schedule.site(number).fails {
            self.compare(cx, number);
        }
    }

    /// Asks which hosts take the mail of a domain.
    pub(crate) fn ask_hosts<R: Ring>(&mut self, cx: &mut Context<'_, R>, domain: DomainIx) {
        let name = self.schedule.view().domain_name(domain).unwrap_or_default().into();
        let question = Question::MxHosts { worker: self.settings.worker, key: domain.0, domain: name };
        if cx.link.ask(question).is_err() {
            let until = steady(cx) + QUESTION_LOOK.as_millis() as u64;
            self.schedule.tell(cx, Event::Unresolved { domain, until, fails: false });
        }
    }

    /// The answer has come.
    pub(crate) fn hosts_found<R: Ring>(
        &mut self,
        cx: &mut Context<'_, R>,
        domain: DomainIx,
        result: Result<Vec<MxHost>, MxFailure>,
        ttl: Duration,
    ) {
        let Some(name) = self.schedule.view().domain_name(domain) else { return };
        self.refusals.remove(&domain);
        match exchange::heard(result, name, &self.settings.hostname) {
            Ok(found) => {
                let site = exchange::key(&found);
                // A TTL of nothing still serves the connections that asked.
                let holds = ttl.clamp(Duration::from_secs(1), TTL_MAX);
                self.schedule.tell(cx, Event::Resolved { domain, site: &site, holds });
            }
            Err(reply) if reply.is_permanent() => {
                self.refusals.insert(domain, reply);
                self.schedule.tell(cx, Event::Refused { domain });
            }
            Err(reply) => {
                let until = steady(cx) + self.settings.retry.first.as_millis() as u64;
                self.schedule.tell(cx, Event::Unresolved { domain, until, fails: true });
                // The site that stands for it may be new.
                if let Some(site) = self.schedule.view().domain_site(domain) {
                    self.learn(cx, site);
                    self.site_failed(cx, site, None, reply);
                }
            }
        }
    }

    /// One more job of a message is damaged: it stays for a person to look at.
    pub(crate) fn quarantine(&mut self, message: MessageIx) {
        *self.quarantined.entry(message).or_default() += 1;
    }
}
