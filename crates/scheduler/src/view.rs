//! What is queued and why it waits, to be looked at a record at a time: by operators, metrics and the shell.

use mail::{QueueState, UnixMillis};

use crate::Scheduler;
use crate::backlog::Backlog;
use crate::connection::Connection;
use crate::event::{ConnectionIx, DomainIx, JobIx, MessageIx, Note, SiteIx, Tenant};
use crate::table::Table;

/// A queued message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageView {
    /// The shell's.
    pub key: u64,
    /// When it came.
    pub arrived: UnixMillis,
    /// Recipients without an outcome in the log.
    pub pending: u32,
}

/// A job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobView {
    /// Whose recipients it carries.
    pub message: MessageIx,
    /// Whose that is.
    pub tenant: Tenant,
    /// The domain whose MX records lead it, unless a route does.
    pub domain: Option<DomainIx>,
    /// Where it goes.
    pub site: SiteIx,
    /// Where it stands: what is due at a site that fails is deferred.
    pub state: QueueState,
    /// The connection that has it.
    pub connection: Option<ConnectionIx>,
    /// Attempts that were deferred.
    pub attempts: u16,
    /// How many there are.
    pub recipients: u16,
    /// When it is due, in milliseconds of the steady clock, while it waits for a time of its own.
    pub due: Option<u64>,
    /// A connection broke under it before anything was heard.
    pub interrupted: bool,
    /// It is held once what is under way is over.
    pub held: bool,
}

/// A site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteView<'a> {
    /// Its key; empty where it stands for `domain`.
    pub key: &'a str,
    /// The domain whose hosts are not known.
    pub domain: Option<DomainIx>,
    /// It fails.
    pub fails: bool,
    /// No connection is opened before, in milliseconds of the steady clock.
    pub rest_until: u64,
    /// Connections, in whatever phase.
    pub connections: u32,
    /// Jobs that are due.
    pub jobs: u32,
    /// Recipients that are due.
    pub ready: u32,
    /// Recipients that are under way.
    pub active: u32,
    /// Recipients that wait for a time of their own.
    pub deferred: u32,
    /// Messages to which all these belong, each once for each queue.
    pub messages: u32,
}

/// All that can be seen of a scheduler.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    backlog: &'a Backlog,
    connections: &'a Table<Connection>,
}

impl<'a> View<'a> {
    pub(crate) fn new(scheduler: &'a Scheduler) -> Self {
        Self { backlog: &scheduler.backlog, connections: &scheduler.connections }
    }

    /// The message of this number, if there is one; numbers go up to [`View::message_end`].
    #[must_use]
    pub fn message(self, message: MessageIx) -> Option<MessageView> {
        let entry = self.backlog.jobs.messages.get(message.0)?;
        Some(MessageView { key: entry.key, arrived: entry.arrived, pending: entry.pending.get() })
    }

    /// No message has this number or a greater one.
    #[must_use]
    pub fn message_end(self) -> u32 {
        self.backlog.jobs.messages.end()
    }

    /// Messages that have a recipient without an outcome.
    #[must_use]
    pub fn message_count(self) -> u32 {
        self.backlog.jobs.messages.len()
    }

    /// When the oldest message came, to the second.
    #[must_use]
    pub fn oldest(self) -> Option<UnixMillis> {
        self.backlog.jobs.oldest()
    }

    /// The jobs of a message, the latest first.
    pub fn jobs_of(self, message: MessageIx) -> impl Iterator<Item = JobIx> + use<'a> {
        self.backlog.jobs.of_message(message)
    }

    /// The places of a job's recipients in the envelope, ascending, and what was last said of each.
    pub fn recipients(self, job: JobIx) -> impl Iterator<Item = (u16, Note)> + use<'a> {
        self.backlog.jobs.recipients(job)
    }

    /// A job, if there is one of this number.
    #[must_use]
    pub fn job(self, job: JobIx) -> Option<JobView> {
        let entry = self.backlog.jobs.jobs.get(job.0)?;
        let queue = &self.backlog.tree.queues[entry.queue];
        let state = match entry.state.shown() {
            QueueState::Ready if self.backlog.tree.sites[queue.site].failing => QueueState::Deferred,
            state => state,
        };
        Some(JobView {
            message: entry.message,
            tenant: queue.tenant,
            domain: self.domain(queue.domain),
            site: SiteIx(queue.site),
            state,
            connection: entry.connection(),
            attempts: entry.attempts,
            recipients: entry.recipients,
            due: entry.due(),
            interrupted: entry.interrupted,
            held: entry.held,
        })
    }

    /// A site, if there is one of this number; numbers go up to [`View::site_end`].
    #[must_use]
    pub fn site(self, site: SiteIx) -> Option<SiteView<'a>> {
        let entry = self.backlog.tree.sites.get(site.0)?;
        Some(SiteView {
            key: &entry.key,
            domain: self.domain(entry.domain),
            fails: entry.failing,
            rest_until: entry.rest_until,
            connections: entry.connections,
            jobs: entry.sums.ready_jobs,
            ready: entry.sums.ready,
            active: entry.sums.active,
            deferred: entry.sums.deferred,
            messages: entry.sums.messages,
        })
    }

    /// No site has this number or a greater one.
    #[must_use]
    pub fn site_end(self) -> u32 {
        self.backlog.tree.sites.end()
    }

    /// Sites that are known: those with mail or a connection, and of late.
    #[must_use]
    pub fn site_count(self) -> u32 {
        self.backlog.tree.sites.len()
    }

    /// A domain's name, in lower case.
    #[must_use]
    pub fn domain_name(self, domain: DomainIx) -> Option<&'a str> {
        self.backlog.tree.domains.get(domain.0).map(|domain| &*domain.name)
    }

    /// The site to which a domain's mail goes; its queues may have yet to follow it there.
    #[must_use]
    pub fn domain_site(self, domain: DomainIx) -> Option<SiteIx> {
        self.backlog.tree.domains.get(domain.0).map(|domain| SiteIx(domain.site))
    }

    /// Recipients that stand so: what is due at a site that fails counts as deferred.
    #[must_use]
    pub fn recipients_in(self, state: QueueState) -> u64 {
        let count = self.backlog.tree.counts[state as usize];
        match state {
            QueueState::Ready => count - self.backlog.tree.stalled,
            QueueState::Deferred => count + self.backlog.tree.stalled,
            QueueState::Active | QueueState::Held | QueueState::Quarantined => count,
        }
    }

    /// Recipients that are due, at sites that fail too.
    #[must_use]
    pub fn recipients_due(self) -> u64 {
        self.backlog.tree.counts[QueueState::Ready as usize]
    }

    /// Connections, in whatever phase.
    #[must_use]
    pub fn connection_count(self) -> u32 {
        self.connections.len()
    }

    fn domain(self, domain: u32) -> Option<DomainIx> {
        self.backlog.tree.domains.get(domain).map(|_| DomainIx(domain))
    }
}
