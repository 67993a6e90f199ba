use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};

use mail::{Ticket, UnixMillis};
use policy::Decision;

/// Tickets of their own that one address gets from one worker in a second, for one reason: a person's
/// client never asks for so many, and what is sent faster is denied for the same cause.
const TICKETS_PER_SECOND_MAX: u32 = 10;

/// Addresses that are remembered, each in the one place that its hash names: 96 KiB a worker. Two
/// that meet in a place take turns, and get a few tickets more.
const PLACES: usize = 2048;

/// Which tickets were given lately, and to whom, so that a storm of denials does not become a storm of records.
pub(crate) struct Recent {
    places: Box<[Cell<Place>]>,
    /// Keeps strangers from choosing addresses that meet.
    seed: u64,
}

#[derive(Clone, Copy)]
struct Place {
    key: u64,
    second: u64,
    count: u32,
    ticket: Ticket,
}

impl Recent {
    pub(crate) fn new(seed: u64) -> Self {
        let empty = Place { key: 0, second: 0, count: 0, ticket: Ticket::from_random(0) };
        Self { places: (0..PLACES).map(|_| Cell::new(empty)).collect(), seed }
    }

    /// The ticket to give again, where `client` has had enough of its own in this second.
    pub(crate) fn repeated(&self, client: IpAddr, decision: &Decision, now: UnixMillis) -> Option<Ticket> {
        let key = self.key(client, decision);
        let place = self.place(key).get();
        let is_enough =
            place.key == key && place.second == second(now) && place.count >= TICKETS_PER_SECOND_MAX;
        is_enough.then_some(place.ticket)
    }

    /// `client` was given `ticket`, which can be looked up.
    pub(crate) fn remember(&self, client: IpAddr, decision: &Decision, now: UnixMillis, ticket: Ticket) {
        let (key, second) = (self.key(client, decision), second(now));
        let place = self.place(key);
        let before = place.get();
        let count = if before.key == key && before.second == second { before.count + 1 } else { 1 };
        place.set(Place { key, second, count, ticket });
    }

    fn place(&self, key: u64) -> &Cell<Place> {
        &self.places[key as usize % PLACES]
    }

    fn key(&self, client: IpAddr, decision: &Decision) -> u64 {
        let client = match client.to_canonical() {
            // Whoever has one address of an IPv6 network has all of its last 64 bits.
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            v4 => v4,
        };
        let mut hasher = DefaultHasher::new();
        (self.seed, client, decision.verdict.reason(), decision.rule, decision.tenant).hash(&mut hasher);
        hasher.finish()
    }
}

fn second(now: UnixMillis) -> u64 {
    now.0 / 1000
}

#[cfg(test)]
mod tests {
    use mail::Reason;

    use super::*;

    #[test]
    fn an_address_gets_its_latest_ticket_again_until_the_second_is_over() {
        let recent = Recent::new(7);
        let denied = Decision::refusal_for(Reason::RelayNotPermitted, None);
        let [one, other] = ["198.51.100.7", "198.51.100.8"].map(|text| text.parse().unwrap());
        for number in 0..TICKETS_PER_SECOND_MAX {
            assert_eq!(recent.repeated(one, &denied, UnixMillis(5000)), None);
            recent.remember(one, &denied, UnixMillis(5000), Ticket::from_random(number.into()));
        }
        let latest = Ticket::from_random((TICKETS_PER_SECOND_MAX - 1).into());
        assert_eq!(recent.repeated(one, &denied, UnixMillis(5999)), Some(latest));
        assert_eq!(recent.repeated(other, &denied, UnixMillis(5999)), None);
        let unlike = Decision::refusal_for(Reason::RoutingSyntax, None);
        assert_eq!(recent.repeated(one, &unlike, UnixMillis(5999)), None);
        assert_eq!(recent.repeated(one, &denied, UnixMillis(6000)), None);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let recent = Recent::new(7);
        let denied = Decision::refusal_for(Reason::RelayNotPermitted, None);
        for number in 0..TICKETS_PER_SECOND_MAX {
            let client = format!("2001:db8::{number:x}").parse().unwrap();
            recent.remember(client, &denied, UnixMillis(0), Ticket::from_random(1));
        }
        assert!(recent.repeated("2001:db8::ffff".parse().unwrap(), &denied, UnixMillis(0)).is_some());
        assert!(recent.repeated("2001:db8:0:1::1".parse().unwrap(), &denied, UnixMillis(0)).is_none());
    }
}
