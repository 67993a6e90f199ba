//! Denials that the log sums up: a storm of them costs a few lines, and none is missing from the sum.
//!
//! The first few of a transaction have a line each, the others one line together when it ends. Over all
//! transactions and connections a client, which is an IPv4 address or an IPv6 /64, has so many lines a while;
//! past them its denials are summed up in one line when the while is over. Counters and tickets know each of
//! them in any case.

use std::fmt::{self, Display};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::time::Duration;

use commons::machine;
use mail::{Reason, Ticket, UnixMillis};
use observe::EventLog;
use ring::Instant;

/// Denials of one transaction that have a line each: more than a person's mistake makes, and enough to see what
/// a storm is about.
pub(crate) const LINES_A_TRANSACTION_MAX: u32 = 5;

/// Lines about the denials of one client in a [`WINDOW`]: 4 KiB a second, whatever it sends.
const LINES_A_WINDOW_MAX: u32 = 100;

/// After so long a client has its lines again, and what had none is summed up.
const WINDOW: Duration = Duration::from_secs(10);

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
    pub(crate) fn write(&self, log: &mut EventLog, now: UnixMillis, (of, client): (&str, IpAddr)) {
        let record = log.event("relay_denials_folded", now).str("of", of).ip("client", client);
        let record = record.number("denials", self.denials).display("reasons", Reasons(&self.reasons));
        match self.tickets {
            Some((first, last)) => record.display("first_ticket", first).display("last_ticket", last).end(),
            None => record.end(),
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
    /// Keeps strangers from choosing addresses that meet.
    seed: u64,
    /// Some place has denials without a line since then, at the earliest.
    since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Place {
    client: Option<IpAddr>,
    begun: Instant,
    lines: u32,
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
        Self { places: (0..SETS * WAYS).map(|_| Place::default()).collect(), seed, since: None }
    }

    /// Whether a line about `client` may be written: it is counted then.
    pub(crate) fn may_write(&mut self, client: IpAddr, pen: &mut Pen<'_>) -> bool {
        let place = self.place(client, pen);
        let has_line = place.lines < LINES_A_WINDOW_MAX;
        place.lines += u32::from(has_line);
        has_line
    }

    /// Sums up a denial of `client` that has no line of its own.
    pub(crate) fn add(&mut self, client: IpAddr, (reason, ticket): (Reason, Ticket), pen: &mut Pen<'_>) {
        self.since.get_or_insert(pen.now);
        self.place(client, pen).fold.add(reason, ticket);
    }

    /// The same for those of a transaction.
    pub(crate) fn take_in(&mut self, client: IpAddr, fold: &Fold, pen: &mut Pen<'_>) {
        self.since.get_or_insert(pen.now);
        self.place(client, pen).fold.take_in(fold);
    }

    /// When [`Folds::write_due`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.since.map(|since| since.after(WINDOW))
    }

    /// Writes the sums of those whose window is over.
    pub(crate) fn write_due(&mut self, pen: &mut Pen<'_>) {
        if self.next_deadline().is_some_and(|due| due <= pen.now) {
            self.since = None;
            for place in &mut self.places {
                if place.begun.after(WINDOW) <= pen.now {
                    place.sum_up(pen);
                } else if !place.fold.is_empty() {
                    self.since = Some(self.since.map_or(place.begun, |since| since.min(place.begun)));
                }
            }
        }
    }

    /// Writes all sums: it is the end.
    pub(crate) fn write_all(&mut self, pen: &mut Pen<'_>) {
        self.since = None;
        self.places.iter_mut().for_each(|place| place.sum_up(pen));
    }

    fn place(&mut self, client: IpAddr, pen: &mut Pen<'_>) -> &mut Place {
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
            place.sum_up(pen);
            (place.client, place.begun, place.lines) = (Some(client), pen.now, 0);
        }
        place
    }
}

impl Place {
    fn sum_up(&mut self, pen: &mut Pen<'_>) {
        if let Some(client) = self.client.filter(|_| !self.fold.is_empty()) {
            self.fold.write(pen.log, pen.unix_now, ("client", client));
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

        fn deny(&mut self, millis: u64, client: &str, (reason, ticket): (Reason, u128)) {
            let client = client.parse().unwrap();
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

        /// The sums: of whom, how many, and why.
        fn sums(self) -> Vec<(String, u64, String)> {
            let Self { writer, log, memory, .. } = self;
            drop(log);
            drop(writer);
            let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
            let sums = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            let word = |sum: &serde_json::Value, key: &str| sum[key].as_str().unwrap().to_owned();
            sums.map(|sum| (word(&sum, "client"), sum["denials"].as_u64().unwrap(), word(&sum, "reasons")))
                .collect()
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
    fn a_sum_is_told_when_its_window_is_over_though_nobody_comes_again() {
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
}
