//! What the scheduler is told and what it says: plain values, numbers for all that it keeps.

use std::time::Duration;

use mail::UnixMillis;

use crate::Retry;

/// What the shell knows when it speaks to the scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that is never set.
    pub steady: u64,
    /// The wall clock: by it messages expire.
    pub unix: UnixMillis,
    /// A random number, fresh each time: the jitter of a retry.
    pub random: u32,
}

/// What the scheduler is told at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// When to try again and when to give up.
    pub retry: Retry,
    /// Connections at once, all sites together.
    pub connections_max: u32,
    /// Of those the ones of one site that are being opened: a burst fills a few connections one
    /// after the other rather than opening one for each message.
    pub opening_max: u32,
    /// Messages over one connection.
    pub messages_per_connection_max: u32,
    /// Addresses that an attempt to open a connection tries.
    pub addresses_tried_max: u8,
    /// Messages that are read at once for tasks, whatever waits.
    pub tasks_max: u32,
    /// Sites, and domains, that are remembered although nothing is under way for them.
    pub resting_max: u32,
    /// A site that was refused a lease asks again after this at the latest.
    pub lease_look: Duration,
    /// Seeds the hashes of names, which strangers choose.
    pub seed: u64,
}

/// A tenant, by the number that the shell gives its name for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(pub u32);

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);
    )*};
}

numbers! {
    /// A queued message, until [`Event::Settled`] tells of its last recipient.
    MessageIx;
    /// Recipients of one message that one transaction carries.
    JobIx;
    /// A set of hosts, or a domain whose hosts are not known; until [`Action::Forget`].
    SiteIx;
    /// A domain whose MX records lead to a site; until [`Action::ForgetDomain`].
    DomainIx;
    /// A connection, from [`Action::Open`] to [`Event::Closed`].
    ConnectionIx;
}

/// What the shell keeps of what was last said of a recipient, by a number of its choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Note(pub u16);

impl Note {
    /// Nothing was said yet.
    pub const NONE: Self = Self(u16::MAX);
}

/// What leads mail to a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via<'a> {
    /// The MX records of this domain, in whatever case.
    Domain(&'a str),
    /// A route: the key of its next hops, which names the site.
    Route(&'a str),
}

/// How recipients begin to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// They are due.
    Due,
    /// They were deferred until then.
    Deferred(UnixMillis),
    /// An operator holds them.
    Held,
    /// Their message is damaged: they are never tried.
    Quarantined,
}

/// Recipients of one message that go the same way, as one transaction carries them.
#[derive(Clone, Copy, Debug)]
pub struct Queued<'a> {
    /// Of [`crate::Scheduler::add_message`].
    pub message: MessageIx,
    /// Whose it is.
    pub tenant: Tenant,
    /// Where to.
    pub via: Via<'a>,
    /// The configuration that says so, as in [`Event::Configured`].
    pub routed: u32,
    /// Who they are, ascending: 1 to [`crate::RECIPIENTS_MAX`].
    pub recipients: &'a [Left],
    /// Attempts that were deferred so far.
    pub attempts: u16,
    /// How they begin.
    pub start: Start,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Time has passed, or there is more to do at once.
    Tick,
    /// A job for recipients of a message.
    Queued(Queued<'a>),
    /// The answer to [`Action::Resolve`]: these hosts, whose names in order are the site's key.
    Resolved {
        /// Which was asked for.
        domain: DomainIx,
        /// The site's key.
        site: &'a str,
        /// The answer holds so long.
        holds: Duration,
    },
    /// The domain takes no mail and never will: what waits for it is given up.
    Refused {
        /// Which was asked for.
        domain: DomainIx,
    },
    /// No answer could be had: a failure of the domain's own, until `until`, or no room to ask
    /// where it does not fail.
    Unresolved {
        /// Which was asked for.
        domain: DomainIx,
        /// It is asked for again then, in milliseconds of the steady clock.
        until: u64,
        /// What waits for it counts as deferred.
        fails: bool,
    },
    /// A site failed, for this worker or another one: no connection is opened before `until`.
    SiteFailed {
        /// Which one.
        site: SiteIx,
        /// In milliseconds of the steady clock.
        until: u64,
    },
    /// A site works; connections are opened from `from` on.
    SiteWorks {
        /// Which one.
        site: SiteIx,
        /// In milliseconds of the steady clock.
        from: u64,
    },
    /// [`Action::Lease`] was granted.
    LeaseGranted {
        /// For which site.
        site: SiteIx,
    },
    /// [`Action::Lease`] was not, and is asked for again after [`Event::LeaseFree`] or
    /// [`Settings::lease_look`].
    LeaseRefused {
        /// For which site.
        site: SiteIx,
    },
    /// Another worker waits for a lease of this site, or no longer does.
    LeaseWanted {
        /// Which site.
        site: SiteIx,
        /// Connections end at their next message boundary.
        wanted: bool,
    },
    /// A lease may have come back, of whatever site.
    LeaseFree,
    /// An address could not be used, or the connection ended before it carried a message.
    AddressFailed {
        /// Of which connection, whose job was concluded or given back.
        connection: ConnectionIx,
    },
    /// A connection may carry a message: the first one, or the next.
    Ready {
        /// Which one, whose job was concluded or given back.
        connection: ConnectionIx,
    },
    /// A connection has waited for a message long enough.
    Unused {
        /// Which one; nothing happens to one that has a message by now.
        connection: ConnectionIx,
    },
    /// A connection is no more; its lease was given back.
    Closed {
        /// Which one, whose job was concluded or given back.
        connection: ConnectionIx,
    },
    /// An attempt or a task is over: recipients that are not `left` have their outcome.
    Concluded {
        /// Which job.
        job: JobIx,
        /// What is tried again, ascending.
        left: &'a [Left],
    },
    /// A job comes back as if it had never been given out, and is the next one of its queue.
    GivenBack {
        /// Which job.
        job: JobIx,
        /// A connection broke under it before anything was heard.
        interrupted: bool,
    },
    /// A job was routed again: its recipients were queued anew (held where it is), and it is over.
    Rerouted {
        /// Which job.
        job: JobIx,
    },
    /// A job's message cannot be read now: it is tried again.
    Unreadable {
        /// Which job.
        job: JobIx,
    },
    /// A job's message is damaged: it is never tried again.
    Damaged {
        /// Which job.
        job: JobIx,
    },
    /// Outcomes of a message were taken by the spool; with the last one the message is forgotten.
    Settled {
        /// Which message.
        message: MessageIx,
        /// How many.
        recipients: u32,
    },
    /// This configuration holds: what another one routed is routed again when it comes up.
    Configured {
        /// Its number.
        generation: u32,
    },
    /// Nothing is begun: outcomes cannot be noted. What is under way goes on.
    Paused(bool),
    /// An operator holds what waits for a site, or lets it go on.
    SiteHeld {
        /// Which one.
        site: SiteIx,
        /// It is not served.
        held: bool,
    },
    /// Nothing is begun any more, and what carries no message is closed.
    Drain,
}

/// A recipient that is tried, for the first time or again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its place in the envelope.
    pub recipient: u16,
    /// What was said of it.
    pub note: Note,
}

impl Left {
    /// A recipient of which nothing was said yet.
    #[must_use]
    pub const fn fresh(recipient: u16) -> Self {
        Self { recipient, note: Note::NONE }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// A site came to be known: [`crate::View::site`] tells its key.
    Learn(SiteIx),
    /// Nothing will be said of it any more.
    Forget(SiteIx),
    /// Nothing will be said of it any more.
    ForgetDomain(DomainIx),
    /// Ask which hosts take a domain's mail.
    Resolve(DomainIx),
    /// Ask for a lease.
    Lease(SiteIx),
    /// Give the lease that was granted back: nothing waits for it any more.
    ReturnLease(SiteIx),
    /// The lease that was refused is not waited for any more: nothing waits for the site.
    StopWaiting(SiteIx),
    /// Open a connection, for which a lease was granted, to the site's first address.
    Open(ConnectionIx, SiteIx),
    /// Go on to the next address.
    TryNext(ConnectionIx),
    /// So many addresses failed that the attempt is over: the site failed. Close it.
    GiveUp(ConnectionIx),
    /// Send a job over a connection.
    Start(ConnectionIx, JobIx),
    /// End a connection, then close it.
    Quit(ConnectionIx),
    /// Read a job's message and do this about it; where it is held by then, or DNS has come to say
    /// otherwise, give it back.
    Run(Task, JobIx),
    /// A job waits until then; note it.
    Deferred {
        /// Which job.
        job: JobIx,
        /// Until when.
        until: UnixMillis,
        /// Attempts so far.
        attempts: u16,
    },
    /// A site fails and mail waits for it.
    Stalled(SiteIx),
    /// It works, or no mail waits for it any more.
    Unstalled(SiteIx),
}

/// What is done about a job that is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Find the way of its recipients anew.
    Route,
    /// Give it up: it has waited too long for a site that fails.
    Expire,
    /// Give it up: its domain takes no mail.
    Refuse,
    /// Give it up: an operator says so.
    Bounce,
}

/// What an operator wants of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Keep it back.
    Hold,
    /// Let it go on.
    Release,
    /// Try it now, whatever failed before.
    Retry,
    /// Give it up.
    Bounce,
    /// Take it out, where it is damaged; its outcomes are told by [`Event::Settled`].
    Discard,
}

/// What came of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is done.
    Changed,
    /// An attempt or a task is under way, and decides.
    UnderWay,
    /// It makes no difference.
    Unchanged,
}
