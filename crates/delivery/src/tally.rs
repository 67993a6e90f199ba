//! What is queued for each site, counted as it comes and goes: nothing walks the queue to know it.
//!
//! What is due and waits for a site that fails counts as deferred, though no timer of its own has it.

use std::sync::Arc;

use commons::Site;

use crate::queue::{SiteIx, State};

/// What is queued for one site.
#[derive(Debug, Default)]
struct Tally {
    /// Recipients that wait for it or are under way.
    recipients: u64,
    /// Those of them that are due.
    due: u64,
    /// Messages to which they belong.
    messages: u64,
    /// While it fails: what all workers share about it.
    failing: Option<Arc<Site>>,
}

/// What is queued for all sites, by their place.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    sites: Vec<Tally>,
    /// Recipients that are due at sites that fail.
    stalled: u64,
}

/// What waits for a failing site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) messages: u64,
    pub(crate) recipients: u64,
}

impl Tallies {
    /// `recipients` of a site's have come to stand at `to`, where [`State::Void`] is nowhere; with
    /// `leads` a message comes or goes with them.
    pub(crate) fn moved(&mut self, site: SiteIx, recipients: u64, leads: bool, from: State, to: State) {
        if site == SiteIx::NOWHERE {
            return;
        }
        let index = site.0 as usize;
        if index >= self.sites.len() {
            self.sites.resize_with(index + 1, Tally::default);
        }
        let tally = &mut self.sites[index];
        let waited = tally.recipients > 0;
        let messages = u64::from(leads);
        if waits(from) {
            (tally.recipients, tally.messages) = (tally.recipients - recipients, tally.messages - messages);
        }
        if waits(to) {
            (tally.recipients, tally.messages) = (tally.recipients + recipients, tally.messages + messages);
        }
        let due_before = tally.due;
        tally.due -= if from == State::Ready { recipients } else { 0 };
        tally.due += if to == State::Ready { recipients } else { 0 };
        if let Some(shared) = &tally.failing {
            self.stalled = self.stalled - due_before + tally.due;
            match (waited, tally.recipients > 0) {
                (false, true) => shared.stall(),
                (true, false) => shared.unstall(),
                _ => {}
            }
        }
    }

    /// Another job of a message speaks for it at a site.
    pub(crate) fn message_goes_on(&mut self, site: SiteIx, state: State) {
        if let Some(tally) = self.sites.get_mut(site.0 as usize) {
            tally.messages += u64::from(waits(state));
        }
    }

    /// A site fails; what all workers share about it is `shared`.
    pub(crate) fn fails(&mut self, site: SiteIx, shared: &Arc<Site>) {
        let index = site.0 as usize;
        if index >= self.sites.len() {
            self.sites.resize_with(index + 1, Tally::default);
        }
        let tally = &mut self.sites[index];
        if tally.failing.is_some() {
            return;
        }
        tally.failing = Some(shared.clone());
        self.stalled += tally.due;
        if tally.recipients > 0 {
            shared.stall();
        }
    }

    /// A site works, or is forgotten.
    pub(crate) fn works(&mut self, site: SiteIx) {
        let Some(tally) = self.sites.get_mut(site.0 as usize) else { return };
        let Some(shared) = tally.failing.take() else { return };
        self.stalled -= tally.due;
        if tally.recipients > 0 {
            shared.unstall();
        }
    }

    /// Whether a site fails.
    pub(crate) fn is_failing(&self, site: SiteIx) -> bool {
        self.sites.get(site.0 as usize).is_some_and(|tally| tally.failing.is_some())
    }

    /// What waits for a site that fails; `None` where nothing does, or it works.
    pub(crate) fn waiting(&self, site: SiteIx) -> Option<Waiting> {
        let tally = self.sites.get(site.0 as usize)?;
        let is_waited_for = tally.failing.is_some() && tally.recipients > 0;
        is_waited_for.then_some(Waiting { messages: tally.messages, recipients: tally.recipients })
    }

    /// Recipients that are due at sites that fail.
    pub(crate) fn stalled(&self) -> u64 {
        self.stalled
    }

    /// Places from here on were never of a site.
    pub(crate) fn end(&self) -> u32 {
        self.sites.len() as u32
    }
}

/// What stands so waits for its site, or for its turn there.
fn waits(state: State) -> bool {
    match state {
        State::Ready | State::Active | State::Deferred => true,
        State::Held | State::Quarantined | State::Void => false,
    }
}
