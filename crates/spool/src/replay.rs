//! Replaying a shard's records, oldest first, into its index; and the mail that is then found queued.

use std::collections::HashMap;
use std::sync::Arc;
use std::vec;

use mail::{MessageId, UnixMillis};

use crate::footer::{About, Summary};
use crate::index::{Deferral, Entry, Recipients};
use crate::record::{MessageView, Outcomes, Record, Schedule};
use crate::recovery::State;
use crate::scan::Seen;
use crate::segment;
use crate::{HELD, MessageKey, Outcome, PendingRecipient, RELEASED, Recovered};

/// A text that many messages share, by its number.
#[derive(Clone, Copy)]
struct Name(u32);

/// Tenants and domains, each once.
#[derive(Default)]
struct Names {
    texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Names {
    fn number(&mut self, text: &str) -> Name {
        if let Some(&number) = self.numbers.get(text) {
            return Name(number);
        }
        let (text, number): (Arc<str>, _) = (text.into(), self.texts.len() as u32);
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        Name(number)
    }

    fn text(&self, name: Name) -> Arc<str> {
        Arc::clone(&self.texts[name.0 as usize])
    }
}

/// What the schedule must know of a message and the index does not.
struct Facts {
    arrived: UnixMillis,
    tenant: Name,
    is_notification: bool,
    domains: Domains,
}

/// The domain of each recipient; most messages have one.
enum Domains {
    One(Name),
    Many(Box<[Name]>),
}

impl Domains {
    fn as_slice(&self) -> &[Name] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

#[derive(Default, Clone, Copy)]
struct Progress {
    attempts: u16,
    not_before: UnixMillis,
    is_under_way: bool,
}

/// What the records so far amount to.
#[derive(Default)]
pub(crate) struct Replay {
    /// The segment whose records come now.
    segment: u32,
    slots: HashMap<MessageId, u32>,
    facts: Vec<Facts>,
    names: Names,
    progress: HashMap<(u32, u16), Progress>,
    /// Outcomes of messages that are not known, with their segment. Where a segment's header is damaged, the
    /// message may still come.
    unknown: Vec<(u32, MessageId, u16, Outcome)>,
    summary: Summary,
}

impl Replay {
    /// The records of another segment come now.
    pub(crate) fn begin(&mut self, segment: u32) {
        self.segment = segment;
        self.summary.clear();
    }

    /// Gives the summary of the segment whose records came last, for the old one.
    pub(crate) fn keep_summary(&mut self, summary: &mut Summary) {
        std::mem::swap(summary, &mut self.summary);
    }

    /// Messages so far, those that have all their outcomes included.
    pub(crate) fn messages(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn take(&mut self, state: &mut State, seen: &Seen<'_>) {
        let slot = match seen.record {
            Record::Message(view) => Some(self.message(state, seen, &view)),
            _ => self.slots.get(&seen.id).copied(),
        };
        let about = match seen.record {
            Record::Outcome(outcomes) => self.outcomes(state, seen.id, slot, &outcomes),
            Record::Message(_) => slot.map_or(About::Elsewhere, |slot| About::Here(key_of(slot))),
            Record::Attempt(schedule) | Record::Deferred(schedule) => {
                // Without its message, nobody will ask for it.
                let Some(slot) = slot else { return };
                self.schedule(state, slot, &schedule, matches!(seen.record, Record::Attempt(_)));
                About::Here(key_of(slot))
            }
        };
        self.summary.note_outline(about, seen.offset, seen.outline());
    }

    fn message(&mut self, state: &mut State, seen: &Seen<'_>, view: &MessageView<'_>) -> u32 {
        let (offset, length) = (seen.offset as u32, seen.length() as u32);
        if let Some(&slot) = self.slots.get(&seen.id) {
            // A copy by compaction: what holds for the one holds for the other.
            if let Some(entry) = state.index.get_mut(key_of(slot)) {
                let before = std::mem::replace(&mut entry.segment, self.segment);
                (entry.offset, entry.length, entry.is_copy) = (offset, length, true);
                segment::refer(&mut state.segments, self.segment, before);
            }
            return slot;
        }
        let large = view.large().map(|large| large.number);
        let entry = Entry {
            segment: self.segment,
            offset,
            length,
            in_group: 0,
            group: 0,
            recipients: Recipients::pending(view.recipient_count()),
            deferral: Deferral::default(),
            outcomes_open: 0,
            id: seen.id.to_bytes(),
            is_large: large.is_some(),
            is_copy: false,
        };
        let slot = state.index.insert(entry, large).0 as u32;
        let names = &mut self.names;
        let mut domains = view.recipients().map(|address| names.number(address.domain()));
        let domains = match (domains.len(), domains.next()) {
            (1, Some(name)) => Domains::One(name),
            (_, first) => Domains::Many(first.into_iter().chain(domains).collect()),
        };
        self.facts.push(Facts {
            arrived: view.arrived(),
            tenant: self.names.number(view.tenant()),
            is_notification: view.reverse_path().address().is_none(),
            domains,
        });
        self.slots.insert(seen.id, slot);
        slot
    }

    fn schedule(&mut self, state: &mut State, slot: u32, schedule: &Schedule<'_>, is_attempt: bool) {
        // What an operator says counts whatever attempts were noted meanwhile.
        let is_order = !is_attempt && matches!(schedule.at(), HELD | RELEASED);
        for recipient in schedule.recipients() {
            let progress = self.progress.entry((slot, recipient)).or_default();
            if is_attempt {
                progress.is_under_way = true;
            } else if is_order || schedule.attempts() >= progress.attempts {
                progress.is_under_way = false;
                progress.not_before = schedule.at();
            }
            progress.attempts = progress.attempts.max(schedule.attempts());
        }
        let Some(entry) = state.index.get_mut(key_of(slot)) else { return };
        if is_attempt {
            (entry.deferral.attempts, entry.deferral.is_under_way) = (schedule.attempts(), true);
        } else {
            entry.deferral = Deferral::until(schedule.at(), schedule.attempts());
        }
        if is_order {
            segment::refer(&mut state.segments, self.segment, entry.segment);
        }
    }

    fn outcomes(
        &mut self,
        state: &mut State,
        id: MessageId,
        slot: Option<u32>,
        outcomes: &Outcomes<'_>,
    ) -> About {
        let Some(slot) = slot else {
            let segment = self.segment;
            let unknown = outcomes.outcomes().map(|(recipient, outcome)| (segment, id, recipient, outcome));
            self.unknown.extend(unknown);
            return About::Elsewhere;
        };
        for (recipient, outcome) in outcomes.outcomes() {
            self.settle(state, self.segment, slot, recipient, outcome);
        }
        match state.index.get(key_of(slot)) {
            Some(entry) if entry.segment == self.segment && !entry.is_copy => About::Here(key_of(slot)),
            _ => About::Elsewhere,
        }
    }

    fn settle(&mut self, state: &mut State, segment: u32, slot: u32, recipient: u16, outcome: Outcome) {
        if let Some(entry) = state.index.get_mut(key_of(slot)) {
            entry.recipients.settle(recipient, outcome);
            entry.deferral.is_under_way = false;
            segment::refer(&mut state.segments, segment, entry.segment);
        }
        self.progress.remove(&(slot, recipient));
    }

    /// All records were seen: leaves in the index what is queued, counts it, and gives it in the order in which it came.
    pub(crate) fn finish(mut self, state: &mut State) -> RecoveredMail {
        for (segment, id, recipient, outcome) in std::mem::take(&mut self.unknown) {
            match self.slots.get(&id).copied() {
                Some(slot) => self.settle(state, segment, slot, recipient, outcome),
                // Its message was done when its segment's footer was written. Should that footer be lost, the
                // groups will show the message again: until every older segment is gone, this outcome must stay.
                None => refer_to_older(state, segment),
            }
        }
        drop(std::mem::take(&mut self.slots));
        let mut queued = Vec::new();
        for (slot, facts) in (0..).zip(std::mem::take(&mut self.facts)) {
            let key = key_of(slot);
            let Some(entry) = state.index.get(key) else { continue };
            if entry.recipients.all_settled() {
                state.index.remove(key);
                continue;
            }
            state.segments[entry.segment as usize].gain(entry.length);
            let id = entry.id();
            for recipient in 0..facts.domains.as_slice().len() as u16 {
                let progress = self.progress.get(&(slot, recipient));
                state.report.possible_duplicates +=
                    u64::from(progress.is_some_and(|progress| progress.is_under_way));
            }
            let pending = (0..=u16::MAX)
                .zip(facts.domains.as_slice())
                .filter(|&(recipient, _)| entry.recipients.is_pending(recipient))
                .map(|(recipient, &domain)| (recipient, domain));
            let pending = match facts.domains {
                Domains::One(domain) => Pending::One(domain),
                Domains::Many(_) => Pending::Many(pending.collect()),
            };
            let Facts { arrived, tenant, is_notification, .. } = facts;
            queued.push(Queued { key, id, arrived, tenant, is_notification, pending });
        }
        queued.sort_unstable_by_key(|message| message.id);
        state.report.messages = queued.len();
        RecoveredMail { queued: queued.into_iter(), names: self.names, progress: self.progress }
    }
}

/// Nothing has left the index while records are replayed: a slot is its first life.
fn key_of(slot: u32) -> MessageKey {
    MessageKey(u64::from(slot))
}

fn refer_to_older(state: &mut State, segment: u32) {
    // The segments of the state are in the order of their lives.
    for older in 0..segment {
        segment::refer(&mut state.segments, segment, older);
    }
}

/// A queued message, as small as a million of them should be.
struct Queued {
    key: MessageKey,
    id: MessageId,
    arrived: UnixMillis,
    tenant: Name,
    is_notification: bool,
    pending: Pending,
}

enum Pending {
    One(Name),
    Many(Box<[(u16, Name)]>),
}

/// The queued messages that a start found, oldest first; each is made when it is asked for.
pub struct RecoveredMail {
    queued: vec::IntoIter<Queued>,
    names: Names,
    progress: HashMap<(u32, u16), Progress>,
}

impl Iterator for RecoveredMail {
    type Item = Recovered;

    fn next(&mut self) -> Option<Recovered> {
        let Queued { key, id, arrived, tenant, is_notification, pending } = self.queued.next()?;
        let recipient = |recipient: u16, domain: Name| {
            let progress = self.progress.get(&(key.0 as u32, recipient)).copied().unwrap_or_default();
            PendingRecipient {
                recipient,
                domain: self.names.text(domain),
                attempts: progress.attempts,
                not_before: progress.not_before,
            }
        };
        let pending = match pending {
            Pending::One(domain) => vec![recipient(0, domain)],
            Pending::Many(pending) => {
                pending.iter().map(|&(index, domain)| recipient(index, domain)).collect()
            }
        };
        Some(Recovered { key, id, arrived, tenant: self.names.text(tenant), is_notification, pending })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.queued.size_hint()
    }
}

impl ExactSizeIterator for RecoveredMail {}

impl std::fmt::Debug for RecoveredMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecoveredMail({})", self.queued.len())
    }
}
