//! What each event changes. Each looks at what it names, and leaves the rest to the turn.

use std::time::Duration;

use mail::UnixMillis;

use crate::Scheduler;
use crate::connection::{Connection, Phase};
use crate::event::{Action, ConnectionIx, DomainIx, Event, JobIx, Left, Now, Queued, SiteIx, Start};
use crate::jobs::{RECIPIENTS_MAX, State};
use crate::sites::Standing;

/// Until an operator releases it.
const HELD: UnixMillis = UnixMillis(u64::MAX);

impl Scheduler {
    /// Takes in what happened, then does a little of all that can go on. What is to be done about
    /// it is what [`Scheduler::poll`] gives.
    ///
    /// # Panics
    /// When an event names what is not there any more, or what was never said.
    pub fn handle(&mut self, event: Event<'_>, now: Now) {
        self.deferred.advance(now.steady);
        self.expiries.advance(now.steady);
        self.tree.timers.advance(now.steady);
        match event {
            Event::Tick => {}
            Event::Queued(queued) => self.queued(queued, now),
            Event::Resolved { domain, site, holds } => self.resolved(domain, site, holds, now.steady),
            Event::Refused { domain } => self.refused(domain),
            Event::Unresolved { domain, until, fails } => self.unresolved(domain, until, fails, now.steady),
            Event::SiteFailed { site, until } => self.site_failed(site.0, until, now.steady),
            Event::SiteWorks { site, from } => self.site_works(site.0, from),
            Event::LeaseGranted { site } => self.lease_granted(site),
            Event::LeaseRefused { site } => self.lease_refused(site, now.steady),
            Event::LeaseWanted { site, wanted } => self.tree.sites[site.0].wanted = wanted,
            Event::LeaseFree => self.woken = self.tree.count_standing(Standing::Starved),
            Event::AddressFailed { connection } => self.address_failed(connection),
            Event::Ready { connection } => self.ready(connection),
            Event::Unused { connection } => self.end_unused(connection),
            Event::Closed { connection } => self.closed(connection),
            Event::Concluded { job, left } => self.concluded(job, left, now),
            Event::GivenBack { job, interrupted } => self.given_back(job, interrupted, now),
            Event::Rerouted { job } => {
                self.release_from_shell(job);
                self.remove_job(job);
            }
            Event::Unreadable { job } => {
                self.release_from_shell(job);
                self.retry_later(job, now);
            }
            Event::Damaged { job } => {
                self.release_from_shell(job);
                self.set_state(job, State::Quarantined);
            }
            Event::Settled { message, recipients } => self.jobs.settled(message, recipients),
            Event::Configured { generation } => self.generation = generation,
            Event::Paused(paused) => self.paused = paused,
            Event::SiteHeld { site, held } => {
                self.tree.sites[site.0].held = held;
                self.call(site.0);
            }
            Event::Drain => self.draining = true,
        }
        self.turn(now);
    }

    fn queued(&mut self, queued: Queued<'_>, now: Now) {
        let Queued { message, tenant, via, routed, recipients, attempts, start } = queued;
        assert!((1..=RECIPIENTS_MAX).contains(&recipients.len()), "a job is what one transaction carries");
        let queue = self.tree.queue_for(tenant, via, now.steady);
        self.tree.queues[queue].jobs += 1;
        let longest = self.settings.retry.longest_wait().as_millis() as u64;
        let wait = match start {
            Start::Deferred(until) => until.since(now.unix).min(longest),
            Start::Due | Start::Held | Start::Quarantined => 0,
        };
        let state = match start {
            Start::Held => State::Held,
            Start::Quarantined => State::Quarantined,
            Start::Due | Start::Deferred(_) if wait == 0 => State::Ready,
            Start::Due | Start::Deferred(_) => State::Deferred,
        };
        let job = self.jobs.add_job(message, queue, recipients, state);
        let entry = &mut self.jobs.jobs[job.0];
        (entry.routed, entry.attempts) = (routed, attempts);
        let (count, leads) = (entry.recipients, entry.leads);
        self.tree.moved(queue, count, leads, None, Some(state.shown()));
        match state {
            State::Ready => self.make_due(job, false, now),
            State::Deferred => self.defer(job, wait, now),
            _ => {}
        }
    }

    fn resolved(&mut self, domain: DomainIx, key: &str, holds: Duration, now: u64) {
        let site = self.tree.site_named(key);
        let owner = &mut self.tree.domains[domain.0];
        owner.asked = false;
        let until = (now + holds.as_millis() as u64).div_ceil(1000);
        owner.until = u32::try_from(until).unwrap_or(u32::MAX);
        let before = owner.site;
        self.tree.lead(domain.0, site);
        if before != site && self.tree.sites.get(before).is_some() {
            // The next domain there may have moved too.
            self.call(before);
        }
        self.tree.rest_domain(domain.0);
        self.tree.rest_site(site);
    }

    fn refused(&mut self, domain: DomainIx) {
        let owner = &mut self.tree.domains[domain.0];
        (owner.asked, owner.until) = (false, 0);
        let site = self.tree.unresolve(domain.0);
        self.tree.sites[site].refused = true;
        self.call(site);
        self.tree.rest_domain(domain.0);
    }

    fn unresolved(&mut self, domain: DomainIx, until: u64, fails: bool, now: u64) {
        let owner = &mut self.tree.domains[domain.0];
        (owner.asked, owner.until) = (false, 0);
        let site = self.tree.unresolve(domain.0);
        if fails {
            self.site_failed(site, until, now);
        } else {
            self.tree.sites[site].rest_until = until;
            self.tree.look_again(site, until);
        }
        self.tree.rest_domain(domain.0);
    }

    fn site_failed(&mut self, site: u32, until: u64, now: u64) {
        self.tree.set_failing(site, true);
        let entry = &mut self.tree.sites[site];
        (entry.rest_until, entry.failed_at) = (until, now);
        self.tree.look_again(site, until);
    }

    fn site_works(&mut self, site: u32, from: u64) {
        self.tree.set_failing(site, false);
        self.tree.sites[site].rest_until = from;
        self.nudge(site);
    }

    fn lease_answered(&mut self, site: u32, is_refused: bool) {
        let entry = &mut self.tree.sites[site];
        let was_asking = std::mem::take(&mut entry.asking);
        assert!(was_asking, "a lease was asked for");
        entry.starved = is_refused;
        self.asking -= 1;
    }

    fn lease_granted(&mut self, site: SiteIx) {
        self.lease_answered(site.0, false);
        let entry = &mut self.tree.sites[site.0];
        let is_wanted = entry.opening < entry.sums.ready_jobs && !entry.held;
        if !is_wanted || self.draining {
            self.tree.say(Action::ReturnLease(site));
            return self.tree.rest_site(site.0);
        }
        entry.opening += 1;
        entry.connections += 1;
        let connection = self.connections.insert(Connection::new(site.0));
        self.tree.say(Action::Open(ConnectionIx(connection), site));
        self.call(site.0);
    }

    fn lease_refused(&mut self, site: SiteIx, now: u64) {
        self.lease_answered(site.0, true);
        if self.tree.count_standing(Standing::Starved) == 0 {
            // None of those is left that the last lease which came back was for.
            self.woken = 0;
        }
        self.tree.stand(site.0, Standing::Starved);
        self.tree.sites[site.0].starves_until = now + self.settings.lease_look.as_millis() as u64;
    }

    fn address_failed(&mut self, connection: ConnectionIx) {
        let entry = &mut self.connections[connection.0];
        match entry.phase {
            Phase::Opening => {}
            // It carried nothing yet: the next address may serve.
            Phase::Busy(None) => self.tree.sites[entry.site].opening += 1,
            Phase::Ending => return,
            Phase::Idle | Phase::Busy(Some(_)) => panic!("it was open, or its job is not over"),
        }
        entry.phase = Phase::Opening;
        entry.tried += 1;
        if self.draining || entry.tried >= self.settings.addresses_tried_max {
            self.tree.sites[entry.site].opening -= 1;
            entry.phase = Phase::Ending;
            self.tree.say(Action::GiveUp(connection));
        } else {
            self.tree.say(Action::TryNext(connection));
        }
    }

    /// A message boundary: the next job, a wait for one, or the end of the connection.
    fn ready(&mut self, connection: ConnectionIx) {
        let entry = &mut self.connections[connection.0];
        let site = &mut self.tree.sites[entry.site];
        match entry.phase {
            Phase::Opening => site.opening -= 1,
            Phase::Busy(None) => entry.messages += 1,
            Phase::Ending => return,
            Phase::Idle | Phase::Busy(Some(_)) => panic!("it was ready, or its job is not over"),
        }
        // A site at its limit is shared fairly: a lease is yielded after each message.
        let yields = entry.messages > 0 && site.wanted;
        if self.draining || yields || entry.messages >= self.settings.messages_per_connection_max {
            entry.phase = Phase::Ending;
            return self.tree.say(Action::Quit(connection));
        }
        entry.phase = Phase::Idle;
        let site_number = entry.site;
        site.idle.push_back(&mut self.connections, connection.0);
        self.call(site_number);
    }

    fn closed(&mut self, connection: ConnectionIx) {
        let entry = &self.connections[connection.0];
        let (phase, index) = (entry.phase, entry.site);
        let site = &mut self.tree.sites[index];
        match phase {
            Phase::Opening => site.opening -= 1,
            Phase::Idle => site.idle.remove(&mut self.connections, connection.0),
            Phase::Busy(None) | Phase::Ending => {}
            Phase::Busy(Some(_)) => panic!("its job is not over"),
        }
        self.connections.remove(connection.0);
        site.connections -= 1;
        self.call(index);
    }

    /// A job that the shell had is the scheduler's again, and stands nowhere.
    fn release_from_shell(&mut self, job: JobIx) {
        let entry = &self.jobs.jobs[job.0];
        match (entry.connection(), entry.state) {
            (Some(connection), _) => self.connections[connection.0].phase = Phase::Busy(None),
            (None, State::Errand(_)) => self.errands -= 1,
            (None, state) => panic!("the shell had no job that is {state:?}"),
        }
    }

    fn concluded(&mut self, job: JobIx, left: &[Left], now: Now) {
        self.release_from_shell(job);
        if left.is_empty() {
            return self.remove_job(job);
        }
        let note = |index| {
            let place = left.binary_search_by_key(&index, |left| left.recipient);
            place.ok().map(|place| left[place].note)
        };
        let gone = self.jobs.retain(job, note);
        let entry = &self.jobs.jobs[job.0];
        self.tree.moved(entry.queue, gone, false, Some(entry.state.shown()), None);
        self.retry_later(job, now);
    }

    fn given_back(&mut self, job: JobIx, interrupted: bool, now: Now) {
        self.release_from_shell(job);
        let entry = &mut self.jobs.jobs[job.0];
        entry.interrupted |= interrupted;
        if std::mem::take(&mut entry.held) {
            self.set_state(job, State::Held);
        } else {
            self.make_due(job, true, now);
        }
    }

    /// Tries a job again after its back-off, unless an operator holds it.
    fn retry_later(&mut self, job: JobIx, now: Now) {
        let entry = &mut self.jobs.jobs[job.0];
        entry.attempts = entry.attempts.saturating_add(1);
        entry.interrupted = false;
        let attempts = entry.attempts;
        if std::mem::take(&mut entry.held) {
            self.set_state(job, State::Held);
            return self.tree.say(Action::Deferred { job, until: HELD, attempts });
        }
        let arrived = self.jobs.messages[entry.message.0].arrived;
        let wait = self.settings.retry.wait(u32::from(attempts), now.random).as_millis() as u64;
        // The last attempt is made when the message expires, not long after.
        let left = self.settings.retry.expire.as_millis() as u64;
        let left = left.saturating_sub(now.unix.since(arrived));
        let wait = if left == 0 { wait } else { wait.min(left) };
        self.defer(job, wait, now);
        self.tree.say(Action::Deferred { job, until: now.unix.plus(wait), attempts });
    }

    fn defer(&mut self, job: JobIx, wait: u64, now: Now) {
        self.set_state(job, State::Deferred);
        self.arm_expiry(job, now);
        let entry = &mut self.jobs.jobs[job.0];
        entry.set_due(now.steady + wait);
        let due = entry.due().unwrap_or_default();
        self.deferred.insert(&mut self.jobs.jobs, job.0, due);
    }

    /// Ends a job that stands nowhere.
    pub(crate) fn remove_job(&mut self, job: JobIx) {
        self.expiries.remove(&mut self.jobs.jobs, job.0);
        let entry = &self.jobs.jobs[job.0];
        let (queue, state) = (entry.queue, entry.state);
        self.tree.moved(queue, entry.recipients, entry.leads, Some(state.shown()), None);
        if let Some(younger) = self.jobs.remove_job(job) {
            let state = self.jobs.jobs[younger.0].state.shown();
            self.tree.moved(queue, 0, true, None, Some(state));
        }
        let entry = &mut self.tree.queues[queue];
        entry.jobs -= 1;
        if entry.jobs == 0 {
            self.tree.drop_queue(queue);
        }
    }
}
