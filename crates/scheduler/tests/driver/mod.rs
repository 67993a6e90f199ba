//! A shell without sockets: it keeps what the scheduler has said, answers it at random, and tells the
//! scheduler and the reference the same.

mod choices;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mail::{QueueState, UnixMillis};
use scheduler::{
    Action, ConnectionIx, DomainIx, Event, JobIx, MessageIx, Now, Retry, Scheduler, Settings, SiteIx, Task,
};

use crate::reference::{Reference, SiteFacts};

/// What the shell thinks of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Idle,
    Busy(JobIx),
    /// Its job is over, and nothing else was said yet.
    Boundary,
    Ending,
}

pub(crate) struct Driver {
    seed: u64,
    dice: u64,
    pub(crate) events: u64,
    now: Now,
    real: Scheduler,
    reference: Reference,
    settings: Settings,
    generation: u32,
    paused: bool,
    draining: bool,
    rerouted: bool,
    keys: u64,
    sites: BTreeSet<SiteIx>,
    held: BTreeSet<SiteIx>,
    stalled: BTreeSet<SiteIx>,
    questions: Vec<DomainIx>,
    leases: Vec<SiteIx>,
    connections: BTreeMap<ConnectionIx, Phase>,
    tasks: Vec<(Task, JobIx)>,
    /// Outcomes that the spool has yet to take.
    unsettled: BTreeMap<MessageIx, u32>,
}

impl Driver {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let settings = Settings {
            retry: Retry {
                first: Duration::from_secs(5),
                longest: Duration::from_secs(60),
                expire: Duration::from_secs(600),
            },
            connections_max: 1 + roll(&mut dice, 5) as u32,
            opening_max: 1 + roll(&mut dice, 2) as u32,
            messages_per_connection_max: 1 + roll(&mut dice, 4) as u32,
            addresses_tried_max: 1 + roll(&mut dice, 3) as u8,
            tasks_max: 1 + roll(&mut dice, 3) as u32,
            resting_max: roll(&mut dice, 3) as u32,
            lease_look: Duration::from_millis(500),
            seed,
        };
        let now = Now { steady: 1_000_000, unix: UnixMillis(1_700_000_000_000), random: 0 };
        Self {
            seed,
            dice,
            events: 0,
            now,
            real: Scheduler::new(settings),
            reference: Reference::new(settings),
            settings,
            generation: 0,
            paused: false,
            draining: false,
            rerouted: false,
            keys: 0,
            sites: BTreeSet::new(),
            held: BTreeSet::new(),
            stalled: BTreeSet::new(),
            questions: Vec::new(),
            leases: Vec::new(),
            connections: BTreeMap::new(),
            tasks: Vec::new(),
            unsettled: BTreeMap::new(),
        }
    }

    pub(crate) fn length(&mut self) -> u64 {
        20 + self.below(100)
    }

    fn below(&mut self, bound: usize) -> u64 {
        roll(&mut self.dice, bound) as u64
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.below(from.len()) as usize]) }
    }

    /// Tells both, hears both, and lets time stand until nothing is left to do at once.
    fn tell(&mut self, event: Event<'_>) {
        self.tell_once(event);
        for _ in 0..1000 {
            let (real, reference) = (self.real.next_deadline(), self.reference.next_deadline());
            assert_eq!(real, reference, "the next deadline, seed {} at {}", self.seed, self.events);
            if real.is_none_or(|at| at > self.now.steady) {
                return self.compare();
            }
            self.tell_once(Event::Tick);
        }
        panic!("seed {} at {}: it never comes to rest", self.seed, self.events);
    }

    fn tell_once(&mut self, event: Event<'_>) {
        self.events += 1;
        self.now.random = self.below(1 << 16) as u32;
        self.real.handle(event, self.now);
        self.reference.handle(event, self.now);
        let said: Vec<Action> = std::iter::from_fn(|| self.real.poll()).collect();
        let (mut actions, mut expected) = (said.clone(), std::mem::take(&mut self.reference.actions));
        // What stalls is compared as a whole: the reference only knows it by walking.
        let is_kept = |action: &Action| !matches!(action, Action::Stalled(_) | Action::Unstalled(_));
        actions.retain(is_kept);
        expected.retain(is_kept);
        assert_eq!(actions, expected, "after {event:?}, seed {} at {}", self.seed, self.events);
        said.into_iter().for_each(|action| self.hear(action));
    }

    fn hear(&mut self, action: Action) {
        match action {
            Action::Learn(site) => assert!(self.sites.insert(site)),
            Action::Forget(site) => assert!(self.sites.remove(&site)),
            Action::ForgetDomain(domain) => assert!(!self.questions.contains(&domain)),
            Action::Resolve(domain) => self.questions.push(domain),
            Action::Lease(site) => self.leases.push(site),
            Action::ReturnLease(_) | Action::StopWaiting(_) | Action::Deferred { .. } => {}
            Action::Open(connection, _) => {
                assert_eq!(self.connections.insert(connection, Phase::Opening), None);
                assert!(self.connections.len() as u32 <= self.settings.connections_max);
            }
            Action::TryNext(connection) => {
                self.connections.insert(connection, Phase::Opening).expect("it is open");
            }
            Action::GiveUp(connection) | Action::Quit(connection) => {
                self.connections.insert(connection, Phase::Ending).expect("it is open");
            }
            Action::Start(connection, job) => {
                let before = self.connections.insert(connection, Phase::Busy(job));
                assert_eq!(before, Some(Phase::Idle), "seed {}", self.seed);
            }
            Action::Run(task, job) => self.tasks.push((task, job)),
            Action::Stalled(site) => assert!(self.stalled.insert(site)),
            Action::Unstalled(site) => assert!(self.stalled.remove(&site)),
        }
    }

    /// All that can be seen of both.
    fn compare(&self) {
        let at = || format!("seed {} at {}", self.seed, self.events);
        for state in QueueState::ALL {
            let (real, reference) =
                (self.real.view().recipients_in(state), self.reference.recipients_in(state));
            assert_eq!(real, reference, "{state:?}, {}", at());
        }
        assert_eq!(self.real.view().recipients_due(), self.reference.recipients_due(), "{}", at());
        assert_eq!(self.real.view().message_count() as usize, self.reference.message_count(), "{}", at());
        assert_eq!(self.real.view().oldest(), self.reference.oldest(), "{}", at());
        assert_eq!(self.stalled, self.reference.stalled(), "{}", at());
        let expected = self.reference.job_views();
        for (job, view, recipients) in &expected {
            assert_eq!(self.real.view().job(*job).as_ref(), Some(view), "{}", at());
            assert_eq!(&self.real.view().recipients(*job).collect::<Vec<_>>(), recipients, "{}", at());
        }
        let messages = (0..self.real.view().message_end()).map(MessageIx);
        let jobs = messages.clone().map(|message| self.real.view().jobs_of(message).count()).sum::<usize>();
        assert_eq!(jobs, expected.len(), "{}", at());
        for message in messages {
            let view = self.real.view().message(message).map(|view| (view.key, view.pending));
            assert_eq!(view, self.reference.message_key(message), "{}", at());
        }
        for (domain, site) in self.reference.domain_sites() {
            assert_eq!(self.real.view().domain_site(domain), Some(site), "{}", at());
        }
        let expected = self.reference.site_views();
        assert_eq!(self.real.view().site_count() as usize, expected.len(), "{}", at());
        for mut facts in expected {
            let view = self.real.view().site(facts.site).expect("it is there");
            let mut sums = (view.ready, view.active, view.deferred, view.messages);
            if self.rerouted {
                // A message whose jobs were routed again at different times may count more than once.
                (sums.3, facts.sums.3) = (0, 0);
            }
            let real = SiteFacts {
                site: facts.site,
                key: view.key.to_owned(),
                fails: view.fails,
                rest_until: view.rest_until,
                connections: view.connections,
                jobs: view.jobs,
                sums,
            };
            assert_eq!(real, facts, "{}", at());
        }
    }
}

fn roll(dice: &mut u64, bound: usize) -> usize {
    *dice ^= *dice << 13;
    *dice ^= *dice >> 7;
    *dice ^= *dice << 17;
    (*dice % bound as u64) as usize
}
