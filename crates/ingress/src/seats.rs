//! Who sits in the places of this worker, in rows by who they are: in front of each the client that has carried no mail
//! for longest.
//!
//! A newcomer who finds all places taken has that one's, if nothing is taken from a client that holds no more
//! than its share: strangers give way to tenants' networks, and among strangers those from addresses that hold
//! more give way to those that hold less. So a client that comes for the first time is always let in, and a crowd that
//! holds all it can gains nothing by coming again. When places are short, a client that does nothing is not waited for
//! as long. Everything here costs the same however many sit: no walk over the rows.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use commons::{Charged, Holder, Key, NoPlace, Place, Places};
use ring::{Handle, Instant, Ring};

use crate::Context;
use crate::shed::Shed;

/// How long a client that does nothing is waited for when places are short for its kind: of strangers as Postfix does
/// under stress, of others longer.
const PATIENCE_SHORT: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(60)];
/// Seats of a row that are looked at for one that gives way.
const LOOKED_AT_MAX: usize = 16;
/// Whose place goes to an equal holds so many more connections than the newcomer's address does: with one more
/// only, the two would take it from each other for ever.
const UNFAIR_MIN: u64 = 2;
/// Tries for a place that another worker may take in between.
const TRIES_MAX: usize = 3;
/// No seat: the end of a row.
const NONE: u32 = u32::MAX;

/// The places of one worker's connections, by the connections' keys.
pub(crate) struct Seats {
    places: Arc<Places>,
    seats: Vec<Seat>,
    rows: [Row; 3],
    taken: usize,
    /// Those whose place is another's now and who have not been told.
    displaced: Vec<Handle>,
    /// What is told of those who found none.
    pub(crate) shed: Shed,
}

struct Seat {
    /// Whose it is, or was last.
    key: Handle,
    place: Option<Place>,
    /// When it began, or has carried mail last.
    since: Instant,
    /// It waits for us, not we for it.
    is_busy: bool,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy)]
struct Row {
    first: u32,
    last: u32,
}

/// Who asks for a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest {
    pub(crate) holder: Holder,
    /// The key of its address.
    pub(crate) address: Key,
    /// Places that the address may hold.
    pub(crate) address_max: u32,
}

impl Seats {
    pub(crate) fn new(places: Arc<Places>) -> Self {
        Self {
            places,
            seats: Vec::new(),
            rows: [Row { first: NONE, last: NONE }; 3],
            taken: 0,
            displaced: Vec::new(),
            shed: Shed::default(),
        }
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// How many sit.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Seats connection `key`, which gives up what it had, for what its client is now; where all places are taken,
    /// perhaps in another's.
    pub(crate) fn take(&mut self, key: Handle, guest: Guest, now: Instant) -> Result<(), NoPlace> {
        self.leave(key);
        for _ in 0..TRIES_MAX {
            match self.places.take(guest.holder, guest.address, guest.address_max) {
                Ok(place) => {
                    self.sit(key, place, now);
                    return Ok(());
                }
                Err(NoPlace::Full(_)) if self.make_room(guest, now) => {}
                Err(refused) => return Err(refused),
            }
        }
        Err(NoPlace::Full(guest.holder))
    }

    /// Connection `key` has its place no longer.
    pub(crate) fn leave(&mut self, key: Handle) {
        if self.has(key) {
            self.unlink(key.index());
            self.seats[key.index() as usize].place = None;
            self.taken -= 1;
        }
    }

    /// Whether connection `key` has a place.
    pub(crate) fn has(&self, key: Handle) -> bool {
        self.seat(key).is_some_and(|seat| seat.place.is_some())
    }

    fn seat(&self, key: Handle) -> Option<&Seat> {
        self.seats.get(key.index() as usize).filter(|seat| seat.key == key)
    }

    /// As whom connection `key` has its place.
    pub(crate) fn holder(&self, key: Handle) -> Option<Holder> {
        self.seat(key)?.place.as_ref().map(Place::holder)
    }

    /// The client of connection `key` has logged in.
    pub(crate) fn log_in(&mut self, key: Handle, now: Instant) {
        if self.has(key) {
            let index = key.index();
            self.unlink(index);
            self.seats[index as usize].place.as_mut().expect("it has one").log_in();
            self.link_last(index, now);
        }
    }

    /// Connection `key` has carried mail: it goes to the end of its row.
    pub(crate) fn carried(&mut self, key: Handle, now: Instant) {
        if self.has(key) {
            self.unlink(key.index());
            self.link_last(key.index(), now);
        }
    }

    /// Whether connection `key` waits for us.
    pub(crate) fn set_busy(&mut self, key: Handle, is_busy: bool) {
        let seat = self.seats.get_mut(key.index() as usize).filter(|seat| seat.key == key);
        let Some(seat) = seat else { return };
        seat.is_busy = is_busy;
    }

    /// Tells of those who found no place, where that is due.
    pub(crate) fn report<R: Ring>(&mut self, cx: &mut Context<'_, R>) {
        self.shed.report(cx, &self.places);
    }

    /// Whether places are short for anyone.
    pub(crate) fn are_short(&self) -> bool {
        self.places.is_short(Holder::Stranger)
    }

    /// A client whose place is another's now.
    pub(crate) fn next_displaced(&mut self) -> Option<Handle> {
        self.displaced.pop()
    }

    /// Where places are short, a client that has done nothing for too long; its place is free now.
    pub(crate) fn next_overdue(&mut self, now: Instant) -> Option<Handle> {
        for holder in Holder::ALL {
            if !self.places.is_short(holder) {
                continue;
            }
            let patience = PATIENCE_SHORT[holder as usize];
            let is_overdue = |seat: &Seat| seat.since.after(patience) <= now;
            if let Some(key) = self.first(holder, now, is_overdue) {
                self.leave(key);
                return Some(key);
            }
        }
        None
    }

    /// Frees a place for a newcomer; false where no client gives way.
    fn make_room(&mut self, newcomer: Guest, now: Instant) -> bool {
        let own = self.places.held_by(newcomer.address);
        for holder in Holder::ALL.into_iter().filter(|&holder| holder <= newcomer.holder) {
            let gives_way = |seat: &Seat| {
                let is_of_less = holder < newcomer.holder;
                // Between strangers who hold nothing else, the newcomer goes first: the others have had a turn.
                let comes_first = holder == Holder::Stranger && own == 0;
                let held = seat.place.as_ref().map_or(0, Place::held_by_address);
                is_of_less || comes_first || held >= own + UNFAIR_MIN
            };
            if let Some(key) = self.first(holder, now, gives_way) {
                self.leave(key);
                self.displaced.push(key);
                return true;
            }
        }
        false
    }

    /// The first few of a row are looked at for one of whom this is true. A client that waits for us is in no client's
    /// way, and goes to the end.
    fn first(&mut self, holder: Holder, now: Instant, is_meant: impl Fn(&Seat) -> bool) -> Option<Handle> {
        let mut index = self.rows[holder as usize].first;
        for _ in 0..LOOKED_AT_MAX {
            let seat = self.seats.get(index as usize)?;
            let (key, next) = (seat.key, seat.next);
            if seat.is_busy {
                self.carried(key, now);
            } else if is_meant(seat) {
                return Some(key);
            }
            index = next;
        }
        None
    }

    fn sit(&mut self, key: Handle, place: Place, now: Instant) {
        let index = key.index();
        while self.seats.len() <= index as usize {
            self.seats.push(Seat {
                key,
                place: None,
                since: now,
                is_busy: false,
                previous: NONE,
                next: NONE,
            });
        }
        let seat = &mut self.seats[index as usize];
        seat.key = key;
        seat.place = Some(place);
        seat.is_busy = false;
        self.taken += 1;
        self.link_last(index, now);
    }

    fn link_last(&mut self, index: u32, now: Instant) {
        let row = self.row_of(index);
        let last = std::mem::replace(&mut self.rows[row].last, index);
        let seat = &mut self.seats[index as usize];
        (seat.since, seat.previous, seat.next) = (now, last, NONE);
        match last {
            NONE => self.rows[row].first = index,
            last => self.seats[last as usize].next = index,
        }
    }

    fn unlink(&mut self, index: u32) {
        let row = self.row_of(index);
        let Seat { previous, next, .. } = self.seats[index as usize];
        match previous {
            NONE => self.rows[row].first = next,
            previous => self.seats[previous as usize].next = next,
        }
        match next {
            NONE => self.rows[row].last = previous,
            next => self.seats[next as usize].previous = previous,
        }
    }

    fn row_of(&self, index: u32) -> usize {
        let place = self.seats[index as usize].place.as_ref();
        place.expect("who is in a row has a place").holder() as usize
    }
}

/// The key by which connections of `address`, one machine's, are counted.
pub(crate) fn address_key(address: IpAddr) -> Key {
    Key::of(Charged::Client { tenant: None, address })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::default().after(Duration::from_secs(seconds))
    }

    fn of(connection: u32) -> Handle {
        Handle::fixed(connection)
    }

    /// A key as tables like them.
    fn guest(holder: Holder, number: u64) -> Guest {
        let address = Key::from_bits((number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        Guest { holder, address, address_max: u32::MAX }
    }

    fn stranger(number: u64) -> Guest {
        guest(Holder::Stranger, number)
    }

    /// Half of the places are strangers' at most, and an eighth is for logins alone.
    fn seats(places: u32) -> Seats {
        Seats::new(Arc::new(Places::new(places)))
    }

    #[test]
    fn a_newcomer_has_the_place_of_whoever_has_carried_nothing_for_longest() {
        let mut seats = seats(8);
        for key in 0..4 {
            seats.take(of(key), stranger(u64::from(key)), at(u64::from(key))).expect("a place");
        }
        seats.carried(of(0), at(10));
        seats.set_busy(of(1), true);
        seats.take(of(4), stranger(4), at(11)).expect("one gives way");
        assert_eq!(
            (seats.next_displaced().map(Handle::index), seats.next_displaced().map(Handle::index)),
            (Some(2), None)
        );
        assert!(!seats.has(of(2)) && seats.has(of(4)) && seats.taken() == 4);
        seats.take(of(5), stranger(5), at(12)).expect("one gives way");
        assert_eq!(seats.next_displaced().map(Handle::index), Some(3));
    }

    #[test]
    fn a_crowd_that_comes_again_and_again_shares_fairly_and_then_gains_nothing() {
        let mut seats = seats(64);
        let mut address_of = BTreeMap::new();
        let mut refused = 0;
        // Four addresses come ten thousand times, two thousand times as often as they have places.
        for key in 0..10_000_u32 {
            let number = u64::from(key % 4);
            match seats.take(of(key), stranger(number), at(1)) {
                Ok(()) => drop(address_of.insert(key, number)),
                Err(_) => refused += 1,
            }
            if let Some(displaced) = seats.next_displaced().map(Handle::index) {
                address_of.remove(&displaced).expect("it sat");
            }
        }
        assert_eq!((seats.taken(), address_of.len()), (32, 32));
        assert_eq!(refused, 10_000 - 32, "no client took the place of an equal");
        for number in 0..4 {
            assert_eq!(address_of.values().filter(|&&of| of == number).count(), 8);
        }
        // A fifth comes once and is let in, and may have its share.
        for key in 10_000..10_006 {
            seats.take(of(key), stranger(9), at(2)).expect("a place of those who hold more");
            assert!(seats.next_displaced().map(Handle::index).is_some_and(|displaced| displaced < 10_000));
        }
    }

    #[test]
    fn strangers_give_way_to_networks_and_nobody_to_those_who_come_with_less() {
        let mut seats = seats(16);
        for key in 0..8 {
            seats.take(of(key), stranger(u64::from(key)), at(0)).expect("a place");
        }
        for key in 8..22 {
            seats
                .take(of(key), guest(Holder::Network, u64::from(key)), at(0))
                .expect("a place, or a stranger's");
        }
        let displaced: Vec<u32> = std::iter::from_fn(|| seats.next_displaced().map(Handle::index)).collect();
        assert_eq!(displaced.len(), 8, "all strangers gave way");
        assert!(displaced.iter().all(|&key| key < 8));
        let network = guest(Holder::Network, 99);
        assert_eq!(seats.take(of(22), network, at(1)), Err(NoPlace::Full(Holder::Network)), "each holds one");
        assert_eq!(seats.take(of(22), stranger(99), at(1)), Err(NoPlace::Full(Holder::Network)));
        assert_eq!(seats.next_displaced().map(Handle::index), None);
        // A client that logs in is in the way of none of them.
        seats.log_in(of(8), at(2));
        seats.take(of(22), network, at(2)).expect("a login has made room");
        assert_eq!((seats.next_displaced().map(Handle::index), seats.taken()), (None, 15));
    }

    #[test]
    fn one_network_address_that_holds_all_gives_way_to_another() {
        let mut seats = seats(16);
        for key in 0..14 {
            seats.take(of(key), guest(Holder::Network, 1), at(0)).expect("a place");
        }
        seats.take(of(14), guest(Holder::Network, 2), at(0)).expect("it holds nothing yet");
        assert_eq!(seats.next_displaced().map(Handle::index), Some(0));
    }

    #[test]
    fn where_places_are_short_nobody_is_waited_for_who_does_nothing() {
        let mut seats = seats(16);
        for key in 0..6 {
            seats.take(of(key), stranger(u64::from(key)), at(u64::from(key))).expect("a place");
        }
        assert!(!seats.are_short());
        assert_eq!(seats.next_overdue(at(300)).map(Handle::index), None, "there are enough");
        seats.take(of(6), stranger(6), at(6)).expect("a place");
        assert!(seats.are_short());
        seats.carried(of(0), at(8));
        assert_eq!(seats.next_overdue(at(10)).map(Handle::index), None);
        assert_eq!((seats.next_overdue(at(11)).map(Handle::index), seats.has(of(1))), (Some(1), false));
        assert_eq!(seats.next_overdue(at(300)).map(Handle::index), None, "there are enough again");
    }

    #[test]
    fn a_connection_that_becomes_anothers_gives_up_what_it_had() {
        let mut seats = seats(8);
        seats.take(of(0), guest(Holder::Network, 1), at(0)).expect("a place");
        seats.take(of(0), Guest { address_max: 1, ..stranger(2) }, at(1)).expect("a place");
        assert_eq!(seats.taken(), 1);
        let second = seats.take(of(1), Guest { address_max: 1, ..stranger(2) }, at(1));
        assert_eq!(second, Err(NoPlace::Address(1)));
        seats.leave(of(0));
        seats.leave(of(0));
        assert_eq!((seats.taken(), seats.places().held_up_to(Holder::Login)), (0, 0));
    }

    /// Who sits, from the front of their row to its end; both directions agree.
    fn row(seats: &Seats, holder: Holder) -> Vec<u32> {
        let Row { first, last } = seats.rows[holder as usize];
        let walk = |from: u32, next: fn(&Seat) -> u32| {
            let follow = |key: &u32| Some(next(seats.seats.get(*key as usize)?));
            let keys = std::iter::successors(Some(from), follow);
            keys.take_while(|key| *key != NONE).collect::<Vec<_>>()
        };
        let mut back = walk(last, |seat| seat.previous);
        back.reverse();
        assert_eq!(walk(first, |seat| seat.next), back);
        back
    }

    #[test]
    fn whatever_comes_and_goes_rows_and_counts_agree_and_a_first_comer_is_let_in() {
        for seed in 0..50_u64 {
            let mut state = seed;
            // Of SplitMix64.
            let mut draw = |most: u64| {
                state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                ((state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32) % most
            };
            let mut seats = seats(24);
            for step in 0..3000 {
                let (key, now) = (draw(60) as u32, at(step));
                match draw(6) {
                    0 => seats.leave(of(key)),
                    1 => seats.carried(of(key), now),
                    2 => seats.log_in(of(key), now),
                    3 => drop(seats.next_overdue(now)),
                    _ => {
                        let holder = if draw(3) == 0 { Holder::Network } else { Holder::Stranger };
                        let guest = guest(holder, draw(9));
                        let holds_none = seats.places.held_by(guest.address) == 0;
                        let others =
                            row(&seats, Holder::Stranger).iter().filter(|&&other| other != key).count();
                        let taken = seats.take(of(key), guest, now);
                        let may_be_refused = !holds_none || others == 0;
                        assert!(taken.is_ok() || may_be_refused, "seed {seed}, step {step}: {taken:?}");
                        while seats.next_displaced().map(Handle::index).is_some() {}
                    }
                }
                let rows = Holder::ALL.map(|holder| row(&seats, holder));
                assert_eq!(rows.iter().map(Vec::len).sum::<usize>(), seats.taken());
                let mut held = 0;
                for holder in Holder::ALL {
                    let of_it = &rows[holder as usize];
                    assert!(of_it.iter().all(|&key| seats.holder(of(key)) == Some(holder)));
                    held += of_it.len() as u64;
                    assert_eq!(held, seats.places().held_up_to(holder));
                    assert!(held <= seats.places().ceiling(holder));
                }
            }
        }
    }
}
