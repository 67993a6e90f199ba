//! Denials that the log sums up: a storm of them costs a few lines, and none is missing from the sum.
//!
//! The first few of a transaction have a line each, the others one line together when it ends. Over all
//! transactions and connections a client, which is an IPv4 address or an IPv6 /64, has so many lines a while;
//! past them its denials are summed up in one line when the while is over. All strangers together have so many
//! too, and all clients of tenants: an army of addresses is summed up as one. Which logins it guessed is told
//! in any case: see `guesses`. Counters and tickets know each denial.

use std::fmt::{self, Display};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::time::Duration;

use commons::machine;
use mail::{Reason, Ticket, UnixMillis};
use observe::{EventLog, Word};
use ring::Instant;

use crate::events::RelayDenialsFolded;
use crate::guesses::Guesses;

/// Denials of one transaction that have a line each: more than a person's mistake makes, and enough to see what
/// a storm is about.
pub(crate) const LINES_A_TRANSACTION_MAX: u32 = 5;

/// Lines about the denials of one client in a [`WINDOW`]: 4 KiB a second, whatever it sends.
const LINES_A_WINDOW_MAX: u32 = 100;

/// Lines about single denials of one [`Side`] in a [`WINDOW`]: 45 KiB a second of a worker, from however many
/// addresses they come.
const LINES_OF_SIDE_MAX: u32 = 1000;

/// Sums of single clients of one side in a window. Past it they are part of the side's sum.
const SUMS_OF_SIDE_MAX: u32 = 200;

/// After so long a client has its lines again, and what had none is summed up.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// Clients that are remembered, in sets of [`WAYS`]: 256 KiB a worker. In a full set the one whose window began
/// first is summed up before its time.
const SETS: usize = 512;
const WAYS: usize = 4;

/// Denials without a line.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    denials: u64,
    /// Few reasons meet in one place; the memory is kept.
    reasons: Vec<(Reason, u64)>,
    tickets: Option<(Ticket, Ticket)>,
}

impl Fold {
    pub(crate) fn is_empty(&self) -> bool {
        self.denials == 0
    }

    pub(crate) fn denials(&self) -> u64 {
        self.denials
    }

    pub(crate) fn add(&mut self, reason: Reason, ticket: Ticket) {
        self.add_many(reason, 1);
        self.tickets = Some((self.tickets.map_or(ticket, |(first, _)| first), ticket));
    }

    fn add_many(&mut self, reason: Reason, count: u64) {
        self.denials += count;
        match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, sum)) => *sum += count,
            None => self.reasons.push((reason, count)),
        }
    }

    fn take_in(&mut self, other: &Self) {
        for &(reason, count) in &other.reasons {
            self.add_many(reason, count);
        }
        if let Some((first, last)) = other.tickets {
            self.tickets = Some((self.tickets.map_or(first, |(first, _)| first), last));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.denials = 0;
        self.reasons.clear();
        self.tickets = None;
    }

    /// The line for all of them; `of` says what they have in common.
    pub(crate) fn write(
        &self,
        log: &mut EventLog,
        now: UnixMillis,
        (of, client): (&'static str, Option<IpAddr>),
    ) {
        let (first_ticket, last_ticket) = self.tickets();
        let folded = RelayDenialsFolded {
            of: Word(of),
            client,
            denials: self.denials,
            reasons: &self.reasons(),
            first_ticket,
            last_ticket,
        };
        log.record(&folded, now);
    }

    /// Why they were denied, for the log.
    pub(crate) fn reasons(&self) -> impl Display {
        Reasons(&self.reasons)
    }

    /// The first ticket and the last one, where one is known.
    pub(crate) fn tickets(&self) -> (Option<Ticket>, Option<Ticket>) {
        self.tickets.unzip()
    }
}

/// Those who share lines: strangers take none from clients of tenants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Side {
    #[default]
    Strangers,
    /// From a tenant's network, or logged in.
    Tenants,
}

impl Side {
    const ALL: [Self; 2] = [Self::Strangers, Self::Tenants];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Strangers => "strangers",
            Self::Tenants => "tenants",
        }
    }
}

/// `relay_not_permitted 9985, routing_syntax 5`
struct Reasons<'a>(&'a [(Reason, u64)]);

impl Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (reason, count)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{reason} {count}")?;
        }
        Ok(())
    }
}

/// The clients that were denied lately.
#[derive(Debug)]
pub(crate) struct Folds {
    places: Box<[Place]>,
    sides: [Shared; 2],
    guesses: Guesses,
    /// Keeps strangers from choosing addresses that meet.
    seed: u64,
    /// Something has denials without a line since then, at the earliest.
    since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Place {
    client: Option<IpAddr>,
    side: Side,
    begun: Instant,
    /// Denials of its window, up to those that a client has lines for.
    lines: u32,
    fold: Fold,
}

/// What all clients of one side have together.
#[derive(Debug, Default)]
struct Shared {
    begun: Instant,
    lines: u32,
    sums: u32,
    fold: Fold,
}

/// The log, and what time it is.
pub(crate) struct Pen<'a> {
    pub(crate) log: &'a mut EventLog,
    pub(crate) now: Instant,
    pub(crate) unix_now: UnixMillis,
}

impl Folds {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            places: (0..SETS * WAYS).map(|_| Place::default()).collect(),
            sides: Default::default(),
            guesses: Guesses::default(),
            seed,
            since: None,
        }
    }

    /// Whether a line about `client` may be written: it is counted then.
    pub(crate) fn may_write(&mut self, client: (IpAddr, Side), pen: &mut Pen<'_>) -> bool {
        let place = self.place(client, pen);
        if self.places[place].lines == LINES_A_WINDOW_MAX {
            return false;
        }
        self.places[place].lines += 1;
        let shared = self.side(client.1, pen);
        let has_line = shared.lines < LINES_OF_SIDE_MAX;
        shared.lines += u32::from(has_line);
        has_line
    }

    /// Sums up a denial of `client` that has no line of its own.
    pub(crate) fn add(
        &mut self,
        client: (IpAddr, Side),
        (reason, ticket): (Reason, Ticket),
        pen: &mut Pen<'_>,
    ) {
        self.fold(client, pen).add(reason, ticket);
    }

    /// The same for those of a transaction.
    pub(crate) fn take_in(&mut self, client: (IpAddr, Side), fold: &Fold, pen: &mut Pen<'_>) {
        self.fold(client, pen).take_in(fold);
    }

    /// Sums up a failure of `login`, which exists: `client` was denied it without a line.
    pub(crate) fn guessed(&mut self, login: &str, client: IpAddr, denial: (Reason, Ticket), pen: &Pen<'_>) {
        self.since.get_or_insert(pen.now);
        self.guesses.add(login, client, denial, pen.now);
    }

    /// When [`Folds::write_due`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.since.map(|since| since.after(WINDOW))
    }

    /// Writes the sums of those whose window is over.
    pub(crate) fn write_due(&mut self, pen: &mut Pen<'_>) {
        if self.next_deadline().is_none_or(|due| due > pen.now) {
            return;
        }
        self.write_where(pen, |begun, now| begun.after(WINDOW) <= now);
        let clients = self.places.iter().filter(|place| !place.fold.is_empty()).map(|place| place.begun);
        let sides = self.sides.iter().filter(|shared| !shared.fold.is_empty()).map(|shared| shared.begun);
        self.since = clients.chain(sides).chain(self.guesses.since()).min();
    }

    /// Writes all sums: it is the end.
    pub(crate) fn write_all(&mut self, pen: &mut Pen<'_>) {
        self.since = None;
        self.write_where(pen, |_, _| true);
    }

    /// Clients before their sides, which take what is too much.
    fn write_where(&mut self, pen: &mut Pen<'_>, is_over: impl Fn(Instant, Instant) -> bool) {
        let now = pen.now;
        for place in self.places.iter_mut().filter(|place| is_over(place.begun, now)) {
            place.sum_up(&mut self.sides, pen);
        }
        for side in Side::ALL {
            let shared = &mut self.sides[side as usize];
            if is_over(shared.begun, now) {
                shared.sum_up(side, pen);
            }
        }
        if self.guesses.since().is_some_and(|since| is_over(since, now)) {
            self.guesses.write(pen);
        }
    }

    /// A client has a sum of its own once it has used up its lines, or would have: those who come once
    /// are part of their side's.
    fn fold(&mut self, client: (IpAddr, Side), pen: &mut Pen<'_>) -> &mut Fold {
        self.since.get_or_insert(pen.now);
        let place = self.place(client, pen);
        match self.places[place].lines {
            LINES_A_WINDOW_MAX => &mut self.places[place].fold,
            _ => &mut self.side(client.1, pen).fold,
        }
    }

    fn side(&mut self, side: Side, pen: &mut Pen<'_>) -> &mut Shared {
        let shared = &mut self.sides[side as usize];
        if shared.begun.after(WINDOW) <= pen.now {
            shared.sum_up(side, pen);
            (shared.begun, shared.lines, shared.sums) = (pen.now, 0, 0);
        }
        shared
    }

    /// The number of the client's place, which it has now.
    fn place(&mut self, (client, side): (IpAddr, Side), pen: &mut Pen<'_>) -> usize {
        let client = machine(client);
        let mut hasher = DefaultHasher::new();
        (self.seed, client).hash(&mut hasher);
        let set = hasher.finish() as usize % SETS * WAYS;
        let ways = &mut self.places[set..set + WAYS];
        let known = ways.iter().position(|place| place.client == Some(client));
        let way = known.unwrap_or_else(|| {
            let oldest = (0..WAYS).min_by_key(|&way| (ways[way].client.is_some(), ways[way].begun));
            oldest.expect("a set has ways")
        });
        let place = &mut ways[way];
        if known.is_none() || place.begun.after(WINDOW) <= pen.now {
            place.sum_up(&mut self.sides, pen);
            (place.client, place.begun, place.lines) = (Some(client), pen.now, 0);
        }
        place.side = side;
        set + way
    }
}

impl Place {
    fn sum_up(&mut self, sides: &mut [Shared; 2], pen: &mut Pen<'_>) {
        let Some(client) = self.client.filter(|_| !self.fold.is_empty()) else { return };
        let shared = &mut sides[self.side as usize];
        if shared.sums < SUMS_OF_SIDE_MAX {
            shared.sums += 1;
            self.fold.write(pen.log, pen.unix_now, ("client", Some(client)));
        } else {
            shared.fold.take_in(&self.fold);
        }
        self.fold.clear();
    }
}

impl Shared {
    fn sum_up(&mut self, side: Side, pen: &mut Pen<'_>) {
        if !self.fold.is_empty() {
            self.fold.write(pen.log, pen.unix_now, (side.as_str(), None));
            self.fold.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use observe::{Form, LogWriter, Registry};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A log, and how many lines single denials had in it.
    struct Desk {
        folds: Folds,
        writer: LogWriter,
        log: EventLog,
        memory: Memory,
        lines: u32,
    }

    impl Desk {
        fn new() -> Self {
            let memory = Memory::default();
            let registry = Registry::new(1, &["smtp"], 1);
            let writer = LogWriter::start(memory.clone(), Form::Json, "relay", &registry).unwrap();
            let log = writer.log();
            Self { folds: Folds::new(7), writer, log, memory, lines: 0 }
        }

        fn deny(&mut self, millis: u64, client: &str, denial: (Reason, u128)) {
            self.deny_of(Side::Strangers, millis, client, denial);
        }

        fn deny_of(&mut self, side: Side, millis: u64, client: &str, (reason, ticket): (Reason, u128)) {
            let client = (client.parse().unwrap(), side);
            let now = Instant(millis * 1_000_000);
            let pen = &mut Pen { log: &mut self.log, now, unix_now: UnixMillis(millis) };
            if self.folds.may_write(client, pen) {
                self.lines += 1;
            } else {
                self.folds.add(client, (reason, Ticket::from_random(ticket)), pen);
            }
        }

        fn tick(&mut self, millis: u64) {
            let now = Instant(millis * 1_000_000);
            self.folds.write_due(&mut Pen { log: &mut self.log, now, unix_now: UnixMillis(millis) });
        }

        /// The sums: of whom, how many, and why. A sum that names no client is that of its side.
        fn sums(self) -> Vec<(String, u64, String)> {
            let Self { writer, log, memory, .. } = self;
            drop(log);
            drop(writer);
            let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
            let sums = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            let word = |sum: &serde_json::Value, key: &str| sum[key].as_str().unwrap().to_owned();
            let of =
                |sum: &serde_json::Value| word(sum, if sum["client"].is_null() { "of" } else { "client" });
            sums.map(|sum| (of(&sum), sum["denials"].as_u64().unwrap(), word(&sum, "reasons"))).collect()
        }
    }

    const STRANGER: (Reason, u128) = (Reason::RelayNotPermitted, 1);
    const TRICK: (Reason, u128) = (Reason::RoutingSyntax, 2);

    #[test]
    fn a_client_has_its_lines_and_the_rest_is_one_sum_that_is_exact() {
        let mut desk = Desk::new();
        for number in 0..1000 {
            desk.deny(number, "198.51.100.7", if number % 10 == 9 { TRICK } else { STRANGER });
        }
        assert_eq!(desk.lines, LINES_A_WINDOW_MAX);
        desk.deny(500, "198.51.100.8", STRANGER);
        assert_eq!(desk.lines, LINES_A_WINDOW_MAX + 1, "another client has its own");
        desk.tick(WINDOW.as_millis() as u64 - 1);
        desk.deny(20_000, "198.51.100.7", STRANGER);
        assert_eq!(desk.lines, LINES_A_WINDOW_MAX + 2, "the window is over");
        let sums = desk.sums();
        let reasons = "relay_not_permitted 810, routing_syntax 90".to_owned();
        assert_eq!(sums, [("198.51.100.7".to_owned(), 900, reasons)]);
    }

    #[test]
    fn a_sum_is_told_when_its_window_is_over_though_no_client_comes_again() {
        let mut desk = Desk::new();
        for number in 0..150 {
            desk.deny(number, "2001:db8::1", STRANGER);
        }
        let due = desk.folds.next_deadline().expect("a sum is open").0 / 1_000_000;
        assert!((10_000..=10_150).contains(&due), "{due}");
        desk.tick(due);
        assert_eq!(desk.folds.next_deadline(), None);
        assert_eq!(desk.sums(), [("2001:db8::".to_owned(), 50, "relay_not_permitted 50".to_owned())]);
    }

    #[test]
    fn an_army_loses_nothing_of_the_sum() {
        let mut desk = Desk::new();
        let (clients, denials) = (4 * SETS * WAYS, 2 * LINES_A_WINDOW_MAX);
        for client in 0..clients {
            for number in 0..denials {
                desk.deny(u64::from(number), &format!("10.{}.{}.1", client / 256, client % 256), STRANGER);
            }
        }
        desk.tick(60_000);
        let lines = u64::from(desk.lines);
        let sum: u64 = desk.sums().iter().map(|(_, denials, _)| denials).sum();
        assert_eq!(lines + sum, clients as u64 * u64::from(denials));
    }

    #[test]
    fn an_army_that_comes_once_each_has_its_sides_lines_and_one_sum() {
        let mut desk = Desk::new();
        let army = 20 * LINES_OF_SIDE_MAX;
        for number in 0..army {
            desk.deny(5000, &format!("10.{}.{}.1", number / 256, number % 256), STRANGER);
        }
        assert_eq!(desk.lines, LINES_OF_SIDE_MAX);
        desk.deny_of(Side::Tenants, 5000, "198.51.100.7", STRANGER);
        assert_eq!(desk.lines, LINES_OF_SIDE_MAX + 1, "strangers take no lines of tenants");
        let due = desk.folds.next_deadline().expect("a sum is open").0 / 1_000_000;
        desk.tick(due);
        assert_eq!(desk.folds.next_deadline(), None);
        let folded = u64::from(army - LINES_OF_SIDE_MAX);
        assert_eq!(desk.sums(), [("strangers".to_owned(), folded, format!("relay_not_permitted {folded}"))]);
    }

    #[test]
    fn an_army_of_stubborn_clients_has_few_sums_of_one_client_and_loses_nothing() {
        let mut desk = Desk::new();
        let (clients, denials) = (3 * SUMS_OF_SIDE_MAX, 2 * LINES_A_WINDOW_MAX);
        for number in 0..clients * denials {
            let client = number % clients;
            desk.deny(5000, &format!("10.{}.{}.1", client / 256, client % 256), STRANGER);
        }
        desk.tick(60_000);
        let lines = desk.lines;
        let sums = desk.sums();
        assert_eq!(lines, LINES_OF_SIDE_MAX);
        assert_eq!(sums.len() as u32, SUMS_OF_SIDE_MAX + 1);
        let sum: u64 = sums.iter().map(|(_, denials, _)| denials).sum();
        assert_eq!(u64::from(lines) + sum, u64::from(clients * denials));
    }
}
