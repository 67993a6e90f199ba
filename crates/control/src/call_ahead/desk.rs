//! Who waits for which recipient, and what is known of it. Pure: the time is an argument.
//!
//! What is known is answered at once, whatever waits. A recipient is asked for once, however many wait
//! for the answer; a stranger has few questions open at a time, so that a guesser waits for himself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use commons::RecipientFinding;
use ring::Handle;

/// How long a recipient that the next hop knows is not asked for again.
pub(super) const KNOWN: Duration = Duration::from_secs(3600);

/// How long one that it does not know is not: people who just made the mailbox do not wait longer.
const UNKNOWN: Duration = Duration::from_secs(300);

/// After a check that could not be made.
pub(super) const UNDECIDED: Duration = Duration::from_secs(5);

/// Questions of one stranger at once: a mail server names few recipients that are new at the same moment.
pub(super) const STRANGER_QUESTIONS_MAX: u32 = 2;

/// Recipients that are remembered: some 10 MiB.
const REMEMBERED_MAX: usize = 65_536;

/// A session that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) worker: u8,
    pub(crate) key: Handle,
}

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is answered, for so long.
    Answered(RecipientFinding, Duration),
    /// Its answer is on its way.
    Waits,
    /// The next hop is to be asked.
    Ask,
}

/// The desk.
#[derive(Debug, Default)]
pub(super) struct Desk {
    remembered: HashMap<Box<str>, (RecipientFinding, Instant)>,
    open: HashMap<Box<str>, Open>,
    /// Questions that are open, by the stranger who put them.
    strangers: HashMap<IpAddr, u32>,
}

/// A recipient that is being asked for.
#[derive(Debug)]
struct Open {
    waiters: Vec<Waiter>,
    stranger: Option<IpAddr>,
    /// Its answer takes too long for clients to wait.
    is_late: bool,
}

impl Desk {
    /// `waiter` asks about `address`, which is in lower case, for `stranger` where no tenant answers for
    /// the client. Nothing is found out for one with too many questions, and no other hears of that.
    pub(super) fn ask(
        &mut self,
        waiter: Waiter,
        stranger: Option<IpAddr>,
        address: &str,
        now: Instant,
    ) -> Turn {
        const PUT_OFF: Turn = Turn::Answered(RecipientFinding::Undecided, Duration::ZERO);
        if let Some(&(finding, until)) = self.remembered.get(address)
            && now < until
        {
            return Turn::Answered(finding, until - now);
        }
        if let Some(open) = self.open.get_mut(address) {
            if open.is_late {
                return PUT_OFF;
            }
            open.waiters.push(waiter);
            return Turn::Waits;
        }
        if let Some(stranger) = stranger {
            let open = self.strangers.entry(stranger).or_default();
            if *open >= STRANGER_QUESTIONS_MAX {
                return PUT_OFF;
            }
            *open += 1;
        }
        let open = Open { waiters: vec![waiter], stranger, is_late: false };
        self.open.insert(address.into(), open);
        Turn::Ask
    }

    /// The answer about `address` takes too long: those who wait are let go.
    pub(super) fn let_go(&mut self, address: &str) -> Vec<Waiter> {
        let Some(open) = self.open.get_mut(address) else { return Vec::new() };
        open.is_late = true;
        std::mem::take(&mut open.waiters)
    }

    /// No client asks about `address` any more, and nothing was found out: those who wait.
    pub(super) fn drop_question(&mut self, address: &str) -> Vec<Waiter> {
        let Some(open) = self.open.remove(address) else { return Vec::new() };
        if let Some(stranger) = open.stranger
            && let Entry::Occupied(mut count) = self.strangers.entry(stranger)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        open.waiters
    }

    /// Remembers what was found; gives for how long, and those who wait.
    pub(super) fn found(
        &mut self,
        address: &str,
        finding: RecipientFinding,
        now: Instant,
    ) -> (Duration, Vec<Waiter>) {
        let ttl = match finding {
            RecipientFinding::Good => KNOWN,
            RecipientFinding::Undecided => UNDECIDED,
            _ => UNKNOWN,
        };
        self.make_room(now);
        let waiters = self.drop_question(address);
        self.remembered.insert(address.into(), (finding, now + ttl));
        (ttl, waiters)
    }

    /// What has ended goes first, then what was guessed: who is known stays known.
    fn make_room(&mut self, now: Instant) {
        if self.remembered.len() < REMEMBERED_MAX {
            return;
        }
        self.remembered.retain(|_, (_, until)| now < *until);
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.retain(|_, (finding, _)| *finding == RecipientFinding::Good);
        }
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Waiter = Waiter { worker: 0, key: Handle::fixed(1) };
    const SECOND: Waiter = Waiter { worker: 1, key: Handle::fixed(2) };
    const PUT_OFF: Turn = Turn::Answered(RecipientFinding::Undecided, Duration::ZERO);

    fn stranger(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn what_is_known_is_answered_whatever_waits_and_whoever_asks() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        desk.ask(FIRST, None, "kim@a.example", now);
        assert_eq!(desk.found("kim@a.example", RecipientFinding::Good, now), (KNOWN, vec![FIRST]));
        for number in 0..100 {
            desk.ask(FIRST, stranger(number), &format!("{number}@a.example"), now);
            desk.ask(FIRST, stranger(1), &format!("more{number}@a.example"), now);
        }
        let known = Turn::Answered(RecipientFinding::Good, KNOWN);
        assert_eq!(desk.ask(SECOND, stranger(1), "kim@a.example", now), known);
        assert_eq!(desk.ask(SECOND, None, "kim@a.example", now + KNOWN), Turn::Ask);
    }

    #[test]
    fn a_recipient_is_asked_for_once_and_everyone_who_waits_is_told() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        assert_eq!(desk.ask(FIRST, None, "kim@a.example", now), Turn::Ask);
        assert_eq!(desk.ask(SECOND, stranger(1), "kim@a.example", now), Turn::Waits);
        let (_, waiters) = desk.found("kim@a.example", RecipientFinding::Unknown, now);
        assert_eq!(waiters, [FIRST, SECOND]);
    }

    #[test]
    fn a_stranger_has_few_questions_open_and_takes_nothing_from_others() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        for number in 0..STRANGER_QUESTIONS_MAX {
            assert_eq!(desk.ask(FIRST, stranger(1), &format!("{number}@a.example"), now), Turn::Ask);
        }
        assert_eq!(desk.ask(FIRST, stranger(1), "kim@a.example", now), PUT_OFF);
        // That says nothing of the recipient to anybody else.
        assert_eq!(desk.ask(SECOND, stranger(2), "kim@a.example", now), Turn::Ask);
        for number in 0..50 {
            assert_eq!(desk.ask(SECOND, None, &format!("own{number}@a.example"), now), Turn::Ask);
        }
        desk.found("0@a.example", RecipientFinding::Unknown, now);
        assert_eq!(desk.ask(FIRST, stranger(1), "next@a.example", now), Turn::Ask);
        desk.drop_question("next@a.example");
        assert_eq!(desk.ask(FIRST, stranger(1), "another@a.example", now), Turn::Ask);
    }

    #[test]
    fn nobody_waits_for_an_answer_that_is_late_and_it_is_remembered_when_it_comes() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        desk.ask(FIRST, stranger(1), "kim@a.example", now);
        assert_eq!(desk.let_go("kim@a.example"), [FIRST]);
        assert_eq!(desk.ask(SECOND, None, "kim@a.example", now), PUT_OFF);
        assert_eq!(desk.found("kim@a.example", RecipientFinding::Good, now).1, []);
        let known = Turn::Answered(RecipientFinding::Good, KNOWN);
        assert_eq!(desk.ask(SECOND, stranger(2), "kim@a.example", now), known);
        assert!(desk.strangers.is_empty());
    }

    #[test]
    fn guesses_do_not_make_anyone_forget_who_is_known() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        desk.found("kim@a.example", RecipientFinding::Good, now);
        for number in 0..2 * REMEMBERED_MAX {
            desk.found(&format!("{number}@a.example"), RecipientFinding::Unknown, now);
        }
        assert!(desk.remembered.len() <= REMEMBERED_MAX);
        assert_eq!(
            desk.ask(FIRST, None, "kim@a.example", now),
            Turn::Answered(RecipientFinding::Good, KNOWN)
        );
    }
}
