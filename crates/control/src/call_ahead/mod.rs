//! Call-ahead: whether the next hop of a relay domain knows a recipient (relay-control.md B2).
//!
//! The next hop is asked with MAIL FROM:<> and RCPT, and is given no message. What it says is
//! remembered: a yes for an hour, a no for five minutes. A recipient is asked for once, however many
//! wait for the answer. A check that cannot be made (the next hop is down, defers, or refuses everybody)
//! finds nothing out, and so denies nobody.

mod dialog;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use commons::{Answer, ControlLink, RecipientFinding};
use mail::Address;
use policy::{NextHop, Route};
use tokio::sync::Semaphore;

use crate::dns::Dns;
use dialog::{Caller, Heard};

/// How long a recipient that the next hop knows is not asked for again.
const KNOWN: Duration = Duration::from_secs(3600);

/// How long one that it does not know is not: people who just made the mailbox do not wait longer.
const UNKNOWN: Duration = Duration::from_secs(300);

/// After a check that could not be made.
const UNDECIDED: Duration = Duration::from_secs(5);

/// A check takes no longer, its wait for others included: clients wait for minutes, but not for all of them.
const CHECK_MAX: Duration = Duration::from_secs(20);

/// Checks at one next hop at once.
const CHECKS_PER_HOP_MAX: usize = 4;

/// Recipients that are remembered: some 10 MiB.
const REMEMBERED_MAX: usize = 65_536;

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

/// A session that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) worker: u8,
    pub(crate) key: u32,
    pub(crate) generation: u32,
}

/// Whoever calls ahead; clones share what they remember.
#[derive(Clone)]
pub(crate) struct CallAhead(Arc<Shared>);

struct Shared {
    link: ControlLink,
    dns: Arc<Dns>,
    caller: Caller,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    remembered: HashMap<Box<str>, (RecipientFinding, Instant)>,
    waiting: HashMap<Box<str>, Vec<Waiter>>,
    hops: HashMap<Box<str>, Hop>,
}

/// What is known of the next hops of a route, together.
struct Hop {
    calls: Arc<Semaphore>,
    /// It could not be asked: nobody tries before.
    down_until: Option<Instant>,
    /// It has said yes to somebody: its no to another is to be taken at its word.
    discerns_until: Option<Instant>,
}

impl CallAhead {
    pub(crate) fn new(link: ControlLink, dns: Arc<Dns>, options: CallAheadOptions) -> Self {
        Self(Arc::new(Shared { link, dns, caller: Caller::new(options), state: Mutex::default() }))
    }

    /// Answers `waiter` about `address`, which is in lower case, now or later. To be called in the runtime.
    pub(crate) fn ask(&self, waiter: Waiter, address: Box<str>) {
        let now = Instant::now();
        let mut state = self.0.lock();
        if let Some(&(finding, until)) = state.remembered.get(&address)
            && now < until
        {
            return self.0.answer(waiter, finding, until - now);
        }
        match state.waiting.entry(address.clone()) {
            Entry::Occupied(mut others) => return others.get_mut().push(waiter),
            Entry::Vacant(place) => drop(place.insert(vec![waiter])),
        }
        drop(state);
        let shared = self.0.clone();
        tokio::spawn(async move {
            let check = tokio::time::timeout(CHECK_MAX, shared.check(&address));
            let finding = check.await.unwrap_or(RecipientFinding::Undecided);
            shared.found(address, finding);
        });
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done where the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, waiter: Waiter, finding: RecipientFinding, ttl: Duration) {
        let Waiter { worker, key, generation } = waiter;
        self.link.answer(worker, Answer::Recipient { key, generation, finding, ttl });
    }

    /// Remembers what was found, and tells everyone who waits.
    fn found(&self, address: Box<str>, finding: RecipientFinding) {
        let ttl = match finding {
            RecipientFinding::Good => KNOWN,
            RecipientFinding::Undecided => UNDECIDED,
            _ => UNKNOWN,
        };
        let now = Instant::now();
        let mut state = self.lock();
        if state.remembered.len() >= REMEMBERED_MAX {
            state.remembered.retain(|_, (_, until)| now < *until);
        }
        if state.remembered.len() >= REMEMBERED_MAX {
            state.remembered.clear();
        }
        let waiting = state.waiting.remove(&address).unwrap_or_default();
        state.remembered.insert(address, (finding, now + ttl));
        drop(state);
        for waiter in waiting {
            self.answer(waiter, finding, ttl);
        }
    }

    async fn check(&self, address: &str) -> RecipientFinding {
        let snapshot = self.link.commons().snapshot();
        let Ok(address) = Address::parse(address) else { return RecipientFinding::Undecided };
        // A reload may have taken the domain away since the question was put.
        let Some(route) = snapshot.call_ahead(address.domain()) else { return RecipientFinding::Undecided };
        let route = snapshot.next_hops(route);
        let Some((calls, discerns)) = self.hop(&route.key) else { return RecipientFinding::Undecided };
        let Ok(_permit) = calls.acquire().await else { return RecipientFinding::Undecided };
        let heard = self.call(route, address, discerns).await;
        self.learn(&route.key, heard);
        match heard {
            Some(Heard::Known) => RecipientFinding::Good,
            Some(Heard::Unknown) => RecipientFinding::Unknown,
            Some(Heard::Nothing) | None => RecipientFinding::Undecided,
        }
    }

    /// The right to call a route's next hops, and whether they are known to tell recipients apart;
    /// `None` while they are down.
    fn hop(&self, key: &str) -> Option<(Arc<Semaphore>, bool)> {
        let now = Instant::now();
        let mut state = self.lock();
        if state.hops.len() >= HOPS_MAX {
            state.hops.clear();
        }
        let hop = state.hops.entry(key.into()).or_insert_with(|| Hop {
            calls: Arc::new(Semaphore::new(CHECKS_PER_HOP_MAX)),
            down_until: None,
            discerns_until: None,
        });
        let is_down = hop.down_until.is_some_and(|until| now < until);
        (!is_down).then(|| (hop.calls.clone(), hop.discerns_until.is_some_and(|until| now < until)))
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

    /// Asks the next hops in their order; `None`: none of them could be spoken to.
    async fn call(&self, route: &Route, address: Address<'_>, discerns: bool) -> Option<Heard> {
        for next_hop in &route.next_hops {
            for to in self.addresses(next_hop).await {
                let heard = self.caller.call(to, &next_hop.host, route.tls, address, discerns).await;
                if heard.is_some() {
                    return heard;
                }
            }
        }
        None
    }

    async fn addresses(&self, next_hop: &NextHop) -> Vec<SocketAddr> {
        let (found, _) = self.dns.addresses(&next_hop.host).await;
        found.unwrap_or_default().into_iter().map(|ip| SocketAddr::new(ip, next_hop.port)).collect()
    }
}
