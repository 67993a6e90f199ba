//! What each event changes, by walking.

use mail::UnixMillis;
use scheduler::{Act, Action, ConnectionIx, Effect, Event, JobIx, Left, Now, Queued, SiteIx, Start, Task};

use super::{Connection, Job, Phase, Reference, Standing, State};

impl Reference {
    pub(crate) fn handle(&mut self, event: Event<'_>, now: Now) {
        self.deferred.follow(now.steady);
        self.expiries.follow(now.steady);
        self.timers.follow(now.steady);
        self.take(event, now);
        self.turn(now);
    }

    fn take(&mut self, event: Event<'_>, now: Now) {
        match event {
            Event::Tick => {}
            Event::Queued(queued) => self.queued(queued, now),
            Event::Resolved { domain, site, holds } => {
                let (domain, site) = (domain.0 as usize, self.site_named(site));
                let entry = self.domains.of(domain);
                entry.asked = false;
                entry.until = (now.steady + holds.as_millis() as u64).div_ceil(1000) * 1000;
                let before = entry.site;
                self.lead(domain, site);
                if before != site && self.sites.has(before) {
                    self.call(before);
                }
                self.rest_domain(domain);
                self.rest_site(site);
            }
            Event::Refused { domain } => {
                let site = self.unanswered(domain.0 as usize);
                self.sites.of(site).refused = true;
                self.call(site);
                self.rest_domain(domain.0 as usize);
            }
            Event::Unresolved { domain, until, fails } => {
                let site = self.unanswered(domain.0 as usize);
                self.rest(site, until, fails, now);
                self.rest_domain(domain.0 as usize);
            }
            Event::SiteFailed { site, until } => self.rest(site.0 as usize, until, true, now),
            Event::SiteWorks { site, from } => {
                let entry = self.sites.of(site.0 as usize);
                (entry.failing, entry.rest_until) = (false, from);
                self.nudge(site.0 as usize);
            }
            Event::LeaseGranted { site } => self.lease_granted(site.0 as usize),
            Event::LeaseRefused { site } => {
                let site = site.0 as usize;
                self.sites.of(site).asking = false;
                self.sites.of(site).starved = true;
                if self.starved() == 0 {
                    self.woken = 0;
                }
                self.stand(site, Standing::Starved);
                let until = now.steady + self.settings.lease_look.as_millis() as u64;
                self.sites.of(site).starves_until = until;
            }
            Event::LeaseWanted { site, wanted } => self.sites.of(site.0 as usize).wanted = wanted,
            Event::LeaseFree => self.woken = self.starved(),
            Event::AddressFailed { connection } => self.address_failed(connection.0 as usize),
            Event::Ready { connection } => self.ready(connection.0 as usize),
            Event::Unused { connection } => self.end_unused(connection.0 as usize),
            Event::Closed { connection } => {
                let site = self.connections[connection.0 as usize].site;
                self.connections.remove(connection.0 as usize);
                self.call(site);
            }
            Event::Concluded { job, left } => self.concluded(job.0 as usize, left, now),
            Event::GivenBack { job, interrupted } => {
                let job = job.0 as usize;
                self.take_back(job);
                self.jobs.of(job).interrupted |= interrupted;
                if std::mem::take(&mut self.jobs.of(job).held) {
                    self.keep(job, State::Held);
                } else {
                    self.make_due(job, true, now);
                }
            }
            Event::Rerouted { job } => {
                self.take_back(job.0 as usize);
                self.remove_job(job.0 as usize);
            }
            Event::Unreadable { job } => {
                self.take_back(job.0 as usize);
                self.retry_later(job.0 as usize, now);
            }
            Event::Damaged { job } => {
                self.take_back(job.0 as usize);
                self.keep(job.0 as usize, State::Quarantined);
            }
            Event::Settled { message, recipients } => {
                let entry = self.messages.of(message.0 as usize);
                entry.pending -= recipients;
                if entry.pending == 0 {
                    self.messages.remove(message.0 as usize);
                }
            }
            Event::Configured { generation } => self.generation = generation,
            Event::Paused(paused) => self.paused = paused,
            Event::SiteHeld { site, held } => {
                self.sites.of(site.0 as usize).held = held;
                self.call(site.0 as usize);
            }
            Event::Drain => self.draining = true,
        }
    }

    fn starved(&self) -> u32 {
        self.sites.iter().filter(|(_, site)| site.standing.0 == Standing::Starved).count() as u32
    }

    fn unanswered(&mut self, domain: usize) -> usize {
        let entry = self.domains.of(domain);
        (entry.asked, entry.until) = (false, 0);
        self.unresolve(domain)
    }

    fn rest(&mut self, site: usize, until: u64, fails: bool, now: Now) {
        let entry = self.sites.of(site);
        entry.rest_until = until;
        if fails {
            (entry.failing, entry.failed_at) = (true, now.steady);
        }
        self.look_again(site, until);
    }

    fn queued(&mut self, queued: Queued<'_>, now: Now) {
        let Queued { message, tenant, via, routed, recipients, attempts, start } = queued;
        let queue = self.queue_for(tenant, via, now.steady);
        let made = self.stamp();
        let job = self.jobs.insert(Job {
            message: message.0 as usize,
            made,
            queue,
            recipients: recipients.iter().map(|left| (left.recipient, left.note)).collect(),
            routed,
            attempts,
            state: State::Held,
            interrupted: false,
            held: false,
            order: 0,
        });
        let longest = self.settings.retry.longest_wait().as_millis() as u64;
        match start {
            Start::Held => {}
            Start::Quarantined => self.jobs.of(job).state = State::Quarantined,
            Start::Deferred(until) if until > now.unix => {
                self.defer(job, until.since(now.unix).min(longest), now);
            }
            Start::Due | Start::Deferred(_) => self.make_due(job, false, now),
        }
    }

    fn lease_granted(&mut self, site: usize) {
        self.sites.of(site).asking = false;
        self.sites.of(site).starved = false;
        let is_wanted = (self.opening(site) as usize) < self.ready_at(site).count();
        if !is_wanted || self.sites[site].held || self.draining {
            self.actions.push(Action::ReturnLease(SiteIx(site as u32)));
            return self.rest_site(site);
        }
        let connection = Connection { site, phase: Phase::Opening, messages: 0, tried: 0 };
        let connection = ConnectionIx(self.connections.insert(connection) as u32);
        self.actions.push(Action::Open(connection, SiteIx(site as u32)));
        self.call(site);
    }

    fn address_failed(&mut self, place: usize) {
        let (draining, most) = (self.draining, self.settings.addresses_tried_max);
        let entry = self.connections.of(place);
        if entry.phase == Phase::Ending {
            return;
        }
        entry.phase = Phase::Opening;
        entry.tried += 1;
        let connection = ConnectionIx(place as u32);
        if draining || entry.tried >= most {
            entry.phase = Phase::Ending;
            self.actions.push(Action::GiveUp(connection));
        } else {
            self.actions.push(Action::TryNext(connection));
        }
    }

    fn ready(&mut self, place: usize) {
        let stamp = self.stamp();
        let wanted = self.sites[self.connections[place].site].wanted;
        let entry = self.connections.of(place);
        match entry.phase {
            Phase::Ending => return,
            Phase::Busy(_) => entry.messages += 1,
            _ => {}
        }
        let most = self.settings.messages_per_connection_max;
        if self.draining || (entry.messages > 0 && wanted) || entry.messages >= most {
            entry.phase = Phase::Ending;
            return self.actions.push(Action::Quit(ConnectionIx(place as u32)));
        }
        entry.phase = Phase::Idle(stamp);
        let site = entry.site;
        self.call(site);
    }

    fn take_back(&mut self, job: usize) {
        match self.jobs[job].state {
            State::Active(connection) => self.connections.of(connection).phase = Phase::Busy(None),
            State::Task(_) => self.tasks -= 1,
            state => panic!("{state:?}"),
        }
    }

    fn keep(&mut self, job: usize, state: State) {
        self.jobs.of(job).state = state;
        self.expiries.remove(job);
    }

    fn concluded(&mut self, job: usize, left: &[Left], now: Now) {
        self.take_back(job);
        if left.is_empty() {
            return self.remove_job(job);
        }
        self.jobs.of(job).recipients = left.iter().map(|left| (left.recipient, left.note)).collect();
        self.retry_later(job, now);
    }

    fn retry_later(&mut self, job: usize, now: Now) {
        let left = self.unix_left(job, now);
        let entry = self.jobs.of(job);
        entry.attempts += 1;
        entry.interrupted = false;
        let (attempts, held) = (entry.attempts, std::mem::take(&mut entry.held));
        let number = JobIx(job as u32);
        if held {
            self.keep(job, State::Held);
            let until = UnixMillis(u64::MAX);
            return self.actions.push(Action::Deferred { job: number, until, attempts });
        }
        let wait = self.settings.retry.wait(u32::from(attempts), now.random).as_millis() as u64;
        let wait = if left == 0 { wait } else { wait.min(left) };
        self.defer(job, wait, now);
        self.actions.push(Action::Deferred { job: number, until: now.unix.plus(wait), attempts });
    }

    fn defer(&mut self, job: usize, wait: u64, now: Now) {
        let due = (now.steady + wait).div_ceil(100) * 100;
        self.jobs.of(job).state = State::Deferred(due);
        self.arm_expiry(job, now);
        let stamp = self.stamp();
        self.deferred.insert(due, stamp, job);
    }

    fn remove_job(&mut self, job: usize) {
        self.expiries.remove(job);
        let queue = self.jobs[job].queue;
        self.jobs.remove(job);
        if self.jobs.iter().any(|(_, other)| other.queue == queue) {
            return;
        }
        let (domain, site) = (self.queues[queue].domain, self.queues[queue].site);
        self.queues.remove(queue);
        if let Some(domain) = domain {
            self.rest_domain(domain);
        }
        self.rest_site(site);
    }

    pub(crate) fn act(&mut self, job: JobIx, act: Act, now: Now) -> Effect {
        let job = job.0 as usize;
        let (state, held) = (self.jobs[job].state, self.jobs[job].held);
        let site = self.queues[self.jobs[job].queue].site;
        let is_due = matches!(state, State::Ready | State::Deferred(_));
        let is_under_way = matches!(state, State::Active(_) | State::Task(_));
        match act {
            Act::Hold if is_due => {
                self.deferred.remove(job);
                self.keep(job, State::Held);
            }
            Act::Hold if is_under_way && !held => self.jobs.of(job).held = true,
            Act::Release if state == State::Held => self.make_due(job, false, now),
            Act::Release if held => self.jobs.of(job).held = false,
            Act::Retry if is_due => {
                self.sites.of(site).rest_until = 0;
                if state != State::Ready {
                    self.deferred.remove(job);
                    self.make_due(job, false, now);
                }
                self.nudge(site);
            }
            Act::Bounce if is_under_way => return Effect::UnderWay,
            Act::Bounce if state != State::Quarantined => {
                self.deferred.remove(job);
                self.jobs.of(job).state = State::Task(Task::Bounce);
                self.bounces.push(job);
            }
            Act::Discard if state == State::Quarantined => self.remove_job(job),
            _ => return Effect::Unchanged,
        }
        Effect::Changed
    }
}
