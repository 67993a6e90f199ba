//! Which logins were guessed without a line of their own in the log.
//!
//! A login that is attacked from ever-new addresses has one line a window, with how often it failed, why, and
//! from where first and last. Some of them are watched at a time. Where more are guessed, the one with the
//! fewest failures makes room: a login that has a large part of all failures keeps its place.

use std::net::IpAddr;

use mail::{Reason, Ticket};
use ring::Instant;

use crate::events::LoginFailuresFolded;
use crate::folds::{Fold, Pen};

/// Logins that are watched at a time: 1.5 KiB a second of log.
const LOGINS_MAX: usize = 32;

/// The logins of a window.
#[derive(Debug, Default)]
pub(crate) struct Guesses {
    /// The memory is kept.
    logins: Vec<Guessed>,
    /// How many of them belong to this window.
    used: usize,
    begun: Instant,
}

#[derive(Debug)]
struct Guessed {
    login: String,
    fold: Fold,
    /// Its failures, and those of the logins that made room for it: a newcomer is not the next to go.
    rank: u64,
    first_client: IpAddr,
    last_client: IpAddr,
}

impl Guesses {
    /// When the window began, if anything was guessed in it.
    pub(crate) fn since(&self) -> Option<Instant> {
        (self.used > 0).then_some(self.begun)
    }

    /// Counts a failure of `login` at `now`, from `client`.
    pub(crate) fn add(
        &mut self,
        login: &str,
        client: IpAddr,
        (reason, ticket): (Reason, Ticket),
        now: Instant,
    ) {
        if self.used == 0 {
            self.begun = now;
        }
        let guessed = self.place(login, client);
        guessed.rank += 1;
        guessed.last_client = client;
        guessed.fold.add(reason, ticket);
    }

    /// Writes a line for each login, and begins anew.
    pub(crate) fn write(&mut self, pen: &mut Pen<'_>) {
        for guessed in &mut self.logins[..self.used] {
            let (first_ticket, last_ticket) = guessed.fold.tickets();
            let folded = LoginFailuresFolded {
                login: &guessed.login,
                failures: guessed.fold.denials(),
                reasons: &guessed.fold.reasons(),
                first_ticket,
                last_ticket,
                first_client: guessed.first_client,
                last_client: guessed.last_client,
            };
            pen.log.record(&folded, pen.unix_now);
        }
        self.used = 0;
    }

    fn place(&mut self, login: &str, client: IpAddr) -> &mut Guessed {
        let watched = &self.logins[..self.used];
        if let Some(known) = watched.iter().position(|guessed| guessed.login.eq_ignore_ascii_case(login)) {
            return &mut self.logins[known];
        }
        let lowest = (0..self.used).min_by_key(|&place| watched[place].rank);
        let (place, rank) = match lowest {
            Some(lowest) if self.used == LOGINS_MAX => (lowest, watched[lowest].rank),
            _ => (self.used, 0),
        };
        self.used = self.used.max(place + 1);
        if place == self.logins.len() {
            self.logins.push(Guessed::new(client));
        }
        let guessed = &mut self.logins[place];
        guessed.login.clear();
        guessed.login.push_str(login);
        guessed.fold.clear();
        guessed.rank = rank;
        guessed.first_client = client;
        guessed
    }
}

impl Guessed {
    fn new(client: IpAddr) -> Self {
        Self {
            login: String::new(),
            fold: Fold::default(),
            rank: 0,
            first_client: client,
            last_client: client,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attacked_login_keeps_its_place_among_ever_new_ones() {
        let mut guesses = Guesses::default();
        let mut add = |login: &str, number: u32| {
            let client = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            guesses.add(login, client, (Reason::LoginFailed, Ticket::from_random(7)), Instant(1));
        };
        for number in 0..10_000 {
            add(&format!("user{number}"), number);
            if number % 10 == 0 {
                add(if number % 20 == 0 { "terri" } else { "Terri" }, number);
            }
        }
        assert_eq!(guesses.used, LOGINS_MAX);
        let terri = guesses.logins.iter().find(|guessed| guessed.login == "terri").expect("it is watched");
        assert_eq!(terri.fold.denials(), 1000);
        let first_and_last = ["0.0.0.0", "0.0.39.6"].map(|client| client.parse::<IpAddr>().unwrap());
        assert_eq!([terri.first_client, terri.last_client], first_and_last);
    }
}
