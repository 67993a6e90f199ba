//! What the scheduler says to single events, read as dialogs.

use std::num::NonZeroU32;
use std::time::Duration;

use mail::{QueueState, UnixMillis};
use scheduler::{
    Act, Action, ConnectionIx, DomainIx, Effect, Event, JobIx, Left, Note, Now, Queued, Retry, Scheduler,
    Settings, SiteIx, Start, Task, Tenant, Via,
};

const SETTINGS: Settings = Settings {
    retry: Retry {
        first: Duration::from_secs(5),
        longest: Duration::from_secs(60),
        expire: Duration::from_secs(600),
    },
    connections_max: 10,
    opening_max: 1,
    messages_per_connection_max: 3,
    addresses_tried_max: 2,
    tasks_max: 2,
    resting_max: 10,
    lease_look: Duration::from_millis(500),
    seed: 1,
};

struct Dialog {
    scheduler: Scheduler,
    now: Now,
}

impl Dialog {
    fn new(settings: Settings) -> Self {
        let now = Now { steady: 50_000, unix: UnixMillis(1_000_000_000), random: 0 };
        Self { scheduler: Scheduler::new(settings), now }
    }

    fn tell(&mut self, event: Event<'_>) -> Vec<Action> {
        self.scheduler.handle(event, self.now);
        self.hear()
    }

    /// All that is said until there is nothing more to do at once.
    fn hear(&mut self) -> Vec<Action> {
        let mut said = Vec::new();
        loop {
            said.extend(std::iter::from_fn(|| self.scheduler.poll()));
            if self.scheduler.next_deadline().is_none_or(|at| at > self.now.steady) {
                return said;
            }
            self.scheduler.handle(Event::Tick, self.now);
        }
    }

    fn pass(&mut self, millis: u64) -> Vec<Action> {
        self.now.steady += millis;
        self.now.unix = self.now.unix.plus(millis);
        self.tell(Event::Tick)
    }

    fn send(&mut self, tenant: u32, via: Via<'_>) -> Vec<Action> {
        let message = self.scheduler.add_message(7, self.now.unix, NonZeroU32::MIN);
        let (tenant, start) = (Tenant(tenant), Start::Due);
        self.tell(Event::Queued(Queued {
            message,
            tenant,
            via,
            routed: 0,
            recipients: &[Left::fresh(0)],
            attempts: 0,
            start,
        }))
    }

    fn resolve(&mut self, domain: u32, site: &str) -> Vec<Action> {
        let (domain, holds) = (DomainIx(domain), Duration::from_secs(300));
        self.tell(Event::Resolved { domain, site, holds })
    }

    /// The jobs that one connection carries, one after the other, each of them delivered.
    fn carry(&mut self, site: SiteIx) -> Vec<JobIx> {
        let said = self.tell(Event::LeaseGranted { site });
        let Some(&Action::Open(connection, _)) = said.first() else { panic!("{said:?}") };
        let mut carried = Vec::new();
        loop {
            let said = self.tell(Event::Ready { connection });
            let start = said.iter().find_map(|action| match action {
                Action::Start(_, job) => Some(*job),
                _ => None,
            });
            let Some(job) = start else { return carried };
            carried.push(job);
            self.tell(Event::Concluded { job, left: &[] });
        }
    }
}

const RELAY: Via<'_> = Via::Route("relay:25");
const SITE: SiteIx = SiteIx(0);
const FIRST: ConnectionIx = ConnectionIx(0);

#[test]
fn tenants_take_turns_at_a_site_and_each_is_served_in_order() {
    let mut dialog = Dialog::new(Settings { messages_per_connection_max: 100, ..SETTINGS });
    for tenant in [1, 1, 1, 1, 2, 2, 3] {
        dialog.send(tenant, RELAY);
    }
    assert_eq!(dialog.carry(SITE), [0, 4, 6, 1, 5, 2, 3].map(JobIx));
}

#[test]
fn domains_with_the_same_hosts_share_a_site_and_its_connection() {
    let mut dialog = Dialog::new(SETTINGS);
    assert_eq!(dialog.send(1, Via::Domain("A.example")), [Action::Learn(SITE), Action::Resolve(DomainIx(0))]);
    assert_eq!(
        dialog.send(1, Via::Domain("b.example")),
        [Action::Learn(SiteIx(1)), Action::Resolve(DomainIx(1))]
    );
    assert_eq!(dialog.send(1, Via::Domain("a.Example")), []);
    let hosts = SiteIx(2);
    let said = dialog.resolve(0, "mx1 mx2");
    assert_eq!(said, [Action::Learn(hosts), Action::Forget(SITE), Action::Lease(hosts)]);
    assert_eq!(dialog.resolve(1, "mx1 mx2"), [Action::Forget(SiteIx(1))]);
    assert_eq!(dialog.carry(hosts).len(), 3);
}

#[test]
fn a_domain_that_dns_does_not_answer_for_rests_by_itself() {
    let mut dialog = Dialog::new(SETTINGS);
    dialog.send(1, Via::Domain("a.example"));
    let until = dialog.now.steady + 5_000;
    let unresolved = Event::Unresolved { domain: DomainIx(0), until, fails: true };
    assert_eq!(dialog.tell(unresolved), [Action::Stalled(SITE)]);
    assert_eq!(dialog.scheduler.view().recipients_in(QueueState::Deferred), 1);
    assert_eq!(dialog.pass(4_900), []);
    assert_eq!(dialog.pass(100), [Action::Resolve(DomainIx(0))]);
}

#[test]
fn a_domain_that_takes_no_mail_gives_up_what_waits_a_few_at_a_time() {
    let mut dialog = Dialog::new(SETTINGS);
    (0..3).for_each(|_| drop(dialog.send(1, Via::Domain("a.example"))));
    let run = |job| Action::Run(Task::Refuse, JobIx(job));
    assert_eq!(dialog.tell(Event::Refused { domain: DomainIx(0) }), [run(0), run(1)]);
    assert_eq!(dialog.tell(Event::Concluded { job: JobIx(1), left: &[] }), [run(2)]);
}

#[test]
fn what_a_site_defers_waits_alone_and_what_fails_with_it_waits_together() {
    let mut dialog = Dialog::new(SETTINGS);
    (0..3).for_each(|_| drop(dialog.send(1, RELAY)));
    dialog.tell(Event::LeaseGranted { site: SITE });
    assert_eq!(dialog.tell(Event::Ready { connection: FIRST })[0], Action::Start(FIRST, JobIx(0)));
    let left = [Left { recipient: 0, note: Note(4) }];
    let said = dialog.tell(Event::Concluded { job: JobIx(0), left: &left });
    let until = dialog.now.unix.plus(5_000);
    assert_eq!(said, [Action::Deferred { job: JobIx(0), until, attempts: 1 }]);
    let until = dialog.now.steady + 60_000;
    assert_eq!(dialog.tell(Event::SiteFailed { site: SITE, until }), [Action::Stalled(SITE)]);
    assert_eq!(dialog.scheduler.view().recipients_in(QueueState::Deferred), 3);
    // A connection that is there carries mail all the same.
    assert_eq!(dialog.tell(Event::Ready { connection: FIRST }), [Action::Start(FIRST, JobIx(1))]);
    let from = dialog.now.steady;
    assert_eq!(dialog.tell(Event::SiteWorks { site: SITE, from }), [Action::Unstalled(SITE)]);
}

#[test]
fn mail_expires_where_its_site_fails_and_not_before() {
    let mut dialog = Dialog::new(SETTINGS);
    dialog.send(1, RELAY);
    let until = dialog.now.steady + 60_000;
    dialog.tell(Event::SiteFailed { site: SITE, until });
    assert!(!dialog.pass(599_000).contains(&Action::Run(Task::Expire, JobIx(0))));
    // It is over its time now, and the site was not tried since.
    assert_eq!(dialog.pass(2_000), []);
    let until = dialog.now.steady + 60_000;
    dialog.tell(Event::SiteFailed { site: SITE, until });
    assert_eq!(dialog.pass(6_000), [Action::Run(Task::Expire, JobIx(0))]);
}

#[test]
fn a_connection_ends_after_so_many_messages_or_when_another_worker_waits() {
    let mut dialog = Dialog::new(SETTINGS);
    (0..5).for_each(|_| drop(dialog.send(1, RELAY)));
    assert_eq!(dialog.carry(SITE).len(), 3);
    // The lease for the next one was asked for while the first was busy.
    assert_eq!(dialog.tell(Event::Closed { connection: FIRST }), []);
    dialog.tell(Event::LeaseWanted { site: SITE, wanted: true });
    assert_eq!(dialog.carry(SITE).len(), 1);
}

#[test]
fn an_attempt_tries_so_many_addresses_and_a_job_given_back_is_the_next() {
    let mut dialog = Dialog::new(SETTINGS);
    (0..2).for_each(|_| drop(dialog.send(1, RELAY)));
    dialog.tell(Event::LeaseGranted { site: SITE });
    assert_eq!(dialog.tell(Event::Ready { connection: FIRST })[0], Action::Start(FIRST, JobIx(0)));
    dialog.tell(Event::GivenBack { job: JobIx(0), interrupted: true });
    assert!(dialog.scheduler.view().job(JobIx(0)).is_some_and(|job| job.interrupted));
    assert_eq!(dialog.tell(Event::AddressFailed { connection: FIRST }), [Action::TryNext(FIRST)]);
    assert_eq!(dialog.tell(Event::Ready { connection: FIRST }), [Action::Start(FIRST, JobIx(0))]);
    dialog.tell(Event::GivenBack { job: JobIx(0), interrupted: false });
    assert_eq!(dialog.tell(Event::AddressFailed { connection: FIRST })[0], Action::GiveUp(FIRST));
}

#[test]
fn a_lease_that_is_not_needed_any_more_is_not_waited_for() {
    let mut dialog = Dialog::new(SETTINGS);
    assert_eq!(dialog.send(1, RELAY).last(), Some(&Action::Lease(SITE)));
    dialog.tell(Event::LeaseRefused { site: SITE });
    assert_eq!(dialog.scheduler.act(JobIx(0), Act::Hold, dialog.now), Effect::Changed);
    assert_eq!(dialog.tell(Event::LeaseFree), [Action::StopWaiting(SITE)]);
    assert_eq!(dialog.scheduler.act(JobIx(0), Act::Release, dialog.now), Effect::Changed);
    assert_eq!(dialog.tell(Event::Tick), [Action::Lease(SITE)]);
}

#[test]
fn nothing_is_begun_while_outcomes_cannot_be_noted_or_while_draining() {
    let mut dialog = Dialog::new(SETTINGS);
    dialog.tell(Event::Paused(true));
    assert_eq!(dialog.send(1, RELAY), [Action::Learn(SITE)]);
    assert_eq!(dialog.tell(Event::Paused(false)), [Action::Lease(SITE)]);
    dialog.tell(Event::LeaseGranted { site: SITE });
    assert_eq!(dialog.tell(Event::Drain), [Action::Quit(FIRST)]);
    assert_eq!(dialog.tell(Event::Closed { connection: FIRST }), []);
    assert_eq!(dialog.pass(1_000_000), []);
}
