//! What the shell without sockets does next.

use std::num::NonZeroU32;
use std::time::Duration;

use mail::UnixMillis;
use scheduler::{
    Act, ConnectionIx, DomainIx, Effect, Event, JobIx, Left, MessageIx, Note, Queued, Start, Task, Tenant,
    Via,
};

use super::{Driver, Phase};

const DOMAINS: [&str; 6] = ["a.example", "B.example", "c.example", "d.example", "e.example", "f.example"];
const ROUTES: [&str; 2] = ["relay:25", "mx1"];
const HOSTS: [&str; 3] = ["mx1", "mx1 mx2", "mx3"];

impl Driver {
    /// One event, or an operator's act.
    pub(crate) fn step(&mut self) {
        match self.below(24) {
            0..5 => self.message(),
            5..8 => self.answer(),
            8..11 => self.lease(),
            11..16 => self.connection(),
            16..18 => self.task(),
            18 => self.settle(),
            19 => self.operate(),
            20 => self.site(),
            21..23 => self.pass(),
            _ => self.rarely(),
        }
    }

    fn pass(&mut self) {
        let wait = [10, 300, 2_000, 30_000][self.below(4) as usize];
        let wait = self.below(wait);
        self.now.steady += wait;
        self.now.unix = self.now.unix.plus(wait);
        self.tell(Event::Tick);
    }

    fn message(&mut self) {
        let parts = 1 + self.below(3);
        let mut left: Vec<Vec<Left>> = Vec::new();
        let mut next = 0;
        for _ in 0..parts {
            let count = 1 + self.below(3) as u16;
            left.push((next..next + count).map(|index| self.recipient(index)).collect());
            next += count;
        }
        self.keys += 1;
        let age = if self.one_in(4) { self.below(700_000) } else { 0 };
        let arrived = UnixMillis(self.now.unix.0 - age);
        let count = NonZeroU32::new(u32::from(next)).expect("there are some");
        let message = self.real.add_message(self.keys, arrived, count);
        assert_eq!(message, self.reference.add_message(self.keys, arrived, count.get()));
        let tenant = Tenant(self.below(3) as u32);
        let mut way = self.below(8) as usize;
        for recipients in left {
            self.queue(message, tenant, way, &recipients);
            // Side by side goes what goes the same way, as when it is more than one transaction carries.
            way += usize::from(!self.one_in(3));
        }
    }

    /// One of whom something was said in a former life, or nothing.
    fn recipient(&mut self, recipient: u16) -> Left {
        let note = Note(self.below(9) as u16);
        if self.one_in(2) { Left { recipient, note } } else { Left::fresh(recipient) }
    }

    fn queue(&mut self, message: MessageIx, tenant: Tenant, way: usize, recipients: &[Left]) {
        let via = match way % 8 {
            way @ 0..6 => Via::Domain(DOMAINS[way]),
            way => Via::Route(ROUTES[way - 6]),
        };
        let wait = self.below(70_000);
        let start = match self.below(12) {
            0 => Start::Held,
            1 => Start::Quarantined,
            2 | 3 => Start::Deferred(self.now.unix.plus(wait)),
            _ => Start::Due,
        };
        let routed = if self.one_in(20) { self.generation.wrapping_sub(1) } else { self.generation };
        let attempts = self.below(3) as u16;
        self.tell(Event::Queued(Queued { message, tenant, via, routed, recipients, attempts, start }));
    }

    fn answer(&mut self) {
        if self.questions.is_empty() {
            return;
        }
        let place = self.below(self.questions.len()) as usize;
        let domain = self.questions.swap_remove(place);
        self.answer_with(domain);
    }

    fn answer_with(&mut self, domain: DomainIx) {
        let until = self.now.steady + 1 + self.below(60_000);
        match self.below(8) {
            0 => self.tell(Event::Refused { domain }),
            1 => self.tell(Event::Unresolved { domain, until, fails: true }),
            2 => self.tell(Event::Unresolved { domain, until, fails: false }),
            _ => {
                let site = HOSTS[self.below(3) as usize];
                let holds = Duration::from_secs(1 + self.below(90));
                self.tell(Event::Resolved { domain, site, holds });
            }
        }
    }

    fn lease(&mut self) {
        if self.leases.is_empty() {
            return self.tell(Event::LeaseFree);
        }
        let place = self.below(self.leases.len()) as usize;
        let site = self.leases.swap_remove(place);
        if self.one_in(3) {
            self.tell(Event::LeaseRefused { site });
        } else {
            self.tell(Event::LeaseGranted { site });
        }
    }

    fn connection(&mut self) {
        let all: Vec<(ConnectionIx, Phase)> =
            self.connections.iter().map(|(&at, &phase)| (at, phase)).collect();
        let Some((connection, phase)) = self.pick(&all) else { return };
        match phase {
            Phase::Opening if self.one_in(5) => self.close(connection),
            Phase::Opening if self.one_in(2) => self.tell(Event::AddressFailed { connection }),
            Phase::Opening => self.ready(connection),
            Phase::Idle if self.one_in(2) => self.tell(Event::Unused { connection }),
            Phase::Idle => self.close(connection),
            Phase::Busy(job) => {
                self.connections.insert(connection, Phase::Boundary);
                self.job_over(job, true);
            }
            Phase::Boundary if self.one_in(5) => self.close(connection),
            Phase::Boundary if self.one_in(5) => self.tell(Event::AddressFailed { connection }),
            Phase::Boundary => self.ready(connection),
            Phase::Ending => self.close(connection),
        }
    }

    fn ready(&mut self, connection: ConnectionIx) {
        // What is said next may start a job on it.
        self.connections.insert(connection, Phase::Idle);
        self.tell(Event::Ready { connection });
    }

    fn close(&mut self, connection: ConnectionIx) {
        self.connections.remove(&connection);
        self.tell(Event::Closed { connection });
    }

    /// An attempt or a task has come to an end.
    fn job_over(&mut self, job: JobIx, by_connection: bool) {
        match self.below(10) {
            0 => self.tell(Event::GivenBack { job, interrupted: by_connection }),
            1 => self.tell(Event::Unreadable { job }),
            2 => self.tell(Event::Damaged { job }),
            _ => self.conclude(job),
        }
    }

    fn conclude(&mut self, job: JobIx) {
        let message = self.real.view().job(job).expect("it is there").message;
        let recipients: Vec<u16> = self.real.view().recipients(job).map(|(index, _)| index).collect();
        let (all, one_in) = (recipients.len(), 1 + self.below(3) as usize);
        let note = Note(self.below(9) as u16);
        let left = recipients.into_iter().filter(|_| self.one_in(one_in + 1));
        let left: Vec<Left> = left.map(|recipient| Left { recipient, note }).collect();
        self.tell(Event::Concluded { job, left: &left });
        *self.unsettled.entry(message).or_default() += (all - left.len()) as u32;
    }

    fn settle(&mut self) {
        let all: Vec<(MessageIx, u32)> = self.unsettled.iter().map(|(&at, &count)| (at, count)).collect();
        let Some((message, recipients)) = self.pick(&all) else { return };
        self.unsettled.remove(&message);
        self.tell(Event::Settled { message, recipients });
    }

    fn task(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        let place = self.below(self.tasks.len()) as usize;
        let (task, job) = self.tasks.swap_remove(place);
        if task == Task::Route && !self.one_in(4) {
            return self.reroute(job);
        }
        self.job_over(job, false);
    }

    fn reroute(&mut self, job: JobIx) {
        self.rerouted = true;
        let view = self.real.view().job(job).expect("it is there");
        let recipients = self.real.view().recipients(job);
        let recipients: Vec<Left> = recipients.map(|(recipient, note)| Left { recipient, note }).collect();
        let (first, second) = recipients.split_at(self.below(recipients.len() + 1) as usize);
        for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
            let way = self.below(8) as usize;
            self.queue(view.message, view.tenant, way, part);
        }
        self.tell(Event::Rerouted { job });
    }

    fn operate(&mut self) {
        let jobs: Vec<JobIx> = (0..self.real.view().message_end())
            .flat_map(|message| self.real.view().jobs_of(MessageIx(message)))
            .collect();
        let acts = [Act::Hold, Act::Release, Act::Release, Act::Retry, Act::Bounce, Act::Discard];
        let (Some(job), Some(act)) = (self.pick(&jobs), self.pick(&acts)) else { return };
        let view = self.real.view().job(job).expect("it is there");
        let effect = self.real.act(job, act, self.now);
        assert_eq!(effect, self.reference.act(job, act, self.now), "seed {} at {}", self.seed, self.events);
        if (act, effect) == (Act::Discard, Effect::Changed) {
            *self.unsettled.entry(view.message).or_default() += u32::from(view.recipients);
        }
        self.tell(Event::Tick);
    }

    fn site(&mut self) {
        let all: Vec<_> = self.sites.iter().copied().collect();
        let Some(site) = self.pick(&all) else { return };
        let at = self.now.steady + 1 + self.below(60_000);
        match self.below(8) {
            0..3 => self.tell(Event::SiteFailed { site, until: at }),
            3 | 4 => self.tell(Event::SiteWorks { site, from: self.now.steady }),
            5 => self.tell(Event::SiteWorks { site, from: self.now.steady + 3_000 }),
            6 => {
                let wanted = self.one_in(2);
                self.tell(Event::LeaseWanted { site, wanted });
            }
            _ => {
                let held = !self.held.remove(&site);
                if held {
                    self.held.insert(site);
                }
                self.tell(Event::SiteHeld { site, held });
            }
        }
    }

    fn rarely(&mut self) {
        match self.below(12) {
            0..3 => {
                self.generation += 1;
                self.tell(Event::Configured { generation: self.generation });
            }
            3..10 => {
                self.paused = !self.paused;
                self.tell(Event::Paused(self.paused));
            }
            10 if self.one_in(3) => {
                self.draining = true;
                self.tell(Event::Drain);
            }
            _ => self.tell(Event::LeaseFree),
        }
    }

    /// From now on all goes well: whatever waited is sent, and every message ends.
    pub(crate) fn finish(&mut self) {
        if self.draining {
            return;
        }
        self.tell(Event::Paused(false));
        for site in std::mem::take(&mut self.held) {
            if self.sites.contains(&site) {
                self.tell(Event::SiteHeld { site, held: false });
            }
        }
        for _ in 0..2_000 {
            if self.real.view().message_count() == 0 {
                return;
            }
            self.do_well();
        }
        panic!("seed {}: {} messages never ended", self.seed, self.real.view().message_count());
    }

    fn do_well(&mut self) {
        for domain in std::mem::take(&mut self.questions) {
            self.tell(Event::Resolved { domain, site: HOSTS[0], holds: Duration::from_secs(600) });
        }
        for site in std::mem::take(&mut self.leases) {
            self.tell(Event::LeaseGranted { site });
        }
        for (_, job) in std::mem::take(&mut self.tasks) {
            self.end_well(job);
        }
        for (connection, phase) in self.connections.clone() {
            match phase {
                Phase::Opening | Phase::Boundary => self.ready(connection),
                Phase::Busy(job) => {
                    self.connections.insert(connection, Phase::Boundary);
                    self.end_well(job);
                }
                Phase::Idle if self.one_in(4) => self.tell(Event::Unused { connection }),
                Phase::Idle => {}
                Phase::Ending => self.close(connection),
            }
        }
        for (message, recipients) in std::mem::take(&mut self.unsettled) {
            self.tell(Event::Settled { message, recipients });
        }
        self.let_go();
        self.now.steady += 5_000;
        self.now.unix = self.now.unix.plus(5_000);
        self.tell(Event::Tick);
    }

    fn end_well(&mut self, job: JobIx) {
        let view = self.real.view().job(job).expect("it is there");
        *self.unsettled.entry(view.message).or_default() += u32::from(view.recipients);
        self.tell(Event::Concluded { job, left: &[] });
    }

    /// Releases what is held, and discards what is damaged.
    fn let_go(&mut self) {
        for message in (0..self.real.view().message_end()).map(MessageIx) {
            for job in self.real.view().jobs_of(message).collect::<Vec<_>>() {
                let view = self.real.view().job(job).expect("it is there");
                for act in [Act::Release, Act::Discard] {
                    let effect = self.real.act(job, act, self.now);
                    assert_eq!(effect, self.reference.act(job, act, self.now));
                    if (act, effect) == (Act::Discard, Effect::Changed) {
                        *self.unsettled.entry(message).or_default() += u32::from(view.recipients);
                    }
                    if self.real.view().job(job).is_none() {
                        break;
                    }
                }
            }
        }
    }
}
