//! What each event changes. Each looks at what it names, and leaves the rest to the turn.

use std::time::Duration;

use crate::Scheduler;
use crate::connection::{Connection, Phase};
use crate::event::{Action, ConnectionIx, DomainIx, Event, JobIx, Left, Now, SiteIx};
use crate::jobs::State;
use crate::sites::Standing;

impl Scheduler {
    /// Takes in what happened, then does a little of all that can go on. What is to be done about
    /// it is what [`Scheduler::poll`] gives.
    ///
    /// # Panics
    /// When an event names what is not there any more, or what was never said.
    pub fn handle(&mut self, event: Event<'_>, now: Now) {
        self.backlog.deferred.advance(now.steady);
        self.backlog.expiries.advance(now.steady);
        self.backlog.tree.timers.advance(now.steady);
        match event {
            Event::Tick => {}
            Event::Queued(queued) => self.backlog.add(queued, now),
            Event::Resolved { domain, site, holds } => self.resolved(domain, site, holds, now.steady),
            Event::Refused { domain } => self.refused(domain),
            Event::Unresolved { domain, until, fails } => self.unresolved(domain, until, fails, now.steady),
            Event::SiteFailed { site, until } => self.backlog.tree.site_failed(site.0, until, now.steady),
            Event::SiteWorks { site, from } => self.backlog.tree.site_works(site.0, from),
            Event::LeaseGranted { site } => self.lease_granted(site),
            Event::LeaseRefused { site } => self.lease_refused(site, now.steady),
            Event::LeaseWanted { site, wanted } => self.backlog.tree.sites[site.0].wanted = wanted,
            Event::LeaseFree => self.woken = self.backlog.tree.count_standing(Standing::Starved),
            Event::AddressFailed { connection } => self.address_failed(connection),
            Event::Ready { connection } => self.ready(connection),
            Event::Unused { connection } => self.end_unused(connection),
            Event::Closed { connection } => self.closed(connection),
            Event::Concluded { job, left } => self.concluded(job, left, now),
            Event::GivenBack { job, interrupted } => self.given_back(job, interrupted, now),
            Event::Rerouted { job } => {
                self.release_from_shell(job);
                self.backlog.remove_job(job);
            }
            Event::Unreadable { job } => {
                self.release_from_shell(job);
                self.backlog.retry_later(job, now);
            }
            Event::Damaged { job } => {
                self.release_from_shell(job);
                self.backlog.set_state(job, State::Quarantined);
            }
            Event::Settled { message, recipients } => self.backlog.jobs.settled(message, recipients),
            Event::Configured { generation } => self.generation = generation,
            Event::Paused(paused) => self.paused = paused,
            Event::SiteHeld { site, held } => {
                self.backlog.tree.sites[site.0].held = held;
                self.backlog.tree.call(site.0);
            }
            Event::Drain => self.draining = true,
        }
        self.turn(now);
    }

    fn resolved(&mut self, domain: DomainIx, key: &str, holds: Duration, now: u64) {
        let site = self.backlog.tree.site_named(key);
        let owner = &mut self.backlog.tree.domains[domain.0];
        owner.asked = false;
        let until = (now + holds.as_millis() as u64).div_ceil(1000);
        owner.until = u32::try_from(until).unwrap_or(u32::MAX);
        let before = owner.site;
        self.backlog.tree.lead(domain.0, site);
        if before != site && self.backlog.tree.sites.get(before).is_some() {
            // The next domain there may have moved too.
            self.backlog.tree.call(before);
        }
        self.backlog.tree.rest_domain(domain.0);
        self.backlog.tree.rest_site(site);
    }

    fn refused(&mut self, domain: DomainIx) {
        let owner = &mut self.backlog.tree.domains[domain.0];
        (owner.asked, owner.until) = (false, 0);
        let site = self.backlog.tree.unresolve(domain.0);
        self.backlog.tree.sites[site].refused = true;
        self.backlog.tree.call(site);
        self.backlog.tree.rest_domain(domain.0);
    }

    fn unresolved(&mut self, domain: DomainIx, until: u64, fails: bool, now: u64) {
        let owner = &mut self.backlog.tree.domains[domain.0];
        (owner.asked, owner.until) = (false, 0);
        let site = self.backlog.tree.unresolve(domain.0);
        if fails {
            self.backlog.tree.site_failed(site, until, now);
        } else {
            self.backlog.tree.sites[site].rest_until = until;
            self.backlog.tree.look_again(site, until);
        }
        self.backlog.tree.rest_domain(domain.0);
    }

    fn lease_answered(&mut self, site: u32, is_refused: bool) {
        let entry = &mut self.backlog.tree.sites[site];
        let was_asking = std::mem::take(&mut entry.asking);
        assert!(was_asking, "a lease was asked for");
        entry.starved = is_refused;
        self.asking -= 1;
    }

    fn lease_granted(&mut self, site: SiteIx) {
        self.lease_answered(site.0, false);
        let entry = &mut self.backlog.tree.sites[site.0];
        let is_wanted = entry.opening < entry.sums.ready_jobs && !entry.held;
        if !is_wanted || self.draining {
            self.backlog.tree.say(Action::ReturnLease(site));
            return self.backlog.tree.rest_site(site.0);
        }
        entry.opening += 1;
        entry.connections += 1;
        let connection = self.connections.insert(Connection::new(site.0));
        self.backlog.tree.say(Action::Open(ConnectionIx(connection), site));
        self.backlog.tree.call(site.0);
    }

    fn lease_refused(&mut self, site: SiteIx, now: u64) {
        self.lease_answered(site.0, true);
        if self.backlog.tree.count_standing(Standing::Starved) == 0 {
            // None of those is left that the last lease which came back was for.
            self.woken = 0;
        }
        self.backlog.tree.stand(site.0, Standing::Starved);
        self.backlog.tree.sites[site.0].starves_until = now + self.settings.lease_look.as_millis() as u64;
    }

    fn address_failed(&mut self, connection: ConnectionIx) {
        let entry = &mut self.connections[connection.0];
        match entry.phase {
            Phase::Opening => {}
            // It carried nothing yet: the next address may serve.
            Phase::Busy(None) => self.backlog.tree.sites[entry.site].opening += 1,
            Phase::Ending => return,
            Phase::Idle | Phase::Busy(Some(_)) => panic!("it was open, or its job is not over"),
        }
        entry.phase = Phase::Opening;
        entry.tried += 1;
        if self.draining || entry.tried >= self.settings.addresses_tried_max {
            self.backlog.tree.sites[entry.site].opening -= 1;
            entry.phase = Phase::Ending;
            self.backlog.tree.say(Action::GiveUp(connection));
        } else {
            self.backlog.tree.say(Action::TryNext(connection));
        }
    }

    /// A message boundary: the next job, a wait for one, or the end of the connection.
    fn ready(&mut self, connection: ConnectionIx) {
        let entry = &mut self.connections[connection.0];
        let site = &mut self.backlog.tree.sites[entry.site];
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
            return self.backlog.tree.say(Action::Quit(connection));
        }
        entry.phase = Phase::Idle;
        let site_number = entry.site;
        site.idle.push_back(&mut self.connections, connection.0);
        self.backlog.tree.call(site_number);
    }

    fn closed(&mut self, connection: ConnectionIx) {
        let entry = &self.connections[connection.0];
        let (phase, index) = (entry.phase, entry.site);
        let site = &mut self.backlog.tree.sites[index];
        match phase {
            Phase::Opening => site.opening -= 1,
            Phase::Idle => site.idle.remove(&mut self.connections, connection.0),
            Phase::Busy(None) | Phase::Ending => {}
            Phase::Busy(Some(_)) => panic!("its job is not over"),
        }
        self.connections.remove(connection.0);
        site.connections -= 1;
        self.backlog.tree.call(index);
    }

    /// A job that the shell had is the scheduler's again, and stands nowhere.
    fn release_from_shell(&mut self, job: JobIx) {
        let entry = &self.backlog.jobs.jobs[job.0];
        match (entry.connection(), entry.state) {
            (Some(connection), _) => self.connections[connection.0].phase = Phase::Busy(None),
            (None, State::Task(_)) => self.tasks -= 1,
            (None, state) => panic!("the shell had no job that is {state:?}"),
        }
    }

    fn concluded(&mut self, job: JobIx, left: &[Left], now: Now) {
        self.release_from_shell(job);
        if left.is_empty() {
            return self.backlog.remove_job(job);
        }
        let note = |index| {
            let place = left.binary_search_by_key(&index, |left| left.recipient);
            place.ok().map(|place| left[place].note)
        };
        let gone = self.backlog.jobs.retain(job, note);
        let entry = &self.backlog.jobs.jobs[job.0];
        self.backlog.tree.moved(entry.queue, gone, false, Some(entry.state.shown()), None);
        self.backlog.retry_later(job, now);
    }

    fn given_back(&mut self, job: JobIx, interrupted: bool, now: Now) {
        self.release_from_shell(job);
        let entry = &mut self.backlog.jobs.jobs[job.0];
        entry.interrupted |= interrupted;
        if std::mem::take(&mut entry.held) {
            self.backlog.set_state(job, State::Held);
        } else {
            self.backlog.make_due(job, true, now);
        }
    }
}
