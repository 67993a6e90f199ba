//! Call-ahead: whether the next hop of a relay domain knows a recipient (DESIGN.md B2).
//!
//! The next hop is asked with MAIL FROM:<> and RCPT, and is given no message. What it says is
//! remembered: a yes for an hour, a no for five minutes. A check that cannot be made (the next hop is
//! down, defers, refuses all addresses, or takes too long) finds nothing out, and so denies no recipient. Strangers
//! who guess wait for one another, and never keep a tenant's own senders from being heard.

mod desk;
mod dialog;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use commons::{Answer, ControlLink, RecipientFinding};
use mail::Address;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dns::Dns;
use desk::{Desk, KNOWN, Turn, UNDECIDED};
use dialog::{Caller, Heard, Outside};

pub(crate) use desk::Waiter;

/// A client waits no longer for an answer, the questions before its own included: it comes again, and may
/// find the answer there.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A call takes no longer, whether or not a client still waits.
const CALL_MAX: Duration = Duration::from_secs(20);

/// Calls to one route's next hops at once.
const CALLS_PER_HOP_MAX: usize = 4;

/// Of these, those about strangers' questions: one is always left to tenants' own senders.
const STRANGERS_CALLS_PER_HOP_MAX: usize = CALLS_PER_HOP_MAX - 1;

/// Next hops that are remembered, after many reloads.
const HOPS_MAX: usize = 4096;

/// What calls to next hops are made with.
#[derive(Clone)]
pub struct CallAheadOptions {
    /// Our name in EHLO.
    pub hostname: Box<str>,
    /// TLS where it is offered, whatever the certificate says.
    pub opportunistic: Arc<rustls::ClientConfig>,
    /// TLS with a certificate that names the next hop.
    pub required: Arc<rustls::ClientConfig>,
}

impl fmt::Debug for CallAheadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallAheadOptions({})", self.hostname)
    }
}

/// The handle for calls ahead; clones share what they remember.
#[derive(Clone)]
pub(crate) struct CallAhead(Arc<Shared>);

struct Shared {
    link: ControlLink,
    /// Next hops and time.
    outside: Box<dyn Outside>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    desk: Desk,
    hops: HashMap<Box<str>, Hop>,
}

/// What is known of the next hops of a route, together.
struct Hop {
    calls: Arc<Semaphore>,
    strangers_calls: Arc<Semaphore>,
    /// It could not be asked: no call is made before.
    down_until: Option<Instant>,
    /// It has said yes to a recipient: its no to another is to be taken at its word.
    discerns_until: Option<Instant>,
}

/// Held while a next hop is spoken to.
type Permits = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

impl Hop {
    fn is_down(&self, now: Instant) -> bool {
        self.down_until.is_some_and(|until| now < until)
    }
}

impl CallAhead {
    pub(crate) fn new(link: ControlLink, dns: Arc<Dns>, options: CallAheadOptions) -> Self {
        Self::over(link, Box::new(Caller::new(dns, options)))
    }

    fn over(link: ControlLink, outside: Box<dyn Outside>) -> Self {
        Self(Arc::new(Shared { link, outside, state: Mutex::default() }))
    }

    /// Answers `waiter` about `address`, which is in lower case, now or later; `stranger` is the machine
    /// that asks, where no tenant answers for it. To be called in the runtime.
    pub(crate) fn ask(&self, waiter: Waiter, stranger: Option<IpAddr>, address: Box<str>) {
        let turn = self.0.lock().desk.ask(waiter, stranger, &address, Instant::now());
        match turn {
            Turn::Answered(finding, ttl) => self.0.answer(waiter, finding, ttl),
            Turn::Waits => {}
            Turn::Ask => {
                let shared = self.0.clone();
                tokio::spawn(async move { shared.find_out(&address, stranger.is_some()).await });
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done where the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, waiter: Waiter, finding: RecipientFinding, ttl: Duration) {
        let Waiter { worker, key } = waiter;
        self.link.answer(worker, Answer::Recipient { key, finding, ttl });
    }

    /// Finds out about a recipient, and tells everyone who waits; those who have waited long enough before
    /// it is known.
    async fn find_out(&self, address: &str, for_stranger: bool) {
        let mut enough = self.outside.after(WAIT_MAX);
        let snapshot = self.link.commons().snapshot();
        // A reload may have taken the domain away since the question was put.
        let parsed = Address::parse(address).ok();
        let route = parsed.and_then(|parsed| Some((parsed, snapshot.call_ahead(parsed.domain())?)));
        let Some((parsed, route)) = route else { return self.found(address, RecipientFinding::Undecided) };
        let route = snapshot.next_hops(route);
        let turn = tokio::select! {
            biased;
            turn = self.turn(&route.key, for_stranger) => turn,
            () = &mut enough => {
                // It was not asked for: that says nothing to those who come later.
                let waiters = self.lock().desk.drop_question(address);
                return self.put_off(&waiters);
            }
        };
        let Some((_permits, discerns)) = turn else {
            return self.found(address, RecipientFinding::Undecided);
        };
        let mut call = pin!(async {
            tokio::select! {
                biased;
                heard = self.outside.call(route, parsed, discerns) => heard,
                // One that does not end its sentence cannot be spoken to either.
                () = self.outside.after(CALL_MAX) => None,
            }
        });
        let heard = tokio::select! {
            biased;
            heard = &mut call => heard,
            () = &mut enough => {
                let waiters = self.lock().desk.let_go(address);
                self.put_off(&waiters);
                call.await
            }
        };
        self.learn(&route.key, heard);
        let finding = match heard {
            Some(Heard::Known) => RecipientFinding::Good,
            Some(Heard::Unknown) => RecipientFinding::Unknown,
            Some(Heard::Nothing) | None => RecipientFinding::Undecided,
        };
        self.found(address, finding);
    }

    /// Nothing was found out, for now.
    fn put_off(&self, waiters: &[Waiter]) {
        for waiter in waiters {
            self.answer(*waiter, RecipientFinding::Undecided, Duration::ZERO);
        }
    }

    /// Remembers what was found, and tells everyone who waits.
    fn found(&self, address: &str, finding: RecipientFinding) {
        let (ttl, waiters) = self.lock().desk.found(address, finding, Instant::now());
        for waiter in waiters {
            self.answer(waiter, finding, ttl);
        }
    }

    /// The right to call a route's next hops, once it is there, and whether they are known to tell
    /// recipients apart; `None` while they are down.
    async fn turn(&self, key: &str, for_stranger: bool) -> Option<(Permits, bool)> {
        let (calls, strangers_calls) = self.calls(key)?;
        let among_strangers = match for_stranger {
            true => Some(strangers_calls.acquire_owned().await.ok()?),
            false => None,
        };
        let permit = calls.acquire_owned().await.ok()?;
        // Much may have been heard of them since.
        let now = Instant::now();
        let state = self.lock();
        let hop = state.hops.get(key)?;
        let discerns = hop.discerns_until.is_some_and(|until| now < until);
        (!hop.is_down(now)).then_some(((permit, among_strangers), discerns))
    }

    /// The rights to call a route's next hops; `None` while they are down.
    fn calls(&self, key: &str) -> Option<(Arc<Semaphore>, Arc<Semaphore>)> {
        let now = Instant::now();
        let mut state = self.lock();
        if state.hops.len() >= HOPS_MAX {
            state.hops.clear();
        }
        let hop = state.hops.entry(key.into()).or_insert_with(|| Hop {
            calls: Arc::new(Semaphore::new(CALLS_PER_HOP_MAX)),
            strangers_calls: Arc::new(Semaphore::new(STRANGERS_CALLS_PER_HOP_MAX)),
            down_until: None,
            discerns_until: None,
        });
        (!hop.is_down(now)).then(|| (hop.calls.clone(), hop.strangers_calls.clone()))
    }

    fn learn(&self, key: &str, heard: Option<Heard>) {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(hop) = state.hops.get_mut(key) else { return };
        hop.down_until = heard.is_none().then_some(now + UNDECIDED);
        if let Some(Heard::Known) = heard {
            hop.discerns_until = Some(now + KNOWN);
        }
    }
}

#[cfg(test)]
mod tests;
