//! Which message goes over which connection, and when: the schedule of one worker, pure.
//!
//! The shell says what happened ([`Scheduler::handle`]) and asks what is to be done
//! ([`Scheduler::poll`]). Here is no socket, file, clock or randomness: time and a random number
//! come with each event. What hangs below what:
//!
//! ```text
//! site: the hosts that take the mail of many domains, or the next hops of a route
//!  ├─ lane: a tenant's share of the site's turns, one after the other
//!  │   └─ queue: (tenant, domain) or (tenant, route), in turn within the lane
//!  │       └─ job: recipients of one message, first come first served
//!  ├─ connections that are idle
//!  └─ one back-off, one timer
//! ```
//!
//! A domain whose hosts are not known has a site that stands for it alone, so that a DNS that fails
//! is a site that fails. When its hosts are known, its queues move to their site.
//!
//! Why an event costs the same whatever waits:
//! - Everything is a record in a table, found by number, or by name in an index that grows by one bucket at a time.
//! - What waits for the same thing is a list through the records. To join, to leave, and to be next
//!   takes constant time. A site that fails or returns is one record, whatever hangs below it.
//! - Deadlines are lists on a ring of slots: a message's own retry and expiry, a site's back-off.
//! - No step begins another. A site that may go on is put on the agenda, and a turn serves a few
//!   sites of it. The same goes for what is due, for queues that move, for tasks. What is left
//!   makes [`Scheduler::next_deadline`] say: at once.
//!
//! One source address exists, so a site and a path (a site by one source address) are one record yet.
//! A path would stand between a site and its connections, with the back-off; limits would be looked at
//! where [`Action::Lease`] is said, and a tenant's weight where the turn passes from lane to lane.

mod ages;
mod backlog;
mod backoff;
#[cfg(test)]
mod bounds;
mod calendar;
mod connection;
mod event;
mod handle;
mod index;
mod jobs;
mod sites;
mod table;
mod tree;
mod turn;
mod view;

use std::num::NonZeroU32;

use mail::UnixMillis;

pub use backoff::Retry;
pub use event::{
    Act, Action, ConnectionIx, DomainIx, Effect, Event, JobIx, Left, MessageIx, Note, Now, Queued, Settings,
    SiteIx, Start, Task, Tenant, Via,
};
pub use jobs::{MESSAGE_BYTES_MAX, RECIPIENT_BYTES_MAX, RECIPIENTS_MAX};
pub use view::{JobView, MessageView, SiteView, View};

use backlog::Backlog;
use connection::Connection;
use table::Table;

/// The schedule of one worker.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    backlog: Backlog,
    connections: Table<Connection>,
    /// Tasks that the shell is at.
    tasks: u32,
    /// Leases that are asked for.
    asking: u32,
    /// Sites without a lease that have yet to ask again, since one may be free.
    woken: u32,
    generation: u32,
    paused: bool,
    draining: bool,
    /// Where the search for connections without a message goes on, while draining.
    drained: u32,
}

impl Scheduler {
    /// A scheduler with nothing to do.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            backlog: Backlog::new(&settings),
            connections: Table::default(),
            tasks: 0,
            asking: 0,
            woken: 0,
            generation: 0,
            paused: false,
            draining: false,
            drained: 0,
        }
    }

    /// Takes up a message, whose `recipients` without an outcome come with [`Event::Queued`] next, one
    /// job after the other, those that go the same way side by side. The `key` is the shell's.
    #[must_use]
    pub fn add_message(&mut self, key: u64, arrived: UnixMillis, recipients: NonZeroU32) -> MessageIx {
        self.backlog.jobs.add_message(key, arrived, recipients)
    }

    /// Does what an operator wants of a job, found by [`View::jobs_of`]; then say [`Event::Tick`].
    ///
    /// # Panics
    /// When there is no such job.
    pub fn act(&mut self, job: JobIx, act: Act, now: Now) -> Effect {
        self.backlog.act(job, act, now)
    }

    /// All that can be seen of it.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View::new(self)
    }

    /// What is to be done next; call it until it gives `None`.
    pub fn poll(&mut self) -> Option<Action> {
        self.backlog.tree.actions.pop_front()
    }

    /// When to say [`Event::Tick`], in milliseconds of the steady clock: 0 is at once.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.has_more() {
            return Some(0);
        }
        let expiry = if self.may_run_tasks() { self.backlog.expiries.next() } else { None };
        let others = [self.backlog.deferred.next(), self.backlog.tree.timers.next(), self.starves_until()];
        others.into_iter().chain([expiry]).flatten().min()
    }

    /// Begins nothing now.
    fn is_stopped(&self) -> bool {
        self.paused || self.draining
    }

    fn may_run_tasks(&self) -> bool {
        !self.is_stopped() && self.tasks < self.settings.tasks_max
    }

    fn may_connect(&self) -> bool {
        self.connections.len() + self.asking < self.settings.connections_max
    }
}
