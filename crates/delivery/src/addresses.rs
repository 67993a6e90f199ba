//! Addresses of next hops: a worker's own cache over the answers of the control plane's resolver.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use commons::ResolveFailure;
use ring::{Handle, Instant};
use slab::Slab;

/// How long a failed look-up stands, so that a broken resolver is not asked for every connection.
const FAILURE_TTL: Duration = Duration::from_secs(5);

/// An answer stands this long at most, whatever its TTL.
const TTL_MAX: Duration = Duration::from_secs(3600);

/// How long an answer is waited for before the question is asked again.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);

/// What is known of a host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup<'a> {
    /// Its addresses, at least one.
    Known(&'a [IpAddr]),
    /// It has none, or could not be looked up.
    Failed(&'static str),
    /// The question `key` is on its way.
    Asked(u32),
    /// Nothing; ask question `key`, then tell [`Addresses::asked`].
    Unknown(u32),
}

/// Hosts that are remembered: those of a busy hour's domains; some 200 bytes each.
const HOSTS_MAX: usize = 4096;

#[derive(Debug)]
struct Host {
    name: Box<str>,
    addresses: Vec<IpAddr>,
    failure: &'static str,
    until: Instant,
    asked_until: Instant,
    /// Questions without an answer yet: until the last has come, this entry's key stays its own.
    unanswered: u32,
    /// Connections that wait for an answer.
    waiting: Vec<Handle>,
}

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    keys: HashMap<Box<str>, u32>,
    hosts: Slab<Host>,
    /// Where the search for a host to forget goes on.
    hand: usize,
}

impl Addresses {
    /// What is known of `host` at `now`.
    pub(crate) fn look_up(&mut self, host: &str, now: Instant) -> Lookup<'_> {
        let key = match self.keys.get(host) {
            Some(&key) => key,
            None => self.add(host),
        };
        let known = &self.hosts[key as usize];
        if now < known.asked_until {
            Lookup::Asked(key)
        } else if now >= known.until {
            Lookup::Unknown(key)
        } else if known.addresses.is_empty() {
            Lookup::Failed(known.failure)
        } else {
            Lookup::Known(&known.addresses)
        }
    }

    /// The question was put.
    pub(crate) fn asked(&mut self, key: u32, now: Instant) {
        let host = &mut self.hosts[key as usize];
        host.asked_until = now.after(QUESTION_TIMEOUT);
        host.unanswered += 1;
    }

    /// A connection waits for the answer to question `key`.
    pub(crate) fn wait(&mut self, key: u32, connection: Handle) {
        self.hosts[key as usize].waiting.push(connection);
    }

    /// The answer to question `key`: addresses for `ttl`, or why there are none. Gives the connections that waited
    /// for it, of which some may be gone.
    pub(crate) fn answered(
        &mut self,
        key: u32,
        result: Result<Vec<IpAddr>, ResolveFailure>,
        ttl: Duration,
        now: Instant,
    ) -> Vec<Handle> {
        let Some(host) = self.hosts.get_mut(key as usize) else { return Vec::new() };
        host.asked_until = Instant::default();
        host.unanswered = host.unanswered.saturating_sub(1);
        match result {
            Ok(addresses) if !addresses.is_empty() => {
                host.addresses = addresses;
                // A TTL of nothing still serves the connection that asked.
                host.until = now.after(ttl.clamp(Duration::from_secs(1), TTL_MAX));
            }
            other => {
                host.addresses.clear();
                host.failure = match other {
                    Ok(_) | Err(ResolveFailure::Missing) => "it has none",
                    Err(ResolveFailure::Temporary) => "no server could say",
                };
                host.until = now.after(FAILURE_TTL);
            }
        }
        std::mem::take(&mut host.waiting)
    }

    fn add(&mut self, host: &str) -> u32 {
        if self.hosts.len() >= HOSTS_MAX {
            self.forget_one();
        }
        // An address needs no resolver, ever.
        let literal: Option<IpAddr> = host.parse().ok();
        let until = if literal.is_some() { Instant(u64::MAX) } else { Instant::default() };
        let key = self.hosts.insert(Host {
            name: host.into(),
            addresses: literal.into_iter().collect(),
            failure: "",
            until,
            asked_until: Instant::default(),
            unanswered: 0,
            waiting: Vec::new(),
        });
        let key = u32::try_from(key).expect("fewer hosts than 2^32");
        self.keys.insert(host.into(), key);
        key
    }

    /// Makes room: in turn, whichever host has no question under way. Each costs one question more.
    fn forget_one(&mut self) {
        for _ in 0..self.hosts.len() {
            self.hand = if self.hand + 1 < self.hosts.len() { self.hand + 1 } else { 0 };
            if self.hosts.get(self.hand).is_some_and(|host| host.unanswered == 0) {
                let host = self.hosts.remove(self.hand);
                self.keys.remove(&host.name);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(1_000_000_000);

    #[test]
    fn an_address_needs_no_resolver() {
        let mut addresses = Addresses::default();
        assert_eq!(addresses.look_up("192.0.2.1", NOW), Lookup::Known(&["192.0.2.1".parse().unwrap()]));
    }

    #[test]
    fn an_answer_stands_for_its_ttl_and_a_question_is_put_once() {
        let mut addresses = Addresses::default();
        assert_eq!(addresses.look_up("mx.example", NOW), Lookup::Unknown(0));
        addresses.asked(0, NOW);
        assert_eq!(addresses.look_up("mx.example", NOW), Lookup::Asked(0));
        let ip: IpAddr = "192.0.2.7".parse().unwrap();
        addresses.answered(0, Ok(vec![ip]), Duration::from_secs(60), NOW);
        let later = NOW.after(Duration::from_secs(59));
        assert_eq!(addresses.look_up("mx.example", later), Lookup::Known(&[ip]));
        let later = NOW.after(Duration::from_secs(61));
        assert_eq!(addresses.look_up("mx.example", later), Lookup::Unknown(0));
    }

    #[test]
    fn a_failure_stands_for_a_moment() {
        let mut addresses = Addresses::default();
        addresses.look_up("mx.example", NOW);
        addresses.answered(0, Err(ResolveFailure::Missing), Duration::ZERO, NOW);
        assert_eq!(addresses.look_up("mx.example", NOW), Lookup::Failed("it has none"));
        assert_eq!(addresses.look_up("mx.example", NOW.after(FAILURE_TTL)), Lookup::Unknown(0));
    }

    #[test]
    fn a_host_is_forgotten_for_another_but_never_while_it_is_being_asked_for() {
        let mut addresses = Addresses::default();
        assert_eq!(addresses.look_up("asked.example", NOW), Lookup::Unknown(0));
        addresses.asked(0, NOW);
        for number in 0..3 * HOSTS_MAX {
            addresses.look_up(&format!("{number}.example"), NOW);
        }
        assert!(addresses.hosts.len() <= HOSTS_MAX && addresses.keys.len() <= HOSTS_MAX);
        assert_eq!(addresses.look_up("asked.example", NOW), Lookup::Asked(0));
        let ip: IpAddr = "192.0.2.7".parse().unwrap();
        addresses.answered(0, Ok(vec![ip]), Duration::from_secs(60), NOW);
        assert_eq!(addresses.look_up("asked.example", NOW), Lookup::Known(&[ip]));
    }

    #[test]
    fn an_unanswered_question_is_put_again() {
        let mut addresses = Addresses::default();
        addresses.look_up("mx.example", NOW);
        addresses.asked(0, NOW);
        assert_eq!(addresses.look_up("mx.example", NOW.after(QUESTION_TIMEOUT)), Lookup::Unknown(0));
    }
}
