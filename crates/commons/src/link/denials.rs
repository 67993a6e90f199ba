//! Denials on their way from the workers, who decided them, to the control plane, which explains
//! and keeps them for the holder of the ticket.
//!
//! The records are made once, at the start, and go round: full ones one way, blank ones back. One client,
//! which is an IPv4 address or an IPv6 /64, has as many as are blank at most, so that a storm of its
//! denials, of however many causes, leaves records to all others. A denial that finds none is counted and not
//! kept.

mod recent;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use mail::{Reason, Ticket, UnixMillis};
use policy::{Decision, IdentityIx, Snapshot, TenantIx};

use crate::{ConnectionCounts, ConnectionLease, Key};

pub(crate) use recent::{Recent, Repeated};

/// Records in all: 3 MiB. A client gets a further one while it holds fewer than are blank: alone it holds half of
/// them at most, 200 storming clients hold 20 each, and the next one still finds some.
pub const DENIALS_MAX: usize = 4096;

/// So many full records are looked at now: fewer than one storming client can fill.
const LOOK_NOW: usize = DENIALS_MAX / 8;

/// Recipients that a ticket lists; those after them are counted only.
pub const DENIED_RECIPIENTS_MAX: u32 = 20;

/// Bytes of recipients that a record lists, so that long addresses do not make it large. One
/// recipient always fits.
const RECIPIENTS_BYTES_MAX: usize = 2048;

/// A denial as the worker saw it: plain facts, and the configuration that it was decided with.
#[derive(Debug)]
pub struct Denial {
    /// What the reply names.
    pub ticket: Ticket,
    /// Adds recipients to a ticket whose first record went before; the other facts are those of the first.
    pub is_more: bool,
    /// When.
    pub time: UnixMillis,
    /// Which listener, in the order of the configuration.
    pub listener: usize,
    /// The client's address.
    pub client: IpAddr,
    /// Whether the session runs over TLS.
    pub tls: bool,
    /// Who has logged in, or tried to; empty without a login.
    pub login: String,
    /// Whether that login succeeded.
    pub is_logged_in: bool,
    /// The identities that held a grant for the client's address.
    pub grants: Vec<IdentityIx>,
    /// The name that the client gave.
    pub helo: String,
    /// The reverse-path, without angle brackets; empty for the null one, and before MAIL.
    pub from: String,
    /// The denied recipients as they were written, each ended by a line feed.
    recipients: String,
    /// How many they are, with those that are not listed.
    pub recipient_count: u32,
    /// Denials of the same client for the same cause, in the same second, that were given this ticket too.
    pub repeated: u32,
    /// The tenant of the recipients accepted before, if there were any.
    pub transaction_tenant: Option<TenantIx>,
    /// Verdict, rule and remedy.
    pub decision: Decision,
    /// What the running gateway knew beside the configuration: which limit, which list, when it frees.
    pub detail: String,
    /// The configuration that decided; `None` in a blank record only.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Counts the record for its client until it is blank.
    held: ConnectionLease,
}

impl Denial {
    fn blank() -> Self {
        Self {
            ticket: Ticket::from_random(0),
            is_more: false,
            time: UnixMillis(0),
            listener: 0,
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            tls: false,
            login: String::with_capacity(64),
            is_logged_in: false,
            grants: Vec::with_capacity(2),
            helo: String::with_capacity(64),
            from: String::with_capacity(64),
            recipients: String::with_capacity(256),
            recipient_count: 0,
            repeated: 0,
            transaction_tenant: None,
            decision: Decision::refusal_for(Reason::RelayNotPermitted, None),
            detail: String::with_capacity(64),
            snapshot: None,
            held: ConnectionLease::uncounted(),
        }
    }

    /// Adds a denied recipient: to the list where it has room, to the count in any case.
    pub fn push_recipient(&mut self, to: &str) {
        self.recipient_count += 1;
        let bytes = self.recipients.len();
        if self.recipient_count <= DENIED_RECIPIENTS_MAX
            && (bytes == 0 || bytes + to.len() < RECIPIENTS_BYTES_MAX)
        {
            self.recipients.push_str(to);
            self.recipients.push('\n');
        }
    }

    /// The recipients that are listed.
    pub fn recipients(&self) -> impl Iterator<Item = &str> {
        self.recipients.split_terminator('\n')
    }

    fn clear(&mut self) {
        const KEPT_BYTES_MAX: usize = 1024;
        for text in [&mut self.login, &mut self.helo, &mut self.from, &mut self.detail] {
            text.clear();
            text.shrink_to(KEPT_BYTES_MAX);
        }
        self.recipients.clear();
        self.recipients.shrink_to(RECIPIENTS_BYTES_MAX);
        self.grants.clear();
        (self.recipient_count, self.repeated) = (0, 0);
        self.snapshot = None;
        self.held = ConnectionLease::uncounted();
    }
}

/// The records, who holds them, and how many denials found none.
pub(crate) struct Denials {
    full: ArrayQueue<Box<Denial>>,
    blank: ArrayQueue<Box<Denial>>,
    clients: Arc<ConnectionCounts>,
    dropped: AtomicU64,
}

impl Default for Denials {
    fn default() -> Self {
        let blank = ArrayQueue::new(DENIALS_MAX);
        for _ in 0..DENIALS_MAX {
            blank.push(Box::new(Denial::blank())).expect("there are no more records than places");
        }
        let clients = Arc::new(ConnectionCounts::new(DENIALS_MAX));
        Self { full: ArrayQueue::new(DENIALS_MAX), blank, clients, dropped: AtomicU64::new(0) }
    }
}

impl Denials {
    /// A record for `client`.
    pub(crate) fn take_blank(&self, client: Key) -> Option<Box<Denial>> {
        let most = u32::try_from(self.blank.len()).unwrap_or(u32::MAX);
        let held = self.clients.take(client, most);
        let blank = held.and_then(|held| {
            let mut blank = self.blank.pop()?;
            blank.held = held;
            Some(blank)
        });
        if blank.is_none() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        blank
    }

    /// Hands a record over; true when so many wait that they should be looked at now.
    pub(crate) fn push(&self, denial: Box<Denial>) -> bool {
        self.full.push(denial).expect("there are no more records than places");
        self.full.len() >= LOOK_NOW
    }

    pub(crate) fn pop(&self) -> Option<Box<Denial>> {
        self.full.pop()
    }

    pub(crate) fn give_back(&self, mut denial: Box<Denial>) {
        denial.clear();
        self.blank.push(denial).expect("there are no more records than places");
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Denials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denials").field("waiting", &self.full.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_lists_twenty_recipients_and_counts_the_others() {
        let mut denial = Denial::blank();
        for number in 0..30 {
            denial.push_recipient(&format!("user{number}@adatum.example"));
        }
        assert_eq!((denial.recipients().count(), denial.recipient_count), (20, 30));
        let long = "x".repeat(1500);
        denial.clear();
        denial.push_recipient(&long);
        denial.push_recipient(&long);
        assert_eq!((denial.recipients().collect::<Vec<_>>(), denial.recipient_count), (vec![&*long], 2));
    }

    #[test]
    fn records_go_round_and_what_finds_none_is_counted() {
        let denials = Denials::default();
        let taken: Vec<_> = std::iter::from_fn(|| denials.blank.pop()).collect();
        assert_eq!(taken.len(), DENIALS_MAX);
        assert_eq!(denials.dropped(), 0);
        for lost in 1..=2 {
            assert!(denials.take_blank(key(lost)).is_none());
            assert_eq!(denials.dropped(), lost);
        }
        let many: Vec<bool> = taken.into_iter().map(|denial| denials.push(denial)).collect();
        assert_eq!(many.iter().filter(|&&is_looked_at| !is_looked_at).count(), LOOK_NOW - 1);
        denials.give_back(denials.pop().expect("they were pushed"));
        assert!(denials.take_blank(key(1)).is_some());
    }

    fn key(number: u64) -> Key {
        Key::from_bits((number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    #[test]
    fn however_many_clients_storm_the_next_one_finds_records() {
        for clients in [1, 2, 20, 200] {
            let denials = Denials::default();
            let mut held: Vec<_> = (0..clients).map(|_| Vec::new()).collect();
            for _ in 0..DENIALS_MAX {
                for (client, held) in held.iter_mut().enumerate() {
                    held.extend(denials.take_blank(key(client as u64)));
                }
            }
            let most = held.iter().map(Vec::len).max().unwrap_or(0);
            assert!(most <= DENIALS_MAX / 2, "{most} for one of {clients}");
            assert!(held.iter().all(|held| held.len() >= 20), "each of {clients} has some");
            let lost = denials.dropped();
            assert_ne!(lost, 0);
            let next: Vec<_> = (0..9).map_while(|_| denials.take_blank(key(clients as u64))).collect();
            assert_eq!((next.len(), denials.dropped()), (9, lost), "beside {clients}");
            // What is looked at counts no longer.
            for denial in held.into_iter().flatten() {
                denials.give_back(denial);
            }
            assert_eq!(denials.clients.open(key(0)), 0);
            assert!(denials.take_blank(key(0)).is_some());
        }
    }

    /// Alone it brings about the look that frees its records again.
    #[test]
    fn a_client_that_storms_alone_is_looked_at() {
        let denials = Denials::default();
        let taken = std::iter::from_fn(|| denials.take_blank(key(1)));
        let is_looked_at: Vec<bool> = taken.map(|denial| denials.push(denial)).collect();
        assert_eq!(is_looked_at.iter().position(|&is_now| is_now), Some(LOOK_NOW - 1));
        assert_eq!(is_looked_at.len(), DENIALS_MAX / 2);
    }
}
