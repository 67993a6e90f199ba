//! Who may send nothing for now, whatever the configuration says.
//!
//! Kept by name, so that it outlives a reload, and read by every worker at each command without a
//! lock: one relaxed load while none is suspended. A suspension acts on the next command of
//! every session. Bounded by [`SUSPENSIONS_MAX`]; what comes past it is refused to the asker.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use mail::{SuspensionCause, UnixMillis};

/// Suspensions in force at once: some 20 MiB, and more than a person could look through.
pub const SUSPENSIONS_MAX: usize = 65_536;

/// Logins are no longer, as the configuration holds them.
const LOGIN_BYTES_MAX: usize = mail::limits::DOMAIN_BYTES_MAX;

/// A change copies one shard: 4096 entries at the most that there are.
const SHARDS: usize = 16;

/// Who is suspended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A tenant, by name: all that it sends, and all that is sent to its relay domains.
    Tenant(Box<str>),
    /// A login, in whatever case it is written.
    Login(Box<str>),
    /// A client address, for what it sends without a login.
    Client {
        /// The tenant in whose name it sends; `None`: a stranger's address.
        tenant: Option<Box<str>>,
        /// The address; IPv4 mapped into IPv6 counts as IPv4.
        ip: IpAddr,
    },
}

/// A suspension in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// Why.
    pub cause: SuspensionCause,
    /// Since when.
    pub since: UnixMillis,
    /// When it ends by itself; `None`: when it is lifted.
    pub until: Option<UnixMillis>,
}

impl Suspension {
    fn holds(&self, now: UnixMillis) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// There are [`SUSPENSIONS_MAX`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManySuspensions;

impl std::fmt::Display for TooManySuspensions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SUSPENSIONS_MAX} suspensions are in force already: lift some")
    }
}

impl std::error::Error for TooManySuspensions {}

/// All suspensions.
#[derive(Debug, Default)]
pub struct Suspensions {
    /// Entries, those that have ended and were not swept yet included.
    count: AtomicUsize,
    /// Grows with every change, for a copy on disk.
    changes: AtomicUsize,
    tenants: Shards<Box<str>>,
    logins: Shards<Box<str>>,
    clients: Shards<Client>,
}

impl Suspensions {
    /// No sender is suspended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// How often this was changed; for the keeper of a copy.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.changes.load(Ordering::Acquire)
    }

    /// The suspension of a tenant.
    #[must_use]
    pub fn tenant(&self, name: &str, now: UnixMillis) -> Option<Suspension> {
        if self.is_empty() {
            return None;
        }
        self.tenants.get(name, now)
    }

    /// The suspension of a login.
    #[must_use]
    pub fn login(&self, login: &str, now: UnixMillis) -> Option<Suspension> {
        if self.is_empty() {
            return None;
        }
        let mut buffer = [0; LOGIN_BYTES_MAX];
        let lower = buffer.get_mut(..login.len())?;
        lower.copy_from_slice(login.as_bytes());
        lower.make_ascii_lowercase();
        self.logins.get(std::str::from_utf8(lower).ok()?, now)
    }

    /// The suspension of a client address that sends in the name of `tenant`, or of none.
    #[must_use]
    pub fn client(&self, ip: IpAddr, tenant: Option<&str>, now: UnixMillis) -> Option<Suspension> {
        if self.is_empty() {
            return None;
        }
        self.clients.get::<dyn Parts>(&(ip.to_canonical(), tenant), now)
    }

    /// Suspends `subject`; one that is suspended already keeps its beginning and gets the new cause and end.
    ///
    /// # Errors
    /// When too many are.
    pub fn suspend(&self, subject: &Subject, suspension: Suspension) -> Result<(), TooManySuspensions> {
        if self.count.load(Ordering::Relaxed) >= SUSPENSIONS_MAX {
            self.sweep(suspension.since);
            if self.count.load(Ordering::Relaxed) >= SUSPENSIONS_MAX {
                return Err(TooManySuspensions);
            }
        }
        let put = |held: &mut Option<Suspension>| {
            let since =
                held.filter(|held| held.holds(suspension.since)).map_or(suspension.since, |held| held.since);
            *held = Some(Suspension { since, ..suspension });
        };
        self.edit(subject, put);
        Ok(())
    }

    /// Ends the suspension of `subject`; false when there was none.
    pub fn lift(&self, subject: &Subject) -> bool {
        self.edit(subject, |held| *held = None)
    }

    /// Everything in force at `now`, sorted by subject.
    #[must_use]
    pub fn list(&self, now: UnixMillis) -> Vec<(Subject, Suspension)> {
        let tenants = self.tenants.list().map(|(name, suspension)| (Subject::Tenant(name), suspension));
        let logins = self.logins.list().map(|(login, suspension)| (Subject::Login(login), suspension));
        let clients = self
            .clients
            .list()
            .map(|(Client(ip, tenant), suspension)| (Subject::Client { tenant, ip }, suspension));
        let mut all: Vec<_> =
            tenants.chain(logins).chain(clients).filter(|(_, suspension)| suspension.holds(now)).collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }

    /// Forgets what has ended.
    pub fn sweep(&self, now: UnixMillis) {
        let gone = self.tenants.sweep(now) + self.logins.sweep(now) + self.clients.sweep(now);
        self.count.fetch_sub(gone, Ordering::AcqRel);
    }

    /// Changes one entry; whether it was there.
    fn edit(&self, subject: &Subject, change: impl Fn(&mut Option<Suspension>)) -> bool {
        let (was, is) = match subject {
            Subject::Tenant(name) => self.tenants.edit(name.clone(), change),
            Subject::Login(login) => self.logins.edit(login.to_ascii_lowercase().into(), change),
            Subject::Client { tenant, ip } => {
                self.clients.edit(Client(ip.to_canonical(), tenant.clone()), change)
            }
        };
        match (was, is) {
            (false, true) => {
                self.count.fetch_add(1, Ordering::AcqRel);
            }
            (true, false) => {
                self.count.fetch_sub(1, Ordering::AcqRel);
            }
            _ => {}
        }
        self.changes.fetch_add(1, Ordering::AcqRel);
        was
    }
}

/// A client address, of a tenant or of none. It is looked for by its parts, so that no caller
/// allocates a key to look.
#[derive(Clone, Debug)]
struct Client(IpAddr, Option<Box<str>>);

trait Parts {
    fn parts(&self) -> (IpAddr, Option<&str>);
}

impl Parts for Client {
    fn parts(&self) -> (IpAddr, Option<&str>) {
        (self.0, self.1.as_deref())
    }
}

impl Parts for (IpAddr, Option<&str>) {
    fn parts(&self) -> (IpAddr, Option<&str>) {
        *self
    }
}

impl Hash for dyn Parts + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for dyn Parts + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Parts + '_ {}

impl Hash for Client {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Client {}

impl<'a> Borrow<dyn Parts + 'a> for Client {
    fn borrow(&self) -> &(dyn Parts + 'a) {
        self
    }
}

/// A map in parts that are copied when they change.
#[derive(Debug)]
struct Shards<K>([ArcSwap<HashMap<K, Suspension>>; SHARDS]);

impl<K> Default for Shards<K> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| ArcSwap::default()))
    }
}

impl<K: Hash + Eq + Clone> Shards<K> {
    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> &ArcSwap<HashMap<K, Suspension>> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        &self.0[hasher.finish() as usize % SHARDS]
    }

    fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q, now: UnixMillis) -> Option<Suspension>
    where
        K: Borrow<Q>,
    {
        let shard = self.shard(key).load();
        shard.get(key).filter(|suspension| suspension.holds(now)).copied()
    }

    /// Whether the entry was there, and whether it is now.
    fn edit(&self, key: K, change: impl Fn(&mut Option<Suspension>)) -> (bool, bool) {
        let mut outcome = (false, false);
        self.shard(&key).rcu(|map| {
            let mut held = map.get(&key).copied();
            let was = held.is_some();
            change(&mut held);
            outcome = (was, held.is_some());
            if !was && held.is_none() {
                return Arc::clone(map);
            }
            let mut changed = HashMap::clone(map);
            match held {
                Some(suspension) => changed.insert(key.clone(), suspension),
                None => changed.remove(&key),
            };
            Arc::new(changed)
        });
        outcome
    }

    fn list(&self) -> impl Iterator<Item = (K, Suspension)> {
        self.0.iter().flat_map(|shard| {
            let entries: Vec<_> =
                shard.load().iter().map(|(key, suspension)| (key.clone(), *suspension)).collect();
            entries
        })
    }

    /// Forgets what has ended; how many.
    fn sweep(&self, now: UnixMillis) -> usize {
        let mut gone = 0;
        for shard in &self.0 {
            let mut ended = 0;
            shard.rcu(|map| {
                ended = map.values().filter(|suspension| !suspension.holds(now)).count();
                if ended == 0 {
                    return Arc::clone(map);
                }
                let mut kept = HashMap::clone(map);
                kept.retain(|_, suspension| suspension.holds(now));
                Arc::new(kept)
            });
            gone += ended;
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_390_496_000);

    fn until(millis: Option<u64>) -> Suspension {
        Suspension {
            cause: SuspensionCause::Operator,
            since: NOW,
            until: millis.map(|millis| NOW.plus(millis)),
        }
    }

    #[test]
    fn a_suspension_holds_until_it_ends_or_is_lifted() {
        let suspensions = Suspensions::default();
        let terri = Subject::Login("Terri@Proseware.example".into());
        assert!(suspensions.is_empty());
        suspensions.suspend(&terri, until(Some(1000))).unwrap();
        assert!(suspensions.login("terri@proseware.EXAMPLE", NOW.plus(999)).is_some());
        assert!(suspensions.login("terri@proseware.example", NOW.plus(1000)).is_none());
        assert!(suspensions.tenant("proseware", NOW).is_none());
        suspensions.suspend(&terri, until(None)).unwrap();
        assert!(suspensions.login("terri@proseware.example", NOW.plus(1 << 40)).is_some());
        assert!(suspensions.lift(&terri));
        assert!(!suspensions.lift(&terri));
        assert!(suspensions.is_empty());
    }

    #[test]
    fn an_address_is_suspended_for_one_tenant_only() {
        let suspensions = Suspensions::default();
        let ip: IpAddr = "198.51.100.7".parse().unwrap();
        let subject = Subject::Client { tenant: Some("proseware".into()), ip };
        suspensions.suspend(&subject, until(None)).unwrap();
        assert!(suspensions.client("::ffff:198.51.100.7".parse().unwrap(), Some("proseware"), NOW).is_some());
        assert!(suspensions.client(ip, Some("adatum"), NOW).is_none());
        assert!(suspensions.client(ip, None, NOW).is_none());
        suspensions.suspend(&Subject::Client { tenant: None, ip }, until(None)).unwrap();
        assert!(suspensions.client(ip, None, NOW).is_some());
        assert_eq!(suspensions.list(NOW).len(), 2);
    }

    #[test]
    fn what_has_ended_is_not_listed_and_makes_room() {
        let suspensions = Suspensions::default();
        for number in 0..100_u32 {
            suspensions.suspend(&Subject::Tenant(number.to_string().into()), until(Some(10))).unwrap();
        }
        suspensions.suspend(&Subject::Tenant("stays".into()), until(None)).unwrap();
        assert_eq!(suspensions.list(NOW).len(), 101);
        let later = NOW.plus(10);
        assert_eq!(suspensions.list(later), [(Subject::Tenant("stays".into()), until(None))]);
        suspensions.sweep(later);
        assert_eq!(suspensions.count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn threads_lose_no_suspension() {
        let suspensions = Suspensions::default();
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let suspensions = &suspensions;
                scope.spawn(move || {
                    for number in 0..100 {
                        let subject = Subject::Login(format!("{thread}-{number}").into());
                        suspensions.suspend(&subject, until(None)).unwrap();
                    }
                });
            }
        });
        assert_eq!(suspensions.list(NOW).len(), 400);
        assert_eq!(suspensions.count.load(Ordering::Relaxed), 400);
    }
}
