use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

use mail::{Ticket, UnixMillis};
use policy::Decision;

use crate::machine;

/// Separate tickets that one address gets from one worker in a second, for one reason: a person's
/// client never asks for so many, and what is sent faster is denied for the same cause.
const TICKETS_PER_SECOND_MAX: u32 = 10;

/// Addresses that are remembered, each in the one place that its hash names: 128 KiB a worker. Two
/// that meet in a place take turns, and get a few tickets more.
const PLACES: usize = 2048;

/// Which tickets were given lately, and to whom, so that a storm of denials does not become a storm of records.
pub(crate) struct Recent {
    places: Box<[Cell<Place>]>,
    /// Some place has a ticket that was given again, which its record does not know of yet.
    owes: Cell<bool>,
    /// Keeps strangers from choosing addresses that meet.
    seed: u64,
}

#[derive(Clone, Copy)]
struct Place {
    key: u64,
    client: IpAddr,
    second: u64,
    count: u32,
    ticket: Ticket,
    /// How often the ticket was given again.
    repeated: u32,
}

/// A ticket that was given again, to whom and how often.
pub(crate) type Repeated = (IpAddr, Ticket, u32);

impl Recent {
    pub(crate) fn new(seed: u64) -> Self {
        let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let ticket = Ticket::from_random(0);
        let empty = Place { key: 0, client: unspecified, second: 0, count: 0, ticket, repeated: 0 };
        let places = (0..PLACES).map(|_| Cell::new(empty)).collect();
        Self { places, owes: Cell::new(false), seed }
    }

    /// The ticket to give again, where `client` has had enough new ones in this second. It is counted.
    pub(crate) fn repeated(&self, client: IpAddr, decision: &Decision, now: UnixMillis) -> Option<Ticket> {
        let key = self.key(client, decision);
        let mut place = self.place(key).get();
        let is_enough =
            place.key == key && place.second == second(now) && place.count >= TICKETS_PER_SECOND_MAX;
        is_enough.then(|| {
            place.repeated += 1;
            self.place(key).set(place);
            self.owes.set(true);
            place.ticket
        })
    }

    /// `client` was given `ticket`, which can be looked up. Says what is to be told of the ticket that it displaces.
    pub(crate) fn remember(
        &self,
        client: IpAddr,
        decision: &Decision,
        now: UnixMillis,
        ticket: Ticket,
    ) -> Option<Repeated> {
        let (key, second) = (self.key(client, decision), second(now));
        let place = self.place(key);
        let before = place.get();
        let count = if before.key == key && before.second == second { before.count + 1 } else { 1 };
        place.set(Place { key, client, second, count, ticket, repeated: 0 });
        (before.repeated > 0).then_some((before.client, before.ticket, before.repeated))
    }

    /// A ticket was given again, and no record says so yet.
    pub(crate) fn owes(&self) -> bool {
        self.owes.get()
    }

    /// What is to be told of tickets whose second is over.
    pub(crate) fn take_repeated(&self, now: UnixMillis, mut tell: impl FnMut(Repeated)) {
        self.owes.set(false);
        for cell in &self.places {
            let place = cell.get();
            if place.repeated > 0 && place.second == second(now) {
                self.owes.set(true);
            } else if place.repeated > 0 {
                cell.set(Place { repeated: 0, ..place });
                tell((place.client, place.ticket, place.repeated));
            }
        }
    }

    fn place(&self, key: u64) -> &Cell<Place> {
        &self.places[key as usize % PLACES]
    }

    fn key(&self, client: IpAddr, decision: &Decision) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, machine(client), decision.verdict.reason(), decision.rule, decision.tenant)
            .hash(&mut hasher);
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
    fn a_ticket_that_was_given_again_is_told_of_once_with_how_often() {
        let recent = Recent::new(7);
        let denied = Decision::refusal_for(Reason::RelayNotPermitted, None);
        let client = "198.51.100.7".parse().unwrap();
        let ticket = Ticket::from_random(9);
        let give = |at: u64| {
            for _ in 0..TICKETS_PER_SECOND_MAX {
                assert_eq!(recent.repeated(client, &denied, UnixMillis(at)), None);
                recent.remember(client, &denied, UnixMillis(at), ticket);
            }
            for _ in 0..700 {
                assert_eq!(recent.repeated(client, &denied, UnixMillis(at)), Some(ticket));
            }
        };
        let told = |at: u64| {
            let mut told = Vec::new();
            recent.take_repeated(UnixMillis(at), |repeated| told.push(repeated));
            told
        };
        give(0);
        assert_eq!((told(999), recent.owes()), (vec![], true), "its second is not over");
        assert_eq!((told(1000), recent.owes()), (vec![(client, ticket, 700)], false));
        give(2000);
        let displaced = recent.remember(client, &denied, UnixMillis(3000), Ticket::from_random(10));
        assert_eq!(displaced, Some((client, ticket, 700)));
        assert_eq!(told(9000), []);
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
