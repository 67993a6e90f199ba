//! One amount shared out among holders of three kinds, of which each leaves something to those after it.
//!
//! Strangers may hold so much, tenants' networks and strangers together so much more, and clients that have logged
//! in the rest besides: what is kept for a kind cannot be held by a kind before it. Places for connections are
//! shared out so, and bytes of unfinished messages. Atomics and nothing else: no lock, no wait.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who holds something that is scarce: those further down may hold all that those before them may, and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Holder {
    /// No tenant answers for it.
    Stranger,
    /// Its address is in a tenant's network, or holds a grant.
    Network,
    /// It has logged in.
    Login,
}

impl Holder {
    /// All of them, in order.
    pub const ALL: [Self; HOLDERS] = [Self::Stranger, Self::Network, Self::Login];

    /// The word for it, in labels and sentences.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Network => "network",
            Self::Login => "login",
        }
    }
}

/// Kinds of holders.
const HOLDERS: usize = 3;

/// An amount, and how much of it is held.
///
/// What is counted for a holder is held by it and by those before it, so that no ceiling is ever passed, and a
/// refusal needs no look at anything else. While one thread is refused, another may for a moment find what the
/// first had begun to take: it is refused too, and nothing is ever given twice.
pub struct Shares {
    /// What each holder and those before it may hold together.
    ceilings: [u64; HOLDERS],
    /// What they do hold together.
    held: [AtomicU64; HOLDERS],
}

impl Shares {
    /// Shares whose ceilings are `strangers`, those and `networks`, and `all`.
    ///
    /// # Panics
    /// When a ceiling is lower than the one before it.
    #[must_use]
    pub fn new(strangers: u64, networks: u64, all: u64) -> Self {
        assert!(
            strangers <= networks && networks <= all,
            "what is kept for a holder is not less than nothing"
        );
        Self { ceilings: [strangers, networks, all], held: Default::default() }
    }

    /// Takes `amount` for `holder`.
    ///
    /// # Errors
    /// The holder up to whom there is not so much left; nothing is taken.
    pub fn take(&self, holder: Holder, amount: u64) -> Result<(), Holder> {
        let levels = &Holder::ALL[holder as usize..];
        for (taken, &level) in levels.iter().enumerate() {
            if !self.add(level, amount) {
                for &before in &levels[..taken] {
                    self.held[before as usize].fetch_sub(amount, Ordering::Relaxed);
                }
                return Err(level);
            }
        }
        Ok(())
    }

    /// Gives back what `holder` took.
    pub fn give(&self, holder: Holder, amount: u64) {
        for &level in &Holder::ALL[holder as usize..] {
            self.held[level as usize].fetch_sub(amount, Ordering::Relaxed);
        }
    }

    /// What `from` holds is `to`'s from now on.
    ///
    /// # Errors
    /// As [`Shares::take`], and only where `to` comes before `from`.
    pub fn pass(&self, from: Holder, to: Holder, amount: u64) -> Result<(), Holder> {
        for &level in &Holder::ALL[(from as usize).min(to as usize)..from as usize] {
            if !self.add(level, amount) {
                for &before in &Holder::ALL[to as usize..level as usize] {
                    self.held[before as usize].fetch_sub(amount, Ordering::Relaxed);
                }
                return Err(level);
            }
        }
        for &level in &Holder::ALL[from as usize..(to as usize).max(from as usize)] {
            self.held[level as usize].fetch_sub(amount, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What is held by `holder` and those before it.
    #[must_use]
    pub fn held_up_to(&self, holder: Holder) -> u64 {
        self.held[holder as usize].load(Ordering::Relaxed)
    }

    /// What `holder` and those before it may hold.
    #[must_use]
    pub fn ceiling(&self, holder: Holder) -> u64 {
        self.ceilings[holder as usize]
    }

    /// Counters guard no other memory: relaxed is enough.
    fn add(&self, level: Holder, amount: u64) -> bool {
        let ceiling = self.ceilings[level as usize];
        let sum = |held: u64| held.checked_add(amount).filter(|&sum| sum <= ceiling);
        self.held[level as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = Holder::ALL.map(|holder| self.held_up_to(holder));
        f.debug_struct("Shares").field("ceilings", &self.ceilings).field("held", &held).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holder() -> impl Strategy<Value = Holder> {
        prop::sample::select(Holder::ALL.to_vec())
    }

    /// What the counters should say, the obvious way.
    fn expected(held: &[(Holder, u64)], holder: Holder) -> u64 {
        held.iter().filter(|(who, _)| *who <= holder).map(|(_, amount)| amount).sum()
    }

    #[derive(Clone, Debug)]
    enum Act {
        Take(Holder, u64),
        Give(usize),
        Pass(usize, Holder),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (holder(), 0..40_u64).prop_map(|(holder, amount)| Act::Take(holder, amount)),
            1 => any::<usize>().prop_map(Act::Give),
            1 => (any::<usize>(), holder()).prop_map(|(which, to)| Act::Pass(which, to)),
        ]
    }

    proptest! {
        #[test]
        fn no_ceiling_is_passed_and_what_is_kept_for_a_holder_is_there(
            parts in (0..100_u64, 0..100_u64, 0..100_u64),
            acts in prop::collection::vec(act(), 0..200),
        ) {
            let ceilings = [parts.0, parts.0 + parts.1, parts.0 + parts.1 + parts.2];
            let shares = Shares::new(ceilings[0], ceilings[1], ceilings[2]);
            let mut held: Vec<(Holder, u64)> = Vec::new();
            for act in acts {
                // Whether it fits, by what is held and nothing else.
                let fits = |held: &[(Holder, u64)]| {
                    Holder::ALL.into_iter().all(|level| expected(held, level) <= ceilings[level as usize])
                };
                match act {
                    Act::Take(holder, amount) => {
                        held.push((holder, amount));
                        let may = fits(&held);
                        prop_assert_eq!(shares.take(holder, amount).is_ok(), may);
                        if !may {
                            held.pop();
                        }
                    }
                    Act::Give(_) | Act::Pass(..) if held.is_empty() => {}
                    Act::Give(which) => {
                        let (holder, amount) = held.swap_remove(which % held.len());
                        shares.give(holder, amount);
                    }
                    Act::Pass(which, to) => {
                        let which = which % held.len();
                        let (from, amount) = held[which];
                        held[which].0 = to;
                        let may = fits(&held);
                        prop_assert!(may || to < from, "to rise takes nothing from anyone");
                        prop_assert_eq!(shares.pass(from, to, amount).is_ok(), may);
                        if !may {
                            held[which].0 = from;
                        }
                    }
                }
                for level in Holder::ALL {
                    prop_assert_eq!(shares.held_up_to(level), expected(&held, level));
                    prop_assert!(shares.held_up_to(level) <= shares.ceiling(level));
                }
            }
            // However much those before it hold, each holder finds what is kept for it.
            let of = |holder| held.iter().filter(|(who, _)| *who == holder).map(|(_, amount)| amount).sum::<u64>();
            let kept = parts.2.saturating_sub(of(Holder::Login));
            prop_assert_eq!(shares.take(Holder::Login, kept), Ok(()));
        }
    }

    #[test]
    fn threads_never_pass_a_ceiling_together_and_leave_nothing_behind() {
        let shares = Shares::new(10, 15, 20);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let shares = &shares;
                scope.spawn(move || {
                    for turn in 0..20_000 {
                        let holder = Holder::ALL[(turn + thread) % 3];
                        if shares.take(holder, 1).is_ok() {
                            let rises = shares.pass(holder, Holder::Login, 1);
                            assert_eq!(rises, Ok(()));
                            shares.give(Holder::Login, 1);
                        }
                        for level in Holder::ALL {
                            assert!(shares.held_up_to(level) <= shares.ceiling(level));
                        }
                    }
                });
            }
        });
        assert_eq!(Holder::ALL.map(|level| shares.held_up_to(level)), [0; 3]);
    }
}
